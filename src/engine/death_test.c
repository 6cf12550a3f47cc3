// x-death: what a dead letter's headers say, and when it goes in circles.
#include "engine/table_test.h"

#include "engine/death.h"

static struct view noted(struct view properties, const char *queue, const char *reason, bool new_key) {
    struct buf *b = table_fresh();
    struct death d = {.properties = properties,
                      .queue = queue,
                      .reason = reason,
                      .exchange = "orders",
                      .routing_key = "new",
                      .at_ms = 1700000000123,
                      .new_key = new_key};
    assert_true(death_note(b, &d));
    return view_of_buf(b);
}

static struct view headers_of(struct view properties) {
    struct view headers = properties_headers(properties.data, properties.length);
    assert_true(table_check(headers));
    return headers;
}

static struct view nth_death(struct view properties, int n) {
    struct field f;
    assert_true(table_find(headers_of(properties), "x-death", &f));
    struct table_cursor c = {f.bytes};
    for (int i = 0; i <= n; i++)
        if (!array_next(&c, &f)) return (struct view){0};
    assert_int_equal(f.type, FIELD_TABLE);
    return f.bytes;
}

static void assert_text(struct view table, const char *name, const char *text) {
    struct field f;
    assert_true(table_find(table, name, &f));
    assert_int_equal(f.type, FIELD_STRING);
    assert_true(view_is(f.bytes, text));
}

static int64_t integer(struct view table, const char *name) {
    struct field f;
    int64_t n = -1;
    assert_true(table_find(table, name, &f));
    if (f.type == FIELD_TIMESTAMP) return f.integer;
    assert_true(field_integer(&f, &n));
    return n;
}

static void the_first_death_says_all_of_it(void **state) {
    struct buf *b = table_fresh();
    table_put_text(b, "mine", "kept");
    size_t cc = table_put_array(b, "CC");
    struct field f = {.type = FIELD_STRING, .bytes = view_of("copy")};
    array_put(b, &f);
    table_end(b, cc);
    struct view letter = noted(properties_with(view_of_buf(b), "60000"), "work", "expired", false);
    struct view death = nth_death(letter, 0), headers = headers_of(letter);
    assert_int_equal(integer(death, "count"), 1);
    assert_text(death, "reason", "expired");
    assert_text(death, "queue", "work");
    assert_text(death, "exchange", "orders");
    assert_text(death, "original-expiration", "60000");
    assert_int_equal(integer(death, "time"), 1700000000);
    assert_true(table_find(death, "routing-keys", &f));
    struct table_cursor keys = {f.bytes};
    assert_true(array_next(&keys, &f) && view_is(f.bytes, "new"));
    assert_true(array_next(&keys, &f) && view_is(f.bytes, "copy"));
    assert_false(array_next(&keys, &f));
    assert_text(headers, "mine", "kept");
    assert_true(table_find(headers, "CC", &f));
    static const char *const which[] = {"first", "last"};
    for (int i = 0; i < 2; i++) {
        char name[64];
        snprintf(name, sizeof name, "x-%s-death-queue", which[i]);
        assert_text(headers, name, "work");
        snprintf(name, sizeof name, "x-%s-death-reason", which[i]);
        assert_text(headers, name, "expired");
        snprintf(name, sizeof name, "x-%s-death-exchange", which[i]);
        assert_text(headers, name, "orders");
    }
    struct properties p;
    assert_true(properties_decode(&p, letter.data, letter.length));
    assert_false(p.flags & PROPERTY_EXPIRATION);
}

static void a_message_without_properties_gets_some(void **state) {
    struct view letter = noted((struct view){0}, "work", "rejected", false);
    struct field f;
    assert_text(nth_death(letter, 0), "reason", "rejected");
    assert_false(table_find(nth_death(letter, 0), "original-expiration", &f));
}

static void later_deaths_come_first_and_are_counted(void **state) {
    struct view letter = noted((struct view){0}, "a", "rejected", false);
    letter = noted(letter, "b", "expired", false);
    letter = noted(letter, "a", "expired", false);
    letter = noted(letter, "a", "rejected", false);
    assert_text(nth_death(letter, 0), "queue", "a");
    assert_text(nth_death(letter, 0), "reason", "rejected");
    assert_int_equal(integer(nth_death(letter, 0), "count"), 2);
    assert_text(nth_death(letter, 1), "queue", "a");
    assert_text(nth_death(letter, 1), "reason", "expired");
    assert_text(nth_death(letter, 2), "queue", "b");
    assert_null(nth_death(letter, 3).data);
    assert_text(headers_of(letter), "x-first-death-queue", "a");
    assert_text(headers_of(letter), "x-first-death-reason", "rejected");
    letter = noted(letter, "b", "expired", false);
    assert_text(headers_of(letter), "x-first-death-queue", "a");
    assert_text(headers_of(letter), "x-last-death-queue", "b");
}

static void a_new_routing_key_takes_cc_off(void **state) {
    struct buf *b = table_fresh();
    size_t cc = table_put_array(b, "CC");
    table_end(b, cc);
    struct field f;
    struct view letter = noted(properties_with(view_of_buf(b), NULL), "a", "maxlen", true);
    assert_false(table_find(headers_of(letter), "CC", &f));
}

static void the_list_is_bounded(void **state) {
    struct view letter = {0};
    char name[16];
    for (int i = 0; i < DEATHS_MAX + 10; i++) {
        snprintf(name, sizeof name, "q%d", i);
        letter = noted(letter, name, "rejected", false);
    }
    assert_text(nth_death(letter, 0), "queue", name);
    assert_non_null(nth_death(letter, DEATHS_MAX - 1).data);
    assert_null(nth_death(letter, DEATHS_MAX).data);
}

static void a_circle_that_nobody_rejected_in_is_one(void **state) {
    struct view letter = noted((struct view){0}, "a", "expired", false);
    assert_true(death_is_cycle(headers_of(letter), "a"));
    assert_false(death_is_cycle(headers_of(letter), "b"));
    letter = noted(letter, "b", "maxlen", false);
    assert_true(death_is_cycle(headers_of(letter), "a"));
    letter = noted(letter, "c", "rejected", false);
    assert_false(death_is_cycle(headers_of(letter), "a"));
    assert_false(death_is_cycle(headers_of(letter), "c"));
    letter = noted(letter, "d", "expired", false);
    assert_true(death_is_cycle(headers_of(letter), "d"));
    assert_false(death_is_cycle(headers_of(letter), "a"));
    assert_false(death_is_cycle((struct view){0}, "a"));
}

static void damaged_properties_are_noticed(void **state) {
    struct buf *b = table_fresh();
    struct death d = {.properties = {(const uint8_t *)"\x20", 1},
                      .queue = "a",
                      .reason = "expired",
                      .exchange = "",
                      .routing_key = ""};
    assert_false(death_note(b, &d));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_death_says_all_of_it),
        cmocka_unit_test(a_message_without_properties_gets_some),
        cmocka_unit_test(later_deaths_come_first_and_are_counted),
        cmocka_unit_test(a_new_routing_key_takes_cc_off),
        cmocka_unit_test(the_list_is_bounded),
        cmocka_unit_test(a_circle_that_nobody_rejected_in_is_one),
        cmocka_unit_test(damaged_properties_are_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
