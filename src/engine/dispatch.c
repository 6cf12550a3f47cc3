// Offering what is ready: highest priority level first, FIFO in it.
#include "engine/internal.h"

#define PASS_DELIVERIES 1024 // by one engine_dispatch
#define TURN_DELIVERIES 64   // by one queue before the next has its turn

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

static struct delivery describe(const struct entry *x, const struct queue *q, const struct content *m, uint64_t tag) {
    return (struct delivery){.tag = tag,
                             .queue = q->name,
                             .exchange = m->exchange,
                             .routing_key = m->routing_key,
                             .properties = m->properties,
                             .properties_length = m->properties_length,
                             .body = m->body,
                             .body_length = m->claimed ? CLAIM_TICKET : m->body_length,
                             .claimed = m->claimed,
                             .claimed_length = m->claimed ? claimed_length(m) : 0,
                             .message_id = m->message_id,
                             .priority = m->priority,
                             .redelivered = x->redelivered,
                             .counted = queue_counts(q),
                             .attempt = x->attempts + 1u,
                             .published_at_ms = m->published_at_ms};
}

// The bytes that `d` points into stay until the callback returns, whatever it does: e->delivering is set.
static void call(struct session *s, const struct delivery *d, uint32_t stored) {
    struct engine *e = s->engine;
    e->delivering = stored;
    e->depth++;
    s->options.deliver(s->options.arg, d);
    e->depth--;
    e->delivering = NONE;
    free(e->kept_block);
    e->kept_block = NULL;
}

bool session_deliver(struct session *s, struct consumer *c, struct queue *q, uint32_t h, bool no_ack, void *arg) {
    struct engine *e = s->engine;
    struct entry *x = entry_at(e, h);
    uint32_t stored = x->stored;
    struct content m;
    struct error err;
    if (stored_content(e, stored_at(e, stored), &e->scratch, &m, &err)) {
        entry_park(e, h, err.text);
        return false;
    }
    struct delivery d = describe(x, q, &m, s->next_tag++);
    d.consumer_arg = arg;
    e->delivering = stored;
    q->delivered++;
    q->redelivered += x->redelivered;
    if (no_ack) {
        q->acked++;
        entry_finish(e, h, true);
    } else {
        session_hold(s, c, h, d.tag);
    }
    call(s, &d, stored);
    return true;
}

enum err engine_redeliver(struct session *s, uint64_t tag, struct error *err) {
    struct engine *e = s->engine;
    ASSERT(e->depth == 0);
    uint32_t at = held_find(s, tag);
    if (at == NONE || s->held[at].entry == LOST)
        return error_set(err, ERR_NOT_FOUND, "that delivery is not held any more");
    struct entry *x = entry_at(e, s->held[at].entry);
    struct content m;
    enum err code = stored_content(e, stored_at(e, x->stored), &e->scratch, &m, err);
    if (code) return code;
    struct delivery d = describe(x, entry_queue(e, x), &m, tag);
    d.consumer_arg = s->held[at].consumer ? s->held[at].consumer->arg : NULL;
    call(s, &d, x->stored);
    queues_bury(e);
    return ERR_OK;
}

// Nothing is handed over while what is done with cannot be written.
enum err engine_get(struct session *s, struct vhost *v, const char *queue, bool no_ack, void *consumer_arg, bool *got,
                    uint64_t *left, struct error *err) {
    struct engine *e = s->engine;
    ASSERT(e->depth == 0);
    struct queue *q = queue_find(v, queue);
    if (!q) return error_set(err, ERR_NOT_FOUND, "no queue '%s' in vhost '%s'", queue, v->name);
    queue_used(e, q);
    *got = false;
    for (uint32_t h; !*got && !e->no_room && (h = next_entry(e, q)) != NONE;) {
        if (entry_is_over(e, h)) { // its timer has not run yet
            entry_dead(e, h, DEAD_EXPIRED);
            continue;
        }
        *left = q->ready - 1;
        *got = session_deliver(s, NULL, q, h, no_ack, consumer_arg);
    }
    q->got += *got;
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
        struct consumer *c = consumer_next(q);
        if (!c) break;
        session_deliver(c->session, c, q, h, c->options.no_ack, c->arg);
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
