#include "chat/locks.h"

// Any number no other program would use: "bari".
#define SWEEP_LOCK INT64_C(0x62617269)

static bool alone(struct db *db) { return db_kind(db) == DATABASE_SQLITE; }

enum err lock_user(struct db *db, int64_t uid) {
    static struct db_sql lock = {.text = "select uid from account where uid = ?1 for update"};
    return alone(db) ? ERR_OK : RUN(db, &lock, uid);
}

static enum err lock_by_id(struct db *db, struct db_sql *lock, const struct id *message_id) {
    if (alone(db)) return ERR_OK;
    struct db_stmt *s = db_prepare(db, lock);
    db_bind_id(s, 1, message_id);
    return db_run(s);
}

// Who they are never changes once the message is accepted. The filter is what makes the users come before the message.
enum err lock_recipients(struct db *db, const struct id *message_id) {
    static struct db_sql lock = {
        .text = "with users as materialized (select a.uid from message m join delivery x on x.mid = m.mid "
                "join account a on a.uid = x.uid where m.message_id = ?1 order by a.uid for key share of a) "
                "select m.mid from message m where m.message_id = ?1 and (select count(*) from users) >= 0 "
                "for update of m"};
    return lock_by_id(db, &lock, message_id);
}

enum err lock_sender(struct db *db, const struct id *message_id) {
    static struct db_sql lock = {
        .text = "with users as materialized (select a.uid from message m join account a on a.uid = m.sender_uid "
                "where m.message_id = ?1 for key share of a) "
                "select m.mid from message m where m.message_id = ?1 and (select count(*) from users) >= 0 "
                "for update of m"};
    return lock_by_id(db, &lock, message_id);
}

static enum err lock_by_ids(struct db *db, struct db_sql *lock, const struct db_bytes *message_ids, size_t n) {
    struct db_stmt *s = db_prepare(db, lock);
    db_bind_blobs(s, 1, message_ids, n);
    return db_run_later(s);
}

enum err lock_all_recipients(struct db *db, const struct db_bytes *message_ids, size_t n) {
    static struct db_sql lock = {
        .text = "select 1",
        .postgres =
            "with users as materialized (select a.uid from account a where a.uid in (select x.uid from message m "
            "join delivery x on x.mid = m.mid where m.message_id = any(?1)) order by a.uid for key share of a) "
            "select m.mid from message m where m.message_id = any(?1) and (select count(*) from users) >= 0 "
            "order by m.mid for update of m"};
    return lock_by_ids(db, &lock, message_ids, n);
}

enum err lock_all_senders(struct db *db, const struct db_bytes *message_ids, size_t n) {
    static struct db_sql lock = {
        .text = "select 1",
        .postgres = "with users as materialized (select a.uid from account a where a.uid in (select m.sender_uid "
                    "from message m where m.message_id = any(?1)) order by a.uid for key share of a) "
                    "select m.mid from message m where m.message_id = any(?1) and (select count(*) from users) >= 0 "
                    "order by m.mid for update of m"};
    return lock_by_ids(db, &lock, message_ids, n);
}

enum err lock_messages_of_user(struct db *db, int64_t uid) {
    static struct db_sql lock = {
        .text = "select m.mid from message m where m.mid in (select q.mid from device_delivery q where q.open = 1 "
                "and q.did in (select did from device where uid = ?1 and token_hash is not null union all select -?1)) "
                "order by m.mid for update of m"};
    return alone(db) ? ERR_OK : RUN(db, &lock, uid);
}

enum err lock_messages_of_device(struct db *db, int64_t did) {
    static struct db_sql lock = {.text =
                                     "select m.mid from message m where m.mid in (select q.mid from device_delivery q "
                                     "where q.did = ?1 and q.open = 1) order by m.mid for update of m"};
    return alone(db) ? ERR_OK : RUN(db, &lock, did);
}

enum err lock_sweep(struct db *db, bool *ours) {
    static struct db_sql lock = {.text = "select pg_try_advisory_xact_lock(?1)"};
    enum err err = ERR_OK;
    *ours = true;
    if (alone(db)) return ERR_OK;
    struct db_stmt *s = db_prepare(db, &lock);
    db_bind_int(s, 1, SWEEP_LOCK);
    *ours = row(s, &err) && db_int(s, 0) != 0;
    return err;
}
