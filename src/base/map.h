// A hash map from bytes to pointers.
//
// Keys are not copied: they must live as long as their entry, which is natural when the key is part of the value.
// The hash is seeded (give a random seed), so that nobody outside can choose keys that collide. Embedded.
#ifndef BARID_BASE_MAP_H
#define BARID_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map_slot {
    const void *key; // NULL: the slot is free
    void *value;
    uint32_t key_len;
    uint32_t hash;
};

struct map {
    struct map_slot *slots;
    size_t len;
    size_t cap; // a power of two, or 0
    uint64_t seed;
};

void map_init(struct map *m, uint64_t seed);
void map_release(struct map *m);                                     // the values are the caller's
void *map_get(const struct map *m, const void *key, size_t key_len); // NULL when it is not there
// Adds or replaces, key and value both; neither may be NULL. False: out of memory, nothing has changed.
bool map_put(struct map *m, const void *key, size_t key_len, void *value);
void *map_remove(struct map *m, const void *key, size_t key_len); // what was there, or NULL

// Every value in no promised order: `size_t at = 0; while ((v = map_next(&m, &at)) != NULL)`.
// The map must not be changed meanwhile.
void *map_next(const struct map *m, size_t *at);

#endif
