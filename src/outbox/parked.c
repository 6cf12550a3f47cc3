// Parked events: those whose attempts are spent. They wait for a person: look, send on again, or drop.
#include "outbox/outbox.h"

#include <string.h>

#define PAGE 500 // rows read at once

// The columns are the same for all: number, event, topic, key, error, attempts, stored, parked, payload, consumer,
// place, state. ?1: after this number, ?2: only this one or 0, ?3: how many, ?4: with the payload, ?5: the consumer.
#define COLUMNS                                                                                                        \
    "select id, uuid_send(event_id), topic, coalesce(key, ''), error, attempts, "                                      \
    "(extract(epoch from stored_at) * 1000)::bigint, (extract(epoch from parked_at) * 1000)::bigint, "                 \
    "case when ?4::bigint = 1 then payload end, "

static struct db_sql outbox_sql = {
    .text =
        "select id, event_id, topic, key, error, attempts, stored_at, parked_at, case when ?4 = 1 then payload end, "
        "null, null, state from outbox where state <> 0 and id > ?1 and (?2 = 0 or id = ?2) and ?5 is null "
        "order by id limit ?3",
    .postgres = COLUMNS "null::text, null::text, state from barid.outbox where state <> 0 and id > ?1::bigint "
                        "and (?2::bigint = 0 or id = ?2::bigint) and ?5::text is null order by id limit ?3::bigint",
};
static struct db_sql inbox_sql = {
    .text = "select 1 where 0",
    .postgres = COLUMNS "consumer, place, state from barid.inbox_queue where state <> 0 and id > ?1::bigint "
                        "and (?2::bigint = 0 or id = ?2::bigint) and (?5::text is null or consumer = ?5::text) "
                        "order by id limit ?3::bigint",
};
static struct db_sql retry_outbox_sql = {
    .text = "update outbox set state = 0, attempts = 0, next_at = 0, parked_at = null where id = ?1 and state <> 0",
    .postgres = "update barid.outbox set state = 0, attempts = 0, next_at = null, parked_at = null "
                "where id = ?1::bigint and state <> 0 and ?2::text is null",
};
static struct db_sql retry_inbox_sql = {
    .text = "select 1 where 0",
    .postgres = "update barid.inbox_queue set state = 0, attempts = 0, next_at = null, parked_at = null "
                "where id = ?1::bigint and state <> 0 and (?2::text is null or consumer = ?2::text)",
};
static struct db_sql drop_outbox_sql = {
    .text = "delete from outbox where id = ?1 and state <> 0",
    .postgres = "delete from barid.outbox where id = ?1::bigint and state <> 0 and ?2::text is null",
};
static struct db_sql drop_inbox_sql = {
    .text = "select 1 where 0",
    .postgres = "delete from barid.inbox_queue where id = ?1::bigint and state <> 0 "
                "and (?2::text is null or consumer = ?2::text)",
};

// A tool may have been pointed at any database.
static enum err has_table(struct db *db, const struct outbox_parked_choice *choice) {
    static struct db_sql outbox = {.text = "select 1 from sqlite_master where type = 'table' and name = 'outbox'",
                                   .postgres = "select 1 where to_regclass('barid.outbox') is not null"};
    static struct db_sql inbox = {.text = "select 1 where 0",
                                  .postgres = "select 1 where to_regclass('barid.inbox_queue') is not null"};
    if (choice->inbox && db_kind(db) != DATABASE_POSTGRES)
        return error_set(db_error(db), ERR_UNSUPPORTED, "only PostgreSQL has a queue behind the inbox");
    int row = db_step(db_prepare(db, choice->inbox ? &inbox : &outbox));
    if (row < 0) return (enum err) - row;
    return row == DB_ROW ? ERR_OK : error_set(db_error(db), ERR_NOT_FOUND, "the database has no outbox");
}

static enum err give(struct db *db, struct db_stmt *s, struct outbox_parked *p) {
    const char *error = db_text(s, 4, NULL);
    *p = (struct outbox_parked){
        .id = db_int(s, 0),
        .topic = db_text(s, 2, NULL),
        .key = db_text(s, 3, NULL),
        .error = error ? error : "",
        .attempts = (uint32_t)db_int(s, 5),
        .stored_at_ms = db_int(s, 6),
        .parked_at_ms = db_int(s, 7),
        .consumer = db_text(s, 9, NULL),
        .place = db_text(s, 10, NULL),
        .blocked = db_int(s, 11) == 2,
    };
    if (!db_id(s, 1, &p->event_id)) return error_set(db_error(db), ERR_CORRUPT, "an event id is not 16 bytes");
    p->payload = db_blob(s, 8, &p->payload_length);
    return ERR_OK;
}

enum err outbox_parked_each(struct db *db, const struct outbox_parked_choice *choice,
                            void (*each)(void *arg, const struct outbox_parked *p), void *arg) {
    enum err err = has_table(db, choice);
    int64_t after = 0;
    for (size_t n = PAGE; !err && n == PAGE;) {
        struct db_stmt *s = db_prepare(db, choice->inbox ? &inbox_sql : &outbox_sql);
        db_bind_int(s, 1, after);
        db_bind_int(s, 2, choice->id);
        db_bind_int(s, 3, PAGE);
        db_bind_int(s, 4, choice->id != 0);
        db_bind_text(s, 5, choice->consumer);
        int row;
        for (n = 0; !err && (row = db_step(s)) == DB_ROW; n++) {
            struct outbox_parked p;
            err = give(db, s, &p);
            if (!err) each(arg, &p);
            after = p.id;
        }
        if (!err && row < 0) err = (enum err) - row;
    }
    return err;
}

static enum err one(struct db *db, struct db_sql *sql, const struct outbox_parked_choice *choice) {
    enum err err = has_table(db, choice);
    if (err) return err;
    struct db_stmt *s = db_prepare(db, sql);
    db_bind_int(s, 1, choice->id);
    if (db_kind(db) == DATABASE_POSTGRES) db_bind_text(s, 2, choice->consumer);
    err = db_run(s);
    if (!err && db_changes(db) == 0)
        err = error_set(db_error(db), ERR_NOT_FOUND, "no parked event has the number %lld", (long long)choice->id);
    // A word in the notice: look from the beginning, what has come back is older than what was seen last.
    if (!err) err = db_notify(db, choice->inbox ? "barid_inbox" : "barid_outbox", "again");
    return err;
}

enum err outbox_parked_retry(struct db *db, const struct outbox_parked_choice *choice) {
    return one(db, choice->inbox ? &retry_inbox_sql : &retry_outbox_sql, choice);
}

enum err outbox_parked_drop(struct db *db, const struct outbox_parked_choice *choice) {
    return one(db, choice->inbox ? &drop_inbox_sql : &drop_outbox_sql, choice);
}
