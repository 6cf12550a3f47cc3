// The broker's state machine: calls and time in, journal records and deliveries out. Deterministic: no clock,
// disk or random source but its struct io, no threads, no sockets.
//
// Durable before visible. A persistent message is offered to consumers, and its publish callback called, only
// after its record is durable; the owner tells the engine so with engine_durable(). Callbacks are never made
// from inside engine_publish/engine_settle: they come from engine_durable, engine_tick and engine_dispatch.
//
// A message published to many queues is stored once; each queue holds an entry that points at it.
//
// Every function runs on the loop thread. Names and keys are at most 255 bytes (AMQP shortstr).
#ifndef BARID_ENGINE_ENGINE_H
#define BARID_ENGINE_ENGINE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct io;
struct journal;
struct engine;
struct consumer;

struct engine_options {
    struct journal_options *journal; // for engine_open
    uint64_t memory_budget;          // bytes of bodies kept in memory, 0: 64 MiB; beyond it they are read back
    uint32_t max_queues;             // 0: 100,000
    uint32_t max_exchanges;          // 0: 10,000
    uint64_t max_ready_per_queue;    // 0: no bound but the disk
};

// Opens the journal through `io`, replays it, and is ready.
enum err engine_open(struct engine **out, struct io *io, const struct engine_options *o, struct error *e);
void engine_close(struct engine *e);
struct journal *engine_journal(struct engine *e);

// ---- topology -------------------------------------------------------------------------------------------

enum exchange_type { EXCHANGE_DIRECT, EXCHANGE_FANOUT, EXCHANGE_TOPIC, EXCHANGE_HEADERS };

enum queue_overflow { OVERFLOW_DROP_HEAD, OVERFLOW_REJECT_PUBLISH, OVERFLOW_REJECT_PUBLISH_DLX };

struct queue_options {
    bool durable;
    bool auto_delete;
    uint8_t max_priority;    // 0: plain FIFO; n: levels 0..n, strict, FIFO in each
    uint64_t message_ttl_ms; // 0: none (a TTL of zero is has_message_ttl with 0)
    bool has_message_ttl;
    uint64_t expires_ms;       // queue TTL, 0: none
    uint64_t max_length;       // 0: none
    uint64_t max_length_bytes; // 0: none
    enum queue_overflow overflow;
    uint32_t delivery_limit;             // attempts before dead-letter or park, 0: none
    uint32_t retry_delay_ms;             // 0: a RETRY is offered again at once
    double retry_multiplier;             // 0: 2
    uint32_t retry_max_delay_ms;         // 0: 60,000
    uint32_t dedupe_window_ms;           // 0: no deduplication by message id
    const char *dead_letter_exchange;    // NULL: none (then the message is parked or dropped)
    const char *dead_letter_routing_key; // NULL: the message's own
    bool park;                           // after delivery_limit without DLX: keep it parked, with the reason
};

// Idempotent; ERR_CONFLICT when it exists with other properties. Durable ones are records in the journal.
enum err engine_exchange_declare(struct engine *e, const char *name, enum exchange_type type, bool durable,
                                 struct error *err);
enum err engine_exchange_delete(struct engine *e, const char *name, struct error *err);
enum err engine_queue_declare(struct engine *e, const char *name, const struct queue_options *o, struct error *err);
enum err engine_queue_delete(struct engine *e, const char *name, struct error *err);
enum err engine_queue_purge(struct engine *e, const char *name, uint64_t *count, struct error *err);
enum err engine_bind(struct engine *e, const char *exchange, const char *queue, const char *key, struct error *err);
enum err engine_unbind(struct engine *e, const char *exchange, const char *queue, const char *key, struct error *err);

// Each binding of a queue, for who wants to change them. The bindings must not be changed meanwhile.
void engine_each_binding(struct engine *e, const char *queue,
                         void (*each)(void *arg, const char *exchange, const char *key), void *arg);

// ---- publishing -----------------------------------------------------------------------------------------

struct message {
    const char *exchange; // "" is the default exchange: routing_key names the queue
    const char *routing_key;
    const void *properties; // opaque to the engine, handed back on delivery (AMQP properties, headers)
    uint32_t properties_length;
    const void *body;
    uint32_t body_length;
    const char *message_id; // for deduplication, NULL or "": none
    bool persistent;
    uint8_t priority;
    uint64_t delay_ms; // offered only after this long
    bool has_expiration;
    uint64_t expiration_ms;
};

enum publish_result { PUBLISH_OK, PUBLISH_UNROUTABLE, PUBLISH_REJECTED /* overflow */, PUBLISH_DUPLICATE };

