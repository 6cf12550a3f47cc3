// Whose turn it is: of the events of one key, one at a time is with a group's handlers; those behind it wait here.
//
//   add ─> true: it may go      add ─> false: it waits behind      leave ─> the one whose turn it is now
//
// The bookkeeping alone: where events come from, their retries and their bytes are the caller's. An event without a key
// always may go.
#ifndef BARID_BUS_TURNS_H
#define BARID_BUS_TURNS_H

#include "base/list.h"
#include "base/map.h"

#include <stdbool.h>
#include <stdint.h>

struct turns {
    struct map keys; // those with an event that has not left
};

struct turn_key;

// Embedded in an event; zero at first.
struct turn {
    struct turn_key *key;  // NULL: none
    struct list_node node; // while it waits
};

void turns_init(struct turns *t, uint64_t seed);
void turns_release(struct turns *t);                              // when everything has left
bool turns_add(struct turns *t, struct turn *v, const char *key); // key NULL or "": none
struct turn *turns_leave(struct turns *t, struct turn *v);        // NULL: nobody waited, or it was not its turn

#endif
