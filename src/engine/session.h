// Sessions and their consumers, and what they hold.
//
//   session.held   by tag, ascending:  first ─► [5] [settled] [7] [8] … n      a tag's place is found at once while
//                                                                              none before it was squeezed out
//
// A held entry knows its session (entry.aux); a session lets go of what it holds of a queue that is removed.
#ifndef BARID_ENGINE_SESSION_H
#define BARID_ENGINE_SESSION_H

#include "base/list.h"
#include "engine/engine.h"

struct queue;

#define LOST (UINT32_MAX - 1) // instead of an entry: it went with its queue, its tag may still be settled

struct held {
    uint64_t tag;
    uint64_t at_ms;
    struct consumer *consumer; // NULL: engine_get
    uint32_t entry;            // NONE: settled
    bool reserved;             // spoken for: settled only after engine_unreserve
};

struct session {
    struct engine *engine;
    struct session_options options;
    uint32_t handle;   // in engine.sessions
    uint32_t prefetch; // of all consumers together
    uint32_t offered;  // held by consumers
    uint32_t unacked;
    bool paused;
    struct held *held;
    uint32_t first, n, cap;
    uint64_t next_tag;
    struct list consumers;
    struct list_node node; // in engine.all_sessions
};

// The consumers of a queue that have one priority. Those that may have room stand in line; one that is found to have
// none steps out, and in again when it gets some. So whose turn it is does not take longer the more of them there are.
struct peers {
    int32_t priority;
    uint32_t n;
    struct list line;
};

struct consumer {
    struct session *session;
    struct queue *queue;
    struct peers *peers;
    struct list_node turn; // in peers.line
    struct consumer_options options;
    void *arg;
    uint32_t unacked;
    bool ended; // freed with the last that it holds
    struct list_node node;
};

void sessions_free(struct engine *e); // all of them, with their consumers: the engine is closing
void session_hold(struct session *s, struct consumer *c, uint32_t entry, uint64_t tag);
uint32_t held_find(const struct session *s, uint64_t tag); // place in s->held
// The delivery is settled: its entry, or NONE when that is lost. Places stay as they are until held_squeeze.
uint32_t held_take(struct session *s, uint32_t at);
void held_squeeze(struct session *s);
void session_lose(struct session *s, const struct queue *q); // q is being removed
void session_wake(struct session *s);                        // its consumers have room again
bool session_has_room(const struct session *s);

// ---- consumer.c
bool consumer_has_room(const struct consumer *c);
void consumer_line_up(struct consumer *c);       // it may have room again
struct consumer *consumer_next(struct queue *q); // whose turn it is, NULL: nobody has room
void consumers_end(struct engine *e, struct queue *q);

// ---- dispatch.c
// False: its bytes could not be read back, and it was parked.
bool session_deliver(struct session *s, struct consumer *c, struct queue *q, uint32_t entry, bool no_ack, void *arg);

#endif
