// Retry with backoff, attempts, and parking.
#include "engine/rig_test.h"

static const struct queue_options patient = {
    .durable = true, .delivery_limit = 3, .retry_delay_ms = 1000, .retry_max_delay_ms = 10000, .park = true};

struct parked_note {
    uint32_t n;
    uint64_t id;
    uint32_t attempts;
    char reason[300], queue[64], id_text[64];
};

static void note(void *arg, const struct parked *p) {
    struct parked_note *n = arg;
    n->n++;
    n->id = p->id;
    n->attempts = p->attempts;
    snprintf(n->reason, sizeof n->reason, "%s", p->reason);
    snprintf(n->queue, sizeof n->queue, "%s", p->queue);
    snprintf(n->id_text, sizeof n->id_text, "%s", p->message_id);
}

static struct parked_note parked(struct rig *r) {
    struct parked_note n = {0};
    assert_int_equal(engine_parked_list(r->engine, NULL, note, &n), ERR_OK);
    return n;
}

static void a_retry_waits_with_full_jitter_and_comes_to_its_old_place(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q", patient);
    rig_take(r, &t, "q", (struct consumer_options){.prefetch = 1});
    rig_put(r, "q", "a");
    rig_put(r, "q", "b");
    rig_run(r);
    uint64_t before = io_monotonic_ns(io_sim_io(r->sim));
    rig_settle(r, 0, SETTLE_RETRY, "not yet");
    assert_true(engine_next_deadline(r->engine) <= before + 1000000000);
    engine_dispatch(r->engine);
    EXPECT(r, "a", "b"); // it does not hold up the others
    rig_settle(r, 1, SETTLE_RETURN, NULL);
    rig_leave(&t);
    rig_advance(r, 1000);
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    EXPECT(r, "a", "b", "a", "b");
    assert_int_equal(r->seen[2].attempt, 2);
    assert_true(r->seen[2].redelivered);
    assert_int_equal(r->seen[3].attempt, 1);
}

static void waits_grow_and_are_bounded(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    struct queue_options o = patient;
    o.delivery_limit = 0;
    rig_queue(r, "q", o);
    rig_take(r, &t, "q", (struct consumer_options){0});
    uint64_t longest[12] = {0};
    for (int round = 0; round < 60; round++) {
        rig_put(r, "q", "x");
        for (int attempt = 0; attempt < 12; attempt++) {
            uint32_t seen = r->n_seen;
            rig_run(r);
            while (r->n_seen == seen) {
                uint64_t now = io_monotonic_ns(io_sim_io(r->sim)), due = engine_next_deadline(r->engine);
                assert_true(due != UINT64_MAX);
                uint64_t wait = due > now ? due - now : 1000000;
                if (attempt > 0 && wait > longest[attempt]) longest[attempt] = wait;
                io_sim_advance(r->sim, wait);
                rig_run(r);
            }
            if (attempt < 11) rig_settle(r, r->n_seen - 1, SETTLE_RETRY, NULL);
        }
        rig_settle(r, r->n_seen - 1, SETTLE_ACK, NULL);
        r->n_seen = 0;
    }
    assert_true(longest[1] <= UINT64_C(1000000000) && longest[1] > UINT64_C(500000000));
    assert_true(longest[2] > UINT64_C(1000000000));
    assert_true(longest[11] <= UINT64_C(10000000000) && longest[11] > UINT64_C(5000000000));
}

static void spend_attempts(struct rig *r, struct taker *t) {
    rig_queue(r, "q", patient);
    rig_take(r, t, "q", (struct consumer_options){.prefetch = 1});
    rig_send(r, (struct message){.routing_key = "q", .body = "bad", .persistent = true, .message_id = "id-1"});
    rig_run(r);
    for (uint32_t i = 0; i < 3; i++) {
        rig_settle(r, i, SETTLE_RETRY, i == 2 ? "third time" : "no");
        rig_advance(r, 10000);
    }
    assert_int_equal(r->n_seen, 3);
}

static void after_its_attempts_a_message_is_parked_with_the_reason(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    spend_attempts(r, &t);
    struct parked_note n = parked(r);
    assert_int_equal(n.n, 1);
    assert_int_equal(n.attempts, 3);
    assert_string_equal(n.reason, "third time");
    assert_string_equal(n.queue, "q");
    assert_string_equal(n.id_text, "id-1");
    assert_int_equal(rig_info(r, "q").info.ready, 0);
}

