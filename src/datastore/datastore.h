// The data store port: media and other large contents. Embedded: files named by their SHA-256. On PostgreSQL: rows,
// which any number of servers share.
//
// A content is written as a stream, gets its name (the hash) when it is complete and durable, and may be
// held by several owners; who owns what is the database's business. Removing is idempotent. Contents that
// nobody came to own (a crash between the upload and its message) are found by datastore_sweep.
//
// Small texts do not come here: they ride in the accepting transaction (docs/decisions/0002).
//
// All calls but those inside a unit are made on the loop thread, and every answer comes later. Files: the disk work
// runs on libuv's pool, one operation of a stream at a time; layout below the directory: ab/abcdef…(64 hex),
// tmp/<random>.part. PostgreSQL: units of the database port; sql/postgres/0103_datastore.sql.
#ifndef BARID_DATASTORE_DATASTORE_H
#define BARID_DATASTORE_DATASTORE_H

#include "base/embedded.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct database;
struct db;
struct loop;
struct datastore;
struct ds_writer;
struct ds_reader;

#define DATASTORE_HASH 32

// sql/postgres/0103_datastore.sql: {.number = 103, .name = "datastore", .file = &datastore_migrations[0]}.
extern const struct embedded_file datastore_migrations[];

struct datastore_options {
    const char *directory;     // files, made when they are not there; or
    struct database *database; // PostgreSQL with migration 103 (else ERR_UNSUPPORTED); must outlive the store
    uint32_t hold_ms;          // PostgreSQL: how long a name holds until somebody owns it, 0: 60 s
    uint32_t abandoned_ms;     // PostgreSQL: after what time without a chunk an upload of another server is, 0: 1 h
};
enum err datastore_open(struct datastore **out, struct loop *loop, const struct datastore_options *o, struct error *e);
// Work in flight ends by itself later; its callbacks are not called any more. Writers and readers that are
// still there are their owners' to free.
void datastore_close(struct datastore *d);
// Files: free disk space below which uploads get ERR_FULL. 0, and unless set: 64 MiB. PostgreSQL knows of its own disk.
void datastore_low_water(struct datastore *d, uint64_t bytes);

// ---- writing: write … write, then finish or abort. One call in flight a writer; `max_bytes` bounds it.
typedef void ds_done_fn(void *arg, enum err err);
typedef void ds_finished_fn(void *arg, enum err err, const uint8_t hash[DATASTORE_HASH], uint64_t bytes);

// ERR_BUSY when too many are open.
enum err ds_writer_new(struct datastore *d, uint64_t max_bytes, struct ds_writer **out);
// Copies `data`; done when it is with the store. ERR_TOO_LARGE past max_bytes, ERR_FULL when the disk is,
// ERR_UNAVAILABLE or whatever else the database says when it cannot be had. The first error is the answer to everything
// after it.
void ds_writer_write(struct ds_writer *w, const void *data, size_t n, ds_done_fn *done, void *arg);
// Then the content is durable under its hash. Frees the writer.
void ds_writer_finish(struct ds_writer *w, ds_finished_fn *done, void *arg);
void ds_writer_abort(struct ds_writer *w); // any time, also with a call in flight; frees the writer

// ---- reading a range
typedef void ds_opened_fn(void *arg, enum err err, struct ds_reader *r, uint64_t bytes);
typedef void ds_read_fn(void *arg, enum err err, const uint8_t *data, size_t n); // n == 0: the end
void datastore_read(struct datastore *d, const uint8_t hash[DATASTORE_HASH], ds_opened_fn *done, void *arg);
// From now on reads, which must be one after the other from the beginning, are checked: the one that reaches the end
// gets ERR_CORRUPT and no data when the content is not what its name says.
void ds_reader_verify(struct ds_reader *r);
// At most 1 MiB a call, so fewer than `max` is not yet the end. One call in flight a reader. A content that is removed
// meanwhile is read to its end from files; PostgreSQL says ERR_NOT_FOUND.
void ds_reader_read(struct ds_reader *r, uint64_t offset, size_t max, ds_read_fn *done, void *arg);
void ds_reader_free(struct ds_reader *r); // any time

// ---- removing. ERR_OK also when it was not there. The caller knows that nobody owns it, as far as it was told: an
// upload of the same content that finishes meanwhile, or has and was not told yet, keeps it. Who notes owners later
// than in ds_finished_fn must not remove in between.
// PostgreSQL: other servers name the same content, too. Such a name holds for hold_ms, or until datastore_own; a
// removal asked for meanwhile is done when the hold ends and still nobody owns it, by this server or by anybody's
// sweep.
void datastore_remove(struct datastore *d, const uint8_t hash[DATASTORE_HASH], ds_done_fn *done, void *arg);

// ---- owners who are noted in the same database: what several servers must use, so that what one of them finds without
// an owner is not what another is about to own. Only where datastore_in_database says so (PostgreSQL); files have one
// server, which the rule of datastore_remove serves. The two are called inside a unit and answer for it: pass an error
// on.
bool datastore_in_database(const struct datastore *d);
// In the unit that notes an owner, before it does: the content is there, and until the unit has ended nobody removes
// it. ERR_BUSY: it has been removed since it was uploaded (somebody else had it, too): upload it again.
enum err datastore_own(struct db *db, const uint8_t hash[DATASTORE_HASH]);
// Instead, when nobody comes to own what an upload has named: its hold is taken back, and it can be removed at once.
enum err datastore_disown(struct db *db, const uint8_t hash[DATASTORE_HASH]);
// In the unit that finds that nobody owns it, before it looks; when somebody does, the unit must fail. Instead of
// datastore_remove. *held: some upload holds it, and the removal is done later; datastore_removal_held, after the unit.
enum err datastore_remove_in(struct db *db, const uint8_t hash[DATASTORE_HASH], bool *held);
void datastore_removal_held(struct datastore *d); // on the loop: look again when the hold ends

// Lists every content older than `min_age_ms` and every upload that was given up; for each content calls `ask` (on the
// loop thread, in batches); those not wanted are removed, unless they were named or owned since they were listed.
// Yields between batches; never blocks the loop. One at a time, on all servers of a database: ERR_BUSY.
typedef void ds_swept_fn(void *arg, enum err err, uint64_t kept, uint64_t removed);
typedef void ds_verdict_fn(void *arg_batch, const uint8_t *wanted); // see ds_ask_fn
// `hashes` holds n hashes; answer by calling verdict(arg_batch, wanted) with wanted[i] 0 or 1.
typedef void ds_ask_fn(void *arg, const uint8_t (*hashes)[DATASTORE_HASH], size_t n, ds_verdict_fn *verdict,
                       void *arg_batch);
void datastore_sweep(struct datastore *d, uint64_t min_age_ms, ds_ask_fn *ask, ds_swept_fn *done, void *arg);

struct datastore_stats {
    uint64_t writing, reading;
    uint64_t free_bytes; // 0: not known
};
void datastore_stats(struct datastore *d, struct datastore_stats *out);

#endif
