// Dead letters. They are gathered in a chain and published again from engine_dispatch, so that no publish runs
// inside another; until then the entry is in the journal as it was, and a crash gives it back.
//
// A letter goes round as long as somebody rejects it. One that would come to a queue where it died by itself before,
// and that nobody rejected since, is not taken there again.
#include "engine/death.h"
#include "engine/internal.h"
#include "engine/letter.h"

#define LETTERS_AT_ONCE 256

void entry_dead(struct engine *e, uint32_t h, enum dead_reason why) {
    struct queue *q = entry_queue(e, entry_at(e, h));
    q->expired += why == DEAD_EXPIRED;
    if (!q->options.dead_letter_exchange) {
        if (why == DEAD_REJECTED && q->options.park) {
            attempt_failed(entry_at(e, h));
            entry_park(e, h, "rejected");
        } else entry_finish(e, h, true);
        return;
    }
    entry_to(e, h, ENTRY_DEAD);
    entry_at(e, h)->aux = why;
}

static const char *word(enum dead_reason why) {
    switch (why) {
    case DEAD_REJECTED: return "rejected";
    case DEAD_EXPIRED: return "expired";
    case DEAD_MAXLEN: return "maxlen";
    case DEAD_ATTEMPTS: return "delivery_limit";
    case DEAD_DELAYED: break;
    }
    ASSERT(!"a reason");
    return "";
}

static const char *end_text(enum dead_reason why) {
    switch (why) {
    case DEAD_REJECTED: return "rejected, and dead-lettered too often";
    case DEAD_EXPIRED: return "expired, and dead-lettered in a circle";
    case DEAD_MAXLEN: return "dropped for length, and dead-lettered in a circle";
    case DEAD_ATTEMPTS: return "its attempts are spent, and it was dead-lettered in a circle";
    case DEAD_DELAYED: break;
    }
    ASSERT(!"a reason");
    return "";
}

static void end_of_road(struct engine *e, uint32_t h) {
    struct entry *x = entry_at(e, h);
    if (entry_queue(e, x)->options.park) entry_park(e, h, end_text(x->aux));
    else entry_finish(e, h, true);
}

// From here on it is a letter of queue `q`.
static void address(struct engine *e, struct letter *l, const struct queue *q, enum dead_reason why) {
    const struct queue_options *o = &q->options;
    struct death d = {.properties = {.data = l->m.properties, .length = l->m.properties_length},
                      .queue = q->name,
                      .reason = word(why),
                      .exchange = l->m.exchange,
                      .routing_key = l->m.routing_key,
                      .at_ms = io_wall_ms(e->io),
                      .new_key = o->dead_letter_routing_key != NULL};
    if (death_note(&l->properties, &d)) letter_wear(l);
    l->m.exchange = o->dead_letter_exchange;
    l->m.has_expiration = false;
    if (!d.new_key) return;
    l->m.routing_key = o->dead_letter_routing_key;
    l->m.more_keys_count = 0;
}

static struct origin origin_of(enum dead_reason why, uint8_t hops, uint32_t of) {
    bool rejected = why == DEAD_REJECTED;
    return (struct origin){.again = true, .hops = rejected ? 1 : (uint8_t)(hops + 1), .dying = !rejected, .of = of};
}

// False: not now, where it goes there is no room for it. Its value may be that of the queue it comes back to, so it
// does not stand in its own way.
static bool letter_send(struct engine *e, uint32_t h) {
    struct entry *x = entry_at(e, h);
    struct stored *s = stored_at(e, x->stored);
    struct queue *q = entry_queue(e, x);
    enum dead_reason why = x->aux;
    struct exchange *to = exchange_find(q->vhost, q->options.dead_letter_exchange);
    struct content c;
    struct error err;
    if (stored_content(e, s, &e->scratch, &c, &err)) {
        entry_park(e, h, err.text);
        return true;
    }
    struct origin o = origin_of(why, c.hops, h);
    if (o.hops > HOPS_MAX) {
        end_of_road(e, h);
        return true;
    }
    if (!to) { // as if it led nowhere
        entry_finish(e, h, true);
        return true;
    }
    struct letter l;
    struct publishing p = {.leaving = q, .leaving_seq = s->seq};
    letter_init(&l, &c);
    address(e, &l, q, why);
    enum err code = publish_to(e, to, &l.m, &o, &p, NULL);
    letter_release(&l);
    if (code || (p.result == PUBLISH_REJECTED && p.taken == 0)) return false;
    if (p.taken == 0 && p.circles > 0) {
        end_of_road(e, h);
        return true;
    }
    q->dead_lettered++;
    entry_finish(e, h, true);
    return true;
}

void dead_letter_refused(struct engine *e, struct queue *q, const struct message *m, uint8_t hops) {
    struct exchange *to = exchange_find(q->vhost, q->options.dead_letter_exchange);
    struct origin o = origin_of(DEAD_MAXLEN, hops, NONE);
    if (!to || o.hops > HOPS_MAX) return;
    struct letter l;
    struct publishing p = {0};
    letter_init_message(&l, m);
    address(e, &l, q, DEAD_MAXLEN);
    if (publish_to(e, to, &l.m, &o, &p, NULL) == ERR_OK) q->dead_lettered++;
    letter_release(&l);
}

// One whose target has no room holds up those behind it of its queue, or they would come before it, but no others: it
// stays where it is, for the next time.
bool dead_run(struct engine *e) {
    uint32_t tried = 0, sent = 0, next;
    rooms_empty(e);
    e->dead_pass++;
    for (uint32_t h = e->dead.head; h != NONE && tried < LETTERS_AT_ONCE; h = next) {
        struct entry *x = entry_at(e, h);
        struct queue *q = entry_queue(e, x);
        next = x->next;
        if (q->stuck_pass == e->dead_pass) continue;
        tried++;
        if (x->aux == DEAD_DELAYED ? delayed_send(e, h) : letter_send(e, h)) sent++;
        else q->stuck_pass = e->dead_pass;
    }
    return e->dead.count > 0 && sent > 0;
}
