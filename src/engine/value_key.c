#include "engine/value_key.h"

#include "wire/properties.h"

#include <string.h>
#include <xxhash.h>

enum { KIND_NONE, KIND_INTEGER, KIND_REAL, KIND_BYTES, KIND_BOOL, KIND_DECIMAL };

static struct value_key hashed(const void *data, size_t length, unsigned kind) {
    XXH128_canonical_t out;
    XXH128_canonicalFromHash(&out, XXH3_128bits_withSeed(data, length, kind));
    struct value_key key;
    memcpy(key.bytes, out.digest, sizeof key.bytes);
    return key;
}

struct value_key value_key(const struct field *f) {
    int64_t integer;
    switch (f->type) {
    case FIELD_FLOAT:
    case FIELD_DOUBLE: return hashed(&f->real, sizeof f->real, KIND_REAL);
    case FIELD_BOOL: return hashed(&f->integer, sizeof f->integer, KIND_BOOL);
    case FIELD_DECIMAL: return hashed(&f->integer, sizeof f->integer, KIND_DECIMAL + f->scale);
    case FIELD_VOID: return hashed("", 0, KIND_NONE);
    case FIELD_TIMESTAMP: return hashed(&f->integer, sizeof f->integer, KIND_INTEGER);
    default: break;
    }
    if (field_integer(f, &integer)) return hashed(&integer, sizeof integer, KIND_INTEGER);
    return hashed(f->bytes.data ? (const void *)f->bytes.data : "", f->bytes.length, KIND_BYTES);
}

bool value_key_of_message(const void *properties, uint32_t length, struct value_key *out) {
    struct field f;
    if (!table_find(properties_headers(properties, length), "x-deduplication-header", &f)) return false;
    *out = value_key(&f);
    return true;
}
