#include "client/store.h"

#include "base/assert.h"
#include "client/store_schema.h"
#include "client/store_sql.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUSY_TIMEOUT_MS 10000

enum err store_failed(struct store *s, struct error *e) {
    int code = sqlite3_errcode(s->db) & 0xff;
    enum err err = code == SQLITE_FULL                               ? ERR_FULL
                   : code == SQLITE_BUSY                             ? ERR_BUSY
                   : code == SQLITE_CORRUPT || code == SQLITE_NOTADB ? ERR_CORRUPT
                                                                     : ERR_DATABASE;
    return error_set(e, err, "local store %s: %s", s->path, sqlite3_errmsg(s->db));
}

static bool bind_all(sqlite3_stmt *q, const char *types, va_list args) {
    int n = 0, rc = SQLITE_OK;
    for (const char *t = types; *t && rc == SQLITE_OK; t++) {
        n++;
        if (*t == 's') {
            const char *text = va_arg(args, const char *);
            rc = text ? sqlite3_bind_text(q, n, text, -1, SQLITE_TRANSIENT) : sqlite3_bind_null(q, n);
        } else {
            ASSERT(*t == 'i');
            rc = sqlite3_bind_int64(q, n, va_arg(args, int64_t));
        }
    }
    ASSERT(n == sqlite3_bind_parameter_count(q));
    return rc == SQLITE_OK;
}

static sqlite3_stmt *prepare_list(struct store *s, struct error *e, const char *sql, const char *types, va_list args) {
    sqlite3_stmt *q = NULL;
    if (sqlite3_prepare_v2(s->db, sql, -1, &q, NULL) == SQLITE_OK && bind_all(q, types, args)) return q;
    store_failed(s, e);
    sqlite3_finalize(q);
    return NULL;
}

sqlite3_stmt *store_prepare(struct store *s, struct error *e, const char *sql, const char *types, ...) {
    va_list args;
    va_start(args, types);
    sqlite3_stmt *q = prepare_list(s, e, sql, types, args);
    va_end(args);
    return q;
}

enum err store_run(struct store *s, struct error *e, const char *sql, const char *types, ...) {
    va_list args;
    va_start(args, types);
    sqlite3_stmt *q = prepare_list(s, e, sql, types, args);
    va_end(args);
    if (!q) return e ? e->code : ERR_DATABASE;
    int rc = sqlite3_step(q);
    enum err err = rc == SQLITE_DONE || rc == SQLITE_ROW ? ERR_OK : store_failed(s, e);
    sqlite3_finalize(q);
    return err;
}

int64_t store_number(struct store *s, int64_t otherwise, const char *sql, const char *message_id) {
    sqlite3_stmt *q = store_prepare(s, NULL, sql, "s", message_id);
    if (!q) return otherwise;
    int64_t value = sqlite3_step(q) == SQLITE_ROW ? sqlite3_column_int64(q, 0) : otherwise;
    sqlite3_finalize(q);
    return value;
}

enum err store_begin(struct store *s, struct error *e) { return store_run(s, e, "begin immediate", ""); }

enum err store_end(struct store *s, enum err so_far, struct error *e) {
    if (!so_far) so_far = store_run(s, e, "commit", "");
    if (so_far) store_run(s, NULL, "rollback", "");
    return so_far;
}

void column_copy(sqlite3_stmt *q, int column, char *out, size_t size) {
    const unsigned char *text = sqlite3_column_text(q, column);
    snprintf(out, size, "%s", text ? (const char *)text : "");
}

char *column_dup(sqlite3_stmt *q, int column) {
    const unsigned char *text = sqlite3_column_text(q, column);
    if (!text) return NULL;
    char *copy = strdup((const char *)text);
    if (!copy) die("out of memory");
    return copy;
}

static enum err migrate(struct store *s, struct error *e) {
    enum err err = store_begin(s, e);
    if (err) return err;
    sqlite3_stmt *q = store_prepare(s, e, "pragma user_version", "");
    if (!q) return store_end(s, ERR_DATABASE, e);
    int version = sqlite3_step(q) == SQLITE_ROW ? sqlite3_column_int(q, 0) : 0;
    sqlite3_finalize(q);
    if (version > store_migration_count) err = error_set(e, ERR_VERSION, "%s was written by a newer barid", s->path);
    for (; !err && version < store_migration_count; version++) {
        if (sqlite3_exec(s->db, store_migrations[version], NULL, NULL, NULL) != SQLITE_OK) err = store_failed(s, e);
    }
    char set[64];
    snprintf(set, sizeof set, "pragma user_version = %d", version);
    if (!err) err = store_run(s, e, set, "");
    return store_end(s, err, e);
}

