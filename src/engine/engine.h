// The broker's state machine: calls and time in, journal records and deliveries out. Deterministic: no clock, disk or
// random source but its struct io, no threads, no sockets.
//
// Durable before visible. A persistent message is offered to consumers, and its publish callback called, only after
// its record is durable; the owner tells the engine so with engine_durable(). Callbacks are never made from inside
// engine_publish/engine_settle: they come from engine_durable, engine_tick and engine_dispatch; engine_get and
// engine_redeliver hand over at once.
//
// A message published to many queues is stored once; each queue holds an entry that points at it. Its properties are
// AMQP's (wire/properties.h): headers exchanges, x-delay, x-death and deduplication headers are read from there.
//
// Every function runs on the loop thread. Names and keys are at most 255 bytes (AMQP shortstr), NUL-terminated.
#ifndef BARID_ENGINE_ENGINE_H
#define BARID_ENGINE_ENGINE_H

#include "base/error.h"
#include "wire/table.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct io;
struct journal;
struct engine;
struct vhost;
struct session;
struct consumer;

#define CLAIM_TICKET 32 // bytes: the name under which the owner keeps a large body

// A stored message with that ticket has come (+1: published, or found at start) or is gone for good (-1).
typedef void claim_fn(void *arg, const uint8_t ticket[CLAIM_TICKET], int change);

struct engine_options {
    struct journal_options *journal; // for engine_open
    uint64_t memory_budget;          // bytes of bodies kept in memory, 0: 64 MiB; beyond it they are read back
    uint32_t max_queues;             // 0: 100,000
    uint32_t max_exchanges;          // 0: 10,000
    uint32_t max_vhosts;             // 0: 1,000
    uint64_t max_ready_per_queue;    // 0: no bound but the disk
    claim_fn *claim;                 // NULL: no claims
    void *claim_arg;
};

// Opens the journal through `io`, replays it, and is ready.
enum err engine_open(struct engine **out, struct io *io, const struct engine_options *o, struct error *e);
void engine_close(struct engine *e);
struct journal *engine_journal(struct engine *e);

// ---- virtual hosts -----------------------------------------------------------------------------------------
// "/" is always there. Each has the default exchange "" and amq.direct, amq.fanout, amq.topic, amq.headers, amq.match
// and amq.rabbitmq.trace, which are durable, need no record and cannot be deleted.

enum err engine_vhost_add(struct engine *e, const char *name, struct vhost **out, struct error *err); // idempotent
enum err engine_vhost_delete(struct engine *e, const char *name, struct error *err); // with all it has; not "/"
struct vhost *engine_vhost(struct engine *e, const char *name);                      // NULL: there is none
const char *vhost_name(const struct vhost *v);
struct engine *vhost_engine(const struct vhost *v);
void engine_each_vhost(struct engine *e, void (*each)(void *arg, struct vhost *v), void *arg);

// ---- exchanges ---------------------------------------------------------------------------------------------

enum exchange_type {
    EXCHANGE_DIRECT,
    EXCHANGE_FANOUT,
    EXCHANGE_TOPIC,
    EXCHANGE_HEADERS,
    EXCHANGE_CONSISTENT_HASH, // a binding's key is its weight; messages are spread by the hash of key, header or
                              // property
};

struct exchange_options {
    enum exchange_type type; // of a delayed or deduplicating one: how it routes
    bool durable;
    bool auto_delete; // goes with its last binding
    bool internal;    // only bindings lead to it
    bool delayed;     // x-delayed-message: header x-delay in ms
    // A topic pattern's word may be a glob: "message_*". Not recorded, not compared: set by whoever declares it so.
    bool glob;
    const char *alternate;     // alternate-exchange, NULL: none
    const char *hash_header;   // hash-header, NULL: none
    const char *hash_property; // hash-property (message_id, correlation_id, timestamp), NULL: none
    // x-message-deduplication: header x-deduplication-header, 0 size: not of this kind
    uint32_t dedupe_size;   // x-cache-size
    uint64_t dedupe_ttl_ms; // x-cache-ttl, 0: until pushed out
    struct view arguments;  // the table as declared, kept to be shown; not compared
};

// Idempotent; ERR_CONFLICT when it exists with other properties (the text names the first that differs, as RabbitMQ's
// "inequivalent arg 'durable' for exchange 'x' in vhost '/': received 'true' but current is 'false'"). Durable ones
// are records in the journal.
enum err engine_exchange_declare(struct vhost *v, const char *name, const struct exchange_options *o,
                                 struct error *err);
