// What passes by itself on PostgreSQL: deadlocks, connections that are cut, a server that is away for a while. And
// lanes, which keep order and run side by side.
#include "database/postgres.h"
#include "database/postgres_fixture.h"

#include <pthread.h>
#include <sys/wait.h>

static const struct migration shape[] = {
    {.number = 1,
     .name = "things",
     .sql = "create table things (id bigint primary key, lane bigint, n bigint default 0);"
            "insert into things (id) values (-1), (-2);"},
    {.number = 0},
};

static struct db_sql insert_sql = {.text = "insert into things (id, lane) values (?1, ?2)"};
static struct db_sql count_sql = {.text = "select count(*) from things where id > 0"};
static struct db_sql lock_sql = {.text = "update things set n = n + 1 where id = ?1"};
static struct db_sql pid_sql = {.text = "select pg_backend_pid()"};

#define KILL_ALL                                                                                                       \
    "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = '%s' and pid <> pg_backend_pid()"

static enum err insert(struct db *db, int64_t id, int64_t lane) {
    struct db_stmt *s = db_prepare(db, &insert_sql);
    db_bind_int(s, 1, id);
    db_bind_int(s, 2, lane);
    return db_run(s);
}

static enum err count(struct db *db, void *arg) {
    struct db_stmt *s = db_prepare(db, &count_sql);
    int row = db_step(s);
    if (row < 0) return (enum err) - row;
    *(int64_t *)arg = db_int(s, 0);
    return ERR_OK;
}

static int64_t count_of(struct test_postgres *p) {
    int64_t n = -1;
    assert_int_equal(test_db_do(&p->t, count, &n, true), ERR_OK);
    return n;
}

static void admin(struct test_postgres *p, const char *format) {
    char sql[256];
    snprintf(sql, sizeof sql, format, p->name);
    test_pg_sql(p->admin, sql);
}

static void kill_pid(struct test_postgres *p, int64_t pid) {
    char sql[128];
    snprintf(sql, sizeof sql, "select pg_terminate_backend(%lld)", (long long)pid);
    test_pg_sql(p->admin, sql);
}

struct job {
    struct test_postgres *p;
    int64_t id, lane;
    int runs;
};

static uint64_t again_of(struct test_postgres *p) {
    struct database_stats stats;
    database_stats(p->t.d, &stats);
    return stats.again;
}

// ---- connections that are cut

static enum err cut_half_way(struct db *db, void *arg) {
    struct job *j = arg;
    j->runs++;
    enum err err = insert(db, j->id, 0);
    if (err) return err;
    if (j->runs == 1) {
        struct db_stmt *s = db_prepare(db, &pid_sql);
        assert_int_equal(db_step(s), DB_ROW);
        kill_pid(j->p, db_int(s, 0));
    }
    return insert(db, j->id + 1, 0);
}

static void test_a_unit_runs_again_when_its_connection_is_cut(void **state) {
    struct test_postgres p;
    test_pg_open(&p, shape);
    struct job j = {.p = &p, .id = 1};
    assert_int_equal(test_db_do(&p.t, cut_half_way, &j, false), ERR_OK);
    assert_int_equal(j.runs, 2);
    assert_int_equal(count_of(&p), 2);
    assert_int_equal(again_of(&p), 1);
    admin(&p, KILL_ALL);
    assert_int_equal(count_of(&p), 2);
    j = (struct job){.p = &p, .id = 10, .runs = 1};
    assert_int_equal(test_db_do(&p.t, cut_half_way, &j, false), ERR_OK);
    assert_int_equal(count_of(&p), 4);
    test_pg_close(&p);
}

static enum err insert_job(struct db *db, void *arg) {
    struct job *j = arg;
    j->runs++;
    return insert(db, j->id, j->lane);
}

