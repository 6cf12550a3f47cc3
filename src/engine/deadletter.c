// Dead letters. They are gathered in a chain and published again from engine_dispatch, so that no publish runs
// inside another; until then the entry is in the journal as it was, and a crash gives it back.
#include "engine/internal.h"

#define LETTERS_AT_ONCE 256

void entry_dead(struct engine *e, uint32_t h, enum dead_reason why) {
    struct queue *q = entry_queue(e, entry_at(e, h));
    q->expired += why == DEAD_EXPIRED;
    if (!q->options.dead_letter_exchange) {
        if (why == DEAD_REJECTED && q->options.park) entry_park(e, h, "rejected");
        else entry_finish(e, h, true);
        return;
    }
    entry_to(e, h, ENTRY_DEAD);
    entry_at(e, h)->aux = why;
}

static const char *reason_text(enum dead_reason why) {
    switch (why) {
    case DEAD_REJECTED: return "rejected, and dead-lettered too often";
    case DEAD_EXPIRED: return "expired, and dead-lettered too often";
    case DEAD_MAXLEN: return "dropped for length, and dead-lettered too often";
    case DEAD_ATTEMPTS: return "its attempts are spent, and it was dead-lettered too often";
    }
    return "";
}

static void end_of_road(struct engine *e, uint32_t h) {
    struct entry *x = entry_at(e, h);
    if (entry_queue(e, x)->options.park) entry_park(e, h, reason_text(x->aux));
    else entry_finish(e, h, true);
}

// False: not now, the target has no room for it.
static bool send(struct engine *e, uint32_t h) {
    struct entry *x = entry_at(e, h);
    struct stored *s = stored_at(e, x->stored);
    struct queue *q = entry_queue(e, x);
    const struct queue_options *o = &q->options;
    struct exchange *to = exchange_find(q->vhost, o->dead_letter_exchange);
    struct content c;
    struct error err;
    if (stored_content(e, s, &e->scratch, &c, &err)) {
        entry_park(e, h, err.text);
        return true;
    }
    if (c.hops >= HOPS_MAX) {
        end_of_road(e, h);
        return true;
    }
    struct message m = {.exchange = o->dead_letter_exchange,
                        .routing_key = o->dead_letter_routing_key ? o->dead_letter_routing_key : c.routing_key,
                        .properties = c.properties,
                        .properties_length = c.properties_length,
                        .body = c.body,
                        .body_length = c.claimed ? CLAIM_TICKET : c.body_length,
                        .claimed = c.claimed,
                        .claimed_length = c.claimed ? claimed_length(&c) : 0,
                        .message_id = c.message_id,
                        .persistent = s->segment != 0,
                        .priority = c.priority};
    if (to && publish_to(e, to, &m, (uint8_t)(c.hops + 1), NULL, NULL, NULL, NULL)) return false;
    q->dead_lettered++;
    entry_finish(e, h, true);
    return true;
}

// One whose target has no room must not hold up those behind it: it goes to the end, for the next time.
bool dead_run(struct engine *e) {
    uint32_t waiting = e->dead.count, n = waiting < LETTERS_AT_ONCE ? waiting : LETTERS_AT_ONCE, sent = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t h = e->dead.head;
        if (send(e, h)) sent++;
        else entry_to(e, h, ENTRY_DEAD);
    }
    return waiting > n && sent > 0;
}
