// What a bus must be able to do: the table behind bus.h, one per transport.
#ifndef BARID_BUS_PORT_H
#define BARID_BUS_PORT_H

#include "bus/bus.h"

struct bus_vtable {
    void (*close)(struct bus *b);
    enum err (*publish)(struct bus *b, const struct bus_event *event, bus_done_fn *done, void *arg, struct error *e);
    enum err (*subscribe)(struct bus *b, const struct bus_subscribe_options *o, bus_deliver_fn *deliver, void *arg,
                          struct bus_subscription **out, struct error *e);
    void (*settle)(struct bus_subscription *s, uint64_t tag, enum bus_settle how, const char *reason);
    void (*assigned)(struct bus_subscription *s, const struct bus_place *places, size_t n); // NULL: it has no places
    bool (*reachable)(struct bus *b);                                                       // NULL: always
    void (*unsubscribe)(struct bus_subscription *s);
    struct engine *(*engine)(struct bus *b);
};

// The first member of every bus and of every subscription.
struct bus {
    const struct bus_vtable *v;
};
struct bus_subscription {
    struct bus *bus;
};

enum err embedded_open(struct bus **out, struct loop *loop, const struct bus_options *o, struct error *e);
enum err kafka_open(struct bus **out, struct loop *loop, const struct bus_options *o, struct error *e);
enum err kafka_each_parked(const char *url, const char *group, bus_parked_fn *each, void *arg, struct error *e);
enum err amqp_bus_open(struct bus **out, struct loop *loop, const struct bus_options *o, struct error *e);

#endif
