// SQLite's statements: compiled once a connection, kept by slot, reset when their unit ends.
#include "database/sqlite.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

static void grow(struct sqlite_db *db, uint32_t slot) {
    uint32_t slots = db->slots ? db->slots : 64;
    while (slots <= slot) slots *= 2;
    struct sqlite_stmt **grown = realloc(db->stmts, slots * sizeof *grown);
    if (!grown) die("no memory for statements");
    memset(grown + db->slots, 0, (slots - db->slots) * sizeof *grown);
    db->stmts = grown;
    db->slots = slots;
}

static struct sqlite_stmt *compile(struct sqlite_db *db, const char *text) {
    struct sqlite_stmt *s = calloc(1, sizeof *s);
    if (!s) die("no memory for a statement");
    s->base.driver = &sqlite_driver;
    s->db = db;
    if (sqlite3_prepare_v3(db->handle, text, -1, SQLITE_PREPARE_PERSISTENT, &s->handle, NULL) != SQLITE_OK)
        die("a statement cannot be prepared: %s: %s", sqlite3_errmsg(db->handle), text);
    return s;
}

struct db_stmt *sqlite_prepare(struct db *base, const struct db_sql *sql, uint32_t slot) {
    struct sqlite_db *db = (struct sqlite_db *)base;
    if (slot >= db->slots) grow(db, slot);
    struct sqlite_stmt *s = db->stmts[slot];
    if (!s) s = db->stmts[slot] = compile(db, sql->text);
    if (s->used) {
        sqlite3_reset(s->handle);
        sqlite3_clear_bindings(s->handle);
        return &s->base;
    }
    s->used = true;
    s->next_used = db->used;
    db->used = s;
    return &s->base;
}

// An open read would keep its snapshot, and bindings point into the unit's memory.
void sqlite_end_unit(struct db *base) {
    struct sqlite_db *db = (struct sqlite_db *)base;
    while (db->used) {
        struct sqlite_stmt *s = db->used;
        db->used = s->next_used;
        s->used = false;
        sqlite3_reset(s->handle);
        sqlite3_clear_bindings(s->handle);
    }
}

void sqlite_finalize_all(struct sqlite_db *db) {
    for (uint32_t i = 0; i < db->slots; i++) {
        if (!db->stmts[i]) continue;
        sqlite3_finalize(db->stmts[i]->handle);
        free(db->stmts[i]);
    }
    free(db->stmts);
}

int64_t sqlite_changes(struct db *base) { return sqlite3_changes64(((struct sqlite_db *)base)->handle); }

static sqlite3_stmt *handle_of(struct db_stmt *s) { return ((struct sqlite_stmt *)s)->handle; }

static void bound(struct db_stmt *s, int rc, int index) {
    if (rc == SQLITE_OK) return;
    die("parameter ?%d cannot be bound (%s): %s", index, sqlite3_errstr(rc), sqlite3_sql(handle_of(s)));
}

void sqlite_bind_int(struct db_stmt *s, int index, int64_t v) {
    bound(s, sqlite3_bind_int64(handle_of(s), index, v), index);
}

void sqlite_bind_text(struct db_stmt *s, int index, const char *text, size_t n) {
    bound(s, sqlite3_bind_text64(handle_of(s), index, text, n, SQLITE_STATIC, SQLITE_UTF8), index);
}

void sqlite_bind_blob(struct db_stmt *s, int index, const void *data, size_t n) {
    bound(s, sqlite3_bind_blob64(handle_of(s), index, data, n, SQLITE_STATIC), index);
}

void sqlite_bind_null(struct db_stmt *s, int index) { bound(s, sqlite3_bind_null(handle_of(s), index), index); }

int sqlite_step(struct db_stmt *base) {
    struct sqlite_stmt *s = (struct sqlite_stmt *)base;
    int rc = sqlite3_step(s->handle);
    if (rc == SQLITE_ROW) return DB_ROW;
    enum err err = rc == SQLITE_DONE ? ERR_OK : sqlite_fail(s->db->handle, "running a statement", s->db->base.error);
    sqlite3_reset(s->handle);
    return -(int)err;
}

int64_t sqlite_read_int(struct db_stmt *s, int column) { return sqlite3_column_int64(handle_of(s), column); }

bool sqlite_read_null(struct db_stmt *s, int column) {
    return sqlite3_column_type(handle_of(s), column) == SQLITE_NULL;
}

const char *sqlite_read_text(struct db_stmt *s, int column, size_t *n) {
    const char *text = (const char *)sqlite3_column_text(handle_of(s), column);
    if (n) *n = (size_t)sqlite3_column_bytes(handle_of(s), column);
    return text;
}

const void *sqlite_read_blob(struct db_stmt *s, int column, size_t *n) {
    const void *data = sqlite3_column_blob(handle_of(s), column);
    if (n) *n = (size_t)sqlite3_column_bytes(handle_of(s), column);
    return data;
}
