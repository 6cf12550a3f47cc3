// Where a message goes. From one exchange the way may lead on to others: by bindings, and by the alternate exchange
// when nothing of it matches. A message passes an exchange once and reaches a queue once, so loops end.
#include "engine/internal.h"

struct way {
    struct engine *engine;
    bool matched; // the exchange at hand led somewhere
};

static void add_queue(struct engine *e, struct queue *q) {
    if (q->route_mark == e->route_mark) return;
    q->route_mark = e->route_mark;
    ROOM_FOR_ONE(e->route, e->n_route, e->cap_route);
    e->route[e->n_route++] = q;
}

static void add_exchange(struct engine *e, struct exchange *x) {
    if (x->visit == e->route_mark) return;
    x->visit = e->route_mark;
    ROOM_FOR_ONE(e->visits, e->n_visits, e->cap_visits);
    e->visits[e->n_visits++] = x;
}

static void add(struct way *w, const struct binding *b) {
    w->matched = true;
    if (b->queue) add_queue(w->engine, b->queue);
    else add_exchange(w->engine, b->target);
}

static void add_match(void *arg, void *binding) { add(arg, binding); }

static void by_key(struct way *w, struct exchange *x, const char *key) {
    switch (x->options.type) {
    case EXCHANGE_DIRECT:
        for (struct binding *b = map_get(&x->by_key, key, strlen(key)); b; b = b->next_same_key) add(w, b);
        break;
    case EXCHANGE_TOPIC: topic_trie_match(x->trie, key, add_match, w); break;
    case EXCHANGE_FANOUT:
    case EXCHANGE_HEADERS:
    case EXCHANGE_CONSISTENT_HASH: break;
    }
}

static void by_default(struct way *w, struct exchange *x, const char *key) {
    struct queue *q = queue_find(x->vhost, key);
    if (!q) return;
    w->matched = true;
    add_queue(w->engine, q);
}

static void from(struct way *w, struct exchange *x, const struct message *m) {
    if (x->options.type == EXCHANGE_FANOUT) {
        LIST_EACH(&x->bindings, at)
        add(w, LIST_ITEM(at, struct binding, of_source));
        return;
    }
    void (*match)(struct way *, struct exchange *, const char *) = x == x->vhost->fallback ? by_default : by_key;
    match(w, x, m->routing_key);
    for (uint32_t i = 0; i < m->more_keys_count; i++) match(w, x, m->more_keys[i]);
}

void route(struct engine *e, struct exchange *first, const struct message *m) {
    e->route_mark++;
    e->n_route = e->n_visits = 0;
    add_exchange(e, first);
    for (uint32_t i = 0; i < e->n_visits; i++) {
        struct exchange *x = e->visits[i];
        struct way w = {.engine = e};
        uint32_t before = e->n_route;
        from(&w, x, m);
        x->published_in++;
        x->published_out += e->n_route - before;
        struct exchange *alternate =
            w.matched || !x->options.alternate ? NULL : exchange_find(x->vhost, x->options.alternate);
        if (alternate) add_exchange(e, alternate);
    }
}
