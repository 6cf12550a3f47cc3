// Big-endian numbers at any address: what everything of AMQP is written in. Each compiles to one move and one swap.
#ifndef BARID_WIRE_BYTES_H
#define BARID_WIRE_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint16_t load_u16(const uint8_t *at) {
    uint16_t v;
    memcpy(&v, at, sizeof v);
    return __builtin_bswap16(v);
}

static inline uint32_t load_u32(const uint8_t *at) {
    uint32_t v;
    memcpy(&v, at, sizeof v);
    return __builtin_bswap32(v);
}

static inline uint64_t load_u64(const uint8_t *at) {
    uint64_t v;
    memcpy(&v, at, sizeof v);
    return __builtin_bswap64(v);
}

static inline void store_u16(uint8_t *at, uint16_t v) {
    v = __builtin_bswap16(v);
    memcpy(at, &v, sizeof v);
}

static inline void store_u32(uint8_t *at, uint32_t v) {
    v = __builtin_bswap32(v);
    memcpy(at, &v, sizeof v);
}

static inline void store_u64(uint8_t *at, uint64_t v) {
    v = __builtin_bswap64(v);
    memcpy(at, &v, sizeof v);
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the loads and stores swap");

#endif
