// The port over a real PostgreSQL: what SQLite has no equal of.
#include "database/postgres_fixture.h"

static const struct migration shape[] = {
    {.number = 1,
     .name = "things",
     .sql = "create table things (id bigint primary key, name text unique, body bytea, maybe integer);"
            "create function barid.twice(n bigint) returns bigint language sql as $$ select n * 2; $$;"},
    {.number = 0},
};

static struct db_sql insert_sql = {.text = "insert into things (id, name) values (?1, ?2)"};
static struct db_sql count_sql = {.text = "select count(*) from things"};

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

static int64_t count_of(struct test_postgres *p) {
    int64_t n = -1;
    assert_int_equal(test_db_do(&p->t, count, &n, true), ERR_OK);
    return n;
}

// ---- values

static enum err arrays(struct db *db, void *arg) {
    static struct db_sql insert_many = {.text = "insert into things (id, name, body) select * from unnest(?1, ?2, ?3)"};
    static struct db_sql read = {.text = "select id, name, body, twice(id), id = any(?1), array_length(?2, 1) "
                                         "from things order by id"};
    const int64_t ids[] = {-5, 7, INT64_MAX / 2};
    const char *names[] = {"a name", NULL, ""};
    const struct db_bytes bodies[] = {{"\0\1\2", 3}, {"", 0}, {NULL, 0}};
    struct db_stmt *s = db_prepare(db, &insert_many);
    db_bind_ints(s, 1, ids, 3);
    db_bind_texts(s, 2, names, 3);
    db_bind_blobs(s, 3, bodies, 3);
    assert_int_equal(db_run(s), ERR_OK);
    assert_int_equal(db_changes(db), 3);
    s = db_prepare(db, &read);
    db_bind_ints(s, 1, ids, 2);
    db_bind_texts(s, 2, NULL, 0);
    for (int i = 0; i < 3; i++) {
        size_t n;
        assert_int_equal(db_step(s), DB_ROW);
        assert_true(db_int(s, 0) == ids[i]);
        assert_int_equal(db_is_null(s, 1), names[i] == NULL);
        if (names[i]) assert_string_equal(db_text(s, 1, NULL), names[i]);
        assert_int_equal(db_is_null(s, 2), bodies[i].data == NULL);
        if (bodies[i].data) assert_memory_equal(db_blob(s, 2, &n), bodies[i].data, bodies[i].n);
        assert_true(db_int(s, 3) == ids[i] * 2);
        assert_int_equal(db_int(s, 4), i < 2);
        assert_true(db_is_null(s, 5));
    }
    assert_int_equal(db_step(s), DB_DONE);
    return ERR_OK;
}

static void test_arrays_go_there_and_come_back(void **state) {
    struct test_postgres p;
    test_pg_open(&p, shape);
    assert_int_equal(test_db_do(&p.t, arrays, NULL, false), ERR_OK);
    test_pg_close(&p);
}

static enum err kinds(struct db *db, void *arg) {
    static struct db_sql sql = {
        .text = "select coalesce(?1::text, 'none'), '?1', \"?2\", $x$?3$x$ from (select 1 as \"?2\") q"};
    static struct db_sql ids = {.text = "select ?1::uuid, encode(?2, 'hex')::uuid, 'true'::bool, 7::smallint, -8::int, "
                                        "'{\"a\":1}'::jsonb"};
    struct db_stmt *s = db_prepare(db, &sql);
    db_bind_null(s, 1);
    assert_int_equal(db_step(s), DB_ROW);
    assert_string_equal(db_text(s, 0, NULL), "none");
    assert_string_equal(db_text(s, 1, NULL), "?1");
    assert_int_equal(db_int(s, 2), 1);
    assert_string_equal(db_text(s, 3, NULL), "?3");
    for (int i = 0; i < 20; i++) { // numbers, texts and nulls in turn
        s = db_prepare(db, &sql);
        if (i % 3 == 0) db_bind_int(s, 1, i);
        else if (i % 3 == 1) db_bind_text(s, 1, "text");
        assert_int_equal(db_step(s), DB_ROW);
        assert_string_equal(db_text(s, 0, NULL), i % 3 == 1 ? "text" : i % 3 == 2 ? "none" : db_text(s, 0, NULL));
    }
    struct id id, want = {{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 1, 2, 3, 4, 5, 6, 7, 8}};
    s = db_prepare(db, &ids);
    db_bind_text(s, 1, "01234567-89ab-cdef-0102-030405060708");
    db_bind_id(s, 2, &want);
    assert_int_equal(db_step(s), DB_ROW);
    assert_true(db_id(s, 0, &id) && id_equal(&id, &want));
    assert_true(db_id(s, 1, &id) && id_equal(&id, &want));
    assert_int_equal(db_int(s, 2), 1);
    assert_int_equal(db_int(s, 3), 7);
    assert_int_equal(db_int(s, 4), -8);
    assert_string_equal(db_text(s, 5, NULL), "{\"a\": 1}");
    return ERR_OK;
}

