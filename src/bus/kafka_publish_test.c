// Publishing to Kafka: on librdkafka's mock cluster, which can be told to fail, and on a real broker when
// BARID_TEST_KAFKA=HOST:PORT names one (tools/kafka.py -- COMMAND).
#include "bus/kafka_rig_test.h"

#include <time.h>

#define API_PRODUCE 0

static int setup_mock(void **state) {
    struct mock *m = mock_new();
    assert_int_equal(rd_kafka_mock_topic_create(m->cluster, "never", 2, 1), 0);
    for (int i = 0; i < 3; i++) // the mock makes topics by itself, with partitions that nobody asked for
        rd_kafka_mock_topic_create(m->cluster, topic_of(&m->rig, (const char *[]){"orders", "keys", "closing"}[i]), 2,
                                   1);
    rig_open(&m->rig,
             "message.timeout.ms=2000&socket.timeout.ms=1000&request.timeout.ms=1000&queue.buffering.max.messages=100");
    *state = &m->rig;
    return 0;
}

static int setup_real(void **state) { return open_real(state, ""); }

static struct kafka *bus_of(struct rig *r) { return (struct kafka *)r->bus; }

// ---- on both

static void an_event_is_a_record_with_the_headers_of_a_cloud_event(void **state) {
    struct rig *r = rig_of(state);
    struct answers a = {0};
    struct record got;
    char id[ID_TEXT], wanted[64];
    struct bus_header own[] = {{"traceparent", "00-1-2-01"}, {"ce_id", "not this one"}, {"ce_source", "shop"}};
    struct bus_event v = {.event_id = id_new(r->io),
                          .topic = topic_of(r, "orders"),
                          .key = "order-1",
                          .payload = "{}",
                          .payload_length = 2,
                          .headers = own,
                          .header_count = 3};
    assert_int_equal(bus_publish(r->bus, &v, on_answer, &a, &r->err), ERR_OK);
    run_until_answers(r, &a, 1);
    assert_int_equal(a.of[ERR_OK], 1);
    read_records(r, v.topic, &got, 1);
    id_format(&v.event_id, id);
    snprintf(wanted, sizeof wanted, "ce_id=%s;", id);
    assert_string_equal(got.key, "order-1");
    assert_string_equal(got.value, "{}");
    assert_non_null(strstr(got.headers, wanted));
    assert_null(strstr(got.headers, "not this one"));
    assert_non_null(strstr(got.headers, "ce_specversion=1.0;"));
    assert_non_null(strstr(got.headers, "ce_source=shop;"));
    assert_null(strstr(got.headers, "ce_source=barid;"));
    assert_non_null(strstr(got.headers, ".orders;")); // the end of ce_type
    assert_non_null(strstr(got.headers, "ce_time=20"));
    assert_non_null(strstr(got.headers, "content-type=application/json;"));
    assert_non_null(strstr(got.headers, "traceparent=00-1-2-01;"));
}

static void events_of_a_key_lie_in_one_partition_in_order(void **state) {
    struct rig *r = rig_of(state);
    struct answers a = {0};
    static struct record got[60];
    char key[16], body[16];
    int next[3] = {0}, where[3] = {-1, -1, -1};
    for (int i = 0; i < 60; i++) {
        snprintf(key, sizeof key, "k%d", i % 3);
        snprintf(body, sizeof body, "%d", i);
        put(r, topic_of(r, "keys"), key, body, &a);
    }
    run_until_answers(r, &a, 60);
    assert_int_equal(a.of[ERR_OK], 60);
    read_records(r, topic_of(r, "keys"), got, 60);
    for (int i = 0; i < 60; i++) {
        int k = got[i].key[1] - '0';
        assert_int_equal(strtol(got[i].value, NULL, 10), k + 3 * next[k]++);
        if (where[k] < 0) where[k] = got[i].partition;
        assert_int_equal(got[i].partition, where[k]);
    }
}

static void closing_answers_what_was_published(void **state) {
    struct rig *r = rig_of(state);
    struct answers a = {0};
    put(r, topic_of(r, "closing"), NULL, "a", &a);
    run_until_answers(r, &a, 1);
    for (int i = 0; i < 50; i++) put(r, topic_of(r, "closing"), NULL, "b", &a);
    bus_close(r->bus);
    assert_int_equal(a.of[ERR_OK], 51);
    rig_open(r, "");
}

static bool is_reachable(void *arg) { return bus_reachable(arg); }
static bool is_away(void *arg) { return !bus_reachable(arg); }

