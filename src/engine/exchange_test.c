// Where messages go: direct, fanout and topic exchanges, and topology after a crash.
#include "engine/rig_test.h"

static const struct queue_options durable = {.durable = true};

static uint64_t ready(struct rig *r, const char *queue) { return rig_info(r, queue).info.ready; }

static void publish(struct rig *r, const char *exchange, const char *key) {
    assert_int_equal(
        rig_send(r, (struct message){.exchange = exchange, .routing_key = key, .body = "x", .persistent = true}),
        ERR_OK);
}

static void declare(struct rig *r) {
    for (int i = 0; i < 3; i++) rig_queue(r, (const char *[]){"a", "b", "c"}[i], durable);
    assert_int_equal(rig_declare(r, "direct", EXCHANGE_DIRECT), ERR_OK);
    assert_int_equal(rig_declare(r, "fanout", EXCHANGE_FANOUT), ERR_OK);
    assert_int_equal(rig_declare(r, "topic", EXCHANGE_TOPIC), ERR_OK);
}

static void bind(struct rig *r, const char *exchange, const char *queue, const char *key) {
    rig_bind(r, exchange, queue, key);
}

static void direct_goes_by_the_key(void **state) {
    struct rig *r = *state;
    declare(r);
    bind(r, "direct", "a", "one");
    bind(r, "direct", "b", "one");
    bind(r, "direct", "c", "two");
    publish(r, "direct", "one");
    publish(r, "direct", "two");
    publish(r, "direct", "three");
    rig_run(r);
    assert_int_equal(ready(r, "a"), 1);
    assert_int_equal(ready(r, "b"), 1);
    assert_int_equal(ready(r, "c"), 1);
    assert_int_equal(r->done[PUBLISH_UNROUTABLE], 1);
    rig_unbind(r, "direct", "a", "one");
    publish(r, "direct", "one");
    assert_int_equal(ready(r, "a"), 1);
    assert_int_equal(ready(r, "b"), 2);
    rig_unbind(r, "direct", "a", "one"); // again, and nothing is wrong
}

static void a_queue_takes_a_message_once_however_often_it_is_bound(void **state) {
    struct rig *r = *state;
    struct engine_stats stats;
    declare(r);
    bind(r, "topic", "a", "x.#");
    bind(r, "topic", "a", "#.y");
    bind(r, "topic", "a", "x.y");
    bind(r, "topic", "b", "*.y");
    publish(r, "topic", "x.y");
    rig_run(r);
    assert_int_equal(ready(r, "a"), 1);
    assert_int_equal(ready(r, "b"), 1);
    engine_stats(r->engine, &stats);
    assert_int_equal(stats.messages, 1); // stored once
    assert_int_equal(stats.entries, 2);
}

static void fanout_reaches_all_and_deleting_it_ends_that(void **state) {
    struct rig *r = *state;
    declare(r);
    for (int i = 0; i < 3; i++) bind(r, "fanout", (const char *[]){"a", "b", "c"}[i], "ignored");
    publish(r, "fanout", "");
    for (int i = 0; i < 3; i++) assert_int_equal(ready(r, (const char *[]){"a", "b", "c"}[i]), 1);
    assert_int_equal(engine_exchange_delete(r->vhost, "fanout", false, NULL), ERR_OK);
    assert_int_equal(rig_send(r, (struct message){.exchange = "fanout", .routing_key = "", .body = "x"}),
                     ERR_NOT_FOUND);
    rig_delete(r, "a");
}

static void topology_is_as_it_was_after_a_crash(void **state) {
    struct rig *r = *state;
    declare(r);
    rig_queue(r, "transient", (struct queue_options){0});
    bind(r, "direct", "a", "k");
    bind(r, "direct", "b", "k");
    bind(r, "topic", "c", "t.*");
    bind(r, "topic", "transient", "#");
    rig_unbind(r, "direct", "b", "k");
    engine_exchange_delete(r->vhost, "fanout", false, NULL);
    rig_sync(r);
    rig_crash(r);
    assert_false(rig_info(r, "transient").found);
    assert_int_equal(rig_send(r, (struct message){.exchange = "fanout", .routing_key = "", .body = "x"}),
                     ERR_NOT_FOUND);
    publish(r, "direct", "k");
    publish(r, "topic", "t.u");
    assert_int_equal(ready(r, "a"), 1);
    assert_int_equal(ready(r, "b"), 0);
    assert_int_equal(ready(r, "c"), 1);
    assert_int_equal(rig_declare(r, "topic", EXCHANGE_DIRECT), ERR_CONFLICT);
}

static void the_default_exchange_is_left_alone(void **state) {
    struct rig *r = *state;
    rig_queue(r, "a", durable);
    struct binding_spec b = rig_binding("", "a", "b");
    assert_int_equal(engine_bind(r->vhost, &b, NULL), ERR_FORBIDDEN);
    assert_int_equal(engine_exchange_delete(r->vhost, "", false, NULL), ERR_FORBIDDEN);
    publish(r, "", "a");
    assert_int_equal(ready(r, "a"), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        RIG_TEST(direct_goes_by_the_key),
        RIG_TEST(a_queue_takes_a_message_once_however_often_it_is_bound),
        RIG_TEST(fanout_reaches_all_and_deleting_it_ends_that),
        RIG_TEST(topology_is_as_it_was_after_a_crash),
        RIG_TEST(the_default_exchange_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
