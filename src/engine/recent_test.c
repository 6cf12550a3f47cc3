// What deduplicating exchanges and queues remember, and the header that delays.
#include "engine/table_test.h"

#include "engine/delay.h"
#include "engine/present.h"
#include "engine/recent.h"

static struct value_key text_key(const char *text) {
    struct field f = {.type = FIELD_STRING, .bytes = view_of(text)};
    return value_key(&f);
}

static struct value_key number_key(enum field_type type, int64_t n) {
    struct field f = {.type = type, .integer = n};
    return value_key(&f);
}

static bool same(struct value_key a, struct value_key b) { return memcmp(&a, &b, sizeof a) == 0; }

static void values_are_told_apart_by_kind(void **state) {
    assert_true(same(text_key("7"), text_key("7")));
    assert_true(same(number_key(FIELD_I64, 7), number_key(FIELD_U8, 7)));
    assert_false(same(text_key("7"), number_key(FIELD_I64, 7)));
    assert_false(same(number_key(FIELD_BOOL, 1), number_key(FIELD_I64, 1)));
    struct value_key key;
    assert_false(value_key_of_message("", 0, &key));
    struct buf *b = table_fresh();
    table_put_text(b, "x-deduplication-header", "7");
    struct view p = properties_with(view_of_buf(b), NULL);
    assert_true(value_key_of_message(p.data, p.length, &key));
    assert_true(same(key, text_key("7")));
}

static void a_cache_forgets_with_time_and_by_size(void **state) {
    struct recent *r = recent_new(3, 1);
    struct value_key a = text_key("a"), b = text_key("b"), c = text_key("c"), d = text_key("d");
    recent_add(r, &a, 100);
    assert_true(recent_has(r, &a, 99));
    assert_false(recent_has(r, &a, 100));
    recent_add(r, &a, UINT64_MAX); // its old place is pushed out first, and must not take the new one with it
    recent_add(r, &b, UINT64_MAX);
    recent_add(r, &c, UINT64_MAX);
    assert_true(recent_has(r, &a, 1000));
    recent_add(r, &d, UINT64_MAX);
    assert_false(recent_has(r, &a, 1000));
    assert_true(recent_has(r, &b, 1000) && recent_has(r, &c, 1000) && recent_has(r, &d, 1000));
    for (int i = 0; i < 1000; i++) {
        struct value_key k = number_key(FIELD_I64, i);
        recent_add(r, &k, UINT64_MAX);
    }
    assert_true(recent_bytes(r) < 4096);
    recent_free(r);
}

static void a_value_is_present_until_its_message_goes(void **state) {
    struct present *p = present_new(1);
    struct value_key a = text_key("a"), b = text_key("b");
    present_add(p, &a, 10);
    present_add(p, &b, 11);
    assert_true(present_has(p, &a));
    present_remove(p, 12);
    present_remove(p, 10);
    assert_false(present_has(p, &a));
    assert_true(present_has(p, &b));
    present_add(p, &a, 13);
    assert_true(present_has(p, &a));
    present_free(p);
}

static struct view delayed(const struct field *f) {
    struct buf *b = table_fresh();
    table_put_text(b, "before", "1");
    table_put(b, view_of("x-delay"), f);
    table_put_text(b, "after", "2");
    return properties_with(view_of_buf(b), NULL);
}

static bool waits(struct field f, uint64_t *ms) {
    struct view p = delayed(&f);
    return delay_of(p.data, p.length, ms);
}

static void a_delay_is_read_from_its_header(void **state) {
    uint64_t ms = 0;
    assert_true(waits((struct field){.type = FIELD_I32, .integer = 5000}, &ms));
    assert_int_equal(ms, 5000);
    assert_true(waits((struct field){.type = FIELD_STRING, .bytes = view_of("250")}, &ms));
    assert_int_equal(ms, 250);
    assert_true(waits((struct field){.type = FIELD_DOUBLE, .real = 10.9}, &ms));
    assert_int_equal(ms, 10);
    assert_true(waits((struct field){.type = FIELD_I64, .integer = INT64_MAX}, &ms));
    assert_true(ms < UINT64_C(1) << 42); // added to a clock it does not run over
    assert_false(waits((struct field){.type = FIELD_I32, .integer = 0}, &ms));
    assert_false(waits((struct field){.type = FIELD_I32, .integer = -5000}, &ms));
    assert_false(waits((struct field){.type = FIELD_STRING, .bytes = view_of("soon")}, &ms));
    assert_false(waits((struct field){.type = FIELD_BOOL, .integer = 1}, &ms));
    assert_false(delay_of("", 0, &ms));
}

static void a_delay_that_is_over_is_negated(void **state) {
    struct field f = {.type = FIELD_I32, .integer = 5000};
    struct buf *b = table_fresh();
    assert_true(delay_negate(b, delayed(&f)));
    struct view headers = properties_headers(b->data, (uint32_t)b->len);
    int64_t n = 0;
    assert_true(table_find(headers, "x-delay", &f) && field_integer(&f, &n));
    assert_int_equal(n, -5000);
    assert_int_equal(f.type, FIELD_I32);
    assert_true(table_find(headers, "before", &f) && table_find(headers, "after", &f));
    uint64_t ms;
    assert_false(delay_of(b->data, (uint32_t)b->len, &ms));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_told_apart_by_kind),
        cmocka_unit_test(a_cache_forgets_with_time_and_by_size),
        cmocka_unit_test(a_value_is_present_until_its_message_goes),
        cmocka_unit_test(a_delay_is_read_from_its_header),
        cmocka_unit_test(a_delay_that_is_over_is_negated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
