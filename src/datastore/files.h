// The kind of store that is files in a directory: what its parts share.
#ifndef BARID_DATASTORE_FILES_H
#define BARID_DATASTORE_FILES_H

#include "base/io.h"
#include "datastore/driver.h"

#include <pthread.h>
#include <stdbool.h>

#define DS_NAME (3 + 2 * DATASTORE_HASH + 1) // "ab/" 64 hex NUL
#define DS_PART 48                           // "tmp/" 32 hex ".part" NUL

struct ds_sweep;
struct ds_removal;

// A content that has its name, while the loop does not know it yet.
struct ds_named {
    uint8_t hash[DATASTORE_HASH];
    struct ds_named *next, **link; // NULL: not in the list
};

struct files {
    struct datastore port;
    struct io *io; // rooted at the store's directory
    char *root;
    uint64_t low_water_bytes;
    struct file_writer *first_writer;
    struct ds_sweep *sweep;

    struct ds_removal *first_removal; // asked for, not done yet

    pthread_mutex_t names; // held while a content gets or loses its name, and over what follows
    struct ds_named *first_named;
};

static inline struct files *files_of(struct datastore *d) { return (struct files *)d; }

// On the pool:
void ds_name(const uint8_t hash[DATASTORE_HASH], char out[static DS_NAME]);
// Milliseconds since it was last written, -1 when it is not there.
int64_t ds_age_ms(struct files *d, const char *name);
// The name is `named->hash`. Until ds_name_told nobody takes it away.
enum err ds_give_name(struct files *d, const char *part, struct ds_named *named);
// Removes unless it is younger than min_age_ms, or was named meanwhile, or *keep; *removed says which.
enum err ds_take_name(struct files *d, const uint8_t hash[DATASTORE_HASH], uint64_t min_age_ms, const uint8_t *keep,
                      bool *removed);

// On the loop: the content has somebody who knows of it. What was to remove it until now does not any more.
void ds_name_told(struct files *d, struct ds_named *named);
void ds_sweep_spare(struct ds_sweep *s, const uint8_t hash[DATASTORE_HASH]); // holding `names`

// On the loop: is this part file being written?
bool ds_part_in_use(struct files *d, const char *part);
void ds_sweep_drop(struct files *d); // the store is closing

// Of the port:
extern const struct ds_driver ds_files_driver;
enum err ds_file_writer_new(struct datastore *port, uint64_t max_bytes, struct ds_writer **out);
void ds_file_write(struct ds_writer *port, const void *data, size_t n, ds_done_fn *done, void *arg);
void ds_file_finish(struct ds_writer *port, ds_finished_fn *done, void *arg);
void ds_file_abort(struct ds_writer *port);
void ds_file_open(struct datastore *port, const uint8_t hash[DATASTORE_HASH], ds_opened_fn *done, void *arg);
void ds_file_verify(struct ds_reader *port);
void ds_file_read(struct ds_reader *port, uint64_t offset, size_t max, ds_read_fn *done, void *arg);
void ds_file_reader_free(struct ds_reader *port);
void ds_file_sweep(struct datastore *port, uint64_t min_age_ms, ds_ask_fn *ask, ds_swept_fn *done, void *arg);

#endif
