// One round of leases, in one transaction: give back, say that we are there, renew, and take what is free and our due.
//
// All times are the database's. A lease runs from the beginning of this transaction, and who asked for it counts from
// before that, so nobody believes to have a bucket longer than the others believe it.
#include "outbox/lease.h"

static struct db_sql make_sql = {
    .text = "select 1 where 0",
    .postgres = "insert into barid.buckets (queue, bucket) select ?1::text, g from generate_series(0, 63) g "
                "where not exists (select from barid.buckets where queue = ?1::text and bucket = g) "
                "on conflict do nothing",
};
static struct db_sql give_back_sql = {
    .text = "select 1 where 0",
    .postgres = "update barid.buckets set owner = null, owner_name = null, lease_until = null where queue = ?1::text "
                "and owner = encode(?2::bytea, 'hex')::uuid and (?3::bigint >> bucket) & 1 = 1",
};
static struct db_sql leave_sql = {
    .text = "select 1 where 0",
    .postgres = "delete from barid.members where queue = ?1::text and member = encode(?2::bytea, 'hex')::uuid",
};
static struct db_sql forget_sql = {
    .text = "select 1 where 0",
    .postgres = "delete from barid.members where (queue, member) in (select queue, member from barid.members "
                "where queue = ?1::text and seen_until < now() for update skip locked)",
};
static struct db_sql stay_sql = {
    .text = "select 1 where 0",
    .postgres = "update barid.members set seen_until = now() + ?3::bigint * interval '1 ms', "
                "away = nullif(?4::text, '') where queue = ?1::text and member = encode(?2::bytea, 'hex')::uuid "
                "and seen_until >= now() returning coalesce(awake::int, -1)",
};
// Who comes looks at who is there, one after the other.
static struct db_sql door_sql = {
    .text = "select 1 where 0",
    .postgres = "select pg_advisory_xact_lock(hashtextextended('barid queue ' || ?1::text, 0))",
};
static struct db_sql others_sql = {
    .text = "select 1 where 0",
    .postgres = "select settings, ceil(extract(epoch from seen_until - clock_timestamp()))::bigint from barid.members "
                "where queue = ?1::text and member <> encode(?2::bytea, 'hex')::uuid "
                "and seen_until >= clock_timestamp() and settings <> ?3::text order by seen_until desc limit 1",
};
static struct db_sql join_sql = {
    .text = "select 1 where 0",
    .postgres = "insert into barid.members (queue, member, name, seen_until, away, settings) values (?1::text, "
                "encode(?2::bytea, 'hex')::uuid, ?5::text, now() + ?3::bigint * interval '1 ms', "
                "nullif(?4::text, ''), ?6::text) on conflict (queue, member) do update "
                "set seen_until = excluded.seen_until, away = excluded.away returning coalesce(awake::int, -1)",
};
static struct db_sql members_sql = {
    .text = "select 1 where 0",
    .postgres = "select count(*) from barid.members where queue = ?1::text and seen_until >= now()",
};
static struct db_sql renew_sql = {
    .text = "select 1 where 0",
    .postgres = "update barid.buckets set lease_until = now() + ?4::bigint * interval '1 ms' where queue = ?1::text "
                "and owner = encode(?2::bytea, 'hex')::uuid and (?3::bigint >> bucket) & 1 = 1 returning bucket",
};
// Also what is still written down as ours though we have let go of it.
static struct db_sql take_sql = {
    .text = "select 1 where 0",
    .postgres = "update barid.buckets b set owner = encode(?2::bytea, 'hex')::uuid, owner_name = ?6::text, "
                "lease_until = now() + ?4::bigint * interval '1 ms' from (select bucket from barid.buckets "
                "where queue = ?1::text and (?3::bigint >> bucket) & 1 = 0 and (owner is null or lease_until < now() "
                "or owner = encode(?2::bytea, 'hex')::uuid) order by bucket limit ?5::bigint for update skip locked) f "
                "where b.queue = ?1::text and b.bucket = f.bucket returning b.bucket",
};

uint32_t lease_count(uint64_t buckets) {
    uint32_t n = 0;
    for (; buckets; buckets &= buckets - 1) n++;
    return n;
}

uint32_t lease_share(uint32_t members) { return members ? (BUCKETS + members - 1) / members : BUCKETS; }

static enum err run_for(struct db *db, struct db_sql *sql, const struct lease_unit *u, bool me) {
    struct db_stmt *s = db_prepare(db, sql);
    db_bind_text(s, 1, u->queue);
    if (me) db_bind_id(s, 2, &u->me);
    return db_run(s);
}

