// Where messages go by what is in them: headers, consistent hash and deduplicating exchanges.
#include "engine/rig_test.h"
#include "engine/table_test.h"

static const struct queue_options durable = {.durable = true};

static uint64_t ready(struct rig *r, const char *queue) { return rig_info(r, queue).info.ready; }

static void send(struct rig *r, const char *exchange, const char *key, struct view properties) {
    struct message m = {.exchange = exchange,
                        .routing_key = key,
                        .properties = properties.data,
                        .properties_length = properties.length,
                        .body = "x",
                        .persistent = true};
    assert_int_equal(rig_send(r, m), ERR_OK);
}

static void bind_with(struct rig *r, const char *exchange, const char *queue, struct view arguments) {
    struct binding_spec b = rig_binding(exchange, queue, "");
    b.arguments = arguments;
    if (engine_bind(r->vhost, &b, &r->err)) fail_msg("%s", r->err.text);
}

static struct view one(const char *name, const char *value, const char *match) {
    struct buf *b = table_fresh();
    if (match) table_put_text(b, "x-match", match);
    table_put_text(b, name, value);
    return view_of_buf(b);
}

static void headers_lead_before_and_after_a_crash(void **state) {
    struct rig *r = *state;
    rig_queue(r, "pdf", durable);
    rig_queue(r, "either", durable);
    rig_exchange(r, "h", EXCHANGE_HEADERS);
    bind_with(r, "h", "pdf", one("format", "pdf", NULL));
    struct buf *b = table_fresh();
    table_put_text(b, "x-match", "any");
    table_put_text(b, "format", "zip");
    table_put_text(b, "kind", "report");
    bind_with(r, "h", "either", view_of_buf(b));
    struct binding_spec wrong = rig_binding("h", "pdf", "");
    wrong.arguments = one("format", "pdf", "some");
    assert_int_equal(engine_bind(r->vhost, &wrong, &r->err), ERR_INVALID);
    for (int round = 1; round <= 2; round++) {
        send(r, "h", "", properties_with(one("format", "pdf", NULL), NULL));
        send(r, "h", "", properties_with(one("kind", "report", NULL), NULL));
        send(r, "h", "", properties_with(one("kind", "letter", NULL), NULL));
        send(r, "h", "", (struct view){0});
        rig_run(r);
        assert_int_equal(ready(r, "pdf"), round);
        assert_int_equal(ready(r, "either"), round);
        assert_int_equal(r->done[PUBLISH_UNROUTABLE], 2 * round);
        rig_crash(r);
    }
}

static void the_hash_spreads_by_weight_and_stays(void **state) {
    struct rig *r = *state;
    char key[16];
    rig_queue(r, "small", durable);
    rig_queue(r, "large", durable);
    rig_exchange(r, "hash", EXCHANGE_CONSISTENT_HASH);
    rig_bind(r, "hash", "small", "1");
    rig_bind(r, "hash", "large", "3");
    struct binding_spec wrong = rig_binding("hash", "small", "heavy");
    assert_int_equal(engine_bind(r->vhost, &wrong, &r->err), ERR_INVALID);
    uint64_t small = 0;
    for (int round = 1; round <= 2; round++) {
        for (int i = 0; i < 400; i++) {
            snprintf(key, sizeof key, "%d", i);
            send(r, "hash", key, (struct view){0});
        }
        rig_run(r);
        assert_int_equal(ready(r, "small") + ready(r, "large"), 400 * round);
        if (round == 1) small = ready(r, "small");
        rig_crash(r);
    }
    assert_in_range(small, 70, 130);
    assert_int_equal(ready(r, "small"), 2 * small); // each key went where it went before
}

static void a_hash_by_header_or_property_is_checked(void **state) {
    struct rig *r = *state;
    struct exchange_options o = {.type = EXCHANGE_CONSISTENT_HASH, .hash_header = "h", .hash_property = "message_id"};
    assert_int_equal(engine_exchange_declare(r->vhost, "x", &o, &r->err), ERR_INVALID);
    o.hash_header = NULL;
    o.hash_property = "priority";
    assert_int_equal(engine_exchange_declare(r->vhost, "x", &o, &r->err), ERR_INVALID);
    o.hash_property = NULL;
    o.hash_header = "customer";
    assert_int_equal(engine_exchange_declare(r->vhost, "x", &o, &r->err), ERR_OK);
    rig_queue(r, "a", durable);
    rig_queue(r, "b", durable);
    rig_bind(r, "x", "a", "5");
    rig_bind(r, "x", "b", "5");
    char key[16];
    for (int i = 0; i < 50; i++) {
        snprintf(key, sizeof key, "%d", i);
        send(r, "x", key, properties_with(one("customer", "seven", NULL), NULL));
    }
    rig_run(r);
    assert_true(ready(r, "a") == 50 || ready(r, "b") == 50);
}

