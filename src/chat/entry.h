// Mailbox entries: written by the units that make them true, shown to links and polls after the commit.
#ifndef BARID_CHAT_ENTRY_H
#define BARID_CHAT_ENTRY_H

#include "chat/internal.h"

// An entry with its strings inside. entry_view makes the pointers, which do not survive a move.
struct entry {
    struct chat_entry e;
    int64_t mid;
    char conversation_id[NAME_MAX_LENGTH + 1];
    char by_user_id[NAME_MAX_LENGTH + 1];
};
struct chat_entry entry_view(const struct entry *entry, uint64_t cursor);

// The same entry for many devices, each with its own cursor.
struct target {
    int64_t did;
    uint64_t cursor;
    int64_t home, poll_home; // the servers where the device is connected, 0: none that we know
};
struct push {
    struct entry entry;
    struct target *targets;
    size_t n, cap;
};
void push_release(struct push *p);
void push_clear(struct push *p); // a unit's run begins with it
// In a unit: one more entry in the mailbox of the device. `by_uid` is who entry.by_user_id names.
enum err push_to(struct db *db, struct push *p, int64_t did, int64_t by_uid);
// The same for every live device of a user, who is locked.
enum err push_to_user(struct db *db, struct push *p, int64_t uid, int64_t by_uid);
// The same for many at once, in their order; PostgreSQL only. The cursors come with one statement.
#define PUSHES_MAX 512
struct pushing {
    struct push *push;
    int64_t uid, by_uid;
};
enum err push_to_users(struct db *db, const struct pushing *p, size_t n);
// What an entry of a mailbox is about is in its push; takes the rows of a statement that made entries for many: number
// of the push from 1, did, cursor, home, poll_home.
enum err push_take_many(struct push *const *p, size_t n, struct db_stmt *s);
// Takes the rows of a statement that made entries: did, cursor, home, poll_home.
enum err push_take(struct push *p, struct db_stmt *s);
// The last of it in a unit: the other servers at which the devices are connected are told. `server`: ours.
enum err push_tell(struct db *db, const struct push *p, int64_t server);
enum err push_tell_all(struct db *db, const struct push *const *p, size_t n, int64_t server);
// On the loop, after the commit: to the links and polls of the devices.
void push_out(struct chat *c, const struct push *p);

// A page of a mailbox, as one operation.
struct page {
    struct op op;
    int64_t did;
    uint64_t asked;
    uint64_t after; // `asked`; a cursor from the future starts from what is there: then it is 0 afterwards
    uint32_t limit;
    bool live;            // the device is logged in
    uint64_t last_cursor; // of the device
    struct entry *entries;
    size_t n, cap;
    void *owner; // whom the answer is for; NULL: gave up meanwhile
};
struct page *page_new(struct chat *c, int64_t did, uint64_t after, uint32_t limit,
                      void (*answer)(struct op *op, enum err err), void *owner);
// Everything up to here has been looked at, once this page was shown.
uint64_t page_end(const struct page *p);

#endif
