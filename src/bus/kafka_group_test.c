// Subscribing to Kafka, on librdkafka's mock cluster and, when BARID_TEST_KAFKA=HOST:PORT names one, on a real broker.
#include "bus/kafka_rig_test.h"

#include "bus/kafka_group.h"

#define GOT_MAX 2048

struct got {
    char topic[64], key[KAFKA_KEY_MAX + 1], body[64], headers[1024];
    struct id id;
    uint64_t tag;
    uint32_t attempt;
    int32_t partition;
    int64_t offset;
};

struct handler {
    struct rig *rig;
    struct bus_subscription *subscription;
    struct got got[GOT_MAX];
    uint32_t n, want, max_attempts, prefetch;
    int retry_first;      // so often the body "poison" is given back
    bool hold, unordered; // settle nothing
    bool places;          // keeps its offsets itself
    int64_t begin_at;
    uint32_t assigned, revoked;
    bool answer_later;
    struct bus_place asked[8];
};

static const char settings[] = "heartbeat.interval.ms=300&topic.metadata.refresh.interval.ms=300";

static int setup_mock(void **state) {
    struct mock *m = mock_new();
    for (int i = 0; i < 2; i++) // the mock makes topics by itself, with partitions that nobody asked for
        rd_kafka_mock_topic_create(m->cluster, topic_of(&m->rig, (const char *[]){"t", "g.parked"}[i]), 2, 1);
    rig_open(&m->rig, settings);
    *state = &m->rig;
    return 0;
}

static int setup_real(void **state) { return open_real(state, settings); }

// ---- a handler that notes what it gets

static void note(struct got *g, const struct bus_delivery *d) {
    size_t at = 0;
    memset(g, 0, sizeof *g);
    snprintf(g->topic, sizeof g->topic, "%s", d->event.topic);
    snprintf(g->key, sizeof g->key, "%s", d->event.key ? d->event.key : "");
    snprintf(g->body, sizeof g->body, "%.*s", (int)d->event.payload_length,
             d->event.payload ? (const char *)d->event.payload : "");
    for (size_t i = 0; i < d->event.header_count && at < sizeof g->headers; i++)
        at += (size_t)snprintf(g->headers + at, sizeof g->headers - at, "%s=%s;", d->event.headers[i].name,
                               d->event.headers[i].value);
    g->id = d->event.event_id;
    g->tag = d->tag;
    g->attempt = d->attempt;
    g->partition = d->place.partition;
    g->offset = d->place.offset;
    assert_string_equal(d->place.topic, d->event.topic);
}

static void on_event(void *arg, const struct bus_delivery *d) {
    struct handler *h = arg;
    assert_true(h->n < GOT_MAX);
    struct got *g = &h->got[h->n++];
    note(g, d);
    if (h->hold) return;
    bool again = strcmp(g->body, "poison") == 0 && h->retry_first-- > 0;
    bus_settle(h->subscription, d->tag, again ? BUS_RETRY : BUS_ACK, "it is poison");
    assert_int_equal(memcmp(g->body, d->event.payload, d->event.payload_length), 0); // still there
}

static void on_assigned(void *arg, struct bus_subscription *s, const struct bus_place *places, size_t n) {
    struct handler *h = arg;
    struct bus_place answer[8];
    assert_true(n <= 8);
    for (size_t i = 0; i < n; i++) {
        h->asked[i] = answer[i] = places[i]; // the name of the topic is there during this call only
        answer[i].offset = h->begin_at;
    }
    h->assigned += (uint32_t)n;
    if (!h->answer_later) bus_assigned(s, answer, n);
}

static void on_revoked(void *arg, struct bus_subscription *s, const struct bus_place *places, size_t n) {
    ((struct handler *)arg)->revoked += (uint32_t)n;
}

static void subscribe(struct rig *r, struct handler *h, const char *group, const char *pattern) {
    static char name[64];
    snprintf(name, sizeof name, "%s.%s", r->prefix, group);
    h->rig = r;
    struct bus_subscribe_options o = {.group = name,
                                      .pattern = pattern,
                                      .prefetch = h->prefetch,
                                      .max_attempts = h->max_attempts,
                                      .unordered = h->unordered,
                                      .assigned = h->places ? on_assigned : NULL,
                                      .revoked = on_revoked};
    if (bus_subscribe(r->bus, &o, on_event, h, &h->subscription, &r->err)) fail_msg("%s", r->err.text);
}

