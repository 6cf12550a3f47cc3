// outbox_watch: reads a topic of Kafka from its beginning by librdkafka alone, and says what came.
//
//   outbox_watch --brokers HOST:PORT --topic orders --events 100000 --commits FILE [--skip 5000] [--idle 30]
//
// Every event must come (lost), once (duplicates), and those of a key with rising numbers when they come for the first
// time (out_of_order). With the file of commit times that outbox_load writes, latencies from COMMIT are told: to here
// (`consumed`), and to the broker's log (`kafka`, from the record's timestamp, so the topic has LogAppendTime; it has
// milliseconds, cut off, so half of one is added). What came before its COMMIT had answered its client counts as 0.
//
// It ends when all events came and a second more brought nothing, or after --idle seconds without anything. `per_s` is
// the rate between the first event and the last. Says `watching` when it is about to read, and one line of JSON at the
// end.
#include "cli/bench/histogram.h"
#include "outbox/event.h"

#include <getopt.h>
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH          1000
#define PARTITIONS_MAX 1024
#define METADATA_MS    10000
#define GRACE_NS       1000000000
#define TOLD_MAX       10

static struct {
    const char *brokers, *topic, *commits;
    uint64_t events, skip;
    uint32_t idle, keys;
} o = {.topic = "orders", .idle = 30, .keys = 1000};

struct watch {
    rd_kafka_t *kafka;
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *queue;
    int64_t *came_ns, *kafka_ns; // by number; the latter by the wall clock
    int64_t *last;               // by key: the greatest number so far, -1
    uint64_t messages, distinct, duplicates, out_of_order, strange;
    int64_t first_ns, last_ns;
};

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char why[256];
    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK) fail("%s", why);
}

static void open_topic(struct watch *w) {
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", o.brokers);
    set(conf, "socket.nagle.disable", "true");
    set(conf, "queued.min.messages", "1000000");
    set(conf, "queued.max.messages.kbytes", "262144");
    set(conf, "fetch.error.backoff.ms", "10");
    w->kafka = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (!w->kafka) fail("%s", why);
    w->topic = rd_kafka_topic_new(w->kafka, o.topic, NULL);
    w->queue = rd_kafka_queue_new(w->kafka);
    const struct rd_kafka_metadata *m;
    rd_kafka_resp_err_t err = rd_kafka_metadata(w->kafka, 0, w->topic, &m, METADATA_MS);
    if (err) fail("%s: %s", o.brokers, rd_kafka_err2str(err));
    if (m->topic_cnt != 1 || m->topics[0].err || m->topics[0].partition_cnt > PARTITIONS_MAX)
        fail("no topic %s", o.topic);
    for (int p = 0; p < m->topics[0].partition_cnt; p++) {
        if (rd_kafka_consume_start_queue(w->topic, p, RD_KAFKA_OFFSET_BEGINNING, w->queue)) fail("cannot consume");
    }
    rd_kafka_metadata_destroy(m);
}

// The first few are told, so that they can be looked for.
static void out_of_order(struct watch *w, const rd_kafka_message_t *m, const struct event *e) {
    if (++w->out_of_order > TOLD_MAX) return;
    fprintf(stderr,
            "outbox_watch: event %" PRIu64 " of key %" PRIu32 " comes after %" PRId64 ": partition %d, offset %" PRId64
            "\n",
            e->number, e->key, w->last[e->key], (int)m->partition, m->offset);
}

static void note(struct watch *w, const rd_kafka_message_t *m, int64_t now) {
    struct event e;
    if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) return;
    if (m->err) fail("%s", rd_kafka_message_errstr(m));
    w->messages++;
    w->last_ns = now;
    if (!w->first_ns) w->first_ns = now;
    if (!event_read(m->payload, m->len, &e) || e.number >= o.events || e.key >= o.keys) {
        w->strange++;
        return;
    }
    if (w->came_ns[e.number]) {
        w->duplicates++;
        return;
    }
    rd_kafka_timestamp_type_t kind;
    int64_t stamp = rd_kafka_message_timestamp(m, &kind);
    if (kind == RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME) w->kafka_ns[e.number] = stamp * 1000000 + 500000;
    w->came_ns[e.number] = now;
    w->distinct++;
    if ((int64_t)e.number < w->last[e.key]) out_of_order(w, m, &e);
    else w->last[e.key] = (int64_t)e.number;
}

