// Many receipts in one transaction (gather.h), as receipts.c draws them: the senders and the messages are locked, one
// question tells how all of them are, what follows is decided here and written a table at a time.
//
// By itself goes what does more than that: a device that has the message before it was queued, one that has logged out
// meanwhile, the end of a media content.
#include "chat/receipts.h"

#include "base/crash.h"
#include "chat/locks.h"

#include <stdlib.h>

#define COLUMNS 5

// Rows for one statement: a column an array.
struct table {
    size_t n;
    int64_t column[COLUMNS][GATHER_BATCH];
};

struct work {
    struct table closed;   // claims: mid, did, at, notified
    struct table received; // mid, uid, at
    struct table read;     // mid, uid, at
    struct table messages; // mid, open, claims, deleted_at
    struct table contents; // mid
    struct events events;
    struct pushing pushes[2 * GATHER_BATCH];
    const struct push *pushed[2 * GATHER_BATCH];
    size_t pushes_n;
};

#define ADD(t, ...) add(t, (const int64_t[]){__VA_ARGS__}, sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t))
static void add(struct table *t, const int64_t *values, size_t n) {
    ASSERT(t->n < GATHER_BATCH && n <= COLUMNS);
    for (size_t i = 0; i < n; i++) t->column[i][t->n] = values[i];
    t->n++;
}

static enum err write(struct db *db, struct db_sql *sql, const struct table *t, int columns) {
    if (t->n == 0) return ERR_OK;
    struct db_stmt *s = db_prepare(db, sql);
    for (int i = 0; i < columns; i++) db_bind_ints(s, i + 1, t->column[i], t->n);
    return db_run_later(s);
}

// ---- how they are ---------------------------------------------------------------------------------------

static enum err find(struct db *db, struct gathered **ops, const struct db_bytes *ids, size_t n) {
    static struct db_sql sql = {
        .text = "select 1 where 0",
        .postgres =
            "select a.n, " RECEIPT_COLUMNS " from unnest(?1::bytea[], ?2::bigint[], ?3::bigint[]) with ordinality "
            "a (message_id, uid, did, n) join message m on m.message_id = a.message_id "
            "join delivery x on x.mid = m.mid and x.uid = a.uid join conversation v on v.cid = m.cid "
            "left join device_delivery q on q.mid = m.mid and q.did = a.did"};
    int64_t uids[GATHER_BATCH], dids[GATHER_BATCH];
    for (size_t i = 0; i < n; i++) {
        struct receipt *op = (struct receipt *)ops[i];
        uids[i] = op->who.uid;
        dids[i] = op->who.did;
        ops[i]->result = receipt_unknown(op);
    }
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &sql);
    db_bind_blobs(s, 1, ids, n);
    db_bind_ints(s, 2, uids, n);
    db_bind_ints(s, 3, dids, n);
    while (row(s, &err)) {
        struct gathered *found = ops[db_int(s, 0) - 1];
        receipt_take((struct receipt *)found, s, 1);
        found->result = found->op.unit.error.code = ERR_OK;
    }
    return err;
}

// ---- what follows ---------------------------------------------------------------------------------------

static void tell(struct work *w, struct receipt *op, enum chat_entry_type type) {
    struct push *p = type == ENTRY_READ ? &op->read_push : &op->delivered_push;
    receipt_tell(op, type, &w->events);
    w->pushed[w->pushes_n] = p;
    w->pushes[w->pushes_n++] = (struct pushing){.push = p, .uid = op->sender, .by_uid = op->who.uid};
}

static bool ends_content(const struct receipt *op, bool first) {
    return !op->deleted && op->claimed && op->open - (first ? 1 : 0) <= 0 && op->claims <= 1;
}

static bool ordinary(const struct receipt *op, bool first) {
    if (op->claimed) return !(op->media && ends_content(op, first));
    return !first && (!op->unknown || op->deleted);
}

static void receive(struct work *w, struct receipt *op, bool first) {
    if (!op->claimed) return;
    op->deleted_now = ends_content(op, first);
    op->claims--;
    ADD(&w->closed, op->mid, op->who.did, op->now, op->notified_at);
    if (first) {
        op->received_now = true;
        op->open--;
        ADD(&w->received, op->mid, op->who.uid, op->now);
        if (op->open <= 0) tell(w, op, ENTRY_DELIVERED);
    }
    ADD(&w->messages, op->mid, op->open, op->claims, op->deleted_now ? op->now : 0);
    if (!op->deleted_now) return;
    ADD(&w->contents, op->mid);
    op->gone.deleted++;
}

