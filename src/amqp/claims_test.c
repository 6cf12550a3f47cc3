// Large bodies on a real store, with the real engine on a simulated machine: when a file may go, and when it must not.
#include "amqp/claims.h"

#include "base/hex.h"
#include "base/list.h"
#include "base/loop.h"
#include "datastore/datastore.h"
#include "engine/rig_test.h"

#include <ftw.h>
#include <unistd.h>

#define PATIENCE_MS 30000

struct bodies {
    char dir[64];
    struct loop *loop;
    struct rig *rig;
    struct claims *claims;
    struct loop_timer patience;
    struct loop_post stop;
    uint8_t ticket[CLAIM_TICKET];
};

static void impatient(struct loop_timer *t) { fail_msg("nothing came for %d ms", PATIENCE_MS); }
static void stop(struct loop_post *p) { loop_stop(LIST_ITEM(p, struct bodies, stop)->loop); }

static void wait_answer(struct bodies *b) {
    loop_timer_start(b->loop, &b->patience, PATIENCE_MS);
    loop_run(b->loop);
    loop_timer_stop(b->loop, &b->patience);
}

static void begin(struct bodies *b) {
    struct error e;
    if (claims_open(&b->claims, b->loop, io_sim_io(b->rig->sim), b->dir, 1, &e)) fail_msg("%s", e.text);
    b->rig->options.claim = claims_count;
    b->rig->options.claim_arg = b->claims;
    rig_crash(b->rig); // opens the engine anew
    claims_start(b->claims, b->rig->engine);
}

