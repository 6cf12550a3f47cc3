// What the files of the AMQP bus share: amqp.c (the bus), amqp_publish.c (its publisher), amqp_group.c (a group's
// queue), with amqp_link.c (a connection) and amqp_event.c (a message) below them.
#ifndef BARID_BUS_AMQP_BUS_H
#define BARID_BUS_AMQP_BUS_H

#include "base/list.h"
#include "base/loop.h"
#include "bus/amqp_event.h"
#include "bus/amqp_link.h"
#include "bus/port.h"

struct amqp_publisher;
struct amqp_group;

struct amqp_bus {
    struct bus bus;
    struct loop *loop;
    struct io *io;
    struct amqp_settings settings;
    bool mandatory;
    uint64_t memory_budget;
    struct amqp_publisher *publisher;
    struct list groups;  // struct amqp_group
    struct list leaving; // groups whose last member has left, until their connection has ended
    struct list gone;    // members who left inside their own callback
    struct loop_idle before_block;
};

// ---- publishing, on the loop

enum err amqp_publisher_open(struct amqp_publisher **out, struct amqp_bus *b, struct error *e);
void amqp_publisher_close(
    struct amqp_publisher *p); // what is not confirmed in AMQP_STOP_MS is answered ERR_UNAVAILABLE
bool amqp_publisher_up(struct amqp_publisher *p);
// Takes `v` over when it returns ERR_OK. exchange NULL: the bus's own.
enum err amqp_publisher_put(struct amqp_publisher *p, struct amqp_event *v, const char *exchange, bool mandatory,
                            bus_done_fn *done, void *arg, struct error *e);

// ---- subscribing, on the loop

enum err amqp_subscribe(struct bus *bus, const struct bus_subscribe_options *o, bus_deliver_fn *deliver, void *arg,
                        struct bus_subscription **out, struct error *e);
void amqp_settle(struct bus_subscription *s, uint64_t tag, enum bus_settle how, const char *reason);
void amqp_unsubscribe(struct bus_subscription *s);
void amqp_groups_pump(struct amqp_bus *b);
void amqp_groups_close(struct amqp_bus *b);
bool amqp_groups_up(struct amqp_bus *b);

#endif
