// What people call a conversation: its title, or who is in it besides themselves, or, when neither is known, its id.
#ifndef BARID_CLIENT_LABEL_H
#define BARID_CLIENT_LABEL_H

#include "client/client.h"

#define LABEL_MAX 256

void label_of(struct client *c, const char *conversation_id, char out[static LABEL_MAX]);
// Beside the name of a message's sender: "" in a conversation of two.
void label_beside(struct client *c, const char *conversation_id, const char *by_user_id, char out[static LABEL_MAX]);
// Learns all the caller's conversations from the service, in one call; failing is no harm.
void label_learn(struct client *c);

#endif
