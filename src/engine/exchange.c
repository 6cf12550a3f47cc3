// Exchanges: declaring, deleting, showing. What leads where is in binding.c and route.c.
#include "engine/internal.h"

struct exchange *exchange_find(const struct vhost *v, const char *name) {
    if (name[0] == 0) return v->declared ? v->fallback : NULL;
    return map_get(&v->exchanges, name, strlen(name));
}

static void options_release(struct exchange_options *o) {
    free((char *)o->alternate);
    free((char *)o->hash_header);
    free((char *)o->hash_property);
    free((uint8_t *)o->arguments.data);
}

// While replaying, one of the same name may have been there before: nothing of it is kept. No binding leads yet.
void exchange_set_options(struct exchange *x, const struct exchange_options *o) {
    struct exchange_options old = x->options;
    x->options = *o;
    x->options.alternate = memory_text(o->alternate);
    x->options.hash_header = memory_text(o->hash_header);
    x->options.hash_property = memory_text(o->hash_property);
    x->options.arguments = memory_view(o->arguments);
    options_release(&old);
    x->declared = true;
    topic_trie_free(x->trie);
    recent_free(x->recent);
    x->trie = o->type == EXCHANGE_TOPIC ? topic_trie_new() : NULL;
    x->recent = o->dedupe_size ? recent_new(o->dedupe_size, io_random_u64(x->vhost->engine->io)) : NULL;
    if (o->glob && x->trie) topic_trie_globs(x->trie);
}

static struct exchange *make(struct vhost *v, const char *name) {
    struct exchange *x = memory_zero(sizeof *x);
    x->vhost = v;
    x->name = memory_text(name);
    x->pin = NONE;
    list_init(&x->bindings);
    list_init(&x->incoming);
    map_init(&x->by_key, io_random_u64(v->engine->io));
    return x;
}

struct exchange *exchange_new(struct vhost *v, const char *name) {
    struct exchange *x = make(v, name);
    if (!map_put(&v->exchanges, x->name, strlen(x->name), x)) die("out of memory");
    v->engine->n_exchanges++;
    return x;
}

void exchanges_predeclare(struct vhost *v) {
    static const struct {
        const char *name;
        enum exchange_type type;
        bool internal;
    } all[] = {
        {"amq.direct", EXCHANGE_DIRECT, false}, {"amq.fanout", EXCHANGE_FANOUT, false},
        {"amq.topic", EXCHANGE_TOPIC, false},   {"amq.headers", EXCHANGE_HEADERS, false},
        {"amq.match", EXCHANGE_HEADERS, false}, {"amq.rabbitmq.trace", EXCHANGE_TOPIC, true},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct exchange *x = exchange_new(v, all[i].name);
        v->engine->n_exchanges--; // the bound is for what is declared
        x->predeclared = true;
        exchange_set_options(
            x, &(struct exchange_options){.type = all[i].type, .durable = true, .internal = all[i].internal});
    }
    v->fallback = make(v, "");
    v->fallback->predeclared = true;
    exchange_set_options(v->fallback, &(struct exchange_options){.type = EXCHANGE_DIRECT, .durable = true});
}

static void binding_free(struct binding *b) {
    list_remove(&b->of_source);
    list_remove(&b->of_destination);
    free(b);
}

// With its bindings, and without a word to the journal.
void exchange_free(struct exchange *x) {
    for (struct list_node *at; (at = list_first(&x->bindings));) binding_free(LIST_ITEM(at, struct binding, of_source));
    for (struct list_node *at; (at = list_first(&x->incoming));)
        binding_free(LIST_ITEM(at, struct binding, of_destination));
    map_release(&x->by_key);
    topic_trie_free(x->trie);
    recent_free(x->recent);
    options_release(&x->options);
    free(x->name);
    free(x);
}

void exchange_remove(struct exchange *x, bool record) {
    struct engine *e = x->vhost->engine;
    x->removing = true;
    for (struct list_node *at; (at = list_first(&x->bindings));)
        binding_drop(LIST_ITEM(at, struct binding, of_source), record);
    for (struct list_node *at; (at = list_first(&x->incoming));)
        binding_remove(LIST_ITEM(at, struct binding, of_destination), record);
    if (x->room) queue_remove(e, x->room, record);
    if (x->pin != NONE) pin_drop(e, x->pin, record);
    map_remove(&x->vhost->exchanges, x->name, strlen(x->name));
    if (!x->predeclared) e->n_exchanges--;
    exchange_free(x);
}

