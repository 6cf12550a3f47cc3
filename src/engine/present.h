// The x-deduplication-header values of the messages that a queue has: none is in it twice at once. A value is let go
// when its message leaves the queue for good. Nothing is recorded: a restart reads the values from the messages.
#ifndef BARID_ENGINE_PRESENT_H
#define BARID_ENGINE_PRESENT_H

#include "engine/value_key.h"

struct present;

struct present *present_new(uint64_t seed);
void present_free(struct present *p);
bool present_has(const struct present *p, const struct value_key *key);
void present_add(struct present *p, const struct value_key *key, uint64_t seq); // of message `seq`
void present_remove(struct present *p, uint64_t seq);                           // one that added nothing: nothing

// Message `seq` is about to leave, and what takes its place may have its value. False: it has none (`p` may be NULL).
// Putting back gives way to a message that has the value by now.
bool present_lift(struct present *p, uint64_t seq, struct value_key *out);
void present_put_back(struct present *p, uint64_t seq, const struct value_key *key);

#endif
