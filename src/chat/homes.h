// Several servers on one database: at which of them a device is connected, and who tells whom.
//
//   a device connects ──> device.home (its link) or device.poll_home (a poll that waits)
//   a unit makes entries ──> push_tell: one notice a server concerned, sent once it is committed ──> that server's
//   links and polls look; nobody else does any work (docs/decisions/0013)
//
// Notices on a server's own channel, "barid_server_<n>":
//   e DID:CURSOR …    there are entries up to the cursor
//   r DID EPOCH       the device has connected elsewhere; a link older than the epoch is replaced
//   p DID             the device waits elsewhere; polls that wait here end
// and on "barid_sessions", which every server hears: DID, whose session has ended or has another token.
//
// What may have been missed is looked for: when the connection for notices is new, every second while notices do not
// come through, every half minute when they do, and when a commit got no answer. On SQLite there is no other server,
// and no struct homes.
#ifndef BARID_CHAT_HOMES_H
#define BARID_CHAT_HOMES_H

#include "chat/internal.h"

enum err homes_start(struct chat *c, struct error *e);
void homes_stop(struct chat *c);
int64_t homes_server(const struct chat *c); // ours, 0: there is no other

// Has anything happened to the devices that are connected here, or whose tokens are known? One question for all.
void homes_look(struct chat *c);
// The device's session has ended, or has another token: the cache forgets it, and what is connected looks.
void homes_session_changed(struct chat *c, int64_t did);

// ---- where a device is

struct home_op;
// `epoch`: of the device's links, 0: it is not logged in. Not called after home_cancel.
typedef void home_fn(void *owner, enum err err, uint64_t epoch);
struct home_op *home_link(struct chat *c, int64_t did, home_fn *done, void *owner);
struct home_op *home_poll(struct chat *c, int64_t did, home_fn *done, void *owner);
void home_cancel(struct home_op *op);
void home_leave(struct chat *c, int64_t did, uint64_t epoch); // the link has gone

// ---- inside units

enum err homes_tell(struct db *db, int64_t server, const char *text);
enum err homes_tell_session(struct db *db, int64_t did);

// Collects what to tell to which server, and tells it.
struct tell_entry {
    int64_t server, did;
    uint64_t cursor;
};
struct tell {
    struct db *db;
    struct tell_entry *entries;
    size_t n, cap;
};
void tell_init(struct tell *t, struct db *db);
void tell_entry(struct tell *t, int64_t server, int64_t did, uint64_t cursor); // server 0: nobody
enum err tell_end(struct tell *t);                                             // frees it, too

#endif