static void test_a_connection_cut_during_the_commit_is_said(void **state) {
    struct test_postgres p;
    test_pg_open(&p, shape);
    test_pg_sql(p.url, "create function cut() returns trigger language plpgsql as $$ begin "
                       "perform pg_terminate_backend(pg_backend_pid()); return null; end $$;"
                       "create constraint trigger cut after insert on barid.things deferrable initially deferred "
                       "for each row execute function cut()");
    struct job j = {.p = &p, .id = 1};
    assert_int_equal(test_db_do(&p.t, insert_job, &j, false), ERR_UNAVAILABLE);
    assert_int_equal(j.runs, 1);
    test_pg_sql(p.url, "drop trigger cut on barid.things");
    assert_int_equal(count_of(&p), 0);
    assert_int_equal(test_db_do(&p.t, insert_job, &j, false), ERR_OK);
    test_pg_close(&p);
}

static void test_units_fail_quickly_while_the_server_is_away(void **state) {
    struct test_postgres p;
    int64_t n;
    test_pg_open(&p, shape);
    struct job j = {.p = &p, .id = 1};
    admin(&p, "alter database %s with allow_connections false");
    admin(&p, KILL_ALL);
    for (int i = 0; i < 20; i++) {
        uint64_t began = loop_now_ms(p.t.loop);
        assert_int_equal(test_db_do(&p.t, insert_job, &j, false), ERR_UNAVAILABLE);
        assert_true(loop_now_ms(p.t.loop) - began < 2000);
    }
    admin(&p, "alter database %s with allow_connections true");
    enum err err = ERR_UNAVAILABLE;
    for (int i = 0; err && i < 100; i++) {
        test_db_pass_ms(&p.t, 100);
        err = test_db_do(&p.t, count, &n, true);
    }
    assert_int_equal(err, ERR_OK);
    assert_int_equal(test_db_do(&p.t, insert_job, &j, false), ERR_OK);
    assert_int_equal(count_of(&p), 1);
    test_pg_close(&p);
}

// ---- a server that is slow, and one that is silent

#define SILENT_MS 1000

// Statements that sleep in one pipeline: all of it takes longer than a silent server is waited for.
static enum err sleep_in_pipeline(struct postgres_db *db, const char *statement, unsigned times) {
    for (unsigned i = 0; i < times; i++)
        if (!postgres_ask_plain(db, statement)) return db->failed.code;
    return postgres_collect(db, NULL);
}

static void test_a_pipeline_may_be_long_but_not_silent(void **state) {
    struct test_postgres p;
    struct error e = {0};
    struct db *base = NULL;
    test_pg_prepare(&p);
    struct database_options o = {.url = p.url};
    assert_int_equal(postgres_driver.open(&o, DB_READER, false, &base, &e), ERR_OK);
    struct postgres_db *db = (struct postgres_db *)base;
    db->session.patience_ms = SILENT_MS;
    assert_int_equal(sleep_in_pipeline(db, "select pg_sleep(0.05)", 40), ERR_OK);
    assert_int_equal(sleep_in_pipeline(db, "select pg_sleep(20)", 1), ERR_UNAVAILABLE);
    assert_int_equal(db->fate, FATE_LOST);
    postgres_driver.close(base);
    test_pg_remove(&p);
}

// ---- lanes

static pthread_barrier_t barrier;

struct pair {
    int64_t first, second;
    int runs;
};

static enum err lock_both(struct db *db, void *arg) {
    struct pair *x = arg;
    struct db_stmt *s = db_prepare(db, &lock_sql);
    db_bind_int(s, 1, x->first);
    enum err err = db_run(s);
    if (err) return err;
    if (x->runs++ == 0) pthread_barrier_wait(&barrier); // both have their first
    s = db_prepare(db, &lock_sql);
    db_bind_int(s, 1, x->second);
    return db_run(s);
}

static void stop_when_both(struct db_unit *u, enum err err) {
    static int ended;
    test_unit_done(u, err);
    if (++ended % 2 == 0) loop_stop(((struct test_unit *)u)->t->loop);
}

