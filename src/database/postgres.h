// What the files of the PostgreSQL driver share.
#ifndef BARID_DATABASE_POSTGRES_H
#define BARID_DATABASE_POSTGRES_H

#include "database/driver.h"

#include <libpq-fe.h>

#define POSTGRES_PARAMETERS 32  // of a statement at most
#define POSTGRES_VARIANTS   8   // of a statement: the same text with other kinds of parameters
#define POSTGRES_PIPELINE   256 // requests on their way at most
#define POSTGRES_SAID       200 // different notices of a unit at most

// What became of the transaction beside its error: may the unit be run again?
enum postgres_fate {
    FATE_SURE,  // the error is the unit's own
    FATE_AGAIN, // a deadlock, a serialization failure, a statement the server has forgotten: run it again
    FATE_LOST,  // the connection is gone: run it again on another
};

struct postgres_parameter {
    Oid type;          // 0: not known, the server finds out
    const char *value; // NULL: null
    int size;
    char number[8];
    char *array; // made for an array, freed with the binding
};

struct postgres_stmt {
    struct db_stmt base;
    struct postgres_db *db;
    char *text; // with $1
    int parameters;
    struct postgres_parameter bound[POSTGRES_PARAMETERS];
    Oid usual[POSTGRES_PARAMETERS];       // what was bound last; a null is taken for one of these
    uint64_t prepared[POSTGRES_VARIANTS]; // names the server knows
    int variants;
    PGresult *result;
    int row;                         // of the result
    struct postgres_stmt *next_used; // in the unit that is running
    bool used, running;
};

// A request whose answer has not been read.
struct postgres_request {
    struct postgres_stmt *stmt;
    uint64_t prepares; // the name that the server knows once this has succeeded; 0: it is no preparation
};

struct postgres_said {
    char *channel, *payload;
};

struct postgres_session {
    bool pooled;     // settings and prepared statements do not survive the transaction: somebody stands between
    int patience_ms; // longer than the server lets a statement take
};

struct postgres_db {
    struct db base;
    PGconn *conn;
    enum db_role role;
    struct postgres_session session;
    bool unnamed;        // statements are parsed every time: a pooler was found out
    bool migrating;      // … because each runs once, and a pooler may have another connection for each of them
    unsigned generation; // of the statements' names
    bool begun;          // inside a transaction, as far as the unit knows
    bool begin_sent;     // and as far as the server does
    bool commit_sent;
    enum postgres_fate fate; // since the transaction began
    struct error failed;     // the first error since the transaction began; the server refuses all that follows
    int64_t changes;
    struct postgres_stmt **stmts; // by slot
    uint32_t slots;
    struct postgres_stmt *used;
    struct postgres_request requests[POSTGRES_PIPELINE];
    unsigned requested;
    struct postgres_said said[POSTGRES_SAID]; // by the unit that is running
    unsigned said_count;
    bool unread; // a sync among the requests, which nobody has waited for
};

extern const struct db_driver postgres_driver;

// postgres_connect.c
// Connects, and makes the session ours: search path, time limits. `pipeline`: in pipeline mode, not blocking; otherwise
// as libpq gives it.
enum err postgres_connect(const char *url, bool pipeline, PGconn **out, struct postgres_session *session,
                          struct error *e);
// A statement without parameters on a connection that is not in pipeline mode, waited for so long at most. False:
// something failed, PQerrorMessage knows what.
bool postgres_ask(PGconn *conn, const char *text, int patience_ms);

// postgres_error.c
// Our code for what the server said; fills `e`, and tells whether the unit may run again. Dies when a statement of ours
// is wrong.
enum err postgres_fail(const PGresult *r, const char *text, struct error *e, enum postgres_fate *fate);
enum err postgres_lost(PGconn *conn, const char *doing, struct error *e);

// postgres_pipeline.c
// Sends a request without waiting; the transaction's beginning goes in front of the first. False: the connection is
// lost, which is in db->failed.
bool postgres_begin_unsent(struct postgres_db *db);
bool postgres_ask_plain(struct postgres_db *db, const char *text);
bool postgres_request(struct postgres_db *db, int sent, struct postgres_stmt *s, uint64_t prepares);
// Waits for all answers. `last` (may be NULL) becomes the last one when all went well: PQclear it.
enum err postgres_collect(struct postgres_db *db, PGresult **last);
// Sends what was asked, and does not wait: the answers are read, and forgotten, with the next ones.
enum err postgres_leave(struct postgres_db *db);

// postgres_notify.c
enum err postgres_notify(struct db *db, const char *channel, const char *payload);
void postgres_say(struct postgres_db *db); // after the commit
void postgres_forget_said(struct postgres_db *db);

// postgres_statement.c
struct db_stmt *postgres_prepare(struct db *db, const struct db_sql *sql, uint32_t slot);
void postgres_end_unit(struct db *db);
void postgres_free_statements(struct postgres_db *db);
void postgres_forget_prepared(struct postgres_db *db);
int64_t postgres_changes(struct db *db);
int postgres_step(struct db_stmt *s);
enum err postgres_run_later(struct db_stmt *s);

// postgres_value.c
void postgres_bind_int(struct db_stmt *s, int index, int64_t v);
void postgres_bind_text(struct db_stmt *s, int index, const char *text, size_t n);
void postgres_bind_blob(struct db_stmt *s, int index, const void *data, size_t n);
void postgres_bind_null(struct db_stmt *s, int index);
void postgres_bind_ints(struct db_stmt *s, int index, const int64_t *v, size_t n);
void postgres_bind_texts(struct db_stmt *s, int index, const char *const *texts, size_t n);
void postgres_bind_blobs(struct db_stmt *s, int index, const struct db_bytes *v, size_t n);
void postgres_unbind(struct postgres_stmt *s);
int64_t postgres_read_int(struct db_stmt *s, int column);
bool postgres_read_null(struct db_stmt *s, int column);
const char *postgres_read_text(struct db_stmt *s, int column, size_t *n);
const void *postgres_read_blob(struct db_stmt *s, int column, size_t *n);

#endif
