// The bus over a real AMQP broker: BARID_TEST_AMQP is its URL without a path ("amqp://guest:guest@127.0.0.1:5672").
// Without it every test is skipped by name; tests/broker/test_amqp_bus.py sets it, for barid and for RabbitMQ.
#include "base/test.h"

#include "base/io.h"
#include "base/loop.h"
#include "bus/amqp_pattern.h"
#include "bus/bus.h"

#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_MS 30000

struct rig {
    struct io *io;
    struct loop *loop;
    struct bus *bus;
    struct loop_timer patience;
    struct error err;
    uint32_t answered, target;
    enum err last;
    char why[256];
    char mark[32]; // names of this test begin with it
    char name[8][64];
    int names;
};

struct got {
    char topic[64], key[32], body[64], header[64];
    struct id id;
    uint64_t tag;
    uint32_t attempt, headers;
    int64_t published_at_ms;
};

struct handler {
    struct rig *rig;
    struct bus_subscription *subscription;
    struct got got[256];
    uint32_t n;
    int retry_first; // so often the body "poison" is given back
    bool hold, unordered;
};

static const char *broker(void) { return getenv("BARID_TEST_AMQP"); }

// A name of this test alone.
static const char *own(struct rig *r, const char *name) {
    char *out = r->name[r->names++ % 8];
    snprintf(out, sizeof r->name[0], "%s%s", r->mark, name);
    return out;
}

static void out_of_patience(struct loop_timer *t) { fail_msg("nothing happened for too long"); }

static struct bus *open_at(struct rig *r, const char *url, bool mandatory) {
    struct bus *b;
    struct bus_options o = {.url = url, .io = r->io, .mandatory = mandatory};
    if (bus_open(&b, r->loop, &o, &r->err)) fail_msg("%s", r->err.text);
    return b;
}

static struct bus *open_with(struct rig *r, const char *query, bool mandatory) {
    char url[256];
    snprintf(url, sizeof url, "%s/%%2F%s", broker(), query);
    return open_at(r, url, mandatory);
}

static int setup(void **state) {
    struct rig *r = calloc(1, sizeof *r);
    if (io_os_new(&r->io, "/tmp", &r->err) || loop_new(&r->loop, &r->err)) fail_msg("%s", r->err.text);
    snprintf(r->mark, sizeof r->mark, "t%08x_", (uint32_t)io_random_u64(r->io));
    r->patience.fn = out_of_patience;
    loop_timer_start(r->loop, &r->patience, PATIENCE_MS);
    r->bus = open_with(r, "", false);
    *state = r;
    return 0;
}

static int teardown(void **state) {
    struct rig *r = *state;
    bus_close(r->bus);
    loop_timer_stop(r->loop, &r->patience);
    loop_free(r->loop);
    io_os_free(r->io);
    free(r);
    return 0;
}

static void progress(struct rig *r) {
    if (++r->answered == r->target) loop_stop(r->loop);
}

static void run_until(struct rig *r, uint32_t target) {
    r->target = target;
    if (r->answered < target) loop_run(r->loop);
}

struct until {
    struct loop_idle hook;
    struct rig *rig;
    struct bus *bus;
    bool up;
};

static void look(struct loop_idle *i) {
    struct until *u = (struct until *)i;
    if (bus_reachable(u->bus) == u->up) loop_stop(u->rig->loop);
}

// Every change of a connection is posted to the loop, which then looks.
static void run_until_reachable(struct rig *r, struct bus *b, bool up) {
    struct until u = {.hook.fn = look, .rig = r, .bus = b, .up = up};
    if (bus_reachable(b) == up) return;
    loop_before_block(r->loop, &u.hook);
    loop_run(r->loop);
    loop_before_block_end(r->loop, &u.hook);
}

static void on_done(void *arg, enum err err, const char *why) {
    struct rig *r = arg;
    r->last = err;
    snprintf(r->why, sizeof r->why, "%s", why);
    progress(r);
}

static void count_only(void *arg, enum err err, const char *why) {
    assert_int_equal(err, ERR_OK);
    (*(uint32_t *)arg)++;
}

