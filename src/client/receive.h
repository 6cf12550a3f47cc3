// Receiving: what is done for a mailbox entry before its cursor may be let go of.
//
//   message   content fetched → stored here → the service told `received` → cursor stored and acknowledged
//   receipt   stored → cursor stored and acknowledged
//
// Each step is durable before the next is begun, and each may be repeated: an entry that comes again is stored once.
// inbox_fetch does it by blocking HTTP calls, live_receive.c over the socket; both store through the functions here.
#ifndef BARID_CLIENT_RECEIVE_H
#define BARID_CLIENT_RECEIVE_H

#include "client/client.h"
#include "client/entry.h"
#include "client/store_inbox.h"

bool receive_has(struct client *c, const struct entry *entry);
enum err receive_receipt(struct client *c, const struct entry *entry, bool *fresh, struct error *e);

// What GET /message/:id said about a medium; the strings belong to the answer.
struct medium {
    const char *media_type, *filename, *sha256;
    uint64_t bytes; // 0: not said
};
struct medium receive_medium(const json_t *content);

// Stores the message. `content`: the service's answer, 2xx or 404/410 (then it is stored as gone). `media_path`: where
// the medium was saved. Fills `out` with what is stored; the caller releases it.
enum err receive_store(struct client *c, const struct entry *entry, const struct answer *content,
                       const char *media_path, struct in_message *out, bool *fresh, struct error *e);

struct receive_events {
    void (*message)(void *arg, const struct in_message *m);
    void (*receipt)(void *arg, const struct entry *entry);
    void (*progress)(void *arg, const char *name, uint64_t done, uint64_t total);
    void *arg;
};
// Fetches all that waits, by HTTP.
enum err inbox_fetch(struct client *c, struct io *downloads, const char *downloads_path, uint64_t deadline_ms,
                     const struct receive_events *events, struct error *e);
// Tells the service what was read here and has not been told yet.
enum err inbox_tell_read(struct client *c, uint64_t deadline_ms, struct error *e);

#endif
