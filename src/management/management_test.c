// What needs no server: paths, columns, order, binding keys, JSON to tables and back.
#include "base/test.h"

#include "management/bindings.h"
#include "management/call.h"
#include "management/json_table.h"
#include "management/out.h"
#include "management/routes.h"
#include "wire/properties.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 65536

static void a_path_fits_its_pattern_with_its_escapes(void **state) {
    (void)state;
    assert_true(manage_route_fits("/api/queues/{vhost}/{queue}", "/api/queues/%2F/a%2Fb"));
    assert_true(manage_route_fits("/api/queues/{vhost}/{queue}/get", "/api/queues/%2f/q/get"));
    assert_true(manage_route_fits("/api/bindings/{vhost}/e/{source}/q/{queue}", "/api/bindings/%2F/e//q/q"));
    assert_true(manage_route_fits("/api/queues", "/api/queues/"));
    assert_true(manage_route_fits("/api/queues/{vhost}", "/api/queues/%2F/"));
    assert_false(manage_route_fits("/api/queues/{vhost}/{queue}", "/api/queues/%2F/"));
    assert_false(manage_route_fits("/api/queues/{vhost}", "/api/queues/%2F/a"));
    assert_false(manage_route_fits("/api/queues", "/api/queues//"));
    assert_false(manage_route_fits("/api/queues/{vhost}/{queue}/get", "/api/queues/%2F/q/got"));
}

static void escapes_are_decoded_or_refused(void **state) {
    (void)state;
    char good[] = "%2Fa%20b+%c3%a9", damaged[] = "a%2", strange[] = "%zz", nul[] = "a%00b";
    assert_true(call_decode(good));
    assert_string_equal(good, "/a b+é");
    assert_false(call_decode(damaged));
    assert_false(call_decode(strange));
    assert_false(call_decode(nul));
}

// ---- writing --------------------------------------------------------------------------------------------

static void write_sample(struct out *o) {
    out_open(o, NULL, '{');
    out_text(o, "name", "q\n1");
    out_uint(o, "messages", 7);
    out_open(o, "message_stats", '{');
    out_count(o, "publish", 3, 1.5);
    out_count(o, "ack", 2, 0);
    out_close(o, '}');
    out_open(o, "tags", '[');
    out_text(o, NULL, "a");
    out_text(o, NULL, "b");
    out_close(o, ']');
    out_close(o, '}');
}

static char *sample(const char *wanted, const char *sort, struct sort_value *found) {
    struct columns columns;
    struct buf b;
    struct out o;
    buf_init(&b, TEXT_MAX);
    assert_true(columns_init(&columns, wanted));
    out_init(&o, &b, &columns);
    o.sort = sort;
    o.found = found;
    write_sample(&o);
    char *text = strdup(buf_cstr(&b));
    buf_release(&b);
    columns_release(&columns);
    return text;
}

static void only_columns_asked_for_are_written(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {NULL, "{\"name\":\"q\\n1\",\"messages\":7,\"message_stats\":{\"publish\":3,\"publish_details\":{\"rate\":1.5},"
               "\"ack\":2,\"ack_details\":{\"rate\":0.0}},\"tags\":[\"a\",\"b\"]}"},
        {"name", "{\"name\":\"q\\n1\"}"},
        {"messages,tags", "{\"messages\":7,\"tags\":[\"a\",\"b\"]}"},
        {"message_stats.publish_details.rate", "{\"message_stats\":{\"publish_details\":{\"rate\":1.5}}}"},
        {"message_stats.ack,name", "{\"name\":\"q\\n1\",\"message_stats\":{\"ack\":2}}"},
        {"nam", "{}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = sample(cases[i][0], NULL, NULL);
        assert_string_equal(text, cases[i][1]);
        free(text);
    }
}

static void the_column_sorted_by_is_found_though_it_is_not_written(void **state) {
    (void)state;
    struct sort_value number = {0}, text = {0}, nothing = {0};
    free(sample("name", "message_stats.publish_details.rate", &number));
    free(sample("messages", "name", &text));
    free(sample(NULL, "no.such", &nothing));
    assert_true(number.number == 1.5);
    assert_string_equal(text.text, "q\n1");
    assert_true(sort_value_compare(&nothing, &number) < 0);
    assert_true(sort_value_compare(&number, &text) < 0);
    sort_value_release(&text);
}

static void too_many_columns_are_refused(void **state) {
    (void)state;
    struct columns columns;
    char text[4 * OUT_COLUMNS_MAX] = "";
    for (size_t i = 0; i <= OUT_COLUMNS_MAX; i++) memcpy(text + 2 * i, "a,", 3);
    assert_false(columns_init(&columns, text));
    columns_release(&columns);
}

static void text_that_is_not_utf8_can_still_be_read(void **state) {
    (void)state;
    struct buf b;
    struct out o;
    buf_init(&b, TEXT_MAX);
    out_init(&o, &b, NULL);
    out_text(&o, NULL, "a\xff");
    json_t *v = json_loads(buf_cstr(&b), JSON_DECODE_ANY, NULL);
    assert_string_equal(json_string_value(v), "a\xef\xbf\xbd");
    json_decref(v);
    buf_release(&b);
}

