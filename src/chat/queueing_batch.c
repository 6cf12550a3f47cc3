// Many messages enter the mailboxes in one transaction (gather.h), as queueing.c draws it for one. By itself goes a
// message whose content has gone already.
#include "chat/queueing.h"

#include "base/crash.h"
#include "chat/locks.h"
#include "outbox/outbox.h"

#include <stdlib.h>

static enum err find(struct db *db, struct gathered **ops, const struct db_bytes *ids, size_t n) {
    static struct db_sql sql = {
        .text = "select 1 where 0",
        .postgres = "select i.n, v.member_count - 1, " QUEUEING_COLUMNS
                    " from unnest(?1::bytea[]) with ordinality i (message_id, n) "
                    "join message m on m.message_id = i.message_id join conversation v on v.cid = m.cid "
                    "join account a on a.uid = m.sender_uid"};
    for (size_t i = 0; i < n; i++) ((struct queue_op *)ops[i])->unknown = true;
    enum err err = ERR_OK;
    int64_t recipients[GATHER_BATCH] = {0};
    size_t rows = 0;
    struct db_stmt *s = db_prepare(db, &sql);
    db_bind_blobs(s, 1, ids, n);
    while (row(s, &err)) {
        struct queue_op *op = (struct queue_op *)ops[db_int(s, 0) - 1];
        recipients[db_int(s, 0) - 1] = db_int(s, 1);
        queueing_take(op, s, 2);
        op->unknown = false;
        op->gathered.alone = op->deleted;
    }
    for (size_t i = 0; i < n && err == ERR_OK; i++) gather_takes(ops[i], &rows, recipients[i]);
    return err;
}

static bool left_out(const struct gathered *op) { return op->alone || op->later; }

// Each that is not left out is taken in; those that were not there before are fresh.
static enum err take_in(struct db *db, struct gathered **ops, size_t n) {
    const struct id *ids[GATHER_BATCH];
    bool fresh[GATHER_BATCH];
    size_t taken = 0;
    for (size_t i = 0; i < n; i++)
        if (!left_out(ops[i])) ids[taken++] = ops[i]->id;
    if (taken == 0) return ERR_OK;
    enum err err = inbox_accept_all(db, QUEUEING_GROUP, ids, taken, ((struct queue_op *)ops[0])->now, fresh);
    taken = 0;
    for (size_t i = 0; i < n && err == ERR_OK; i++)
        if (!left_out(ops[i])) ((struct queue_op *)ops[i])->fresh = fresh[taken++];
    return err;
}

// The devices locked in their order, an entry and a claim for each that has no row yet; a row for each user without
// any.
static enum err queue(struct db *db, struct queue_op **ops, size_t n) {
    static struct db_sql sql = {
        .text = "select 1 where 0",
        .postgres =
            "with x as materialized (select e.mid, e.n::int as n, y.uid from unnest(?1::bigint[]) with ordinality "
            "e (mid, n) join delivery y on y.mid = e.mid where y.expired_at is null), "
            "t as materialized (select d.did, d.last_cursor, d.home, d.poll_home, y.ns from "
            "(select uid, array_agg(n order by n) as ns from x group by uid) y join device d on d.uid = y.uid "
            "and d.token_hash is not null order by d.did for no key update of d), "
            "p as materialized (select i.n, (?1::bigint[])[i.n] as mid, t.did, t.home, t.poll_home, "
            "t.last_cursor + row_number() over (partition by t.did order by i.n) as cursor "
            "from t cross join unnest(t.ns) i (n) where not exists "
            "(select 1 from device_delivery q where q.mid = (?1::bigint[])[i.n] and q.did = t.did)), "
            "a as (update device d set last_cursor = y.cursor from (select did, max(cursor) as cursor from p "
            "group by did) y where d.did = y.did), "
            "b as (insert into mailbox (did, cursor, type, mid, by_uid, at) "
            "select did, cursor, 0, mid, (?2::bigint[])[n], (?3::bigint[])[n] from p), "
            "c as (insert into device_delivery (mid, did, queued_at, open) "
            "select mid, did, (?5::bigint[])[n], 1 from p), "
            "u as (insert into device_delivery (mid, did, open) select x.mid, -x.uid, 1 from x where not exists "
            "(select 1 from device d where d.uid = x.uid and d.token_hash is not null) "
            "on conflict (mid, did) do nothing returning mid), "
            "k as materialized (select mid, count(*) as claims from (select mid from p union all select mid from u) w "
            "group by mid), "
            "m as (update message m set claims = m.claims + coalesce((select claims from k where k.mid = e.mid), 0), "
            "published_at = coalesce(m.published_at, e.published) "
            "from unnest(?1::bigint[], ?4::bigint[]) e (mid, published) where m.mid = e.mid) "
            "select n, did, cursor, home, poll_home from p order by n, did"};
    int64_t mids[GATHER_BATCH], senders[GATHER_BATCH], ats[GATHER_BATCH], published[GATHER_BATCH], nows[GATHER_BATCH];
    struct push *pushes[GATHER_BATCH];
    for (size_t i = 0; i < n; i++) {
        const struct entry *entry = &ops[i]->push.entry;
        pushes[i] = &ops[i]->push;
        mids[i] = entry->mid;
        senders[i] = ops[i]->sender;
        ats[i] = entry->e.at_ms;
        published[i] = ops[i]->published_at;
        nows[i] = ops[i]->now;
    }
    struct db_stmt *s = db_prepare(db, &sql);
    db_bind_ints(s, 1, mids, n);
    db_bind_ints(s, 2, senders, n);
    db_bind_ints(s, 3, ats, n);
    db_bind_ints(s, 4, published, n);
    db_bind_ints(s, 5, nows, n);
    return push_take_many(pushes, n, s);
}

static enum err queue_fresh(struct db *db, struct gathered **ops, size_t n) {
    struct queue_op *fresh[GATHER_BATCH];
    const struct push *pushes[GATHER_BATCH];
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        struct queue_op *op = (struct queue_op *)ops[i];
        if (!op->fresh || op->unknown) continue;
        pushes[count] = &op->push;
        fresh[count++] = op;
    }
    if (count == 0) return ERR_OK;
    enum err err = queue(db, fresh, count);
    return err == ERR_OK ? push_tell_all(db, pushes, count, ops[0]->op.server) : err;
}

enum err queues_run(struct db *db, struct gathered **ops, size_t n) {
    for (size_t i = 0; i < n; i++) queueing_clear((struct queue_op *)ops[i]);
    struct db_bytes ids[GATHER_BATCH];
    gather_ids(ops, n, ids);
    enum err err = gather_settings(db);
    if (err == ERR_OK) err = lock_all_recipients(db, ids, n);
    if (err == ERR_OK) err = find(db, ops, ids, n);
    if (err == ERR_OK) err = take_in(db, ops, n);
    if (err == ERR_OK) err = queue_fresh(db, ops, n);
    for (size_t i = 0; i < n && err == ERR_OK; i++) crash_point("queue.before_commit");
    return err;
}
