// What gave up after its attempts: kept with the reason until someone sends it on again or drops it.
#include "engine/internal.h"

uint32_t parking_new(struct engine *e, uint32_t entry, uint64_t id, int64_t at_ms, const char *reason, size_t n) {
    uint32_t h = slab_new(&e->parkings);
    struct parking *p = parking_at(e, h);
    p->id = id;
    p->entry = entry;
    p->parked_at_ms = at_ms;
    p->reason = memory_zero(n + 1);
    memcpy(p->reason, reason, n);
    if (id >= e->next_parking) e->next_parking = id + 1;
    index_add(&e->by_parking, h);
    return h;
}

void parking_free(struct engine *e, uint32_t h) {
    index_remove(&e->by_parking, h);
    free(parking_at(e, h)->reason);
    slab_free(&e->parkings, h);
}

void entry_park(struct engine *e, uint32_t h, const char *reason) {
    if (!reason) reason = "";
    size_t n = strlen(reason);
    if (n > REASON_MAX)
        for (n = REASON_MAX; n > 0 && ((uint8_t)reason[n] & 0xc0) == 0x80;) // not within a UTF-8 character
            n--;
    struct entry *x = entry_at(e, h);
    entry_to(e, h, ENTRY_PARKED);
    timers_stop(e, &x->timer);
    x->aux = parking_new(e, h, e->next_parking, io_wall_ms(e->io), reason, n);
    state_note(e, h);
    if (stored_at(e, x->stored)->segment != 0) stored_drop_block(e, x->stored);
}

static void tell(struct engine *e, struct queue *q, uint32_t h, struct buf *scratch,
                 void (*each)(void *arg, const struct parked *), void *arg) {
    struct entry *x = entry_at(e, h);
    struct stored *s = stored_at(e, x->stored);
    struct parking *p = parking_at(e, x->aux);
    struct content c;
    bool readable = stored_content(e, s, scratch, &c, NULL) == ERR_OK;
    struct parked out = {.id = p->id,
                         .vhost = q->vhost->name,
                         .queue = q->name,
                         .message_id = readable ? c.message_id : "",
                         .reason = p->reason,
                         .attempts = x->attempts,
                         .parked_at_ms = p->parked_at_ms,
                         .published_at_ms = s->published_at_ms,
                         .body_length = s->body_length};
    each(arg, &out);
}

static void list_queue(struct engine *e, struct queue *q, uint64_t skip, uint64_t limit,
                       void (*each)(void *arg, const struct parked *), void *arg) {
    struct buf scratch;
    buf_init(&scratch, 2 * MESSAGE_MAX);
    for (uint32_t h = q->parked.head; h != NONE && limit > 0; h = entry_at(e, h)->next) {
        if (skip > 0) {
            skip--;
            continue;
        }
        limit--;
        tell(e, q, h, &scratch, each, arg);
    }
    buf_release(&scratch);
}

// Nothing may be changed meanwhile.
enum err engine_parked_list(struct engine *e, const char *queue, void (*each)(void *arg, const struct parked *),
                            void *arg) {
    bool found = !queue;
    for (uint32_t i = 0; i < e->n_queues; i++) {
        if (!e->queues[i] || (queue && strcmp(e->queues[i]->name, queue) != 0)) continue;
        list_queue(e, e->queues[i], 0, UINT64_MAX, each, arg);
        found = true;
    }
    return found ? ERR_OK : ERR_NOT_FOUND;
}

enum err engine_parked_page(struct vhost *v, const char *queue, uint64_t skip, uint32_t limit,
                            void (*each)(void *arg, const struct parked *), void *arg) {
    struct queue *q = queue_find(v, queue);
    if (!q) return ERR_NOT_FOUND;
    list_queue(v->engine, q, skip, limit, each, arg);
    return ERR_OK;
}

bool engine_parked_in(struct vhost *v, const char *queue, uint64_t id) {
    struct engine *e = v->engine;
    struct queue *q = queue_find(v, queue);
    uint32_t h = index_find(&e->by_parking, index_counter(id));
    return q && h != NONE && entry_queue(e, entry_at(e, parking_at(e, h)->entry)) == q;
}

static enum err do_all(struct vhost *v, const char *queue, enum err (*one)(struct engine *e, uint64_t id),
                       uint64_t *count) {
    struct engine *e = v->engine;
    struct queue *q = queue_find(v, queue);
    *count = 0;
    if (!q) return ERR_NOT_FOUND;
    for (uint32_t h; (h = q->parked.head) != NONE; ++*count) {
        enum err err = one(e, parking_at(e, entry_at(e, h)->aux)->id);
        if (err != ERR_OK) return err;
    }
    return ERR_OK;
}

enum err engine_parked_retry_all(struct vhost *v, const char *queue, uint64_t *count) {
    return do_all(v, queue, engine_parked_retry, count);
}

enum err engine_parked_drop_all(struct vhost *v, const char *queue, uint64_t *count) {
    return do_all(v, queue, engine_parked_drop, count);
}

enum err engine_parked_retry(struct engine *e, uint64_t id) {
    uint32_t h = index_find(&e->by_parking, index_counter(id));
    if (h == NONE) return ERR_NOT_FOUND;
    uint32_t entry = parking_at(e, h)->entry;
    struct entry *x = entry_at(e, entry);
    parking_free(e, h);
    x->aux = NONE;
    x->attempts = 0;
    give_back(e, entry);
    state_note(e, entry);
    queue_limit(e, entry_queue(e, x));
    return ERR_OK;
}

enum err engine_parked_drop(struct engine *e, uint64_t id) {
    uint32_t h = index_find(&e->by_parking, index_counter(id));
    if (h == NONE) return ERR_NOT_FOUND;
    entry_finish(e, parking_at(e, h)->entry, true);
    return ERR_OK;
}
