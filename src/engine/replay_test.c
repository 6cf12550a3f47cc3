// What a restart brings back, and what compaction carries along.
#include "engine/records.h"
#include "engine/rig_test.h"

static const struct queue_options durable = {.durable = true};

static void numbered(struct rig *r, const char *queue, int i, uint32_t size) {
    static char body[70000];
    memset(body, '.', size);
    int n = snprintf(body, sizeof body, "%d", i);
    body[n] = size > (uint32_t)n ? ' ' : body[n];
    assert_int_equal(
        rig_send(r, (struct message){.routing_key = queue, .body = body, .body_length = size, .persistent = true}),
        ERR_OK);
}

static void what_is_not_settled_comes_back_in_order_and_marked(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q", durable);
    rig_take(r, &t, "q", (struct consumer_options){.prefetch = 4});
    for (int i = 0; i < 6; i++) numbered(r, "q", i, 1);
    rig_run(r);
    rig_settle(r, 1, SETTLE_ACK, NULL);
    rig_settle(r, 3, SETTLE_ACK, NULL);
    rig_sync(r);
    rig_crash(r);
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    EXPECT(r, "0", "2", "4", "5");
    for (uint32_t i = 0; i < 4; i++) assert_true(r->seen[i].redelivered);
}

static void an_ack_that_was_not_synced_may_be_forgotten(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "q", durable);
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_put(r, "q", "a");
    rig_run(r);
    rig_settle(r, 0, SETTLE_ACK, NULL);
    engine_flush(r->engine);
    rig_crash(r);
    assert_int_equal(rig_info(r, "q").info.ready, 1);
}

static void a_transient_message_does_not_come_back(void **state) {
    struct rig *r = *state;
    rig_queue(r, "q", durable);
    rig_send(r, (struct message){.routing_key = "q", .body = "x"});
    rig_run(r);
    assert_int_equal(rig_info(r, "q").info.ready, 1);
    rig_crash(r);
    assert_int_equal(rig_info(r, "q").info.ready, 0);
}

static void one_queue_of_a_message_is_settled_the_other_not(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    rig_queue(r, "a", durable);
    rig_queue(r, "b", durable);
    rig_exchange(r, "x", EXCHANGE_FANOUT);
    rig_bind(r, "x", "a", "");
    rig_bind(r, "x", "b", "");
    rig_send(r, (struct message){.exchange = "x", .routing_key = "", .body = "x", .persistent = true});
    rig_take(r, &t, "a", (struct consumer_options){0});
    rig_run(r);
    rig_settle(r, 0, SETTLE_ACK, NULL);
    rig_sync(r);
    rig_crash(r);
    assert_int_equal(rig_info(r, "a").info.ready, 0);
    assert_int_equal(rig_info(r, "b").info.ready, 1);
}

// Much comes and goes, a few stay: compaction keeps the disk small, and what stays is neither lost, doubled nor
// brought out of order, whatever crashes in between.
static void compaction_carries_what_is_left(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    struct journal_stats stats;
    rig_queue(r, "q", durable);
    rig_queue(r, "stay", (struct queue_options){.durable = true, .park = true});
    rig_queue(r, "parked", (struct queue_options){.durable = true, .park = true});
    rig_exchange(r, "x", EXCHANGE_TOPIC);
    rig_bind(r, "x", "q", "some.*");
    rig_take(r, &t, "parked", (struct consumer_options){0});
    rig_put(r, "parked", "p");
    rig_run(r);
    rig_settle(r, 0, SETTLE_PARK, "kept");
    r->n_seen = 0;
    t.ack = true;
    rig_take(r, &t, "q", (struct consumer_options){0});
    for (int i = 0; i < 1200; i++) {
        numbered(r, "q", i, 30000);
        if (i % 40 == 0) numbered(r, "stay", i / 40, 1000);
        rig_run(r);
        io_sim_advance(r->sim, 50000000);
        if (i % 97 == 96) {
            rig_crash(r);
            rig_take(r, &t, "q", (struct consumer_options){0});
            rig_run(r);
        }
        if (i % 1000 == 0) r->n_seen = 0;
    }
    rig_run(r);
    journal_stats(engine_journal(r->engine), &stats);
    assert_true(stats.bytes_on_disk <= 8 << 20); // 36 MB went through
    rig_crash(r);
    struct taker last = {0};
    rig_take(r, &last, "stay", (struct consumer_options){0});
    rig_run(r);
    assert_int_equal(r->n_seen, 30);
    for (int i = 0; i < 30; i++) assert_int_equal(strtol(r->seen[i].body, NULL, 10), i);
    assert_int_equal(rig_info(r, "parked").info.parked, 1);
    rig_send(r, (struct message){.exchange = "x", .routing_key = "some.thing", .body = "routed", .persistent = true});
    rig_run(r);
    assert_int_equal(rig_info(r, "q").info.ready, 1); // the binding moved too
}

struct copied {
    uint8_t bytes[256];
    uint32_t length, segment;
};

static enum err keep_binding(void *arg, const struct journal_record *record, struct error *e) {
    struct copied *c = arg;
    (void)e;
    if (record->kind != RECORD_BINDING) return ERR_OK;
    assert_true(record->length <= sizeof c->bytes);
    memcpy(c->bytes, record->payload, record->length);
    c->length = record->length;
    c->segment = record->ref.segment;
    return ERR_OK;
}

// As a compaction leaves it whose batch was torn: the copy is there, and so is the original.
static void a_binding_written_twice_is_undone_once(void **state) {
    struct rig *r = *state;
    struct journal *j;
    struct copied c = {.length = 0};
    rig_queue(r, "q", durable);
    rig_exchange(r, "x", EXCHANGE_FANOUT);
    rig_bind(r, "x", "q", "");
    rig_sync(r);
    engine_close(r->engine);
    assert_int_equal(journal_open(&j, io_sim_io(r->sim), &r->journal, keep_binding, &c, &r->err), ERR_OK);
    struct iovec part = {c.bytes, c.length};
    assert_int_equal(journal_append(j, RECORD_BINDING, 0, c.segment, &part, 1, NULL, NULL), ERR_OK);
    struct journal_batch *b = journal_batch_begin(j);
    assert_int_equal(journal_batch_write(b, &r->err), ERR_OK);
    journal_batch_end(j, b);
    journal_close(j);
    rig_open(r);
    rig_unbind(r, "x", "q", "");
    rig_sync(r);
    rig_crash(r);
    rig_send(r, (struct message){.exchange = "x", .routing_key = "", .body = "x", .persistent = true});
    rig_run(r);
    assert_int_equal(r->done[PUBLISH_UNROUTABLE], 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        RIG_TEST(a_binding_written_twice_is_undone_once),
        RIG_TEST(what_is_not_settled_comes_back_in_order_and_marked),
        RIG_TEST(an_ack_that_was_not_synced_may_be_forgotten),
        RIG_TEST(a_transient_message_does_not_come_back),
        RIG_TEST(one_queue_of_a_message_is_settled_the_other_not),
        RIG_TEST(compaction_carries_what_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
