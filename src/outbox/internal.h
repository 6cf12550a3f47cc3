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

enum row_outcome { ROW_PUBLISHED, ROW_RETRY, ROW_PARK };

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
    int64_t wait_ms; // until its next attempt, from the claim or from the failure on
    int64_t bucket;  // -1: the table has none
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
    bool loose;          // no ordering key: not in the map
    bool held;           // one of its rows waits for its next attempt
    bool stalled;        // one was refused: what the sink has of it must be answered first
    bool behind;         // rows were left in the database meanwhile
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
};

struct settle {
    struct db_unit unit; // first
    struct outbox *o;
    struct list rows;
    size_t n;
    int64_t at_ms;
};

struct outbox {
    struct outbox_options options;
    struct outbox_sink sink;
    struct bus_sink *bus_sink; // when it is ours
    struct map rows;           // by id
    struct map keys;           // by text
    struct list ready;
    struct list to_settle;
    struct row *buried; // settled while a claim was reading: it may have seen them
    struct claim claim;
    struct settle settle;
    bool claiming, settling, pumping, closing;
    bool more;      // there may be rows after the cursor
    bool woken;     // during a claim
    int64_t cursor; // the last id claimed
    int64_t rewind; // go back to here at the next claim, -1: no
    bool count_parked;
    uint32_t in_flight;
    uint64_t bytes;
    uint32_t settle_limit, settle_failures;
    bool away, away_waiting;
    uint32_t away_attempts;
    struct loop_timer safety_timer, away_timer, settle_timer, claim_timer;
    struct loop_post settle_post;
    struct outbox_stats stats;
};

// Asking whether the sink is back, or the database has room, is one call: no need to be long away ourselves.
extern const struct backoff away_backoff;

// claim.c, settle.c: on the database threads
enum err claim_run(struct db *db, struct db_unit *u);
enum err settle_run(struct db *db, struct db_unit *u);
void row_free(struct row *r);

// key.c
struct key *key_of(struct outbox *o, const char *text); // made when it is not there; NULL or "": one of its own
void key_add(struct key *k, struct row *r);
struct row *key_next(struct key *k);      // what may be published now, or NULL
void key_turn(struct key *k, bool first); // it gets its turn, when it has something
void key_hold(struct key *k, uint64_t delay_ms);
void key_skip(struct key *k, int64_t id); // the row `id` stays in the database for now
void key_leave(struct row *r);            // the row has its outcome; the last one takes the key with it

// send.c
void outbox_pump(struct outbox *o);
void send_away_ended(struct loop_timer *t);

// outbox.c
void outbox_claim(struct outbox *o);
void outbox_rewind(struct outbox *o, int64_t to);
void outbox_forget(struct outbox *o, struct row *r);      // settled: out of memory
void outbox_outcome(struct row *r, enum row_outcome how); // to be written down
bool outbox_ended(struct outbox *o);                      // closing, and nothing is under way: it is freed

#endif
