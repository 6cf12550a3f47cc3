#include "client/store_outbox.h"

#include "base/assert.h"
#include "client/store_sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS                                                                                                        \
    "position, message_id, conversation_id, message_text, media_path, media_type, filename, ticket,"                   \
    " ticket_at, state, seq, attempts, next_at, floor_at, error, created_at, accepted_at"

static const char *const state_names[] = {"created", "sending", "accepted", "rejected"};

const char *out_state_name(enum out_state state) { return state_names[state]; }

static enum out_state state_parse(const char *text) {
    for (size_t i = 0; i < sizeof state_names / sizeof *state_names; i++)
        if (!strcmp(text, state_names[i])) return (enum out_state)i;
    ASSERT(!"a state the schema does not allow");
    return OUT_CREATED;
}

static void row_read(sqlite3_stmt *q, struct out_message *m) {
    memset(m, 0, sizeof *m);
    m->position = (uint64_t)sqlite3_column_int64(q, 0);
    column_copy(q, 1, m->message_id, sizeof m->message_id);
    column_copy(q, 2, m->conversation_id, sizeof m->conversation_id);
    m->text = column_dup(q, 3);
    m->media_path = column_dup(q, 4);
    m->media_type = column_dup(q, 5);
    m->filename = column_dup(q, 6);
    column_copy(q, 7, m->ticket, sizeof m->ticket);
    m->ticket_at = sqlite3_column_int64(q, 8);
    m->state = state_parse((const char *)sqlite3_column_text(q, 9));
    m->seq = (uint64_t)sqlite3_column_int64(q, 10);
    m->attempts = (uint32_t)sqlite3_column_int64(q, 11);
    m->next_at = sqlite3_column_int64(q, 12);
    m->floor_at = sqlite3_column_int64(q, 13);
    m->error = column_dup(q, 14);
    m->created_at = sqlite3_column_int64(q, 15);
    m->accepted_at = sqlite3_column_int64(q, 16);
}

void out_message_release(struct out_message *m) {
    free(m->text);
    free(m->media_path);
    free(m->media_type);
    free(m->filename);
    free(m->error);
    memset(m, 0, sizeof *m);
}

enum err store_outbox_add(struct store *s, const struct out_message *m, struct error *e) {
    enum err err = store_begin(s, e);
    if (err) return err;
    int64_t waiting =
        store_number(s, 0, "select count(*) from outbox where state in ('created', 'sending') and ?1 is ?1", NULL);
    if (waiting >= OUTBOX_WAITING_MAX)
        err = error_set(e, ERR_LIMIT, "%d messages wait already; `barid outbox flush` sends them", OUTBOX_WAITING_MAX);
    if (!err)
        err = store_run(s, e,
                        "insert into outbox (message_id, conversation_id, message_text, media_path, media_type,"
                        " filename, created_at) values (?, ?, ?, ?, ?, ?, ?)",
                        "ssssssi", m->message_id, m->conversation_id, m->text, m->media_path, m->media_type,
                        m->filename, m->created_at);
    if (!err) err = store_point_add(s, m->message_id, "created", m->created_at, NULL, false, e);
    return store_end(s, err, e);
}

static enum err one_row(struct store *s, sqlite3_stmt *q, struct out_message *out, struct error *e) {
    memset(out, 0, sizeof *out);
    if (!q) return ERR_DATABASE;
    int rc = sqlite3_step(q);
    enum err err = rc == SQLITE_ROW    ? ERR_OK
                   : rc == SQLITE_DONE ? error_set(e, ERR_NOT_FOUND, "no such message in the outbox")
                                       : store_failed(s, e);
    if (!err) row_read(q, out);
    sqlite3_finalize(q);
    return err;
}

enum err store_outbox_get(struct store *s, const char *message_id, struct out_message *out, struct error *e) {
    return one_row(s, store_prepare(s, e, "select " COLUMNS " from outbox where message_id = ?", "s", message_id), out,
                   e);
}

