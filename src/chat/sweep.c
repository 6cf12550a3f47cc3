// What time ends, in small batches so that nobody waits for it: messages (expiry.c), tickets, sessions, tombstones,
// devices that ended, inbox ids, and once an hour the contents nobody came to own.
//
// The steps run one after another; a step that found a full batch runs again before the next.
#include "base/log.h"
#include "chat/box.h"
#include "chat/expiry.h"
#include "chat/homes.h"
#include "chat/homes_gone.h"
#include "chat/locks.h"
#include "chat/removal.h"
#include "datastore/datastore.h"
#include "outbox/outbox.h"

#include <stdlib.h>
#include <string.h>

#define BATCH         64
#define TOMBSTONE_MS  (30 * CHAT_DAY_MS)
#define INBOX_MS      (7 * CHAT_DAY_MS)
#define ORPHAN_EVERY  3600000
#define ORPHAN_AGE_MS 60000

struct sweep {
    struct chat *chat;
    struct loop_timer timer;
    size_t step;
    bool orphans;        // being looked for
    uint64_t orphans_at; // next
};

struct step_op {
    struct op op;
    int64_t now, ttl;
    size_t n, batch; // found; of sessions at most
    struct {
        int64_t uid, did;
        uint64_t bytes;
        uint8_t hash[CHAT_HASH], ticket_hash[CHAT_HASH];
    } rows[BATCH];
    struct gone gone;
};

static void step_done(struct chat *c, bool more);

static void step_answer(struct op *base, enum err err) {
    struct step_op *op = (struct step_op *)base;
    if (err != ERR_OK) log_text(LOG_WARN, "sweep_failed", "%s", op_error(base, err)->text);
    else gone_apply(base->chat, &op->gone);
    step_done(base->chat, err == ERR_OK && op->n == BATCH);
}

static void step_release(struct op *base) { gone_release(&((struct step_op *)base)->gone); }

static void step_start(struct chat *c, enum err (*run)(struct db *db, struct db_unit *u),
                       void (*answer)(struct op *op, enum err err)) {
    struct step_op *op = op_new(c, sizeof *op, run, answer);
    op->op.unit.frees_space = true;
    op->op.release = step_release;
    op->now = chat_now(c);
    op->ttl = (int64_t)c->o.message_ttl_ms;
    op_submit(&op->op);
}

// What every step begins with. Of several servers one sweeps at a time; the others come again when it is their turn.
static enum err step_begin(struct db *db, struct step_op *op, bool *ours) {
    op->n = 0;
    gone_clear(&op->gone);
    return lock_sweep(db, ours);
}

// ---- tickets --------------------------------------------------------------------------------------------

