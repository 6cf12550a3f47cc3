// The embedded bus on a real loop, a real commit thread and a real directory.
#include "base/test.h"

#include "base/io.h"
#include "base/loop.h"
#include "bus/bus.h"
#include "engine/engine.h"
#include "wire/properties.h"

#include <ftw.h>
#include <unistd.h>

#define PATIENCE_MS 20000

struct rig {
    char dir[64];
    struct io *io;
    struct loop *loop;
    struct bus *bus;
    struct loop_timer patience;
    struct error err;
    uint32_t answered, target; // the loop stops when `answered` reaches it
    enum err last;
};

struct got {
    char topic[32], key[32], body[64];
    struct id id;
    uint64_t tag;
    uint32_t attempt;
};

struct handler {
    struct rig *rig;
    struct bus_subscription *subscription;
    struct got got[512];
    uint32_t n;
    int retry_first;      // so often the body "poison" is given back
    bool hold, unordered; // settle nothing
};

static void out_of_patience(struct loop_timer *t) { fail_msg("nothing happened for too long"); }

static void open_bus(struct rig *r) {
    struct bus_options o = {.url = "embedded:", .io = r->io};
    if (loop_new(&r->loop, &r->err) || bus_open(&r->bus, r->loop, &o, &r->err)) fail_msg("%s", r->err.text);
    r->patience = (struct loop_timer){.fn = out_of_patience};
    loop_timer_start(r->loop, &r->patience, PATIENCE_MS);
}

static void close_bus(struct rig *r) {
    bus_close(r->bus);
    loop_timer_stop(r->loop, &r->patience);
    loop_free(r->loop);
}

