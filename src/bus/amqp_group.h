// A group of an AMQP bus: its queue at the broker, one connection that consumes it, and the members who share what
// comes.
//
//   amqp_consume.c (the link's thread)          amqp_group.c (the loop)
//   basic.deliver ─> arrived        ──post──>   turns ─> ready ─> a member ─> settle
//   basic.ack     <─ settled        <──wake──   acked, or parked
//
// Tags of a lost connection mean nothing to the next one, so every delivery carries the epoch of its connection.
#ifndef BARID_BUS_AMQP_GROUP_H
#define BARID_BUS_AMQP_GROUP_H

#include "base/map.h"
#include "bus/amqp_bus.h"
#include "bus/turns.h"

enum amqp_item_state { AMQP_WAITS, AMQP_READY, AMQP_IN_HAND, AMQP_RETRYING, AMQP_PARKING };

struct amqp_item {
    struct amqp_item *next; // between the threads
    struct list_node node;  // in group.ready
    struct turn turn;
    struct loop_timer timer;
    struct amqp_group *group;   // NULL: it is gone, a parking goes on alone
    struct amqp_member *member; // in whose hands
    struct amqp_event *event;
    uint64_t tag, delivery_tag;
    uint32_t epoch, attempt;
    enum amqp_item_state state;
    bool stale;   // its connection is gone: it comes again
    bool to_park; // once its timer is over
    char *reason;
};

struct amqp_items {
    struct amqp_item *first, **end;
};

struct amqp_group {
    struct list_node node;
    struct amqp_bus *bus;
    struct amqp_link *link;
    char name[256], queue[256], parked[256], pattern[256], bound[256];
    bool sift; // the binding lets in too many
    bool ordered;
    uint32_t window, attempts_max;

    // The loop's.
    struct list members;
    struct turns turns;
    struct list ready;
    struct map items; // by tag, those that are not settled
    uint64_t next_tag;
    uint32_t seen_epoch;

    // Under the link's lock.
    struct amqp_items arrived, settled;
    uint32_t epoch;

    // The thread's.
    struct amqp_item *incoming;
    size_t filled;
    char routing_key[256];
    size_t routing_key_length;
};

extern const struct amqp_role amqp_consumer; // amqp_consume.c

// What the role leaves to amqp_group.c, on the loop.
void amqp_group_post(void *role);
void amqp_group_ended(void *role);

void amqp_items_clear(struct amqp_items *l);
void amqp_items_add(struct amqp_items *l, struct amqp_item *v);
struct amqp_item *amqp_items_all(struct amqp_items *l); // by `next`
void amqp_item_free(struct amqp_item *v);

#endif
