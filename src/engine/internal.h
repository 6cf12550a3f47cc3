// What the engine's files share: the engine itself, and what they do for each other. README.md has the invariants.
#ifndef BARID_ENGINE_INTERNAL_H
#define BARID_ENGINE_INTERNAL_H

#include "base/buf.h"
#include "base/io.h"
#include "base/list.h"
#include "base/map.h"
#include "engine/engine.h"
#include "engine/index.h"
#include "engine/memory.h"
#include "engine/queue.h"
#include "engine/records.h"
#include "engine/session.h"
#include "engine/slab.h"
#include "engine/timers.h"
#include "engine/topology.h"
#include "journal/journal.h"

#define NAME_BYTES    255
#define ARGUMENTS_MAX (64u << 10) // a table of arguments
#define MESSAGE_MAX   (8u << 20)  // properties and body; larger ones are claim-checked by the door
#define REASON_MAX    200         // a longer reason is cut
#define HOPS_MAX      64          // dead-letter round trips, since somebody rejected it, before it is parked or dropped
#define BINDINGS_MAX  1000000     // in all
#define DONE_MAX      (1u << 20)  // publishes whose callback is still to come
#define SETTLE_BATCH  4096        // settles gathered before they are flushed even in the middle of a pass
#define NEAR_HEAD     64          // ready messages a queue keeps in memory while others are dropped from it

// A live record that is not a message: who owns it, so that compaction can write it again.
enum pin_kind { PIN_VHOST = 1, PIN_QUEUE, PIN_EXCHANGE, PIN_BINDING, PIN_DEDUPE };
struct pin {
    struct journal_ref ref;
    enum pin_kind kind;
    void *owner;
    int64_t until_ms; // PIN_DEDUPE: wall clock
    uint32_t timer;
};

struct done {
    jpos pos;
    uint64_t seq; // 0: took nothing
    publish_done_fn *fn;
    void *arg;
    enum publish_result result;
};

struct settled {
    uint32_t segment, offset, queue_id;
};

struct state_change {
    uint32_t segment;
    uint32_t at, length; // its bytes in engine.state_bytes
};

struct ticket {
    uint8_t bytes[CLAIM_TICKET];
};

struct compaction {
    uint32_t segment;  // 0: none
    uint32_t offset;   // where its scan goes on
    uint32_t *offsets; // live records found and still to move
    uint32_t n, cap, at;
    bool refused; // there was no room; tried again at the next check
    uint64_t next_check_ms;
};

struct engine {
    struct io *io;
    struct journal *journal;
    uint64_t memory_budget;
    uint32_t max_queues, max_exchanges, max_vhosts;
    uint64_t max_ready;
    claim_fn *claim;
    void *claim_arg;
    bool replaying;
    uint32_t depth; // callbacks running: what they may hold is not freed yet

    struct slab stored, entries, pins, parkings, claims, sessions;
    struct list all_sessions;
    struct index by_place;  // stored by record
    struct index pin_place; // pins by record
    struct index by_parking;
    struct index by_queue_id; // slots
    struct queue **queues;
    uint32_t n_queues, cap_queues; // slots
    uint32_t *free_slots;
    uint32_t n_free_slots, cap_free_slots, used_queues;
    struct list owned;     // exclusive queues
    struct vhost **vhosts; // those that were deleted too
    uint32_t n_vhosts, cap_vhosts;
    struct map vhost_names;
    struct map bindings; // by what they are
    uint32_t n_exchanges, n_bindings;

    uint64_t next_seq, next_parking, route_mark;
    uint32_t next_queue_id, next_vhost_id;
    uint64_t memory, memory_transient; // bytes of blocks; of those without a record

    struct queue **route; // scratch: where the message at hand goes
    uint8_t *verdicts;
    uint32_t n_route, cap_route, cap_verdicts;
    struct exchange **visits; // scratch: the exchanges on its way
    uint32_t n_visits, cap_visits;
    uint32_t n_repeated; // exchanges on its way that had seen its value

    struct done *done; // ring
    uint32_t done_head, n_done, cap_done;
    uint64_t durable_seq; // messages up to this one may be seen

    struct settled *settled;
    uint32_t n_settled, cap_settled;
    struct buf state_bytes;
    struct state_change *states;
    uint32_t n_states, cap_states;
    struct settled *gone; // queue_id unused
    uint32_t n_gone, cap_gone;
    struct buf dedupe_bytes;
    uint32_t n_dedupe;
    int64_t dedupe_until_ms;
    struct journal_ref *unneeded; // released once what makes them so is appended
    uint32_t n_unneeded, cap_unneeded;
    struct ticket *unclaimed; // likewise: their owner is told
    uint32_t n_unclaimed, cap_unclaimed;
    bool no_room; // the last flush could not write all of it; until it can, nothing new is begun