static bool has_enough(void *arg) { return ((struct handler *)arg)->n >= ((struct handler *)arg)->want; }

static void run_until_got(struct handler *h, uint32_t n) {
    h->want = n;
    run_until(h->rig, has_enough, h);
}

static void publish(struct rig *r, const char *topic, const char *key, const char *const *bodies, uint32_t n) {
    struct answers a = {0};
    for (uint32_t i = 0; i < n; i++) { // one by one, as whoever needs the order of a key does
        put(r, topic, key, bodies[i], &a);
        run_until_answers(r, &a, i + 1);
    }
    assert_int_equal(a.of[ERR_OK], n);
}

static void publish_one(struct rig *r, const char *topic, const char *key, const char *body) {
    publish(r, topic, key, &body, 1);
}

static bool is_committed(void *arg) { // everything that came is settled and Kafka knows it
    struct kafka_member *m = arg;
    if (loop_timer_active(&m->commit) || m->events.len > 0) return false;
    LIST_EACH(&m->partitions, at) {
        struct kafka_partition *p = LIST_ITEM(at, struct kafka_partition, node);
        if (p->next >= 0 && p->committed != p->next) return false;
    }
    return true;
}

struct pause {
    struct loop_timer timer;
    bool over;
};

static void pause_over(struct loop_timer *t) { LIST_ITEM(t, struct pause, timer)->over = true; }
static bool is_over(void *arg) { return ((struct pause *)arg)->over; }

// For what must not happen.
static void let_pass(struct rig *r, uint32_t ms) {
    struct pause p = {.timer.fn = pause_over};
    loop_timer_start(r->loop, &p.timer, ms);
    run_until(r, is_over, &p);
}

// ---- what arrives

static void an_event_arrives_as_it_was_published(void **state) {
    struct rig *r = rig_of(state);
    struct handler *h = calloc(1, sizeof *h);
    struct answers a = {0};
    struct bus_header own[] = {{"traceparent", "00-1-2-01"}};
    struct bus_event v = {.event_id = id_new(r->io),
                          .topic = topic_of(r, "t"),
                          .key = "conversation-1",
                          .payload = "hello",
                          .payload_length = 5,
                          .headers = own,
                          .header_count = 1};
    subscribe(r, h, "g", v.topic);
    assert_int_equal(bus_publish(r->bus, &v, on_answer, &a, &r->err), ERR_OK);
    run_until_got(h, 1);
    assert_string_equal(h->got[0].topic, v.topic);
    assert_string_equal(h->got[0].key, "conversation-1");
    assert_string_equal(h->got[0].body, "hello");
    assert_non_null(strstr(h->got[0].headers, "traceparent=00-1-2-01;"));
    assert_true(id_equal(&h->got[0].id, &v.event_id));
    assert_int_equal(h->got[0].attempt, 1);
    assert_true(h->got[0].partition >= 0 && h->got[0].offset == 0);
    run_until(r, has_answers, &(struct wanted){&a, 1});
    free(h);
}

static void produce_raw(struct rig *r, const char *topic, const void *key, size_t key_length, const char *id) {
    struct answers a = {0};
    struct kafka_held record = {.done = on_answer,
                                .arg = &a,
                                .headers = rd_kafka_headers_new(1),
                                .topic = topic,
                                .key = key,
                                .key_length = key_length,
                                .payload = "x",
                                .payload_length = 1};
    if (id) {
        rd_kafka_header_add(record.headers, "ce_id", -1, id, -1);
        rd_kafka_header_add(record.headers, "ce_source", -1, "shop", -1);
    }
    assert_int_equal(kafka_publish_record((struct kafka *)r->bus, &record, &r->err), ERR_OK);
    run_until_answers(r, &a, 1);
}

