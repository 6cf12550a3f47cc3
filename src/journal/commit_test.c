// The commit thread on the real disk: everything appended becomes durable, in order, and is there afterwards.
#include "base/io.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/test.h"
#include "journal/commit.h"

#include <unistd.h>

struct rig {
    char dir[64];
    struct io *io;
    struct loop *loop;
    struct journal *j;
    struct commit *commit;
    struct loop_post post;
    uint32_t appended, wanted, at_once, durable_calls;
    jpos positions[40000], last_seen;
    struct journal_ref refs[40000];
    uint32_t replayed;
};

static enum err replay(void *arg, const struct journal_record *r, struct error *e) {
    (void)e;
    struct rig *g = arg;
    uint32_t n;
    memcpy(&n, r->payload, 4);
    assert_int_equal(n, g->replayed);
    g->replayed++;
    return ERR_OK;
}

static void open_journal(struct rig *g) {
    struct journal_options o = {.dir = "log", .segment_bytes = 256 << 10, .low_water_bytes = 1};
    struct error e = {0};
    g->replayed = 0;
    if (journal_open(&g->j, g->io, &o, replay, g, &e) != ERR_OK) fail_msg("%s", e.text);
}

static void durable(void *arg);

static struct rig *rig_new(void) {
    struct rig *g = calloc(1, sizeof *g);
    assert_non_null(g);
    memcpy(g->dir, "/tmp/barid-commit-XXXXXX", sizeof "/tmp/barid-commit-XXXXXX");
    assert_non_null(mkdtemp(g->dir));
    assert_int_equal(io_os_new(&g->io, g->dir, NULL), ERR_OK);
    assert_int_equal(loop_new(&g->loop, NULL), ERR_OK);
    open_journal(g);
    assert_int_equal(commit_new(&g->commit, g->loop, g->j, durable, g, NULL), ERR_OK);
    return g;
}

static void remove_file(void *arg, const char *name) {
    struct rig *g = arg;
    char path[320];
    snprintf(path, sizeof path, "log/%s", name);
    assert_int_equal(g->io->v->remove(g->io, path), ERR_OK);
}

static void rig_free(struct rig *g) {
    loop_free(g->loop);
    journal_close(g->j);
    assert_int_equal(g->io->v->list(g->io, "log", remove_file, g), ERR_OK);
    assert_int_equal(g->io->v->remove(g->io, "log"), ERR_OK);
    io_os_free(g->io);
    assert_int_equal(rmdir(g->dir), 0);
    free(g);
}

static void append_one(struct rig *g) {
    uint8_t body[200] = {0};
    memcpy(body, &g->appended, 4);
    struct iovec part = {body, sizeof body};
    assert_int_equal(journal_append(g->j, 1, 0, 0, &part, 1, &g->refs[g->appended], &g->positions[g->appended]),
                     ERR_OK);
    g->appended++;
    commit_kick(g->commit);
}

static void durable(void *arg) {
    struct rig *g = arg;
    assert_true(loop_on_thread(g->loop));
    assert_true(journal_durable(g->j) > g->last_seen);
    g->last_seen = journal_durable(g->j);
    g->durable_calls++;
    for (uint32_t i = 0; i < g->at_once && g->appended < g->wanted; i++) append_one(g);
    if (g->appended == g->wanted && g->last_seen >= g->positions[g->wanted - 1]) loop_stop(g->loop);
}

static void begin(struct loop_post *p) {
    struct rig *g = LIST_ITEM(p, struct rig, post);
    for (uint32_t i = 0; i < g->at_once && g->appended < g->wanted; i++) append_one(g);
}

static void run(struct rig *g, uint32_t wanted, uint32_t at_once) {
    g->wanted = wanted;
    g->at_once = at_once;
    g->post.fn = begin;
    loop_post(g->loop, &g->post);
    loop_run(g->loop);
}

static void reopened_has(struct rig *g, uint32_t records) {
    commit_free(g->commit);
    journal_close(g->j);
    open_journal(g);
    assert_int_equal(g->replayed, records);
}

static void one_at_a_time_each_is_durable_before_the_next(void **state) {
    struct rig *g = rig_new();
    run(g, 300, 1);
    assert_int_equal(g->durable_calls, 300);
    reopened_has(g, 300);
    rig_free(g);
}

static void many_share_a_sync(void **state) {
    struct rig *g = rig_new();
    run(g, 40000, 500);
    struct journal_stats s;
    journal_stats(g->j, &s);
    assert_int_equal(s.appended_records, 40000);
    assert_true(s.syncs < 40000 / 100);
    assert_true(s.segments > 20);
    struct buf out;
    buf_init(&out, 1000);
    for (uint32_t i = 0; i < 40000; i += 1111) {
        assert_int_equal(journal_read(g->j, &g->refs[i], &out), ERR_OK);
        assert_memory_equal(out.data, &i, 4);
    }
    buf_release(&out);
    reopened_has(g, 40000);
    rig_free(g);
}

// Freed in the middle of things: what was appended is written all the same.
static void free_writes_what_is_pending(void **state) {
    for (int round = 0; round < 10; round++) {
        struct rig *g = rig_new();
        run(g, 1 + (uint32_t)round * 7, 5);
        for (int i = 0; i < round; i++) append_one(g);
        reopened_has(g, g->appended);
        rig_free(g);
    }
}

static void released_segments_are_deleted_beside_the_writing(void **state) {
    struct rig *g = rig_new();
    run(g, 10000, 100);
    for (uint32_t i = 0; i < g->appended; i++) journal_release(g->j, &g->refs[i]);
    uint32_t from = g->appended;
    g->last_seen = 0;
    run(g, from + 5000, 50);
    struct journal_stats s;
    journal_stats(g->j, &s);
    assert_true(s.live_bytes < 5000 * 240);
    assert_true(s.bytes_on_disk < 5000 * 240 + 3 * (256u << 10));
    commit_free(g->commit);
    rig_free(g);
}

struct watch {
    struct loop_post post;
    struct rig *rig;
};

static void stop_when_deleted(struct loop_post *p) {
    struct rig *g = LIST_ITEM(p, struct watch, post)->rig;
    struct journal_stats s;
    journal_stats(g->j, &s);
    if (s.segments <= 2) loop_stop(g->loop);
    else loop_post(g->loop, p);
}

static void released_segments_are_deleted_though_nothing_is_written(void **state) {
    struct rig *g = rig_new();
    run(g, 10000, 100);
    struct journal_stats before, after;
    journal_stats(g->j, &before);
    assert_true(before.segments > 5);
    for (uint32_t i = 0; i < g->appended; i++) journal_release(g->j, &g->refs[i]);
    struct watch w = {.post.fn = stop_when_deleted, .rig = g};
    loop_post(g->loop, &w.post);
    loop_run(g->loop);
    journal_stats(g->j, &after);
    assert_int_equal(after.appended_bytes, before.appended_bytes);
    commit_free(g->commit);
    rig_free(g);
}

int main(void) {
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_at_a_time_each_is_durable_before_the_next),
        cmocka_unit_test(many_share_a_sync),
        cmocka_unit_test(free_writes_what_is_pending),
        cmocka_unit_test(released_segments_are_deleted_beside_the_writing),
        cmocka_unit_test(released_segments_are_deleted_though_nothing_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
