// For the tests of the Kafka bus: a loop, a bus on some broker, and a plain reader of librdkafka's beside it, so that
// what arrived is not judged by the code that sent it.
#ifndef BARID_BUS_KAFKA_RIG_TEST_H
#define BARID_BUS_KAFKA_RIG_TEST_H

#include "base/test.h"

#include "base/io.h"
#include "base/loop.h"
#include "bus/kafka.h"

#include <librdkafka/rdkafka_mock.h>

#define PATIENCE_MS 40000

struct rig {
    char address[256], prefix[48], dir[64];
    struct io *io;
    struct loop *loop;
    struct bus *bus;
    struct loop_timer patience, look;
    bool (*until)(void *arg);
    void *until_arg;
    struct error err;
};

struct answers {
    struct rig *rig;
    uint32_t n, of[ERR_COUNT];
    char why[512]; // the last that was not ok
};

static void out_of_patience(struct loop_timer *t) { fail_msg("nothing happened for too long"); }

static void look(struct loop_timer *t) {
    struct rig *r = LIST_ITEM(t, struct rig, look);
    if (r->until(r->until_arg)) loop_stop(r->loop);
    else loop_timer_start(r->loop, t, 1);
}

static inline void run_until(struct rig *r, bool (*until)(void *arg), void *arg) {
    r->until = until;
    r->until_arg = arg;
    loop_timer_start(r->loop, &r->patience, PATIENCE_MS);
    loop_timer_start(r->loop, &r->look, 0);
    loop_run(r->loop);
    loop_timer_stop(r->loop, &r->patience);
}

