// Producers that share a table of a real PostgreSQL, with a sink made for the test. BARID_TEST_POSTGRES names the
// server.
#include "outbox/internal.h"

#include "base/io.h"
#include "database/postgres_fixture.h"

#define HEARD_MAX 20000
#define PRODUCERS 3

// ---- a sink

struct heard {
    char key[16], payload[16];
    int by; // which producer
};

struct answer {
    outbox_taken_fn *done;
    void *arg;
    enum outbox_taken how;
    const char *why; // away
};

struct fixture;

struct producer {
    struct fixture *f;
    struct outbox *outbox;
    struct outbox_sink sink;
    struct answer answers[HEARD_MAX];
    size_t answers_n, answered;
    struct loop_timer timer;
    bool silent, drained;
};

struct fixture {
    struct test_postgres pg; // first
    struct io *io;
    struct heard heard[HEARD_MAX];
    size_t heard_n;
    struct producer producers[PRODUCERS];
    struct outbox_options options;
    const char *refuse_key, *refuse_payload;
    int refusals, refused;
    const char *away;  // why the sink takes nothing
    uint32_t floor_ms; // between attempts
    char headers[64], first_place[64];
    bool null_key;
    bool (*until)(struct fixture *f);
    struct loop_timer tick;
    size_t want;
    int who;
};

static void give_answers(struct loop_timer *t) {
    struct producer *p = (struct producer *)((char *)t - offsetof(struct producer, timer));
    while (p->answered < p->answers_n && !p->silent) {
        struct answer a = p->answers[p->answered++];
        a.done(a.arg, a.how, a.how == TAKEN ? "" : a.how == TAKEN_AWAY ? a.why : "not this one");
    }
}

static void hear(struct fixture *f, struct producer *p, const struct outbox_item *item) {
    struct heard *h = &f->heard[f->heard_n++];
    assert_true(f->heard_n < HEARD_MAX);
    snprintf(h->key, sizeof h->key, "%s", item->event.key ? item->event.key : "");
    snprintf(h->payload, sizeof h->payload, "%.*s", (int)item->event.payload_length, (const char *)item->event.payload);
    h->by = (int)(p - f->producers);
    f->null_key = item->event.key == NULL;
    f->headers[0] = 0;
    for (size_t i = 0; i < item->event.header_count; i++)
        snprintf(f->headers + strlen(f->headers), sizeof f->headers - strlen(f->headers), "%s=%s;",
                 item->event.headers[i].name, item->event.headers[i].value);
    snprintf(f->first_place, sizeof f->first_place, "%s", item->place ? item->place : "");
}

static void take(void *sink, const struct outbox_item *item, outbox_taken_fn *done, void *arg) {
    struct producer *p = sink;
    struct fixture *f = p->f;
    bool refuse =
        f->refuse_key && item->event.key && strcmp(f->refuse_key, item->event.key) == 0 && f->refused < f->refusals;
    if (f->refuse_payload && (strlen(f->refuse_payload) != item->event.payload_length ||
                              memcmp(f->refuse_payload, item->event.payload, item->event.payload_length) != 0))
        refuse = false;
    if (refuse) f->refused++;
    else if (!f->away) hear(f, p, item);
    assert_true(p->answers_n < HEARD_MAX);
    p->answers[p->answers_n++] = (struct answer){done, arg,
                                                 refuse    ? TAKEN_REFUSED
                                                 : f->away ? TAKEN_AWAY
                                                           : TAKEN,
                                                 f->away};
    loop_timer_start(f->pg.t.loop, &p->timer, 0);
}

static uint32_t floor_ms(void *sink) { return ((struct producer *)sink)->f->floor_ms; }

// ---- the fixture

static void start(struct fixture *f, int which) {
    struct error e = {0};
    struct producer *p = &f->producers[which];
    struct outbox_options o = f->options;
    p->f = f;
    p->drained = false;
    p->timer.fn = give_answers;
    p->sink = (struct outbox_sink){.take = take, .sink = p, .retry_floor_ms = floor_ms};
    o.loop = f->pg.t.loop;
    o.io = f->io;
    o.database = f->pg.t.d;
    o.sink = &p->sink;
    o.name = "test";
    if (outbox_new(&p->outbox, &o, &e)) fail_msg("%s", e.text);
}

static struct fixture *set_up(void) {
    struct error e = {0};
    if (!test_pg_there()) skip();
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    test_pg_open(&f->pg, outbox_component);
    if (io_os_new(&f->io, "/tmp", &e)) fail_msg("%s", e.text);
    f->options.lease_ms = 600;
    return f;
}

