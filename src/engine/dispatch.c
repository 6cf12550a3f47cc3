// Consumers, and offering them what is ready: highest priority level first, FIFO in it, consumers in turn among
// those of the highest consumer priority with room.
#include "engine/internal.h"
#include "engine/records.h"

#define PASS_DELIVERIES 1024 // by one engine_dispatch
#define TURN_DELIVERIES 64   // by one queue before the next has its turn

enum err engine_consume(struct engine *e, const char *queue, const struct consumer_options *o, deliver_fn *deliver,
                        void *arg, struct consumer **out, struct error *err) {
    struct queue *q = queue_find(e, queue);
    if (!q) return error_set(err, ERR_NOT_FOUND, "there is no queue %s", queue);
    if (q->exclusive || (o->exclusive && q->n_consumers > 0))
        return error_set(err, ERR_LOCKED, "queue %s is in exclusive use", queue);
    struct consumer *c = memory_zero(sizeof *c);
    c->queue = q;
    c->options = *o;
    c->deliver = deliver;
    c->arg = arg;
    ROOM_FOR_ONE(q->consumers, q->n_consumers, q->cap_consumers);
    uint32_t at = q->n_consumers++;
    for (; at > 0 && q->consumers[at - 1]->options.priority < o->priority; at--)
        q->consumers[at] = q->consumers[at - 1];
    q->consumers[at] = c;
    q->exclusive = o->exclusive;
    queue_wake(e, q);
    *out = c;
    return ERR_OK;
}

// From the last to the first: each goes to the very head of what is ready.
static void give_back_all(struct engine *e, struct consumer *c) {
    for (uint32_t i = c->n_held; i-- > c->first_held;)
        if (c->held[i].entry != NONE) give_back(e, c->held[i].entry);
    c->n_held = c->first_held = c->unacked = 0;
}

static void leave_queue(struct engine *e, struct consumer *c) {
    struct queue *q = c->queue;
    uint32_t at = 0;
    while (q->consumers[at] != c) at++;
    memmove(&q->consumers[at], &q->consumers[at + 1], (--q->n_consumers - at) * sizeof *q->consumers);
    q->exclusive = false;
    c->queue = NULL;
    if (q->n_consumers > 0) return;
    if (q->options.auto_delete) queue_remove(e, q, true);
    else queue_used(e, q);
}

void engine_cancel(struct engine *e, struct consumer *c) {
    ASSERT(!c->cancelled);
    c->cancelled = true;
    if (c->queue) {
        give_back_all(e, c);
        leave_queue(e, c);
    }
    ROOM_FOR_ONE(e->old_consumers, e->n_old_consumers, e->cap_old_consumers);
    e->old_consumers[e->n_old_consumers++] = c;
    queues_bury(e);
}

static bool has_room(const struct consumer *c) { return c->options.prefetch == 0 || c->unacked < c->options.prefetch; }

static struct consumer *next_consumer(struct queue *q) {
    for (uint32_t i = 0, end; i < q->n_consumers; i = end) {
        for (end = i; end < q->n_consumers; end++)
            if (q->consumers[end]->options.priority != q->consumers[i]->options.priority) break;
        uint32_t size = end - i, first = q->turn % size;
        for (uint32_t k = 0; k < size; k++) {
            uint32_t at = (first + k) % size;
            if (!has_room(q->consumers[i + at])) continue;
            q->turn = at + 1;
            return q->consumers[i + at];
        }
    }
    return NULL;
}

// The next entry that may be seen. A level whose head is not durable yet does not hold up the levels below it.
static uint32_t next_entry(struct engine *e, struct queue *q) {
    for (int word = 3; word >= 0; word--) {
        for (uint64_t left = q->nonempty[word]; left;) {
            int bit = 63 - __builtin_clzll(left);
            uint32_t h = q->levels[word * 64 + bit].head;
            if (stored_visible(e, stored_at(e, entry_at(e, h)->stored))) return h;
            left &= ~(UINT64_C(1) << bit);
        }
    }
    return NONE;
}