static enum err check(const char *name, const struct exchange_options *o, struct error *err) {
    if (name[0] == 0 || strlen(name) > NAME_BYTES)
        return error_field(err, "exchange", "an exchange's name has 1 to %d bytes", NAME_BYTES);
    if ((o->alternate && strlen(o->alternate) > NAME_BYTES) ||
        (o->hash_header && strlen(o->hash_header) > NAME_BYTES) ||
        (o->hash_property && strlen(o->hash_property) > NAME_BYTES))
        return error_field(err, "exchange", "a name has at most %d bytes", NAME_BYTES);
    if (o->arguments.length > ARGUMENTS_MAX)
        return error_field(err, "arguments", "arguments have at most %u bytes", ARGUMENTS_MAX);
    if (o->hash_header && o->hash_property)
        return error_field(err, "hash-property", "hash-header and hash-property are mutually exclusive");
    if (o->hash_property && strcmp(o->hash_property, "message_id") != 0 &&
        strcmp(o->hash_property, "correlation_id") != 0 && strcmp(o->hash_property, "timestamp") != 0)
        return error_field(err, "hash-property", "unsupported property: %s", o->hash_property);
    return ERR_OK;
}

enum err engine_exchange_declare(struct vhost *v, const char *name, const struct exchange_options *o,
                                 struct error *err) {
    struct engine *e = v->engine;
    enum err code = vhost_check(v, err);
    struct exchange *x = code ? NULL : exchange_find(v, name);
    if (x) code = exchange_options_same(x, o, err);
    if (x && !code && o->glob && x->trie) topic_trie_globs(x->trie);
    if (x) return code;
    if (!code) code = check(name, o, err);
    if (code) return code;
    if (e->n_exchanges >= e->max_exchanges)
        return error_set(err, ERR_LIMIT, "there are %u exchanges already, no more are allowed", e->max_exchanges);
    struct queue *room = NULL;
    if (o->delayed) code = room_new(v, name, o->durable, &room, err);
    if (code) return code;
    struct exchange fresh = {.vhost = v, .name = (char *)name, .options = *o};
    struct journal_ref ref;
    if (o->durable) code = write_exchange(e, &fresh, 0, &ref);
    if (code) {
        if (room) queue_remove(e, room, true);
        return error_set(err, code, "exchange %s was not declared: %s", name, err_text(code));
    }
    x = exchange_new(v, name);
    exchange_set_options(x, o);
    if (room) room_join(room, x);
    if (o->durable) x->pin = pin_new(e, PIN_EXCHANGE, x, &ref);
    return ERR_OK;
}

enum err engine_exchange_delete(struct vhost *v, const char *name, bool if_unused, struct error *err) {
    struct exchange *x = exchange_find(v, name);
    if (!x) return error_set(err, ERR_NOT_FOUND, "no exchange '%s' in vhost '%s'", name, v->name);
    if (x->predeclared)
        return name[0] ? error_set(err, ERR_FORBIDDEN, "operation not permitted on exchange '%s'", name)
                       : error_set(err, ERR_FORBIDDEN, "operation not permitted on the default exchange");
    if (if_unused && !list_empty(&x->bindings))
        return error_set(err, ERR_CONFLICT, "exchange '%s' in vhost '%s' in use", name, v->name);
    exchange_remove(x, true);
    return ERR_OK;
}

static struct exchange_info describe(const struct exchange *x) {
    return (struct exchange_info){.name = x->name,
                                  .vhost = x->vhost->name,
                                  .options = &x->options,
                                  .published_in = x->published_in,
                                  .published_out = x->published_out,
                                  .delayed = x->room ? x->room->waiting.count + x->room->ready : 0};
}

bool engine_exchange(struct vhost *v, const char *name, struct exchange_info *out) {
    struct exchange *x = exchange_find(v, name);
    if (x) *out = describe(x);
    return x != NULL;
}

void engine_each_exchange(struct vhost *v, void (*each)(void *arg, const struct exchange_info *x), void *arg) {
    struct exchange_info info = describe(v->fallback);
    if (!v->declared) return;
    each(arg, &info);
    size_t at = 0;
    for (struct exchange *x; (x = map_next(&v->exchanges, &at));) {
        info = describe(x);
        each(arg, &info);
    }
}