static void end(struct fixture *f, int which) {
    struct producer *p = &f->producers[which];
    outbox_free(p->outbox);
    p->outbox = NULL;
    p->silent = false;
    give_answers(&p->timer);
    loop_timer_stop(f->pg.t.loop, &p->timer);
}

static void tear_down(struct fixture *f) {
    for (int i = 0; i < PRODUCERS; i++)
        if (f->producers[i].outbox) end(f, i);
    test_pg_close(&f->pg);
    io_os_free(f->io);
    free(f);
}

static void tick(struct loop_timer *t) {
    struct fixture *f = (struct fixture *)((char *)t - offsetof(struct fixture, tick));
    if (f->until(f)) loop_stop(f->pg.t.loop);
    else loop_timer_start(f->pg.t.loop, t, 1);
}

static void wait_until(struct fixture *f, bool (*until)(struct fixture *f)) {
    f->until = until;
    f->tick.fn = tick;
    loop_timer_start(f->pg.t.loop, &f->tick, 0);
    test_db_loop(&f->pg.t);
    loop_timer_stop(f->pg.t.loop, &f->tick);
}

static struct outbox_stats stats_of(struct fixture *f, int which) {
    struct outbox_stats s = {0};
    if (f->producers[which].outbox) outbox_stats(f->producers[which].outbox, &s);
    return s;
}

static bool heard_enough(struct fixture *f) { return f->heard_n >= f->want; }
static bool drained(struct fixture *f) { return f->producers[f->who].drained; }
static bool has_all(struct fixture *f) { return stats_of(f, f->who).leases == 64; }
static bool has_none(struct fixture *f) { return stats_of(f, f->who).leases == 0; }
static bool shared_by_all(struct fixture *f) {
    uint32_t sum = 0;
    for (int i = 0; i < PRODUCERS; i++) {
        struct outbox_stats s = stats_of(f, i);
        if (s.leases < 20 || s.leases > 22 || s.members != PRODUCERS) return false;
        sum += s.leases;
    }
    return sum == 64;
}

static long sql(struct fixture *f, const char *text) { return test_pg_sql(f->pg.url, text); }

static bool table_empty(struct fixture *f) { return sql(f, "select count(*) from barid.outbox") == 0; }

static void publish(struct fixture *f, const char *key, int first, int last) {
    char text[256];
    snprintf(text, sizeof text, "select count(barid.publish('t', %s, g::text)) from generate_series(%d, %d) g", key,
             first, last);
    sql(f, text);
}

static enum err publish_round(struct db *db, void *arg) {
    static struct db_sql one = {.text = "select 1 where 0",
                                .postgres = "select count(publish('t', 'k' || g, (?1::bigint)::text)) "
                                            "from generate_series(0, 19) g"};
    struct db_stmt *s = db_prepare(db, &one);
    db_bind_int(s, 1, *(int64_t *)arg);
    return db_run(s);
}

// One event of each of twenty keys a round, while the producers work.
static void publish_rounds(struct fixture *f, int64_t first, int64_t last) {
    for (; first <= last; first++) assert_int_equal(test_db_do(&f->pg.t, publish_round, &first, false), ERR_OK);
}

static int number_of(const char *payload) { return (int)strtol(payload, NULL, 10); }

// Of every key, each event once or more, and the first times in order.
static void assert_in_order(struct fixture *f, int keys, int last) {
    int seen[32] = {0};
    for (size_t i = 0; i < f->heard_n; i++) {
        int k = number_of(f->heard[i].key + 1), n = number_of(f->heard[i].payload);
        assert_true(k < keys);
        if (n <= seen[k]) continue; // again
        assert_int_equal(n, seen[k] + 1);
        seen[k] = n;
    }
    for (int k = 0; k < keys; k++) assert_int_equal(seen[k], last);
}

static void set_drained(void *arg) { ((struct producer *)arg)->drained = true; }

static void drain(struct fixture *f, int which) {
    f->who = which;
    outbox_drain(f->producers[which].outbox, set_drained, &f->producers[which]);
    wait_until(f, drained);
}

// ---- the tests