static void a_broker_that_is_there_is_reachable(void **state) {
    struct rig *r = rig_of(state);
    run_until(r, is_reachable, r->bus);
}

// ---- on the real one

static void make_topic(struct rig *r, const char *name, const char *setting, const char *value) {
    char why[256];
    rd_kafka_t *rk = bus_of(r)->together->rk;
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(name, 2, 1, why, sizeof why);
    rd_kafka_queue_t *q = rd_kafka_queue_new(rk);
    rd_kafka_NewTopic_set_config(topic, setting, value);
    rd_kafka_CreateTopics(rk, &topic, 1, NULL, q);
    rd_kafka_event_destroy(rd_kafka_queue_poll(q, PATIENCE_MS));
    rd_kafka_queue_destroy(q);
    rd_kafka_NewTopic_destroy(topic);
}

static void only_the_event_that_is_too_large_fails(void **state) {
    struct rig *r = rig_of(state);
    struct answers good = {0}, bad = {0};
    static struct record got[41];
    char large[5000], body[16];
    memset(large, 'x', sizeof large);
    make_topic(r, topic_of(r, "small"), "max.message.bytes", "2000");
    put(r, topic_of(r, "small"), "k", "0", &good);
    run_until_answers(r, &good, 1);
    for (int i = 1; i <= 40; i++) {
        snprintf(body, sizeof body, "%d", i);
        put(r, topic_of(r, "small"), "k", body, &good);
        if (i == 20) assert_int_equal(try_put(r, topic_of(r, "small"), "k", large, sizeof large, &bad), ERR_OK);
    }
    run_until_answers(r, &good, 41);
    run_until_answers(r, &bad, 1);
    assert_int_equal(good.of[ERR_OK], 41);
    assert_int_equal(bad.of[ERR_TOO_LARGE], 1);
    read_records(r, topic_of(r, "small"), got, 41);
}

static void an_event_larger_than_the_client_takes_is_refused_at_once(void **state) {
    struct rig *r = rig_of(state);
    struct answers a = {0};
    static char large[2000000];
    put(r, topic_of(r, "large"), NULL, "x", &a);
    run_until_answers(r, &a, 1);
    assert_int_equal(try_put(r, topic_of(r, "large"), NULL, large, sizeof large, &a), ERR_TOO_LARGE);
}

static void an_unknown_topic_is_the_events_fault(void **state) {
    struct rig *r = rig_of(state);
    struct answers a = {0};
    bus_of(r)->settings.create_topics = false;
    put(r, topic_of(r, "none"), "k", "x", &a);
    run_until_answers(r, &a, 1);
    assert_int_equal(a.of[ERR_NOT_FOUND], 1);
    assert_non_null(strstr(a.why, "UNKNOWN_TOPIC"));
    bus_of(r)->settings.create_topics = true; // and it is not held against the topic
    put(r, topic_of(r, "none"), "k", "x", &a);
    run_until_answers(r, &a, 2);
    assert_int_equal(a.of[ERR_OK], 1);
}

// ---- on the mock

static void what_passes_is_not_seen(void **state) {
    struct mock *m = *state;
    struct answers a = {0};
    rd_kafka_mock_push_request_errors(m->cluster, API_PRODUCE, 3, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
                                      RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, RD_KAFKA_RESP_ERR__TRANSPORT);
    put(&m->rig, "never", "k", "x", &a);
    run_until_answers(&m->rig, &a, 1);
    assert_int_equal(a.of[ERR_OK], 1);
}

