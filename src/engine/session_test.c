// Sessions: tags, settling many at once, get, pause, prefetch of all together, what ends with a queue.
#include "engine/rig_test.h"

static const struct queue_options durable = {.durable = true};

static void fill(struct rig *r, const char *queue, int n) {
    char body[8];
    for (int i = 0; i < n; i++) {
        snprintf(body, sizeof body, "%d", i);
        rig_put(r, queue, body);
    }
}

static void tags_count_from_one_and_many_are_settled_at_once(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q", durable);
    fill(r, "q", 200);
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    for (uint32_t i = 0; i < 200; i++) assert_int_equal(r->seen[i].tag, i + 1);
    for (uint64_t tag = 2; tag <= 190; tag += 2)
        assert_int_equal(engine_settle(t.session, tag, false, SETTLE_ACK, NULL, NULL), ERR_OK);
    assert_int_equal(engine_settle(t.session, 150, false, SETTLE_ACK, NULL, NULL), ERR_NOT_FOUND);
    assert_int_equal(engine_settle(t.session, 201, true, SETTLE_ACK, NULL, NULL), ERR_NOT_FOUND);
    assert_int_equal(engine_session_unacked(t.session), 105);
    assert_int_equal(engine_settle(t.session, 199, true, SETTLE_ACK, NULL, NULL), ERR_OK);
    assert_int_equal(engine_session_unacked(t.session), 1);
    assert_int_equal(consumer_unacked(t.consumer), 1);
    assert_int_equal(engine_settle(t.session, 0, true, SETTLE_REQUEUE, NULL, NULL), ERR_OK);
    rig_run(r);
    assert_int_equal(r->n_seen, 201);
    assert_string_equal(r->seen[200].body, "199");
    assert_int_equal(r->seen[200].tag, 201);
}

static void what_goes_back_together_keeps_its_order(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q", durable);
    fill(r, "q", 3);
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    engine_settle(t.session, 0, true, SETTLE_REQUEUE, NULL, NULL);
    rig_run(r);
    EXPECT(r, "0", "1", "2", "0", "1", "2");
}

static void a_cancelled_consumer_leaves_what_it_holds_to_the_session(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q", durable);
    fill(r, "q", 2);
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    engine_cancel(t.consumer);
    assert_int_equal(rig_info(r, "q").info.unacked, 2);
    assert_int_equal(rig_info(r, "q").info.consumers, 0);
    rig_settle(r, 0, SETTLE_ACK, NULL);
    rig_settle(r, 1, SETTLE_REQUEUE, NULL);
    assert_int_equal(rig_info(r, "q").info.unacked, 0);
    assert_int_equal(rig_info(r, "q").info.ready, 1);
}

static void get_hands_over_one(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    bool got;
    uint64_t left;
    rig_session(r, &t);
    rig_queue(r, "q", durable);
    assert_int_equal(engine_get(t.session, r->vhost, "q", false, NULL, &got, &left, &r->err), ERR_OK);
    assert_false(got);
    fill(r, "q", 3);
    engine_get(t.session, r->vhost, "q", false, NULL, &got, &left, &r->err);
    assert_false(got); // not durable yet
    rig_run(r);
    engine_get(t.session, r->vhost, "q", false, NULL, &got, &left, &r->err);
    assert_true(got);
    assert_int_equal(left, 2);
    engine_get(t.session, r->vhost, "q", true, NULL, &got, &left, &r->err);
    assert_int_equal(left, 1);
    EXPECT(r, "0", "1");
    assert_int_equal(r->seen[1].tag, 2);
    assert_int_equal(engine_settle(t.session, 2, false, SETTLE_ACK, NULL, NULL), ERR_NOT_FOUND);
    assert_true(engine_session_oldest_ms(t.session) > 0);
    assert_int_equal(engine_settle(t.session, 1, false, SETTLE_ACK, NULL, NULL), ERR_OK);
    assert_int_equal(engine_session_oldest_ms(t.session), 0);
    assert_int_equal(engine_get(t.session, r->vhost, "none", false, NULL, &got, &left, &r->err), ERR_NOT_FOUND);
    assert_int_equal(rig_info(r, "q").info.got, 2);
}

