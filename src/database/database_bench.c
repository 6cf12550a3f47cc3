// How fast units and statements go: database_bench DIR|URL [seconds]. Not a test; prints one line a workload. The
// database that a URL names must be empty; `later`: statements whose outcome is not looked at go by db_run_later.
#include "base/assert.h"
#include "base/loop.h"
#include "database/database.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define UNITS 4096
#define TEXT  200

struct work {
    struct db_unit unit;
    struct bench *bench;
    int64_t id;
    uint64_t began_ns;
};

struct bench {
    struct loop *loop;
    struct database *d;
    int statements; // a unit
    bool later, reads;
    int64_t next_id;
    uint64_t until_ns, units, outstanding, longest_ns;
};

#define SQLITE_SHAPE                                                                                                   \
    "create table a (id integer primary key, key text, body blob);"                                                    \
    "create table b (id integer primary key, a integer, state integer); create index b_a on b (a)"
#define POSTGRES_SHAPE                                                                                                 \
    "create table a (id bigint primary key, key text, body bytea);"                                                    \
    "create table b (id bigint primary key, a bigint, state integer); create index b_a on b (a)"
static struct migration shape[] = {{.number = 1, .name = "bench", .sql = SQLITE_SHAPE}, {.number = 0}};
static struct db_sql insert_a = {.text = "insert into a (id, key, body) values (?1, ?2, ?3)"};
static struct db_sql insert_b = {.text = "insert into b (id, a, state) values (?1, ?1, 0)"};
static struct db_sql select_a = {.text = "select key from a where id = ?1"};
static struct db_sql update_b = {.text = "update b set state = state + 1 where id = ?1"};
static struct db_sql delete_a = {.text = "delete from a where id = ?1"};

static enum err one(struct db *db, struct db_sql *sql, int64_t id, const void *text, bool later) {
    struct db_stmt *s = db_prepare(db, sql);
    db_bind_int(s, 1, id);
    if (text) {
        db_bind_text(s, 2, "conversation");
        db_bind_blob(s, 3, text, TEXT);
    }
    return later ? db_run_later(s) : db_run(s);
}

static enum err run(struct db *db, struct db_unit *u) {
    struct work *w = (struct work *)u;
    static const char text[TEXT] = "a text of a usual length";
    bool later = w->bench->later;
    if (w->bench->reads) return one(db, &select_a, w->id, NULL, false);
    enum err err = one(db, &insert_a, w->id, text, later);
    if (w->bench->statements == 1 || err) return err;
    err = one(db, &insert_b, w->id, NULL, later);
    if (!err) err = one(db, &select_a, w->id, NULL, false);
    if (!err) err = one(db, &update_b, w->id, NULL, later);
    if (!err) err = one(db, &update_b, w->id > 10000 ? w->id - 10000 : 0, NULL, later);
    if (!err) err = one(db, &delete_a, w->id > 1000 ? w->id - 1000 : 0, NULL, later);
    return err;
}

static void go(struct work *w) {
    w->id = ++w->bench->next_id;
    w->unit.read_only = w->bench->reads;
    w->began_ns = uv_hrtime();
    w->bench->outstanding++;
    ASSERT(database_submit(w->bench->d, &w->unit) == ERR_OK);
}

static void done(struct db_unit *u, enum err err) {
    struct work *w = (struct work *)u;
    struct bench *b = w->bench;
    if (err) die("unit failed: %s", u->error.text);
    b->units++;
    b->outstanding--;
    uint64_t now = uv_hrtime(), took = now - w->began_ns;
    if (took > b->longest_ns) b->longest_ns = took;
    if (now < b->until_ns) go(w);
    if (!b->outstanding) loop_stop(b->loop);
}

static void measure(struct bench *b, struct work *work, int statements, int in_flight, double seconds) {
    struct database_stats before, after;
    database_stats(b->d, &before);
    b->statements = statements;
    b->units = b->longest_ns = 0;
    uint64_t start = uv_hrtime();
    b->until_ns = start + (uint64_t)(seconds * 1e9);
    for (int i = 0; i < in_flight; i++) go(&work[i]);
    loop_run(b->loop);
    database_stats(b->d, &after);
    double took = (double)(uv_hrtime() - start) / 1e9;
    printf("%d %s a unit%s, %4d in flight: %8.0f units/s %9.0f statements/s, %5.1f units a commit, longest "
           "%.1f ms\n",
           statements, b->reads ? "readings" : "statements", b->later ? " (later)" : "", in_flight,
           (double)b->units / took, (double)b->units * statements / took,
           (double)b->units / (double)(after.commits - before.commits), (double)b->longest_ns / 1e6);
}

int main(int argc, char **argv) {
    if (argc < 2) die("database_bench DIR|URL [seconds]");
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 2;
    struct bench b = {0};
    struct error e = {0};
    char path[1024];
    bool postgres = database_kind(argv[1]) == DATABASE_POSTGRES;
    snprintf(path, sizeof path, postgres ? "%s" : "%s/bench.db", argv[1]);
    if (postgres) shape[0].sql = POSTGRES_SHAPE;
    struct work *work = calloc(UNITS, sizeof *work);
    ASSERT(work && loop_new(&b.loop, &e) == ERR_OK);
    if (database_open(&b.d, b.loop, &(struct database_options){.url = path}, shape, &e)) die("%s", e.text);
    for (int i = 0; i < UNITS; i++) work[i] = (struct work){.unit = {.run = run, .done = done}, .bench = &b};
    b.reads = true;
    measure(&b, work, 1, 1, seconds);
    measure(&b, work, 1, 64, seconds);
    b.reads = false;
    for (int later = 0; later < 1 + postgres; later++) {
        b.later = later;
        measure(&b, work, 1, 1, seconds);
        measure(&b, work, 1, UNITS, seconds);
        measure(&b, work, 6, 64, seconds);
        measure(&b, work, 6, UNITS, seconds);
    }
    database_close(b.d);
    loop_free(b.loop);
    free(work);
    return 0;
}
