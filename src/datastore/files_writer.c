// Writing a content: a part file that grows while its hash is computed, then gets its name.
//
//   new ─ write* ─ finish   part synced, renamed to its hash, directory synced, then finished()
//              └── abort    part removed
//
// The first failure removes the part at once (a full disk gets its room back) and is the answer to every call
// after it. `done` is not called for a call that was in flight when the writer was aborted.
#include "datastore/files.h"

#include "base/assert.h"
#include "base/hex.h"
#include "base/list.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define SPACE_STEP (4u << 20) // the free space is looked at after this many bytes

struct file_writer {
    struct ds_op op;
    struct ds_writer port;
    struct files *d;
    struct file_writer *next, **link; // in the store's list
    EVP_MD_CTX *sha;
    uint64_t bytes, max_bytes, next_look, low_water_bytes;
    uint8_t *data; // of the write in flight
    size_t n, room;
    int fd; // -1: not open
    enum err err;
    bool busy, aborted;
    char part[DS_PART];
    struct ds_named named;
    ds_done_fn *done;
    ds_finished_fn *finished;
    void *arg;
};

static struct file_writer *writer_of(struct ds_writer *port) { return LIST_ITEM(port, struct file_writer, port); }

static void writer_free(struct file_writer *w) {
    struct files *d = w->d;
    *w->link = w->next;
    if (w->next) w->next->link = w->link;
    d->port.writers--;
    EVP_MD_CTX_free(w->sha);
    free(w->data);
    free(w);
    ds_let_go(&d->port);
}

bool ds_part_in_use(struct files *d, const char *part) {
    for (const struct file_writer *w = d->first_writer; w; w = w->next)
        if (strcmp(w->part, part) == 0) return true;
    return false;
}

static void choose_part(struct file_writer *w) {
    uint8_t random[16];
    struct io *io = w->d->io;
    io->v->random(io, random, sizeof random);
    memcpy(w->part, "tmp/", 4);
    hex_encode(random, sizeof random, w->part + 4);
    memcpy(w->part + 36, ".part", 6);
}

enum err ds_file_writer_new(struct datastore *port, uint64_t max_bytes, struct ds_writer **out) {
    struct files *d = files_of(port);
    struct file_writer *w = calloc(1, sizeof *w);
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    if (!w || !sha || EVP_DigestInit_ex(sha, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(sha);
        free(w);
        return ERR_NOMEM;
    }
    w->port.driver = &ds_files_driver;
    w->d = d;
    w->sha = sha;
    w->max_bytes = max_bytes;
    w->low_water_bytes = d->low_water_bytes;
    w->fd = -1;
    choose_part(w);
    w->next = d->first_writer;
    w->link = &d->first_writer;
    if (w->next) w->next->link = &w->next;
    d->first_writer = w;
    d->port.writers++;
    ds_hold(&d->port);
    *out = &w->port;
    return ERR_OK;
}

// ---- on the pool

static enum err open_part(struct file_writer *w) {
    if (w->fd >= 0) return ERR_OK;
    return w->d->io->v->open(w->d->io, w->part, IO_WRITE | IO_CREATE | IO_EXCLUSIVE, &w->fd);
}

static void discard_part(struct file_writer *w) {
    if (w->fd < 0) return;
    w->d->io->v->close(w->d->io, w->fd);
    w->fd = -1;
    w->d->io->v->remove(w->d->io, w->part);
}

// Uploads leave the last of the disk to the database and the journal.
static enum err look_at_space(struct file_writer *w) {
    struct io_space space;
    if (w->bytes < w->next_look) return ERR_OK;
    w->next_look = w->bytes + SPACE_STEP;
    enum err err = w->d->io->v->space(w->d->io, &space);
    return !err && space.free_bytes < w->low_water_bytes ? ERR_FULL : err;
}

static enum err write_part(struct file_writer *w) {
    if (w->n > w->max_bytes - w->bytes) return ERR_TOO_LARGE;
    enum err err = look_at_space(w);
    if (!err) err = open_part(w);
    if (!err) err = w->d->io->v->pwrite(w->d->io, w->fd, w->data, w->n, w->bytes);
    if (err) return err;
    ASSERT(EVP_DigestUpdate(w->sha, w->data, w->n) == 1);
    w->bytes += w->n;
    return ERR_OK;
}

static void write_run(struct ds_op *op) {
    struct file_writer *w = (struct file_writer *)op;
    if (!w->err) w->err = write_part(w);
    if (w->err) discard_part(w);
}

static enum err finish_part(struct file_writer *w) {
    struct io *io = w->d->io;
    enum err err = open_part(w); // of an empty content
    if (!err) err = io->v->datasync(io, w->fd);
    if (err) return err;
    ASSERT(EVP_DigestFinal_ex(w->sha, w->named.hash, NULL) == 1);
    err = ds_give_name(w->d, w->part, &w->named);
    if (err) return err;
    io->v->close(io, w->fd);
    w->fd = -1;
    return ERR_OK;
}

static void finish_run(struct ds_op *op) {
    struct file_writer *w = (struct file_writer *)op;
    if (!w->err) w->err = finish_part(w);
    if (w->err) discard_part(w);
}

static void discard_run(struct ds_op *op) { discard_part((struct file_writer *)op); }

// ---- on the loop

static void discard_done(struct ds_op *op) { writer_free((struct file_writer *)op); }

static void discard(struct file_writer *w) {
    w->op.run = discard_run;
    w->op.done = discard_done;
    ds_op_start(&w->d->port, &w->op);
}

static void start(struct file_writer *w, void (*run)(struct ds_op *), void (*done)(struct ds_op *)) {
    ASSERT(!w->busy && !w->aborted);
    w->busy = true;
    w->op.run = run;
    w->op.done = done;
    ds_op_start(&w->d->port, &w->op);
}

static void write_done(struct ds_op *op) {
    struct file_writer *w = (struct file_writer *)op;
    w->busy = false;
    if (w->aborted) discard(w);
    else if (!w->d->port.closed) w->done(w->arg, w->err);
}

void ds_file_write(struct ds_writer *port, const void *data, size_t n, ds_done_fn *done, void *arg) {
    struct file_writer *w = writer_of(port);
    ASSERT(!w->busy);
    if (n > w->room) {
        uint8_t *grown = realloc(w->data, n);
        if (grown) {
            w->data = grown;
            w->room = n;
        } else if (!w->err) w->err = ERR_NOMEM;
    }
    if (!w->err && n) memcpy(w->data, data, n);
    w->n = n;
    w->done = done;
    w->arg = arg;
    start(w, write_run, write_done);
}

static void finish_done(struct ds_op *op) {
    struct file_writer *w = (struct file_writer *)op;
    ds_name_told(w->d, &w->named);
    if (!w->aborted && !w->d->port.closed) w->finished(w->arg, w->err, w->named.hash, w->bytes);
    writer_free(w);
}

void ds_file_finish(struct ds_writer *port, ds_finished_fn *done, void *arg) {
    struct file_writer *w = writer_of(port);
    w->finished = done;
    w->arg = arg;
    start(w, finish_run, finish_done);
}

void ds_file_abort(struct ds_writer *port) {
    struct file_writer *w = writer_of(port);
    ASSERT(!w->aborted);
    w->aborted = true;
    if (!w->busy) discard(w);
}