static enum err find_tickets(struct db *db, struct step_op *op) {
    static struct db_sql find = {
        .text = "select ticket_hash, hash, uid, bytes from ticket where expires_at <= ?1 limit ?2"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_int(s, 1, op->now);
    db_bind_int(s, 2, BATCH);
    while (row(s, &err)) {
        memcpy(op->rows[op->n].ticket_hash, db_blob(s, 0, NULL), CHAT_HASH);
        memcpy(op->rows[op->n].hash, db_blob(s, 1, NULL), CHAT_HASH);
        op->rows[op->n].uid = db_int(s, 2);
        op->rows[op->n++].bytes = (uint64_t)db_int(s, 3);
    }
    return err;
}

static enum err tickets_run(struct db *db, struct db_unit *u) {
    static struct db_sql remove = {.text = "delete from ticket where ticket_hash = ?1"};
    struct step_op *op = (struct step_op *)u;
    bool ours;
    enum err err = step_begin(db, op, &ours);
    if (err != ERR_OK || !ours) return err;
    err = find_tickets(db, op);
    for (size_t i = 0; i < op->n && err == ERR_OK; i++) {
        struct db_stmt *s = db_prepare(db, &remove);
        db_bind_blob(s, 1, op->rows[i].ticket_hash, CHAT_HASH);
        err = db_run(s);
        // A message may have taken it since it was found.
        if (err == ERR_OK && db_changes(db) > 0)
            gone_media(&op->gone, op->rows[i].hash, op->rows[i].uid, (int64_t)op->rows[i].bytes);
    }
    return err == ERR_OK ? gone_settle(db, &op->gone) : err;
}

// ---- sessions -------------------------------------------------------------------------------------------

#define SESSIONS_BATCH 8 // each may hold many claims; one where each locks its user and his messages (locks.h)

// It may have been used since it was found.
static enum err session_end(struct db *db, struct step_op *op, int64_t uid, int64_t did) {
    static struct db_sql look = {
        .text = "select 1 from device where did = ?1 and token_hash is not null and expires_at <= ?2",
        .postgres =
            "select 1 from device where did = ?1 and token_hash is not null and expires_at <= ?2 for no key update"};
    enum err err = lock_user(db, uid);
    if (err == ERR_OK) err = lock_messages_of_device(db, did);
    if (err != ERR_OK) return err;
    struct db_stmt *s = db_prepare(db, &look);
    db_bind_int(s, 1, did);
    db_bind_int(s, 2, op->now);
    bool ended = row(s, &err);
    return ended ? device_remove(db, uid, did, op->now, &op->gone) : err;
}

static enum err sessions_run(struct db *db, struct db_unit *u) {
    static struct db_sql find = {
        .text = "select uid, did from device where token_hash is not null and expires_at <= ?1 limit ?2"};
    struct step_op *op = (struct step_op *)u;
    bool ours;
    enum err err = step_begin(db, op, &ours);
    if (err != ERR_OK || !ours) return err;
    op->batch = db_kind(db) == DATABASE_SQLITE ? SESSIONS_BATCH : 1;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_int(s, 1, op->now);
    db_bind_int(s, 2, (int64_t)op->batch);
    while (row(s, &err)) {
        op->rows[op->n].uid = db_int(s, 0);
        op->rows[op->n++].did = db_int(s, 1);
    }
    for (size_t i = 0; i < op->n && err == ERR_OK; i++) err = session_end(db, op, op->rows[i].uid, op->rows[i].did);
    return err == ERR_OK ? gone_settle(db, &op->gone) : err;
}

static void sessions_answer(struct op *base, enum err err) {
    struct step_op *op = (struct step_op *)base;
    // Looked at, not ended: one that was used in the last moment is live still.
    for (size_t i = 0; i < op->n && err == ERR_OK; i++) homes_session_changed(base->chat, op->rows[i].did);
    if (op->n > 0 && op->n == op->batch) op->n = BATCH; // a full batch
    step_answer(base, err);
}

// ---- tombstones and inbox ids ---------------------------------------------------------------------------

// At this age every content has expired, and has been gone for as long as a tombstone is kept. The newest row stays
// whatever its age, so that no mid is given twice.
static enum err last_tombstone(struct db *db, const struct step_op *op, int64_t *mid) {
    static struct db_sql oldest = {.text = "select mid, accepted_at, deleted_at is not null, "
                                           "(select max(mid) from message) from message order by mid limit ?1"};
    int64_t before = op->now - op->ttl - TOMBSTONE_MS;
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &oldest);
    db_bind_int(s, 1, BATCH);
    while (row(s, &err) && db_int(s, 1) < before && db_int(s, 2) != 0 && db_int(s, 0) < db_int(s, 3))
        *mid = db_int(s, 0);
    return err;
}

static enum err tombstones_run(struct db *db, struct db_unit *u) {
    static struct db_sql notes = {.text = "delete from journey_note where mid <= ?1"};
    static struct db_sql devices = {.text = "delete from device_delivery where mid <= ?1"};
    static struct db_sql deliveries = {.text = "delete from delivery where mid <= ?1"};
    static struct db_sql messages = {.text = "delete from message where mid <= ?1"};
    struct step_op *op = (struct step_op *)u;
    int64_t mid = 0;
    bool ours;
    enum err err = step_begin(db, op, &ours);
    if (err != ERR_OK || !ours) return err;
    err = last_tombstone(db, op, &mid);
    if (err != ERR_OK || mid == 0) return err;
    if ((err = RUN(db, &notes, mid)) != ERR_OK) return err;
    if ((err = RUN(db, &devices, mid)) != ERR_OK) return err;
    if ((err = RUN(db, &deliveries, mid)) != ERR_OK) return err;
    err = RUN(db, &messages, mid);
    op->n = err == ERR_OK ? (size_t)db_changes(db) : 0;
    return err;
}

// The messages a device had when it ended have their tombstones no longer; if it comes back, it is a new one.
static enum err devices_run(struct db *db, struct db_unit *u) {
    static struct db_sql remove = {.text = "delete from device where did in (select did from device "
                                           "where token_hash is null and expires_at < ?1 limit ?2)",
                                   .postgres =
                                       "delete from device where did in (select did from device "
                                       "where token_hash is null and expires_at < ?1 limit ?2 for update skip locked)"};
    struct step_op *op = (struct step_op *)u;
    bool ours;
    enum err err = step_begin(db, op, &ours);
    if (err != ERR_OK || !ours) return err;
    err = RUN(db, &remove, op->now - op->ttl - 2 * TOMBSTONE_MS, BATCH);
    op->n = err == ERR_OK ? (size_t)db_changes(db) : 0;
    return err;
}

static enum err inbox_run(struct db *db, struct db_unit *u) {
    struct step_op *op = (struct step_op *)u;
    uint64_t removed = 0;
    bool ours;
    enum err err = step_begin(db, op, &ours);
    if (err != ERR_OK || !ours) return err;
    err = inbox_forget(db, op->now - INBOX_MS, BATCH * 4, &removed);
    op->n = removed == BATCH * 4 ? BATCH : 0;
    return err;
}

