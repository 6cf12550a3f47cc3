#include "engine/recent.h"

#include "base/map.h"
#include "engine/memory.h"

struct seen {
    struct value_key key;
    uint64_t until_ms;
};

// The ring grows up to `size`; a value that is added again takes a new place and leaves its old one behind, empty.
struct recent {
    struct map by_key;
    struct seen **ring;
    uint32_t head, n, cap, size;
};

struct recent *recent_new(uint32_t size, uint64_t seed) {
    struct recent *r = memory_zero(sizeof *r);
    r->size = size < 1 ? 1 : size < RECENT_MAX ? size : RECENT_MAX;
    map_init(&r->by_key, seed);
    return r;
}

void recent_free(struct recent *r) {
    if (!r) return;
    for (uint32_t i = 0; i < r->n; i++) free(r->ring[(r->head + i) % r->cap]);
    free(r->ring);
    map_release(&r->by_key);
    free(r);
}

bool recent_has(const struct recent *r, const struct value_key *key, uint64_t now_ms) {
    const struct seen *s = map_get(&r->by_key, key->bytes, sizeof key->bytes);
    return s && s->until_ms > now_ms;
}

static void push_out_oldest(struct recent *r) {
    struct seen *s = r->ring[r->head];
    r->head = (r->head + 1) % r->cap;
    r->n--;
    if (map_get(&r->by_key, s->key.bytes, sizeof s->key.bytes) == s)
        map_remove(&r->by_key, s->key.bytes, sizeof s->key.bytes);
    free(s);
}

static void grow(struct recent *r) {
    uint32_t cap = r->cap ? r->cap * 2 : 16;
    if (cap > r->size) cap = r->size;
    struct seen **ring = memory_new(cap * sizeof *ring);
    for (uint32_t i = 0; i < r->n; i++) ring[i] = r->ring[(r->head + i) % r->cap];
    free(r->ring);
    r->ring = ring;
    r->head = 0;
    r->cap = cap;
}

void recent_add(struct recent *r, const struct value_key *key, uint64_t until_ms) {
    if (r->n == r->size) push_out_oldest(r);
    if (r->n == r->cap) grow(r);
    struct seen *s = memory_new(sizeof *s);
    *s = (struct seen){.key = *key, .until_ms = until_ms};
    r->ring[(r->head + r->n++) % r->cap] = s;
    if (!map_put(&r->by_key, s->key.bytes, sizeof s->key.bytes, s)) die("out of memory");
}

uint64_t recent_bytes(const struct recent *r) {
    return sizeof *r + r->cap * sizeof *r->ring + r->n * sizeof **r->ring + r->by_key.cap * sizeof(struct map_slot);
}
