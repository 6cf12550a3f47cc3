// What the files of the producer share. See outbox.c for how the parts play together.
#ifndef BARID_OUTBOX_INTERNAL_H
#define BARID_OUTBOX_INTERNAL_H

#include "base/list.h"
#include "base/loop.h"
#include "base/map.h"
#include "outbox/outbox.h"

#define ROWS_MAX        4096        // claimed and not settled, when the options say nothing
#define ROWS_MAX_MOST   65536       // … and what they may say at most
#define ROWS_BYTES_MAX  (32u << 20) // their payloads
#define CLAIM_BYTES_MAX (4u << 20)  // of one claim
#define SETTLE_MAX      1024        // rows one unit settles

enum row_state {
    ROW_READY,     // to be published when its turn comes
    ROW_IN_FLIGHT, // with the sink
    ROW_FAILED,    // its failed attempt is being written down; then ready again
    ROW_SETTLED,   // published or parked, and that is being written down
};

// A wait from here on is not spent in memory: the row goes back into the table, which holds its key meanwhile.
#define TABLE_WAIT_MS 3000

enum row_outcome { ROW_PUBLISHED, ROW_RETRY, ROW_WAIT, ROW_PARK, ROW_BLOCK };

#define BUCKETS     64
#define ALL_BUCKETS UINT64_MAX // as a set: one bit a bucket

// An event, in memory from the claim until what became of it is in the database.
struct row {
    struct list_node in_key;    // its key's rows, in id order, while it is not settled
    struct list_node in_settle; // rows with an outcome to be written down
    struct row *next_claimed;
    struct outbox *o;
    struct key *key;
    enum row_state state;
    enum row_outcome outcome;
    int64_t id, stored_at_ms, published_at_ms;
    int64_t claimed_at_ms; // by the clock of PostgreSQL, which need not be ours; 0: not known
    int64_t wait_ms;       // until its next attempt, from the claim or from the failure on
    uint64_t failed_ms;    // when it failed, by the loop's clock
    uint64_t due_ms;       // by the same: the table has it wait no longer than until then; 0: not at all
    int64_t bucket;        // -1: the table has none
    struct id event_id;
    uint32_t attempts;
    char *error;                          // of the last attempt, or NULL
    const char *topic, *key_text, *place; // in `data`; key_text NULL: it has no key
    struct bus_header *headers;
    size_t header_count;
    const uint8_t *payload;
    size_t payload_length;
    char data[];
};

// The events of one ordering key; of a row that has none, that row alone.
struct key {
    struct list rows;
    struct list_node in_ready; // keys with something to publish, in turn
    struct outbox *o;
    unsigned in_flight;
    bool loose;   // no ordering key: not in the map
    bool held;    // one of its rows waits for its next attempt
    bool stalled; // one was refused: what the sink has of it must be answered first
    bool blocked; // … or is parked and blocks it, or waits in the table: until that is written down, for claims to see
    bool behind;  // rows were left in the database meanwhile
    int64_t behind_from; // the first of them is after this id
    struct loop_timer timer;
    size_t length;
    char text[];
};

struct claim {
    struct db_unit unit; // first
    struct outbox *o;
    int64_t after;
    int64_t now_ms; // of the producer's clock: SQLite has none of its own
    bool count_parked;
    uint32_t limit;
    struct row *rows, **rows_end;
    bool more;
    int64_t last_id;
    uint64_t parked;
    // PostgreSQL only
    uint64_t buckets;                // those we have
    uint64_t started_ns, started_ms; // the latter by the loop's clock
    int64_t *known;                  // ids in memory
    size_t known_n;
    char *held_text;   // keys whose rows stay in the database for now, one after the other
    const char **held; // … each of them
    size_t held_n;
    int64_t xmin;       // of the snapshot that the rows were read by
    int64_t xmax;       // more than any transaction's number that was given before that
    int64_t ids_given;  // to events, as far as they were stored
    int64_t blocked;    // a hash of the rows whose keys wait for them
    int64_t horizon_ms; // rows that have to wait beyond this, and their keys, stay in the table (by its clock)
    int64_t due_ms;     // until the first of them comes within it, -1: there is none
    bool came_due;      // some have come within it
    uint32_t sleeps;    // wake.c
    uint32_t rows_n;
    bool ask_writers;      // are these `writers` still there? NULL: who are they?
    bool writers_gone;     // before this claim began
    char *writers, *found; // virtual transactions, with commas between; found NULL: none
};

