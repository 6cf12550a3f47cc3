// The producer over a real SQLite database and a bus made for the test, which refuses, delays and goes away as told.
#include "outbox/outbox.h"

#include "base/crash.h"
#include "base/io.h"
#include "database/test_database.h"

#include <semaphore.h>
#include <signal.h>
#include <sys/wait.h>

#define KEYS    10
#define LOG_MAX 40000

static const struct migration shape[] = {
    {.number = 1, .name = "outbox", .file = &outbox_migrations[0]},
    {.number = 2, .name = "test", .sql = "create table told (event_id blob primary key, at integer)"},
    {.number = 0},
};

// ---- a bus

struct heard { // one event the bus took
    struct id event_id;
    char key[32], payload[32];
};

struct answer {
    bus_done_fn *done;
    void *arg;
    enum err err;
};

struct bus {
    struct loop *loop;
    struct heard heard[LOG_MAX]; // confirmed, in the order of publishing
    size_t heard_n;
    struct answer answers[LOG_MAX];
    size_t answers_n, answered;
    bool silent; // confirms nothing for now
    bool gone;   // and knows that it is not there
    struct loop_timer answer_timer;
    enum err away;            // what every publish gets at once
    enum err late;            // what every publish gets later
    const char *refuse_key;   // events of this key get ERR_INVALID …
    int refusals;             // … so many times
    int refused, turned_away; // how often it happened
    int tell;                 // a descriptor that every confirmed event_id is written to
};

static void give_answers(struct loop_timer *t) {
    struct bus *b = (struct bus *)((char *)t - offsetof(struct bus, answer_timer));
    while (b->answered < b->answers_n && !b->silent) {
        struct answer a = b->answers[b->answered++];
        a.done(a.arg, a.err, err_text(a.err));
    }
}

bool bus_reachable(struct bus *b) { return !b->gone; }

enum err bus_publish(struct bus *b, const struct bus_event *event, bus_done_fn *done, void *arg, struct error *e) {
    struct answer a = {.done = done, .arg = arg, .err = b->late};
    if (b->away || b->late) b->turned_away++;
    if (b->away) return b->away;
    if (b->refuse_key && strcmp(b->refuse_key, event->key) == 0 && b->refused < b->refusals) {
        b->refused++;
        if (b->refused % 2) return error_set(e, ERR_INVALID, "not this one");
        a.err = ERR_INVALID;
    }
    if (!a.err) {
        struct heard *h = &b->heard[b->heard_n++];
        h->event_id = event->event_id;
        snprintf(h->key, sizeof h->key, "%s", event->key);
        snprintf(h->payload, sizeof h->payload, "%.*s", (int)event->payload_length, (const char *)event->payload);
        if (b->tell) assert_int_equal(write(b->tell, event->event_id.b, 16), 16);
    }
    assert_true(b->answers_n < LOG_MAX);
    b->answers[b->answers_n++] = a;
    loop_timer_start(b->loop, &b->answer_timer, 0);
    return ERR_OK;
}

struct engine *bus_engine(struct bus *b) {
    return NULL;
}

// ---- an io whose clock is moved by hand

struct still_io {
    struct io io;
    int64_t wall_ms;
    uint32_t wait_ms; // what every delay of the producer comes to
};

static uint64_t still_monotonic(struct io *io) { return 0; }
static int64_t still_wall(struct io *io) { return ((struct still_io *)io)->wall_ms; }
// A number that leaves wait_ms whatever bound of the producer's delays it is divided by.
static void still_random(struct io *io, void *out, size_t n) {
    const uint64_t dice = UINT64_C(501) * 1001 * 2001 * 4001 * 5001 * 500 + ((struct still_io *)io)->wait_ms;
    memcpy(out, &dice, n < sizeof dice ? n : sizeof dice);
}

static const struct io_vtable still_vtable = {
    .monotonic_ns = still_monotonic, .wall_ms = still_wall, .random = still_random};

// ---- the fixture

struct fixture {
    struct test_db db; // first
    struct bus *bus;
    struct still_io io;
    struct outbox *outbox;
    struct outbox_options options;
    bool (*until)(struct fixture *f);
    struct loop_timer tick;
    size_t want;
};

