// Delayed exchanges: a message that comes to one with the header x-delay waits before it is routed.
//
// It waits in the exchange's room: a queue without a name, recorded like any other, whose entries' delays come from
// the header. What is due is gathered with the dead letters and published again, from that exchange on, with x-delay
// negated. So a restart, compaction and a full disk find nothing that they do not know already.
#include "engine/internal.h"

#include "engine/delay.h"
#include "engine/letter.h"

// Written before the exchange: one that is found without its exchange is dropped.
enum err room_new(struct vhost *v, const char *exchange, bool durable, struct queue **out, struct error *err) {
    struct engine *e = v->engine;
    struct queue fresh = {
        .vhost = v, .name = (char *)exchange, .id = e->next_queue_id, .is_room = true, .options.durable = durable};
    struct journal_ref ref;
    if (durable) {
        enum err code = write_queue(e, &fresh, 0, &ref);
        if (code) return error_set(err, code, "exchange %s was not declared: %s", exchange, err_text(code));
    }
    struct queue *q = queue_new(e, e->next_queue_id++);
    q->vhost = v;
    q->name = memory_text(exchange);
    q->declared = true;
    queue_set_options(e, q, &fresh.options);
    room_mark(e, q);
    if (durable) q->pin = pin_new(e, PIN_QUEUE, q, &ref);
    *out = q;
    return ERR_OK;
}

// The bound on queues is for those that are declared.
void room_mark(struct engine *e, struct queue *q) {
    q->is_room = true;
    e->used_queues--;
}

void room_join(struct queue *q, struct exchange *x) {
    q->room_of = x;
    x->room = q;
}

bool room_attach(struct queue *q) {
    struct exchange *x = exchange_find(q->vhost, q->name);
    if (!x || !x->options.delayed || x->room) return false;
    room_join(q, x);
    return true;
}

void room_wake(struct engine *e, struct queue *q) {
    if (q->ready == 0 || q->deleted || (list_linked(&q->dirty) && !q->awaiting)) return;
    list_remove(&q->dirty);
    q->awaiting = false;
    list_push_back(&e->rooms, &q->dirty);
}

static void empty(struct engine *e, struct queue *q) {
    for (uint32_t h; (h = q->levels[0].head) != NONE;) {
        if (!stored_visible(e, stored_at(e, entry_at(e, h)->stored))) {
            q->awaiting = true;
            list_push_back(&e->awaiting, &q->dirty);
            return;
        }
        entry_to(e, h, ENTRY_DEAD);
        entry_at(e, h)->aux = DEAD_DELAYED;
    }
}

// Those that are due at one moment go in the order of publishing, so all of them must have been gathered.
void rooms_empty(struct engine *e) {
    while (!e->timers_behind && !list_empty(&e->rooms))
        empty(e, LIST_ITEM(list_pop_front(&e->rooms), struct queue, dirty));
}

bool delayed_send(struct engine *e, uint32_t h) {
    struct entry *x = entry_at(e, h);
    struct stored *s = stored_at(e, x->stored);
    struct content c;
    struct error err;
    if (stored_content(e, s, &e->scratch, &c, &err)) {
        entry_park(e, h, err.text);
        return true;
    }
    struct letter l;
    letter_init(&l, &c);
    struct view had = {.data = c.properties, .length = c.properties_length};
    if (delay_negate(&l.properties, had)) letter_wear(&l);
    l.m.has_expiration = c.expires_ms >= 0;
    l.m.expiration_ms = c.expires_ms >= 0 ? (uint64_t)c.expires_ms : 0;
    struct publishing p = {0};
    enum err code = publish_to(e, entry_queue(e, x)->room_of, &l.m,
                               &(struct origin){.again = true, .hops = c.hops, .of = h}, &p, NULL);
    letter_release(&l);
    if (code || (p.result == PUBLISH_REJECTED && p.taken == 0)) return false;
    entry_finish(e, h, true);
    return true;
}