static void hold(struct engine *e, struct consumer *c, uint32_t h, uint64_t tag) {
    ROOM_FOR_ONE(c->held, c->n_held, c->cap_held);
    c->held[c->n_held++] = (struct held){.tag = tag, .entry = h};
    c->unacked++;
    entry_to(e, h, ENTRY_UNACKED);
}

static struct delivery describe(const struct entry *x, const struct queue *q, const struct content *m, uint64_t tag) {
    return (struct delivery){.tag = tag,
                             .queue = q->name,
                             .exchange = m->exchange,
                             .routing_key = m->routing_key,
                             .properties = m->properties,
                             .properties_length = m->properties_length,
                             .body = m->body,
                             .body_length = m->body_length,
                             .message_id = m->message_id,
                             .priority = m->priority,
                             .redelivered = x->redelivered,
                             .attempt = x->attempts + 1u,
                             .published_at_ms = m->published_at_ms};
}

// The bytes that `d` points into stay until the callback returns, whatever it does: e->delivering is set.
static void call(struct engine *e, struct consumer *c, const struct delivery *d) {
    e->depth++;
    c->deliver(c->arg, d);
    e->depth--;
    e->delivering = NONE;
    free(e->kept_block);
    e->kept_block = NULL;
}

static void deliver(struct engine *e, struct queue *q, struct consumer *c, uint32_t h) {
    struct entry *x = entry_at(e, h);
    struct content m;
    struct error err;
    if (stored_content(e, stored_at(e, x->stored), &e->scratch, &m, &err)) {
        entry_park(e, h, err.text);
        return;
    }
    struct delivery d = describe(x, q, &m, e->next_tag++);
    e->delivering = x->stored;
    q->delivered++;
    if (c->options.no_ack) {
        q->acked++;
        entry_finish(e, h, true);
    } else {
        hold(e, c, h, d.tag);
    }
    call(e, c, &d);
}

enum err engine_redeliver(struct engine *e, struct consumer *c, uint64_t tag, struct error *err) {
    ASSERT(e->depth == 0);
    uint32_t at = held_find(c, tag);
    if (at == NONE) return error_set(err, ERR_NOT_FOUND, "that delivery is not held any more");
    struct entry *x = entry_at(e, c->held[at].entry);
    struct content m;
    enum err code = stored_content(e, stored_at(e, x->stored), &e->scratch, &m, err);
    if (code) return code;
    struct delivery d = describe(x, c->queue, &m, tag);
    e->delivering = x->stored;
    call(e, c, &d);
    queues_bury(e);
    return ERR_OK;
}

// How many were delivered; when the turn ended early there was nothing more to deliver, or nobody to take it.
static uint32_t dispatch_queue(struct engine *e, struct queue *q, uint32_t turn) {
    uint32_t n = 0;
    while (n < turn && !q->deleted) {
        uint32_t h = next_entry(e, q);
        if (h == NONE && q->ready > 0) { // they wait for the disk
            list_remove(&q->dirty);      // a callback may have woken it
            q->awaiting = true;
            list_push_back(&e->awaiting, &q->dirty);
        }
        if (h == NONE) break;
        struct consumer *c = next_consumer(q);
        if (!c) break;
        deliver(e, q, c, h);
        n++;
    }
    return n;
}

bool engine_dispatch(struct engine *e) {
    if (e->depth > 0) return true;
    bool more = done_run(e);
    if (e->no_room) engine_flush(e);
    if (e->no_room) { // nothing new is begun before what is done with is written
        queues_bury(e);
        return more;
    }
    more |= dead_run(e);
    uint32_t left = PASS_DELIVERIES;
    while (left > 0 && !list_empty(&e->dirty)) {
        struct queue *q = LIST_ITEM(list_pop_front(&e->dirty), struct queue, dirty);
        uint32_t turn = left < TURN_DELIVERIES ? left : TURN_DELIVERIES;
        uint32_t n = dispatch_queue(e, q, turn);
        if (n == turn && !q->deleted) queue_wake(e, q);
        left -= n;
    }
    queues_bury(e);
    engine_flush(e);
    return more || !list_empty(&e->dirty);
}
