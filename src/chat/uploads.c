// Uploading media: quota, stream to the data store, ticket.
//
//   open (quota) ─ write* ─ finish: the gate of removal.h ─> file durable ─> unit: ticket and reference ─> answer
//                     └─ abort
//
// The file is there before anything refers to it; when the process dies in between, the sweep finds it.
#include "chat/media_name.h"
#include "chat/removal.h"
#include "chat/token_cache.h"
#include "datastore/datastore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UPLOADS_MAX 8 // at once, a user
#define TICKET_MS   CHAT_DAY_MS

enum upload_state { UPLOAD_OPEN, UPLOAD_WAITING, UPLOAD_FINISHING, UPLOAD_STORING };

struct chat_upload {
    struct chat *chat;
    struct list_node node;
    enum upload_state state;
    bool aborted;
    int64_t uid;
    char media_type[MEDIA_TYPE_MAX + 1], filename[MEDIA_NAME_MAX + 1];
    uint64_t expected, written, writing;
    struct ds_writer *writer;
    struct finishing gate;
    chat_done_fn *write_done;
    chat_ticket_fn *done;
    void *arg;
};

static void upload_free(struct chat_upload *u) {
    list_remove(&u->node);
    free(u);
}

static const struct error *error_of(struct error *e, enum err err) {
    if (err == ERR_OK) return NULL;
    error_set(e, err, "%s", err_text(err));
    return e;
}

// ---- opening --------------------------------------------------------------------------------------------

struct open_op {
    struct op op;
    int64_t uid;
    uint64_t expected, held;
    char media_type[MEDIA_TYPE_MAX + 1], filename[MEDIA_NAME_MAX + 1];
    chat_upload_opened_fn *done;
    void *arg;
};

static enum err open_run(struct db *db, struct db_unit *unit) {
    static struct db_sql find = {.text = "select held_bytes from account where uid = ?1",
                                 .postgres = "select coalesce(q.held_bytes, 0) from account a "
                                             "left join quota q on q.uid = a.uid where a.uid = ?1"};
    struct open_op *op = (struct open_op *)unit;
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_int(s, 1, op->uid);
    if (!row(s, &err)) return err != ERR_OK ? err : ERR_UNAUTHORIZED;
    op->held = (uint64_t)db_int(s, 0);
    return ERR_OK;
}

static uint64_t under_way(struct chat *c, int64_t uid, uint32_t *count) {
    uint64_t bytes = 0;
    LIST_EACH(&c->uploads, at) {
        struct chat_upload *u = LIST_ITEM(at, struct chat_upload, node);
        if (u->uid != uid) continue;
        bytes += u->expected > u->written ? u->expected : u->written;
        (*count)++;
    }
    return bytes;
}

static enum err upload_make(struct open_op *op, struct chat_upload **out) {
    struct chat *c = op->op.chat;
    uint32_t count = 0;
    uint64_t used = op->held + under_way(c, op->uid, &count), quota = c->o.upload_quota_bytes;
    if (count >= UPLOADS_MAX) return error_set(&op->op.unit.error, ERR_LIMIT, "too many uploads at once");
    if (used >= quota || op->expected > quota - used)
        return error_set(&op->op.unit.error, ERR_LIMIT, "the upload quota is used up until something is delivered");
    uint64_t max = quota - used < c->o.upload_max_bytes ? quota - used : c->o.upload_max_bytes;
    struct ds_writer *writer;
    enum err err = ds_writer_new(c->o.datastore, max, &writer);
    if (err != ERR_OK) return err;
    struct chat_upload *u = chat_alloc(sizeof *u);
    u->chat = c;
    u->uid = op->uid;
    u->expected = op->expected;
    u->writer = writer;
    memcpy(u->media_type, op->media_type, sizeof u->media_type);
    memcpy(u->filename, op->filename, sizeof u->filename);
    list_push_back(&c->uploads, &u->node);
    *out = u;
    return ERR_OK;
}

static void open_answer(struct op *base, enum err err) {
    struct open_op *op = (struct open_op *)base;
    struct chat_upload *u = NULL;
    if (err == ERR_OK) err = upload_make(op, &u);
    op->done(op->arg, op_error(base, err), u);
}

