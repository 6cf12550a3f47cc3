// What the Kafka bus costs beside librdkafka itself, and what it does over a long time: kafka_bench URL TOPIC MODE …
//
//   publish N          events a second of 200 bytes, acks=all, by the bus, and by librdkafka alone with the same
//   settings latency RATE S     from bus_publish to its answer, at so many a second endure RATE S      publishes and
//   consumes at once, publishing again what was answered as away; at the end everything
//                      must have come, each key in order; prints one line of JSON. For tests that break the broker.
//
// Not a test by itself.
#include "base/assert.h"
#include "base/io.h"
#include "base/loop.h"
#include "bus/kafka.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY      200
#define IN_FLIGHT 90000
#define KEYS      100
#define QUIET_MS  30000

struct bench {
    struct io *io;
    struct loop *loop;
    struct bus *bus;
    const char *topic;
    struct loop_timer tick;
    uint64_t wanted, sent, answered, rate, began_ns, until_ns;
    uint64_t *took_ns;
    char body[BODY];
    // endure
    struct bus_subscription *subscription;
    uint64_t next_of_key[KEYS], busy_of_key[KEYS], last_of_key[KEYS], received, repeated, disorder, away, refused,
        progress_ns;
};

struct one {
    struct bench *b;
    uint64_t sent_ns;
};

static uint64_t now(struct bench *b) { return io_monotonic_ns(b->io); }

static enum err publish(struct bench *b, uint64_t key, const char *body, bus_done_fn *done, void *arg) {
    char name[32];
    struct error e;
    snprintf(name, sizeof name, "key-%" PRIu64, key);
    struct bus_event v = {
        .event_id = id_new(b->io), .topic = b->topic, .key = name, .payload = body, .payload_length = BODY};
    return bus_publish(b->bus, &v, done, arg, &e);
}

// ---- publish

static void fill(struct bench *b);

static void on_answered(void *arg, enum err err, const char *why) {
    struct bench *b = arg;
    if (err) die("%s", why);
    if (++b->answered == b->wanted) loop_stop(b->loop);
    else if ((b->answered & 255) == 0) fill(b);
}

static void fill(struct bench *b) {
    while (b->sent < b->wanted && b->sent - b->answered < IN_FLIGHT) {
        if (publish(b, b->sent % 1000, b->body, on_answered, b)) return;
        b->sent++;
    }
}

static void warm_up(struct bench *b) {
    b->wanted = b->sent = 1;
    b->answered = 0;
    publish(b, 0, b->body, on_answered, b);
    loop_run(b->loop);
    b->sent = b->answered = 0;
}

static double by_the_bus(struct bench *b, uint64_t n) {
    warm_up(b);
    b->wanted = n;
    b->began_ns = now(b);
    fill(b);
    loop_run(b->loop);
    return (double)n * 1e9 / (double)(now(b) - b->began_ns);
}

static void raw_report(rd_kafka_t *rk, const rd_kafka_message_t *m, void *arg) {
    if (m->err) die("%s", rd_kafka_err2str(m->err));
    (*(uint64_t *)arg)++;
}

static void raw_send(rd_kafka_t *rk, rd_kafka_topic_t *topic, struct bench *b, uint64_t key) {
    char name[32];
    size_t length = (size_t)snprintf(name, sizeof name, "key-%" PRIu64, key % 1000);
    while (rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, b->body, BODY, name, length, NULL))
        rd_kafka_poll(rk, 1);
}

// Without headers, as rdkafka_performance does it.
static double by_itself(struct bench *b, uint64_t n) {
    char why[256];
    uint64_t answered = 0;
    rd_kafka_conf_t *conf = rd_kafka_conf_dup(((struct kafka *)b->bus)->settings.conf);
    kafka_conf_set(conf, "enable.idempotence", "true", "acks", "all", NULL);
    rd_kafka_conf_set_dr_msg_cb(conf, raw_report);
    rd_kafka_conf_set_opaque(conf, &answered);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, b->topic, NULL);
    raw_send(rk, topic, b, 0);
    rd_kafka_flush(rk, 10000);
    uint64_t began = now(b);
    for (uint64_t i = 0; i < n; i++) {
        raw_send(rk, topic, b, i);
        if ((i & 255) == 0) rd_kafka_poll(rk, 0);
    }
    while (answered <= n) rd_kafka_poll(rk, 10);
    double rate = (double)n * 1e9 / (double)(now(b) - began);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
    return rate;
}

// ---- latency

static void on_timed(void *arg, enum err err, const char *why) {
    struct one *one = arg;
    struct bench *b = one->b;
    if (err) die("%s", why);
    b->took_ns[b->answered++] = now(b) - one->sent_ns;
    free(one);
    if (b->answered == b->wanted) loop_stop(b->loop);
}

static void on_latency_tick(struct loop_timer *t) {
    struct bench *b = LIST_ITEM(t, struct bench, tick);
    uint64_t due = (now(b) - b->began_ns) * b->rate / UINT64_C(1000000000);
    for (; b->sent < due && b->sent < b->wanted; b->sent++) {
        struct one *one = malloc(sizeof *one);
        if (!one) die("out of memory");
        *one = (struct one){.b = b, .sent_ns = now(b)};
        if (publish(b, b->sent % 1000, b->body, on_timed, one)) die("not taken");
    }
    if (b->sent < b->wanted) loop_timer_start(b->loop, t, 1);
}

static int by_size(const void *x, const void *y) {
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return a < b ? -1 : a > b;
}

