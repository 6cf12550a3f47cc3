// Outbox and inbox: an event is stored in the same transaction as the change it tells of, produced to the bus
// afterwards, and deleted once the bus has confirmed it (seed 1).
//
//   store (in the unit) ─commit─> wake ─> claim a batch ─> publish each ─confirmed─> delete (and on_published)
//                                                              └─ refused: attempts+1, back off; after the last
//                                                                 attempt: parked, with the error
//
// Per-key order: events of one key are published in id order; one that is waiting for its next attempt holds
// its key's followers, one that is parked steps aside. When the bus is not there at all (ERR_UNAVAILABLE,
// ERR_FULL, ERR_BUSY) no attempt is spent: the producer waits and says so.
#ifndef BARID_OUTBOX_OUTBOX_H
#define BARID_OUTBOX_OUTBOX_H

#include "base/error.h"
#include "base/id.h"
#include "bus/bus.h"
#include "database/database.h"
#include "outbox/sink.h"

struct outbox;

// Whose rows are looked after: the outbox's, or those that a consumer has taken in and not handled (PostgreSQL only).
struct outbox_table {
    const char *consumer; // NULL: the outbox; otherwise it outlives the producer
};
static inline struct outbox_table outbox_table_inbox(const char *consumer) { return (struct outbox_table){consumer}; }

// An event that has spent its attempts: it steps aside, or its key waits until somebody has dealt with it.
enum outbox_on_failure { ON_FAILURE_PARK, ON_FAILURE_BLOCK };

// sql/sqlite/0001_outbox.sql, sql/postgres/0001_outbox.sql: {.number = 1, .name = "outbox", .file =
// &outbox_migrations[0]}.
extern const struct embedded_file outbox_migrations[];
extern const struct migration outbox_component[]; // all that `barid relay` and `barid receive` need on PostgreSQL

struct outbox_options {
    struct loop *loop;
    struct io *io; // clock and randomness
    struct database *database;
    struct outbox_table table;
    struct bus *bus;                // where the events go, or else
    const struct outbox_sink *sink; // whom they are given to; copied
    uint32_t max_attempts;          // 0: 3
    enum outbox_on_failure on_failure;
    uint32_t batch;           // rows claimed at once, 0: 512
    uint32_t rows_max;        // claimed and not settled, 0: 4,096; at most 65,536
    uint32_t safety_check_ms; // 0: 30,000: the slow look that catches a lost wake
    // PostgreSQL, where several processes share a table: how long a bucket is lent to one of them, and who we are.
    uint32_t lease_ms; // 0: 15,000
    const char *name;  // for people, NULL: "barid"; copied
    // What all processes that share the table must have in common, for people to read; NULL: nothing. Copied. `joined`
    // is called once we are one of them. ERR_CONFLICT, then or later (we were not heard of for the time of a lease, and
    // somebody else has come): another is at work with other settings, `why` says which; we get no events. May be NULL.
    const char *settings;
    void (*joined)(void *arg, enum err err, const char *why);
    void *joined_arg;
    // Runs in the unit that deletes the event, for what must change with it; the key of an event without one is "".
    // Not for events that the sink settled. May be NULL.
    enum err (*on_published)(struct db *db, const struct id *event_id, const char *topic, const char *key,
                             const void *payload, size_t n, int64_t at_ms);
};

enum err outbox_new(struct outbox **out, const struct outbox_options *o, struct error *e); // starts with a catch-up
// Publishes no more. Before bus_close (or the end of the sink) and database_close: what is on its way there is let go
// of when they are done with it. What was confirmed and not yet deleted is published again at the next start.
void outbox_free(struct outbox *o);

// In a unit: store the event. The same event_id twice is ERR_CONFLICT.
enum err outbox_store(struct db *db, const struct bus_event *event, int64_t now_ms);
// Many without headers, in their order, by one statement whose outcome is the unit's. PostgreSQL only.
enum err outbox_store_all(struct db *db, const struct bus_event *events, size_t n);
// On the loop, from the unit's done(): there is something to publish. Cheap.
void outbox_wake(struct outbox *o);
bool outbox_idle(const struct outbox *o); // nothing known to be unpublished

struct outbox_stats {
    uint64_t stored, published, failed; // since the producer started; failed counts attempts
    uint64_t parked, waiting;           // now; waiting: of those in memory
    int64_t oldest_at_ms;               // of those in memory, 0: none
    bool bus_away;
    // PostgreSQL, of the table as a whole; looked at every few seconds.
    bool measured;            // it was, once
    uint64_t lag;             // rows not published; beyond 10,000 an estimate
    int64_t oldest_age_ms;    // by the database's clock, 0: none waits
    uint64_t blocked;         // of `parked`: those whose key waits for them
    uint64_t parked_on_bus;   // of a consumer: could not be stored, so far
    uint32_t leases, members; // the buckets we have of 64, and who shares them
    enum database_notices notices;
};
void outbox_stats(const struct outbox *o, struct outbox_stats *out);

// The end, in order: takes nothing new, waits for what is with the sink and writes it down, gives its buckets back, and
// calls done. Once; outbox_free may come before done, which is then not called.
void outbox_drain(struct outbox *o, void (*done)(void *arg), void *arg);

// Parked events (units for `barid parked`): list, retry (attempts from zero), drop. Retrying and dropping tell who
// works on the table, as soon as the unit is committed (PostgreSQL).
struct outbox_parked {
    int64_t id;
    struct id event_id;
    const char *topic, *key, *error; // the key of an event without one is ""
    const char *consumer;            // NULL: it is the outbox's
    const char *place;               // where it came from, NULL: not known
    bool blocked;                    // its key waits for it
    uint32_t attempts;
    int64_t stored_at_ms, parked_at_ms;
    const void *payload; // only when one was asked for; valid during the call
    size_t payload_length;
};
struct outbox_parked_choice {
    bool inbox;           // inbox_queue, of one consumer or of all
    const char *consumer; // NULL: all
    int64_t id;           // 0: all
};
// Every one in the order of their numbers. ERR_NOT_FOUND: the database has no outbox.
enum err outbox_parked_each(struct db *db, const struct outbox_parked_choice *choice,
                            void (*each)(void *arg, const struct outbox_parked *p), void *arg);
enum err outbox_parked_retry(struct db *db, const struct outbox_parked_choice *choice);
enum err outbox_parked_drop(struct db *db, const struct outbox_parked_choice *choice);

// Inbox: true in *fresh the first time `consumer` sees the event, in the same transaction as its effect.
enum err inbox_accept(struct db *db, const char *consumer, const struct id *event_id, int64_t now_ms, bool *fresh);
// The same for many, each another one, by one statement: fresh[n]. PostgreSQL only.
enum err inbox_accept_all(struct db *db, const char *consumer, const struct id *const *event_ids, size_t n,
                          int64_t now_ms, bool *fresh);
enum err inbox_forget(struct db *db, int64_t before_ms, uint32_t limit, uint64_t *removed); // after 7 days

#endif
