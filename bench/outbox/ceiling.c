// outbox_ceiling: what the parts could do if there were nothing between them. One line of JSON each.
//
//   outbox_ceiling produce --brokers HOST:PORT --topic T --events N    librdkafka, acks=all, idempotent, six headers
//   outbox_ceiling delete --url postgresql://… --batch B --connections C    `delete … returning` empties barid.outbox
//   outbox_ceiling inbox --url postgresql://… --batch B --events N    what receiving writes, and then deletes
//
// `produce` sends what the relay would send: payload, key, and headers of the same number and length. `inbox` writes
// the rows of inbox and inbox_queue and the offset in one transaction a batch, then reads and deletes the queue in
// batches.
#include "outbox/event.h"

#include <getopt.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_MAX       100000
#define CONNECTIONS_MAX 64
#define BYTES_MAX       (1 << 20)
#define FLUSH_MS        120000

static struct {
    const char *mode, *url, *brokers, *topic, *linger;
    uint64_t events;
    uint32_t batch, connections, keys, bytes;
} o = {
    .topic = "ceiling", .linger = "5", .events = 100000, .batch = 1000, .connections = 1, .keys = 1000, .bytes = 200};

static void report(const char *what, uint64_t n, int64_t begun_ns, double cpu) {
    double seconds = (double)(monotonic_ns() - begun_ns) / 1e9;
    printf("{\"mode\": \"%s\", \"events\": %" PRIu64 ", \"seconds\": %.3f, \"per_s\": %.1f, \"cpu_seconds\": %.3f}\n",
           what, n, seconds, seconds > 0 ? (double)n / seconds : 0.0, cpu_seconds() - cpu);
}

// --- Kafka ---

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char why[256];
    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK) fail("%s", why);
}

static void delivered(rd_kafka_t *kafka, const rd_kafka_message_t *m, void *arg) {
    if (m->err) fail("%s", rd_kafka_err2str(m->err));
    ++*(uint64_t *)arg;
}

// As many and as long as the relay's, so that both write the same bytes.
static rd_kafka_headers_t *headers(uint64_t number) {
    static const char *const fixed[][2] = {
        {"ce_specversion", "1.0"},
        {"ce_type", "orders"},
        {"ce_source", "/barid"},
        {"ce_time", "2026-11-21T05:06:07.089Z"},
        {"content-type", "application/octet-stream"},
    };
    char id[64];
    rd_kafka_headers_t *h = rd_kafka_headers_new(6);
    snprintf(id, sizeof id, "0190a5b2-0000-7000-8000-%012" PRIu64, number);
    rd_kafka_header_add(h, "ce_id", -1, id, -1);
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) rd_kafka_header_add(h, fixed[i][0], -1, fixed[i][1], -1);
    return h;
}

