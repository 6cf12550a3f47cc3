// Where claimed events go: the bus (the outbox's own case), or a handler (the inbox's).
//
//   outbox.c: claim ─> row in memory, by key ─> sink.take ─> done ─> settle (delete, or attempts, or parked)
//
// The sink is asked on the loop thread and answers on the loop thread. It is given one event of a key at a time, or up
// to `key_window` of them in order: when it refuses inside the call only, or gives back (TAKEN_BACK) what it has of the
// key behind one that it refuses. Nothing more of a key comes until the sink has answered all it has of it then.
#ifndef BARID_OUTBOX_SINK_H
#define BARID_OUTBOX_SINK_H

#include "bus/bus.h"

struct outbox_item {
    int64_t id;
    int64_t bucket;                        // -1: the table has no buckets
    struct bus_event event;                // its key is NULL when it has none
    uint32_t attempt;                      // 1 for the first
    int64_t stored_at_ms, published_at_ms; // the latter by the broker's clock, 0: not known
    const char *place;                     // where it came from, NULL: not known
};

enum outbox_taken {
    TAKEN,         // it has it: the row is to be deleted
    TAKEN_SETTLED, // it has it, and deleted the row itself, in the transaction of the effect
    TAKEN_AWAY,    // it takes nothing now: no attempt is spent, everything waits
    TAKEN_REFUSED, // it does not want this one: an attempt is spent
    TAKEN_NEVER,   // nor will it ever: parked at once
    TAKEN_BACK,    // it was behind one of its key that was refused: again, after that one, and no attempt is spent
};
// Exactly once for every take; from inside it, too. `why` is valid during the call, "" when it was taken.
typedef void outbox_taken_fn(void *arg, enum outbox_taken how, const char *why);

struct outbox_sink {
    // The item: during the call; what it points to: until done was called.
    void (*take)(void *sink, const struct outbox_item *item, outbox_taken_fn *done, void *arg);
    void *sink;
    const char *name;    // for the log: "bus_away", "handler_away"; NULL: "bus"
    uint32_t key_window; // 0: 1
    uint32_t at_once;    // events with the sink at once, 0: as many as are in memory
    // Asked after TAKEN_REFUSED: not again before so many milliseconds (Retry-After). NULL: no wish.
    uint32_t (*retry_floor_ms)(void *sink);
    // Is it there, as far as it knows? It may know long before the first answer says so. NULL: as its answers say.
    bool (*there)(void *sink);
};

// The sink that publishes to a bus: what the bus cannot take at all now is TAKEN_AWAY, whatever else TAKEN_REFUSED.
// Freed once everything was answered.
struct bus_sink;
struct bus_sink *bus_sink_new(struct bus *bus, struct outbox_sink *out);
void bus_sink_free(struct bus_sink *s);

#endif