static struct view marked(const char *value, int64_t ttl) {
    struct buf *b = table_fresh();
    table_put_text(b, "x-deduplication-header", value);
    if (ttl) table_put_integer(b, "x-cache-ttl", ttl);
    return properties_with(view_of_buf(b), NULL);
}

static void a_deduplicating_exchange_routes_a_value_once(void **state) {
    struct rig *r = *state;
    struct exchange_options o = {.type = EXCHANGE_FANOUT, .durable = true, .dedupe_size = 3, .dedupe_ttl_ms = 1000};
    assert_int_equal(engine_exchange_declare(r->vhost, "once", &o, &r->err), ERR_OK);
    rig_queue(r, "q", durable);
    rig_bind(r, "once", "q", "");
    send(r, "once", "", marked("a", 0));
    send(r, "once", "", marked("a", 0));
    send(r, "once", "", marked("b", 0));
    send(r, "once", "", (struct view){0});
    send(r, "once", "", (struct view){0});
    rig_run(r);
    assert_int_equal(ready(r, "q"), 4);
    assert_int_equal(r->done[PUBLISH_DUPLICATE], 1);
    rig_advance(r, 1000);
    send(r, "once", "", marked("a", 5000)); // its own time
    rig_advance(r, 1500);
    send(r, "once", "", marked("a", 0));
    assert_int_equal(ready(r, "q"), 5);
    send(r, "once", "", marked("c", 0)); // three others push it out
    send(r, "once", "", marked("d", 0));
    send(r, "once", "", marked("e", 0));
    send(r, "once", "", marked("a", 0));
    assert_int_equal(ready(r, "q"), 9);
}

static void what_was_refused_is_not_remembered(void **state) {
    struct rig *r = *state;
    struct exchange_options o = {.type = EXCHANGE_FANOUT, .durable = true, .dedupe_size = 3};
    assert_int_equal(engine_exchange_declare(r->vhost, "once", &o, &r->err), ERR_OK);
    rig_queue(r, "q",
              (struct queue_options){
                  .durable = true, .has_max_length = true, .max_length = 1, .overflow = OVERFLOW_REJECT_PUBLISH});
    rig_bind(r, "once", "q", "");
    send(r, "once", "", marked("a", 0));
    send(r, "once", "", marked("b", 0));
    rig_run(r);
    assert_int_equal(r->done[PUBLISH_REJECTED], 1);
    uint64_t n;
    assert_int_equal(engine_queue_purge(r->vhost, "q", &n, &r->err), ERR_OK);
    send(r, "once", "", marked("b", 0));
    rig_run(r);
    assert_int_equal(ready(r, "q"), 1);
}

// An exchange that was deleted and declared again otherwise is read back from both of its records.
static void nothing_is_left_of_a_deduplicating_exchange_after_a_crash(void **state) {
    struct rig *r = *state;
    struct exchange_options o = {.type = EXCHANGE_FANOUT, .durable = true, .dedupe_size = 3};
    assert_int_equal(engine_exchange_declare(r->vhost, "x", &o, &r->err), ERR_OK);
    assert_int_equal(engine_exchange_delete(r->vhost, "x", false, &r->err), ERR_OK);
    rig_exchange(r, "x", EXCHANGE_FANOUT);
    rig_queue(r, "q", durable);
    rig_bind(r, "x", "q", "");
    rig_run(r);
    rig_crash(r);
    for (int i = 0; i < 2; i++) send(r, "x", "", properties_with(one("x-deduplication-header", "7", NULL), NULL));
    rig_run(r);
    assert_int_equal(ready(r, "q"), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        RIG_TEST(headers_lead_before_and_after_a_crash),
        RIG_TEST(the_hash_spreads_by_weight_and_stays),
        RIG_TEST(a_hash_by_header_or_property_is_checked),
        RIG_TEST(a_deduplicating_exchange_routes_a_value_once),
        RIG_TEST(what_was_refused_is_not_remembered),
        RIG_TEST(nothing_is_left_of_a_deduplicating_exchange_after_a_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
