// Exchanges, bindings, and where a message goes.
#include "engine/internal.h"

struct exchange *exchange_find(const struct engine *e, const char *name) {
    if (name[0] == 0) return (struct exchange *)&e->fallback;
    return map_get(&e->exchange_names, name, strlen(name));
}

void exchange_set_type(struct exchange *x, enum exchange_type type) {
    x->type = type;
    x->declared = true;
    if (type == EXCHANGE_TOPIC && !x->trie) x->trie = topic_trie_new();
}

struct exchange *exchange_new(struct engine *e, const char *name, enum exchange_type type, bool durable) {
    struct exchange *x = memory_zero(sizeof *x);
    x->name = memory_text(name);
    x->durable = durable;
    x->pin = NONE;
    list_init(&x->bindings);
    map_init(&x->by_key, io_random_u64(e->io));
    exchange_set_type(x, type);
    if (!map_put(&e->exchange_names, x->name, strlen(x->name), x)) die("out of memory");
    return x;
}

void exchange_remove(struct engine *e, struct exchange *x, bool record) {
    LIST_EACH_SAFE(&x->bindings, at)
    binding_remove(e, LIST_ITEM(at, struct binding, of_exchange), record);
    if (x->pin != NONE) pin_drop(e, x->pin, record);
    map_remove(&e->exchange_names, x->name, strlen(x->name));
    map_release(&x->by_key);
    topic_trie_free(x->trie);
    free(x->name);
    free(x);
}

enum err engine_exchange_declare(struct engine *e, const char *name, enum exchange_type type, bool durable,
                                 struct error *err) {
    if (name[0] == 0 || strlen(name) > NAME_BYTES)
        return error_field(err, "exchange", "an exchange's name has 1 to %d bytes", NAME_BYTES);
    if (type == EXCHANGE_HEADERS)
        return error_set(err, ERR_UNSUPPORTED, "exchange %s: headers exchanges are not supported", name);
    struct exchange *x = exchange_find(e, name);
    if (x && x->type == type && x->durable == durable) return ERR_OK;
    if (x) return error_set(err, ERR_CONFLICT, "exchange %s exists with other properties", name);
    if (e->exchange_names.len >= e->max_exchanges)
        return error_set(err, ERR_LIMIT, "there are %u exchanges already, no more are allowed", e->max_exchanges);
    struct exchange fresh = {.name = (char *)name, .type = type};
    struct journal_ref ref;
    if (durable) {
        enum err code = write_exchange(e, &fresh, 0, &ref);
        if (code) return error_set(err, code, "exchange %s was not declared: %s", name, err_text(code));
    }
    x = exchange_new(e, name, type, durable);
    if (durable) x->pin = pin_new(e, PIN_EXCHANGE, x, &ref);
    return ERR_OK;
}

enum err engine_exchange_delete(struct engine *e, const char *name, struct error *err) {
    if (name[0] == 0) return error_set(err, ERR_FORBIDDEN, "the default exchange cannot be deleted");
    struct exchange *x = exchange_find(e, name);
    if (!x) return error_set(err, ERR_NOT_FOUND, "there is no exchange %s", name);
    exchange_remove(e, x, true);
    return ERR_OK;
}

// ---- bindings

struct binding *binding_new(struct engine *e, struct exchange *x, struct queue *q, const char *key) {
    size_t n = strlen(key) + 1;
    struct binding *b = memory_zero(sizeof *b + n);
    memcpy(b->key, key, n);
    b->exchange = x;
    b->queue = q;
    b->pin = NONE;
    list_push_back(&x->bindings, &b->of_exchange);
    list_push_back(&q->bindings, &b->of_queue);
    e->n_bindings++;
    return b;
}

static void key_put(struct exchange *x, struct binding *first) {
    if (!map_put(&x->by_key, first->key, strlen(first->key), first)) die("out of memory");
}

// From now on it takes part in routing.
void binding_attach(struct engine *e, struct binding *b) {
    struct exchange *x = b->exchange;
    b->attached = true;
    if (x->type == EXCHANGE_TOPIC) topic_trie_add(x->trie, b->key, b);
    if (x->type != EXCHANGE_DIRECT) return;
    b->next_same_key = map_get(&x->by_key, b->key, strlen(b->key));
    key_put(x, b);
}

static void key_remove(struct exchange *x, struct binding *b) {
    struct binding *first = map_remove(&x->by_key, b->key, strlen(b->key));
    struct binding **link = &first;
    while (*link != b) link = &(*link)->next_same_key;
    *link = b->next_same_key;
    if (first) key_put(x, first);
}