static void test_a_deadlock_is_run_again(void **state) {
    struct test_postgres p;
    test_pg_open(&p, shape);
    struct pair pairs[2] = {{.first = -1, .second = -2}, {.first = -2, .second = -1}};
    struct test_unit units[2];
    pthread_barrier_init(&barrier, NULL, 2);
    for (uint32_t i = 0; i < 2; i++) {
        units[i] = test_unit_of(&p.t, lock_both, &pairs[i]);
        units[i].unit.lane = i + 1;
        units[i].unit.done = stop_when_both;
        assert_int_equal(database_submit(p.t.d, &units[i].unit), ERR_OK);
    }
    test_db_loop(&p.t);
    for (int i = 0; i < 2; i++) assert_int_equal(units[i].err, ERR_OK);
    assert_true(pairs[0].runs + pairs[1].runs >= 3); // and they may meet again
    assert_int_equal(test_pg_sql(p.url, "select sum(n) from barid.things"), 4);
    pthread_barrier_destroy(&barrier);
    test_pg_close(&p);
}

#define LANES    5
#define LANE_JOB 100
static int64_t last_done[LANES];
static int done_count;

static void note_lane(struct db_unit *u, enum err err) {
    struct test_unit *x = (struct test_unit *)u;
    struct job *j = x->arg;
    assert_int_equal(err, ERR_OK);
    assert_true(j->id > last_done[j->lane]);
    last_done[j->lane] = j->id;
    if (++done_count == LANES * LANE_JOB) loop_stop(x->t->loop);
}

static void test_a_lane_keeps_its_order(void **state) {
    static struct test_unit units[LANES * LANE_JOB];
    static struct job jobs[LANES * LANE_JOB];
    struct test_postgres p;
    test_pg_open(&p, shape);
    test_pg_sql(p.url, "alter table barid.things add column at bigserial");
    for (int i = 0; i < LANES * LANE_JOB; i++) {
        jobs[i] = (struct job){.p = &p, .id = i + 1, .lane = i % LANES};
        units[i] = test_unit_of(&p.t, insert_job, &jobs[i]);
        units[i].unit.lane = (uint32_t)(i % LANES) + 100;
        units[i].unit.done = note_lane;
        assert_int_equal(database_submit(p.t.d, &units[i].unit), ERR_OK);
    }
    test_db_loop(&p.t);
    assert_int_equal(test_pg_sql(p.url,
                                 "select count(*) from (select id < lag(id) over (partition by lane order by at) wrong "
                                 "from barid.things where id > 0) q where wrong"),
                     0);
    assert_int_equal(count_of(&p), LANES * LANE_JOB);
    test_pg_close(&p);
}

// ---- migrations

static void migrate_and_exit(const char *url) {
    struct error e = {0};
    enum err err = database_migrate(url, shape, NULL, NULL, &e);
    if (err) fprintf(stderr, "%s\n", e.text);
    _exit(err != ERR_OK);
}

static void test_programs_may_migrate_at_once(void **state) {
    struct test_postgres p;
    pid_t pids[4];
    test_pg_prepare(&p);
    for (int i = 0; i < 4; i++)
        if (!(pids[i] = fork())) migrate_and_exit(p.url);
    for (int i = 0; i < 4; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(test_pg_sql(p.url, "select count(*) from barid.migrations"), 1);
    test_pg_remove(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_unit_runs_again_when_its_connection_is_cut),
        cmocka_unit_test(test_a_connection_cut_during_the_commit_is_said),
        cmocka_unit_test(test_units_fail_quickly_while_the_server_is_away),
        cmocka_unit_test(test_a_pipeline_may_be_long_but_not_silent),
        cmocka_unit_test(test_a_deadlock_is_run_again),
        cmocka_unit_test(test_a_lane_keeps_its_order),
        cmocka_unit_test(test_programs_may_migrate_at_once),
    };
    return test_pg_main(tests);
}
