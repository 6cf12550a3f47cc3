// Writing a content into PostgreSQL: rows of chunks under an upload of its own, then the name.
//
//   new ─ write* ─ finish   the last chunk and the name in one transaction, then finished()
//              └── abort    the upload's rows removed
//
// A write hashes on the pool, and when a chunk is full stores it; what is left over waits for the next write. Chunks
// are committed without waiting for their sync: the name's transaction, which is synced, comes behind them in
// PostgreSQL's log, and counts them. The first failure removes the rows and is the answer to every call after it. Rows
// of a server that died, or that cannot be removed now, are the sweep's.
#include "datastore/postgres.h"

#include "base/assert.h"
#include "base/list.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct pg_writer {
    struct pg_unit unit; // in flight, or
    struct ds_op op;     // hashing
    struct ds_writer port;
    struct pg_store *d;
    struct pg_writer *next, **link; // in the store's list
    EVP_MD_CTX *sha;
    uint64_t bytes, max_bytes;
    uint8_t *data;        // not stored yet
    size_t n, room, full; // bytes of it; those that the unit in flight stores
    size_t hashed;        // of n
    int64_t upload, made; // 0: no row yet; what the unit made
    int64_t chunks;       // stored
    enum err err;
    bool busy, aborted;
    uint8_t hash[DATASTORE_HASH];
    ds_done_fn *done;
    ds_finished_fn *finished;
    void *arg;
};

static struct pg_writer *writer_of(struct ds_writer *port) { return LIST_ITEM(port, struct pg_writer, port); }
static struct pg_writer *of_op(struct ds_op *op) { return LIST_ITEM(op, struct pg_writer, op); }

static void writer_free(struct pg_writer *w) {
    struct pg_store *d = w->d;
    *w->link = w->next;
    if (w->next) w->next->link = w->link;
    d->port.writers--;
    EVP_MD_CTX_free(w->sha);
    free(w->data);
    free(w);
    ds_let_go(&d->port);
}

size_t pg_uploads(const struct pg_store *d, int64_t *ids) {
    size_t n = 0;
    for (const struct pg_writer *w = d->first_writer; w; w = w->next)
        if (w->upload || w->made) ids[n++] = w->upload ? w->upload : w->made;
    return n;
}

