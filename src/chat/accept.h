// A message on its way in: what accept.c does with one, and accept_batch.c with many.
#ifndef BARID_CHAT_ACCEPT_H
#define BARID_CHAT_ACCEPT_H

#include "chat/event.h"
#include "chat/gather.h"
#include "chat/token_cache.h"

#define ACCEPT_DIGEST 16

struct accept {
    struct gathered gathered; // first
    struct chat_actor who;
    struct id message_id;
    char conversation_id[NAME_MAX_LENGTH + 1];
    bool media;
    uint8_t ticket_hash[CHAT_HASH];
    uint8_t digest[ACCEPT_DIGEST];
    int64_t created_at, now;

    int64_t cid, mid, members;
    uint64_t seq, bytes;
    int64_t accepted_at;
    bool duplicate;
    struct gone gone;

    chat_accepted_fn *done;
    void *arg;
    size_t text_length;
    char text[];
};

void accept_event(const struct accept *op, struct events *events);
enum err accept_unknown(struct accept *op); // ERR_NOT_FOUND

// Many, each with another id, in one transaction (gather.h).
gather_run_fn accepts_run;

#endif
