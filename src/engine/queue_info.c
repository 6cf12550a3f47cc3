// What a queue looks like to who watches it.
#include "engine/internal.h"

static int64_t oldest(const struct engine *e, const struct queue *q) {
    int64_t at = 0;
    for (unsigned p = 0; p <= q->options.max_priority; p++) {
        if (q->levels[p].head == NONE) continue;
        int64_t published = stored_at(e, entry_at(e, q->levels[p].head)->stored)->published_at_ms;
        if (at == 0 || published < at) at = published;
    }
    return at;
}

static struct queue_info describe(const struct engine *e, const struct queue *q) {
    uint64_t entries = q->ready + q->waiting.count + q->unacked.count + q->parked.count;
    return (struct queue_info){
        .name = q->name,
        .vhost = q->vhost->name,
        .options = &q->options,
        .ready = q->ready,
        .unacked = q->unacked.count,
        .parked = q->parked.count,
        .delayed = q->waiting.count,
        .consumers = q->n_consumers,
        .bytes = q->bytes,
        .unacked_bytes = q->unacked_bytes,
        .memory = sizeof *q + entries * (sizeof(struct entry) + sizeof(struct stored)) + q->body_memory,
        .published = q->published,
        .delivered = q->delivered,
        .acked = q->acked,
        .redelivered = q->redelivered,
        .got = q->got,
        .dead_lettered = q->dead_lettered,
        .expired = q->expired,
        .oldest_at_ms = oldest(e, q),
        .active = q->options.single_active_consumer ? q->active : NULL,
    };
}

bool engine_queue(struct vhost *v, const char *name, struct queue_info *out) {
    struct queue *q = queue_find(v, name);
    if (q) *out = describe(v->engine, q);
    return q != NULL;
}

void engine_each_queue(struct engine *e, void (*each)(void *arg, const struct queue_info *q), void *arg) {
    for (uint32_t i = 0; i < e->n_queues; i++) {
        if (!e->queues[i] || e->queues[i]->is_room) continue;
        struct queue_info info = describe(e, e->queues[i]);
        each(arg, &info);
    }
}
