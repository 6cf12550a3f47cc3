// Who may do how much: token buckets for request rates, and counts of connections an address.
//
// Both live in tables of fixed size. When a neighbourhood of the rate table is full its least recently used
// bucket gives way (and its owner starts again with a full one): memory stays bounded under any flood.
#ifndef BARID_HTTP_LIMITS_H
#define BARID_HTTP_LIMITS_H

#include "base/map.h"

#include <stdbool.h>
#include <stdint.h>

struct rate {
    uint64_t key; // 0: free
    uint64_t at_ms;
    double tokens;
};

struct rates {
    struct rate *slots;
    double per_second, burst;
};

bool rates_init(struct rates *r, uint32_t per_second);
void rates_release(struct rates *r);
// Takes one token; false: none is left.
bool rates_take(struct rates *r, uint64_t key, uint64_t now_ms);
uint64_t rates_key(const void *data, size_t n); // of an address

struct address_counts {
    struct map map; // address -> struct address_count
};

void addresses_init(struct address_counts *a, uint64_t seed);
void addresses_release(struct address_counts *a);
// False when the address holds `max` connections (or memory is out): nothing was counted.
bool addresses_enter(struct address_counts *a, const char *address, uint32_t max);
void addresses_leave(struct address_counts *a, const char *address);
bool address_is_loopback(const char *address);

#endif
