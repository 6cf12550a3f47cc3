// Parked events: those whose attempts are spent. They wait for a person: look, send on again, or drop.
#include "outbox/outbox.h"

static struct db_sql each_sql = {
    .text = "select id, event_id, topic, key, error, attempts, stored_at, parked_at, payload from outbox "
            "where state = 1 order by id",
};
static struct db_sql retry_sql = {
    .text = "update outbox set state = 0, attempts = 0, next_at = 0, parked_at = null where id = ?1 and state = 1",
};
static struct db_sql drop_sql = {.text = "delete from outbox where id = ?1 and state = 1"};

// A tool may have been pointed at any database.
static enum err has_outbox(struct db *db) {
    static struct db_sql find = {.text = "select 1 from sqlite_master where type = 'table' and name = 'outbox'",
                                 .postgres = "select 1 where to_regclass('outbox') is not null"};
    int row = db_step(db_prepare(db, &find));
    if (row < 0) return (enum err) - row;
    return row == DB_ROW ? ERR_OK : error_set(db_error(db), ERR_NOT_FOUND, "the database has no outbox");
}

enum err outbox_parked_each(struct db *db, void (*each)(void *arg, const struct outbox_parked *p), void *arg) {
    enum err err = has_outbox(db);
    if (err) return err;
    struct db_stmt *s = db_prepare(db, &each_sql);
    int row;
    while ((row = db_step(s)) == DB_ROW) {
        const char *error = db_text(s, 4, NULL);
        struct outbox_parked p = {
            .id = db_int(s, 0),
            .topic = db_text(s, 2, NULL),
            .key = db_text(s, 3, NULL),
            .error = error ? error : "",
            .attempts = (uint32_t)db_int(s, 5),
            .stored_at_ms = db_int(s, 6),
            .parked_at_ms = db_int(s, 7),
        };
        if (!db_id(s, 1, &p.event_id)) return error_set(db_error(db), ERR_CORRUPT, "an event id is not 16 bytes");
        p.payload = db_blob(s, 8, &p.payload_length);
        each(arg, &p);
    }
    return (enum err) - row;
}

static enum err one(struct db *db, struct db_sql *sql, int64_t id) {
    enum err err = has_outbox(db);
    if (err) return err;
    struct db_stmt *s = db_prepare(db, sql);
    db_bind_int(s, 1, id);
    err = db_run(s);
    if (!err && db_changes(db) == 0)
        err = error_set(db_error(db), ERR_NOT_FOUND, "no parked event has the number %lld", (long long)id);
    return err;
}

enum err outbox_parked_retry(struct db *db, int64_t id) { return one(db, &retry_sql, id); }

enum err outbox_parked_drop(struct db *db, int64_t id) { return one(db, &drop_sql, id); }