static void test_events_are_published_in_order_and_deleted(void **state) {
    struct fixture *f = set_up();
    publish(f, "'k' || g % 10", 1, 100);
    start(f, 0);
    f->want = 100;
    wait_until(f, heard_enough);
    wait_until(f, table_empty);
    publish(f, "'k' || g % 10", 101, 3000); // a notice wakes it
    f->want = 3000;
    wait_until(f, heard_enough);
    wait_until(f, table_empty);
    assert_int_equal(f->heard_n, 3000);
    for (size_t i = 0; i < f->heard_n; i++)
        for (size_t j = i + 1; j < f->heard_n && j < i + 30; j++)
            if (strcmp(f->heard[i].key, f->heard[j].key) == 0)
                assert_true(number_of(f->heard[i].payload) < number_of(f->heard[j].payload));
    tear_down(f);
}

static void test_headers_and_no_key_arrive_as_they_are(void **state) {
    struct fixture *f = set_up();
    start(f, 0);
    sql(f, "select 1 from barid.publish('t', null, 'x'::text, '{\"a\": \"1\", \"b\": \"zwei\"}'::jsonb)");
    f->want = 1;
    wait_until(f, heard_enough);
    assert_true(f->null_key);
    assert_string_equal(f->headers, "a=1;b=zwei;");
    tear_down(f);
}

static void test_what_commits_late_is_not_lost(void **state) {
    struct fixture *f = set_up();
    start(f, 0);
    PGconn *late = test_pg_connect(f->pg.url);
    PQclear(PQexec(late, "begin; select barid.publish('t', 'late', '1'::text)"));
    publish(f, "'k0'", 1, 500);
    f->want = 500;
    wait_until(f, heard_enough);
    wait_until(f, (bool (*)(struct fixture *))table_empty);
    for (int i = 0; i < 3; i++) { // the claims go on, and the low-water mark must not pass it
        publish(f, "'k0'", 501 + i * 100, 600 + i * 100);
        f->want = 600 + (size_t)i * 100;
        wait_until(f, heard_enough);
    }
    PQclear(PQexec(late, "commit"));
    PQfinish(late);
    f->want = 801;
    wait_until(f, heard_enough);
    assert_string_equal(f->heard[800].key, "late");
    wait_until(f, table_empty);
    tear_down(f);
}

// A transaction that has nothing to do with the outbox stays open: the low-water mark goes on, and so do the claims.
static void test_a_long_transaction_elsewhere_is_no_hindrance(void **state) {
    struct fixture *f = set_up();
    start(f, 0);
    sql(f, "create table elsewhere (n int)");
    PGconn *late = test_pg_connect(f->pg.url), *elsewhere = test_pg_connect(f->pg.url);
    PQclear(PQexec(elsewhere, "begin; insert into elsewhere values (1)"));
    PQclear(PQexec(late, "begin; select barid.publish('t', 'late', '1'::text)"));
    int n = 0;
    for (; f->producers[0].outbox->look.low < 100; n++) { // the mark is found stuck, and moves all the same, but …
        if (n == 20) PQclear(PQexec(late, "commit"));
        assert_true(n < 300);
        assert_true(n > 20 || f->producers[0].outbox->look.low == 0); // … not past one that writes there
        publish(f, "'k0'", 1 + n * 10, 10 + n * 10);
        f->want = 10 + (size_t)n * 10;
        wait_until(f, heard_enough);
        assert_int_equal(sql(f, "select 1 from pg_sleep(0.1)"), 1);
    }
    f->want = 1 + (size_t)n * 10;
    wait_until(f, heard_enough);
    wait_until(f, table_empty);
    PQfinish(late);
    PQfinish(elsewhere);
    tear_down(f);
}

static void test_several_share_the_buckets_and_keep_the_order(void **state) {
    struct fixture *f = set_up();
    start(f, 0);
    f->who = 0;
    wait_until(f, has_all);
    for (int i = 1; i < PRODUCERS; i++) start(f, i);
    publish_rounds(f, 1, 100);
    wait_until(f, shared_by_all);
    publish_rounds(f, 101, 200);
    wait_until(f, table_empty);
    assert_in_order(f, 20, 200);
    assert_int_equal(f->heard_n, 4000); // handed over without publishing again
    int by[PRODUCERS] = {0};
    for (size_t i = 2000; i < f->heard_n; i++) by[f->heard[i].by]++;
    assert_true((by[0] > 0) + (by[1] > 0) + (by[2] > 0) >= 2); // one may have buckets without any of these keys
    tear_down(f);
}

