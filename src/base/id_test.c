// Ids sort in the order they were made, whatever the clock does, and read back as they were written.
#include "base/id.h"
#include "base/test.h"
#include "base/test_io.h"

static void has_the_layout_of_version_7(void **state) {
    (void)state;
    struct test_io t;
    test_io_init(&t, 1);
    t.wall_ms = 0x0123456789ab;
    struct id id = id_new(&t.io);
    char text[ID_TEXT];
    id_format(&id, text);
    assert_memory_equal(text, "01234567-89ab-7", 15);
    assert_non_null(strchr("89ab", text[19]));
}

static void ids_of_one_millisecond_sort_as_made(void **state) {
    (void)state;
    struct test_io t;
    test_io_init(&t, 2);
    struct id last = id_new(&t.io);
    for (int i = 0; i < 100000; i++) {
        struct id next = id_new(&t.io);
        assert_true(memcmp(last.b, next.b, 16) < 0);
        assert_int_equal(next.b[6] >> 4, 7);
        assert_int_equal(next.b[8] >> 6, 2);
        last = next;
    }
}

static void order_survives_a_clock_set_back(void **state) {
    (void)state;
    struct test_io t;
    test_io_init(&t, 3);
    struct id last = id_new(&t.io);
    for (int i = 0; i < 1000; i++) {
        t.wall_ms += i % 3 == 0 ? -5000 : 1000;
        struct id next = id_new(&t.io);
        assert_true(memcmp(last.b, next.b, 16) < 0);
        last = next;
    }
}

static void order_survives_the_random_part_running_over(void **state) {
    (void)state;
    struct test_io t;
    test_io_init(&t, 4);
    struct id last = id_new(&t.io);
    t.io.last_id.random_a = 0xFFF;
    t.io.last_id.random_b = (UINT64_C(1) << 62) - 1;
    struct id next = id_new(&t.io);
    assert_true(memcmp(last.b, next.b, 16) < 0);
    assert_int_equal(next.b[6] >> 4, 7);
    assert_int_equal(next.b[8] >> 6, 2);
}

static void a_simulated_run_makes_the_same_ids_again(void **state) {
    (void)state;
    struct test_io a, b;
    test_io_init(&a, 5);
    for (int i = 0; i < 10; i++) id_new(&a.io);
    test_io_init(&a, 5);
    test_io_init(&b, 5);
    struct id first = id_new(&a.io), again = id_new(&b.io);
    assert_true(id_equal(&first, &again));
}

static void parses_what_it_formats(void **state) {
    (void)state;
    struct test_io t;
    test_io_init(&t, 6);
    for (int i = 0; i < 1000; i++) {
        struct id id = id_new(&t.io), back;
        char text[ID_TEXT];
        id_format(&id, text);
        assert_int_equal(strlen(text), 36);
        assert_true(id_parse(text, 36, &back));
        assert_true(id_equal(&id, &back));
    }
}

static void parses_only_the_canonical_form(void **state) {
    (void)state;
    struct id id, upper;
    assert_true(id_parse("0192f4e3-7b1c-7abc-8def-0123456789ab", 36, &id));
    assert_true(id_parse("0192F4E3-7B1C-7ABC-8DEF-0123456789AB", 36, &upper));
    assert_true(id_equal(&id, &upper));
    static const char *const wrong[] = {
        "",
        "0192f4e3-7b1c-7abc-8def-0123456789a",
        "0192f4e3-7b1c-7abc-8def-0123456789abc",
        "0192f4e3-7b1c-7abc-8def-0123456789abcd",
        "0192f4e37b1c7abc8def0123456789ab",
        "{192f4e3-7b1c-7abc-8def-0123456789a}",
        "0192f4e3-7b1c-7abc-8def-0123456789ag",
        "0192f4e3-7b1c-7abc-8def_0123456789ab",
        "0192f4e3-7b1c-7abc-8def-0123456789 b",
        "-0192f4e-7b1c-7abc-8def-0123456789ab",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) assert_false(id_parse(wrong[i], strlen(wrong[i]), &id));
    assert_false(id_parse("0192f4e3-7b1c-7abc-8def-01234567\0abc", 36, &id));
}

static void names_are_what_the_design_says(void **state) {
    (void)state;
    static const char *const good[] = {"a", "0", "alice", "bob.smith_2-x", "0192f4e3-7b1c-7abc-8def-0123456789ab"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_true(name_valid(good[i], strlen(good[i])));
    static const char *const bad[] = {"", ".a", "-a", "_a", "Alice", "a b", "a/b", "a\n", "\xc3\xa9", "../a"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(name_valid(bad[i], strlen(bad[i])));
    char longest[65];
    memset(longest, 'a', sizeof longest);
    assert_true(name_valid(longest, 64));
    assert_false(name_valid(longest, 65));
    assert_false(name_valid("a\0b", 3));
}

static void a_name_gives_one_id_and_another_name_another(void **state) {
    struct id a = id_of_name("order-17", 8), b = id_of_name("order-17", 8), c = id_of_name("order-18", 8);
    char text[ID_TEXT];
    assert_true(id_equal(&a, &b));
    assert_false(id_equal(&a, &c));
    id_format(&a, text);
    assert_int_equal(text[14], '8');
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_gives_one_id_and_another_name_another),
        cmocka_unit_test(has_the_layout_of_version_7),
        cmocka_unit_test(ids_of_one_millisecond_sort_as_made),
        cmocka_unit_test(order_survives_a_clock_set_back),
        cmocka_unit_test(order_survives_the_random_part_running_over),
        cmocka_unit_test(a_simulated_run_makes_the_same_ids_again),
        cmocka_unit_test(parses_what_it_formats),
        cmocka_unit_test(parses_only_the_canonical_form),
        cmocka_unit_test(names_are_what_the_design_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
