// What the simulator knows must be true: every message, in every queue, and where a crash may leave it.
//
// Of each (message, queue) the model knows where it is now, and the set of places where it may be found if the
// power went now. A change adds its place to the set; once the change is known to be synced the set is that one
// place. After a crash a census of the real engine is held against the sets.
#ifndef BARID_SIM_MODEL_H
#define BARID_SIM_MODEL_H

#include "engine/engine.h"

#include <stdbool.h>
#include <stdint.h>

#define MESSAGES_MAX 4096

enum {
    Q_PLAIN,
    Q_LEVELS,  // priorities
    Q_RETRY,   // attempts and waits
    Q_ONCE,    // each message id once
    Q_SOURCE,  // what is rejected goes to Q_DEAD
    Q_DEAD,    // of Q_SOURCE
    Q_LOSSY,   // short, and short-lived: what it drops goes to Q_GRAVE
    Q_MEMORY,  // not durable
    Q_PRESENT, // no two with one x-deduplication-header
    Q_SPARE,   // of the alternate exchange
    Q_LATE,    // of the delayed exchange
    Q_GRAVE,   // of Q_LOSSY
    Q_SPIN,    // its own dead letters: what expires there is dropped
    Q_OTHER,   // in another vhost, and its name is that of Q_PLAIN
    QUEUES
};
enum place { NOWHERE = 0, HERE = 1, PARKED = 2, GONE = 4, HELD = 8 }; // HELD is HERE to a crash

struct entry_model {
    uint8_t now;   // enum place
    uint8_t may;   // bits of HERE, PARKED, GONE
    bool unsure;   // now is HERE, but it may as well be GONE: a delayed message after a crash
    bool seen;     // delivered before, in this life or an earlier one
    bool twice;    // dead-lettered more than once: nothing more can be said
    bool settling; // a change is not known to be synced
    bool let_go;   // Q_LOSSY: a consumer was the end of it
    bool owed;     // Q_GRAVE: a letter may come
    uint64_t pos;  // where that change is in the journal, 0: not flushed yet
    uint16_t attempts;
    uint16_t fewest, most; // attempts that may be found after a crash
};

struct message_model {
    uint32_t key; // its message id: the number of the message that had it first
    uint32_t size;
    uint8_t priority;
    uint8_t value; // of its x-deduplication-header, 0: it has none
    bool persistent, claimed, accepted, doubtful;
    enum publish_result result;
    int64_t due_ms; // 0: not delayed
    bool late;      // it waits in the room of the delayed exchange
    bool lettered;  // in Q_DEAD it is a letter of Q_SOURCE
    uint64_t pos;   // of its record, 0: durable long ago, or none
    struct entry_model in[QUEUES];
};

// How long an id is surely, and how long it may be, remembered by Q_ONCE.
struct id_model {
    int64_t surely_until_ms, maybe_until_ms;
};

struct change {
    uint32_t message;
    uint8_t queue;
};

struct model {
    struct message_model messages[MESSAGES_MAX];
    struct id_model ids[MESSAGES_MAX];
    uint32_t n;
    struct change changes[MESSAGES_MAX * QUEUES];
    uint32_t n_changes;
    uint32_t next_answer;            // publishes are answered in order
    int32_t last_first[QUEUES][256]; // newest first delivery of a queue and priority in this life
};

static inline bool queue_is_lossy(int queue) { return queue == Q_LOSSY || queue == Q_SPIN; }

void model_init(struct model *m);
void model_change(struct model *m, uint32_t message, int queue, enum place now);
void model_attempts(struct entry_model *x, uint16_t attempts); // before model_change
void model_flushed(struct model *m, uint64_t appended);
void model_durable(struct model *m, uint64_t durable);
// The process is gone: what was durable then decides what may be found.
void model_crashed(struct model *m, uint64_t durable);

#endif
