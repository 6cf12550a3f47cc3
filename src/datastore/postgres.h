// The kind of store that is rows in PostgreSQL: what its parts share.
//
// A unit of the database port may run twice, and on another thread: what it needs lies in its own struct, and what it
// finds is put there; the loop thread takes it over in done().
#ifndef BARID_DATASTORE_POSTGRES_H
#define BARID_DATASTORE_POSTGRES_H

#include "base/id.h"
#include "database/database.h"
#include "datastore/driver.h"

#define PG_CHUNK (256u << 10) // bytes of a chunk; a content says which length its chunks have

struct pg_store {
    struct datastore port;
    struct database *database; // not to be touched once the store is closed
    struct id self;            // as a sweeper
    uint64_t hold_ms, abandoned_ms;
    struct pg_writer *first_writer;
    struct pg_sweep *sweep;
    struct loop_timer held; // due when the hold of a content ends whose removal was asked for
};

// A unit that holds the store. Not closed: done() gets the result, also that of a submit that was refused, never before
// pg_unit_submit returned. `u` is embedded at the beginning of what `done` frees.
struct pg_unit {
    struct db_unit unit;
    struct loop_post refused;
    struct pg_store *d;
    enum err (*run)(struct db *db, struct pg_unit *u);
    void (*done)(struct pg_unit *u, enum err err);
};
void pg_unit_submit(struct pg_store *d, struct pg_unit *u);

static inline struct pg_store *pg_store_of(struct datastore *d) { return (struct pg_store *)d; }
// Uploads this server is writing, into ids[DS_WRITERS_MAX].
size_t pg_uploads(const struct pg_store *d, int64_t *ids);
void pg_sweep_drop(struct pg_store *d); // the store is closing
// Inside a unit.
enum err pg_row(struct db_stmt *s, bool *found); // steps: a row or none
enum err pg_upload_delete(struct db *db, int64_t upload);

// Of the port:
extern const struct ds_driver ds_postgres_driver;
enum err pg_writer_new(struct datastore *port, uint64_t max_bytes, struct ds_writer **out);
void pg_write(struct ds_writer *port, const void *data, size_t n, ds_done_fn *done, void *arg);
void pg_finish(struct ds_writer *port, ds_finished_fn *done, void *arg);
void pg_abort(struct ds_writer *port);
void pg_open(struct datastore *port, const uint8_t hash[DATASTORE_HASH], ds_opened_fn *done, void *arg);
void pg_verify(struct ds_reader *port);
void pg_read(struct ds_reader *port, uint64_t offset, size_t max, ds_read_fn *done, void *arg);
void pg_reader_free(struct ds_reader *port);
void pg_sweep(struct datastore *port, uint64_t min_age_ms, ds_ask_fn *ask, ds_swept_fn *done, void *arg);

#endif
