// A profile's local store: one SQLite file, the first safe point of every message we write and the last of every
// message we read.
//
// Every call is one durable transaction (synchronous = FULL) made on the caller's thread. Several processes of one
// profile may use the file at once. Times are milliseconds since 1970. Rows of the two mailboxes are described in
// store_outbox.h and store_inbox.h.
#ifndef BARID_CLIENT_STORE_H
#define BARID_CLIENT_STORE_H

#include "base/error.h"
#include "base/id.h"

#include <stdbool.h>
#include <stdint.h>

#define ACCOUNT_TOKEN_MAX  256
#define ACCOUNT_SERVER_MAX 512

struct store;

enum err store_open(struct store **out, const char *path, struct error *e);
void store_close(struct store *s);
// Changes whenever another process has changed the file.
int64_t store_version(struct store *s);

// Who this device is. Empty strings where nothing is known; `token` is empty when logged out.
struct account {
    char server[ACCOUNT_SERVER_MAX];
    char user_id[NAME_MAX_LENGTH + 1];
    char display_name[256];
    char device_id[ID_TEXT];
    char token[ACCOUNT_TOKEN_MAX];
    uint64_t cursor;
};
enum err store_account(struct store *s, struct account *out, struct error *e); // ERR_NOT_FOUND: none yet
// Another device_id than the one stored is a new mailbox: the cursor starts again at 0.
enum err store_account_set(struct store *s, const struct account *a, struct error *e);
enum err store_cursor_set(struct store *s, uint64_t cursor, struct error *e); // never backwards

// Members as a JSON array of user ids. `made`: the service has it.
struct known_conversation {
    char conversation_id[NAME_MAX_LENGTH + 1];
    char title[256];
    char *members; // heap
    bool made;
};
enum err store_conversation(struct store *s, const char *conversation_id, struct known_conversation *out,
                            struct error *e);
void known_conversation_release(struct known_conversation *c);
// Inserts or updates; made never goes back to false.
enum err store_conversation_set(struct store *s, const char *conversation_id, const char *title, const char *members,
                                bool made, struct error *e);

// A message by its id, or by a unique beginning or end of it of at least 4 characters.
enum err store_resolve(struct store *s, const char *text, char out[static ID_TEXT], struct error *e);

struct store_point {
    char point[32];
    int64_t at;
    char detail[ERROR_TEXT_MAX];
};
// A point is kept once a message; saying it again moves it only when `replace`.
enum err store_point_add(struct store *s, const char *message_id, const char *point, int64_t at, const char *detail,
                         bool replace, struct error *e);
// At most `max` points, oldest first; returns how many.
size_t store_points(struct store *s, const char *message_id, struct store_point *out, size_t max);

enum receipt_kind { RECEIPT_DELIVERED, RECEIPT_READ, RECEIPT_EXPIRED };
const char *receipt_name(enum receipt_kind kind);
// `*fresh`: not known before. A receipt proves that the message was accepted, even when the answer was lost.
enum err store_receipt_add(struct store *s, const char *message_id, enum receipt_kind kind, const char *by_user_id,
                           uint64_t seq, int64_t at, bool *fresh, struct error *e);
size_t store_receipt_count(struct store *s, const char *message_id, enum receipt_kind kind);

#endif
