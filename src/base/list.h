// An intrusive doubly linked list: a ring through a head that belongs to the list.
//
//   struct thing { struct list_node node; … };
//   LIST_EACH(&list, at) { struct thing *t = LIST_ITEM(at, struct thing, node); … }
//
// A node is in at most one list at a time. An idle node is all zero or has been removed.
#ifndef BARID_BASE_LIST_H
#define BARID_BASE_LIST_H

#include "base/assert.h"

#include <stdbool.h>
#include <stddef.h>

struct list_node {
    struct list_node *prev, *next;
};

struct list {
    struct list_node head;
};

#define LIST_ITEM(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))
#define LIST_EACH(list, at)              for (struct list_node *at = (list)->head.next; at != &(list)->head; at = at->next)
// The same, and the item at hand may be removed (or freed) in the body.
#define LIST_EACH_SAFE(list, at)                                                                                       \
    for (struct list_node *at = (list)->head.next, *at##_next = at->next; at != &(list)->head;                         \
         at = at##_next, at##_next = at->next)

static inline void list_init(struct list *l) { l->head.prev = l->head.next = &l->head; }
static inline bool list_empty(const struct list *l) { return l->head.next == &l->head; }
static inline bool list_linked(const struct list_node *n) { return n->next != NULL; }

static inline struct list_node *list_first(struct list *l) { return list_empty(l) ? NULL : l->head.next; }
static inline struct list_node *list_last(struct list *l) { return list_empty(l) ? NULL : l->head.prev; }

static inline struct list_node *list_next(struct list *l, struct list_node *n) {
    return n->next == &l->head ? NULL : n->next;
}

static inline void list_insert_before(struct list_node *n, struct list_node *where) {
    ASSERT(!list_linked(n));
    n->prev = where->prev;
    n->next = where;
    where->prev->next = n;
    where->prev = n;
}

static inline void list_push_back(struct list *l, struct list_node *n) { list_insert_before(n, &l->head); }
static inline void list_push_front(struct list *l, struct list_node *n) { list_insert_before(n, l->head.next); }

// Removing an idle node does nothing.
static inline void list_remove(struct list_node *n) {
    if (!list_linked(n)) return;
    n->prev->next = n->next;
    n->next->prev = n->prev;
    n->prev = n->next = NULL;
}

static inline struct list_node *list_pop_front(struct list *l) {
    struct list_node *n = list_first(l);
    if (n != NULL) list_remove(n);
    return n;
}

#endif
