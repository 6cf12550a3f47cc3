// One simulated file: what a reader sees now (page cache) beside what a power cut would leave (disk).
//
//   page.now ────── what pread gives           page.dirty: a bit a sector whose new bytes were not synced
//   page.disk ───── what is durable            now == disk (the same memory) when they do not differ
//
// NULL memory stands for zeros, so a preallocated file costs nothing until it is written.
#ifndef BARID_SIM_SIM_FILE_H
#define BARID_SIM_SIM_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_SECTOR 512u
#define SIM_PAGE   4096u

struct sim_rng {
    uint64_t state;
};
uint64_t sim_rng_next(struct sim_rng *r);
uint64_t sim_rng_below(struct sim_rng *r, uint64_t below);

struct sim_page {
    uint8_t *now, *disk;
    uint8_t dirty;
};

struct sim_file {
    struct sim_page *pages;
    size_t page_count;
    uint64_t size, disk_size;
    size_t *dirty; // pages with a dirty bit, for sync
    size_t dirty_count, dirty_cap;
    bool is_dir;
    int locked_by; // descriptor, -1 for none
    int opened;    // descriptors
};

struct sim_file *sim_file_new(void);
void sim_file_free(struct sim_file *f);
void sim_file_read(const struct sim_file *f, void *out, size_t n, uint64_t offset); // within size
void sim_file_write(struct sim_file *f, const void *data, size_t n, uint64_t offset);
void sim_file_resize(struct sim_file *f, uint64_t size);
void sim_file_sync(struct sim_file *f);
void sim_file_sync_fails(struct sim_file *f, struct sim_rng *r);
void sim_file_crash(struct sim_file *f, struct sim_rng *r);
void sim_file_poke(struct sim_file *f, const void *data, size_t n, uint64_t offset); // now and disk alike

#endif
