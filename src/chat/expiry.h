// Messages that were not delivered in time.
#ifndef BARID_CHAT_EXPIRY_H
#define BARID_CHAT_EXPIRY_H

#include "chat/internal.h"

// Expires up to a batch of the oldest, and says whether there may be more.
void expiry_batch(struct chat *c, void (*done)(struct chat *c, bool more));

#endif
