// The producer and a sink that takes many events of a key at once, answers late, and gives back what stands behind one
// that it refuses: the order of each key holds all the same.
#include "outbox/outbox.h"

#include "base/io.h"
#include "database/test_database.h"

#define KEYS   5
#define EVENTS 400
#define WINDOW 16
#define BATCH  32

static const struct migration shape[] = {
    {.number = 1, .name = "outbox", .file = &outbox_migrations[0]},
    {.number = 0},
};

struct given {
    struct outbox_item item;
    outbox_taken_fn *done;
    void *arg;
};

struct slow_sink {
    struct test_db db; // first
    struct io *io;
    struct outbox *outbox;
    struct given queue[EVENTS * 2];
    size_t n;
    struct loop_timer timer;
    int last[KEYS]; // number of the last event done
    int done, refusals, given_back, most_of_a_key;
    uint32_t floor_ms;
    uint64_t refused_at, again_after; // of the first refused event
    enum outbox_taken how;            // of what is refused
};

static int number_of(const struct outbox_item *item) {
    char text[16];
    snprintf(text, sizeof text, "%.*s", (int)item->event.payload_length, (const char *)item->event.payload);
    return (int)strtol(text, NULL, 10);
}

static bool same_key(const struct given *a, const struct given *b) {
    return strcmp(a->item.event.key, b->item.event.key) == 0;
}

static void drop(struct slow_sink *s, size_t at) {
    memmove(&s->queue[at], &s->queue[at + 1], (--s->n - at) * sizeof s->queue[0]);
}

static bool bad(const struct outbox_item *item) { return number_of(item) % 37 == 5; }

static void refuse(struct slow_sink *s, struct given g) {
    struct given back[EVENTS];
    size_t n = 0;
    for (size_t i = 0; i < s->n;) {
        if (!same_key(&s->queue[i], &g)) {
            i++;
            continue;
        }
        back[n++] = s->queue[i];
        drop(s, i);
    }
    s->refusals++;
    s->given_back += (int)n;
    if (!s->refused_at) s->refused_at = loop_now_ms(s->db.loop);
    g.done(g.arg, s->how, "not this one");
    while (n > 0) { // the last first: whatever the order, they come again in theirs
        n--;
        back[n].done(back[n].arg, TAKEN_BACK, "");
    }
}

static void take_in(struct slow_sink *s, struct given g) {
    int key = g.item.event.key[3] - '0', number = number_of(&g.item);
    if (number == 5) s->again_after = loop_now_ms(s->db.loop) - s->refused_at;
    if (number <= s->last[key]) fail_msg("%d came after %d", number, s->last[key]);
    s->last[key] = number;
    s->done++;
    g.done(g.arg, TAKEN, "");
}

static void work(struct loop_timer *t) {
    struct slow_sink *s = (struct slow_sink *)((char *)t - offsetof(struct slow_sink, timer));
    for (int i = 0; i < BATCH && s->n > 0; i++) {
        struct given g = s->queue[0];
        drop(s, 0);
        if (bad(&g.item) && (g.item.attempt == 1 || s->how == TAKEN_NEVER)) refuse(s, g);
        else take_in(s, g);
    }
    if (outbox_idle(s->outbox)) loop_stop(s->db.loop);
    else loop_timer_start(s->db.loop, &s->timer, 1);
}

static void take(void *sink, const struct outbox_item *item, outbox_taken_fn *done, void *arg) {
    struct slow_sink *s = sink;
    int of_key = 0;
    s->queue[s->n++] = (struct given){*item, done, arg};
    for (size_t i = 0; i < s->n; i++) of_key += same_key(&s->queue[i], &s->queue[s->n - 1]);
    if (of_key > s->most_of_a_key) s->most_of_a_key = of_key;
}

static uint32_t floor_ms(void *sink) { return ((struct slow_sink *)sink)->floor_ms; }

static enum err store(struct db *db, void *arg) {
    for (int i = 0; i < EVENTS; i++) {
        char key[8], payload[16];
        snprintf(key, sizeof key, "key%d", i % KEYS);
        snprintf(payload, sizeof payload, "%d", i);
        struct bus_event event = {.event_id = {{1, [14] = (uint8_t)(i >> 8), (uint8_t)i}},
                                  .topic = "t",
                                  .key = key,
                                  .payload = payload,
                                  .payload_length = strlen(payload)};
        enum err err = outbox_store(db, &event, 1);
        if (err) return err;
    }
    return ERR_OK;
}

static void run(struct slow_sink *s) {
    struct error e = {0};
    test_db_open(&s->db, shape);
    assert_int_equal(io_os_new(&s->io, s->db.dir, &e), ERR_OK);
    assert_int_equal(test_db_do(&s->db, store, NULL, false), ERR_OK);
    memset(s->last, -1, sizeof s->last);
    s->timer.fn = work;
    struct outbox_sink sink = {
        .take = take, .sink = s, .key_window = WINDOW, .at_once = 100, .retry_floor_ms = floor_ms};
    struct outbox_options o = {.loop = s->db.loop, .io = s->io, .database = s->db.d, .sink = &sink};
    if (outbox_new(&s->outbox, &o, &e)) fail_msg("%s", e.text);
    loop_timer_start(s->db.loop, &s->timer, 1);
    test_db_loop(&s->db);
    outbox_free(s->outbox);
    test_db_close(&s->db);
    io_os_free(s->io);
}

static struct slow_sink *sink_new(enum outbox_taken how) {
    struct slow_sink *s = calloc(1, sizeof *s);
    s->how = how;
    return s;
}

static void test_what_stands_behind_a_refused_one_is_given_back_and_comes_after_it(void **state) {
    struct slow_sink *s = sink_new(TAKEN_REFUSED);
    run(s);
    assert_int_equal(s->done, EVENTS);
    assert_int_equal(s->refusals, 11); // of 0…399 those that are 5 modulo 37
    assert_true(s->given_back > 0);
    assert_int_equal(s->most_of_a_key, WINDOW);
    free(s);
}

static void test_what_stands_behind_a_parked_one_keeps_its_order(void **state) {
    struct slow_sink *s = sink_new(TAKEN_NEVER);
    run(s);
    assert_int_equal(s->done, EVENTS - 11);
    assert_int_equal(s->refusals, 11);
    assert_true(s->given_back > 0);
    free(s);
}

static void test_the_sinks_wish_for_a_delay_is_heard(void **state) {
    struct slow_sink *s = sink_new(TAKEN_REFUSED);
    s->floor_ms = 900;
    run(s);
    assert_int_equal(s->done, EVENTS);
    assert_true(s->again_after >= 900);
    free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_stands_behind_a_refused_one_is_given_back_and_comes_after_it),
        cmocka_unit_test(test_what_stands_behind_a_parked_one_keeps_its_order),
        cmocka_unit_test(test_the_sinks_wish_for_a_delay_is_heard),
    };
    return cmocka_run_group_tests_name("sink", tests, NULL, NULL);
}
