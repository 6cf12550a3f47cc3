// What a database has to offer to the port: one table of functions a kind of database. Units never see it.
//
// A connection and a statement begin with a pointer to their driver; the port's db_* calls go through it. Every
// connection belongs to one thread at a time.
#ifndef BARID_DATABASE_DRIVER_H
#define BARID_DATABASE_DRIVER_H

#include "database/database.h"

struct db {
    const struct db_driver *driver;
    struct error *error; // of the unit that is running
};

struct db_stmt {
    const struct db_driver *driver;
};

enum db_role { DB_WRITER, DB_READER };

struct db_driver {
    enum database_kind kind;
    // `create`: make the database when it is not there; otherwise ERR_NOT_FOUND.
    enum err (*open)(const struct database_options *o, enum db_role role, bool create, struct db **out,
                     struct error *e);
    void (*close)(struct db *db);
    enum err (*check)(const char *url, database_finding_fn *each, void *arg, struct error *e); // database_check
    // database_rows; NULL: it has no such
    enum err (*rows)(const char *url, const char *sql, database_row_fn *each, void *arg, struct error *e);
    enum err (*exec)(struct db *db, const char *text, struct error *e); // several statements, no parameters

    enum err (*begin)(struct db *db, struct error *e);
    enum err (*commit)(struct db *db, struct error *e);
    void (*rollback)(struct db *db);
    enum err (*savepoint)(struct db *db, struct error *e);
    enum err (*release)(struct db *db, struct error *e);
    bool (*rollback_to)(struct db *db);                     // to the savepoint; false: the whole transaction is lost
    void (*end_unit)(struct db *db);                        // lets go of the statements the unit used
    void (*after_commit)(struct db *db);                    // upkeep, once the units have been answered
    enum err (*space)(struct db *db, uint64_t *free_bytes); // from the loop thread; ERR_UNSUPPORTED: not ours

    struct db_stmt *(*prepare)(struct db *db, const struct db_sql *sql, uint32_t slot);
    int64_t (*changes)(struct db *db);
    void (*bind_int)(struct db_stmt *s, int index, int64_t v);
    void (*bind_text)(struct db_stmt *s, int index, const char *text, size_t n);
    void (*bind_blob)(struct db_stmt *s, int index, const void *data, size_t n);
    void (*bind_null)(struct db_stmt *s, int index);
    // The first three are NULL where there is no such thing.
    void (*bind_ints)(struct db_stmt *s, int index, const int64_t *v, size_t n);
    void (*bind_texts)(struct db_stmt *s, int index, const char *const *texts, size_t n);
    void (*bind_blobs)(struct db_stmt *s, int index, const struct db_bytes *v, size_t n);
    enum err (*run_later)(struct db_stmt *s); // NULL: as db_run
    enum err (*notify)(struct db *db, const char *channel, const char *payload);
    int (*step)(struct db_stmt *s);
    int64_t (*column_int)(struct db_stmt *s, int column);
    bool (*column_null)(struct db_stmt *s, int column);
    const char *(*column_text)(struct db_stmt *s, int column, size_t *n);
    const void *(*column_blob)(struct db_stmt *s, int column, size_t *n);
};

extern const struct db_driver sqlite_driver;
extern const struct db_driver postgres_driver; // where every call fails when PostgreSQL was left out of the build

#endif