static struct id put_at(struct rig *r, struct bus *b, const char *topic, const char *key, const char *body,
                        bus_done_fn *done, void *arg) {
    struct bus_event v = {
        .event_id = id_new(r->io), .topic = topic, .key = key, .payload = body, .payload_length = strlen(body)};
    if (bus_publish(b, &v, done, arg, &r->err)) fail_msg("%s", r->err.text);
    return v.event_id;
}

static struct id put(struct rig *r, const char *topic, const char *key, const char *body, bus_done_fn *done,
                     void *arg) {
    return put_at(r, r->bus, topic, key, body, done, arg);
}

static void on_event(void *arg, const struct bus_delivery *d) {
    struct handler *h = arg;
    struct got *g = &h->got[h->n++];
    snprintf(g->topic, sizeof g->topic, "%s", d->event.topic);
    snprintf(g->key, sizeof g->key, "%s", d->event.key ? d->event.key : "");
    snprintf(g->body, sizeof g->body, "%.*s", (int)d->event.payload_length, (const char *)d->event.payload);
    for (size_t i = 0; i < d->event.header_count; i++)
        if (strcmp(d->event.headers[i].name, "x-barid-reason") == 0 ||
            strcmp(d->event.headers[i].name, "traceparent") == 0)
            snprintf(g->header, sizeof g->header, "%s", d->event.headers[i].value);
    g->headers = (uint32_t)d->event.header_count;
    g->id = d->event.event_id;
    g->tag = d->tag;
    g->attempt = d->attempt;
    g->published_at_ms = d->published_at_ms;
    if (!h->hold) {
        bool again = strcmp(g->body, "poison") == 0 && h->retry_first-- > 0;
        bus_settle(h->subscription, d->tag, again ? BUS_RETRY : BUS_ACK, "it is poison");
    }
    progress(h->rig);
}

static void subscribe_at(struct rig *r, struct bus *b, struct handler *h, const char *group, const char *pattern,
                         uint32_t prefetch) {
    h->rig = r;
    struct bus_subscribe_options o = {
        .group = group, .pattern = pattern, .prefetch = prefetch, .unordered = h->unordered};
    if (bus_subscribe(b, &o, on_event, h, &h->subscription, &r->err)) fail_msg("%s", r->err.text);
    run_until_reachable(r, b, true);
}

static void subscribe(struct rig *r, struct handler *h, const char *group, const char *pattern, uint32_t prefetch) {
    subscribe_at(r, r->bus, h, own(r, group), own(r, pattern), prefetch);
}

// A connection that knows nothing of the bus.
static amqp_connection_state_t dial_plainly(void) {
    char url[256];
    struct amqp_connection_info info;
    snprintf(url, sizeof url, "%s", broker());
    assert_int_equal(amqp_parse_url(url, &info), AMQP_STATUS_OK);
    amqp_connection_state_t c = amqp_new_connection();
    assert_int_equal(amqp_socket_open(amqp_tcp_socket_new(c), info.host, info.port), AMQP_STATUS_OK);
    amqp_login(c, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, info.user, info.password);
    amqp_channel_open(c, 1);
    amqp_confirm_select(c, 1);
    return c;
}

