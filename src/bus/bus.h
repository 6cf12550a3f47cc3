// The bus port: events and queues. Embedded: the barid engine and its journal; Kafka and AMQP 0-9-1 are its twins.
//
// Topics are published to; a subscription is a named group: every group gets every event, the members of a
// group compete. Events with the same key reach a group's handler in order.
//
// On the embedded bus an event goes to the topic exchange "barid.events" with its topic as routing key; a
// group is the durable queue "barid.<group>" bound with the topic pattern. So anyone may bind a queue of
// their own to the same exchange over AMQP; the header "key" of a message has the event's key.
#ifndef BARID_BUS_BUS_H
#define BARID_BUS_BUS_H

#include "base/error.h"
#include "base/id.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;
struct io;
struct bus;
struct bus_subscription;

// A header travels with the event as it is: a Kafka header, an AMQP header of type long string. Names that begin with
// "ce_" are the bus's own (CloudEvents binary mode).
struct bus_header {
    const char *name, *value;
};

struct bus_event {
    struct id event_id;
    const char *topic; // "message_send"
    const char *key;   // ordering key, e.g. the conversation id
    const void *payload;
    size_t payload_length;
    const struct bus_header *headers;
    size_t header_count;
    int64_t at_ms; // when it is said to be published, by whoever's clock is to be trusted; 0: this machine's, now
};

// Where an event lies on a bus that has such places: Kafka's topic, partition and offset. partition -1: none.
struct bus_place {
    const char *topic;
    int32_t partition;
    int64_t offset;
};

struct bus_delivery {
    struct bus_event event; // pointers valid during the call
    uint64_t tag;
    uint32_t attempt; // 1 for the first time
    int64_t published_at_ms;
    struct bus_place place;
};

struct bus_options {
    // "embedded:"; "kafka://HOST:PORT[,HOST:PORT…][?NAME=VALUE&…]" with settings of librdkafka;
    // "amqp[s]://USER:PASSWORD@HOST:PORT/VHOST[?exchange=NAME]"
    const char *url;
    struct io *io; // embedded: rooted at the data directory; the journal is its journal/
    // AMQP: an event that no queue takes is refused (ERR_NOT_FOUND), as a producer wants it whose event must arrive.
    // Else nobody subscribes and nobody misses it.
    bool mandatory;
    uint64_t memory_budget;
    // embedded: the engine's claim_fn, which is called for large bodies from the opening on; NULL: there are none
    void (*claim)(void *arg, const uint8_t *ticket, int change);
    void *claim_arg;
    uint64_t low_water_bytes; // embedded: nothing is published below so much free disk, 0: the journal's default
};

enum err bus_open(struct bus **out, struct loop *loop, const struct bus_options *o, struct error *e);
void bus_close(struct bus *b); // flushes what was published

// done(arg, ERR_OK, …) when the bus has it durably. Nothing is called back when bus_publish itself returns an error.
// ERR_FULL, ERR_BUSY, ERR_UNAVAILABLE, from either: the bus does not take anything now, the event is not to blame.
// Anything else is about the event; `why` (never NULL, valid during the call) says it in the bus's words.
typedef void bus_done_fn(void *arg, enum err err, const char *why);
enum err bus_publish(struct bus *b, const struct bus_event *event, bus_done_fn *done, void *arg, struct error *e);

struct bus_subscribe_options {
    const char *group;
    const char *pattern;   // AMQP's topic pattern; a * in a longer word is any letters: "message_*"
    uint32_t prefetch;     // 0: 256
    uint32_t max_attempts; // then parked; 0: 3
    // Many events of a key may be with the handlers at once, handed over in order; one that is retried may be
    // overtaken. For handlers that keep the order themselves, or whose effect carries its own (a `seq`).
    bool unordered;
    // A bus with places asks, before it delivers from newly assigned places, from which offset on: bus_assigned
    // answers, now or later. NULL: the bus keeps the offsets itself. After `revoked` settling what came from there does
    // nothing. The places and the names of their topics are there during the call only.
    void (*assigned)(void *arg, struct bus_subscription *s, const struct bus_place *places, size_t n);
    void (*revoked)(void *arg, struct bus_subscription *s, const struct bus_place *places, size_t n);
    // A bus with places tells when an event that was settled with BUS_PARK is where such events are kept. Whoever keeps
    // the offsets stays below its own until then: it would be lost otherwise if the bus went down meanwhile.
    void (*parked)(void *arg, struct bus_subscription *s, const struct bus_place *place);
};
typedef void bus_deliver_fn(void *arg, const struct bus_delivery *d);
enum err bus_subscribe(struct bus *b, const struct bus_subscribe_options *o, bus_deliver_fn *deliver, void *arg,
                       struct bus_subscription **out, struct error *e);
// For each place the next offset to deliver, -1: what the bus has stored, or else its beginning.
void bus_assigned(struct bus_subscription *s, const struct bus_place *places, size_t n);
enum bus_settle { BUS_ACK, BUS_RETRY, BUS_PARK };
void bus_settle(struct bus_subscription *s, uint64_t tag, enum bus_settle how, const char *reason);
void bus_unsubscribe(struct bus_subscription *s); // unsettled events go back

// Is the other side there? Always, for the embedded bus.
bool bus_reachable(struct bus *b);

// An event that a group has given up, as the bus keeps it.
struct bus_parked {
    struct bus_event event; // its topic is the one it came by
    struct bus_place at;    // where it is now
    const char *from;       // where it came from: "orders/3@1742"
    const char *reason, *parked_at;
    uint32_t attempts;
};
typedef void bus_parked_fn(void *arg, const struct bus_parked *p); // valid during the call
// All of a group's, of Kafka alone; for tools: needs no loop, and blocks. ERR_UNSUPPORTED: another kind of bus.
enum err bus_each_parked(const char *url, const char *group, bus_parked_fn *each, void *arg, struct error *e);

struct engine *bus_engine(struct bus *b); // the embedded engine, NULL on other buses

#endif
