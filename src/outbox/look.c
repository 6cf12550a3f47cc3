// What a claim on PostgreSQL asks for, and how far back it has to look.
//
// Ids are given when a row is written, and rows appear when their transaction commits: an older id may appear after a
// younger one was claimed, and the younger one's followers of the same key must not go before it. So every claim begins
// at a low-water mark rather than at the last id seen, and leaves out what is in memory:
//
//        done with             in memory, deleted, or not committed yet            not claimed
//   ───────────────────┤low├────────────────────────────────────────────┤cursor├────────────────>
//
// The mark follows the cursor in three steps: a claim has been as far as `mark`; a little later xmax is asked for:
// every transaction that may hold an id up to `mark` is older than that; and once xmin has come to it they have all
// ended, and a claim since then has seen what they left. Should one slip through (a process stopped between taking its
// id and writing its row), the safety check finds it, which begins at the first row.
//
// A transaction that stays open for long holds xmin back. Most of those have nothing to do with the outbox: so when the
// mark is stuck, the transactions that hold a writer's lock on the table are noted, and the mark moves when these have
// ended. Rows behind one that blocks its key are passed by the mark, too: when such a one was retried or dropped, the
// next claim begins at the first row, whether the notice of it has come or not.
//
// A row that has to wait for more than some seconds for its next attempt is not kept in memory: claims leave it in the
// table, and with it its key, as long as its time lies beyond a horizon. The horizon goes with the clock, and when rows
// have come within it the next claim begins at the first row, as after a retry. A shorter wait is spent in memory, and
// may be over before the horizon has come to it: then what the row held up is looked for when it goes.
//
// One that has stored an event and stays open keeps the mark where it is, and claims have to pass over what was
// deleted since, which takes the longer the longer that lasts: they are made larger then.
#include "outbox/internal.h"

#include "base/io.h"

#include <stdlib.h>
#include <string.h>

#define MARK_AGE_MS 100      // between reaching a mark and asking for xmax
#define STUCK_MS    1000     // a mark that is older is stuck, unless the last one was already
#define WRITERS_MS  250      // between two questions who writes
#define SLOW_NS     20000000 // a claim that took longer is followed by one as large as can be

#define DUE_LEAST_MS 1000 // rows that come due one after the other share claims
#define DUE_MOST_MS  60000

static void came_due(struct loop_timer *t) { outbox_wake(LIST_ITEM(t, struct outbox, look.due_timer)); }

void look_init(struct outbox *o) { o->look = (struct look){.mark = -1, .due_timer.fn = came_due}; }

void look_gone(struct outbox *o, const struct row *r) {
    if (r->due_ms > o->look.reaches_ms) outbox_rewind(o, r->id);
}

void look_release(struct outbox *o) { free(o->look.writers); }

void look_due_in(struct outbox *o, int64_t ms) {
    struct loop_timer *t = &o->look.due_timer;
    uint64_t in = ms < DUE_LEAST_MS ? DUE_LEAST_MS : ms < DUE_MOST_MS ? (uint64_t)ms : DUE_MOST_MS;
    if (loop_timer_active(t) && t->due_ms <= loop_now_ms(o->options.loop) + in) return;
    loop_timer_start(o->options.loop, t, in);
}

static void set_mark(struct look *l, int64_t mark, uint64_t now_ms) {
    l->mark = mark;
    l->mark_xmax = 0;
    l->mark_ms = now_ms;
    l->writers_gone = false;
    free(l->writers);
    l->writers = NULL;
}

void look_rewind(struct outbox *o, int64_t to) {
    struct look *l = &o->look;
    if (to < l->low) l->low = to;
    set_mark(l, -1, 0);
}

static bool list_known(struct outbox *o, struct claim *c) {
    c->known = malloc((o->rows.len + 1) * sizeof *c->known);
    if (!c->known) return false;
    size_t at = 0;
    const struct row *r;
    while ((r = map_next(&o->rows, &at)) != NULL)
        if (r->id > c->after) c->known[c->known_n++] = r->id;
    return true;
}

// Keys whose rows were left in the database: they need not be read again and again.
static bool list_held(struct outbox *o, struct claim *c) {
    size_t at = 0, n = 0, bytes = 0;
    const struct key *k;
    while ((k = map_next(&o->keys, &at)) != NULL)
        if (k->held && k->behind) n++, bytes += k->length + 1;
    if (n == 0) return true;
    c->held = malloc(n * sizeof *c->held);
    c->held_text = malloc(bytes);
    if (!c->held || !c->held_text) return false;
    char *to = c->held_text;
    at = 0;
    while ((k = map_next(&o->keys, &at)) != NULL) {
        if (!k->held || !k->behind) continue;
        c->held[c->held_n++] = memcpy(to, k->text, k->length + 1);
        to += k->length + 1;
    }
    return true;
}

static bool ask_who_writes(struct outbox *o, struct claim *c) {
    struct look *l = &o->look;
    uint64_t now = loop_now_ms(o->options.loop);
    if (l->mark < 0 || !l->mark_xmax || l->writers_gone || (!l->stuck && now - l->mark_ms < STUCK_MS)) return true;
    if (now - l->writers_ms < WRITERS_MS) return true;
    l->writers_ms = now;
    c->ask_writers = true;
    if (!l->writers) return true;
    c->writers = strdup(l->writers);
    return c->writers != NULL;
}

bool look_prepare(struct outbox *o, struct claim *c) {
    struct look *l = &o->look;
    c->started_ns = io_monotonic_ns(o->options.io);
    c->started_ms = loop_now_ms(o->options.loop);
    c->buckets = lease_buckets(o);
    c->after = l->low;
    c->writers_gone = l->writers_gone;
    if (l->slow) c->limit = o->options.rows_max - (uint32_t)o->rows.len;
    return list_known(o, c) && list_held(o, c) && ask_who_writes(o, c);
}

static void move(struct outbox *o, struct claim *c) {
    struct look *l = &o->look;
    uint64_t now = loop_now_ms(o->options.loop);
    int64_t covered = c->more || c->last_id > o->cursor ? c->last_id : o->cursor;
    if (l->mark < 0) {
        if (covered > l->low) set_mark(l, covered, now);
    } else if (!l->mark_xmax) {
        if (now - l->mark_ms >= MARK_AGE_MS) l->mark_xmax = c->xmax;
    } else if ((c->xmin >= l->mark_xmax || c->writers_gone) && covered >= l->mark) {
        l->low = l->mark;
        l->stuck = c->xmin < l->mark_xmax;
        set_mark(l, -1, 0);
    } else if (c->writers && !c->found) { // maybe since this claim's snapshot: the next one has seen what they left
        l->writers_gone = true;
    } else if (c->ask_writers && !l->writers) {
        l->writers = c->found ? c->found : strdup("");
        c->found = NULL;
    }
}

bool look_released(struct outbox *o, const struct claim *c) {
    struct look *l = &o->look;
    bool changed = c->blocked != l->blocked || c->came_due;
    l->blocked = c->blocked;
    l->horizon_ms = c->horizon_ms;
    l->reaches_ms = c->started_ms + (uint64_t)(c->horizon_ms - c->now_ms);
    if (c->due_ms >= 0) look_due_in(o, c->due_ms);
    return changed && c->after > 0;
}

void look_done(struct outbox *o, struct claim *c) {
    struct look *l = &o->look;
    if (c->after == l->low) move(o, c); // otherwise it was told to go back meanwhile
    l->slow = io_monotonic_ns(o->options.io) - c->started_ns > SLOW_NS;
}
