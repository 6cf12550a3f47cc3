// Inside the Kafka bus: a subscription, which is a member of a consumer group.
//
//   kafka_subscribe.c   the consumer's life, what librdkafka tells it
//   kafka_pattern.c     AMQP's pattern as Kafka's
//   kafka_places.c      partitions come and go; offsets
//   kafka_deliver.c     records become deliveries, in the order of their keys; settling
//   kafka_record.c      what a record says
//   kafka_park.c        what gave up goes to the topic GROUP.parked
//   kafka_parked.c      that topic, read by tools
#ifndef BARID_BUS_KAFKA_GROUP_H
#define BARID_BUS_KAFKA_GROUP_H

#include "bus/kafka.h"
#include "bus/turns.h"

#define KAFKA_KEY_MAX     255
#define KAFKA_HEADERS_MAX 64

struct kafka_member {
    struct bus_subscription subscription;
    struct list_node node; // in kafka.members
    struct kafka *bus;
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue, *closing; // rebalances, commits, errors; the same while it closes
    struct kafka_wake *wake;
    char group[256];
    bus_deliver_fn *deliver;
    void (*assigned)(void *arg, struct bus_subscription *s, const struct bus_place *places, size_t n);
    void (*revoked)(void *arg, struct bus_subscription *s, const struct bus_place *places, size_t n);
    void (*on_parked)(void *arg, struct bus_subscription *s, const struct bus_place *place);
    void *arg;
    bool unordered, ended;
    uint32_t prefetch, max_attempts;
    size_t bytes; // of `events`

    struct list partitions;               // struct kafka_partition, in the order in which they are read
    rd_kafka_topic_partition_list_t *due; // assigned, while the consumer is asked for its offsets
    struct loop_timer commit, beat;
    rd_kafka_topic_partition_list_t *revoking; // taken away, while what was settled is committed
    uintptr_t revocation;                      // its number
    bool draining;                             // handlers still have some of it
    struct loop_timer revoke;

    struct turns turns;
    struct map events;    // by tag
    struct list eligible; // may be handed out when there is room
    uint32_t in_hand;
    uint64_t last_tag;
    rd_kafka_message_t *calling; // with the handler: valid until its call ends
    bool calling_left;           // and its event has gone meanwhile
    rd_kafka_resp_err_t last_error;
};

struct kafka_partition {
    struct list_node node;
    struct kafka_member *member;
    rd_kafka_queue_t *queue;
    struct list unsettled; // struct kafka_event, in the order of their offsets
    int64_t next;          // the offset after the last one read, -1: none was
    int64_t committed;     // what Kafka was last told, -1: nothing
    int64_t dropped;       // the first that was read and given up, -1: none
    int32_t number;
    bool leaving; // nothing more is read or handed out
    char topic[];
};

enum kafka_event_state { KAFKA_WAITS, KAFKA_ELIGIBLE, KAFKA_IN_HAND, KAFKA_RETRIES, KAFKA_PARKS };

struct kafka_parking;

struct kafka_event {
    struct turn turn;
    struct list_node node, unsettled; // in member.eligible; in partition.unsettled
    struct loop_timer timer;
    struct kafka_member *member;
    struct kafka_partition *partition;
    rd_kafka_message_t *m;
    struct kafka_parking *parking;
    uint64_t tag;
    size_t bytes;
    uint32_t attempt;
    enum kafka_event_state state;
    char reason[256]; // of the last attempt
};

// ---- subscriptions

enum err kafka_subscribe(struct bus *bus, const struct bus_subscribe_options *o, bus_deliver_fn *deliver, void *arg,
                         struct bus_subscription **out, struct error *e);
void kafka_unsubscribe(struct bus_subscription *s);
void kafka_member_finish(struct kafka_member *m, uint64_t until_ns); // when the bus closes

// A plain name as it is, anything else as "^REGEX$". False: it has what no topic can have, or is too long.
bool kafka_pattern(const char *pattern, char *out, size_t size);

// ---- places

void kafka_on_rebalance(struct kafka_member *m, rd_kafka_event_t *event);
void kafka_on_commit(struct kafka_member *m, rd_kafka_event_t *event);
void kafka_assigned(struct bus_subscription *s, const struct bus_place *places, size_t n);
void kafka_commit_soon(struct kafka_member *m);
void kafka_on_commit_due(struct loop_timer *t);
void kafka_on_revoke_late(struct loop_timer *t);
void kafka_assign_due(struct kafka_member *m); // answers librdkafka, with the offsets that are known
void kafka_drain(struct kafka_member *m);      // something was settled
void kafka_partitions_free(struct kafka_member *m);
void kafka_drop_all(struct kafka_member *m); // all that came
struct bus_place kafka_place_of(const struct kafka_partition *p, int64_t offset);

// ---- deliveries

bool kafka_read(struct kafka_member *m);     // some records; true: there may be more
void kafka_hand_out(struct kafka_member *m); // what may go and has room
void kafka_settle(struct bus_subscription *s, uint64_t tag, enum bus_settle how, const char *reason);
void kafka_event_leave(struct kafka_event *v); // settled: the next of its key has its turn
void kafka_event_drop(struct kafka_event *v);  // not settled: it comes again
void kafka_event_later(struct kafka_event *v, uint32_t ms, void (*then)(struct loop_timer *t));

// ---- records

struct kafka_record {
    struct bus_event event;
    char key[KAFKA_KEY_MAX + 1];
    struct bus_header headers[KAFKA_HEADERS_MAX];
};
void kafka_record_read(struct kafka_record *out, const rd_kafka_message_t *m);          // points into m
size_t kafka_record_bytes(const rd_kafka_message_t *m);                                 // what it takes, roughly
bool kafka_record_key(const rd_kafka_message_t *m, char out[static KAFKA_KEY_MAX + 1]); // false: none

// ---- parking

void kafka_park(struct kafka_event *v);
void kafka_parking_forget(struct kafka_parking *p); // its event has gone

#endif