struct settle {
    struct db_unit unit; // first
    struct outbox *o;
    struct list rows;
    size_t n;
    int64_t at_ms;
};

// How far everything before is known to be in memory or done with; look.c.
struct look {
    int64_t low;         // no row at or below it is waited for
    int64_t mark;        // the next low-water mark, once the transactions of then have ended; -1: none
    int64_t mark_xmax;   // they are older than this; 0: not known yet
    uint64_t mark_ms;    // when it was set
    char *writers;       // who wrote to the table when it was found to be stuck, NULL: not asked
    uint64_t writers_ms; // when that was asked last
    bool writers_gone;   // they have ended
    int64_t blocked;     // a hash of the rows that block their keys, as of the last claim
    int64_t horizon_ms;  // … and its horizon
    uint64_t reaches_ms; // … by the loop's clock, at least
    struct loop_timer due_timer;
    bool stuck; // the last mark was, by a transaction that does not write here
    bool slow;  // the last claim was
};

// What the table as a whole is like; measure.c.
struct measured {
    uint64_t lag, parked, blocked, on_bus;
    int64_t oldest_age_ms;
    bool yes;
};
struct measure {
    struct db_unit unit; // first
    struct outbox *o;
    bool running;
    struct loop_timer timer;
    uint64_t lag, parked, blocked, on_bus; // on the database thread
    int64_t oldest_age_ms;
    struct measured known;
};

// Buckets lent to us; lease.c. NULL on SQLite, where nobody else is.
struct leases;

// Whether notices are needed; wake.c. NULL where they always come: on SQLite, and for the queue of a consumer.
struct wake;
enum wake_state { WAKE_SETTLING, WAKE_ASLEEP, WAKE_AWAKE };

struct outbox {
    struct outbox_options options;
    char name[64], queue[300], *settings;
    struct leases *leases;
    struct wake *wake;
    struct look look;
    struct measure *measure;
    struct loop_timer notice_timer; // looks whether notices come through
    enum database_notices notices;
    uint32_t bucket_rows[BUCKETS]; // of those in memory
    void (*drained)(void *arg);
    void *drained_arg;
    bool draining;
    struct outbox_sink sink;
    struct bus_sink *bus_sink; // when it is ours
    struct map rows;           // by id
    struct map keys;           // by text
    struct list ready;
    struct list to_settle;
    size_t to_settle_n;
    bool failed_to_settle; // … and one of them was not taken: its attempt is to be written down at once
    struct row *buried;    // settled while a claim was reading: it may have seen them
    struct map doubted; // keys that gave rows back while a claim was reading: what it brings of them may come too early
    uint64_t doubted_buckets; // … and buckets that were lost
    struct claim claim;
    struct settle settle;
    bool claiming, settling, pumping, closing;
    bool more;      // there may be rows after the cursor
    bool woken;     // during a claim
    bool rewound;   // during a claim
    int64_t cursor; // the last id claimed
    int64_t rewind; // go back to here at the next claim, -1: no
    bool count_parked;
    uint32_t in_flight;
    uint64_t bytes;
    uint32_t settle_limit, settle_failures;
    bool away, away_waiting;
    char away_why[ERROR_TEXT_MAX];
    uint32_t away_attempts;
    struct loop_timer safety_timer, away_timer, settle_timer, gather_timer, claim_timer;
    struct loop_post settle_post;
    struct outbox_stats stats;
};

// Asking whether the sink is back, or the database has room, is one call: no need to be long away ourselves.
extern const struct backoff away_backoff;