static void the_consumers_of_a_session_share_its_prefetch(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    struct consumer *second;
    rig_queue(r, "a", durable);
    rig_queue(r, "b", durable);
    fill(r, "a", 4);
    fill(r, "b", 4);
    rig_take(r, &t, "a", (struct consumer_options){0});
    engine_session_prefetch(t.session, 3);
    engine_consume(t.session, r->vhost, "b", &(struct consumer_options){0}, NULL, &second, NULL);
    rig_run(r);
    assert_int_equal(r->n_seen, 3);
    rig_settle(r, 0, SETTLE_ACK, NULL);
    rig_run(r);
    assert_int_equal(r->n_seen, 4);
    engine_session_prefetch(t.session, 0);
    rig_run(r);
    assert_int_equal(r->n_seen, 8);
}

static void a_paused_session_is_offered_nothing(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q", durable);
    rig_take(r, &t, "q", (struct consumer_options){0});
    engine_session_pause(t.session, true);
    fill(r, "q", 2);
    rig_run(r);
    assert_int_equal(r->n_seen, 0);
    engine_session_pause(t.session, false);
    rig_run(r);
    assert_int_equal(r->n_seen, 2);
}

static void consumers_are_told_when_their_queue_goes(void **state) {
    struct rig *r = *state;
    struct taker t = {0}, u = {0};
    rig_queue(r, "q", durable);
    fill(r, "q", 3);
    rig_take(r, &t, "q", (struct consumer_options){.prefetch = 1});
    rig_take(r, &u, "q", (struct consumer_options){.prefetch = 1});
    rig_run(r);
    uint64_t count = 0;
    assert_int_equal(engine_queue_delete(r->vhost, "q", true, false, &count, &r->err), ERR_CONFLICT);
    assert_int_equal(engine_queue_delete(r->vhost, "q", false, true, &count, &r->err), ERR_CONFLICT);
    assert_int_equal(engine_queue_delete(r->vhost, "q", false, false, &count, &r->err), ERR_OK);
    assert_int_equal(count, 1);
    assert_int_equal(t.ended + u.ended, 2);
    rig_settle(r, 0, SETTLE_ACK, NULL); // it is nowhere any more, and its tag was good
    rig_settle(r, 1, SETTLE_REQUEUE, NULL);
    rig_run(r);
    assert_int_equal(r->n_seen, 2);
}

static void leave_when_told(void *arg, void *consumer_arg) {
    struct taker *other = arg;
    if (other->session) engine_session_free(other->session);
    other->session = NULL;
}

static void a_session_may_end_another_when_told(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    struct consumer *c;
    rig_queue(r, "q", durable);
    fill(r, "q", 2);
    rig_take(r, &t, "q", (struct consumer_options){.prefetch = 1});
    struct session_options o = {.deliver = rig_deliver, .ended = leave_when_told, .arg = &t};
    struct session *s = engine_session_new(r->engine, &o);
    assert_int_equal(engine_consume(s, r->vhost, "q", &(struct consumer_options){.prefetch = 1}, NULL, &c, NULL),
                     ERR_OK);
    rig_delete(r, "q");
    assert_null(t.session);
    rig_run(r);
    engine_session_free(s);
}

static void an_exclusive_queue_goes_with_its_owner(void **state) {
    struct rig *r = *state;
    int me, another;
    rig_queue(r, "mine", (struct queue_options){.durable = true, .owner = &me});
    rig_queue(r, "theirs", (struct queue_options){.owner = &another});
    struct queue_options other = {.durable = true, .owner = &another};
    assert_int_equal(engine_queue_declare(r->vhost, "mine", &other, &r->err), ERR_LOCKED);
    rig_put(r, "mine", "never in the journal");
    assert_int_equal(journal_appended(engine_journal(r->engine)), journal_durable(engine_journal(r->engine)));
    engine_delete_owned(r->engine, &me);
    struct queue_info info;
    assert_false(engine_queue(r->vhost, "mine", &info));
    assert_true(engine_queue(r->vhost, "theirs", &info));
}

