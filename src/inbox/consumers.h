// The consumers that a database knows, and forgetting one that will not come back (renamed, given up): its events, the
// ids it has taken in, how far it has read, its buckets. The calls are made inside units, PostgreSQL only.
#ifndef BARID_INBOX_CONSUMERS_H
#define BARID_INBOX_CONSUMERS_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct db;

#define CONSUMERS_COUNTED_MAX 10000 // more is not counted

struct consumer {
    const char *name;
    uint64_t processes, waiting, parked, remembered; // remembered: ids
};
// In the order of their names. ERR_NOT_FOUND: the database has no inbox.
enum err consumers_each(struct db *db, void (*each)(void *arg, const struct consumer *c), void *arg);

// ERR_NOT_FOUND: there is no such consumer; ERR_LOCKED: a process of it is running; ERR_CONFLICT: it has events, and
// `with_events` is not set. Says so in the unit's error.
enum err consumer_may_go(struct db *db, const char *name, bool with_events);
// Some of its rows; *more: call it again, in a unit of its own. At the end the consumer is gone.
enum err consumer_drop(struct db *db, const char *name, bool *more);

#endif
