// For tests: an io whose clock stands still until it is moved and whose randomness is a seeded sequence.
#ifndef BARID_BASE_TEST_IO_H
#define BARID_BASE_TEST_IO_H

#include "base/io.h"

#include <string.h>

struct test_io {
    struct io io;
    int64_t wall_ms;
    uint64_t monotonic_ns;
    uint64_t random_state;
};

static uint64_t test_io_monotonic_ns(struct io *io) { return ((struct test_io *)io)->monotonic_ns; }
static int64_t test_io_wall_ms(struct io *io) { return ((struct test_io *)io)->wall_ms; }

static void test_io_random(struct io *io, void *out, size_t n) {
    struct test_io *t = (struct test_io *)io;
    uint8_t *at = out;
    for (size_t i = 0; i < n; i++) {
        t->random_state = t->random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        at[i] = (uint8_t)(t->random_state >> 56);
    }
}

static inline void test_io_init(struct test_io *t, uint64_t seed) {
    static const struct io_vtable vtable = {
        .monotonic_ns = test_io_monotonic_ns, .wall_ms = test_io_wall_ms, .random = test_io_random};
    memset(t, 0, sizeof *t);
    t->io.v = &vtable;
    t->wall_ms = 1700000000000;
    t->random_state = seed;
}

#endif
