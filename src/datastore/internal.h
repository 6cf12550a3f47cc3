// What the files of the data store share.
#ifndef BARID_DATASTORE_INTERNAL_H
#define BARID_DATASTORE_INTERNAL_H

#include "base/io.h"
#include "base/loop.h"
#include "datastore/datastore.h"

#include <pthread.h>
#include <stdbool.h>

#define DS_NAME (3 + 2 * DATASTORE_HASH + 1) // "ab/" 64 hex NUL
#define DS_PART 48                           // "tmp/" 32 hex ".part" NUL

// One piece of disk work: run() on a pool thread, then done() on the loop thread. A few run at once, so that the
// pool has threads left for others; the rest wait in order.
struct ds_op {
    struct loop_work work;
    struct datastore *d;
    void (*run)(struct ds_op *op);
    void (*done)(struct ds_op *op);
    struct ds_op *next;
};
void ds_op_start(struct datastore *d, struct ds_op *op); // holds the store until done() returned

struct ds_sweep;
struct ds_removal;

// A content that has its name, while the loop does not know it yet.
struct ds_named {
    uint8_t hash[DATASTORE_HASH];
    struct ds_named *next, **link; // NULL: not in the list
};

struct datastore {
    struct loop *loop;
    struct io *io; // rooted at the store's directory
    char *root;
    unsigned holders; // the owner, every writer, reader and operation
    uint64_t low_water_bytes;
    bool closed;
    unsigned running; // operations on the pool
    struct ds_op *waiting, **waiting_end;
    uint64_t writers, readers;
    struct ds_writer *first_writer;
    struct ds_sweep *sweep;

    struct ds_removal *first_removal; // asked for, not done yet

    pthread_mutex_t names; // held while a content gets or loses its name, and over what follows
    struct ds_named *first_named;
};

void ds_hold(struct datastore *d);
void ds_let_go(struct datastore *d);

// On the pool:
void ds_name(const uint8_t hash[DATASTORE_HASH], char out[static DS_NAME]);
// Milliseconds since it was last written, -1 when it is not there.
int64_t ds_age_ms(struct datastore *d, const char *name);
// The name is `named->hash`. Until ds_name_told nobody takes it away.
enum err ds_give_name(struct datastore *d, const char *part, struct ds_named *named);
// Removes unless it is younger than min_age_ms, or was named meanwhile, or *keep; *removed says which.
enum err ds_take_name(struct datastore *d, const uint8_t hash[DATASTORE_HASH], uint64_t min_age_ms, const uint8_t *keep,
                      bool *removed);

// On the loop: the content has somebody who knows of it. What was to remove it until now does not any more.
void ds_name_told(struct datastore *d, struct ds_named *named);
void ds_sweep_spare(struct ds_sweep *s, const uint8_t hash[DATASTORE_HASH]); // holding `names`

// On the loop: is this part file being written?
bool ds_part_in_use(struct datastore *d, const char *part);
void ds_sweep_drop(struct datastore *d); // the store is closing

#endif