// ERR_NOT_FOUND; ERR_CONFLICT: it has bindings and if_unused; ERR_FORBIDDEN: the default one, amq.*
enum err engine_exchange_delete(struct vhost *v, const char *name, bool if_unused, struct error *err);

struct exchange_info {
    const char *name, *vhost;
    const struct exchange_options *options;
    uint64_t published_in, published_out; // messages it got; (message, queue) pairs it led to
    uint64_t delayed;                     // messages that wait for their x-delay
};
bool engine_exchange(struct vhost *v, const char *name, struct exchange_info *out); // false: there is none
void engine_each_exchange(struct vhost *v, void (*each)(void *arg, const struct exchange_info *x), void *arg);

// ---- queues ------------------------------------------------------------------------------------------------

enum queue_overflow { OVERFLOW_DROP_HEAD, OVERFLOW_REJECT_PUBLISH, OVERFLOW_REJECT_PUBLISH_DLX };
enum queue_type { QUEUE_CLASSIC, QUEUE_QUORUM }; // one kind here; what the application asked for is kept and compared

struct queue_options {
    enum queue_type type;
    bool durable;
    bool auto_delete;
    bool single_active_consumer;
    const void *owner; // an exclusive queue: gone with its owner (engine_delete_owned), never recorded; NULL: anybody's
    uint8_t max_priority;    // 0: plain FIFO; n: levels 0..n, strict, FIFO in each
    uint64_t message_ttl_ms; // 0: none (a TTL of zero is has_message_ttl with 0)
    bool has_message_ttl;
    uint64_t expires_ms; // queue TTL, 0: none
    bool has_max_length; // a length of zero is has_max_length with 0
    uint64_t max_length;
    bool has_max_length_bytes;
    uint64_t max_length_bytes;
    enum queue_overflow overflow;
    uint32_t delivery_limit;     // attempts before dead-letter or park, 0: none
    uint32_t retry_delay_ms;     // 0: a RETRY is offered again at once
    double retry_multiplier;     // 0: 2
    uint32_t retry_max_delay_ms; // 0: 60,000
    uint32_t dedupe_window_ms;   // x-deduplication-window: by message id, 0: no
    bool dedupe_present;         // x-message-deduplication: none twice at once with the same x-deduplication-header
    const char *dead_letter_exchange;    // NULL: none (then the message is parked or dropped)
    const char *dead_letter_routing_key; // NULL: the message's own
    bool park;                           // after delivery_limit without DLX: keep it parked, with the reason
    struct view arguments;               // the table as declared, kept to be shown; not compared
};

enum err engine_queue_declare(struct vhost *v, const char *name, const struct queue_options *o, struct error *err);
// ERR_NOT_FOUND; ERR_CONFLICT: it has consumers and if_unused, or messages and if_empty. *count: ready ones it had.
// Its consumers are told (session_options.ended).
enum err engine_queue_delete(struct vhost *v, const char *name, bool if_unused, bool if_empty, uint64_t *count,
                             struct error *err);
void engine_delete_owned(struct engine *e, const void *owner); // every exclusive queue of that owner
enum err engine_queue_purge(struct vhost *v, const char *name, uint64_t *count, struct error *err); // ready ones

struct queue_info {
    const char *name, *vhost;
    const struct queue_options *options;
    uint64_t ready, unacked, parked, delayed, consumers;
    uint64_t bytes, unacked_bytes; // of bodies: ready, unacked
    uint64_t memory;               // bytes in memory: structures and bodies
    uint64_t published, delivered, acked, redelivered, got, dead_lettered, expired;
    int64_t oldest_at_ms;          // of the oldest ready message, 0 when empty
    const struct consumer *active; // single active consumer, else NULL
};
bool engine_queue(struct vhost *v, const char *name, struct queue_info *out); // false: there is none
void engine_queue_used(struct vhost *v, const char *name);                    // by somebody: its expiry begins again
void engine_each_queue(struct engine *e, void (*each)(void *arg, const struct queue_info *q), void *arg);

// ---- bindings ----------------------------------------------------------------------------------------------

struct binding_spec {
    const char *source;      // exchange
    const char *destination; // queue, or exchange when to_exchange
    bool to_exchange;
    const char *key;
    struct view arguments; // headers exchanges; part of what a binding is
};
// Idempotent. Durable when both ends are. ERR_NOT_FOUND (the text says which end), ERR_FORBIDDEN for the default
// exchange.
enum err engine_bind(struct vhost *v, const struct binding_spec *b, struct error *err);
enum err engine_unbind(struct vhost *v, const struct binding_spec *b, struct error *err); // no such binding: ERR_OK

