// The events of the service, stored with the change they tell of (outbox.h). Their fields are made of ids, names and
// numbers only, none of which needs escaping in JSON.
#include "chat/internal.h"
#include "outbox/outbox.h"

#include <stdarg.h>
#include <stdio.h>

#define PAYLOAD_MAX 640

enum err event_store(struct db *db, const struct chat *c, const struct id *event_id, const char *topic,
                     const char *conversation_id, int64_t now, const char *fields, ...) {
    char payload[PAYLOAD_MAX], full_topic[CHAT_TOPIC];
    va_list args;
    va_start(args, fields);
    int n = vsnprintf(payload + 1, sizeof payload - 2, fields, args);
    va_end(args);
    ASSERT(n > 0 && (size_t)n < sizeof payload - 2);
    payload[0] = '{';
    payload[n + 1] = '}';
    snprintf(full_topic, sizeof full_topic, "%s%s", c->o.bus_prefix, topic);
    struct bus_event event = {.event_id = *event_id,
                              .topic = full_topic,
                              .key = conversation_id,
                              .payload = payload,
                              .payload_length = (size_t)n + 2};
    return outbox_store(db, &event, now);
}
