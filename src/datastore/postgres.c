// The store on PostgreSQL itself: its units, and the names that contents hold and lose.
//
// Any number of servers share the contents, so that what keeps a content is in its row. An upload that names it holds
// it (`holds`, until `hold_until`): its server has yet to tell the owner. The owner's unit calls datastore_own, which
// locks the row and takes one hold back. A removal locks the same row, so it comes before (and the owner is told to
// upload again) or after (and finds the owner, when it looks in the same unit: datastore_remove_in). While a hold lasts
// a removal is only noted; owning takes the note back, and when the hold ends what still has it goes.
#include "datastore/postgres.h"

#include "base/assert.h"
#include "base/list.h"
#include "base/log.h"

#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#define HOLD_MS      60000
#define ABANDONED_MS 3600000
#define LATER_MS     50 // after the hold has ended

// ---- units

static enum err unit_run(struct db *db, struct db_unit *u) {
    struct pg_unit *p = (struct pg_unit *)u;
    return p->run(db, p);
}

static void unit_done(struct db_unit *u, enum err err) {
    struct pg_unit *p = (struct pg_unit *)u;
    struct pg_store *d = p->d;
    p->done(p, err); // frees it, perhaps
    ds_let_go(&d->port);
}

static void unit_refused(struct loop_post *post) {
    struct pg_unit *p = LIST_ITEM(post, struct pg_unit, refused);
    unit_done(&p->unit, p->unit.error.code ? p->unit.error.code : ERR_BUSY);
}

void pg_unit_submit(struct pg_store *d, struct pg_unit *u) {
    ASSERT(!d->port.closed);
    ds_hold(&d->port);
    u->d = d;
    u->unit.run = unit_run;
    u->unit.done = unit_done;
    if (database_submit(d->database, &u->unit) == ERR_OK) return;
    u->refused.fn = unit_refused;
    loop_post(d->port.loop, &u->refused);
}

enum err pg_row(struct db_stmt *s, bool *found) {
    int step = db_step(s);
    *found = step == DB_ROW;
    return step < 0 ? (enum err) - step : ERR_OK;
}

// ---- owning and removing, inside units

enum err datastore_own(struct db *db, const uint8_t hash[DATASTORE_HASH]) {
    static struct db_sql sql = {.text = "update datastore_content set version = version + 1, "
                                        "holds = greatest(holds - 1, 0), removal_asked = false where hash = ?1"};
    struct db_stmt *s = db_prepare(db, &sql);
    db_bind_blob(s, 1, hash, DATASTORE_HASH);
    enum err err = db_run(s);
    if (err || db_changes(db) == 1) return err;
    return error_set(db_error(db), ERR_BUSY,
                     "the content was removed while it was uploaded; it is to be uploaded again");
}

enum err datastore_disown(struct db *db, const uint8_t hash[DATASTORE_HASH]) {
    static struct db_sql sql = {.text = "update datastore_content set holds = greatest(holds - 1, 0) where hash = ?1"};
    struct db_stmt *s = db_prepare(db, &sql);
    db_bind_blob(s, 1, hash, DATASTORE_HASH);
    return db_run(s);
}

enum err pg_upload_delete(struct db *db, int64_t upload) {
    static struct db_sql sql = {.text = "delete from datastore_upload where id = ?1"};
    struct db_stmt *s = db_prepare(db, &sql);
    db_bind_int(s, 1, upload);
    return db_run(s);
}

static enum err note_removal(struct db *db, const uint8_t hash[DATASTORE_HASH], bool *held) {
    static struct db_sql sql = {.text = "update datastore_content set removal_asked = true where hash = ?1"};
    struct db_stmt *s = db_prepare(db, &sql);
    db_bind_blob(s, 1, hash, DATASTORE_HASH);
    enum err err = db_run(s);
    *held = !err && db_changes(db) > 0;
    return err;
}

enum err datastore_remove_in(struct db *db, const uint8_t hash[DATASTORE_HASH], bool *held) {
    static struct db_sql sql = {.text = "delete from datastore_content where hash = ?1 "
                                        "and (holds = 0 or hold_until <= clock_timestamp()) returning upload"};
    struct db_stmt *s = db_prepare(db, &sql);
    db_bind_blob(s, 1, hash, DATASTORE_HASH);
    bool found;
    *held = false;
    enum err err = pg_row(s, &found);
    if (err) return err;
    return found ? pg_upload_delete(db, db_int(s, 0)) : note_removal(db, hash, held);
}

// ---- removing

struct removal {
    struct pg_unit unit;
    uint8_t hash[DATASTORE_HASH];
    bool held;
    ds_done_fn *done;
    void *arg;
};

static enum err removal_run(struct db *db, struct pg_unit *u) {
    struct removal *r = (struct removal *)u;
    return datastore_remove_in(db, r->hash, &r->held);
}

static void removal_done(struct pg_unit *u, enum err err) {
    struct removal *r = (struct removal *)u;
    if (!u->d->port.closed) {
        if (!err && r->held) datastore_removal_held(&u->d->port);
        if (r->done) r->done(r->arg, err);
    }
    free(r);
}

