#include "client/store_inbox.h"

#include "client/store_sql.h"

#include <stdlib.h>
#include <string.h>

#define COLUMNS                                                                                                        \
    "m.message_id, m.conversation_id, m.seq, m.by_user_id, m.message_text, m.media_type, m.filename,"                  \
    " m.media_path, m.bytes, m.gone, m.accepted_at, m.received_at, m.received_told, m.read_at, m.read_told"

static void row_read(sqlite3_stmt *q, struct in_message *m) {
    memset(m, 0, sizeof *m);
    column_copy(q, 0, m->message_id, sizeof m->message_id);
    column_copy(q, 1, m->conversation_id, sizeof m->conversation_id);
    m->seq = (uint64_t)sqlite3_column_int64(q, 2);
    column_copy(q, 3, m->by_user_id, sizeof m->by_user_id);
    m->text = column_dup(q, 4);
    m->media_type = column_dup(q, 5);
    m->filename = column_dup(q, 6);
    m->media_path = column_dup(q, 7);
    m->bytes = (uint64_t)sqlite3_column_int64(q, 8);
    m->gone = sqlite3_column_int(q, 9);
    m->accepted_at = sqlite3_column_int64(q, 10);
    m->received_at = sqlite3_column_int64(q, 11);
    m->received_told = sqlite3_column_int(q, 12);
    m->read_at = sqlite3_column_int64(q, 13);
    m->read_told = sqlite3_column_int(q, 14);
}

void in_message_release(struct in_message *m) {
    free(m->text);
    free(m->media_type);
    free(m->filename);
    free(m->media_path);
    memset(m, 0, sizeof *m);
}

enum err store_message_add(struct store *s, const struct in_message *m, bool *fresh, struct error *e) {
    enum err err = store_begin(s, e);
    if (err) return err;
    err = store_run(s, e,
                    "insert or ignore into message (message_id, conversation_id, seq, by_user_id, message_text,"
                    " media_type, filename, media_path, bytes, gone, accepted_at, received_at)"
                    " values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    "ssisssssiiii", m->message_id, m->conversation_id, (int64_t)m->seq, m->by_user_id, m->text,
                    m->media_type, m->filename, m->media_path, (int64_t)m->bytes, (int64_t)m->gone, m->accepted_at,
                    m->received_at);
    *fresh = sqlite3_changes(s->db) > 0;
    if (!err && *fresh) err = store_point_add(s, m->message_id, "accepted", m->accepted_at, NULL, false, e);
    if (!err && *fresh) err = store_point_add(s, m->message_id, "received", m->received_at, NULL, false, e);
    return store_end(s, err, e);
}

enum err store_message_get(struct store *s, const char *message_id, struct in_message *out, struct error *e) {
    memset(out, 0, sizeof *out);
    sqlite3_stmt *q = store_prepare(s, e, "select " COLUMNS " from message m where message_id = ?", "s", message_id);
    if (!q) return ERR_DATABASE;
    int rc = sqlite3_step(q);
    enum err err = rc == SQLITE_ROW    ? ERR_OK
                   : rc == SQLITE_DONE ? error_set(e, ERR_NOT_FOUND, "message %s is not in this inbox", message_id)
                                       : store_failed(s, e);
    if (!err) row_read(q, out);
    sqlite3_finalize(q);
    return err;
}

enum err store_message_received_told(struct store *s, const char *message_id, struct error *e) {
    return store_run(s, e, "update message set received_told = 1 where message_id = ? and received_told = 0", "s",
                     message_id);
}

enum err store_message_read(struct store *s, const char *message_id, int64_t at, struct error *e) {
    enum err err = store_begin(s, e);
    if (err) return err;
    err = store_run(s, e, "update message set read_at = ? where message_id = ? and read_at is null", "is", at,
                    message_id);
    if (!err && sqlite3_changes(s->db)) err = store_point_add(s, message_id, "read", at, NULL, false, e);
    return store_end(s, err, e);
}

enum err store_message_read_told(struct store *s, const char *message_id, struct error *e) {
    return store_run(s, e, "update message set read_told = 1 where message_id = ?", "s", message_id);
}

size_t store_read_untold(struct store *s, char (*out)[ID_TEXT], size_t max) {
    sqlite3_stmt *q = store_prepare(
        s, NULL, "select message_id from message where read_at is not null and read_told = 0 order by read_at limit ?",
        "i", (int64_t)max);
    size_t n = 0;
    for (; q && n < max && sqlite3_step(q) == SQLITE_ROW; n++) column_copy(q, 0, out[n], sizeof out[n]);
    sqlite3_finalize(q);
    return n;
}

enum err store_message_each(struct store *s, enum inbox_filter filter, const char *conversation_id,
                            bool (*each)(void *arg, const struct in_message *m), void *arg, struct error *e) {
    sqlite3_stmt *q = store_prepare(
        s, e,
        "with latest as (select conversation_id, max(accepted_at) as at from message group by conversation_id)"
        " select " COLUMNS " from message m join latest l using (conversation_id)"
        " where (?1 or m.read_at is null) and (?2 is null or conversation_id = ?2)"
        " order by l.at, conversation_id, m.seq, m.message_id",
        "is", (int64_t)(filter == INBOX_ALL), conversation_id);
    if (!q) return ERR_DATABASE;
    int rc;
    bool more = true;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW && more) {
        struct in_message m;
        row_read(q, &m);
        more = each(arg, &m);
        in_message_release(&m);
    }
    enum err err = rc == SQLITE_DONE || rc == SQLITE_ROW ? ERR_OK : store_failed(s, e);
    sqlite3_finalize(q);
    return err;
}
