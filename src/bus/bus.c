// The port: checks what every transport would have to check, and passes on.
#include "bus/port.h"

#include "base/assert.h"

#include <string.h>

#define TEXT_MAX 255

static enum err open_kafka(struct bus **out, struct loop *loop, const struct bus_options *o, struct error *e) {
#ifdef BARID_KAFKA
    return kafka_open(out, loop, o, e);
#else
    return error_set(e, ERR_UNSUPPORTED, "this barid was built without Kafka (meson option kafka)");
#endif
}

static enum err open_amqp(struct bus **out, struct loop *loop, const struct bus_options *o, struct error *e) {
#ifdef BARID_RABBITMQ
    return amqp_bus_open(out, loop, o, e);
#else
    return error_set(e, ERR_UNSUPPORTED, "this barid was built without rabbitmq-c (meson option rabbitmq)");
#endif
}

enum err bus_open(struct bus **out, struct loop *loop, const struct bus_options *o, struct error *e) {
    if (strcmp(o->url, "embedded:") == 0) return embedded_open(out, loop, o, e);
    if (strncmp(o->url, "kafka://", 8) == 0) return open_kafka(out, loop, o, e);
    if (strncmp(o->url, "amqp://", 7) == 0 || strncmp(o->url, "amqps://", 8) == 0) return open_amqp(out, loop, o, e);
    size_t scheme = strcspn(o->url, ":"); // what follows may hold a password
    return error_set(e, ERR_UNSUPPORTED, "no such kind of bus: %.*s:", (int)(scheme < 32 ? scheme : 32), o->url);
}

void bus_close(struct bus *b) {
    if (b) b->v->close(b);
}

enum err bus_publish(struct bus *b, const struct bus_event *event, bus_done_fn *done, void *arg, struct error *e) {
    if (!event->topic || event->topic[0] == 0 || strlen(event->topic) > TEXT_MAX)
        return error_field(e, "topic", "a topic has 1 to %d bytes", TEXT_MAX);
    if (event->key && strlen(event->key) > TEXT_MAX)
        return error_field(e, "key", "a key has at most %d bytes", TEXT_MAX);
    if (event->payload_length > UINT32_MAX / 2) return error_set(e, ERR_TOO_LARGE, "the event is too large");
    return b->v->publish(b, event, done, arg, e);
}

enum err bus_subscribe(struct bus *b, const struct bus_subscribe_options *o, bus_deliver_fn *deliver, void *arg,
                       struct bus_subscription **out, struct error *e) {
    if (!o->group || o->group[0] == 0 || strlen(o->group) > TEXT_MAX - 16)
        return error_field(e, "group", "a group's name has 1 to %d bytes", TEXT_MAX - 16);
    if (!o->pattern || strlen(o->pattern) > TEXT_MAX)
        return error_field(e, "pattern", "a pattern has at most %d bytes", TEXT_MAX);
    return b->v->subscribe(b, o, deliver, arg, out, e);
}

void bus_settle(struct bus_subscription *s, uint64_t tag, enum bus_settle how, const char *reason) {
    s->bus->v->settle(s, tag, how, reason);
}

void bus_assigned(struct bus_subscription *s, const struct bus_place *places, size_t n) {
    ASSERT(s->bus->v->assigned);
    s->bus->v->assigned(s, places, n);
}

bool bus_reachable(struct bus *b) { return !b->v->reachable || b->v->reachable(b); }

void bus_unsubscribe(struct bus_subscription *s) { s->bus->v->unsubscribe(s); }

enum err bus_each_parked(const char *url, const char *group, bus_parked_fn *each, void *arg, struct error *e) {
#ifdef BARID_KAFKA
    if (strncmp(url, "kafka://", 8) == 0) return kafka_each_parked(url, group, each, arg, e);
#endif
    return error_set(e, ERR_UNSUPPORTED, "only what is parked on Kafka can be listed; over AMQP it is in a queue");
}

struct engine *bus_engine(struct bus *b) {
    return b->v->engine(b);
}
