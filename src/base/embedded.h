// Files built into the binary by tools/embed.py.
#ifndef BARID_BASE_EMBEDDED_H
#define BARID_BASE_EMBEDDED_H

#include <stddef.h>

struct embedded_file {
    const char *name;          // base name; NULL ends the array
    const unsigned char *data; // NUL-terminated
    size_t length;             // without the NUL
};

#endif
