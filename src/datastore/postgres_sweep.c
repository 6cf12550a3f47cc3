// The sweep of the contents in PostgreSQL: finds what nobody owns, removals that waited for a hold whose server is
// gone, and uploads that were given up. One server at a time, by a lease in the database that every step renews.
//
//   lease ─> list (unit) ─> ask about those old enough (loop) ─> remove the unwanted (unit) ─> … ─> uploads, lease back
//
// A content that is named or owned after it was listed has another `version` then, and stays.
#include "datastore/postgres.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

#define BATCH    128
#define LEASE_MS 120000 // for one step, the owner's verdict included
#define AGE_MAX  (100ull * 365 * 86400000)

struct pg_sweep {
    struct pg_unit unit;
    struct pg_store *d;
    uint64_t min_age_ms;
    ds_ask_fn *ask;
    ds_swept_fn *done;
    void *arg;
    uint8_t after[DATASTORE_HASH], up_to[DATASTORE_HASH]; // listed before, and by the unit in flight
    bool begun, last;                                     // last: the list has come to its end
    size_t n, young;                                      // asked about; too young for that
    uint8_t hashes[BATCH][DATASTORE_HASH];
    int64_t versions[BATCH];
    uint8_t wanted[BATCH];
    int64_t uploads[DS_WRITERS_MAX]; // that we are writing
    size_t uploads_n;
    bool asking, in_unit;
    uint64_t gone, kept, removed; // gone: in the unit in flight
    enum err err;
};

static void submit(struct pg_sweep *s, enum err (*run)(struct db *, struct pg_unit *),
                   void (*done)(struct pg_unit *, enum err)) {
    s->unit = (struct pg_unit){.run = run, .done = done};
    s->unit.unit.frees_space = true;
    s->in_unit = true;
    pg_unit_submit(s->d, &s->unit);
}

// True: the store was closed, and the sweep is gone.
static bool step_ended(struct pg_sweep *s) {
    s->in_unit = false;
    if (!s->d->port.closed) return false;
    free(s);
    return true;
}

void pg_sweep_drop(struct pg_store *d) {
    if (d->sweep && d->sweep->asking && !d->sweep->in_unit) free(d->sweep);
    d->sweep = NULL;
}

static void finish(struct pg_sweep *s) {
    s->d->sweep = NULL;
    s->done(s->arg, s->err, s->kept, s->removed);
    free(s);
}

// ---- the lease, the first thing in every unit: who has lost it must not go on

static enum err take_lease(struct db *db, const struct pg_sweep *s, int64_t ms) {
    static struct db_sql sql = {.text = "update datastore_sweep set sweeper = ?1, "
                                        "lease_until = clock_timestamp() + ?2::bigint * interval '1 millisecond' "
                                        "where lease_until <= clock_timestamp() or sweeper = ?1"};
    struct db_stmt *st = db_prepare(db, &sql);
    db_bind_blob(st, 1, &s->d->self, sizeof s->d->self);
    db_bind_int(st, 2, ms);
    enum err err = db_run(st);
    if (err || db_changes(db) == 1) return err;
    return error_set(db_error(db), ERR_BUSY, "another server is sweeping");
}

// ---- contents

static enum err list_run(struct db *db, struct pg_unit *u) {
    static struct db_sql sql = {
        .text = "select hash, version, named_at > clock_timestamp() - ?3::bigint * interval '1 millisecond' "
                "from datastore_content where hash > ?1 or ?4 = 0 order by hash limit ?2"};
    struct pg_sweep *s = (struct pg_sweep *)u;
    enum err err = take_lease(db, s, LEASE_MS);
    if (err) return err;
    struct db_stmt *st = db_prepare(db, &sql);
    db_bind_blob(st, 1, s->after, DATASTORE_HASH);
    db_bind_int(st, 2, BATCH);
    db_bind_int(st, 3, (int64_t)s->min_age_ms);
    db_bind_int(st, 4, s->begun);
    size_t rows = 0;
    s->n = s->young = 0;
    for (bool found = true; found; rows += found) {
        err = pg_row(st, &found);
        if (err) return err;
        if (!found) break;
        size_t size;
        const void *hash = db_blob(st, 0, &size);
        ASSERT(size == DATASTORE_HASH && rows < BATCH);
        memcpy(s->hashes[s->n], hash, DATASTORE_HASH);
        memcpy(s->up_to, hash, DATASTORE_HASH);
        s->versions[s->n] = db_int(st, 1);
        if (db_int(st, 2)) s->young++;
        else s->n++;
    }
    s->last = rows < BATCH;
    return ERR_OK;
}

// Unless it was named or owned since, or is held.
static enum err remove_one(struct db *db, struct pg_sweep *s, size_t i) {
    static struct db_sql sql = {.text = "delete from datastore_content where hash = ?1 and version = ?2 "
                                        "and (holds = 0 or hold_until <= clock_timestamp()) returning upload"};
    struct db_stmt *st = db_prepare(db, &sql);
    db_bind_blob(st, 1, s->hashes[i], DATASTORE_HASH);
    db_bind_int(st, 2, s->versions[i]);
    bool found;
    enum err err = pg_row(st, &found);
    if (err || !found) return err;
    s->gone++;
    return pg_upload_delete(db, db_int(st, 0));
}

