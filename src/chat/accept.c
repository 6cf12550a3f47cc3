// Accepting a message (design.md 7, safe point 2). One transaction:
//
//   is the conversation the caller's? ─> message row, or: it is there already ─> the original answer, or a conflict
//     ─> seq, deliveries to the members of this moment, content, the event message_send
//
// The id is unique by the database's constraint, in this transaction: of a hundred attempts at once one inserts and
// the others find it. What the request asked for is kept as a digest, so that a repetition is known as one when the
// content is long gone.
#include "chat/accept.h"

#include "base/crash.h"
#include "base/utf8.h"
#include "outbox/outbox.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

enum err accept_unknown(struct accept *op) {
    return error_set(&op->gathered.op.unit.error, ERR_NOT_FOUND, "no such conversation");
}

// Its counter is this unit's until the commit; who its members are never changes.
static enum err find_conversation(struct db *db, struct accept *op) {
    static struct db_sql find = {.text = "select v.cid, v.last_seq, v.member_count from conversation v "
                                         "join member x on x.cid = v.cid and x.uid = ?2 where v.conversation_id = ?1",
                                 .postgres =
                                     "select v.cid, v.last_seq, v.member_count from conversation v "
                                     "join member x on x.cid = v.cid and x.uid = ?2 where v.conversation_id = ?1 "
                                     "for no key update of v"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_text(s, 1, op->conversation_id);
    db_bind_int(s, 2, op->who.uid);
    if (!row(s, &err)) return err != ERR_OK ? err : accept_unknown(op);
    op->cid = db_int(s, 0);
    op->seq = (uint64_t)db_int(s, 1) + 1;
    op->members = db_int(s, 2);
    return ERR_OK;
}

// mid stays 0 when the id is taken.
static enum err insert_message(struct db *db, struct accept *op) {
    static struct db_sql insert = {
        .text = "insert into message (message_id, cid, seq, sender_uid, sender_did, kind, bytes, digest, created_at, "
                "accepted_at, open) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) "
                "on conflict (message_id) do nothing returning mid"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &insert);
    db_bind_id(s, 1, &op->message_id);
    db_bind_int(s, 2, op->cid);
    db_bind_int(s, 3, (int64_t)op->seq);
    db_bind_int(s, 4, op->who.uid);
    db_bind_int(s, 5, op->who.did);
    db_bind_int(s, 6, op->media ? CHAT_MEDIA : CHAT_TEXT);
    db_bind_int(s, 7, (int64_t)op->bytes);
    db_bind_blob(s, 8, op->digest, sizeof op->digest);
    if (op->created_at != 0) db_bind_int(s, 9, op->created_at);
    db_bind_int(s, 10, op->now);
    db_bind_int(s, 11, op->members - 1);
    if (row(s, &err)) op->mid = db_int(s, 0);
    while (err == ERR_OK && op->mid != 0 && row(s, &err)) {
    }
    return err;
}

// ---- seen before ----------------------------------------------------------------------------------------

// The same content uploaded again has another ticket, and is still the same.
static enum err same_media(struct db *db, const struct accept *op, int64_t mid, bool *yes) {
    static struct db_sql find = {.text = "select 1 from ticket t join message m on m.media_hash = t.hash "
                                         "where t.ticket_hash = ?1 and t.uid = ?2 and m.mid = ?3"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_blob(s, 1, op->ticket_hash, sizeof op->ticket_hash);
    db_bind_int(s, 2, op->who.uid);
    db_bind_int(s, 3, mid);
    *yes = row(s, &err);
    return err;
}

static enum err answer_again(struct db *db, struct accept *op) {
    static struct db_sql find = {
        .text = "select mid, cid, seq, sender_uid, accepted_at, digest from message where message_id = ?1"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_id(s, 1, &op->message_id);
    if (!row(s, &err)) return err != ERR_OK ? err : ERR_DATABASE;
    size_t n;
    const void *digest = db_blob(s, 5, &n);
    bool ours = db_int(s, 3) == op->who.uid && db_int(s, 1) == op->cid;
    bool same = n == ACCEPT_DIGEST && memcmp(digest, op->digest, ACCEPT_DIGEST) == 0;
    int64_t mid = db_int(s, 0);
    op->seq = (uint64_t)db_int(s, 2);
    op->accepted_at = db_int(s, 4);
    op->duplicate = true;
    if (ours && !same && op->media) err = same_media(db, op, mid, &same);
    if (err != ERR_OK || (ours && same)) return err;
    return error_set(db_error(db), ERR_CONFLICT, "the message id was used for another message");
}

// ---- content --------------------------------------------------------------------------------------------

static enum err insert_content(struct db *db, const struct accept *op) {
    static struct db_sql insert = {.text = "insert into content (mid, text) values (?1, ?2)"};
    struct db_stmt *s = db_prepare(db, &insert);
    db_bind_int(s, 1, op->mid);
    if (!op->media) db_bind_blob(s, 2, op->text, op->text_length);
    return db_run(s);
}

// The ticket is used up, and its reference to the content becomes the message's.
static enum err take_ticket(struct db *db, struct accept *op) {
    static struct db_sql use = {.text = "delete from ticket where ticket_hash = ?1 and uid = ?2 and expires_at > ?3 "
                                        "returning hash, bytes, media_type, filename"};
    static struct db_sql update = {.text = "update message set media_hash = ?2, bytes = ?3, media_type = ?4, "
                                           "filename = ?5 where mid = ?1"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &use);
    db_bind_blob(s, 1, op->ticket_hash, sizeof op->ticket_hash);
    db_bind_int(s, 2, op->who.uid);
    db_bind_int(s, 3, op->now);
    if (!row(s, &err)) return err != ERR_OK ? err : error_field(db_error(db), "media", "is not a ticket of yours");
    op->bytes = (uint64_t)db_int(s, 1);
    struct db_stmt *m = db_prepare(db, &update);
    db_bind_int(m, 1, op->mid);
    size_t n;
    const void *hash = db_blob(s, 0, &n);
    db_bind_blob(m, 2, hash, n);
    db_bind_int(m, 3, (int64_t)op->bytes);
    db_bind_text(m, 4, db_text(s, 2, NULL));
    db_bind_text(m, 5, db_text(s, 3, NULL));
    err = db_run(m);
    while (err == ERR_OK && row(s, &err)) {
    }
    return err;
}

// ---- the unit -------------------------------------------------------------------------------------------

void accept_event(const struct accept *op, struct events *events) {
    char id[ID_TEXT];
    id_format(&op->message_id, id);
    // The message's id is the event's: whoever sees it twice can tell.
    events_add(events, op->gathered.op.chat, &op->message_id, "message_send", op->conversation_id,
               "\"message_id\":\"%s\",\"conversation_id\":\"%s\",\"seq\":%llu,\"by_user_id\":\"%s\","
               "\"kind\":\"%s\",\"bytes\":%llu,\"accepted_at\":%lld",
               id, op->conversation_id, (unsigned long long)op->seq, op->who.user_id, op->media ? "media" : "text",
               (unsigned long long)op->bytes, (long long)op->now);
}

static enum err store_event(struct db *db, const struct accept *op) {
    struct events events = {0};
    accept_event(op, &events);
    return events_store(db, &events, op->now);
}

static enum err accept_run(struct db *db, struct db_unit *u) {
    static struct db_sql count = {.text = "update conversation set last_seq = ?2 where cid = ?1"};
    static struct db_sql deliveries = {
        .text = "insert into delivery (mid, uid) select ?1, uid from member where cid = ?2 and uid <> ?3"};
    struct accept *op = (struct accept *)u;
    op->mid = 0;
    op->duplicate = false;
    gone_clear(&op->gone);
    enum err err = find_conversation(db, op);
    if (err == ERR_OK) err = insert_message(db, op);
    if (err != ERR_OK) return err;
    if (op->mid == 0) return answer_again(db, op);
    op->accepted_at = op->now;
    if (op->media) err = take_ticket(db, op);
    if (err == ERR_OK) err = RUN(db, &count, op->cid, (int64_t)op->seq);
    if (err == ERR_OK) err = insert_content(db, op);
    if (err == ERR_OK) err = RUN(db, &deliveries, op->mid, op->cid, op->who.uid);
    if (err == ERR_OK && op->members == 1) err = content_drop(db, op->mid, op->now, &op->gone); // nobody to wait for
    if (err == ERR_OK) err = store_event(db, op);
    if (err == ERR_OK) err = gone_settle(db, &op->gone);
    if (err == ERR_OK) crash_point("accept.before_commit");
    return err;
}

static void count_answer(struct chat_stats *stats, const struct accept *op, enum err err) {
    bool ours = chat_transient(err) || err == ERR_IO || err == ERR_DATABASE || err == ERR_CLOSED;
    if (err != ERR_OK) stats->rejected += ours ? 0 : 1;
    else if (op->duplicate) stats->duplicates++;
    else stats->accepted++;
}

static void accept_answer(struct op *base, enum err err) {
    struct accept *op = (struct accept *)base;
    struct chat *c = base->chat;
    count_answer(&c->stats, op, err);
    if (err == ERR_OK && !op->duplicate) {
        crash_point("accept.committed");
        log_point("accepted", &op->message_id);
        outbox_wake(c->outbox);
        gone_apply(c, &op->gone);
    }
    struct chat_accepted accepted = {.message_id = op->message_id,
                                     .conversation_id = op->conversation_id,
                                     .seq = op->seq,
                                     .accepted_at_ms = op->accepted_at,
                                     .duplicate = op->duplicate};
    op->done(op->arg, op_error(base, err), err == ERR_OK ? &accepted : NULL);
}

static void accept_release(struct op *base) { gone_release(&((struct accept *)base)->gone); }

// ---- the request ----------------------------------------------------------------------------------------

static enum err check_content(struct accept *op, const struct chat_send *m) {
    struct error *e = &op->gathered.op.unit.error;
    bool text = m->text != NULL && m->text_length > 0;
    if (m->ticket != NULL) {
        if (text) return error_field(e, "media", "cannot be sent together with message_text");
        op->media = true;
        if (!secret_hash(m->ticket, strlen(m->ticket), op->ticket_hash))
            return error_field(e, "media", "is not a ticket of yours");
        return ERR_OK;
    }
    if (!text) return error_field(e, "message_text", "must not be empty");
    if (m->text_length > CHAT_TEXT_MAX)
        return error_set(e, ERR_TOO_LARGE, "message_text must be at most %d bytes", CHAT_TEXT_MAX);
    if (!utf8_valid(m->text, m->text_length)) return error_field(e, "message_text", "must be UTF-8");
    return ERR_OK;
}

static enum err check(struct accept *op, const struct chat_actor *who, const struct chat_send *m) {
    struct error *e = &op->gathered.op.unit.error;
    if (m->by_user_id == NULL || m->by_user_id[0] == '\0') return error_field(e, "by_user_id", "must be set");
    if (strcmp(m->by_user_id, who->user_id) != 0) return error_field(e, "by_user_id", "must be the caller");
    enum err err = check_content(op, m);
    if (err != ERR_OK) return err;
    if (m->conversation_id == NULL || !name_valid(m->conversation_id, strlen(m->conversation_id)))
        return error_set(e, ERR_NOT_FOUND, "no such conversation");
    return ERR_OK;
}

static void digest(struct accept *op) {
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, ACCEPT_DIGEST);
    crypto_generichash_update(&state, (const unsigned char *)(op->media ? "m" : "t"), 1);
    if (op->media) crypto_generichash_update(&state, op->ticket_hash, sizeof op->ticket_hash);
    else crypto_generichash_update(&state, (const unsigned char *)op->text, op->text_length);
    crypto_generichash_final(&state, op->digest, ACCEPT_DIGEST);
}

void chat_send(struct chat *c, const struct chat_actor *who, const struct chat_send *m, chat_accepted_fn *done,
               void *arg) {
    size_t n = m->ticket == NULL && m->text != NULL && m->text_length <= CHAT_TEXT_MAX ? m->text_length : 0;
    struct accept *op = op_new(c, sizeof *op + n, accept_run, accept_answer);
    op->gathered.op.release = accept_release;
    op->done = done;
    op->arg = arg;
    enum err err = check(op, who, m);
    if (err != ERR_OK) {
        op_finish(&op->gathered.op, err);
        return;
    }
    op->who = *who;
    op->message_id = m->message_id;
    op->gathered.id = &op->message_id;
    op->gathered.single = op->media;
    snprintf(op->conversation_id, sizeof op->conversation_id, "%s", m->conversation_id);
    op->created_at = m->created_at_ms;
    op->now = chat_now(c);
    op->text_length = op->bytes = n;
    if (n > 0) memcpy(op->text, m->text, n);
    digest(op);
    op_order(&op->gathered.op, op->conversation_id, strlen(op->conversation_id));
    gather_add(c->sends, &op->gathered);
}
