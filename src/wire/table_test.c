// Field tables: every type as bytes and back, nesting, damage, comparing.
#include "wire/table.h"

#include "base/test.h"

#include <math.h>

#define TABLE(text) ((struct view){(const uint8_t *)(text), sizeof(text) - 1})

static struct view view_of_buf(const struct buf *b) { return (struct view){b->data, (uint32_t)b->len}; }

static struct field integer(enum field_type type, int64_t v) { return (struct field){.type = type, .integer = v}; }

// ---- one entry of each type, as it lies on the wire

struct sample {
    struct view wire; // the entry named "k"
    struct field field;
};
#define SAMPLE(bytes, ...)                                                                                             \
    {                                                                                                                  \
        TABLE("\1k" bytes), { __VA_ARGS__ }                                                                            \
    }

static const struct sample SAMPLES[] = {
    SAMPLE("t\0", .type = FIELD_BOOL, .integer = 0),
    SAMPLE("t\1", .type = FIELD_BOOL, .integer = 1),
    SAMPLE("b\x80", .type = FIELD_I8, .integer = -128),
    SAMPLE("B\xff", .type = FIELD_U8, .integer = 255),
    SAMPLE("s\x80\0", .type = FIELD_I16, .integer = -32768),
    SAMPLE("u\xff\xfe", .type = FIELD_U16, .integer = 65534),
    SAMPLE("I\xff\xff\xff\xfe", .type = FIELD_I32, .integer = -2),
    SAMPLE("i\xff\xff\xff\xfe", .type = FIELD_U32, .integer = 4294967294),
    SAMPLE("l\xff\xff\xff\xff\xff\xff\xff\xfd", .type = FIELD_I64, .integer = -3),
    SAMPLE("f\x3f\xc0\0\0", .type = FIELD_FLOAT, .real = 1.5),
    SAMPLE("d\xc0\x04\0\0\0\0\0\0", .type = FIELD_DOUBLE, .real = -2.5),
    SAMPLE("D\2\0\0\1\x3a", .type = FIELD_DECIMAL, .scale = 2, .integer = 314),
    SAMPLE("S\0\0\0\3abc", .type = FIELD_STRING, .bytes = TABLE("abc")),
    SAMPLE("S\0\0\0\0", .type = FIELD_STRING, .bytes = TABLE("")),
    SAMPLE("x\0\0\0\2\0\xff", .type = FIELD_BYTES, .bytes = TABLE("\0\xff")),
    SAMPLE("A\0\0\0\3Vt\1", .type = FIELD_ARRAY, .bytes = TABLE("Vt\1")),
    SAMPLE("T\0\0\0\0\x65\x92\0\x80", .type = FIELD_TIMESTAMP, .integer = 0x65920080),
    SAMPLE("F\0\0\0\4\1atx", .type = FIELD_TABLE, .bytes = TABLE("\1atx")),
    SAMPLE("V", .type = FIELD_VOID),
};
#define N_SAMPLES (sizeof SAMPLES / sizeof *SAMPLES)

static void assert_same_field(const struct field *a, const struct field *b) {
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->integer, b->integer);
    assert_int_equal(a->scale, b->scale);
    assert_true(a->real == b->real);
    assert_int_equal(a->bytes.length, b->bytes.length);
    if (a->bytes.length > 0) assert_memory_equal(a->bytes.data, b->bytes.data, a->bytes.length);
}

static void every_type_is_read(void **state) {
    (void)state;
    for (size_t i = 0; i < N_SAMPLES; i++) {
        struct table_cursor c = table_begin(SAMPLES[i].wire);
        struct view name;
        struct field f;
        assert_true(table_check(SAMPLES[i].wire));
        assert_true(table_next(&c, &name, &f));
        assert_true(view_is(name, "k"));
        assert_same_field(&f, &SAMPLES[i].field);
        assert_false(table_next(&c, &name, &f));
    }
}

