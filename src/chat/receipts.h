// A receipt on its way: what receipts.c does with one, and receipts_batch.c with many.
#ifndef BARID_CHAT_RECEIPTS_H
#define BARID_CHAT_RECEIPTS_H

#include "chat/entry.h"
#include "chat/event.h"
#include "chat/gather.h"

struct receipt {
    struct gathered gathered; // first
    struct chat_actor who;
    struct id message_id, delivered_event, read_event;
    bool read;
    int64_t now, notified_at;

    int64_t mid, sender, open, claims;
    bool deleted, had, had_read, expired, media;
    bool claimed, unknown; // of this device: it has a claim, it has no row at all
    uint64_t seq;
    char conversation_id[NAME_MAX_LENGTH + 1];

    bool received_now, read_now, deleted_now, told;
    struct push delivered_push, read_push;
    struct gone gone;
    chat_done_fn *done;
    void *arg;
};

// Takes the row that tells how things are: columns from `at` on.
#define RECEIPT_COLUMNS                                                                                                \
    "m.mid, m.sender_uid, m.open, m.claims, m.deleted_at is not null, m.seq, v.conversation_id, "                      \
    "x.received_at is not null, x.read_at is not null, x.expired_at is not null, q.open, q.mid is null, "              \
    "m.media_hash is not null"
void receipt_take(struct receipt *op, struct db_stmt *s, int at);
void receipt_clear(struct receipt *op); // a run begins with it
// What the sender is told: fills the push, and adds the event.
void receipt_tell(struct receipt *op, enum chat_entry_type type, struct events *events);
enum err receipt_unknown(struct receipt *op); // ERR_NOT_FOUND

// Many, each of another message, in one transaction (gather.h).
gather_run_fn receipts_run;

#endif