static void test_who_leaves_gives_everything_back(void **state) {
    struct fixture *f = set_up();
    f->options.lease_ms = 60000;
    start(f, 0);
    f->who = 0;
    wait_until(f, has_all);
    f->producers[0].silent = true; // with the sink when the end comes
    publish(f, "'k' || g", 0, 9);
    f->want = 10;
    wait_until(f, heard_enough);
    outbox_drain(f->producers[0].outbox, set_drained, &f->producers[0]);
    assert_false(f->producers[0].drained);
    start(f, 1);
    f->producers[0].silent = false;
    loop_timer_start(f->pg.t.loop, &f->producers[0].timer, 0);
    wait_until(f, drained);
    f->who = 1;
    wait_until(f, has_all); // long before the leases would have ended
    assert_int_equal(sql(f, "select count(*) from barid.members"), 1);
    publish(f, "'k' || g", 10, 19);
    f->want = 20;
    wait_until(f, heard_enough);
    wait_until(f, table_empty);
    assert_int_equal(f->heard_n, 20);
    drain(f, 1);
    assert_int_equal(sql(f, "select count(*) from barid.buckets where owner is not null"), 0);
    assert_int_equal(sql(f, "select count(*) from barid.members"), 0);
    tear_down(f);
}

static void test_the_buckets_of_one_that_died_are_taken_over(void **state) {
    struct fixture *f = set_up();
    start(f, 0);
    f->who = 0;
    wait_until(f, has_all);
    f->producers[0].silent = true;
    publish(f, "'k' || g % 20", 0, 199);
    f->want = 20; // one of each key
    wait_until(f, heard_enough);
    end(f, 0); // as if it had died: nothing is given back
    start(f, 1);
    f->who = 1;
    wait_until(f, has_all);
    wait_until(f, table_empty);
    assert_int_equal(f->heard_n, 220); // what was with the sink then comes again
    tear_down(f);
}

static void test_a_lost_lease_is_respected(void **state) {
    struct fixture *f = set_up();
    start(f, 0);
    f->who = 0;
    wait_until(f, has_all);
    f->refuse_key = "k0";
    f->refusals = 1;
    publish(f, "'k0'", 1, 3); // one in memory, waiting for its next attempt
    while (!f->refused) {
        f->want = f->heard_n;
        wait_until(f, heard_enough);
    }
    PGconn *other = test_pg_connect(f->pg.url);
    PQclear(PQexec(other, "begin; lock table barid.buckets in access exclusive mode"));
    wait_until(f, has_none); // it cannot renew
    publish(f, "'k0'", 4, 6);
    size_t before = f->heard_n;
    PQclear(PQexec(other, "update barid.buckets set owner = gen_random_uuid(), lease_until = now() + interval '3 s'"));
    PQclear(PQexec(other,
                   "insert into barid.members values ('outbox', gen_random_uuid(), 'other', now() + interval '3 s')"));
    PQclear(PQexec(other, "commit"));
    assert_int_equal(sql(f, "select 1 from pg_sleep(1.5)"), 1);
    assert_int_equal(f->heard_n, before);
    wait_until(f, has_all); // the other one has not renewed
    PQfinish(other);
    f->want = 6;
    wait_until(f, heard_enough);
    wait_until(f, table_empty);
    assert_in_order(f, 1, 6);
    tear_down(f);
}

static bool all_taken(struct fixture *f) {
    return sql(f, "select count(*) from barid.buckets where owner is not null") == 64;
}

static void test_what_somebody_else_had_meanwhile_is_read_anew(void **state) {
    struct fixture *f = set_up();
    struct producer *p = &f->producers[0];
    start(f, 0);
    f->who = 0;
    wait_until(f, has_all);
    p->silent = true;
    publish(f, "'k0'", 1, 2); // one with the sink, one behind it in memory
    f->want = 1;
    wait_until(f, heard_enough);
    // Another one had the buckets, sent the second event, and has left again.
    sql(f, "with gone as (update barid.buckets set owner = null, lease_until = null), "
           "sent as (delete from barid.outbox where payload = '2') select 1");
    wait_until(f, all_taken);
    wait_until(f, has_all);
    p->silent = false;
    loop_timer_start(f->pg.t.loop, &p->timer, 0);
    publish(f, "'k0'", 3, 3);
    f->want = 2;
    wait_until(f, heard_enough);
    assert_string_equal(f->heard[1].payload, "3");
    wait_until(f, table_empty);
    tear_down(f);
}

