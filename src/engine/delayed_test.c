// Delayed exchanges: a message waits before it is routed, whatever happens meanwhile.
#include "engine/rig_test.h"
#include "engine/table_test.h"

static const struct queue_options durable = {.durable = true};

static uint64_t ready(struct rig *r, const char *queue) { return rig_info(r, queue).info.ready; }

static void declare(struct rig *r, const char *name, bool is_durable) {
    struct exchange_options o = {.type = EXCHANGE_DIRECT, .durable = is_durable, .delayed = true};
    if (engine_exchange_declare(r->vhost, name, &o, &r->err)) fail_msg("%s", r->err.text);
}

static void send(struct rig *r, const char *key, int64_t delay, const char *body) {
    struct buf *b = table_fresh();
    table_put_integer(b, "x-delay", delay);
    struct view p = properties_with(view_of_buf(b), NULL);
    struct message m = {.exchange = "late",
                        .routing_key = key,
                        .properties = p.data,
                        .properties_length = p.length,
                        .body = body,
                        .persistent = true};
    assert_int_equal(rig_send(r, m), ERR_OK);
}

static uint64_t delayed(struct rig *r) {
    struct exchange_info x;
    assert_true(engine_exchange(r->vhost, "late", &x));
    return x.delayed;
}

static void a_message_waits_and_says_so_afterwards(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    declare(r, "late", true);
    rig_queue(r, "q", durable);
    rig_bind(r, "late", "q", "k");
    send(r, "k", 1000, "slow");
    send(r, "k", 200, "fast");
    send(r, "k", 0, "now");
    send(r, "k", -5, "again");
    rig_run(r);
    assert_int_equal(r->done[PUBLISH_OK], 4);
    assert_int_equal(ready(r, "q"), 2);
    assert_int_equal(delayed(r), 2);
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_advance(r, 199);
    EXPECT(r, "now", "again");
    rig_advance(r, 1);
    EXPECT(r, "now", "again", "fast");
    rig_advance(r, 800);
    EXPECT(r, "now", "again", "fast", "slow");
    assert_int_equal(delayed(r), 0);
    struct field f;
    int64_t n;
    assert_true(table_find(properties_headers(r->seen[3].properties, r->seen[3].properties_length), "x-delay", &f));
    assert_true(field_integer(&f, &n));
    assert_int_equal(n, -1000);
    assert_string_equal(r->seen[3].key, "k");
}

static void it_is_routed_by_the_bindings_of_that_moment(void **state) {
    struct rig *r = *state;
    declare(r, "late", true);
    rig_queue(r, "old", durable);
    rig_queue(r, "new", durable);
    rig_bind(r, "late", "old", "k");
    send(r, "k", 100, "x");
    rig_run(r);
    rig_unbind(r, "late", "old", "k");
    rig_bind(r, "late", "new", "k");
    rig_advance(r, 100);
    assert_int_equal(ready(r, "old"), 0);
    assert_int_equal(ready(r, "new"), 1);
}

static void those_due_together_keep_their_order(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    declare(r, "late", true);
    rig_queue(r, "q", durable);
    rig_bind(r, "late", "q", "k");
    char body[16];
    for (int i = 0; i < 3000; i++) {
        snprintf(body, sizeof body, "%d", i);
        send(r, "k", 50, body);
    }
    rig_run(r);
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_advance(r, 50);
    assert_int_equal(r->n_seen, 3000);
    for (int i = 0; i < 3000; i++) assert_int_equal(strtol(r->seen[i].body, NULL, 10), i);
}

