// One binary heap for everything the engine does later: delays, retries, TTLs, queue expiry, the ends of dedupe
// windows. 24 bytes a timer, and only what has a time is in it. Whoever has a timer holds its 1-based place.
#ifndef BARID_ENGINE_TIMERS_H
#define BARID_ENGINE_TIMERS_H

#include <stdint.h>

enum timer_kind { TIMER_ENTRY, TIMER_QUEUE, TIMER_DEDUPE, TIMER_PIN };

struct timer {
    uint64_t due_ms;     // monotonic
    uint64_t expires_ms; // entries: when the message dies, UINT64_MAX never; due_ms is never later
    uint32_t kind, handle;
};

struct timers {
    struct timer *items;
    uint32_t n, cap;
};

#endif
