// Whether connections to the server can be made: what the lanes and the listener know of it together, so that one log
// record tells of an outage, and one of its end, and a server that comes back is not run over.
#ifndef BARID_DATABASE_POSTGRES_HEALTH_H
#define BARID_DATABASE_POSTGRES_HEALTH_H

#include "base/error.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct postgres_health {
    pthread_mutex_t mutex; // guards what follows
    bool away;
    uint64_t next_try_ms, wait_ms;
};

void postgres_health_init(struct postgres_health *h);
void postgres_health_release(struct postgres_health *h);
// May the caller try to connect? While the server is away, one at a time, ever more seldom. Else how long to wait.
bool postgres_health_may_try(struct postgres_health *h, uint64_t *wait_ms);
bool postgres_health_is_away(struct postgres_health *h);
// What became of the try.
void postgres_health_failed(struct postgres_health *h, const struct error *e);
void postgres_health_connected(struct postgres_health *h);

uint64_t postgres_now_ms(void);              // monotonic
uint32_t postgres_jitter(uint32_t up_to_ms); // 1 … up_to_ms; 0 for 0

#endif
