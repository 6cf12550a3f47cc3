#include "engine/index.h"

#include "base/assert.h"
#include "engine/memory.h"

#include <stdbool.h>
#include <stdlib.h>

#define SLOTS_FIRST 64
#define SLOTS_MAX   65536 // then it splits
#define DEPTH_MAX   24    // then a part grows beyond SLOTS_MAX

// Parts fill alike, so they would all split within a moment: each is given a limit of its own, from one half to three
// quarters of its slots.
struct index_part {
    uint32_t *slots;
    uint32_t mask, count;
    uint32_t depth; // how many of the hash's highest bits its items have in common
    uint32_t share; // 32nds of a quarter beyond one half
};

void index_init(struct index *x, index_key_fn *key, const void *owner) {
    *x = (struct index){.key = key, .owner = owner};
}

// Calls once for each part, however many places it has.
static struct index_part *next_part(const struct index *x, uint32_t *place) {
    if (!x->parts || *place >> x->depth) return NULL;
    struct index_part *p = x->parts[*place];
    *place += 1u << (x->depth - p->depth);
    return p;
}

void index_release(struct index *x) {
    uint32_t place = 0;
    for (struct index_part *p; (p = next_part(x, &place));) {
        free(p->slots);
        free(p);
    }
    free(x->parts);
    index_init(x, x->key, x->owner);
}

uint64_t index_bytes(const struct index *x) {
    uint64_t n = x->parts ? sizeof *x->parts << x->depth : 0;
    uint32_t place = 0;
    for (struct index_part *p; (p = next_part(x, &place));) n += sizeof *p + ((uint64_t)p->mask + 1) * sizeof *p->slots;
    return n;
}

static uint64_t hash(uint64_t key) {
    uint64_t h = (key >> 9) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static uint32_t home(const struct index_part *p, uint64_t key) {
    return (uint32_t)(hash(key) << 3 | (key >> 6 & 7)) & p->mask;
}

static uint32_t place_of(const struct index *x, uint64_t key) {
    return x->depth ? (uint32_t)(hash(key) >> (64 - x->depth)) : 0;
}

static struct index_part *part_of(const struct index *x, uint64_t key) { return x->parts[place_of(x, key)]; }

uint32_t index_find(const struct index *x, uint64_t key) {
    if (!x->parts) return NONE;
    const struct index_part *p = part_of(x, key);
    for (uint32_t i = home(p, key);; i = (i + 1) & p->mask) {
        if (p->slots[i] == NONE) return NONE;
        if (x->key(x->owner, p->slots[i]) == key) return p->slots[i];
    }
}

static void put(struct index_part *p, uint64_t key, uint32_t handle) {
    uint32_t i = home(p, key);
    while (p->slots[i] != NONE) i = (i + 1) & p->mask;
    p->slots[i] = handle;
    p->count++;
}

static uint32_t limit(const struct index_part *p) {
    uint64_t slots = (uint64_t)p->mask + 1;
    return (uint32_t)(slots / 2 + slots * p->share / 128);
}

static void slots_new(struct index_part *p, uint32_t slots) {
    p->slots = memory_new((size_t)slots * sizeof *p->slots);
    memset(p->slots, 0xff, (size_t)slots * sizeof *p->slots);
    p->mask = slots - 1;
    p->count = 0;
}

static void share_new(struct index *x, struct index_part *p) { p->share = ++x->shares * 0x9e3779b9u >> 27; }

static struct index_part *part_new(struct index *x, uint32_t slots, uint32_t depth) {
    struct index_part *p = memory_new(sizeof *p);
    slots_new(p, slots);
    share_new(x, p);
    p->depth = depth;
    return p;
}

static void resize(const struct index *x, struct index_part *p, uint32_t slots) {
    uint32_t *old = p->slots, n = p->mask + 1;
    slots_new(p, slots);
    for (uint32_t i = 0; i < n; i++)
        if (old[i] != NONE) put(p, x->key(x->owner, old[i]), old[i]);
    free(old);
}

static void double_places(struct index *x) {
    uint32_t n = 1u << x->depth;
    struct index_part **places = memory_new(2 * (size_t)n * sizeof *places);
    for (uint32_t i = 0; i < n; i++) places[2 * i] = places[2 * i + 1] = x->parts[i];
    free(x->parts);
    x->parts = places;
    x->depth++;
}

static void split(struct index *x, struct index_part *p, uint64_t key) {
    if (p->depth == x->depth) double_places(x);
    uint32_t *old = p->slots, n = p->mask + 1;
    uint32_t width = 1u << (x->depth - p->depth), first = place_of(x, key) & ~(width - 1);
    struct index_part *upper = part_new(x, n, ++p->depth);
    for (uint32_t i = first + width / 2; i < first + width; i++) x->parts[i] = upper;
    slots_new(p, n);
    share_new(x, p);
    for (uint32_t i = 0; i < n; i++) {
        if (old[i] == NONE) continue;
        uint64_t k = x->key(x->owner, old[i]);
        put(part_of(x, k), k, old[i]);
    }
    free(old);
}

void index_add(struct index *x, uint32_t handle) {
    uint64_t key = x->key(x->owner, handle);
    if (!x->parts) {
        x->parts = memory_new(sizeof *x->parts);
        x->parts[0] = part_new(x, SLOTS_FIRST, 0);
    }
    for (struct index_part *p = part_of(x, key); p->count >= limit(p); p = part_of(x, key)) {
        if (p->mask + 1 < SLOTS_MAX || p->depth == DEPTH_MAX) resize(x, p, (p->mask + 1) * 2);
        else split(x, p, key);
    }
    put(part_of(x, key), key, handle);
    x->count++;
}

// Closes the hole at `i`: whatever probed past it moves up.
static void close_hole(const struct index *x, struct index_part *p, uint32_t i) {
    for (uint32_t j = (i + 1) & p->mask; p->slots[j] != NONE; j = (j + 1) & p->mask) {
        uint32_t want = home(p, x->key(x->owner, p->slots[j]));
        bool stays = i < j ? want > i && want <= j : want > i || want <= j;
        if (stays) continue;
        p->slots[i] = p->slots[j];
        i = j;
    }
    p->slots[i] = NONE;
}

void index_remove(struct index *x, uint32_t handle) {
    uint64_t key = x->key(x->owner, handle);
    struct index_part *p = part_of(x, key);
    ASSERT(p->count > 0);
    uint32_t i = home(p, key);
    while (p->slots[i] != handle) {
        ASSERT(p->slots[i] != NONE);
        i = (i + 1) & p->mask;
    }
    close_hole(x, p, i);
    p->count--;
    x->count--;
    if (p->mask + 1 > 4096 && p->count < limit(p) / 5) resize(x, p, (p->mask + 1) / 2);
}