static int set_up(void **state) {
    struct error e;
    struct bodies *b = calloc(1, sizeof *b);
    snprintf(b->dir, sizeof b->dir, "/tmp/barid-test-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    assert_int_equal(loop_new(&b->loop, &e), ERR_OK);
    b->patience.fn = impatient;
    b->stop.fn = stop;
    b->rig = rig_new();
    begin(b);
    rig_queue(b->rig, "q", (struct queue_options){.durable = true});
    rig_run(b->rig);
    *state = b;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) { return remove(path); }

static int tear_down(void **state) {
    struct bodies *b = *state;
    rig_free(b->rig);
    claims_close(b->claims);
    loop_free(b->loop);
    nftw(b->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(b);
    return 0;
}

static const char *path_of(struct bodies *b) {
    static char path[256];
    char hex[2 * CLAIM_TICKET + 1];
    hex_encode(b->ticket, CLAIM_TICKET, hex);
    snprintf(path, sizeof path, "%s/%.2s/%s", b->dir, hex, hex);
    return path;
}

static bool is_there(struct bodies *b) { return access(path_of(b), F_OK) == 0; }

// Everything that the store was asked for until now has been done: its operations keep their order, nearly.
static void on_removed(void *arg, enum err err) { loop_stop(((struct bodies *)arg)->loop); }

static void settle(struct bodies *b) {
    static const uint8_t nothing[CLAIM_TICKET] = {0};
    loop_post(b->loop, &b->stop);
    wait_answer(b);
    for (int i = 0; i < 8; i++) {
        datastore_remove(claims_store(b->claims), nothing, on_removed, b);
        wait_answer(b);
    }
}

static void publish(struct bodies *b) {
    struct message m = {.exchange = "",
                        .routing_key = "q",
                        .body = b->ticket,
                        .body_length = CLAIM_TICKET,
                        .claimed = true,
                        .claimed_length = 4,
                        .persistent = true};
    assert_int_equal(engine_publish(b->rig->vhost, &m, NULL, NULL, NULL, &b->rig->err), ERR_OK);
}

static void on_finished(void *arg, enum err err, const uint8_t *ticket) {
    struct bodies *b = arg;
    assert_int_equal(err, ERR_OK);
    memcpy(b->ticket, ticket, CLAIM_TICKET);
    publish(b);
    loop_stop(b->loop);
}

static void on_finished_in_vain(void *arg, enum err err, const uint8_t *ticket) {
    struct bodies *b = arg;
    memcpy(b->ticket, ticket, CLAIM_TICKET);
    loop_stop(b->loop);
}

static void on_written(void *arg, enum err err) {
    assert_int_equal(err, ERR_OK);
    loop_stop(((struct bodies *)arg)->loop);
}

static void upload(struct bodies *b, claims_finished_fn *done) {
    struct ds_writer *w;
    assert_int_equal(ds_writer_new(claims_store(b->claims), 4, &w), ERR_OK);
    ds_writer_write(w, "body", 4, on_written, b);
    wait_answer(b);
    claims_finish(b->claims, w, done, b);
    wait_answer(b);
}

static uint64_t bodies(struct bodies *b) {
    struct claims_stats stats;
    claims_stats(b->claims, &stats);
    return stats.bodies;
}

static void purge(struct bodies *b) {
    uint64_t count;
    assert_int_equal(engine_queue_purge(b->rig->vhost, "q", &count, &b->rig->err), ERR_OK);
    engine_flush(b->rig->engine);
}

static void a_body_goes_with_its_last_message_when_that_is_durable(void **state) {
    struct bodies *b = *state;
    upload(b, on_finished);
    publish(b);
    rig_run(b->rig);
    settle(b);
    assert_true(is_there(b));
    assert_int_equal(bodies(b), 1);
    purge(b);
    settle(b);
    assert_true(is_there(b)); // a crash would bring them back
    rig_run(b->rig);
    settle(b);
    assert_false(is_there(b));
    assert_int_equal(bodies(b), 0);
}

static void a_body_that_nobody_took_goes(void **state) {
    struct bodies *b = *state;
    upload(b, on_finished_in_vain);
    rig_run(b->rig);
    settle(b);
    rig_run(b->rig);
    settle(b);
    assert_false(is_there(b));
}

static void a_body_in_hand_stays(void **state) {
    struct bodies *b = *state;
    upload(b, on_finished);
    rig_run(b->rig);
    claims_hold(b->claims, b->ticket);
    purge(b);
    rig_run(b->rig);
    settle(b);
    assert_true(is_there(b));
    claims_release(b->claims, b->ticket);
    settle(b);
    rig_run(b->rig);
    settle(b);
    assert_false(is_there(b));
}

static void a_body_that_comes_again_before_it_went_stays(void **state) {
    struct bodies *b = *state;
    upload(b, on_finished);
    rig_run(b->rig);
    purge(b);
    settle(b); // it waits for the disk
    upload(b, on_finished);
    rig_run(b->rig);
    settle(b);
    assert_true(is_there(b));
    assert_int_equal(bodies(b), 1);
}

static void after_a_crash_the_messages_say_what_is_needed(void **state) {
    struct bodies *b = *state;
    uint8_t needed[CLAIM_TICKET];
    upload(b, on_finished);
    rig_run(b->rig);
    memcpy(needed, b->ticket, CLAIM_TICKET);
    claims_hold(b->claims, needed); // whoever held it is gone, too
    struct claims *before = b->claims;
    memset(b->ticket, 0xEE, CLAIM_TICKET); // an upload that no message came to name
    FILE *orphan = fopen(path_of(b), "w");
    assert_non_null(orphan);
    fclose(orphan);
    begin(b);
    claims_close(before);
    for (int i = 0; i < 2000 && is_there(b); i++) settle(b); // the sweep looks into 256 directories
    assert_false(is_there(b));
    memcpy(b->ticket, needed, CLAIM_TICKET);
    assert_true(is_there(b));
    assert_int_equal(bodies(b), 1);
    purge(b);
    rig_run(b->rig);
    settle(b);
    assert_false(is_there(b));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_body_goes_with_its_last_message_when_that_is_durable),
        TEST(a_body_that_nobody_took_goes),
        TEST(a_body_in_hand_stays),
        TEST(a_body_that_comes_again_before_it_went_stays),
        TEST(after_a_crash_the_messages_say_what_is_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
