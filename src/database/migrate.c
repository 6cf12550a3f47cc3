// Bringing a database to the shape the program needs: numbered scripts, each run once in a transaction of its
// own and remembered with a checksum, so that a script changed after the fact is noticed rather than skipped.
#include "database/migrate.h"

#include "base/log.h"

#include <string.h>

static struct db_sql all_sql = {
    .text = "select number from migrations order by number",
    .postgres = "select number from barid.migrations order by number",
};
static struct db_sql find_sql = {
    .text = "select checksum from migrations where number = ?1",
    .postgres = "select checksum from barid.migrations where number = ?1",
};
static struct db_sql insert_sql = {
    .text = "insert into migrations (number, name, checksum) values (?1, ?2, ?3)",
    .postgres = "insert into barid.migrations (number, name, checksum) values (?1, ?2, ?3)",
};

// SQLite has one writer at a time; on PostgreSQL every step takes a lock that ends with its transaction, so that it
// holds behind a pooler, too.
static struct db_sql there_sql = {.text = "select 1",
                                  .postgres = "select 1 where to_regclass('barid.migrations') is not null"};
#define SQLITE_BEGINNING                                                                                               \
    "create table if not exists migrations (number integer primary key, name text not null, checksum bigint not null)"
#define POSTGRES_PATIENCE "set local statement_timeout = 0; set local lock_timeout = 0"
#define POSTGRES_LOCK     "select pg_advisory_xact_lock(hashtextextended('barid.migrations', 0))"
#define POSTGRES_BEGINNING                                                                                             \
    "create schema if not exists barid;"                                                                               \
    "create table if not exists barid.migrations (number integer primary key, name text not null, "                    \
    "checksum bigint not null, applied_at timestamptz not null default clock_timestamp())"

struct step {
    const struct migration *migrations, *one; // one: NULL for the beginning
    database_migrated_fn *each;
    void *arg;
    bool applied;
};

static const char *text_of(const struct migration *m) { return m->sql ? m->sql : (const char *)m->file->data; }

// FNV-1a, 64 bits: against mistakes, not against attackers.
static int64_t checksum_of(const char *text) {
    uint64_t h = 0xcbf29ce484222325u;
    for (; *text; text++) h = (h ^ (uint8_t)*text) * 0x100000001b3u;
    return (int64_t)h;
}

static enum err apply(struct db *db, struct step *step, struct error *e) {
    const struct migration *m = step->one;
    struct db_stmt *find = db_prepare(db, &find_sql);
    db_bind_int(find, 1, m->number);
    int row = db_step(find);
    if (row < 0) return (enum err) - row;
    const char *text = text_of(m);
    if (row == DB_ROW) {
        if (db_int(find, 0) == checksum_of(text)) return ERR_OK;
        return error_set(e, ERR_VERSION, "migration %u (%s) is not the one this database was made with", m->number,
                         m->name);
    }
    enum err err = db->driver->exec(db, text, e);
    if (err) return err;
    struct db_stmt *insert = db_prepare(db, &insert_sql);
    db_bind_int(insert, 1, m->number);
    db_bind_text(insert, 2, m->name);
    db_bind_int(insert, 3, checksum_of(text));
    err = db_run(insert);
    step->applied = !err;
    return err;
}

static uint32_t component_of(int64_t number) { return (uint32_t)number / 100; }

// The newest that the program knows of the component; 0 when it knows nothing of it.
static int64_t newest_of(const struct migration *migrations, uint32_t component) {
    int64_t newest = 0;
    for (const struct migration *m = migrations; m->number; m++)
        if (component_of(m->number) == component && m->number > newest) newest = m->number;
    return newest;
}

static enum err refuse_newer(struct db *db, const struct migration *migrations, struct error *e) {
    struct db_stmt *s = db_prepare(db, &all_sql);
    int row;
    while ((row = db_step(s)) == DB_ROW) {
        int64_t number = db_int(s, 0), newest = newest_of(migrations, component_of(number));
        if (newest && number > newest)
            return error_set(e, ERR_VERSION,
                             "the database was made by a newer version (its shape is %lld, ours is %lld)",
                             (long long)number, (long long)newest);
    }
    return (enum err) - row;
}

// A role that may not make schemas can still use one that is complete.
static enum err begin_with(struct db *db, const struct migration *migrations, struct error *e) {
    if (db_kind(db) == DATABASE_POSTGRES) {
        int there = db_step(db_prepare(db, &there_sql));
        if (there < 0) return (enum err) - there;
        enum err err = there == DB_ROW ? ERR_OK : db->driver->exec(db, POSTGRES_BEGINNING, e);
        if (err) return err;
    }
    return refuse_newer(db, migrations, e);
}

static enum err lock(struct db *db, struct error *e) {
    if (db_kind(db) == DATABASE_SQLITE) return ERR_OK;
    return db->driver->exec(db, POSTGRES_PATIENCE "; " POSTGRES_LOCK, e);
}

static enum err in_transaction(struct db *db, struct step *step, struct error *e) {
    enum err err = db->driver->begin(db, e);
    if (err) return err;
    err = lock(db, e);
    if (!err) err = step->one ? apply(db, step, e) : begin_with(db, step->migrations, e);
    db->driver->end_unit(db);
    if (!err) err = db->driver->commit(db, e);
    if (err) db->driver->rollback(db);
    return err;
}

static enum err one_step(struct db *db, struct step *step, struct error *e) {
    step->applied = false;
    enum err err = in_transaction(db, step, e);
    if (err || !step->applied) return err;
    log_event(LOG_INFO, "migrated", "name", step->one->name, NULL);
    if (step->each) step->each(step->arg, step->one->number, step->one->name);
    return ERR_OK;
}

enum err migrate(struct db *db, const struct migration *migrations, database_migrated_fn *each, void *arg,
                 struct error *e) {
    struct error own = {0};
    struct step step = {.migrations = migrations, .each = each, .arg = arg};
    enum err err = ERR_OK;
    if (!e) e = &own;
    db->error = e;
    if (db_kind(db) == DATABASE_SQLITE) err = db->driver->exec(db, SQLITE_BEGINNING, e);
    if (!err) err = one_step(db, &step, e);
    for (step.one = migrations; !err && step.one->number; step.one++) err = one_step(db, &step, e);
    return err;
}
