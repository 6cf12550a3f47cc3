// The rig of the data store's tests: a store of either kind, calls that wait for their answer, and looks behind the
// port.
//
// PostgreSQL needs the server that BARID_TEST_POSTGRES names: without one, rig_open skips the test.
#ifndef BARID_DATASTORE_RIG_TEST_H
#define BARID_DATASTORE_RIG_TEST_H

#include "base/test.h"

#include "base/loop.h"
#include "datastore/datastore.h"

#define RIG_HOLD_MS 200
extern uint32_t rig_hold_ms; // of stores that are opened from now on; RIG_HOLD_MS unless set

enum rig_kind { RIG_FILES, RIG_POSTGRES };

struct rig {
    enum rig_kind kind;
    char dir[64];
    char admin[512], name[64], url[512]; // of PostgreSQL
    struct loop *loop;
    struct database *database, *other_database;
    struct datastore *d,
        *other; // other: a second server's, on the same PostgreSQL; NULL: rig_open_other was not called
    struct loop_timer patience;
    int waiting; // answers
    enum err err;
    uint8_t hash[DATASTORE_HASH];
    uint64_t bytes, kept, removed;
    struct ds_reader *reader;
    uint8_t got[400000];
    size_t got_n;
    uint8_t wanted[1000][DATASTORE_HASH];
    size_t wanted_n, asked;
};

void rig_open(struct rig *f, enum rig_kind kind);
void rig_open_other(struct rig *f);
void rig_close(struct rig *f);

void rig_wait(struct rig *f, int answers);
void rig_sleep(struct rig *f, uint64_t ms); // the loop goes on
void rig_on_done(void *arg, enum err err);
void rig_on_finished(void *arg, enum err err, const uint8_t hash[DATASTORE_HASH], uint64_t bytes);
void rig_on_read(void *arg, enum err err, const uint8_t *data, size_t n);
void rig_on_swept(void *arg, enum err err, uint64_t kept, uint64_t removed);
void rig_answered(struct rig *f);
// Wants what is in f->wanted.
void rig_ask(void *arg, const uint8_t (*hashes)[DATASTORE_HASH], size_t n, ds_verdict_fn *verdict, void *batch);

struct ds_writer *rig_writer(struct rig *f, struct datastore *d, uint64_t max);
enum err rig_write(struct rig *f, struct ds_writer *w, const void *data, size_t n);
enum err rig_finish(struct rig *f, struct ds_writer *w);
void rig_upload(struct rig *f, struct datastore *d, const void *data, size_t n);          // not owned yet
void rig_store(struct rig *f, const void *data, size_t n);                                // owned
enum err rig_own(struct rig *f, struct datastore *d, const uint8_t hash[DATASTORE_HASH]); // files: nothing to do
// As a server does that sees that nobody owns it; ERR_CONFLICT when `owned`.
enum err rig_remove_in(struct rig *f, struct datastore *d, const uint8_t hash[DATASTORE_HASH], bool owned, bool *held);
enum err rig_remove(struct rig *f, struct datastore *d, const uint8_t hash[DATASTORE_HASH]);
enum err rig_open_reader(struct rig *f, const uint8_t hash[DATASTORE_HASH]);
size_t rig_read(struct rig *f, uint64_t offset, size_t max);
enum err rig_read_all_checked(struct rig *f, size_t n, size_t step);
void rig_sweep(struct rig *f, struct datastore *d, uint64_t min_age_ms);

bool rig_is_there(struct rig *f, const uint8_t hash[DATASTORE_HASH]);
size_t rig_parts(struct rig *f); // uploads that have no name
void rig_damage(struct rig *f, const uint8_t hash[DATASTORE_HASH]);
void rig_make_contents(struct rig *f, size_t n, bool keep_odd); // put there by hand
void rig_make_abandoned(struct rig *f); // an upload that nobody goes on with, and something else
char *rig_path(struct rig *f, const uint8_t hash[DATASTORE_HASH]);
long rig_sql(struct rig *f, const char *sql); // the first value
uint8_t *rig_picture(size_t n);

#endif
