// For how long a consumer remembers which events it has taken in: ids older than that are forgotten, slowly, and never
// that of an event which still waits or is parked. An event whose id was forgotten would be taken in anew if the bus
// delivered it once more.
#ifndef BARID_INBOX_REMEMBER_H
#define BARID_INBOX_REMEMBER_H

#include "base/error.h"

#include <stdint.h>

struct loop;
struct database;
struct remember;

struct remember_options {
    struct loop *loop;
    struct database *database; // PostgreSQL
    const char *consumer;      // outlives it
    uint64_t keep_ms;          // 0: seven days
    uint32_t every_ms;         // between looks, 0: a minute
};
void remember_new(struct remember **out, const struct remember_options *o); // looks at once
void remember_stop(struct remember *r);                                     // no more looks
void remember_free(struct remember *r);                                     // after database_close
uint64_t remember_forgotten(const struct remember *r);                      // ids, since the start

#endif