static int setup(void **state) {
    struct rig *r = calloc(1, sizeof *r);
    snprintf(r->dir, sizeof r->dir, "/tmp/barid-bus-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    if (io_os_new(&r->io, r->dir, &r->err)) fail_msg("%s", r->err.text);
    open_bus(r);
    *state = r;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) { return remove(path); }

static int teardown(void **state) {
    struct rig *r = *state;
    close_bus(r);
    io_os_free(r->io);
    nftw(r->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
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

static void on_done(void *arg, enum err err, const char *why) {
    struct rig *r = arg;
    r->last = err;
    progress(r);
}

static void count_only(void *arg, enum err err, const char *why) {
    assert_int_equal(err, ERR_OK);
    (*(uint32_t *)arg)++;
}

static struct id put(struct rig *r, const char *topic, const char *key, const char *body, bus_done_fn *done,
                     void *arg) {
    struct bus_event v = {
        .event_id = id_new(r->io), .topic = topic, .key = key, .payload = body, .payload_length = strlen(body)};
    if (bus_publish(r->bus, &v, done, arg, &r->err)) fail_msg("%s", r->err.text);
    return v.event_id;
}

static void on_event(void *arg, const struct bus_delivery *d) {
    struct handler *h = arg;
    struct got *g = &h->got[h->n++];
    snprintf(g->topic, sizeof g->topic, "%s", d->event.topic);
    snprintf(g->key, sizeof g->key, "%s", d->event.key ? d->event.key : "");
    snprintf(g->body, sizeof g->body, "%.*s", (int)d->event.payload_length, (const char *)d->event.payload);
    g->id = d->event.event_id;
    g->tag = d->tag;
    g->attempt = d->attempt;
    if (!h->hold) {
        bool again = strcmp(g->body, "poison") == 0 && h->retry_first-- > 0;
        bus_settle(h->subscription, d->tag, again ? BUS_RETRY : BUS_ACK, "it is poison");
    }
    progress(h->rig);
}

static void subscribe(struct rig *r, struct handler *h, const char *group, const char *pattern, uint32_t prefetch) {
    h->rig = r;
    struct bus_subscribe_options o = {
        .group = group, .pattern = pattern, .prefetch = prefetch, .unordered = h->unordered};
    if (bus_subscribe(r->bus, &o, on_event, h, &h->subscription, &r->err)) fail_msg("%s", r->err.text);
}

static void an_event_arrives_as_it_was_published(void **state) {
    struct rig *r = *state;
    struct handler h = {0};
    subscribe(r, &h, "readers", "message_send", 0);
    put(r, "other", "k", "no", NULL, NULL);
    struct id id = put(r, "message_send", "conversation-1", "hello", NULL, NULL);
    run_until(r, 1);
    assert_string_equal(h.got[0].topic, "message_send");
    assert_string_equal(h.got[0].key, "conversation-1");
    assert_string_equal(h.got[0].body, "hello");
    assert_true(id_equal(&h.got[0].id, &id));
    assert_int_equal(h.got[0].attempt, 1);
}

static void an_event_that_nobody_wants_is_answered_too(void **state) {
    struct rig *r = *state;
    put(r, "lonely", NULL, "x", on_done, r);
    run_until(r, 1);
    assert_int_equal(r->last, ERR_OK);
}

static void every_group_gets_all_and_members_compete(void **state) {
    struct rig *r = *state;
    struct handler a = {0}, b = {0}, c = {0};
    subscribe(r, &a, "one", "t", 0);
    subscribe(r, &b, "one", "t", 0);
    subscribe(r, &c, "two", "t", 0);
    for (int i = 0; i < 20; i++) put(r, "t", NULL, "x", NULL, NULL);
    run_until(r, 40);
    assert_int_equal(c.n, 20);
    assert_int_equal(a.n, 10);
    assert_int_equal(b.n, 10);
}

static void a_retry_is_not_overtaken_by_its_key(void **state) {
    struct rig *r = *state;
    struct handler a = {.retry_first = 2};
    subscribe(r, &a, "g", "t", 0);
    put(r, "t", "k", "poison", NULL, NULL);
    put(r, "t", "k", "second", NULL, NULL);
    put(r, "t", "k", "third", NULL, NULL);
    put(r, "t", "other", "free", NULL, NULL);
    run_until(r, 6);
    assert_string_equal(a.got[0].body, "poison");
    assert_string_equal(a.got[1].body, "free");
    assert_string_equal(a.got[2].body, "poison");
    assert_int_equal(a.got[2].attempt, 2);
    assert_string_equal(a.got[3].body, "poison");
    assert_int_equal(a.got[3].attempt, 3);
    assert_string_equal(a.got[4].body, "second");
    assert_string_equal(a.got[5].body, "third");
}

static void unordered_events_of_a_key_are_in_hand_together(void **state) {
    struct rig *r = *state;
    struct handler h = {.hold = true, .unordered = true};
    subscribe(r, &h, "g", "t", 0);
    put(r, "t", "k", "first", NULL, NULL);
    put(r, "t", "k", "second", NULL, NULL);
    run_until(r, 2);
    assert_string_equal(h.got[0].body, "first");
    assert_string_equal(h.got[1].body, "second");
}

static void note_parked(void *arg, const struct parked *p) {
    struct parked *out = arg;
    *out = *p;
    assert_string_equal(p->reason, "it is poison");
}

static void after_its_attempts_an_event_is_parked_and_its_key_goes_on(void **state) {
    struct rig *r = *state;
    struct handler h = {.retry_first = 100};
    struct parked p = {0};
    subscribe(r, &h, "g", "t", 0);
    put(r, "t", "k", "poison", NULL, NULL);
    put(r, "t", "k", "next", NULL, NULL);
    run_until(r, 4);
    assert_string_equal(h.got[3].body, "next");
    engine_parked_list(bus_engine(r->bus), "barid.g", note_parked, &p);
    assert_int_equal(p.attempts, 3);
}

static void prefetch_bounds_what_a_handler_has(void **state) {
    struct rig *r = *state;
    struct handler h = {.hold = true};
    uint32_t done = 0;
    subscribe(r, &h, "g", "t", 2);
    for (int i = 0; i < 6; i++) put(r, "t", NULL, "x", count_only, &done);
    run_until(r, 2);
    put(r, "t", NULL, "x", on_done, r);
    run_until(r, 3);
    assert_int_equal(h.n, 2);
    bus_settle(h.subscription, h.got[0].tag, BUS_ACK, NULL);
    run_until(r, 4);
    assert_int_equal(h.n, 3);
    assert_int_equal(done, 6);
}

static void leaving_gives_everything_back_in_order(void **state) {
    struct rig *r = *state;
    struct handler a = {.hold = true}, b = {.hold = true}, c = {0};
    subscribe(r, &a, "g", "t", 0);
    subscribe(r, &b, "g", "t", 0);
    for (int i = 0; i < 6; i++) put(r, "t", "k", (const char *[]){"0", "1", "2", "3", "4", "5"}[i], NULL, NULL);
    run_until(r, 1); // one has the first, both hold followers
    assert_int_equal(a.n + b.n, 1);
    bus_unsubscribe(a.subscription);
    bus_unsubscribe(b.subscription);
    subscribe(r, &c, "g", "t", 0);
    run_until(r, 7);
    for (int i = 0; i < 6; i++) assert_int_equal(c.got[i].body[0], '0' + i);
}

static void what_is_not_settled_comes_again_after_a_restart(void **state) {
    struct rig *r = *state;
    struct handler h = {.hold = true}, again = {0};
    uint32_t done = 0;
    subscribe(r, &h, "g", "t", 0);
    put(r, "t", "a", "0", NULL, NULL);
    put(r, "t", "b", "1", NULL, NULL);
    run_until(r, 2);
    bus_settle(h.subscription, h.got[0].tag, BUS_ACK, NULL);
    put(r, "t", "c", "2", count_only, &done); // answered by closing
    close_bus(r);
    assert_int_equal(done, 1);
    r->answered = 0;
    open_bus(r);
    subscribe(r, &again, "g", "t", 0);
    run_until(r, 2);
    assert_string_equal(again.got[0].body, "1");
    assert_string_equal(again.got[1].body, "2");
}

static void count_bindings(void *arg, const struct binding_spec *b) { (*(int *)arg)++; }

static void a_new_pattern_replaces_the_old_one(void **state) {
    struct rig *r = *state;
    struct handler h = {0}, again = {0};
    int bindings = 0;
    subscribe(r, &h, "g", "old", 0);
    bus_unsubscribe(h.subscription);
    subscribe(r, &again, "g", "new", 0);
    engine_each_binding(engine_vhost(bus_engine(r->bus), "/"), "barid.g", count_bindings, &bindings);
    assert_int_equal(bindings, 1);
    put(r, "old", NULL, "x", on_done, r);
    put(r, "new", NULL, "y", NULL, NULL);
    run_until(r, 2);
    assert_string_equal(again.got[0].body, "y");
}

static void unsubscribe_inside(void *arg, const struct bus_delivery *d) {
    struct handler *h = arg;
    h->n++;
    bus_unsubscribe(h->subscription);
    bus_settle(h->subscription, d->tag, BUS_ACK, NULL); // too late, and harmless
    progress(h->rig);
}

static void a_handler_may_leave_inside_its_call(void **state) {
    struct rig *r = *state;
    struct handler h = {.rig = r}, next = {0};
    struct bus_subscribe_options o = {.group = "g", .pattern = "t"};
    assert_int_equal(bus_subscribe(r->bus, &o, unsubscribe_inside, &h, &h.subscription, &r->err), ERR_OK);
    put(r, "t", "k", "a", NULL, NULL);
    put(r, "t", "k", "b", NULL, NULL);
    run_until(r, 1);
    subscribe(r, &next, "g", "t", 0);
    run_until(r, 3);
    assert_int_equal(h.n, 1);
    assert_string_equal(next.got[0].body, "a");
    assert_string_equal(next.got[1].body, "b");
}

static void a_pattern_may_end_in_a_star(void **state) {
    struct rig *r = *state;
    struct handler h = {0};
    subscribe(r, &h, "g", "message_*", 0);
    put(r, "message_send", NULL, "a", NULL, NULL);
    put(r, "conversation_made", NULL, "no", NULL, NULL);
    put(r, "message_read", NULL, "b", NULL, NULL);
    run_until(r, 2);
    assert_string_equal(h.got[0].body, "a");
    assert_string_equal(h.got[1].body, "b");
}

static void look_at_properties(void *arg, const struct delivery *d) {
    struct rig *r = arg;
    struct properties p;
    struct field key;
    char id[ID_TEXT] = "";
    assert_true(properties_decode(&p, d->properties, d->properties_length));
    assert_true(view_is(p.content_type, "application/json"));
    assert_true(view_is(p.type, "message_send"));
    assert_int_equal(p.delivery_mode, 2);
    assert_true(p.timestamp > 1600000000);
    snprintf(id, sizeof id, "%.*s", (int)p.message_id.length, (const char *)p.message_id.data);
    assert_string_equal(id, d->message_id);
    assert_true(table_find(p.headers, "key", &key));
    assert_true(view_is(key.bytes, "conversation-1"));
    progress(r);
}

// What others see who bind a queue of their own.
static void an_event_is_an_amqp_message(void **state) {
    struct rig *r = *state;
    struct engine *e = bus_engine(r->bus);
    struct vhost *v = engine_vhost(e, "/");
    struct binding_spec b = {.source = "barid.events", .destination = "own", .key = "message_*"};
    struct session *s = engine_session_new(e, &(struct session_options){look_at_properties, NULL, r});
    struct consumer *c;
    struct queue_options o = {.durable = true};
    assert_int_equal(engine_queue_declare(v, "own", &o, &r->err), ERR_OK);
    assert_int_equal(engine_bind(v, &b, &r->err), ERR_OK);
    struct consumer_options no_ack = {.no_ack = true};
    assert_int_equal(engine_consume(s, v, "own", &no_ack, NULL, &c, &r->err), ERR_OK);
    put(r, "message_send", "conversation-1", "hello", NULL, NULL);
    run_until(r, 1);
    engine_session_free(s);
}

// Events of the first version have their key where properties are now.
static void an_old_event_keeps_its_key(void **state) {
    struct rig *r = *state;
    struct handler h = {0};
    struct vhost *v = engine_vhost(bus_engine(r->bus), "/");
    subscribe(r, &h, "g", "t", 0);
    struct message m = {.exchange = "barid.events",
                        .routing_key = "t",
                        .properties = "conversation-1",
                        .properties_length = 14,
                        .body = "old",
                        .body_length = 3,
                        .persistent = true};
    assert_int_equal(engine_publish(v, &m, NULL, NULL, NULL, &r->err), ERR_OK);
    run_until(r, 1);
    assert_string_equal(h.got[0].key, "conversation-1");
}

int main(void) {
#define BUS_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        BUS_TEST(an_event_arrives_as_it_was_published),
        BUS_TEST(an_event_that_nobody_wants_is_answered_too),
        BUS_TEST(every_group_gets_all_and_members_compete),
        BUS_TEST(a_retry_is_not_overtaken_by_its_key),
        BUS_TEST(after_its_attempts_an_event_is_parked_and_its_key_goes_on),
        BUS_TEST(unordered_events_of_a_key_are_in_hand_together),
        BUS_TEST(prefetch_bounds_what_a_handler_has),
        BUS_TEST(leaving_gives_everything_back_in_order),
        BUS_TEST(what_is_not_settled_comes_again_after_a_restart),
        BUS_TEST(a_new_pattern_replaces_the_old_one),
        BUS_TEST(a_handler_may_leave_inside_its_call),
        BUS_TEST(a_pattern_may_end_in_a_star),
        BUS_TEST(an_event_is_an_amqp_message),
        BUS_TEST(an_old_event_keeps_its_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
