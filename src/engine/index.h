// A hash index of handles: finds an item by a 64-bit key that is kept in the item itself, so the index costs
// four bytes a slot. Linear probing, no tombstones.
//
// It is made of parts of at most 65,536 slots. One that is full splits in two by one more of the key's bits, so growing
// takes a moment however many items there are, and never the memory of all of them twice (extendible hashing).
//
//   parts ──► [0] [1] [2] [3]     2^depth places; a part that has split less often than the others has several
//              │   │   └─┬─┘
//              ▼   ▼     ▼
//
// Keys that differ in their lowest nine bits only land beside each other: records that follow one another in a
// segment share cache lines. Keys that are counters are therefore shifted (index_counter).
#ifndef BARID_ENGINE_INDEX_H
#define BARID_ENGINE_INDEX_H

#include "engine/slab.h"

typedef uint64_t index_key_fn(const void *owner, uint32_t handle);

struct index_part;

struct index {
    struct index_part **parts;
    uint32_t depth;
    uint32_t count;
    uint32_t shares; // parts made
    index_key_fn *key;
    const void *owner;
};

void index_init(struct index *x, index_key_fn *key, const void *owner);
void index_release(struct index *x);
uint32_t index_find(const struct index *x, uint64_t key); // NONE when absent
void index_add(struct index *x, uint32_t handle);         // its key must be new
void index_remove(struct index *x, uint32_t handle);      // by the key it still has
uint64_t index_bytes(const struct index *x);              // memory held

static inline uint64_t index_counter(uint64_t counter) { return counter << 6; }
static inline uint64_t index_place(uint32_t segment, uint32_t offset) { return (uint64_t)segment << 32 | offset; }

#endif
