// An entry of the mailbox, as the socket and GET /mailbox alike send it.
#ifndef BARID_CLIENT_ENTRY_H
#define BARID_CLIENT_ENTRY_H

#include "base/id.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum entry_type { ENTRY_IS_MESSAGE, ENTRY_IS_DELIVERED, ENTRY_IS_READ, ENTRY_IS_EXPIRED, ENTRY_IS_UNKNOWN };

struct entry {
    enum entry_type type;
    uint64_t cursor;
    char message_id[ID_TEXT];
    char conversation_id[NAME_MAX_LENGTH + 1];
    char by_user_id[NAME_MAX_LENGTH + 1];
    uint64_t seq;
    uint64_t bytes;
    bool media;
    int64_t at; // accepted_at of a message, else when it happened
};

// False: not an entry at all. A type this version does not know is ENTRY_IS_UNKNOWN and is passed over.
bool mailbox_entry_parse(const json_t *object, int64_t now, struct entry *out);

#endif
