// The database port: who, which conversation, what state. SQLite embedded; PostgreSQL is its twin.
//
// Work is done in units: a function run on a database thread inside a transaction, answered on the loop
// thread after the commit. Many write units share one commit; each runs in its own savepoint, so one that
// fails takes back only what it did itself. Read-only units run beside them on a reading connection and see
// everything that was committed before they were submitted.
//
// `run` may be called again after a rollback (PostgreSQL: a deadlock, a serialization failure, a connection lost before
// the commit): it begins from what was asked, and overwrites whatever an earlier run left in its unit.
//
//   static enum err run(struct db *db, struct db_unit *u) { … db_prepare / db_bind_* / db_step … }
//   static void done(struct db_unit *u, enum err err) { … answer … }
//
// Statements are constants with a text that both SQLite (3.35+) and PostgreSQL understand, parameters written
// ?1, ?2, …; where the dialects part, `.postgres` holds the other one. Prepared once a connection.
#ifndef BARID_DATABASE_DATABASE_H
#define BARID_DATABASE_DATABASE_H

#include "base/embedded.h"
#include "base/error.h"
#include "base/id.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;
struct database;
struct db; // a connection, inside a unit

struct db_unit {
    enum err (*run)(struct db *db, struct db_unit *u); // database thread; not ERR_OK: rolled back
    void (*done)(struct db_unit *u, enum err err);     // loop thread, after the commit
    bool read_only;
    bool once; // PostgreSQL: not again after a deadlock or a lock that took too long; who submits it has another way
    bool frees_space; // taken below the low-water mark too: what it removes outweighs what it writes
    // Writing units of the same lane run, and are done, in the order in which they were submitted. 0: no order is
    // needed. SQLite has one lane for all; PostgreSQL runs lanes side by side, each unit in a transaction of its own.
    uint32_t lane;
    struct error error;   // filled by run (or by the port) when it fails
    struct db_unit *next; // private
    enum err result;      // private
    unsigned commits;     // private
};

struct database_options {
    const char *url;          // "sqlite:PATH" (a plain path too), or "postgresql://…" as libpq understands it
    uint32_t max_pending;     // units waiting at most, 0: 65,536; beyond: ERR_BUSY
    uint32_t cache_bytes;     // page cache a connection, 0: 4 MiB
    uint64_t low_water_bytes; // SQLite: free disk space below which writing is refused, 0: 64 MiB
    uint32_t connections;     // PostgreSQL: for writing, 0: 8; a quarter as many, at least 2, for reading; 1 to listen
};

// Which kind of database a URL names: the migrations differ.
enum database_kind { DATABASE_SQLITE, DATABASE_POSTGRES };
enum database_kind database_kind(const char *url);
enum database_kind database_kind_of(const struct database *d);

// The name of the database in a data directory, so that server and tools agree.
#define DATABASE_FILE "barid.db"

// A hundred of numbers is a component: 1… outbox and inbox, 101… what only the server needs. "Newer than the program"
// is judged within the components the program names, so that `barid relay` works beside a newer server's tables.
struct migration {
    uint32_t number;
    const char *name;
    const char *sql;                  // the text, or NULL and
    const struct embedded_file *file; // the file built in: .file = &outbox_migrations[0]
};

// Opens, applies the migrations that are missing (each in its own transaction; refuses a database that is
// newer than the program with ERR_VERSION), starts the threads. The migrations array ends with number 0.
// NULL: for tools beside a running server; nothing is made or changed, ERR_NOT_FOUND when there is no database.
enum err database_open(struct database **out, struct loop *loop, const struct database_options *o,
                       const struct migration *migrations, struct error *e);
void database_close(struct database *d); // finishes what was submitted; `done`s have run when it returns
// The unit is the port's until done() was called. ERR_BUSY when the queue is full, ERR_FULL below the
// low-water mark for units that write and are not `frees_space`.
enum err database_submit(struct database *d, struct db_unit *u);

// Whether what a database has stored is sound: `each` is told what is not. Changes nothing, not even a file beside it,
// and wants it for itself: ERR_BUSY while a server runs. ERR_NOT_FOUND when there is none.
typedef void database_finding_fn(void *arg, const char *what);
enum err database_check(const char *url, database_finding_fn *each, void *arg, struct error *e);

// What one statement finds in a database that nobody has open: its first two columns, a blob and a number. Changes
// nothing either. SQLite only; ERR_NOT_FOUND when there is no database, or not the tables.
typedef void database_row_fn(void *arg, const void *blob, size_t n, int64_t number);
enum err database_rows(const char *url, const char *sql, database_row_fn *each, void *arg, struct error *e);

