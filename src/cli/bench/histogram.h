// Latency histogram: log-linear buckets, 64 a power of two, so any quantile is within 1.6 % of the truth.
// Values in nanoseconds up to about 2^50 (13 days). Embedded, about 24 KB, nothing to release.
#ifndef BARID_CLI_BENCH_HISTOGRAM_H
#define BARID_CLI_BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB     64
#define HISTOGRAM_BUCKETS (HISTOGRAM_SUB * 46)

struct histogram {
    uint64_t count, max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t ns);
// The value below which the share q (0..1) lies, in milliseconds; 0 when empty.
double histogram_ms(const struct histogram *h, double q);

#endif
