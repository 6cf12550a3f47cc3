// Dead letters: what is written on them, where they go, and that none is lost or goes in circles.
#include "engine/rig_test.h"
#include "engine/table_test.h"

static uint64_t ready(struct rig *r, const char *queue) { return rig_info(r, queue).info.ready; }

// Queue "work" with a dead-letter exchange that leads to queue "dead".
static void declare(struct rig *r, struct queue_options work) {
    work.durable = true;
    if (!work.dead_letter_exchange) work.dead_letter_exchange = "dlx";
    rig_exchange(r, "dlx", EXCHANGE_FANOUT);
    rig_queue(r, "work", work);
    rig_queue(r, "dead", (struct queue_options){.durable = true});
    rig_bind(r, "dlx", "dead", "");
}

static void send(struct rig *r, const char *queue, const char *body, struct view p) {
    assert_int_equal(rig_send(r, (struct message){.routing_key = queue,
                                                  .body = body,
                                                  .persistent = true,
                                                  .properties = p.data,
                                                  .properties_length = p.length}),
                     ERR_OK);
}

static struct view headers(const struct seen *s) { return properties_headers(s->properties, s->properties_length); }

static struct view death(const struct seen *s, int n) {
    struct field f;
    assert_true(table_find(headers(s), "x-death", &f));
    struct table_cursor c = {f.bytes};
    for (int i = 0; i <= n; i++) assert_true(array_next(&c, &f));
    return f.bytes;
}

static void has_text(struct view table, const char *name, const char *text) {
    struct field f;
    if (!table_find(table, name, &f) || !view_is(f.bytes, text)) fail_msg("%s is not %s", name, text);
}

static int64_t count(struct view table) {
    struct field f;
    int64_t n = 0;
    assert_true(table_find(table, "count", &f) && field_integer(&f, &n));
    return n;
}

static void every_reason_is_told(void **state) {
    struct rig *r = *state;
    struct taker t = {0}, d = {0};
    declare(r, (struct queue_options){
                   .has_max_length = true, .max_length = 2, .delivery_limit = 2, .dead_letter_routing_key = "gone"});
    struct properties p = {.flags = PROPERTY_EXPIRATION, .expiration = view_of("50")};
    struct buf *b = table_fresh();
    properties_encode(b, &p);
    rig_send(r, (struct message){.routing_key = "work",
                                 .body = "expired",
                                 .persistent = true,
                                 .has_expiration = true,
                                 .expiration_ms = 50,
                                 .properties = b->data,
                                 .properties_length = (uint32_t)b->len});
    rig_advance(r, 50);
    for (int i = 0; i < 3; i++) send(r, "work", (const char *[]){"maxlen", "rejected", "limit"}[i], (struct view){0});
    rig_run(r);
    rig_take(r, &t, "work", (struct consumer_options){0});
    rig_run(r);
    rig_settle(r, 0, SETTLE_REJECT, NULL);
    rig_settle(r, 1, SETTLE_REQUEUE, NULL);
    rig_run(r);
    assert_int_equal(r->seen[2].attempt, 2);
    assert_true(r->seen[2].counted);
    rig_settle(r, 2, SETTLE_REQUEUE, NULL);
    rig_run(r);
    r->n_seen = 0;
    rig_take(r, &d, "dead", (struct consumer_options){0});
    rig_run(r);
    EXPECT(r, "expired", "maxlen", "rejected", "limit");
    for (int i = 0; i < 4; i++) {
        const char *reason = (const char *[]){"expired", "maxlen", "rejected", "delivery_limit"}[i];
        has_text(death(&r->seen[i], 0), "reason", reason);
        has_text(death(&r->seen[i], 0), "queue", "work");
        has_text(death(&r->seen[i], 0), "exchange", "");
        has_text(headers(&r->seen[i]), "x-first-death-reason", reason);
        assert_int_equal(count(death(&r->seen[i], 0)), 1);
        assert_string_equal(r->seen[i].key, "gone");
    }
    has_text(death(&r->seen[0], 0), "original-expiration", "50");
    assert_int_equal(rig_info(r, "work").info.dead_lettered, 4);
    assert_int_equal(rig_info(r, "work").info.expired, 1);
    assert_true(properties_decode(&p, r->seen[0].properties, r->seen[0].properties_length));
    assert_false(p.flags & PROPERTY_EXPIRATION);
}

// The retry loop that everybody builds: reject, wait in a queue with a TTL, come back.
static void what_is_rejected_may_go_round_for_ever(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_exchange(r, "dlx", EXCHANGE_DIRECT);
    rig_queue(r, "work",
              (struct queue_options){.durable = true, .dead_letter_exchange = "", .dead_letter_routing_key = "wait"});
    rig_queue(r, "wait",
              (struct queue_options){.durable = true,
                                     .has_message_ttl = true,
                                     .message_ttl_ms = 10,
                                     .dead_letter_exchange = "",
                                     .dead_letter_routing_key = "work"});
    rig_put(r, "work", "x");
    rig_run(r);
    rig_take(r, &t, "work", (struct consumer_options){0});
    for (uint32_t i = 0; i < 200; i++) {
        rig_run(r);
        assert_int_equal(r->n_seen, i + 1);
        if (i > 0) {
            has_text(death(&r->seen[i], 0), "queue", "wait");
            assert_int_equal(count(death(&r->seen[i], 0)), i);
            assert_int_equal(count(death(&r->seen[i], 1)), i);
        }
        rig_settle(r, i, SETTLE_REJECT, NULL);
        rig_run(r);
        rig_advance(r, 10);
    }
}