static void hang_up(amqp_connection_state_t c) {
    amqp_connection_close(c, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(c);
}

static void delete_queue(const char *group) {
    char name[80];
    amqp_connection_state_t c = dial_plainly();
    snprintf(name, sizeof name, "barid.%s", group);
    amqp_queue_delete(c, 1, amqp_cstring_bytes(name), 0, 0);
    hang_up(c);
}

// ---- what every bus keeps

static void an_event_arrives_as_it_was_published(void **state) {
    struct rig *r = *state;
    struct handler h = {0};
    subscribe(r, &h, "readers", "sent", 0);
    struct bus_header header = {"traceparent", "00-abc"};
    struct bus_event v = {.event_id = id_new(r->io),
                          .topic = own(r, "sent"),
                          .key = "order-1",
                          .payload = "hello",
                          .payload_length = 5,
                          .headers = &header,
                          .header_count = 1};
    put(r, own(r, "other"), "k", "no", NULL, NULL);
    assert_int_equal(bus_publish(r->bus, &v, on_done, r, &r->err), ERR_OK);
    run_until(r, 2);
    assert_int_equal(r->last, ERR_OK);
    assert_string_equal(h.got[0].topic, v.topic);
    assert_string_equal(h.got[0].key, "order-1");
    assert_string_equal(h.got[0].body, "hello");
    assert_string_equal(h.got[0].header, "00-abc");
    assert_int_equal(h.got[0].headers, 1);
    assert_true(id_equal(&h.got[0].id, &v.event_id));
    assert_int_equal(h.got[0].attempt, 1);
    assert_true(h.got[0].published_at_ms > 1600000000000);
}

static void every_group_gets_all_and_members_compete(void **state) {
    struct rig *r = *state;
    struct handler a = {0}, b = {0}, c = {0};
    subscribe(r, &a, "one", "t", 0);
    subscribe(r, &b, "one", "t", 0);
    subscribe(r, &c, "two", "t", 0);
    for (int i = 0; i < 20; i++) put(r, own(r, "t"), NULL, "x", NULL, NULL);
    run_until(r, 40);
    assert_int_equal(c.n, 20);
    assert_int_equal(a.n, 10);
    assert_int_equal(b.n, 10);
}

static void a_retry_is_not_overtaken_by_its_key(void **state) {
    struct rig *r = *state;
    struct handler a = {.retry_first = 2};
    subscribe(r, &a, "g", "t", 0);
    put(r, own(r, "t"), "k", "poison", NULL, NULL);
    put(r, own(r, "t"), "k", "second", NULL, NULL);
    put(r, own(r, "t"), "k", "third", NULL, NULL);
    put(r, own(r, "t"), "other", "free", NULL, NULL);
    run_until(r, 6);
    const char *wanted[] = {"poison", "free", "poison", "poison", "second", "third"};
    for (int i = 2; i < 6; i++) assert_string_equal(a.got[i].body, wanted[i]);
    assert_int_equal(a.got[3].attempt, 3);
}

static void unordered_events_of_a_key_are_in_hand_together(void **state) {
    struct rig *r = *state;
    struct handler h = {.hold = true, .unordered = true};
    subscribe(r, &h, "g", "t", 0);
    put(r, own(r, "t"), "k", "first", NULL, NULL);
    put(r, own(r, "t"), "k", "second", NULL, NULL);
    run_until(r, 2);
    assert_string_equal(h.got[0].body, "first");
    assert_string_equal(h.got[1].body, "second");
}

static void after_its_attempts_an_event_is_parked_with_the_reason_and_its_key_goes_on(void **state) {
    struct rig *r = *state;
    struct handler h = {.retry_first = 100}, parked = {0};
    char queue[80];
    subscribe(r, &h, "g", "t", 0);
    struct id id = put(r, own(r, "t"), "k", "poison", NULL, NULL);
    put(r, own(r, "t"), "k", "next", NULL, NULL);
    run_until(r, 4);
    assert_string_equal(h.got[3].body, "next");
    struct bus *plain = open_with(r, "?exchange=", false);
    snprintf(queue, sizeof queue, "barid.%s.parked", own(r, "g"));
    subscribe_at(r, plain, &parked, own(r, "looking"), queue, 0);
    run_until(r, 5);
    assert_string_equal(parked.got[0].body, "poison");
    assert_string_equal(parked.got[0].key, "k");
    assert_string_equal(parked.got[0].header, "it is poison");
    assert_true(id_equal(&parked.got[0].id, &id));
    bus_close(plain);
}

static void prefetch_bounds_what_a_handler_has(void **state) {
    struct rig *r = *state;
    struct handler h = {.hold = true};
    uint32_t done = 0;
    subscribe(r, &h, "g", "t", 2);
    for (int i = 0; i < 6; i++) put(r, own(r, "t"), NULL, "x", count_only, &done);
    run_until(r, 2);
    put(r, own(r, "t"), NULL, "x", on_done, r);
    run_until(r, 3);
    assert_int_equal(h.n, 2);
    bus_settle(h.subscription, h.got[0].tag, BUS_ACK, NULL);
    run_until(r, 4);
    assert_int_equal(h.n, 3);
    assert_int_equal(done, 6);
}

static void a_member_that_leaves_gives_back_to_the_others(void **state) {
    struct rig *r = *state;
    struct handler a = {.hold = true}, b = {0};
    subscribe(r, &a, "g", "t", 0);
    put(r, own(r, "t"), "k", "0", NULL, NULL);
    put(r, own(r, "t"), "k", "1", NULL, NULL);
    run_until(r, 1);
    subscribe(r, &b, "g", "t", 0);
    bus_unsubscribe(a.subscription);
    bus_settle(a.subscription, a.got[0].tag, BUS_ACK, NULL); // too late, and harmless
    run_until(r, 3);
    assert_string_equal(b.got[0].body, "0");
    assert_string_equal(b.got[1].body, "1");
}

static void what_is_not_settled_comes_again_in_order(void **state) {
    struct rig *r = *state;
    struct handler h = {.hold = true}, again = {0};
    uint32_t done = 0;
    subscribe(r, &h, "g", "t", 0);
    put(r, own(r, "t"), "a", "0", NULL, NULL);
    put(r, own(r, "t"), "b", "1", NULL, NULL);
    put(r, own(r, "t"), "c", "2", NULL, NULL);
    run_until(r, 3);
    bus_settle(h.subscription, h.got[0].tag, BUS_ACK, NULL);
    put(r, own(r, "t"), "d", "3", count_only, &done); // answered by closing
    bus_close(r->bus);
    assert_int_equal(done, 1);
    r->answered = 0;
    r->bus = open_with(r, "", false);
    subscribe(r, &again, "g", "t", 0);
    run_until(r, 3);
    for (int i = 0; i < 3; i++) assert_int_equal(again.got[i].body[0], '1' + i);
}

static void a_pattern_may_have_a_star_within_a_word(void **state) {
    struct rig *r = *state;
    struct handler h = {0};
    subscribe(r, &h, "g", "message_*", 0);
    put(r, own(r, "message_send"), NULL, "a", NULL, NULL);
    put(r, own(r, "conversation_made"), NULL, "no", NULL, NULL);
    put(r, own(r, "message_read"), NULL, "b", NULL, NULL);
    run_until(r, 2);
    assert_string_equal(h.got[0].body, "a");
    assert_string_equal(h.got[1].body, "b");
    delete_queue(own(r, "g")); // it is bound to more than its topics
}

static void unsubscribe_inside(void *arg, const struct bus_delivery *d) {
    struct handler *h = arg;
    h->n++;
    bus_unsubscribe(h->subscription);
    bus_settle(h->subscription, d->tag, BUS_ACK, NULL);
    progress(h->rig);
}

static void a_handler_may_leave_inside_its_call(void **state) {
    struct rig *r = *state;
    struct handler h = {.rig = r}, next = {0};
    struct bus_subscribe_options o = {.group = own(r, "g"), .pattern = own(r, "t")};
    assert_int_equal(bus_subscribe(r->bus, &o, unsubscribe_inside, &h, &h.subscription, &r->err), ERR_OK);
    run_until_reachable(r, r->bus, true);
    put(r, own(r, "t"), "k", "a", NULL, NULL);
    put(r, own(r, "t"), "k", "b", NULL, NULL);
    run_until(r, 1);
    subscribe(r, &next, "g", "t", 0);
    run_until(r, 3);
    assert_int_equal(h.n, 1);
    assert_string_equal(next.got[0].body, "a");
    assert_string_equal(next.got[1].body, "b");
}

// ---- what no queue takes

static void an_event_that_nobody_wants_is_answered_too(void **state) {
    struct rig *r = *state;
    put(r, own(r, "lonely"), NULL, "x", on_done, r);
    run_until(r, 1);
    assert_int_equal(r->last, ERR_OK);
}

static void note_err(void *arg, enum err err, const char *why) { *(enum err *)arg = err; }

static void a_mandatory_event_that_no_queue_takes_is_refused_and_no_other(void **state) {
    struct rig *r = *state;
    struct handler h = {0};
    enum err good[2] = {ERR_COUNT, ERR_COUNT};
    struct bus *b = open_with(r, "", true);
    subscribe(r, &h, "g", "t", 0);
    put_at(r, b, own(r, "t"), NULL, "x", note_err, &good[0]);
    put_at(r, b, own(r, "lonely"), NULL, "x", on_done, r);
    put_at(r, b, own(r, "t"), NULL, "y", note_err, &good[1]);
    run_until(r, 3);
    bus_close(b);
    assert_int_equal(r->last, ERR_NOT_FOUND);
    assert_non_null(strstr(r->why, "lonely"));
    assert_int_equal(good[0], ERR_OK);
    assert_int_equal(good[1], ERR_OK);
}

static void with_the_default_exchange_the_topic_is_the_queue(void **state) {
    struct rig *r = *state;
    struct handler h = {0};
    struct bus *b = open_with(r, "?exchange=", true);
    subscribe_at(r, b, &h, own(r, "workers"), own(r, "tasks"), 0);
    put_at(r, b, own(r, "tasks"), NULL, "work", NULL, NULL);
    run_until(r, 1);
    assert_string_equal(h.got[0].body, "work");
    bus_close(b);
}

static void a_queue_that_somebody_has_made_otherwise_is_taken_as_it_is(void **state) {
    struct rig *r = *state;
    struct handler h = {0};
    char name[80];
    amqp_connection_state_t c = dial_plainly();
    snprintf(name, sizeof name, "barid.%s", own(r, "g"));
    amqp_queue_declare(c, 1, amqp_cstring_bytes(name), 0, 1, 0, 0, amqp_empty_table);
    hang_up(c);
    subscribe(r, &h, "g", "t", 0);
    put(r, own(r, "t"), NULL, "x", NULL, NULL);
    run_until(r, 1);
    assert_string_equal(h.got[0].body, "x");
}

// ---- what is wrong with the configuration

static void an_event_for_a_bus_that_is_away_is_not_to_blame(void **state) {
    struct rig *r = *state;
    const char *urls[][2] = {{"/%2F?exchange=missing-for-sure", "missing-for-sure"}, {"/no-such-vhost", ""}};
    for (size_t i = 0; i < 2; i++) {
        char url[256];
        snprintf(url, sizeof url, "%s%s", broker(), urls[i][0]);
        struct bus *b = open_at(r, url, false);
        r->answered = 0;
        put_at(r, b, "t", NULL, "x", on_done, r); // the first attempt to connect is still under way
        run_until(r, 1);
        assert_int_equal(r->last, ERR_UNAVAILABLE);
        assert_non_null(strstr(r->why, urls[i][1]));
        struct bus_event v = {.event_id = id_new(r->io), .topic = "t", .payload = "x", .payload_length = 1};
        assert_int_equal(bus_publish(b, &v, on_done, r, &r->err), ERR_UNAVAILABLE);
        assert_non_null(strstr(r->err.text, urls[i][1]));
        bus_close(b);
    }
}

static void a_url_that_makes_no_sense_is_refused(void **state) {
    struct rig *r = *state;
    const char *urls[] = {"amqp://h/v?exchang=x", "amqp://h/v?exchange=a&b=c", "amqp://h/v?exchange=%zz",
                          "amqp://h:port/v"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        struct bus *b;
        struct bus_options o = {.url = urls[i], .io = r->io};
        assert_int_equal(bus_open(&b, r->loop, &o, &r->err), ERR_INVALID);
    }
}

static void a_header_that_cannot_travel_is_refused(void **state) {
    struct rig *r = *state;
    struct bus_header header = {"key", "mine"};
    struct bus_event v = {.event_id = id_new(r->io), .topic = "t", .headers = &header, .header_count = 1};
    assert_int_equal(bus_publish(r->bus, &v, on_done, r, &r->err), ERR_INVALID);
}

// ---- messages of others

static void publish_foreign(struct rig *r, const char *message_id) {
    amqp_connection_state_t c = dial_plainly();
    amqp_table_entry_t entries[] = {
        {.key = amqp_cstring_bytes("n"), .value = {.kind = AMQP_FIELD_KIND_I32, .value.i32 = 7}},
        {.key = amqp_cstring_bytes("key"),
         .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes("k")}}};
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_HEADERS_FLAG, .headers = {2, entries}};
    if (message_id) {
        p._flags |= AMQP_BASIC_MESSAGE_ID_FLAG;
        p.message_id = amqp_cstring_bytes(message_id);
    }
    amqp_frame_t f;
    amqp_basic_publish(c, 1, amqp_cstring_bytes("barid.events"), amqp_cstring_bytes(own(r, "t")), 1, 0, &p,
                       amqp_cstring_bytes("foreign"));
    assert_int_equal(amqp_simple_wait_frame(c, &f), AMQP_STATUS_OK);
    assert_int_equal(f.payload.method.id, AMQP_BASIC_ACK_METHOD);
    hang_up(c);
}