static void decide(struct work *w, struct receipt *op) {
    bool first = !op->had && !op->expired;
    if (op->gathered.result != ERR_OK) return;
    op->gathered.alone = !ordinary(op, first);
    if (op->gathered.alone) return;
    receive(w, op, first);
    if (!op->read || op->had_read || op->expired) return;
    op->read_now = true;
    ADD(&w->read, op->mid, op->who.uid, op->now);
    tell(w, op, ENTRY_READ);
}

// ---- and is written -------------------------------------------------------------------------------------

// They are locked in the order of notified.c, which changes them without their messages, and as in receipts.c before
// the sender's devices.
static enum err close_claims(struct db *db, const struct work *w) {
    static struct db_sql close = {
        .text = "select 1",
        .postgres = "with t as materialized (select q.mid, q.did, a.at, a.notified from "
                    "unnest(?1::bigint[], ?2::bigint[], ?3::bigint[], ?4::bigint[]) a (mid, did, at, notified) "
                    "join device_delivery q on q.mid = a.mid and q.did = a.did "
                    "order by q.mid, q.did for no key update of q) "
                    "update device_delivery q set received_at = t.at, "
                    "notified_at = coalesce(q.notified_at, nullif(t.notified, 0)), open = 0 "
                    "from t where q.mid = t.mid and q.did = t.did"};
    return write(db, &close, &w->closed, 4);
}

static enum err write_all(struct db *db, struct work *w, int64_t now) {
    static struct db_sql receive = {
        .text = "select 1",
        .postgres = "update delivery x set received_at = a.at from unnest(?1::bigint[], ?2::bigint[], ?3::bigint[]) "
                    "a (mid, uid, at) where x.mid = a.mid and x.uid = a.uid"};
    static struct db_sql read = {
        .text = "select 1",
        .postgres = "update delivery x set read_at = a.at from unnest(?1::bigint[], ?2::bigint[], ?3::bigint[]) "
                    "a (mid, uid, at) where x.mid = a.mid and x.uid = a.uid"};
    static struct db_sql message = {
        .text = "select 1",
        .postgres =
            "update message m set open = a.open, claims = a.claims, "
            "deleted_at = coalesce(nullif(a.deleted, 0), m.deleted_at) "
            "from unnest(?1::bigint[], ?2::bigint[], ?3::bigint[], ?4::bigint[]) a (mid, open, claims, deleted) "
            "where m.mid = a.mid"};
    static struct db_sql content = {.text = "select 1", .postgres = "delete from content where mid = any(?1)"};
    enum err err = write(db, &receive, &w->received, 3);
    if (err == ERR_OK) err = write(db, &read, &w->read, 3);
    if (err == ERR_OK) err = write(db, &message, &w->messages, 4);
    if (err == ERR_OK) err = write(db, &content, &w->contents, 1);
    return err == ERR_OK ? events_store(db, &w->events, now) : err;
}

static void crash_points(struct gathered **ops, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const struct receipt *op = (const struct receipt *)ops[i];
        if (op->deleted_now) crash_point("delete.before");
        if (op->received_now) crash_point("received.before_commit");
        if (op->read_now) crash_point("read.before_commit");
    }
}

enum err receipts_run(struct db *db, struct gathered **ops, size_t n) {
    struct work *w = chat_alloc(sizeof *w);
    for (size_t i = 0; i < n; i++) receipt_clear((struct receipt *)ops[i]);
    struct db_bytes ids[GATHER_BATCH];
    gather_ids(ops, n, ids);
    enum err err = gather_settings(db);
    if (err == ERR_OK) err = lock_all_senders(db, ids, n);
    if (err == ERR_OK) err = find(db, ops, ids, n);
    for (size_t i = 0; i < n && err == ERR_OK; i++) decide(w, (struct receipt *)ops[i]);
    if (err == ERR_OK) err = close_claims(db, w);
    if (err == ERR_OK) err = push_to_users(db, w->pushes, w->pushes_n);
    if (err == ERR_OK) err = write_all(db, w, ((struct receipt *)ops[0])->now);
    if (err == ERR_OK) err = push_tell_all(db, w->pushed, w->pushes_n, ops[0]->op.server);
    if (err == ERR_OK) crash_points(ops, n);
    events_free(&w->events);
    free(w);
    return err;
}