static void one_active_consumer_has_everything_until_it_goes(void **state) {
    struct rig *r = *state;
    struct taker first = {0}, second = {0}, high = {0};
    rig_queue(r, "q", (struct queue_options){.durable = true, .single_active_consumer = true});
    rig_take(r, &first, "q", (struct consumer_options){.prefetch = 1});
    rig_take(r, &second, "q", (struct consumer_options){.prefetch = 1});
    rig_take(r, &high, "q", (struct consumer_options){.prefetch = 1, .priority = 5});
    fill(r, "q", 3);
    rig_run(r);
    EXPECT(r, "0");
    assert_ptr_equal(r->seen[0].session, first.session);
    assert_true(consumer_active(first.consumer));
    assert_false(consumer_active(high.consumer));
    assert_ptr_equal(rig_info(r, "q").info.active, first.consumer);
    rig_leave(&first);
    rig_run(r);
    EXPECT(r, "0", "0");
    assert_ptr_equal(r->seen[1].session, high.session);
}

static void count(void *arg, enum publish_result result) { (*(int *)arg)++; }

static void topology_is_answered_when_it_is_durable(void **state) {
    struct rig *r = *state;
    int answers = 0;
    assert_false(engine_when_durable(r->engine, count, &answers));
    rig_queue(r, "q", durable);
    assert_true(engine_when_durable(r->engine, count, &answers));
    engine_dispatch(r->engine);
    assert_int_equal(answers, 0);
    rig_sync(r);
    assert_int_equal(answers, 1);
    assert_false(engine_when_durable(r->engine, count, &answers));
    rig_delete(r, "q");
    assert_true(engine_when_durable(r->engine, count, &answers));
    rig_sync(r);
    assert_int_equal(answers, 2);
}

struct ledger {
    int count[256]; // by the ticket's first byte
};

static void claimed(void *arg, const uint8_t ticket[CLAIM_TICKET], int change) {
    ((struct ledger *)arg)->count[ticket[0]] += change;
}

static void a_ticket_is_counted_until_the_record_that_ends_it_is_written(void **state) {
    struct rig *r = *state;
    struct ledger ledger = {0};
    struct taker t = {0};
    uint8_t ticket[CLAIM_TICKET] = {7};
    r->options.claim = claimed;
    r->options.claim_arg = &ledger;
    rig_crash(r);
    rig_queue(r, "q", durable);
    rig_exchange(r, "x", EXCHANGE_FANOUT);
    rig_queue(r, "p", durable);
    rig_bind(r, "x", "q", "");
    rig_bind(r, "x", "p", "");
    struct message m = {.exchange = "x",
                        .routing_key = "",
                        .body = ticket,
                        .body_length = CLAIM_TICKET,
                        .claimed = true,
                        .claimed_length = UINT64_C(5000000000),
                        .persistent = true};
    assert_int_equal(rig_send(r, m), ERR_OK);
    assert_int_equal(ledger.count[7], 1);
    rig_run(r);
    ledger.count[7] = 0;
    rig_crash(r);
    assert_int_equal(ledger.count[7], 1);
    engine_queue_purge(r->vhost, "q", NULL, NULL);
    rig_take(r, &t, "p", (struct consumer_options){0});
    rig_run(r);
    assert_int_equal(r->seen[0].body_length, CLAIM_TICKET);
    assert_memory_equal(r->seen[0].body, ticket, 1);
    rig_settle(r, 0, SETTLE_ACK, NULL);
    assert_int_equal(ledger.count[7], 1);
    engine_flush(r->engine);
    assert_int_equal(ledger.count[7], 0);
    rig_run(r);
    rig_crash(r);
    assert_int_equal(ledger.count[7], 0);
}

static void those_with_room_take_turns(void **state) {
    struct rig *r = *state;
    struct taker t[4] = {0};
    rig_queue(r, "q", durable);
    for (int i = 0; i < 4; i++) rig_take(r, &t[i], "q", (struct consumer_options){.prefetch = 2});
    fill(r, "q", 8);
    rig_run(r);
    for (uint32_t i = 0; i < 8; i++) assert_ptr_equal(r->seen[i].session, t[i % 4].session);
    fill(r, "q", 4);
    rig_run(r);
    assert_int_equal(r->n_seen, 8); // nobody has room
    rig_settle(r, 2, SETTLE_ACK, NULL);
    rig_settle(r, 0, SETTLE_ACK, NULL);
    rig_settle(r, 6, SETTLE_ACK, NULL);
    rig_run(r);
    assert_int_equal(r->n_seen, 11);
    uint32_t got[4] = {0};
    for (uint32_t i = 8; i < 11; i++)
        for (int k = 0; k < 4; k++) got[k] += r->seen[i].session == t[k].session;
    assert_int_equal(got[0], 1);
    assert_int_equal(got[2], 2);
}

