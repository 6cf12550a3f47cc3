// Numbers made from an io's random bytes.
#include "base/io.h"

#include "base/assert.h"

uint64_t io_random_u64(struct io *io) {
    uint64_t v;
    io->v->random(io, &v, sizeof v);
    return v;
}

uint64_t io_random_below(struct io *io, uint64_t below) {
    ASSERT(below > 0);
    uint64_t first_fair = (0 - below) % below; // 2^64 mod below: values under it would come up once too often
    uint64_t v;
    do v = io_random_u64(io);
    while (v < first_fair);
    return v % below;
}