static void test_kinds_of_values_may_change(void **state) {
    struct test_postgres p;
    test_pg_open(&p, shape);
    assert_int_equal(test_db_do(&p.t, kinds, NULL, true), ERR_OK);
    test_pg_close(&p);
}

// ---- units

static enum err conflict(struct db *db, void *arg) {
    assert_int_equal(insert(db, 10, "same"), ERR_OK);
    return insert(db, 11, "same");
}

static enum err conflict_ignored(struct db *db, void *arg) {
    assert_int_equal(conflict(db, NULL), ERR_CONFLICT);
    return ERR_OK;
}

static enum err later(struct db *db, void *arg) {
    for (int64_t i = 0; i < 300; i++) {
        struct db_stmt *s = db_prepare(db, &insert_sql);
        db_bind_int(s, 1, 1000 + i);
        enum err err = db_run_later(s);
        if (err) return err;
    }
    return ERR_OK;
}

static void test_a_unit_is_stored_whole_or_not_at_all(void **state) {
    struct test_postgres p;
    int64_t id = 1;
    test_pg_open(&p, shape);
    assert_int_equal(test_db_do(&p.t, insert_one, &id, false), ERR_OK);
    assert_int_equal(test_db_do(&p.t, conflict, NULL, false), ERR_CONFLICT);
    assert_int_equal(test_db_do(&p.t, conflict_ignored, NULL, false), ERR_CONFLICT);
    assert_int_equal(count_of(&p), 1);
    id = 2;
    assert_int_not_equal(test_db_do(&p.t, insert_one, &id, true), ERR_OK);
    assert_int_equal(test_db_do(&p.t, later, NULL, false), ERR_OK);
    assert_int_equal(count_of(&p), 301);
    assert_int_equal(test_db_do(&p.t, later, NULL, false), ERR_CONFLICT);
    assert_int_equal(count_of(&p), 301);
    test_pg_close(&p);
}

static enum err read_all(struct db *db, void *arg) {
    static struct db_sql sql = {.text = "select * from things"};
    int row;
    struct db_stmt *s = db_prepare(db, &sql);
    while ((row = db_step(s)) == DB_ROW) {
    }
    return (enum err) - row;
}

static void test_a_statement_outlives_a_change_of_its_table(void **state) {
    struct test_postgres p;
    struct database_stats stats;
    test_pg_open(&p, shape);
    // The connection that migrated did so without prepared statements: nothing is to be concluded from that.
    assert_int_equal(test_db_do(&p.t, read_all, NULL, false), ERR_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(test_db_do(&p.t, read_all, NULL, true), ERR_OK);
        test_pg_sql(p.url, "alter table barid.things add column more int");
        assert_int_equal(test_db_do(&p.t, read_all, NULL, true), ERR_OK);
        test_pg_sql(p.url, "alter table barid.things drop column more");
    }
    database_stats(p.t.d, &stats);
    assert_int_equal(stats.again, 5);
    test_pg_sql(p.url, "alter table barid.things rename to gone");
    assert_int_equal(test_db_do(&p.t, read_all, NULL, true), ERR_DATABASE); // and not a crash
    test_pg_close(&p);
}

// ---- size

#define BIG (24u << 20)

static enum err write_big(struct db *db, void *arg) {
    static struct db_sql sql = {.text = "insert into things (id, body) values (?1, ?2) -- it's ?3 in a comment"};
    for (int64_t i = 0; i < 3; i++) {
        struct db_stmt *s = db_prepare(db, &sql);
        db_bind_int(s, 1, i);
        db_bind_blob(s, 2, arg, BIG);
        enum err err = i < 2 ? db_run_later(s) : db_run(s);
        if (err) return err;
    }
    return ERR_OK;
}

