// Recovery of vhosts, queues, exchanges and bindings. Each is made when it is first named, and is gone again at the end
// when no record declared it.
#include "engine/internal.h"

static struct vhost *vhost_named(struct engine *e, uint32_t id) {
    struct vhost *v = vhost_by_id(e, id);
    return v ? v : vhost_new(e, NULL, id);
}

struct queue *replay_queue(struct engine *e, uint32_t id) {
    if (id >= e->next_queue_id) e->next_queue_id = id + 1;
    uint32_t slot = index_find(&e->by_queue_id, index_counter(id));
    return slot == NONE ? queue_new(e, id) : e->queues[slot];
}

static struct exchange *exchange_named(struct engine *e, uint32_t vhost, const char *name) {
    struct vhost *v = vhost_named(e, vhost);
    struct exchange *x = map_get(&v->exchanges, name, strlen(name));
    return x ? x : exchange_new(v, name);
}

static enum err vhost_record(struct engine *e, const struct journal_record *r, struct error *err) {
    struct reader in = reader_of(r->payload, r->length);
    uint32_t id = read_u32(&in);
    const char *name = text_decode(&in);
    if (in.failed || id == DEFAULT_VHOST || name[0] == 0) return replay_damaged(r, err);
    struct vhost *v = vhost_named(e, id);
    if (v->pin != NONE) { // compaction wrote it again
        pin_move(e, v->pin, &r->ref);
        return ERR_OK;
    }
    v->pin = pin_new(e, PIN_VHOST, v, &r->ref);
    v->declared = true;
    free(v->name);
    v->name = memory_text(name);
    return ERR_OK;
}

static enum err queue_record(struct engine *e, const struct journal_record *r, struct error *err) {
    struct reader in = reader_of(r->payload, r->length);
    struct queue_record x;
    if (!queue_decode(&in, r->kind, &x)) return replay_damaged(r, err);
    struct queue *q = replay_queue(e, x.id);
    if (q->pin != NONE) {
        pin_move(e, q->pin, &r->ref);
        return ERR_OK;
    }
    q->pin = pin_new(e, PIN_QUEUE, q, &r->ref);
    if (q->levels) { // declared before, and gone meanwhile
        q->declared = true;
        return ERR_OK;
    }
    q->declared = true;
    q->name = memory_text(x.name);
    q->vhost = vhost_named(e, x.vhost);
    queue_set_options(e, q, &x.options);
    if (x.is_room) room_mark(e, q);
    return ERR_OK;
}

static enum err exchange_record(struct engine *e, const struct journal_record *r, struct error *err) {
    struct reader in = reader_of(r->payload, r->length);
    struct exchange_record x;
    if (!exchange_decode(&in, r->kind, &x)) return replay_damaged(r, err);
    struct exchange *found = exchange_named(e, x.vhost, x.name);
    if (found->pin != NONE) {
        pin_move(e, found->pin, &r->ref);
        return ERR_OK;
    }
    exchange_set_options(found, &x.options);
    found->pin = pin_new(e, PIN_EXCHANGE, found, &r->ref);
    return ERR_OK;
}

static enum err binding_record(struct engine *e, const struct journal_record *r, struct error *err) {
    struct reader in = reader_of(r->payload, r->length);
    struct binding_record x;
    if (!binding_decode(&in, r->kind, &x)) return replay_damaged(r, err);
    struct exchange *source = exchange_named(e, x.vhost, x.source);
    struct exchange *target = x.to_exchange ? exchange_named(e, x.vhost, x.target) : NULL;
    struct queue *q = x.to_exchange ? NULL : replay_queue(e, x.queue_id);
    struct binding *b = binding_new(source, q, target, x.key, x.arguments);
    b->pin = pin_new(e, PIN_BINDING, b, &r->ref);
    return ERR_OK;
}

enum err replay_topology(struct engine *e, const struct journal_record *r, struct error *err) {
    switch (r->kind) {
    case RECORD_VHOST: return vhost_record(e, r, err);
    case RECORD_QUEUE_V1:
    case RECORD_QUEUE: return queue_record(e, r, err);
    case RECORD_EXCHANGE_V1:
    case RECORD_EXCHANGE: return exchange_record(e, r, err);
    case RECORD_BINDING_V1:
    case RECORD_BINDING: return binding_record(e, r, err);
    default: return error_set(err, ERR_VERSION, "a record of kind %u was written by a later version", r->kind);
    }
}

// ---- what nobody declared

static void forget_queue(struct engine *e, struct queue *q, bool record) {
    while (q->waiting.head != NONE) entry_forget(e, q->waiting.head);
    free(q->name); // another queue may have the name by now
    q->name = NULL;
    queue_remove(e, q, record);
}

// One of the same name may be declared again: bindings of the former one are not its.
static void forget_exchanges(struct vhost *v) {
    size_t at = 0;
    for (struct exchange *x; (x = map_next(&v->exchanges, &at));) {
        if (x->declared && v->declared) continue;
        exchange_remove(x, true);
        at = 0;
    }
}

void replay_undeclared(struct engine *e) {
    for (uint32_t i = 0; i < e->n_queues; i++) {
        struct queue *q = e->queues[i];
        if (q && !(q->declared && q->vhost->declared)) forget_queue(e, q, false);
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < e->n_vhosts; i++) {
        struct vhost *v = e->vhosts[i];
        forget_exchanges(v);
        if (v->declared) e->vhosts[kept++] = v;
        else vhost_free(v);
    }
    e->n_vhosts = kept;
    for (uint32_t i = 0; i < e->n_vhosts; i++) vhost_name_put(e, e->vhosts[i]);
    for (uint32_t i = 0; i < e->n_queues; i++) {
        struct queue *q = e->queues[i];
        if (q && !q->is_room) queue_name_put(q);
        if (q && q->is_room && !room_attach(q)) forget_queue(e, q, true);
    }
}

// ---- bindings begin to lead

static void attach_bindings(struct exchange *x) {
    LIST_EACH_SAFE(&x->bindings, at) {
        struct binding *b = LIST_ITEM(at, struct binding, of_source);
        struct view arguments = {.data = b->arguments, .length = b->arguments_length};
        if (binding_find(x, b->queue, b->target, b->key, arguments))
            binding_drop(b, true); // written twice by a compaction that did not end
        else binding_attach(b);
    }
}

void replay_bindings(struct engine *e) {
    for (uint32_t i = 0; i < e->n_vhosts; i++) {
        size_t at = 0;
        for (struct exchange *x; (x = map_next(&e->vhosts[i]->exchanges, &at));) attach_bindings(x);
    }
}