// ---- contents without an owner --------------------------------------------------------------------------

struct orphans_op {
    struct op op;
    size_t n;
    ds_verdict_fn *verdict;
    void *arg_batch;
    uint8_t *wanted;
    uint8_t hashes[][CHAT_HASH];
};

static enum err orphans_run(struct db *db, struct db_unit *u) {
    static struct db_sql find = {.text = "select 1 from media where hash = ?1 and refs > 0"};
    struct orphans_op *op = (struct orphans_op *)u;
    enum err err = ERR_OK;
    for (size_t i = 0; i < op->n && err == ERR_OK; i++) {
        struct db_stmt *s = db_prepare(db, &find);
        db_bind_blob(s, 1, op->hashes[i], CHAT_HASH);
        op->wanted[i] = row(s, &err);
    }
    return err;
}

// The data store is told that all are wanted: what is not goes through the gate of removal.h instead.
static void orphans_answer(struct op *base, enum err err) {
    struct orphans_op *op = (struct orphans_op *)base;
    for (size_t i = 0; i < op->n; i++) {
        if (err == ERR_OK && !op->wanted[i]) removal_add(base->chat, op->hashes[i]);
        op->wanted[i] = 1;
    }
    op->verdict(op->arg_batch, op->wanted);
}

static void orphans_release(struct op *base) { free(((struct orphans_op *)base)->wanted); }

static void orphans_ask(void *arg, const uint8_t (*hashes)[DATASTORE_HASH], size_t n, ds_verdict_fn *verdict,
                        void *arg_batch) {
    struct chat *c = arg;
    struct orphans_op *op = op_new(c, sizeof *op + n * CHAT_HASH, orphans_run, orphans_answer);
    op->op.unit.read_only = true;
    op->op.release = orphans_release;
    op->n = n;
    op->wanted = chat_alloc(n + 1);
    op->verdict = verdict;
    op->arg_batch = arg_batch;
    memcpy(op->hashes, hashes, n * CHAT_HASH);
    op_submit(&op->op);
}

static void orphans_done(void *arg, enum err err, uint64_t kept, uint64_t removed) {
    struct chat *c = arg;
    if (err != ERR_OK) log_text(LOG_WARN, "orphans_not_looked_for", "%s", err_text(err));
    c->sweep->orphans = false;
}

static void orphans_start(struct chat *c) {
    uint64_t now = loop_now_ms(c->loop);
    if (c->sweep->orphans || now < c->sweep->orphans_at) return;
    c->sweep->orphans_at = now + ORPHAN_EVERY;
    c->sweep->orphans = true;
    datastore_sweep(c->o.datastore, ORPHAN_AGE_MS, orphans_ask, orphans_done, c);
}

// ---- the round ------------------------------------------------------------------------------------------

static void step_expiry(struct chat *c) { expiry_batch(c, step_done); }
static void step_tickets(struct chat *c) { step_start(c, tickets_run, step_answer); }
static void step_sessions(struct chat *c) { step_start(c, sessions_run, sessions_answer); }
static void step_tombstones(struct chat *c) { step_start(c, tombstones_run, step_answer); }
static void step_devices(struct chat *c) { step_start(c, devices_run, step_answer); }
static void step_inbox(struct chat *c) { step_start(c, inbox_run, step_answer); }
static void step_homes(struct chat *c) { homes_gone_batch(c, step_done); }

static void (*const steps[])(struct chat *c) = {step_expiry,  step_tickets, step_sessions, step_tombstones,
                                                step_devices, step_inbox,   step_homes};
#define STEPS (sizeof steps / sizeof steps[0])

static void step_done(struct chat *c, bool more) {
    struct sweep *w = c->sweep;
    if (!more) w->step++;
    if (w->step < STEPS) {
        steps[w->step](c);
        return;
    }
    w->step = 0;
    loop_timer_start(c->loop, &w->timer, c->o.sweep_every_ms);
}

// A connected device is in use, however rarely it asks for anything.
static void touch_links(struct chat *c) {
    size_t at = 0;
    struct box *b;
    while ((b = map_next(&c->boxes, &at)) != NULL)
        if (b->link != NULL && link_wants_touch(b->link)) device_touch(c, b->did);
}

static void round_start(struct loop_timer *t) {
    struct chat *c = LIST_ITEM(t, struct sweep, timer)->chat;
    touch_links(c);
    orphans_start(c);
    steps[0](c);
}

void sweep_start(struct chat *c) {
    c->sweep = chat_alloc(sizeof *c->sweep);
    c->sweep->chat = c;
    c->sweep->timer.fn = round_start;
    loop_timer_start(c->loop, &c->sweep->timer, 0);
}

void sweep_stop(struct chat *c) {
    if (c->sweep == NULL) return;
    loop_timer_stop(c->loop, &c->sweep->timer);
    free(c->sweep);
    c->sweep = NULL;
}