static void test_buckets_that_are_gone_are_made_anew(void **state) {
    struct fixture *f = set_up();
    start(f, 0);
    f->who = 0;
    wait_until(f, has_all);
    sql(f, "with gone as (delete from barid.members) delete from barid.buckets"); // it seemed to be dead
    wait_until(f, has_none);
    wait_until(f, has_all);
    publish(f, "'k0'", 1, 1);
    f->want = 1;
    wait_until(f, heard_enough);
    wait_until(f, table_empty);
    tear_down(f);
}

#define TRICKLE 20
#define ROUNDS  10

static void answer_one(struct loop_timer *t) {
    struct producer *p = (struct producer *)((char *)t - offsetof(struct producer, timer));
    if (p->answered == p->answers_n) return;
    struct answer a = p->answers[p->answered++];
    a.done(a.arg, a.how, "");
    loop_timer_start(p->f->pg.t.loop, t, 0);
}

static bool all_answered(struct fixture *f) { return f->producers[0].answered >= f->want; }

static void test_what_is_taken_one_by_one_is_deleted_together(void **state) {
    struct fixture *f = set_up();
    struct producer *p = &f->producers[0];
    sql(f, "create table deletions (n bigint)");
    sql(f, "create function note_deletion() returns trigger language plpgsql as "
           "$$ begin insert into deletions values (1); return null; end $$");
    sql(f, "create trigger note_deletion after delete on barid.outbox "
           "for each statement execute function note_deletion()");
    start(f, 0);
    f->who = 0;
    wait_until(f, has_all);
    p->timer.fn = answer_one;
    long deletions = TRICKLE;
    for (int i = 0; i < ROUNDS && deletions > TRICKLE / 4; i++) { // a machine that stands still now and then needs more
        sql(f, "truncate deletions");
        publish(f, "'k' || g", 1, TRICKLE);
        f->want += TRICKLE;
        wait_until(f, all_answered);
        wait_until(f, table_empty);
        deletions = sql(f, "select count(*) from deletions");
    }
    assert_in_range(deletions, 1, TRICKLE / 4);
    tear_down(f);
}

static bool has_tried(struct fixture *f) { return f->refused > 0; }
static bool is_away(struct fixture *f) {
    return sql(f, "select count(*) from barid.members where away is not null") > 0;
}

static void test_a_reason_that_is_no_text_does_not_cost_the_leases(void **state) {
    struct fixture *f = set_up();
    f->away = "nobody at m\xfcnchen.example";
    publish(f, "'k0'", 1, 1);
    start(f, 0);
    wait_until(f, is_away); // which others can see
    f->away = NULL;
    f->want = 1;
    wait_until(f, heard_enough);
    wait_until(f, table_empty);
    tear_down(f);
}

// The wait for the next attempt is shorter in memory than in the table, where it begins when it is written.
static void test_what_a_waiting_event_held_up_follows_it_at_once(void **state) {
    struct fixture *f = set_up();
    f->options.lease_ms = 15000;
    f->options.safety_check_ms = 600000; // which would find it, too
    f->floor_ms = TABLE_WAIT_MS - 10;
    f->refuse_key = "k1";
    f->refusals = 1;
    publish(f, "'k1'", 1, 1);
    PGconn *slow = test_pg_connect(f->pg.url);
    PQclear(PQexec(slow, "begin; update barid.outbox set topic = topic"));
    start(f, 0);
    wait_until(f, has_tried);
    assert_int_equal(sql(f, "select 1 from pg_sleep(2.1)"), 1);
    PQclear(PQexec(slow, "commit"));
    PQfinish(slow);
    publish(f, "'k1'", 2, 2);
    for (f->want = 1; f->want <= 5; f->want++) { // … and it is left behind by the low-water mark
        publish(f, "'k0'", 1, 1);
        wait_until(f, heard_enough);
        assert_int_equal(sql(f, "select 1 from pg_sleep(0.11)"), 1);
    }
    f->want = 7;
    wait_until(f, heard_enough);
    int of_k1 = 0;
    for (size_t i = 0; i < f->heard_n; i++)
        if (strcmp(f->heard[i].key, "k1") == 0) assert_int_equal(number_of(f->heard[i].payload), ++of_k1);
    assert_int_equal(of_k1, 2);
    wait_until(f, table_empty);
    tear_down(f);
}

struct parked_list {
    int n, blocked;
    int64_t id;
    char error[64];
};

static void list_one(void *arg, const struct outbox_parked *p) {
    struct parked_list *l = arg;
    l->n++;
    l->blocked += p->blocked;
    l->id = p->id;
    snprintf(l->error, sizeof l->error, "%s", p->error);
}

