// Expiry: a message that some recipient has not received within the time (30 days) is withdrawn. Its content goes, its
// entries are passed over (entry.c), the recipients' deliveries end as `expired`, and the sender is told once. A
// content that only some further device of a recipient has not fetched goes quietly: its message was delivered.
#include "chat/expiry.h"

#include "base/crash.h"
#include "base/log.h"
#include "chat/entry.h"
#include "chat/event.h"
#include "chat/locks.h"
#include "outbox/outbox.h"

#include <stdio.h>
#include <stdlib.h>

#define BATCH 64

struct overdue {
    int64_t mid, sender, by_uid;
    bool undelivered;
    struct id event_id;
    struct push push;
};

struct expiry_op {
    struct op op;
    int64_t now, before;
    struct overdue overdue[BATCH];
    size_t n;
    struct gone gone;
    void (*done)(struct chat *c, bool more);
};

// The messages that may be overdue with their senders and his devices (locks.h). The last of them in `last`: contents
// only go, so what is found up to there afterwards is locked.
static enum err lock_overdue(struct db *db, struct expiry_op *op, int64_t *last) {
#define OLDEST "(select mid from content order by mid limit ?1)"
    static struct db_sql senders = {
        .text = "select uid from account where uid in (select m.sender_uid from message m where m.mid in " OLDEST
                " and m.accepted_at < ?2) order by uid for key share"};
    static struct db_sql messages = {.text = "select mid from message where mid in " OLDEST
                                             " and accepted_at < ?2 order by mid for update"};
    static struct db_sql devices = {
        .text = "select did from device where uid in (select m.sender_uid from message m where m.mid in " OLDEST
                " and m.accepted_at < ?2) and token_hash is not null order by did for no key update"};
#undef OLDEST
    enum err err = ERR_OK;
    *last = INT64_MAX;
    if (db_kind(db) == DATABASE_SQLITE) return ERR_OK;
    err = RUN(db, &senders, BATCH, op->before);
    if (err != ERR_OK) return err;
    *last = 0;
    struct db_stmt *s = db_prepare(db, &messages);
    db_bind_int(s, 1, BATCH);
    db_bind_int(s, 2, op->before);
    while (row(s, &err)) *last = db_int(s, 0);
    return err == ERR_OK ? RUN(db, &devices, BATCH, op->before) : err;
}

