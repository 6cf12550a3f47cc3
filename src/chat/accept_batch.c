// Many messages accepted in one transaction (gather.h), as accept.c draws it for one: the conversations are locked and
// asked, the numbers given here, and every table is written by one statement.
//
// By itself goes a media message, one whose id is there already, and one that nobody but its sender would get. An id
// that appears meanwhile fails the batch, and the one it belongs to finds that out by itself.
#include "chat/accept.h"

#include "base/crash.h"

#include <stdlib.h>

// Of the ops that are accepted: what is written.
struct columns {
    size_t n;
    struct accept *ops[GATHER_BATCH];
    struct db_bytes ids[GATHER_BATCH], digests[GATHER_BATCH], texts[GATHER_BATCH];
    int64_t cids[GATHER_BATCH], seqs[GATHER_BATCH], uids[GATHER_BATCH], dids[GATHER_BATCH];
    int64_t bytes[GATHER_BATCH], created[GATHER_BATCH], accepted[GATHER_BATCH], opens[GATHER_BATCH];
};

// ---- where they belong ----------------------------------------------------------------------------------

// Their counters are this unit's until the commit; who their members are never changes.
static enum err find(struct db *db, struct gathered **ops, size_t n) {
    static struct db_sql sql = {
        .text = "select 1 where 0",
        .postgres =
            "select a.n, v.cid, v.last_seq, v.member_count, "
            "exists (select 1 from message m where m.message_id = a.message_id) "
            "from unnest(?1::text[], ?2::bigint[], ?3::bytea[]) with ordinality "
            "a (conversation_id, uid, message_id, n) join conversation v on v.conversation_id = a.conversation_id "
            "join member x on x.cid = v.cid and x.uid = a.uid order by v.cid, a.n for no key update of v"};
    const char *conversations[GATHER_BATCH];
    struct db_bytes ids[GATHER_BATCH];
    int64_t uids[GATHER_BATCH];
    for (size_t i = 0; i < n; i++) {
        struct accept *op = (struct accept *)ops[i];
        conversations[i] = op->conversation_id;
        uids[i] = op->who.uid;
        op->duplicate = false;
        ops[i]->result = accept_unknown(op);
    }
    gather_ids(ops, n, ids);
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &sql);
    db_bind_texts(s, 1, conversations, n);
    db_bind_ints(s, 2, uids, n);
    db_bind_blobs(s, 3, ids, n);
    while (row(s, &err)) {
        struct accept *op = (struct accept *)ops[db_int(s, 0) - 1];
        op->cid = db_int(s, 1);
        op->seq = (uint64_t)db_int(s, 2);
        op->members = db_int(s, 3);
        op->gathered.alone = db_int(s, 4) != 0 || op->members == 1;
        op->gathered.result = op->gathered.op.unit.error.code = ERR_OK;
    }
    return err;
}

// The next number of its conversation: of the last one here, or of the database.
static uint64_t next_seq(const struct columns *c, const struct accept *op) {
    for (size_t i = c->n; i-- > 0;)
        if (c->cids[i] == op->cid) return (uint64_t)c->seqs[i] + 1;
    return op->seq + 1;
}

static void add(struct columns *c, struct accept *op) {
    op->seq = next_seq(c, op);
    op->accepted_at = op->now;
    size_t i = c->n++;
    c->ops[i] = op;
    c->ids[i] = (struct db_bytes){op->message_id.b, sizeof op->message_id.b};
    c->digests[i] = (struct db_bytes){op->digest, sizeof op->digest};
    c->texts[i] = (struct db_bytes){op->text, op->text_length};
    c->cids[i] = op->cid;
    c->seqs[i] = (int64_t)op->seq;
    c->uids[i] = op->who.uid;
    c->dids[i] = op->who.did;
    c->bytes[i] = (int64_t)op->bytes;
    c->created[i] = op->created_at;
    c->accepted[i] = op->now;
    c->opens[i] = op->members - 1;
}

// ---- what is written ------------------------------------------------------------------------------------

