// Settling: what becomes of a delivery.
#include "engine/internal.h"

void give_back(struct engine *e, uint32_t h) {
    struct entry *x = entry_at(e, h);
    struct queue *q = entry_queue(e, x);
    x->redelivered = 1;
    entry_to(e, h, ENTRY_READY);
    if (entry_is_over(e, h)) entry_dead(e, h, DEAD_EXPIRED);
    else if (x->timer) {
        uint64_t expires = e->timers.items[x->timer - 1].expires_ms;
        timers_set(e, TIMER_ENTRY, h, expires, expires);
    }
    queue_limit(e, q);
    queue_wake(e, q);
}

void attempt_failed(struct entry *x) {
    if (x->attempts < UINT16_MAX) x->attempts++;
    x->redelivered = 1;
}

static uint32_t backoff_of(struct engine *e, const struct queue *q, const struct entry *x) {
    return q->options.retry_delay_ms ? backoff_delay(&q->backoff, e->io, (uint32_t)(x->attempts - 1), 0) : 0;
}

// True: that was the last, and it is dealt with.
static bool attempts_spent(struct engine *e, uint32_t h, const char *reason) {
    struct entry *x = entry_at(e, h);
    struct queue *q = entry_queue(e, x);
    attempt_failed(x);
    if (!q->options.delivery_limit || x->attempts < q->options.delivery_limit) return false;
    if (!q->options.dead_letter_exchange && q->options.park) entry_park(e, h, reason);
    else entry_dead(e, h, DEAD_ATTEMPTS);
    return true;
}

// Its consumer went away with it. It does not wait: that may have been an orderly stop.
void give_back_failed(struct engine *e, uint32_t h) {
    if (queue_counts(entry_queue(e, entry_at(e, h)))) {
        if (attempts_spent(e, h, "its consumer went away")) return;
        state_note(e, h);
    }
    give_back(e, h);
}

static void retry(struct engine *e, uint32_t h, const char *reason) {
    struct entry *x = entry_at(e, h);
    struct queue *q = entry_queue(e, x);
    if (attempts_spent(e, h, reason)) return;
    state_note(e, h);
    uint32_t delay = backoff_of(e, q, x);
    if (delay == 0) {
        give_back(e, h);
        return;
    }
    uint64_t due = now_ms(e) + delay;
    uint64_t expires = x->timer ? e->timers.items[x->timer - 1].expires_ms : UINT64_MAX;
    entry_to(e, h, ENTRY_WAITING);
    timers_set(e, TIMER_ENTRY, h, due < expires ? due : expires, expires);
}

static enum err not_held(uint64_t tag, struct error *err) {
    return error_set(err, ERR_NOT_FOUND, "unknown delivery tag %llu", (unsigned long long)tag);
}

enum err engine_attempt(struct session *s, uint64_t tag, uint32_t *delay_ms, struct error *err) {
    struct engine *e = s->engine;
    uint32_t at = held_find(s, tag);
    if (at == NONE || s->held[at].entry == LOST) return not_held(tag, err);
    uint32_t h = s->held[at].entry;
    struct entry *x = entry_at(e, h);
    struct queue *q = entry_queue(e, x);
    if (q->options.delivery_limit && x->attempts + 1u >= q->options.delivery_limit)
        return error_set(err, ERR_LIMIT, "its %u attempts are spent", q->options.delivery_limit);
    attempt_failed(x);
    state_note(e, h);
    *delay_ms = backoff_of(e, q, x);
    return ERR_OK;
}

static void settle_entry(struct engine *e, uint32_t h, enum settle how, const char *reason) {
    struct queue *q = entry_queue(e, entry_at(e, h));
    switch (how) {
    case SETTLE_ACK:
        q->acked++;
        entry_finish(e, h, true);
        break;
    case SETTLE_RETRY: retry(e, h, reason); break;
    case SETTLE_REQUEUE:
        if (queue_counts(q) || q->options.retry_delay_ms) retry(e, h, reason ? reason : "given back");
        else give_back(e, h);
        break;
    case SETTLE_RETURN: give_back(e, h); break;
    case SETTLE_REJECT: entry_dead(e, h, DEAD_REJECTED); break;
    case SETTLE_PARK:
        attempt_failed(entry_at(e, h));
        entry_park(e, h, reason);
        break;
    }
    queue_wake(e, q);
}

static void settle_one(struct session *s, uint32_t at, enum settle how, const char *reason) {
    if (s->held[at].entry == NONE || s->held[at].reserved) return;
    uint32_t h = held_take(s, at);
    if (h != NONE) settle_entry(s->engine, h, how, reason);
}

// The places of what a tag means; false: nothing that may be settled.
static bool find_range(const struct session *s, uint64_t tag, bool multiple, uint32_t *first, uint32_t *end) {
    bool all = multiple && tag == 0;
    uint32_t at = all ? s->n : held_find(s, tag);
    if (at == NONE || (!all && s->held[at].reserved)) return false;
    *first = multiple ? s->first : at;
    *end = all ? at : at + 1;
    return true;
}

// What goes back goes from the last to the first, each to the very head.
enum err engine_settle(struct session *s, uint64_t tag, bool multiple, enum settle how, const char *reason,
                       struct error *err) {
    uint32_t first, end;
    if (!find_range(s, tag, multiple, &first, &end)) return not_held(tag, err);
    // Those that had no turn for longest come first.
    if (!session_has_room(s)) session_wake(s);
    bool backwards = how == SETTLE_REQUEUE || how == SETTLE_RETRY || how == SETTLE_RETURN;
    for (uint32_t i = 0; i < end - first; i++) settle_one(s, backwards ? end - 1 - i : first + i, how, reason);
    held_squeeze(s);
    return ERR_OK;
}

enum err engine_reserve(struct session *s, uint64_t tag, bool multiple, uint64_t *last, struct error *err) {
    uint32_t first, end;
    *last = 0;
    if (!find_range(s, tag, multiple, &first, &end)) return not_held(tag, err);
    for (uint32_t i = first; i < end; i++) {
        struct held *h = &s->held[i];
        if (h->entry == NONE || h->reserved) continue;
        h->reserved = true;
        *last = h->tag;
    }
    return ERR_OK;
}

void engine_unreserve(struct session *s) {
    for (uint32_t i = s->first; i < s->n; i++) s->held[i].reserved = false;
}
