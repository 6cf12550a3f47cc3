// Events for the bus, in the transaction of what they tell of.
#ifndef BARID_CHAT_EVENT_H
#define BARID_CHAT_EVENT_H

#include "chat/internal.h"

// Collected ({0} to begin with) and stored in their order. Storing ends the collection; whoever does not come to it
// calls events_free. `fields` is the inside of a JSON object.
struct made_event;
struct events {
    struct made_event *at;
    size_t n, cap;
};
void events_add(struct events *e, const struct chat *c, const struct id *event_id, const char *topic,
                const char *conversation_id, const char *fields, ...) __attribute__((format(printf, 6, 7)));
enum err events_store(struct db *db, struct events *e, int64_t now);
void events_free(struct events *e);

#endif
