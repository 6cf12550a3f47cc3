#include "engine/consistent_hash.h"

#include "engine/value_key.h"
#include "wire/properties.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

enum err consistent_weight(const char *key, uint32_t *weight, struct error *err) {
    uint32_t n = 0;
    size_t digits = strspn(key, "0123456789");
    if (digits == 0 || key[digits] != 0)
        return error_field(err, "key", "the binding key must be an integer: it is the binding's weight");
    for (size_t i = 0; i < digits && n <= WEIGHT_MAX; i++) n = n * 10 + (uint32_t)(key[i] - '0');
    if (n < 1) return error_field(err, "key", "the binding key must be greater than 0");
    if (n > WEIGHT_MAX) return error_field(err, "key", "the binding key must not exceed %d", WEIGHT_MAX);
    *weight = n;
    return ERR_OK;
}

uint64_t consistent_seed(const char *destination, bool to_exchange) {
    return XXH3_64bits_withSeed(destination, strlen(destination), to_exchange);
}

// -weight / ln(u) with u uniform in (0, 1): the chance to have the highest is in proportion to the weight.
double consistent_score(uint64_t seed, uint64_t value, uint32_t weight) {
    uint64_t h = XXH3_64bits_withSeed(&value, sizeof value, seed);
    double u = ((double)(h >> 11) + 0.5) * 0x1p-53;
    return -(double)weight / log(u);
}

static bool property_value(const struct properties *p, const char *name, struct field *out) {
    if (strcmp(name, "timestamp") == 0) {
        *out = (struct field){.type = FIELD_TIMESTAMP, .integer = (int64_t)p->timestamp};
        return p->flags & PROPERTY_TIMESTAMP;
    }
    bool id = strcmp(name, "message_id") == 0;
    *out = (struct field){.type = FIELD_STRING, .bytes = id ? p->message_id : p->correlation_id};
    return p->flags & (id ? PROPERTY_MESSAGE_ID : PROPERTY_CORRELATION_ID);
}

uint64_t consistent_value(const char *routing_key, struct view properties, const char *header, const char *property) {
    struct field f = {.type = FIELD_STRING, .bytes = view_of(routing_key)};
    struct properties p;
    bool there = true;
    if (header) there = table_find(properties_headers(properties.data, properties.length), header, &f);
    else if (property)
        there = properties_decode(&p, properties.data, properties.length) && property_value(&p, property, &f);
    if (!there) return 0;
    struct value_key key = value_key(&f);
    return XXH3_64bits(key.bytes, sizeof key.bytes);
}
