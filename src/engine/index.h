// A hash index of handles: finds an item by a 64-bit key that is kept in the item itself, so the index costs
// four bytes a slot. Linear probing, no tombstones.
//
// Keys that differ in their lowest nine bits only land beside each other: records that follow one another in a
// segment share cache lines. Keys that are counters are therefore shifted (index_counter).
#ifndef BARID_ENGINE_INDEX_H
#define BARID_ENGINE_INDEX_H

#include "engine/slab.h"

typedef uint64_t index_key_fn(const void *owner, uint32_t handle);

struct index {
    uint32_t *slots;
    uint32_t mask;
    uint32_t count;
    index_key_fn *key;
    const void *owner;
};

void index_init(struct index *x, index_key_fn *key, const void *owner);
void index_release(struct index *x);
uint32_t index_find(const struct index *x, uint64_t key); // NONE when absent
void index_add(struct index *x, uint32_t handle);         // its key must be new
void index_remove(struct index *x, uint32_t handle);      // by the key it still has

static inline uint64_t index_counter(uint64_t counter) { return counter << 6; }
static inline uint64_t index_place(uint32_t segment, uint32_t offset) { return (uint64_t)segment << 32 | offset; }

#endif
