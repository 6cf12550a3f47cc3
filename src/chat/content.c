// Contents: showing them to those they are for, and letting go of them.
#include "base/crash.h"
#include "chat/internal.h"
#include "chat/media_name.h"
#include "chat/removal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- letting go -----------------------------------------------------------------------------------------

void gone_clear(struct gone *g) {
    g->media_count = g->n = 0;
    g->deleted = 0;
}

void gone_release(struct gone *g) {
    free(g->media);
    free(g->hashes);
    *g = (struct gone){0};
}

void gone_apply(struct chat *c, struct gone *g) {
    c->stats.deleted += g->deleted;
    for (size_t i = 0; i < g->n; i++) removal_add(c, g->hashes[i]);
}

static void gone_add(struct gone *g, const void *hash) {
    g->hashes = chat_room(g->hashes, g->n, &g->cap, sizeof *g->hashes);
    memcpy(g->hashes[g->n++], hash, CHAT_HASH);
}

void gone_media(struct gone *g, const void *hash, int64_t uid, int64_t bytes) {
    g->media = chat_room(g->media, g->media_count, &g->media_cap, sizeof *g->media);
    struct gone_media *m = &g->media[g->media_count++];
    *m = (struct gone_media){.uid = uid, .bytes = bytes};
    memcpy(m->hash, hash, sizeof m->hash);
}

