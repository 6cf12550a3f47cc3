// Queues and consumers: visibility, turns, prefetch, limits, expiry, dead letters, what callbacks may do.
#include "engine/rig_test.h"

static const struct queue_options durable = {.durable = true};

static void a_persistent_message_is_seen_and_confirmed_only_when_durable(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q", durable);
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    rig_put(r, "q", "a");
    engine_dispatch(r->engine);
    engine_tick(r->engine);
    assert_int_equal(r->n_seen, 0);
    assert_int_equal(r->done[PUBLISH_OK], 0);
    rig_sync(r);
    EXPECT(r, "a");
    assert_int_equal(r->done[PUBLISH_OK], 1);
    assert_false(r->seen[0].redelivered);
    assert_int_equal(r->seen[0].attempt, 1);
}

static void a_transient_message_is_seen_at_once_and_confirmed_in_order(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "t", (struct queue_options){0});
    rig_queue(r, "d", durable);
    rig_take(r, &t, "t", (struct consumer_options){0});
    rig_put(r, "d", "first");
    assert_int_equal(rig_send(r, (struct message){.routing_key = "t", .body = "second"}), ERR_OK);
    assert_int_equal(r->n_seen, 0); // never from inside engine_publish
    engine_dispatch(r->engine);
    EXPECT(r, "second");
    assert_int_equal(r->done[PUBLISH_OK], 0); // the first is still on its way
    rig_sync(r);
    assert_int_equal(r->done[PUBLISH_OK], 2);
}

static void consumers_take_turns(void **state) {
    struct rig *r = *state;
    struct taker t[3] = {0};
    rig_queue(r, "q", durable);
    for (int i = 0; i < 3; i++) rig_take(r, &t[i], "q", (struct consumer_options){0});
    for (int i = 0; i < 9; i++) rig_put(r, "q", "x");
    rig_run(r);
    assert_int_equal(r->n_seen, 9);
    for (int i = 3; i < 9; i++) assert_ptr_equal(r->seen[i].session, r->seen[i - 3].session);
    assert_ptr_not_equal(r->seen[0].session, r->seen[1].session);
    assert_ptr_not_equal(r->seen[1].session, r->seen[2].session);
}

static void prefetch_bounds_what_a_consumer_holds(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q", durable);
    rig_take(r, &t, "q", (struct consumer_options){.prefetch = 2});
    for (int i = 0; i < 5; i++) rig_put(r, "q", (const char *[]){"a", "b", "c", "d", "e"}[i]);
    rig_run(r);
    EXPECT(r, "a", "b");
    rig_settle(r, 1, SETTLE_ACK, NULL);
    rig_run(r);
    EXPECT(r, "a", "b", "c");
    assert_int_equal(rig_info(r, "q").info.ready, 2);
    assert_int_equal(rig_info(r, "q").info.unacked, 2);
    assert_int_equal(rig_info(r, "q").info.acked, 1);
}

static void a_higher_consumer_priority_is_served_first_while_it_has_room(void **state) {
    struct rig *r = *state;
    struct taker low = {0}, high = {0};
    rig_queue(r, "q", durable);
    rig_take(r, &low, "q", (struct consumer_options){.priority = -1});
    rig_take(r, &high, "q", (struct consumer_options){.priority = 5, .prefetch = 2});
    for (int i = 0; i < 4; i++) rig_put(r, "q", "x");
    rig_run(r);
    assert_ptr_equal(r->seen[0].session, high.session);
    assert_ptr_equal(r->seen[1].session, high.session);
    assert_ptr_equal(r->seen[2].session, low.session);
    assert_ptr_equal(r->seen[3].session, low.session);
}

