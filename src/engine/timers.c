// The heap of timers.h, and what happens when a time has come.
#include "engine/internal.h"

static bool before(const struct timer *a, const struct timer *b) { return a->due_ms < b->due_ms; }

static uint32_t *timer_place(struct engine *e, uint32_t kind, uint32_t handle) {
    switch ((enum timer_kind)kind) {
    case TIMER_ENTRY: return &entry_at(e, handle)->timer;
    case TIMER_QUEUE: return &e->queues[handle]->expiry_timer;
    case TIMER_DEDUPE: return &e->queues[handle]->dedupe_timer;
    case TIMER_PIN: return &pin_at(e, handle)->timer;
    }
    ASSERT(!"a timer kind");
    return NULL;
}

static void put(struct engine *e, uint32_t at, const struct timer *t) {
    e->timers.items[at] = *t;
    *timer_place(e, t->kind, t->handle) = at + 1;
}

static void settle_down(struct engine *e, uint32_t at) {
    struct timers *h = &e->timers;
    struct timer t = h->items[at];
    for (uint32_t parent; at > 0 && before(&t, &h->items[parent = (at - 1) / 2]); at = parent)
        put(e, at, &h->items[parent]);
    for (uint32_t child; (child = at * 2 + 1) < h->n; at = child) {
        if (child + 1 < h->n && before(&h->items[child + 1], &h->items[child])) child++;
        if (!before(&h->items[child], &t)) break;
        put(e, at, &h->items[child]);
    }
    put(e, at, &t);
}

void timers_set(struct engine *e, enum timer_kind kind, uint32_t handle, uint64_t due_ms, uint64_t expires_ms) {
    struct timers *h = &e->timers;
    uint32_t *place = timer_place(e, kind, handle);
    if (*place == 0) {
        ROOM_FOR_ONE(h->items, h->n, h->cap);
        *place = ++h->n;
    }
    uint32_t at = *place - 1;
    h->items[at] = (struct timer){.due_ms = due_ms, .expires_ms = expires_ms, .kind = kind, .handle = handle};
    settle_down(e, at);
}

void timers_stop(struct engine *e, uint32_t *place) {
    struct timers *h = &e->timers;
    if (*place == 0) return;
    uint32_t at = *place - 1;
    *place = 0;
    if (at == --h->n) return;
    put(e, at, &h->items[h->n]);
    settle_down(e, at);
}

#define CLOCKS_MS 1 // so far two times of one life may be apart, one of the wall clock and one of the monotonic one

// What dies of a queue goes in the queue's order, or its dead letters would overtake each other; timers that fall due
// together come in none. Whoever stands in front of `h` with no more time to live goes first; `h` is looked at again.
static uint32_t first_to_expire(struct engine *e, uint32_t h, uint64_t expires_ms) {
    struct entry *x = entry_at(e, h);
    if (x->state != ENTRY_READY) return h;
    uint32_t head = entry_queue(e, x)->levels[x->priority].head;
    struct entry *first = entry_at(e, head);
    bool expired = first->timer != 0 && e->timers.items[first->timer - 1].expires_ms <= expires_ms + CLOCKS_MS;
    return expired && stored_visible(e, stored_at(e, first->stored)) ? head : h;
}

// An entry's time has come: it dies, or its waiting ends. One that a consumer holds is left alone; its death
// is looked at again when it is given back.
static void entry_due(struct engine *e, const struct timer *t, uint64_t now) {
    struct entry *x = entry_at(e, t->handle);
    struct queue *q = entry_queue(e, x);
    if (x->state == ENTRY_UNACKED || x->state == ENTRY_DEAD) {
        timers_set(e, TIMER_ENTRY, t->handle, UINT64_MAX, t->expires_ms);
        return;
    }
    if (t->expires_ms <= now) {
        bool to_be_offered = x->state == ENTRY_READY && list_linked(&q->dirty); // it has a right to that once
        if (to_be_offered || !stored_visible(e, stored_at(e, x->stored)))
            timers_set(e, TIMER_ENTRY, t->handle, now + 1, t->expires_ms);
        else entry_dead(e, first_to_expire(e, t->handle, t->expires_ms), DEAD_EXPIRED);
        return;
    }
    if (t->expires_ms == UINT64_MAX) timers_stop(e, &x->timer);
    else timers_set(e, TIMER_ENTRY, t->handle, t->expires_ms, t->expires_ms);
    if (x->state != ENTRY_WAITING) return;
    entry_to(e, t->handle, ENTRY_READY);
    queue_limit(e, q);
    queue_wake(e, q);
}

bool timers_run(struct engine *e, uint32_t limit) {
    uint64_t now = now_ms(e);
    while (e->timers.n > 0 && e->timers.items[0].due_ms <= now) {
        if (limit-- == 0) return true;
        struct timer t = e->timers.items[0];
        switch ((enum timer_kind)t.kind) {
        case TIMER_ENTRY: entry_due(e, &t, now); break;
        case TIMER_QUEUE: queue_expiry_due(e, e->queues[t.handle]); break;
        case TIMER_DEDUPE: dedupe_due(e, e->queues[t.handle]); break;
        case TIMER_PIN: pin_due(e, t.handle); break;
        }
    }
    return false;
}