static enum err insert_messages(struct db *db, const struct columns *c) {
    static struct db_sql sql = {
        .text = "select 1",
        .postgres =
            "insert into message (message_id, cid, seq, sender_uid, sender_did, kind, bytes, digest, created_at, "
            "accepted_at, open) select a.id, a.cid, a.seq, a.uid, a.did, ?11, a.bytes, a.digest, nullif(a.created, 0), "
            "a.accepted, a.open from unnest(?1::bytea[], ?2::bigint[], ?3::bigint[], ?4::bigint[], ?5::bigint[], "
            "?6::bigint[], ?7::bytea[], ?8::bigint[], ?9::bigint[], ?10::bigint[]) with ordinality "
            "a (id, cid, seq, uid, did, bytes, digest, created, accepted, open, n) order by a.n"};
    struct db_stmt *s = db_prepare(db, &sql);
    db_bind_blobs(s, 1, c->ids, c->n);
    db_bind_ints(s, 2, c->cids, c->n);
    db_bind_ints(s, 3, c->seqs, c->n);
    db_bind_ints(s, 4, c->uids, c->n);
    db_bind_ints(s, 5, c->dids, c->n);
    db_bind_ints(s, 6, c->bytes, c->n);
    db_bind_blobs(s, 7, c->digests, c->n);
    db_bind_ints(s, 8, c->created, c->n);
    db_bind_ints(s, 9, c->accepted, c->n);
    db_bind_ints(s, 10, c->opens, c->n);
    db_bind_int(s, 11, CHAT_TEXT);
    return db_run_later(s);
}

static enum err insert_contents(struct db *db, const struct columns *c) {
    static struct db_sql sql = {
        .text = "select 1",
        .postgres =
            "insert into content (mid, text) select m.mid, a.text from unnest(?1::bytea[], ?2::bytea[]) a (id, text) "
            "join message m on m.message_id = a.id"};
    struct db_stmt *s = db_prepare(db, &sql);
    db_bind_blobs(s, 1, c->ids, c->n);
    db_bind_blobs(s, 2, c->texts, c->n);
    return db_run_later(s);
}

static enum err insert_deliveries(struct db *db, const struct columns *c) {
    static struct db_sql sql = {
        .text = "select 1",
        .postgres = "insert into delivery (mid, uid) select m.mid, x.uid from unnest(?1::bytea[]) a (id) "
                    "join message m on m.message_id = a.id join member x on x.cid = m.cid and x.uid <> m.sender_uid"};
    struct db_stmt *s = db_prepare(db, &sql);
    db_bind_blobs(s, 1, c->ids, c->n);
    return db_run_later(s);
}

static enum err count(struct db *db, const struct columns *c) {
    static struct db_sql sql = {
        .text = "select 1",
        .postgres = "update conversation v set last_seq = a.seq from (select cid, max(seq) as seq from "
                    "unnest(?1::bigint[], ?2::bigint[]) b (cid, seq) group by cid) a where v.cid = a.cid"};
    struct db_stmt *s = db_prepare(db, &sql);
    db_bind_ints(s, 1, c->cids, c->n);
    db_bind_ints(s, 2, c->seqs, c->n);
    return db_run_later(s);
}

static enum err store_events(struct db *db, const struct columns *c) {
    struct events events = {0};
    for (size_t i = 0; i < c->n; i++) accept_event(c->ops[i], &events);
    return events_store(db, &events, c->ops[0]->now);
}

static enum err write_all(struct db *db, const struct columns *c) {
    if (c->n == 0) return ERR_OK;
    enum err err = insert_messages(db, c);
    if (err == ERR_OK) err = insert_contents(db, c);
    if (err == ERR_OK) err = insert_deliveries(db, c);
    if (err == ERR_OK) err = count(db, c);
    return err == ERR_OK ? store_events(db, c) : err;
}

enum err accepts_run(struct db *db, struct gathered **ops, size_t n) {
    struct columns *c = chat_alloc(sizeof *c);
    for (size_t i = 0; i < n; i++) gone_clear(&((struct accept *)ops[i])->gone);
    enum err err = gather_settings(db);
    if (err == ERR_OK) err = find(db, ops, n);
    size_t rows = 0;
    for (size_t i = 0; i < n && err == ERR_OK; i++) {
        struct accept *op = (struct accept *)ops[i];
        if (!gather_takes(ops[i], &rows, ops[i]->result == ERR_OK ? op->members : 0)) continue;
        if (ops[i]->result == ERR_OK && !ops[i]->alone) add(c, op);
    }
    if (err == ERR_OK) err = write_all(db, c);
    for (size_t i = 0; i < c->n && err == ERR_OK; i++) crash_point("accept.before_commit");
    free(c);
    return err;
}