static void a_crash_changes_nothing_but_what_was_never_durable(void **state) {
    struct rig *r = *state;
    declare(r, "late", true);
    rig_queue(r, "q", durable);
    rig_bind(r, "late", "q", "k");
    send(r, "k", 1000, "kept");
    rig_run(r);
    send(r, "k", 1000, "lost");
    for (int round = 0; round < 3; round++) {
        rig_crash(r);
        rig_run(r);
        assert_int_equal(delayed(r), 1);
        rig_advance(r, 200);
    }
    assert_int_equal(ready(r, "q"), 0);
    rig_advance(r, 400);
    assert_int_equal(ready(r, "q"), 1);
    rig_crash(r);
    rig_advance(r, 5000);
    assert_int_equal(ready(r, "q"), 1);
    assert_int_equal(delayed(r), 0);
    send(r, "k", 1000, "due while it is down");
    rig_sync(r);
    io_sim_advance(r->sim, UINT64_C(2000000000));
    rig_crash(r);
    rig_run(r);
    assert_int_equal(ready(r, "q"), 2);
}

static void its_room_is_nobodys_queue(void **state) {
    struct rig *r = *state;
    struct engine_stats before, after;
    engine_stats(r->engine, &before);
    declare(r, "late", true);
    declare(r, "late", true);
    engine_stats(r->engine, &after);
    assert_int_equal(after.queues, before.queues);
    assert_false(rig_info(r, "late").found);
    rig_queue(r, "late", durable); // a queue may have that name
    rig_bind(r, "late", "late", "k");
    send(r, "k", 100, "x");
    rig_run(r);
    assert_int_equal(ready(r, "late"), 0);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(engine_exchange_delete(r->vhost, "late", false, &r->err), ERR_OK);
        declare(r, "late", true);
        rig_run(r);
        rig_crash(r);
        assert_int_equal(delayed(r), 0);
        rig_advance(r, 200);
        assert_int_equal(ready(r, "late"), 0);
        assert_true(rig_info(r, "late").found);
    }
    engine_stats(r->engine, &after);
    assert_int_equal(after.queues, before.queues + 1);
}

static void a_binding_between_exchanges_leads_to_the_room_too(void **state) {
    struct rig *r = *state;
    declare(r, "late", false);
    rig_exchange(r, "front", EXCHANGE_FANOUT);
    rig_queue(r, "q", durable);
    rig_queue(r, "at once", durable);
    rig_bind(r, "late", "q", "k");
    rig_bind(r, "front", "at once", "");
    struct binding_spec b = {.source = "front", .destination = "late", .to_exchange = true, .key = ""};
    assert_int_equal(engine_bind(r->vhost, &b, &r->err), ERR_OK);
    struct buf *t = table_fresh();
    table_put_integer(t, "x-delay", 100);
    struct view p = properties_with(view_of_buf(t), NULL);
    rig_send(r, (struct message){.exchange = "front",
                                 .routing_key = "k",
                                 .properties = p.data,
                                 .properties_length = p.length,
                                 .body = "x",
                                 .persistent = true});
    rig_run(r);
    assert_int_equal(ready(r, "at once"), 1);
    assert_int_equal(ready(r, "q"), 0);
    rig_advance(r, 100);
    assert_int_equal(ready(r, "q"), 1);
    assert_int_equal(ready(r, "at once"), 1);
}

static void a_vhost_goes_with_its_delayed_messages(void **state) {
    struct rig *r = *state;
    struct vhost *first = r->vhost, *v;
    assert_int_equal(engine_vhost_add(r->engine, "two", &v, &r->err), ERR_OK);
    r->vhost = v;
    declare(r, "late", true);
    send(r, "k", 100, "x");
    rig_run(r);
    assert_int_equal(engine_vhost_delete(r->engine, "two", &r->err), ERR_OK);
    r->vhost = first;
    rig_run(r);
    rig_crash(r);
    rig_advance(r, 1000);
    struct engine_stats s;
    engine_stats(r->engine, &s);
    assert_int_equal(s.messages, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        RIG_TEST(a_message_waits_and_says_so_afterwards),
        RIG_TEST(it_is_routed_by_the_bindings_of_that_moment),
        RIG_TEST(those_due_together_keep_their_order),
        RIG_TEST(a_crash_changes_nothing_but_what_was_never_durable),
        RIG_TEST(its_room_is_nobodys_queue),
        RIG_TEST(a_binding_between_exchanges_leads_to_the_room_too),
        RIG_TEST(a_vhost_goes_with_its_delayed_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
