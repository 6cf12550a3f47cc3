// Open addressing with linear probing, at most three quarters full. Removal shifts the followers back instead of
// leaving a mark, so lookups never slow down with age.
#include "base/map.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define CAP_FIRST 16

void map_init(struct map *m, uint64_t seed) { *m = (struct map){.seed = seed}; }

void map_release(struct map *m) {
    free(m->slots);
    map_init(m, m->seed);
}

static uint32_t hash_of(const struct map *m, const void *key, size_t key_len) {
    return (uint32_t)XXH3_64bits_withSeed(key, key_len, m->seed);
}

static bool slot_is(const struct map_slot *s, uint32_t hash, const void *key, size_t key_len) {
    return s->hash == hash && s->key_len == key_len && memcmp(s->key, key, key_len) == 0;
}

// The slot of the key, or the free one where it would go. There is always a free slot.
static struct map_slot *find(const struct map *m, uint32_t hash, const void *key, size_t key_len) {
    size_t mask = m->cap - 1;
    for (size_t at = hash & mask;; at = (at + 1) & mask) {
        struct map_slot *s = &m->slots[at];
        if (s->key == NULL || slot_is(s, hash, key, key_len)) return s;
    }
}

static void move_all(struct map *to, const struct map *from) {
    for (size_t i = 0; i < from->cap; i++) {
        const struct map_slot *s = &from->slots[i];
        if (s->key != NULL) *find(to, s->hash, s->key, s->key_len) = *s;
    }
}

static bool grow(struct map *m) {
    struct map bigger = *m;
    bigger.cap = m->cap == 0 ? CAP_FIRST : m->cap * 2;
    bigger.slots = calloc(bigger.cap, sizeof *bigger.slots);
    if (bigger.slots == NULL) return false;
    move_all(&bigger, m);
    free(m->slots);
    *m = bigger;
    return true;
}

void *map_get(const struct map *m, const void *key, size_t key_len) {
    if (m->len == 0) return NULL;
    const struct map_slot *s = find(m, hash_of(m, key, key_len), key, key_len);
    return s->key != NULL ? s->value : NULL;
}

bool map_put(struct map *m, const void *key, size_t key_len, void *value) {
    ASSERT(key != NULL && value != NULL && key_len <= UINT32_MAX);
    if (m->len + 1 > m->cap - m->cap / 4 && !grow(m)) return false;
    uint32_t hash = hash_of(m, key, key_len);
    struct map_slot *s = find(m, hash, key, key_len);
    if (s->key == NULL) m->len++;
    *s = (struct map_slot){.key = key, .value = value, .key_len = (uint32_t)key_len, .hash = hash};
    return true;
}

// Closes the hole at `hole` by moving back every follower whose home is not between the hole and its place.
static void close_hole(struct map *m, size_t hole) {
    size_t mask = m->cap - 1;
    for (size_t at = (hole + 1) & mask; m->slots[at].key != NULL; at = (at + 1) & mask) {
        size_t from_home = (at - m->slots[at].hash) & mask;
        size_t from_hole = (at - hole) & mask;
        if (from_home < from_hole) continue;
        m->slots[hole] = m->slots[at];
        hole = at;
    }
    m->slots[hole] = (struct map_slot){0};
}

void *map_remove(struct map *m, const void *key, size_t key_len) {
    if (m->len == 0) return NULL;
    struct map_slot *s = find(m, hash_of(m, key, key_len), key, key_len);
    if (s->key == NULL) return NULL;
    void *value = s->value;
    close_hole(m, (size_t)(s - m->slots));
    m->len--;
    return value;
}

void *map_next(const struct map *m, size_t *at) {
    while (*at < m->cap) {
        const struct map_slot *s = &m->slots[(*at)++];
        if (s->key != NULL) return s->value;
    }
    return NULL;
}
