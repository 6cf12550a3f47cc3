// The port as its users meet it, over a real SQLite database; and what does not depend on the kind over PostgreSQL,
// too, when BARID_TEST_POSTGRES says where there is one.
#include "database/test_database.h"

#include <sys/stat.h>

#define SQLITE_SHAPE                                                                                                   \
    "create table things (id integer primary key, name text unique, body blob, maybe integer);"                        \
    "create table owned (id integer primary key, thing integer not null references things (id));"
#define POSTGRES_SHAPE                                                                                                 \
    "create table things (id bigint primary key, name text unique, body bytea, maybe integer);"                        \
    "create table owned (id bigint primary key, thing bigint not null references things (id));"
static struct migration shape[] = {{.number = 1, .name = "things", .sql = SQLITE_SHAPE}, {.number = 0}};

static struct db_sql insert_sql = {.text = "insert into things (id, name) values (?1, ?2)"};
static struct db_sql insert_owned_sql = {.text = "insert into owned (id, thing) values (?1, ?2)"};
static struct db_sql count_sql = {.text = "select count(*) from things"};
static struct db_sql all_types_sql = {.text = "insert into things (id, name, body, maybe) values (?1, ?2, ?3, ?4)"};
static struct db_sql read_back_sql = {.text = "select id, name, body, maybe from things where id = ?1"};
static struct db_sql bodies_sql = {.text = "update things set body = ?1 where id > ?2"};

static enum err insert(struct db *db, int64_t id, const char *name) {
    struct db_stmt *s = db_prepare(db, &insert_sql);
    db_bind_int(s, 1, id);
    db_bind_text(s, 2, name);
    return db_run(s);
}

static enum err insert_one(struct db *db, void *arg) { return insert(db, *(int64_t *)arg, NULL); }

static enum err count(struct db *db, void *arg) {
    struct db_stmt *s = db_prepare(db, &count_sql);
    if (db_step(s) != DB_ROW) return ERR_DATABASE;
    *(int64_t *)arg = db_int(s, 0);
    return ERR_OK;
}

static int64_t count_of(struct test_db *t) {
    int64_t n = -1;
    assert_int_equal(test_db_do(t, count, &n, true), ERR_OK);
    return n;
}

// ---- values

static const struct id some_id = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255}};

static enum err write_types(struct db *db, void *arg) {
    struct db_stmt *s = db_prepare(db, &all_types_sql);
    db_bind_int(s, 1, INT64_MAX);
    db_bind_text_n(s, 2, "a name that goes on", 6);
    db_bind_id(s, 3, &some_id);
    db_bind_null(s, 4);
    enum err err = db_run(s);
    if (err) return err;
    if (db_changes(db) != 1) return ERR_DATABASE;
    s = db_prepare(db, &all_types_sql);
    db_bind_int(s, 1, -1);
    db_bind_text(s, 2, "");
    db_bind_blob(s, 3, "", 0);
    db_bind_int(s, 4, 7);
    return db_run(s);
}

static enum err read_types(struct db *db, void *arg) {
    size_t n;
    struct id id;
    struct db_stmt *s = db_prepare(db, &read_back_sql);
    db_bind_int(s, 1, INT64_MAX);
    assert_int_equal(db_step(s), DB_ROW);
    assert_true(db_int(s, 0) == INT64_MAX);
    assert_string_equal(db_text(s, 1, &n), "a name");
    assert_int_equal(n, 6);
    assert_true(db_id(s, 2, &id) && id_equal(&id, &some_id));
    assert_true(db_is_null(s, 3));
    assert_int_equal(db_int(s, 3), 0);
    assert_int_equal(db_step(s), DB_DONE);
    s = db_prepare(db, &read_back_sql);
    db_bind_int(s, 1, -1);
    assert_int_equal(db_step(s), DB_ROW);
    assert_string_equal(db_text(s, 1, NULL), "");
    assert_false(db_is_null(s, 2));
    assert_false(db_id(s, 2, &id));
    db_blob(s, 2, &n);
    assert_int_equal(n, 0);
    assert_int_equal(db_int(s, 3), 7);
    return ERR_OK;
}

