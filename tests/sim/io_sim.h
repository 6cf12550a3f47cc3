// A machine in memory: a clock that moves when told, seeded randomness, and a disk that tears and forgets.
//
//   struct io_sim *sim = io_sim_new(seed);
//   struct io *io = io_sim_io(sim);          // give it to the code under test
//   io_sim_crash(sim);                       // power cut; every descriptor is gone; open everything again
//
// What a crash leaves. Written but not synced: every 512-byte sector by itself has the new bytes, the old ones,
// or the first part of the new and the rest of the old. A file's size that was not synced is the new or the old.
// Creates, renames and removes that no sync_dir covered have happened or not, each by itself (a rename is
// whole). What datasync (for a file) and sync_dir (for names) covered is kept. A lost directory takes its
// entries along.
//
// A failed datasync is as bad as on Linux: the pages count as clean, some of them are on the disk and some are
// not, and no later sync brings them there.
//
// Not thread-safe: one thread drives it. The same seed and the same calls give the same run, bit for bit.
#ifndef BARID_SIM_IO_SIM_H
#define BARID_SIM_IO_SIM_H

#include "base/io.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sim_op {
    SIM_OPEN,
    SIM_CLOSE,
    SIM_PREAD,
    SIM_PWRITE,
    SIM_DATASYNC,
    SIM_ALLOCATE,
    SIM_TRUNCATE,
    SIM_SIZE,
    SIM_LOCK,
    SIM_REMOVE,
    SIM_RENAME,
    SIM_MAKE_DIR,
    SIM_SYNC_DIR,
    SIM_LIST,
    SIM_SPACE,
    SIM_OPS,    // how many kinds there are
    SIM_ANY,    // any of them but close and space
    SIM_CHANGE, // any that changes the disk: pwrite … sync_dir, and an open that creates
};

struct io_sim;

struct io_sim *io_sim_new(uint64_t seed);
void io_sim_free(struct io_sim *s);
struct io *io_sim_io(struct io_sim *s);

// A second stream of the seed for the test's own decisions: uniform in [0, below).
uint64_t io_sim_random(struct io_sim *s, uint64_t below);

// ---- clock: both clocks move together
void io_sim_advance(struct io_sim *s, uint64_t ns);
void io_sim_slow(struct io_sim *s, enum sim_op op, uint64_t ns); // every such call advances the clock; SIM_ANY

// ---- faults
// The nth call from now (1 is the next) of this kind fails with `err`; `sticky`: so do all after it. A pwrite
// that fails may have written a part. One fault at a time; n = 0 takes it away.
void io_sim_fail(struct io_sim *s, enum sim_op op, uint64_t n, enum err err, bool sticky);
bool io_sim_failed(const struct io_sim *s); // has the fault struck?
// The power goes at the nth call of this kind from now: it and every later call fail with ERR_IO until
// io_sim_crash. For loops that crash at n = 1, 2, … until io_sim_dead stays false.
void io_sim_die_at(struct io_sim *s, enum sim_op op, uint64_t n);
bool io_sim_dead(const struct io_sim *s);
void io_sim_crash(struct io_sim *s);
// The process ends (kill -9), the machine goes on: descriptors and locks are gone, nothing is lost.
void io_sim_kill(struct io_sim *s);

// ---- the disk from outside. False: no such file, or past its end. These reach the durable bytes as well.
bool io_sim_flip(struct io_sim *s, const char *path, uint64_t offset, unsigned bit);
bool io_sim_poke(struct io_sim *s, const char *path, uint64_t offset, const void *data, size_t n);
bool io_sim_peek(struct io_sim *s, const char *path, uint64_t offset, void *out, size_t n);
bool io_sim_size(struct io_sim *s, const char *path, uint64_t *bytes);
void io_sim_capacity(struct io_sim *s, uint64_t bytes); // of the disk; at first 1 TiB

struct io_sim_stats {
    uint64_t calls[SIM_OPS];
    uint64_t written_bytes, read_bytes;
    uint64_t used_bytes, files; // now; used counts whole 4 KiB blocks up to each file's size
    uint64_t open_descriptors;
    uint64_t crashes;
};
void io_sim_stats(const struct io_sim *s, struct io_sim_stats *out);

#endif
