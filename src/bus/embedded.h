// What the two files of the embedded bus share: embedded.c (engine, commit, loop) and group.c (subscriptions and
// the order of keys).
#ifndef BARID_BUS_EMBEDDED_H
#define BARID_BUS_EMBEDDED_H

#include "base/buf.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/map.h"
#include "bus/port.h"
#include "engine/engine.h"

#define EVENTS_EXCHANGE "barid.events"

struct commit;
struct pending; // a publish whose callback is still to come

struct embedded {
    struct bus bus;
    struct loop *loop;
    struct io *io;
    struct engine *engine;
    struct vhost *vhost; // "/"
    struct commit *commit;
    struct loop_timer timer;
    struct loop_idle before_block;
    struct list groups;
    struct list gone; // subscriptions that ended inside their own callback
    struct pending *spare;
    struct buf properties; // scratch: of the event that is being published
    bool closing;
};

enum err group_subscribe(struct bus *b, const struct bus_subscribe_options *o, bus_deliver_fn *deliver, void *arg,
                         struct bus_subscription **out, struct error *e);
void group_settle(struct bus_subscription *s, uint64_t tag, enum bus_settle how, const char *reason);
void group_unsubscribe(struct bus_subscription *s);
void groups_pump(struct embedded *b);  // hand out what may be handed out
bool groups_ready(struct embedded *b); // there is something to hand out
void groups_free(struct embedded *b);

#endif
