// Buckets lent to us: renewed, shared with others, handed over, lost.
//
//   not ours ─taken─> held ─more than our share, or leaving─> handing over: nothing new is sent, what is with the
//      ^               │                                       sink is waited for ─all written down─> given back
//      └──── lost ─────┘ (not renewed in time, or somebody else has it: what is in memory is forgotten)
//
// A process knows by its own clock, counted from before it asked, when its leases end, and sends nothing after that:
// one that was frozen, suspended with its machine, or cut off from the database, forgets what it has and begins from
// the table again. (Its timers may stand still meanwhile; the clock by which leases are judged does not.) What was
// already with the bus then may be published a second time by the successor; the inbox drops it, and the first time is
// in order.
#include "outbox/lease.h"

#include "base/assert.h"
#include "base/io.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define LEASE_MS    15000
#define HURRY_MS    1000 // between two rounds when notices do not come
#define AGAIN_MS    1000 // after one that failed
#define MILLISECOND 1000000ull

struct leases {
    struct outbox *o; // NULL once it is gone and only the round under way is waited for
    struct lease_unit round;
    bool running, again; // again: one more round, as soon as this one is over
    bool announced, joined, leaving, left, hurry;
    uint64_t held;    // lent to us
    uint64_t handing; // of these: to be given back
    uint64_t until_ns;
    uint32_t members;
    struct loop_timer round_timer, end_timer;
};

static void begin_round(struct leases *l);

static uint64_t now_ns(const struct leases *l) { return io_monotonic_ns(l->o->options.io); }

bool lease_has(const struct outbox *o, int64_t bucket) {
    const struct leases *l = o->leases;
    if (!l) return true;
    return (((l->held & ~l->handing) >> bucket) & 1) && now_ns(l) < l->until_ns;
}

uint64_t lease_buckets(const struct outbox *o) {
    const struct leases *l = o->leases;
    return now_ns(l) < l->until_ns ? l->held & ~l->handing : 0;
}

// ---- losing and handing over

static void lose(struct leases *l, uint64_t buckets, const char *why) {
    if (!buckets) return;
    l->held &= ~buckets;
    l->handing &= ~buckets;
    log_text(LOG_WARN, "leases_lost", "%u buckets of %s: %s", lease_count(buckets), l->o->queue, why);
    outbox_drop(l->o, buckets);
}

static void ended(struct loop_timer *t) {
    struct leases *l = LIST_ITEM(t, struct leases, end_timer);
    if (l->held && now_ns(l) >= l->until_ns) lose(l, l->held, "not renewed in time");
    if (l->leaving) outbox_check_drained(l->o);
}

// Those that are to be given back and have nothing in memory any more.
static uint64_t emptied(const struct leases *l) {
    uint64_t set = 0;
    for (unsigned b = 0; b < BUCKETS; b++)
        if ((l->handing >> b) & 1 && l->o->bucket_rows[b] == 0) set |= UINT64_C(1) << b;
    return set;
}

static void hand_over(struct leases *l, uint64_t buckets) {
    buckets &= l->held & ~l->handing;
    if (!buckets) return;
    l->handing |= buckets;
    outbox_drop(l->o, buckets);
    if (emptied(l)) begin_round(l);
}

void lease_row_gone(struct outbox *o, int64_t bucket) {
    struct leases *l = o->leases;
    ASSERT(o->bucket_rows[bucket] > 0);
    if (--o->bucket_rows[bucket] == 0 && l && !l->leaving && (l->handing >> bucket) & 1) begin_round(l);
}

static void keep_to_share(struct leases *l) {
    uint64_t mine = l->held & ~l->handing, surplus = 0;
    for (uint32_t n = lease_count(mine), share = lease_share(l->members); n > share; n--) {
        uint64_t highest = UINT64_C(1) << 63;
        while (!(mine & highest)) highest >>= 1;
        mine &= ~highest;
        surplus |= highest;
    }
    hand_over(l, surplus);
}

// ---- a round

static void again_in(struct leases *l, uint64_t ms) { loop_timer_start(l->o->options.loop, &l->round_timer, ms); }

// Once when it went well, and each time that others at work are set up otherwise.
static void tell_joined(struct leases *l, enum err err) {
    const struct outbox_options *o = &l->o->options;
    if (l->round.leave || (err ? err != ERR_CONFLICT : l->joined)) return;
    l->joined = err == ERR_OK;
    if (o->joined) o->joined(o->joined_arg, err, l->round.unit.error.text);
}

static void done_well(struct leases *l) {
    struct lease_unit *r = &l->round;
    struct outbox *o = l->o;
    uint64_t until = r->sent_ns + r->lease_ms * MILLISECOND;
    l->announced = true;
    l->members = r->members;
    if (!r->leave) wake_seen(o, r->awake);
    if (r->leave) {
        l->left = true;
        l->held = l->handing = 0;
        outbox_left(o);
        return;
    }
    if (now_ns(l) >= until) {
        lose(l, l->held, "the database was slower than the lease is long");
        again_in(l, 0);
        return;
    }
    // One that was taken anew had somebody else meanwhile: what is in memory of it may be old.
    lose(l, l->held & ~r->kept & ~r->give_back, "somebody else had them");
    uint64_t now_held = r->kept | r->gained, fresh = now_held & ~l->held;
    l->held = now_held;
    l->handing &= now_held;
    l->until_ns = until;
    loop_timer_start(o->options.loop, &l->end_timer, (until - now_ns(l)) / MILLISECOND + 1);
    if (fresh) {
        log_text(LOG_INFO, "leases", "%u of %d buckets of %s, %u members", lease_count(l->held), BUCKETS, o->queue,
                 l->members);
        outbox_look_at_all(o);
    }
    keep_to_share(l);
}

