#include "inbox/program_environment.h"

#include "base/assert.h"
#include "base/time.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADERS_BYTES_MAX 65536
#define HEADER_NAME_MAX   128
#define OUR_OWN           8

extern char **environ;

static const char *const not_handed_on[] = {
    "BARID_EVENT_ID=", "BARID_TOPIC=",        "BARID_KEY=",    "BARID_ATTEMPT=",
    "BARID_PLACE=",    "BARID_PUBLISHED_AT=", "BARID_HEADER_", "BARID_DATABASE="};

static bool handed_on(const char *line) {
    for (size_t i = 0; i < sizeof not_handed_on / sizeof not_handed_on[0]; i++)
        if (strncmp(line, not_handed_on[i], strlen(not_handed_on[i])) == 0) return false;
    return true;
}

static char *variable(const char *name, const char *value) {
    size_t n = strlen(name) + strlen(value) + 2;
    char *line = malloc(n);
    if (!line) die("no memory for an environment");
    snprintf(line, n, "%s=%s", name, value);
    return line;
}

static char *header(const struct bus_header *h) {
    char name[HEADER_NAME_MAX] = "BARID_HEADER_";
    size_t n = strlen(name);
    for (const char *c = h->name; *c && n + 1 < sizeof name; c++)
        name[n++] = isalnum((unsigned char)*c) ? (char)toupper((unsigned char)*c) : '_';
    name[n] = '\0';
    return variable(name, h->value);
}

char **program_environment(const struct outbox_item *item) {
    const struct bus_event *event = &item->event;
    size_t ours = 0, n = 0, bytes = 0;
    while (environ[ours]) ours++;
    char **lines = calloc(ours + OUR_OWN + event->header_count + 1, sizeof *lines);
    if (!lines) die("no memory for an environment");
    for (size_t i = 0; i < ours; i++) {
        if (!handed_on(environ[i])) continue;
        if (!(lines[n++] = strdup(environ[i]))) die("no memory for an environment");
    }
    char id[ID_TEXT], attempt[16], time[TIME_TEXT];
    id_format(&event->event_id, id);
    snprintf(attempt, sizeof attempt, "%u", item->attempt);
    lines[n++] = variable("BARID_EVENT_ID", id);
    lines[n++] = variable("BARID_TOPIC", event->topic);
    lines[n++] = variable("BARID_ATTEMPT", attempt);
    if (event->key) lines[n++] = variable("BARID_KEY", event->key);
    if (item->place) lines[n++] = variable("BARID_PLACE", item->place);
    if (item->published_at_ms) {
        time_format_ms(item->published_at_ms, time);
        lines[n++] = variable("BARID_PUBLISHED_AT", time);
    }
    for (size_t i = 0; i < event->header_count; i++) {
        bytes += strlen(event->headers[i].name) + strlen(event->headers[i].value) + 2;
        if (bytes <= HEADERS_BYTES_MAX) lines[n++] = header(&event->headers[i]);
    }
    return lines;
}

void program_environment_free(char **environment) {
    for (char **line = environment; *line; line++) free(*line);
    free(environment);
}
