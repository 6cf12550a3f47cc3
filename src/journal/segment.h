// Segment files by name and header: making, reading, marking as retired, removing. No state: any thread.
#ifndef BARID_JOURNAL_SEGMENT_H
#define BARID_JOURNAL_SEGMENT_H

#include "base/io.h"
#include "journal/format.h"

#define SEGMENT_PATH (IO_NAME_MAX + 24)

void segment_path(const char *dir, uint32_t number, char out[static SEGMENT_PATH]);
// "0000000042.seg" → 42; 0 when it is not such a name.
uint32_t segment_number(const char *name);

// "cannot <what> <path>: <text of err>"
enum err segment_error(struct error *e, enum err err, const char *what, const char *path);

// Makes the file with all its blocks and a synced header, and its name durable. What was there under the name
// is thrown away. After an error nothing is left behind.
enum err segment_create(struct io *io, const char *dir, uint32_t number, uint64_t bytes, uint64_t salt, int *fd,
                        struct error *e);

struct segment_file {
    struct header header;    // valid when state is HEADER_GOOD
    enum header_state state; // of the better copy
    bool copy_damaged;       // one of the two is bad, or they differ
    uint64_t size;
};
enum err segment_inspect(struct io *io, int fd, struct segment_file *out);

// Writes the header over an existing one: the copy first, then, when that is synced, the other, so that one of
// them is valid at every moment.
enum err segment_rewrite_header(struct io *io, int fd, const struct header *h);

#endif
