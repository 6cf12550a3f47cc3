// The sender's half of the store: messages of our own.
//
//   created ──▶ sending ──▶ accepted
//                  │  ▲
//                  │  └─ a failure that may pass: again after next_at
//                  └──▶ rejected      told to the sender, never tried again
//
// Within a conversation the oldest row that is created or sending goes first, and the others wait for it.
#ifndef BARID_CLIENT_STORE_OUTBOX_H
#define BARID_CLIENT_STORE_OUTBOX_H

#include "client/store.h"

#define OUTBOX_WAITING_MAX 10000

enum out_state { OUT_CREATED, OUT_SENDING, OUT_ACCEPTED, OUT_REJECTED };
const char *out_state_name(enum out_state state);

struct out_message {
    uint64_t position;
    char message_id[ID_TEXT];
    char conversation_id[NAME_MAX_LENGTH + 1];
    char *text;       // or the next four; all heap
    char *media_path; // where it was; what is sent is our own copy (outgoing.h)
    char *media_type;
    char *filename;
    char ticket[129]; // "": not uploaded yet
    int64_t ticket_at;
    bool ticket_fresh; // of this very attempt; not stored
    enum out_state state;
    uint64_t seq; // 0: not known
    uint32_t attempts;
    int64_t next_at;  // not before, as the retry delay has it; a new process may try at once
    int64_t floor_at; // not before, as the service asked; binds everyone
    char *error;      // the last failure, or why it was rejected
    int64_t created_at;
    int64_t accepted_at;
};
void out_message_release(struct out_message *m);

// Makes `m` durable: the safe point `created`. ERR_LIMIT when OUTBOX_WAITING_MAX wait already.
enum err store_outbox_add(struct store *s, const struct out_message *m, struct error *e);
enum err store_outbox_get(struct store *s, const char *message_id, struct out_message *out, struct error *e);
// The one to be sent next in this conversation; ERR_NOT_FOUND when none waits.
enum err store_outbox_next(struct store *s, const char *conversation_id, struct out_message *out, struct error *e);
// Rows with a position above `after`, oldest first; `waiting`: only created and sending ones. Stops when `each`
// returns false.
enum err store_outbox_each(struct store *s, uint64_t after, bool waiting,
                           bool (*each)(void *arg, const struct out_message *m), void *arg, struct error *e);
// The conversations in which something waits, at most `max`; returns how many.
size_t store_outbox_conversations(struct store *s, char (*out)[NAME_MAX_LENGTH + 1], size_t max);

enum err store_outbox_trying(struct store *s, const char *message_id, struct error *e);
enum err store_outbox_ticket(struct store *s, const char *message_id, const char *ticket, int64_t at, struct error *e);
enum err store_outbox_accepted(struct store *s, const char *message_id, uint64_t seq, int64_t accepted_at,
                               struct error *e);
enum err store_outbox_rejected(struct store *s, const char *message_id, int64_t now, const char *why, struct error *e);
enum err store_outbox_later(struct store *s, const char *message_id, int64_t now, const char *why, int64_t next_at,
                            int64_t floor_at, struct error *e);

#endif