static void latency(struct bench *b, uint64_t rate, uint64_t seconds) {
    warm_up(b);
    b->rate = rate;
    b->wanted = rate * seconds;
    b->took_ns = calloc(b->wanted, sizeof *b->took_ns);
    if (!b->took_ns) die("out of memory");
    b->began_ns = now(b);
    b->tick.fn = on_latency_tick;
    loop_timer_start(b->loop, &b->tick, 1);
    loop_run(b->loop);
    qsort(b->took_ns, b->wanted, sizeof *b->took_ns, by_size);
    printf("latency at %" PRIu64 "/s: p50 %.2f ms, p99 %.2f ms, most %.2f ms\n", rate,
           (double)b->took_ns[b->wanted / 2] / 1e6, (double)b->took_ns[b->wanted * 99 / 100] / 1e6,
           (double)b->took_ns[b->wanted - 1] / 1e6);
    free(b->took_ns);
}

// ---- endure: of each key one event is under way, numbered from 1

static void on_key_answered(void *arg, enum err err, const char *why) {
    struct one *one = arg;
    struct bench *b = one->b;
    uint64_t key = one->sent_ns;
    free(one);
    b->busy_of_key[key] = 0;
    if (err == ERR_OK) {
        b->next_of_key[key]++;
        b->answered++;
        b->progress_ns = now(b);
    } else if (err == ERR_UNAVAILABLE) b->away++;
    else {
        b->refused++;
        fprintf(stderr, "refused: %s\n", why);
    }
}

static void send_key(struct bench *b, uint64_t key) {
    char body[BODY] = "";
    struct one *one = malloc(sizeof *one);
    if (!one) die("out of memory");
    *one = (struct one){.b = b, .sent_ns = key};
    snprintf(body, sizeof body, "%" PRIu64 " %" PRIu64, key, b->next_of_key[key] + 1);
    if (publish(b, key, body, on_key_answered, one)) free(one);
    else b->busy_of_key[key] = 1;
}

static void on_event(void *arg, const struct bus_delivery *d) {
    struct bench *b = arg;
    char *end;
    uint64_t key = strtoull(d->event.payload, &end, 10), n = strtoull(end, NULL, 10);
    if (n == b->last_of_key[key] + 1) {
        b->last_of_key[key] = n;
        b->received++;
        b->progress_ns = now(b);
    } else if (n <= b->last_of_key[key]) b->repeated++;
    else b->disorder++;
    bus_settle(b->subscription, d->tag, BUS_ACK, NULL);
}

static bool all_came(struct bench *b) {
    for (int i = 0; i < KEYS; i++)
        if (b->busy_of_key[i] || b->last_of_key[i] < b->next_of_key[i]) return false;
    return true;
}

static void on_endure_tick(struct loop_timer *t) {
    struct bench *b = LIST_ITEM(t, struct bench, tick);
    uint64_t at = now(b), due = (at - b->began_ns) * b->rate / UINT64_C(1000000000);
    bool over = at >= b->until_ns;
    for (; !over && b->sent < due; b->sent++)
        if (!b->busy_of_key[b->sent % KEYS]) send_key(b, b->sent % KEYS);
    if (over && (all_came(b) || at - b->progress_ns > QUIET_MS * UINT64_C(1000000))) loop_stop(b->loop);
    else loop_timer_start(b->loop, t, 1);
}

static int endure(struct bench *b, uint64_t rate, uint64_t seconds) {
    struct error e;
    char group[256];
    snprintf(group, sizeof group, "%s-readers", b->topic);
    struct bus_subscribe_options o = {.group = group, .pattern = b->topic};
    if (bus_subscribe(b->bus, &o, on_event, b, &b->subscription, &e)) die("%s", e.text);
    b->rate = rate;
    b->began_ns = b->progress_ns = now(b);
    b->until_ns = b->began_ns + seconds * UINT64_C(1000000000);
    b->tick.fn = on_endure_tick;
    loop_timer_start(b->loop, &b->tick, 1);
    loop_run(b->loop);
    printf("{\"confirmed\": %" PRIu64 ", \"received\": %" PRIu64 ", \"repeated\": %" PRIu64 ", \"disorder\": %" PRIu64
           ", \"away\": %" PRIu64 ", \"refused\": %" PRIu64 ", \"all\": %s}\n",
           b->answered, b->received, b->repeated, b->disorder, b->away, b->refused, all_came(b) ? "true" : "false");
    return all_came(b) && !b->disorder ? 0 : 1;
}

// ---- main

static uint64_t number(int argc, char **argv, int at) { return argc > at ? strtoull(argv[at], NULL, 10) : 0; }

int main(int argc, char **argv) {
    struct bench b = {0};
    struct error e;
    int status = 0;
    if (argc < 5) die("kafka_bench URL TOPIC publish|latency|endure …");
    b.topic = argv[2];
    memset(b.body, 'x', sizeof b.body);
    if (io_os_new(&b.io, "/tmp", &e) || loop_new(&b.loop, &e)) die("%s", e.text);
    if (bus_open(&b.bus, b.loop, &(struct bus_options){.url = argv[1], .io = b.io}, &e)) die("%s", e.text);
    uint64_t first = number(argc, argv, 4), second = number(argc, argv, 5);
    if (strcmp(argv[3], "publish") == 0) {
        double raw = by_itself(&b, first), ours = by_the_bus(&b, first);
        printf("publish: the bus %.0f/s, librdkafka alone %.0f/s, %.2f of it\n", ours, raw, ours / raw);
    } else if (strcmp(argv[3], "latency") == 0) latency(&b, first, second);
    else status = endure(&b, first, second);
    bus_close(b.bus);
    loop_free(b.loop);
    io_os_free(b.io);
    return status;
}
