// The machine stops at every disk operation in turn; what was reported durable is there, what was acked does not
// come back, and nothing is out of order.
#include "journal/owner_test.h"

#include "base/log.h"

#define STEPS 260

static enum err step(struct owner *o) {
    uint64_t dice = io_sim_random(o->sim, 100);
    if (dice < 45) return owner_publish(o, (uint32_t)io_sim_random(o->sim, 4000));
    if (dice < 75) {
        uint32_t item = o->count > 0 ? (uint32_t)io_sim_random(o->sim, o->count) : 0;
        return owner_live(o, item) ? owner_ack(o, item) : ERR_OK;
    }
    if (dice < 95) return owner_batch(o);
    return owner_compact(o);
}

static void run(struct owner *o, int steps) {
    for (int i = 0; i < steps; i++) {
        enum err err = step(o);
        if (err == ERR_OK || err == ERR_BUSY || err == ERR_FULL) continue;
        if (!io_sim_dead(o->sim) && !io_sim_failed(o->sim)) fail_msg("error %s: %s", err_name(err), o->error.text);
        return;
    }
    if (!io_sim_dead(o->sim)) (void)owner_flush(o);
}

// Most items are acked soon, some stay: segments empty, are compacted and go.
static enum err churn_step(struct owner *o) {
    uint64_t dice = io_sim_random(o->sim, 100);
    if (dice < 40) return owner_publish(o, (uint32_t)io_sim_random(o->sim, 6000));
    if (dice < 80) {
        uint32_t back = (uint32_t)io_sim_random(o->sim, 60), item = o->count > back ? o->count - 1 - back : 0;
        return item % 16 != 0 && owner_live(o, item) ? owner_ack(o, item) : ERR_OK;
    }
    if (dice < 82) { // and now and then one of those that stayed
        uint32_t item = o->count > 0 ? (uint32_t)io_sim_random(o->sim, o->count) : 0;
        return owner_live(o, item) ? owner_ack(o, item) : ERR_OK;
    }
    if (dice < 95) return owner_batch(o);
    return owner_compact(o);
}

static void churn(struct owner *o, int steps) {
    for (int i = 0; i < steps; i++) {
        enum err err = churn_step(o);
        if (err == ERR_OK || err == ERR_BUSY || err == ERR_FULL) continue;
        if (!io_sim_dead(o->sim) && !io_sim_failed(o->sim)) fail_msg("error %s: %s", err_name(err), o->error.text);
        return;
    }
}

// Opens, with the power going again and again while it recovers.
static void reopen_with_crashes(struct owner *o) {
    for (int tries = 0; tries < 3; tries++) {
        io_sim_die_at(o->sim, SIM_ANY, 1 + io_sim_random(o->sim, 40));
        enum err err = owner_open(o);
        bool dead = io_sim_dead(o->sim);
        if (err == ERR_OK) owner_verify(o);
        else if (!dead) fail_msg("cannot open again: %s", o->error.text);
        owner_crash(o, true);
    }
    owner_reopen(o);
}

static bool crash_at(enum sim_op op, uint64_t n, uint64_t seed) {
    struct io_sim *sim = io_sim_new(seed * 1000003 + n);
    struct owner *o = owner_new(sim);
    assert_int_equal(owner_open(o), ERR_OK);
    io_sim_die_at(sim, op, n);
    run(o, STEPS);
    bool died = io_sim_dead(sim);
    owner_crash(o, true);
    reopen_with_crashes(o);
    run(o, STEPS / 2);
    owner_crash(o, io_sim_random(sim, 2) == 0);
    owner_reopen(o);
    owner_free(o);
    io_sim_free(sim);
    return died;
}

static void a_crash_at_any_operation_loses_nothing_durable(void **state) {
    uint64_t n = 1;
    while (crash_at(SIM_ANY, n, 1)) n++;
    assert_true(n > 100);
}

static void nor_does_a_crash_at_any_change_with_other_seeds(void **state) {
    for (uint64_t seed = 2; seed < 5; seed++) {
        uint64_t n = 1;
        while (crash_at(SIM_CHANGE, n, seed)) n += 1 + seed % 3;
    }
}