static void records_of_others_are_events_too(void **state) {
    struct rig *r = rig_of(state);
    struct handler *h = calloc(1, sizeof *h), *again = calloc(1, sizeof *h);
    char topic[KAFKA_TOPIC_MAX], long_key[1000];
    snprintf(topic, sizeof topic, "%s", topic_of(r, "t"));
    memset(long_key, 'k', sizeof long_key);
    produce_raw(r, topic, "\xff\x00\x01", 3, NULL);
    produce_raw(r, topic, "\xff\x00\x01", 3, NULL);
    produce_raw(r, topic, long_key, sizeof long_key, "order 7");
    produce_raw(r, topic, long_key, sizeof long_key, "order 7");
    subscribe(r, h, "g", topic);
    subscribe(r, again, "other", topic);
    run_until_got(h, 4);
    run_until_got(again, 4);
    int binary = 0, hashed = 0;
    for (int i = 0; i < 4; i++) {
        binary += strcmp(h->got[i].key, "0xff0001") == 0;
        hashed += strncmp(h->got[i].key, "hash:", 5) == 0;
        for (int j = 0; j < 4; j++) {
            bool same_record =
                h->got[i].partition == again->got[j].partition && h->got[i].offset == again->got[j].offset;
            bool same_event = same_record || (h->got[i].key[0] == 'h' && again->got[j].key[0] == 'h');
            assert_int_equal(id_equal(&h->got[i].id, &again->got[j].id), same_event);
        }
    }
    assert_int_equal(binary, 2);
    assert_int_equal(hashed, 2);
    free(h);
    free(again);
}

static void a_pattern_finds_topics_that_come_later(void **state) {
    struct rig *r = rig_of(state);
    struct handler *h = calloc(1, sizeof *h);
    char pattern[64];
    snprintf(pattern, sizeof pattern, "%s.message_*", r->prefix);
    subscribe(r, h, "g", pattern);
    publish_one(r, topic_of(r, "message_send"), "k", "a");
    publish_one(r, topic_of(r, "conversation_made"), "k", "no");
    run_until_got(h, 1);
    publish_one(r, topic_of(r, "message_read"), "k", "b");
    run_until_got(h, 2);
    assert_string_equal(h->got[0].body, "a");
    assert_string_equal(h->got[1].body, "b");
    free(h);
}

static void patterns_are_translated(void **state) {
    static const char *const pairs[][2] = {
        {"orders.eu", "orders.eu"},
        {"#", "^.*$"},
        {"message_*", "^message_[^.]*$"},
        {"*.eu", "^[^.]*[.]eu$"},
        {"a.#", "^a([.][^.]*)*$"},
        {"#.b", "^([^.]*[.])*b$"},
        {"a.#.b", "^a([.][^.]*)*[.]b$"},
        {"a b", NULL},
        {"a[b]*", NULL},
        {"", NULL},
    };
    char out[256];
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        bool ok = kafka_pattern(pairs[i][0], out, sizeof out);
        assert_int_equal(ok, pairs[i][1] != NULL);
        if (ok) assert_string_equal(out, pairs[i][1]);
    }
}

// ---- order, retries, parking

static void a_retry_is_not_overtaken_by_its_key(void **state) {
    struct rig *r = rig_of(state);
    struct handler *h = calloc(1, sizeof *h);
    char topic[KAFKA_TOPIC_MAX];
    snprintf(topic, sizeof topic, "%s", topic_of(r, "t"));
    h->retry_first = 2;
    publish(r, topic, "k", (const char *[]){"poison", "second", "third"}, 3);
    subscribe(r, h, "g", topic);
    run_until_got(h, 5);
    for (int i = 0; i < 3; i++) {
        assert_string_equal(h->got[i].body, "poison");
        assert_int_equal(h->got[i].attempt, i + 1);
    }
    assert_string_equal(h->got[3].body, "second");
    assert_string_equal(h->got[4].body, "third");
    run_until(r, is_committed, h->subscription);
    free(h);
}

static void a_retry_holds_up_only_its_key(void **state) {
    struct rig *r = rig_of(state);
    struct handler *h = calloc(1, sizeof *h);
    char topic[KAFKA_TOPIC_MAX];
    snprintf(topic, sizeof topic, "%s", topic_of(r, "t"));
    h->hold = true;
    publish(r, topic, "k", (const char *[]){"first", "behind"}, 2);
    publish_one(r, topic, "other", "free");
    publish_one(r, topic, NULL, "keyless");
    subscribe(r, h, "g", topic);
    run_until_got(h, 3);
    let_pass(r, 300);
    assert_int_equal(h->n, 3);
    for (int i = 0; i < 3; i++) assert_string_not_equal(h->got[i].body, "behind");
    for (int i = 0; i < 3; i++) bus_settle(h->subscription, h->got[i].tag, BUS_ACK, NULL);
    run_until_got(h, 4);
    assert_string_equal(h->got[3].body, "behind");
    free(h);
}

