// Logging in: who is let in, who is not, how often it may be tried, and what many connections at once cost.
#include "access/rig_test.h"

#include <time.h>

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void right_and_wrong(void **state) {
    struct rig r;
    rig_init(&r);
    rig_user(&r, "ann", "a secret", NULL);
    rig_user(&r, "mute", NULL, NULL);
    rig_user(&r, "empty", "", NULL);
    for (int again = 0; again < 2; again++) { // the second time from memory
        assert_int_equal(rig_login(&r, "ann", "a secret", RIG_FAR), ERR_OK);
        assert_int_equal(rig_login(&r, "ann", "a secret ", RIG_FAR), ERR_UNAUTHORIZED);
        assert_int_equal(rig_login(&r, "Ann", "a secret", RIG_FAR), ERR_UNAUTHORIZED);
        assert_int_equal(rig_login(&r, "nobody", "a secret", RIG_FAR), ERR_UNAUTHORIZED);
        assert_int_equal(rig_login(&r, "mute", "x", RIG_FAR), ERR_UNAUTHORIZED);
        assert_int_equal(rig_login(&r, "mute", "", RIG_FAR), ERR_UNAUTHORIZED);
        assert_int_equal(rig_login(&r, "empty", "", RIG_FAR), ERR_UNAUTHORIZED);
        assert_int_equal(rig_login(&r, "", "", RIG_FAR), ERR_UNAUTHORIZED);
    }
    rig_release(&r);
}

static void what_is_too_long_is_wrong(void **state) {
    static char longest[5000];
    struct rig r;
    rig_init(&r);
    memset(longest, 'x', sizeof longest - 1);
    assert_int_equal(rig_login(&r, longest, "x", RIG_FAR), ERR_UNAUTHORIZED);
    assert_int_equal(rig_login(&r, "guest", longest, RIG_NEAR), ERR_UNAUTHORIZED);
    assert_int_equal(rig_user(&r, "ann", longest, NULL), ERR_INVALID);
    longest[1024] = '\0';
    assert_int_equal(rig_user(&r, "ann", longest, NULL), ERR_OK);
    assert_int_equal(rig_login(&r, "ann", longest, RIG_FAR), ERR_OK);
    rig_release(&r);
}

static void a_certificate_names_a_user(void **state) {
    struct rig r;
    rig_init(&r);
    assert_int_equal(rig_user(&r, "ann", NULL, ""), ERR_OK);
    assert_string_equal(access_user_certified(r.access, "ann", false)->name, "ann");
    assert_null(access_user_certified(r.access, "bob", true));
    assert_non_null(access_user_certified(r.access, "guest", true));
    assert_null(access_user_certified(r.access, "guest", false));
    rig_release(&r);
}

static void guest_comes_from_here_only(void **state) {
    struct rig r;
    rig_init(&r);
    assert_int_equal(rig_login(&r, "guest", "guest", RIG_FAR), ERR_FORBIDDEN);
    assert_int_equal(rig_login(&r, "guest", "wrong", RIG_FAR), ERR_UNAUTHORIZED);
    assert_int_equal(rig_login(&r, "guest", "guest", RIG_NEAR), ERR_OK);
    assert_int_equal(rig_login(&r, "guest", "guest", RIG_FAR), ERR_FORBIDDEN);
    r.o.guest_anywhere = true;
    rig_restart(&r);
    assert_int_equal(rig_login(&r, "guest", "guest", RIG_FAR), ERR_OK);
    rig_release(&r);
}

static void rabbitmqs_hashes_are_honoured(void **state) {
    struct rig r;
    rig_init(&r);
    const char *hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"; // "test12"
    assert_int_equal(rig_user_hash(&r, "old", hash, "rabbit_password_hashing_sha256"), ERR_OK);
    assert_int_equal(rig_user_hash(&r, "older", hash, "rabbit_password_hashing_md5"), ERR_INVALID);
    assert_int_equal(rig_user_hash(&r, "none", "", "rabbit_password_hashing_sha256"), ERR_OK);
    for (int life = 0; life < 2; life++) {
        assert_int_equal(rig_login(&r, "old", "test12", RIG_FAR), ERR_OK);
        assert_int_equal(rig_login(&r, "old", "test13", RIG_FAR), ERR_UNAUTHORIZED);
        assert_int_equal(rig_login(&r, "none", "test12", RIG_FAR), ERR_UNAUTHORIZED);
        assert_string_equal(access_user(r.access, "old")->hash, hash); // as it was
        rig_restart(&r);
    }
    rig_release(&r);
}

static void a_change_is_in_force_at_once(void **state) {
    struct rig r;
    rig_init(&r);
    assert_int_equal(rig_login(&r, "ann", "first", RIG_FAR), ERR_UNAUTHORIZED);
    rig_user(&r, "ann", "first", NULL);
    assert_int_equal(rig_login(&r, "ann", "first", RIG_FAR), ERR_OK);
    rig_user(&r, "ann", "second", NULL);
    assert_int_equal(rig_login(&r, "ann", "first", RIG_FAR), ERR_UNAUTHORIZED);
    assert_int_equal(rig_login(&r, "ann", "second", RIG_FAR), ERR_OK);
    rig_user_delete(&r, "ann");
    assert_int_equal(rig_login(&r, "ann", "second", RIG_FAR), ERR_UNAUTHORIZED);
    rig_release(&r);
}

static int let_in;

static void count_let_in(void *arg, enum err err, const struct access_user *u) {
    if (err == ERR_OK) let_in++;
    rig_logged_in(arg, err, u);
}