static void requeue_and_cancel_bring_messages_to_their_old_places(void **state) {
    struct rig *r = *state;
    struct taker t = {0}, u = {0};
    rig_queue(r, "q", durable);
    rig_take(r, &t, "q", (struct consumer_options){.prefetch = 3});
    for (int i = 0; i < 5; i++) rig_put(r, "q", (const char *[]){"a", "b", "c", "d", "e"}[i]);
    rig_run(r);
    EXPECT(r, "a", "b", "c");
    rig_leave(&t);
    r->n_seen = 0;
    rig_take(r, &u, "q", (struct consumer_options){0});
    rig_run(r);
    EXPECT(r, "a", "b", "c", "d", "e");
    assert_true(r->seen[2].redelivered);
    assert_false(r->seen[3].redelivered);
    assert_int_equal(r->seen[0].attempt, 1); // giving back is not a failed attempt
    rig_settle(r, 1, SETTLE_REQUEUE, NULL);
    rig_run(r);
    assert_string_equal(r->seen[5].body, "b");
}

static void no_ack_settles_at_delivery(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q", durable);
    rig_take(r, &t, "q", (struct consumer_options){.no_ack = true});
    rig_put(r, "q", "a");
    rig_run(r);
    EXPECT(r, "a");
    rig_crash(r);
    assert_int_equal(rig_info(r, "q").info.ready, 0);
}

static void a_tag_is_settled_once_and_only_by_its_consumer(void **state) {
    struct rig *r = *state;
    struct taker t = {0}, u = {0};
    rig_queue(r, "q", durable);
    rig_take(r, &t, "q", (struct consumer_options){.prefetch = 1});
    rig_take(r, &u, "q", (struct consumer_options){.prefetch = 1});
    rig_put(r, "q", "a");
    rig_run(r);
    assert_ptr_equal(r->seen[0].session, t.session);
    assert_int_equal(engine_settle(u.session, r->seen[0].tag, false, SETTLE_ACK, NULL, NULL), ERR_NOT_FOUND);
    rig_settle(r, 0, SETTLE_ACK, NULL);
    assert_int_equal(engine_settle(t.session, r->seen[0].tag, false, SETTLE_ACK, NULL, NULL), ERR_NOT_FOUND);
}

static void exclusive_use_keeps_others_out(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    struct consumer *other;
    rig_queue(r, "q", durable);
    rig_take(r, &t, "q", (struct consumer_options){.exclusive = true});
    assert_int_equal(engine_consume(t.session, r->vhost, "q", &(struct consumer_options){0}, NULL, &other, &r->err),
                     ERR_LOCKED);
    rig_leave(&t);
    rig_take(r, &t, "q", (struct consumer_options){0});
    assert_int_equal(
        engine_consume(t.session, r->vhost, "q", &(struct consumer_options){.exclusive = true}, NULL, &other, &r->err),
        ERR_LOCKED);
}

static void declaring_again_needs_the_same_properties(void **state) {
    struct rig *r = *state;
    struct queue_options other = {.durable = true, .has_max_length = true, .max_length = 3};
    rig_queue(r, "q", durable);
    rig_queue(r, "q", durable);
    assert_int_equal(engine_queue_declare(r->vhost, "q", &other, &r->err), ERR_CONFLICT);
    assert_int_equal(rig_declare(r, "x", EXCHANGE_FANOUT), ERR_OK);
    assert_int_equal(rig_declare(r, "x", EXCHANGE_TOPIC), ERR_CONFLICT);
}

static void purge_takes_what_is_ready_for_good(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    uint64_t count = 0;
    rig_queue(r, "q", durable);
    rig_take(r, &t, "q", (struct consumer_options){.prefetch = 1});
    for (int i = 0; i < 4; i++) rig_put(r, "q", "x");
    rig_run(r);
    assert_int_equal(engine_queue_purge(r->vhost, "q", &count, &r->err), ERR_OK);
    assert_int_equal(count, 3);
    rig_sync(r);
    rig_crash(r);
    assert_int_equal(rig_info(r, "q").info.ready, 1);
}

