// What a kind of data store has to offer to the port: one table of functions a kind. And what all kinds share: holding
// the store while something of it is under way, and bounded work on the pool.
//
// A store, a writer and a reader begin with a pointer to their driver; the port's calls (datastore.c) go through it.
#ifndef BARID_DATASTORE_DRIVER_H
#define BARID_DATASTORE_DRIVER_H

#include "base/loop.h"
#include "datastore/datastore.h"

#include <stdbool.h>

#define DS_WRITERS_MAX 256
#define DS_READERS_MAX 1024
#define DS_READ_MAX    (1u << 20)

struct ds_driver {
    void (*close)(struct datastore *d); // `closed` is set already
    void (*free)(struct datastore *d);  // nobody holds it any more
    void (*low_water)(struct datastore *d, uint64_t bytes);
    void (*free_bytes)(struct datastore *d, uint64_t *out);

    enum err (*writer_new)(struct datastore *d, uint64_t max_bytes, struct ds_writer **out);
    void (*write)(struct ds_writer *w, const void *data, size_t n, ds_done_fn *done, void *arg);
    void (*finish)(struct ds_writer *w, ds_finished_fn *done, void *arg);
    void (*abort)(struct ds_writer *w);

    void (*open)(struct datastore *d, const uint8_t hash[DATASTORE_HASH], ds_opened_fn *done, void *arg);
    void (*verify)(struct ds_reader *r);
    void (*read)(struct ds_reader *r, uint64_t offset, size_t max, ds_read_fn *done, void *arg);
    void (*reader_free)(struct ds_reader *r);

    void (*remove)(struct datastore *d, const uint8_t hash[DATASTORE_HASH], ds_done_fn *done, void *arg);
    void (*sweep)(struct datastore *d, uint64_t min_age_ms, ds_ask_fn *ask, ds_swept_fn *done, void *arg);
    void (*removal_held)(struct datastore *d); // NULL: contents are not in the database
};

struct ds_writer {
    const struct ds_driver *driver;
};

struct ds_reader {
    const struct ds_driver *driver;
};

// One piece of work: run() on a pool thread, then done() on the loop thread. A few run at once, so that the pool has
// threads left for others; the rest wait in order.
struct ds_op {
    struct loop_work work;
    struct datastore *d;
    void (*run)(struct ds_op *op);
    void (*done)(struct ds_op *op);
    struct ds_op *next;
};
void ds_op_start(struct datastore *d, struct ds_op *op); // holds the store until done() returned

struct datastore {
    const struct ds_driver *driver;
    struct loop *loop;
    unsigned holders; // the owner, every writer, reader and operation
    bool closed;
    unsigned running; // operations on the pool
    struct ds_op *waiting, **waiting_end;
    uint64_t writers, readers;
};

void ds_init(struct datastore *d, const struct ds_driver *driver, struct loop *loop); // with one holder
void ds_hold(struct datastore *d);
void ds_let_go(struct datastore *d);

// verify.c: a running SHA-256 of what a reader gives out, freed with EVP_MD_CTX_free, and the pieces one after the
// other. The one that is the `end` tells ERR_CORRUPT when all of them are not what the name says.
struct evp_md_ctx_st *ds_verify_new(void);
enum err ds_verify_next(struct evp_md_ctx_st *sha, const void *data, size_t n, bool end,
                        const uint8_t hash[DATASTORE_HASH]);

enum err ds_files_open(struct datastore **out, struct loop *loop, const char *dir, struct error *e);
enum err ds_postgres_open(struct datastore **out, struct loop *loop, const struct datastore_options *o,
                          struct error *e);

#endif
