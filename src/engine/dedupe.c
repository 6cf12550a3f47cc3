// Deduplication: a queue with a window takes a message id once within it.
//
// While a message is in the queue its own record says that the id was seen. When it is done with before its
// window is over, the id goes into a DEDUPE record, so that a restart does not forget it.
#include "engine/internal.h"

#define IDS_MAX (1u << 20) // in a queue's window; beyond it a publish is PUBLISH_REJECTED

struct seen {
    uint64_t seq;
    uint64_t until_ms; // monotonic
    uint8_t length;
    char id[];
};

struct dedupe {
    struct map by_id;
    struct seen **ring; // oldest first, which is by seq too
    uint32_t head, n, cap;
};

struct dedupe *dedupe_new(struct engine *e) {
    struct dedupe *d = memory_zero(sizeof *d);
    map_init(&d->by_id, io_random_u64(e->io));
    return d;
}

void dedupe_free(struct dedupe *d) {
    if (!d) return;
    for (uint32_t i = 0; i < d->n; i++) free(d->ring[(d->head + i) % d->cap]);
    free(d->ring);
    map_release(&d->by_id);
    free(d);
}

static struct seen *nth(const struct dedupe *d, uint32_t i) { return d->ring[(d->head + i) % d->cap]; }

static void drop_old(struct dedupe *d, uint64_t now) {
    while (d->n > 0 && nth(d, 0)->until_ms <= now) {
        struct seen *s = nth(d, 0);
        if (map_get(&d->by_id, s->id, s->length) == s) map_remove(&d->by_id, s->id, s->length);
        free(s);
        d->head = (d->head + 1) % d->cap;
        d->n--;
    }
}

bool dedupe_has(struct engine *e, struct dedupe *d, const char *id, uint64_t now) {
    drop_old(d, now);
    struct seen *s = map_get(&d->by_id, id, strlen(id));
    return s && s->until_ms > now;
}

bool dedupe_full(const struct dedupe *d) { return d->n >= IDS_MAX; }

static void ring_grow(struct dedupe *d) {
    uint32_t cap = d->cap ? d->cap * 2 : 16;
    struct seen **ring = memory_new(cap * sizeof *ring);
    for (uint32_t i = 0; i < d->n; i++) ring[i] = nth(d, i);
    free(d->ring);
    d->ring = ring;
    d->head = 0;
    d->cap = cap;
}

static void timer_start(struct engine *e, struct queue *q) {
    struct dedupe *d = q->dedupe;
    if (d->n > 0 && q->dedupe_timer == 0) timers_set(e, TIMER_DEDUPE, q->slot, nth(d, 0)->until_ms, UINT64_MAX);
}

void dedupe_add(struct engine *e, struct queue *q, const char *id, size_t id_length, uint64_t seq, uint64_t until) {
    struct dedupe *d = q->dedupe;
    struct seen *s = memory_new(sizeof *s + id_length + 1);
    s->seq = seq;
    s->until_ms = until;
    s->length = (uint8_t)id_length;
    memcpy(s->id, id, id_length);
    s->id[id_length] = 0;
    if (d->n == d->cap) ring_grow(d);
    d->ring[(d->head + d->n++) % d->cap] = s;
    if (!map_put(&d->by_id, s->id, s->length, s)) die("out of memory");
    if (!e->replaying) timer_start(e, q);
}

static struct seen *find_seq(const struct dedupe *d, uint64_t seq) {
    uint32_t low = 0, high = d->n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (nth(d, middle)->seq < seq) low = middle + 1;
        else high = middle;
    }
    return low < d->n && nth(d, low)->seq == seq ? nth(d, low) : NULL;
}

void dedupe_settled(struct engine *e, struct queue *q, uint64_t seq) {
    struct seen *s = find_seq(q->dedupe, seq);
    uint64_t now = now_ms(e);
    if (!s || s->until_ms <= now || !q->options.durable) return;
    int64_t until = io_wall_ms(e->io) + (int64_t)(s->until_ms - now);
    buf_add_u32(&e->dedupe_bytes, q->id);
    buf_add_u64(&e->dedupe_bytes, s->seq);
    buf_add_u64(&e->dedupe_bytes, (uint64_t)until);
    text_encode(&e->dedupe_bytes, s->id);
    e->n_dedupe++;
    if (until > e->dedupe_until_ms) e->dedupe_until_ms = until;
    if (e->n_dedupe % SETTLE_BATCH == 0) engine_flush(e);
}

void dedupe_due(struct engine *e, struct queue *q) {
    drop_old(q->dedupe, now_ms(e));
    timers_stop(e, &q->dedupe_timer);
    timer_start(e, q);
}

static int by_seq(const void *a, const void *b) {
    const struct seen *x = *(struct seen *const *)a, *y = *(struct seen *const *)b;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

// An id may have come twice: from its message and from a record made when it was settled.
void dedupe_replayed(struct engine *e, struct queue *q) {
    struct dedupe *d = q->dedupe;
    ASSERT(d->head == 0);
    if (d->n > 0) qsort(d->ring, d->n, sizeof *d->ring, by_seq);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < d->n; i++) {
        if (kept > 0 && d->ring[kept - 1]->seq == d->ring[i]->seq) free(d->ring[i]);
        else d->ring[kept++] = d->ring[i];
    }
    d->n = kept;
    uint64_t seed = d->by_id.seed;
    map_release(&d->by_id);
    map_init(&d->by_id, seed);
    for (uint32_t i = 0; i < d->n; i++)
        if (!map_put(&d->by_id, d->ring[i]->id, d->ring[i]->length, d->ring[i])) die("out of memory");
    drop_old(d, now_ms(e));
    timer_start(e, q);
}