static void a_deleted_queue_stays_deleted_with_its_messages(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q", durable);
    rig_queue(r, "other", durable);
    rig_take(r, &t, "q", (struct consumer_options){.prefetch = 1});
    rig_put(r, "q", "x");
    rig_put(r, "q", "y");
    rig_run(r);
    rig_delete(r, "q");
    assert_int_equal(engine_settle(t.session, r->seen[0].tag, false, SETTLE_ACK, NULL, NULL), ERR_OK);
    assert_int_equal(engine_settle(t.session, r->seen[0].tag, false, SETTLE_ACK, NULL, NULL), ERR_NOT_FOUND);
    rig_leave(&t);
    rig_queue(r, "q", durable); // a new one of the same name
    rig_put(r, "q", "z");
    rig_sync(r);
    rig_crash(r);
    assert_int_equal(rig_info(r, "q").info.ready, 1);
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    EXPECT(r, "z");
    struct engine_stats stats;
    engine_stats(r->engine, &stats);
    assert_int_equal(stats.messages, 1);
}

static void an_auto_delete_queue_goes_with_its_last_consumer(void **state) {
    struct rig *r = *state;
    struct taker t = {0}, u = {0};
    rig_queue(r, "q", (struct queue_options){.auto_delete = true});
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_take(r, &u, "q", (struct consumer_options){0});
    rig_leave(&t);
    assert_true(rig_info(r, "q").found);
    rig_leave(&u);
    assert_false(rig_info(r, "q").found);
}

static void an_unused_queue_expires(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q", (struct queue_options){.durable = true, .expires_ms = 1000});
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_advance(r, 5000);
    assert_true(rig_info(r, "q").found);
    rig_leave(&t);
    rig_advance(r, 999);
    assert_true(rig_info(r, "q").found);
    rig_advance(r, 1);
    assert_false(rig_info(r, "q").found);
    rig_crash(r);
    assert_false(rig_info(r, "q").found);
}

static void drop_head_keeps_the_newest(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q", (struct queue_options){.durable = true, .has_max_length = true, .max_length = 2});
    for (int i = 0; i < 4; i++) rig_put(r, "q", (const char *[]){"a", "b", "c", "d"}[i]);
    rig_sync(r);
    rig_crash(r);
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    EXPECT(r, "c", "d");
}

static void reject_publish_says_so(void **state) {
    struct rig *r = *state;
    rig_queue(r, "dead", durable);
    rig_queue(
        r, "q",
        (struct queue_options){
            .durable = true, .has_max_length_bytes = true, .max_length_bytes = 4, .overflow = OVERFLOW_REJECT_PUBLISH});
    assert_int_equal(rig_declare(r, "dlx", EXCHANGE_FANOUT), ERR_OK);
    rig_bind(r, "dlx", "dead", "");
    rig_queue(r, "q2",
              (struct queue_options){.durable = true,
                                     .has_max_length = true,
                                     .max_length = 1,
                                     .dead_letter_exchange = "dlx",
                                     .overflow = OVERFLOW_REJECT_PUBLISH_DLX});
    rig_put(r, "q", "1234");
    rig_put(r, "q", "5");
    rig_put(r, "q2", "1");
    rig_put(r, "q2", "2");
    rig_run(r);
    assert_int_equal(r->done[PUBLISH_OK], 2);
    assert_int_equal(r->done[PUBLISH_REJECTED], 2);
    assert_int_equal(rig_info(r, "q").info.ready, 1);
    assert_int_equal(rig_info(r, "q2").info.ready, 1);
    assert_int_equal(rig_info(r, "dead").info.ready, 1);
}

static void ttl_and_expiration_end_messages(void **state) {
    struct rig *r = *state;
    rig_queue(r, "q", (struct queue_options){.durable = true, .has_message_ttl = true, .message_ttl_ms = 1000});
    rig_queue(r, "p", durable);
    rig_put(r, "q", "by queue");
    rig_send(r,
             (struct message){
                 .routing_key = "p", .body = "own", .persistent = true, .has_expiration = true, .expiration_ms = 500});
    rig_put(r, "p", "stays");
    rig_advance(r, 499);
    assert_int_equal(rig_info(r, "p").info.ready, 2);
    rig_advance(r, 1);
    assert_int_equal(rig_info(r, "p").info.ready, 1);
    assert_int_equal(rig_info(r, "q").info.ready, 1);
    io_sim_advance(r->sim, 600000000); // past the queue's TTL while the engine is down
    rig_crash(r);
    rig_run(r);
    assert_int_equal(rig_info(r, "q").info.ready, 0);
    assert_int_equal(rig_info(r, "p").info.ready, 1);
}