static void a_message_of_others_has_an_id_that_loses_nothing(void **state) {
    struct rig *r = *state;
    struct handler h = {0};
    subscribe(r, &h, "g", "t", 0);
    publish_foreign(r, "order-17");
    publish_foreign(r, "order-17");
    publish_foreign(r, NULL);
    publish_foreign(r, NULL);
    run_until(r, 4);
    assert_true(id_equal(&h.got[0].id, &h.got[1].id));
    assert_false(id_equal(&h.got[2].id, &h.got[3].id));
    assert_string_equal(h.got[0].key, "k");
    assert_int_equal(h.got[0].headers, 1);
}

// ---- a connection that breaks: a proxy on this side of it, which the test cuts

struct proxy {
    pthread_t thread;
    int listener, pairs[16][2], n;
    uint16_t port, upstream;
    pthread_mutex_t lock;
    bool end, refuse;
};

static int dial(uint16_t port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0) return fd;
    close(fd);
    return -1;
}

static void drop_pair(struct proxy *p, int i) {
    close(p->pairs[i][0]);
    close(p->pairs[i][1]);
    memcpy(p->pairs[i], p->pairs[--p->n], sizeof p->pairs[i]);
}

static bool pass(int from, int to) {
    char bytes[65536];
    ssize_t n = recv(from, bytes, sizeof bytes, MSG_DONTWAIT);
    return n > 0 && send(to, bytes, (size_t)n, MSG_NOSIGNAL) == n;
}