static void a_circle_without_a_rejection_ends(void **state) {
    struct rig *r = *state;
    for (int i = 0; i < 3; i++) {
        static const char *const names[] = {"a", "b", "c", "a"};
        rig_queue(r, names[i],
                  (struct queue_options){.durable = true,
                                         .has_message_ttl = true,
                                         .message_ttl_ms = 10,
                                         .park = i == 1,
                                         .dead_letter_exchange = "",
                                         .dead_letter_routing_key = names[i + 1]});
    }
    rig_put(r, "a", "dropped by c, which does not park");
    rig_put(r, "c", "parked by b");
    for (int i = 0; i < 20; i++) rig_advance(r, 10);
    struct engine_stats s;
    engine_stats(r->engine, &s);
    assert_int_equal(s.messages, 1);
    assert_int_equal(rig_info(r, "b").info.parked, 1);
}

static void copies_are_routed_again_unless_the_key_is_replaced(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_exchange(r, "dlx", EXCHANGE_DIRECT);
    for (int replaced = 0; replaced < 2; replaced++) {
        rig_queue(r, "work",
                  (struct queue_options){.durable = true,
                                         .dead_letter_exchange = "dlx",
                                         .dead_letter_routing_key = replaced ? "work" : NULL});
        rig_queue(r, "first", (struct queue_options){.durable = true});
        rig_queue(r, "copy", (struct queue_options){.durable = true});
        rig_bind(r, "dlx", "first", "work");
        rig_bind(r, "dlx", "copy", "other");
        struct buf *b = table_fresh();
        size_t at = table_put_array(b, "CC");
        struct field f = {.type = FIELD_STRING, .bytes = view_of("other")};
        array_put(b, &f);
        table_end(b, at);
        send(r, "work", "x", properties_with(view_of_buf(b), NULL));
        rig_run(r);
        rig_take(r, &t, "work", (struct consumer_options){0});
        rig_run(r);
        rig_settle(r, r->n_seen - 1, SETTLE_REJECT, NULL);
        rig_run(r);
        assert_int_equal(ready(r, "first"), 1);
        assert_int_equal(ready(r, "copy"), !replaced);
        rig_leave(&t);
        rig_delete(r, "work");
        rig_delete(r, "first");
        rig_delete(r, "copy");
    }
}

static void a_letter_waits_for_room_and_keeps_its_order(void **state) {
    struct rig *r = *state;
    struct taker t = {0}, d = {.ack = true};
    declare(r, (struct queue_options){0});
    rig_queue(r, "narrow",
              (struct queue_options){
                  .durable = true, .has_max_length = true, .max_length = 1, .overflow = OVERFLOW_REJECT_PUBLISH});
    rig_unbind(r, "dlx", "dead", "");
    rig_bind(r, "dlx", "narrow", "");
    for (int i = 0; i < 6; i++) send(r, "work", (const char *[]){"0", "1", "2", "3", "4", "5"}[i], (struct view){0});
    rig_run(r);
    rig_take(r, &t, "work", (struct consumer_options){0});
    rig_run(r);
    for (uint32_t i = 0; i < 6; i++) rig_settle(r, i, SETTLE_REJECT, NULL);
    rig_run(r);
    assert_int_equal(ready(r, "narrow"), 1);
    rig_crash(r);
    rig_take(r, &t, "work", (struct consumer_options){0});
    rig_run(r);
    EXPECT(r, "1", "2", "3", "4", "5"); // they were nowhere else yet
    for (uint32_t i = 0; i < 5; i++) rig_settle(r, i, SETTLE_REJECT, NULL);
    r->n_seen = 0;
    rig_take(r, &d, "narrow", (struct consumer_options){0});
    for (int i = 0; i < 10; i++) rig_advance(r, 10);
    EXPECT(r, "0", "1", "2", "3", "4", "5");
}

static void a_refused_message_goes_to_the_dead_letters(void **state) {
    struct rig *r = *state;
    struct taker d = {0};
    declare(r,
            (struct queue_options){.has_max_length = true, .max_length = 1, .overflow = OVERFLOW_REJECT_PUBLISH_DLX});
    send(r, "work", "in", (struct view){0});
    send(r, "work", "out", (struct view){0});
    rig_run(r);
    assert_int_equal(r->done[PUBLISH_REJECTED], 1);
    rig_take(r, &d, "dead", (struct consumer_options){0});
    rig_run(r);
    EXPECT(r, "out");
    has_text(death(&r->seen[0], 0), "reason", "maxlen");
}