static void pg_remove_start(struct datastore *port, const uint8_t hash[DATASTORE_HASH], ds_done_fn *done, void *arg) {
    struct removal *r = calloc(1, sizeof *r);
    if (!r) die("no memory for the data store");
    r->unit.unit.frees_space = true;
    r->unit.run = removal_run;
    r->unit.done = removal_done;
    memcpy(r->hash, hash, DATASTORE_HASH);
    r->done = done;
    r->arg = arg;
    pg_unit_submit(pg_store_of(port), &r->unit);
}

// ---- what was asked for while it was held

#define HELD_BATCH 64

struct held {
    struct pg_unit unit;
    size_t removed;
    bool more; // are still held
};

static enum err held_remove(struct db *db, struct held *h) {
    static struct db_sql find = {.text = "delete from datastore_content where hash in (select hash from "
                                         "datastore_content where removal_asked and hold_until <= clock_timestamp() "
                                         "order by hash limit ?1 for update skip locked) and removal_asked "
                                         "and hold_until <= clock_timestamp() returning upload"};
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_int(s, 1, HELD_BATCH);
    int64_t uploads[HELD_BATCH];
    size_t n = 0;
    bool found = true;
    enum err err = ERR_OK;
    while (!err && found) {
        err = pg_row(s, &found);
        if (!err && found && n < HELD_BATCH) uploads[n++] = db_int(s, 0);
    }
    for (size_t i = 0; !err && i < n; i++) err = pg_upload_delete(db, uploads[i]);
    h->removed = n;
    return err;
}

static enum err held_run(struct db *db, struct pg_unit *u) {
    static struct db_sql left = {.text = "select 1 from datastore_content where removal_asked limit 1"};
    struct held *h = (struct held *)u;
    enum err err = held_remove(db, h);
    return err ? err : pg_row(db_prepare(db, &left), &h->more);
}

static void held_done(struct pg_unit *u, enum err err) {
    struct held *h = (struct held *)u;
    struct pg_store *d = u->d;
    if (err) log_text(LOG_WARN, "content_not_removed", "%s; it is tried again", u->unit.error.text);
    if (!d->port.closed && (err || h->more) && !loop_timer_active(&d->held))
        loop_timer_start(d->port.loop, &d->held, h->removed == HELD_BATCH ? 0 : d->hold_ms + LATER_MS);
    free(h);
}

static void held_due(struct loop_timer *t) {
    struct pg_store *d = LIST_ITEM(t, struct pg_store, held);
    struct held *h = calloc(1, sizeof *h);
    if (!h) die("no memory for the data store");
    h->unit.unit.frees_space = true;
    h->unit.run = held_run;
    h->unit.done = held_done;
    pg_unit_submit(d, &h->unit);
}

static void removal_held(struct datastore *port) {
    struct pg_store *d = pg_store_of(port);
    if (!loop_timer_active(&d->held)) loop_timer_start(d->port.loop, &d->held, d->hold_ms + LATER_MS);
}

// ---- opening and closing

static void pg_free(struct datastore *port) { free(port); }

static void pg_close(struct datastore *port) {
    struct pg_store *d = pg_store_of(port);
    loop_timer_stop(port->loop, &d->held);
    pg_sweep_drop(d);
}

static void pg_low_water(struct datastore *port, uint64_t bytes) {}
static void pg_free_bytes(struct datastore *port, uint64_t *out) {}

enum err ds_postgres_open(struct datastore **out, struct loop *loop, const struct datastore_options *o,
                          struct error *e) {
    if (database_kind_of(o->database) != DATABASE_POSTGRES)
        return error_set(e, ERR_UNSUPPORTED, "the data store takes PostgreSQL or a directory");
    struct pg_store *d = calloc(1, sizeof *d);
    if (!d) return error_set(e, ERR_NOMEM, "no memory for the data store");
    ds_init(&d->port, &ds_postgres_driver, loop);
    d->database = o->database;
    d->hold_ms = o->hold_ms ? o->hold_ms : HOLD_MS;
    d->abandoned_ms = o->abandoned_ms ? o->abandoned_ms : ABANDONED_MS;
    d->held.fn = held_due;
    if (RAND_bytes(d->self.b, sizeof d->self.b) != 1) die("no random numbers");
    *out = &d->port;
    return ERR_OK;
}

const struct ds_driver ds_postgres_driver = {
    .close = pg_close,
    .free = pg_free,
    .low_water = pg_low_water,
    .free_bytes = pg_free_bytes,
    .writer_new = pg_writer_new,
    .write = pg_write,
    .finish = pg_finish,
    .abort = pg_abort,
    .open = pg_open,
    .verify = pg_verify,
    .read = pg_read,
    .reader_free = pg_reader_free,
    .remove = pg_remove_start,
    .sweep = pg_sweep,
    .removal_held = removal_held,
};
