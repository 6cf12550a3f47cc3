// The messaging service: accounts, conversations, the journey of a message, receipts, mailboxes.
// design.md 7 is the contract; docs/http-api.md shows it as people meet it. chat knows no HTTP and no JSON on
// its doors: requests are structs, answers are structs; http/ translates.
//
// Every call is made on the loop thread and answered on the loop thread, after what it changed is durable,
// exactly once, never from inside the call. Strings of a request are copied by the call; pointers in an answer
// are valid during the callback only. A NULL `ok` part means the error is set.
#ifndef BARID_CHAT_CHAT_H
#define BARID_CHAT_CHAT_H

#include "base/error.h"
#include "base/id.h"
#include "database/database.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;
struct io;
struct datastore;
struct bus;
struct outbox;
struct servers;
struct chat;

struct chat_options {
    struct loop *loop;
    struct io *io;
    struct database *database; // opened with chat_migrations
    struct datastore *datastore;
    struct bus *bus;
    struct servers *servers; // PostgreSQL: this server among the others (servers.h), joined
    const char *bus_prefix;  // before the names of topics and groups, NULL: none; outlives the service
    bool registration_closed;
    uint64_t message_ttl_ms;     // undelivered for this long: expired; 0: 30 days
    uint64_t session_ttl_ms;     // 0: 180 days, renewed by use
    uint64_t upload_quota_bytes; // per user, of contents not yet sent or not yet delivered; 0: 1 GiB
    uint64_t upload_max_bytes;   // one content; 0: 100 MiB
    uint32_t devices_max;        // per user, 0: 16; the one unused longest gives way
    uint32_t members_max;        // per conversation, 0: 1,000
    uint64_t slow_link_ms;       // a link that waits this long without progress is closed; 0: 60 s
    uint64_t sweep_every_ms;     // how often expired things are looked for; 0: 60 s
    uint64_t look_every_ms;      // PostgreSQL: how often what no notice told of is looked for; 0: 30 s
};

extern const struct embedded_file chat_files[]; // sql/sqlite/0002_chat.sql, sql/postgres/0101_chat.sql
// For tests of this part alone; they include outbox's and inbox's tables.
extern const struct migration chat_migrations[], chat_postgres_migrations[];

#define CHAT_PREFIX_MAX 64

enum err chat_new(struct chat **out, const struct chat_options *o, struct error *e);
// Nothing is called back after it. It comes before the database, the bus and the data store are closed, and these are
// closed before the loop runs again: what is under way ends with them.
// Before chat_free, when other servers are to go on with this one's events at once: waits for those that are with the
// bus, gives the leases back, and calls done, now or later; not when chat_free came first.
void chat_drain(struct chat *c, void (*done)(void *arg), void *arg);
void chat_free(struct chat *c);

#define CHAT_TEXT_MAX   (64 * 1024)
#define CHAT_TOKEN_TEXT 65 // 64 hex characters (256 bits) and NUL

// ---- who is calling -------------------------------------------------------------------------------------

// An authenticated device. Plain data, copy freely.
struct chat_actor {
    int64_t uid, did;
    char user_id[NAME_MAX_LENGTH + 1];
    struct id device_id;
};

typedef void chat_auth_fn(void *arg, const struct error *error, const struct chat_actor *actor);
// Answers from a bounded cache when it can, and then still asynchronously to be uniform… except through
// chat_auth_cached, which gives the actor at once or false.
void chat_auth(struct chat *c, const char *token, size_t n, chat_auth_fn *done, void *arg);
bool chat_auth_cached(struct chat *c, const char *token, size_t n, struct chat_actor *out);

struct chat_user {
    const char *user_id, *display_name;
    bool online;
};
typedef void chat_user_fn(void *arg, const struct error *error, const struct chat_user *ok);
// Rules: name_valid(user_id); password 8..1024 bytes; display_name up to 200 bytes of UTF-8.
void chat_user_add(struct chat *c, const char *user_id, const char *password, const char *display_name,
                   chat_user_fn *done, void *arg);
void chat_user_get(struct chat *c, const struct chat_actor *who, const char *user_id, chat_user_fn *done, void *arg);