static enum err media_drop(struct db *db, int64_t mid, struct gone *g) {
    static struct db_sql find = {.text = "select media_hash, sender_uid, bytes from message where mid = ?1"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_int(s, 1, mid);
    if (!row(s, &err)) return err;
    size_t n;
    const void *hash = db_blob(s, 0, &n);
    if (hash != NULL && n == CHAT_HASH) gone_media(g, hash, db_int(s, 1), db_int(s, 2)); // else a text
    return ERR_OK;
}

static enum err media_unref(struct db *db, const uint8_t hash[CHAT_HASH], struct gone *g) {
    static struct db_sql update = {.text = "update media set refs = refs - 1 where hash = ?1 returning refs"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &update);
    db_bind_blob(s, 1, hash, CHAT_HASH);
    bool last = row(s, &err) && db_int(s, 0) <= 0;
    if (err == ERR_OK && last) gone_add(g, hash);
    return err;
}

static int by_hash(const void *a, const void *b) {
    return memcmp(((const struct gone_media *)a)->hash, ((const struct gone_media *)b)->hash, CHAT_HASH);
}

static int by_user(const void *a, const void *b) {
    const struct gone_media *x = a, *y = b;
    return (x->uid > y->uid) - (x->uid < y->uid);
}

enum err gone_settle(struct db *db, struct gone *g) {
    static struct db_sql held = {.text = "update account set held_bytes = held_bytes - ?2 where uid = ?1",
                                 .postgres = "update quota set held_bytes = held_bytes - ?2 where uid = ?1"};
    enum err err = ERR_OK;
    if (g->media_count == 0) return ERR_OK;
    qsort(g->media, g->media_count, sizeof g->media[0], by_hash);
    for (size_t i = 0; i < g->media_count && err == ERR_OK; i++) err = media_unref(db, g->media[i].hash, g);
    qsort(g->media, g->media_count, sizeof g->media[0], by_user);
    for (size_t i = 0; i < g->media_count && err == ERR_OK; i++)
        err = RUN(db, &held, g->media[i].uid, g->media[i].bytes);
    return err;
}

enum err content_remove(struct db *db, int64_t mid, struct gone *g) {
    static struct db_sql remove = {.text = "delete from content where mid = ?1 returning text is null"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &remove);
    db_bind_int(s, 1, mid);
    if (!row(s, &err)) return err; // gone already
    bool media = db_int(s, 0) != 0;
    while (row(s, &err)) {
    }
    if (err == ERR_OK && media) err = media_drop(db, mid, g);
    if (err == ERR_OK) g->deleted++;
    return err;
}

enum err content_drop(struct db *db, int64_t mid, int64_t now, struct gone *g) {
    static struct db_sql mark = {.text = "update message set deleted_at = ?2 where mid = ?1 and deleted_at is null"};
    enum err err = content_remove(db, mid, g);
    return err == ERR_OK ? RUN(db, &mark, mid, now) : err;
}

// ---- showing --------------------------------------------------------------------------------------------

struct content_get {
    struct op op;
    int64_t uid;
    struct chat_content content;
    char conversation_id[NAME_MAX_LENGTH + 1], by_user_id[NAME_MAX_LENGTH + 1];
    char media_type[MEDIA_TYPE_MAX + 1], filename[MEDIA_NAME_MAX + 1];
    bool has_filename;
    char *text;
    chat_content_fn *done;
    void *arg;
};

static void content_read(struct content_get *op, struct db_stmt *s) {
    struct chat_content *out = &op->content;
    out->seq = (uint64_t)db_int(s, 2);
    out->accepted_at_ms = db_int(s, 3);
    out->kind = (enum chat_kind)db_int(s, 4);
    out->bytes = (uint64_t)db_int(s, 5);
    snprintf(op->conversation_id, sizeof op->conversation_id, "%s", db_text(s, 0, NULL));
    snprintf(op->by_user_id, sizeof op->by_user_id, "%s", db_text(s, 1, NULL));
    size_t n;
    if (out->kind == CHAT_TEXT) {
        const void *text = db_blob(s, 6, &n);
        op->text = chat_alloc(n + 1);
        if (n > 0) memcpy(op->text, text, n);
        out->text_length = n;
        return;
    }
    const void *hash = db_blob(s, 7, &n);
    if (n == sizeof out->sha256) memcpy(out->sha256, hash, n);
    const char *type = db_text(s, 8, NULL), *filename = db_text(s, 9, NULL);
    snprintf(op->media_type, sizeof op->media_type, "%s", type != NULL ? type : "application/octet-stream");
    op->has_filename = filename != NULL;
    snprintf(op->filename, sizeof op->filename, "%s", filename != NULL ? filename : "");
}

static enum err get_run(struct db *db, struct db_unit *u) {
    static struct db_sql find = {
        .text = "select v.conversation_id, a.user_id, m.seq, m.accepted_at, m.kind, m.bytes, t.text, m.media_hash, "
                "m.media_type, m.filename, t.mid is not null from message m "
                "join conversation v on v.cid = m.cid join account a on a.uid = m.sender_uid "
                "left join content t on t.mid = m.mid where m.message_id = ?1 and (m.sender_uid = ?2 or exists "
                "(select 1 from delivery x where x.mid = m.mid and x.uid = ?2))"};
    struct content_get *op = (struct content_get *)u;
    enum err err = ERR_OK;
    free(op->text);
    op->text = NULL;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_id(s, 1, &op->content.message_id);
    db_bind_int(s, 2, op->uid);
    if (!row(s, &err)) return err != ERR_OK ? err : error_set(db_error(db), ERR_NOT_FOUND, "no such message");
    if (db_int(s, 10) == 0) return error_set(db_error(db), ERR_GONE, "the content was delivered and deleted");
    content_read(op, s);
    return ERR_OK;
}

static void get_answer(struct op *base, enum err err) {
    struct content_get *op = (struct content_get *)base;
    op->content.conversation_id = op->conversation_id;
    op->content.by_user_id = op->by_user_id;
    op->content.text = op->text;
    op->content.media_type = op->content.kind == CHAT_MEDIA ? op->media_type : NULL;
    op->content.filename = op->has_filename ? op->filename : NULL;
    op->done(op->arg, op_error(base, err), err == ERR_OK ? &op->content : NULL);
}

static void get_release(struct op *base) { free(((struct content_get *)base)->text); }

void chat_content_get(struct chat *c, const struct chat_actor *who, const struct id *message_id, chat_content_fn *done,
                      void *arg) {
    struct content_get *op = op_new(c, sizeof *op, get_run, get_answer);
    op->op.unit.read_only = true;
    op->op.release = get_release;
    op->uid = who->uid;
    op->content.message_id = *message_id;
    op->done = done;
    op->arg = arg;
    op_submit(&op->op);
}
