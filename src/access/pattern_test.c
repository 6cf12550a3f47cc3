// Patterns match as RabbitMQ's do, and none can hold up the loop.
#include "access/pattern.h"
#include "base/test.h"

#include <time.h>

static bool matches(struct patterns *p, const char *pattern, const char *name) {
    struct pattern *x = pattern_hold(p, pattern);
    bool yes = pattern_matches(p, x, name);
    assert_int_equal(pattern_matches(p, x, name), yes); // remembered
    pattern_release(p, x);
    return yes;
}

static void a_pattern_matches_anywhere_unless_anchored(void **state) {
    struct patterns *p = patterns_new();
    assert_true(matches(p, ".*", ""));
    assert_true(matches(p, ".*", "a name"));
    assert_true(matches(p, "b", "abc"));
    assert_false(matches(p, "^b", "abc"));
    assert_true(matches(p, "^(?:amq\\.gen|tmp)[-.]", "amq.gen-x1"));
    assert_false(matches(p, "^(?:amq\\.gen|tmp)[-.]", "amq.general"));
    assert_true(matches(p, "^(?!secret).*$", "open"));
    assert_false(matches(p, "^(?!secret).*$", "secret.1"));
    assert_true(matches(p, "^caf\xc3\xa9$", "caf\xc3\xa9"));
    assert_true(matches(p, "^.$", "\xff")); // bytes
    patterns_free(p);
}

static void the_empty_pattern_matches_nothing(void **state) {
    struct patterns *p = patterns_new();
    assert_false(matches(p, "", ""));
    assert_false(matches(p, "", "x"));
    assert_true(matches(p, "^$", ""));
    assert_false(matches(p, "^$", "x"));
    patterns_free(p);
}

static void what_does_not_compile_is_told_where(void **state) {
    struct patterns *p = patterns_new();
    struct error e = {0};
    char *deep = calloc(1, PATTERN_MAX + 2);
    assert_int_equal(pattern_check(p, "write", "ab[", &e), ERR_INVALID);
    assert_string_equal(e.field, "write");
    assert_non_null(strstr(e.text, "at byte 3"));
    assert_int_equal(pattern_check(p, "read", "a\\Cb", &e), ERR_INVALID);
    memset(deep, 'a', PATTERN_MAX + 1);
    assert_int_equal(pattern_check(p, "read", deep, &e), ERR_INVALID);
    deep[PATTERN_MAX] = '\0';
    assert_int_equal(pattern_check(p, "read", deep, &e), ERR_OK);
    memset(deep, '(', PATTERN_MAX / 2);
    memset(deep + PATTERN_MAX / 2, ')', PATTERN_MAX / 2);
    assert_int_equal(pattern_check(p, "read", deep, &e), ERR_INVALID);
    assert_int_equal(pattern_check(p, "read", "(a{60000}){60000}", &e), ERR_INVALID);
    free(deep);
    patterns_free(p);
}

static void a_hostile_pattern_is_given_up_soon(void **state) {
    static const char *const hostile[] = {"^(a+)+$", "(a|aa)+$", "(.*)*x", "^(([a-z])+.)+[A-Z]([a-z])+$", "(x+x+)+y"};
    struct patterns *p = patterns_new();
    char name[256];
    struct timespec from, to;
    memset(name, 'a', 254);
    name[254] = '!';
    name[255] = '\0';
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    for (int round = 0; round < 20; round++, name[round] = 'b') // names that are not remembered
        for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) assert_false(matches(p, hostile[i], name));
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    assert_true(to.tv_sec - from.tv_sec < 3);
    patterns_free(p);
}

static void many_patterns_and_names_stay_right(void **state) {
    struct patterns *p = patterns_new();
    enum { N = 3000 };
    static struct pattern *x[N];
    char text[32];
    for (int i = 0; i < N; i++) {
        snprintf(text, sizeof text, "^tenant%d\\.", i);
        x[i] = pattern_hold(p, text);
    }
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < N; i++)
            for (int other = 0; other < 15; other++) {
                int named = (i + other) % N;
                snprintf(text, sizeof text, "tenant%d.queue", named);
                assert_int_equal(pattern_matches(p, x[i], text), named == i);
            }
    for (int i = 0; i < N; i++) pattern_release(p, x[i]);
    patterns_free(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pattern_matches_anywhere_unless_anchored),
        cmocka_unit_test(the_empty_pattern_matches_nothing),
        cmocka_unit_test(what_does_not_compile_is_told_where),
        cmocka_unit_test(a_hostile_pattern_is_given_up_soon),
        cmocka_unit_test(many_patterns_and_names_stay_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
