// The inbox: a consumer takes an event in once, however often it is delivered.
#include "outbox/outbox.h"

static struct db_sql accept_sql = {
    .text = "insert into inbox (consumer, event_id, at) values (?1, ?2, ?3) on conflict do nothing",
    .postgres =
        "insert into barid.inbox (consumer, event_id, received_at) values (?1::text, encode(?2::bytea, 'hex')::uuid, "
        "to_timestamp(?3::bigint / 1000.0)) on conflict do nothing",
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

enum err inbox_forget(struct db *db, int64_t before_ms, uint32_t limit, uint64_t *removed) {
    struct db_stmt *s = db_prepare(db, &forget_sql);
    db_bind_int(s, 1, before_ms);
    db_bind_int(s, 2, limit);
    enum err err = db_run(s);
    *removed = err ? 0 : (uint64_t)db_changes(db);
    return err;
}