enum err store_open(struct store **out, const char *path, struct error *e) {
    struct store *s = calloc(1, sizeof *s);
    if (!s) die("out of memory");
    snprintf(s->path, sizeof s->path, "%s", path);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    enum err err = ERR_OK;
    if (sqlite3_open_v2(path, &s->db, flags, NULL) != SQLITE_OK) err = store_failed(s, e);
    if (!err) {
        sqlite3_busy_timeout(s->db, BUSY_TIMEOUT_MS);
        err = store_run(s, e, "pragma journal_mode = wal", "");
    }
    if (!err) err = store_run(s, e, "pragma synchronous = full", "");
    if (!err) err = migrate(s, e);
    if (err) {
        store_close(s);
        return err;
    }
    *out = s;
    return ERR_OK;
}

void store_close(struct store *s) {
    if (!s) return;
    int rc = sqlite3_close(s->db);
    ASSERT(rc == SQLITE_OK);
    free(s);
}

int64_t store_version(struct store *s) {
    sqlite3_stmt *q = store_prepare(s, NULL, "pragma data_version", "");
    if (!q) return 0;
    int64_t version = sqlite3_step(q) == SQLITE_ROW ? sqlite3_column_int64(q, 0) : 0;
    sqlite3_finalize(q);
    return version;
}

// ---- account --------------------------------------------------------------------------------------------

enum err store_account(struct store *s, struct account *out, struct error *e) {
    memset(out, 0, sizeof *out);
    sqlite3_stmt *q =
        store_prepare(s, e, "select server, user_id, display_name, device_id, token, cursor from account", "");
    if (!q) return ERR_DATABASE;
    int rc = sqlite3_step(q);
    enum err err = rc == SQLITE_ROW    ? ERR_OK
                   : rc == SQLITE_DONE ? error_set(e, ERR_NOT_FOUND, "nobody has logged in here")
                                       : store_failed(s, e);
    if (!err) {
        column_copy(q, 0, out->server, sizeof out->server);
        column_copy(q, 1, out->user_id, sizeof out->user_id);
        column_copy(q, 2, out->display_name, sizeof out->display_name);
        column_copy(q, 3, out->device_id, sizeof out->device_id);
        column_copy(q, 4, out->token, sizeof out->token);
        out->cursor = (uint64_t)sqlite3_column_int64(q, 5);
    }
    sqlite3_finalize(q);
    return err;
}

enum err store_account_set(struct store *s, const struct account *a, struct error *e) {
    return store_run(s, e,
                     "insert into account (id, server, user_id, display_name, device_id, token)"
                     " values (1, ?1, ?2, ?3, ?4, ?5) on conflict (id) do update set server = ?1,"
                     " user_id = ?2, display_name = ?3, device_id = ?4, token = ?5,"
                     " cursor = iif(device_id is ?4, cursor, 0)",
                     "sssss", a->server, a->user_id, a->display_name, a->device_id, a->token);
}

enum err store_cursor_set(struct store *s, uint64_t cursor, struct error *e) {
    return store_run(s, e, "update account set cursor = ? where cursor < ?", "ii", (int64_t)cursor, (int64_t)cursor);
}

// ---- conversations --------------------------------------------------------------------------------------

enum err store_conversation(struct store *s, const char *conversation_id, struct known_conversation *out,
                            struct error *e) {
    memset(out, 0, sizeof *out);
    sqlite3_stmt *q =
        store_prepare(s, e, "select conversation_id, title, members, made from conversation where conversation_id = ?",
                      "s", conversation_id);
    if (!q) return ERR_DATABASE;
    int rc = sqlite3_step(q);
    enum err err = rc == SQLITE_ROW    ? ERR_OK
                   : rc == SQLITE_DONE ? error_set(e, ERR_NOT_FOUND, "no conversation %s", conversation_id)
                                       : store_failed(s, e);
    if (!err) {
        column_copy(q, 0, out->conversation_id, sizeof out->conversation_id);
        column_copy(q, 1, out->title, sizeof out->title);
        out->members = column_dup(q, 2);
        out->made = sqlite3_column_int(q, 3);
    }
    sqlite3_finalize(q);
    return err;
}

void known_conversation_release(struct known_conversation *c) {
    free(c->members);
    c->members = NULL;
}

