// Strict priority levels with the order of publishing in each.
#include "engine/rig_test.h"

static void send(struct rig *r, uint8_t priority, const char *body) {
    rig_send(r, (struct message){.routing_key = "q", .body = body, .priority = priority, .persistent = true});
}

static void strict_levels_and_fifo_in_each(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q", (struct queue_options){.durable = true, .max_priority = 200});
    send(r, 0, "0a");
    send(r, 200, "200a");
    send(r, 63, "63a");
    send(r, 64, "64a");
    send(r, 255, "200b"); // more than there are levels: the highest
    send(r, 0, "0b");
    send(r, 64, "64b");
    rig_run(r);
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    EXPECT(r, "200a", "200b", "64a", "64b", "63a", "0a", "0b");
}

static void a_queue_without_levels_is_a_plain_fifo(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q", (struct queue_options){.durable = true});
    send(r, 0, "a");
    send(r, 9, "b");
    rig_run(r);
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    EXPECT(r, "a", "b");
}

static void order_and_levels_survive_a_crash(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q", (struct queue_options){.durable = true, .max_priority = 9});
    send(r, 1, "1a");
    send(r, 9, "9a");
    send(r, 1, "1b");
    rig_sync(r);
    rig_crash(r);
    rig_take(r, &t, "q", (struct consumer_options){.prefetch = 1});
    rig_run(r);
    EXPECT(r, "9a");
    send(r, 5, "5a");
    rig_run(r);
    for (uint32_t i = 0; i < 3; i++) {
        rig_settle(r, i, SETTLE_ACK, NULL);
        rig_run(r);
    }
    EXPECT(r, "9a", "5a", "1a", "1b");
}

static void a_message_that_waits_for_the_disk_does_not_hold_up_lower_levels(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q", (struct queue_options){.durable = true, .max_priority = 9});
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    send(r, 9, "durable");
    rig_send(r, (struct message){.routing_key = "q", .body = "transient", .priority = 1});
    engine_dispatch(r->engine);
    EXPECT(r, "transient");
    rig_run(r);
    EXPECT(r, "transient", "durable");
}

static void the_lowest_level_pays_for_a_length_limit(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q",
              (struct queue_options){.durable = true, .max_priority = 9, .has_max_length = true, .max_length = 2});
    send(r, 9, "9a");
    send(r, 1, "1a");
    send(r, 1, "1b");
    send(r, 9, "9b");
    rig_run(r);
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    EXPECT(r, "9a", "9b");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        RIG_TEST(strict_levels_and_fifo_in_each),
        RIG_TEST(a_queue_without_levels_is_a_plain_fifo),
        RIG_TEST(order_and_levels_survive_a_crash),
        RIG_TEST(a_message_that_waits_for_the_disk_does_not_hold_up_lower_levels),
        RIG_TEST(the_lowest_level_pays_for_a_length_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
