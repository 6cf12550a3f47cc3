// When which device was shown which message. Not a safe point of its own (nothing is lost with it), so it is written
// with the device's `received` when that comes first, else about once a second for all that are outstanding.
#ifndef BARID_CHAT_NOTIFIED_H
#define BARID_CHAT_NOTIFIED_H

#include "chat/internal.h"

struct notified *notified_new(struct chat *c);
void notified_free(struct notified *n);
void notified_add(struct chat *c, int64_t did, const struct id *message_id, int64_t mid);
// The time, and forgets it; 0: not known.
int64_t notified_take(struct chat *c, int64_t did, const struct id *message_id);

#endif
