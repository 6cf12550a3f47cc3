// Bytes as lower-case hexadecimal digits and back.
#ifndef BARID_BASE_HEX_H
#define BARID_BASE_HEX_H

#include <stdbool.h>
#include <stddef.h>

// `out` has room for 2 * n + 1.
void hex_encode(const void *data, size_t n, char *out);
// Exactly 2 * n digits of either case, or false.
bool hex_decode(const char *text, size_t len, void *out, size_t n);

#endif