static void unordered_events_of_a_key_are_in_hand_together(void **state) {
    struct rig *r = rig_of(state);
    struct handler *h = calloc(1, sizeof *h);
    char topic[KAFKA_TOPIC_MAX];
    snprintf(topic, sizeof topic, "%s", topic_of(r, "t"));
    h->hold = h->unordered = true;
    publish(r, topic, "k", (const char *[]){"first", "second"}, 2);
    subscribe(r, h, "g", topic);
    run_until_got(h, 2);
    assert_string_equal(h->got[0].body, "first");
    assert_string_equal(h->got[1].body, "second");
    free(h);
}

static void after_its_attempts_an_event_is_parked_and_its_key_goes_on(void **state) {
    struct rig *r = rig_of(state);
    struct handler *h = calloc(1, sizeof *h);
    struct record parked;
    char topic[KAFKA_TOPIC_MAX];
    snprintf(topic, sizeof topic, "%s", topic_of(r, "t"));
    h->retry_first = 100;
    h->max_attempts = 2;
    publish(r, topic, "k", (const char *[]){"poison", "next"}, 2);
    subscribe(r, h, "g", topic);
    run_until_got(h, 3);
    assert_string_equal(h->got[2].body, "next");
    run_until(r, is_committed, h->subscription);
    read_records(r, topic_of(r, "g.parked"), &parked, 1);
    assert_string_equal(parked.key, "k");
    assert_string_equal(parked.value, "poison");
    assert_non_null(strstr(parked.headers, "barid-parked-reason=it is poison;"));
    assert_non_null(strstr(parked.headers, "barid-parked-attempts=2;"));
    assert_non_null(strstr(parked.headers, "barid-parked-offset=0;"));
    assert_non_null(strstr(parked.headers, "ce_id="));
    free(h);
}

static void prefetch_bounds_what_a_handler_has(void **state) {
    struct rig *r = rig_of(state);
    struct handler *h = calloc(1, sizeof *h);
    char topic[KAFKA_TOPIC_MAX];
    const char *bodies[40];
    snprintf(topic, sizeof topic, "%s", topic_of(r, "t"));
    for (int i = 0; i < 40; i++) bodies[i] = "x";
    h->hold = true;
    h->prefetch = 2;
    publish(r, topic, NULL, bodies, 40);
    subscribe(r, h, "g", topic);
    run_until_got(h, 2);
    let_pass(r, 300);
    assert_int_equal(h->n, 2);
    assert_true(((struct kafka_member *)h->subscription)->events.len <= 8);
    for (uint32_t i = 0; i < 40; i++) {
        run_until_got(h, i + 1);
        bus_settle(h->subscription, h->got[i].tag, BUS_ACK, NULL);
    }
    run_until(r, is_committed, h->subscription);
    free(h);
}

// ---- offsets

static void reopen(struct rig *r) {
    bus_close(r->bus);
    rig_open(r, settings);
}

static void what_is_not_settled_comes_again_to_the_next(void **state) {
    struct rig *r = rig_of(state);
    struct handler *h = calloc(1, sizeof *h), *again = calloc(1, sizeof *h);
    char topic[KAFKA_TOPIC_MAX];
    snprintf(topic, sizeof topic, "%s", topic_of(r, "t"));
    publish(r, topic, "k", (const char *[]){"0", "1", "2", "3"}, 4);
    h->hold = true;
    subscribe(r, h, "g", topic);
    for (uint32_t i = 0; i < 2; i++) {
        run_until_got(h, i + 1);
        bus_settle(h->subscription, h->got[i].tag, BUS_ACK, NULL);
    }
    run_until_got(h, 3);
    reopen(r);
    subscribe(r, again, "g", topic);
    run_until_got(again, 2);
    assert_string_equal(again->got[0].body, "2");
    assert_string_equal(again->got[1].body, "3");
    assert_true(id_equal(&again->got[0].id, &h->got[2].id));
    run_until(r, is_committed, again->subscription);
    free(h);
    free(again);
}

