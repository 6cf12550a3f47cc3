// Many small items of one size, named by 32-bit handles: half the size of a pointer, and stable.
//
// Items live in chunks of 1,024. A chunk that becomes empty goes back to the system as long as another has
// room, so a drained backlog gives its memory back.
#ifndef BARID_ENGINE_SLAB_H
#define BARID_ENGINE_SLAB_H

#include <stdint.h>

#define NONE       UINT32_MAX // no item
#define SLAB_CHUNK 1024

struct slab_chunk;

struct slab {
    uint32_t item_size;
    uint32_t used;
    uint32_t open;   // first chunk with room
    uint32_t vacant; // first chunk number without memory
    uint32_t n, cap;
    uint64_t freed; // bytes, since the system was last given back what is free
    struct slab_chunk *chunks;
};

struct slab_chunk {
    uint8_t *items;
    uint32_t used;
    uint32_t fresh;      // items never used yet begin here
    uint32_t free;       // first freed item, linked through their first four bytes
    uint32_t next, prev; // in the list of open chunks (or of vacant ones)
};

void slab_init(struct slab *s, uint32_t item_size);
void slab_release(struct slab *s);
uint32_t slab_new(struct slab *s); // zeroed
void slab_free(struct slab *s, uint32_t handle);
uint64_t slab_bytes(const struct slab *s); // memory held

static inline void *slab_at(const struct slab *s, uint32_t handle) {
    return s->chunks[handle / SLAB_CHUNK].items + (uint64_t)(handle % SLAB_CHUNK) * s->item_size;
}

#endif
