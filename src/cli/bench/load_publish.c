// A publisher: keeps its window full, and takes the time of each message from publishing to its confirm.
//
// Confirms may come in any order, so the messages under way are a ring of times by delivery tag, 0 once confirmed;
// `oldest` follows the first that is not. The ring is larger than the window, so that one late confirm does not stop
// the others at once.
#include "cli/bench/load_worker.h"

#include "base/assert.h"

#include <stdlib.h>
#include <time.h>

#define BURST   256 // messages between two looks at what came in
#define WAIT_MS 50

struct publisher {
    struct load_worker *worker;
    uint64_t *times, mask;          // by tag
    uint64_t sent, settled, oldest; // tags begin with 1
};

uint64_t load_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void settle(struct publisher *p, uint64_t tag, uint64_t now, uint64_t measured_from) {
    uint64_t *at = &p->times[tag & p->mask];
    if (tag > p->sent || tag < p->oldest || *at == 0)
        die("load: confirmed, but not under way: %llu", (unsigned long long)tag);
    if (*at >= measured_from) histogram_add(&p->worker->latency, now - *at);
    *at = 0;
    p->settled++;
}

static void confirmed(struct publisher *p, const struct load_event *e) {
    struct load *l = p->worker->load;
    uint64_t now = load_now_ns(), before = p->settled;
    uint64_t from =
        atomic_load_explicit(&l->measuring, memory_order_relaxed) ? atomic_load(&l->measure_ns) : UINT64_MAX;
    uint64_t tag = e->multiple ? p->oldest : e->tag;
    uint64_t last = e->multiple && e->tag == 0 ? p->sent : e->tag;
    for (; tag <= last; tag++)
        if (!e->multiple || p->times[tag & p->mask] != 0) settle(p, tag, now, from);
    while (p->oldest <= p->sent && p->times[p->oldest & p->mask] == 0) p->oldest++;
    if (e->kind == LOAD_REFUSED) atomic_fetch_add(&p->worker->refused, p->settled - before);
    else atomic_fetch_add_explicit(&p->worker->done, p->settled - before, memory_order_relaxed);
}

static void gather(struct publisher *p, uint32_t wait_ms) {
    const struct load_driver *d = p->worker->load->driver;
    struct load_event e;
    for (d->next(p->worker->client, wait_ms, &e); e.kind != LOAD_NOTHING; d->next(p->worker->client, 0, &e))
        if (e.kind != LOAD_DELIVERY) confirmed(p, &e);
}

static uint64_t room(const struct publisher *p) {
    const struct load_options *o = p->worker->load->o;
    uint64_t n = p->worker->quota - p->sent;
    if (n > BURST) n = BURST;
    if (o->window == 0) return n;
    uint64_t window = o->window - (p->sent - p->settled), ring = p->mask - (p->sent + 1 - p->oldest);
    if (window > ring) window = ring;
    return n < window ? n : window;
}

static void publish_burst(struct publisher *p, uint64_t n) {
    struct load *l = p->worker->load;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t now = load_now_ns();
        l->driver->publish(p->worker->client, &l->routes[p->sent % l->route_count], now);
        p->sent++;
        if (l->o->window) p->times[p->sent & p->mask] = now;
    }
    l->driver->flush(p->worker->client);
    if (!l->o->window) atomic_fetch_add_explicit(&p->worker->done, n, memory_order_relaxed);
}

static bool under_way(const struct publisher *p) { return p->worker->load->o->window && p->sent > p->settled; }

void *load_publish(void *worker) {
    struct publisher p = {.worker = worker, .mask = 1, .oldest = 1};
    struct load *l = p.worker->load;
    while (p.mask < 4 * (uint64_t)l->o->window + BURST) p.mask *= 2;
    p.times = calloc(p.mask--, sizeof *p.times);
    if (!p.times) die("load: out of memory");
    while (!l->stop && (p.sent < p.worker->quota || under_way(&p))) {
        uint64_t n = room(&p);
        if (n > 0) publish_burst(&p, n);
        gather(&p, room(&p) == 0 && under_way(&p) ? WAIT_MS : 0);
        if (!room(&p)) p.worker->last_ns = load_now_ns();
    }
    if (!l->stop && !l->o->window && l->o->count) l->driver->ready(p.worker->client, l->routes[0].key);
    p.worker->last_ns = load_now_ns();
    p.worker->ended = true;
    free(p.times);
    return NULL;
}
