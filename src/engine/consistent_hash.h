// Consistent hashing for exchanges of that type: every message with the same value goes to the same binding, bindings
// get shares in proportion to their weights, and a binding that comes or goes moves only what it wins or held.
//
// It is weighted rendezvous hashing: each binding draws a score from the value and its own seed, and the highest score
// wins. No ring has to be kept, shares are exact in the mean, and a message costs one hash a binding.
#ifndef BARID_ENGINE_CONSISTENT_HASH_H
#define BARID_ENGINE_CONSISTENT_HASH_H

#include "base/error.h"
#include "wire/table.h"

#define WEIGHT_MAX 10000

// A binding key as a weight. ERR_INVALID: not a number of 1 to WEIGHT_MAX.
enum err consistent_weight(const char *key, uint32_t *weight, struct error *err);
uint64_t consistent_seed(const char *destination, bool to_exchange);
double consistent_score(uint64_t seed, uint64_t value, uint32_t weight);

// What a message is hashed by: `header` (of its properties), `property` (message_id, correlation_id, timestamp), or
// the routing key when both are NULL. Those that lack it share one value.
uint64_t consistent_value(const char *routing_key, struct view properties, const char *header, const char *property);

#endif