static void take_one(struct proxy *p) {
    int in = accept(p->listener, NULL, NULL), out = p->refuse ? -1 : dial(p->upstream);
    if (out < 0 || p->n == 16) {
        close(in);
        if (out >= 0) close(out);
        return;
    }
    p->pairs[p->n][0] = in;
    p->pairs[p->n++][1] = out;
}

static void *run_proxy(void *arg) {
    struct proxy *p = arg;
    for (;;) {
        struct pollfd on[33] = {{.fd = p->listener, .events = POLLIN}};
        for (int i = 0; i < 2 * p->n; i++) on[1 + i] = (struct pollfd){.fd = p->pairs[i / 2][i % 2], .events = POLLIN};
        int n = p->n;
        poll(on, 1 + 2 * (nfds_t)n, -1);
        pthread_mutex_lock(&p->lock);
        bool end = p->end;
        for (int i = n - 1; i >= 0; i--) {
            bool broken = (on[1 + 2 * i].revents && !pass(p->pairs[i][0], p->pairs[i][1])) ||
                          (on[2 + 2 * i].revents && !pass(p->pairs[i][1], p->pairs[i][0]));
            if (broken) drop_pair(p, i);
        }
        if (on[0].revents) take_one(p);
        pthread_mutex_unlock(&p->lock);
        if (end) return NULL;
    }
}

