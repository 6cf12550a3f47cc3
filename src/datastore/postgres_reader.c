// Reading ranges of a content from PostgreSQL: the chunks, or parts of them, that the range touches.
//
// Nothing is held between two reads, no connection and no transaction: a content that was removed meanwhile is not
// found. The reader knows the upload, not the name, so that what is uploaded anew under the name does not mix in.
#include "datastore/postgres.h"

#include "base/assert.h"
#include "base/list.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct pg_reader {
    struct pg_unit unit; // in flight, or
    struct ds_op op;     // checking
    struct ds_reader port;
    struct pg_store *d;
    uint8_t hash[DATASTORE_HASH];
    int64_t upload;
    uint64_t bytes, chunk_bytes;
    uint8_t *data;
    size_t room;
    uint64_t offset; // of the read in flight, and what it wants and gets
    size_t max, got;
    enum err err;
    EVP_MD_CTX *sha; // NULL: not checked
    bool busy, freed;
    ds_opened_fn *opened;
    ds_read_fn *read;
    void *arg;
};

static struct pg_reader *reader_of(struct ds_reader *port) { return LIST_ITEM(port, struct pg_reader, port); }
static struct pg_reader *of_op(struct ds_op *op) { return LIST_ITEM(op, struct pg_reader, op); }

static void reader_release(struct pg_reader *r) {
    struct pg_store *d = r->d;
    d->port.readers--;
    EVP_MD_CTX_free(r->sha);
    free(r->data);
    free(r);
    ds_let_go(&d->port);
}

void pg_reader_free(struct ds_reader *port) {
    struct pg_reader *r = reader_of(port);
    ASSERT(!r->freed);
    r->freed = true;
    if (!r->busy) reader_release(r);
}

static void submit(struct pg_reader *r, enum err (*run)(struct db *, struct pg_unit *),
                   void (*done)(struct pg_unit *, enum err)) {
    r->unit = (struct pg_unit){.run = run, .done = done};
    r->unit.unit.read_only = true;
    pg_unit_submit(r->d, &r->unit);
}

// ---- opening

static enum err open_run(struct db *db, struct pg_unit *u) {
    static struct db_sql find = {.text = "select upload, bytes, chunk_bytes from datastore_content where hash = ?1"};
    struct pg_reader *r = (struct pg_reader *)u;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_blob(s, 1, r->hash, DATASTORE_HASH);
    bool found;
    enum err err = pg_row(s, &found);
    if (err || !found) return err ? err : ERR_NOT_FOUND;
    r->upload = db_int(s, 0);
    r->bytes = (uint64_t)db_int(s, 1);
    r->chunk_bytes = (uint64_t)db_int(s, 2);
    return r->chunk_bytes ? ERR_OK : ERR_CORRUPT;
}

static void answer_open(struct pg_reader *r, enum err err) {
    r->busy = false;
    bool tell = !r->d->port.closed;
    if (tell && !err) {
        r->opened(r->arg, ERR_OK, &r->port, r->bytes);
        return;
    }
    if (tell) r->opened(r->arg, err, NULL, 0);
    reader_release(r);
}

static void open_done(struct pg_unit *u, enum err err) { answer_open((struct pg_reader *)u, err); }

static void refuse_run(struct ds_op *op) {}
static void refuse_done(struct ds_op *op) { answer_open(of_op(op), ERR_BUSY); }

void pg_open(struct datastore *port, const uint8_t hash[DATASTORE_HASH], ds_opened_fn *done, void *arg) {
    struct pg_reader *r = calloc(1, sizeof *r);
    if (!r) die("no memory for the data store");
    r->port.driver = &ds_postgres_driver;
    r->d = pg_store_of(port);
    memcpy(r->hash, hash, DATASTORE_HASH);
    r->opened = done;
    r->arg = arg;
    r->busy = true;
    bool full = port->readers++ >= DS_READERS_MAX;
    ds_hold(port);
    if (!full) {
        submit(r, open_run, open_done);
        return;
    }
    r->op.run = refuse_run;
    r->op.done = refuse_done;
    ds_op_start(port, &r->op);
}

// ---- reading

static enum err read_chunk(struct db *db, struct pg_reader *r, uint64_t n, uint64_t from, size_t bytes) {
    static struct db_sql sql = {.text = "select substring(data from ?3::integer for ?4::integer) from datastore_chunk "
                                        "where upload = ?1 and n = ?2"};
    struct db_stmt *s = db_prepare(db, &sql);
    db_bind_int(s, 1, r->upload);
    db_bind_int(s, 2, (int64_t)n);
    db_bind_int(s, 3, (int64_t)from + 1);
    db_bind_int(s, 4, (int64_t)bytes);
    bool found;
    enum err err = pg_row(s, &found);
    if (err || !found) return err ? err : ERR_NOT_FOUND;
    size_t got;
    const void *data = db_blob(s, 0, &got);
    if (got != bytes) return ERR_CORRUPT;
    memcpy(r->data + r->got, data, bytes);
    r->got += bytes;
    return ERR_OK;
}

static enum err read_run(struct db *db, struct pg_unit *u) {
    struct pg_reader *r = (struct pg_reader *)u;
    enum err err = ERR_OK;
    r->got = 0;
    while (!err && r->got < r->max && r->offset + r->got < r->bytes) {
        uint64_t at = r->offset + r->got, in_chunk = at % r->chunk_bytes, left = r->chunk_bytes - in_chunk;
        if (left > r->max - r->got) left = r->max - r->got;
        if (left > r->bytes - at) left = r->bytes - at;
        err = read_chunk(db, r, at / r->chunk_bytes, in_chunk, (size_t)left);
    }
    return err;
}

static void answer_read(struct pg_reader *r) {
    r->busy = false;
    if (r->freed) reader_release(r);
    else if (!r->d->port.closed) r->read(r->arg, r->err, r->err ? NULL : r->data, r->err ? 0 : r->got);
}

// What was read comes behind all that was before.
static enum err check(struct pg_reader *r) {
    bool end = r->got == 0 || r->offset + r->got >= r->bytes;
    return ds_verify_next(r->sha, r->data, r->got, end, r->hash);
}

static void check_run(struct ds_op *op) {
    struct pg_reader *r = of_op(op);
    if (!r->err && r->sha) r->err = check(r);
}

static void check_done(struct ds_op *op) { answer_read(of_op(op)); }

static void start_check(struct pg_reader *r) {
    r->op.run = check_run;
    r->op.done = check_done;
    ds_op_start(&r->d->port, &r->op);
}

static void read_done(struct pg_unit *u, enum err err) {
    struct pg_reader *r = (struct pg_reader *)u;
    r->err = err;
    if (!err && r->sha && !r->freed) start_check(r);
    else answer_read(r);
}

void pg_verify(struct ds_reader *port) {
    struct pg_reader *r = reader_of(port);
    ASSERT(!r->busy && !r->sha);
    r->sha = ds_verify_new();
}

void pg_read(struct ds_reader *port, uint64_t offset, size_t max, ds_read_fn *done, void *arg) {
    struct pg_reader *r = reader_of(port);
    ASSERT(!r->busy && !r->freed);
    r->err = ERR_OK;
    if (max > r->room) {
        uint8_t *grown = realloc(r->data, max);
        if (grown) {
            r->data = grown;
            r->room = max;
        } else r->err = ERR_NOMEM;
    }
    r->offset = offset;
    r->max = max;
    r->got = 0;
    r->read = done;
    r->arg = arg;
    r->busy = true;
    if (r->err || offset >= r->bytes) start_check(r); // nothing to ask for
    else submit(r, read_run, read_done);
}
