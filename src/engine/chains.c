// The chains of a queue. A chain of ready entries is in the order of publishing (stored.seq), always: what comes
// back goes to its old place.
#include "engine/internal.h"

void chain_init(struct chain *c) { *c = (struct chain){.head = NONE, .tail = NONE}; }

static uint64_t seq_of(const struct engine *e, uint32_t h) { return stored_at(e, entry_at(e, h)->stored)->seq; }

static void insert_between(struct engine *e, struct chain *c, uint32_t h, uint32_t prev, uint32_t next) {
    struct entry *x = entry_at(e, h);
    x->prev = prev;
    x->next = next;
    if (prev == NONE) c->head = h;
    else entry_at(e, prev)->next = h;
    if (next == NONE) c->tail = h;
    else entry_at(e, next)->prev = h;
    c->count++;
}

void chain_push(struct engine *e, struct chain *c, uint32_t h) { insert_between(e, c, h, c->tail, NONE); }

void chain_remove(struct engine *e, struct chain *c, uint32_t h) {
    struct entry *x = entry_at(e, h);
    ASSERT(c->count > 0);
    if (x->prev == NONE) c->head = x->next;
    else entry_at(e, x->prev)->next = x->next;
    if (x->next == NONE) c->tail = x->prev;
    else entry_at(e, x->next)->prev = x->prev;
    x->prev = x->next = NONE;
    c->count--;
}

// From `near` forwards, when that is before the place.
static bool insert_after(struct engine *e, struct chain *c, uint32_t h, uint32_t near, uint64_t seq) {
    if (near == NONE || seq_of(e, near) > seq) return false;
    uint32_t next = entry_at(e, near)->next;
    while (next != NONE && seq_of(e, next) < seq) {
        near = next;
        next = entry_at(e, near)->next;
    }
    insert_between(e, c, h, near, next);
    return true;
}

// From both ends at once: what comes back is old and belongs near the head, what was delayed near the tail.
void chain_insert_ordered(struct engine *e, struct chain *c, uint32_t h, uint32_t near) {
    uint64_t seq = seq_of(e, h);
    if (c->tail == NONE || seq_of(e, c->tail) < seq) {
        chain_push(e, c, h);
        return;
    }
    if (insert_after(e, c, h, near, seq)) return;
    uint32_t front = c->head, back = c->tail;
    for (;;) {
        if (seq_of(e, front) > seq) {
            insert_between(e, c, h, entry_at(e, front)->prev, front);
            return;
        }
        if (seq_of(e, back) < seq) {
            insert_between(e, c, h, back, entry_at(e, back)->next);
            return;
        }
        front = entry_at(e, front)->next;
        back = entry_at(e, back)->prev;
    }
}

static struct chain *chain_of(struct engine *e, struct queue *q, const struct entry *x) {
    switch ((enum entry_state)x->state) {
    case ENTRY_READY: return &q->levels[x->priority];
    case ENTRY_WAITING: return &q->waiting;
    case ENTRY_UNACKED: return &q->unacked;
    case ENTRY_PARKED: return &q->parked;
    case ENTRY_DEAD: return &e->dead;
    }
    ASSERT(!"a state");
    return NULL;
}

void entry_link(struct engine *e, uint32_t h, enum entry_state state) {
    struct entry *x = entry_at(e, h);
    struct queue *q = entry_queue(e, x);
    x->state = state;
    struct chain *c = chain_of(e, q, x);
    if (state != ENTRY_READY) {
        if (state == ENTRY_UNACKED) q->unacked_bytes += stored_at(e, x->stored)->body_length;
        chain_push(e, c, h);
        return;
    }
    chain_insert_ordered(e, c, h, NONE);
    q->nonempty[x->priority / 64] |= UINT64_C(1) << x->priority % 64;
    q->ready++;
    q->bytes += stored_at(e, x->stored)->body_length;
}

void entry_unlink(struct engine *e, uint32_t h) {
    struct entry *x = entry_at(e, h);
    struct queue *q = entry_queue(e, x);
    struct chain *c = chain_of(e, q, x);
    if (q->finger == h) q->finger = x->prev;
    chain_remove(e, c, h);
    if (x->state == ENTRY_UNACKED) q->unacked_bytes -= stored_at(e, x->stored)->body_length;
    if (x->state != ENTRY_READY) return;
    if (c->count == 0) q->nonempty[x->priority / 64] &= ~(UINT64_C(1) << x->priority % 64);
    q->ready--;
    q->bytes -= stored_at(e, x->stored)->body_length;
}

void entry_to(struct engine *e, uint32_t h, enum entry_state state) {
    entry_unlink(e, h);
    entry_link(e, h, state);
}

int queue_highest(const struct queue *q) {
    for (int i = 3; i >= 0; i--)
        if (q->nonempty[i]) return i * 64 + 63 - __builtin_clzll(q->nonempty[i]);
    return -1;
}

int queue_lowest(const struct queue *q) {
    for (int i = 0; i < 4; i++)
        if (q->nonempty[i]) return i * 64 + __builtin_ctzll(q->nonempty[i]);
    return -1;
}