void binding_remove(struct engine *e, struct binding *b, bool record) {
    struct exchange *x = b->exchange;
    if (b->attached && x->type == EXCHANGE_TOPIC) topic_trie_remove(x->trie, b->key, b);
    if (b->attached && x->type == EXCHANGE_DIRECT) key_remove(x, b);
    if (b->pin != NONE) pin_drop(e, b->pin, record);
    list_remove(&b->of_exchange);
    list_remove(&b->of_queue);
    e->n_bindings--;
    free(b);
}

// The attached binding of that key, on whichever side has fewer to look through.
struct binding *binding_find(struct exchange *x, const struct queue *q, const char *key) {
    LIST_EACH(&q->bindings, at) {
        struct binding *b = LIST_ITEM(at, struct binding, of_queue);
        if (b->attached && b->exchange == x && strcmp(b->key, key) == 0) return b;
    }
    return NULL;
}

static enum err find_ends(struct engine *e, const char *exchange, const char *queue, struct exchange **x,
                          struct queue **q, struct error *err) {
    if (exchange[0] == 0) return error_set(err, ERR_FORBIDDEN, "the default exchange has its bindings by itself");
    *x = exchange_find(e, exchange);
    if (!*x) return error_set(err, ERR_NOT_FOUND, "there is no exchange %s", exchange);
    *q = queue_find(e, queue);
    if (!*q) return error_set(err, ERR_NOT_FOUND, "there is no queue %s", queue);
    return ERR_OK;
}

enum err engine_bind(struct engine *e, const char *exchange, const char *queue, const char *key, struct error *err) {
    struct exchange *x = NULL;
    struct queue *q;
    enum err code = find_ends(e, exchange, queue, &x, &q, err);
    if (code) return code;
    if (strlen(key) > NAME_BYTES) return error_field(err, "key", "a key has at most %d bytes", NAME_BYTES);
    if (binding_find(x, q, key)) return ERR_OK;
    if (e->n_bindings >= BINDINGS_MAX)
        return error_set(err, ERR_LIMIT, "there are %d bindings already, no more are allowed", BINDINGS_MAX);
    struct binding *b = binding_new(e, x, q, key);
    if (x->durable && q->options.durable) {
        struct journal_ref ref;
        code = write_binding(e, b, 0, &ref);
        if (code) {
            binding_remove(e, b, false);
            return error_set(err, code, "queue %s was not bound: %s", queue, err_text(code));
        }
        b->pin = pin_new(e, PIN_BINDING, b, &ref);
    }
    binding_attach(e, b);
    return ERR_OK;
}

enum err engine_unbind(struct engine *e, const char *exchange, const char *queue, const char *key, struct error *err) {
    struct exchange *x = NULL;
    struct queue *q;
    enum err code = find_ends(e, exchange, queue, &x, &q, err);
    if (code) return code;
    struct binding *b = binding_find(x, q, key);
    if (!b) return error_set(err, ERR_NOT_FOUND, "queue %s is not bound to %s with that key", queue, exchange);
    binding_remove(e, b, true);
    return ERR_OK;
}

void engine_each_binding(struct engine *e, const char *queue,
                         void (*each)(void *arg, const char *exchange, const char *key), void *arg) {
    struct queue *q = queue_find(e, queue);
    if (!q) return;
    LIST_EACH(&q->bindings, at) {
        struct binding *b = LIST_ITEM(at, struct binding, of_queue);
        each(arg, b->exchange->name, b->key);
    }
}

// ---- routing

static void route_add(struct engine *e, struct queue *q) {
    if (q->route_mark == e->route_mark) return;
    q->route_mark = e->route_mark;
    ROOM_FOR_ONE(e->route, e->n_route, e->cap_route);
    e->route[e->n_route++] = q;
}

static void route_binding(void *arg, void *value) { route_add(arg, ((struct binding *)value)->queue); }

void route(struct engine *e, struct exchange *x, const char *key) {
    e->route_mark++;
    e->n_route = 0;
    if (x == &e->fallback) {
        struct queue *q = queue_find(e, key);
        if (q) route_add(e, q);
    } else if (x->type == EXCHANGE_TOPIC) {
        topic_trie_match(x->trie, key, route_binding, e);
    } else if (x->type == EXCHANGE_DIRECT) {
        for (struct binding *b = map_get(&x->by_key, key, strlen(key)); b; b = b->next_same_key) route_add(e, b->queue);
    } else {
        LIST_EACH(&x->bindings, at)
        route_add(e, LIST_ITEM(at, struct binding, of_exchange)->queue);
    }
}
