// The calls a unit makes, handed to the driver of its connection.
#include "database/driver.h"

#include "base/assert.h"

#include <stdatomic.h>
#include <string.h>

// Numbers every statement text of the program once, whichever thread meets it first.
static _Atomic uint32_t last_slot;

static uint32_t slot_of(struct db_sql *sql) {
    uint32_t slot = __atomic_load_n(&sql->slot, __ATOMIC_ACQUIRE);
    if (slot) return slot;
    uint32_t mine = atomic_fetch_add(&last_slot, 1) + 1, none = 0;
    bool first = __atomic_compare_exchange_n(&sql->slot, &none, mine, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    return first ? mine : none;
}

struct db_stmt *db_prepare(struct db *db, struct db_sql *sql) {
    return db->driver->prepare(db, sql, slot_of(sql));
}

void db_bind_int(struct db_stmt *s, int index, int64_t v) { s->driver->bind_int(s, index, v); }

void db_bind_text(struct db_stmt *s, int index, const char *text) {
    db_bind_text_n(s, index, text, text ? strlen(text) : 0);
}

void db_bind_text_n(struct db_stmt *s, int index, const char *text, size_t n) {
    if (text) s->driver->bind_text(s, index, text, n);
    else s->driver->bind_null(s, index);
}

void db_bind_blob(struct db_stmt *s, int index, const void *data, size_t n) {
    ASSERT(data || n == 0);
    if (data) s->driver->bind_blob(s, index, data, n);
    else s->driver->bind_null(s, index);
}

void db_bind_id(struct db_stmt *s, int index, const struct id *id) {
    if (id) s->driver->bind_blob(s, index, id->b, sizeof id->b);
    else s->driver->bind_null(s, index);
}

void db_bind_null(struct db_stmt *s, int index) { s->driver->bind_null(s, index); }

void db_bind_ints(struct db_stmt *s, int index, const int64_t *v, size_t n) {
    ASSERT(s->driver->bind_ints);
    s->driver->bind_ints(s, index, v, n);
}

void db_bind_texts(struct db_stmt *s, int index, const char *const *texts, size_t n) {
    ASSERT(s->driver->bind_texts);
    s->driver->bind_texts(s, index, texts, n);
}

void db_bind_blobs(struct db_stmt *s, int index, const struct db_bytes *v, size_t n) {
    ASSERT(s->driver->bind_blobs);
    s->driver->bind_blobs(s, index, v, n);
}

enum database_kind db_kind(const struct db *db) { return db->driver->kind; }

enum err db_notify(struct db *db, const char *channel, const char *payload) {
    return db->driver->notify ? db->driver->notify(db, channel, payload) : ERR_OK;
}

int db_step(struct db_stmt *s) { return s->driver->step(s); }

enum err db_run(struct db_stmt *s) {
    int row;
    while ((row = s->driver->step(s)) == DB_ROW) {
    }
    return (enum err) - row;
}

enum err db_run_later(struct db_stmt *s) { return s->driver->run_later ? s->driver->run_later(s) : db_run(s); }

int64_t db_changes(struct db *db) { return db->driver->changes(db); }

int64_t db_int(struct db_stmt *s, int column) { return s->driver->column_int(s, column); }

bool db_is_null(struct db_stmt *s, int column) { return s->driver->column_null(s, column); }

const char *db_text(struct db_stmt *s, int column, size_t *n) { return s->driver->column_text(s, column, n); }

const void *db_blob(struct db_stmt *s, int column, size_t *n) { return s->driver->column_blob(s, column, n); }

bool db_id(struct db_stmt *s, int column, struct id *out) {
    size_t n = 0;
    const void *data = s->driver->column_blob(s, column, &n);
    if (!data || n != sizeof out->b) return false;
    memcpy(out->b, data, sizeof out->b);
    return true;
}

struct error *db_error(struct db *db) {
    return db->error;
}
