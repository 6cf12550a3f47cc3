#include "lib/event.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *copy(const char *text) { return text ? strdup(text) : NULL; }

barid_event *barid_event_new(const char *topic, const char *key, const void *payload, size_t length) {
    barid_event *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    e->topic = strdup(topic ? topic : "");
    e->key = copy(key);
    e->payload = malloc(length + 1);
    if (!e->topic || (key && !e->key) || !e->payload) {
        barid_event_free(e);
        return NULL;
    }
    if (length > 0) memcpy(e->payload, payload, length);
    e->length = length;
    return e;
}

static void header_free(struct header *h) {
    free(h->name);
    free(h->value);
}

void barid_event_free(barid_event *e) {
    if (!e) return;
    for (size_t i = 0; i < e->header_count; i++) header_free(&e->headers[i]);
    free(e->headers);
    free(e->topic);
    free(e->key);
    free(e->id);
    free(e->payload);
    free(e);
}

static struct header *find(barid_event *e, const char *name) {
    for (size_t i = 0; i < e->header_count; i++)
        if (strcmp(e->headers[i].name, name) == 0) return &e->headers[i];
    return NULL;
}

static struct header *add(barid_event *e) {
    struct header *grown = realloc(e->headers, (e->header_count + 1) * sizeof *grown);
    if (!grown) return NULL;
    e->headers = grown;
    return &grown[e->header_count];
}

barid_result barid_event_header(barid_event *e, const char *name, const char *value) {
    if (!name || !name[0] || !value) return BARID_INVALID;
    struct header *old = find(e, name), new = {strdup(name), strdup(value)};
    if (!old && e->header_count == HEADERS_MAX) {
        header_free(&new);
        return BARID_INVALID;
    }
    struct header *to = old ? old : add(e);
    if (!to || !new.name || !new.value) {
        header_free(&new);
        return BARID_NO_MEMORY;
    }
    if (old) header_free(old);
    else e->header_count++;
    *to = new;
    return BARID_STORED;
}

barid_result barid_event_id(barid_event *e, const char *uuid) {
    char *id = copy(uuid);
    if (uuid && !id) return BARID_NO_MEMORY;
    free(e->id);
    e->id = id;
    return BARID_STORED;
}

// ---- JSON

static char *put(char *to, const char *text) {
    for (*to++ = '"'; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20) to += snprintf(to, 7, "\\u%04x", c);
        else {
            if (c == '"' || c == '\\') *to++ = '\\';
            *to++ = (char)c;
        }
    }
    *to++ = '"';
    return to;
}

char *event_headers_json(const barid_event *e, int *none) {
    size_t size = 3;
    *none = e->header_count == 0;
    if (*none) return NULL;
    for (size_t i = 0; i < e->header_count; i++)
        size += 6 * (strlen(e->headers[i].name) + strlen(e->headers[i].value)) + 6;
    char *json = malloc(size), *to = json;
    if (!json) return NULL;
    for (size_t i = 0; i < e->header_count; i++) {
        *to++ = i ? ',' : '{';
        to = put(to, e->headers[i].name);
        *to++ = ':';
        to = put(to, e->headers[i].value);
    }
    *to++ = '}';
    *to = 0;
    return json;
}