static void parked_stays_parked_across_a_crash_until_sent_on(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    spend_attempts(r, &t);
    uint64_t id = parked(r).id;
    rig_sync(r);
    rig_crash(r);
    struct parked_note n = parked(r);
    assert_int_equal(n.id, id);
    assert_int_equal(n.attempts, 3);
    assert_string_equal(n.reason, "third time");
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    assert_int_equal(r->n_seen, 0);
    assert_int_equal(engine_parked_retry(r->engine, id), ERR_OK);
    assert_int_equal(engine_parked_retry(r->engine, id), ERR_NOT_FOUND);
    rig_run(r);
    EXPECT(r, "bad");
    assert_int_equal(r->seen[0].attempt, 1); // attempts from zero
    rig_sync(r);
    rig_crash(r);
    assert_int_equal(parked(r).n, 0);
    assert_int_equal(rig_info(r, "q").info.ready, 1);
}

static void a_parked_message_can_be_dropped_for_good(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    spend_attempts(r, &t);
    assert_int_equal(engine_parked_drop(r->engine, parked(r).id), ERR_OK);
    rig_sync(r);
    rig_crash(r);
    assert_int_equal(parked(r).n, 0);
    assert_int_equal(rig_info(r, "q").info.ready, 0);
}

static void parking_at_once_keeps_the_reason_whole(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    char reason[400];
    memset(reason, 'x', sizeof reason);
    memcpy(reason + 199, "\xc3\xa4\xc3\xa4", 4); // a character across the limit
    reason[399] = 0;
    rig_queue(r, "q", patient);
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_put(r, "q", "bad");
    rig_run(r);
    rig_settle(r, 0, SETTLE_PARK, reason);
    struct parked_note n = parked(r);
    assert_int_equal(n.attempts, 1);
    assert_int_equal(strlen(n.reason), 199);
}

static void attempts_are_remembered_across_a_crash(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q", patient);
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_put(r, "q", "a");
    rig_put(r, "q", "b");
    rig_run(r);
    rig_settle(r, 0, SETTLE_RETRY, NULL);
    rig_sync(r);
    rig_crash(r);
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    EXPECT(r, "a", "b"); // its wait ends early rather than be overtaken
    assert_int_equal(r->seen[0].attempt, 2);
    assert_true(r->seen[0].redelivered);
    assert_true(r->seen[1].redelivered); // it may have been delivered before
}

static void a_consumer_may_keep_a_delivery_through_its_attempts(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    uint32_t delay = 0;
    rig_queue(r, "q", patient);
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_put(r, "q", "a");
    rig_run(r);
    uint64_t tag = r->seen[0].tag;
    assert_int_equal(engine_attempt(t.session, tag, &delay, &r->err), ERR_OK);
    assert_true(delay <= 1000);
    assert_int_equal(engine_redeliver(t.session, tag, &r->err), ERR_OK);
    assert_int_equal(r->seen[1].attempt, 2);
    assert_int_equal(r->seen[1].tag, tag);
    assert_int_equal(engine_attempt(t.session, tag, &delay, &r->err), ERR_OK);
    assert_int_equal(engine_attempt(t.session, tag, &delay, &r->err), ERR_LIMIT);
    rig_settle(r, 0, SETTLE_RETRY, "spent");
    assert_int_equal(parked(r).attempts, 3);
    assert_int_equal(engine_redeliver(t.session, tag, &r->err), ERR_NOT_FOUND);
}

static void a_limit_with_a_dead_letter_exchange_sends_it_there(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "dead", (struct queue_options){.durable = true});
    rig_exchange(r, "dlx", EXCHANGE_FANOUT);
    rig_bind(r, "dlx", "dead", "");
    rig_queue(
        r, "q",
        (struct queue_options){.durable = true, .delivery_limit = 1, .dead_letter_exchange = "dlx", .park = true});
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_put(r, "q", "a");
    rig_run(r);
    rig_settle(r, 0, SETTLE_RETRY, NULL);
    rig_run(r);
    assert_int_equal(parked(r).n, 0);
    assert_int_equal(rig_info(r, "dead").info.ready, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        RIG_TEST(a_retry_waits_with_full_jitter_and_comes_to_its_old_place),
        RIG_TEST(waits_grow_and_are_bounded),
        RIG_TEST(after_its_attempts_a_message_is_parked_with_the_reason),
        RIG_TEST(parked_stays_parked_across_a_crash_until_sent_on),
        RIG_TEST(a_parked_message_can_be_dropped_for_good),
        RIG_TEST(parking_at_once_keeps_the_reason_whole),
        RIG_TEST(attempts_are_remembered_across_a_crash),
        RIG_TEST(a_consumer_may_keep_a_delivery_through_its_attempts),
        RIG_TEST(a_limit_with_a_dead_letter_exchange_sends_it_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
