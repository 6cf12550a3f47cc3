// The loop thread: one libuv loop that owns the engine, every socket and every timer (design.md 3).
//
// Everything that happens on other threads (commit thread, database threads, the pool) comes back through
// loop_post. Timers and work items are one-shot and cancellable.
#ifndef BARID_BASE_LOOP_H
#define BARID_BASE_LOOP_H

#include "base/error.h"
#include "base/heap.h"

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct uv_loop_s;

enum err loop_new(struct loop **out, struct error *e);
void loop_free(struct loop *l); // after loop_run returned; runs what is still posted
void loop_run(struct loop *l);  // until loop_stop
void loop_stop(struct loop *l); // from the loop thread
struct uv_loop_s *loop_uv(struct loop *l);
bool loop_on_thread(const struct loop *l); // is the caller the loop thread?
uint64_t loop_now_ms(struct loop *l);      // cached monotonic milliseconds of this iteration

// Run fn(arg) on the loop thread soon, in the order posted. From any thread. Embedded node, owned by the
// caller until it runs; posting a node that is still posted is a programmer's error.
struct loop_post {
    struct loop_post *next;
    void (*fn)(struct loop_post *p);
    bool posted;
};
void loop_post(struct loop *l, struct loop_post *p);

// One-shot timer. Embedded in its owner; zero-initialise, set fn, start; start again moves it.
struct loop_timer {
    void (*fn)(struct loop_timer *t);
    uint64_t due_ms;
    uint64_t order;        // private: timers due in the same millisecond run in the order they were started
    struct heap_node heap; // private
};
static inline bool loop_timer_active(const struct loop_timer *t) { return heap_has(&t->heap); }
void loop_timer_start(struct loop *l, struct loop_timer *t, uint64_t delay_ms);
void loop_timer_stop(struct loop *l, struct loop_timer *t);

// Blocking work on the pool: work() on a pool thread, then done() on the loop thread. Always both.
struct loop_work {
    void (*work)(struct loop_work *w);
    void (*done)(struct loop_work *w);
    struct loop *loop; // private
    void *private_[16];
};
void loop_work(struct loop *l, struct loop_work *w);

// A hook run once per loop iteration, just before the loop would block: where batches are flushed.
struct loop_idle {
    void (*fn)(struct loop_idle *i);
    struct loop_idle *next;
};
void loop_before_block(struct loop *l, struct loop_idle *i);
void loop_before_block_end(struct loop *l, struct loop_idle *i); // takes it away; not from within a hook

// Has the peer of this socket sent something that nobody has read yet?
bool loop_input_waits(int fd);

#endif
