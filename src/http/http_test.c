// The parts of the door that need no socket: routes, JSON both ways, ranges, dispositions, origins, limits.
#include "base/test.h"

#include "http/disposition.h"
#include "http/json_in.h"
#include "http/json_out.h"
#include "http/limits.h"
#include "http/range.h"
#include "http/routes.h"
#include "http/upgrade.h"

#include "chat/chat.h"

#include <stdlib.h>
#include <string.h>

static const struct route *find(const char *method, const char *path, char *param, char *allow) {
    return route_find(method, path, param, allow, 64);
}

static void a_path_finds_its_route_and_parameter(void **state) {
    (void)state;
    char param[ROUTE_PARAM_MAX], allow[64];
    const struct route *r = find("GET", "/message/abc/media", param, allow);
    assert_non_null(r);
    assert_string_equal(r->pattern, "/message/{message_id}/media");
    assert_string_equal(param, "abc");
    assert_string_equal(find("POST", "/mailbox/ack", param, allow)->pattern, "/mailbox/ack");
    assert_string_equal(find("HEAD", "/healthz", param, allow)->pattern, "/healthz");
}

static void an_unknown_path_has_no_methods(void **state) {
    (void)state;
    char param[ROUTE_PARAM_MAX], allow[64];
    static const char *const unknown[] = {
        "/nowhere", "/users/", "/message//media", "/message/a/b/media", "/conversationx", "/mailbox/ack/", ""};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        assert_null(find("GET", unknown[i], param, allow));
        assert_string_equal(allow, "");
    }
}

static void a_wrong_method_is_told_the_right_ones(void **state) {
    (void)state;
    char param[ROUTE_PARAM_MAX], allow[64];
    assert_null(find("PUT", "/conversation/x", param, allow));
    assert_string_equal(allow, "GET, HEAD, POST");
    assert_null(find("GET", "/sessions", param, allow));
    assert_string_equal(allow, "POST");
}

static void a_parameter_too_long_is_no_route(void **state) {
    (void)state;
    char path[400] = "/users/", param[ROUTE_PARAM_MAX], allow[64];
    memset(path + 7, 'a', 300);
    assert_null(find("GET", path, param, allow));
}

static void written_json_is_read_back(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 4096);
    const char text[] = "q\"b\\n\nt\tu\x01 \xc3\xa9";
    json_open(&b, NULL, '{');
    json_text(&b, "text", text);
    json_uint(&b, "n", 18446744073709551615u);
    json_uint(&b, "zero", 0);
    json_flag(&b, "yes", true);
    json_open(&b, "list", '[');
    json_text(&b, NULL, "{");
    json_text(&b, NULL, "");
    json_close(&b, ']');
    json_open(&b, "empty", '{');
    json_close(&b, '}');
    json_text_opt(&b, "missing", NULL);
    json_close(&b, '}');
    assert_string_equal(buf_cstr(&b),
                        "{\"text\":\"q\\\"b\\\\n\\nt\\tu\\u0001 \xc3\xa9\",\"n\":18446744073709551615,\"zero\":0,"
                        "\"yes\":true,\"list\":[\"{\",\"\"],\"empty\":{}}");
    buf_clear(&b);
    json_open(&b, NULL, '{');
    json_text(&b, "text", text);
    json_close(&b, '}');
    struct error e;
    json_t *o = json_in_parse(b.data, b.len, &e);
    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "text")), text);
    json_decref(o);
    buf_release(&b);
}

static void times_and_ids_are_written_as_people_know_them(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 4096);
    struct id id;
    assert_true(id_parse("01a1fc89-0e8c-7b5f-802c-cbf320ac1d3d", 36, &id));
    json_open(&b, NULL, '{');
    json_time(&b, "at", 1);
    json_id(&b, "id", &id);
    json_hex(&b, "hex", (const uint8_t *)"\x00\xff", 2);
    json_close(&b, '}');
    assert_string_equal(buf_cstr(&b), "{\"at\":\"1970-01-01T00:00:00.001Z\","
                                      "\"id\":\"01a1fc89-0e8c-7b5f-802c-cbf320ac1d3d\",\"hex\":\"00ff\"}");
    buf_release(&b);
}

