// Virtual hosts, and what topology looks like after a restart, of this version's records and of the first's.
#include "engine/rig_test.h"

#include "base/io.h"
#include "engine/records.h"

static const struct queue_options durable = {.durable = true};

static struct vhost *add(struct rig *r, const char *name) {
    struct vhost *v = NULL;
    if (engine_vhost_add(r->engine, name, &v, &r->err)) fail_msg("%s", r->err.text);
    return v;
}

static uint64_t ready(struct vhost *v, const char *queue) {
    struct queue_info info;
    assert_true(engine_queue(v, queue, &info));
    assert_string_equal(info.vhost, vhost_name(v));
    return info.ready;
}

static void each_vhost_has_its_own_names(void **state) {
    struct rig *r = *state;
    struct vhost *v = add(r, "other");
    assert_ptr_equal(add(r, "other"), v);
    rig_queue(r, "q", durable);
    assert_int_equal(engine_queue_declare(v, "q", &durable, &r->err), ERR_OK);
    rig_put(r, "q", "in the first");
    assert_int_equal(ready(r->vhost, "q"), 1);
    assert_int_equal(ready(v, "q"), 0);
    rig_run(r);
    rig_crash(r);
    v = engine_vhost(r->engine, "other");
    assert_non_null(v);
    assert_int_equal(ready(r->vhost, "q"), 1);
    assert_int_equal(ready(v, "q"), 0);
}

static void a_deleted_vhost_takes_everything_with_it(void **state) {
    struct rig *r = *state;
    struct vhost *v = add(r, "other");
    struct exchange_options x = {.type = EXCHANGE_TOPIC, .durable = true};
    struct binding_spec b = rig_binding("x", "q", "#"), own = rig_binding("amq.topic", "q", "a");
    engine_queue_declare(v, "q", &durable, NULL);
    engine_exchange_declare(v, "x", &x, NULL);
    assert_int_equal(engine_bind(v, &b, &r->err), ERR_OK);
    assert_int_equal(engine_bind(v, &own, &r->err), ERR_OK);
    rig_run(r);
    assert_int_equal(engine_vhost_delete(r->engine, "other", &r->err), ERR_OK);
    assert_int_equal(engine_vhost_delete(r->engine, "/", &r->err), ERR_FORBIDDEN);
    assert_int_equal(engine_queue_declare(v, "q", &durable, NULL), ERR_NOT_FOUND);
    struct message m = {.exchange = "", .routing_key = "q", .body = "x", .body_length = 1};
    assert_int_equal(engine_publish(v, &m, NULL, NULL, NULL, NULL), ERR_NOT_FOUND);
    rig_run(r);
    rig_crash(r);
    assert_null(engine_vhost(r->engine, "other"));
    v = add(r, "other");
    struct queue_info info;
    assert_false(engine_queue(v, "q", &info));
    struct engine_stats stats;
    engine_stats(r->engine, &stats);
    assert_int_equal(stats.queues + stats.bindings + stats.exchanges, 0);
}

static void a_restart_keeps_every_option(void **state) {
    struct rig *r = *state;
    struct view arguments = {.data = (const uint8_t *)"\1at\1", .length = 4};
    struct queue_options o = {.type = QUEUE_QUORUM,
                              .durable = true,
                              .auto_delete = true,
                              .single_active_consumer = true,
                              .max_priority = 7,
                              .has_message_ttl = true,
                              .expires_ms = 1000000,
                              .has_max_length = true,
                              .has_max_length_bytes = true,
                              .max_length_bytes = 5,
                              .overflow = OVERFLOW_REJECT_PUBLISH_DLX,
                              .delivery_limit = 3,
                              .retry_delay_ms = 4,
                              .retry_multiplier = 1.5,
                              .retry_max_delay_ms = 9,
                              .dedupe_window_ms = 10,
                              .dead_letter_exchange = "dlx",
                              .dead_letter_routing_key = "",
                              .park = true,
                              .arguments = arguments};
    struct exchange_options x = {.type = EXCHANGE_TOPIC,
                                 .durable = true,
                                 .auto_delete = true,
                                 .internal = true,
                                 .alternate = "other",
                                 .arguments = arguments};
    struct binding_spec b = rig_binding("x", "q", "key");
    b.arguments = arguments;
    rig_queue(r, "q", o);
    assert_int_equal(engine_exchange_declare(r->vhost, "x", &x, &r->err), ERR_OK);
    assert_int_equal(engine_bind(r->vhost, &b, &r->err), ERR_OK);
    rig_run(r);
    for (int i = 0; i < 2; i++) {
        rig_crash(r);
        rig_queue(r, "q", o);
        assert_int_equal(engine_exchange_declare(r->vhost, "x", &x, &r->err), ERR_OK);
        struct queue_info q;
        struct exchange_info e;
        assert_true(engine_queue(r->vhost, "q", &q));
        assert_true(engine_exchange(r->vhost, "x", &e));
        assert_memory_equal(q.options->arguments.data, arguments.data, 4);
        assert_memory_equal(e.options->arguments.data, arguments.data, 4);
        struct engine_stats stats;
        engine_stats(r->engine, &stats);
        assert_int_equal(stats.bindings, 1);
        assert_int_equal(engine_bind(r->vhost, &b, &r->err), ERR_OK);
        engine_stats(r->engine, &stats);
        assert_int_equal(stats.bindings, 1);
    }
}