static enum err list_parked(struct db *db, void *arg) {
    *(struct parked_list *)arg = (struct parked_list){0};
    return outbox_parked_each(db, &(struct outbox_parked_choice){0}, list_one, arg);
}

static enum err retry_parked(struct db *db, void *arg) {
    return outbox_parked_retry(db, &(struct outbox_parked_choice){.id = *(int64_t *)arg});
}

static enum err drop_parked(struct db *db, void *arg) {
    return outbox_parked_drop(db, &(struct outbox_parked_choice){.id = *(int64_t *)arg});
}

static bool is_parked(struct fixture *f) { return sql(f, "select count(*) from barid.outbox where state <> 0") == 1; }

static void park_first(struct fixture *f, struct parked_list *l, enum outbox_on_failure how) {
    f->options.on_failure = how;
    f->options.max_attempts = 2;
    f->refuse_key = "k1";
    f->refuse_payload = "1";
    f->refusals = 2;
    f->options.safety_check_ms = 600000;
    start(f, 0);
    publish(f, "'k1'", 1, 5);
    publish(f, "'k0'", 1, 5);
    wait_until(f, is_parked);
    assert_int_equal(test_db_do(&f->pg.t, list_parked, l, true), ERR_OK);
    assert_int_equal(l->n, 1);
    assert_string_equal(l->error, "not this one");
}

static void test_a_parked_event_lets_its_key_go_on(void **state) {
    struct fixture *f = set_up();
    struct parked_list l;
    park_first(f, &l, ON_FAILURE_PARK);
    assert_int_equal(l.blocked, 0);
    f->want = 9;
    wait_until(f, heard_enough);
    assert_int_equal(test_db_do(&f->pg.t, retry_parked, &l.id, false), ERR_OK);
    f->want = 10;
    wait_until(f, heard_enough); // the notice tells it to look from the beginning
    assert_string_equal(f->heard[9].payload, "1");
    wait_until(f, table_empty);
    tear_down(f);
}

static enum err delete_blocked(struct db *db, void *arg) {
    static struct db_sql one = {.text = "delete from outbox where state = 2"};
    return db_run(db_prepare(db, &one));
}

static bool low_has_moved(struct fixture *f) {
    outbox_wake(f->producers[0].outbox);
    return f->producers[0].outbox->look.low > 13;
}

static void blocked(enum err (*release)(struct db *db, void *arg), size_t heard_at_the_end, const char *first) {
    struct fixture *f = set_up();
    struct parked_list l;
    park_first(f, &l, ON_FAILURE_BLOCK);
    assert_int_equal(l.blocked, 1);
    publish(f, "'k1'", 6, 8);
    publish(f, "'k0'", 6, 100);
    f->want = 100;
    wait_until(f, heard_enough);
    publish(f, "'k0'", 101, 200);
    f->want = 200;
    wait_until(f, heard_enough);
    for (size_t i = 0; i < f->heard_n; i++) assert_string_equal(f->heard[i].key, "k0");
    wait_until(f, low_has_moved);
    assert_int_equal(test_db_do(&f->pg.t, release, &l.id, false), ERR_OK);
    outbox_wake(f->producers[0].outbox); // before, or without, a notice of it
    f->want = 200 + heard_at_the_end;
    wait_until(f, heard_enough);
    assert_string_equal(f->heard[200].payload, first);
    for (size_t i = 201; i < f->heard_n; i++)
        assert_int_equal(number_of(f->heard[i].payload), number_of(f->heard[i - 1].payload) + 1);
    wait_until(f, table_empty);
    tear_down(f);
}

static void test_a_blocked_key_waits_until_its_event_is_retried(void **state) { blocked(retry_parked, 8, "1"); }
static void test_a_blocked_key_waits_until_its_event_is_dropped(void **state) { blocked(drop_parked, 7, "2"); }

static void test_a_blocked_key_waits_until_somebody_deletes_its_event(void **state) { blocked(delete_blocked, 7, "2"); }

static bool measured(struct fixture *f) { return stats_of(f, 0).measured && stats_of(f, 0).lag > 0; }

static void test_the_table_is_measured(void **state) {
    struct fixture *f = set_up();
    publish(f, "'k0'", 1, 50);
    f->refuse_key = "k0";
    f->refusals = 1;
    f->producers[0].silent = true;
    start(f, 0);
    wait_until(f, measured);
    assert_true(stats_of(f, 0).lag == 50 && stats_of(f, 0).oldest_age_ms > 0);
    tear_down(f);
}

