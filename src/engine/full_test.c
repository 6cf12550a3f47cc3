// The journal takes nothing more for a while: a disk without a byte of room, or one that does not come round to
// writing. What is settled meanwhile is neither lost nor the end of the process.
#include "engine/rig_test.h"

#define MESSAGES 1000

static const struct queue_options durable = {.durable = true};

static void leave_no_room(struct rig *r) {
    struct io_sim_stats stats;
    io_sim_stats(r->sim, &stats);
    io_sim_capacity(r->sim, stats.used_bytes);
}

// Failed attempts are records too: enough of them, and the last segment is full to its end.
static void fill_the_segment(struct rig *r, uint32_t from, uint32_t to) {
    uint32_t delay;
    for (int round = 0; round < 200; round++) {
        for (uint32_t i = from; i < to; i++)
            assert_int_equal(engine_attempt(r->seen[i].session, r->seen[i].tag, &delay, NULL), ERR_OK);
        engine_dispatch(r->engine);
        rig_sync(r);
    }
}

static void settles_wait_until_there_is_room(void **state) {
    struct rig *r = *state;
    struct taker t = {0}, again = {0};
    rig_queue(r, "q", durable);
    for (int i = 0; i < MESSAGES; i++) rig_put(r, "q", "x");
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    assert_int_equal(r->n_seen, MESSAGES);
    leave_no_room(r);
    fill_the_segment(r, MESSAGES / 2, MESSAGES);
    for (uint32_t i = 0; i < MESSAGES / 2; i++) rig_settle(r, i, SETTLE_ACK, NULL);
    rig_sync(r);
    assert_int_equal(rig_info(r, "q").info.unacked, MESSAGES / 2);
    io_sim_advance(r->sim, 1100000000);
    assert_int_equal(rig_send(r, (struct message){.routing_key = "q", .body = "y", .persistent = true}), ERR_FULL);
    uint64_t now = io_monotonic_ns(io_sim_io(r->sim)), deadline = engine_next_deadline(r->engine);
    assert_true(deadline > now && deadline < now + 1000000000); // it looks again by itself, and does not spin

    io_sim_capacity(r->sim, UINT64_C(1) << 40);
    rig_advance(r, 1000);
    rig_crash(r);
    assert_int_equal(rig_info(r, "q").info.ready, MESSAGES / 2);
    rig_take(r, &again, "q", (struct consumer_options){0});
    rig_run(r);
    assert_int_equal(r->seen[0].attempt, 201);
}

static void what_waited_for_room_comes_back_after_a_crash(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q", durable);
    for (int i = 0; i < MESSAGES; i++) rig_put(r, "q", "x");
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    leave_no_room(r);
    fill_the_segment(r, 0, MESSAGES);
    for (uint32_t i = 0; i < MESSAGES; i++) rig_settle(r, i, SETTLE_ACK, NULL);
    rig_sync(r);
    rig_crash(r);
    assert_int_equal(rig_info(r, "q").info.ready, MESSAGES);
}

