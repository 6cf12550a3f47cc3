// Sessions: what was delivered and is not settled.
#include "engine/internal.h"

struct session *engine_session_new(struct engine *e, const struct session_options *o) {
    uint32_t h = slab_new(&e->sessions);
    struct session *s = slab_at(&e->sessions, h);
    s->engine = e;
    s->options = *o;
    s->handle = h;
    s->next_tag = 1;
    list_init(&s->consumers);
    list_push_back(&e->all_sessions, &s->node);
    return s;
}

static void release(struct session *s) {
    list_remove(&s->node);
    free(s->held);
    slab_free(&s->engine->sessions, s->handle);
}

// From the last to the first: each goes to the very head of what is ready.
void engine_session_free(struct session *s) {
    struct engine *e = s->engine;
    for (uint32_t i = s->n; i-- > s->first;) {
        uint32_t h = s->held[i].entry == NONE ? NONE : held_take(s, i);
        if (h != NONE) give_back_failed(e, h);
    }
    for (struct list_node *at; (at = list_first(&s->consumers));) engine_cancel(LIST_ITEM(at, struct consumer, node));
    release(s);
}

// ---- what is held, by tag

static void make_room(struct session *s) {
    if (s->first > s->cap / 2) {
        memmove(s->held, s->held + s->first, (s->n - s->first) * sizeof *s->held);
        s->n -= s->first;
        s->first = 0;
    } else {
        s->cap = s->cap ? s->cap * 2 : 16;
        s->held = memory_resize(s->held, (size_t)s->cap * sizeof *s->held);
    }
}

void session_hold(struct session *s, struct consumer *c, uint32_t h, uint64_t tag) {
    struct engine *e = s->engine;
    if (s->n == s->cap) make_room(s);
    s->held[s->n++] = (struct held){.tag = tag, .at_ms = now_ms(e), .consumer = c, .entry = h};
    s->unacked++;
    if (c) {
        c->unacked++;
        s->offered++;
        if (s->prefetch != 0) { // its turn is over: session_wake begins with the others
            list_remove(&c->node);
            list_push_back(&s->consumers, &c->node);
        }
    }
    entry_to(e, h, ENTRY_UNACKED);
    entry_at(e, h)->aux = s->handle;
}

uint32_t held_find(const struct session *s, uint64_t tag) {
    if (s->first == s->n || tag < s->held[s->first].tag) return NONE;
    uint64_t guess = s->first + (tag - s->held[s->first].tag);
    uint32_t low = s->first, high = guess < s->n ? (uint32_t)guess : s->n - 1;
    if (s->held[high].tag != tag) {
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            if (s->held[middle].tag < tag) low = middle + 1;
            else high = middle;
        }
    }
    return s->held[high].tag == tag && s->held[high].entry != NONE ? high : NONE;
}

static void consumer_let_go(struct session *s, struct consumer *c) {
    s->offered--;
    c->unacked--;
    if (!c->ended) consumer_line_up(c);
    else if (c->unacked == 0) free(c);
}

uint32_t held_take(struct session *s, uint32_t at) {
    struct held *h = &s->held[at];
    uint32_t entry = h->entry;
    ASSERT(entry != NONE);
    h->entry = NONE;
    s->unacked--;
    if (h->consumer) consumer_let_go(s, h->consumer);
    if (entry == LOST) return NONE;
    entry_at(s->engine, entry)->aux = NONE;
    return entry;
}

// Settled ones are only marked; they are squeezed out when they are the most.
void held_squeeze(struct session *s) {
    while (s->first < s->n && s->held[s->first].entry == NONE) s->first++;
    if (s->first == s->n) s->first = s->n = 0;
    if (s->n - s->first < 64 || s->n - s->first < s->unacked * 2) return;
    uint32_t kept = 0;
    for (uint32_t i = s->first; i < s->n; i++)
        if (s->held[i].entry != NONE) s->held[kept++] = s->held[i];
    s->n = kept;
    s->first = 0;
}

void session_lose(struct session *s, const struct queue *q) {
    struct engine *e = s->engine;
    bool had_room = session_has_room(s);
    for (uint32_t i = s->first; i < s->n; i++) {
        struct held *h = &s->held[i];
        if (h->entry == NONE || h->entry == LOST || entry_queue(e, entry_at(e, h->entry)) != q) continue;
        if (h->consumer) consumer_let_go(s, h->consumer);
        h->consumer = NULL;
        entry_finish(e, h->entry, false);
        h->entry = LOST;
    }
    if (!had_room) session_wake(s);
}

void sessions_free(struct engine *e) {
    for (struct list_node *at; (at = list_first(&e->all_sessions));) {
        struct session *s = LIST_ITEM(at, struct session, node);
        for (uint32_t i = s->first; i < s->n; i++)
            if (s->held[i].entry != NONE && s->held[i].consumer) consumer_let_go(s, s->held[i].consumer);
        for (struct list_node *n; (n = list_pop_front(&s->consumers));) {
            struct consumer *c = LIST_ITEM(n, struct consumer, node);
            list_remove(&c->turn);
            free(c);
        }
        release(s);
    }
}

// ---- room

bool session_has_room(const struct session *s) { return !s->prefetch || s->offered < s->prefetch; }

void session_wake(struct session *s) {
    LIST_EACH(&s->consumers, at) {
        struct consumer *c = LIST_ITEM(at, struct consumer, node);
        consumer_line_up(c);
        queue_wake(s->engine, c->queue);
    }
}

void engine_session_prefetch(struct session *s, uint32_t limit) {
    s->prefetch = limit;
    session_wake(s);
}

void engine_session_pause(struct session *s, bool paused) {
    s->paused = paused;
    if (!paused) session_wake(s);
}

uint32_t engine_session_unacked(const struct session *s) { return s->unacked; }
uint64_t engine_session_take_tag(struct session *s) { return s->next_tag++; }

uint64_t engine_session_oldest_ms(const struct session *s) {
    for (uint32_t i = s->first; i < s->n; i++)
        if (s->held[i].entry != NONE && s->held[i].entry != LOST) return s->held[i].at_ms;
    return 0;
}