struct chat_session {
    const char *token, *user_id;
    struct id device_id;
    int64_t expires_at_ms;
};
typedef void chat_session_fn(void *arg, const struct error *error, const struct chat_session *ok);
// A session is a device. `address` (of the peer) and the user are what log-in attempts are limited by: ERR_RATE
// with *retry_after in the error text's field. `device_id` (NULL: a new device) lets a device log in again and
// keep its mailbox. Wrong user and wrong password take the same time.
void chat_login(struct chat *c, const char *user_id, const char *password, const char *device_name,
                const struct id *device_id, const char *address, chat_session_fn *done, void *arg);
typedef void chat_done_fn(void *arg, const struct error *error);
void chat_logout(struct chat *c, const struct chat_actor *who, chat_done_fn *done, void *arg);

// ---- conversations --------------------------------------------------------------------------------------

struct chat_conversation {
    const char *conversation_id, *title /* NULL: none */, *created_by;
    int64_t created_at_ms;
    uint64_t last_seq;
    const char *const *members;
    size_t member_count;
    bool existed; // the same id with the same members and title was there already: 200 instead of 201
};
typedef void chat_conversation_fn(void *arg, const struct error *error, const struct chat_conversation *ok);
// The caller is a member whether named or not. Unknown members: ERR_INVALID, field "members".
void chat_conversation_add(struct chat *c, const struct chat_actor *who, const char *conversation_id, const char *title,
                           const char *const *members, size_t n, chat_conversation_fn *done, void *arg);
void chat_conversation_get(struct chat *c, const struct chat_actor *who, const char *conversation_id,
                           chat_conversation_fn *done, void *arg);
typedef void chat_conversations_fn(void *arg, const struct error *error, const struct chat_conversation *ok, size_t n);
void chat_conversation_list(struct chat *c, const struct chat_actor *who, chat_conversations_fn *done, void *arg);

// ---- the journey ----------------------------------------------------------------------------------------

struct chat_send {
    const char *conversation_id;
    struct id message_id;
    const char *by_user_id;
    const char *text; // or NULL and `ticket`
    size_t text_length;
    const char *ticket;    // from chat_upload
    int64_t created_at_ms; // sender's own clock, 0: not told; kept for the journey's first point
};
struct chat_accepted {
    struct id message_id;
    const char *conversation_id;
    uint64_t seq;
    int64_t accepted_at_ms;
    bool duplicate;
};
typedef void chat_accepted_fn(void *arg, const struct error *error, const struct chat_accepted *ok);
// Validation: ERR_INVALID with the field; a conversation that is not the caller's: ERR_NOT_FOUND; the same id
// with other content or another sender: ERR_CONFLICT; ERR_FULL, ERR_BUSY: try again later.
void chat_send(struct chat *c, const struct chat_actor *who, const struct chat_send *m, chat_accepted_fn *done,
               void *arg);

enum chat_kind { CHAT_TEXT, CHAT_MEDIA };
struct chat_content {
    struct id message_id;
    const char *conversation_id, *by_user_id;
    uint64_t seq;
    int64_t accepted_at_ms;
    enum chat_kind kind;
    const char *text; // CHAT_TEXT
    size_t text_length;
    const char *media_type, *filename /* NULL: none */; // CHAT_MEDIA
    uint64_t bytes;
    uint8_t sha256[32];
};
typedef void chat_content_fn(void *arg, const struct error *error, const struct chat_content *ok);
// To its recipients and its sender; ERR_GONE after deletion, ERR_NOT_FOUND to anyone else.
void chat_content_get(struct chat *c, const struct chat_actor *who, const struct id *message_id, chat_content_fn *done,
                      void *arg);

// Monotonic and idempotent. Only a recipient's device may say so: others get ERR_NOT_FOUND. read implies received.
void chat_received(struct chat *c, const struct chat_actor *who, const struct id *message_id, chat_done_fn *done,
                   void *arg);
void chat_read(struct chat *c, const struct chat_actor *who, const struct id *message_id, chat_done_fn *done,
               void *arg);

struct chat_point {
    const char *point; // "created", "accepted", "published", "queued", "notified", "received", "deleted", "read",
                       // "retried", "parked", "expired"
    int64_t at_ms;
    const char *user_id; // NULL: none
    bool has_device;
    struct id device_id;
    const char *detail; // NULL: none
};
typedef void chat_journey_fn(void *arg, const struct error *error, const struct id *message_id,
                             const struct chat_point *points, size_t n);
void chat_journey(struct chat *c, const struct chat_actor *who, const struct id *message_id, chat_journey_fn *done,
                  void *arg);

