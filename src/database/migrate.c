// Bringing a database to the shape the program needs: numbered scripts, each run once in a transaction of its
// own and remembered with a checksum, so that a script changed after the fact is noticed rather than skipped.
#include "database/migrate.h"

#include "base/log.h"

#include <string.h>

static struct db_sql latest_sql = {.text = "select coalesce(max(number), 0) from migrations"};
static struct db_sql find_sql = {.text = "select checksum from migrations where number = ?1"};
static struct db_sql insert_sql = {.text = "insert into migrations (number, name, checksum) values (?1, ?2, ?3)"};

static const char *text_of(const struct migration *m) { return m->sql ? m->sql : (const char *)m->file->data; }

// FNV-1a, 64 bits: against mistakes, not against attackers.
static int64_t checksum_of(const char *text) {
    uint64_t h = 0xcbf29ce484222325u;
    for (; *text; text++) h = (h ^ (uint8_t)*text) * 0x100000001b3u;
    return (int64_t)h;
}

static enum err apply(struct db *db, const struct migration *m, struct error *e) {
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
    if (!err) log_event(LOG_INFO, "migrated", "name", m->name, NULL);
    return err;
}

static enum err refuse_newer(struct db *db, const struct migration *migrations, struct error *e) {
    int64_t newest = 0;
    for (const struct migration *m = migrations; m->number; m++)
        if (m->number > newest) newest = m->number;
    struct db_stmt *s = db_prepare(db, &latest_sql);
    int row = db_step(s);
    if (row < 0) return (enum err) - row;
    if (db_int(s, 0) <= newest) return ERR_OK;
    return error_set(e, ERR_VERSION, "the database was made by a newer version (its shape is %lld, ours is %lld)",
                     (long long)db_int(s, 0), (long long)newest);
}

static enum err in_transaction(struct db *db, const struct migration *migrations, const struct migration *one,
                               struct error *e) {
    enum err err = db->driver->begin(db, e);
    if (err) return err;
    err = one ? apply(db, one, e) : refuse_newer(db, migrations, e);
    db->driver->end_unit(db);
    if (!err) err = db->driver->commit(db, e);
    if (err) db->driver->rollback(db);
    return err;
}

enum err migrate(struct db *db, const struct migration *migrations, struct error *e) {
    struct error own = {0};
    if (!e) e = &own;
    db->error = e;
    enum err err = db->driver->exec(db,
                                    "create table if not exists migrations ("
                                    "number integer primary key, name text not null, checksum bigint not null)",
                                    e);
    if (!err) err = in_transaction(db, migrations, NULL, e);
    for (const struct migration *m = migrations; !err && m->number; m++) err = in_transaction(db, migrations, m, e);
    return err;
}