static void every_type_is_written(void **state) {
    (void)state;
    for (size_t i = 0; i < N_SAMPLES; i++) {
        struct buf b;
        buf_init(&b, 1000);
        table_put(&b, view_of("k"), &SAMPLES[i].field);
        assert_true(buf_ok(&b));
        assert_int_equal(b.len, SAMPLES[i].wire.length);
        assert_memory_equal(b.data, SAMPLES[i].wire.data, b.len);
        buf_release(&b);
    }
}

static void any_byte_but_zero_is_true_and_L_is_l(void **state) {
    (void)state;
    struct field f;
    assert_true(table_find(TABLE("\1kt\2"), "k", &f));
    assert_int_equal(f.integer, 1);
    assert_true(table_find(TABLE("\1kL\xff\xff\xff\xff\xff\xff\xff\xff"), "k", &f));
    assert_int_equal(f.type, FIELD_I64);
    assert_int_equal(f.integer, -1);
}

static void cut_short_anywhere_it_is_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < N_SAMPLES; i++)
        for (uint32_t n = 1; n < SAMPLES[i].wire.length; n++) {
            uint8_t *exact = malloc(n); // so that a sanitizer sees a step too far
            memcpy(exact, SAMPLES[i].wire.data, n);
            assert_false(table_check((struct view){exact, n}));
            struct table_cursor c = table_begin((struct view){exact, n});
            struct view name;
            struct field f;
            assert_false(table_next(&c, &name, &f));
            free(exact);
        }
    assert_true(table_check(TABLE("")));
    assert_true(table_check((struct view){0}));
}

static void what_lies_inside_is_checked_too(void **state) {
    (void)state;
    assert_false(table_check(TABLE("\1k?")));
    assert_false(table_check(TABLE("\1kZ\0\0\0\0")));
    assert_false(table_check(TABLE("\1kS\xff\xff\xff\xff")));
    assert_false(table_check(TABLE("\1kF\0\0\0\3\1at"))); // the table inside is too short
    assert_false(table_check(TABLE("\1kA\0\0\0\2V?")));   // no such type in the array
    assert_false(table_check(TABLE("\1kA\0\0\0\x09"
                                   "F\0\0\0\4\1at"))); // longer than what is left
    assert_false(table_check(TABLE("\1kA\0\0\0\x0e"
                                   "F\0\0\0\x09\1bS\0\0\0\3xy"))); // a string inside a table inside an array
    assert_true(table_check(TABLE("\1kA\0\0\0\x0e"
                                  "F\0\0\0\x09\1bS\0\0\0\2xy")));
}

// A table of `depth` tables in each other, the outermost counted.
static void put_nested(struct buf *b, int depth) {
    size_t starts[64];
    for (int i = 1; i < depth; i++) starts[i] = i % 2 ? table_put_array(b, "n") : array_put_table(b);
    while (--depth > 0) table_end(b, starts[depth]);
}

static void nesting_has_a_bound(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 10000);
    put_nested(&b, TABLE_DEPTH_MAX);
    assert_true(table_check(view_of_buf(&b)));
    buf_clear(&b);
    put_nested(&b, TABLE_DEPTH_MAX + 1);
    assert_false(table_check(view_of_buf(&b)));
    buf_release(&b);
}

// ---- writing and looking up