enum err pg_writer_new(struct datastore *port, uint64_t max_bytes, struct ds_writer **out) {
    struct pg_store *d = pg_store_of(port);
    struct pg_writer *w = calloc(1, sizeof *w);
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    if (!w || !sha || EVP_DigestInit_ex(sha, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(sha);
        free(w);
        return ERR_NOMEM;
    }
    w->port.driver = &ds_postgres_driver;
    w->d = d;
    w->sha = sha;
    w->max_bytes = max_bytes;
    w->next = d->first_writer;
    w->link = &d->first_writer;
    if (w->next) w->next->link = &w->next;
    d->first_writer = w;
    port->writers++;
    ds_hold(port);
    *out = &w->port;
    return ERR_OK;
}

// ---- inside units

static enum err make_upload(struct db *db, struct pg_writer *w) {
    static struct db_sql make = {.text = "insert into datastore_upload default values returning id"};
    static struct db_sql touch = {
        .text = "update datastore_upload set written_at = clock_timestamp() where id = ?1 returning id"};
    struct db_stmt *s = db_prepare(db, w->upload ? &touch : &make);
    if (w->upload) db_bind_int(s, 1, w->upload);
    bool found;
    enum err err = pg_row(s, &found);
    if (!err && !found) return error_set(db_error(db), ERR_UNAVAILABLE, "the upload was given up");
    if (!err) w->made = db_int(s, 0);
    return err;
}

static enum err put_chunk(struct db *db, const struct pg_writer *w, int64_t n, const uint8_t *data, size_t bytes) {
    static struct db_sql put = {.text = "insert into datastore_chunk (upload, n, data) values (?1, ?2, ?3)"};
    struct db_stmt *s = db_prepare(db, &put);
    db_bind_int(s, 1, w->made);
    db_bind_int(s, 2, n);
    db_bind_blob(s, 3, data, bytes);
    return db_run(s);
}

static enum err store_run(struct db *db, struct pg_unit *u) {
    static struct db_sql later = {.text = "select set_config('synchronous_commit', 'off', true)"};
    struct pg_writer *w = (struct pg_writer *)u;
    bool found;
    enum err err = pg_row(db_prepare(db, &later), &found);
    if (!err) err = make_upload(db, w);
    for (size_t at = 0; !err && at < w->full; at += PG_CHUNK)
        err = put_chunk(db, w, w->chunks + (int64_t)(at / PG_CHUNK), w->data + at, PG_CHUNK);
    return err;
}

// Are they all there? PostgreSQL may have lost the last of them when it crashed and started again.
static enum err count_chunks(struct db *db, const struct pg_writer *w) {
    static struct db_sql sql = {.text = "select coalesce(sum(octet_length(data)), 0)::bigint from datastore_chunk "
                                        "where upload = ?1"};
    struct db_stmt *s = db_prepare(db, &sql);
    db_bind_int(s, 1, w->made);
    bool found;
    enum err err = pg_row(s, &found);
    if (err || (uint64_t)db_int(s, 0) == w->bytes) return err;
    return error_set(db_error(db), ERR_UNAVAILABLE, "the database has lost a part of the upload");
}

// The same content once: whoever was first keeps the name, and it is held for us, too.
static enum err give_name(struct db *db, const struct pg_writer *w) {
    static struct db_sql sql = {
        .text = "insert into datastore_content as c (hash, upload, bytes, chunk_bytes, hold_until) "
                "values (?1, ?2, ?3, ?4, clock_timestamp() + ?5::bigint * interval '1 millisecond') "
                "on conflict (hash) do update set named_at = clock_timestamp(), version = c.version + 1, "
                "holds = case when c.hold_until > clock_timestamp() then c.holds else 0 end + 1, "
                "hold_until = greatest(c.hold_until, excluded.hold_until) returning upload"};
    struct db_stmt *s = db_prepare(db, &sql);
    db_bind_blob(s, 1, w->hash, DATASTORE_HASH);
    db_bind_int(s, 2, w->made);
    db_bind_int(s, 3, (int64_t)w->bytes);
    db_bind_int(s, 4, PG_CHUNK);
    db_bind_int(s, 5, (int64_t)w->d->hold_ms);
    bool found;
    enum err err = pg_row(s, &found);
    if (err) return err;
    return db_int(s, 0) == w->made ? ERR_OK : pg_upload_delete(db, w->made);
}

static enum err finish_run(struct db *db, struct pg_unit *u) {
    struct pg_writer *w = (struct pg_writer *)u;
    enum err err = make_upload(db, w);
    if (!err && w->n) err = put_chunk(db, w, w->chunks, w->data, w->n);
    if (!err) err = count_chunks(db, w);
    return err ? err : give_name(db, w);
}

// ---- giving up

struct discard {
    struct pg_unit unit;
    int64_t upload;
};

static enum err discard_run(struct db *db, struct pg_unit *u) {
    return pg_upload_delete(db, ((struct discard *)u)->upload);
}

static void discard_done(struct pg_unit *u, enum err err) { free(u); }

static void discard_rows(struct pg_writer *w) {
    struct discard *x = w->upload && !w->d->port.closed ? calloc(1, sizeof *x) : NULL;
    if (!x) return; // the sweep finds them
    x->upload = w->upload;
    x->unit.unit.frees_space = true;
    x->unit.run = discard_run;
    x->unit.done = discard_done;
    pg_unit_submit(w->d, &x->unit);
    w->upload = w->made = 0;
}

static void fail(struct pg_writer *w, enum err err) {
    if (!w->err) w->err = err;
    free(w->data);
    w->data = NULL;
    w->n = w->room = w->hashed = 0;
    discard_rows(w);
}

// True: the writer is gone.
static bool ended(struct pg_writer *w) {
    w->busy = false;
    if (!w->aborted) return false;
    discard_rows(w);
    writer_free(w);
    return true;
}

// ---- on the loop

static void submit(struct pg_writer *w, enum err (*run)(struct db *, struct pg_unit *),
                   void (*done)(struct pg_unit *, enum err)) {
    w->unit = (struct pg_unit){.run = run, .done = done};
    pg_unit_submit(w->d, &w->unit);
}

static void answer_write(struct pg_writer *w) {
    if (!ended(w) && !w->d->port.closed) w->done(w->arg, w->err);
}

static void stored(struct pg_unit *u, enum err err) {
    struct pg_writer *w = (struct pg_writer *)u;
    if (err) {
        fail(w, err);
    } else {
        w->upload = w->made;
        w->chunks += (int64_t)(w->full / PG_CHUNK);
        w->n -= w->full;
        w->hashed = w->n;
        memmove(w->data, w->data + w->full, w->n);
    }
    answer_write(w);
}

static void hash_run(struct ds_op *op) {
    struct pg_writer *w = of_op(op);
    if (w->err || w->hashed == w->n) return;
    if (EVP_DigestUpdate(w->sha, w->data + w->hashed, w->n - w->hashed) == 1) w->hashed = w->n;
    else w->err = ERR_NOMEM;
}

static void hashed(struct ds_op *op) {
    struct pg_writer *w = of_op(op);
    if (w->err) fail(w, w->err);
    w->full = w->n / PG_CHUNK * PG_CHUNK;
    if (w->full > 0 && !w->aborted && !w->d->port.closed) submit(w, store_run, stored);
    else answer_write(w);
}

static void take(struct pg_writer *w, const void *data, size_t n) {
    if (n > w->max_bytes - w->bytes) {
        w->err = ERR_TOO_LARGE;
    } else if (w->n + n > w->room) {
        uint8_t *grown = realloc(w->data, w->n + n);
        if (grown) {
            w->data = grown;
            w->room = w->n + n;
        } else w->err = ERR_NOMEM;
    }
    if (w->err || !n) return;
    memcpy(w->data + w->n, data, n);
    w->n += n;
    w->bytes += n;
}

static void start_hash(struct pg_writer *w, void (*done)(struct ds_op *op)) {
    w->busy = true;
    w->op.run = hash_run;
    w->op.done = done;
    ds_op_start(&w->d->port, &w->op);
}

void pg_write(struct ds_writer *port, const void *data, size_t n, ds_done_fn *done, void *arg) {
    struct pg_writer *w = writer_of(port);
    ASSERT(!w->busy && !w->aborted);
    if (!w->err) take(w, data, n);
    w->done = done;
    w->arg = arg;
    start_hash(w, hashed);
}

static void answer_finish(struct pg_writer *w) {
    if (w->err) fail(w, w->err);
    if (!w->aborted && !w->d->port.closed) w->finished(w->arg, w->err, w->hash, w->bytes);
    writer_free(w);
}

static void named(struct pg_unit *u, enum err err) {
    struct pg_writer *w = (struct pg_writer *)u;
    w->err = err;
    answer_finish(w);
}

static void hash_complete(struct ds_op *op) {
    struct pg_writer *w = of_op(op);
    if (w->err || w->aborted || w->d->port.closed) {
        w->err = w->err ? w->err : ERR_CLOSED;
        answer_finish(w);
        return;
    }
    ASSERT(EVP_DigestFinal_ex(w->sha, w->hash, NULL) == 1);
    submit(w, finish_run, named);
}

void pg_finish(struct ds_writer *port, ds_finished_fn *done, void *arg) {
    struct pg_writer *w = writer_of(port);
    ASSERT(!w->busy && !w->aborted);
    w->finished = done;
    w->arg = arg;
    start_hash(w, hash_complete);
}

void pg_abort(struct ds_writer *port) {
    struct pg_writer *w = writer_of(port);
    ASSERT(!w->aborted);
    w->aborted = true;
    if (w->busy) return;
    discard_rows(w);
    writer_free(w);
}
