// What a device coming and going means for the messages of its user, inside units (internal.h).
//
// While open = 1 a row of device_delivery is the device's claim on the content. A user without any live device is
// held by the row of did = -uid, which is made when a message is queued or the last device goes, and is taken over
// by the first device that comes.
#include "chat/box.h"
#include "chat/homes.h"
#include "chat/locks.h"
#include "chat/token_cache.h"

#include <stdlib.h>

static enum err last_cursor(struct db *db, int64_t did, int64_t *out) {
    static struct db_sql find = {.text = "select last_cursor from device where did = ?1"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_int(s, 1, did);
    if (!row(s, &err)) return err != ERR_OK ? err : ERR_DATABASE;
    *out = db_int(s, 0);
    return ERR_OK;
}

// The claims of a user without a device are over: a device has taken them.
static enum err release_user(struct db *db, int64_t uid) {
    static struct db_sql count = {.text = "update message set claims = claims - 1 where mid in "
                                          "(select mid from device_delivery where did = -?1 and open = 1)"};
    static struct db_sql remove = {.text = "delete from device_delivery where did = -?1 and open = 1"};
    enum err err = RUN(db, &count, uid);
    return err == ERR_OK ? RUN(db, &remove, uid) : err;
}

enum err device_queue_pending(struct db *db, int64_t uid, int64_t did, int64_t now) {
    static struct db_sql entries = {
        .text =
            "insert into mailbox (did, cursor, type, mid, by_uid, at) "
            "select ?1, ?3 + row_number() over (order by p.mid), 0, p.mid, m.sender_uid, m.accepted_at "
            "from (select distinct q.mid as mid from device_delivery q "
            "join delivery x on x.mid = q.mid and x.uid = ?2 where q.open = 1 and x.received_at is null "
            "and q.did in (select did from device where uid = ?2 and token_hash is not null union all select -?2)) p "
            "join message m on m.mid = p.mid"};
    static struct db_sql advance = {.text = "update device set last_cursor = last_cursor + ?2 where did = ?1"};
    static struct db_sql claim = {.text =
                                      "insert into device_delivery (mid, did, queued_at, open) "
                                      "select mid, did, ?3, 1 from mailbox where did = ?1 and cursor > ?2 "
                                      "on conflict (mid, did) do update set open = 1, queued_at = excluded.queued_at"};
    static struct db_sql count = {.text = "update message set claims = claims + 1 where mid in "
                                          "(select mid from mailbox where did = ?1 and cursor > ?2)"};
    int64_t before;
    enum err err = last_cursor(db, did, &before);
    if (err != ERR_OK || (err = RUN(db, &entries, did, uid, before)) != ERR_OK) return err;
    int64_t n = db_changes(db);
    if (n == 0) return ERR_OK;
    if ((err = RUN(db, &advance, did, n)) != ERR_OK) return err;
    if ((err = RUN(db, &claim, did, before, now)) != ERR_OK) return err;
    if ((err = RUN(db, &count, did, before)) != ERR_OK) return err;
    return release_user(db, uid);
}

// ---- going ----------------------------------------------------------------------------------------------

static enum err has_device(struct db *db, int64_t uid, bool *yes) {
    static struct db_sql find = {.text = "select 1 from device where uid = ?1 and token_hash is not null limit 1"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_int(s, 1, uid);
    *yes = row(s, &err);
    return err;
}

// What only the going device could have received stays for the user's next one.
static enum err claim_for_user(struct db *db, int64_t uid, int64_t did) {
    static struct db_sql claim = {
        .text = "insert into device_delivery (mid, did, open) select q.mid, -?2, 1 from device_delivery q "
                "join delivery x on x.mid = q.mid and x.uid = ?2 "
                "where q.did = ?1 and q.open = 1 and x.received_at is null on conflict (mid, did) do nothing"};
    static struct db_sql count = {.text = "update message set claims = claims + 1 where mid in "
                                          "(select mid from device_delivery where did = -?1 and open = 1)"};
    enum err err = RUN(db, &claim, did, uid);
    return err == ERR_OK ? RUN(db, &count, uid) : err;
}

struct mids {
    int64_t *mid;
    size_t n;
};

static enum err unclaimed(struct db *db, int64_t did, struct mids *out) {
    static struct db_sql find = {
        .text = "select m.mid from device_delivery q join message m on m.mid = q.mid "
                "where q.did = ?1 and q.open = 1 and m.open = 0 and m.claims = 0 and m.deleted_at is null"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_int(s, 1, did);
    while (row(s, &err)) {
        int64_t *more = realloc(out->mid, (out->n + 1) * sizeof *more);
        if (more == NULL) die("out of memory");
        out->mid = more;
        out->mid[out->n++] = db_int(s, 0);
    }
    return err;
}

static enum err release_claims(struct db *db, int64_t did, int64_t now, struct gone *g) {
    static struct db_sql count = {.text = "update message set claims = claims - 1 where mid in "
                                          "(select mid from device_delivery where did = ?1 and open = 1)"};
    static struct db_sql close = {.text = "update device_delivery set open = 0 where did = ?1 and open = 1"};
    struct mids mids = {0};
    enum err err = RUN(db, &count, did);
    if (err == ERR_OK) err = unclaimed(db, did, &mids);
    for (size_t i = 0; i < mids.n && err == ERR_OK; i++) err = content_drop(db, mids.mid[i], now, g);
    free(mids.mid);
    return err == ERR_OK ? RUN(db, &close, did) : err;
}

enum err device_remove(struct db *db, int64_t uid, int64_t did, int64_t now, struct gone *g) {
    static struct db_sql end = {
        .text = "update device set token_hash = null, expires_at = ?2 where did = ?1 and token_hash is not null"};
    static struct db_sql empty = {.text = "delete from mailbox where did = ?1"};
    bool others;
    enum err err = lock_messages_of_device(db, did);
    if (err == ERR_OK) err = RUN(db, &end, did, now);
    if (err != ERR_OK || db_changes(db) == 0) return err; // it has gone already: its claims are counted once
    err = RUN(db, &empty, did);
    if (err == ERR_OK) err = has_device(db, uid, &others);
    if (err == ERR_OK && !others) err = claim_for_user(db, uid, did);
    if (err == ERR_OK) err = release_claims(db, did, now, g);
    return err == ERR_OK ? homes_tell_session(db, did) : err;
}

void device_gone(struct chat *c, int64_t did) {
    token_cache_drop(c->tokens, did);
    struct box *box = box_find(c, did);
    if (box != NULL) box_close(box, "logged_out");
}
