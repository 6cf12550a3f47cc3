// The webhook and the program as sinks, on a real loop: what they are given, and what they answer to what happens.
#include "inbox/handler.h"

#include "base/loop.h"
#include "base/test.h"

#include <signal.h>
#include <unistd.h>
#include <uv.h>

#define PATIENCE_MS 20000
#define ANSWERS_MAX 64

struct rig {
    struct loop *loop;
    struct handler *handler;
    struct loop_timer patience;
    struct error e;
    size_t answers, want;
    enum outbox_taken how[ANSWERS_MAX];
    char why[ANSWERS_MAX][ERROR_TEXT_MAX];
    uint32_t floor_ms;
    char url[64];
};

static void out_of_patience(struct loop_timer *t) { fail_msg("nothing came for %d ms", PATIENCE_MS); }

static void open_rig(struct rig *r, const char *spec, uint32_t timeout_ms) {
    memset(r, 0, sizeof *r);
    assert_int_equal(loop_new(&r->loop, &r->e), ERR_OK);
    struct handler_options o = {.loop = r->loop, .consumer = "c", .spec = spec, .timeout_ms = timeout_ms};
    if (handler_open(&r->handler, &o, &r->e)) fail_msg("%s", r->e.text);
    r->patience.fn = out_of_patience;
}

static void wait_for(struct rig *r, size_t answers) {
    r->want = answers;
    loop_timer_start(r->loop, &r->patience, PATIENCE_MS);
    if (r->answers < answers) loop_run(r->loop);
    loop_timer_stop(r->loop, &r->patience);
}

static void answered(void *arg, enum outbox_taken how, const char *why) {
    struct rig *r = arg;
    const struct outbox_sink *sink = handler_sink(r->handler);
    r->how[r->answers] = how;
    snprintf(r->why[r->answers++], ERROR_TEXT_MAX, "%s", why);
    if (sink->retry_floor_ms) r->floor_ms = sink->retry_floor_ms(sink->sink);
    if (r->answers == r->want) loop_stop(r->loop);
}

static void give(struct rig *r, const struct bus_event *event) {
    const struct outbox_sink *sink = handler_sink(r->handler);
    struct outbox_item item = {.id = 1,
                               .bucket = 3,
                               .event = *event,
                               .attempt = 2,
                               .stored_at_ms = 1,
                               .published_at_ms = 1700000000123,
                               .place = "orders/3@1742"};
    sink->take(sink->sink, &item, answered, r);
}

static const struct bus_header own_headers[] = {{"traceparent", "00-ab"},     {"Host", "evil"},
                                                {"x-note", "a\r\nX-Evil: 1"}, {"no token", "x"},
                                                {"ce_id", "other"},           {"X-Empty", ""}};
static const struct bus_event order = {.event_id = {{0x01, 0x23, [15] = 0xff}},
                                       .topic = "orders.new",
                                       .key = "k 7%",
                                       .payload = "{\"n\": 1}",
                                       .payload_length = 8,
                                       .headers = own_headers,
                                       .header_count = 6};

// ---- programs

static void run_program(struct rig *r, const char *command, uint32_t timeout_ms) {
    open_rig(r, command, timeout_ms);
    give(r, &order);
    wait_for(r, 1);
    handler_free(r->handler);
    loop_free(r->loop);
}

static void test_a_program_gets_the_event_and_says_done(void **state) {
    struct rig r;
    run_program(&r,
                "exec:test \"$(cat)\" = '{\"n\": 1}' && test $BARID_EVENT_ID = 01230000-0000-0000-0000-0000000000ff && "
                "test $BARID_TOPIC = orders.new && test \"$BARID_KEY\" = 'k 7%' && test $BARID_ATTEMPT = 2 && "
                "test $BARID_PLACE = orders/3@1742 && test $BARID_PUBLISHED_AT = 2023-11-14T22:13:20.123Z && "
                "test $BARID_HEADER_TRACEPARENT = 00-ab && test -z \"$BARID_DATABASE\"",
                0);
    assert_string_equal(r.why[0], "");
    assert_int_equal(r.how[0], TAKEN);
}

