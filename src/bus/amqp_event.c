#include "bus/amqp_event.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY            "key"
#define CONTENT_TYPE   "content-type"
#define CLOUD_EVENTS   "cloudEvents:"
#define SOURCE         "barid"
#define NAME_MAX_BYTES 255

// ---- copying

static char *put(char **at, const char *text) {
    size_t n = strlen(text) + 1;
    char *copy = memcpy(*at, text, n);
    *at += n;
    return copy;
}

static size_t headers_size(const struct bus_header *h, size_t n) {
    size_t size = 0;
    for (size_t i = 0; i < n; i++) size += strlen(h[i].name) + strlen(h[i].value) + 2;
    return size;
}

static struct bus_header *put_headers(struct bus_header *to, const struct bus_header *h, size_t n, char **at) {
    for (size_t i = 0; i < n; i++, to++) {
        to->name = put(at, h[i].name);
        to->value = put(at, h[i].value);
    }
    return to;
}

struct amqp_event *amqp_event_new(const struct bus_event *e, const struct bus_header *more, size_t more_count) {
    size_t count = e->header_count + more_count;
    size_t texts = strlen(e->topic) + 1 + (e->key ? strlen(e->key) + 1 : 0) +
                   headers_size(e->headers, e->header_count) + headers_size(more, more_count);
    struct amqp_event *v = malloc(sizeof *v + count * sizeof(struct bus_header) + texts + e->payload_length + 1);
    if (!v) return NULL;
    struct bus_header *headers = (struct bus_header *)(v + 1);
    char *at = (char *)(headers + count);
    *v = (struct amqp_event){.event = *e, .has_id = true};
    id_format(&e->event_id, v->id);
    v->event.headers = headers;
    v->event.header_count = count;
    put_headers(put_headers(headers, e->headers, e->header_count, &at), more, more_count, &at);
    v->event.topic = put(&at, e->topic);
    if (e->key) v->event.key = put(&at, e->key);
    v->event.payload = v->body = (uint8_t *)at;
    if (e->payload && e->payload_length > 0) memcpy(v->body, e->payload, e->payload_length);
    return v;
}

void amqp_event_free(struct amqp_event *v) {
    if (v) free(v->route);
    free(v);
}

enum err amqp_event_check(const struct bus_event *e, struct error *err) {
    size_t bytes = 0;
    if (e->header_count > AMQP_EVENT_HEADERS_MAX)
        return error_set(err, ERR_TOO_LARGE, "an event has at most %d headers over AMQP", AMQP_EVENT_HEADERS_MAX);
    for (size_t i = 0; i < e->header_count; i++) {
        const struct bus_header *h = &e->headers[i];
        size_t name = strlen(h->name);
        if (name == 0 || name > NAME_MAX_BYTES)
            return error_field(err, "headers", "a header's name has 1 to %d bytes over AMQP", NAME_MAX_BYTES);
        if (strcmp(h->name, KEY) == 0)
            return error_field(err, "headers", "the header \"key\" is the bus's own over AMQP");
        if (strcmp(h->name, CONTENT_TYPE) == 0 && strlen(h->value) > NAME_MAX_BYTES)
            return error_field(err, "headers", "a content type has at most %d bytes over AMQP", NAME_MAX_BYTES);
        bytes += name + strlen(h->value);
    }
    if (bytes > AMQP_EVENT_HEADERS_BYTES)
        return error_set(err, ERR_TOO_LARGE, "the headers have more than %d bytes", AMQP_EVENT_HEADERS_BYTES);
    return ERR_OK;
}

// ---- as properties

static void add(amqp_table_t *t, const char *name, const char *value) {
    t->entries[t->num_entries++] =
        (amqp_table_entry_t){.key = amqp_cstring_bytes(name),
                             .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(value)}};
}

// The event's own word goes before ours.
static const char *own_word(const struct bus_event *e, const char *name, const char *otherwise) {
    for (size_t i = 0; i < e->header_count; i++)
        if (strcmp(e->headers[i].name, name) == 0) return e->headers[i].value;
    return otherwise;
}

