// The memory budget: backlogs larger than it, and what a queued message costs.
#include "engine/rig_test.h"

#define BUDGET   (256u << 10)
#define MESSAGES 1000
#define SIZE     4000

static int setup(void **state) {
    struct rig *r = calloc(1, sizeof *r);
    r->sim = io_sim_new(1);
    r->journal = (struct journal_options){.dir = "journal", .segment_bytes = 1 << 20, .low_water_bytes = 1 << 20};
    r->options.memory_budget = BUDGET;
    rig_open(r);
    *state = r;
    return 0;
}

static void fill(struct rig *r, bool persistent, enum err *last) {
    static char body[SIZE];
    for (int i = 0; i < MESSAGES; i++) {
        memset(body, 'a' + i % 26, sizeof body);
        snprintf(body, sizeof body, "%d", i);
        *last = rig_send(r, (struct message){.routing_key = "q",
                                             .body = body,
                                             .body_length = SIZE,
                                             .persistent = persistent,
                                             .properties = "props",
                                             .properties_length = 5,
                                             .message_id = "id"});
        if (*last) return;
        rig_sync(r);
    }
}

static uint64_t memory(struct rig *r) {
    struct engine_stats stats;
    engine_stats(r->engine, &stats);
    return stats.body_bytes;
}

static void check_all(struct rig *r) {
    struct taker t = {.ack = true};
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    assert_int_equal(r->n_seen, MESSAGES);
    for (int i = 0; i < MESSAGES; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        assert_string_equal(r->seen[i].body, text);
        assert_int_equal(r->seen[i].body_length, SIZE);
        assert_string_equal(r->seen[i].id, "id");
    }
    assert_int_equal(memory(r), 0);
}

static void a_backlog_larger_than_memory_is_read_back(void **state) {
    struct rig *r = *state;
    enum err last;
    rig_queue(r, "q", (struct queue_options){.durable = true});
    fill(r, true, &last);
    assert_int_equal(last, ERR_OK);
    assert_true(memory(r) <= BUDGET);
    assert_true(memory(r) > BUDGET / 3); // the head is kept
    check_all(r);
}

static void so_is_one_that_was_recovered(void **state) {
    struct rig *r = *state;
    enum err last;
    rig_queue(r, "q", (struct queue_options){.durable = true});
    fill(r, true, &last);
    rig_crash(r);
    assert_true(memory(r) <= BUDGET);
    check_all(r);
}

static void transient_messages_without_room_in_memory_are_read_back(void **state) {
    struct rig *r = *state;
    enum err last;
    rig_queue(r, "q", (struct queue_options){0});
    fill(r, false, &last);
    assert_int_equal(last, ERR_OK);
    assert_int_equal(r->done[PUBLISH_OK], MESSAGES);
    assert_true(memory(r) <= BUDGET);
    assert_true(memory(r) > BUDGET / 4); // a third of it without a record
    check_all(r);
}

static void but_do_not_come_back_after_a_crash(void **state) {
    struct rig *r = *state;
    enum err last;
    rig_queue(r, "q", (struct queue_options){.durable = true});
    fill(r, false, &last);
    assert_int_equal(rig_info(r, "q").info.ready, MESSAGES);
    rig_crash(r);
    assert_int_equal(rig_info(r, "q").info.ready, 0);
    assert_int_equal(memory(r), 0);
    fill(r, true, &last);
    rig_crash(r);
    check_all(r);
}

static void a_message_in_a_queue_takes_little_memory(void **state) {
    struct rig *r = *state;
    struct engine_stats stats;
    rig_queue(r, "q", (struct queue_options){.durable = true});
    for (int i = 0; i < 100000; i++) {
        rig_put(r, "q", "0123456789");
        if (i % 1000 == 0) rig_sync(r);
    }
    rig_sync(r);
    engine_stats(r->engine, &stats);
    assert_int_equal(stats.messages, 100000);
    assert_true(stats.structure_bytes / stats.messages <= 100);
    engine_queue_purge(r->vhost, "q", NULL, NULL);
    engine_stats(r->engine, &stats);
    assert_true(stats.structure_bytes < 1 << 20); // and gives it back
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_backlog_larger_than_memory_is_read_back, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(so_is_one_that_was_recovered, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(transient_messages_without_room_in_memory_are_read_back, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(but_do_not_come_back_after_a_crash, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_message_in_a_queue_takes_little_memory, setup, rig_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