static void what_is_put_is_found(void **state) {
    (void)state;
    struct buf b;
    struct field f, inner;
    buf_init(&b, 10000);
    size_t whole = table_start(&b);
    table_put_text(&b, "text", "hello");
    table_put_integer(&b, "integer", -5);
    table_put_bool(&b, "bool", true);
    size_t t = table_put_table(&b, "table");
    table_put_bool(&b, "inside", false);
    table_end(&b, t);
    size_t a = table_put_array(&b, "array");
    for (int i = 0; i < 3; i++) {
        size_t in_array = array_put_table(&b);
        table_put_integer(&b, "i", i);
        table_end(&b, in_array);
    }
    array_put(&b, &(struct field){.type = FIELD_STRING, .bytes = view_of("last")});
    table_end(&b, a);
    table_end(&b, whole);
    assert_true(buf_ok(&b));

    struct view table = {b.data + 4, (uint32_t)b.len - 4};
    assert_memory_equal(b.data, ((uint8_t[]){0, 0, 0, (uint8_t)table.length}), 4);
    assert_true(table_check(table));
    assert_true(table_find(table, "text", &f) && f.type == FIELD_STRING && view_is(f.bytes, "hello"));
    int64_t v;
    assert_true(table_find(table, "integer", &f) && field_integer(&f, &v) && v == -5);
    assert_true(table_find(table, "bool", &f) && f.type == FIELD_BOOL && f.integer == 1);
    assert_false(field_integer(&f, &v));
    assert_true(table_find(table, "table", &f) && table_find(f.bytes, "inside", &inner) && inner.integer == 0);
    assert_false(table_find(table, "inside", &f));
    assert_false(table_find(table, "arra", &f));
    assert_true(table_find(table, "array", &f) && f.type == FIELD_ARRAY);
    struct table_cursor c = table_begin(f.bytes);
    for (int i = 0; i < 3; i++) {
        assert_true(array_next(&c, &f) && f.type == FIELD_TABLE && table_find(f.bytes, "i", &inner));
        assert_int_equal(inner.integer, i);
    }
    assert_true(array_next(&c, &f) && view_is(f.bytes, "last"));
    assert_false(array_next(&c, &f));
    buf_release(&b);
}

static void timestamps_and_bools_are_no_integers(void **state) {
    (void)state;
    int64_t v;
    static const enum field_type yes[] = {FIELD_I8, FIELD_U8, FIELD_I16, FIELD_U16, FIELD_I32, FIELD_U32, FIELD_I64};
    static const enum field_type no[] = {FIELD_BOOL, FIELD_TIMESTAMP, FIELD_DECIMAL, FIELD_DOUBLE, FIELD_STRING};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        struct field f = integer(yes[i], 7);
        assert_true(field_integer(&f, &v) && v == 7);
    }
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
        struct field f = integer(no[i], 7);
        assert_false(field_integer(&f, &v));
    }
}

static void too_long_a_name_fails_the_buffer(void **state) {
    (void)state;
    char name[257];
    memset(name, 'n', 256);
    name[256] = 0;
    struct buf b;
    buf_init(&b, 1000);
    assert_false(wire_short_string(&b, view_of(name)));
    assert_true(buf_ok(&b) && b.len == 0);
    table_put_bool(&b, name, true);
    assert_false(buf_ok(&b));
    buf_clear(&b);
    table_put_bool(&b, name + 1, true);
    assert_true(buf_ok(&b) && table_check(view_of_buf(&b)));
    buf_release(&b);
}

static void a_full_buffer_is_no_harm(void **state) {
    (void)state;
    for (size_t max = 0; max < 24; max++) {
        struct buf b;
        buf_init(&b, max);
        size_t t = table_put_table(&b, "table");
        table_put_integer(&b, "i", 1);
        table_end(&b, t);
        assert_int_equal(buf_ok(&b), max >= 22);
        buf_release(&b);
    }
}

// ---- comparing

static void fields_are_compared_by_value(void **state) {
    (void)state;
    struct field a = integer(FIELD_I8, 5), b = integer(FIELD_U32, 5), c = integer(FIELD_I64, 6);
    assert_true(field_equal(&a, &b));
    assert_false(field_equal(&a, &c));
    struct field boolean = integer(FIELD_BOOL, 1), one = integer(FIELD_I32, 1), time = integer(FIELD_TIMESTAMP, 1);
    assert_false(field_equal(&boolean, &one));
    assert_false(field_equal(&time, &one));
    struct field half = {.type = FIELD_FLOAT, .real = .5}, also = {.type = FIELD_DOUBLE, .real = .5};
    assert_true(field_equal(&half, &also));
    struct field nan = {.type = FIELD_FLOAT, .real = NAN}, other_nan = {.type = FIELD_DOUBLE, .real = -NAN};
    assert_true(field_equal(&nan, &other_nan));
    assert_false(field_equal(&nan, &half));
    struct field text = {.type = FIELD_STRING, .bytes = TABLE("x")}, bytes = {.type = FIELD_BYTES, .bytes = TABLE("x")};
    assert_false(field_equal(&text, &bytes));
    struct field d1 = {.type = FIELD_DECIMAL, .scale = 1, .integer = 10},
                 d2 = {.type = FIELD_DECIMAL, .scale = 2, .integer = 10};
    assert_false(field_equal(&d1, &d2));
    for (size_t i = 0; i < N_SAMPLES; i++)
        for (size_t k = 0; k < N_SAMPLES; k++)
            assert_int_equal(field_equal(&SAMPLES[i].field, &SAMPLES[k].field), i == k);
}

