// The heap of timers, seen from outside: the next deadline is always the earliest, whatever comes and goes.
#include "engine/rig_test.h"

#define QUEUES 60

static uint64_t next(uint64_t *state, uint64_t below) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (*state >> 33) % below;
}

static void the_next_deadline_is_the_earliest(void **state) {
    struct rig *r = *state;
    uint64_t due[QUEUES] = {0}, seed = 3;
    for (int round = 0; round < 5000; round++) {
        int i = (int)next(&seed, QUEUES);
        char name[16];
        snprintf(name, sizeof name, "q%d", i);
        if (due[i]) {
            rig_delete(r, name);
            due[i] = 0;
        } else {
            uint64_t expires = 1000 + next(&seed, 100000);
            rig_queue(r, name, (struct queue_options){.expires_ms = expires});
            due[i] = io_monotonic_ns(io_sim_io(r->sim)) / 1000000 + expires;
        }
        uint64_t earliest = UINT64_MAX;
        for (int k = 0; k < QUEUES; k++)
            if (due[k] && due[k] * 1000000 < earliest) earliest = due[k] * 1000000;
        assert_int_equal(engine_next_deadline(r->engine), earliest);
    }
}

static void what_is_due_happens_in_order_and_nothing_else(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    uint64_t seed = 5, last = 0;
    uint32_t delay[300];
    rig_queue(r, "q", (struct queue_options){.durable = true});
    rig_take(r, &t, "q", (struct consumer_options){0});
    for (int i = 0; i < 300; i++) {
        char body[16];
        delay[i] = 1 + (uint32_t)next(&seed, 5000);
        snprintf(body, sizeof body, "%u", delay[i]);
        rig_send(r, (struct message){.routing_key = "q", .body = body, .persistent = true, .delay_ms = delay[i]});
    }
    rig_run(r);
    uint64_t begin = io_monotonic_ns(io_sim_io(r->sim));
    while (r->n_seen < 300) {
        uint64_t now = io_monotonic_ns(io_sim_io(r->sim)), deadline = engine_next_deadline(r->engine);
        assert_true(deadline > now && deadline != UINT64_MAX);
        uint32_t before = r->n_seen;
        io_sim_advance(r->sim, deadline - now);
        rig_run(r);
        assert_true(r->n_seen > before); // a deadline is never early
    }
    for (int i = 0; i < 300; i++) {
        uint64_t wait = strtoul(r->seen[i].body, NULL, 10);
        assert_true(wait >= last);
        last = wait;
    }
    assert_true(io_monotonic_ns(io_sim_io(r->sim)) - begin <= UINT64_C(5001000000));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        RIG_TEST(the_next_deadline_is_the_earliest),
        RIG_TEST(what_is_due_happens_in_order_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
