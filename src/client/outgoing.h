// Files on their way out: our own copy of every file that is to be sent, from before the message is `created` until it
// is accepted or rejected. What happens to the original meanwhile does not matter any more.
//
//   PROFILE/outgoing/<message_id>
#ifndef BARID_CLIENT_OUTGOING_H
#define BARID_CLIENT_OUTGOING_H

#include "client/client.h"

#define OUTGOING_PATH_MAX (PROFILE_PATH_MAX + 64)

// Copies `source` and syncs it (where the file system can, the copy shares the original's blocks). ERR_FULL when
// there is no room for it: OUTGOING_RESERVE_BYTES are left for the store itself.
#define OUTGOING_RESERVE_BYTES (8u << 20)
enum err outgoing_keep(struct client *c, const char *message_id, const char *source, struct error *e);
void outgoing_path(const struct client *c, const char *message_id, char out[static OUTGOING_PATH_MAX]);
void outgoing_drop(struct client *c, const char *message_id);
// Removes what a killed process left behind.
void outgoing_sweep(struct client *c);

#endif
