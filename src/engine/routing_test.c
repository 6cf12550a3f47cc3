// The ways of a message: from exchange to exchange, by alternates, by more than one key; what goes by itself, what may
// not be done, and what is said when a declaration differs.
#include "engine/rig_test.h"

static const struct queue_options durable = {.durable = true};

static uint64_t ready(struct rig *r, const char *queue) { return rig_info(r, queue).info.ready; }

static enum publish_result publish(struct rig *r, const char *exchange, const char *key) {
    enum publish_result result = PUBLISH_DUPLICATE;
    struct message m = {.exchange = exchange, .routing_key = key, .body = "x", .body_length = 1, .persistent = true};
    if (engine_publish(r->vhost, &m, NULL, NULL, &result, &r->err)) fail_msg("%s", r->err.text);
    return result;
}

static enum err lead(struct rig *r, const char *from, const char *to, const char *key) {
    struct binding_spec b = {.source = from, .destination = to, .to_exchange = true, .key = key};
    return engine_bind(r->vhost, &b, &r->err);
}

static void an_exchange_leads_to_another_and_loops_end(void **state) {
    struct rig *r = *state;
    rig_exchange(r, "first", EXCHANGE_TOPIC);
    rig_exchange(r, "second", EXCHANGE_DIRECT);
    rig_exchange(r, "third", EXCHANGE_FANOUT);
    rig_queue(r, "q", durable);
    rig_queue(r, "p", durable);
    assert_int_equal(lead(r, "first", "second", "a.*"), ERR_OK);
    assert_int_equal(lead(r, "second", "third", "a.b"), ERR_OK);
    assert_int_equal(lead(r, "third", "first", ""), ERR_OK);
    assert_int_equal(lead(r, "first", "none", ""), ERR_NOT_FOUND);
    rig_bind(r, "third", "q", "");
    rig_bind(r, "second", "q", "a.b");
    rig_bind(r, "second", "p", "a.c");
    assert_int_equal(publish(r, "first", "a.b"), PUBLISH_OK);
    assert_int_equal(publish(r, "first", "a.c"), PUBLISH_OK);
    assert_int_equal(publish(r, "first", "b.c"), PUBLISH_UNROUTABLE);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ready(r, "q"), 1 + i);
        assert_int_equal(ready(r, "p"), 1);
        rig_run(r);
        if (i == 0) rig_crash(r);
        if (i == 0) assert_int_equal(publish(r, "third", "a.b"), PUBLISH_OK);
    }
    struct exchange_info info;
    assert_true(engine_exchange(r->vhost, "third", &info));
    assert_int_equal(info.published_in, 1);
    assert_int_equal(info.published_out, 1);
    assert_int_equal(engine_exchange_delete(r->vhost, "second", true, &r->err), ERR_CONFLICT);
    assert_int_equal(engine_exchange_delete(r->vhost, "second", false, &r->err), ERR_OK);
    assert_int_equal(publish(r, "first", "a.b"), PUBLISH_UNROUTABLE);
}

static void what_leads_nowhere_takes_the_alternate_way(void **state) {
    struct rig *r = *state;
    struct exchange_options o = {.type = EXCHANGE_DIRECT, .durable = true, .alternate = "spare"};
    struct exchange_options spare = {.type = EXCHANGE_FANOUT, .durable = true, .internal = true};
    rig_queue(r, "q", durable);
    rig_queue(r, "other", durable);
    engine_exchange_declare(r->vhost, "x", &o, &r->err);
    assert_int_equal(publish(r, "x", "k"), PUBLISH_UNROUTABLE); // there is no such exchange yet
    engine_exchange_declare(r->vhost, "spare", &spare, &r->err);
    rig_bind(r, "x", "q", "k");
    rig_bind(r, "spare", "other", "");
    publish(r, "x", "k");
    publish(r, "x", "elsewhere");
    assert_int_equal(ready(r, "q"), 1);
    assert_int_equal(ready(r, "other"), 1);
    struct message m = {.exchange = "spare", .routing_key = "", .body = "x", .body_length = 1};
    assert_int_equal(engine_publish(r->vhost, &m, NULL, NULL, NULL, &r->err), ERR_FORBIDDEN);
}

static void more_keys_reach_more_queues_each_once(void **state) {
    struct rig *r = *state;
    const char *more[] = {"b", "a", "none"};
    rig_queue(r, "a", durable);
    rig_queue(r, "b", durable);
    assert_int_equal(
        rig_send(r, (struct message){.routing_key = "a", .more_keys = more, .more_keys_count = 3, .body = "x"}),
        ERR_OK);
    assert_int_equal(ready(r, "a"), 1);
    assert_int_equal(ready(r, "b"), 1);
}

