// Deduplication by message id: once within the window, also across restarts.
#include "engine/rig_test.h"

static const struct queue_options hour = {.durable = true, .dedupe_window_ms = 3600000};

static void send(struct rig *r, const char *id) {
    assert_int_equal(
        rig_send(r, (struct message){.routing_key = "q", .body = "x", .message_id = id, .persistent = true}), ERR_OK);
}

static void take_and_ack_all(struct rig *r, struct taker *t) {
    t->ack = true;
    rig_take(r, t, "q", (struct consumer_options){0});
    rig_run(r);
}

static void an_id_is_taken_once(void **state) {
    struct rig *r = *state;
    rig_queue(r, "q", hour);
    send(r, "a");
    send(r, "a");
    send(r, "b");
    send(r, NULL);
    send(r, "");
    assert_int_equal(r->done[PUBLISH_DUPLICATE], 0); // the first is not durable yet
    rig_run(r);
    assert_int_equal(r->done[PUBLISH_OK], 4);
    assert_int_equal(r->done[PUBLISH_DUPLICATE], 1);
    assert_int_equal(rig_info(r, "q").info.ready, 4);
}

static void the_window_outlives_the_message_and_a_crash(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q", hour);
    send(r, "settled");
    rig_run(r);
    take_and_ack_all(r, &t);
    send(r, "settled");
    rig_leave(&t);
    send(r, "waiting");
    rig_run(r);
    assert_int_equal(r->done[PUBLISH_DUPLICATE], 1);
    for (int round = 0; round < 3; round++) {
        rig_crash(r);
        send(r, "settled");
        send(r, "waiting");
        rig_run(r);
        assert_int_equal(r->done[PUBLISH_DUPLICATE], 3 + 2 * round);
    }
    assert_int_equal(rig_info(r, "q").info.ready, 1);
}

static void after_the_window_an_id_is_new_again(void **state) {
    struct rig *r = *state;
    rig_queue(r, "q", hour);
    send(r, "a");
    rig_advance(r, 3599999);
    send(r, "a");
    rig_run(r);
    assert_int_equal(r->done[PUBLISH_DUPLICATE], 1);
    rig_advance(r, 1);
    send(r, "a");
    rig_run(r);
    assert_int_equal(r->done[PUBLISH_OK], 2);
    io_sim_advance(r->sim, UINT64_C(3600000) * 1000000);
    rig_crash(r);
    send(r, "a");
    rig_run(r);
    assert_int_equal(r->done[PUBLISH_OK], 3);
}

static void each_queue_has_its_own_window(void **state) {
    struct rig *r = *state;
    rig_queue(r, "q", hour);
    rig_queue(r, "plain", (struct queue_options){.durable = true});
    rig_exchange(r, "x", EXCHANGE_FANOUT);
    rig_bind(r, "x", "q", "");
    rig_bind(r, "x", "plain", "");
    for (int i = 0; i < 2; i++)
        rig_send(r, (struct message){
                        .exchange = "x", .routing_key = "", .body = "b", .message_id = "a", .persistent = true});
    rig_run(r);
    assert_int_equal(rig_info(r, "q").info.ready, 1);
    assert_int_equal(rig_info(r, "plain").info.ready, 2);
    assert_int_equal(r->done[PUBLISH_OK], 2);
}

// The bound of a window is an answer at once: it may last for days.
static void a_full_window_refuses(void **state) {
    struct rig *r = *state;
    char id[32];
    rig_queue(r, "q", hour);
    for (uint32_t i = 0; i < 1u << 20; i++) {
        snprintf(id, sizeof id, "%u", i);
        send(r, id);
        if (i % 4096 == 0) rig_run(r);
    }
    rig_run(r);
    assert_int_equal(r->done[PUBLISH_OK], 1u << 20);
    send(r, "one more");
    send(r, "7");
    rig_run(r);
    assert_int_equal(r->done[PUBLISH_REJECTED], 1);
    assert_int_equal(r->done[PUBLISH_DUPLICATE], 1);
}

static void windows_cost_the_disk_nothing_once_they_are_over(void **state) {
    struct rig *r = *state;
    struct taker t = {.ack = true};
    struct journal_stats stats;
    rig_queue(r, "q", (struct queue_options){.durable = true, .dedupe_window_ms = 1000});
    rig_take(r, &t, "q", (struct consumer_options){0});
    for (int i = 0; i < 1000; i++) {
        char id[16];
        snprintf(id, sizeof id, "%d", i);
        send(r, id);
    }
    rig_run(r);
    rig_advance(r, 1000);
    rig_run(r);
    journal_stats(engine_journal(r->engine), &stats);
    assert_true(stats.live_bytes < 1000); // the queue's declaration
}

int main(void) {
    const struct CMUnitTest tests[] = {
        RIG_TEST(an_id_is_taken_once),
        RIG_TEST(the_window_outlives_the_message_and_a_crash),
        RIG_TEST(after_the_window_an_id_is_new_again),
        RIG_TEST(each_queue_has_its_own_window),
        RIG_TEST(a_full_window_refuses),
        RIG_TEST(windows_cost_the_disk_nothing_once_they_are_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