    struct timers timers;
    struct list dirty, awaiting; // queues
    struct list rooms;           // queues: delays are over in them
    struct chain dead;           // entries to be published again: dead letters, and what was delayed
    uint64_t dead_pass;
    bool timers_behind; // more are due than were run
    struct compaction compaction;
    struct buf scratch;  // records read back for delivery
    struct buf tail;     // scratch: a record that is being put together
    uint32_t delivering; // stored whose bytes a callback is looking at
    uint8_t *kept_block; // ... when it was settled meanwhile
    struct queue **graves;
    uint32_t n_graves, cap_graves;
};

// ---- time
static inline uint64_t now_ms(struct engine *e) { return io_monotonic_ns(e->io) / 1000000; }

// ---- store.c: messages, their bytes, the memory budget
static inline struct stored *stored_at(const struct engine *e, uint32_t h) { return slab_at(&e->stored, h); }
static inline struct entry *entry_at(const struct engine *e, uint32_t h) { return slab_at(&e->entries, h); }
struct journal_ref stored_ref(const struct stored *s);
uint32_t stored_new(struct engine *e, uint64_t seq, const struct journal_ref *ref);
void stored_keep(struct engine *e, struct stored *s, uint8_t *block, uint32_t size);
void stored_drop_block(struct engine *e, uint32_t stored); // journaled ones only
bool memory_has_room(const struct engine *e, uint64_t size, bool near_head);
bool memory_has_room_transient(const struct engine *e, uint64_t size, bool dead_letter);
// The message's content, from memory or read back into `scratch`.
enum err stored_content(struct engine *e, const struct stored *s, struct buf *scratch, struct content *out,
                        struct error *err);
uint32_t entry_new(struct engine *e, uint32_t stored, struct queue *q);
// The entry leaves its queue for good. `record`: the journal must know. The last one releases the message.
void entry_finish(struct engine *e, uint32_t entry, bool record);
void stored_forget(struct engine *e, uint32_t stored); // no entry is left
bool stored_visible(const struct engine *e, const struct stored *s);

// ---- chains.c: entries in their queue's chains
void chain_init(struct chain *c);
void chain_push(struct engine *e, struct chain *c, uint32_t entry);
void chain_remove(struct engine *e, struct chain *c, uint32_t entry);
void chain_insert_ordered(struct engine *e, struct chain *c, uint32_t entry, uint32_t near);
void entry_link(struct engine *e, uint32_t entry, enum entry_state state); // ready: at its place in its level
void entry_to(struct engine *e, uint32_t entry, enum entry_state state);   // unlink and link
void entry_unlink(struct engine *e, uint32_t entry);                       // out of the chain of its state
int queue_highest(const struct queue *q);
int queue_lowest(const struct queue *q);

static inline struct queue *entry_queue(const struct engine *e, const struct entry *x) { return e->queues[x->queue]; }

// ---- pins.c: records of topology and of dedupe windows
uint32_t pin_new(struct engine *e, enum pin_kind kind, void *owner, const struct journal_ref *ref);
static inline struct pin *pin_at(const struct engine *e, uint32_t h) { return slab_at(&e->pins, h); }
void pin_move(struct engine *e, uint32_t pin, const struct journal_ref *ref);
void pin_drop(struct engine *e, uint32_t pin, bool record);
void pin_due(struct engine *e, uint32_t pin);
enum err write_vhost(struct engine *e, const struct vhost *v, uint32_t refers_to, struct journal_ref *ref);
enum err write_queue(struct engine *e, const struct queue *q, uint32_t refers_to, struct journal_ref *ref);
enum err write_exchange(struct engine *e, const struct exchange *x, uint32_t refers_to, struct journal_ref *ref);
enum err write_binding(struct engine *e, const struct binding *b, uint32_t refers_to, struct journal_ref *ref);

// ---- publish.c
// Why it is published: by a client (all zero), or again by the engine.
struct origin {
    bool again;   // it takes the place of what it was, and frees that
    uint8_t hops; // dead-letter round trips since somebody rejected it
    bool dying;   // by itself: queues where it did so before are left out
    uint32_t of;  // again: the entry that it takes the place of, else NONE
};
struct publishing {
    publish_done_fn *done;
    void *arg;
    const struct queue *leaving; // it is in that queue only until it is published
    uint64_t leaving_seq;
    enum publish_result result; // this and what follows is the answer
    uint32_t taken;             // queues that took it
    uint32_t circles;           // queues that were left out
};
enum err publish_to(struct engine *e, struct exchange *x, const struct message *m, const struct origin *o,
                    struct publishing *p, struct error *err);