static void test_what_a_failing_program_said_last_is_the_reason(void **state) {
    struct rig r;
    run_program(&r, "exec:echo first >&2; echo out of stock >&2; exit 3", 0);
    assert_int_equal(r.how[0], TAKEN_REFUSED);
    assert_string_equal(r.why[0], "exit status 3: out of stock");
    run_program(&r, "exec:printf 'no newline' >&2; kill -9 $$", 0);
    assert_int_equal(r.how[0], TAKEN_REFUSED);
    assert_string_equal(r.why[0], "ended by signal 9: no newline");
    run_program(&r, "exec:nosuchprogram-barid", 0);
    assert_int_equal(r.how[0], TAKEN_REFUSED);
    assert_non_null(strstr(r.why[0], "exit status 127"));
}

// A zombie, until whoever adopts it has looked, is not.
static bool is_alive(pid_t pid) {
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    bool read = f && fgets(text, sizeof text, f);
    if (f) fclose(f);
    return read && !strstr(text, ") Z");
}

static void test_a_program_that_hangs_is_killed_with_what_it_has_started(void **state) {
    struct rig r;
    run_program(&r, "exec:sleep 1000 & echo $! >&2; sleep 1000", 300);
    assert_int_equal(r.how[0], TAKEN_REFUSED);
    assert_non_null(strstr(r.why[0], "no end after 300 ms, killed: "));
    pid_t child = (pid_t)strtol(strrchr(r.why[0], ' '), NULL, 10);
    assert_true(child > 1);
    for (int i = 0; is_alive(child); i++) {
        assert_true(i < 1000);
        usleep(10000);
    }
}

static void test_a_program_need_not_read_and_may_leave_somebody_behind(void **state) {
    struct rig r;
    static char large[1 << 20];
    struct bus_event event = order;
    memset(large, 'x', sizeof large);
    event.payload = large;
    event.payload_length = sizeof large;
    open_rig(&r, "exec:(exec sleep 3 >/dev/null) & exit 0", 10000);
    give(&r, &event);
    wait_for(&r, 1);
    assert_int_equal(r.how[0], TAKEN);
    handler_free(r.handler);
    loop_free(r.loop);
}

static void test_what_is_with_a_program_at_the_end_is_given_back(void **state) {
    struct rig r;
    open_rig(&r, "exec:sleep 1000", 0);
    give(&r, &order);
    give(&r, &order);
    struct handler *h = r.handler;
    assert_int_equal(handler_sink(h)->at_once, 16);
    handler_free(h);
    assert_int_equal(r.answers, 2);
    assert_int_equal(r.how[1], TAKEN_AWAY);
    loop_free(r.loop);
}

// ---- a server for webhooks

struct server {
    uv_tcp_t listener, client;
    struct loop *loop;
    const char *answer; // NULL: hangs up once the request is there; "": never answers
    char request[8192];
    size_t n, requests, connections;
    uint16_t port;
    bool open;
};

static void on_gone(uv_handle_t *h) {}

static void hang_up(struct server *s) {
    if (s->open) uv_close((uv_handle_t *)&s->client, on_gone);
    s->open = false;
}

static void give_room(uv_handle_t *h, size_t wanted, uv_buf_t *b) {
    struct server *s = h->data;
    *b = uv_buf_init(s->request + s->n, (unsigned)(sizeof s->request - 1 - s->n));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b) {
    struct server *s = stream->data;
    if (n < 0) {
        hang_up(s);
        return;
    }
    s->n += (size_t)n;
    s->request[s->n] = 0;
    char *body = strstr(s->request, "\r\n\r\n");
    if (!body || strlen(body + 4) < 8) return;
    s->requests++;
    s->n = 0;
    if (!s->answer) {
        hang_up(s);
        return;
    }
    uv_buf_t out = uv_buf_init((char *)(uintptr_t)s->answer, (unsigned)strlen(s->answer));
    if (*s->answer) uv_try_write(stream, &out, 1);
}

static void on_connection(uv_stream_t *listener, int status) {
    struct server *s = listener->data;
    assert_false(s->open); // the tests make one call after the other
    uv_tcp_init(loop_uv(s->loop), &s->client);
    s->client.data = s;
    s->open = true;
    s->connections++;
    s->n = 0;
    assert_int_equal(uv_accept(listener, (uv_stream_t *)&s->client), 0);
    uv_read_start((uv_stream_t *)&s->client, give_room, on_read);
}