static bool is_attribute(const char *name) {
    const char *ours[] = {"ce_specversion", "ce_id", "ce_source", "ce_type"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (strcmp(name, ours[i]) == 0) return true;
    return false;
}

void amqp_event_encode(const struct amqp_event *v, struct amqp_event_properties *out) {
    amqp_table_t t = {.entries = out->headers};
    const char *content_type = "application/json";
    if (v->event.key) add(&t, KEY, v->event.key);
    add(&t, CLOUD_EVENTS "specversion", "1.0");
    add(&t, CLOUD_EVENTS "id", v->id);
    add(&t, CLOUD_EVENTS "source", own_word(&v->event, "ce_source", SOURCE));
    add(&t, CLOUD_EVENTS "type", own_word(&v->event, "ce_type", v->event.topic));
    for (size_t i = 0; i < v->event.header_count; i++) {
        const struct bus_header *h = &v->event.headers[i];
        if (strcmp(h->name, CONTENT_TYPE) == 0) content_type = h->value;
        else if (!is_attribute(h->name)) add(&t, h->name, h->value);
    }
    out->p = (amqp_basic_properties_t){._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
                                                 AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TYPE_FLAG |
                                                 AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_HEADERS_FLAG,
                                       .content_type = amqp_cstring_bytes(content_type),
                                       .delivery_mode = AMQP_DELIVERY_PERSISTENT,
                                       .message_id = amqp_cstring_bytes(v->id),
                                       .type = amqp_cstring_bytes(v->event.topic),
                                       .timestamp = (uint64_t)(v->at_ms / 1000),
                                       .headers = t};
}

// ---- from properties

// What a message's strings become before they are copied: bounded by the frame they came in.
struct scratch {
    char *at, *end;
};

static const char *text_of(struct scratch *s, const void *bytes, size_t n) {
    char *out = s->at;
    if ((size_t)(s->end - s->at) < n + 1) return NULL;
    if (n > 0) memcpy(out, bytes, n);
    out[n] = 0;
    s->at += n + 1;
    return out;
}

static bool integer_of(const amqp_field_value_t *v, int64_t *out) {
    switch (v->kind) {
    case AMQP_FIELD_KIND_I8: *out = v->value.i8; return true;
    case AMQP_FIELD_KIND_U8: *out = v->value.u8; return true;
    case AMQP_FIELD_KIND_I16: *out = v->value.i16; return true;
    case AMQP_FIELD_KIND_U16: *out = v->value.u16; return true;
    case AMQP_FIELD_KIND_I32: *out = v->value.i32; return true;
    case AMQP_FIELD_KIND_U32: *out = v->value.u32; return true;
    case AMQP_FIELD_KIND_I64: *out = v->value.i64; return true;
    case AMQP_FIELD_KIND_U64:
    case AMQP_FIELD_KIND_TIMESTAMP: *out = (int64_t)v->value.u64; return true;
    default: return false;
    }
}

static const char *value_text(struct scratch *s, const amqp_field_value_t *v) {
    char number[32];
    int64_t i;
    if (v->kind == AMQP_FIELD_KIND_UTF8 || v->kind == AMQP_FIELD_KIND_BYTES)
        return text_of(s, v->value.bytes.bytes, v->value.bytes.len);
    if (v->kind == AMQP_FIELD_KIND_BOOLEAN) {
        const char *word = v->value.boolean ? "true" : "false";
        return text_of(s, word, strlen(word));
    }
    if (!integer_of(v, &i)) return NULL;
    snprintf(number, sizeof number, "%" PRId64, i);
    return text_of(s, number, strlen(number));
}

static bool name_is(amqp_bytes_t name, const char *what) {
    return name.len == strlen(what) && memcmp(name.bytes, what, name.len) == 0;
}

static bool is_ours(amqp_bytes_t name) {
    size_t n = strlen(CLOUD_EVENTS);
    return name.len >= n && memcmp(name.bytes, CLOUD_EVENTS, n) == 0;
}

static bool is_source(const amqp_field_value_t *v) {
    return v->kind == AMQP_FIELD_KIND_UTF8 && name_is(v->value.bytes, SOURCE);
}

static void take_headers(struct scratch *s, const amqp_table_t *t, struct bus_event *e, struct bus_header *headers) {
    for (int i = 0; i < t->num_entries; i++) {
        const amqp_table_entry_t *from = &t->entries[i];
        const char *own = name_is(from->key, CLOUD_EVENTS "source") && !is_source(&from->value) ? "ce_source" : NULL;
        if ((is_ours(from->key) && !own) || e->header_count == AMQP_EVENT_HEADERS_MAX) continue;
        const char *value = value_text(s, &from->value);
        if (!value) continue;
        if (name_is(from->key, KEY)) e->key = value[0] && strlen(value) <= NAME_MAX_BYTES ? value : NULL;
        else if (own) headers[e->header_count++] = (struct bus_header){own, value};
        else {
            const char *name = text_of(s, from->key.bytes, from->key.len);
            if (name) headers[e->header_count++] = (struct bus_header){name, value};
        }
    }
}

static size_t scratch_size(const amqp_table_t *t) {
    size_t size = 1024;
    for (int i = 0; i < t->num_entries; i++) {
        const amqp_table_entry_t *from = &t->entries[i];
        bool bytes = from->value.kind == AMQP_FIELD_KIND_UTF8 || from->value.kind == AMQP_FIELD_KIND_BYTES;
        size += from->key.len + (bytes ? from->value.value.bytes.len : 0) + 40;
    }
    return size;
}

// A UUID is the event's id. Any other message id is its publisher's word for "the same", and gives the same id again.
static bool take_id(amqp_bytes_t text, struct id *out) {
    if (text.len == 0) return false;
    if (!id_parse(text.bytes, text.len, out)) *out = id_of_name(text.bytes, text.len);
    return true;
}

struct amqp_event *amqp_event_decode(amqp_bytes_t routing_key, const amqp_basic_properties_t *p, uint64_t body_size) {
    static const amqp_table_t none;
    const amqp_table_t *table = p->_flags & AMQP_BASIC_HEADERS_FLAG ? &p->headers : &none;
    size_t size = scratch_size(table);
    struct bus_header headers[AMQP_EVENT_HEADERS_MAX + 1];
    struct scratch s = {.at = malloc(size)};
    char *memory = s.at;
    if (!memory) return NULL;
    s.end = s.at + size;
    struct bus_event e = {.headers = headers, .payload_length = (size_t)body_size};
    e.topic = text_of(&s, routing_key.bytes, routing_key.len);
    take_headers(&s, table, &e, headers);
    if (p->_flags & AMQP_BASIC_CONTENT_TYPE_FLAG && !name_is(p->content_type, "application/json")) {
        const char *type = text_of(&s, p->content_type.bytes, p->content_type.len);
        if (type) headers[e.header_count++] = (struct bus_header){CONTENT_TYPE, type};
    }
    bool has_id = p->_flags & AMQP_BASIC_MESSAGE_ID_FLAG && take_id(p->message_id, &e.event_id);
    struct amqp_event *v = amqp_event_new(&e, NULL, 0);
    free(memory);
    if (!v) return NULL;
    v->has_id = has_id;
    v->at_ms = p->_flags & AMQP_BASIC_TIMESTAMP_FLAG ? (int64_t)p->timestamp * 1000 : 0;
    return v;
}
