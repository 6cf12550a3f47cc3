// The events of the service, stored with the change they tell of (outbox.h). Their fields are made of ids, names and
// numbers only, none of which needs escaping in JSON.
#include "chat/event.h"

#include "outbox/outbox.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define PAYLOAD_MAX 640

struct made_event {
    struct id id;
    char topic[CHAT_TOPIC], key[NAME_MAX_LENGTH + 1], payload[PAYLOAD_MAX];
    size_t length;
};

static void make(struct made_event *e, const struct chat *c, const struct id *event_id, const char *topic,
                 const char *conversation_id, const char *fields, va_list args) {
    int n = vsnprintf(e->payload + 1, sizeof e->payload - 2, fields, args);
    ASSERT(n > 0 && (size_t)n < sizeof e->payload - 2);
    e->payload[0] = '{';
    e->payload[n + 1] = '}';
    e->length = (size_t)n + 2;
    e->id = *event_id;
    snprintf(e->topic, sizeof e->topic, "%s%s", c->o.bus_prefix, topic);
    snprintf(e->key, sizeof e->key, "%s", conversation_id);
}

static struct bus_event view(const struct made_event *e) {
    return (struct bus_event){
        .event_id = e->id, .topic = e->topic, .key = e->key, .payload = e->payload, .payload_length = e->length};
}

void events_add(struct events *e, const struct chat *c, const struct id *event_id, const char *topic,
                const char *conversation_id, const char *fields, ...) {
    e->at = chat_room(e->at, e->n, &e->cap, sizeof *e->at);
    va_list args;
    va_start(args, fields);
    make(&e->at[e->n++], c, event_id, topic, conversation_id, fields, args);
    va_end(args);
}

static enum err store_all(struct db *db, const struct events *e) {
    struct bus_event *views = chat_alloc(e->n * sizeof *views);
    for (size_t i = 0; i < e->n; i++) views[i] = view(&e->at[i]);
    enum err err = outbox_store_all(db, views, e->n);
    free(views);
    return err;
}

enum err events_store(struct db *db, struct events *e, int64_t now) {
    enum err err = ERR_OK;
    bool at_once = e->n > 1 && db_kind(db) == DATABASE_POSTGRES;
    if (at_once) err = store_all(db, e);
    for (size_t i = 0; i < e->n && err == ERR_OK && !at_once; i++) {
        struct bus_event event = view(&e->at[i]);
        err = outbox_store(db, &event, now);
    }
    events_free(e);
    return err;
}

void events_free(struct events *e) {
    free(e->at);
    *e = (struct events){0};
}
