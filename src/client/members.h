// The members of a conversation as JSON, and the id that follows from them.
#ifndef BARID_CLIENT_MEMBERS_H
#define BARID_CLIENT_MEMBERS_H

#include "base/conversation_id.h"

#include <jansson.h>

// Sorted, each once, as a JSON array. NULL: not enough memory.
json_t *members_sorted(const char *const *members, size_t n);
// Of what members_sorted gives.
void members_derive_id(const json_t *sorted, char out[static CONVERSATION_ID_DERIVED]);

#endif
