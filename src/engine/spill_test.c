// Transient messages for which memory has no room: written down to be read back, and nothing more.
#include "engine/rig_test.h"

#define BUDGET (16u << 20)

static int setup(void **state) {
    struct rig *r = calloc(1, sizeof *r);
    r->sim = io_sim_new(1);
    r->journal = (struct journal_options){.dir = "journal", .segment_bytes = 8 << 20, .low_water_bytes = 1 << 20};
    r->options.memory_budget = BUDGET;
    rig_open(r);
    *state = r;
    return 0;
}

// ---- messages that tell their number, and are different to the last byte

#define SIZE_MOST (150u << 10)

static uint32_t size_of(uint32_t number) { return 50000 + number * 7919 % 100000; } // 100,000 on average

static void write_body(uint32_t number, uint8_t *out) {
    uint32_t n = size_of(number), x = number * 2654435761u + 1;
    for (uint32_t i = 0; i < n; i++) {
        x = x * 1664525 + 1013904223;
        out[i] = (uint8_t)(x >> 24);
    }
    memcpy(out, &number, 4);
}

static uint64_t memory(struct rig *r) {
    struct engine_stats stats;
    engine_stats(r->engine, &stats);
    return stats.body_bytes;
}

static enum err send_to(struct rig *r, const char *queue, uint32_t number, bool persistent) {
    static uint8_t body[SIZE_MOST];
    write_body(number, body);
    struct message m = {.routing_key = queue, .body = body, .body_length = size_of(number), .persistent = persistent};
    enum err code = rig_send(r, m);
    assert_true(memory(r) <= BUDGET);
    return code;
}

static void send(struct rig *r, const char *queue, uint32_t number) {
    assert_int_equal(send_to(r, queue, number, false), ERR_OK);
}

static void send_many(struct rig *r, const char *queue, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        send(r, queue, i);
        rig_sync(r);
        io_sim_advance(r->sim, 1000000);
    }
}

// ---- somebody who looks at every byte, and wants them in order

struct looker {
    struct rig *rig;
    struct session *session;
    struct consumer *consumer;
    uint32_t next, step, seen;
    bool no_ack, redelivered;
};

static void look(void *arg, const struct delivery *d) {
    static uint8_t expected[SIZE_MOST];
    struct looker *l = arg;
    assert_int_equal(d->body_length, size_of(l->next));
    write_body(l->next, expected);
    assert_memory_equal(d->body, expected, d->body_length);
    assert_true(memory(l->rig) <= BUDGET);
    assert_int_equal(d->redelivered, l->redelivered);
    l->next += l->step;
    l->seen++;
    if (l->no_ack) return;
    assert_int_equal(engine_settle(l->session, d->tag, false, SETTLE_ACK, NULL, NULL), ERR_OK);
}

static void look_at(struct rig *r, struct looker *l, const char *queue) {
    l->rig = r;
    if (l->step == 0) l->step = 1;
    l->session = engine_session_new(r->engine, &(struct session_options){.deliver = look, .arg = l});
    struct consumer_options o = {.no_ack = l->no_ack};
    if (engine_consume(l->session, r->vhost, queue, &o, NULL, &l->consumer, &r->err)) fail_msg("%s", r->err.text);
}

// ---- the disk

static uint64_t on_disk(struct rig *r) {
    struct journal_stats stats;
    journal_stats(engine_journal(r->engine), &stats);
    return stats.bytes_on_disk;
}

static void tidy(struct rig *r) { // as the commit thread does beside the batches
    struct journal *j = engine_journal(r->engine);
    for (struct journal_chore *c; (c = journal_chore_begin(j));) {
        assert_int_equal(journal_chore_run(c, &r->err), ERR_OK);
        journal_chore_end(j, c);
    }
}

// ---- tests

#define MANY 2000

static void a_backlog_of_many_times_the_memory_is_normal_work(void **state) {
    struct rig *r = *state;
    struct looker l = {0};
    rig_queue(r, "q", (struct queue_options){0});
    send_many(r, "q", MANY);
    assert_int_equal(r->done[PUBLISH_OK], MANY);
    assert_true(on_disk(r) > 180000000);
    assert_true(memory(r) > BUDGET / 4);
    look_at(r, &l, "q");
    rig_run(r);
    assert_int_equal(l.seen, MANY);
    assert_int_equal(memory(r), 0);
    tidy(r);
    assert_true(on_disk(r) <= 3 * r->journal.segment_bytes); // nothing was appended since, and it is free
}

static void a_restart_forgets_them_and_frees_their_space(void **state) {
    struct rig *r = *state;
    struct looker l = {.redelivered = true};
    rig_queue(r, "q", (struct queue_options){.durable = true});
    send_many(r, "q", MANY / 4);
    assert_int_equal(send_to(r, "q", 0, true), ERR_OK);
    rig_sync(r);
    rig_crash(r);
    assert_int_equal(rig_info(r, "q").info.ready, 1);
    tidy(r);
    assert_true(on_disk(r) <= 3 * r->journal.segment_bytes);
    look_at(r, &l, "q");
    rig_run(r);
    assert_int_equal(l.seen, 1);
}