static void test_the_queue_of_a_consumer_is_a_table_too(void **state) {
    struct fixture *f = set_up();
    f->options.table = outbox_table_inbox("billing");
    start(f, 0);
    sql(f, "insert into barid.inbox_queue (consumer, event_id, topic, key, payload, place, published_at) "
           "select c, gen_random_uuid(), 't', 'k0', convert_to(g::text, 'UTF8'), 't/0@' || g, now() "
           "from generate_series(1, 10) g, (values ('billing'), ('other')) v(c) order by g");
    f->want = 10;
    wait_until(f, heard_enough);
    assert_string_equal(f->first_place, "t/0@10");
    assert_in_order(f, 1, 10);
    drain(f, 0);
    assert_int_equal(sql(f, "select count(*) from barid.inbox_queue"), 10); // the other's
    tear_down(f);
}

static bool sleeps(struct fixture *f) { return wake_state(f->producers[f->who].outbox) == WAKE_ASLEEP; }
static bool is_awake(struct fixture *f) {
    return wake_state(f->producers[f->who].outbox) == WAKE_AWAKE &&
           sql(f, "select count(*) from barid.members where awake") == 1;
}
static bool flag_is_down(struct fixture *f) {
    return sql(f, "select count(*) from barid.members where awake = false") == 1;
}

static void publish_ten(struct fixture *f) {
    publish(f, "'k0'", 1, 10);
    f->want += 10;
    wait_until(f, heard_enough);
}

static int notices_of(PGconn *listening) {
    int n = 0;
    PQclear(PQexec(listening, "select 1"));
    PQconsumeInput(listening);
    for (PGnotify *notice; (notice = PQnotifies(listening)) != NULL; n++) PQfreemem(notice);
    return n;
}

static PGconn *listen_beside(struct fixture *f) {
    PGconn *listening = test_pg_connect(f->pg.url);
    PQclear(PQexec(listening, "listen barid_outbox"));
    return listening;
}

static void start_asleep(struct fixture *f, uint32_t lease_ms) {
    f->options.lease_ms = lease_ms;
    f->options.safety_check_ms = 600000;
    start(f, 0);
    f->who = 0;
    wait_until(f, sleeps);
}

static void publish_one(struct fixture *f, const char *sql_text) {
    sql(f, sql_text);
    f->want++;
    wait_until(f, heard_enough);
}

static void test_who_is_awake_gets_no_notices(void **state) {
    struct fixture *f = set_up();
    start_asleep(f, 60000);
    while (!is_awake(f)) publish_ten(f);
    PGconn *listening = listen_beside(f);
    for (int i = 0; i < 50; i++) publish_ten(f); // heard all the same
    assert_int_equal(notices_of(listening), 0);
    publish_one(f, "begin isolation level repeatable read; select barid.publish('t', 'k0', 'x'::text); commit");
    assert_int_equal(notices_of(listening), 1); // it would not see us fall asleep
    wait_until(f, sleeps);
    publish_one(f, "select 1 from barid.publish('t', 'k0', 'y'::text)");
    assert_int_equal(notices_of(listening), 1);
    sql(f, "insert into barid.members values ('inbox:c', gen_random_uuid(), 'c', now(), false)");
    sql(f, "update barid.members set awake = true where queue = 'outbox'");
    sql(f, "select 1 from barid.publish('t', 'k0', 'z'::text)");
    assert_int_equal(notices_of(listening), 0); // another queue does not count
    sql(f, "insert into barid.members values ('outbox', gen_random_uuid(), 'new', now() + interval '1 h')");
    publish_one(f, "select 1 from barid.publish('t', 'k0', 'z'::text)");
    assert_int_equal(notices_of(listening), 1); // one of several is enough
    PQfinish(listening);
    tear_down(f);
}

static void test_who_saw_us_awake_and_commits_when_we_sleep_is_heard(void **state) {
    struct fixture *f = set_up();
    start_asleep(f, 60000);
    while (!is_awake(f)) publish_ten(f);
    wait_until(f, table_empty);
    PGconn *listening = listen_beside(f), *late = test_pg_connect(f->pg.url);
    PQclear(PQexec(late, "begin; select barid.publish('t', 'late', '1'::text)"));
    wait_until(f, flag_is_down);
    for (int i = 0; i < 20; i++) { // claims go by, and it does not sleep yet
        uint64_t before = f->producers[0].outbox->claim.started_ns;
        while (f->producers[0].outbox->claim.started_ns == before) wait_until(f, flag_is_down);
        assert_int_equal(wake_state(f->producers[0].outbox), WAKE_SETTLING);
    }
    PQclear(PQexec(late, "commit"));
    assert_int_equal(notices_of(listening), 0);
    f->want++;
    wait_until(f, heard_enough);
    assert_string_equal(f->heard[f->heard_n - 1].key, "late");
    wait_until(f, sleeps);
    PQfinish(listening);
    PQfinish(late);
    tear_down(f);
}

