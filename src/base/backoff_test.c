// Delays are spread evenly from zero to the bound, the bound doubles up to the cap and never overflows.
#include "base/backoff.h"
#include "base/test.h"
#include "base/test_io.h"

#define DRAWS 4000

struct spread {
    uint32_t smallest, largest;
    double mean;
};

static struct spread draw(const struct backoff *b, uint32_t attempt) {
    struct test_io t;
    test_io_init(&t, 7 + attempt);
    struct spread s = {.smallest = UINT32_MAX};
    for (int i = 0; i < DRAWS; i++) {
        uint32_t delay = backoff_delay(b, &t.io, attempt, 0);
        if (delay < s.smallest) s.smallest = delay;
        if (delay > s.largest) s.largest = delay;
        s.mean += (double)delay / DRAWS;
    }
    return s;
}

static void fills_its_range_evenly_and_doubles_to_the_cap(void **state) {
    (void)state;
    const struct backoff b = BACKOFF_DEFAULT;
    for (uint32_t attempt = 0; attempt < 12; attempt++) {
        double bound = 500.0 * (double)(1u << attempt);
        if (bound > 60000) bound = 60000;
        struct spread s = draw(&b, attempt);
        assert_true(s.smallest <= bound * 0.02);
        assert_true(s.largest <= bound && s.largest >= bound * 0.98);
        assert_true(s.mean > bound * 0.47 && s.mean < bound * 0.53);
    }
}

static void no_attempt_number_overflows(void **state) {
    (void)state;
    struct test_io t;
    test_io_init(&t, 8);
    const struct backoff wide = {.base_ms = UINT32_MAX, .cap_ms = UINT32_MAX, .multiplier = 1e300};
    const struct backoff usual = BACKOFF_DEFAULT;
    const uint32_t attempts[] = {31, 32, 63, 64, 1000, 100000, UINT32_MAX};
    uint32_t largest = 0;
    for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++) {
        for (int n = 0; n < 200; n++) {
            uint32_t delay = backoff_delay(&usual, &t.io, attempts[i], 0);
            assert_true(delay <= 60000);
            if (delay > largest) largest = delay;
            backoff_delay(&wide, &t.io, attempts[i], 0);
        }
    }
    assert_true(largest > 50000);
}

static void is_never_below_the_floor(void **state) {
    (void)state;
    struct test_io t;
    test_io_init(&t, 9);
    const struct backoff b = BACKOFF_DEFAULT;
    bool above = false;
    for (int n = 0; n < 1000; n++) {
        uint32_t delay = backoff_delay(&b, &t.io, 3, 2000);
        assert_true(delay >= 2000 && delay <= 4000);
        above |= delay > 2000;
        assert_int_equal(backoff_delay(&b, &t.io, 0, 120000), 120000);
    }
    assert_true(above);
}

static void odd_settings_are_harmless(void **state) {
    (void)state;
    struct test_io t;
    test_io_init(&t, 10);
    const struct backoff none = {.base_ms = 0, .cap_ms = 1000, .multiplier = 2};
    const struct backoff shrinking = {.base_ms = 100, .cap_ms = 1000, .multiplier = 0.5};
    const struct backoff low_cap = {.base_ms = 100, .cap_ms = 10, .multiplier = 2};
    for (uint32_t n = 0; n < 2000; n++) {
        assert_int_equal(backoff_delay(&none, &t.io, n, 0), 0);
        assert_true(backoff_delay(&shrinking, &t.io, n, 0) <= 100);
        assert_true(backoff_delay(&low_cap, &t.io, n, 0) <= 10);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_its_range_evenly_and_doubles_to_the_cap),
        cmocka_unit_test(no_attempt_number_overflows),
        cmocka_unit_test(is_never_below_the_floor),
        cmocka_unit_test(odd_settings_are_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
