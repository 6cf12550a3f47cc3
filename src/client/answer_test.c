// What an answer means for a retry, what a mailbox entry may look like, and where conversations get their ids.
#include "base/io.h"
#include "base/test.h"
#include "client/answer.h"
#include "client/entry.h"
#include "client/members.h"
#include "client/profile.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum verdict verdict_of(int status) {
    struct answer a;
    answer_set(&a, status, NULL, 0);
    enum verdict verdict = answer_verdict(&a);
    answer_release(&a);
    return verdict;
}

static void statuses_are_done_later_login_or_no(void **state) {
    static const int done[] = {200, 201, 202, 204}, later[] = {408, 425, 429, 500, 502, 503, 504, 599};
    static const int no[] = {400, 403, 404, 405, 409, 410, 411, 413, 415, 422, 426};
    for (size_t i = 0; i < sizeof done / sizeof *done; i++) assert_int_equal(verdict_of(done[i]), VERDICT_DONE);
    for (size_t i = 0; i < sizeof later / sizeof *later; i++) assert_int_equal(verdict_of(later[i]), VERDICT_LATER);
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) assert_int_equal(verdict_of(no[i]), VERDICT_NO);
    assert_int_equal(verdict_of(401), VERDICT_LOGIN);
    struct answer none;
    answer_none(&none, ERR_TIMEOUT, "no answer");
    assert_int_equal(answer_verdict(&none), VERDICT_LATER);
}

static void the_delay_has_full_jitter_and_a_floor(void **state) {
    char dir[] = "/tmp/barid-answer-XXXXXX";
    struct io *io;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(io_os_new(&io, dir, NULL), ERR_OK);
    struct answer busy = {.status = 503}, told = {.status = 503, .retry_after_ms = 3000};
    uint32_t least = UINT32_MAX, most = 0;
    for (int i = 0; i < 2000; i++) {
        uint32_t delay = answer_delay(&busy, io, 1);
        assert_true(delay <= 500);
        if (delay < least) least = delay;
        if (delay > most) most = delay;
        assert_true(answer_delay(&busy, io, 1000000) <= 60000);
        assert_true(answer_delay(&told, io, 1) >= 3000);
    }
    assert_true(least < 50 && most > 450);
    io_os_free(io);
    rmdir(dir);
}

static void the_reason_names_the_field(void **state) {
    struct answer a;
    answer_set(
        &a, 422,
        json_loads("{\"error\":{\"code\":\"invalid\",\"field\":\"message_text\",\"reason\":\"must not be empty\"}}", 0,
                   NULL),
        0);
    assert_string_equal(a.error.text, "message_text: must not be empty");
    assert_string_equal(a.error.field, "message_text");
    assert_int_equal(a.error.code, ERR_INVALID);
    answer_release(&a);
    answer_set(&a, 502, NULL, 0); // a proxy's answer has no JSON
    assert_string_not_equal(a.error.text, "");
    answer_release(&a);
}

static bool parse(const char *text, struct entry *out) {
    json_t *object = json_loads(text, 0, NULL);
    assert_non_null(object);
    bool ok = mailbox_entry_parse(object, 42, out);
    json_decref(object);
    return ok;
}

#define ID "01a1fca4-0000-7000-8000-000000000001"

static void entries_are_read(void **state) {
    struct entry e;
    assert_true(parse("{\"type\":\"message\",\"cursor\":3,\"message_id\":\"" ID
                      "\",\"conversation_id\":\"a\",\"seq\":9,"
                      "\"by_user_id\":\"alice\",\"kind\":\"media\",\"bytes\":7,"
                      "\"accepted_at\":\"1970-01-01T00:00:01.500Z\"}",
                      &e));
    assert_int_equal(e.type, ENTRY_IS_MESSAGE);
    assert_int_equal(e.cursor, 3);
    assert_int_equal(e.seq, 9);
    assert_int_equal(e.at, 1500);
    assert_true(e.media);
    assert_true(parse("{\"type\":\"read\",\"cursor\":4,\"message_id\":\"" ID "\",\"by_user_id\":\"bob\"}", &e));
    assert_int_equal(e.type, ENTRY_IS_READ);
    assert_int_equal(e.at, 42);
}

static void strange_entries_are_passed_over_and_never_become_paths(void **state) {
    struct entry e;
    assert_false(parse("{\"type\":\"message\"}", &e));
    assert_false(parse("{\"type\":\"message\",\"cursor\":-1}", &e));
    static const char *const strange[] = {
        "{\"type\":\"greeting\",\"cursor\":1,\"message_id\":\"" ID "\"}",
        "{\"type\":\"message\",\"cursor\":1,\"message_id\":\"../../etc\"}",
        "{\"type\":\"message\",\"cursor\":1,\"message_id\":\"" ID
        "\",\"conversation_id\":\"../a\",\"by_user_id\":\"b\"}",
        "{\"type\":\"message\",\"cursor\":1,\"message_id\":\"" ID
        "\",\"conversation_id\":\"a\",\"by_user_id\":\"\\u001b\"}",
        "{\"type\":[],\"cursor\":1,\"message_id\":5}",
    };
    for (size_t i = 0; i < sizeof strange / sizeof *strange; i++) {
        assert_true(parse(strange[i], &e));
        assert_int_equal(e.type, ENTRY_IS_UNKNOWN);
    }
}

static void derive(const char *const *members, size_t n, char out[static CONVERSATION_ID_DERIVED]) {
    json_t *sorted = members_sorted(members, n);
    members_derive_id(sorted, out);
    json_decref(sorted);
}

static void the_same_people_have_the_same_conversation(void **state) {
    char a[CONVERSATION_ID_DERIVED], b[CONVERSATION_ID_DERIVED];
    derive((const char *[]){"alice", "bob", "carol"}, 3, a);
    derive((const char *[]){"carol", "alice", "bob", "alice"}, 4, b);
    assert_string_equal(a, b);
    assert_true(name_valid(a, strlen(a)));
    derive((const char *[]){"alice", "bob"}, 2, b);
    assert_string_not_equal(a, b);
    derive((const char *[]){"al", "icebob"}, 2, a);
    assert_string_not_equal(a, b);
    // Every version of every client must come to this one.
    assert_string_equal(b, "dm-e3460f9fd601c6d76b10db0273fa2b79");
}

static void servers_are_urls_of_hosts(void **state) {
    char out[128];
    assert_int_equal(profile_server("http://127.0.0.1:8080/", out, sizeof out, NULL), ERR_OK);
    assert_string_equal(out, "http://127.0.0.1:8080");
    assert_int_equal(profile_server("https://[::1]:8443", out, sizeof out, NULL), ERR_OK);
    static const char *const bad[] = {"",     "http://",    "http:///",   "ftp://a",
                                      "a:80", "http://a/b", "http://u@h", "http://a b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(profile_server(bad[i], out, sizeof out, NULL), ERR_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statuses_are_done_later_login_or_no),
        cmocka_unit_test(the_delay_has_full_jitter_and_a_floor),
        cmocka_unit_test(the_reason_names_the_field),
        cmocka_unit_test(entries_are_read),
        cmocka_unit_test(strange_entries_are_passed_over_and_never_become_paths),
        cmocka_unit_test(the_same_people_have_the_same_conversation),
        cmocka_unit_test(servers_are_urls_of_hosts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
