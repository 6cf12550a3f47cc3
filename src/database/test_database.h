// For tests: a database in a directory of its own, a loop, and units run one at a time.
//
// On PostgreSQL when test_db_server is set: every test_db_prepare makes a database there, with psql.
#ifndef BARID_DATABASE_TEST_DATABASE_H
#define BARID_DATABASE_TEST_DATABASE_H

#include "base/list.h"
#include "base/loop.h"
#include "base/test.h"
#include "database/database.h"

#include <ftw.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEST_PATIENCE_MS 30000

// "postgresql://…", as BARID_TEST_POSTGRES says; its user must be allowed to make databases. NULL: SQLite.
static const char *test_db_server;

struct test_db {
    char dir[64], path[96];  // SQLite's
    char name[64], url[512]; // PostgreSQL's
    struct loop *loop;
    struct database *d;
    struct loop_timer patience;
};

typedef enum err test_db_fn(struct db *db, void *arg);

struct test_unit {
    struct db_unit unit; // first
    struct test_db *t;
    test_db_fn *fn;
    void *arg;
    enum err err;
    bool stop; // the loop, when done
    bool ended;
};

static void test_db_impatient(struct loop_timer *timer) { fail_msg("nothing came for %d ms", TEST_PATIENCE_MS); }

// Until somebody calls loop_stop; fails when nobody does.
static inline void test_db_loop(struct test_db *t) {
    t->patience.fn = test_db_impatient;
    loop_timer_start(t->loop, &t->patience, TEST_PATIENCE_MS);
    loop_run(t->loop);
    loop_timer_stop(t->loop, &t->patience);
}

static void test_db_passed(struct loop_timer *timer) { loop_stop(LIST_ITEM(timer, struct test_db, patience)->loop); }

static inline void test_db_pass_ms(struct test_db *t, uint64_t ms) {
    t->patience.fn = test_db_passed;
    loop_timer_start(t->loop, &t->patience, ms);
    loop_run(t->loop);
}

static enum err test_unit_run(struct db *db, struct db_unit *u) {
    struct test_unit *x = (struct test_unit *)u;
    return x->fn(db, x->arg);
}

static void test_unit_done(struct db_unit *u, enum err err) {
    struct test_unit *x = (struct test_unit *)u;
    x->err = err;
    x->ended = true;
    if (x->stop) loop_stop(x->t->loop);
}

static inline struct test_unit test_unit_of(struct test_db *t, test_db_fn *fn, void *arg) {
    return (struct test_unit){.unit = {.run = test_unit_run, .done = test_unit_done}, .t = t, .fn = fn, .arg = arg};
}

// Submits one unit and waits for it.
static inline enum err test_db_do(struct test_db *t, test_db_fn *fn, void *arg, bool read_only) {
    struct test_unit x = test_unit_of(t, fn, arg);
    x.unit.read_only = read_only;
    x.stop = true;
    enum err err = database_submit(t->d, &x.unit);
    if (err) return err;
    test_db_loop(t);
    return x.err;
}

// One statement, or a script, on PostgreSQL; beside barid.
static inline void test_db_psql(const char *url, const char *sql) {
    pid_t pid = fork();
    if (!pid) {
        execlp("psql", "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql, NULL);
        _exit(127);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

// The server's url with another database: everything up to the path, and what follows it.
static inline void test_db_url(char *out, size_t size, const char *server, const char *database) {
    const char *host = strstr(server, "://") + 3, *path = host + strcspn(host, "/?"), *query = strchr(server, '?');
    snprintf(out, size, "%.*s/%s%s", (int)(path - server), server, database, query ? query : "");
}

static inline void test_db_make_on_server(struct test_db *t) {
    static int made;
    char sql[128];
    snprintf(t->name, sizeof t->name, "barid_port_%d_%d", (int)getpid(), ++made);
    snprintf(sql, sizeof sql, "create database %s", t->name);
    test_db_psql(test_db_server, sql);
    test_db_url(t->url, sizeof t->url, test_db_server, t->name);
}

static inline void test_db_prepare(struct test_db *t) {
    struct error e;
    memset(t, 0, sizeof *t);
    if (test_db_server) test_db_make_on_server(t);
    snprintf(t->dir, sizeof t->dir, "/tmp/barid-test-XXXXXX");
    assert_non_null(mkdtemp(t->dir));
    snprintf(t->path, sizeof t->path, "%s/" DATABASE_FILE, t->dir);
    assert_int_equal(loop_new(&t->loop, &e), ERR_OK);
}

static inline enum err test_db_open_with(struct test_db *t, struct database_options o,
                                         const struct migration *migrations, struct error *e) {
    o.url = t->url[0] ? t->url : t->path;
    return database_open(&t->d, t->loop, &o, migrations, e);
}

static inline void test_db_open(struct test_db *t, const struct migration *migrations) {
    struct error e = {0};
    test_db_prepare(t);
    if (test_db_open_with(t, (struct database_options){0}, migrations, &e)) fail_msg("%s", e.text);
}

static inline void test_db_reopen(struct test_db *t, const struct migration *migrations) {
    struct error e = {0};
    database_close(t->d);
    if (test_db_open_with(t, (struct database_options){0}, migrations, &e)) fail_msg("%s", e.text);
}

static int test_db_remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(path);
}

static inline void test_db_remove(struct test_db *t) {
    loop_free(t->loop);
    if (t->name[0]) {
        char sql[128];
        snprintf(sql, sizeof sql, "drop database %s with (force)", t->name);
        test_db_psql(test_db_server, sql);
    }
    nftw(t->dir, test_db_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void test_db_close(struct test_db *t) {
    database_close(t->d);
    test_db_remove(t);
}

#endif