static void start(struct fixture *f) {
    struct error e = {0};
    f->options.loop = f->db.loop;
    f->options.io = &f->io.io;
    f->options.database = f->db.d;
    f->options.bus = f->bus;
    if (outbox_new(&f->outbox, &f->options, &e)) fail_msg("%s", e.text);
}

static void set_up(struct fixture *f) {
    memset(f, 0, sizeof *f);
    test_db_open(&f->db, shape);
    f->bus = calloc(1, sizeof *f->bus);
    f->bus->loop = f->db.loop;
    f->bus->answer_timer.fn = give_answers;
    f->io = (struct still_io){.io.v = &still_vtable, .wall_ms = 1700000000000, .wait_ms = 20};
}

static void tear_down(struct fixture *f) {
    outbox_free(f->outbox);
    f->bus->silent = false;
    give_answers(&f->bus->answer_timer);
    loop_timer_stop(f->db.loop, &f->bus->answer_timer);
    test_db_close(&f->db);
    free(f->bus);
}

static void tick(struct loop_timer *t) {
    struct fixture *f = (struct fixture *)((char *)t - offsetof(struct fixture, tick));
    if (f->until(f)) loop_stop(f->db.loop);
    else loop_timer_start(f->db.loop, t, 1);
}

static void wait_until(struct fixture *f, bool (*until)(struct fixture *f)) {
    f->until = until;
    f->tick.fn = tick;
    loop_timer_start(f->db.loop, &f->tick, 0);
    test_db_loop(&f->db);
    loop_timer_stop(f->db.loop, &f->tick);
}

static bool all_quiet(struct fixture *f) { return outbox_idle(f->outbox); }
static bool heard_enough(struct fixture *f) { return f->bus->heard_n >= f->want; }
static bool turned_away_enough(struct fixture *f) { return f->bus->turned_away >= (int)f->want; }
static bool nothing_waits(struct fixture *f) {
    struct outbox_stats stats;
    outbox_stats(f->outbox, &stats);
    return stats.waiting == 0;
}
static bool refused_all(struct fixture *f) { return f->bus->refused == f->bus->refusals; }

// ---- events

struct batch {
    int first, n;
    const char *key; // or NULL: KEYS keys in turn
};