static void test_who_is_swept_out_of_the_members_settles_anew(void **state) {
    struct fixture *f = set_up();
    start_asleep(f, 900);
    PGconn *late = test_pg_connect(f->pg.url);
    sql(f, "delete from barid.members");
    PQclear(PQexec(late, "begin; select barid.publish('t', 'late', '1'::text)")); // nobody is there: no notice
    wait_until(f, flag_is_down);
    PQclear(PQexec(late, "commit"));
    f->want = 1;
    wait_until(f, heard_enough);
    wait_until(f, sleeps);
    PQfinish(late);
    tear_down(f);
}

// The number of a transaction that is open may be beyond the xmax of every snapshot: as long as no later one has ended.
static void test_the_last_number_given_is_minded(void **state) {
    struct fixture *f = set_up();
    start_asleep(f, 60000);
    f->producers[0].silent = true; // nothing is written down meanwhile
    PGconn *first = test_pg_connect(f->pg.url), *late = test_pg_connect(f->pg.url);
    PQclear(PQexec(first, "begin; select pg_current_xact_id()"));
    PQclear(PQexec(late, "begin; select barid.publish('t', 'k1', '1'::text)"));
    PQclear(PQexec(first, "select barid.publish('t', 'k0', '1'::text); commit"));
    f->want = 1;
    wait_until(f, heard_enough);
    uint64_t begun = io_monotonic_ns(f->io);
    while (io_monotonic_ns(f->io) - begun < 400000000) { // the mark is set, its xmax asked for, and xmin is looked at
        uint64_t before = f->producers[0].outbox->claim.started_ns;
        outbox_wake(f->producers[0].outbox);
        while (f->producers[0].outbox->claim.started_ns == before) wait_until(f, flag_is_down);
    }
    PQclear(PQexec(late, "commit"));
    f->want = 2;
    wait_until(f, heard_enough);
    assert_string_equal(f->heard[1].key, "k1");
    PQfinish(first);
    PQfinish(late);
    tear_down(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_are_published_in_order_and_deleted),
        cmocka_unit_test(test_headers_and_no_key_arrive_as_they_are),
        cmocka_unit_test(test_what_commits_late_is_not_lost),
        cmocka_unit_test(test_a_long_transaction_elsewhere_is_no_hindrance),
        cmocka_unit_test(test_several_share_the_buckets_and_keep_the_order),
        cmocka_unit_test(test_who_leaves_gives_everything_back),
        cmocka_unit_test(test_the_buckets_of_one_that_died_are_taken_over),
        cmocka_unit_test(test_a_lost_lease_is_respected),
        cmocka_unit_test(test_what_is_taken_one_by_one_is_deleted_together),
        cmocka_unit_test(test_what_somebody_else_had_meanwhile_is_read_anew),
        cmocka_unit_test(test_buckets_that_are_gone_are_made_anew),
        cmocka_unit_test(test_a_reason_that_is_no_text_does_not_cost_the_leases),
        cmocka_unit_test(test_what_a_waiting_event_held_up_follows_it_at_once),
        cmocka_unit_test(test_a_parked_event_lets_its_key_go_on),
        cmocka_unit_test(test_a_blocked_key_waits_until_its_event_is_retried),
        cmocka_unit_test(test_a_blocked_key_waits_until_its_event_is_dropped),
        cmocka_unit_test(test_a_blocked_key_waits_until_somebody_deletes_its_event),
        cmocka_unit_test(test_the_table_is_measured),
        cmocka_unit_test(test_the_last_number_given_is_minded),
        cmocka_unit_test(test_the_queue_of_a_consumer_is_a_table_too),
        cmocka_unit_test(test_who_is_awake_gets_no_notices),
        cmocka_unit_test(test_who_saw_us_awake_and_commits_when_we_sleep_is_heard),
        cmocka_unit_test(test_who_is_swept_out_of_the_members_settles_anew),
    };
    cmocka_set_test_filter(getenv("ONLY")); // a pattern, by hand
    return cmocka_run_group_tests(tests, NULL, NULL);
}
