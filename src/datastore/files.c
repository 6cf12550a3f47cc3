// The store of files itself: its directory, and the giving and taking of names.
//
//   media/ab/abcdef…     a content, named by its SHA-256 in hex, under the first byte of it
//   media/tmp/<32 hex>.part   a content on its way in
//
// A name is given by renaming a synced part over whatever has that name: it is the same content, its time becomes
// new, and readers keep the file they have opened.
#include "datastore/files.h"

#include "base/assert.h"
#include "base/hex.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <uv.h>

#define DEFAULT_LOW_WATER (64ull << 20)

// ---- names

void ds_name(const uint8_t hash[DATASTORE_HASH], char out[static DS_NAME]) {
    hex_encode(hash, 1, out);
    out[2] = '/';
    hex_encode(hash, DATASTORE_HASH, out + 3);
}

static char *full_path(struct files *d, const char *name, char *out, size_t size) {
    int n = snprintf(out, size, "%s/%s", d->root, name);
    ASSERT(n > 0 && (size_t)n < size);
    return out;
}

int64_t ds_age_ms(struct files *d, const char *name) {
    char path[4096];
    struct stat st;
    if (stat(full_path(d, name, path, sizeof path), &st)) return -1;
    int64_t age = io_wall_ms(d->io) - (st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000);
    return age < 0 ? 0 : age;
}

enum err ds_give_name(struct files *d, const char *part, struct ds_named *named) {
    char name[DS_NAME], path[4096], shard[3];
    ds_name(named->hash, name);
    memcpy(shard, name, 2);
    shard[2] = 0;
    pthread_mutex_lock(&d->names);
    utimensat(-1, full_path(d, part, path, sizeof path), NULL, 0); // its age counts from now
    enum err err = d->io->v->rename(d->io, part, name);
    if (!err) {
        named->next = d->first_named;
        named->link = &d->first_named;
        if (named->next) named->next->link = &named->next;
        d->first_named = named;
    }
    pthread_mutex_unlock(&d->names);
    return err ? err : d->io->v->sync_dir(d->io, shard);
}

static bool just_named(const struct files *d, const uint8_t hash[DATASTORE_HASH]) {
    for (const struct ds_named *n = d->first_named; n; n = n->next)
        if (memcmp(n->hash, hash, DATASTORE_HASH) == 0) return true;
    return false;
}

enum err ds_take_name(struct files *d, const uint8_t hash[DATASTORE_HASH], uint64_t min_age_ms, const uint8_t *keep,
                      bool *removed) {
    char name[DS_NAME];
    ds_name(hash, name);
    enum err err = ERR_OK;
    *removed = false;
    pthread_mutex_lock(&d->names);
    int64_t age = *keep || just_named(d, hash) ? -1 : ds_age_ms(d, name);
    if (age >= 0 && (uint64_t)age >= min_age_ms) {
        err = d->io->v->remove(d->io, name);
        *removed = !err;
    }
    pthread_mutex_unlock(&d->names);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

// ---- removing

struct ds_removal {
    struct ds_op op;
    struct ds_removal *next, **link;
    uint8_t hash[DATASTORE_HASH];
    uint8_t keep; // it was uploaded again meanwhile
    ds_done_fn *done;
    void *arg;
    enum err err;
};

static void removal_run(struct ds_op *op) {
    struct ds_removal *r = (struct ds_removal *)op;
    bool removed;
    r->err = ds_take_name(files_of(op->d), r->hash, 0, &r->keep, &removed);
}

static void removal_done(struct ds_op *op) {
    struct ds_removal *r = (struct ds_removal *)op;
    *r->link = r->next;
    if (r->next) r->next->link = r->link;
    if (r->done && !op->d->closed) r->done(r->arg, r->err);
    free(r);
}

static void file_remove(struct datastore *port, const uint8_t hash[DATASTORE_HASH], ds_done_fn *done, void *arg) {
    struct files *d = files_of(port);
    struct ds_removal *r = calloc(1, sizeof *r);
    if (!r) die("no memory for the data store");
    r->op.run = removal_run;
    r->op.done = removal_done;
    memcpy(r->hash, hash, DATASTORE_HASH);
    r->done = done;
    r->arg = arg;
    r->next = d->first_removal;
    r->link = &d->first_removal;
    if (r->next) r->next->link = &r->next;
    d->first_removal = r;
    ds_op_start(port, &r->op);
}

void ds_name_told(struct files *d, struct ds_named *named) {
    if (!named->link) return;
    pthread_mutex_lock(&d->names);
    *named->link = named->next;
    if (named->next) named->next->link = named->link;
    named->link = NULL;
    for (struct ds_removal *r = d->first_removal; r; r = r->next)
        if (memcmp(r->hash, named->hash, DATASTORE_HASH) == 0) r->keep = 1;
    if (d->sweep) ds_sweep_spare(d->sweep, named->hash);
    pthread_mutex_unlock(&d->names);
}

// ---- opening and closing

static enum err make_directories(struct io *io, struct error *e) {
    enum err err = io->v->make_dir(io, "tmp");
    for (unsigned i = 0; !err && i < 256; i++) {
        uint8_t byte = (uint8_t)i;
        char shard[3];
        hex_encode(&byte, 1, shard);
        err = io->v->make_dir(io, shard);
    }
    if (!err) err = io->v->sync_dir(io, ".");
    if (err) error_set(e, err, "the data store's directories cannot be made: %s", err_text(err));
    return err;
}

enum err ds_files_open(struct datastore **out, struct loop *loop, const char *dir, struct error *e) {
    struct files *d = calloc(1, sizeof *d);
    if (!d) return error_set(e, ERR_NOMEM, "no memory for the data store");
    ds_init(&d->port, &ds_files_driver, loop);
    d->low_water_bytes = DEFAULT_LOW_WATER;
    pthread_mutex_init(&d->names, NULL);
    d->root = strdup(dir);
    enum err err = !d->root                           ? error_set(e, ERR_NOMEM, "no memory for the data store")
                   : strlen(dir) > 4096 - DS_NAME - 2 ? error_set(e, ERR_INVALID, "the path is too long")
                                                      : io_os_new(&d->io, dir, e);
    if (!err) err = make_directories(d->io, e);
    if (err) {
        ds_let_go(&d->port);
        return err;
    }
    *out = &d->port;
    return ERR_OK;
}

static void files_free(struct datastore *port) {
    struct files *d = files_of(port);
    pthread_mutex_destroy(&d->names);
    if (d->io) io_os_free(d->io);
    free(d->root);
    free(d);
}

static void files_close(struct datastore *port) { ds_sweep_drop(files_of(port)); }

static void files_low_water(struct datastore *port, uint64_t bytes) {
    files_of(port)->low_water_bytes = bytes ? bytes : DEFAULT_LOW_WATER;
}

static void files_free_bytes(struct datastore *port, uint64_t *out) {
    struct io_space space = {0};
    struct io *io = files_of(port)->io;
    if (io->v->space(io, &space) == ERR_OK) *out = space.free_bytes;
}

const struct ds_driver ds_files_driver = {
    .close = files_close,
    .free = files_free,
    .low_water = files_low_water,
    .free_bytes = files_free_bytes,
    .writer_new = ds_file_writer_new,
    .write = ds_file_write,
    .finish = ds_file_finish,
    .abort = ds_file_abort,
    .open = ds_file_open,
    .verify = ds_file_verify,
    .read = ds_file_read,
    .reader_free = ds_file_reader_free,
    .remove = file_remove,
    .sweep = ds_file_sweep,
};
