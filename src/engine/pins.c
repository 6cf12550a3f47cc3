// The live records that are not messages: vhosts, queues, exchanges, bindings, dedupe windows.
#include "engine/internal.h"

uint32_t pin_new(struct engine *e, enum pin_kind kind, void *owner, const struct journal_ref *ref) {
    uint32_t h = slab_new(&e->pins);
    struct pin *p = pin_at(e, h);
    p->kind = kind;
    p->owner = owner;
    p->ref = *ref;
    index_add(&e->pin_place, h);
    return h;
}

// Its record was written again, at `ref`.
void pin_move(struct engine *e, uint32_t h, const struct journal_ref *ref) {
    struct pin *p = pin_at(e, h);
    index_remove(&e->pin_place, h);
    release_late(e, &p->ref);
    p->ref = *ref;
    index_add(&e->pin_place, h);
}

// `record`: the journal must know that it means nothing any more.
void pin_drop(struct engine *e, uint32_t h, bool record) {
    struct pin *p = pin_at(e, h);
    if (record) gone_note(e, &p->ref);
    index_remove(&e->pin_place, h);
    release_late(e, &p->ref);
    timers_stop(e, &p->timer);
    slab_free(&e->pins, h);
}

// A dedupe record whose windows are over.
void pin_due(struct engine *e, uint32_t h) { pin_drop(e, h, false); }

// Topology is bounded, and without it nothing can be consumed to make room: it is written below the low-water mark too.
static enum err write(struct engine *e, enum record_kind kind, struct buf *b, uint32_t refers_to,
                      struct journal_ref *ref) {
    ASSERT(buf_ok(b));
    if (e->n_gone) engine_flush(e); // of one name, the old is gone before the new is there
    struct iovec part = {.iov_base = b->data, .iov_len = b->len};
    jpos pos;
    enum err code =
        e->n_gone ? ERR_FULL : journal_append(e->journal, kind, JOURNAL_URGENT, refers_to, &part, 1, ref, &pos);
    return code;
}

static struct buf *scratch(struct engine *e) {
    buf_clear(&e->tail);
    return &e->tail;
}

enum err write_vhost(struct engine *e, const struct vhost *v, uint32_t refers_to, struct journal_ref *ref) {
    struct buf *b = scratch(e);
    buf_add_u32(b, v->id);
    text_encode(b, v->name);
    return write(e, RECORD_VHOST, b, refers_to, ref);
}

enum err write_queue(struct engine *e, const struct queue *q, uint32_t refers_to, struct journal_ref *ref) {
    struct buf *b = scratch(e);
    struct queue_record r = {
        .id = q->id, .vhost = q->vhost->id, .is_room = q->is_room, .name = q->name, .options = q->options};
    queue_encode(b, &r);
    return write(e, RECORD_QUEUE, b, refers_to, ref);
}

enum err write_exchange(struct engine *e, const struct exchange *x, uint32_t refers_to, struct journal_ref *ref) {
    struct buf *b = scratch(e);
    struct exchange_record r = {.vhost = x->vhost->id, .name = x->name, .options = x->options};
    exchange_encode(b, &r);
    return write(e, RECORD_EXCHANGE, b, refers_to, ref);
}

enum err write_binding(struct engine *e, const struct binding *x, uint32_t refers_to, struct journal_ref *ref) {
    struct buf *b = scratch(e);
    struct binding_record r = {.vhost = x->source->vhost->id,
                               .queue_id = x->queue ? x->queue->id : 0,
                               .to_exchange = x->target != NULL,
                               .target = x->target ? x->target->name : NULL,
                               .source = x->source->name,
                               .key = x->key,
                               .arguments = {.data = x->arguments, .length = x->arguments_length}};
    binding_encode(b, &r);
    return write(e, RECORD_BINDING, b, refers_to, ref);
}
