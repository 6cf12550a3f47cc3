// Memory of the engine's own small structures. Running out of it ends the process, which is safe: nothing that
// was not durable was acknowledged. Message bodies are bounded by the memory budget long before.
#ifndef BARID_ENGINE_MEMORY_H
#define BARID_ENGINE_MEMORY_H

#include "base/assert.h"
#include "wire/table.h"

#include <stdlib.h>
#include <string.h>

static inline void *memory_new(size_t n) {
    void *p = malloc(n ? n : 1);
    if (!p) die("out of memory: %zu bytes", n);
    return p;
}

static inline void *memory_zero(size_t n) { return memset(memory_new(n), 0, n); }

static inline void *memory_resize(void *old, size_t n) {
    void *p = realloc(old, n ? n : 1);
    if (!p) die("out of memory: %zu bytes", n);
    return p;
}

static inline char *memory_text(const char *s) {
    if (!s) return NULL;
    size_t n = strlen(s) + 1;
    return memcpy(memory_new(n), s, n);
}

// A copy of its own; NULL for what is not there.
static inline struct view memory_view(struct view v) {
    if (v.length == 0) return (struct view){0};
    return (struct view){.data = memcpy(memory_new(v.length), v.data, v.length), .length = v.length};
}

// A growable array: makes room for one more item, so that array[(*count)++] may be written.
#define ROOM_FOR_ONE(array, count, cap)                                                                                \
    do {                                                                                                               \
        if ((count) == (cap)) {                                                                                        \
            (cap) = (cap) ? (cap)*2 : 16;                                                                              \
            (array) = memory_resize((array), (size_t)(cap) * sizeof *(array));                                         \
        }                                                                                                              \
    } while (0)

#endif
