#include "engine/index.h"

#include "base/assert.h"
#include "engine/memory.h"

#include <stdbool.h>
#include <stdlib.h>

void index_init(struct index *x, index_key_fn *key, const void *owner) {
    *x = (struct index){.key = key, .owner = owner};
}

void index_release(struct index *x) {
    free(x->slots);
    index_init(x, x->key, x->owner);
}

static uint32_t home(const struct index *x, uint64_t key) {
    uint64_t h = (key >> 9) * 0x9e3779b97f4a7c15u;
    h ^= h >> 29;
    return (uint32_t)(h << 3 | (key >> 6 & 7)) & x->mask;
}

uint32_t index_find(const struct index *x, uint64_t key) {
    if (!x->slots) return NONE;
    for (uint32_t i = home(x, key);; i = (i + 1) & x->mask) {
        if (x->slots[i] == NONE) return NONE;
        if (x->key(x->owner, x->slots[i]) == key) return x->slots[i];
    }
}

static void place(struct index *x, uint32_t handle) {
    uint32_t i = home(x, x->key(x->owner, handle));
    while (x->slots[i] != NONE) i = (i + 1) & x->mask;
    x->slots[i] = handle;
}

static void resize(struct index *x, uint32_t slots) {
    uint32_t *old = x->slots;
    uint32_t n = old ? x->mask + 1 : 0;
    x->slots = memory_new((size_t)slots * sizeof *x->slots);
    memset(x->slots, 0xff, (size_t)slots * sizeof *x->slots);
    x->mask = slots - 1;
    for (uint32_t i = 0; i < n; i++)
        if (old[i] != NONE) place(x, old[i]);
    free(old);
}

void index_add(struct index *x, uint32_t handle) {
    if (!x->slots) resize(x, 64);
    else if ((uint64_t)(x->count + 1) * 8 > (uint64_t)(x->mask + 1) * 5) resize(x, (x->mask + 1) * 2);
    place(x, handle);
    x->count++;
}

// Closes the hole at `i`: whatever probed past it moves up.
static void close_hole(struct index *x, uint32_t i) {
    for (uint32_t j = (i + 1) & x->mask; x->slots[j] != NONE; j = (j + 1) & x->mask) {
        uint32_t want = home(x, x->key(x->owner, x->slots[j]));
        bool stays = i < j ? want > i && want <= j : want > i || want <= j;
        if (stays) continue;
        x->slots[i] = x->slots[j];
        i = j;
    }
    x->slots[i] = NONE;
}

void index_remove(struct index *x, uint32_t handle) {
    ASSERT(x->count > 0);
    uint32_t i = home(x, x->key(x->owner, handle));
    while (x->slots[i] != handle) {
        ASSERT(x->slots[i] != NONE);
        i = (i + 1) & x->mask;
    }
    close_hole(x, i);
    x->count--;
    if (x->mask + 1 > 4096 && (uint64_t)x->count * 8 < x->mask + 1) resize(x, (x->mask + 1) / 2);
}
