// Retry delays with full jitter, the one implementation for client, producer, handler and engine
// (design.md 7): random(0, min(cap, base * multiplier^n)).
#ifndef BARID_BASE_BACKOFF_H
#define BARID_BASE_BACKOFF_H

#include <stdint.h>

struct io;

struct backoff {
    uint32_t base_ms;  // default 500
    uint32_t cap_ms;   // default 60,000
    double multiplier; // default 2
};

#define BACKOFF_DEFAULT ((struct backoff){.base_ms = 500, .cap_ms = 60000, .multiplier = 2.0})

// The delay before attempt number `attempt` + 1, attempt counted from 0. Never overflows.
// `floor_ms` is Retry-After in milliseconds, or 0: the result is never below it.
uint32_t backoff_delay(const struct backoff *b, struct io *io, uint32_t attempt, uint32_t floor_ms);

#endif