static void round_done(struct db_unit *u, enum err err) {
    struct leases *l = ((struct lease_unit *)u)->l;
    struct outbox *o = l->o;
    l->running = false;
    if (outbox_ended(o) || o->closing) return;
    if (err && err != ERR_CLOSED) log_event(LOG_WARN, "lease_failed", "error", u->error.text, NULL);
    if (err && !l->round.leave) { // still to be given back
        l->held |= l->round.give_back;
        l->handing |= l->round.give_back;
    }
    bool again = l->again;
    l->again = false;
    if (!err) done_well(l);
    tell_joined(l, err);
    if (l->left || o->closing) return;
    if (l->leaving) outbox_check_drained(o);
    if (l->running) return;
    uint32_t usual = l->round.lease_ms / 3;
    if (l->hurry && usual > HURRY_MS) usual = HURRY_MS;
    if (err && usual > AGAIN_MS) usual = AGAIN_MS;
    if (again && !err) begin_round(l);
    else if (!loop_timer_active(&l->round_timer) || err) again_in(l, usual);
}

static void begin_round(struct leases *l) {
    struct outbox *o = l->o;
    if (l->left || o->closing) return;
    if (l->running) {
        l->again = true;
        return;
    }
    bool leave = l->leaving && o->rows.len == 0;
    l->round = (struct lease_unit){.unit = {.run = lease_run, .done = round_done, .frees_space = true},
                                   .l = l,
                                   .queue = o->queue,
                                   .name = o->name,
                                   .settings = o->settings,
                                   .me = l->round.me,
                                   .lease_ms = l->round.lease_ms,
                                   .give_back = leave ? ALL_BUCKETS : emptied(l),
                                   .leave = leave,
                                   .announce = !l->announced,
                                   .no_more = l->leaving,
                                   .sent_ns = now_ns(l)};
    l->round.keep = l->held & ~l->round.give_back;
    if (o->away) memcpy(l->round.away, o->away_why, sizeof l->round.away);
    // What is being given back is somebody else's from the moment on in which the database says so.
    l->held &= ~l->round.give_back;
    l->handing &= ~l->round.give_back;
    loop_timer_stop(o->options.loop, &l->round_timer);
    l->running = true;
    enum err err = database_submit(o->options.database, &l->round.unit);
    if (!err) return;
    l->running = false;
    again_in(l, AGAIN_MS);
}

static void round_due(struct loop_timer *t) { begin_round(LIST_ITEM(t, struct leases, round_timer)); }

static void noticed(void *arg, const char *payload) {
    struct leases *l = arg;
    if (!payload || strcmp(payload, l->o->queue) == 0) begin_round(l);
}

// ---- the outside

void leases_new(struct outbox *o) {
    struct leases *l = calloc(1, sizeof *l);
    if (!l) die("no memory for the outbox");
    o->leases = l;
    l->o = o;
    l->round.me = id_new(o->options.io);
    l->round.lease_ms = o->options.lease_ms ? o->options.lease_ms : LEASE_MS;
    l->round_timer.fn = round_due;
    l->end_timer.fn = ended;
    struct error e;
    if (database_listen(o->options.database, LEASE_CHANNEL, noticed, l, &e))
        log_event(LOG_WARN, "listen_failed", "error", e.text, NULL);
    begin_round(l);
}

void leases_free(struct outbox *o) {
    struct leases *l = o->leases;
    if (!l) return;
    loop_timer_stop(o->options.loop, &l->round_timer);
    loop_timer_stop(o->options.loop, &l->end_timer);
    database_unlisten(o->options.database, LEASE_CHANNEL, noticed, l);
}

const struct id *lease_me(const struct outbox *o) { return &o->leases->round.me; }

void lease_tell(struct outbox *o) {
    if (o->leases && !o->leases->leaving) begin_round(o->leases);
}

bool leases_busy(const struct outbox *o) { return o->leases && o->leases->running; }

void lease_leave(struct outbox *o) {
    struct leases *l = o->leases;
    l->leaving = true;
    if (o->rows.len == 0) {
        begin_round(l);
        return;
    }
    uint64_t mine = l->held & ~l->handing;
    l->handing |= mine;
    if (mine) outbox_drop(o, mine);
}

void lease_hurry(struct outbox *o, bool hurry) {
    struct leases *l = o->leases;
    if (l->hurry == hurry) return;
    l->hurry = hurry;
    if (hurry && !l->running && !l->left) begin_round(l);
}

void lease_stats(const struct outbox *o, struct outbox_stats *out) {
    const struct leases *l = o->leases;
    if (!l) return;
    out->leases = now_ns(l) < l->until_ns ? lease_count(l->held) : 0;
    out->members = l->members;
}