static void a_member_that_joins_takes_over_where_the_other_had_settled(void **state) {
    struct rig *r = rig_of(state);
    struct handler *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
    char topic[KAFKA_TOPIC_MAX], key[8];
    uint32_t acked = 0;
    snprintf(topic, sizeof topic, "%s", topic_of(r, "t"));
    for (int i = 0; i < 40; i++) {
        snprintf(key, sizeof key, "k%d", i % 8);
        publish_one(r, topic, key, "x");
    }
    a->hold = b->hold = true;
    subscribe(r, a, "g", topic);
    run_until_got(a, 8); // one of each key
    for (uint32_t i = 0; i < 4; i++, acked++) bus_settle(a->subscription, a->got[i].tag, BUS_ACK, NULL);
    run_until_got(a, 12);
    subscribe(r, b, "g", topic);
    run_until_got(b, 1);
    assert_true(a->revoked >= 1); // of two
    for (uint32_t i = acked; i < a->n; i++) bus_settle(a->subscription, a->got[i].tag, BUS_ACK, NULL);
    for (int32_t partition = b->got[0].partition, i = 0; i < 4; i++) { // what a had settled there in order is done with
        if (a->got[i].partition == partition && a->got[i].offset == 0) assert_true(b->got[0].offset > 0);
    }
    a->hold = b->hold = false;
    for (uint32_t i = 0; i < b->n; i++) bus_settle(b->subscription, b->got[i].tag, BUS_ACK, NULL);
    for (uint32_t i = 0; i < a->n; i++) bus_settle(a->subscription, a->got[i].tag, BUS_ACK, NULL);
    run_until(r, is_committed, a->subscription);
    run_until(r, is_committed, b->subscription);
    bool seen[2][40] = {0};
    for (uint32_t i = 0; i < a->n; i++) seen[a->got[i].partition][a->got[i].offset] = true;
    for (uint32_t i = 0; i < b->n; i++) seen[b->got[i].partition][b->got[i].offset] = true;
    int all = 0;
    for (int i = 0; i < 80; i++) all += seen[i / 40][i % 40];
    assert_int_equal(all, 40);
    free(a);
    free(b);
}

static bool is_draining(void *arg) { return ((struct kafka_member *)arg)->draining; }

static void what_a_handler_has_is_settled_before_the_next_owner_begins(void **state) {
    struct rig *r = rig_of(state);
    struct handler *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
    char topic[KAFKA_TOPIC_MAX], key[8];
    snprintf(topic, sizeof topic, "%s", topic_of(r, "t"));
    for (int i = 0; i < 16; i++) {
        snprintf(key, sizeof key, "k%d", i % 8);
        publish_one(r, topic, key, "x");
    }
    a->hold = true;
    subscribe(r, a, "g", topic);
    run_until_got(a, 8); // one of each key
    subscribe(r, b, "g", topic);
    run_until(r, is_draining, a->subscription);
    let_pass(r, 500);
    assert_int_equal(a->revoked, 0);
    assert_int_equal(b->n, 0);
    for (uint32_t i = 0; i < 8; i++) bus_settle(a->subscription, a->got[i].tag, BUS_ACK, NULL);
    run_until_got(b, 1);
    let_pass(r, 500);
    for (uint32_t i = 0; i < b->n && a->revoked == 1; i++) // 2: on a slow machine the other one was lost
        for (uint32_t j = 0; j < a->n; j++)
            assert_false(a->got[j].partition == b->got[i].partition && a->got[j].offset == b->got[i].offset);
    free(a);
    free(b);
}

static bool is_assigned(void *arg) { return ((struct handler *)arg)->assigned >= 2; }

static void a_subscriber_may_keep_its_offsets_itself(void **state) {
    struct rig *r = rig_of(state);
    struct handler *h = calloc(1, sizeof *h);
    char topic[KAFKA_TOPIC_MAX];
    snprintf(topic, sizeof topic, "%s", topic_of(r, "t"));
    publish(r, topic, "k", (const char *[]){"0", "1", "2", "3"}, 4);
    h->places = h->answer_later = true;
    subscribe(r, h, "g", topic);
    run_until(r, is_assigned, h);
    let_pass(r, 300);
    assert_int_equal(h->n, 0); // nothing before the answer
    for (int i = 0; i < 2; i++) {
        h->asked[i] = (struct bus_place){.topic = topic, .partition = h->asked[i].partition, .offset = 2};
        bus_assigned(h->subscription, &h->asked[i], 1);
    }
    run_until_got(h, 2);
    assert_string_equal(h->got[0].body, "2");
    assert_int_equal(h->got[0].offset, 2);
    assert_string_equal(h->got[1].body, "3");
    free(h);
}

