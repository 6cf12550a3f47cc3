// Bindings: from an exchange to a queue or to another exchange.
#include "engine/consistent_hash.h"
#include "engine/headers_match.h"
#include "engine/internal.h"

struct binding *binding_new(struct exchange *x, struct queue *q, struct exchange *target, const char *key,
                            struct view arguments) {
    size_t n = strlen(key) + 1;
    struct binding *b = memory_zero(sizeof *b + n + arguments.length);
    memcpy(b->key, key, n);
    if (arguments.length) memcpy(b->key + n, arguments.data, arguments.length);
    b->arguments = (uint8_t *)b->key + n;
    b->arguments_length = arguments.length;
    b->ends[0] = x;
    b->ends[1] = q ? (void *)q : target;
    b->source = x;
    b->queue = q;
    b->target = target;
    b->pin = NONE;
    list_push_back(&x->bindings, &b->of_source);
    list_push_back(q ? &q->bindings : &target->incoming, &b->of_destination);
    x->vhost->engine->n_bindings++;
    return b;
}

static void key_put(struct exchange *x, struct binding *first) {
    if (!map_put(&x->by_key, first->key, strlen(first->key), first)) die("out of memory");
}

static size_t identity_length(const struct binding *b) {
    return sizeof b->ends + strlen(b->key) + 1 + b->arguments_length;
}

