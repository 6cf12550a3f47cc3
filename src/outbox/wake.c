// PostgreSQL: notices only while somebody sleeps.
//
// PostgreSQL lets one transaction commit at a time of all those that have sent a notice, disk and replicas included. So
// a producer that is busy says so in barid.members, claims by itself every few milliseconds, and the trigger on the
// outbox sends nothing as long as nobody sleeps:
//
//   settling ─nobody is left who may have seen us awake─> asleep: notices wake it
//      ^                                                    │
//      └──── a quiet second ──── awake: it claims by itself <┘ many events a second
//
// A transaction that has seen it awake may commit after it has said that it sleeps, and tells nobody. Such a one had
// its number before the flag was committed, so before any claim that was submitted after that: the first of those
// remembers the next number to be given, and only one whose snapshot's xmin has come to it is the last (it has seen
// what they left). What is written in the row may be older or other than what we believe: we claim by ourselves until
// it is known.
#include "outbox/lease.h"

#include "base/crash.h"
#include "base/log.h"

#include <stdlib.h>

#define WINDOW_MS     200  // over which events are counted
#define BUSY_EVENTS   50   // a second: from here on it is awake …
#define QUIET_EVENTS  25   // … until there are less of them
#define QUIET_MS      1000 // for that long
#define LOOK_SOON_MS  1    // after a claim that found something
#define LOOK_MOST_MS  5    // … and after some that did not
#define SETTLE_MS     25   // between claims while settling; grows with the time that takes
#define SETTLE_MOST   1000 // … to that
#define SETTLE_PARTS  8
#define FLAG_AGAIN_MS 1000 // after the flag could not be written

struct wake {
    struct db_unit unit; // first
    struct id me;
    struct outbox *o;
    enum wake_state state;
    bool running, writing; // writing: the value
    int flag;              // as we know it is in the row; -1: not known
    uint64_t failed_ms, settling_ms, window_ms, busy_ms;
    int64_t ids;      // given when the window began
    int64_t next_xid; // of the first claim since we have said that we sleep; 0: there was none
    uint32_t sleeps;  // how often we have said so
    uint32_t look_ms;
    struct loop_timer timer;
};

static struct db_sql flag_sql = {
    .text = "select 1 where 0",
    .postgres = "update members set awake = ?3::bigint = 1 where queue = ?1::text "
                "and member = encode(?2::bytea, 'hex')::uuid",
};

static uint64_t now_ms(const struct wake *w) { return loop_now_ms(w->o->options.loop); }

static enum err run(struct db *db, struct db_unit *u) {
    struct wake *w = (struct wake *)u;
    struct db_stmt *s = db_prepare(db, &flag_sql);
    db_bind_text(s, 1, w->o->queue);
    db_bind_id(s, 2, &w->me);
    db_bind_int(s, 3, w->writing);
    enum err err = db_run(s);
    if (err || db_changes(db) == 1) return err;
    return error_set(db_error(db), ERR_NOT_FOUND, "not a member"); // not yet, or swept: the next round of leases joins
}

static void look_in(struct wake *w, uint64_t ms) { loop_timer_start(w->o->options.loop, &w->timer, ms); }

static void settle_by_and_by(struct wake *w) {
    w->state = WAKE_SETTLING;
    w->settling_ms = now_ms(w);
    w->next_xid = 0;
    w->sleeps++;
    look_in(w, 0);
}

static void done(struct db_unit *u, enum err err) {
    struct wake *w = (struct wake *)u;
    struct outbox *o = w->o;
    w->running = false;
    if (outbox_ended(o) || o->closing) return;
    if (err) { // it may be in the row all the same
        w->failed_ms = now_ms(w);
        if (err != ERR_NOT_FOUND && err != ERR_CLOSED)
            log_event(LOG_WARN, "awake_failed", "error", u->error.text, NULL);
        return;
    }
    w->flag = w->writing;
    if (w->flag) w->state = WAKE_AWAKE;
    else settle_by_and_by(w);
}