static void read_all(struct watch *w) {
    rd_kafka_message_t *batch[BATCH];
    int64_t heard = monotonic_ns();
    for (;;) {
        ssize_t n = rd_kafka_consume_batch_queue(w->queue, 5, batch, BATCH);
        int64_t now = monotonic_ns();
        for (ssize_t i = 0; i < n; i++) {
            note(w, batch[i], now);
            rd_kafka_message_destroy(batch[i]);
        }
        if (n > 0) heard = now;
        if (w->distinct == o.events && now - heard > GRACE_NS) return;
        if (now - heard > (int64_t)o.idle * 1000000000) return;
    }
}

static uint64_t since(int64_t at, int64_t begun) { return at > begun ? (uint64_t)(at - begun) : 0; }

static void print_times(const char *name, const struct histogram *h) {
    printf(", \"%s_ms\": {\"count\": %" PRIu64 ", \"p50\": %.3f, \"p99\": %.3f, \"p999\": %.3f, \"max\": %.3f}", name,
           h->count, histogram_ms(h, 0.5), histogram_ms(h, 0.99), histogram_ms(h, 0.999), (double)h->max / 1e6);
}

static void report(struct watch *w) {
    static struct histogram consumed, kafka;
    const int64_t *commits = o.commits ? times_map(o.commits, o.events) : NULL;
    int64_t wall = realtime_ns() - monotonic_ns();
    uint64_t stored = 0, lost = 0;
    for (uint64_t i = 0; i < o.events; i++) {
        bool committed = commits ? commits[i] != 0 : true;
        stored += committed;
        lost += committed && !w->came_ns[i];
        if (!commits || !committed || !w->came_ns[i] || i < o.skip) continue;
        histogram_add(&consumed, since(w->came_ns[i], commits[i]));
        if (w->kafka_ns[i]) histogram_add(&kafka, since(w->kafka_ns[i], commits[i] + wall));
    }
    double seconds = (double)(w->last_ns - w->first_ns) / 1e9;
    printf("{\"stored\": %" PRIu64 ", \"messages\": %" PRIu64 ", \"distinct\": %" PRIu64 ", \"lost\": %" PRIu64
           ", \"duplicates\": %" PRIu64 ", \"out_of_order\": %" PRIu64 ", \"strange\": %" PRIu64
           ", \"seconds\": %.3f, \"per_s\": %.1f, \"first_ns\": %" PRId64 ", \"last_ns\": %" PRId64
           ", \"cpu_seconds\": %.3f",
           stored, w->messages, w->distinct, lost, w->duplicates, w->out_of_order, w->strange, seconds,
           seconds > 0 ? (double)w->distinct / seconds : 0.0, w->first_ns, w->last_ns, cpu_seconds());
    print_times("consumed", &consumed);
    print_times("kafka", &kafka);
    printf("}\n");
}

static void parse(int argc, char **argv) {
    static const struct option options[] = {
        {"brokers", required_argument, NULL, 'b'}, {"topic", required_argument, NULL, 't'},
        {"events", required_argument, NULL, 'n'},  {"commits", required_argument, NULL, 'C'},
        {"skip", required_argument, NULL, 's'},    {"idle", required_argument, NULL, 'i'},
        {"keys", required_argument, NULL, 'K'},    {NULL, 0, NULL, 0},
    };
    int got, index;
    while ((got = getopt_long(argc, argv, "", options, &index)) != -1) {
        const char *name = got == '?' ? "" : options[index].name;
        switch (got) {
        case 'b': o.brokers = optarg; break;
        case 't': o.topic = optarg; break;
        case 'n': o.events = number_option(name, optarg, EVENTS_MAX); break;
        case 'C': o.commits = optarg; break;
        case 's': o.skip = number_option(name, optarg, EVENTS_MAX); break;
        case 'i': o.idle = (uint32_t)number_option(name, optarg, 100000); break;
        case 'K': o.keys = (uint32_t)number_option(name, optarg, KEYS_MAX); break;
        default: exit(2);
        }
    }
    if (!o.brokers || !o.events) fail("--brokers and --events say where, and how many");
}

int main(int argc, char **argv) {
    parse(argc, argv);
    struct watch w = {.came_ns = allocate(o.events, sizeof(int64_t)), .kafka_ns = allocate(o.events, sizeof(int64_t))};
    w.last = allocate(o.keys, sizeof *w.last);
    for (uint32_t i = 0; i < o.keys; i++) w.last[i] = -1;
    open_topic(&w);
    printf("watching\n");
    fflush(stdout);
    read_all(&w);
    report(&w);
    return 0;
}
