// Inside the Kafka bus: what its files share. Only bus/kafka*.c include this.
//
//   kafka.c            opening, closing, is it there?
//   kafka_settings.c   the URL
//   kafka_error.c      which errors are about the event, and which about the broker
//   kafka_wake.c       librdkafka's threads wake the loop
//   kafka_producer.c   one producer of librdkafka, its life, its reports
//   kafka_publish.c    an event becomes a record, a report becomes an answer
//   kafka_gate.c       what waits while a batch is on its way
//   kafka_group.h      and the files that it lists: subscriptions
//   kafka_topics.c     is there such a topic? Make it
#ifndef BARID_BUS_KAFKA_H
#define BARID_BUS_KAFKA_H

#include "base/list.h"
#include "base/loop.h"
#include "base/map.h"
#include "bus/port.h"

#include <librdkafka/rdkafka.h>

#define KAFKA_TOPIC_MAX 250 // Kafka's own bound is 249

// ---- settings

struct kafka_settings {
    rd_kafka_conf_t *conf; // addresses and the settings of the URL; each instance begins with a copy
    bool create_topics;
    int partitions, replication; // of topics that are made; -1: the broker's default
    char source[256];            // ce_source
};

enum err kafka_settings_init(struct kafka_settings *s, const char *url, struct error *e);
void kafka_settings_release(struct kafka_settings *s);
// Pairs of name and value, ended by NULL. They are ours, so a refusal is a programmer's error.
void kafka_conf_set(rd_kafka_conf_t *conf, ...) __attribute__((sentinel));

// ---- errors

// ERR_OK for no error, ERR_UNAVAILABLE when the broker is to blame, anything else is about the event.
enum err kafka_err(rd_kafka_resp_err_t code);
// The broker refuses a batch as a whole for what one record in it may have done.
bool kafka_err_of_one_in_batch(rd_kafka_resp_err_t code);
bool kafka_err_no_topic(rd_kafka_resp_err_t code);

// ---- waking

struct kafka_wake;
// fn(arg) runs on the loop once after each time that the queues it is told of get something, or kafka_wake_again.
struct kafka_wake *kafka_wake_new(struct loop *loop, void (*fn)(void *arg), void *arg);
void kafka_wake_on(struct kafka_wake *w, rd_kafka_queue_t *queue);
void kafka_wake_off(rd_kafka_queue_t *queue); // before kafka_wake_free, for each of them
void kafka_wake_again(struct kafka_wake *w);  // from any thread
void kafka_wake_free(struct kafka_wake *w);

// ---- producers

struct kafka;

struct kafka_producer {
    struct kafka *bus;
    struct list_node node; // in kafka.producers
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue;
    struct kafka_wake *wake;
    size_t unanswered;        // given to librdkafka
    struct map topics;        // struct kafka_topic
    struct list to_ask;       // of them, those whose existence is to be asked
    struct kafka_ask *asking; // the question at hand
    size_t waiting;           // events of topics to ask
    size_t held, held_bytes;  // by gates
    size_t most;              // that librdkafka takes
    struct list drained;      // gates that are to be opened
    bool alone;               // one record a batch
    bool retired;             // takes nothing more, and goes when all is answered
    bool purged;              // what librdkafka had was answered; what is given to it now would wait anew
};

struct kafka_producer *kafka_producer_new(struct kafka *k, bool alone, struct error *e);
// Answers everything, waiting at most so long for the broker. Then the producer is gone.
void kafka_producer_close(struct kafka_producer *p, uint32_t patience_ms);
void kafka_destroy(struct loop *loop, rd_kafka_t *rk); // on the pool: librdkafka's destructor waits
struct kafka_producer *kafka_producer_together(struct kafka *k, struct error *e); // the one that publishes

// ---- publishing

// An event whose bytes are ours until librdkafka takes them.
struct kafka_held {
    struct list_node node;
    bus_done_fn *done;
    void *arg;
    rd_kafka_headers_t *headers;
    const char *topic;
    const void *key, *payload;
    size_t key_length, payload_length;
    int64_t at_ms; // the record's time; 0: librdkafka's now
    int gate;      // of its topic, from 1 on; 0: none
};

enum err kafka_publish(struct bus *bus, const struct bus_event *event, bus_done_fn *done, void *arg, struct error *e);
// The same for a record with headers of its own (taken over in any case) to a topic that is made when it is missing.
enum err kafka_publish_record(struct kafka *k, const struct kafka_held *record, struct error *e);
void kafka_held_answer(struct kafka_held *h, enum err err, const char *why); // and frees it
// Gives it to the producer, which answers it.
void kafka_held_send(struct kafka_producer *p, rd_kafka_topic_t *rkt, struct kafka_held *h);
void kafka_report(struct kafka_producer *p, const rd_kafka_message_t *m);
struct kafka_topic;
void kafka_topic_send(struct kafka_topic *t,
                      struct kafka_held *h); // the same; or it waits until the topic is known again

// ---- topics

struct kafka_topic {
    struct list_node asking; // in kafka_producer.to_ask
    struct loop_timer again;
    struct kafka_producer *producer;
    rd_kafka_topic_t *rkt;
    struct list waiting; // struct kafka_held
    struct kafka_gate *gates;
    int gates_n; // 0: the number of partitions is not known
    uint32_t turn, keyless;
    bool known, existed, create, created;
    bool wanted; // by a subscription, and not seen yet
    uint32_t tries;
    char name[];
};

struct kafka_topic *kafka_topic_get(struct kafka_producer *p, const char *name, struct error *e); // NULL: too many
void kafka_topic_wait(struct kafka_topic *t, struct kafka_held *h); // until it is known, or known not to be
void kafka_topic_want(struct kafka *k, const char *name);           // make it when it is missing
void kafka_topic_look(struct kafka_topic *t);                       // it is not as it was when it was asked for
void kafka_topic_created(struct kafka_producer *p, rd_kafka_event_t *event);
void kafka_topics_fail(struct kafka_producer *p, const char *why); // what waits for topics is answered ERR_UNAVAILABLE
void kafka_topics_hand_on(struct kafka_producer *p); // what is wanted is now the business of the producer after it
bool kafka_topics_free(struct kafka_producer *p);    // true: it will destroy the instance later
void kafka_ask_broker(struct kafka_producer *p);     // is it there? kafka_is_there and kafka_is_away say

// ---- gates

void kafka_gates_set(struct kafka_topic *t, int partitions);
void kafka_gates_take(struct kafka_topic *t, struct list *out); // what they hold
void kafka_gates_free(struct kafka_topic *t);                   // they hold nothing
// Chooses the record's gate. True: hold it.
bool kafka_gate_closed(struct kafka_topic *t, struct kafka_held *record);
void kafka_gate_hold(struct kafka_topic *t, struct kafka_held *h);
void kafka_gate_passed(struct kafka_topic *t, int gate); // librdkafka has it
void kafka_gate_answered(struct kafka_topic *t, int gate, bool away);
void kafka_gates_open(struct kafka_producer *p); // those that everything was answered of; after the reports of a turn

// ---- the bus

struct kafka {
    struct bus bus;
    struct loop *loop;
    struct io *io;
    struct kafka_settings settings;
    struct list producers, members;          // members: struct kafka_member
    struct kafka_producer *together, *alone; // NULL until needed
    struct list lonely;                      // struct kafka_held, for `alone`, one at a time
    struct loop_timer probe;
    bool reachable, closing;
};

void kafka_is_there(struct kafka *k);
void kafka_suspect(struct kafka *k); // perhaps it is away: ask
void kafka_is_away(struct kafka *k, const char *why);

#endif