// Called once per accepted publish, when every queue that took it has it durably (or at once for those that
// took nothing). In publish order.
typedef void publish_done_fn(void *arg, enum publish_result result);

// ERR_FULL below the disk's low-water mark, ERR_BUSY when too much is waiting for the disk, ERR_NOT_FOUND for
// no such exchange, ERR_TOO_LARGE. After an error `done` is not called.
enum err engine_publish(struct engine *e, const struct message *m, publish_done_fn *done, void *arg, struct error *err);

// ---- consuming ------------------------------------------------------------------------------------------

struct delivery {
    uint64_t tag; // unique within the engine, never reused
    const char *queue, *exchange, *routing_key;
    const void *properties;
    uint32_t properties_length;
    const void *body;
    uint32_t body_length;
    const char *message_id;
    uint8_t priority;
    bool redelivered;
    uint32_t attempt;        // 1 for the first time
    int64_t published_at_ms; // wall clock
};

// Pointers are valid during the call. The message is the consumer's until settled or the consumer ends.
typedef void deliver_fn(void *arg, const struct delivery *d);

struct consumer_options {
    uint32_t prefetch; // 0: unlimited
    int32_t priority;
    bool no_ack;
    bool exclusive;
};

enum err engine_consume(struct engine *e, const char *queue, const struct consumer_options *o, deliver_fn *deliver,
                        void *arg, struct consumer **out, struct error *err);
void engine_cancel(struct engine *e, struct consumer *c); // what it holds goes back, marked redelivered

enum settle { SETTLE_ACK, SETTLE_RETRY, SETTLE_REQUEUE, SETTLE_REJECT, SETTLE_PARK };
// RETRY: counts an attempt, backs off, after delivery_limit dead-letters or parks. REQUEUE: back to its place,
// at once. REJECT: dead-letter, or drop. PARK: to the parked list with the reason. ERR_NOT_FOUND: unknown tag.
enum err engine_settle(struct engine *e, struct consumer *c, uint64_t tag, enum settle how, const char *reason,
                       struct error *err);

// For a consumer that keeps a delivery while it waits, so that nothing behind it comes first (bus/embedded.c).
// engine_attempt counts a failed attempt, durably, and tells how long to wait by the queue's backoff; ERR_LIMIT:
// the attempts are spent, nothing was counted, settle it. engine_redeliver hands a held delivery to the consumer's
// deliver function again, at once; not from inside a callback.
enum err engine_attempt(struct engine *e, struct consumer *c, uint64_t tag, uint32_t *delay_ms, struct error *err);
enum err engine_redeliver(struct engine *e, struct consumer *c, uint64_t tag, struct error *err);

// ---- parked ---------------------------------------------------------------------------------------------

struct parked {
    uint64_t id;
    const char *queue, *message_id, *reason;
    uint32_t attempts;
    int64_t published_at_ms, parked_at_ms;
    uint32_t body_length;
};
enum err engine_parked_list(struct engine *e, const char *queue, void (*each)(void *arg, const struct parked *),
                            void *arg);
enum err engine_parked_retry(struct engine *e, uint64_t id); // back to its queue, attempts from zero
enum err engine_parked_drop(struct engine *e, uint64_t id);

// ---- driving it -----------------------------------------------------------------------------------------

// After journal_durable() moved: makes messages visible, calls publish callbacks, then dispatches.
void engine_durable(struct engine *e);
// Time-driven work that is due: TTL, delays, retries, queue expiry, compaction steps.
void engine_tick(struct engine *e);
// When engine_tick wants to be called next (monotonic ns), UINT64_MAX for never.
uint64_t engine_next_deadline(struct engine *e);
// Offer ready messages to consumers with room. Call after consume/settle; bounded work, returns true when
// there is more to do.
bool engine_dispatch(struct engine *e);

// Settles are gathered and written as one record: by engine_dispatch, engine_durable and engine_tick, or by this.
void engine_flush(struct engine *e);

struct engine_stats {
    uint64_t body_bytes, memory_budget; // bodies in memory
    uint64_t structure_bytes;           // messages and entries without bodies
    uint64_t messages, entries, queues, bindings;
    uint64_t waiting_for_disk; // publishes not yet answered
    bool no_room;              // what was settled waits for room on the disk
    uint64_t dead_letters;     // not yet published again: their target has no room
};
void engine_stats(const struct engine *e, struct engine_stats *out);

struct queue_info {
    const char *name;
    uint64_t ready, unacked, parked, delayed, bytes, consumers, published, delivered, acked;
    int64_t oldest_at_ms; // of the oldest ready message, 0 when empty
};
void engine_each_queue(struct engine *e, void (*each)(void *arg, const struct queue_info *q), void *arg);

#endif
