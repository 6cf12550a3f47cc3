// Messages, their entries in queues, and the queues.
//
//   stored   one message: where its record is, and its bytes unless they were dropped from memory
//   entry    one message in one queue: its state, its attempts, its place in the queue's chains
//   queue    chains of entries: ready (one a priority level), waiting, unacked, parked
//
//   queue.levels[p] ── entry ── entry ── entry        every entry is in exactly one chain of its queue
//                        │        │
//                      stored ◄── entry (of another queue; entries of one message are linked by `sibling`)
#ifndef BARID_ENGINE_QUEUE_H
#define BARID_ENGINE_QUEUE_H

#include "base/backoff.h"
#include "base/list.h"
#include "engine/engine.h"

struct stored {
    uint64_t seq; // order of publishing: the order of every queue
    int64_t published_at_ms;
    uint8_t *block;           // encoded head and content (records.h), NULL when only in the journal
    uint32_t segment, offset; // segment 0: not in the journal
    uint32_t length : 31;     // of the record's payload
    uint32_t transient : 1;   // its record is only there to read it back: no queue has it after a restart
    uint32_t body_length;     // of a claimed one: as long as it is, at most UINT32_MAX
    uint32_t first;           // entries
    uint32_t claim;           // claims.c, NONE: it carries its body itself
};

enum entry_state { ENTRY_READY, ENTRY_WAITING, ENTRY_UNACKED, ENTRY_PARKED, ENTRY_DEAD };

struct entry {
    uint32_t next, prev; // in the chain of its state
    uint32_t stored;
    uint32_t sibling; // next entry of the same message
    uint32_t queue;   // slot
    uint32_t timer;   // timers.h
    uint32_t aux;     // unacked: its session; parked: handle of its struct parking; dead: enum dead_reason
    uint16_t attempts;
    uint8_t priority;
    uint8_t state : 4;
    uint8_t redelivered : 1;
    uint8_t recorded : 1; // named in a record, so its settling must be too
    uint8_t timed : 1;    // replaying: has a delay or an expiration
    uint8_t named : 1;    // replaying: has a message id
};

struct chain {
    uint32_t head, tail, count;
};

// Why a parked entry is parked.
struct parking {
    uint64_t id;
    int64_t parked_at_ms;
    uint32_t entry;
    char *reason;
};

struct dedupe;
struct peers;
struct present;

struct queue {
    struct vhost *vhost;
    char *name;
    uint32_t slot;                // in engine.queues, reused
    uint32_t id;                  // in records, never reused while a record names it
    bool declared;                // false only while replaying
    bool deleted;                 // off the maps, freed when no callback is running
    bool awaiting;                // its head is not durable yet
    struct queue_options options; // its strings are ours
    struct backoff backoff;
    struct chain *levels;
    uint64_t nonempty[4]; // bit p: levels[p] has entries
    struct chain waiting, unacked, parked;
    uint64_t ready, bytes, unacked_bytes; // of bodies: ready, unacked
    uint64_t body_memory;                 // of messages that are in memory, counted in every queue that has them
    uint64_t published, delivered, acked, redelivered, got, dead_lettered, expired;
    uint32_t finger;             // replaying: where the last moved message was put in
    struct consumer **consumers; // highest priority first
    uint32_t n_consumers, cap_consumers;
    struct peers **peers; // highest priority first
    uint32_t n_peers, cap_peers;
    struct consumer *active; // who has everything, with single_active_consumer
    bool exclusive;
    struct dedupe *dedupe;
    struct present *present;
    bool is_room;             // where messages of a delayed exchange wait (delayed.c)
    struct exchange *room_of; // NULL while replaying
    uint64_t stuck_pass;      // the last pass in which a dead letter of its had nowhere to go
    struct list bindings;
    uint32_t pin;
    uint32_t expiry_timer, dedupe_timer;
    uint64_t route_mark;    // the last publish that came by: a queue takes a message once
    struct list_node dirty; // in engine.dirty, engine.awaiting or engine.rooms
    struct list_node owned; // in engine.owned
};

// ---- queue.c
// Is it, and what is in it, in the journal?
static inline bool queue_recorded(const struct queue *q) { return q->options.durable && !q->options.owner; }
// Failed attempts are counted, and told: where they have a limit, and where RabbitMQ does.
static inline bool queue_counts(const struct queue *q) {
    return q->options.delivery_limit || q->options.type == QUEUE_QUORUM;
}
uint64_t queue_time(uint64_t ms); // no longer than a hundred years
struct queue *queue_find(const struct vhost *v, const char *name);
struct queue *queue_new(struct engine *e, uint32_t id);
void queue_name_put(struct queue *q);
void queue_set_options(struct engine *e, struct queue *q, const struct queue_options *o);
void queue_wake(struct engine *e, struct queue *q); // it may have something to dispatch
void queue_remove(struct engine *e, struct queue *q, bool record);
void queue_free(struct queue *q);
void queue_used(struct engine *e, struct queue *q); // starts its expiry again
void queue_expiry_due(struct engine *e, struct queue *q);
void queue_limit(struct engine *e, struct queue *q); // max-length: drops from the head
void queues_bury(struct engine *e);                  // frees what callbacks may have held

#endif