static void a_letter_does_not_stand_in_its_own_way(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q",
              (struct queue_options){.durable = true,
                                     .dedupe_present = true,
                                     .dedupe_window_ms = 60000,
                                     .dead_letter_exchange = "",
                                     .dead_letter_routing_key = "q"});
    struct buf *b = table_fresh();
    table_put_text(b, "x-deduplication-header", "one");
    struct view p = properties_with(view_of_buf(b), NULL);
    struct message m = {.routing_key = "q",
                        .body = "x",
                        .message_id = "id",
                        .persistent = true,
                        .properties = p.data,
                        .properties_length = p.length};
    rig_send(r, m);
    rig_run(r);
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    for (uint32_t i = 0; i < 3; i++) {
        rig_settle(r, i, SETTLE_REJECT, NULL);
        rig_run(r);
        assert_int_equal(r->n_seen, i + 2);
        m.message_id = NULL;
        rig_send(r, m); // but others of that value are kept out
        rig_run(r);
        assert_int_equal(r->done[PUBLISH_DUPLICATE], i + 1);
    }
}

static void a_session_that_ends_counts_where_attempts_are_limited(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    declare(r, (struct queue_options){.delivery_limit = 3});
    rig_queue(r, "plain", (struct queue_options){.durable = true});
    rig_put(r, "work", "x");
    rig_put(r, "plain", "y");
    for (uint32_t i = 0; i < 3; i++) {
        rig_take(r, &t, "work", (struct consumer_options){0});
        rig_run(r);
        assert_int_equal(r->seen[i].attempt, i + 1);
        rig_leave(&t);
        rig_run(r);
    }
    assert_int_equal(ready(r, "work"), 0);
    assert_int_equal(ready(r, "dead"), 1);
    for (uint32_t i = 0; i < 3; i++) {
        rig_take(r, &t, "plain", (struct consumer_options){0});
        rig_run(r);
        assert_int_equal(r->seen[3 + i].attempt, 1);
        assert_false(r->seen[3 + i].counted);
        rig_leave(&t);
    }
}

static void a_ttl_of_zero_offers_once(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    declare(r, (struct queue_options){.has_message_ttl = true});
    for (int persistent = 0; persistent < 2; persistent++) {
        struct message m = {.routing_key = "work", .body = "x", .persistent = persistent};
        rig_send(r, m);
        engine_tick(r->engine);
        rig_advance(r, 2);
        assert_int_equal(ready(r, "work"), 0);
        assert_int_equal(ready(r, "dead"), persistent * 2 + 1); // nobody was there
        rig_take(r, &t, "work", (struct consumer_options){0});
        rig_send(r, m);
        rig_send(r, m);
        engine_tick(r->engine);
        rig_advance(r, 2);
        assert_int_equal(r->n_seen, 2 * (persistent + 1));
        rig_settle(r, r->n_seen - 1, SETTLE_ACK, NULL);
        rig_settle(r, r->n_seen - 2, SETTLE_REQUEUE, NULL); // it had its chance
        rig_leave(&t);
        rig_advance(r, 2);
        assert_int_equal(ready(r, "dead"), persistent * 2 + 2);
    }
}

// Whatever the timers do that are due at once, and though some of the pass may be left for the next.
static void what_expires_together_dies_in_order(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_exchange(r, "dlx", EXCHANGE_DIRECT);
    rig_queue(r, "dead", (struct queue_options){.durable = true});
    rig_queue(r, "work",
              (struct queue_options){.durable = true,
                                     .has_message_ttl = true,
                                     .message_ttl_ms = 10,
                                     .dead_letter_exchange = "",
                                     .dead_letter_routing_key = "dead"});
    for (int i = 0; i < 3000; i++) {
        char body[16];
        snprintf(body, sizeof body, "%d", i);
        rig_put(r, "work", body);
        if (i % 700 == 0) io_sim_advance(r->sim, 1000000);
    }
    rig_run(r);
    io_sim_advance(r->sim, 20000000);
    for (int i = 0; i < 100; i++) rig_advance(r, 1);
    rig_take(r, &t, "dead", (struct consumer_options){0});
    rig_run(r);
    assert_int_equal(r->n_seen, 3000);
    for (int i = 0; i < 3000; i++) assert_int_equal(strtol(r->seen[i].body, NULL, 10), i);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        RIG_TEST(every_reason_is_told),
        RIG_TEST(what_is_rejected_may_go_round_for_ever),
        RIG_TEST(a_circle_without_a_rejection_ends),
        RIG_TEST(copies_are_routed_again_unless_the_key_is_replaced),
        RIG_TEST(a_letter_waits_for_room_and_keeps_its_order),
        RIG_TEST(a_refused_message_goes_to_the_dead_letters),
        RIG_TEST(a_letter_does_not_stand_in_its_own_way),
        RIG_TEST(a_session_that_ends_counts_where_attempts_are_limited),
        RIG_TEST(a_ttl_of_zero_offers_once),
        RIG_TEST(what_expires_together_dies_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
