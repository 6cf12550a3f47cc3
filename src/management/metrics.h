// Prometheus' text format of what the broker counts: under RabbitMQ's names where the meaning is the same, as barid_*
// what RabbitMQ does not have.
#ifndef BARID_MANAGEMENT_METRICS_H
#define BARID_MANAGEMENT_METRICS_H

#include "base/buf.h"

// With more queues than this there are only sums: the page would be too large for who asks every few seconds.
#define METRICS_QUEUES_MAX 3000

struct amqp;
struct engine;
struct io;

struct metrics_sources {
    struct engine *engine;
    struct amqp *amqp; // NULL: AMQP is not served
    struct io *io;
    uint64_t low_water_bytes;
};

void metrics_write(struct buf *b, const struct metrics_sources *s);

#endif