// From here on it claims by itself: who stores an event may see the flag before we know that it is written.
static void write_flag(struct wake *w, bool awake) {
    if (w->running || w->o->draining) return;
    w->writing = awake;
    w->me = *lease_me(w->o); // for the thread that writes it
    w->flag = -1;
    w->next_xid = 0;
    w->state = awake ? WAKE_AWAKE : WAKE_SETTLING;
    w->settling_ms = w->failed_ms = now_ms(w);
    w->unit = (struct db_unit){.run = run, .done = done, .frees_space = true};
    w->running = true;
    look_in(w, LOOK_SOON_MS);
    if (database_submit(w->o->options.database, &w->unit)) w->running = false;
}

static void look(struct loop_timer *t) {
    struct wake *w = LIST_ITEM(t, struct wake, timer);
    struct outbox *o = w->o;
    if (o->closing || o->draining || w->state == WAKE_ASLEEP) return;
    uint64_t now = now_ms(w);
    if (w->flag < 0 && !w->running && now - w->failed_ms >= FLAG_AGAIN_MS) write_flag(w, w->state == WAKE_AWAKE);
    uint64_t ms = w->look_ms;
    if (w->state == WAKE_SETTLING) {
        ms = (now - w->settling_ms) / SETTLE_PARTS;
        if (ms < SETTLE_MS) ms = SETTLE_MS;
        if (ms > SETTLE_MOST) ms = SETTLE_MOST;
    } else if (!lease_buckets(o)) {
        ms = SETTLE_MS; // there is nothing to claim for now
    }
    look_in(w, ms);
    outbox_wake(o);
}

// How many events a second are stored, in whatever bucket: everybody who shares the table comes to the same answer.
static void count(struct wake *w, int64_t ids) {
    uint64_t now = now_ms(w), ms = now - w->window_ms;
    if (ms < WINDOW_MS) return;
    int64_t events = (ids - w->ids) * 1000, enough = w->state == WAKE_AWAKE ? QUIET_EVENTS : BUSY_EVENTS;
    bool busy = w->window_ms && events >= enough * (int64_t)ms;
    w->window_ms = now;
    w->ids = ids;
    if (busy) w->busy_ms = now;
    if (busy && w->state != WAKE_AWAKE) write_flag(w, true);
    else if (w->state == WAKE_AWAKE && now - w->busy_ms >= QUIET_MS) write_flag(w, false);
}

void wake_prepare(struct outbox *o, struct claim *c) {
    if (o->wake) c->sleeps = o->wake->sleeps;
}

void wake_claimed(struct outbox *o, const struct claim *c) {
    struct wake *w = o->wake;
    if (!w) return;
    w->look_ms = c->rows_n ? LOOK_SOON_MS : w->look_ms < LOOK_MOST_MS ? w->look_ms + 1 : LOOK_MOST_MS;
    if (w->state == WAKE_AWAKE && c->rows_n && !o->draining) look_in(w, w->look_ms);
    if (w->state == WAKE_SETTLING && w->flag == 0 && c->sleeps == w->sleeps) {
        if (!w->next_xid) w->next_xid = c->xmax;
        if (c->xmin >= w->next_xid && !c->more) {
            w->state = WAKE_ASLEEP;
            loop_timer_stop(o->options.loop, &w->timer);
        }
    }
    count(w, c->ids_given);
}

// What a round of leases has found in our row; -1: it is a new one.
void wake_seen(struct outbox *o, int flag) {
    struct wake *w = o->wake;
    if (w && !w->running && (flag < 0 || flag != w->flag)) write_flag(w, w->state == WAKE_AWAKE);
}

void wake_new(struct outbox *o) {
    struct wake *w = calloc(1, sizeof *w);
    if (!w) die("no memory for the outbox");
    o->wake = w;
    w->o = o;
    w->flag = -1;
    w->look_ms = LOOK_MOST_MS;
    w->failed_ms = w->settling_ms = now_ms(w);
    w->timer.fn = look;
    look_in(w, SETTLE_MS);
}

void wake_free(struct outbox *o) {
    if (o->wake) loop_timer_stop(o->options.loop, &o->wake->timer);
}

bool wake_busy(const struct outbox *o) { return o->wake && o->wake->running; }

enum wake_state wake_state(const struct outbox *o) { return o->wake ? o->wake->state : WAKE_ASLEEP; }
