// A binary min-heap of intrusive nodes. Each node knows its place, so removing from the middle is O(log n).
#ifndef BARID_BASE_HEAP_H
#define BARID_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Embedded in the item; zero when idle. LIST_ITEM (list.h) leads back to the item.
struct heap_node {
    uint32_t at; // 1-based place, 0 when in no heap
};

struct heap {
    struct heap_node **items;
    uint32_t len;
    uint32_t cap;
    bool (*before)(const struct heap_node *a, const struct heap_node *b); // strict
};

void heap_init(struct heap *h, bool (*before)(const struct heap_node *a, const struct heap_node *b));
void heap_release(struct heap *h);                     // the nodes are left as they are
bool heap_push(struct heap *h, struct heap_node *n);   // false: out of memory
void heap_remove(struct heap *h, struct heap_node *n); // an idle node: nothing happens
void heap_update(struct heap *h, struct heap_node *n); // after its key has changed
struct heap_node *heap_pop(struct heap *h);            // NULL when empty

static inline struct heap_node *heap_first(const struct heap *h) { return h->len > 0 ? h->items[0] : NULL; }
static inline bool heap_has(const struct heap_node *n) { return n->at != 0; }

#endif
