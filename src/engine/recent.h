// The values an exchange has seen lately: what a deduplicating exchange asks before it routes. Kept in memory only, so
// a restart forgets them. It holds at most `size` values; the one that was added first is pushed out.
#ifndef BARID_ENGINE_RECENT_H
#define BARID_ENGINE_RECENT_H

#include "engine/value_key.h"

#define RECENT_MAX (1u << 20) // no cache is larger

struct recent;

struct recent *recent_new(uint32_t size, uint64_t seed);
void recent_free(struct recent *r);
bool recent_has(const struct recent *r, const struct value_key *key, uint64_t now_ms);
void recent_add(struct recent *r, const struct value_key *key, uint64_t until_ms); // UINT64_MAX: until pushed out
uint64_t recent_bytes(const struct recent *r);

#endif
