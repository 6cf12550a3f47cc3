// The bus group "mailbox": a message that was published enters the mailboxes of its recipients' devices (design.md 7,
// safe points 3 and 4).
//
//   event ─> unit: inbox, an entry and a claim for every live device ─commit─> bus ack ─> links and polls
//                └─ failed: noted, and given back to the bus; after the last attempt parked there
//
// A full disk, a busy database or one that is away is nobody's failed attempt: the event is held here and tried again.
#include "chat/queueing.h"

#include "base/crash.h"
#include "base/log.h"
#include "bus/bus.h"
#include "chat/locks.h"
#include "outbox/outbox.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ATTEMPTS_MAX 3
#define PREFETCH     512
#define HELD_MS      500

struct queueing {
    struct chat *chat;
    struct bus_subscription *subscription;
    struct list held;
    struct loop_timer timer;
};

// ---- the unit -------------------------------------------------------------------------------------------

void queueing_take(struct queue_op *op, struct db_stmt *s, int at) {
    struct entry *out = &op->push.entry;
    out->mid = db_int(s, at);
    out->e = (struct chat_entry){.type = ENTRY_MESSAGE,
                                 .message_id = op->message_id,
                                 .seq = (uint64_t)db_int(s, at + 1),
                                 .kind = (enum chat_kind)db_int(s, at + 2),
                                 .bytes = (uint64_t)db_int(s, at + 3),
                                 .at_ms = db_int(s, at + 4)};
    op->deleted = db_int(s, at + 5) != 0;
    op->sender = db_int(s, at + 6);
    snprintf(out->conversation_id, sizeof out->conversation_id, "%s", db_text(s, at + 7, NULL));
    snprintf(out->by_user_id, sizeof out->by_user_id, "%s", db_text(s, at + 8, NULL));
}