static enum err remove_run(struct db *db, struct pg_unit *u) {
    struct pg_sweep *s = (struct pg_sweep *)u;
    s->gone = 0;
    enum err err = take_lease(db, s, LEASE_MS);
    for (size_t i = 0; !err && i < s->n; i++)
        if (!s->wanted[i]) err = remove_one(db, s, i);
    return err;
}

static void next_list(struct pg_sweep *s);

static void remove_done(struct pg_unit *u, enum err err) {
    struct pg_sweep *s = (struct pg_sweep *)u;
    if (step_ended(s)) return;
    if (!err) {
        s->removed += s->gone;
        s->kept += s->n - s->gone;
    }
    s->err = err;
    next_list(s);
}

static void verdict(void *arg, const uint8_t *wanted) {
    struct pg_sweep *s = arg;
    ASSERT(s->asking);
    s->asking = false;
    memcpy(s->wanted, wanted, s->n);
    submit(s, remove_run, remove_done);
}

static void list_done(struct pg_unit *u, enum err err) {
    struct pg_sweep *s = (struct pg_sweep *)u;
    if (step_ended(s)) return;
    s->err = err;
    if (!err) {
        s->kept += s->young;
        memcpy(s->after, s->up_to, DATASTORE_HASH);
        s->begun = true;
    }
    if (err || s->n == 0) {
        next_list(s);
        return;
    }
    s->asking = true;
    s->ask(s->arg, (const uint8_t(*)[DATASTORE_HASH])s->hashes, s->n, verdict, s);
}

// ---- at the end: removals whose server is gone, uploads that were given up, and the lease goes back

static enum err remove_asked(struct db *db, struct pg_sweep *s) {
    static struct db_sql sql = {.text = "with gone as (delete from datastore_content where removal_asked "
                                        "and hold_until <= clock_timestamp() returning upload) "
                                        "delete from datastore_upload u using gone where u.id = gone.upload"};
    enum err err = db_run(db_prepare(db, &sql));
    if (!err) s->gone += (uint64_t)db_changes(db);
    return err;
}

static enum err remove_uploads(struct db *db, struct pg_sweep *s) {
    static struct db_sql sql = {.text = "delete from datastore_upload u where u.id <> all(?1) "
                                        "and u.written_at <= clock_timestamp() - ?2::bigint * interval '1 millisecond' "
                                        "and not exists (select 1 from datastore_content c where c.upload = u.id)"};
    struct db_stmt *st = db_prepare(db, &sql);
    db_bind_ints(st, 1, s->uploads, s->uploads_n);
    db_bind_int(st, 2, (int64_t)(s->min_age_ms > s->d->abandoned_ms ? s->min_age_ms : s->d->abandoned_ms));
    enum err err = db_run(st);
    if (!err) s->gone += (uint64_t)db_changes(db);
    return err;
}

static enum err end_run(struct db *db, struct pg_unit *u) {
    struct pg_sweep *s = (struct pg_sweep *)u;
    s->gone = 0;
    enum err err = take_lease(db, s, 0);
    if (!err) err = remove_asked(db, s);
    return err ? err : remove_uploads(db, s);
}

static void end_done(struct pg_unit *u, enum err err) {
    struct pg_sweep *s = (struct pg_sweep *)u;
    if (step_ended(s)) return;
    s->err = err;
    if (!err) s->removed += s->gone;
    finish(s);
}

static void next_list(struct pg_sweep *s) {
    if (s->err) {
        finish(s);
    } else if (s->last) {
        s->uploads_n = pg_uploads(s->d, s->uploads);
        submit(s, end_run, end_done);
    } else {
        submit(s, list_run, list_done);
    }
}

// ---- refusing a second one, asynchronously as every answer

static enum err refuse_run(struct db *db, struct pg_unit *u) { return ERR_BUSY; }

static void refuse_done(struct pg_unit *u, enum err err) {
    struct pg_sweep *s = (struct pg_sweep *)u;
    if (step_ended(s)) return;
    s->done(s->arg, ERR_BUSY, 0, 0);
    free(s);
}

void pg_sweep(struct datastore *port, uint64_t min_age_ms, ds_ask_fn *ask, ds_swept_fn *done, void *arg) {
    struct pg_store *d = pg_store_of(port);
    struct pg_sweep *s = calloc(1, sizeof *s);
    if (!s) die("no memory for the data store");
    s->d = d;
    s->min_age_ms = min_age_ms < AGE_MAX ? min_age_ms : AGE_MAX;
    s->ask = ask;
    s->done = done;
    s->arg = arg;
    if (d->sweep) {
        submit(s, refuse_run, refuse_done);
        return;
    }
    d->sweep = s;
    submit(s, list_run, list_done);
}
