// The inbox: a consumer takes an event in once, however often it is delivered.
#include "outbox/outbox.h"

#include "base/assert.h"

#include <stdlib.h>

static struct db_sql accept_sql = {
    .text = "insert into inbox (consumer, event_id, at) values (?1, ?2, ?3) on conflict do nothing",
    .postgres =
        "insert into barid.inbox (consumer, event_id, received_at) values (?1::text, encode(?2::bytea, 'hex')::uuid, "
        "to_timestamp(?3::bigint / 1000.0)) on conflict do nothing",
};
// In the order of the ids: two that take in the same events wait for each other, never in a circle.
static struct db_sql accept_all_sql = {
    .text = "select 1 where 0",
    .postgres = "insert into barid.inbox (consumer, event_id, received_at) select ?1::text, encode(a.id, 'hex')::uuid, "
                "to_timestamp(?3::bigint / 1000.0) from unnest(?2::bytea[]) a (id) order by a.id "
                "on conflict do nothing returning uuid_send(event_id)",
};
static struct db_sql forget_sql = {
    .text = "delete from inbox where (consumer, event_id) in "
            "(select consumer, event_id from inbox where at < ?1 order by at limit ?2)",
    .postgres = "delete from barid.inbox where (consumer, event_id) in (select consumer, event_id from barid.inbox "
                "where received_at < to_timestamp(?1::bigint / 1000.0) order by received_at limit ?2::bigint)",
};

enum err inbox_accept(struct db *db, const char *consumer, const struct id *event_id, int64_t now_ms, bool *fresh) {
    struct db_stmt *s = db_prepare(db, &accept_sql);
    db_bind_text(s, 1, consumer);
    db_bind_id(s, 2, event_id);
    db_bind_int(s, 3, now_ms);
    enum err err = db_run(s);
    *fresh = !err && db_changes(db) == 1;
    return err;
}

static void mark(const struct id *const *ids, size_t n, const struct id *found, bool *fresh) {
    for (size_t i = 0; i < n; i++)
        if (id_equal(ids[i], found)) fresh[i] = true;
}

enum err inbox_accept_all(struct db *db, const char *consumer, const struct id *const *event_ids, size_t n,
                          int64_t now_ms, bool *fresh) {
    ASSERT(db_kind(db) == DATABASE_POSTGRES);
    struct db_bytes *ids = malloc(n * sizeof *ids);
    if (!ids) die("no memory for events");
    for (size_t i = 0; i < n; i++) {
        ids[i] = (struct db_bytes){event_ids[i]->b, sizeof event_ids[i]->b};
        fresh[i] = false;
    }
    struct db_stmt *s = db_prepare(db, &accept_all_sql);
    db_bind_text(s, 1, consumer);
    db_bind_blobs(s, 2, ids, n);
    db_bind_int(s, 3, now_ms);
    int row;
    struct id found;
    while ((row = db_step(s)) == DB_ROW)
        if (db_id(s, 0, &found)) mark(event_ids, n, &found, fresh);
    free(ids);
    return row < 0 ? (enum err) - row : ERR_OK;
}

enum err inbox_forget(struct db *db, int64_t before_ms, uint32_t limit, uint64_t *removed) {
    struct db_stmt *s = db_prepare(db, &forget_sql);
    db_bind_int(s, 1, before_ms);
    db_bind_int(s, 2, limit);
    enum err err = db_run(s);
    *removed = err ? 0 : (uint64_t)db_changes(db);
    return err;
}