static bool has_all_assigned(void *arg) { return ((struct handler *)arg)->assigned >= 4; }
static bool is_revoked(void *arg) { return ((struct handler *)arg)->revoked >= 2; }

static void a_topic_that_goes_while_offsets_are_due_takes_only_its_own(void **state) {
    struct rig *r = *state;
    struct handler *h = calloc(1, sizeof *h);
    char stays[KAFKA_TOPIC_MAX], goes[KAFKA_TOPIC_MAX], pattern[KAFKA_TOPIC_MAX];
    rd_kafka_mock_cluster_t *cluster = ((struct mock *)r)->cluster;
    snprintf(stays, sizeof stays, "%s", topic_of(r, "t"));
    snprintf(goes, sizeof goes, "%s", topic_of(r, "u"));
    snprintf(pattern, sizeof pattern, "%s", topic_of(r, "*"));
    rd_kafka_mock_topic_create(cluster, goes, 2, 1);
    publish(r, stays, "k", (const char *[]){"0", "1"}, 2);
    h->places = h->answer_later = true;
    subscribe(r, h, "g", pattern);
    run_until(r, has_all_assigned, h);
    rd_kafka_mock_topic_set_error(cluster, goes, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    run_until(r, is_revoked, h);
    let_pass(r, 300);
    assert_int_equal(h->n, 0); // nothing before the answer
    for (int i = 0; i < 2; i++)
        bus_assigned(h->subscription, &(struct bus_place){.topic = stays, .partition = i, .offset = 1}, 1);
    run_until_got(h, 1);
    assert_string_equal(h->got[0].body, "1");
    publish_one(r, stays, "k", "2");
    run_until_got(h, 2);
    free(h);
}

static void an_offset_that_is_gone_begins_anew(void **state) {
    struct rig *r = rig_of(state);
    struct handler *h = calloc(1, sizeof *h);
    char topic[KAFKA_TOPIC_MAX];
    snprintf(topic, sizeof topic, "%s", topic_of(r, "t"));
    publish(r, topic, "k", (const char *[]){"0", "1"}, 2);
    h->places = true;
    h->begin_at = 1000;
    subscribe(r, h, "g", topic);
    run_until_got(h, 2);
    assert_string_equal(h->got[0].body, "0");
    free(h);
}

// ---- leaving, outages, figures

static void unsubscribe_inside(void *arg, const struct bus_delivery *d) {
    struct handler *h = arg;
    note(&h->got[h->n++], d);
    bus_unsubscribe(h->subscription);
    bus_settle(h->subscription, d->tag, BUS_ACK, NULL); // too late, and harmless
    assert_int_equal(memcmp(h->got[0].body, d->event.payload, 1), 0);
}

static void a_handler_may_leave_inside_its_call(void **state) {
    struct rig *r = rig_of(state);
    struct handler *h = calloc(1, sizeof *h), *next = calloc(1, sizeof *h);
    char topic[KAFKA_TOPIC_MAX], group[64];
    snprintf(topic, sizeof topic, "%s", topic_of(r, "t"));
    snprintf(group, sizeof group, "%s.g", r->prefix);
    h->rig = r;
    struct bus_subscribe_options o = {.group = group, .pattern = topic};
    publish(r, topic, "k", (const char *[]){"a", "b"}, 2);
    assert_int_equal(bus_subscribe(r->bus, &o, unsubscribe_inside, h, &h->subscription, &r->err), ERR_OK);
    run_until_got(h, 1);
    subscribe(r, next, "g", topic);
    run_until_got(next, 2);
    assert_int_equal(h->n, 1);
    assert_string_equal(next->got[0].body, "a");
    assert_string_equal(next->got[1].body, "b");
    free(h);
    free(next);
}

static void a_broker_that_comes_back_goes_on(void **state) {
    struct mock *m = *state;
    struct rig *r = &m->rig;
    struct handler *h = calloc(1, sizeof *h);
    char topic[KAFKA_TOPIC_MAX];
    snprintf(topic, sizeof topic, "%s", topic_of(r, "t"));
    subscribe(r, h, "g", topic);
    publish_one(r, topic, "k", "a");
    run_until_got(h, 1);
    rd_kafka_mock_broker_set_down(m->cluster, 1);
    let_pass(r, 1000);
    rd_kafka_mock_broker_set_up(m->cluster, 1);
    publish_one(r, topic, "k", "b");
    run_until_got(h, 2);
    assert_string_equal(h->got[1].body, "b");
    free(h);
}

// ---- what is parked, for tools

#define MANY 8

struct parked_seen {
    rd_kafka_t *rk;
    const char *topic;
    int of[2];
};

static void put_into(rd_kafka_t *rk, const char *topic, int32_t partition) {
    static char body[1000];
    memset(body, 'x', sizeof body);
    assert_int_equal(rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
                                       RD_KAFKA_V_VALUE(body, sizeof body), RD_KAFKA_V_END),
                     0);
}

