// Headers exchanges: which bindings a message's headers satisfy.
#include "engine/table_test.h"

#include "engine/headers_match.h"

static struct view headers(void) {
    struct buf *b = table_fresh();
    table_put_text(b, "format", "pdf");
    table_put_integer(b, "pages", 3);
    table_put_text(b, "x-origin", "scan");
    table_put_bool(b, "signed", true);
    return view_of_buf(b);
}

static struct buf *arguments(const char *match) {
    struct buf *b = table_fresh();
    if (match) table_put_text(b, "x-match", match);
    return b;
}

static bool matches(const struct buf *b, struct view table) {
    struct headers h;
    headers_init(&h, table);
    bool yes = headers_match(view_of_buf(b), &h);
    headers_release(&h);
    return yes;
}

static void all_wants_every_header(void **state) {
    for (int stated = 0; stated < 2; stated++) {
        struct buf *b = arguments(stated ? "all" : NULL);
        assert_true(matches(b, headers()));
        table_put_text(b, "format", "pdf");
        assert_true(matches(b, headers()));
        table_put_integer(b, "pages", 4);
        assert_false(matches(b, headers()));
    }
}

static void any_wants_one(void **state) {
    struct buf *b = arguments("any");
    assert_false(matches(b, headers())); // there is none to want
    table_put_text(b, "format", "zip");
    assert_false(matches(b, headers()));
    table_put_integer(b, "pages", 3);
    assert_true(matches(b, headers()));
    assert_false(matches(b, (struct view){0}));
}

static void x_headers_count_only_when_asked_for(void **state) {
    static const struct {
        const char *match, *origin;
        bool matches;
    } cases[] = {{"all", "other", true},       {"any", "scan", false},       {"all-with-x", "other", false},
                 {"all-with-x", "scan", true}, {"any-with-x", "scan", true}, {"any-with-x", "other", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf *b = arguments(cases[i].match);
        table_put_text(b, "x-origin", cases[i].origin);
        assert_int_equal(matches(b, headers()), cases[i].matches);
    }
}

static void void_asks_for_presence(void **state) {
    struct field nothing = {.type = FIELD_VOID};
    struct buf *b = arguments("all");
    table_put(b, view_of("format"), &nothing);
    assert_true(matches(b, headers()));
    table_put(b, view_of("absent"), &nothing);
    assert_false(matches(b, headers()));
}

static void values_are_compared_by_kind(void **state) {
    struct buf *b = arguments("all");
    struct field narrow = {.type = FIELD_U8, .integer = 3};
    table_put(b, view_of("pages"), &narrow);
    assert_true(matches(b, headers()));
    b = arguments("all");
    table_put_text(b, "pages", "3");
    assert_false(matches(b, headers()));
}

static void put_many(struct buf *b, const char *prefix, int n) {
    char name[32];
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%s%d", prefix, i);
        table_put_integer(b, name, i);
    }
}

// Each against each, this would take minutes.
static void tens_of_thousands_do_not_hold_anybody_up(void **state) {
    struct buf wanted, table;
    buf_init(&wanted, SIZE_MAX);
    buf_init(&table, SIZE_MAX);
    put_many(&table, "h", 30000);
    table_put_text(&table, "h7", "a second of that name does not count");
    table_put_text(&wanted, "x-match", "any");
    put_many(&wanted, "other", 30000);
    for (int i = 0; i < 50; i++) assert_false(matches(&wanted, view_of_buf(&table)));
    table_put_integer(&wanted, "h7", 7);
    assert_true(matches(&wanted, view_of_buf(&table)));
    buf_release(&wanted);
    buf_release(&table);
}

static void an_unknown_word_is_refused(void **state) {
    struct error e;
    assert_int_equal(headers_match_check(view_of_buf(arguments("any-with-x")), &e), ERR_OK);
    assert_int_equal(headers_match_check(view_of_buf(arguments(NULL)), &e), ERR_OK);
    assert_int_equal(headers_match_check(view_of_buf(arguments("some")), &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "'some'"));
    struct buf *b = table_fresh();
    table_put_integer(b, "x-match", 1);
    assert_int_equal(headers_match_check(view_of_buf(b), &e), ERR_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_wants_every_header),
        cmocka_unit_test(any_wants_one),
        cmocka_unit_test(x_headers_count_only_when_asked_for),
        cmocka_unit_test(void_asks_for_presence),
        cmocka_unit_test(values_are_compared_by_kind),
        cmocka_unit_test(tens_of_thousands_do_not_hold_anybody_up),
        cmocka_unit_test(an_unknown_word_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
