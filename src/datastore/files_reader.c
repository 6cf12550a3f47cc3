// Reading ranges of a content. The reader holds the open file: a content removed meanwhile can be read to its end.
#include "datastore/files.h"

#include "base/assert.h"
#include "base/list.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct file_reader {
    struct ds_op op;
    struct ds_reader port;
    struct files *d;
    int fd; // -1: not open
    uint64_t bytes;
    uint8_t hash[DATASTORE_HASH];
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

static void start(struct file_reader *r, void (*run)(struct ds_op *), void (*done)(struct ds_op *)) {
    ASSERT(!r->busy);
    r->busy = true;
    r->op.run = run;
    r->op.done = done;
    ds_op_start(&r->d->port, &r->op);
}

static struct file_reader *reader_of(struct ds_reader *port) { return LIST_ITEM(port, struct file_reader, port); }

// ---- letting go: closing may free a large file, so the pool does it

static void close_run(struct ds_op *op) {
    struct file_reader *r = (struct file_reader *)op;
    if (r->fd >= 0) r->d->io->v->close(r->d->io, r->fd);
}

static void close_done(struct ds_op *op) {
    struct file_reader *r = (struct file_reader *)op;
    struct files *d = r->d;
    d->port.readers--;
    EVP_MD_CTX_free(r->sha);
    free(r->data);
    free(r);
    ds_let_go(&d->port);
}

void ds_file_reader_free(struct ds_reader *port) {
    struct file_reader *r = reader_of(port);
    ASSERT(!r->freed);
    r->freed = true;
    if (!r->busy) start(r, close_run, close_done);
}

// ---- opening

static void open_run(struct ds_op *op) {
    struct file_reader *r = (struct file_reader *)op;
    struct io *io = r->d->io;
    char name[DS_NAME];
    if (r->err) return;
    ds_name(r->hash, name);
    r->err = io->v->open(io, name, IO_READ, &r->fd);
    if (r->err) r->fd = -1;
    else r->err = io->v->size(io, r->fd, &r->bytes);
}

static void open_done(struct ds_op *op) {
    struct file_reader *r = (struct file_reader *)op;
    r->busy = false;
    bool tell = !r->d->port.closed;
    if (tell && !r->err) {
        r->opened(r->arg, ERR_OK, &r->port, r->bytes);
        return;
    }
    if (tell) r->opened(r->arg, r->err, NULL, 0);
    ds_file_reader_free(&r->port);
}

void ds_file_open(struct datastore *port, const uint8_t hash[DATASTORE_HASH], ds_opened_fn *done, void *arg) {
    struct file_reader *r = calloc(1, sizeof *r);
    if (!r) die("no memory for the data store");
    struct files *d = files_of(port);
    r->port.driver = &ds_files_driver;
    r->d = d;
    r->fd = -1;
    memcpy(r->hash, hash, DATASTORE_HASH);
    r->opened = done;
    r->arg = arg;
    r->err = port->readers >= DS_READERS_MAX ? ERR_BUSY : ERR_OK;
    d->port.readers++;
    ds_hold(&d->port);
    start(r, open_run, open_done);
}

// ---- reading

// What was read comes behind all that was before.
static enum err check(struct file_reader *r) {
    bool end = r->got == 0 || r->offset + r->got >= r->bytes;
    return ds_verify_next(r->sha, r->data, r->got, end, r->hash);
}

static void read_run(struct ds_op *op) {
    struct file_reader *r = (struct file_reader *)op;
    r->got = 0;
    if (!r->err) r->err = r->d->io->v->pread(r->d->io, r->fd, r->data, r->max, r->offset, &r->got);
    if (!r->err && r->sha) r->err = check(r);
}

static void read_done(struct ds_op *op) {
    struct file_reader *r = (struct file_reader *)op;
    r->busy = false;
    if (r->freed) start(r, close_run, close_done);
    else if (!r->d->port.closed) r->read(r->arg, r->err, r->err ? NULL : r->data, r->err ? 0 : r->got);
}

void ds_file_verify(struct ds_reader *port) {
    struct file_reader *r = reader_of(port);
    ASSERT(!r->busy && !r->sha);
    r->sha = ds_verify_new();
}

void ds_file_read(struct ds_reader *port, uint64_t offset, size_t max, ds_read_fn *done, void *arg) {
    struct file_reader *r = reader_of(port);
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
    r->read = done;
    r->arg = arg;
    start(r, read_run, read_done);
}