enum err store_outbox_next(struct store *s, const char *conversation_id, struct out_message *out, struct error *e) {
    return one_row(s,
                   store_prepare(s, e,
                                 "select " COLUMNS " from outbox where conversation_id = ?"
                                 " and state in ('created', 'sending') order by position limit 1",
                                 "s", conversation_id),
                   out, e);
}

enum err store_outbox_each(struct store *s, uint64_t after, bool waiting,
                           bool (*each)(void *arg, const struct out_message *m), void *arg, struct error *e) {
    sqlite3_stmt *q = store_prepare(s, e,
                                    waiting ? "select " COLUMNS " from outbox where position > ?"
                                              " and state in ('created', 'sending') order by position"
                                            : "select " COLUMNS " from outbox where position > ? order by position",
                                    "i", (int64_t)after);
    if (!q) return ERR_DATABASE;
    int rc;
    bool more = true;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW && more) {
        struct out_message m;
        row_read(q, &m);
        more = each(arg, &m);
        out_message_release(&m);
    }
    enum err err = rc == SQLITE_DONE || rc == SQLITE_ROW ? ERR_OK : store_failed(s, e);
    sqlite3_finalize(q);
    return err;
}

size_t store_outbox_conversations(struct store *s, char (*out)[NAME_MAX_LENGTH + 1], size_t max) {
    sqlite3_stmt *q = store_prepare(s, NULL,
                                    "select conversation_id from outbox where state in ('created', 'sending')"
                                    " group by conversation_id order by min(position)",
                                    "");
    size_t n = 0;
    for (; q && n < max && sqlite3_step(q) == SQLITE_ROW; n++) column_copy(q, 0, out[n], sizeof out[n]);
    sqlite3_finalize(q);
    return n;
}

enum err store_outbox_trying(struct store *s, const char *message_id, struct error *e) {
    return store_run(s, e,
                     "update outbox set state = 'sending', attempts = attempts + 1"
                     " where message_id = ? and state in ('created', 'sending')",
                     "s", message_id);
}

enum err store_outbox_ticket(struct store *s, const char *message_id, const char *ticket, int64_t at, struct error *e) {
    return store_run(s, e, "update outbox set ticket = ?, ticket_at = ? where message_id = ?", "sis", ticket, at,
                     message_id);
}

enum err store_outbox_accepted(struct store *s, const char *message_id, uint64_t seq, int64_t accepted_at,
                               struct error *e) {
    enum err err = store_begin(s, e);
    if (err) return err;
    err = store_run(s, e,
                    "update outbox set state = 'accepted', seq = ?, accepted_at = ?, error = null"
                    " where message_id = ?",
                    "iis", (int64_t)seq, accepted_at, message_id);
    if (!err) err = store_point_add(s, message_id, "accepted", accepted_at, NULL, false, e);
    return store_end(s, err, e);
}

enum err store_outbox_rejected(struct store *s, const char *message_id, int64_t now, const char *why, struct error *e) {
    enum err err = store_begin(s, e);
    if (err) return err;
    // A receipt may have proved meanwhile that it was accepted; that is the stronger witness.
    err = store_run(s, e,
                    "update outbox set state = 'rejected', error = ?"
                    " where message_id = ? and state in ('created', 'sending')",
                    "ss", why, message_id);
    if (!err && sqlite3_changes(s->db)) err = store_point_add(s, message_id, "rejected", now, why, false, e);
    return store_end(s, err, e);
}

enum err store_outbox_later(struct store *s, const char *message_id, int64_t now, const char *why, int64_t next_at,
                            int64_t floor_at, struct error *e) {
    enum err err = store_begin(s, e);
    if (err) return err;
    err = store_run(s, e,
                    "update outbox set error = ?, next_at = ?, floor_at = ?"
                    " where message_id = ? and state in ('created', 'sending')",
                    "siis", why, next_at, floor_at, message_id);
    if (!err && sqlite3_changes(s->db)) err = store_point_add(s, message_id, "retried", now, why, true, e);
    return store_end(s, err, e);
}