static void an_auto_delete_exchange_goes_with_its_last_binding(void **state) {
    struct rig *r = *state;
    struct exchange_options o = {.type = EXCHANGE_TOPIC, .durable = true, .auto_delete = true};
    struct exchange_info info;
    rig_queue(r, "q", durable);
    engine_exchange_declare(r->vhost, "outer", &o, NULL);
    engine_exchange_declare(r->vhost, "inner", &o, NULL);
    lead(r, "outer", "inner", "#");
    rig_bind(r, "inner", "q", "a");
    rig_bind(r, "inner", "q", "b");
    rig_run(r);
    rig_crash(r);
    rig_unbind(r, "inner", "q", "a");
    assert_true(engine_exchange(r->vhost, "inner", &info));
    rig_delete(r, "q");
    assert_false(engine_exchange(r->vhost, "inner", &info));
    assert_false(engine_exchange(r->vhost, "outer", &info));
    rig_run(r);
    rig_crash(r);
    assert_false(engine_exchange(r->vhost, "outer", &info));
}

static void exchanges_that_are_always_there(void **state) {
    struct rig *r = *state;
    rig_queue(r, "q", durable);
    rig_bind(r, "amq.topic", "q", "a.#");
    rig_run(r);
    rig_crash(r);
    assert_int_equal(publish(r, "amq.topic", "a.b"), PUBLISH_OK);
    assert_int_equal(ready(r, "q"), 1);
    rig_exchange(r, "amq.direct", EXCHANGE_DIRECT); // as it is
    assert_int_equal(rig_declare(r, "amq.direct", EXCHANGE_FANOUT), ERR_CONFLICT);
    assert_int_equal(engine_exchange_delete(r->vhost, "amq.direct", false, &r->err), ERR_FORBIDDEN);
}

static void what_differs_is_named_as_elsewhere(void **state) {
    struct rig *r = *state;
    struct exchange_options transient = {.type = EXCHANGE_FANOUT};
    rig_exchange(r, "x", EXCHANGE_FANOUT);
    assert_int_equal(engine_exchange_declare(r->vhost, "x", &transient, &r->err), ERR_CONFLICT);
    assert_string_equal(
        r->err.text,
        "inequivalent arg 'durable' for exchange 'x' in vhost '/': received 'false' but current is 'true'");
    struct queue_options o = {.durable = true, .has_max_length = true, .max_length = 10};
    rig_queue(r, "q", o);
    assert_int_equal(engine_queue_declare(r->vhost, "q", &durable, &r->err), ERR_CONFLICT);
    assert_string_equal(r->err.text, "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received none but "
                                     "current is the value '10' of type 'long'");
    o.arguments = (struct view){.data = (const uint8_t *)"\1at\1", .length = 4};
    rig_queue(r, "q", o); // what is only shown is not compared
}

static void words_may_be_globs_where_it_was_said_so(void **state) {
    struct rig *r = *state;
    struct exchange_options o = {.type = EXCHANGE_TOPIC, .durable = true};
    engine_exchange_declare(r->vhost, "events", &o, NULL);
    rig_queue(r, "q", durable);
    rig_bind(r, "events", "q", "message_*.#");
    assert_int_equal(publish(r, "events", "message_send"), PUBLISH_UNROUTABLE);
    o.glob = true;
    assert_int_equal(engine_exchange_declare(r->vhost, "events", &o, &r->err), ERR_OK);
    assert_int_equal(publish(r, "events", "message_send"), PUBLISH_OK);
    assert_int_equal(publish(r, "events", "message_.a"), PUBLISH_OK);
    assert_int_equal(publish(r, "events", "message.a"), PUBLISH_UNROUTABLE);
    rig_unbind(r, "events", "q", "message_*.#");
    assert_int_equal(publish(r, "events", "message_send"), PUBLISH_UNROUTABLE);
    rig_bind(r, "events", "q", "*_a*b_*");
    assert_int_equal(publish(r, "events", "x_aabbb_"), PUBLISH_OK);
    assert_int_equal(publish(r, "events", "x_aabbb"), PUBLISH_UNROUTABLE);
}

// A queue may be bound a hundred thousand times in a moment.
static void many_bindings_of_one_queue(void **state) {
    struct rig *r = *state;
    char key[16];
    struct engine_stats stats;
    rig_queue(r, "q", (struct queue_options){0});
    for (int twice = 0; twice < 2; twice++) {
        for (int i = 0; i < 100000; i++) {
            snprintf(key, sizeof key, "%d", i);
            rig_bind(r, "amq.direct", "q", key);
        }
    }
    engine_stats(r->engine, &stats);
    assert_int_equal(stats.bindings, 100000);
    assert_int_equal(publish(r, "amq.direct", "99999"), PUBLISH_OK);
    rig_delete(r, "q");
    engine_stats(r->engine, &stats);
    assert_int_equal(stats.bindings, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        RIG_TEST(an_exchange_leads_to_another_and_loops_end),
        RIG_TEST(what_leads_nowhere_takes_the_alternate_way),
        RIG_TEST(more_keys_reach_more_queues_each_once),
        RIG_TEST(an_auto_delete_exchange_goes_with_its_last_binding),
        RIG_TEST(exchanges_that_are_always_there),
        RIG_TEST(what_differs_is_named_as_elsewhere),
        RIG_TEST(words_may_be_globs_where_it_was_said_so),
        RIG_TEST(many_bindings_of_one_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
