// A header's value as sixteen bytes, for remembering and comparing many of them: a 128-bit hash of its kind and
// content. Integers are the same whatever their width; a number and a text never are.
#ifndef BARID_ENGINE_VALUE_KEY_H
#define BARID_ENGINE_VALUE_KEY_H

#include "wire/table.h"

struct value_key {
    uint8_t bytes[16];
};

struct value_key value_key(const struct field *f);

// The x-deduplication-header of a message. False: it has none.
bool value_key_of_message(const void *properties, uint32_t length, struct value_key *out);

#endif
