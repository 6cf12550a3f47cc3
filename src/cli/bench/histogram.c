// Latency histogram; see histogram.h. A value v >= 64 with highest bit k falls into the bucket of its top seven
// bits: row (k - 5), column (v >> (k - 6)) - 64.
#include "cli/bench/histogram.h"

static uint32_t bucket_of(uint64_t v) {
    if (v < HISTOGRAM_SUB) return (uint32_t)v;
    uint32_t top = 63 - (uint32_t)__builtin_clzll(v);
    uint32_t shift = top - 6;
    uint32_t bucket = (shift + 1) * HISTOGRAM_SUB + (uint32_t)((v >> shift) - HISTOGRAM_SUB);
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

static uint64_t upper_edge(uint32_t bucket) {
    if (bucket < HISTOGRAM_SUB) return bucket;
    uint32_t shift = bucket / HISTOGRAM_SUB - 1;
    uint64_t column = bucket % HISTOGRAM_SUB + HISTOGRAM_SUB;
    return ((column + 1) << shift) - 1;
}

void histogram_add(struct histogram *h, uint64_t ns) {
    h->count++;
    if (ns > h->max) h->max = ns;
    h->buckets[bucket_of(ns)]++;
}

double histogram_ms(const struct histogram *h, double q) {
    uint64_t wanted = (uint64_t)(q * (double)h->count + 0.5), seen = 0;
    if (!h->count) return 0;
    if (wanted < 1) wanted = 1;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen < wanted) continue;
        uint64_t edge = upper_edge(i);
        return (double)(edge < h->max ? edge : h->max) / 1e6;
    }
    return (double)h->max / 1e6;
}