// ---- place.c
// When a message may be seen and when it dies: wall clock, from its record.
struct times {
    int64_t published_at_ms, delay_until_ms, expires_ms;
};
void place_entry(struct engine *e, uint32_t entry, const struct times *t); // ready or waiting, and its timer
int64_t room_until(const struct content *c); // wall clock: when its delay in a room is over

// ---- done.c
void done_push(struct engine *e, const struct done *d);
bool done_run(struct engine *e);     // true: there are more
void done_written(struct engine *e); // all that waited for room is in the journal

// ---- flush.c: what the next flush writes
static inline bool no_room_now(enum err code) { return code == ERR_FULL || code == ERR_BUSY; }
void settle_note(struct engine *e, const struct stored *s, uint32_t queue_id);
void state_note(struct engine *e, uint32_t entry);
void gone_note(struct engine *e, const struct journal_ref *ref);
void release_late(struct engine *e, const struct journal_ref *ref);

// ---- settle.c
void give_back(struct engine *e, uint32_t entry);        // to its old place, marked redelivered
void give_back_failed(struct engine *e, uint32_t entry); // likewise, and an attempt where they are limited
void attempt_failed(struct entry *x);                    // counts it

// ---- claims.c
uint32_t claim_new(struct engine *e, const uint8_t ticket[CLAIM_TICKET]);
void claim_drop(struct engine *e, uint32_t claim);
void claims_flushed(struct engine *e); // what makes them go is written: their owner is told

// ---- deadletter.c
enum dead_reason { DEAD_REJECTED, DEAD_EXPIRED, DEAD_MAXLEN, DEAD_ATTEMPTS, DEAD_DELAYED };
void entry_dead(struct engine *e, uint32_t entry, enum dead_reason why); // dead-letter it, or drop it
bool dead_run(struct engine *e);                                         // true: there are more
// A message that queue `q` did not take, sent to its dead-letter exchange.
void dead_letter_refused(struct engine *e, struct queue *q, const struct message *m, uint8_t hops);

// ---- delayed.c: where messages of delayed exchanges wait
enum err room_new(struct vhost *v, const char *exchange, bool durable, struct queue **out, struct error *err);
void room_mark(struct engine *e, struct queue *q); // it is one
void room_join(struct queue *q, struct exchange *x);
bool room_attach(struct queue *q); // replaying: to its exchange; false: there is none
void room_wake(struct engine *e, struct queue *q);
void rooms_empty(struct engine *e);                  // what is due joins the dead letters
bool delayed_send(struct engine *e, uint32_t entry); // false: not now

// ---- parked.c
static inline struct parking *parking_at(const struct engine *e, uint32_t h) { return slab_at(&e->parkings, h); }
uint32_t parking_new(struct engine *e, uint32_t entry, uint64_t id, int64_t at_ms, const char *reason, size_t n);
void parking_free(struct engine *e, uint32_t parking);
void entry_park(struct engine *e, uint32_t entry, const char *reason);

// ---- dedupe.c
struct dedupe *dedupe_new(struct engine *e);
void dedupe_free(struct dedupe *d);
bool dedupe_has(struct engine *e, struct dedupe *d, const char *id, uint64_t now);
bool dedupe_full(const struct dedupe *d);
void dedupe_add(struct engine *e, struct queue *q, const char *id, size_t id_length, uint64_t seq, uint64_t until);
void dedupe_settled(struct engine *e, struct queue *q, uint64_t seq); // its record must outlive the message
void dedupe_due(struct engine *e, struct queue *q);
void dedupe_replayed(struct engine *e, struct queue *q); // after all were added: sort, drop what is over

// ---- timers (the kinds are in timers.h; this is what happens then)
void timers_stop(struct engine *e, uint32_t *place);
void timers_set(struct engine *e, enum timer_kind kind, uint32_t handle, uint64_t due_ms, uint64_t expires_ms);
bool timers_run(struct engine *e, uint32_t limit); // true: more are due
// Its time to live is over, though its timer may not have run.
static inline bool entry_is_over(struct engine *e, uint32_t entry) {
    const struct entry *x = entry_at(e, entry);
    return x->timer != 0 && e->timers.items[x->timer - 1].expires_ms <= now_ms(e);
}

// ---- replay.c, replay_topology.c, compaction.c
enum err replay_record(void *arg, const struct journal_record *r, struct error *err);
enum err replay_topology(struct engine *e, const struct journal_record *r, struct error *err);
enum err replay_damaged(const struct journal_record *r, struct error *err);
void replay_undeclared(struct engine *e); // go
void replay_bindings(struct engine *e);   // begin to lead
void entry_forget(struct engine *e, uint32_t entry);
struct queue *replay_queue(struct engine *e, uint32_t id);
void replay_finish(struct engine *e);
void compaction_check(struct engine *e); // is there a segment to move?
void compaction_step(struct engine *e);
bool compaction_pending(const struct engine *e);

#endif
