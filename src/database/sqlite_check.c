// Is a SQLite database sound, and what is in it? Asked of SQLite itself, without changing a byte of any file.
//
//   no log beside it    opened as immutable: SQLite makes no -wal and no -shm
//   a log beside it     (the server was killed) opened alone: the log is read, its index is kept in memory, and
//                       nothing is carried back into the database
#include "database/sqlite.h"

#include "base/buf.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define NAME_BYTES  (16 * 1024)
#define FINDING_MAX 400

static bool is_there(const char *path, const char *suffix, bool filled) {
    char name[4096];
    struct stat info;
    if ((size_t)snprintf(name, sizeof name, "%s%s", path, suffix) >= sizeof name) return false;
    return stat(name, &info) == 0 && (!filled || info.st_size > 0);
}

// file:PATH?immutable=1, where what would have a meaning in such a name is written as %xx.
static enum err open_immutable(const char *path, sqlite3 **out) {
    struct buf name;
    buf_init(&name, NAME_BYTES);
    buf_printf(&name, "file:");
    for (const char *at = path; *at; at++) buf_printf(&name, strchr("%?#", *at) ? "%%%02x" : "%c", (unsigned char)*at);
    buf_printf(&name, "?immutable=1");
    int rc = buf_ok(&name) ? sqlite3_open_v2(buf_cstr(&name), out,
                                             SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_EXRESCODE, NULL)
                           : SQLITE_TOOBIG;
    buf_release(&name);
    return rc == SQLITE_OK ? ERR_OK : ERR_DATABASE;
}

static enum err open_alone(const char *path, sqlite3 **out) {
    if (sqlite3_open_v2(path, out, SQLITE_OPEN_READWRITE | SQLITE_OPEN_EXRESCODE, NULL) != SQLITE_OK)
        return ERR_DATABASE;
    sqlite3_db_config(*out, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    return sqlite3_exec(*out, "PRAGMA locking_mode=EXCLUSIVE;", NULL, NULL, NULL) == SQLITE_OK ? ERR_OK : ERR_DATABASE;
}

static void tell(const char *text, database_finding_fn *each, void *arg) {
    char line[FINDING_MAX];
    snprintf(line, sizeof line, "%s", text);
    for (char *at = line; *at; at++)
        if (*at == '\n') *at = ' ';
    each(arg, line);
}

// What the pragma says; damage that stops it in the middle is a finding as well.
static enum err ask(sqlite3 *handle, const char *pragma, const char *prefix, database_finding_fn *each, void *arg,
                    struct error *e) {
    sqlite3_stmt *s = NULL;
    char line[FINDING_MAX];
    int rc = sqlite3_prepare_v2(handle, pragma, -1, &s, NULL);
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(s);
        const char *text = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 0) : NULL;
        if (!text || strcmp(text, "ok") == 0) continue;
        snprintf(line, sizeof line, "%s%s", prefix, text);
        tell(line, each, arg);
    }
    enum err err = rc == SQLITE_DONE ? ERR_OK : sqlite_fail(handle, "checking", e);
    sqlite3_finalize(s);
    if (err != ERR_CORRUPT) return err;
    tell(e->text, each, arg);
    return ERR_CORRUPT;
}

static enum err open_unchanged(const char *url, sqlite3 **out, struct error *e) {
    const char *path = sqlite_path(url);
    if (!is_there(path, "", false)) return error_set(e, ERR_NOT_FOUND, "there is no database at %s", path);
    enum err err = is_there(path, "-wal", true) ? open_alone(path, out) : open_immutable(path, out);
    return err && *out ? sqlite_fail(*out, path, e) : err;
}

enum err sqlite_rows(const char *url, const char *sql, database_row_fn *each, void *arg, struct error *e) {
    sqlite3 *handle = NULL;
    sqlite3_stmt *s = NULL;
    enum err err = open_unchanged(url, &handle, e);
    if (!err && sqlite3_prepare_v2(handle, sql, -1, &s, NULL) == SQLITE_ERROR)
        err = error_set(e, ERR_NOT_FOUND, "%s", sqlite3_errmsg(handle));
    int rc = SQLITE_ROW;
    while (!err && (rc = sqlite3_step(s)) == SQLITE_ROW)
        each(arg, sqlite3_column_blob(s, 0), (size_t)sqlite3_column_bytes(s, 0), sqlite3_column_int64(s, 1));
    if (!err && rc != SQLITE_DONE) err = sqlite_fail(handle, "reading", e);
    sqlite3_finalize(s);
    sqlite3_close(handle);
    return err;
}

enum err sqlite_check(const char *url, database_finding_fn *each, void *arg, struct error *e) {
    sqlite3 *handle = NULL;
    enum err err = open_unchanged(url, &handle, e);
    if (!err) err = ask(handle, "PRAGMA integrity_check(1000)", "", each, arg, e);
    if (!err) err = ask(handle, "PRAGMA foreign_key_check", "refers to a row that is not there: ", each, arg, e);
    sqlite3_close(handle);
    return err == ERR_CORRUPT ? ERR_OK : err;
}
