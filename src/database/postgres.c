// PostgreSQL behind the database port: connections and transactions.
//
// A unit has a transaction of its own, READ COMMITTED for writing; a reading unit sees one snapshot. Its BEGIN goes out
// with the first statement (postgres_pipeline.c). Once a statement has failed the server refuses the rest of the
// transaction, so the unit fails as a whole: what may conflict says ON CONFLICT.
#include "database/postgres.h"

#include "base/assert.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

static struct postgres_db *of(struct db *base) { return (struct postgres_db *)base; }

static void clear_transaction(struct postgres_db *db) {
    postgres_forget_said(db);
    db->begun = db->begin_sent = db->commit_sent = false;
    db->fate = FATE_SURE;
    db->failed = (struct error){0};
}

static enum err postgres_open(const struct database_options *o, enum db_role role, bool create, struct db **out,
                              struct error *e) {
    struct postgres_db *db = calloc(1, sizeof *db);
    if (!db) return error_set(e, ERR_NOMEM, "no memory for the database");
    db->base.driver = &postgres_driver;
    db->role = role;
    db->migrating = create;
    enum err err = postgres_connect(o->url, true, &db->conn, &db->session, e);
    if (err) {
        free(db);
        return err;
    }
    *out = &db->base;
    return ERR_OK;
}

static void postgres_close(struct db *base) {
    struct postgres_db *db = of(base);
    postgres_free_statements(db);
    postgres_forget_said(db);
    PQfinish(db->conn);
    free(db);
}

static enum err postgres_check(const char *url, database_finding_fn *each, void *arg, struct error *e) {
    return error_set(e, ERR_UNSUPPORTED,
                     "PostgreSQL looks after its own files: pg_amcheck and data checksums check them");
}

// Several statements need the simple protocol, which libpq does not speak in pipeline mode.
static enum err postgres_exec(struct db *base, const char *text, struct error *e) {
    struct postgres_db *db = of(base);
    if (!postgres_begin_unsent(db) || postgres_collect(db, NULL)) {
        if (e) *e = db->failed;
        return db->failed.code;
    }
    if (!PQexitPipelineMode(db->conn)) return postgres_lost(db->conn, "running a script", e);
    PGresult *r = PQexec(db->conn, text);
    enum err err = ERR_OK;
    if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
        err = postgres_fail(r, NULL, e, &db->fate);
    PQclear(r);
    if (!PQenterPipelineMode(db->conn) && !err) err = postgres_lost(db->conn, "running a script", e);
    if (err && e) db->failed = *e;
    return err;
}

// A server that has gone says so while nobody asks: better found out before anything is sent, since a commit that is on
// its way when the connection breaks is uncertain.
static bool still_there(PGconn *conn) {
    struct pollfd p = {.fd = PQsocket(conn), .events = POLLIN};
    while (poll(&p, 1, 0) > 0)
        if (!PQconsumeInput(conn)) return false;
    return PQstatus(conn) == CONNECTION_OK;
}

static enum err postgres_begin(struct db *base, struct error *e) {
    struct postgres_db *db = of(base);
    clear_transaction(db);
    db->begun = true;
    if (still_there(db->conn)) return ERR_OK;
    db->fate = FATE_LOST;
    postgres_lost(db->conn, "beginning a transaction", &db->failed);
    if (e) *e = db->failed;
    return db->failed.code;
}

static enum err end(struct postgres_db *db, const char *text, PGresult **r) {
    return postgres_ask_plain(db, text) ? postgres_collect(db, r) : db->failed.code;
}

// Nobody waits for the end of a transaction that has changed nothing: the answer is read with the next one's.
static enum err end_reading(struct postgres_db *db, struct error *e) {
    enum err err = db->failed.code;
    if (!err && db->begin_sent && !postgres_ask_plain(db, "commit")) err = db->failed.code;
    if (!err && db->begin_sent) err = postgres_leave(db);
    if (err && e) *e = db->failed;
    if (!err) db->begun = db->begin_sent = false;
    return err;
}

static enum err postgres_commit(struct db *base, struct error *e) {
    struct postgres_db *db = of(base);
    if (db->role == DB_READER) return end_reading(db, e);
    enum err err = db->failed.code;
    if (!err && db->begin_sent) {
        PGresult *r = NULL;
        db->commit_sent = true;
        err = end(db, "commit", &r);
        if (!err && strcmp(PQcmdStatus(r), "COMMIT") != 0)
            err = error_set(&db->failed, ERR_DATABASE, "the transaction was rolled back");
        PQclear(r);
        if (!err) db->begin_sent = false;
    }
    if (!err) db->begun = false;
    else if (e && e->code != err) *e = db->failed;
    if (!err) postgres_say(db);
    return err;
}

// The caller may still want to know the transaction's fate.
static void postgres_rollback(struct db *base) {
    struct postgres_db *db = of(base);
    enum postgres_fate fate = db->fate;
    struct error failed = db->failed;
    postgres_end_unit(base);
    if (db->begin_sent && fate != FATE_LOST) {
        if (db->requested) postgres_collect(db, NULL);
        db->failed.code = ERR_OK;
        if (db->fate != FATE_LOST) end(db, "rollback", NULL);
        if (db->failed.code) db->fate = FATE_LOST; // nothing that can be trusted any more
        if (db->fate == FATE_LOST) fate = FATE_LOST;
    }
    db->begun = db->begin_sent = false;
    db->fate = fate;
    db->failed = failed;
}

static enum err no_savepoint(struct db *db, struct error *e) { return ERR_OK; }

static bool rollback_all(struct db *db) { return false; }

static void nothing_after_commit(struct db *db) {}

static enum err space_is_not_ours(struct db *db, uint64_t *free_bytes) { return ERR_UNSUPPORTED; }

const struct db_driver postgres_driver = {
    .kind = DATABASE_POSTGRES,
    .open = postgres_open,
    .close = postgres_close,
    .check = postgres_check,
    .exec = postgres_exec,
    .begin = postgres_begin,
    .commit = postgres_commit,
    .rollback = postgres_rollback,
    .savepoint = no_savepoint,
    .release = no_savepoint,
    .rollback_to = rollback_all,
    .end_unit = postgres_end_unit,
    .after_commit = nothing_after_commit,
    .space = space_is_not_ours,
    .prepare = postgres_prepare,
    .changes = postgres_changes,
    .bind_int = postgres_bind_int,
    .bind_text = postgres_bind_text,
    .bind_blob = postgres_bind_blob,
    .bind_null = postgres_bind_null,
    .bind_ints = postgres_bind_ints,
    .bind_texts = postgres_bind_texts,
    .bind_blobs = postgres_bind_blobs,
    .notify = postgres_notify,
    .step = postgres_step,
    .run_later = postgres_run_later,
    .column_int = postgres_read_int,
    .column_null = postgres_read_null,
    .column_text = postgres_read_text,
    .column_blob = postgres_read_blob,
};
