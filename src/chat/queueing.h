// A message that enters the mailboxes: what queueing.c does with one, and queueing_batch.c with many.
#ifndef BARID_CHAT_QUEUEING_H
#define BARID_CHAT_QUEUEING_H

#include "chat/entry.h"
#include "chat/gather.h"

#define QUEUEING_GROUP "mailbox"

struct target_user {
    int64_t uid, did; // did 0: the user has no device
};

struct queue_op {
    struct gathered gathered; // first
    struct list_node node;    // in `held`
    uint64_t tag;
    uint32_t attempt;
    struct id message_id;
    int64_t now, published_at;

    bool unknown, fresh, deleted;
    int64_t sender;
    struct target_user *users;
    size_t n, cap;
    int64_t claims;
    struct push push;
    char reason[ERROR_TEXT_MAX];
};

// Takes the row that tells what the message is: columns from `at` on.
#define QUEUEING_COLUMNS                                                                                               \
    "m.mid, m.seq, m.kind, m.bytes, m.accepted_at, m.deleted_at is not null, m.sender_uid, v.conversation_id, "        \
    "a.user_id"
void queueing_take(struct queue_op *op, struct db_stmt *s, int at);
void queueing_clear(struct queue_op *op); // a run begins with it

// Many, each of another message, in one transaction (gather.h).
gather_run_fn queues_run;

#endif