static struct id event_id_of(int i) {
    struct id id = {{0x01, [12] = (uint8_t)(i >> 24), (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}};
    return id;
}

static enum err store_batch(struct db *db, void *arg) {
    struct batch *b = arg;
    for (int i = b->first; i < b->first + b->n; i++) {
        char key[16], payload[16];
        snprintf(key, sizeof key, "key%d", i % KEYS);
        snprintf(payload, sizeof payload, "%d", i);
        struct bus_event event = {.event_id = event_id_of(i),
                                  .topic = "message_send",
                                  .key = b->key ? b->key : key,
                                  .payload = payload,
                                  .payload_length = strlen(payload)};
        enum err err = outbox_store(db, &event, 1700000000000 + i);
        if (err) return err;
    }
    return ERR_OK;
}

static void store(struct fixture *f, int first, int n, const char *key) {
    struct batch b = {first, n, key};
    assert_int_equal(test_db_do(&f->db, store_batch, &b, false), ERR_OK);
    if (f->outbox) outbox_wake(f->outbox);
}

static enum err count_rows(struct db *db, void *arg) {
    static struct db_sql sql = {.text = "select count(*) from outbox"};
    struct db_stmt *s = db_prepare(db, &sql);
    assert_int_equal(db_step(s), DB_ROW);
    *(int64_t *)arg = db_int(s, 0);
    return ERR_OK;
}

static int64_t rows_left(struct fixture *f) {
    int64_t n = -1;
    assert_int_equal(test_db_do(&f->db, count_rows, &n, true), ERR_OK);
    return n;
}

static int number_of(const char *payload) { return (int)strtol(payload, NULL, 10); }

static void assert_heard_in_order(struct fixture *f, size_t from) {
    for (size_t i = from; i < f->bus->heard_n; i++)
        for (size_t j = i + 1; j < f->bus->heard_n && j < i + 3 * KEYS; j++)
            if (strcmp(f->bus->heard[i].key, f->bus->heard[j].key) == 0)
                assert_true(number_of(f->bus->heard[i].payload) < number_of(f->bus->heard[j].payload));
}

// ---- the road

static enum err tell(struct db *db, const struct id *event_id, const char *topic, const char *key, const void *payload,
                     size_t n, int64_t at_ms) {
    static struct db_sql sql = {.text = "insert into told (event_id, at) values (?1, ?2)"};
    assert_string_equal(topic, "message_send");
    assert_true(n > 0 && key[0]);
    struct db_stmt *s = db_prepare(db, &sql);
    db_bind_id(s, 1, event_id);
    db_bind_int(s, 2, at_ms);
    return db_run(s);
}

static enum err count_told(struct db *db, void *arg) {
    static struct db_sql sql = {.text = "select count(*) from told"};
    struct db_stmt *s = db_prepare(db, &sql);
    assert_int_equal(db_step(s), DB_ROW);
    *(int64_t *)arg = db_int(s, 0);
    return ERR_OK;
}

static void test_everything_is_published_once_in_order_and_deleted(void **state) {
    struct fixture f;
    struct outbox_stats stats;
    int64_t told;
    set_up(&f);
    f.options.on_published = tell;
    start(&f);
    for (int i = 0; i < 10; i++) store(&f, i * 200, 200, NULL);
    f.want = 2000;
    wait_until(&f, all_quiet);
    assert_int_equal(f.bus->heard_n, 2000);
    assert_heard_in_order(&f, 0);
    assert_int_equal(rows_left(&f), 0);
    assert_int_equal(test_db_do(&f.db, count_told, &told, true), ERR_OK);
    assert_int_equal(told, 2000);
    outbox_stats(f.outbox, &stats);
    assert_int_equal(stats.published, 2000);
    assert_int_equal(stats.waiting, 0);
    assert_int_equal(stats.oldest_at_ms, 0);
    tear_down(&f);
}

static void test_what_was_there_before_is_caught_up_with(void **state) {
    struct fixture f;
    struct database_stats before, after;
    set_up(&f);
    for (int i = 0; i < 10; i++) store(&f, i * 2000, 2000, NULL);
    database_stats(f.db.d, &before);
    start(&f);
    f.want = 1;
    wait_until(&f, heard_enough);
    struct outbox_stats stats;
    outbox_stats(f.outbox, &stats);
    assert_true(stats.waiting <= 4096); // bounded, whatever the backlog
    wait_until(&f, all_quiet);
    assert_int_equal(f.bus->heard_n, 20000);
    assert_heard_in_order(&f, 0);
    assert_int_equal(rows_left(&f), 0);
    database_stats(f.db.d, &after);
    assert_true(after.units - before.units < 2000); // rows share units
    tear_down(&f);
}

static enum err store_again(struct db *db, void *arg) {
    struct batch b = {0, 1, "k"};
    assert_int_equal(store_batch(db, &b), ERR_CONFLICT);
    return ERR_OK;
}

static void test_an_event_is_stored_once(void **state) {
    struct fixture f;
    set_up(&f);
    store(&f, 0, 1, "k");
    assert_int_equal(test_db_do(&f.db, store_again, NULL, false), ERR_OK);
    assert_int_equal(rows_left(&f), 1);
    tear_down(&f);
}

static enum err store_odd(struct db *db, void *arg) {
    struct bus_event event = {.event_id = event_id_of(7), .topic = "t"};
    return outbox_store(db, &event, 1);
}

static void test_an_event_without_key_and_payload_is_an_event(void **state) {
    struct fixture f;
    set_up(&f);
    assert_int_equal(test_db_do(&f.db, store_odd, NULL, false), ERR_OK);
    start(&f);
    wait_until(&f, all_quiet);
    assert_int_equal(f.bus->heard_n, 1);
    assert_string_equal(f.bus->heard[0].key, "");
    assert_string_equal(f.bus->heard[0].payload, "");
    tear_down(&f);
}

// ---- failures

static void test_a_refused_event_is_tried_again_and_holds_its_key(void **state) {
    struct fixture f;
    struct outbox_stats stats;
    set_up(&f);
    f.io.wait_ms = 450;
    f.bus->refuse_key = "key3";
    f.bus->refusals = 2;
    start(&f);
    store(&f, 0, 100, NULL);
    f.want = 90;
    wait_until(&f, heard_enough);
    for (size_t i = 0; i < f.bus->heard_n; i++)
        assert_string_not_equal(f.bus->heard[i].key, "key3"); // they wait, others do not
    wait_until(&f, all_quiet);
    assert_int_equal(f.bus->heard_n, 100);
    assert_heard_in_order(&f, 0);
    assert_int_equal(rows_left(&f), 0);
    outbox_stats(f.outbox, &stats);
    assert_int_equal(stats.failed, 2);
    assert_int_equal(stats.parked, 0);
    tear_down(&f);
}

static void test_a_long_line_behind_a_held_key_stops_nobody_else(void **state) {
    struct fixture f;
    set_up(&f);
    f.io.wait_ms = 450;
    f.bus->refuse_key = "a";
    f.bus->refusals = 2;
    store(&f, 0, 6000, "a"); // more than the producer holds
    store(&f, 6000, 1, "b");
    start(&f);
    f.want = 1;
    wait_until(&f, heard_enough);
    assert_string_equal(f.bus->heard[0].key, "b");
    wait_until(&f, all_quiet);
    assert_int_equal(f.bus->heard_n, 6001);
    for (int i = 0; i < 6000; i++) assert_int_equal(number_of(f.bus->heard[i + 1].payload), i);
    tear_down(&f);
}

static enum err block_writing(struct db *db, void *arg) {
    while (sem_wait(arg)) {
    }
    return ERR_OK;
}

static bool all_are_back(struct fixture *f) {
    struct outbox_stats stats;
    outbox_stats(f->outbox, &stats);
    return stats.failed == 1 && stats.waiting == 100;
}

static void test_followers_wait_until_the_failed_attempt_is_written_down(void **state) {
    struct fixture f;
    sem_t go_on;
    set_up(&f);
    sem_init(&go_on, 0, 0);
    f.io.wait_ms = 0; // it is due again at once
    f.bus->refuse_key = "a";
    f.bus->refusals = 1;
    store(&f, 0, 100, "a");
    struct test_unit block = test_unit_of(&f.db, block_writing, &go_on);
    assert_int_equal(database_submit(f.db.d, &block.unit), ERR_OK);
    start(&f);
    wait_until(&f, all_are_back);
    assert_int_equal(f.bus->heard_n, 0);
    sem_post(&go_on);
    wait_until(&f, all_quiet);
    assert_int_equal(f.bus->heard_n, 100);
    for (int i = 0; i < 100; i++) assert_int_equal(number_of(f.bus->heard[i].payload), i);
    tear_down(&f);
    sem_destroy(&go_on);
}

static bool answered_once(struct fixture *f) { return f->bus->answers_n == 1; }

#define READERS 16 // more than the database has

// The claim knows what was in memory when it began. A key that is refused meanwhile gives its followers back to the
// table; what the claim brings of it is younger than these.
static void test_a_claim_brings_nothing_before_what_its_key_gave_back_meanwhile(void **state) {
    struct fixture f;
    sem_t go_on;
    struct test_unit blocks[READERS];
    set_up(&f);
    sem_init(&go_on, 0, 0);
    f.io.wait_ms = 0; // it is due again at once
    start(&f);
    f.bus->silent = true;
    f.bus->late = ERR_INVALID;
    store(&f, 0, 2, "a"); // one with the bus, one behind it
    wait_until(&f, answered_once);
    f.bus->late = ERR_OK;
    for (int i = 0; i < READERS; i++) {
        blocks[i] = test_unit_of(&f.db, block_writing, &go_on);
        blocks[i].unit.read_only = true;
        assert_int_equal(database_submit(f.db.d, &blocks[i].unit), ERR_OK);
    }
    store(&f, 2, 1, "a"); // and the claim waits
    f.bus->silent = false;
    loop_timer_start(f.db.loop, &f.bus->answer_timer, 0);
    f.want = 1;
    wait_until(&f, heard_enough);
    for (int i = 0; i < READERS; i++) sem_post(&go_on);
    wait_until(&f, all_quiet);
    assert_int_equal(f.bus->heard_n, 3);
    for (int i = 0; i < 3; i++) assert_int_equal(number_of(f.bus->heard[i].payload), i);
    tear_down(&f);
    sem_destroy(&go_on);
}

// The safety check reads rows again that are in memory, on their way, or being deleted that very moment.
static void test_looking_again_publishes_nothing_twice(void **state) {
    struct fixture f;
    set_up(&f);
    f.options.safety_check_ms = 1;
    start(&f);
    for (int i = 0; i < 100; i++) store(&f, i * 100, 100, NULL);
    f.want = 10000;
    wait_until(&f, heard_enough);
    wait_until(&f, nothing_waits);
    assert_int_equal(f.bus->heard_n, 10000);
    assert_heard_in_order(&f, 0);
    tear_down(&f);
}

struct parked_list {
    int n;
    struct outbox_parked first;
    char error[64], payload[16];
};

static void list_one(void *arg, const struct outbox_parked *p) {
    struct parked_list *l = arg;
    if (l->n++) return;
    l->first = *p;
    snprintf(l->error, sizeof l->error, "%s", p->error);
    snprintf(l->payload, sizeof l->payload, "%.*s", (int)p->payload_length, (const char *)p->payload);
}

static enum err list_parked(struct db *db, void *arg) {
    struct parked_list *l = arg;
    struct outbox_parked_choice all = {0};
    *l = (struct parked_list){0};
    enum err err = outbox_parked_each(db, &all, list_one, l);
    if (err || l->n != 1) return err;
    assert_null(l->first.payload); // only of one that is asked for
    struct outbox_parked_choice one = {.id = l->first.id};
    *l = (struct parked_list){0};
    return outbox_parked_each(db, &one, list_one, l);
}

static enum err retry_parked(struct db *db, void *arg) {
    struct outbox_parked_choice choice = {.id = *(int64_t *)arg};
    return outbox_parked_retry(db, &choice);
}

static enum err drop_parked(struct db *db, void *arg) {
    struct outbox_parked_choice choice = {.id = *(int64_t *)arg};
    return outbox_parked_drop(db, &choice);
}

static void park_one(struct fixture *f, struct parked_list *l) {
    f->bus->refuse_key = "a";
    f->bus->refusals = 3;
    store(f, 0, 5, "a");
    start(f);
    f->want = 4;
    wait_until(f, heard_enough);
    wait_until(f, all_quiet);
    assert_int_equal(test_db_do(&f->db, list_parked, l, true), ERR_OK);
}

static void test_spent_attempts_park_the_event_and_let_its_key_go_on(void **state) {
    struct fixture f;
    struct parked_list l;
    struct outbox_stats stats;
    set_up(&f);
    park_one(&f, &l);
    assert_int_equal(f.bus->heard_n, 4);
    assert_int_equal(number_of(f.bus->heard[0].payload), 1);
    assert_heard_in_order(&f, 0);
    assert_int_equal(l.n, 1);
    assert_int_equal(l.first.attempts, 3);
    assert_string_equal(l.error, "not this one");
    assert_string_equal(l.payload, "0");
    assert_true(l.first.parked_at_ms == f.io.wall_ms && l.first.stored_at_ms == 1700000000000);
    struct id zero = event_id_of(0);
    assert_true(id_equal(&l.first.event_id, &zero));
    outbox_stats(f.outbox, &stats);
    assert_int_equal(stats.parked, 1);
    outbox_free(f.outbox); // it is not taken up again by itself
    start(&f);
    wait_until(&f, all_quiet);
    assert_int_equal(f.bus->heard_n, 4);
    outbox_stats(f.outbox, &stats);
    assert_int_equal(stats.parked, 1);
    tear_down(&f);
}

static void test_a_parked_event_is_sent_on_when_told_while_the_producer_runs(void **state) {
    struct fixture f;
    struct parked_list l;
    set_up(&f);
    f.options.safety_check_ms = 20;
    park_one(&f, &l);
    assert_int_equal(test_db_do(&f.db, retry_parked, &l.first.id, false), ERR_OK);
    assert_int_equal(test_db_do(&f.db, retry_parked, &l.first.id, false), ERR_NOT_FOUND);
    f.want = 5;
    wait_until(&f, heard_enough); // nobody woke it
    wait_until(&f, all_quiet);
    assert_int_equal(number_of(f.bus->heard[4].payload), 0);
    assert_int_equal(rows_left(&f), 0);
    tear_down(&f);
}

static void test_a_parked_event_can_be_dropped(void **state) {
    struct fixture f;
    struct parked_list l;
    int64_t wrong = 4711;
    set_up(&f);
    park_one(&f, &l);
    assert_int_equal(test_db_do(&f.db, drop_parked, &wrong, false), ERR_NOT_FOUND);
    assert_int_equal(test_db_do(&f.db, drop_parked, &l.first.id, false), ERR_OK);
    assert_int_equal(rows_left(&f), 0);
    tear_down(&f);
}

static enum err read_attempts(struct db *db, void *arg) {
    static struct db_sql sql = {.text = "select attempts from outbox"};
    struct db_stmt *s = db_prepare(db, &sql);
    assert_int_equal(db_step(s), DB_ROW);
    *(int64_t *)arg = db_int(s, 0);
    return ERR_OK;
}

static void test_attempts_survive_a_restart(void **state) {
    struct fixture f;
    struct parked_list l;
    int64_t attempts = 0;
    set_up(&f);
    f.bus->refuse_key = "a";
    f.bus->refusals = 2;
    store(&f, 0, 1, "a");
    start(&f);
    wait_until(&f, refused_all);
    f.bus->away = ERR_UNAVAILABLE; // no third attempt for now
    while (attempts < 2) assert_int_equal(test_db_do(&f.db, read_attempts, &attempts, true), ERR_OK);
    outbox_free(f.outbox);
    f.bus->away = ERR_OK;
    test_db_reopen(&f.db, shape);
    f.io.wall_ms += 100000; // the wait is over
    f.bus->refusals = 3;
    start(&f);
    wait_until(&f, all_quiet);
    assert_int_equal(test_db_do(&f.db, list_parked, &l, true), ERR_OK);
    assert_int_equal(l.n, 1);
    assert_int_equal(l.first.attempts, 3);
    tear_down(&f);
}

static bool some_are_under_way(struct fixture *f) { return f->bus->answers_n >= f->want; }

// Kafka's client keeps what it was given for half a minute before it answers that nobody is there.
static void test_a_bus_that_knows_it_is_away_is_away_before_it_answers(void **state) {
    struct fixture f;
    struct outbox_stats stats;
    set_up(&f);
    f.bus->silent = true;
    start(&f);
    store(&f, 0, 4, NULL);
    f.want = 1;
    wait_until(&f, some_are_under_way);
    outbox_stats(f.outbox, &stats);
    assert_false(stats.bus_away); // slow
    f.bus->gone = true;
    outbox_stats(f.outbox, &stats);
    assert_true(stats.bus_away);
    f.bus->gone = f.bus->silent = false;
    loop_timer_start(f.db.loop, &f.bus->answer_timer, 0);
    wait_until(&f, all_quiet);
    outbox_stats(f.outbox, &stats);
    assert_false(stats.bus_away);
    assert_int_equal(f.bus->heard_n, 4);
    tear_down(&f);
}

static void test_a_bus_that_is_away_costs_no_attempt(void **state) {
    struct fixture f;
    struct outbox_stats stats;
    set_up(&f);
    f.bus->away = ERR_UNAVAILABLE;
    start(&f);
    store(&f, 0, 100, NULL);
    f.want = 4; // more than the attempts
    wait_until(&f, turned_away_enough);
    outbox_stats(f.outbox, &stats);
    assert_true(stats.bus_away);
    assert_int_equal(stats.waiting, 100);
    assert_true(stats.oldest_at_ms == 1700000000000);
    f.bus->away = ERR_OK;
    f.bus->late = ERR_BUSY; // it says so later
    f.bus->turned_away = 0;
    wait_until(&f, turned_away_enough);
    f.bus->late = ERR_OK;
    wait_until(&f, all_quiet);
    outbox_stats(f.outbox, &stats);
    assert_false(stats.bus_away);
    assert_int_equal(stats.failed, 0);
    assert_int_equal(f.bus->heard_n, 100);
    assert_heard_in_order(&f, 0);
    tear_down(&f);
}

static enum err tell_all_but_one(struct db *db, const struct id *event_id, const char *topic, const char *key,
                                 const void *payload, size_t n, int64_t at_ms) {
    return n == 1 && *(const char *)payload == '7' ? ERR_CONFLICT : ERR_OK;
}

static bool nine_gone(struct fixture *f) {
    struct outbox_stats stats;
    outbox_stats(f->outbox, &stats);
    return stats.published == 10 && !outbox_idle(f->outbox);
}

static void test_a_row_that_cannot_be_settled_does_not_keep_the_others(void **state) {
    struct fixture f;
    int64_t left = 10;
    set_up(&f);
    f.options.on_published = tell_all_but_one;
    store(&f, 0, 10, NULL);
    start(&f);
    wait_until(&f, nine_gone);
    while (left != 1) {
        left = rows_left(&f);
        assert_true(left > 0);
    }
    assert_int_equal(f.bus->heard_n, 10); // and it is not published twice
    tear_down(&f);
}

static void test_a_producer_may_go_with_events_in_flight(void **state) {
    struct fixture f;
    set_up(&f);
    f.bus->silent = true;
    store(&f, 0, 50, NULL);
    start(&f);
    f.want = 10; // one of each key
    wait_until(&f, heard_enough);
    outbox_free(f.outbox);
    f.bus->silent = false;
    give_answers(&f.bus->answer_timer);
    start(&f);
    wait_until(&f, all_quiet);
    assert_int_equal(f.bus->heard_n, 60); // what was not deleted is published again
    assert_int_equal(rows_left(&f), 0);
    tear_down(&f);
}

// ---- crashes

static _Noreturn void child_main(const char *path, int tell_to, const char *crash_at) {
    struct fixture f = {.io = {.io.v = &still_vtable, .wall_ms = 1700000000000}};
    struct error e;
    setenv("BARID_CRASH_AT", crash_at, 1);
    crash_init();
    f.bus = calloc(1, sizeof *f.bus);
    f.bus->answer_timer.fn = give_answers;
    f.bus->tell = tell_to;
    if (loop_new(&f.db.loop, &e)) _exit(1);
    f.bus->loop = f.db.loop;
    if (database_open(&f.db.d, f.db.loop, &(struct database_options){.url = path}, shape, &e)) _exit(1);
    start(&f);
    loop_run(f.db.loop);
    _exit(2);
}

static enum err accept_all(struct db *db, void *arg) {
    struct fixture *f = arg;
    size_t fresh_n = 0;
    for (size_t i = 0; i < f->bus->heard_n; i++) {
        bool fresh;
        enum err err = inbox_accept(db, "consumer", &f->bus->heard[i].event_id, 1, &fresh);
        if (err) return err;
        fresh_n += fresh;
    }
    f->want = fresh_n;
    return ERR_OK;
}

static void crash_at(const char *point, size_t again_at_least, size_t again_at_most) {
    struct fixture f;
    int ends[2], status;
    set_up(&f);
    store(&f, 0, 30, NULL);
    database_close(f.db.d);
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) child_main(f.db.path, ends[1], point);
    close(ends[1]);
    struct id id;
    while (read(ends[0], id.b, 16) == 16) f.bus->heard[f.bus->heard_n++].event_id = id;
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