static void test_values_come_back_as_they_were(void **state) {
    struct test_db t;
    test_db_open(&t, shape);
    assert_int_equal(test_db_do(&t, write_types, NULL, false), ERR_OK);
    assert_int_equal(test_db_do(&t, read_types, NULL, true), ERR_OK);
    test_db_close(&t);
}

// ---- units

static enum err insert_two_and_fail(struct db *db, void *arg) {
    int64_t id = *(int64_t *)arg;
    enum err err = insert(db, id, NULL);
    if (!err) err = insert(db, id + 1000, NULL);
    return err ? err : error_set(db_error(db), ERR_FORBIDDEN, "changed my mind");
}

// All are submitted before the loop runs, so they share commits.
static void test_a_failing_unit_takes_back_only_its_own(void **state) {
    struct test_db t;
    struct test_unit units[30];
    int64_t ids[30];
    test_db_open(&t, shape);
    for (int i = 0; i < 30; i++) {
        ids[i] = i;
        units[i] = test_unit_of(&t, i % 3 == 1 ? insert_two_and_fail : insert_one, &ids[i]);
        units[i].unit.lane = 1;
        units[i].stop = i == 29;
        assert_int_equal(database_submit(t.d, &units[i].unit), ERR_OK);
    }
    test_db_loop(&t);
    for (int i = 0; i < 30; i++) {
        assert_int_equal(units[i].err, i % 3 == 1 ? ERR_FORBIDDEN : ERR_OK);
        if (i % 3 == 1) assert_string_equal(units[i].unit.error.text, "changed my mind");
    }
    assert_int_equal(count_of(&t), 20);
    test_db_reopen(&t, shape);
    assert_int_equal(count_of(&t), 20);
    test_db_close(&t);
}

static enum err insert_again(struct db *db, void *arg) {
    enum err err = insert(db, 1, "same");
    if (err) return err;
    assert_int_equal(insert(db, 2, "same"), ERR_CONFLICT);
    return insert(db, 3, "other"); // the unit goes on: only the statement failed
}

static enum err insert_orphan(struct db *db, void *arg) {
    struct db_stmt *s = db_prepare(db, &insert_owned_sql);
    db_bind_int(s, 1, 1);
    db_bind_int(s, 2, 99);
    return db_run(s);
}

static void test_a_violated_constraint_is_a_conflict(void **state) {
    struct test_db t;
    test_db_open(&t, shape);
    assert_int_equal(test_db_do(&t, insert_again, NULL, false), ERR_OK);
    assert_int_equal(count_of(&t), 2);
    assert_int_equal(test_db_do(&t, insert_orphan, NULL, false), ERR_CONFLICT);
    test_db_close(&t);
}

#define MANY 500
static int order[MANY], ordered;

static void note_order(struct db_unit *u, enum err err) {
    struct test_unit *x = (struct test_unit *)u;
    assert_int_equal(err, ERR_OK);
    order[ordered++] = (int)*(int64_t *)x->arg;
    if (ordered == MANY) loop_stop(x->t->loop);
}

static void test_many_units_share_commits_and_are_done_in_order(void **state) {
    static struct test_unit units[MANY];
    static int64_t ids[MANY];
    struct test_db t;
    struct database_stats stats;
    test_db_open(&t, shape);
    ordered = 0;
    for (int i = 0; i < MANY; i++) {
        ids[i] = i;
        units[i] = test_unit_of(&t, insert_one, &ids[i]);
        units[i].unit.done = note_order;
        units[i].unit.lane = 1;
        assert_int_equal(database_submit(t.d, &units[i].unit), ERR_OK);
    }
    database_stats(t.d, &stats);
    assert_int_equal(stats.pending, MANY);
    test_db_loop(&t);
    for (int i = 0; i < MANY; i++) assert_int_equal(order[i], i);
    database_stats(t.d, &stats);
    assert_int_equal(stats.units, MANY);
    assert_int_equal(stats.pending, 0);
    assert_int_equal(stats.failed, 0);
    if (test_db_server) assert_int_equal(stats.commits, MANY);
    else assert_true(stats.commits >= 1 && stats.commits <= MANY / 10);
    test_db_close(&t);
}