static json_t *parse(const char *text) {
    struct error e;
    return json_in_parse(text, strlen(text), &e);
}

static void only_one_sound_object_is_taken(void **state) {
    (void)state;
    static const char *const bad[] = {
        "", "{", "[]", "1", "{\"a\":1,\"a\":2}", "{} {}", "{\"a\":\"\\u0000\"}", "{'a':1}", "{\"a\":\"\xff\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_null(parse(bad[i]));
}

static void expect_send_error(const char *json, const char *field) {
    json_t *o = parse(json);
    assert_non_null(o);
    struct chat_send m = {0};
    struct error e;
    assert_false(json_in_send(o, &m, &e));
    assert_int_equal(e.code, ERR_INVALID);
    assert_string_equal(e.field, field);
    json_decref(o);
}

#define UUID "\"message_id\":\"01a1fc89-0e8c-7b5f-802c-cbf320ac1d3d\""

static void a_send_names_the_field_that_is_wrong(void **state) {
    (void)state;
    expect_send_error("{}", "message_id");
    expect_send_error("{\"message_id\":5}", "message_id");
    expect_send_error("{\"message_id\":\"x\"}", "message_id");
    expect_send_error("{" UUID "}", "by_user_id");
    expect_send_error("{" UUID ",\"by_user_id\":\"a\"}", "message_text");
    expect_send_error("{" UUID ",\"by_user_id\":\"a\",\"message_text\":true}", "message_text");
    expect_send_error("{" UUID ",\"by_user_id\":\"a\",\"message_text\":\"x\",\"media\":\"y\"}", "media");
    expect_send_error("{" UUID ",\"by_user_id\":\"a\",\"message_text\":\"x\",\"created_at\":\"noon\"}", "created_at");
}

static void a_send_is_read_whole(void **state) {
    (void)state;
    json_t *o = parse("{" UUID ",\"by_user_id\":\"a\",\"message_text\":\"salam\","
                      "\"created_at\":\"1970-01-01T00:00:01Z\",\"unknown\":[]}");
    struct chat_send m = {0};
    struct error e;
    assert_true(json_in_send(o, &m, &e));
    assert_string_equal(m.by_user_id, "a");
    assert_string_equal(m.text, "salam");
    assert_int_equal(m.text_length, 5);
    assert_int_equal(m.created_at_ms, 1000);
    assert_null(m.ticket);
    json_decref(o);
}

static void ranges_are_cut_to_the_content(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t total;
        enum range want;
        uint64_t first, last;
    } cases[] = {
        {"bytes=0-0", 10, RANGE_PART, 0, 0},          {"bytes=2-5", 10, RANGE_PART, 2, 5},
        {"bytes=2-", 10, RANGE_PART, 2, 9},           {"bytes=2-99", 10, RANGE_PART, 2, 9},
        {"bytes=-3", 10, RANGE_PART, 7, 9},           {"bytes=-30", 10, RANGE_PART, 0, 9},
        {"bytes=10-", 10, RANGE_UNSATISFIABLE, 0, 0}, {"bytes=-0", 10, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=0-", 0, RANGE_UNSATISFIABLE, 0, 0},   {"bytes=5-2", 10, RANGE_WHOLE, 0, 0},
        {"bytes=0-1,4-5", 10, RANGE_WHOLE, 0, 0},     {"bytes=99999999999999999999-", 10, RANGE_WHOLE, 0, 0},
        {"bytes=a-b", 10, RANGE_WHOLE, 0, 0},         {"bytes=", 10, RANGE_WHOLE, 0, 0},
        {"lines=0-1", 10, RANGE_WHOLE, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t first = 0, last = 0;
        assert_int_equal(range_parse(cases[i].text, cases[i].total, &first, &last), cases[i].want);
        if (cases[i].want != RANGE_PART) continue;
        assert_int_equal(first, cases[i].first);
        assert_int_equal(last, cases[i].last);
    }
}

static void expect_disposition(const char *type, const char *name, const char *want) {
    struct buf b;
    buf_init(&b, 4096);
    disposition_write(&b, type, name);
    assert_string_equal(buf_cstr(&b), want);
    buf_release(&b);
}

static void only_harmless_types_are_shown_in_place(void **state) {
    (void)state;
    assert_true(disposition_inline("image/png"));
    assert_true(disposition_inline("Text/Plain; charset=utf-8"));
    assert_false(disposition_inline("text/html"));
    assert_false(disposition_inline("image/svg+xml"));
    assert_false(disposition_inline("image/pngx"));
    assert_false(disposition_inline(""));
}

static void a_file_name_cannot_break_the_header(void **state) {
    (void)state;
    expect_disposition("text/html", NULL, "attachment");
    expect_disposition("image/png", "a.png", "inline; filename=\"a.png\"; filename*=UTF-8''a.png");
    expect_disposition("x/y", "caf\xc3\xa9.txt", "attachment; filename=\"caf__.txt\"; filename*=UTF-8''caf%C3%A9.txt");
    expect_disposition("x/y", "a\"\r\nSet-Cookie: x;\\",
                       "attachment; filename=\"a___Set-Cookie: x__\"; "
                       "filename*=UTF-8''a%22%0D%0ASet-Cookie%3A%20x%3B%5C");
}

static void a_page_of_another_origin_is_told_apart(void **state) {
    (void)state;
    assert_true(upgrade_origin_matches("http://127.0.0.1:8080", "127.0.0.1:8080"));
    assert_true(upgrade_origin_matches("https://Chat.example", "chat.example"));
    assert_false(upgrade_origin_matches("http://evil.example", "127.0.0.1:8080"));
    assert_false(upgrade_origin_matches("http://127.0.0.1:8081", "127.0.0.1:8080"));
    assert_false(upgrade_origin_matches("null", "127.0.0.1:8080"));
    assert_false(upgrade_origin_matches("http://127.0.0.1:8080.evil.example", "127.0.0.1:8080"));
}

static void a_bucket_empties_and_fills_with_time(void **state) {
    (void)state;
    struct rates r;
    assert_true(rates_init(&r, 10));
    for (int i = 0; i < 20; i++) assert_true(rates_take(&r, 7, 1000));
    assert_false(rates_take(&r, 7, 1000));
    assert_true(rates_take(&r, 8, 1000));
    assert_false(rates_take(&r, 7, 1099));
    assert_true(rates_take(&r, 7, 1200));
    rates_release(&r);
}

static void connections_of_an_address_are_counted(void **state) {
    (void)state;
    struct address_counts a;
    addresses_init(&a, 1);
    assert_true(addresses_enter(&a, "10.0.0.1", 2));
    assert_true(addresses_enter(&a, "10.0.0.1", 2));
    assert_false(addresses_enter(&a, "10.0.0.1", 2));
    assert_true(addresses_enter(&a, "10.0.0.2", 2));
    addresses_leave(&a, "10.0.0.1");
    assert_true(addresses_enter(&a, "10.0.0.1", 2));
    addresses_release(&a);
    assert_true(address_is_loopback("127.0.0.1") && address_is_loopback("::1"));
    assert_false(address_is_loopback("10.0.0.1"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_finds_its_route_and_parameter),
        cmocka_unit_test(an_unknown_path_has_no_methods),
        cmocka_unit_test(a_wrong_method_is_told_the_right_ones),
        cmocka_unit_test(a_parameter_too_long_is_no_route),
        cmocka_unit_test(written_json_is_read_back),
        cmocka_unit_test(times_and_ids_are_written_as_people_know_them),
        cmocka_unit_test(only_one_sound_object_is_taken),
        cmocka_unit_test(a_send_names_the_field_that_is_wrong),
        cmocka_unit_test(a_send_is_read_whole),
        cmocka_unit_test(ranges_are_cut_to_the_content),
        cmocka_unit_test(only_harmless_types_are_shown_in_place),
        cmocka_unit_test(a_file_name_cannot_break_the_header),
        cmocka_unit_test(a_page_of_another_origin_is_told_apart),
        cmocka_unit_test(a_bucket_empties_and_fills_with_time),
        cmocka_unit_test(connections_of_an_address_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