static enum err give_back(struct db *db, const struct lease_unit *u) {
    struct db_stmt *s = db_prepare(db, &give_back_sql);
    db_bind_text(s, 1, u->queue);
    db_bind_id(s, 2, &u->me);
    db_bind_int(s, 3, (int64_t)u->give_back);
    enum err err = db_run(s);
    return err ? err : db_notify(db, LEASE_CHANNEL, u->queue);
}

static enum err look_at_others(struct db *db, const struct lease_unit *u) {
    enum err err = run_for(db, &door_sql, u, false);
    if (err) return err;
    struct db_stmt *s = db_prepare(db, &others_sql);
    db_bind_text(s, 1, u->queue);
    db_bind_id(s, 2, &u->me);
    db_bind_text(s, 3, u->settings);
    int row = db_step(s);
    if (row == DB_DONE) return ERR_OK;
    if (row < 0) return (enum err) - row;
    return error_set(db_error(db), ERR_CONFLICT,
                     "another is at work on the same queue with other settings: %s; stop it first (one that was killed "
                     "counts for %lld s more)",
                     db_text(s, 0, NULL), (long long)db_int(s, 1));
}

// DB_ROW: we are one of them. Otherwise as db_step.
static int be_there(struct db *db, struct lease_unit *u, struct db_sql *sql) {
    struct db_stmt *s = db_prepare(db, sql);
    db_bind_text(s, 1, u->queue);
    db_bind_id(s, 2, &u->me);
    db_bind_int(s, 3, u->lease_ms);
    db_bind_text(s, 4, u->away);
    if (sql == &join_sql) db_bind_text(s, 5, u->name);
    if (sql == &join_sql) db_bind_text(s, 6, u->settings);
    int row = db_step(s);
    if (row == DB_ROW) u->awake = (int)db_int(s, 0);
    return row;
}

static enum err join(struct db *db, struct lease_unit *u) {
    int row = be_there(db, u, &stay_sql);
    enum err err = row == DB_DONE && u->settings ? look_at_others(db, u) : ERR_OK;
    if (!err && row == DB_DONE) row = be_there(db, u, &join_sql);
    if (!err && row < 0) err = (enum err) - row;
    if (!err) err = run_for(db, &forget_sql, u, false);
    if (err) return err;
    struct db_stmt *s = db_prepare(db, &members_sql);
    db_bind_text(s, 1, u->queue);
    row = db_step(s);
    if (row < 0) return (enum err) - row;
    u->members = (uint32_t)db_int(s, 0);
    return ERR_OK;
}

static enum err buckets(struct db *db, struct db_sql *sql, const struct lease_unit *u, uint64_t which, uint32_t at_most,
                        uint64_t *out) {
    struct db_stmt *s = db_prepare(db, sql);
    db_bind_text(s, 1, u->queue);
    db_bind_id(s, 2, &u->me);
    db_bind_int(s, 3, (int64_t)which);
    db_bind_int(s, 4, u->lease_ms);
    if (sql == &take_sql) db_bind_int(s, 5, at_most);
    if (sql == &take_sql) db_bind_text(s, 6, u->name);
    int row;
    while ((row = db_step(s)) == DB_ROW) *out |= UINT64_C(1) << (db_int(s, 0) & (BUCKETS - 1));
    return row < 0 ? (enum err) - row : ERR_OK;
}

enum err lease_run(struct db *db, struct db_unit *unit) {
    struct lease_unit *u = (struct lease_unit *)unit;
    u->kept = u->gained = 0;
    u->members = 0;
    enum err err = ERR_OK;
    if (u->give_back || u->leave) err = give_back(db, u);
    if (u->leave) return err ? err : run_for(db, &leave_sql, u, true);
    // Who has none may have slept while somebody dropped the consumer, and its buckets with it.
    if (!err && (u->announce || !u->keep)) err = run_for(db, &make_sql, u, false);
    if (!err && u->announce) err = db_notify(db, LEASE_CHANNEL, u->queue);
    if (!err) err = join(db, u);
    if (!err && u->keep) err = buckets(db, &renew_sql, u, u->keep, 0, &u->kept);
    uint32_t have = lease_count(u->kept), share = lease_share(u->members);
    // Not what we give back at this very moment: somebody else is to have it.
    if (!err && !u->no_more && have < share)
        err = buckets(db, &take_sql, u, u->kept | u->give_back, share - have, &u->gained);
    return err;
}