static void proxy_start(struct proxy *p) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    *p = (struct proxy){.listener = socket(AF_INET, SOCK_STREAM, 0),
                        .upstream = (uint16_t)strtol(strrchr(broker(), ':') + 1, NULL, 10)};
    assert_int_equal(bind(p->listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(p->listener, 16), 0);
    getsockname(p->listener, (struct sockaddr *)&at, &length);
    p->port = ntohs(at.sin_port);
    pthread_mutex_init(&p->lock, NULL);
    pthread_create(&p->thread, NULL, run_proxy, p);
}

static void proxy_cut(struct proxy *p, bool refuse) {
    pthread_mutex_lock(&p->lock);
    p->refuse = refuse;
    for (int i = 0; i < p->n; i++) shutdown(p->pairs[i][0], SHUT_RDWR);
    pthread_mutex_unlock(&p->lock);
}

static void proxy_end(struct proxy *p) {
    pthread_mutex_lock(&p->lock);
    p->end = true;
    pthread_mutex_unlock(&p->lock);
    close(dial(p->port));
    pthread_join(p->thread, NULL);
    while (p->n > 0) drop_pair(p, 0);
    close(p->listener);
}

static struct bus *open_through(struct rig *r, struct proxy *p) {
    char url[256];
    snprintf(url, sizeof url, "amqp://guest:guest@127.0.0.1:%u/%%2F", p->port);
    return open_at(r, url, false);
}