void chat_upload_open(struct chat *c, const struct chat_actor *who, const char *media_type, const char *filename,
                      uint64_t expected_bytes, chat_upload_opened_fn *done, void *arg) {
    struct open_op *op = op_new(c, sizeof *op, open_run, open_answer);
    struct error *e = &op->op.unit.error;
    op->op.unit.read_only = true;
    op->uid = who->uid;
    op->expected = expected_bytes;
    op->done = done;
    op->arg = arg;
    if (media_type == NULL || media_type[0] == '\0') media_type = "application/octet-stream";
    if (!media_type_valid(media_type)) {
        op_finish(&op->op, error_field(e, "content_type", "must be a media type"));
        return;
    }
    if (expected_bytes > c->o.upload_max_bytes) {
        op_finish(&op->op, error_set(e, ERR_TOO_LARGE, "media must be at most %llu bytes",
                                     (unsigned long long)c->o.upload_max_bytes));
        return;
    }
    snprintf(op->media_type, sizeof op->media_type, "%s", media_type);
    media_name_clean(filename, op->filename);
    op_submit(&op->op);
}

// ---- writing --------------------------------------------------------------------------------------------

static void written(void *arg, enum err err) {
    struct chat_upload *u = arg;
    struct error e = {0};
    if (err == ERR_OK) u->written += u->writing;
    u->write_done(u->arg, error_of(&e, err));
}

void chat_upload_write(struct chat_upload *u, const void *data, size_t n, chat_done_fn *done, void *arg) {
    ASSERT(u->state == UPLOAD_OPEN);
    u->write_done = done;
    u->arg = arg;
    u->writing = n;
    ds_writer_write(u->writer, data, n, written, u);
}

// ---- finishing ------------------------------------------------------------------------------------------

struct ticket_op {
    struct op op;
    struct chat_upload *upload;
    int64_t uid, expires_at;
    uint64_t bytes, quota;
    bool in_database;
    uint8_t hash[CHAT_HASH], ticket_hash[CHAT_HASH];
    char ticket[CHAT_TOKEN_TEXT];
    char media_type[MEDIA_TYPE_MAX + 1], filename[MEDIA_NAME_MAX + 1];
};

static enum err ticket_insert(struct db *db, const struct ticket_op *op) {
    static struct db_sql insert = {
        .text = "insert into ticket (ticket_hash, uid, hash, bytes, media_type, filename, expires_at) "
                "values (?1, ?2, ?3, ?4, ?5, ?6, ?7)"};
    struct db_stmt *s = db_prepare(db, &insert);
    db_bind_blob(s, 1, op->ticket_hash, sizeof op->ticket_hash);
    db_bind_int(s, 2, op->uid);
    db_bind_blob(s, 3, op->hash, sizeof op->hash);
    db_bind_int(s, 4, (int64_t)op->bytes);
    db_bind_text(s, 5, op->media_type);
    db_bind_text(s, 6, op->filename[0] != '\0' ? op->filename : NULL);
    db_bind_int(s, 7, op->expires_at);
    return db_run(s);
}

// The content comes first and the quota last (locks.h); when it is used up everything before it is taken back.
static enum err ticket_run(struct db *db, struct db_unit *unit) {
    static struct db_sql hold = {
        .text = "update account set held_bytes = held_bytes + ?2 where uid = ?1 and held_bytes + ?2 <= ?3",
        .postgres = "insert into quota (uid, held_bytes) select ?1, ?2 where ?2 <= ?3 on conflict (uid) do update "
                    "set held_bytes = quota.held_bytes + ?2 where quota.held_bytes + ?2 <= ?3"};
    static struct db_sql refer = {.text = "insert into media (hash, bytes, refs) values (?1, ?2, 1) "
                                          "on conflict (hash) do update set refs = media.refs + 1"};
    struct ticket_op *op = (struct ticket_op *)unit;
    enum err err = op->in_database ? datastore_own(db, op->hash) : ERR_OK;
    if (err != ERR_OK) return err;
    struct db_stmt *s = db_prepare(db, &refer);
    db_bind_blob(s, 1, op->hash, sizeof op->hash);
    db_bind_int(s, 2, (int64_t)op->bytes);
    err = db_run(s);
    if (err == ERR_OK) err = ticket_insert(db, op);
    if (err == ERR_OK) err = RUN(db, &hold, op->uid, (int64_t)op->bytes, (int64_t)op->quota);
    if (err == ERR_OK && db_changes(db) == 0)
        return error_set(db_error(db), ERR_LIMIT, "the upload quota is used up until something is delivered");
    return err;
}