// Dead letters may take all that may wait for the disk. Then the acks of others have to wait, and nothing spins.
static void dead_letters_do_not_crowd_out_acks(void **state) {
    enum { LETTERS = 600 };
    static char body[500000];
    struct rig *r = *state;
    struct taker t = {0};
    struct queue_options dying = {.durable = true, .dead_letter_exchange = "", .dead_letter_routing_key = "grave"};
    rig_queue(r, "grave", durable);
    rig_queue(r, "dying", dying);
    rig_queue(r, "q", durable);
    rig_put(r, "q", "x");
    rig_take(r, &t, "q", (struct consumer_options){0});
    for (int i = 0; i < LETTERS; i++) {
        struct message m = {.routing_key = "dying",
                            .body = body,
                            .body_length = sizeof body,
                            .persistent = true,
                            .has_expiration = true,
                            .expiration_ms = 1000};
        assert_int_equal(rig_send(r, m), ERR_OK);
        rig_run(r);
    }
    io_sim_advance(r->sim, UINT64_C(1500000000));
    int passes = 0; // without a batch ever being written
    do engine_tick(r->engine);
    while (engine_dispatch(r->engine) && ++passes < 100);
    assert_true(passes < 100);
    assert_true(engine_next_deadline(r->engine) > io_monotonic_ns(io_sim_io(r->sim)));
    rig_settle(r, 0, SETTLE_ACK, NULL);
    engine_flush(r->engine);
    for (int i = 0; i < LETTERS && rig_info(r, "grave").info.ready < LETTERS; i++) rig_advance(r, 1000);
    assert_int_equal(rig_info(r, "grave").info.ready, LETTERS);
    rig_crash(r);
    assert_int_equal(rig_info(r, "grave").info.ready, LETTERS);
    assert_int_equal(rig_info(r, "dying").info.ready, 0);
    assert_int_equal(rig_info(r, "q").info.ready, 0);
}

// A consumer that sends everything back at once and for ever writes a record for each attempt.
static void a_consumer_that_retries_for_ever_waits_for_the_disk(void **state) {
    struct rig *r = *state;
    r->journal.batch_max_bytes = 16 << 10;
    rig_crash(r);
    struct taker t = {0};
    rig_queue(r, "q", durable);
    rig_put(r, "q", "x");
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    for (int i = 0; i < 100000; i++) {
        r->n_seen = r->n_seen > 0;
        if (r->n_seen) rig_settle(r, 0, SETTLE_RETRY, NULL);
        r->n_seen = 0;
        if (!engine_dispatch(r->engine) && r->n_seen == 0) break;
    }
    struct journal *j = engine_journal(r->engine);
    assert_true(journal_appended(j) - journal_durable(j) <= 256 << 10);
    rig_run(r);
    assert_int_equal(r->n_seen, 1); // and then goes on
    rig_settle(r, 0, SETTLE_ACK, NULL);
    rig_run(r);
    assert_int_equal(rig_info(r, "q").info.ready + rig_info(r, "q").info.unacked, 0);
}

// What waits for the journal may go there in pieces. Only the last of them makes the answer true.
static void nobody_is_answered_before_all_that_waited_is_durable(void **state) {
    enum { HELD = 400 };
    struct rig *r = *state;
    struct taker t = {0};
    uint32_t delay;
    r->journal.batch_max_bytes = 256;
    rig_crash(r);
    rig_queue(r, "q", durable);
    for (int i = 0; i < HELD; i++) {
        rig_put(r, "q", "x");
        rig_run(r);
    }
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    memset(r->done, 0, sizeof r->done);
    for (uint32_t i = 0; i < HELD / 2; i++)
        assert_int_equal(engine_attempt(r->seen[i].session, r->seen[i].tag, &delay, NULL), ERR_OK);
    engine_flush(r->engine); // now something waits for the disk
    for (uint32_t i = 0; i < HELD / 2; i++)
        assert_int_equal(engine_attempt(r->seen[i].session, r->seen[i].tag, &delay, NULL), ERR_OK);
    for (uint32_t i = HELD / 2; i < HELD; i++) rig_settle(r, i, SETTLE_ACK, NULL);
    assert_true(engine_when_durable(r->engine, rig_done, r));
    for (int i = 0; i < 100 && !r->done[PUBLISH_OK]; i++) rig_sync(r);
    assert_int_equal(r->done[PUBLISH_OK], 1);
    rig_crash(r);
    assert_int_equal(rig_info(r, "q").info.ready, HELD / 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        RIG_TEST(settles_wait_until_there_is_room),
        RIG_TEST(what_waited_for_room_comes_back_after_a_crash),
        RIG_TEST(dead_letters_do_not_crowd_out_acks),
        RIG_TEST(a_consumer_that_retries_for_ever_waits_for_the_disk),
        RIG_TEST(nobody_is_answered_before_all_that_waited_is_durable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
