// A consumer: takes what comes, acknowledges it when it was told to, and takes the time from publishing to here.
#include "cli/bench/load_worker.h"

#define WAIT_MS 50

struct consumer {
    struct load_worker *worker;
    uint64_t last_tag;
    uint32_t unacked;   // since the last ack
    uint32_t unflushed; // deliveries whose acks may not have left yet
};

static void acknowledge(struct consumer *c) {
    struct load *l = c->worker->load;
    if (c->unacked) l->driver->ack(c->worker->client, c->last_tag, c->unacked > 1);
    c->unacked = 0;
}

static void delivered(struct consumer *c, const struct load_event *e) {
    struct load *l = c->worker->load;
    if (e->stamp && atomic_load_explicit(&l->measuring, memory_order_relaxed) && e->stamp >= l->measure_ns)
        histogram_add(&c->worker->latency, load_now_ns() - e->stamp);
    atomic_fetch_add_explicit(&c->worker->done, 1, memory_order_relaxed);
    if (!l->o->prefetch) return;
    c->last_tag = e->tag;
    if (++c->unacked >= l->o->multiple) acknowledge(c);
    if (++c->unflushed * 4 < l->o->prefetch) return; // the broker goes on while there are messages to work on
    c->unflushed = 0;
    l->driver->flush(c->worker->client);
}

void *load_consume(void *worker) {
    struct consumer c = {.worker = worker};
    struct load *l = c.worker->load;
    struct load_event e;
    while (!l->stop) {
        l->driver->next(c.worker->client, 0, &e);
        if (e.kind == LOAD_NOTHING) { // all that was there is done: a good moment to say so, and to look at the clock
            acknowledge(&c);
            c.worker->last_ns = load_now_ns();
            l->driver->next(c.worker->client, WAIT_MS, &e);
        }
        if (e.kind == LOAD_DELIVERY) delivered(&c, &e);
    }
    acknowledge(&c);
    l->driver->flush(c.worker->client);
    return NULL;
}