static void segments_that_come_and_go_bring_nothing_back(void **state) {
    uint64_t retired = 0;
    for (uint64_t seed = 0; seed < 150; seed++) {
        struct io_sim *sim = io_sim_new(seed + 77);
        struct owner *o = owner_new(sim);
        assert_int_equal(owner_open(o), ERR_OK);
        for (int round = 0; round < 6; round++) {
            io_sim_die_at(sim, SIM_CHANGE, 1 + io_sim_random(sim, 400));
            churn(o, 600);
            struct io_sim_stats stats;
            io_sim_stats(sim, &stats);
            retired = stats.calls[SIM_REMOVE] > retired ? stats.calls[SIM_REMOVE] : retired;
            owner_crash(o, io_sim_random(sim, 3) > 0);
            reopen_with_crashes(o);
        }
        owner_free(o);
        io_sim_free(sim);
    }
    assert_true(retired > 5);
}

static void the_first_opening_may_be_cut_at_any_operation(void **state) {
    bool died = true;
    for (uint64_t n = 1; died; n++) {
        struct io_sim *sim = io_sim_new(n);
        struct owner *o = owner_new(sim);
        io_sim_die_at(sim, SIM_ANY, n);
        if (owner_open(o) == ERR_OK && owner_publish(o, 100) == ERR_OK) (void)owner_flush(o);
        died = io_sim_dead(sim);
        owner_crash(o, true);
        owner_reopen(o);
        owner_free(o);
        io_sim_free(sim);
    }
}

// One failing operation, not a crash: an error is reported, and after a restart nothing durable is missing, not even
// what recovery showed after a sync had failed.
static bool fail_at(uint64_t n, enum err what) {
    struct io_sim *sim = io_sim_new(n * 7 + what);
    struct owner *o = owner_new(sim);
    assert_int_equal(owner_open(o), ERR_OK);
    io_sim_fail(sim, SIM_CHANGE, n, what, false);
    run(o, STEPS);
    bool failed = io_sim_failed(sim);
    owner_crash(o, false);
    owner_reopen(o);
    owner_crash(o, true);
    owner_reopen(o);
    owner_free(o);
    io_sim_free(sim);
    return failed;
}

static void a_failed_operation_is_an_error_and_loses_nothing(void **state) {
    uint64_t n = 1;
    while (fail_at(n, ERR_IO)) n++;
    assert_true(n > 50);
}

// A process is killed before its sync; the machine loses power while the next one recovers.
static void recovery_may_be_cut_at_any_operation(void **state) {
    bool died = true;
    for (uint64_t n = 1; died; n++) {
        died = false;
        for (uint64_t seed = 0; seed < 30; seed++) {
            struct io_sim *sim = io_sim_new(seed);
            struct owner *o = owner_new(sim);
            assert_int_equal(owner_open(o), ERR_OK);
            for (int i = 0; i < 20; i++) assert_int_equal(owner_publish(o, 2000), ERR_OK);
            io_sim_die_at(sim, SIM_DATASYNC, 1);
            assert_int_equal(owner_batch(o), ERR_IO);
            owner_crash(o, false);
            io_sim_die_at(sim, SIM_ANY, n);
            if (owner_open(o) == ERR_OK) owner_verify(o);
            died |= io_sim_dead(sim);
            owner_crash(o, true);
            owner_reopen(o);
            owner_free(o);
            io_sim_free(sim);
        }
    }
}

static void what_was_replayed_once_stays(void **state) {
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct io_sim *sim = io_sim_new(seed);
        struct owner *o = owner_new(sim);
        assert_int_equal(owner_open(o), ERR_OK);
        for (int i = 0; i < 10; i++) assert_int_equal(owner_publish(o, 300), ERR_OK);
        io_sim_fail(sim, SIM_DATASYNC, 1, ERR_IO, false);
        assert_int_equal(owner_batch(o), ERR_IO); // now some of it is only in the page cache, and counts as clean
        owner_crash(o, false);
        owner_reopen(o);
        owner_crash(o, true);
        owner_reopen(o); // verifies against what the first opening showed
        owner_free(o);
        io_sim_free(sim);
    }
}

int main(void) {
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crash_at_any_operation_loses_nothing_durable),
        cmocka_unit_test(nor_does_a_crash_at_any_change_with_other_seeds),
        cmocka_unit_test(segments_that_come_and_go_bring_nothing_back),
        cmocka_unit_test(the_first_opening_may_be_cut_at_any_operation),
        cmocka_unit_test(a_failed_operation_is_an_error_and_loses_nothing),
        cmocka_unit_test(recovery_may_be_cut_at_any_operation),
        cmocka_unit_test(what_was_replayed_once_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