static void a_delayed_message_waits_also_across_a_restart(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q", durable);
    rig_send(r, (struct message){.routing_key = "q", .body = "late", .persistent = true, .delay_ms = 2000});
    rig_put(r, "q", "now");
    rig_run(r);
    io_sim_advance(r->sim, 1000000000);
    rig_crash(r);
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    EXPECT(r, "now");
    assert_true(engine_next_deadline(r->engine) <= io_monotonic_ns(io_sim_io(r->sim)) + 1000000000);
    rig_advance(r, 999);
    EXPECT(r, "now");
    rig_advance(r, 1);
    EXPECT(r, "now", "late");
}

static void dead_letters_go_on_with_their_own_or_the_given_key(void **state) {
    struct rig *r = *state;
    struct taker t = {0}, d = {0};
    rig_queue(r, "dead", durable);
    rig_exchange(r, "dlx", EXCHANGE_DIRECT);
    rig_bind(r, "dlx", "dead", "gone");
    rig_queue(
        r, "q",
        (struct queue_options){.durable = true, .dead_letter_exchange = "dlx", .dead_letter_routing_key = "gone"});
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_put(r, "q", "bad");
    rig_run(r);
    rig_settle(r, 0, SETTLE_REJECT, NULL);
    rig_run(r);
    rig_crash(r);
    assert_int_equal(rig_info(r, "q").info.ready, 0);
    rig_take(r, &d, "dead", (struct consumer_options){0});
    rig_run(r);
    EXPECT(r, "bad");
    assert_string_equal(r->seen[0].key, "gone");
}

static void a_dead_letter_circle_ends(void **state) {
    struct rig *r = *state;
    rig_exchange(r, "dlx", EXCHANGE_FANOUT);
    rig_queue(
        r, "q",
        (struct queue_options){.durable = true, .dead_letter_exchange = "dlx", .has_message_ttl = true, .park = true});
    rig_bind(r, "dlx", "q", "");
    rig_put(r, "q", "round");
    for (int i = 0; i < 100; i++) rig_advance(r, 5);
    assert_int_equal(rig_info(r, "q").info.ready, 0);
    assert_int_equal(rig_info(r, "q").info.parked, 1);
}

struct meddler {
    struct rig *rig;
    struct session *session;
    int what;
};

static void meddle(void *arg, const struct delivery *d) {
    struct meddler *m = arg;
    struct engine *e = m->rig->engine;
    char before[64];
    snprintf(before, sizeof before, "%.*s", (int)d->body_length, (const char *)d->body);
    switch (m->what++) {
    case 0: engine_settle(m->session, d->tag, false, SETTLE_ACK, NULL, NULL); break;
    case 1: engine_settle(m->session, d->tag, false, SETTLE_PARK, "because", NULL); break;
    case 2: rig_put(m->rig, "q", "more"); break;
    case 3: engine_dispatch(e), engine_tick(e); break;
    case 4: engine_session_free(m->session); break;
    }
    assert_memory_equal(before, d->body, d->body_length); // the bytes are still there
    assert_string_equal(d->queue, "q");
}

static void callbacks_may_do_anything(void **state) {
    struct rig *r = *state;
    struct meddler m = {.rig = r};
    struct taker t = {0};
    rig_queue(r, "q", durable);
    for (int i = 0; i < 7; i++) rig_put(r, "q", "message");
    struct consumer *c;
    m.session = engine_session_new(r->engine, &(struct session_options){.deliver = meddle, .arg = &m});
    assert_int_equal(engine_consume(m.session, r->vhost, "q", &(struct consumer_options){0}, NULL, &c, NULL), ERR_OK);
    rig_run(r);
    assert_int_equal(m.what, 5);
    assert_int_equal(rig_info(r, "q").info.ready, 6); // 8, less an acked and a parked one
    rig_take(r, &t, "q", (struct consumer_options){.no_ack = true});
    rig_run(r);
    assert_int_equal(r->n_seen, 6);
}

