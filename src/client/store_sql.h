// What the store's own files share: the handle, and statements with their parameters bound in one call.
// `types` has a letter a parameter: s text (NULL: null), i int64_t.
#ifndef BARID_CLIENT_STORE_SQL_H
#define BARID_CLIENT_STORE_SQL_H

#include "client/store.h"

#include <sqlite3.h>

struct store {
    sqlite3 *db;
    char path[1024];
};

// NULL with the error set; else the caller steps and finalises.
sqlite3_stmt *store_prepare(struct store *s, struct error *e, const char *sql, const char *types, ...);
enum err store_run(struct store *s, struct error *e, const char *sql, const char *types, ...);
enum err store_failed(struct store *s, struct error *e);
int64_t store_number(struct store *s, int64_t otherwise, const char *sql, const char *message_id);

enum err store_begin(struct store *s, struct error *e);
enum err store_end(struct store *s, enum err so_far, struct error *e); // commits, or rolls back and returns so_far

void column_copy(sqlite3_stmt *q, int column, char *out, size_t size);
char *column_dup(sqlite3_stmt *q, int column); // NULL for null; heap

#endif