// ---- media ----------------------------------------------------------------------------------------------

// Uploading: the caller streams; the ticket (64 hex characters, random, good for 24 hours, for its uploader only) is
// given when the content is durable. `media_type` is checked for form, `filename` is reduced to a safe base name.
struct chat_upload;
struct chat_ticket {
    const char *ticket, *media_type, *filename;
    uint64_t bytes;
    uint8_t sha256[32];
};
typedef void chat_upload_opened_fn(void *arg, const struct error *error, struct chat_upload *ok);
typedef void chat_ticket_fn(void *arg, const struct error *error, const struct chat_ticket *ok);
void chat_upload_open(struct chat *c, const struct chat_actor *who, const char *media_type, const char *filename,
                      uint64_t expected_bytes /* 0: unknown */, chat_upload_opened_fn *done,
                      void *arg); // checks the quota
void chat_upload_write(struct chat_upload *u, const void *data, size_t n, chat_done_fn *done, void *arg);
void chat_upload_finish(struct chat_upload *u, chat_ticket_fn *done, void *arg);
void chat_upload_abort(struct chat_upload *u);
// Downloading: chat_content_get, then datastore_read with its sha256.

// ---- mailboxes ------------------------------------------------------------------------------------------

enum chat_entry_type { ENTRY_MESSAGE, ENTRY_DELIVERED, ENTRY_READ, ENTRY_EXPIRED };
struct chat_entry {
    enum chat_entry_type type;
    uint64_t cursor; // per device, 1, 2, 3, … without gaps
    struct id message_id;
    const char *conversation_id;
    uint64_t seq;
    const char *by_user_id; // sender of the message; of a receipt: the one who received or read it
    enum chat_kind kind;    // ENTRY_MESSAGE
    uint64_t bytes;         // ENTRY_MESSAGE
    int64_t at_ms;          // accepted_at of a message; else when it happened
};

// Long poll. Entries after `after`; when there are none waits up to wait_ms (at most 60,000) for one.
typedef void chat_mailbox_fn(void *arg, const struct error *error, const struct chat_entry *entries, size_t n,
                             bool drained);
struct chat_poll; // a handle to give up with, when the caller goes away; invalid once done was called
struct chat_poll *chat_mailbox(struct chat *c, const struct chat_actor *who, uint64_t after, uint32_t limit,
                               uint32_t wait_ms, chat_mailbox_fn *done, void *arg);
void chat_poll_cancel(struct chat_poll *p);
// The device has stored everything up to the cursor: those entries go. A cursor beyond the last entry: ERR_INVALID.
void chat_mailbox_ack(struct chat *c, const struct chat_actor *who, uint64_t cursor, chat_done_fn *done, void *arg);

// A connected socket of a device: replay after the cursor, then `drained`, then live. Flow control is chat's:
// at most 256 unacked entries (or 1 MiB in flight, see `in_flight`); beyond that it waits for acks. One link a
// device: a newer one closes the older ("replaced").
struct chat_link;
struct chat_link_events {
    // `entries` to be written in order; the receiver copies what it needs.
    void (*entries)(void *arg, const struct chat_entry *entries, size_t n);
    void (*drained)(void *arg);
    // Not called by chat_detach. After it the link is gone. reason: "replaced", "slow", "logged_out", "error".
    void (*closed)(void *arg, const char *reason);
    // Bytes written to the socket but not yet taken by the peer's system, 0 when unknown.
    uint64_t (*in_flight)(void *arg);
};
struct chat_link *chat_attach(struct chat *c, const struct chat_actor *who, uint64_t after, const char *address,
                              const struct chat_link_events *events, void *arg);
void chat_link_ack(struct chat_link *l, uint64_t cursor); // no answer; a cursor beyond what was sent is ignored
void chat_detach(struct chat_link *l);

// Presence, for operations: calls each for every connected device.
void chat_each_link(struct chat *c,
                    void (*each)(void *arg, const struct chat_actor *who, const char *address, uint64_t unacked),
                    void *arg);

struct chat_stats {
    // Messages that passed each safe point since the start; parked and waiting now.
    uint64_t accepted, duplicates, rejected, published, queued, notified, received, deleted, read, expired;
    uint64_t links, outbox_waiting, outbox_parked;
    uint64_t notices; // entries for devices connected here that other servers told of
};
void chat_stats(struct chat *c, struct chat_stats *out);

#endif