static void produce_one(rd_kafka_t *kafka, const struct event *event, const char *payload) {
    char key[EVENT_KEY];
    event_key(key, event->key);
    for (;;) {
        rd_kafka_headers_t *h = headers(event->number);
        rd_kafka_resp_err_t err = rd_kafka_producev(kafka, RD_KAFKA_V_TOPIC(o.topic), RD_KAFKA_V_KEY(key, strlen(key)),
                                                    RD_KAFKA_V_VALUE((void *)payload, o.bytes), RD_KAFKA_V_HEADERS(h),
                                                    RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
        if (!err) return;
        rd_kafka_headers_destroy(h);
        if (err != RD_KAFKA_RESP_ERR__QUEUE_FULL) fail("%s", rd_kafka_err2str(err));
        rd_kafka_poll(kafka, LATEST_WAIT);
    }
}

static void produce(void) {
    char why[256];
    uint64_t confirmed = 0;
    char *payload = allocate(o.bytes + 1, 1);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", o.brokers);
    set(conf, "enable.idempotence", "true");
    set(conf, "acks", "all");
    set(conf, "linger.ms", o.linger);
    set(conf, "partitioner", "murmur2_random");
    set(conf, "socket.nagle.disable", "true");
    rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    rd_kafka_conf_set_opaque(conf, &confirmed);
    rd_kafka_t *kafka = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (!kafka) fail("%s", why);
    double cpu = cpu_seconds();
    int64_t begun = monotonic_ns();
    for (uint64_t i = 0; i < o.events; i++) {
        struct event event = {.number = i, .key = (uint32_t)(i % o.keys)};
        event_write(payload, o.bytes, &event);
        produce_one(kafka, &event, payload);
        rd_kafka_poll(kafka, 0);
    }
    if (rd_kafka_flush(kafka, FLUSH_MS) || confirmed != o.events) fail("%" PRIu64 " confirmed", confirmed);
    report("produce", confirmed, begun, cpu);
}

// --- PostgreSQL ---

static PGconn *connect_database(void) {
    PGconn *c = PQconnectdb(o.url);
    if (PQstatus(c) != CONNECTION_OK) fail("%s", PQerrorMessage(c));
    return c;
}

static void prepare(PGconn *c, const char *name, const char *sql) {
    PGresult *r = PQprepare(c, name, sql, 0, NULL);
    if (PQresultStatus(r) != PGRES_COMMAND_OK) fail("%s", PQerrorMessage(c));
    PQclear(r);
}

// Rows given or touched; rows come in binary, which costs both sides the least.
static uint64_t execute(PGconn *c, const char *name, int n, const char *const *values) {
    PGresult *r = PQexecPrepared(c, name, n, values, NULL, NULL, 1);
    if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK) fail("%s", PQerrorMessage(c));
    uint64_t rows = strtoull(PQcmdTuples(r), NULL, 10);
    PQclear(r);
    return rows;
}

static void *delete_batches(void *arg) {
    _Atomic uint64_t *deleted = arg;
    char batch[16];
    const char *values[] = {batch};
    snprintf(batch, sizeof batch, "%" PRIu32, o.batch);
    PGconn *c = connect_database();
    prepare(
        c, "delete",
        "with taken as (select id from barid.outbox where state = 0 order by id limit $1::int for update skip locked) "
        "delete from barid.outbox o using taken t where o.id = t.id "
        "returning o.id, o.event_id, o.topic, o.key, o.payload, o.headers, o.stored_at");
    for (uint64_t n; (n = execute(c, "delete", 1, values));) atomic_fetch_add(deleted, n);
    PQfinish(c);
    return NULL;
}

static void delete_all(void) {
    pthread_t threads[CONNECTIONS_MAX];
    _Atomic uint64_t deleted = 0;
    double cpu = cpu_seconds();
    int64_t begun = monotonic_ns();
    for (uint32_t i = 0; i < o.connections; i++) {
        if (pthread_create(&threads[i], NULL, delete_batches, &deleted)) fail("no thread");
    }
    for (uint32_t i = 0; i < o.connections; i++) pthread_join(threads[i], NULL);
    report("delete", deleted, begun, cpu);
}

// One statement is one transaction: what a batch leaves behind when it was taken in.
#define TAKE_IN                                                                                                        \
    "with came as (select i, gen_random_uuid() as event_id from generate_series($1::bigint, $1::bigint + $2::int - "   \
    "1) i), "                                                                                                          \
    "fresh as (insert into barid.inbox (consumer, event_id) select 'ceiling', event_id from came "                     \
    "          on conflict do nothing returning event_id), "                                                           \
    "kept as (insert into barid.offsets (consumer, topic, partition, next_offset) "                                    \
    "         values ('ceiling', 'orders', 0, $1::bigint + $2::int) "                                                  \
    "         on conflict (consumer, topic, partition) do update set next_offset = excluded.next_offset) "             \
    "insert into barid.inbox_queue (consumer, event_id, topic, key, payload, place) "                                  \
    "select 'ceiling', event_id, 'orders', 'key-' || i % $3::int, convert_to(repeat('x', $4::int), 'UTF8'), "          \
    "       'orders/0@' || i from came join fresh using (event_id)"

