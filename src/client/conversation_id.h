// The id of the conversation that a set of people has without anyone having named one.
//
//   "dm-" + 32 hex digits of BLAKE2b-128 over the members' ids, sorted, without repetition, a zero after each
//
// Every device of every member derives the same id, so making the conversation twice, at once or after a lost
// answer, makes one.
#ifndef BARID_CLIENT_CONVERSATION_ID_H
#define BARID_CLIENT_CONVERSATION_ID_H

#include "base/id.h"

#include <jansson.h>

#define CONVERSATION_ID_DERIVED 36 // with NUL

// Sorted, each once, as a JSON array. NULL: not enough memory.
json_t *members_sorted(const char *const *members, size_t n);
void conversation_id_derive(const json_t *members, char out[static CONVERSATION_ID_DERIVED]);

#endif