    size_t before = f.bus->heard_n;
    struct error e;
    assert_int_equal(test_db_open_with(&f.db, (struct database_options){0}, shape, &e), ERR_OK);
    start(&f);
    wait_until(&f, all_quiet);
    assert_true(f.bus->heard_n - 30 >= again_at_least && f.bus->heard_n - 30 <= again_at_most);
    assert_heard_in_order(&f, before);
    assert_int_equal(rows_left(&f), 0);
    assert_int_equal(test_db_do(&f.db, accept_all, &f, false), ERR_OK);
    assert_int_equal(f.want, 30); // whatever came twice had the same event_id
    tear_down(&f);
}

static void test_a_crash_after_the_claim_publishes_later(void **state) { crash_at("publish.claimed:1", 0, 0); }
static void test_a_crash_before_the_deletion_publishes_again(void **state) { crash_at("publish.confirmed:1", 1, 30); }
static void test_a_crash_after_the_deletion_publishes_no_deleted_one(void **state) {
    crash_at("publish.deleted:1", 0, 29);
}

// ---- the inbox

static enum err accept_one(struct db *db, const char *consumer, int event, int64_t at, bool *fresh) {
    struct id id = event_id_of(event);
    return inbox_accept(db, consumer, &id, at, fresh);
}

static enum err use_inbox(struct db *db, void *arg) {
    bool fresh;
    uint64_t removed;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(accept_one(db, "a", i, i, &fresh), ERR_OK);
        assert_true(fresh);
    }
    assert_int_equal(accept_one(db, "a", 3, 99, &fresh), ERR_OK);
    assert_false(fresh);
    assert_int_equal(accept_one(db, "b", 3, 99, &fresh), ERR_OK); // each consumer for itself
    assert_true(fresh);
    assert_int_equal(inbox_forget(db, 5, 3, &removed), ERR_OK);
    assert_int_equal(removed, 3);
    assert_int_equal(inbox_forget(db, 5, 100, &removed), ERR_OK);
    assert_int_equal(removed, 2);
    assert_int_equal(accept_one(db, "a", 4, 1, &fresh), ERR_OK);
    assert_true(fresh);
    assert_int_equal(accept_one(db, "a", 5, 1, &fresh), ERR_OK);
    assert_false(fresh);
    return ERR_OK;
}

