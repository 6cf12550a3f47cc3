// What the files of the SQLite driver share.
#ifndef BARID_DATABASE_SQLITE_H
#define BARID_DATABASE_SQLITE_H

#include "database/driver.h"

#include <sqlite3.h>

struct io;
struct sqlite_checkpointer;

struct sqlite_stmt {
    struct db_stmt base;
    struct sqlite_db *db;
    sqlite3_stmt *handle;
    struct sqlite_stmt *next_used; // in the unit that is running
    bool used;
};

struct sqlite_db {
    struct db base;
    sqlite3 *handle;
    sqlite3_stmt *begin, *commit, *savepoint, *release, *rollback_to;
    struct sqlite_stmt **stmts; // by slot
    uint32_t slots;
    struct sqlite_stmt *used;
    struct io *io;                            // the disk the database is on
    int wal_pages;                            // in the write-ahead log, as of the last commit
    struct sqlite_checkpointer *checkpointer; // the writer has one
};

// The file that a url names.
const char *sqlite_path(const char *url);
// Our code for what SQLite has just said on this connection; fills `e`. Does not return when a sync failed:
// what the page cache holds after that cannot be trusted.
enum err sqlite_fail(sqlite3 *handle, const char *doing, struct error *e);

// sqlite_statement.c
struct db_stmt *sqlite_prepare(struct db *db, const struct db_sql *sql, uint32_t slot);
void sqlite_end_unit(struct db *db);
void sqlite_finalize_all(struct sqlite_db *db);
int64_t sqlite_changes(struct db *db);
void sqlite_bind_int(struct db_stmt *s, int index, int64_t v);
void sqlite_bind_text(struct db_stmt *s, int index, const char *text, size_t n);
void sqlite_bind_blob(struct db_stmt *s, int index, const void *data, size_t n);
void sqlite_bind_null(struct db_stmt *s, int index);
int sqlite_step(struct db_stmt *s);
int64_t sqlite_read_int(struct db_stmt *s, int column);
bool sqlite_read_null(struct db_stmt *s, int column);
const char *sqlite_read_text(struct db_stmt *s, int column, size_t *n);
const void *sqlite_read_blob(struct db_stmt *s, int column, size_t *n);

// sqlite_check.c
enum err sqlite_check(const char *url, database_finding_fn *each, void *arg, struct error *e);
enum err sqlite_rows(const char *url, const char *sql, database_row_fn *each, void *arg, struct error *e);

// sqlite_checkpoint.c
enum err sqlite_checkpointer_new(const char *path, struct sqlite_checkpointer **out, struct error *e);
void sqlite_checkpointer_free(struct sqlite_checkpointer *c);
void sqlite_checkpointer_committed(struct sqlite_checkpointer *c, struct sqlite_db *writer);

#endif
