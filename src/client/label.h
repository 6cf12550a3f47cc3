// What people call a conversation: its title, or who is in it besides themselves, or, when neither is known, its id.
#ifndef BARID_CLIENT_LABEL_H
#define BARID_CLIENT_LABEL_H

#include "client/client.h"
#include "client/render.h"

#define LABEL_MAX 256

void label_of(struct client *c, const char *conversation_id, char out[static LABEL_MAX]);
// Beside the name of a message's sender: "in Tea house", "with carol", "" in a conversation of two.
void label_beside(struct client *c, const char *conversation_id, const char *by_user_id, char out[static LABEL_MAX]);
// What is true of a message of our own by all that is stored here. Read and delivered are said when they hold for every
// recipient; `*reads` and `*readers`: by how many of how many it was read, as far as its members are known.
enum tick label_tick(struct client *c, const struct out_message *m, size_t *reads, size_t *readers);
// Learns all the caller's conversations from the service, in one call; failing is no harm.
void label_learn(struct client *c);
// The same for one of which nothing is known yet; takes a second at most.
void label_learn_about(struct client *c, const char *conversation_id, const char *by_user_id);

#endif
