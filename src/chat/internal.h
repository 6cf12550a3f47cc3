// What the files of this folder share: the service itself and its operations.
//
// Every call of chat.h becomes an *operation*: a heap struct that begins with `struct op`, carries copies of what
// was asked, does its work in a unit on a database thread, and is answered on the loop thread:
//
//   op_new ─ fill ─ op_submit ──> run(db, unit)  database thread: SQL only, touches nothing but the op
//                                   └─ commit ──> answer(op, err)  loop thread: crash points, stats, the caller
//   op_new ─ op_fail ───────────────────────────> answer(op, err)  what is refused before the database
//
// The op frees itself after the answer, unless the answer held it (op_hold) to submit it again.
#ifndef BARID_CHAT_INTERNAL_H
#define BARID_CHAT_INTERNAL_H

#include "base/error.h"
#include "base/id.h"
#include "base/io.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/map.h"
#include "chat/chat.h"
#include "database/database.h"

struct outbox;
struct bus_subscription;

#define CHAT_HASH   32 // BLAKE2b of a token or ticket; SHA-256 of a content
#define CHAT_DAY_MS INT64_C(86400000)
#define CHAT_TOPIC  128 // bytes of a topic or a group with its prefix

struct chat {
    struct chat_options o; // defaults filled in
    struct loop *loop;
    struct io *io;
    struct database *database;
    struct outbox *outbox;
    struct chat_stats stats;

    uint32_t refs; // operations and jobs under way, and one for chat_free
    bool closing;

    struct map boxes; // did -> struct box: devices with a link, a poll or an ack under way
    struct token_cache *tokens;
    struct login_limit *limits;
    struct passwords *passwords;
    struct ack_batch *acks;
    struct gather *sends, *receipts, *queues;
    struct notified *notified;
    struct removals *removals;
    struct sweep *sweep;
    struct queueing *queueing;
    struct homes *homes; // NULL: no other server can be there
    struct {
        int64_t after;
        uint64_t due;
        uint32_t polls; // being forgotten
    } homes_gone;       // homes_gone.h
    struct list uploads;
    uint64_t map_seed;
};

// Memory for small things. Without it nothing can go on, and whatever was not durable was not acknowledged.
void *chat_alloc(size_t size);     // zeroed
char *chat_copy(const char *text); // NULL gives NULL
// Room for one more in an array of n, of which *cap fit: it may move.
void *chat_room(void *array, size_t n, size_t *cap, size_t size);
// With several servers the database's time, whatever this machine's clock says.
int64_t chat_now(const struct chat *c);
void chat_enter(struct chat *c);
void chat_leave(struct chat *c); // the last one after chat_free frees the service

// ---- operations -----------------------------------------------------------------------------------------

struct op {
    struct db_unit unit; // first
    struct chat *chat;
    void (*answer)(struct op *op, enum err err); // not called once chat_free was
    void (*release)(struct op *op);              // what the op owns; may be NULL
    void (*over)(struct op *op);                 // told once, just before the answer, also after chat_free; may be NULL
    struct loop_post post;
    enum err early;
    bool held;
    int64_t server; // ours, for who is to be told of entries (push_notify); 0: no other server can be there
};

void *op_new(struct chat *c, size_t size, enum err (*run)(struct db *db, struct db_unit *u),
             void (*answer)(struct op *op, enum err err));
void op_submit(struct op *op);
void op_finish(struct op *op, enum err err); // answers soon, without the database; unit.error may be set already
void op_end(struct op *op, enum err err);    // answers now: what was done with it in another's unit
void op_hold(struct op *op);                 // inside answer: the op lives on, for op_submit, op_finish or op_drop
void op_drop(struct op *op);                 // never to be answered
// Its unit runs, and is answered, after those submitted before it under the same name.
void op_order(struct op *op, const void *name, size_t n);
// Nobody's fault, and it may work in a moment: no room, too much to do, a database that is away.
bool chat_transient(enum err err);
// NULL when err is ERR_OK, else the op's error: what callbacks are given.
const struct error *op_error(struct op *op, enum err err);

// Steps to the end of a statement that may give one row: DB_ROW, DB_DONE as they are; errors turned into *err.
static inline bool row(struct db_stmt *s, enum err *err) {
    int got = db_step(s);
    if (got < 0) *err = (enum err) - got;
    return got == DB_ROW;
}

// A statement whose parameters are all integers: RUN(db, &statement, ?1, ?2, …).
enum err run_ints(struct db *db, struct db_sql *sql, const int64_t *values, size_t n);
#define RUN(db, sql, ...)                                                                                              \
    run_ints(db, sql, (const int64_t[]){__VA_ARGS__}, sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

// ---- steps shared by units ------------------------------------------------------------------------------

// What a unit took out of use: references to contents while it runs (gone_settle takes them off), then the contents
// nobody refers to any more, to be acted on after its commit.
struct gone_media {
    uint8_t hash[CHAT_HASH];
    int64_t uid, bytes; // whose quota it was held in
};
struct gone {
    struct gone_media *media;
    size_t media_count, media_cap;
    uint8_t (*hashes)[CHAT_HASH];
    size_t n, cap;
    uint64_t deleted; // messages whose content went
};
void gone_clear(struct gone *g); // a unit's run begins with it
void gone_release(struct gone *g);
// The last step of a unit: references and quotas, in the one order in which they may be locked (locks.h).
enum err gone_settle(struct db *db, struct gone *g);
void gone_apply(struct chat *c, struct gone *g); // on the loop, after the commit

// The content of a message is no longer wanted: the text goes, a media's reference goes (in gone_settle). content_drop
// sets message.deleted_at, content_remove leaves that to the caller. The message is locked.
enum err content_remove(struct db *db, int64_t mid, struct gone *g);
enum err content_drop(struct db *db, int64_t mid, int64_t now, struct gone *g);
// One reference less to a media content, and so much less of the user's quota.
void gone_media(struct gone *g, const void *hash, int64_t uid, int64_t bytes);

// Devices (devices.c). The user is locked (lock_user). Pending messages of the user go into the mailbox of a device
// that has just become live; lock_messages_of_user was called.
enum err device_queue_pending(struct db *db, int64_t uid, int64_t did, int64_t now);
// The device is no longer live: its token, its mailbox and its claims go, and every server is told.
enum err device_remove(struct db *db, int64_t uid, int64_t did, int64_t now, struct gone *g);
void device_gone(struct chat *c, int64_t did);  // on the loop, after device_remove was committed
void device_touch(struct chat *c, int64_t did); // it was used: renew the session

// Logs at debug: a line a message would be too many.
void log_point(const char *event, const struct id *message_id);

// The parts, each with its new/free, called by chat.c.
enum err queueing_start(struct chat *c, struct error *e);
void queueing_stop(struct chat *c);
void sweep_start(struct chat *c);
void sweep_stop(struct chat *c);
void uploads_stop(struct chat *c);

#endif