static void what_was_in_hand_comes_again_after_the_connection_broke(void **state) {
    struct rig *r = *state;
    struct handler h = {.hold = true};
    struct proxy p;
    proxy_start(&p);
    struct bus *b = open_through(r, &p);
    subscribe_at(r, b, &h, own(r, "g"), own(r, "t"), 0);
    put(r, own(r, "t"), "k", "0", NULL, NULL);
    put(r, own(r, "t"), "k", "1", NULL, NULL);
    put(r, own(r, "t"), "other", "2", NULL, NULL);
    run_until(r, 2);
    proxy_cut(&p, false);
    run_until_reachable(r, b, false);
    run_until_reachable(r, b, true);
    assert_int_equal(h.n, 2);                                // their keys' turns are still with the handler
    bus_settle(h.subscription, h.got[0].tag, BUS_ACK, NULL); // late: its connection is gone
    h.hold = false;
    bus_settle(h.subscription, h.got[1].tag, BUS_ACK, NULL);
    run_until(r, 5);
    bus_close(b);
    proxy_end(&p);
    const char *k[2] = {"0", "1"};
    int n = 0;
    for (int i = 2; i < 5; i++)
        if (strcmp(h.got[i].key, "k") == 0) assert_string_equal(h.got[i].body, k[n++]);
    assert_int_equal(n, 2);
}

struct tally {
    struct rig *rig;
    uint32_t ok, away;
};

static void on_tally(void *arg, enum err err, const char *why) {
    struct tally *t = arg;
    assert_true(err == ERR_OK || err == ERR_UNAVAILABLE);
    if (err) t->away++;
    else t->ok++;
    progress(t->rig);
}

static void everything_is_answered_when_the_connection_breaks_and_publishing_goes_on(void **state) {
    struct rig *r = *state;
    struct tally t = {.rig = r};
    struct handler h = {0};
    struct proxy p;
    proxy_start(&p);
    struct bus *b = open_through(r, &p);
    run_until_reachable(r, b, true);
    proxy_cut(&p, true);
    for (int i = 0; i < 100; i++) {
        struct bus_event v = {.event_id = id_new(r->io), .topic = own(r, "t"), .payload = "x", .payload_length = 1};
        enum err code = bus_publish(b, &v, on_tally, &t, &r->err);
        if (code) on_tally(&t, code, r->err.text); // it knows already
    }
    run_until(r, 100);
    assert_int_equal(t.away, 100);
    assert_false(bus_reachable(b));
    subscribe(r, &h, "g", "t", 0);
    proxy_cut(&p, false);
    run_until_reachable(r, b, true);
    put_at(r, b, own(r, "t"), NULL, "again", NULL, NULL);
    run_until(r, 101);
    assert_string_equal(h.got[0].body, "again");
    bus_close(b);
    proxy_end(&p);
}

static void many_events_keep_their_order(void **state) {
    struct rig *r = *state;
    struct handler h = {0};
    char body[16];
    subscribe(r, &h, "g", "t", 8);
    for (int i = 0; i < 250; i++) {
        snprintf(body, sizeof body, "%d", i);
        put(r, own(r, "t"), "k", body, NULL, NULL);
    }
    run_until(r, 250);
    for (int i = 0; i < 250; i++) {
        snprintf(body, sizeof body, "%d", i);
        assert_string_equal(h.got[i].body, body);
    }
}

static void on_large(void *arg, const struct bus_delivery *d) {
    struct handler *h = arg;
    const uint8_t *bytes = d->event.payload;
    assert_int_equal(d->event.payload_length, 1000000);
    for (size_t i = 0; i < d->event.payload_length; i++) assert_int_equal(bytes[i], (uint8_t)(i * 7));
    bus_settle(h->subscription, d->tag, BUS_ACK, NULL);
    progress(h->rig);
}