// ---- tables ---------------------------------------------------------------------------------------------

static void json_comes_back_from_a_table_as_it_was(void **state) {
    (void)state;
    static const char text[] = "{\"n\":5,\"d\":0.5,\"b\":true,\"z\":null,\"s\":\"x\\u00e9\",\"a\":[1,\"two\",[]],"
                               "\"t\":{\"deep\":{\"er\":-1}},\"a\\\"b\":1}";
    json_t *v = json_loads(text, 0, NULL);
    struct buf table, b;
    struct error e;
    struct out o;
    buf_init(&table, TEXT_MAX);
    buf_init(&b, TEXT_MAX);
    assert_int_equal(json_to_table(v, &table, &e), ERR_OK);
    struct view entries = {table.data, (uint32_t)table.len};
    assert_true(table_check(entries));
    out_init(&o, &b, NULL);
    out_table(&o, NULL, entries);
    json_t *back = json_loads(buf_cstr(&b), 0, NULL);
    assert_true(json_equal(v, back));
    struct field f;
    assert_true(table_find(entries, "n", &f) && f.type == FIELD_I64);
    assert_true(table_find(entries, "d", &f) && f.type == FIELD_DOUBLE);
    assert_true(table_find(entries, "z", &f) && f.type == FIELD_VOID);
    json_decref(v);
    json_decref(back);
    buf_release(&table);
    buf_release(&b);
}

static void a_table_nested_too_deeply_is_refused(void **state) {
    (void)state;
    json_t *v = json_object();
    for (int i = 0; i < TABLE_DEPTH_MAX + 1; i++) v = json_pack("{s:o}", "t", v);
    struct buf table;
    struct error e;
    buf_init(&table, TEXT_MAX);
    assert_int_equal(json_to_table(v, &table, &e), ERR_INVALID);
    json_decref(v);
    buf_release(&table);
}

static void properties_keep_their_types_and_lose_bcc(void **state) {
    (void)state;
    json_t *v = json_loads("{\"delivery_mode\":2,\"priority\":\"3\",\"timestamp\":12,\"content_type\":\"text/plain\","
                           "\"headers\":{\"CC\":[\"a\"],\"BCC\":[\"b\"]}}",
                           0, NULL);
    struct buf b;
    struct error e;
    struct properties p;
    struct field f;
    buf_init(&b, TEXT_MAX);
    assert_int_equal(json_to_properties(v, &b, &e), ERR_OK);
    assert_true(properties_decode(&p, b.data, (uint32_t)b.len));
    assert_int_equal(p.delivery_mode, 2);
    assert_int_equal(p.priority, 3);
    assert_int_equal(p.timestamp, 12);
    assert_true(view_is(p.content_type, "text/plain"));
    assert_false(p.flags & PROPERTY_MESSAGE_ID);
    assert_true(table_find(p.headers, "CC", &f));
    assert_false(table_find(p.headers, "BCC", &f));
    json_decref(v);
    buf_release(&b);
}

static void properties_of_the_wrong_type_are_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {"{\"priority\":256}", "{\"delivery_mode\":\"two\"}", "{\"message_id\":7}",
                                        "{\"headers\":[1]}", "[1]"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        json_t *v = json_loads(wrong[i], 0, NULL);
        struct buf b;
        struct error e;
        buf_init(&b, TEXT_MAX);
        assert_int_equal(json_to_properties(v, &b, &e), ERR_INVALID);
        json_decref(v);
        buf_release(&b);
    }
}

static void a_binding_has_the_key_that_rabbitmq_would_give_it(void **state) {
    (void)state;
    char key[BINDING_KEY_MAX];
    static const char *const cases[][2] = {{"", "~"}, {"a.b", "a.b"}, {"a b/*~", "a+b%2F%2A%7E"}, {"é", "%C3%A9"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct binding_spec b = {.key = cases[i][0]};
        binding_key(&b, key);
        assert_string_equal(key, cases[i][1]);
    }
    const struct binding_spec with = {.key = "", .arguments = {(const uint8_t *)"x", 1}};
    binding_key(&with, key);
    assert_true(key[0] == '~' && strlen(key) == 9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_fits_its_pattern_with_its_escapes),
        cmocka_unit_test(escapes_are_decoded_or_refused),
        cmocka_unit_test(only_columns_asked_for_are_written),
        cmocka_unit_test(the_column_sorted_by_is_found_though_it_is_not_written),
        cmocka_unit_test(too_many_columns_are_refused),
        cmocka_unit_test(text_that_is_not_utf8_can_still_be_read),
        cmocka_unit_test(json_comes_back_from_a_table_as_it_was),
        cmocka_unit_test(a_table_nested_too_deeply_is_refused),
        cmocka_unit_test(properties_keep_their_types_and_lose_bcc),
        cmocka_unit_test(properties_of_the_wrong_type_are_refused),
        cmocka_unit_test(a_binding_has_the_key_that_rabbitmq_would_give_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