// Applies what is missing, and tells each that was applied; for `barid migrate`. Needs no loop. PostgreSQL: under an
// advisory lock, so that any number of programs may start at once.
typedef void database_migrated_fn(void *arg, uint32_t number, const char *name);
enum err database_migrate(const char *url, const struct migration *migrations, database_migrated_fn *each, void *arg,
                          struct error *e);

// ---- notices: PostgreSQL's LISTEN and NOTIFY --------------------------------------------------------------------
// On SQLite nobody else writes: listening does nothing, and neither does db_notify.

// On the loop thread. `payload` NULL: something may have been missed (just connected, or connected again), or what
// database_notices says has changed, so look for yourself. Equal notices without a payload may come as one. The channel
// is a plain identifier.
typedef void database_notice_fn(void *arg, const char *payload);
enum err database_listen(struct database *d, const char *channel, database_notice_fn *fn, void *arg, struct error *e);
void database_unlisten(struct database *d, const char *channel, database_notice_fn *fn, void *arg);

// Do notices come through? After every connect a probe is sent through an ordinary connection and waited for (2 s).
enum database_notices {
    NOTICES_NONE, // SQLite
    NOTICES_ARRIVE,
    NOTICES_LOST, // a pooler swallows them: whoever waits for notices must look by itself, say every second
    NOTICES_AWAY, // the listening connection is down, or the probe is still under way
};
enum database_notices database_notices(const struct database *d);

// Moves the low-water mark of the options.
void database_low_water(struct database *d, uint64_t bytes);

struct database_stats {
    uint64_t units, commits, failed, pending;
    uint64_t again;     // PostgreSQL: runs beyond a unit's first, after a deadlock or a lost connection
    uint32_t connected; // PostgreSQL: connections that stand; SQLite: 2
};
void database_stats(const struct database *d, struct database_stats *out);

// ---- inside a unit --------------------------------------------------------------------------------------

struct db_sql {
    const char *text;
    const char *postgres; // NULL: the same text
    uint32_t slot;        // private: given at first use
};

struct db_stmt;

// The cached statement, reset, its bindings cleared. Never NULL: a text that does not compile is a
// programmer's error.
struct db_stmt *db_prepare(struct db *db, struct db_sql *sql);
void db_bind_int(struct db_stmt *s, int index, int64_t v);                     // index from 1, as in ?1
void db_bind_text(struct db_stmt *s, int index, const char *text);             // NULL binds null
void db_bind_text_n(struct db_stmt *s, int index, const char *text, size_t n); // must outlive the step
void db_bind_blob(struct db_stmt *s, int index, const void *data, size_t n);
void db_bind_id(struct db_stmt *s, int index, const struct id *id);
void db_bind_null(struct db_stmt *s, int index);
// PostgreSQL only, for statements on many rows: bigint[], text[], bytea[]. NULL elements of texts and blobs are null.
void db_bind_ints(struct db_stmt *s, int index, const int64_t *v, size_t n);
void db_bind_texts(struct db_stmt *s, int index, const char *const *texts, size_t n);
struct db_bytes {
    const void *data;
    size_t n;
};
void db_bind_blobs(struct db_stmt *s, int index, const struct db_bytes *v, size_t n);
enum database_kind db_kind(const struct db *db);
// Delivered to who listens, in any process, after the unit's commit; not when it fails. Equal ones of a unit are one. A
// process that is killed in that very moment tells nobody: who listens looks for itself now and then all the same.
enum err db_notify(struct db *db, const char *channel, const char *payload);

enum db_row { DB_ROW = 1, DB_DONE = 0 };
// DB_ROW, DB_DONE, or minus an enum err: -ERR_CONFLICT for a violated constraint, -ERR_FULL, -ERR_DATABASE …
int db_step(struct db_stmt *s);
// For statements without rows: steps to the end. ERR_OK or the error.
enum err db_run(struct db_stmt *s);
// The same for a statement whose outcome the unit does not look at: on PostgreSQL it goes out with the next one that is
// waited for, or with the commit, and costs no round trip of its own. An error it meets is the next one's, or the
// unit's.
enum err db_run_later(struct db_stmt *s);
int64_t db_changes(struct db *db); // rows changed by the last statement that ran to its end

int64_t db_int(struct db_stmt *s, int column); // columns from 0; null gives 0
bool db_is_null(struct db_stmt *s, int column);
const char *db_text(struct db_stmt *s, int column, size_t *n); // valid until the next step or prepare; n may be NULL
const void *db_blob(struct db_stmt *s, int column, size_t *n);
bool db_id(struct db_stmt *s, int column, struct id *out); // false when null or not 16 bytes
struct error *db_error(struct db *db);                     // the unit's error, to be filled with error_set

#endif