static void a_topic_that_is_not_ours_to_write_is_the_events_fault(void **state) {
    struct mock *m = *state;
    struct answers a = {0};
    rd_kafka_mock_push_request_errors(m->cluster, API_PRODUCE, 1, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    put(&m->rig, "never", "k", "x", &a);
    run_until_answers(&m->rig, &a, 1);
    assert_int_equal(a.of[ERR_FORBIDDEN], 1);
}

static void what_the_broker_takes_for_a_duplicate_is_published_all_the_same(void **state) {
    struct mock *m = *state;
    struct answers a = {0};
    struct record got;
    rd_kafka_mock_push_request_errors(m->cluster, API_PRODUCE, 1, RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER);
    put(&m->rig, "never", "k", "x", &a);
    run_until_answers(&m->rig, &a, 1);
    assert_int_equal(a.of[ERR_OK], 1);
    read_records(&m->rig, "never", &got, 1);
    assert_string_equal(got.value, "x");
    assert_non_null(strstr(got.headers, "ce_id="));
}

static void a_batch_refused_as_a_whole_is_published_one_by_one(void **state) {
    struct mock *m = *state;
    struct answers a = {0};
    static struct record got[11];
    char body[16];
    put(&m->rig, "never", "k", "first", &a);
    run_until_answers(&m->rig, &a, 1);
    rd_kafka_mock_push_request_errors(m->cluster, API_PRODUCE, 1, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    for (int i = 0; i < 10; i++) {
        snprintf(body, sizeof body, "%d", i);
        put(&m->rig, "never", "k", body, &a);
    }
    run_until_answers(&m->rig, &a, 11);
    assert_int_equal(a.of[ERR_OK], 11);
    read_records(&m->rig, "never", got, 11);
    assert_non_null(strstr(got[5].headers, "ce_id="));
}

static void an_outage_is_away_and_passes(void **state) {
    struct mock *m = *state;
    struct answers a = {0}, again = {0};
    run_until(&m->rig, is_reachable, m->rig.bus);
    put(&m->rig, "never", "k", "x", &a);
    run_until_answers(&m->rig, &a, 1);
    rd_kafka_mock_broker_set_down(m->cluster, 1);
    put(&m->rig, "never", "k", "x", &a);
    put(&m->rig, "new", "k", "x", &a); // not even known
    run_until_answers(&m->rig, &a, 3);
    assert_int_equal(a.of[ERR_UNAVAILABLE], 2);
    run_until(&m->rig, is_away, m->rig.bus);
    rd_kafka_mock_broker_set_up(m->cluster, 1);
    run_until(&m->rig, is_reachable, m->rig.bus);
    put(&m->rig, "never", "k", "x", &again);
    put(&m->rig, "new", "k", "x", &again);
    run_until_answers(&m->rig, &again, 2);
    assert_int_equal(again.of[ERR_OK], 2);
}

static void a_full_queue_is_busy(void **state) {
    struct mock *m = *state;
    struct answers a = {0};
    put(&m->rig, "never", "k", "x", &a);
    run_until_answers(&m->rig, &a, 1);
    rd_kafka_mock_broker_set_down(m->cluster, 1);
    for (int i = 0; i < 100; i++) put(&m->rig, "never", "k", "x", &a);
    assert_int_equal(try_put(&m->rig, "never", "k", "x", 1, &a), ERR_BUSY);
    run_until_answers(&m->rig, &a, 101);
    assert_int_equal(a.of[ERR_UNAVAILABLE], 100);
}

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct trickle {
    struct rig *rig;
    struct answers *answers;
    int left;
};

static bool put_one_more(void *arg) {
    struct trickle *t = arg;
    put(t->rig, "never", "k", "x", t->answers);
    return --t->left == 0;
}

static void waiting_for_a_slow_broker_costs_nothing(void **state) {
    struct mock *m = *state;
    struct answers a = {0};
    put(&m->rig, "never", "k", "x", &a);
    run_until_answers(&m->rig, &a, 1);
    rd_kafka_mock_broker_set_rtt(m->cluster, 1, 900);
    double begun = cpu_seconds();
    // More than librdkafka has under way at once, and not at once: those it has in its hands would make one batch.
    run_until(&m->rig, put_one_more, &(struct trickle){&m->rig, &a, 40});
    run_until_answers(&m->rig, &a, 2);
    assert_true(cpu_seconds() - begun < 0.2);
    rd_kafka_mock_broker_set_rtt(m->cluster, 1, 0);
    run_until_answers(&m->rig, &a, 41);
    assert_int_equal(a.of[ERR_OK], 41);
}

static void events_without_a_key_go_to_all_partitions(void **state) {
    struct mock *m = *state;
    struct answers a = {0};
    static struct record got[30];
    int n[2] = {0};
    for (int i = 0; i < 30; i++) put(&m->rig, "never", NULL, "x", &a);
    run_until_answers(&m->rig, &a, 30);
    read_records(&m->rig, "never", got, 30);
    for (int i = 0; i < 30; i++) n[got[i].partition]++;
    assert_true(n[0] > 0 && n[1] > 0);
}

static struct kafka_topic *topic_in(struct kafka *k, const char *name) {
    return k->together ? map_get(&k->together->topics, name, strlen(name)) : NULL;
}

struct growing {
    struct rig *rig;
    struct answers *answers;
    struct kafka_topic *topic;
    int published;
};

static bool has_grown(void *arg) {
    struct growing *g = arg;
    if (g->answers->n + 10 > (uint32_t)g->published) put(g->rig, g->topic->name, NULL, "x", g->answers), g->published++;
    return g->topic->gates_n == 3;
}

// How many records the partition has had.
static int64_t records_in(struct rig *r, const char *topic, int32_t partition) {
    int64_t low, high;
    struct kafka *k = bus_of(r);
    assert_int_equal(rd_kafka_query_watermark_offsets(k->together->rk, topic, partition, &low, &high, 10000), 0);
    return high;
}

static void add_partition(struct rig *r, const char *topic) {
    char why[256];
    rd_kafka_t *rk = bus_of(r)->together->rk;
    rd_kafka_queue_t *q = rd_kafka_queue_new(rk);
    rd_kafka_NewPartitions_t *more = rd_kafka_NewPartitions_new(topic, 3, why, sizeof why);
    rd_kafka_CreatePartitions(rk, &more, 1, NULL, q);
    rd_kafka_event_t *done = rd_kafka_queue_poll(q, 20000);
    assert_non_null(done);
    assert_int_equal(rd_kafka_event_error(done), 0);
    rd_kafka_event_destroy(done);
    rd_kafka_NewPartitions_destroy(more);
    rd_kafka_queue_destroy(q);
}

static void a_partition_that_is_added_gets_events_without_a_key(void **state) {
    struct rig *r = rig_of(state);
    struct answers a = {0};
    const char *topic = topic_of(r, "grows");
    put(r, topic, NULL, "x", &a);
    run_until_answers(r, &a, 1);
    add_partition(r, topic);
    struct growing g = {r, &a, topic_in(bus_of(r), topic), 1};
    run_until(r, has_grown, &g);
    int64_t before = records_in(r, topic, 2);
    for (int i = 0; i < 30; i++) put(r, topic, NULL, "x", &a);
    run_until_answers(r, &a, (uint32_t)g.published + 30);
    assert_int_equal(a.of[ERR_OK], a.n);
    assert_true(records_in(r, topic, 2) >= before + 9);
}

struct replaced {
    struct kafka *k;
    char old[128]; // its name: another one may have its address
};

static struct replaced to_be_replaced(struct kafka *k) {
    struct replaced r = {.k = k};
    snprintf(r.old, sizeof r.old, "%s", rd_kafka_name(k->together->rk));
    return r;
}

static bool is_replaced(void *arg) {
    struct replaced *r = arg;
    return !r->k->together || strcmp(rd_kafka_name(r->k->together->rk), r->old) != 0;
}

static void a_producer_that_is_broken_for_good_is_replaced(void **state) {
    struct mock *m = *state;
    struct answers a = {0};
    struct kafka *k = bus_of(&m->rig);
    put(&m->rig, "never", "k", "x", &a);
    run_until_answers(&m->rig, &a, 1);
    rd_kafka_mock_broker_set_down(m->cluster, 1);
    for (int i = 0; i < 5; i++) put(&m->rig, "never", "k", "x", &a);
    struct replaced replaced = to_be_replaced(k);
    rd_kafka_test_fatal_error(k->together->rk, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "a test");
    run_until(&m->rig, is_replaced, &replaced);
    rd_kafka_mock_broker_set_up(m->cluster, 1);
    put(&m->rig, "never", "k", "x", &a);
    run_until_answers(&m->rig, &a, 7);
    assert_int_equal(a.of[ERR_OK], 2);
    assert_int_equal(a.of[ERR_UNAVAILABLE], 5);
}

static bool is_known(void *arg) {
    struct kafka_topic *t = topic_in(arg, "wanted");
    return t && t->known;
}

// The mock cannot make topics: that the attempt failed is what passes.
static bool has_failed(void *arg) {
    struct kafka_topic *t = topic_in(arg, "wanted");
    return !t || (!t->created && loop_timer_active(&t->again));
}

static void a_topic_that_is_wanted_is_asked_for_until_it_is_there(void **state) {
    struct mock *m = *state;
    struct kafka *k = bus_of(&m->rig);
    rd_kafka_mock_topic_create(m->cluster, "wanted", 2, 1);
    rd_kafka_mock_topic_set_error(m->cluster, "wanted", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    kafka_topic_want(k, "wanted");
    run_until(&m->rig, has_failed, k);
    rd_kafka_mock_topic_set_error(m->cluster, "wanted", RD_KAFKA_RESP_ERR_NO_ERROR);
    run_until(&m->rig, is_known, k);
}

static void a_topic_that_is_wanted_outlives_the_producer(void **state) {
    struct mock *m = *state;
    struct kafka *k = bus_of(&m->rig);
    rd_kafka_mock_topic_create(m->cluster, "wanted", 2, 1);
    rd_kafka_mock_topic_set_error(m->cluster, "wanted", RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE);
    kafka_topic_want(k, "wanted");
    struct replaced replaced = to_be_replaced(k);
    rd_kafka_test_fatal_error(k->together->rk, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "a test");
    run_until(&m->rig, is_replaced, &replaced);
    rd_kafka_mock_topic_set_error(m->cluster, "wanted", RD_KAFKA_RESP_ERR_NO_ERROR);
    run_until(&m->rig, is_known, k);
}

static void closing_does_not_wait_for_ever(void **state) {
    struct mock *m = *state;
    struct answers a = {0};
    put(&m->rig, "never", "k", "x", &a);
    run_until_answers(&m->rig, &a, 1);
    rd_kafka_mock_broker_set_down(m->cluster, 1);
    for (int i = 0; i < 5; i++) put(&m->rig, "never", "k", "x", &a);
    put(&m->rig, "new", "k", "x", &a);
    bus_close(m->rig.bus);
    assert_int_equal(a.n, 7);
    assert_int_equal(a.of[ERR_UNAVAILABLE], 6);
    rig_open(&m->rig, "");
}

// ---- the URL

static void what_is_wrong_with_a_url_is_said(void **state) {
    static const char *const wrong[][2] = {
        {"kafka://", "HOST:PORT"},
        {"kafka://h:1/x", "HOST:PORT"},
        {"kafka://h:1?nonsense.ms=1", "no setting nonsense.ms"},
        {"kafka://h:1?linger.ms=soon", "linger.ms"},
        {"kafka://h:1?acks=1", "acks is not free"},
        {"kafka://h:1?partitions=0", "partitions"},
        {"kafka://h:1?create_topics=perhaps", "true or false"},
        {"kafka://h:1?sasl.password=%zz", "percent"},
        {"kafka://h:1?sasl.password=%4", "percent"},
    };
    struct rig *r = *state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct bus *b;
        struct error e;
        struct bus_options o = {.url = wrong[i][0], .io = r->io};
        assert_int_equal(bus_open(&b, r->loop, &o, &e), ERR_INVALID);
        if (!strstr(e.text, wrong[i][1])) fail_msg("%s: %s", wrong[i][0], e.text);
    }
}

int main(void) {
#define ON_MOCK(f) cmocka_unit_test_setup_teardown(f, setup_mock, teardown_mock)
#define ON_REAL(f) cmocka_unit_test_setup_teardown(f, setup_real, teardown_real)
#define ON_BOTH(f)                                                                                                     \
    ON_MOCK(f), { #f "_on_kafka", f, setup_real, teardown_real, NULL }
    const struct CMUnitTest tests[] = {
        ON_BOTH(an_event_is_a_record_with_the_headers_of_a_cloud_event),
        ON_BOTH(events_of_a_key_lie_in_one_partition_in_order),
        ON_BOTH(closing_answers_what_was_published),
        ON_BOTH(a_broker_that_is_there_is_reachable),
        ON_REAL(only_the_event_that_is_too_large_fails),
        ON_REAL(an_event_larger_than_the_client_takes_is_refused_at_once),
        ON_REAL(an_unknown_topic_is_the_events_fault),
        ON_REAL(a_partition_that_is_added_gets_events_without_a_key),
        ON_MOCK(what_passes_is_not_seen),
        ON_MOCK(a_topic_that_is_not_ours_to_write_is_the_events_fault),
        ON_MOCK(what_the_broker_takes_for_a_duplicate_is_published_all_the_same),
        ON_MOCK(a_batch_refused_as_a_whole_is_published_one_by_one),
        ON_MOCK(an_outage_is_away_and_passes),
        ON_MOCK(a_full_queue_is_busy),
        ON_MOCK(a_producer_that_is_broken_for_good_is_replaced),
        ON_MOCK(waiting_for_a_slow_broker_costs_nothing),
        ON_MOCK(events_without_a_key_go_to_all_partitions),
        ON_MOCK(a_topic_that_is_wanted_is_asked_for_until_it_is_there),
        ON_MOCK(a_topic_that_is_wanted_outlives_the_producer),
        ON_MOCK(closing_does_not_wait_for_ever),
        ON_MOCK(what_is_wrong_with_a_url_is_said),
    };
    cmocka_set_test_filter(getenv("ONLY")); // a pattern, by hand
    return cmocka_run_group_tests(tests, NULL, NULL);
}
