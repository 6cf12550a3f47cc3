// An entry's place in its queue: ready or waiting, and the timer that ends its wait or its life.
#include "engine/delay.h"
#include "engine/internal.h"

void place_entry(struct engine *e, uint32_t h, const struct times *t) {
    struct entry *x = entry_at(e, h);
    struct queue *q = entry_queue(e, x);
    int64_t ttl = t->expires_ms;
    if (q->options.has_message_ttl && (ttl < 0 || (uint64_t)ttl > q->options.message_ttl_ms))
        ttl = (int64_t)q->options.message_ttl_ms;
    if (ttl < 0 && t->delay_until_ms == 0) {
        entry_link(e, h, ENTRY_READY);
        return;
    }
    uint64_t now = now_ms(e), expires = UINT64_MAX;
    int64_t wall = io_wall_ms(e->io);
    int64_t start = t->delay_until_ms > t->published_at_ms ? t->delay_until_ms : t->published_at_ms;
    if (ttl >= 0) expires = start + ttl > wall ? now + (uint64_t)(start + ttl - wall) : now;
    bool waits = t->delay_until_ms > wall && x->attempts == 0;
    uint64_t due = waits ? now + (uint64_t)(t->delay_until_ms - wall) : expires;
    entry_link(e, h, waits ? ENTRY_WAITING : ENTRY_READY);
    if (due != UINT64_MAX) timers_set(e, TIMER_ENTRY, h, due < expires ? due : expires, expires);
}

int64_t room_until(const struct content *c) {
    uint64_t ms = 0;
    delay_of(c->properties, c->properties_length, &ms);
    return c->published_at_ms + (int64_t)ms;
}
