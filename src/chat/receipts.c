// received and read (design.md 7, safe points 6 to 8).
//
// One transaction: the device has it; its user has it (the first device); everyone has it (the sender is told
// `delivered`); no live device has a claim any more (the content goes). Read implies received, and tells the sender
// `read` for each recipient. Repeating changes nothing and succeeds, also when the content is long gone.
//
// What the sender sees enters his mailbox in this transaction (docs/decisions/0004).
#include "chat/receipts.h"

#include "base/crash.h"
#include "chat/event.h"
#include "chat/locks.h"
#include "chat/notified.h"
#include "outbox/outbox.h"

#include <stdio.h>
#include <string.h>

void receipt_clear(struct receipt *op) {
    op->received_now = op->read_now = op->deleted_now = op->told = false;
    push_clear(&op->delivered_push);
    push_clear(&op->read_push);
    gone_clear(&op->gone);
}

void receipt_take(struct receipt *op, struct db_stmt *s, int at) {
    op->mid = db_int(s, at);
    op->sender = db_int(s, at + 1);
    op->open = db_int(s, at + 2);
    op->claims = db_int(s, at + 3);
    op->deleted = db_int(s, at + 4) != 0;
    op->seq = (uint64_t)db_int(s, at + 5);
    snprintf(op->conversation_id, sizeof op->conversation_id, "%s", db_text(s, at + 6, NULL));
    op->had = db_int(s, at + 7) != 0;
    op->had_read = db_int(s, at + 8) != 0;
    op->expired = db_int(s, at + 9) != 0;
    op->claimed = db_int(s, at + 10) != 0;
    op->unknown = db_int(s, at + 11) != 0;
    op->media = db_int(s, at + 12) != 0;
}

enum err receipt_unknown(struct receipt *op) {
    return error_set(&op->gathered.op.unit.error, ERR_NOT_FOUND, "no such message");
}

static enum err find(struct db *db, struct receipt *op) {
    static struct db_sql sql = {
        .text = "select " RECEIPT_COLUMNS " from message m "
                "join delivery x on x.mid = m.mid and x.uid = ?2 join conversation v on v.cid = m.cid "
                "left join device_delivery q on q.mid = m.mid and q.did = ?3 where m.message_id = ?1"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &sql);
    db_bind_id(s, 1, &op->message_id);
    db_bind_int(s, 2, op->who.uid);
    db_bind_int(s, 3, op->who.did);
    if (!row(s, &err)) return err != ERR_OK ? err : receipt_unknown(op);
    receipt_take(op, s, 0);
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

void receipt_tell(struct receipt *op, enum chat_entry_type type, struct events *events) {
    bool read = type == ENTRY_READ;
    struct push *p = read ? &op->read_push : &op->delivered_push;
    p->entry.mid = op->mid;
    p->entry.e.type = type;
    p->entry.e.message_id = op->message_id;
    p->entry.e.seq = op->seq;
    p->entry.e.at_ms = op->now;
    memcpy(p->entry.conversation_id, op->conversation_id, sizeof op->conversation_id);
    memcpy(p->entry.by_user_id, op->who.user_id, sizeof op->who.user_id);
    op->told = true;
    char id[ID_TEXT];
    id_format(&op->message_id, id);
    events_add(events, op->gathered.op.chat, read ? &op->read_event : &op->delivered_event,
               read ? "message_read" : "message_delivered", op->conversation_id,
               "\"message_id\":\"%s\",\"conversation_id\":\"%s\",\"seq\":%llu,\"by_user_id\":\"%s\",\"at\":%lld", id,
               op->conversation_id, (unsigned long long)op->seq, op->who.user_id, (long long)op->now);
}

// The sender's mailboxes and the event.
static enum err tell(struct db *db, struct receipt *op, enum chat_entry_type type) {
    struct events events = {0};
    receipt_tell(op, type, &events);
    enum err err = push_to_user(db, type == ENTRY_READ ? &op->read_push : &op->delivered_push, op->sender, op->who.uid);
    if (err == ERR_OK) return events_store(db, &events, op->now);
    events_free(&events);
    return err;
}

static enum err user_has_it(struct db *db, struct receipt *op) {
    static struct db_sql update = {.text = "update delivery set received_at = ?3 where mid = ?1 and uid = ?2"};
    op->received_now = true;
    op->open--;
    enum err err = RUN(db, &update, op->mid, op->who.uid, op->now);
    if (err != ERR_OK || op->open > 0) return err;
    return tell(db, op, ENTRY_DELIVERED);
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
    return err == ERR_OK ? tell(db, op, ENTRY_READ) : err;
}

static enum err receipt_run(struct db *db, struct db_unit *u) {
    struct receipt *op = (struct receipt *)u;
    receipt_clear(op); // of an earlier attempt
    enum err err = lock_sender(db, &op->message_id);
    if (err == ERR_OK) err = find(db, op);
    if (err == ERR_OK) err = receive(db, op);
    if (err == ERR_OK && op->read && !op->had_read && !op->expired) err = mark_read(db, op);
    if (err == ERR_OK) err = gone_settle(db, &op->gone);
    if (err == ERR_OK) err = push_tell(db, &op->delivered_push, op->gathered.op.server);
    if (err == ERR_OK) err = push_tell(db, &op->read_push, op->gathered.op.server);
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
    op->gathered.op.unit.frees_space = true;
    op->gathered.op.release = receipt_release;
    op->who = *who;
    op->message_id = *message_id;
    op->gathered.id = &op->message_id;
    op->delivered_event = id_new(c->io);
    if (read) op->read_event = id_new(c->io);
    op->read = read;
    op->now = chat_now(c);
    op->notified_at = notified_take(c, who->did, message_id);
    op->done = done;
    op->arg = arg;
    op_order(&op->gathered.op, message_id, sizeof *message_id);
    gather_add(c->receipts, &op->gathered);
}

void chat_received(struct chat *c, const struct chat_actor *who, const struct id *message_id, chat_done_fn *done,
                   void *arg) {
    receipt(c, who, message_id, false, done, arg);
}

void chat_read(struct chat *c, const struct chat_actor *who, const struct id *message_id, chat_done_fn *done,
               void *arg) {
    receipt(c, who, message_id, true, done, arg);
}
