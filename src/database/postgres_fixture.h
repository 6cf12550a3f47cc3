// For tests: a PostgreSQL database of one's own, on the server that BARID_TEST_POSTGRES names.
#ifndef BARID_DATABASE_POSTGRES_FIXTURE_H
#define BARID_DATABASE_POSTGRES_FIXTURE_H

#include "database/test_database.h"

#include <libpq-fe.h>

struct test_postgres {
    struct test_db t; // its path is the url
    char admin[512], name[64], url[512];
};

static inline PGconn *test_pg_connect(const char *url) {
    PGconn *conn = PQconnectdb(url);
    if (PQstatus(conn) != CONNECTION_OK) fail_msg("%s", PQerrorMessage(conn));
    return conn;
}

// Runs a statement beside barid; gives the first value as a number, or 0.
static inline long test_pg_sql(const char *url, const char *sql) {
    PGconn *conn = test_pg_connect(url);
    PGresult *r = PQexec(conn, sql);
    if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(conn));
    long value = PQntuples(r) && PQnfields(r) && !PQgetisnull(r, 0, 0) ? strtol(PQgetvalue(r, 0, 0), NULL, 10) : 0;
    PQclear(r);
    PQfinish(conn);
    return value;
}

// Runs the tests, or says what is missing.
#define test_pg_main(tests) (test_pg_there() ? cmocka_run_group_tests(tests, NULL, NULL) : 77)

static inline bool test_pg_there(void) {
    if (getenv("BARID_TEST_POSTGRES")) return true;
    printf("skipped: BARID_TEST_POSTGRES is not set to the url of a PostgreSQL server\n");
    return false;
}

static inline void test_pg_prepare(struct test_postgres *p) {
    char sql[128];
    memset(p, 0, sizeof *p);
    struct error e;
    assert_int_equal(loop_new(&p->t.loop, &e), ERR_OK);
    static int made;
    snprintf(p->admin, sizeof p->admin, "%s", getenv("BARID_TEST_POSTGRES"));
    snprintf(p->name, sizeof p->name, "barid_test_%d_%d", (int)getpid(), ++made);
    snprintf(sql, sizeof sql, "create database %s", p->name);
    test_pg_sql(p->admin, sql);
    test_db_url(p->url, sizeof p->url, p->admin, p->name);
}

static inline enum err test_pg_open_with(struct test_postgres *p, struct database_options o,
                                         const struct migration *migrations, struct error *e) {
    if (!o.url) o.url = p->url;
    return database_open(&p->t.d, p->t.loop, &o, migrations, e);
}

static inline void test_pg_open(struct test_postgres *p, const struct migration *migrations) {
    struct error e = {0};
    test_pg_prepare(p);
    if (test_pg_open_with(p, (struct database_options){0}, migrations, &e)) fail_msg("%s", e.text);
}

static inline void test_pg_remove(struct test_postgres *p) {
    char sql[128];
    loop_free(p->t.loop);
    snprintf(sql, sizeof sql, "drop database %s with (force)", p->name);
    test_pg_sql(p->admin, sql);
}

static inline void test_pg_close(struct test_postgres *p) {
    database_close(p->t.d);
    test_pg_remove(p);
}

#endif