static void take_in(PGconn *c) {
    double cpu = cpu_seconds();
    int64_t begun = monotonic_ns();
    uint64_t taken = 0;
    char first[24], batch[16], keys[16], bytes[16];
    const char *values[] = {first, batch, keys, bytes};
    snprintf(batch, sizeof batch, "%" PRIu32, o.batch);
    snprintf(keys, sizeof keys, "%" PRIu32, o.keys);
    snprintf(bytes, sizeof bytes, "%" PRIu32, o.bytes);
    prepare(c, "take_in", TAKE_IN);
    while (taken < o.events) {
        snprintf(first, sizeof first, "%" PRIu64, taken);
        taken += execute(c, "take_in", 4, values);
    }
    report("inbox: taken in", taken, begun, cpu);
}

static void let_go(PGconn *c) {
    double cpu = cpu_seconds();
    int64_t begun = monotonic_ns();
    uint64_t gone = 0;
    char batch[16];
    const char *values[] = {batch};
    snprintf(batch, sizeof batch, "%" PRIu32, o.batch);
    prepare(c, "let_go",
            "with taken as (select id from barid.inbox_queue where consumer = 'ceiling' and state = 0 "
            "order by id limit $1::int) delete from barid.inbox_queue q using taken t "
            "where q.consumer = 'ceiling' and q.id = t.id returning q.*");
    for (uint64_t n; (n = execute(c, "let_go", 1, values));) gone += n;
    report("inbox: let go", gone, begun, cpu);
}

static void inbox(void) {
    PGconn *c = connect_database();
    take_in(c);
    let_go(c);
    PQfinish(c);
}

static void parse(int argc, char **argv) {
    static const struct option options[] = {
        {"url", required_argument, NULL, 'u'},    {"brokers", required_argument, NULL, 'b'},
        {"topic", required_argument, NULL, 't'},  {"events", required_argument, NULL, 'n'},
        {"batch", required_argument, NULL, 'B'},  {"connections", required_argument, NULL, 'c'},
        {"keys", required_argument, NULL, 'K'},   {"bytes", required_argument, NULL, 'y'},
        {"linger", required_argument, NULL, 'l'}, {NULL, 0, NULL, 0},
    };
    int got, index;
    while ((got = getopt_long(argc, argv, "", options, &index)) != -1) {
        const char *name = got == '?' ? "" : options[index].name;
        switch (got) {
        case 'u': o.url = optarg; break;
        case 'b': o.brokers = optarg; break;
        case 't': o.topic = optarg; break;
        case 'n': o.events = number_option(name, optarg, EVENTS_MAX); break;
        case 'B': o.batch = (uint32_t)number_option(name, optarg, BATCH_MAX); break;
        case 'c': o.connections = (uint32_t)number_option(name, optarg, CONNECTIONS_MAX); break;
        case 'K': o.keys = (uint32_t)number_option(name, optarg, KEYS_MAX); break;
        case 'y': o.bytes = (uint32_t)number_option(name, optarg, BYTES_MAX); break;
        case 'l': o.linger = optarg; break;
        default: exit(2);
        }
    }
    if (optind + 1 != argc) fail("one of produce, delete, inbox");
    if (!o.batch || !o.connections || !o.keys || o.bytes < EVENT_HEAD) fail("a number is too small");
    o.mode = argv[optind];
}

int main(int argc, char **argv) {
    parse(argc, argv);
    if (!strcmp(o.mode, "produce") && o.brokers) produce();
    else if (!strcmp(o.mode, "delete") && o.url) delete_all();
    else if (!strcmp(o.mode, "inbox") && o.url) inbox();
    else fail("produce --brokers …, delete --url … or inbox --url …");
    return 0;
}
