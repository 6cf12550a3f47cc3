// What was found right or wrong is remembered for a while, for a bounded number, and forgotten when asked to.
#include "access/verified.h"
#include "base/test.h"
#include "base/test_io.h"

#define MINUTE_NS (UINT64_C(60) * 1000000000)

static enum verdict_known ask(struct verified *v, const char *user, const char *password) {
    uint8_t key[VERIFIED_KEY];
    verified_key(v, user, password, key);
    return verified_get(v, key);
}

static void remember(struct verified *v, const char *user, const char *password, bool right) {
    uint8_t key[VERIFIED_KEY];
    verified_key(v, user, password, key);
    verified_put(v, key, user, right);
}

static void remembers_for_five_minutes(void **state) {
    struct test_io io;
    test_io_init(&io, 1);
    struct verified *v = verified_new(&io.io);
    remember(v, "ann", "right", true);
    remember(v, "ann", "wrong", false);
    assert_int_equal(ask(v, "ann", "right"), VERIFIED_RIGHT);
    assert_int_equal(ask(v, "ann", "wrong"), VERIFIED_WRONG);
    assert_int_equal(ask(v, "ann", "other"), VERIFIED_UNKNOWN);
    assert_int_equal(ask(v, "annr", "ight"), VERIFIED_UNKNOWN);
    io.monotonic_ns += 4 * MINUTE_NS;
    assert_int_equal(ask(v, "ann", "right"), VERIFIED_RIGHT); // which does not make it last longer
    io.monotonic_ns += MINUTE_NS;
    assert_int_equal(ask(v, "ann", "right"), VERIFIED_UNKNOWN);
    assert_int_equal(ask(v, "ann", "wrong"), VERIFIED_UNKNOWN);
    verified_free(v);
}

static void forgets_one_user(void **state) {
    struct test_io io;
    test_io_init(&io, 1);
    struct verified *v = verified_new(&io.io);
    remember(v, "ann", "right", true);
    remember(v, "ann", "wrong", false);
    remember(v, "ben", "right", true);
    verified_forget(v, "ann");
    assert_int_equal(ask(v, "ann", "right"), VERIFIED_UNKNOWN);
    assert_int_equal(ask(v, "ann", "wrong"), VERIFIED_UNKNOWN);
    assert_int_equal(ask(v, "ben", "right"), VERIFIED_RIGHT);
    verified_free(v);
}

static void the_one_unused_longest_gives_way(void **state) {
    struct test_io io;
    char password[16];
    test_io_init(&io, 1);
    struct verified *v = verified_new(&io.io);
    remember(v, "ann", "used", true);
    remember(v, "ann", "unused", true);
    for (int i = 0; i < 16384 - 1; i++) {
        snprintf(password, sizeof password, "%d", i);
        assert_int_equal(ask(v, "ann", "used"), VERIFIED_RIGHT);
        remember(v, "ben", password, false);
    }
    assert_int_equal(ask(v, "ann", "used"), VERIFIED_RIGHT);
    assert_int_equal(ask(v, "ann", "unused"), VERIFIED_UNKNOWN);
    verified_free(v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(remembers_for_five_minutes),
        cmocka_unit_test(forgets_one_user),
        cmocka_unit_test(the_one_unused_longest_gives_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
