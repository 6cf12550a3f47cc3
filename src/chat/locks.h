// In which order rows are locked where several units run at once (PostgreSQL), so that they wait for each other and
// never in a circle (docs/decisions/0013). On SQLite units run one after the other, and none of this does anything.
//
//   conversation -> users (by uid) -> messages (by mid) -> inbox (by id) -> claims (by mid, did) -> devices (by did)
//   -> contents of the data store and media (by hash) -> quotas (by uid)
//
// A user is the row of `account`. Whoever makes or ends a device holds it alone; whoever writes into mailboxes holds
// the users whose devices they are together with others like it, so that no device comes or goes meanwhile. A message
// is locked by whoever changes `open`, `claims` or its rows of device_delivery, and what it decides by is read after it
// has the lock: a statement that waited for a lock has an old picture of every other row.
#ifndef BARID_CHAT_LOCKS_H
#define BARID_CHAT_LOCKS_H

#include "chat/internal.h"

// Alone, for devices that come and go.
enum err lock_user(struct db *db, int64_t uid);
// Together with others: the recipients of a message, and then the message; nothing when there is none.
enum err lock_recipients(struct db *db, const struct id *message_id);
// The same with its sender.
enum err lock_sender(struct db *db, const struct id *message_id);
// Either for many messages at once; PostgreSQL only. Nobody waits for it: what follows in the unit does.
enum err lock_all_recipients(struct db *db, const struct db_bytes *message_ids, size_t n);
enum err lock_all_senders(struct db *db, const struct db_bytes *message_ids, size_t n);
// Messages on which devices of the user, or he without any, have claims; those of one device.
enum err lock_messages_of_user(struct db *db, int64_t uid);
enum err lock_messages_of_device(struct db *db, int64_t did);
// Whether this server may do what only one does at a time, until the unit ends.
enum err lock_sweep(struct db *db, bool *ours);

#endif