// Every binding of the vhost, the default exchange's with them; of one queue when `queue` is not NULL (then without
// the default exchange's). They must not be changed meanwhile.
void engine_each_binding(struct vhost *v, const char *queue, void (*each)(void *arg, const struct binding_spec *b),
                         void *arg);

// ---- publishing --------------------------------------------------------------------------------------------

struct message {
    const char *exchange; // "" is the default exchange: routing_key names the queue
    const char *routing_key;
    const char *const *more_keys; // CC and BCC: routed by these as well
    uint32_t more_keys_count;
    const void *properties; // wire/properties.h, or nothing at all
    uint32_t properties_length;
    const void *body; // or the ticket of a claimed one
    uint32_t body_length;
    bool claimed;            // body is a ticket of CLAIM_TICKET bytes …
    uint64_t claimed_length; // … for so many bytes
    const char *message_id;  // for deduplication, NULL or "": none
    bool persistent;
    uint8_t priority;
    uint64_t delay_ms; // offered only after this long
    bool has_expiration;
    uint64_t expiration_ms;
};

enum publish_result { PUBLISH_OK, PUBLISH_UNROUTABLE, PUBLISH_REJECTED /* overflow */, PUBLISH_DUPLICATE };

// Called once per accepted publish, when every queue that took it has it durably (or at once for those that took
// nothing). In publish order.
typedef void publish_done_fn(void *arg, enum publish_result result);

// ERR_FULL below the disk's low-water mark, ERR_BUSY when too much is waiting for the disk (both: try again later),
// ERR_NOT_FOUND for no such exchange, ERR_FORBIDDEN for an internal one, ERR_TOO_LARGE. After an error `done` is not
// called. `done` may be NULL; `result` (may be NULL) says at once what done will say.
enum err engine_publish(struct vhost *v, const struct message *m, publish_done_fn *done, void *arg,
                        enum publish_result *result, struct error *err);

// done(arg, PUBLISH_OK) when everything that was called until now is durable: for answers to topology calls. False:
// it is already, and done will not be called.
bool engine_when_durable(struct engine *e, publish_done_fn *done, void *arg);

// Is publishing refused for want of room? For connection.blocked; the text is the reason.
bool engine_blocked(struct engine *e, const char **reason);

// ---- consuming ---------------------------------------------------------------------------------------------
// A session holds what was delivered and is not settled: one an AMQP channel. Its tags count from 1 in the order of
// delivery, those of no_ack deliveries with them.

struct delivery {
    uint64_t tag;
    void *consumer_arg; // of engine_consume, or of engine_get
    const char *queue, *exchange, *routing_key;
    const void *properties;
    uint32_t properties_length;
    const void *body; // or the ticket
    uint32_t body_length;
    bool claimed;
    uint64_t claimed_length;
    const char *message_id;
    uint8_t priority;
    bool redelivered;
    bool counted;            // the queue counts attempts: x-delivery-count is to be shown from the second on
    uint32_t attempt;        // 1 for the first time
    int64_t published_at_ms; // wall clock
};

// Pointers are valid during the call. The message is the session's until settled or the session ends.
typedef void deliver_fn(void *arg, const struct delivery *d);
// The consumer is gone because its queue is; what it held went with it. Its handle is not valid any more.
typedef void ended_fn(void *arg, void *consumer_arg);

struct session_options {
    deliver_fn *deliver;
    ended_fn *ended; // NULL: does not want to know
    void *arg;
};
struct session *engine_session_new(struct engine *e, const struct session_options *o);
// Its consumers end, and what it holds goes back to where it was, marked redelivered, counted as an attempt where the
// queue has a delivery limit or is a quorum one.
void engine_session_free(struct session *s);
void engine_session_prefetch(struct session *s, uint32_t limit); // of all its consumers together, 0: unlimited
void engine_session_pause(struct session *s, bool paused);       // nothing is offered to it
uint32_t engine_session_unacked(const struct session *s);
uint64_t engine_session_take_tag(struct session *s);        // for a delivery that the owner makes without the engine
uint64_t engine_session_oldest_ms(const struct session *s); // monotonic ms of the oldest held delivery, 0: none is held

struct consumer_options {
    uint32_t prefetch; // 0: unlimited
    int32_t priority;
    bool no_ack;
    bool exclusive;
};

// ERR_LOCKED: in exclusive use.
enum err engine_consume(struct session *s, struct vhost *v, const char *queue, const struct consumer_options *o,
                        void *consumer_arg, struct consumer **out, struct error *err);
