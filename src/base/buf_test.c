// Buffers keep to their bound, keep what they have when an append does not fit, and read back what was written.
#include "base/buf.h"
#include "base/test.h"

static void appends_up_to_its_bound_and_not_a_byte_more(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 100);
    for (int i = 0; i < 100; i++) buf_add_u8(&b, (uint8_t)i);
    assert_true(buf_ok(&b));
    assert_int_equal(b.len, 100);
    buf_add_u8(&b, 1);
    assert_false(buf_ok(&b));
    assert_int_equal(b.len, 100);
    for (int i = 0; i < 100; i++) assert_int_equal(b.data[i], i);
    buf_release(&b);
}

static void stays_failed_until_it_is_cleared(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 4);
    buf_add_str(&b, "ab");
    buf_add_str(&b, "cde");
    buf_add_str(&b, "f"); // would fit, but then the content would have a gap
    assert_false(buf_ok(&b));
    assert_string_equal(buf_cstr(&b), "ab");
    buf_clear(&b);
    assert_true(buf_ok(&b));
    buf_add_str(&b, "wxyz");
    assert_true(buf_ok(&b));
    assert_string_equal(buf_cstr(&b), "wxyz");
    buf_release(&b);
}

static void a_huge_append_fails_instead_of_wrapping_round(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, SIZE_MAX);
    buf_add_str(&b, "x");
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_false(buf_ok(&b));
    assert_string_equal(buf_cstr(&b), "x");
    buf_release(&b);
}

static void nothing_is_a_valid_content(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 0);
    buf_add(&b, NULL, 0);
    buf_add_str(&b, "");
    assert_true(buf_ok(&b));
    assert_string_equal(buf_cstr(&b), "");
    buf_add_u8(&b, 1);
    assert_false(buf_ok(&b));
    buf_release(&b);
}

static void printing_respects_the_bound(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 10);
    buf_printf(&b, "%d-%s", 42, "abcdefg");
    assert_true(buf_ok(&b));
    assert_int_equal(b.len, 10);
    assert_string_equal(buf_cstr(&b), "42-abcdefg");
    buf_printf(&b, "%s", "!");
    assert_false(buf_ok(&b));
    assert_string_equal(buf_cstr(&b), "42-abcdefg");
    buf_release(&b);
}

static void consuming_drops_from_the_front(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 64);
    buf_consume(&b, 0);
    buf_add_str(&b, "hello world");
    buf_consume(&b, 6);
    assert_string_equal(buf_cstr(&b), "world");
    buf_consume(&b, 5);
    assert_int_equal(b.len, 0);
    buf_release(&b);
}

static void numbers_are_little_endian_and_read_back(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 64);
    buf_add_u8(&b, 0x01);
    buf_add_u16(&b, 0x0302);
    buf_add_u32(&b, 0x07060504);
    buf_add_u64(&b, UINT64_C(0x0f0e0d0c0b0a0908));
    assert_int_equal(b.len, 15);
    for (int i = 0; i < 15; i++) assert_int_equal(b.data[i], i + 1);

    struct reader r = reader_of(b.data, b.len);
    assert_int_equal(read_u8(&r), 0x01);
    assert_int_equal(read_u16(&r), 0x0302);
    assert_int_equal(read_u32(&r), 0x07060504);
    assert_true(read_u64(&r) == UINT64_C(0x0f0e0d0c0b0a0908));
    assert_false(r.failed);
    buf_release(&b);
}

static void reading_past_the_end_gives_zero_and_is_remembered(void **state) {
    (void)state;
    const uint8_t bytes[] = {1, 2, 3};
    struct reader r = reader_of(bytes, sizeof bytes);
    assert_int_equal(read_u16(&r), 0x0201);
    assert_int_equal(read_u16(&r), 0);
    assert_true(r.failed);
    assert_int_equal(read_u8(&r), 0); // would be there, but the position is no longer trusted

    r = reader_of(bytes, sizeof bytes);
    assert_null(read_bytes(&r, SIZE_MAX));
    assert_true(r.failed);

    r = reader_of(NULL, 0);
    assert_non_null(read_bytes(&r, 0));
    assert_false(r.failed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_up_to_its_bound_and_not_a_byte_more),
        cmocka_unit_test(stays_failed_until_it_is_cleared),
        cmocka_unit_test(a_huge_append_fails_instead_of_wrapping_round),
        cmocka_unit_test(nothing_is_a_valid_content),
        cmocka_unit_test(printing_respects_the_bound),
        cmocka_unit_test(consuming_drops_from_the_front),
        cmocka_unit_test(numbers_are_little_endian_and_read_back),
        cmocka_unit_test(reading_past_the_end_gives_zero_and_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