static void open_server(struct server *s, struct rig *r, uint32_t timeout_ms) {
    struct sockaddr_in where;
    int n = sizeof where;
    memset(s, 0, sizeof *s);
    memset(r, 0, sizeof *r);
    assert_int_equal(loop_new(&r->loop, &r->e), ERR_OK);
    s->loop = r->loop;
    s->listener.data = s;
    uv_tcp_init(loop_uv(r->loop), &s->listener);
    uv_ip4_addr("127.0.0.1", 0, &where);
    assert_int_equal(uv_tcp_bind(&s->listener, (const struct sockaddr *)&where, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&s->listener, 8, on_connection), 0);
    uv_tcp_getsockname(&s->listener, (struct sockaddr *)&where, &n);
    s->port = ntohs(where.sin_port);
    snprintf(r->url, sizeof r->url, "http://127.0.0.1:%u/hook", s->port);
    struct handler_options o = {.loop = r->loop, .consumer = "c", .spec = r->url, .timeout_ms = timeout_ms};
    if (handler_open(&r->handler, &o, &r->e)) fail_msg("%s", r->e.text);
    r->patience.fn = out_of_patience;
}

static void close_server(struct server *s, struct rig *r) {
    handler_free(r->handler);
    hang_up(s);
    if (!uv_is_closing((uv_handle_t *)&s->listener)) uv_close((uv_handle_t *)&s->listener, on_gone);
    loop_free(r->loop);
}

static void call(struct server *s, struct rig *r, const char *answer) {
    s->answer = answer;
    r->answers = 0;
    give(r, &order);
    wait_for(r, 1);
}

#define ANSWER(status, more) "HTTP/1.1 " status "\r\n" more "Content-Length: 0\r\n\r\n"

static void test_a_webhook_gets_the_event(void **state) {
    struct server s;
    struct rig r;
    open_server(&s, &r, 0);
    call(&s, &r, ANSWER("204 No Content", ""));
    assert_int_equal(r.how[0], TAKEN);
    static const char *const lines[] = {"POST /hook HTTP/1.1\r\n",
                                        "\r\nce-specversion: 1.0\r\n",
                                        "\r\nce-id: 01230000-0000-0000-0000-0000000000ff\r\n",
                                        "\r\nce-type: orders.new\r\n",
                                        "\r\nce-source: /barid/orders.new\r\n",
                                        "\r\nce-time: 2023-11-14T22:13:20.123Z\r\n",
                                        "\r\nce-partitionkey: k%207%25\r\n",
                                        "\r\nContent-Type: application/json\r\n",
                                        "\r\nIdempotency-Key: 01230000-0000-0000-0000-0000000000ff\r\n",
                                        "\r\nBarid-Attempt: 2\r\n",
                                        "\r\nContent-Length: 8\r\n",
                                        "\r\ntraceparent: 00-ab\r\n",
                                        "\r\nx-note: a%0D%0AX-Evil: 1\r\n",
                                        "\r\nX-Empty:\r\n",
                                        "\r\n\r\n{\"n\": 1}"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (!strstr(s.request, lines[i])) fail_msg("%s is not in %s", lines[i], s.request);
    static const char *const absent[] = {"evil", "no token", "ce_id", "Expect", "\r\nX-Evil"};
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++) assert_null(strstr(s.request, absent[i]));
    call(&s, &r, ANSWER("200 OK", ""));
    assert_int_equal(r.how[0], TAKEN);
    assert_int_equal(s.connections, 1); // kept open
    close_server(&s, &r);
}

