// The port: chooses the kind of store, and hands every call on to it.
#include "datastore/datastore.h"

#include "base/assert.h"
#include "datastore/driver.h"

#include <string.h>

#define AT_ONCE 3

enum err datastore_open(struct datastore **out, struct loop *loop, const struct datastore_options *o, struct error *e) {
    ASSERT(!o->directory != !o->database);
    return o->database ? ds_postgres_open(out, loop, o, e) : ds_files_open(out, loop, o->directory, e);
}

void datastore_close(struct datastore *d) {
    if (!d) return;
    d->closed = true;
    d->driver->close(d);
    ds_let_go(d);
}

void datastore_low_water(struct datastore *d, uint64_t bytes) { d->driver->low_water(d, bytes); }

enum err ds_writer_new(struct datastore *d, uint64_t max_bytes, struct ds_writer **out) {
    if (d->closed) return ERR_CLOSED;
    if (d->writers >= DS_WRITERS_MAX) return ERR_BUSY;
    return d->driver->writer_new(d, max_bytes, out);
}

void ds_writer_write(struct ds_writer *w, const void *data, size_t n, ds_done_fn *done, void *arg) {
    w->driver->write(w, data, n, done, arg);
}

void ds_writer_finish(struct ds_writer *w, ds_finished_fn *done, void *arg) { w->driver->finish(w, done, arg); }

void ds_writer_abort(struct ds_writer *w) { w->driver->abort(w); }

void datastore_read(struct datastore *d, const uint8_t hash[DATASTORE_HASH], ds_opened_fn *done, void *arg) {
    d->driver->open(d, hash, done, arg);
}

void ds_reader_verify(struct ds_reader *r) { r->driver->verify(r); }

void ds_reader_read(struct ds_reader *r, uint64_t offset, size_t max, ds_read_fn *done, void *arg) {
    r->driver->read(r, offset, max > DS_READ_MAX ? DS_READ_MAX : max, done, arg);
}

void ds_reader_free(struct ds_reader *r) { r->driver->reader_free(r); }

void datastore_remove(struct datastore *d, const uint8_t hash[DATASTORE_HASH], ds_done_fn *done, void *arg) {
    d->driver->remove(d, hash, done, arg);
}

void datastore_sweep(struct datastore *d, uint64_t min_age_ms, ds_ask_fn *ask, ds_swept_fn *done, void *arg) {
    d->driver->sweep(d, min_age_ms, ask, done, arg);
}

bool datastore_in_database(const struct datastore *d) { return d->driver->removal_held != NULL; }

void datastore_removal_held(struct datastore *d) { d->driver->removal_held(d); }

void datastore_stats(struct datastore *d, struct datastore_stats *out) {
    *out = (struct datastore_stats){.writing = d->writers, .reading = d->readers};
    d->driver->free_bytes(d, &out->free_bytes);
}

// ---- holding

void ds_init(struct datastore *d, const struct ds_driver *driver, struct loop *loop) {
    *d = (struct datastore){.driver = driver, .loop = loop, .holders = 1};
    d->waiting_end = &d->waiting;
}

void ds_hold(struct datastore *d) { d->holders++; }

void ds_let_go(struct datastore *d) {
    ASSERT(d->holders > 0);
    if (--d->holders == 0) d->driver->free(d);
}

// ---- work on the pool

static void op_run(struct loop_work *w) {
    struct ds_op *op = (struct ds_op *)w;
    op->run(op);
}

static void op_done(struct loop_work *w);

static void run_waiting(struct datastore *d) {
    while (d->waiting && d->running < AT_ONCE) {
        struct ds_op *op = d->waiting;
        d->waiting = op->next;
        if (!d->waiting) d->waiting_end = &d->waiting;
        d->running++;
        op->work.work = op_run;
        op->work.done = op_done;
        loop_work(d->loop, &op->work);
    }
}

static void op_done(struct loop_work *w) {
    struct ds_op *op = (struct ds_op *)w;
    struct datastore *d = op->d;
    d->running--;
    op->done(op); // frees it, perhaps
    run_waiting(d);
    ds_let_go(d);
}

void ds_op_start(struct datastore *d, struct ds_op *op) {
    ds_hold(d);
    op->d = d;
    op->next = NULL;
    *d->waiting_end = op;
    d->waiting_end = &op->next;
    run_waiting(d);
}
