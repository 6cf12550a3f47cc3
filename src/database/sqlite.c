// SQLite behind the database port: connections, transactions, and what its errors mean.
//
// A database is PATH, PATH-wal (the write-ahead log) and PATH-shm. Commits append to the log and sync it
// (synchronous=FULL); sqlite_checkpoint.c carries the log back into the database beside the writer. Two
// connections: the writer owns all transactions that change something, the reader never blocks it.
//
// secure_delete is ON rather than FAST: FAST leaves what was on pages that become free, and a long text
// occupies whole pages of its own. The measured difference is in README.md.
#include "database/sqlite.h"

#include "base/assert.h"
#include "base/io.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUSY_TIMEOUT_MS 10000 // only tools beside the server compete for the write lock
#define WAL_FILE_LIMIT  (64 << 20)

enum err sqlite_fail(sqlite3 *handle, const char *doing, struct error *e) {
    int rc = sqlite3_extended_errcode(handle), os = sqlite3_system_errno(handle);
    const char *text = sqlite3_errmsg(handle);
    if (rc == SQLITE_IOERR_FSYNC || rc == SQLITE_IOERR_DIR_FSYNC)
        die("the database could not be synced to disk (%s); what was not confirmed is not stored", strerror(os));
    bool no_space = (rc & 0xff) == SQLITE_IOERR && (os == ENOSPC || os == EDQUOT);
    if (no_space) return error_set(e, ERR_FULL, "%s: no space is left on the disk", doing);
    switch (rc & 0xff) {
    case SQLITE_CONSTRAINT: return error_set(e, ERR_CONFLICT, "%s", text);
    case SQLITE_FULL: return error_set(e, ERR_FULL, "%s: no space is left on the disk", doing);
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return error_set(e, ERR_BUSY, "%s: the database is in use by another process", doing);
    case SQLITE_NOMEM: return error_set(e, ERR_NOMEM, "%s: out of memory", doing);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return error_set(e, ERR_CORRUPT, "%s: the database is damaged: %s", doing, text);
    case SQLITE_TOOBIG: return error_set(e, ERR_TOO_LARGE, "%s: %s", doing, text);
    case SQLITE_IOERR: return error_set(e, ERR_IO, "%s: %s (%s)", doing, text, strerror(os));
    default: return error_set(e, ERR_DATABASE, "%s: %s", doing, text);
    }
}

static enum err sqlite_exec(struct db *base, const char *text, struct error *e) {
    struct sqlite_db *db = (struct sqlite_db *)base;
    if (sqlite3_exec(db->handle, text, NULL, NULL, NULL) == SQLITE_OK) return ERR_OK;
    return sqlite_fail(db->handle, "running a script", e);
}

static int remember_wal_size(void *arg, sqlite3 *handle, const char *name, int pages) {
    struct sqlite_db *db = arg;
    db->wal_pages = pages;
    return SQLITE_OK;
}

static enum err set_up(struct sqlite_db *db, enum db_role role, uint32_t cache_bytes, struct error *e) {
    char pragmas[512];
    snprintf(pragmas, sizeof pragmas,
             "PRAGMA busy_timeout=%d;"
             "PRAGMA journal_mode=WAL;"
             "PRAGMA synchronous=FULL;"
             "PRAGMA foreign_keys=ON;"
             "PRAGMA secure_delete=ON;"
             "PRAGMA temp_store=MEMORY;"
             "PRAGMA mmap_size=0;"
             "PRAGMA trusted_schema=OFF;"
             "PRAGMA wal_autocheckpoint=0;"
             "PRAGMA journal_size_limit=%d;"
             "PRAGMA cache_size=-%u;"
             "%s",
             BUSY_TIMEOUT_MS, WAL_FILE_LIMIT, cache_bytes / 1024, role == DB_READER ? "PRAGMA query_only=ON;" : "");
    enum err err = sqlite_exec(&db->base, pragmas, e);
    if (err) return err;
    struct {
        const char *text;
        sqlite3_stmt **out;
    } statements[] = {
        {role == DB_WRITER ? "BEGIN IMMEDIATE" : "BEGIN", &db->begin},
        {"COMMIT", &db->commit},
        {"SAVEPOINT unit", &db->savepoint},
        {"RELEASE unit", &db->release},
        {"ROLLBACK TO unit", &db->rollback_to},
    };
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++)
        if (sqlite3_prepare_v3(db->handle, statements[i].text, -1, SQLITE_PREPARE_PERSISTENT, statements[i].out,
                               NULL) != SQLITE_OK)
            return sqlite_fail(db->handle, "preparing a transaction", e);
    return ERR_OK;
}

static void sqlite_close(struct db *base) {
    struct sqlite_db *db = (struct sqlite_db *)base;
    sqlite_checkpointer_free(db->checkpointer);
    sqlite_finalize_all(db);
    sqlite3_finalize(db->begin);
    sqlite3_finalize(db->commit);
    sqlite3_finalize(db->savepoint);
    sqlite3_finalize(db->release);
    sqlite3_finalize(db->rollback_to);
    if (db->handle) ASSERT(sqlite3_close(db->handle) == SQLITE_OK);
    if (db->io) io_os_free(db->io);
    free(db);
}

static enum err open_directory(const char *path, struct io **out, struct error *e) {
    const char *slash = strrchr(path, '/');
    char directory[1024] = ".";
    if (slash) {
        size_t n = slash == path ? 1 : (size_t)(slash - path);
        if (n >= sizeof directory) return error_set(e, ERR_INVALID, "the path of the database is too long");
        memcpy(directory, path, n);
        directory[n] = 0;
    }
    return io_os_new(out, directory, e);
}

