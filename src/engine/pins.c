// The live records that are not messages: queues, exchanges, bindings, dedupe windows.
#include "engine/internal.h"
#include "engine/records.h"

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

enum err write_queue(struct engine *e, const struct queue *q, uint32_t refers_to, struct journal_ref *ref) {
    struct buf *b = &e->tail;
    buf_clear(b);
    queue_encode(b, q->id, q->name, &q->options);
    return write(e, RECORD_QUEUE, b, refers_to, ref);
}

enum err write_exchange(struct engine *e, const struct exchange *x, uint32_t refers_to, struct journal_ref *ref) {
    struct buf *b = &e->tail;
    buf_clear(b);
    buf_add_u8(b, (uint8_t)x->type);
    text_encode(b, x->name);
    return write(e, RECORD_EXCHANGE, b, refers_to, ref);
}

enum err write_binding(struct engine *e, const struct binding *x, uint32_t refers_to, struct journal_ref *ref) {
    struct buf *b = &e->tail;
    buf_clear(b);
    buf_add_u32(b, x->queue->id);
    text_encode(b, x->exchange->name);
    text_encode(b, x->key);
    return write(e, RECORD_BINDING, b, refers_to, ref);
}