static void upload_answer(struct chat_upload *u, const struct error *error, const struct chat_ticket *ok) {
    chat_ticket_fn *done = u->done;
    void *arg = u->arg;
    bool aborted = u->aborted;
    upload_free(u);
    if (!aborted) done(arg, error, ok);
}

static void ticket_answer(struct op *base, enum err err) {
    struct ticket_op *op = (struct ticket_op *)base;
    if (err != ERR_OK) removal_add_upload(base->chat, op->hash);
    finishing_leave(base->chat);
    struct chat_ticket ticket = {.ticket = op->ticket,
                                 .media_type = op->media_type,
                                 .filename = op->filename[0] != '\0' ? op->filename : NULL,
                                 .bytes = op->bytes};
    memcpy(ticket.sha256, op->hash, sizeof ticket.sha256);
    struct chat_upload *u = op->upload;
    op->upload = NULL;
    upload_answer(u, op_error(base, err), err == ERR_OK ? &ticket : NULL);
}

static void ticket_release(struct op *base) {
    struct ticket_op *op = (struct ticket_op *)base;
    if (op->upload != NULL) upload_free(op->upload);
}

static void ticket_store(struct chat_upload *u, const uint8_t hash[DATASTORE_HASH], uint64_t bytes) {
    struct chat *c = u->chat;
    struct ticket_op *op = op_new(c, sizeof *op, ticket_run, ticket_answer);
    op->op.release = ticket_release;
    op->upload = u;
    u->state = UPLOAD_STORING;
    op->uid = u->uid;
    op->expires_at = chat_now(c) + TICKET_MS;
    op->bytes = bytes;
    op->quota = c->o.upload_quota_bytes;
    op->in_database = datastore_in_database(c->o.datastore);
    memcpy(op->hash, hash, sizeof op->hash);
    memcpy(op->media_type, u->media_type, sizeof op->media_type);
    memcpy(op->filename, u->filename, sizeof op->filename);
    secret_new(op->ticket, op->ticket_hash);
    op_submit(&op->op);
}

static void finished(void *arg, enum err err, const uint8_t hash[DATASTORE_HASH], uint64_t bytes) {
    struct chat_upload *u = arg;
    struct chat *c = u->chat;
    struct error e = {0};
    if (err == ERR_OK && !u->aborted) {
        ticket_store(u, hash, bytes);
    } else {
        if (err == ERR_OK) removal_add_upload(c, hash);
        finishing_leave(c);
        upload_answer(u, error_of(&e, err), NULL);
    }
}

static void gate_open(struct finishing *f) {
    struct chat_upload *u = LIST_ITEM(f, struct chat_upload, gate);
    u->state = UPLOAD_FINISHING;
    ds_writer_finish(u->writer, finished, u);
}

void chat_upload_finish(struct chat_upload *u, chat_ticket_fn *done, void *arg) {
    ASSERT(u->state == UPLOAD_OPEN);
    u->state = UPLOAD_WAITING;
    u->done = done;
    u->arg = arg;
    u->gate.go = gate_open;
    finishing_enter(u->chat, &u->gate);
}

void chat_upload_abort(struct chat_upload *u) {
    if (u->state == UPLOAD_FINISHING || u->state == UPLOAD_STORING) {
        u->aborted = true; // what it stored is nobody's, or a ticket nobody knows, which expires
        return;
    }
    finishing_cancel(&u->gate);
    ds_writer_abort(u->writer);
    upload_free(u);
}

// The data store calls nobody back any more; what is being written down frees itself.
void uploads_stop(struct chat *c) {
    LIST_EACH_SAFE(&c->uploads, at) {
        struct chat_upload *u = LIST_ITEM(at, struct chat_upload, node);
        if (u->state == UPLOAD_FINISHING) upload_free(u);
        else if (u->state != UPLOAD_STORING) chat_upload_abort(u);
        else list_remove(&u->node);
    }
}