static void test_what_a_webhook_answers_decides(void **state) {
    static const struct {
        const char *answer;
        enum outbox_taken how;
        const char *why;
    } cases[] = {
        {ANSWER("500 Oops", ""), TAKEN_REFUSED, "HTTP 500"},
        {ANSWER("408 Slow", ""), TAKEN_REFUSED, "HTTP 408"},
        {ANSWER("425 Early", ""), TAKEN_REFUSED, "HTTP 425"},
        {ANSWER("400 No", ""), TAKEN_NEVER, "HTTP 400"},
        {ANSWER("404 No", ""), TAKEN_NEVER, "HTTP 404"},
        {ANSWER("302 Found", "Location: http://127.0.0.1:1/\r\n"), TAKEN_NEVER, "HTTP 302"},
        {"HTTP/1.1 422 No\r\nContent-Length: 17\r\n\r\nno such customer\n", TAKEN_NEVER, "HTTP 422: no such customer"},
    };
    struct server s;
    struct rig r;
    open_server(&s, &r, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        call(&s, &r, cases[i].answer);
        assert_int_equal(r.how[0], cases[i].how);
        assert_string_equal(r.why[0], cases[i].why);
        assert_int_equal(r.floor_ms, 0);
    }
    call(&s, &r, ANSWER("429 Slowly", "Retry-After: 7\r\n"));
    assert_int_equal(r.how[0], TAKEN_REFUSED);
    assert_int_equal(r.floor_ms, 7000);
    call(&s, &r, NULL); // it had the request: it may have acted
    assert_int_equal(r.how[0], TAKEN_REFUSED);
    close_server(&s, &r);
}

static void test_a_webhook_that_does_not_answer_is_too_late(void **state) {
    struct server s;
    struct rig r;
    open_server(&s, &r, 200);
    call(&s, &r, "");
    assert_int_equal(r.how[0], TAKEN_REFUSED);
    assert_non_null(strstr(r.why[0], "timed out"));
    close_server(&s, &r);
}

static void test_a_webhook_that_is_not_there_costs_no_attempt(void **state) {
    struct server s;
    struct rig r;
    open_server(&s, &r, 0);
    uv_close((uv_handle_t *)&s.listener, on_gone);
    uv_run(loop_uv(r.loop), UV_RUN_NOWAIT);
    call(&s, &r, "");
    assert_int_equal(r.how[0], TAKEN_AWAY);
    close_server(&s, &r);
    open_rig(&r, "http://nobody.invalid/", 0);
    give(&r, &order);
    wait_for(&r, 1);
    assert_int_equal(r.how[0], TAKEN_AWAY);
    handler_free(r.handler);
    loop_free(r.loop);
}

static void test_what_is_with_a_webhook_at_the_end_is_given_back(void **state) {
    struct server s;
    struct rig r;
    open_server(&s, &r, 0);
    s.answer = "";
    give(&r, &order);
    close_server(&s, &r);
    assert_int_equal(r.answers, 1);
    assert_int_equal(r.how[0], TAKEN_AWAY);
}

// ---- what makes no sense

static void test_a_handler_that_makes_no_sense_is_refused(void **state) {
    static const char *const specs[] = {"",      "sql:",    "sql:f",    "sql:s.", "sql:s.f;drop", "sql:s.f.g",
                                        "exec:", "http://", "ftp://x/", "f",      "sql:.f"};
    struct handler_options o = {.consumer = "c"};
    struct error e;
    assert_int_equal(loop_new(&o.loop, &e), ERR_OK);
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
        struct handler *h = NULL;
        o.spec = specs[i];
        e.text[0] = 0;
        assert_int_equal(handler_open(&h, &o, &e), ERR_INVALID);
        assert_true(e.text[0]);
    }
    loop_free(o.loop);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN); // as barid receive does: a program need not read what it is given
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_program_gets_the_event_and_says_done),
        cmocka_unit_test(test_what_a_failing_program_said_last_is_the_reason),
        cmocka_unit_test(test_a_program_that_hangs_is_killed_with_what_it_has_started),
        cmocka_unit_test(test_a_program_need_not_read_and_may_leave_somebody_behind),
        cmocka_unit_test(test_what_is_with_a_program_at_the_end_is_given_back),
        cmocka_unit_test(test_a_webhook_gets_the_event),
        cmocka_unit_test(test_what_a_webhook_answers_decides),
        cmocka_unit_test(test_a_webhook_that_does_not_answer_is_too_late),
        cmocka_unit_test(test_a_webhook_that_is_not_there_costs_no_attempt),
        cmocka_unit_test(test_what_is_with_a_webhook_at_the_end_is_given_back),
        cmocka_unit_test(test_a_handler_that_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests_name("handler", tests, NULL, NULL);
}