static void on_parked(void *arg, const struct bus_parked *p) {
    struct parked_seen *s = arg;
    if (p->at.partition == 1 && s->of[1] % 3 == 0) {
        put_into(s->rk, s->topic, 0);
        rd_kafka_flush(s->rk, 10000);
    }
    s->of[p->at.partition]++;
}

static void a_partition_that_grows_while_it_is_read_does_not_cut_off_another(void **state) {
    struct rig *r = *state;
    char url[512], group[64], why[256];
    struct parked_seen seen = {.topic = topic_of(r, "g.parked")};
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    kafka_conf_set(conf, "bootstrap.servers", r->address, "batch.num.messages", "1", "linger.ms", "0", NULL);
    seen.rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    for (int i = 0; i < MANY; i++) put_into(seen.rk, seen.topic, 1);
    rd_kafka_flush(seen.rk, 10000);
    snprintf(url, sizeof url, "kafka://%s?fetch.message.max.bytes=2000&queued.min.messages=1", r->address);
    snprintf(group, sizeof group, "%s.g", r->prefix);
    assert_int_equal(bus_each_parked(url, group, on_parked, &seen, &r->err), ERR_OK);
    assert_int_equal(seen.of[1], MANY);
    assert_true(seen.of[0] > 0);
    rd_kafka_destroy(seen.rk);
}

static void unfit_names_are_refused(void **state) {
    struct rig *r = *state;
    struct bus_subscription *s;
    struct bus_subscribe_options bad_group = {.group = "a b", .pattern = "t"},
                                 bad_pattern = {.group = "g", .pattern = "t/x"};
    assert_int_equal(bus_subscribe(r->bus, &bad_group, on_event, NULL, &s, &r->err), ERR_INVALID);
    assert_int_equal(bus_subscribe(r->bus, &bad_pattern, on_event, NULL, &s, &r->err), ERR_INVALID);
}

int main(void) {
#define ON_MOCK(f) cmocka_unit_test_setup_teardown(f, setup_mock, teardown_mock)
#define ON_REAL(f) cmocka_unit_test_setup_teardown(f, setup_real, teardown_real)
#define ON_BOTH(f)                                                                                                     \
    ON_MOCK(f), { #f "_on_kafka", f, setup_real, teardown_real, NULL }
    const struct CMUnitTest tests[] = {
        ON_BOTH(an_event_arrives_as_it_was_published),
        ON_BOTH(records_of_others_are_events_too),
        ON_REAL(a_pattern_finds_topics_that_come_later),
        cmocka_unit_test(patterns_are_translated),
        ON_BOTH(a_retry_is_not_overtaken_by_its_key),
        ON_BOTH(a_retry_holds_up_only_its_key),
        ON_BOTH(unordered_events_of_a_key_are_in_hand_together),
        ON_BOTH(after_its_attempts_an_event_is_parked_and_its_key_goes_on),
        ON_BOTH(prefetch_bounds_what_a_handler_has),
        ON_BOTH(what_is_not_settled_comes_again_to_the_next),
        ON_REAL(a_member_that_joins_takes_over_where_the_other_had_settled),
        ON_REAL(what_a_handler_has_is_settled_before_the_next_owner_begins),
        ON_BOTH(a_subscriber_may_keep_its_offsets_itself),
        ON_MOCK(a_topic_that_goes_while_offsets_are_due_takes_only_its_own),
        ON_BOTH(an_offset_that_is_gone_begins_anew),
        ON_BOTH(a_handler_may_leave_inside_its_call),
        ON_MOCK(a_broker_that_comes_back_goes_on),
        ON_MOCK(a_partition_that_grows_while_it_is_read_does_not_cut_off_another),
        ON_MOCK(unfit_names_are_refused),
    };
    cmocka_set_test_filter(getenv("ONLY")); // a pattern, by hand
    return cmocka_run_group_tests(tests, NULL, NULL);
}