static enum err find_message(struct db *db, struct queue_op *op) {
    static struct db_sql find = {.text =
                                     "select " QUEUEING_COLUMNS " from message m join conversation v on v.cid = m.cid "
                                     "join account a on a.uid = m.sender_uid where m.message_id = ?1"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_id(s, 1, &op->message_id);
    if (row(s, &err)) queueing_take(op, s, 0);
    else op->unknown = true;
    return err;
}

static void add_user(struct queue_op *op, int64_t uid, int64_t did) {
    op->users = chat_room(op->users, op->n, &op->cap, sizeof *op->users);
    op->users[op->n++] = (struct target_user){.uid = uid, .did = did};
}

static enum err find_users(struct db *db, struct queue_op *op) {
    static struct db_sql find = {
        .text = "select x.uid, d.did from delivery x left join device d on d.uid = x.uid and "
                "d.token_hash is not null where x.mid = ?1 and x.expired_at is null order by x.uid, d.did"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_int(s, 1, op->push.entry.mid);
    while (row(s, &err)) add_user(op, db_int(s, 0), db_int(s, 1));
    return err;
}

static enum err claim(struct db *db, struct queue_op *op, int64_t did, bool queued, bool *fresh) {
    static struct db_sql insert = {.text = "insert into device_delivery (mid, did, queued_at, open) "
                                           "values (?1, ?2, ?3, 1) on conflict (mid, did) do nothing"};
    struct db_stmt *s = db_prepare(db, &insert);
    db_bind_int(s, 1, op->push.entry.mid);
    db_bind_int(s, 2, did);
    if (queued) db_bind_int(s, 3, op->now);
    enum err err = db_run(s);
    *fresh = err == ERR_OK && db_changes(db) > 0;
    if (*fresh) op->claims++;
    return err;
}

// A device that has fetched the message already has its row, and needs no entry.
static enum err queue_for(struct db *db, struct queue_op *op, const struct target_user *user) {
    bool fresh;
    if (user->did == 0) return claim(db, op, -user->uid, false, &fresh);
    enum err err = claim(db, op, user->did, true, &fresh);
    return err == ERR_OK && fresh ? push_to(db, &op->push, user->did, op->sender) : err;
}

// All of it at once: the devices locked in their order, an entry and a claim for each that has no row yet; a row for
// each user without any.
static enum err queue_all_at_once(struct db *db, struct queue_op *op) {
    static struct db_sql queue = {
        .text = "with t as materialized (select d.did from delivery x join device d on d.uid = x.uid "
                "where x.mid = ?1 and x.expired_at is null and d.token_hash is not null and not exists "
                "(select 1 from device_delivery q where q.mid = ?1 and q.did = d.did) "
                "order by d.did for no key update of d), "
                "a as (update device d set last_cursor = d.last_cursor + 1 from t where d.did = t.did "
                "returning d.did, d.last_cursor, d.home, d.poll_home), "
                "b as (insert into mailbox (did, cursor, type, mid, by_uid, at) "
                "select did, last_cursor, 0, ?1, ?2, ?3 from a), "
                "c as (insert into device_delivery (mid, did, queued_at, open) select ?1, did, ?4, 1 from a), "
                "n as (insert into device_delivery (mid, did, open) select ?1, -x.uid, 1 from delivery x "
                "where x.mid = ?1 and x.expired_at is null and not exists "
                "(select 1 from device d where d.uid = x.uid and d.token_hash is not null) "
                "on conflict (mid, did) do nothing returning did), "
                "m as (update message set claims = claims + (select count(*) from a) + (select count(*) from n), "
                "published_at = coalesce(published_at, ?5) where mid = ?1) "
                "select did, last_cursor, home, poll_home from a"};
    struct db_stmt *s = db_prepare(db, &queue);
    db_bind_int(s, 1, op->push.entry.mid);
    db_bind_int(s, 2, op->sender);
    db_bind_int(s, 3, op->push.entry.e.at_ms);
    db_bind_int(s, 4, op->now);
    db_bind_int(s, 5, op->published_at);
    return push_take(&op->push, s);
}

static enum err queue_all(struct db *db, struct queue_op *op) {
    static struct db_sql update = {.text = "update message set claims = claims + ?2, "
                                           "published_at = coalesce(published_at, ?3) where mid = ?1"};
    if (db_kind(db) == DATABASE_POSTGRES && !op->deleted) return queue_all_at_once(db, op);
    enum err err = op->deleted ? ERR_OK : find_users(db, op);
    for (size_t i = 0; i < op->n && err == ERR_OK; i++) err = queue_for(db, op, &op->users[i]);
    return err == ERR_OK ? RUN(db, &update, op->push.entry.mid, op->claims, op->published_at) : err;
}

void queueing_clear(struct queue_op *op) {
    op->n = 0;
    op->claims = 0;
    op->unknown = op->fresh = false;
    push_clear(&op->push);
}

static enum err queue_run(struct db *db, struct db_unit *u) {
    struct queue_op *op = (struct queue_op *)u;
    queueing_clear(op);                                  // of an earlier attempt
    enum err err = lock_recipients(db, &op->message_id); // before the inbox, as in a batch: never in a circle
    if (err == ERR_OK) err = inbox_accept(db, QUEUEING_GROUP, &op->message_id, op->now, &op->fresh);
    if (err != ERR_OK || !op->fresh) return err;
    err = find_message(db, op);
    if (err == ERR_OK && !op->unknown) err = queue_all(db, op);
    if (err == ERR_OK) err = push_tell(db, &op->push, op->gathered.op.server);
    if (err == ERR_OK) crash_point("queue.before_commit");
    return err;
}

// ---- what did not work ----------------------------------------------------------------------------------

static enum err note_run(struct db *db, struct db_unit *u) {
    static struct db_sql insert = {.text = "insert into journey_note (mid, point, at, detail) "
                                           "select mid, ?2, ?3, ?4 from message where message_id = ?1"};
    struct queue_op *op = (struct queue_op *)u;
    struct db_stmt *s = db_prepare(db, &insert);
    db_bind_id(s, 1, &op->message_id);
    db_bind_text(s, 2, op->attempt >= ATTEMPTS_MAX ? "parked" : "retried");
    db_bind_int(s, 3, op->now);
    db_bind_text(s, 4, op->reason);
    return db_run(s);
}

static void note_answer(struct op *base, enum err err) {
    struct queue_op *op = (struct queue_op *)base;
    bool last = op->attempt >= ATTEMPTS_MAX;
    char id[ID_TEXT];
    id_format(&op->message_id, id);
    log_event(LOG_WARN, last ? "parked" : "retried", "message_id", id, "reason", op->reason, NULL);
    bus_settle(base->chat->queueing->subscription, op->tag, last ? BUS_PARK : BUS_RETRY, op->reason);
}

static void queue_failed(struct queue_op *op, enum err err) {
    struct queueing *q = op->gathered.op.chat->queueing;
    op_hold(&op->gathered.op);
    if (chat_transient(err)) {
        list_push_back(&q->held, &op->node);
        if (!loop_timer_active(&q->timer)) loop_timer_start(q->chat->loop, &q->timer, HELD_MS);
        return;
    }
    snprintf(op->reason, sizeof op->reason, "%s", op_error(&op->gathered.op, err)->text);
    op->gathered.op.unit.run = note_run;
    op->gathered.op.answer = note_answer;
    op_submit(&op->gathered.op);
}

static void queue_answer(struct op *base, enum err err) {
    struct queue_op *op = (struct queue_op *)base;
    struct chat *c = base->chat;
    if (err != ERR_OK) {
        queue_failed(op, err);
        return;
    }
    crash_point("queue.committed");
    bus_settle(c->queueing->subscription, op->tag, BUS_ACK, NULL);
    crash_point("queue.acked");
    if (op->unknown) log_point("event_unknown", &op->message_id);
    if (!op->fresh || op->unknown) return;
    c->stats.queued++;
    log_point("queued", &op->message_id);
    push_out(c, &op->push);
}

static void queue_release(struct op *base) {
    struct queue_op *op = (struct queue_op *)base;
    push_release(&op->push);
    free(op->users);
}

static void try_held(struct loop_timer *t) {
    struct queueing *q = LIST_ITEM(t, struct queueing, timer);
    struct list_node *at;
    struct list again;
    list_init(&again);
    while ((at = list_pop_front(&q->held)) != NULL) list_push_back(&again, at);
    while ((at = list_pop_front(&again)) != NULL)
        gather_add(q->chat->queues, &LIST_ITEM(at, struct queue_op, node)->gathered);
}

// ---- from the bus ---------------------------------------------------------------------------------------

static void deliver(void *arg, const struct bus_delivery *d) {
    struct chat *c = arg;
    struct queue_op *op = op_new(c, sizeof *op, queue_run, queue_answer);
    op->gathered.op.release = queue_release;
    op->gathered.op.unit.frees_space = true; // it was accepted: only its delivery makes room again
    op->tag = d->tag;
    op->attempt = d->attempt;
    op->message_id = d->event.event_id; // accept.c: the event's id is the message's
    op->gathered.id = &op->message_id;
    op->now = chat_now(c);
    op->published_at = d->published_at_ms > 0 ? d->published_at_ms : op->now;
    if (d->attempt <= 1) c->stats.published++;
    if (d->event.key != NULL) op_order(&op->gathered.op, d->event.key, strlen(d->event.key));
    gather_add(c->queues, &op->gathered);
}

enum err queueing_start(struct chat *c, struct error *e) {
    struct queueing *q = chat_alloc(sizeof *q);
    c->queueing = q;
    q->chat = c;
    list_init(&q->held);
    q->timer.fn = try_held;
    // Not one event of a conversation at a time: the units run in the order in which they are submitted, share their
    // commits, and a retried message carries its seq.
    char group[CHAT_TOPIC], topic[CHAT_TOPIC];
    snprintf(group, sizeof group, "%s" QUEUEING_GROUP, c->o.bus_prefix);
    snprintf(topic, sizeof topic, "%smessage_send", c->o.bus_prefix);
    struct bus_subscribe_options o = {
        .group = group, .pattern = topic, .prefetch = PREFETCH, .max_attempts = ATTEMPTS_MAX, .unordered = true};
    return bus_subscribe(c->o.bus, &o, deliver, c, &q->subscription, e);
}

void queueing_stop(struct chat *c) {
    struct queueing *q = c->queueing;
    if (q == NULL) return;
    c->queueing = NULL;
    loop_timer_stop(c->loop, &q->timer);
    if (q->subscription != NULL) bus_unsubscribe(q->subscription); // what is held goes back
    struct list_node *at;
    while ((at = list_pop_front(&q->held)) != NULL) op_drop(&LIST_ITEM(at, struct queue_op, node)->gathered.op);
    free(q);
}
