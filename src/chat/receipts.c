// received and read (design.md 7, safe points 6 to 8).
//
// One transaction: the device has it; its user has it (the first device); everyone has it (the sender is told
// `delivered`); no live device has a claim any more (the content goes). Read implies received, and tells the sender
// `read` for each recipient. Repeating changes nothing and succeeds, also when the content is long gone.
//
// What the sender sees enters his mailbox in this transaction (docs/decisions/0004).
#include "base/crash.h"
#include "chat/entry.h"
#include "chat/locks.h"
#include "chat/notified.h"
#include "outbox/outbox.h"

#include <stdio.h>
#include <string.h>

struct receipt {
    struct op op;
    struct chat_actor who;
    struct id message_id, delivered_event, read_event;
    bool read;
    int64_t now, notified_at;

    int64_t mid, sender, open, claims;
    bool deleted, had, had_read, expired;
    bool claimed, unknown; // of this device: it has a claim, it has no row at all
    uint64_t seq;
    char conversation_id[NAME_MAX_LENGTH + 1];

    bool received_now, read_now, deleted_now, told;
    struct push delivered_push, read_push;
    struct gone gone;
    chat_done_fn *done;
    void *arg;
};

static enum err find(struct db *db, struct receipt *op) {
    static struct db_sql sql = {
        .text = "select m.mid, m.sender_uid, m.open, m.claims, m.deleted_at is not null, m.seq, v.conversation_id, "
                "x.received_at is not null, x.read_at is not null, x.expired_at is not null, q.open, q.mid is null "
                "from message m "
                "join delivery x on x.mid = m.mid and x.uid = ?2 join conversation v on v.cid = m.cid "
                "left join device_delivery q on q.mid = m.mid and q.did = ?3 where m.message_id = ?1"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &sql);
    db_bind_id(s, 1, &op->message_id);
    db_bind_int(s, 2, op->who.uid);
    db_bind_int(s, 3, op->who.did);
    if (!row(s, &err)) return err != ERR_OK ? err : error_set(db_error(db), ERR_NOT_FOUND, "no such message");
    op->mid = db_int(s, 0);
    op->sender = db_int(s, 1);
    op->open = db_int(s, 2);
    op->claims = db_int(s, 3);
    op->deleted = db_int(s, 4) != 0;
    op->seq = (uint64_t)db_int(s, 5);
    snprintf(op->conversation_id, sizeof op->conversation_id, "%s", db_text(s, 6, NULL));
    op->had = db_int(s, 7) != 0;
    op->had_read = db_int(s, 8) != 0;
    op->expired = db_int(s, 9) != 0;
    op->claimed = db_int(s, 10) != 0;
    op->unknown = db_int(s, 11) != 0;
    return ERR_OK;
}

// The device's claim ends. A device that fetched the message before it was queued gets its row here.
static enum err device_has_it(struct db *db, struct receipt *op) {
    static struct db_sql close = {
        .text = "update device_delivery set received_at = ?3, notified_at = coalesce(notified_at, ?4), open = 0 "
                "where mid = ?1 and did = ?2"};
    static struct db_sql early = {
        .text = "insert into device_delivery (mid, did, received_at, open) values (?1, ?2, ?3, 0)"};
    if (!op->claimed) return RUN(db, &early, op->mid, op->who.did, op->now);
    op->claims--;
    struct db_stmt *s = db_prepare(db, &close);
    db_bind_int(s, 1, op->mid);
    db_bind_int(s, 2, op->who.did);
    db_bind_int(s, 3, op->now);
    if (op->notified_at != 0) db_bind_int(s, 4, op->notified_at);
    return db_run(s);
}

static void push_fill(struct receipt *op, struct push *p, enum chat_entry_type type) {
    p->entry.mid = op->mid;
    p->entry.e.type = type;
    p->entry.e.message_id = op->message_id;
    p->entry.e.seq = op->seq;
    p->entry.e.at_ms = op->now;
    memcpy(p->entry.conversation_id, op->conversation_id, sizeof op->conversation_id);
    memcpy(p->entry.by_user_id, op->who.user_id, sizeof op->who.user_id);
}

// The sender's mailboxes and the event.
static enum err tell(struct db *db, struct receipt *op, enum chat_entry_type type, struct push *p,
                     const struct id *event_id, const char *topic) {
    push_fill(op, p, type);
    op->told = true;
    enum err err = push_to_user(db, p, op->sender, op->who.uid);
    if (err != ERR_OK) return err;
    char id[ID_TEXT];
    id_format(&op->message_id, id);
    return event_store(
        db, op->op.chat, event_id, topic, op->conversation_id, op->now,
        "\"message_id\":\"%s\",\"conversation_id\":\"%s\",\"seq\":%llu,\"by_user_id\":\"%s\",\"at\":%lld", id,
        op->conversation_id, (unsigned long long)op->seq, op->who.user_id, (long long)op->now);
}

static enum err user_has_it(struct db *db, struct receipt *op) {
    static struct db_sql update = {.text = "update delivery set received_at = ?3 where mid = ?1 and uid = ?2"};
    op->received_now = true;
    op->open--;
    enum err err = RUN(db, &update, op->mid, op->who.uid, op->now);
    if (err != ERR_OK || op->open > 0) return err;
    return tell(db, op, ENTRY_DELIVERED, &op->delivered_push, &op->delivered_event, "message_delivered");
}