static void a_large_event_arrives_whole(void **state) {
    struct rig *r = *state;
    struct handler h = {.rig = r};
    uint8_t *bytes = malloc(1000000);
    for (size_t i = 0; i < 1000000; i++) bytes[i] = (uint8_t)(i * 7);
    struct bus_subscribe_options o = {.group = own(r, "g"), .pattern = own(r, "t")};
    assert_int_equal(bus_subscribe(r->bus, &o, on_large, &h, &h.subscription, &r->err), ERR_OK);
    run_until_reachable(r, r->bus, true);
    struct bus_event v = {.event_id = id_new(r->io), .topic = own(r, "t"), .payload = bytes, .payload_length = 1000000};
    assert_int_equal(bus_publish(r->bus, &v, NULL, NULL, &r->err), ERR_OK);
    run_until(r, 1);
    free(bytes);
}

// ---- patterns, which need no broker

static void patterns_with_stars_are_bound_wider_and_sifted(void **state) {
    char bound[256];
    assert_false(amqp_pattern_bound("a.*.#", bound));
    assert_string_equal(bound, "a.*.#");
    assert_true(amqp_pattern_bound("a.message_*.b", bound));
    assert_string_equal(bound, "a.*.b");
    assert_true(amqp_pattern_matches("message_*", "message_send"));
    assert_true(amqp_pattern_matches("message_*", "message_"));
    assert_false(amqp_pattern_matches("message_*", "message_send.more"));
    assert_false(amqp_pattern_matches("message_*", "a_message_send"));
    assert_true(amqp_pattern_matches("*ed.#", "parked"));
    assert_true(amqp_pattern_matches("*ed.#.x", "parked.a.b.x"));
    assert_false(amqp_pattern_matches("*ed.#.x", "parked.a.b"));
    assert_true(amqp_pattern_matches("#", ""));
    assert_false(amqp_pattern_matches("a", "a.b"));
}

static void no_broker(void **state) { skip(); }

int main(void) {
    bool there = broker() != NULL;
#define BUS_TEST(f)                                                                                                    \
    {                                                                                                                  \
        .name = #f, .test_func = there ? f : no_broker, .setup_func = there ? setup : NULL,                            \
        .teardown_func = there ? teardown : NULL                                                                       \
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_with_stars_are_bound_wider_and_sifted),
        BUS_TEST(an_event_arrives_as_it_was_published),
        BUS_TEST(every_group_gets_all_and_members_compete),
        BUS_TEST(a_retry_is_not_overtaken_by_its_key),
        BUS_TEST(unordered_events_of_a_key_are_in_hand_together),
        BUS_TEST(after_its_attempts_an_event_is_parked_with_the_reason_and_its_key_goes_on),
        BUS_TEST(prefetch_bounds_what_a_handler_has),
        BUS_TEST(a_member_that_leaves_gives_back_to_the_others),
        BUS_TEST(what_is_not_settled_comes_again_in_order),
        BUS_TEST(a_pattern_may_have_a_star_within_a_word),
        BUS_TEST(a_handler_may_leave_inside_its_call),
        BUS_TEST(an_event_that_nobody_wants_is_answered_too),
        BUS_TEST(a_mandatory_event_that_no_queue_takes_is_refused_and_no_other),
        BUS_TEST(with_the_default_exchange_the_topic_is_the_queue),
        BUS_TEST(a_queue_that_somebody_has_made_otherwise_is_taken_as_it_is),
        BUS_TEST(an_event_for_a_bus_that_is_away_is_not_to_blame),
        BUS_TEST(a_url_that_makes_no_sense_is_refused),
        BUS_TEST(a_header_that_cannot_travel_is_refused),
        BUS_TEST(a_message_of_others_has_an_id_that_loses_nothing),
        BUS_TEST(what_was_in_hand_comes_again_after_the_connection_broke),
        BUS_TEST(everything_is_answered_when_the_connection_breaks_and_publishing_goes_on),
        BUS_TEST(many_events_keep_their_order),
        BUS_TEST(a_large_event_arrives_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