static enum err open_files(struct sqlite_db *db, const char *path, enum db_role role, bool create, uint32_t cache,
                           struct error *e) {
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    enum err err = create ? open_directory(path, &db->io, e) : ERR_OK;
    if (err) return err;
    if (create) flags |= SQLITE_OPEN_CREATE;
    int rc = sqlite3_open_v2(path, &db->handle, flags, NULL);
    if (!db->handle) return error_set(e, ERR_NOMEM, "no memory for the database");
    if ((rc & 0xff) == SQLITE_CANTOPEN && !create)
        return error_set(e, ERR_NOT_FOUND, "there is no database at %s", path);
    if (rc != SQLITE_OK) return sqlite_fail(db->handle, path, e);
    err = set_up(db, role, cache, e);
    if (err || role == DB_READER) return err;
    sqlite3_wal_hook(db->handle, remember_wal_size, db);
    return sqlite_checkpointer_new(path, &db->checkpointer, e);
}

const char *sqlite_path(const char *url) { return strncmp(url, "sqlite:", 7) == 0 ? url + 7 : url; }

// Once in the process, before SQLite starts: without its statistics of memory, which nobody reads, an allocation takes
// no lock that all connections share.
static void configure(void) { sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0); }

static enum err sqlite_open(const struct database_options *o, enum db_role role, bool create, struct db **out,
                            struct error *e) {
    const char *path = sqlite_path(o->url);
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (!*path) return error_set(e, ERR_INVALID, "the database needs a path");
    pthread_once(&once, configure);
    struct sqlite_db *db = calloc(1, sizeof *db);
    if (!db) return error_set(e, ERR_NOMEM, "no memory for the database");
    db->base.driver = &sqlite_driver;
    enum err err = open_files(db, path, role, create, o->cache_bytes, e);
    if (err) {
        sqlite_close(&db->base);
        return err;
    }
    *out = &db->base;
    return ERR_OK;
}

static enum err run_own(struct sqlite_db *db, sqlite3_stmt *statement, const char *doing, struct error *e) {
    int rc = sqlite3_step(statement);
    enum err err = rc == SQLITE_DONE ? ERR_OK : sqlite_fail(db->handle, doing, e);
    sqlite3_reset(statement);
    return err;
}

static enum err sqlite_begin(struct db *base, struct error *e) {
    struct sqlite_db *db = (struct sqlite_db *)base;
    return run_own(db, db->begin, "beginning a transaction", e);
}

static void sqlite_rollback(struct db *base) {
    struct sqlite_db *db = (struct sqlite_db *)base;
    sqlite_end_unit(base);
    if (sqlite3_get_autocommit(db->handle)) return; // SQLite has done it already
    sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
    ASSERT(sqlite3_get_autocommit(db->handle));
}

static enum err sqlite_commit(struct db *base, struct error *e) {
    struct sqlite_db *db = (struct sqlite_db *)base;
    return run_own(db, db->commit, "committing", e);
}

static enum err sqlite_savepoint(struct db *base, struct error *e) {
    struct sqlite_db *db = (struct sqlite_db *)base;
    return run_own(db, db->savepoint, "setting a savepoint", e);
}

static enum err sqlite_release(struct db *base, struct error *e) {
    struct sqlite_db *db = (struct sqlite_db *)base;
    return run_own(db, db->release, "releasing a savepoint", e);
}

// A full disk or a failed read may make SQLite give up the whole transaction, other units' work with it.
static bool sqlite_rollback_to(struct db *base) {
    struct sqlite_db *db = (struct sqlite_db *)base;
    if (sqlite3_get_autocommit(db->handle)) return false;
    return run_own(db, db->rollback_to, "rolling back", NULL) == ERR_OK &&
           run_own(db, db->release, "rolling back", NULL) == ERR_OK;
}

static void sqlite_after_commit(struct db *base) {
    struct sqlite_db *db = (struct sqlite_db *)base;
    if (db->checkpointer) sqlite_checkpointer_committed(db->checkpointer, db);
}

static enum err sqlite_space(struct db *base, uint64_t *free_bytes) {
    struct sqlite_db *db = (struct sqlite_db *)base;
    if (!db->io) return ERR_UNSUPPORTED;
    struct io_space space;
    enum err err = db->io->v->space(db->io, &space);
    if (!err) *free_bytes = space.free_bytes;
    return err;
}

const struct db_driver sqlite_driver = {
    .kind = DATABASE_SQLITE,
    .open = sqlite_open,
    .close = sqlite_close,
    .check = sqlite_check,
    .rows = sqlite_rows,
    .exec = sqlite_exec,
    .begin = sqlite_begin,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .savepoint = sqlite_savepoint,
    .release = sqlite_release,
    .rollback_to = sqlite_rollback_to,
    .end_unit = sqlite_end_unit,
    .after_commit = sqlite_after_commit,
    .space = sqlite_space,
    .prepare = sqlite_prepare,
    .changes = sqlite_changes,
    .bind_int = sqlite_bind_int,
    .bind_text = sqlite_bind_text,
    .bind_blob = sqlite_bind_blob,
    .bind_null = sqlite_bind_null,
    .step = sqlite_step,
    .column_int = sqlite_read_int,
    .column_null = sqlite_read_null,
    .column_text = sqlite_read_text,
    .column_blob = sqlite_read_blob,
};