static void test_a_reader_sees_what_was_committed_before_it_was_submitted(void **state) {
    struct test_db t;
    test_db_open(&t, shape);
    for (int64_t i = 1; i <= 50; i++) {
        assert_int_equal(test_db_do(&t, insert_one, &i, false), ERR_OK);
        assert_int_equal(count_of(&t), i);
    }
    test_db_close(&t);
}

static void test_a_read_only_unit_cannot_write(void **state) {
    struct test_db t;
    int64_t id = 1;
    test_db_open(&t, shape);
    assert_int_not_equal(test_db_do(&t, insert_one, &id, true), ERR_OK);
    assert_int_equal(count_of(&t), 0);
    test_db_close(&t);
}

static void test_a_full_queue_is_busy(void **state) {
    struct test_db t;
    struct error e;
    struct test_unit units[11];
    int64_t ids[11];
    test_db_prepare(&t);
    assert_int_equal(test_db_open_with(&t, (struct database_options){.max_pending = 10}, shape, &e), ERR_OK);
    for (int i = 0; i < 11; i++) {
        ids[i] = i;
        units[i] = test_unit_of(&t, insert_one, &ids[i]);
        units[i].unit.lane = 1;
        units[i].stop = i == 9;
        assert_int_equal(database_submit(t.d, &units[i].unit), i < 10 ? ERR_OK : ERR_BUSY);
    }
    test_db_loop(&t);
    assert_int_equal(count_of(&t), 10);
    test_db_close(&t);
}

static void test_close_finishes_what_was_submitted(void **state) {
    static struct test_unit units[200];
    static int64_t ids[200];
    struct test_db t;
    test_db_open(&t, shape);
    for (int i = 0; i < 200; i++) {
        ids[i] = i;
        units[i] = test_unit_of(&t, insert_one, &ids[i]);
        assert_int_equal(database_submit(t.d, &units[i].unit), ERR_OK);
    }
    test_db_reopen(&t, shape);
    for (int i = 0; i < 200; i++) assert_true(units[i].ended && units[i].err == ERR_OK);
    assert_int_equal(count_of(&t), 200);
    test_db_close(&t);
}

// ---- the disk

static void test_below_the_low_water_mark_writing_is_refused(void **state) {
    struct test_db t;
    int64_t id = 1;
    test_db_open(&t, shape);
    database_low_water(t.d, 1);
    assert_int_equal(test_db_do(&t, insert_one, &id, false), ERR_OK);
    database_low_water(t.d, UINT64_MAX);
    id = 2;
    assert_int_equal(test_db_do(&t, insert_one, &id, false), ERR_FULL);
    assert_int_equal(count_of(&t), 1); // reading goes on
    struct test_unit frees = test_unit_of(&t, insert_one, &id);
    frees.unit.frees_space = frees.stop = true;
    assert_int_equal(database_submit(t.d, &frees.unit), ERR_OK);
    test_db_loop(&t);
    assert_int_equal(frees.err, ERR_OK);
    database_low_water(t.d, 1);
    id = 3;
    assert_int_equal(test_db_do(&t, insert_one, &id, false), ERR_OK);
    test_db_close(&t);
}

static enum err insert_secret(struct db *db, void *arg) {
    static char body[20000];
    for (size_t i = 0; i + 16 <= sizeof body; i += 16) memcpy(body + i, "a deleted secret", 16);
    struct db_stmt *s = db_prepare(db, &all_types_sql);
    db_bind_int(s, 1, 1);
    db_bind_text(s, 2, "secret");
    db_bind_blob(s, 3, body, sizeof body);
    return db_run(s);
}