static enum err read_big(struct db *db, void *arg) {
    static struct db_sql blobs = {.text = "select body from things order by id"};
    static struct db_sql rows = {.text = "select i, 'row ' || i from generate_series(1, 300000) i"};
    struct db_stmt *s = db_prepare(db, &blobs);
    for (int i = 0; i < 3; i++) {
        size_t n;
        assert_int_equal(db_step(s), DB_ROW);
        const void *data = db_blob(s, 0, &n);
        assert_int_equal(n, BIG);
        assert_memory_equal(data, arg, n);
    }
    s = db_prepare(db, &rows);
    for (int64_t i = 1; i <= 300000; i++) {
        assert_int_equal(db_step(s), DB_ROW);
        assert_true(db_int(s, 0) == i);
    }
    assert_string_equal(db_text(s, 1, NULL), "row 300000");
    assert_int_equal(db_step(s), DB_DONE);
    return ERR_OK;
}

// ---- prepared once

static enum err count_prepared(struct db *db, void *arg) {
    static struct db_sql sql = {.text = "select count(*) from pg_prepared_statements"};
    struct db_stmt *s = db_prepare(db, &sql);
    if (db_step(s) != DB_ROW) return ERR_DATABASE;
    if (db_int(s, 0) > *(int64_t *)arg) *(int64_t *)arg = db_int(s, 0);
    return ERR_OK;
}

// Also on the connection that has migrated, where each statement was parsed for once.
static void test_statements_are_prepared(void **state) {
    struct test_postgres p;
    test_pg_open(&p, shape);
    for (int i = 0; i < 8; i++) {
        int64_t n = 0;
        assert_int_equal(test_db_do(&p.t, count_prepared, &n, false), ERR_OK);
        assert_int_equal(test_db_do(&p.t, count_prepared, &n, false), ERR_OK);
        assert_true(n > 0);
    }
    test_pg_close(&p);
}

static void test_large_values_and_many_rows(void **state) {
    struct test_postgres p;
    char *data = malloc(BIG);
    for (uint32_t i = 0; i < BIG; i++) data[i] = (char)(i * 2654435761u >> 24);
    test_pg_open(&p, shape);
    assert_int_equal(test_db_do(&p.t, write_big, data, false), ERR_OK);
    assert_int_equal(test_db_do(&p.t, read_big, data, true), ERR_OK);
    test_pg_close(&p);
    free(data);
}

// ---- errors

static enum err run_text(struct db *db, struct db_sql *sql) { return db_run(db_prepare(db, sql)); }

static enum err fails(struct db *db, void *arg) {
    static struct db_sql statements[] = {
        {.text = "select 1 / 0"},
        {.text = "select * from not_there"},
        {.text = "select not_there from things"},
        {.text = "select not_there()"},
        {.text = "select raises()"},
        {.text = "select pg_sleep(60)"},
        {.text = "select repeat('x', 10)::varchar(3)::uuid"},
    };
    return run_text(db, &statements[*(int64_t *)arg]);
}

// Whose fault it is; what a user's function does is never ours.
static void test_errors_are_told_apart(void **state) {
    static const enum err want[] = {ERR_INVALID,  ERR_DATABASE, ERR_DATABASE, ERR_DATABASE,
                                    ERR_DATABASE, ERR_TIMEOUT,  ERR_INVALID};
    struct test_postgres p;
    struct error e = {0};
    char url[600];
    test_pg_prepare(&p);
    test_db_url(url, sizeof url, p.admin, p.name);
    strncat(url, strchr(url, '?') ? "&options=-cstatement_timeout%3D200" : "?options=-cstatement_timeout%3D200",
            sizeof url - strlen(url) - 1);
    if (test_pg_open_with(&p, (struct database_options){.url = url}, shape, &e)) fail_msg("%s", e.text);
    test_pg_sql(p.url, "create function barid.raises() returns int language plpgsql as "
                       "$$ begin execute 'selekt 1'; return 1; end $$");
    for (int64_t i = 0; i < 7; i++) {
        struct test_unit x = test_unit_of(&p.t, fails, &i);
        x.stop = true;
        assert_int_equal(database_submit(p.t.d, &x.unit), ERR_OK);
        test_db_loop(&p.t);
        assert_int_equal(x.err, want[i]);
        assert_true(strlen(x.unit.error.text) > 0);
        if (i == 1) assert_non_null(strstr(x.unit.error.text, "barid migrate"));
    }
    test_pg_close(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arrays_go_there_and_come_back),
        cmocka_unit_test(test_kinds_of_values_may_change),
        cmocka_unit_test(test_a_unit_is_stored_whole_or_not_at_all),
        cmocka_unit_test(test_a_statement_outlives_a_change_of_its_table),
        cmocka_unit_test(test_statements_are_prepared),
        cmocka_unit_test(test_large_values_and_many_rows),
        cmocka_unit_test(test_errors_are_told_apart),
    };
    return test_pg_main(tests);
}
