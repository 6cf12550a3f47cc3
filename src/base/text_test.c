// Small conversions: UTF-8, hexadecimal, times, constant-time comparison, error names.
#include "base/constant_time.h"
#include "base/error.h"
#include "base/hex.h"
#include "base/test.h"
#include "base/time.h"
#include "base/utf8.h"

static bool valid(const char *s) { return utf8_valid(s, strlen(s)); }

static void utf8_accepts_the_ends_of_every_range(void **state) {
    (void)state;
    static const char *const good[] = {
        "",
        "plain ascii, longer than one word of eight bytes",
        "\x7f",
        "\xc2\x80",
        "\xdf\xbf",
        "\xe0\xa0\x80",
        "\xed\x9f\xbf",
        "\xee\x80\x80",
        "\xef\xbf\xbf",
        "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf",
        "1234567\xc3\xa9 2345678\xf0\x9f\x93\xae",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_true(valid(good[i]));
    assert_true(utf8_valid("a\0b", 3));
}

static void what_was_cut_within_a_letter_ends_before_it(void **state) {
    (void)state;
    static const char text[] = "a\xc3\xa9\xf0\x9f\x93\xae"; // letters of one, two and four bytes
    static const size_t whole[] = {0, 1, 1, 3, 3, 3, 3, 7};
    for (size_t n = 0; n < sizeof text; n++) assert_int_equal(utf8_whole(text, n), whole[n]);
    assert_int_equal(utf8_whole("\xff"
                                "abcd",
                                5),
                     5); // no text at all
}

static void utf8_refuses_what_only_looks_like_it(void **state) {
    (void)state;
    static const char *const bad[] = {
        "\x80",             // a continuation alone
        "\xbf",             //
        "\xc0\x80",         // NUL in two bytes
        "\xc1\xbf",         // overlong
        "\xc2",             // cut short
        "\xc2 ",            //
        "\xe0\x9f\xbf",     // overlong
        "\xe2\x82",         // cut short
        "\xed\xa0\x80",     // surrogates
        "\xed\xbf\xbf",     //
        "\xf0\x8f\xbf\xbf", // overlong
        "\xf0\x9f\x93",     // cut short
        "\xf4\x90\x80\x80", // above U+10FFFF
        "\xf5\x80\x80\x80", //
        "\xfe",
        "\xff",
        "12345678\xff",
        "1234567\xe2\x82 2345678",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(valid(bad[i]));
}

// Every code point, encoded here from the definition, at every distance from a word boundary.
static void utf8_agrees_with_the_definition_on_every_code_point(void **state) {
    (void)state;
    for (uint32_t c = 0x80; c <= 0x110010; c++) {
        uint8_t s[16] = "abcdefgh";
        size_t at = c % 8, n;
        if (c < 0x800) {
            s[at] = (uint8_t)(0xC0 | c >> 6);
            n = 2;
        } else if (c < 0x10000) {
            s[at] = (uint8_t)(0xE0 | c >> 12);
            n = 3;
        } else {
            s[at] = (uint8_t)(0xF0 | c >> 18);
            n = 4;
        }
        for (size_t i = 1; i < n; i++) s[at + i] = (uint8_t)(0x80 | (c >> (6 * (n - 1 - i)) & 0x3F));
        bool real = c <= 0x10FFFF && !(c >= 0xD800 && c <= 0xDFFF);
        if (utf8_valid(s, at + n) != real) fail_msg("U+%04X", c);
        if (utf8_valid(s, at + n - 1)) fail_msg("U+%04X cut short", c);
    }
}

static void hex_goes_there_and_back(void **state) {
    (void)state;
    const uint8_t bytes[] = {0x00, 0x0f, 0xf0, 0xff, 0x5a};
    char text[11];
    uint8_t back[5];
    hex_encode(bytes, 5, text);
    assert_string_equal(text, "000ff0ff5a");
    assert_true(hex_decode(text, 10, back, 5));
    assert_memory_equal(bytes, back, 5);
    assert_true(hex_decode("000FF0ff5A", 10, back, 5));
    assert_memory_equal(bytes, back, 5);
    assert_false(hex_decode(text, 9, back, 5));
    assert_false(hex_decode(text, 8, back, 5));
    assert_false(hex_decode(text, 10, back, 4));
    assert_false(hex_decode("000ff0ff5g", 10, back, 5));
    assert_true(hex_decode("", 0, back, 0));
}

static void times_are_written_as_rfc_3339(void **state) {
    (void)state;
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {-1, "1969-12-31T23:59:59.999Z"},
        {951782400000, "2000-02-29T00:00:00.000Z"},
        {951868799999, "2000-02-29T23:59:59.999Z"},
        {951868800000, "2000-03-01T00:00:00.000Z"},
        {1795237567089, "2026-11-21T05:06:07.089Z"},
        {4107542400000, "2100-03-01T00:00:00.000Z"},
        {INT64_MAX, "9999-12-31T23:59:59.999Z"},
        {INT64_MIN, "0000-01-01T00:00:00.000Z"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[TIME_TEXT];
        time_format_ms(cases[i].ms, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void every_day_of_400_years_reads_back(void **state) {
    (void)state;
    for (int64_t day = -146097 / 2; day < 146097 / 2; day++) {
        char text[TIME_TEXT];
        int64_t ms = day * 86400000 + 12345678, back;
        time_format_ms(ms, text);
        assert_true(time_parse_ms(text, 24, &back));
        assert_true(back == ms);
    }
}

static void times_are_read_in_all_forms_of_rfc_3339_and_no_other(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {
        {"2026-11-21T05:06:07Z", 1795237567000},          {"2026-11-21t05:06:07.0z", 1795237567000},
        {"2026-11-21T05:06:07.0899999Z", 1795237567089},  {"2026-11-21T07:36:07.089+02:30", 1795237567089},
        {"2026-11-20T21:06:07.089-08:00", 1795237567089}, {"2016-12-31T23:59:60Z", 1483228800000},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t ms = 0;
        if (!time_parse_ms(good[i].text, strlen(good[i].text), &ms) || ms != good[i].ms) fail_msg("%s", good[i].text);
    }
    static const char *const bad[] = {
        "",
        "2026-11-21",
        "2026-11-21T05:06:07",
        "2026-11-21T05:06:07.Z",
        "2026-11-21 05:06:07Z",
        "2026-02-29T05:06:07Z",
        "2026-13-01T05:06:07Z",
        "2026-00-01T05:06:07Z",
        "2026-11-31T05:06:07Z",
        "2026-11-00T05:06:07Z",
        "2026-11-21T24:06:07Z",
        "2026-11-21T05:60:07Z",
        "2026-11-21T05:06:61Z",
        "2026-11-21T05:06:07+24:00",
        "2026-11-21T05:06:07ZZ",
        "+026-11-21T05:06:07Z",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t ms;
        if (time_parse_ms(bad[i], strlen(bad[i]), &ms)) fail_msg("%s", bad[i]);
    }
}

static void secrets_compare_by_content(void **state) {
    (void)state;
    assert_true(constant_time_equal("same", "same", 4));
    assert_false(constant_time_equal("same", "sama", 4));
    assert_false(constant_time_equal("same", "tame", 4));
    assert_true(constant_time_equal("a", "b", 0));
}

static void errors_have_stable_names_and_sentences(void **state) {
    (void)state;
    assert_string_equal(err_name(ERR_OK), "ok");
    assert_string_equal(err_name(ERR_NOT_FOUND), "not_found");
    assert_string_equal(err_text(ERR_NOT_FOUND), "not found");
    for (int i = 0; i < ERR_COUNT; i++)
        assert_true(strlen(err_name((enum err)i)) > 0 && strlen(err_text((enum err)i)) > 0);

    struct error e;
    assert_int_equal(error_set(&e, ERR_IO, "disk %d", 7), ERR_IO);
    assert_int_equal(e.code, ERR_IO);
    assert_string_equal(e.text, "disk 7");
    assert_string_equal(e.field, "");
    assert_int_equal(error_field(&e, "message_text", "must not be empty"), ERR_INVALID);
    assert_string_equal(e.field, "message_text");
    assert_int_equal(error_set(NULL, ERR_BUSY, "nobody reads this"), ERR_BUSY);
    assert_int_equal(error_field(NULL, "f", "nor this"), ERR_INVALID);

    char longer[1000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    error_field(&e, longer, "%s", longer);
    assert_int_equal(strlen(e.text), ERROR_TEXT_MAX - 1);
    assert_int_equal(strlen(e.field), sizeof e.field - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_accepts_the_ends_of_every_range),
        cmocka_unit_test(utf8_refuses_what_only_looks_like_it),
        cmocka_unit_test(what_was_cut_within_a_letter_ends_before_it),
        cmocka_unit_test(utf8_agrees_with_the_definition_on_every_code_point),
        cmocka_unit_test(hex_goes_there_and_back),
        cmocka_unit_test(times_are_written_as_rfc_3339),
        cmocka_unit_test(every_day_of_400_years_reads_back),
        cmocka_unit_test(times_are_read_in_all_forms_of_rfc_3339_and_no_other),
        cmocka_unit_test(secrets_compare_by_content),
        cmocka_unit_test(errors_have_stable_names_and_sentences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