// Contents are in the order of acceptance: the first that is young enough ends the search.
static enum err find_overdue(struct db *db, struct expiry_op *op, int64_t last) {
    static struct db_sql find = {
        .text = "select m.mid, m.sender_uid, m.open, m.message_id, m.seq, v.conversation_id, m.accepted_at "
                "from content t join message m on m.mid = t.mid join conversation v on v.cid = m.cid "
                "where t.mid <= ?2 order by t.mid limit ?1"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_int(s, 1, BATCH);
    db_bind_int(s, 2, last);
    while (row(s, &err) && db_int(s, 6) < op->before) {
        struct overdue *o = &op->overdue[op->n++];
        struct entry *e = &o->push.entry;
        o->mid = e->mid = db_int(s, 0);
        o->sender = db_int(s, 1);
        o->undelivered = db_int(s, 2) > 0;
        (void)db_id(s, 3, &e->e.message_id);
        e->e.seq = (uint64_t)db_int(s, 4);
        e->e.type = ENTRY_EXPIRED;
        e->e.at_ms = op->now;
        snprintf(e->conversation_id, sizeof e->conversation_id, "%s", db_text(s, 5, NULL));
    }
    return err;
}

// Who did not get it; of several, the first.
static enum err find_recipient(struct db *db, struct overdue *o) {
    static struct db_sql find = {.text = "select a.uid, a.user_id from delivery x join account a on a.uid = x.uid "
                                         "where x.mid = ?1 and x.received_at is null order by x.uid limit 1"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_int(s, 1, o->mid);
    if (!row(s, &err)) return err != ERR_OK ? err : ERR_DATABASE;
    o->by_uid = db_int(s, 0);
    snprintf(o->push.entry.by_user_id, sizeof o->push.entry.by_user_id, "%s", db_text(s, 1, NULL));
    return ERR_OK;
}

static enum err tell_sender(struct db *db, const struct chat *c, struct overdue *o, int64_t now) {
    static struct db_sql deliveries = {
        .text = "update delivery set expired_at = ?2 where mid = ?1 and received_at is null"};
    static struct db_sql mark = {.text = "update message set expired_at = ?2 where mid = ?1"};
    enum err err = find_recipient(db, o);
    if (err == ERR_OK) err = RUN(db, &deliveries, o->mid, now);
    if (err == ERR_OK) err = RUN(db, &mark, o->mid, now);
    if (err == ERR_OK) err = push_to_user(db, &o->push, o->sender, o->by_uid);
    if (err != ERR_OK) return err;
    const struct entry *e = &o->push.entry;
    char id[ID_TEXT];
    id_format(&e->e.message_id, id);
    struct events events = {0};
    events_add(&events, c, &o->event_id, "message_expired", e->conversation_id,
               "\"message_id\":\"%s\",\"conversation_id\":\"%s\",\"seq\":%llu,\"at\":%lld", id, e->conversation_id,
               (unsigned long long)e->e.seq, (long long)now);
    return events_store(db, &events, now);
}

static enum err expire(struct db *db, const struct chat *c, struct overdue *o, int64_t now, struct gone *g) {
    static struct db_sql claims = {.text = "update device_delivery set open = 0 where mid = ?1 and open = 1"};
    static struct db_sql close = {.text = "update message set open = 0, claims = 0 where mid = ?1"};
    enum err err = o->undelivered ? tell_sender(db, c, o, now) : ERR_OK;
    if (err == ERR_OK) err = RUN(db, &claims, o->mid);
    if (err == ERR_OK) err = RUN(db, &close, o->mid);
    return err == ERR_OK ? content_drop(db, o->mid, now, g) : err;
}

static enum err expiry_run(struct db *db, struct db_unit *u) {
    struct expiry_op *op = (struct expiry_op *)u;
    bool ours;
    int64_t last;
    op->n = 0;
    for (size_t i = 0; i < BATCH; i++) push_clear(&op->overdue[i].push);
    gone_clear(&op->gone);
    enum err err = lock_sweep(db, &ours);
    if (err != ERR_OK || !ours) return err;
    err = lock_overdue(db, op, &last);
    if (err == ERR_OK) err = find_overdue(db, op, last);
    for (size_t i = 0; i < op->n && err == ERR_OK; i++)
        err = expire(db, op->op.chat, &op->overdue[i], op->now, &op->gone);
    if (err == ERR_OK) err = gone_settle(db, &op->gone);
    for (size_t i = 0; i < op->n && err == ERR_OK; i++) err = push_tell(db, &op->overdue[i].push, op->op.server);
    return err;
}

static void expiry_answer(struct op *base, enum err err) {
    struct expiry_op *op = (struct expiry_op *)base;
    struct chat *c = base->chat;
    if (err != ERR_OK) {
        log_text(LOG_WARN, "expiry_failed", "%s", op_error(base, err)->text);
        op->done(c, false);
        return;
    }
    if (op->n > 0) crash_point("expire.committed");
    for (size_t i = 0; i < op->n; i++) {
        if (!op->overdue[i].undelivered) continue;
        c->stats.expired++;
        log_point("expired", &op->overdue[i].push.entry.e.message_id);
        push_out(c, &op->overdue[i].push);
    }
    gone_apply(c, &op->gone);
    if (op->n > 0) outbox_wake(c->outbox);
    op->done(c, op->n == BATCH);
}

static void expiry_release(struct op *base) {
    struct expiry_op *op = (struct expiry_op *)base;
    for (size_t i = 0; i < BATCH; i++) push_release(&op->overdue[i].push);
    gone_release(&op->gone);
}

void expiry_batch(struct chat *c, void (*done)(struct chat *c, bool more)) {
    struct expiry_op *op = op_new(c, sizeof *op, expiry_run, expiry_answer);
    op->op.unit.frees_space = true;
    op->op.release = expiry_release;
    op->now = chat_now(c);
    op->before = op->now - (int64_t)c->o.message_ttl_ms;
    for (size_t i = 0; i < BATCH; i++) op->overdue[i].event_id = id_new(c->io);
    op->done = done;
    op_submit(&op->op);
}