static enum err delete_secret(struct db *db, void *arg) {
    static struct db_sql sql = {.text = "delete from things where id = 1"};
    return db_run(db_prepare(db, &sql));
}

static bool file_contains(const char *path, const char *what) {
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    static char data[4 << 20];
    size_t n = fread(data, 1, sizeof data, f);
    fclose(f);
    return memmem(data, n, what, strlen(what)) != NULL;
}

static void test_what_was_deleted_is_nowhere_after_a_quiet_while(void **state) {
    struct test_db t;
    char wal[128];
    test_db_open(&t, shape);
    snprintf(wal, sizeof wal, "%s-wal", t.path);
    assert_int_equal(test_db_do(&t, insert_secret, NULL, false), ERR_OK);
    assert_true(file_contains(wal, "a deleted secret"));
    assert_int_equal(test_db_do(&t, delete_secret, NULL, false), ERR_OK);
    for (int i = 0; i < 100 && file_contains(wal, "a deleted secret"); i++) test_db_pass_ms(&t, 100);
    assert_false(file_contains(wal, "a deleted secret"));
    assert_false(file_contains(t.path, "a deleted secret"));
    test_db_close(&t);
}

static enum err fill_bodies(struct db *db, void *arg) {
    static char body[3000];
    int64_t id = *(int64_t *)arg;
    enum err err = insert(db, id, NULL);
    if (err) return err;
    struct db_stmt *s = db_prepare(db, &bodies_sql);
    db_bind_blob(s, 1, body, sizeof body);
    db_bind_int(s, 2, id - 8);
    return db_run(s);
}

static void test_the_log_stays_bounded_under_constant_writing(void **state) {
    static struct test_unit units[MANY];
    static int64_t ids[MANY];
    struct test_db t;
    char wal[128];
    struct stat st;
    test_db_open(&t, shape);
    snprintf(wal, sizeof wal, "%s-wal", t.path);
    for (int round = 0; round < 60; round++) {
        for (int i = 0; i < MANY; i++) {
            ids[i] = round * MANY + i;
            units[i] = test_unit_of(&t, fill_bodies, &ids[i]);
            units[i].stop = i == MANY - 1;
            assert_int_equal(database_submit(t.d, &units[i].unit), ERR_OK);
        }
        test_db_loop(&t);
    }
    assert_int_equal(stat(wal, &st), 0);
    assert_true(st.st_size < 64 << 20); // some 100 MiB were written
    assert_int_equal(count_of(&t), 60 * MANY);
    test_db_close(&t);
}

// ---- opening

static struct migration grown[] = {
    {.number = 1, .name = "things", .sql = SQLITE_SHAPE},
    {.number = 2, .name = "more", .sql = "alter table things add column more text; update things set more = 'm'"},
    {.number = 0},
};
static const struct migration altered[] = {
    {.number = 1, .name = "things", .sql = "create table things (id integer primary key)"},
    {.number = 0},
};
static struct migration broken[] = {
    {.number = 1, .name = "things", .sql = SQLITE_SHAPE},
    {.number = 2, .name = "broken", .sql = "create table half (id integer); create tabel other (id integer)"},
    {.number = 0},
};
// Another component: it does not matter that these are older or newer than the others.
static const struct migration other[] = {
    {.number = 101, .name = "others", .sql = "create table others (id integer)"},
    {.number = 0},
};

static enum err half_there(struct db *db, void *arg) {
    static struct db_sql sql = {.text = "select count(*) from sqlite_master where name = 'half'",
                                .postgres = "select count(*) from pg_class where relname = 'half'"};
    struct db_stmt *s = db_prepare(db, &sql);
    assert_int_equal(db_step(s), DB_ROW);
    *(int64_t *)arg = db_int(s, 0);
    return ERR_OK;
}

