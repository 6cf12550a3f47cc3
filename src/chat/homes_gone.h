// Homes (homes.h) at servers that are no more: until they are forgotten, whoever writes into the mailbox of such a
// device tells a server that does not hear it.
#ifndef BARID_CHAT_HOMES_GONE_H
#define BARID_CHAT_HOMES_GONE_H

#include "chat/internal.h"

// A step of the sweep: forgets up to a batch, and says whether there may be more. Looks once an hour; each of several
// servers does, so that one that has just started clears up behind those that ended.
void homes_gone_batch(struct chat *c, void (*done)(struct chat *c, bool more));

// We were told of an entry, and nobody waits for it here any more: the device's last poll has gone. Bounded; what is
// not forgotten now is at the next notice.
void home_poll_gone(struct chat *c, int64_t did);

#endif
