// An event on its way to or from an AMQP broker, with everything it needs in one piece of memory.
//
// As a message: routing key and `type` = topic, body = payload, message_id = event id, timestamp, delivery_mode 2,
// content_type application/json (or the event's header "content-type"), and as headers, all long strings: "key", the
// CloudEvents attributes as AMQP has them ("cloudEvents:id", "…:specversion", "…:source", "…:type"; the event's headers
// "ce_source" and "ce_type" say the latter two), and the event's own. What the embedded bus publishes
// is the same without the attributes, so each understands the other.
#ifndef BARID_BUS_AMQP_EVENT_H
#define BARID_BUS_AMQP_EVENT_H

#include "base/id.h"
#include "bus/bus.h"

#include <amqp.h>

#define AMQP_EVENT_HEADERS_MAX   128
#define AMQP_EVENT_HEADERS_BYTES 65536 // names and values

struct amqp_event {
    struct bus_event event; // points into the same memory
    char id[ID_TEXT];
    bool has_id; // false: it came without a message id
    int64_t at_ms;
    uint8_t *body; // event.payload, to be filled
    char *route;   // its routing key, NULL: the topic
};

// A copy of `e` and of `more` headers behind its own. Without e->payload room for payload_length bytes. NULL: no
// memory.
struct amqp_event *amqp_event_new(const struct bus_event *e, const struct bus_header *more, size_t more_count);
void amqp_event_free(struct amqp_event *v);
enum err amqp_event_check(const struct bus_event *e, struct error *err); // can it be a message?

// Properties that point into `v` and into themselves.
struct amqp_event_properties {
    amqp_basic_properties_t p;
    amqp_table_entry_t headers[AMQP_EVENT_HEADERS_MAX + 8];
};
void amqp_event_encode(const struct amqp_event *v, struct amqp_event_properties *out);
// A received message; its body is to be filled. Headers that are no text are given as text, tables and lists not at
// all.
struct amqp_event *amqp_event_decode(amqp_bytes_t routing_key, const amqp_basic_properties_t *p, uint64_t body_size);

#endif
