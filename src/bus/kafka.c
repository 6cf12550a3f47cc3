// The Kafka bus, over librdkafka: opening, closing, and whether the broker is there.
//
// librdkafka has threads of its own; nothing of ours runs on them but a post to the loop (kafka_wake.c), and nothing of
// librdkafka's that could wait runs on the loop, but when the bus closes.
//
// Is it there? A confirmation and an answered question say yes, a question that failed says no. We ask when there is a
// reason to doubt (librdkafka reports every broker down when one closes an idle connection too), and then, while the
// answer is no, every two seconds.
#include "bus/kafka_group.h"

#include "base/assert.h"
#include "base/io.h"
#include "base/log.h"

#include <stdlib.h>

#define PROBE_MS 2000
#define FLUSH_MS 10000 // closing waits at most so long for the broker

// ---- is it there?

void kafka_is_there(struct kafka *k) {
    loop_timer_stop(k->loop, &k->probe);
    if (k->reachable) return;
    k->reachable = true;
    log_event(LOG_INFO, "bus_reachable", "bus", "kafka", NULL);
}

void kafka_is_away(struct kafka *k, const char *why) {
    if (k->closing) return;
    if (k->reachable) log_event(LOG_WARN, "bus_away", "bus", "kafka", "why", why, NULL);
    k->reachable = false;
    if (!loop_timer_active(&k->probe)) loop_timer_start(k->loop, &k->probe, PROBE_MS);
}

void kafka_suspect(struct kafka *k) {
    if (!k->closing && k->reachable && !loop_timer_active(&k->probe)) loop_timer_start(k->loop, &k->probe, 0);
}

static void on_probe(struct loop_timer *t) {
    struct kafka *k = LIST_ITEM(t, struct kafka, probe);
    struct error e;
    struct kafka_producer *p = kafka_producer_together(k, &e);
    if (p) kafka_ask_broker(p);
    loop_timer_start(k->loop, t, PROBE_MS); // stopped by the first good news
}

static bool kafka_reachable(struct bus *bus) { return ((struct kafka *)bus)->reachable; }

// ---- closing

static void finish_alone(struct kafka *k, uint64_t until_ns) {
    uint64_t now = io_monotonic_ns(k->io);
    for (struct list_node *n; (n = list_pop_front(&k->lonely));)
        kafka_held_answer(LIST_ITEM(n, struct kafka_held, node), ERR_UNAVAILABLE, "the bus is closing");
    if (k->alone) kafka_producer_close(k->alone, now < until_ns ? (uint32_t)((until_ns - now) / 1000000) : 0);
}

// Those that are retired have been purged, and are answered by what is left in their queues.
static void finish_retired(struct kafka *k) {
    for (struct list_node *n; (n = list_first(&k->producers));)
        kafka_producer_close(LIST_ITEM(n, struct kafka_producer, node), 0);
}

static void kafka_close(struct bus *bus) {
    struct kafka *k = (struct kafka *)bus;
    uint64_t until_ns = io_monotonic_ns(k->io) + FLUSH_MS * UINT64_C(1000000);
    k->closing = true;
    loop_timer_stop(k->loop, &k->probe);
    for (struct list_node *n; (n = list_first(&k->members));)
        kafka_member_finish(LIST_ITEM(n, struct kafka_member, node), until_ns);
    if (k->together) kafka_producer_close(k->together, FLUSH_MS);
    finish_alone(k, until_ns);
    finish_retired(k);
    kafka_settings_release(&k->settings);
    free(k);
}

// ---- opening

static struct engine *kafka_engine(struct bus *b) { return NULL; }

static const struct bus_vtable vtable = {
    .close = kafka_close,
    .publish = kafka_publish,
    .subscribe = kafka_subscribe,
    .unsubscribe = kafka_unsubscribe,
    .settle = kafka_settle,
    .assigned = kafka_assigned,
    .reachable = kafka_reachable,
    .engine = kafka_engine,
};

// The broker need not be there: only what is wrong with the URL is an error.
enum err kafka_open(struct bus **out, struct loop *loop, const struct bus_options *o, struct error *e) {
    struct kafka *k = calloc(1, sizeof *k);
    if (!k) return error_set(e, ERR_NOMEM, "out of memory");
    enum err code = kafka_settings_init(&k->settings, o->url, e);
    if (code) {
        free(k);
        return code;
    }
    k->bus.v = &vtable;
    k->loop = loop;
    k->io = o->io;
    k->probe.fn = on_probe;
    list_init(&k->producers);
    list_init(&k->lonely);
    list_init(&k->members);
    if (!kafka_producer_together(k, e)) {
        kafka_settings_release(&k->settings);
        free(k);
        return e ? e->code : ERR_INVALID;
    }
    loop_timer_start(loop, &k->probe, 0);
    *out = &k->bus;
    return ERR_OK;
}