static void test_migrations_are_applied_once_and_newer_is_refused(void **state) {
    struct test_db t;
    struct error e = {0};
    int64_t id = 1, there = -1;
    test_db_open(&t, shape);
    assert_int_equal(test_db_do(&t, insert_one, &id, false), ERR_OK);
    database_close(t.d);
    assert_int_equal(test_db_open_with(&t, (struct database_options){0}, altered, &e), ERR_VERSION);
    assert_int_equal(test_db_open_with(&t, (struct database_options){0}, broken, &e), ERR_DATABASE);
    assert_int_equal(test_db_open_with(&t, (struct database_options){0}, shape, &e), ERR_OK);
    assert_int_equal(test_db_do(&t, half_there, &there, true), ERR_OK);
    assert_int_equal(there, 0); // a migration is there whole or not at all
    test_db_reopen(&t, grown);
    test_db_reopen(&t, grown);
    assert_int_equal(count_of(&t), 1);
    database_close(t.d);
    assert_int_equal(test_db_open_with(&t, (struct database_options){0}, shape, &e), ERR_VERSION);
    assert_non_null(strstr(e.text, "newer"));
    assert_int_equal(test_db_open_with(&t, (struct database_options){0}, other, &e), ERR_OK);
    test_db_reopen(&t, grown);
    database_close(t.d);
    test_db_remove(&t);
}

static void note_migrated(void *arg, uint32_t number, const char *name) {
    uint32_t *sum = arg;
    assert_string_equal(name, number == 1 ? "things" : "more");
    *sum = *sum * 10 + number;
}

static void test_migrating_tells_what_was_applied(void **state) {
    struct test_db t;
    struct error e = {0};
    uint32_t numbers = 0;
    test_db_prepare(&t);
    const char *url = test_db_server ? t.url : t.path;
    assert_int_equal(database_migrate(url, shape, note_migrated, &numbers, &e), ERR_OK);
    assert_int_equal(numbers, 1);
    assert_int_equal(database_migrate(url, grown, note_migrated, &numbers, &e), ERR_OK);
    assert_int_equal(database_migrate(url, grown, note_migrated, &numbers, &e), ERR_OK);
    assert_int_equal(numbers, 12);
    assert_int_equal(database_migrate(url, shape, note_migrated, &numbers, &e), ERR_VERSION);
    test_db_remove(&t);
}

static void test_opening_says_what_is_wrong(void **state) {
    struct test_db t;
    struct error e = {0};
    test_db_prepare(&t);
    assert_int_equal(test_db_open_with(&t, (struct database_options){0}, NULL, &e), ERR_NOT_FOUND);
    assert_int_equal(access(t.path, F_OK), -1);
    FILE *f = fopen(t.path, "w");
    for (int i = 0; i < 1000; i++) fputs("this is not a database\n", f);
    fclose(f);
    assert_int_equal(test_db_open_with(&t, (struct database_options){0}, shape, &e), ERR_CORRUPT);
    struct database *d;
    assert_int_equal(database_open(&d, t.loop, &(struct database_options){.url = "mysql://x"}, shape, &e),
                     ERR_UNSUPPORTED);
    test_db_remove(&t);
}

static void count_findings(void *arg, const char *what) {
    assert_true(strlen(what) > 0);
    ++*(int *)arg;
}

static int findings_of(struct test_db *t) {
    struct error e = {0};
    int findings = 0;
    if (database_check(t->path, count_findings, &findings, &e)) fail_msg("%s", e.text);
    return findings;
}

static enum err add_many(struct db *db, void *arg) {
    static struct db_sql sql = {
        .text = "with recursive n (i) as (select 1 union all select i + 1 from n where i < 2000) "
                "insert into things (id, name) select 1000 + i, 'a name that fills some pages ' || i from n"};
    return db_run(db_prepare(db, &sql));
}

static void add_number(void *arg, const void *blob, size_t n, int64_t number) {
    assert_int_equal(n, 2);
    assert_memory_equal(blob, "\1\2", 2);
    *(int64_t *)arg += number;
}

