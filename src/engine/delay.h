// x-delay: how long a message that came to a delayed exchange waits before it is routed.
#ifndef BARID_ENGINE_DELAY_H
#define BARID_ENGINE_DELAY_H

#include "wire/table.h"

// The header's milliseconds: an integer, a real number cut off, or a text of digits. False: none, or none above zero.
bool delay_of(const void *properties, uint32_t length, uint64_t *ms);
// Appends the properties with x-delay negated, so that it waits no second time and the consumer can see that it did.
bool delay_negate(struct buf *out, struct view properties);

#endif