// What it holds stays with the session, to be settled.
void engine_cancel(struct consumer *c);
const char *consumer_queue(const struct consumer *c);
uint32_t consumer_unacked(const struct consumer *c);
bool consumer_active(const struct consumer *c); // false: waits behind a single active consumer

// Hands over one message now, by `deliver` with `consumer_arg`; false: none is ready. *left: ready ones after it.
enum err engine_get(struct session *s, struct vhost *v, const char *queue, bool no_ack, void *consumer_arg, bool *got,
                    uint64_t *left, struct error *err);

enum settle { SETTLE_ACK, SETTLE_RETRY, SETTLE_REQUEUE, SETTLE_REJECT, SETTLE_PARK, SETTLE_RETURN };
// RETRY: counts an attempt, backs off, after delivery_limit dead-letters or parks. REQUEUE: back to its place, at
// once; counted as a RETRY is on queues with a delivery limit or a retry delay, and on quorum ones. REJECT:
// dead-letter, or park where the queue parks, or drop. PARK: to the parked list with the reason. RETURN: back to its
// place, never counted: nobody looked at it. `multiple`: every one up to and with `tag`, tag 0: all. ERR_NOT_FOUND:
// unknown tag.
enum err engine_settle(struct session *s, uint64_t tag, bool multiple, enum settle how, const char *reason,
                       struct error *err);
// For a transaction: those deliveries are spoken for, and unknown to engine_settle and engine_reserve until
// engine_unreserve, which frees all that the session has reserved. *last: the highest tag among them, 0: there was
// none.
enum err engine_reserve(struct session *s, uint64_t tag, bool multiple, uint64_t *last, struct error *err);
void engine_unreserve(struct session *s);

// For a consumer that keeps a delivery while it waits, so that nothing behind it comes first (bus/embedded.c).
// engine_attempt counts a failed attempt, durably, and tells how long to wait by the queue's backoff; ERR_LIMIT: the
// attempts are spent, nothing was counted, settle it. engine_redeliver hands a held delivery to the session's deliver
// function again, at once; not from inside a callback.
enum err engine_attempt(struct session *s, uint64_t tag, uint32_t *delay_ms, struct error *err);
enum err engine_redeliver(struct session *s, uint64_t tag, struct error *err);

// ---- parked ------------------------------------------------------------------------------------------------

struct parked {
    uint64_t id;
    const char *vhost, *queue, *message_id, *reason;
    uint32_t attempts;
    int64_t published_at_ms, parked_at_ms;
    uint32_t body_length;
};
// Of every queue of that name, or of all when `queue` is NULL.
enum err engine_parked_list(struct engine *e, const char *queue, void (*each)(void *arg, const struct parked *),
                            void *arg);
// Of one queue, in their order, at most `limit` after the first `skip`.
enum err engine_parked_page(struct vhost *v, const char *queue, uint64_t skip, uint32_t limit,
                            void (*each)(void *arg, const struct parked *), void *arg);
bool engine_parked_in(struct vhost *v, const char *queue, uint64_t id); // is it one of that queue's?
// Every one of the queue; how many they were.
enum err engine_parked_retry_all(struct vhost *v, const char *queue, uint64_t *count);
enum err engine_parked_drop_all(struct vhost *v, const char *queue, uint64_t *count);
enum err engine_parked_retry(struct engine *e, uint64_t id); // back to its queue, attempts from zero
enum err engine_parked_drop(struct engine *e, uint64_t id);

// ---- driving it --------------------------------------------------------------------------------------------

// After journal_durable() moved: makes messages visible, calls publish callbacks, then dispatches.
void engine_durable(struct engine *e);
// Time-driven work that is due: TTL, delays, retries, queue expiry, compaction steps.
void engine_tick(struct engine *e);
// When engine_tick wants to be called next (monotonic ns), UINT64_MAX for never.
uint64_t engine_next_deadline(struct engine *e);
// Offer ready messages to consumers with room. Call after consume/settle; bounded work, returns true when there is
// more to do.
bool engine_dispatch(struct engine *e);

// Settles are gathered and written as one record: by engine_dispatch, engine_durable and engine_tick, or by this.
void engine_flush(struct engine *e);

struct engine_stats {
    uint64_t body_bytes, memory_budget; // bodies in memory
    uint64_t structure_bytes;           // messages and entries without bodies
    uint64_t messages, entries, vhosts, exchanges, queues, bindings;
    uint64_t waiting_for_disk; // publishes not yet answered
    bool no_room;              // what was settled waits for room on the disk
    uint64_t dead_letters;     // not yet published again: their target has no room
};
void engine_stats(const struct engine *e, struct engine_stats *out);

#endif
