// What a claim on PostgreSQL asks for, and how far back it has to look.
//
// Ids are given when a row is written, and rows appear when their transaction commits: an older id may appear after a
// younger one was claimed. So claims begin at a low-water mark rather than at the last id they saw:
//
//        done with             in memory, deleted, or not committed yet            not claimed
//   ───────────────────┤low├────────────────────────────────────────────┤cursor├────────────────>
//
// The mark follows the cursor in three steps: a look has been as far as `mark`; a little later xmax is asked for: every
// transaction that may hold an id up to `mark` is older than that; and once xmin has come to it they have all ended,
// and a look since then has seen what they left. Should one slip through (a process stopped between taking its id and
// writing its row), the safety check finds it, which begins at the first row.
//
// No claim begins above the mark, however long a look takes while a transaction that stays open holds the mark back:
// what an older transaction leaves below the cursor must be seen together with what its application stores after it.
#include "outbox/internal.h"

#include <stdlib.h>
#include <string.h>

#define MARK_AGE_MS 100 // between reaching a mark and asking for xmax

void look_init(struct outbox *o) { o->look = (struct look){.mark = -1}; }

void look_rewind(struct outbox *o, int64_t to) {
    struct look *l = &o->look;
    if (to < l->low) l->low = to;
    l->mark = -1;
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

bool look_prepare(struct outbox *o, struct claim *c) {
    c->buckets = lease_buckets(o);
    c->after = o->look.low;
    return list_known(o, c) && list_held(o, c);
}

static void move(struct outbox *o, const struct claim *c) {
    struct look *l = &o->look;
    uint64_t now = loop_now_ms(o->options.loop);
    int64_t covered = c->more || c->last_id > o->cursor ? c->last_id : o->cursor;
    if (l->mark < 0) {
        if (covered <= l->low) return;
        l->mark = covered;
        l->mark_xmax = 0;
        l->mark_ms = now;
    } else if (!l->mark_xmax) {
        if (now - l->mark_ms >= MARK_AGE_MS) l->mark_xmax = c->xmax;
    } else if (c->xmin >= l->mark_xmax && covered >= l->mark) {
        l->low = l->mark;
        l->mark = -1;
    }
}

void look_done(struct outbox *o, const struct claim *c) {
    if (c->after == o->look.low) move(o, c); // otherwise it was told to go back meanwhile
}
