// The id of the conversation that a set of people has without anyone having named one.
//
//   "dm-" + 32 hex digits of BLAKE2b-128 over the members' ids, sorted, without repetition, a zero after each
//
// Every device of every member derives the same id, so making the conversation twice, at once or after a lost
// answer, makes one. The service refuses such an id for anybody else, so that nobody can take it away.
#ifndef BARID_BASE_CONVERSATION_ID_H
#define BARID_BASE_CONVERSATION_ID_H

#include <stdbool.h>
#include <stddef.h>

#define CONVERSATION_ID_DERIVED 36 // with NUL

// Members sorted by their bytes, each once.
void conversation_id_derive(const char *const *members, size_t n, char out[static CONVERSATION_ID_DERIVED]);
bool conversation_id_is_derived(const char *id); // it begins like one: no other id may

#endif
