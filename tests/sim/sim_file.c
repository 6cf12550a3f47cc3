#include "sim/sim_file.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

#define SECTORS   (SIM_PAGE / SIM_SECTOR)
#define ALL_DIRTY 0xffu

uint64_t sim_rng_next(struct sim_rng *r) { // splitmix64
    uint64_t z = (r->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t sim_rng_below(struct sim_rng *r, uint64_t below) {
    ASSERT(below > 0);
    return (uint64_t)(((unsigned __int128)sim_rng_next(r) * below) >> 64);
}

static void *checked(void *p) {
    ASSERT(p != NULL);
    return p;
}

struct sim_file *sim_file_new(void) {
    struct sim_file *f = checked(calloc(1, sizeof *f));
    f->locked_by = -1;
    return f;
}

static void page_release(struct sim_page *p) {
    if (p->disk != p->now) free(p->disk);
    free(p->now);
    *p = (struct sim_page){0};
}

void sim_file_free(struct sim_file *f) {
    for (size_t i = 0; i < f->page_count; i++) page_release(&f->pages[i]);
    free(f->pages);
    free(f->dirty);
    free(f);
}

static void make_pages(struct sim_file *f, uint64_t size) {
    size_t count = (size_t)((size + SIM_PAGE - 1) / SIM_PAGE);
    if (count <= f->page_count) return;
    f->pages = checked(realloc(f->pages, count * sizeof *f->pages));
    memset(f->pages + f->page_count, 0, (count - f->page_count) * sizeof *f->pages);
    f->page_count = count;
}

void sim_file_read(const struct sim_file *f, void *out, size_t n, uint64_t offset) {
    uint8_t *to = out;
    while (n > 0) {
        size_t page = (size_t)(offset / SIM_PAGE), at = (size_t)(offset % SIM_PAGE);
        size_t part = SIM_PAGE - at < n ? SIM_PAGE - at : n;
        const uint8_t *from = page < f->page_count ? f->pages[page].now : NULL;
        if (from != NULL) memcpy(to, from + at, part);
        else memset(to, 0, part);
        to += part;
        offset += part;
        n -= part;
    }
}

// Memory of its own for what the reader sees, so that the disk keeps the old bytes.
static uint8_t *own_now(struct sim_page *p) {
    if (p->now != NULL && p->now != p->disk) return p->now;
    uint8_t *fresh = checked(malloc(SIM_PAGE));
    if (p->disk != NULL) memcpy(fresh, p->disk, SIM_PAGE);
    else memset(fresh, 0, SIM_PAGE);
    return p->now = fresh;
}

static uint8_t *own_disk(struct sim_page *p) {
    if (p->disk != NULL && p->now != p->disk) return p->disk;
    uint8_t *fresh = checked(malloc(SIM_PAGE));
    if (p->disk != NULL) memcpy(fresh, p->disk, SIM_PAGE);
    else memset(fresh, 0, SIM_PAGE);
    return p->disk = fresh;
}

static void mark_dirty(struct sim_file *f, size_t page, size_t at, size_t n) {
    struct sim_page *p = &f->pages[page];
    if (p->dirty == 0) {
        if (f->dirty_count == f->dirty_cap) {
            f->dirty_cap = f->dirty_cap ? 2 * f->dirty_cap : 16;
            f->dirty = checked(realloc(f->dirty, f->dirty_cap * sizeof *f->dirty));
        }
        f->dirty[f->dirty_count++] = page;
    }
    for (size_t s = at / SIM_SECTOR; s <= (at + n - 1) / SIM_SECTOR; s++) p->dirty |= (uint8_t)(1u << s);
}

static void write_part(struct sim_file *f, const uint8_t *data, size_t n, uint64_t offset) {
    size_t page = (size_t)(offset / SIM_PAGE), at = (size_t)(offset % SIM_PAGE);
    uint8_t *to = own_now(&f->pages[page]);
    if (data != NULL) memcpy(to + at, data, n);
    else memset(to + at, 0, n);
    mark_dirty(f, page, at, n);
}

// `data` NULL: zeros, and pages that are zero already stay without memory.
static void write_span(struct sim_file *f, const uint8_t *data, uint64_t n, uint64_t offset) {
    make_pages(f, offset + n);
    while (n > 0) {
        size_t at = (size_t)(offset % SIM_PAGE);
        size_t part = SIM_PAGE - at < n ? SIM_PAGE - at : (size_t)n;
        if (data != NULL || f->pages[offset / SIM_PAGE].now != NULL) write_part(f, data, part, offset);
        if (data != NULL) data += part;
        offset += part;
        n -= part;
    }
}

void sim_file_write(struct sim_file *f, const void *data, size_t n, uint64_t offset) {
    if (n == 0) return;
    write_span(f, data, n, offset);
    if (offset + n > f->size) f->size = offset + n;
}

// Bytes past the end read as zeros should the file grow again.
void sim_file_resize(struct sim_file *f, uint64_t size) {
    uint64_t end = (uint64_t)f->page_count * SIM_PAGE;
    if (size < f->size && end > size) write_span(f, NULL, end - size, size);
    make_pages(f, size);
    f->size = size;
}

static void copy_sector(struct sim_page *p, unsigned s, size_t n) {
    uint8_t *disk = own_disk(p);
    if (p->now != NULL) memcpy(disk + s * SIM_SECTOR, p->now + s * SIM_SECTOR, n);
    else memset(disk + s * SIM_SECTOR, 0, n);
}

static void each_dirty(struct sim_file *f, void (*fn)(struct sim_page *p, struct sim_rng *r, unsigned percent),
                       struct sim_rng *r, unsigned percent) {
    for (size_t i = 0; i < f->dirty_count; i++) {
        struct sim_page *p = &f->pages[f->dirty[i]];
        fn(p, r, percent);
        p->dirty = 0;
        if (p->now != p->disk && p->now != NULL && p->disk != NULL && memcmp(p->now, p->disk, SIM_PAGE) == 0) {
            free(p->disk);
            p->disk = p->now;
        }
    }
    f->dirty_count = 0;
}

static void page_sync(struct sim_page *p, struct sim_rng *r, unsigned percent) {
    for (unsigned s = 0; s < SECTORS; s++)
        if (p->dirty & (1u << s)) copy_sector(p, s, SIM_SECTOR);
}

void sim_file_sync(struct sim_file *f) {
    each_dirty(f, page_sync, NULL, 0);
    f->disk_size = f->size;
}

// Each sector by itself: new with `percent` in a hundred, torn in half of what is left of that, else old.
static void page_chance(struct sim_page *p, struct sim_rng *r, unsigned percent) {
    for (unsigned s = 0; s < SECTORS; s++) {
        if (!(p->dirty & (1u << s))) continue;
        if (sim_rng_below(r, 100) < percent) copy_sector(p, s, SIM_SECTOR);
        else if (percent > 0 && sim_rng_below(r, 2) == 0) copy_sector(p, s, (size_t)sim_rng_below(r, SIM_SECTOR));
    }
}

// Everything lost, everything kept, or anything between: independent halves alone would hardly ever leave a
// long write whole.
static unsigned chance(struct sim_rng *r) {
    switch (sim_rng_below(r, 4)) {
    case 0: return 0;
    case 1: return 100;
    case 2: return 50;
    default: return 1 + (unsigned)sim_rng_below(r, 99);
    }
}

void sim_file_sync_fails(struct sim_file *f, struct sim_rng *r) { each_dirty(f, page_chance, r, chance(r)); }

void sim_file_crash(struct sim_file *f, struct sim_rng *r) {
    each_dirty(f, page_chance, r, chance(r));
    if (sim_rng_below(r, 2) == 0) f->disk_size = f->size;
    f->size = f->disk_size;
    for (size_t i = 0; i < f->page_count; i++) {
        struct sim_page *p = &f->pages[i];
        if (p->now == p->disk) continue;
        free(p->now);
        p->now = p->disk;
    }
    uint64_t end = (uint64_t)f->page_count * SIM_PAGE;
    if (end > f->size) { // what lies past the end does not come back
        write_span(f, NULL, end - f->size, f->size);
        sim_file_sync(f);
    }
    make_pages(f, f->size);
    f->locked_by = -1;
    f->opened = 0;
}

void sim_file_poke(struct sim_file *f, const void *data, size_t n, uint64_t offset) {
    const uint8_t *from = data;
    for (size_t i = 0; i < n; i++) {
        struct sim_page *p = &f->pages[(offset + i) / SIM_PAGE];
        size_t at = (size_t)((offset + i) % SIM_PAGE);
        if (p->now == NULL && p->disk == NULL) p->now = p->disk = checked(calloc(1, SIM_PAGE));
        if (p->now == NULL) p->now = checked(calloc(1, SIM_PAGE));
        if (p->disk == NULL) p->disk = checked(calloc(1, SIM_PAGE));
        p->now[at] = from[i];
        p->disk[at] = from[i];
    }
}