static void limits_are_errors(void **state) {
    struct rig *r = *state;
    char *big = calloc(1, (8 << 20) + 1);
    rig_queue(r, "q", durable);
    assert_int_equal(
        rig_send(r,
                 (struct message){.routing_key = "q", .body = big, .body_length = (8 << 20) + 1, .persistent = true}),
        ERR_TOO_LARGE);
    free(big);
    assert_int_equal(rig_send(r, (struct message){.exchange = "none", .routing_key = "q", .body = "x"}), ERR_NOT_FOUND);
    io_sim_capacity(r->sim, 1 << 20);
    io_sim_advance(r->sim, 2000000000);
    assert_int_equal(rig_send(r, (struct message){.routing_key = "q", .body = "x", .persistent = true}), ERR_FULL);
    rig_queue(r, "made below the mark", durable); // a consumer can be set up to make room
    io_sim_capacity(r->sim, 1 << 30);
    io_sim_advance(r->sim, 2000000000);
    assert_int_equal(rig_send(r, (struct message){.routing_key = "q", .body = "x", .persistent = true}), ERR_OK);
    rig_sync(r);
    assert_int_equal(r->done[PUBLISH_OK], 1);
}

static void replace_in_callback(void *arg, const struct delivery *d) {
    struct rig *r = arg;
    rig_send(r, (struct message){.routing_key = "other", .body = "new"}); // in the memory of what was just acked
    engine_queue_purge(r->vhost, "other", NULL, NULL);
    r->n_seen += d->body_length == 3 && memcmp(d->body, "old", 3) == 0;
}

// The delivered bytes stay, and nothing leaks, though the callback has the message's place taken and left again.
static void a_callback_publishes_and_purges(void **state) {
    struct rig *r = *state;
    struct consumer *c;
    rig_queue(r, "q", (struct queue_options){0});
    rig_queue(r, "other", (struct queue_options){0});
    rig_send(r, (struct message){.routing_key = "q", .body = "old"});
    struct consumer_options no_ack = {.no_ack = true};
    struct session *s = engine_session_new(r->engine, &(struct session_options){replace_in_callback, NULL, r});
    assert_int_equal(engine_consume(s, r->vhost, "q", &no_ack, NULL, &c, &r->err), ERR_OK);
    rig_run(r);
    assert_int_equal(r->n_seen, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        RIG_TEST(a_callback_publishes_and_purges),
        RIG_TEST(a_persistent_message_is_seen_and_confirmed_only_when_durable),
        RIG_TEST(a_transient_message_is_seen_at_once_and_confirmed_in_order),
        RIG_TEST(consumers_take_turns),
        RIG_TEST(prefetch_bounds_what_a_consumer_holds),
        RIG_TEST(a_higher_consumer_priority_is_served_first_while_it_has_room),
        RIG_TEST(requeue_and_cancel_bring_messages_to_their_old_places),
        RIG_TEST(no_ack_settles_at_delivery),
        RIG_TEST(a_tag_is_settled_once_and_only_by_its_consumer),
        RIG_TEST(exclusive_use_keeps_others_out),
        RIG_TEST(declaring_again_needs_the_same_properties),
        RIG_TEST(purge_takes_what_is_ready_for_good),
        RIG_TEST(a_deleted_queue_stays_deleted_with_its_messages),
        RIG_TEST(an_auto_delete_queue_goes_with_its_last_consumer),
        RIG_TEST(an_unused_queue_expires),
        RIG_TEST(drop_head_keeps_the_newest),
        RIG_TEST(reject_publish_says_so),
        RIG_TEST(ttl_and_expiration_end_messages),
        RIG_TEST(a_delayed_message_waits_also_across_a_restart),
        RIG_TEST(dead_letters_go_on_with_their_own_or_the_given_key),
        RIG_TEST(a_dead_letter_circle_ends),
        RIG_TEST(callbacks_may_do_anything),
        RIG_TEST(limits_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
