// Whether connections to the server can be made: what the lanes and the keeper (postgres_listen.c) know of it together.
// The first who cannot connect says so; from then on the keeper alone tries, and everybody else fails at once.
#ifndef BARID_DATABASE_POSTGRES_HEALTH_H
#define BARID_DATABASE_POSTGRES_HEALTH_H

#include "base/error.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct postgres_health {
    int wake_fd;           // an eventfd of the keeper's
    pthread_mutex_t mutex; // guards what follows
    bool away;
    uint64_t next_try_ms, wait_ms;
};

void postgres_health_init(struct postgres_health *h);
void postgres_health_release(struct postgres_health *h);
void postgres_health_wake(struct postgres_health *h);
bool postgres_health_is_away(struct postgres_health *h);
uint64_t postgres_health_wait_ms(struct postgres_health *h); // until the keeper's next try; 0: now
// What became of a try.
void postgres_health_failed(struct postgres_health *h, const struct error *e);
void postgres_health_connected(struct postgres_health *h);

uint64_t postgres_now_ms(void);              // monotonic
uint32_t postgres_jitter(uint32_t up_to_ms); // 1 … up_to_ms; 0 for 0

#endif
