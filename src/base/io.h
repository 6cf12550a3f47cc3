// The one door to clock, disk and randomness.
//
// Engine and journal never call the operating system: they get a `struct io`, so the same code runs on a
// real machine (io_os_new) and in the seeded simulator (tests/sim), whose disk tears, forgets and corrupts.
//
// Paths are relative to the root the io was made with. Every call is synchronous. Disk calls may come from
// the loop thread and the commit thread at once, but never for the same descriptor at the same time, except
// pread, which may always run beside a pwrite.
#ifndef BARID_BASE_IO_H
#define BARID_BASE_IO_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define IO_NAME_MAX 256

enum io_open {
    IO_READ = 1,
    IO_WRITE = 2,
    IO_CREATE = 4,
    IO_EXCLUSIVE = 8,
};

struct io_space {
    uint64_t free_bytes;
    uint64_t total_bytes;
};

struct io;

struct io_vtable {
    uint64_t (*monotonic_ns)(struct io *io); // never goes back, and goes on while the machine sleeps
    int64_t (*wall_ms)(struct io *io);
    void (*random)(struct io *io, void *out, size_t n);

    enum err (*open)(struct io *io, const char *path, int flags, int *fd);
    enum err (*close)(struct io *io, int fd);
    // Reads up to n bytes; *got < n only at the end of the file.
    enum err (*pread)(struct io *io, int fd, void *out, size_t n, uint64_t offset, size_t *got);
    // Writes all n bytes or fails. ERR_FULL for ENOSPC/EDQUOT, ERR_IO else.
    enum err (*pwrite)(struct io *io, int fd, const void *data, size_t n, uint64_t offset);
    enum err (*datasync)(struct io *io, int fd);
    enum err (*allocate)(struct io *io, int fd, uint64_t bytes); // reserves blocks AND sets the size
    enum err (*truncate)(struct io *io, int fd, uint64_t bytes);
    enum err (*size)(struct io *io, int fd, uint64_t *bytes);
    enum err (*lock)(struct io *io, int fd); // exclusive, held until close; ERR_LOCKED
    enum err (*remove)(struct io *io, const char *path);
    enum err (*rename)(struct io *io, const char *from, const char *to);
    enum err (*make_dir)(struct io *io, const char *path); // with parents; ok if it is there
    enum err (*sync_dir)(struct io *io, const char *path); // makes creates, renames, removes durable
    // Calls `each` for every entry but . and .., in no promised order.
    enum err (*list)(struct io *io, const char *path, void (*each)(void *arg, const char *name), void *arg);
    enum err (*space)(struct io *io, struct io_space *out);
};

// The last id made with this io (base/id.c); here so that a simulated run starts from nothing.
struct io_last_id {
    uint64_t ms;
    uint64_t random_b;
    uint32_t random_a;
};

struct io {
    const struct io_vtable *v;
    struct io_last_id last_id; // zero at start
};

// The real thing. `root` is the data directory; it is made if missing. Owned by the caller.
enum err io_os_new(struct io **out, const char *root, struct error *e);
void io_os_free(struct io *io);

static inline uint64_t io_monotonic_ns(struct io *io) { return io->v->monotonic_ns(io); }
static inline int64_t io_wall_ms(struct io *io) { return io->v->wall_ms(io); }
uint64_t io_random_u64(struct io *io);
// Uniform in [0, below); below > 0. No modulo bias.
uint64_t io_random_below(struct io *io, uint64_t below);

#endif