// Each segment has one that stays to nine that go.
static void compaction_moves_them(void **state) {
    struct rig *r = *state;
    struct looker stay = {.step = 10}, go = {0};
    rig_queue(r, "stay", (struct queue_options){0});
    rig_queue(r, "go", (struct queue_options){.durable = true});
    rig_queue(r, "fill", (struct queue_options){0});
    for (uint32_t i = 0; i < 60; i++) send(r, "fill", i); // more than a third of the budget
    look_at(r, &go, "go");
    for (uint32_t i = 0; i < MANY; i++) {
        if (i % 10 == 0) send(r, "stay", i);
        go.next = i;
        assert_int_equal(send_to(r, "go", i, true), ERR_OK);
        rig_sync(r);
    }
    uint64_t before = on_disk(r);
    for (int i = 0; i < 400; i++) {
        rig_advance(r, 100);
        tidy(r);
    }
    assert_int_equal(go.seen, MANY);
    assert_int_equal(rig_info(r, "stay").info.ready, MANY / 10);
    assert_true(on_disk(r) < before / 2);
    look_at(r, &stay, "stay");
    rig_run(r);
    assert_int_equal(stay.seen, MANY / 10);
    for (int i = 0; i < 20; i++) rig_advance(r, 100);
    rig_crash(r);
    tidy(r);
    assert_true(on_disk(r) <= 4 * r->journal.segment_bytes);
}

static void nobody_waits_for_the_disk(void **state) {
    struct rig *r = *state;
    struct looker l = {.no_ack = true};
    rig_queue(r, "q", (struct queue_options){0});
    send_many(r, "q", 150); // 15 MB, and a third of 16 is for those without a record
    look_at(r, &l, "q");
    rig_run(r);
    for (uint32_t i = 150; i < 230; i++) send(r, "q", i);
    struct journal *j = engine_journal(r->engine);
    assert_true(journal_appended(j) > journal_durable(j));
    while (engine_dispatch(r->engine)) continue;
    assert_int_equal(l.seen, 230);
    assert_int_equal(r->done[PUBLISH_OK], 230);
    assert_true(journal_appended(j) > journal_durable(j));
    rig_sync(r);
    assert_int_equal(memory(r), 0);
}

// What waits for the disk is bounded, and goes on when the disk has.
static void beyond_what_may_wait_for_the_disk_the_publisher_waits(void **state) {
    struct rig *r = *state;
    struct looker l = {0};
    uint32_t n = 0;
    enum err code;
    rig_queue(r, "q", (struct queue_options){0});
    while ((code = send_to(r, "q", n, false)) == ERR_OK) n++;
    assert_int_equal(code, ERR_BUSY);
    assert_true(n > 150 && n < 300);
    rig_sync(r);
    send(r, "q", n++);
    look_at(r, &l, "q");
    rig_run(r);
    assert_int_equal(l.seen, n);
}

// Consuming appends nothing here, and makes room all the same.
static void a_disk_that_they_filled_has_room_again_when_they_are_consumed(void **state) {
    struct rig *r = *state;
    struct looker l = {0};
    struct io_sim_stats stats;
    const char *reason;
    uint32_t n = 0;
    enum err code;
    io_sim_stats(r->sim, &stats);
    io_sim_capacity(r->sim, stats.used_bytes + (100u << 20));
    rig_queue(r, "q", (struct queue_options){0});
    while ((code = send_to(r, "q", n, false)) == ERR_OK) {
        n++;
        rig_sync(r);
    }
    assert_int_equal(code, ERR_FULL);
    assert_true(n > 800);
    assert_int_equal(rig_info(r, "q").info.ready, n);
    look_at(r, &l, "q");
    rig_run(r);
    assert_int_equal(l.seen, n);
    tidy(r);
    io_sim_advance(r->sim, UINT64_C(1100000000));
    assert_false(engine_blocked(r->engine, &reason));
    send(r, "q", n++);
    rig_run(r);
    assert_int_equal(l.seen, n);
}

static void their_dead_letters_are_as_many(void **state) {
    struct rig *r = *state;
    struct looker l = {0};
    rig_queue(r, "grave", (struct queue_options){0});
    rig_queue(r, "q",
              (struct queue_options){.dead_letter_exchange = "",
                                     .dead_letter_routing_key = "grave",
                                     .has_message_ttl = true,
                                     .message_ttl_ms = 1000});
    send_many(r, "q", 400);
    rig_advance(r, 2000);
    for (int i = 0; i < 400 && rig_info(r, "grave").info.ready < 400; i++) rig_advance(r, 100);
    assert_int_equal(rig_info(r, "grave").info.ready, 400);
    assert_int_equal(rig_info(r, "q").info.ready, 0);
    assert_true(memory(r) <= BUDGET);
    look_at(r, &l, "grave");
    rig_run(r);
    assert_int_equal(l.seen, 400);
}

#define SPILL_TEST(f) cmocka_unit_test_setup_teardown(f, setup, rig_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        SPILL_TEST(a_backlog_of_many_times_the_memory_is_normal_work),
        SPILL_TEST(a_restart_forgets_them_and_frees_their_space),
        SPILL_TEST(compaction_moves_them),
        SPILL_TEST(nobody_waits_for_the_disk),
        SPILL_TEST(beyond_what_may_wait_for_the_disk_the_publisher_waits),
        SPILL_TEST(a_disk_that_they_filled_has_room_again_when_they_are_consumed),
        SPILL_TEST(their_dead_letters_are_as_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
