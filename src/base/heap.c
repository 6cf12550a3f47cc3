// The heap of heap.h: children of place p (from 1) are at 2p and 2p + 1.
#include "base/heap.h"

#include "base/assert.h"

#include <stdlib.h>

void heap_init(struct heap *h, bool (*before)(const struct heap_node *a, const struct heap_node *b)) {
    *h = (struct heap){.before = before};
}

void heap_release(struct heap *h) {
    free(h->items);
    heap_init(h, h->before);
}

static void place(struct heap *h, struct heap_node *n, uint32_t at) {
    h->items[at - 1] = n;
    n->at = at;
}

static void move_up(struct heap *h, struct heap_node *n) {
    uint32_t at = n->at;
    while (at > 1 && h->before(n, h->items[at / 2 - 1])) {
        place(h, h->items[at / 2 - 1], at);
        at /= 2;
    }
    place(h, n, at);
}

static void move_down(struct heap *h, struct heap_node *n) {
    uint32_t at = n->at;
    while (at <= h->len / 2) {
        uint32_t child = at * 2;
        if (child < h->len && h->before(h->items[child], h->items[child - 1])) child++;
        if (!h->before(h->items[child - 1], n)) break;
        place(h, h->items[child - 1], at);
        at = child;
    }
    place(h, n, at);
}

static bool grow(struct heap *h) {
    if (h->cap > UINT32_MAX / 4) return false;
    uint32_t cap = h->cap == 0 ? 16 : h->cap * 2;
    struct heap_node **items = realloc(h->items, cap * sizeof *items);
    if (items == NULL) return false;
    h->items = items;
    h->cap = cap;
    return true;
}

bool heap_push(struct heap *h, struct heap_node *n) {
    ASSERT(!heap_has(n));
    if (h->len == h->cap && !grow(h)) return false;
    h->len++;
    place(h, n, h->len);
    move_up(h, n);
    return true;
}

void heap_update(struct heap *h, struct heap_node *n) {
    ASSERT(heap_has(n) && n->at <= h->len && h->items[n->at - 1] == n);
    move_up(h, n);
    move_down(h, n);
}

void heap_remove(struct heap *h, struct heap_node *n) {
    if (!heap_has(n)) return;
    ASSERT(n->at <= h->len && h->items[n->at - 1] == n);
    uint32_t at = n->at;
    struct heap_node *last = h->items[h->len - 1];
    h->len--;
    n->at = 0;
    if (last == n) return;
    place(h, last, at);
    heap_update(h, last);
}

struct heap_node *heap_pop(struct heap *h) {
    struct heap_node *first = heap_first(h);
    if (first != NULL) heap_remove(h, first);
    return first;
}
