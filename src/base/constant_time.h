// Comparing secrets in a time that does not tell where they differ.
#ifndef BARID_BASE_CONSTANT_TIME_H
#define BARID_BASE_CONSTANT_TIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool constant_time_equal(const void *a, const void *b, size_t n) {
    const volatile uint8_t *x = a, *y = b;
    uint8_t difference = 0;
    for (size_t i = 0; i < n; i++) difference |= (uint8_t)(x[i] ^ y[i]);
    return difference == 0;
}

#endif
