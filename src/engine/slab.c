#include "engine/slab.h"

#include "base/assert.h"
#include "engine/memory.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define TRIM_EVERY (32u << 20)

void slab_init(struct slab *s, uint32_t item_size) {
    ASSERT(item_size >= sizeof(uint32_t));
    *s = (struct slab){.item_size = item_size, .open = NONE, .vacant = NONE};
}

void slab_release(struct slab *s) {
    for (uint32_t i = 0; i < s->n; i++) free(s->chunks[i].items);
    free(s->chunks);
    slab_init(s, s->item_size);
}

static void open_push(struct slab *s, uint32_t at) {
    struct slab_chunk *c = &s->chunks[at];
    c->prev = NONE;
    c->next = s->open;
    if (s->open != NONE) s->chunks[s->open].prev = at;
    s->open = at;
}

static void open_remove(struct slab *s, uint32_t at) {
    struct slab_chunk *c = &s->chunks[at];
    if (c->prev != NONE) s->chunks[c->prev].next = c->next;
    else s->open = c->next;
    if (c->next != NONE) s->chunks[c->next].prev = c->prev;
}

static void chunk_new(struct slab *s) {
    uint32_t at = s->vacant;
    if (at != NONE) {
        s->vacant = s->chunks[at].next;
    } else {
        if (s->n == s->cap) {
            s->cap = s->cap ? s->cap * 2 : 16;
            s->chunks = memory_resize(s->chunks, (size_t)s->cap * sizeof *s->chunks);
        }
        at = s->n++;
        ASSERT(at < NONE / SLAB_CHUNK);
    }
    s->chunks[at] = (struct slab_chunk){.items = memory_new((size_t)s->item_size * SLAB_CHUNK), .free = NONE};
    open_push(s, at);
}

uint32_t slab_new(struct slab *s) {
    if (s->open == NONE) chunk_new(s);
    uint32_t at = s->open;
    struct slab_chunk *c = &s->chunks[at];
    uint32_t i = c->free;
    if (i != NONE) memcpy(&c->free, c->items + (size_t)i * s->item_size, sizeof c->free);
    else i = c->fresh++;
    memset(c->items + (size_t)i * s->item_size, 0, s->item_size);
    s->used++;
    if (++c->used == SLAB_CHUNK) open_remove(s, at);
    return at * SLAB_CHUNK + i;
}

// free() keeps what lies below something that is in use.
static void give_back(struct slab *s) {
    s->freed += (uint64_t)s->item_size * SLAB_CHUNK;
    if (s->freed < TRIM_EVERY) return;
    s->freed = 0;
    malloc_trim(0);
}

void slab_free(struct slab *s, uint32_t handle) {
    uint32_t at = handle / SLAB_CHUNK, i = handle % SLAB_CHUNK;
    ASSERT(at < s->n);
    struct slab_chunk *c = &s->chunks[at];
    ASSERT(c->items && c->used > 0);
    memcpy(c->items + (size_t)i * s->item_size, &c->free, sizeof c->free);
    c->free = i;
    s->used--;
    if (c->used-- == SLAB_CHUNK) open_push(s, at);
    bool alone = s->open == at && c->next == NONE;
    if (c->used > 0 || alone) return;
    open_remove(s, at);
    free(c->items);
    give_back(s);
    *c = (struct slab_chunk){.next = s->vacant};
    s->vacant = at;
}

uint64_t slab_bytes(const struct slab *s) {
    uint64_t chunks = 0;
    for (uint32_t i = 0; i < s->n; i++) chunks += s->chunks[i].items != NULL;
    return chunks * SLAB_CHUNK * s->item_size + (uint64_t)s->cap * sizeof *s->chunks;
}