static void tables_are_equal_in_any_order(void **state) {
    (void)state;
    struct view ab = TABLE("\1at\1\1bI\0\0\0\5"), ba = TABLE("\1bB\5\1at\1");
    assert_true(table_equal(ab, ba));
    assert_true(table_equal(ab, ab));
    assert_true(table_equal((struct view){0}, TABLE("")));
    assert_false(table_equal(ab, TABLE("\1at\1")));
    assert_false(table_equal(ab, TABLE("\1at\1\1bB\6")));
    assert_false(table_equal(ab, TABLE("\1at\1\2bbB\5")));
    assert_false(table_equal(TABLE("\1aV\1aV\1bV"), TABLE("\1aV\1bV\1bV"))); // as many, but not the same
    // an array's order counts, its tables' does not
    assert_true(table_equal(TABLE("\1kA\0\0\0\x0b"
                                  "F\0\0\0\6\1aV\1bV"),
                            TABLE("\1kA\0\0\0\x0b"
                                  "F\0\0\0\6\1bV\1aV")));
    assert_false(table_equal(TABLE("\1kA\0\0\0\4t\1t\0"), TABLE("\1kA\0\0\0\4t\0t\1")));
    assert_false(table_equal(TABLE("\1kA\0\0\0\4t\1t\0"), TABLE("\1kA\0\0\0\2t\1")));
    assert_false(table_equal(TABLE("\1kA\0\0\0\2t\1"), TABLE("\1kA\0\0\0\4t\1t\0")));
}

// More entries than any client sends, and still at once.
static void large_tables_are_compared(void **state) {
    (void)state;
    enum { N = 20000 };
    struct buf a, b;
    char name[16];
    buf_init(&a, 1 << 20);
    buf_init(&b, 1 << 20);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "%d", i);
        table_put_integer(&a, name, i);
        snprintf(name, sizeof name, "%d", N - 1 - i);
        table_put_integer(&b, name, N - 1 - i);
    }
    assert_true(table_equal(view_of_buf(&a), view_of_buf(&b)));
    b.data[b.len - 1] ^= 1;
    assert_false(table_equal(view_of_buf(&a), view_of_buf(&b)));
    buf_release(&a);
    buf_release(&b);
}

static void views(void **state) {
    (void)state;
    assert_true(view_is(view_of("abc"), "abc"));
    assert_false(view_is(view_of("abc"), "ab"));
    assert_false(view_is(view_of("ab"), "abc"));
    assert_null(view_of(NULL).data);
    assert_true(view_is(view_of(NULL), ""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_read),
        cmocka_unit_test(every_type_is_written),
        cmocka_unit_test(any_byte_but_zero_is_true_and_L_is_l),
        cmocka_unit_test(cut_short_anywhere_it_is_refused),
        cmocka_unit_test(what_lies_inside_is_checked_too),
        cmocka_unit_test(nesting_has_a_bound),
        cmocka_unit_test(what_is_put_is_found),
        cmocka_unit_test(timestamps_and_bools_are_no_integers),
        cmocka_unit_test(too_long_a_name_fails_the_buffer),
        cmocka_unit_test(a_full_buffer_is_no_harm),
        cmocka_unit_test(fields_are_compared_by_value),
        cmocka_unit_test(tables_are_equal_in_any_order),
        cmocka_unit_test(large_tables_are_compared),
        cmocka_unit_test(views),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