static inline void rig_init(struct rig *r, const char *address) {
    memset(r, 0, sizeof *r);
    snprintf(r->address, sizeof r->address, "%s", address);
    snprintf(r->dir, sizeof r->dir, "/tmp/barid-kafka-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    if (io_os_new(&r->io, r->dir, &r->err)) fail_msg("%s", r->err.text);
    snprintf(r->prefix, sizeof r->prefix, "unit%08x", (unsigned)io_random_u64(r->io));
    if (loop_new(&r->loop, &r->err)) fail_msg("%s", r->err.text);
    r->patience.fn = out_of_patience;
    r->look.fn = look;
}

static inline void rig_open(struct rig *r, const char *settings) {
    char url[1024];
    snprintf(url, sizeof url, "kafka://%s?create_topics=true&partitions=2&replication=1&%s", r->address, settings);
    if (bus_open(&r->bus, r->loop, &(struct bus_options){.url = url, .io = r->io}, &r->err))
        fail_msg("%s", r->err.text);
}

static inline void rig_release(struct rig *r) {
    bus_close(r->bus);
    loop_timer_stop(r->loop, &r->look);
    loop_timer_stop(r->loop, &r->patience);
    loop_free(r->loop);
    io_os_free(r->io);
    remove(r->dir);
}

// librdkafka's own cluster, which can be told to fail.
struct mock {
    struct rig rig; // first: a test sees a rig
    rd_kafka_t *rk;
    rd_kafka_mock_cluster_t *cluster;
};

static void mute(const rd_kafka_t *rk, int level, const char *facility, const char *text) {}

// Without a bus yet: its topics come first.
static inline struct mock *mock_new(void) {
    struct mock *m = calloc(1, sizeof *m);
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_log_cb(conf, mute);
    m->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    m->cluster = rd_kafka_mock_cluster_new(m->rk, 1);
    rig_init(&m->rig, rd_kafka_mock_cluster_bootstraps(m->cluster));
    return m;
}

static inline int teardown_mock(void **state) {
    struct mock *m = *state;
    rig_release(&m->rig);
    rd_kafka_mock_cluster_destroy(m->cluster);
    rd_kafka_destroy(m->rk);
    free(m);
    return 0;
}

// NULL when BARID_TEST_KAFKA names no broker: rig_of() skips the test then.
static inline int open_real(void **state, const char *settings) {
    const char *address = getenv("BARID_TEST_KAFKA");
    *state = NULL;
    if (!address) return 0;
    struct rig *r = calloc(1, sizeof *r);
    rig_init(r, address);
    rig_open(r, settings);
    *state = r;
    return 0;
}

static inline int teardown_real(void **state) {
    if (*state) rig_release(*state);
    free(*state);
    return 0;
}

static inline struct rig *rig_of(void **state) {
    if (*state) return *state;
    print_message("no Kafka: BARID_TEST_KAFKA=HOST:PORT is not set\n");
    skip();
    return NULL;
}

// A topic of this rig alone. Four may be in use at once.
static inline const char *topic_of(struct rig *r, const char *name) {
    static char names[4][KAFKA_TOPIC_MAX];
    static int at;
    char *out = names[at++ % 4];
    snprintf(out, KAFKA_TOPIC_MAX, "%s.%s", r->prefix, name);
    return out;
}

static inline void on_answer(void *arg, enum err err, const char *why) {
    struct answers *a = arg;
    a->n++;
    a->of[err]++;
    if (err) snprintf(a->why, sizeof a->why, "%s", why);
}

static inline enum err try_put(struct rig *r, const char *topic, const char *key, const void *body, size_t length,
                               struct answers *a) {
    struct bus_event v = {
        .event_id = id_new(r->io), .topic = topic, .key = key, .payload = body, .payload_length = length};
    return bus_publish(r->bus, &v, on_answer, a, &r->err);
}

static inline void put(struct rig *r, const char *topic, const char *key, const char *body, struct answers *a) {
    if (try_put(r, topic, key, body, strlen(body), a)) fail_msg("%s", r->err.text);
}

struct wanted {
    struct answers *answers;
    uint32_t n;
};

static bool has_answers(void *arg) {
    struct wanted *w = arg;
    return w->answers->n >= w->n;
}

static inline void run_until_answers(struct rig *r, struct answers *a, uint32_t n) {
    run_until(r, has_answers, &(struct wanted){a, n});
}

// ---- a plain reader

struct record {
    char key[64], value[64], headers[1024]; // "name=value;…"
    int32_t partition;
};

static inline void note_headers(struct record *out, const rd_kafka_message_t *m) {
    rd_kafka_headers_t *headers;
    const char *name;
    const void *value;
    size_t size, at = 0;
    if (rd_kafka_message_headers(m, &headers)) return;
    for (size_t i = 0; !rd_kafka_header_get_all(headers, i, &name, &value, &size); i++)
        at += (size_t)snprintf(out->headers + at, sizeof out->headers - at, "%s=%.*s;", name, (int)size,
                               (const char *)value);
}

// The first n records of a topic, as they lie in its two partitions.
static inline void read_records(struct rig *r, const char *topic, struct record *out, uint32_t n) {
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    kafka_conf_set(conf, "bootstrap.servers", r->address, "group.id", "reader", NULL);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    rd_kafka_topic_partition_list_t *all = rd_kafka_topic_partition_list_new(2);
    for (int i = 0; i < 2; i++) rd_kafka_topic_partition_list_add(all, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    assert_int_equal(rd_kafka_assign(rk, all), 0);
    rd_kafka_topic_partition_list_destroy(all);
    uint64_t end = io_monotonic_ns(r->io) + PATIENCE_MS * UINT64_C(1000000);
    for (uint32_t i = 0; i < n;) {
        if (io_monotonic_ns(r->io) > end) fail_msg("only %u of %u records are there", i, n);
        rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, 100);
        if (m && !m->err) {
            memset(&out[i], 0, sizeof out[i]);
            snprintf(out[i].key, sizeof out[i].key, "%.*s", (int)m->key_len, m->key ? (char *)m->key : "");
            snprintf(out[i].value, sizeof out[i].value, "%.*s", (int)m->len, m->payload ? (char *)m->payload : "");
            out[i].partition = m->partition;
            note_headers(&out[i++], m);
        }
        if (m) rd_kafka_message_destroy(m);
    }
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
}

#endif