enum err store_conversation_set(struct store *s, const char *conversation_id, const char *title, const char *members,
                                bool made, struct error *e) {
    return store_run(s, e,
                     "insert into conversation (conversation_id, title, members, made) values (?1, ?2, ?3, ?4)"
                     " on conflict (conversation_id) do update set title = ?2, members = ?3,"
                     " made = max(made, ?4) where title is not ?2 or members <> ?3 or made < ?4",
                     "sssi", conversation_id, title && *title ? title : NULL, members, (int64_t)made);
}

// ---- ids, points, receipts ------------------------------------------------------------------------------

enum err store_resolve(struct store *s, const char *text, char out[static ID_TEXT], struct error *e) {
    struct id id;
    if (id_parse(text, strlen(text), &id)) {
        id_format(&id, out);
        return ERR_OK;
    }
    size_t n = strlen(text);
    if (n < 4 || n >= ID_TEXT || strspn(text, "0123456789abcdef-") != n)
        return error_field(e, "message_id", "'%.40s' is neither a message id nor 4 or more characters of one", text);
    sqlite3_stmt *q = store_prepare(s, e,
                                    "select message_id from (select message_id from outbox union"
                                    " select message_id from message) where substr(message_id, -length(?1)) = ?1"
                                    " or substr(message_id, 1, length(?1)) = ?1 limit 2",
                                    "s", text);
    if (!q) return ERR_DATABASE;
    enum err err = ERR_OK;
    if (sqlite3_step(q) == SQLITE_ROW) column_copy(q, 0, out, ID_TEXT);
    else err = error_set(e, ERR_NOT_FOUND, "no message here has an id with '%s'", text);
    if (!err && sqlite3_step(q) == SQLITE_ROW)
        err = error_set(e, ERR_CONFLICT, "more than one message has an id with '%s'", text);
    sqlite3_finalize(q);
    return err;
}

enum err store_point_add(struct store *s, const char *message_id, const char *point, int64_t at, const char *detail,
                         bool replace, struct error *e) {
    return store_run(s, e,
                     replace ? "insert or replace into point (message_id, point, at, detail) values (?, ?, ?, ?)"
                             : "insert or ignore into point (message_id, point, at, detail) values (?, ?, ?, ?)",
                     "ssis", message_id, point, at, detail);
}

size_t store_points(struct store *s, const char *message_id, struct store_point *out, size_t max) {
    sqlite3_stmt *q =
        store_prepare(s, NULL, "select point, at, detail from point where message_id = ? order by at", "s", message_id);
    size_t n = 0;
    for (; q && n < max && sqlite3_step(q) == SQLITE_ROW; n++) {
        column_copy(q, 0, out[n].point, sizeof out[n].point);
        out[n].at = sqlite3_column_int64(q, 1);
        column_copy(q, 2, out[n].detail, sizeof out[n].detail);
    }
    sqlite3_finalize(q);
    return n;
}

const char *receipt_name(enum receipt_kind kind) {
    static const char *const names[] = {"delivered", "read", "expired"};
    return names[kind];
}

enum err store_receipt_add(struct store *s, const char *message_id, enum receipt_kind kind, const char *by_user_id,
                           uint64_t seq, int64_t at, bool *fresh, struct error *e) {
    enum err err = store_begin(s, e);
    if (err) return err;
    err = store_run(s, e, "insert or ignore into receipt (message_id, kind, by_user_id, at) values (?, ?, ?, ?)",
                    "sssi", message_id, receipt_name(kind), by_user_id, at);
    *fresh = sqlite3_changes(s->db) > 0;
    if (!err && *fresh)
        err = store_run(s, e,
                        "update outbox set state = 'accepted', seq = coalesce(seq, nullif(?2, 0)), error = null"
                        " where message_id = ?1 and state in ('created', 'sending')",
                        "si", message_id, (int64_t)seq);
    if (!err && *fresh) err = store_point_add(s, message_id, receipt_name(kind), at, by_user_id, false, e);
    return store_end(s, err, e);
}

size_t store_receipt_count(struct store *s, const char *message_id, enum receipt_kind kind) {
    sqlite3_stmt *q = store_prepare(s, NULL, "select count(*) from receipt where message_id = ? and kind = ?", "ss",
                                    message_id, receipt_name(kind));
    size_t n = q && sqlite3_step(q) == SQLITE_ROW ? (size_t)sqlite3_column_int64(q, 0) : 0;
    sqlite3_finalize(q);
    return n;
}