static enum err settle(struct db *db, struct receipt *op) {
    static struct db_sql update = {.text = "update message set open = ?2, claims = ?3 where mid = ?1"};
    static struct db_sql finish = {.text = "update message set open = ?2, claims = ?3, deleted_at = ?4 where mid = ?1"};
    if (op->deleted || op->open > 0 || op->claims > 0) return RUN(db, &update, op->mid, op->open, op->claims);
    op->deleted_now = true;
    enum err err = RUN(db, &finish, op->mid, op->open, op->claims, op->now);
    if (err == ERR_OK) err = content_remove(db, op->mid, &op->gone);
    if (err == ERR_OK && op->gone.media_count == 0) crash_point("delete.before"); // a file: when it is removed
    return err;
}

// The device logged out before this came: the claim kept for the user's next device is over.
static enum err release_user(struct db *db, struct receipt *op) {
    static struct db_sql remove = {.text = "delete from device_delivery where mid = ?1 and did = -?2 and open = 1"};
    enum err err = RUN(db, &remove, op->mid, op->who.uid);
    if (err == ERR_OK) op->claims -= db_changes(db);
    return err;
}

static enum err receive(struct db *db, struct receipt *op) {
    enum err err = ERR_OK;
    bool first = !op->had && !op->expired;
    if (op->claimed || (op->unknown && !op->deleted)) err = device_has_it(db, op);
    if (err == ERR_OK && first && !op->claimed) err = release_user(db, op);
    if (err == ERR_OK && first) err = user_has_it(db, op);
    return err == ERR_OK && (first || op->claimed) ? settle(db, op) : err;
}

static enum err mark_read(struct db *db, struct receipt *op) {
    static struct db_sql update = {.text = "update delivery set read_at = ?3 where mid = ?1 and uid = ?2"};
    op->read_now = true;
    enum err err = RUN(db, &update, op->mid, op->who.uid, op->now);
    return err == ERR_OK ? tell(db, op, ENTRY_READ, &op->read_push, &op->read_event, "message_read") : err;
}

static enum err receipt_run(struct db *db, struct db_unit *u) {
    struct receipt *op = (struct receipt *)u;
    op->received_now = op->read_now = op->deleted_now = op->told = false; // of an earlier attempt
    push_clear(&op->delivered_push);
    push_clear(&op->read_push);
    gone_clear(&op->gone);
    enum err err = lock_sender(db, &op->message_id);
    if (err == ERR_OK) err = find(db, op);
    if (err == ERR_OK) err = receive(db, op);
    if (err == ERR_OK && op->read && !op->had_read && !op->expired) err = mark_read(db, op);
    if (err == ERR_OK) err = gone_settle(db, &op->gone);
    if (err == ERR_OK) err = push_tell(db, &op->delivered_push, op->op.server);
    if (err == ERR_OK) err = push_tell(db, &op->read_push, op->op.server);
    if (err == ERR_OK && op->received_now) crash_point("received.before_commit");
    if (err == ERR_OK && op->read_now) crash_point("read.before_commit");
    return err;
}

static void receipt_committed(struct chat *c, struct receipt *op) {
    if (op->received_now) {
        crash_point("received.committed");
        log_point("received", &op->message_id);
        c->stats.received++;
    }
    if (op->read_now) {
        crash_point("read.committed");
        log_point("read", &op->message_id);
        c->stats.read++;
    }
    if (op->deleted_now) {
        if (op->gone.n == 0) crash_point("delete.done");
        log_point("deleted", &op->message_id);
    }
    if (op->told) outbox_wake(c->outbox);
    gone_apply(c, &op->gone);
    push_out(c, &op->delivered_push);
    push_out(c, &op->read_push);
}

static void receipt_answer(struct op *base, enum err err) {
    struct receipt *op = (struct receipt *)base;
    if (err == ERR_OK) receipt_committed(base->chat, op);
    op->done(op->arg, op_error(base, err));
}

static void receipt_release(struct op *base) {
    struct receipt *op = (struct receipt *)base;
    push_release(&op->delivered_push);
    push_release(&op->read_push);
    gone_release(&op->gone);
}

static void receipt(struct chat *c, const struct chat_actor *who, const struct id *message_id, bool read,
                    chat_done_fn *done, void *arg) {
    struct receipt *op = op_new(c, sizeof *op, receipt_run, receipt_answer);
    op->op.unit.frees_space = true;
    op->op.release = receipt_release;
    op->who = *who;
    op->message_id = *message_id;
    op->delivered_event = id_new(c->io);
    if (read) op->read_event = id_new(c->io);
    op->read = read;
    op->now = chat_now(c);
    op->notified_at = notified_take(c, who->did, message_id);
    op->done = done;
    op->arg = arg;
    op_order(&op->op, message_id, sizeof *message_id);
    op_submit(&op->op);
}

void chat_received(struct chat *c, const struct chat_actor *who, const struct id *message_id, chat_done_fn *done,
                   void *arg) {
    receipt(c, who, message_id, false, done, arg);
}

void chat_read(struct chat *c, const struct chat_actor *who, const struct id *message_id, chat_done_fn *done,
               void *arg) {
    receipt(c, who, message_id, true, done, arg);
}