// ---- the first version

static struct journal_ref append(struct journal *j, uint8_t kind, const struct buf *b) {
    struct iovec part = {b->data, b->len};
    struct journal_ref ref;
    jpos pos;
    assert_int_equal(journal_append(j, kind, 0, 0, &part, 1, &ref, &pos), ERR_OK);
    return ref;
}

static enum err ignore(void *arg, const struct journal_record *r, struct error *err) { return ERR_OK; }

static void old_queue(struct journal *j, uint32_t id, const char *name) {
    struct buf b;
    buf_init(&b, 1 << 16);
    buf_add_u32(&b, id);
    buf_add_u8(&b, 2 | 4 | 8); // has a ttl, parks, has a dead letter exchange
    buf_add_u8(&b, 3);
    buf_add_u8(&b, OVERFLOW_REJECT_PUBLISH);
    buf_add_u64(&b, 3600000);
    buf_add_u64(&b, 0);
    buf_add_u64(&b, 100);
    buf_add_u64(&b, 0);
    buf_add_u32(&b, 5);
    buf_add_u32(&b, 500);
    buf_add_u64(&b, 0);
    buf_add_u32(&b, 0);
    buf_add_u32(&b, 0);
    text_encode(&b, "dlx");
    text_encode(&b, "");
    text_encode(&b, name);
    append(j, RECORD_QUEUE_V1, &b);
    buf_release(&b);
}

static void old_exchange_and_binding(struct journal *j, uint32_t queue) {
    struct buf b;
    buf_init(&b, 1 << 16);
    buf_add_u8(&b, EXCHANGE_TOPIC);
    text_encode(&b, "events");
    append(j, RECORD_EXCHANGE_V1, &b);
    buf_clear(&b);
    buf_add_u32(&b, queue);
    text_encode(&b, "events");
    text_encode(&b, "a.*");
    append(j, RECORD_BINDING_V1, &b);
    buf_release(&b);
}

static void old_message(struct journal *j, uint32_t queue, int64_t now) {
    struct buf b;
    uint8_t head[HEAD_BYTES];
    buf_init(&b, 1 << 16);
    struct content c = {.seq = 41,
                        .published_at_ms = now,
                        .expires_ms = -1,
                        .properties_length = 3,
                        .body_length = 3,
                        .entries = 1,
                        .exchange_length = 6,
                        .key_length = 3};
    content_encode_head(&c, head);
    buf_add(&b, head, sizeof head);
    buf_add(&b, "events\0a.b\0\0keyold", 6 + 1 + 3 + 1 + 1 + 3 + 3);
    buf_add_u32(&b, queue);
    append(j, RECORD_PUBLISH, &b);
    buf_release(&b);
}

static void write_old_journal(struct rig *r) {
    struct journal *j;
    engine_close(r->engine);
    r->journal.dir = "old";
    if (journal_open(&j, io_sim_io(r->sim), &r->journal, ignore, NULL, &r->err)) fail_msg("%s", r->err.text);
    old_queue(j, 9, "q");
    old_exchange_and_binding(j, 9);
    old_message(j, 9, io_wall_ms(io_sim_io(r->sim)));
    struct journal_batch *b = journal_batch_begin(j);
    assert_int_equal(journal_batch_write(b, &r->err), ERR_OK);
    journal_batch_end(j, b);
    journal_close(j);
    rig_open(r);
}

static void a_journal_of_the_first_version_is_read(void **state) {
    struct rig *r = *state;
    struct taker t = {0};
    write_old_journal(r);
    rig_queue(r, "q",
              (struct queue_options){.durable = true,
                                     .max_priority = 3,
                                     .has_message_ttl = true,
                                     .message_ttl_ms = 3600000,
                                     .has_max_length = true,
                                     .max_length = 100,
                                     .overflow = OVERFLOW_REJECT_PUBLISH,
                                     .delivery_limit = 5,
                                     .retry_delay_ms = 500,
                                     .dead_letter_exchange = "dlx",
                                     .park = true});
    rig_exchange(r, "events", EXCHANGE_TOPIC);
    struct message m = {.exchange = "events", .routing_key = "a.c", .body = "new", .persistent = true};
    assert_int_equal(rig_send(r, m), ERR_OK);
    rig_run(r);
    rig_take(r, &t, "q", (struct consumer_options){0});
    rig_run(r);
    EXPECT(r, "old", "new");
    assert_string_equal(r->seen[0].key, "a.b");
    rig_crash(r); // and once more, with what was added
    rig_exchange(r, "events", EXCHANGE_TOPIC);
    assert_int_equal(rig_send(r, m), ERR_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        RIG_TEST(each_vhost_has_its_own_names),
        RIG_TEST(a_deleted_vhost_takes_everything_with_it),
        RIG_TEST(a_restart_keeps_every_option),
        RIG_TEST(a_journal_of_the_first_version_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
