#include "inbox/consumers.h"

#include "database/database.h"

#include <stdio.h>
#include <string.h>

#define CHUNK 5000

// Of a row c with the name. ?2: so many are counted.
#define NUMBERS                                                                                                        \
    "(select count(*) from barid.members m where m.queue = 'inbox:' || c.name and m.seen_until >= now()), "            \
    "(select count(*) from (select from barid.inbox_queue where consumer = c.name and state = 0 limit ?2::bigint) n)," \
    "(select count(*) from (select from barid.inbox_queue where consumer = c.name and state <> 0 limit ?2::bigint) "   \
    "n),"                                                                                                              \
    "(select count(*) from (select from barid.inbox where consumer = c.name limit ?2::bigint) n) "

static struct db_sql there_sql = {.text = "select 1 where 0",
                                  .postgres = "select 1 where to_regclass('barid.inbox_queue') is not null"};
static struct db_sql look_sql = {
    .text = "select 1 where 0",
    .postgres = "select c.name, " NUMBERS "from (select distinct substr(queue, 7) as name from barid.buckets "
                "where queue like 'inbox:%') c where ?1::text is null or c.name = ?1::text order by 1"};
static struct db_sql running_sql = {
    .text = "select 1 where 0",
    .postgres =
        "select name from barid.members where queue = 'inbox:' || ?1::text and seen_until >= now() union all "
        "select owner_name from barid.buckets where queue = 'inbox:' || ?1::text and lease_until >= now() limit 1"};
static struct db_sql events_sql = {
    .text = "select 1 where 0",
    .postgres = "delete from barid.inbox_queue where (consumer, id) in (select consumer, id from barid.inbox_queue "
                "where consumer = ?1::text order by id limit ?2::bigint)"};
static struct db_sql ids_sql = {
    .text = "select 1 where 0",
    .postgres = "delete from barid.inbox where (consumer, event_id) in (select consumer, event_id from barid.inbox "
                "where consumer = ?1::text limit ?2::bigint)"};
static struct db_sql offsets_sql = {.text = "select 1 where 0",
                                    .postgres = "delete from barid.offsets where consumer = ?1::text"};
static struct db_sql members_sql = {
    .text = "select 1 where 0",
    .postgres = "delete from barid.members where queue = 'inbox:' || ?1::text and seen_until < now()"};
// Not those that somebody has taken in this very moment.
static struct db_sql buckets_sql = {.text = "select 1 where 0",
                                    .postgres = "delete from barid.buckets where queue = 'inbox:' || ?1::text "
                                                "and (owner is null or lease_until < now())"};

static enum err is_there(struct db *db) {
    if (db_kind(db) != DATABASE_POSTGRES)
        return error_set(db_error(db), ERR_UNSUPPORTED, "only PostgreSQL has an inbox with consumers");
    int row = db_step(db_prepare(db, &there_sql));
    if (row < 0) return (enum err) - row;
    return row == DB_ROW ? ERR_OK : error_set(db_error(db), ERR_NOT_FOUND, "the database has no inbox");
}

// At all, or at one.
static struct db_stmt *look_at(struct db *db, const char *name) {
    struct db_stmt *s = db_prepare(db, &look_sql);
    db_bind_text(s, 1, name);
    db_bind_int(s, 2, CONSUMERS_COUNTED_MAX + 1);
    return s;
}

static struct consumer consumer_of(struct db_stmt *s) {
    return (struct consumer){.name = db_text(s, 0, NULL),
                             .processes = (uint64_t)db_int(s, 1),
                             .waiting = (uint64_t)db_int(s, 2),
                             .parked = (uint64_t)db_int(s, 3),
                             .remembered = (uint64_t)db_int(s, 4)};
}

enum err consumers_each(struct db *db, void (*each)(void *arg, const struct consumer *c), void *arg) {
    enum err err = is_there(db);
    if (err != ERR_OK) return err;
    struct db_stmt *s = look_at(db, NULL);
    int row;
    while ((row = db_step(s)) == DB_ROW) {
        struct consumer c = consumer_of(s);
        each(arg, &c);
    }
    return row < 0 ? (enum err) - row : ERR_OK;
}

static enum err is_quiet(struct db *db, const char *name) {
    struct db_stmt *s = db_prepare(db, &running_sql);
    db_bind_text(s, 1, name);
    int row = db_step(s);
    if (row < 0) return (enum err) - row;
    if (row == DB_DONE) return ERR_OK;
    return error_set(db_error(db), ERR_LOCKED, "a process of %.100s is running: %.200s", name, db_text(s, 0, NULL));
}

static void number(char out[static 24], uint64_t n) {
    bool more = n > CONSUMERS_COUNTED_MAX;
    snprintf(out, 24, "%s%llu", more ? "more than " : "", (unsigned long long)(more ? CONSUMERS_COUNTED_MAX : n));
}

enum err consumer_may_go(struct db *db, const char *name, bool with_events) {
    enum err err = is_there(db);
    if (err != ERR_OK) return err;
    struct db_stmt *s = look_at(db, name);
    int row = db_step(s);
    if (row < 0) return (enum err) - row;
    if (row == DB_DONE) return error_set(db_error(db), ERR_NOT_FOUND, "there is no consumer %.100s", name);
    struct consumer c = consumer_of(s);
    if (c.processes == 0 && c.waiting + c.parked > 0 && !with_events) {
        char waiting[24], parked[24];
        number(waiting, c.waiting);
        number(parked, c.parked);
        return error_set(db_error(db), ERR_CONFLICT,
                         "%.100s has events that were not handled (%s waiting, %s parked), which would go with it: "
                         "--force",
                         name, waiting, parked);
    }
    return is_quiet(db, name);
}

static enum err some(struct db *db, struct db_sql *sql, const char *name, bool *more) {
    struct db_stmt *s = db_prepare(db, sql);
    db_bind_text(s, 1, name);
    db_bind_int(s, 2, CHUNK);
    enum err err = db_run(s);
    *more = err == ERR_OK && db_changes(db) > 0;
    return err;
}

static enum err all(struct db *db, struct db_sql *sql, const char *name) {
    struct db_stmt *s = db_prepare(db, sql);
    db_bind_text(s, 1, name);
    return db_run(s);
}

// The buckets last, by which it is known: what is broken off is found and goes on.
enum err consumer_drop(struct db *db, const char *name, bool *more) {
    *more = false;
    enum err err = is_quiet(db, name);
    if (err == ERR_OK) err = some(db, &events_sql, name, more);
    if (err == ERR_OK && !*more) err = some(db, &ids_sql, name, more);
    if (err != ERR_OK || *more) return err;
    err = all(db, &offsets_sql, name);
    if (err == ERR_OK) err = all(db, &members_sql, name);
    return err == ERR_OK ? all(db, &buckets_sql, name) : err;
}