void binding_attach(struct binding *b) {
    struct exchange *x = b->source;
    if (!map_put(&x->vhost->engine->bindings, b->ends, identity_length(b), b)) die("out of memory");
    b->attached = true;
    if (x->options.type == EXCHANGE_TOPIC) topic_trie_add(x->trie, b->key, b);
    if (x->options.type == EXCHANGE_CONSISTENT_HASH) {
        b->seed = consistent_seed(b->queue ? b->queue->name : b->target->name, b->target != NULL);
        if (consistent_weight(b->key, &b->weight, NULL)) b->weight = 1;
    }
    if (x->options.type != EXCHANGE_DIRECT) return;
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

void binding_drop(struct binding *b, bool record) {
    struct exchange *x = b->source;
    struct engine *e = x->vhost->engine;
    if (b->attached) map_remove(&e->bindings, b->ends, identity_length(b));
    if (b->attached && x->options.type == EXCHANGE_TOPIC) topic_trie_remove(x->trie, b->key, b);
    if (b->attached && x->options.type == EXCHANGE_DIRECT) key_remove(x, b);
    if (b->pin != NONE) pin_drop(e, b->pin, record);
    list_remove(&b->of_source);
    list_remove(&b->of_destination);
    e->n_bindings--;
    free(b);
}

void binding_remove(struct binding *b, bool record) {
    struct exchange *x = b->source;
    binding_drop(b, record);
    bool last = x->options.auto_delete && list_empty(&x->bindings);
    if (last && !x->removing && !x->vhost->engine->replaying) exchange_remove(x, record);
}

struct binding *binding_find(struct exchange *x, const struct queue *q, const struct exchange *target, const char *key,
                             struct view arguments) {
    struct engine *e = x->vhost->engine;
    const void *ends[2] = {x, q ? (const void *)q : target};
    buf_clear(&e->tail);
    buf_add(&e->tail, ends, sizeof ends);
    buf_add(&e->tail, key, strlen(key) + 1);
    if (arguments.length) buf_add(&e->tail, arguments.data, arguments.length);
    if (!buf_ok(&e->tail)) die("out of memory");
    return map_get(&e->bindings, e->tail.data, e->tail.len);
}

struct ends {
    struct exchange *source, *target;
    struct queue *queue;
};

static enum err find_ends(struct vhost *v, const struct binding_spec *b, struct ends *out, struct error *err) {
    *out = (struct ends){0};
    enum err code = vhost_check(v, err);
    if (code) return code;
    if (b->source[0] == 0 || (b->to_exchange && b->destination[0] == 0))
        return error_set(err, ERR_FORBIDDEN, "operation not permitted on the default exchange");
    out->source = exchange_find(v, b->source);
    if (!out->source) return error_set(err, ERR_NOT_FOUND, "no exchange '%s' in vhost '%s'", b->source, v->name);
    if (b->to_exchange) out->target = exchange_find(v, b->destination);
    else out->queue = queue_find(v, b->destination);
    if (out->target || out->queue) return ERR_OK;
    return error_set(err, ERR_NOT_FOUND, "no %s '%s' in vhost '%s'", b->to_exchange ? "exchange" : "queue",
                     b->destination, v->name);
}

static bool is_durable(const struct ends *n) {
    return n->source->options.durable && (n->queue ? queue_recorded(n->queue) : n->target->options.durable);
}

enum err engine_bind(struct vhost *v, const struct binding_spec *spec, struct error *err) {
    struct engine *e = v->engine;
    struct ends n;
    enum err code = find_ends(v, spec, &n, err);
    if (code) return code;
    if (strlen(spec->key) > NAME_BYTES) return error_field(err, "key", "a key has at most %d bytes", NAME_BYTES);
    if (spec->arguments.length > ARGUMENTS_MAX)
        return error_field(err, "arguments", "arguments have at most %u bytes", ARGUMENTS_MAX);
    if (n.source->options.type == EXCHANGE_HEADERS) code = headers_match_check(spec->arguments, err);
    uint32_t weight;
    if (n.source->options.type == EXCHANGE_CONSISTENT_HASH) code = consistent_weight(spec->key, &weight, err);
    if (code) return code;
    if (binding_find(n.source, n.queue, n.target, spec->key, spec->arguments)) return ERR_OK;
    if (e->n_bindings >= BINDINGS_MAX)
        return error_set(err, ERR_LIMIT, "there are %d bindings already, no more are allowed", BINDINGS_MAX);
    struct binding *b = binding_new(n.source, n.queue, n.target, spec->key, spec->arguments);
    if (is_durable(&n)) {
        struct journal_ref ref;
        code = write_binding(e, b, 0, &ref);
        if (code) {
            binding_drop(b, false);
            return error_set(err, code, "'%s' was not bound: %s", spec->destination, err_text(code));
        }
        b->pin = pin_new(e, PIN_BINDING, b, &ref);
    }
    binding_attach(b);
    return ERR_OK;
}

enum err engine_unbind(struct vhost *v, const struct binding_spec *spec, struct error *err) {
    struct ends n;
    enum err code = find_ends(v, spec, &n, err);
    if (code) return code;
    struct binding *b = binding_find(n.source, n.queue, n.target, spec->key, spec->arguments);
    if (b) binding_remove(b, true);
    return ERR_OK;
}

// ---- showing

typedef void each_fn(void *arg, const struct binding_spec *b);

static void show(const struct binding *b, each_fn *each, void *arg) {
    struct binding_spec spec = {.source = b->source->name,
                                .destination = b->queue ? b->queue->name : b->target->name,
                                .to_exchange = b->target != NULL,
                                .key = b->key,
                                .arguments = {.data = b->arguments, .length = b->arguments_length}};
    each(arg, &spec);
}

static void show_default(const struct vhost *v, each_fn *each, void *arg) {
    size_t at = 0;
    for (struct queue *q; (q = map_next(&v->queues, &at));) {
        struct binding_spec spec = {.source = "", .destination = q->name, .key = q->name};
        each(arg, &spec);
    }
}

void engine_each_binding(struct vhost *v, const char *queue, each_fn *each, void *arg) {
    struct queue *q = queue ? queue_find(v, queue) : NULL;
    if (q) {
        LIST_EACH(&q->bindings, at)
        show(LIST_ITEM(at, struct binding, of_destination), each, arg);
    }
    if (queue) return;
    show_default(v, each, arg);
    size_t at = 0;
    for (struct exchange *x; (x = map_next(&v->exchanges, &at));) {
        LIST_EACH(&x->bindings, b)
        show(LIST_ITEM(b, struct binding, of_source), each, arg);
    }
}
