// Wrong passwords lock out who tries them, and nobody else, for a while.
#include "base/login_limit.h"
#include "base/test.h"
#include "base/test_io.h"

#define MINUTE_NS (UINT64_C(60) * 1000000000)
#define HERE      "192.0.2.1"
#define THERE     "192.0.2.2"

struct rig {
    struct test_io io;
    struct login_limit *limit;
};

static void rig_init(struct rig *r) {
    test_io_init(&r->io, 1);
    r->io.monotonic_ns = MINUTE_NS;
    r->limit = login_limit_new(&r->io.io);
}

static bool try_wrong(struct rig *r, const char *user, const char *address) {
    if (login_limit_enter(r->limit, user, address) != 0) return false;
    login_limit_leave(r->limit, user, address, LOGIN_WRONG);
    return true;
}

static int wrong_until_refused(struct rig *r, const char *user, const char *address) {
    int n = 0;
    while (n < 1000 && try_wrong(r, user, address)) n++;
    return n;
}

static void ten_wrong_ones_lock_out_that_user_at_that_address(void **state) {
    struct rig r;
    rig_init(&r);
    assert_int_equal(wrong_until_refused(&r, "alice", HERE), 10);
    assert_true(login_limit_enter(r.limit, "alice", HERE) > 200);
    assert_int_equal(login_limit_enter(r.limit, "alice", THERE), 0);
    assert_int_equal(login_limit_enter(r.limit, "bob", HERE), 0);
    login_limit_free(r.limit);
}

static void after_five_minutes_it_may_be_tried_again(void **state) {
    struct rig r;
    rig_init(&r);
    wrong_until_refused(&r, "alice", HERE);
    r.io.monotonic_ns += 4 * MINUTE_NS;
    assert_int_not_equal(login_limit_enter(r.limit, "alice", HERE), 0);
    r.io.monotonic_ns += MINUTE_NS;
    assert_int_equal(wrong_until_refused(&r, "alice", HERE), 10);
    login_limit_free(r.limit);
}

static void what_is_being_tried_counts(void **state) {
    struct rig r;
    rig_init(&r);
    for (int i = 0; i < 10; i++) assert_int_equal(login_limit_enter(r.limit, "alice", HERE), 0);
    assert_int_equal(login_limit_enter(r.limit, "alice", HERE), 1);
    login_limit_leave(r.limit, "alice", HERE, LOGIN_NOT_TRIED);
    assert_int_equal(login_limit_enter(r.limit, "alice", HERE), 0);
    login_limit_free(r.limit);
}

static void the_right_one_begins_anew(void **state) {
    struct rig r;
    rig_init(&r);
    for (int i = 0; i < 9; i++) assert_true(try_wrong(&r, "alice", HERE));
    assert_int_equal(login_limit_enter(r.limit, "alice", HERE), 0);
    login_limit_leave(r.limit, "alice", HERE, LOGIN_RIGHT);
    assert_int_equal(wrong_until_refused(&r, "alice", HERE), 10);
    login_limit_free(r.limit);
}

static void many_addresses_or_many_users_help_only_so_far(void **state) {
    struct rig r;
    char text[32];
    int n = 0;
    rig_init(&r);
    for (int i = 0; i < 1000; i++) {
        snprintf(text, sizeof text, "10.0.%d.%d", i / 250, i % 250);
        if (try_wrong(&r, "alice", text)) n++;
    }
    assert_int_equal(n, 100);
    n = 0;
    for (int i = 0; i < 1000; i++) {
        snprintf(text, sizeof text, "user-%d", i);
        if (try_wrong(&r, text, HERE)) n++;
    }
    assert_int_equal(n, 50);
    login_limit_free(r.limit);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_wrong_ones_lock_out_that_user_at_that_address),
        cmocka_unit_test(after_five_minutes_it_may_be_tried_again),
        cmocka_unit_test(what_is_being_tried_counts),
        cmocka_unit_test(the_right_one_begins_anew),
        cmocka_unit_test(many_addresses_or_many_users_help_only_so_far),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
