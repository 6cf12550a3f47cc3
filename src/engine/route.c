// Where a message goes. From one exchange the way may lead on to others: by bindings, and by the alternate exchange
// when nothing of it matches. A message passes an exchange once and reaches a queue once, so loops end.
#include "engine/consistent_hash.h"
#include "engine/delay.h"
#include "engine/headers_match.h"
#include "engine/internal.h"
#include "wire/properties.h"

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

static void by_headers(struct way *w, struct exchange *x, const struct message *m) {
    struct headers headers;
    headers_init(&headers, properties_headers(m->properties, m->properties_length));
    LIST_EACH(&x->bindings, at) {
        struct binding *b = LIST_ITEM(at, struct binding, of_source);
        if (headers_match((struct view){.data = b->arguments, .length = b->arguments_length}, &headers)) add(w, b);
    }
    headers_release(&headers);
}

static void by_hash(struct way *w, struct exchange *x, const struct message *m) {
    const struct exchange_options *o = &x->options;
    struct view properties = {.data = m->properties, .length = m->properties_length};
    uint64_t value = consistent_value(m->routing_key, properties, o->hash_header, o->hash_property);
    struct binding *best = NULL;
    double highest = 0;
    LIST_EACH(&x->bindings, at) {
        struct binding *b = LIST_ITEM(at, struct binding, of_source);
        double score = consistent_score(b->seed, value, b->weight);
        if (best && score <= highest) continue;
        best = b;
        highest = score;
    }
    if (best) add(w, best);
}

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

static void everywhere(struct way *w, struct exchange *x) {
    LIST_EACH(&x->bindings, at)
    add(w, LIST_ITEM(at, struct binding, of_source));
}

static void from(struct way *w, struct exchange *x, const struct message *m) {
    void (*match)(struct way *, struct exchange *, const char *) = x == x->vhost->fallback ? by_default : by_key;
    switch (x->options.type) {
    case EXCHANGE_FANOUT: everywhere(w, x); break;
    case EXCHANGE_HEADERS: by_headers(w, x, m); break;
    case EXCHANGE_CONSISTENT_HASH: by_hash(w, x, m); break;
    case EXCHANGE_DIRECT:
    case EXCHANGE_TOPIC:
        match(w, x, m->routing_key);
        for (uint32_t i = 0; i < m->more_keys_count; i++) match(w, x, m->more_keys[i]);
        break;
    }
}

static bool is_repeated(struct engine *e, struct exchange *x, const struct message *m) {
    struct value_key value;
    return x->recent && value_key_of_message(m->properties, m->properties_length, &value) &&
           recent_has(x->recent, &value, now_ms(e));
}

static bool waits(struct engine *e, struct exchange *x, const struct message *m) {
    uint64_t ms;
    if (!x->room || !delay_of(m->properties, m->properties_length, &ms)) return false;
    add_queue(e, x->room);
    return true;
}

static void pass(struct engine *e, struct exchange *x, const struct message *m) {
    struct way w = {.engine = e};
    uint32_t before = e->n_route;
    from(&w, x, m);
    x->published_in++;
    x->published_out += e->n_route - before;
    struct exchange *other = w.matched || !x->options.alternate ? NULL : exchange_find(x->vhost, x->options.alternate);
    if (other) add_exchange(e, other);
}

void route(struct engine *e, struct exchange *first, const struct message *m) {
    e->route_mark++;
    e->n_route = e->n_visits = e->n_repeated = 0;
    add_exchange(e, first);
    for (uint32_t i = 0; i < e->n_visits; i++) {
        struct exchange *x = e->visits[i];
        if (is_repeated(e, x, m)) e->n_repeated++;
        else if (!waits(e, x, m)) pass(e, x, m);
    }
}

// How long a deduplicating exchange remembers it: x-cache-ttl, of the message or of the exchange.
static uint64_t remember_until(struct engine *e, const struct exchange *x, const struct message *m) {
    struct field f;
    int64_t own;
    bool has_own = table_find(properties_headers(m->properties, m->properties_length), "x-cache-ttl", &f) &&
                   field_integer(&f, &own) && own > 0;
    uint64_t ms = queue_time(has_own ? (uint64_t)own : x->options.dedupe_ttl_ms);
    return ms ? now_ms(e) + ms : UINT64_MAX;
}

void route_taken(struct engine *e, const struct message *m) {
    struct value_key value;
    for (uint32_t i = 0; i < e->n_visits; i++) {
        struct exchange *x = e->visits[i];
        if (x->recent && value_key_of_message(m->properties, m->properties_length, &value) &&
            !recent_has(x->recent, &value, now_ms(e)))
            recent_add(x->recent, &value, remember_until(e, x, m));
    }
}
