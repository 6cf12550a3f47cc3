// One producer of librdkafka and its life. There is one that publishes (`together`), and, once a batch was refused as
// a whole, one that publishes its members one by one (`alone`).
//
// A producer is idempotent: librdkafka retries by itself, in order, and the broker drops what it has already. When that
// bookkeeping breaks (a "fatal" error), the producer is retired and the next publication makes another; what was not
// confirmed is answered ERR_UNAVAILABLE, and whoever published it does so again.
//
// librdkafka's destructor waits for its threads, and so runs on the pool.
#include "bus/kafka.h"

#include "base/assert.h"
#include "base/io.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

#define EVENTS_A_TURN 64 // a report is of many records
#define POLL_MS       20

// ---- ending

struct destruction {
    struct loop_work work;
    rd_kafka_t *rk;
};

static void destroy(struct loop_work *w) {
    rd_kafka_destroy_flags(LIST_ITEM(w, struct destruction, work)->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

static void destroyed(struct loop_work *w) { free(LIST_ITEM(w, struct destruction, work)); }

void kafka_destroy(struct loop *loop, rd_kafka_t *rk) {
    struct destruction *d = calloc(1, sizeof *d);
    if (!d) die("out of memory");
    *d = (struct destruction){.work = {.work = destroy, .done = destroyed}, .rk = rk};
    loop_work(loop, &d->work);
}

static void producer_free(struct kafka_producer *p) {
    struct kafka *k = p->bus;
    bool later = kafka_topics_free(p);
    kafka_wake_off(p->queue);
    kafka_wake_free(p->wake);
    rd_kafka_queue_destroy(p->queue);
    list_remove(&p->node);
    if (k->together == p) k->together = NULL;
    if (k->alone == p) k->alone = NULL;
    if (!later) kafka_destroy(k->loop, p->rk);
    free(p);
}

static bool idle(const struct kafka_producer *p) { return p->unanswered == 0 && p->waiting == 0 && p->held == 0; }

static void purge(struct kafka_producer *p) {
    p->purged = true;
    rd_kafka_purge(p->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
}

// What is not confirmed is answered ERR_UNAVAILABLE, soon.
static void retire(struct kafka_producer *p) {
    struct kafka *k = p->bus;
    if (p->retired) return;
    p->retired = true;
    if (k->together == p) k->together = NULL;
    if (k->alone == p) k->alone = NULL;
    if (!k->closing) kafka_topics_hand_on(p);
    purge(p);
    kafka_wake_again(p->wake); // it may be idle already
}

// ---- its reports

static void on_error(struct kafka_producer *p, rd_kafka_event_t *event) {
    char why[256];
    rd_kafka_resp_err_t code = rd_kafka_event_error(event);
    if (rd_kafka_event_error_is_fatal(event) || code == RD_KAFKA_RESP_ERR__FATAL) {
        code = rd_kafka_fatal_error(p->rk, why, sizeof why);
        log_event(LOG_WARN, "kafka_producer_replaced", "code", rd_kafka_err2name(code), "why", why, NULL);
        retire(p);
        return;
    }
    log_event(LOG_DEBUG, "kafka_error", "code", rd_kafka_err2name(code), "why", rd_kafka_event_error_string(event),
              NULL);
    if (code == RD_KAFKA_RESP_ERR__AUTHENTICATION || code == RD_KAFKA_RESP_ERR__SSL)
        kafka_is_away(p->bus, rd_kafka_event_error_string(event));
    else kafka_suspect(p->bus);
}

static void serve(struct kafka_producer *p, rd_kafka_event_t *event) {
    switch (rd_kafka_event_type(event)) {
    case RD_KAFKA_EVENT_DR:
        for (const rd_kafka_message_t *m; (m = rd_kafka_event_message_next(event));) {
            p->unanswered--;
            kafka_report(p, m);
        }
        kafka_gates_open(p);
        break;
    case RD_KAFKA_EVENT_ERROR: on_error(p, event); break;
    case RD_KAFKA_EVENT_CREATETOPICS_RESULT: kafka_topic_created(p, event); break;
    default: break;
    }
    rd_kafka_event_destroy(event);
}

static bool serve_one(struct kafka_producer *p, int wait_ms) {
    rd_kafka_event_t *event = rd_kafka_queue_poll(p->queue, wait_ms);
    if (event) serve(p, event);
    return event;
}

static void on_wake(void *arg) {
    struct kafka_producer *p = arg;
    int n = 0;
    if (p->retired) kafka_topics_fail(p, "the producer was replaced");
    while (n < EVENTS_A_TURN && serve_one(p, 0)) n++;
    if (n == EVENTS_A_TURN) kafka_wake_again(p->wake);
    else if (p->retired && idle(p)) producer_free(p);
}

// ---- beginning and closing

static size_t number_of(const rd_kafka_conf_t *conf, const char *name) {
    char value[32];
    size_t size = sizeof value;
    if (rd_kafka_conf_get(conf, name, value, &size)) die("no setting %s", name);
    return strtoul(value, NULL, 10);
}

struct kafka_producer *kafka_producer_new(struct kafka *k, bool alone, struct error *e) {
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_dup(k->settings.conf);
    kafka_conf_set(conf, "enable.idempotence", "true", "acks", "all", NULL);
    if (alone) kafka_conf_set(conf, "batch.num.messages", "1", NULL);
    size_t most = number_of(conf, "queue.buffering.max.messages");
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_CREATETOPICS_RESULT);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (!rk) {
        rd_kafka_conf_destroy(conf);
        error_set(e, ERR_INVALID, "no producer for Kafka: %s", why);
        return NULL;
    }
    struct kafka_producer *p = calloc(1, sizeof *p);
    if (!p) die("out of memory");
    p->bus = k;
    p->rk = rk;
    p->alone = alone;
    p->most = most;
    list_init(&p->drained);
    map_init(&p->topics, io_random_u64(k->io));
    list_init(&p->to_ask);
    p->queue = rd_kafka_queue_get_main(rk);
    p->wake = kafka_wake_new(k->loop, on_wake, p);
    kafka_wake_on(p->wake, p->queue);
    list_push_back(&k->producers, &p->node);
    return p;
}

struct kafka_producer *kafka_producer_together(struct kafka *k, struct error *e) {
    if (!k->together) k->together = kafka_producer_new(k, false, e);
    return k->together;
}

static bool flush(struct kafka_producer *p, uint64_t until_ns) {
    while (!idle(p) && io_monotonic_ns(p->bus->io) < until_ns) serve_one(p, POLL_MS);
    return idle(p);
}

// What waits to know its topic cannot be helped here: the answer comes through the loop.
void kafka_producer_close(struct kafka_producer *p, uint32_t patience_ms) {
    kafka_topics_fail(p, "the bus is closing");
    if (!flush(p, io_monotonic_ns(p->bus->io) + patience_ms * UINT64_C(1000000))) {
        purge(p);
        while (!idle(p)) serve_one(p, POLL_MS);
    }
    producer_free(p);
}