// claim.c, settle.c and their twins for PostgreSQL: on the database threads
enum err claim_run(struct db *db, struct db_unit *u);
enum err claim_run_postgres(struct db *db, struct db_unit *u);
void claim_clear(struct claim *c); // lets go of rows and of what was asked with
enum err settle_run(struct db *db, struct db_unit *u);
enum err settle_run_postgres(struct db *db, struct db_unit *u);
void row_free(struct row *r);
// A row with its topic and payload; key and place may be NULL.
struct row *row_new(const char *topic, size_t topic_n, const char *key, size_t key_n, const char *place, size_t place_n,
                    const void *payload, size_t payload_n);

// look.c
void look_init(struct outbox *o);
void look_release(struct outbox *o);
void look_rewind(struct outbox *o, int64_t to);
bool look_prepare(struct outbox *o, struct claim *c); // what a claim is to ask for; false: no memory
void look_done(struct outbox *o, struct claim *c);
// Has a key been released since the last claim? Then this one may have begun after what waited behind it: it is no use.
bool look_released(struct outbox *o, const struct claim *c);
void look_due_in(struct outbox *o, int64_t ms);        // a row will be due that waits in the table
void look_gone(struct outbox *o, const struct row *r); // it has left the table, if it is to

// lease.c
void leases_new(struct outbox *o);
void leases_free(struct outbox *o); // at outbox_free; what is under way ends by itself
bool leases_busy(const struct outbox *o);
bool lease_has(const struct outbox *o, int64_t bucket); // may rows of the bucket be sent now?
uint64_t lease_buckets(const struct outbox *o);
void lease_row_gone(struct outbox *o, int64_t bucket); // a row of it has left the memory
void lease_leave(struct outbox *o);                    // gives everything back, then outbox_left
void lease_hurry(struct outbox *o, bool hurry);        // notices do not come: look often
void lease_tell(struct outbox *o);                     // away, or back: others are to see it
void lease_stats(const struct outbox *o, struct outbox_stats *out);
const struct id *lease_me(const struct outbox *o); // as a member of the queue

// wake.c
void wake_new(struct outbox *o);
void wake_free(struct outbox *o);
bool wake_busy(const struct outbox *o);
void wake_prepare(struct outbox *o, struct claim *c);
void wake_claimed(struct outbox *o, const struct claim *c);
void wake_seen(struct outbox *o, int flag); // in our row of the members; -1: none yet
enum wake_state wake_state(const struct outbox *o);

// measure.c
void measure_new(struct outbox *o);
void measure_free(struct outbox *o);
bool measure_busy(const struct outbox *o);
void measure_stats(const struct outbox *o, struct outbox_stats *out);

// key.c
struct key *key_of(struct outbox *o, const char *text); // made when it is not there; NULL or "": one of its own
void key_add(struct key *k, struct row *r);
struct row *key_next(struct key *k);      // what may be published now, or NULL
void key_turn(struct key *k, bool first); // it gets its turn, when it has something
void key_hold(struct key *k, uint64_t delay_ms);
void key_skip(struct key *k, int64_t id); // the row `id` stays in the database for now
void key_leave(struct row *r);            // the row has its outcome; the last one takes the key with it
void key_block(struct key *k); // one of its rows is parked: nothing follows in memory until that is written down
bool key_doubted(const struct outbox *o, const struct row *r); // the row is to be claimed again, after those before it
void key_doubts_end(struct outbox *o);                         // the claim is over

// send.c
void outbox_pump(struct outbox *o);
void send_away_ended(struct loop_timer *t);

// outbox.c
void outbox_claim(struct outbox *o);
void outbox_look_at_all(struct outbox *o);
void outbox_drop(struct outbox *o, uint64_t buckets); // what is in memory of these and not with the sink
void outbox_check_drained(struct outbox *o);
void outbox_left(struct outbox *o); // everything was given back
void outbox_rewind(struct outbox *o, int64_t to);
void outbox_forget(struct outbox *o, struct row *r);      // settled: out of memory
void outbox_outcome(struct row *r, enum row_outcome how); // to be written down
bool outbox_ended(struct outbox *o);                      // closing, and nothing is under way: it is freed

#endif