static void test_a_check_finds_damage_and_changes_nothing(void **state) {
    struct test_db t;
    struct error e = {0};
    char log[128];
    test_db_open(&t, shape);
    assert_int_equal(test_db_do(&t, add_many, NULL, false), ERR_OK);
    database_close(t.d);
    assert_int_equal(findings_of(&t), 0);
    int64_t sum = 0;
    assert_int_equal(
        database_rows(t.path, "select x'0102', 1000 + id from things where id < 1003", add_number, &sum, &e), ERR_OK);
    assert_int_equal(sum, 4003);
    assert_int_equal(database_rows(t.path, "select x'00', 1 from nothing", add_number, &sum, &e), ERR_NOT_FOUND);
    snprintf(log, sizeof log, "%s-wal", t.path);
    assert_int_equal(access(log, F_OK), -1);
    FILE *f = fopen(t.path, "r+");
    for (int page = 3; page < 20; page++) {
        fseek(f, page * 4096L + 100, SEEK_SET);
        for (int i = 0; i < 100; i++) fputs("damage", f);
    }
    fclose(f);
    assert_true(findings_of(&t) > 0);
    f = fopen(t.path, "r+");
    fputs("this is not a database\n", f);
    fclose(f);
    assert_int_equal(findings_of(&t), 1);
    assert_int_equal(remove(t.path), 0);
    int none = 0;
    assert_int_equal(database_check(t.path, count_findings, &none, &e), ERR_NOT_FOUND);
    test_db_remove(&t);
}

#ifdef BARID_POSTGRES
static int on_postgres(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_come_back_as_they_were),
        cmocka_unit_test(test_a_failing_unit_takes_back_only_its_own),
        cmocka_unit_test(test_many_units_share_commits_and_are_done_in_order),
        cmocka_unit_test(test_a_reader_sees_what_was_committed_before_it_was_submitted),
        cmocka_unit_test(test_a_read_only_unit_cannot_write),
        cmocka_unit_test(test_a_full_queue_is_busy),
        cmocka_unit_test(test_close_finishes_what_was_submitted),
        cmocka_unit_test(test_migrations_are_applied_once_and_newer_is_refused),
        cmocka_unit_test(test_migrating_tells_what_was_applied),
    };
    test_db_server = getenv("BARID_TEST_POSTGRES");
    shape[0].sql = grown[0].sql = broken[0].sql = POSTGRES_SHAPE;
    if (test_db_server) return cmocka_run_group_tests_name("on PostgreSQL", tests, NULL, NULL);
    printf("skipped on PostgreSQL: BARID_TEST_POSTGRES is not set\n");
    return 0;
}
#else
static int on_postgres(void) { return 0; }
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_come_back_as_they_were),
        cmocka_unit_test(test_a_failing_unit_takes_back_only_its_own),
        cmocka_unit_test(test_a_violated_constraint_is_a_conflict),
        cmocka_unit_test(test_many_units_share_commits_and_are_done_in_order),
        cmocka_unit_test(test_a_reader_sees_what_was_committed_before_it_was_submitted),
        cmocka_unit_test(test_a_read_only_unit_cannot_write),
        cmocka_unit_test(test_a_full_queue_is_busy),
        cmocka_unit_test(test_close_finishes_what_was_submitted),
        cmocka_unit_test(test_below_the_low_water_mark_writing_is_refused),
        cmocka_unit_test(test_what_was_deleted_is_nowhere_after_a_quiet_while),
        cmocka_unit_test(test_the_log_stays_bounded_under_constant_writing),
        cmocka_unit_test(test_migrations_are_applied_once_and_newer_is_refused),
        cmocka_unit_test(test_migrating_tells_what_was_applied),
        cmocka_unit_test(test_opening_says_what_is_wrong),
        cmocka_unit_test(test_a_check_finds_damage_and_changes_nothing),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed + on_postgres();
}
