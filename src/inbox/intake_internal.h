// What the files of the intake share: intake.c collects and settles, intake_store.c is the transaction, intake_places.c
// answers from which offset on.
#ifndef BARID_INBOX_INTAKE_INTERNAL_H
#define BARID_INBOX_INTAKE_INTERNAL_H

#include "base/list.h"
#include "base/loop.h"
#include "base/map.h"
#include "bus/bus.h"
#include "database/database.h"
#include "inbox/intake.h"

#define INTAKE_LANE    1          // stores and reads of offsets, in order
#define BATCH_MAX      512        // events a transaction
#define BATCH_BYTES    (8u << 20) // their payloads and headers
#define PARTITIONS_MAX 4096       // with one member

// An event on its way into the inbox: a copy, in one piece of memory.
struct taken {
    struct list_node node;
    uint64_t tag;
    struct id event_id;
    char event_id_text[ID_TEXT];
    int64_t published_at_ms;
    int32_t partition; // -1: none
    int64_t offset;
    bool again;      // it is in the batch already
    bool reset;      // the offset went below the one stored: the topic began again
    bool revoked;    // its partition is somebody else's by now; the loop's
    bool mark;       // no event: all of its partition that came before it is stored, or parked on the bus
    int64_t hold;    // with the batch: the stored offset must not go beyond this
    uint64_t parked; // of a mark: so many were parked on the bus since the last one
    size_t bytes, payload_length;
    const char *topic, *key, *headers, *place_topic, *place; // in `data`; all but topic may be NULL
    const char *payload;
    char data[];
};

void intake_collect(struct intake *i, struct taken *t);               // into the line of what is to be stored
void intake_give_up(struct intake *i, const struct bus_place *place); // what came from there and is not stored

// NULL with a sentence when it can never be stored.
struct taken *taken_of(const struct bus_delivery *d, struct error *e);
struct taken *taken_mark(const struct bus_place *place, uint64_t parked);

struct store {
    struct db_unit unit; // first
    struct intake *i;
    struct taken *events[BATCH_MAX];
    size_t n, events_n; // the latter without marks
    uint64_t fresh;     // out
};
enum err intake_store_run(struct db *db, struct db_unit *u);

// An event that the bus has been told to park and that is not there yet.
struct parking {
    struct list_node node;
    int64_t offset;
};

// A partition that is ours, and where we said it should begin.
struct partition {
    int64_t from; // -1: the bus's own
    int64_t last; // the offset that came last, -1: none did
    bool begun;
    bool marked;         // a mark of it is on its way
    uint64_t parked;     // by the bus, and not written down
    struct list parking; // struct parking, in the order of their offsets
    size_t key_length;
    char key[]; // the number's bytes, then the topic
};

// Somebody waits to hear from which offsets on.
struct asked {
    struct db_unit unit; // first
    struct list_node node;
    struct intake *i;
    struct loop_timer again;
    uint32_t failures;
    size_t n;
    char **topics;
    struct bus_place *places; // offsets: the answer
};

struct intake {
    struct intake_options options;
    struct bus_subscription *subscription;
    struct list waiting;
    uint64_t waiting_n, waiting_bytes;
    uint32_t limit; // events the next batch may have
    struct store store;
    bool storing, draining, away;
    uint32_t failures;
    struct loop_timer again;
    struct loop_idle idle;
    struct loop_post ended_post;
    void (*ended)(void *arg);
    void *ended_arg;
    struct map partitions;
    uint64_t parking_n; // of all partitions
    struct list asked;
    struct intake_stats stats;
};

// intake_places.c
void intake_assigned(void *arg, struct bus_subscription *s, const struct bus_place *places, size_t n);
void intake_revoked(void *arg, struct bus_subscription *s, const struct bus_place *places, size_t n);
bool intake_came(struct intake *i, const struct bus_place *place); // true: below what was stored
void intake_parking(struct intake *i, const struct bus_place *place);
void intake_parked(void *arg, struct bus_subscription *s, const struct bus_place *place);
void intake_mark_stored(struct intake *i, const struct taken *t);
int64_t intake_hold_of(struct intake *i, const struct taken *t); // INT64_MAX: nothing holds it
void intake_places_free(struct intake *i);

#endif