static void a_higher_priority_goes_first_as_soon_as_it_has_room(void **state) {
    struct rig *r = *state;
    struct taker low = {0}, high = {0}, highest = {0};
    rig_queue(r, "q", durable);
    rig_take(r, &low, "q", (struct consumer_options){.prefetch = 100});
    rig_take(r, &highest, "q", (struct consumer_options){.prefetch = 1, .priority = 7});
    rig_take(r, &high, "q", (struct consumer_options){.prefetch = 1, .priority = 3});
    fill(r, "q", 4);
    rig_run(r);
    assert_ptr_equal(r->seen[0].session, highest.session);
    assert_ptr_equal(r->seen[1].session, high.session);
    assert_ptr_equal(r->seen[2].session, low.session);
    rig_settle(r, 1, SETTLE_ACK, NULL);
    fill(r, "q", 2);
    rig_run(r);
    assert_ptr_equal(r->seen[4].session, high.session);
    assert_ptr_equal(r->seen[5].session, low.session);
    rig_leave(&highest);
    rig_run(r);
    assert_ptr_equal(r->seen[6].session, low.session);
    assert_string_equal(r->seen[6].body, "0");
}

// One of them settles at a time, of many that are full: whoever is next must not be looked for among all.
static void many_consumers_of_one_queue_all_get_their_share(void **state) {
    enum { CONSUMERS = 1000 };
    struct rig *r = *state;
    struct taker *t = calloc(CONSUMERS, sizeof *t);
    rig_queue(r, "q", durable);
    for (int i = 0; i < CONSUMERS; i++) rig_take(r, &t[i], "q", (struct consumer_options){.prefetch = 1});
    fill(r, "q", 3 * CONSUMERS);
    rig_run(r);
    assert_int_equal(r->n_seen, CONSUMERS);
    for (uint32_t i = 0; i < 2 * CONSUMERS; i++) {
        rig_settle(r, i, SETTLE_ACK, NULL);
        while (engine_dispatch(r->engine)) continue;
        assert_int_equal(r->n_seen, CONSUMERS + i + 1);
        assert_ptr_equal(r->seen[CONSUMERS + i].session, r->seen[i].session);
    }
    for (int i = 0; i < CONSUMERS; i++) rig_leave(&t[i]);
    free(t);
}

// What it held of the one counts no more, so it gets of the other.
static void a_queue_that_goes_makes_room_in_its_sessions(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    struct consumer *other;
    rig_queue(r, "q", durable);
    rig_queue(r, "other", durable);
    rig_take(r, &t, "q", (struct consumer_options){0});
    engine_session_prefetch(t.session, 2);
    fill(r, "q", 2);
    rig_run(r);
    assert_int_equal(engine_consume(t.session, r->vhost, "other", &(struct consumer_options){0}, NULL, &other, &r->err),
                     ERR_OK);
    fill(r, "other", 1);
    rig_run(r);
    assert_int_equal(r->n_seen, 2);
    rig_delete(r, "q");
    rig_run(r);
    assert_int_equal(r->n_seen, 3);
    assert_string_equal(r->seen[2].queue, "other");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        RIG_TEST(tags_count_from_one_and_many_are_settled_at_once),
        RIG_TEST(what_goes_back_together_keeps_its_order),
        RIG_TEST(a_cancelled_consumer_leaves_what_it_holds_to_the_session),
        RIG_TEST(get_hands_over_one),
        RIG_TEST(the_consumers_of_a_session_share_its_prefetch),
        RIG_TEST(a_paused_session_is_offered_nothing),
        RIG_TEST(consumers_are_told_when_their_queue_goes),
        RIG_TEST(a_session_may_end_another_when_told),
        RIG_TEST(an_exclusive_queue_goes_with_its_owner),
        RIG_TEST(one_active_consumer_has_everything_until_it_goes),
        RIG_TEST(topology_is_answered_when_it_is_durable),
        RIG_TEST(a_ticket_is_counted_until_the_record_that_ends_it_is_written),
        RIG_TEST(those_with_room_take_turns),
        RIG_TEST(a_higher_priority_goes_first_as_soon_as_it_has_room),
        RIG_TEST(many_consumers_of_one_queue_all_get_their_share),
        RIG_TEST(a_queue_that_goes_makes_room_in_its_sessions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
