// Full jitter: a uniformly random delay below an exponentially growing, capped bound.
#include "base/backoff.h"

#include "base/io.h"

#include <math.h>

static uint32_t bound(const struct backoff *b, uint32_t attempt) {
    if (b->base_ms == 0) return 0;
    double multiplier = b->multiplier > 1.0 ? b->multiplier : 1.0; // also when it is not a number
    double grown = (double)b->base_ms * pow(multiplier, (double)attempt);
    return grown < (double)b->cap_ms ? (uint32_t)grown : b->cap_ms;
}

uint32_t backoff_delay(const struct backoff *b, struct io *io, uint32_t attempt, uint32_t floor_ms) {
    uint32_t delay = (uint32_t)io_random_below(io, (uint64_t)bound(b, attempt) + 1);
    return delay > floor_ms ? delay : floor_ms;
}