// Both passwords are being verified while the new one comes into force.
static void a_change_overtakes_a_verification(void **state) {
    struct rig r;
    rig_init(&r);
    rig_user(&r, "ann", "first", NULL);
    const char *hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"; // needs no hashing: it is there first
    access_login(r.access, "ann", "first", RIG_FAR, false, rig_logged_in, &r);
    access_user_put(
        r.access,
        &(struct access_user_put){.name = "ann", .hash = hash, .hash_algorithm = "rabbit_password_hashing_sha256"},
        rig_done, &r);
    access_login(r.access, "ann", "test12", RIG_FAR, false, count_let_in, &r);
    let_in = 0;
    rig_wait(&r, 3);
    assert_int_equal(let_in, 1); // the new one, though the old hash was there when it was tried
    assert_int_equal(rig_login(&r, "ann", "first", RIG_FAR), ERR_UNAUTHORIZED);
    assert_int_equal(rig_login(&r, "ann", "test12", RIG_FAR), ERR_OK);
    rig_release(&r);
}

static int wrong_until_refused(struct rig *r, const char *user, const char *address) {
    for (int n = 0;; n++) {
        char password[32];
        snprintf(password, sizeof password, "guess %d", n);
        if (rig_login(r, user, password, address) == ERR_RATE) return n;
        assert_int_equal(r->err, ERR_UNAUTHORIZED);
        assert_true(n < 200);
    }
}

static void guessing_ends_soon_for_who_guesses_alone(void **state) {
    struct rig r;
    rig_init(&r);
    rig_user(&r, "ann", "a secret", NULL);
    rig_user(&r, "ben", "a secret", NULL);
    assert_int_equal(rig_login(&r, "ben", "a secret", RIG_FAR), ERR_OK);
    assert_int_equal(wrong_until_refused(&r, "ann", RIG_FAR), 10);
    assert_int_equal(rig_login(&r, "ann", "a secret", RIG_FAR), ERR_RATE);
    assert_int_equal(rig_login(&r, "ann", "a secret", "192.0.2.8"), ERR_OK);
    assert_int_equal(rig_login(&r, "ben", "a secret", RIG_FAR), ERR_OK);
    r.io.monotonic_ns += 6 * RIG_MINUTE_NS;
    assert_int_equal(rig_login(&r, "ann", "a secret", RIG_FAR), ERR_OK);
    rig_release(&r);
}

static void one_wrong_password_over_and_over_locks_out_nobody(void **state) {
    struct rig r;
    rig_init(&r);
    rig_user(&r, "ann", "a secret", NULL);
    for (int i = 0; i < 50; i++) assert_int_equal(rig_login(&r, "ann", "an old one", RIG_FAR), ERR_UNAUTHORIZED);
    assert_int_equal(rig_login(&r, "ann", "a secret", RIG_FAR), ERR_OK);
    rig_release(&r);
}

static void who_is_in_is_not_locked_out(void **state) {
    struct rig r;
    rig_init(&r);
    rig_user(&r, "ann", "a secret", NULL);
    assert_int_equal(rig_login(&r, "ann", "a secret", RIG_FAR), ERR_OK);
    wrong_until_refused(&r, "ann", RIG_FAR);
    assert_int_equal(rig_login(&r, "ann", "a secret", RIG_FAR), ERR_OK);
    r.io.monotonic_ns += 4 * RIG_MINUTE_NS;
    assert_int_equal(rig_login(&r, "ann", "a secret", RIG_FAR), ERR_OK);
    rig_release(&r);
}

static void five_thousand_connections_cost_one_verification(void **state) {
    struct rig r;
    rig_init(&r);
    rig_user(&r, "ann", "a secret", NULL);
    double from = cpu_seconds();
    assert_int_equal(rig_login(&r, "ann", "another secret", RIG_FAR), ERR_UNAUTHORIZED);
    double one = cpu_seconds() - from;
    for (int round = 0; round < 2; round++) { // all at once; then again, a while later
        from = cpu_seconds();
        let_in = 0;
        for (int i = 0; i < 5000; i++) access_login(r.access, "ann", "a secret", RIG_FAR, false, count_let_in, &r);
        rig_wait(&r, 5000);
        assert_int_equal(let_in, 5000);
        assert_true(cpu_seconds() - from < 20 * one); // 5,000 verifications would be 5,000 times as much
        r.io.monotonic_ns += RIG_MINUTE_NS;
    }
    rig_release(&r);
}

static void count_busy(void *arg, enum err err, const struct access_user *u) {
    access_user_release(u);
    if (err == ERR_BUSY) rig_answer(arg, err, NULL);
}

static void too_many_different_ones_at_once_are_refused(void **state) {
    struct rig r;
    rig_init(&r);
    for (int i = 0; i < 1100; i++) {
        char name[16];
        snprintf(name, sizeof name, "user%d", i);
        access_login(r.access, name, "x", name, false, count_busy, &r);
    }
    assert_int_equal(rig_wait(&r, 1100 - 1024), ERR_BUSY);
    rig_release(&r); // with a thousand still waiting
}

int main(void) {
    if (rig_skips()) return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(right_and_wrong),
        cmocka_unit_test(what_is_too_long_is_wrong),
        cmocka_unit_test(a_certificate_names_a_user),
        cmocka_unit_test(guest_comes_from_here_only),
        cmocka_unit_test(rabbitmqs_hashes_are_honoured),
        cmocka_unit_test(a_change_is_in_force_at_once),
        cmocka_unit_test(a_change_overtakes_a_verification),
        cmocka_unit_test(guessing_ends_soon_for_who_guesses_alone),
        cmocka_unit_test(one_wrong_password_over_and_over_locks_out_nobody),
        cmocka_unit_test(who_is_in_is_not_locked_out),
        cmocka_unit_test(five_thousand_connections_cost_one_verification),
        cmocka_unit_test(too_many_different_ones_at_once_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
