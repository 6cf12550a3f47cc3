// Sending what waits in the outbox: one message of a conversation at a time, in the order they were written.
//
// The steps of one message, each repeated alone after a failure, whoever resumes it:
//   make the conversation, if it has none yet  →  upload its media, for a ticket  →  POST it, until answered
// outbox_flush does it by blocking HTTP calls; live_outbox.c does it over the socket. Both judge the answer with
// outbox_settle.
#ifndef BARID_CLIENT_OUTBOX_SEND_H
#define BARID_CLIENT_OUTBOX_SEND_H

#include "client/client.h"
#include "client/store_outbox.h"

#define TICKET_GOOD_MS (23 * 3600 * INT64_C(1000)) // the service keeps a ticket for 24 hours

// Makes the message durable, and before it a copy of the file at media_path, if it has one. Fills in message_id and
// created_at. Afterwards nothing short of a rejection stops it.
enum err outbox_create(struct client *c, struct out_message *m, struct error *e);

// The message as the service wants it; `socket` adds the frame's type and the conversation.
json_t *outbox_body(const struct client *c, const struct out_message *m, bool socket);
// The body of POST /conversation when the conversation has still to be made, else NULL.
json_t *outbox_conversation_body(struct client *c, const char *conversation_id);
bool outbox_needs_upload(const struct client *c, const struct out_message *m);
// Uploads our copy of the file. Any thread, if `h` is its own.
void outbox_upload(const struct client *c, const struct out_message *m, struct web *h, web_progress_fn *progress,
                   void *arg, struct answer *a);
// Keeps the ticket of a 2xx answer to an upload. Of any other answer: outbox_settle.
enum err outbox_uploaded(struct client *c, struct out_message *m, const struct answer *a, struct error *e);

// Records what an answer to any of the steps means for the message. For VERDICT_LATER `*delay_ms` is when to try
// again. VERDICT_DONE is for the answer to the message itself.
enum verdict outbox_settle(struct client *c, struct out_message *m, const struct answer *a, uint32_t *delay_ms,
                           struct error *e);

struct send_events {
    // The message has changed; `m` is as stored. `retry_ms`: it will be tried again after that.
    void (*changed)(void *arg, const struct out_message *m, uint32_t retry_ms);
    void (*progress)(void *arg, const struct out_message *m, uint64_t done, uint64_t total);
    void *arg;
};
// Sends what waits in the conversation, or only up to the message `until` (may be NULL). Another process may be
// doing so: then waits for it, or takes over when it ends. ERR_TIMEOUT: the deadline came first; ERR_UNAUTHORIZED:
// not logged in any more. A rejected message is no error here.
enum err outbox_flush(struct client *c, const char *conversation_id, const char *until, uint64_t deadline_ms,
                      const struct send_events *events, struct error *e);

#endif