static void test_the_inbox_knows_what_a_consumer_has_seen(void **state) {
    struct fixture f;
    set_up(&f);
    assert_int_equal(test_db_do(&f.db, use_inbox, NULL, false), ERR_OK);
    tear_down(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_is_published_once_in_order_and_deleted),
        cmocka_unit_test(test_what_was_there_before_is_caught_up_with),
        cmocka_unit_test(test_an_event_is_stored_once),
        cmocka_unit_test(test_an_event_without_key_and_payload_is_an_event),
        cmocka_unit_test(test_a_refused_event_is_tried_again_and_holds_its_key),
        cmocka_unit_test(test_a_long_line_behind_a_held_key_stops_nobody_else),
        cmocka_unit_test(test_followers_wait_until_the_failed_attempt_is_written_down),
        cmocka_unit_test(test_a_claim_brings_nothing_before_what_its_key_gave_back_meanwhile),
        cmocka_unit_test(test_looking_again_publishes_nothing_twice),
        cmocka_unit_test(test_spent_attempts_park_the_event_and_let_its_key_go_on),
        cmocka_unit_test(test_a_parked_event_is_sent_on_when_told_while_the_producer_runs),
        cmocka_unit_test(test_a_parked_event_can_be_dropped),
        cmocka_unit_test(test_attempts_survive_a_restart),
        cmocka_unit_test(test_a_bus_that_knows_it_is_away_is_away_before_it_answers),
        cmocka_unit_test(test_a_bus_that_is_away_costs_no_attempt),
        cmocka_unit_test(test_a_row_that_cannot_be_settled_does_not_keep_the_others),
        cmocka_unit_test(test_a_producer_may_go_with_events_in_flight),
        cmocka_unit_test(test_a_crash_after_the_claim_publishes_later),
        cmocka_unit_test(test_a_crash_before_the_deletion_publishes_again),
        cmocka_unit_test(test_a_crash_after_the_deletion_publishes_no_deleted_one),
        cmocka_unit_test(test_the_inbox_knows_what_a_consumer_has_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
