// The producer: from the table to the bus and, once the bus has it, out of the table.
//
//   wake ─> claim ─────────> rows in memory, by key ─> pump ─> bus ─confirmed─> settle ─────> gone
//           reading unit,                 ^                     └─ refused ───> settle: attempts, or parked
//           in id order                   └── key held while its row waits for the next attempt
//
// Everything here runs on the loop thread but claim_run and settle_run. The next claim, the publishing and the
// settling of earlier rows go on side by side; ROWS_MAX bounds what is in memory. Nobody polls: a claim follows a
// wake, a claim that was full, or the slow safety check, which begins from the first row again and so also finds
// what a tool beside the server has sent on.
//
// An event is deleted only after it was confirmed. A crash between the two publishes it again, under the same
// event_id, which the receiving inbox drops.
#include "outbox/internal.h"

#include "base/assert.h"
#include "base/backoff.h"
#include "base/crash.h"
#include "base/io.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MAX_MS    60000 // a clock that was set back must not hold a key for long
#define CLAIM_AGAIN_MS 1000
#define REST_PARTS     3  // PostgreSQL: after a claim, as many times its duration without one,
#define REST_MOST_MS   20 // … at most this
#define BATCH          512
#define NOTICES_MS     1000
#define CONSUMER_MAX   255
#define WRITTEN_MS     500
#define KNOWN_MS       100 // what was written is known so much later, at most
#define GATHER_MS      10  // what was taken may wait so long to be deleted together …
#define GATHER_MOST    512 // … unless there is as much as this

const struct backoff away_backoff = {.base_ms = 500, .cap_ms = 5000, .multiplier = 2.0};

static void settle(struct outbox *o);

static void destroy(struct outbox *o) {
    size_t at = 0;
    struct row *r;
    struct key *k;
    while ((r = map_next(&o->rows, &at)) != NULL) {
        if (r->key && r->key->loose) free(r->key);
        row_free(r);
    }
    at = 0;
    while ((k = map_next(&o->keys, &at)) != NULL) free(k);
    map_release(&o->rows);
    map_release(&o->keys);
    key_doubts_end(o);
    map_release(&o->doubted);
    bus_sink_free(o->bus_sink);
    look_release(o);
    free(o->leases);
    free(o->measure);
    free(o->wake);
    free(o->settings);
    free(o);
}

bool outbox_ended(struct outbox *o) {
    if (!o->closing || o->claiming || o->settling || o->pumping || o->in_flight || o->settle_post.posted) return false;
    if (leases_busy(o) || measure_busy(o) || wake_busy(o)) return false;
    destroy(o);
    return true;
}

static void remove_row(struct outbox *o, struct row *r) {
    map_remove(&o->rows, &r->id, sizeof r->id);
    if (r->key) key_leave(r);
    int64_t bucket = r->bucket;
    row_free(r);
    if (bucket >= 0) lease_row_gone(o, bucket);
}

void outbox_forget(struct outbox *o, struct row *r) {
    o->bytes -= r->payload_length;
    r->state = ROW_SETTLED;
    look_gone(o, r);
    if (o->claiming) { // the claim may have seen it: it must be recognised
        r->next_claimed = o->buried;
        o->buried = r;
        return;
    }
    remove_row(o, r);
}

static void forget_buried(struct outbox *o) {
    while (o->buried) {
        struct row *r = o->buried;
        o->buried = r->next_claimed;
        remove_row(o, r);
    }
}

// What is with the sink, or being written down, stays until that is over.
void outbox_drop(struct outbox *o, uint64_t buckets) {
    if (o->claiming) o->doubted_buckets |= buckets;
    size_t at = 0, n = 0;
    struct row *r, **rows = malloc((o->rows.len + 1) * sizeof(struct row *));
    if (!rows) die("no memory for the outbox");
    while ((r = map_next(&o->rows, &at)) != NULL)
        if (r->state == ROW_READY && (r->bucket < 0 || (buckets >> r->bucket) & 1)) rows[n++] = r;
    for (size_t i = 0; i < n; i++) {
        key_leave(rows[i]);
        outbox_forget(o, rows[i]);
    }
    free(rows);
}

// ---- what became of a row

// A deletion for each event that is taken costs the database more than the event's way through it. Nobody waits for
// one: its key goes on, and a crash only makes what was not deleted come twice, as it may anyway. Where something else
// hangs on it, or memory is short, it is not put off.
static bool may_gather(const struct outbox *o) {
    return o->leases && !o->options.table.consumer && !o->options.on_published && !o->draining &&
           !o->failed_to_settle && o->to_settle_n < GATHER_MOST && o->rows.len < o->options.rows_max / 2;
}

static void settle_soon(struct outbox *o) {
    if (o->settle_post.posted || o->settling) return;
    if (!may_gather(o)) loop_post(o->options.loop, &o->settle_post);
    else if (!loop_timer_active(&o->gather_timer)) loop_timer_start(o->options.loop, &o->gather_timer, GATHER_MS);
}

static void to_settle(struct outbox *o, struct row *r, bool first) {
    if (first) list_push_front(&o->to_settle, &r->in_settle);
    else list_push_back(&o->to_settle, &r->in_settle);
    o->to_settle_n++;
    o->failed_to_settle |= r->outcome != ROW_PUBLISHED;
}

void outbox_outcome(struct row *r, enum row_outcome how) {
    struct outbox *o = r->o;
    r->outcome = how;
    r->state = how == ROW_RETRY ? ROW_FAILED : ROW_SETTLED;
    to_settle(o, r, false);
    if (how == ROW_BLOCK || (how == ROW_WAIT && !r->key->loose)) key_block(r->key);
    else if (how != ROW_RETRY) key_leave(r);
    settle_soon(o);
}

// ---- claiming

void outbox_rewind(struct outbox *o, int64_t to) {
    if (o->leases) look_rewind(o, to);
    else if (o->rewind < 0 || to < o->rewind) o->rewind = to;
    o->rewound = o->more = true;
}

static void keep(struct outbox *o, struct row *r) {
    if (map_get(&o->rows, &r->id, sizeof r->id) || (r->bucket >= 0 && !lease_has(o, r->bucket))) {
        row_free(r);
        return;
    }
    if (key_doubted(o, r)) {
        outbox_rewind(o, r->id - 1);
        row_free(r);
        return;
    }
    struct key *k = key_of(o, r->key_text);
    if (k->held) {
        key_skip(k, r->id);
        row_free(r);
        return;
    }
    r->o = o;
    if (!map_put(&o->rows, &r->id, sizeof r->id, r)) die("no memory for the outbox");
    o->bytes += r->payload_length;
    if (r->bucket >= 0) o->bucket_rows[r->bucket]++;
    key_add(k, r);
    if (r->wait_ms > 0) key_hold(k, (uint64_t)(r->wait_ms < WAIT_MAX_MS ? r->wait_ms : WAIT_MAX_MS));
    else key_turn(k, false);
}

static void claimed(struct outbox *o, struct claim *c) {
    bool some = c->rows != NULL;
    if (o->leases && look_released(o, c)) {
        outbox_rewind(o, 0);
        return;
    }
    while (c->rows) {
        struct row *r = c->rows;
        c->rows = r->next_claimed;
        r->next_claimed = NULL;
        keep(o, r);
    }
    if (o->leases) look_done(o, c);
    wake_claimed(o, c);
    if (!o->leases || c->last_id > o->cursor) o->cursor = c->last_id;
    o->more = c->more || o->woken || o->rewound;
    if (c->count_parked) o->stats.parked = c->parked;
    if (some) crash_point("publish.claimed");
}

static void claim_failed(struct outbox *o, struct claim *c, enum err err) {
    outbox_rewind(o, c->after);
    if (err == ERR_CLOSED) return;
    log_event(LOG_WARN, "claim_failed", "error", c->unit.error.text, NULL);
    loop_timer_start(o->options.loop, &o->claim_timer, CLAIM_AGAIN_MS);
}

// Claims back to back would each find an event or two. The slower the database answers, the more is worth waiting for.
static void rest(struct outbox *o, const struct claim *c) {
    uint64_t ms = (io_monotonic_ns(o->options.io) - c->started_ns) * REST_PARTS / 1000000;
    if (o->leases && ms > 0 && !c->more && !o->rewound)
        loop_timer_start(o->options.loop, &o->claim_timer, ms < REST_MOST_MS ? ms : REST_MOST_MS);
}

static void claim_done(struct db_unit *u, enum err err) {
    struct claim *c = (struct claim *)u;
    struct outbox *o = c->o;
    if (!err && !o->closing && !o->draining) {
        claimed(o, c);
        rest(o, c);
    }
    claim_clear(c);
    o->claiming = false;
    forget_buried(o);
    if (o->doubted.len || o->doubted_buckets) key_doubts_end(o);
    if (outbox_ended(o) || o->closing) return;
    if (err) claim_failed(o, c, err);
    outbox_check_drained(o);
    outbox_pump(o);
    outbox_claim(o);
}

static bool may_claim(const struct outbox *o) {
    if (o->claiming || o->closing || o->draining || !o->more || loop_timer_active(&o->claim_timer)) return false;
    if (o->rows.len + o->options.batch > o->options.rows_max || o->bytes > ROWS_BYTES_MAX) return false;
    return !o->leases || lease_buckets(o);
}

void outbox_claim(struct outbox *o) {
    if (!may_claim(o)) return;
    struct claim *c = &o->claim;
    *c = (struct claim){
        .unit = {.run = o->leases ? claim_run_postgres : claim_run, .done = claim_done, .read_only = true},
        .o = o,
        .after = o->rewind >= 0 && o->rewind < o->cursor ? o->rewind : o->cursor,
        .now_ms = io_wall_ms(o->options.io),
        .limit = o->options.batch,
        .count_parked = o->count_parked};
    if (o->leases && !look_prepare(o, c)) die("no memory for the outbox");
    wake_prepare(o, c);
    c->rows_end = &c->rows;
    c->last_id = c->after;
    o->rewind = -1;
    o->woken = o->rewound = o->count_parked = false;
    o->claiming = true;
    enum err err = database_submit(o->options.database, &c->unit);
    if (!err) return;
    o->claiming = false;
    claim_clear(c);
    claim_failed(o, c, err);
}

static void claim_again(struct loop_timer *t) { outbox_claim(LIST_ITEM(t, struct outbox, claim_timer)); }

void outbox_look_at_all(struct outbox *o) {
    o->count_parked = true;
    outbox_rewind(o, 0);
    outbox_claim(o);
}

static void safety_check(struct loop_timer *t) {
    struct outbox *o = LIST_ITEM(t, struct outbox, safety_timer);
    outbox_look_at_all(o);
    loop_timer_start(o->options.loop, &o->safety_timer, o->options.safety_check_ms);
}

// ---- settling

// From now on claims leave it there. If writing it down took long it may be due already, unseen.
static void waits_in_table(struct outbox *o, const struct row *r) {
    look_due_in(o, r->wait_ms - TABLE_WAIT_MS);
    if (loop_now_ms(o->options.loop) - r->failed_ms > WRITTEN_MS) outbox_rewind(o, 0);
}

static void settled(struct outbox *o, struct settle *s) {
    crash_point("publish.deleted");
    struct list_node *n;
    while ((n = list_pop_front(&s->rows)) != NULL) {
        struct row *r = LIST_ITEM(n, struct row, in_settle);
        if (r->outcome == ROW_RETRY) {
            r->state = ROW_READY;
            if (o->leases) r->due_ms = loop_now_ms(o->options.loop) + (uint64_t)r->wait_ms + KNOWN_MS;
            if (r->bucket < 0 || lease_has(o, r->bucket)) {
                key_turn(r->key, false);
                continue;
            }
            key_leave(r);
        }
        if (r->outcome == ROW_PARK || r->outcome == ROW_BLOCK) o->stats.parked++;
        if (r->outcome == ROW_WAIT) waits_in_table(o, r);
        outbox_forget(o, r);
    }
    o->settle_failures = 0;
    uint32_t most = o->leases ? o->options.rows_max : SETTLE_MAX;
    o->settle_limit = o->settle_limit * 2 < most ? o->settle_limit * 2 : most;
}

// Tries again, row by row, so that one that cannot be settled does not keep the others; that one goes to the end.
static void settle_failed(struct outbox *o, struct settle *s, enum err err) {
    struct list_node *n;
    if (s->n == 1) to_settle(o, LIST_ITEM(list_pop_front(&s->rows), struct row, in_settle), false);
    while ((n = list_last(&s->rows)) != NULL) {
        list_remove(n);
        to_settle(o, LIST_ITEM(n, struct row, in_settle), true);
    }
    if (err == ERR_CLOSED) return;
    if (err != ERR_UNAVAILABLE && err != ERR_BUSY && err != ERR_TIMEOUT) o->settle_limit = 1; // one of them is to blame
    log_event(LOG_ERROR, "settle_failed", "error", s->unit.error.text, NULL);
    loop_timer_start(o->options.loop, &o->settle_timer,
                     backoff_delay(&away_backoff, o->options.io, o->settle_failures++, 10));
}

static void settle_done(struct db_unit *u, enum err err) {
    struct settle *s = (struct settle *)u;
    struct outbox *o = s->o;
    o->settling = false;
    if (outbox_ended(o) || o->closing) return;
    if (err) settle_failed(o, s, err);
    else settled(o, s);
    if (!list_empty(&o->to_settle)) settle_soon(o);
    outbox_pump(o);
    outbox_claim(o);
    outbox_check_drained(o);
}

static void settle(struct outbox *o) {
    if (o->settling || o->closing || list_empty(&o->to_settle) || loop_timer_active(&o->settle_timer)) return;
    struct settle *s = &o->settle;
    *s = (struct settle){
        .unit = {.run = o->leases ? settle_run_postgres : settle_run, .done = settle_done, .frees_space = true},
        .o = o,
        .at_ms = io_wall_ms(o->options.io)};
    list_init(&s->rows);
    struct list_node *n;
    while (s->n < o->settle_limit && (n = list_pop_front(&o->to_settle)) != NULL) {
        list_push_back(&s->rows, n);
        s->n++;
    }
    o->to_settle_n -= s->n;
    if (list_empty(&o->to_settle)) o->failed_to_settle = false;
    loop_timer_stop(o->options.loop, &o->gather_timer);
    crash_point("publish.confirmed");
    enum err err = database_submit(o->options.database, &s->unit);
    if (err) settle_failed(o, s, err);
    else o->settling = true;
}

static void settle_posted(struct loop_post *p) {
    struct outbox *o = LIST_ITEM(p, struct outbox, settle_post);
    if (!outbox_ended(o)) settle(o);
}

static void settle_again(struct loop_timer *t) { settle(LIST_ITEM(t, struct outbox, settle_timer)); }
static void gathered(struct loop_timer *t) { settle(LIST_ITEM(t, struct outbox, gather_timer)); }

// ---- notices

static const char *channel(const struct outbox *o) {
    return o->options.table.consumer ? "barid_inbox" : "barid_outbox";
}

// An empty notice tells of new rows. Anything else, that something older may have come back, or was missed.
static void noticed(void *arg, const char *payload) {
    struct outbox *o = arg;
    if (!payload || *payload) outbox_look_at_all(o);
    else outbox_wake(o);
}

static void tell_notices(struct outbox *o, enum database_notices now) {
    if (now == NOTICES_ARRIVE) log_event(LOG_INFO, "notices_arrive", "queue", o->queue, NULL);
    if (now == NOTICES_LOST)
        log_event(LOG_WARN, "notices_lost", "queue", o->queue, "msg",
                  "NOTIFY does not come through, probably a pooler: looking every second instead", NULL);
    if (now == NOTICES_AWAY)
        log_event(LOG_WARN, "notices_away", "queue", o->queue, "msg", "not listening yet: looking every second", NULL);
}

static void look_at_notices(struct loop_timer *t) {
    struct outbox *o = LIST_ITEM(t, struct outbox, notice_timer);
    enum database_notices now = database_notices(o->options.database);
    if (now != o->notices) tell_notices(o, now);
    o->notices = now;
    if (now == NOTICES_LOST || now == NOTICES_AWAY) outbox_wake(o);
    lease_hurry(o, now != NOTICES_ARRIVE);
    loop_timer_start(o->options.loop, t, NOTICES_MS);
}

static void begin_shared(struct outbox *o) {
    struct error e;
    look_init(o);
    leases_new(o);
    if (!o->options.table.consumer) wake_new(o);
    measure_new(o);
    o->notices = NOTICES_ARRIVE;
    o->notice_timer.fn = look_at_notices;
    loop_timer_start(o->options.loop, &o->notice_timer, NOTICES_MS);
    if (database_listen(o->options.database, channel(o), noticed, o, &e))
        log_event(LOG_WARN, "listen_failed", "error", e.text, NULL);
}

// ---- the beginning and the end

enum err outbox_new(struct outbox **out, const struct outbox_options *options, struct error *e) {
    ASSERT(options->loop && options->io && options->database && (options->bus || options->sink));
    bool shared = database_kind_of(options->database) == DATABASE_POSTGRES;
    if (!shared && (options->table.consumer || options->on_failure == ON_FAILURE_BLOCK))
        return error_set(e, ERR_UNSUPPORTED, "only PostgreSQL has a queue behind the inbox, and keys that are blocked");
    if (options->table.consumer && strlen(options->table.consumer) > CONSUMER_MAX)
        return error_set(e, ERR_INVALID, "the name of a consumer has at most %d bytes", CONSUMER_MAX);
    struct outbox *o = calloc(1, sizeof *o);
    if (!o) return error_set(e, ERR_NOMEM, "no memory for the outbox");
    o->options = *options;
    if (!o->options.max_attempts) o->options.max_attempts = 3;
    if (!o->options.rows_max) o->options.rows_max = ROWS_MAX;
    if (o->options.rows_max > ROWS_MAX_MOST) o->options.rows_max = ROWS_MAX_MOST;
    if (!o->options.batch) o->options.batch = BATCH;
    if (o->options.batch > o->options.rows_max) o->options.batch = o->options.rows_max;
    if (!o->options.safety_check_ms) o->options.safety_check_ms = 30000;
    map_init(&o->rows, io_random_u64(options->io));
    map_init(&o->keys, io_random_u64(options->io));
    map_init(&o->doubted, io_random_u64(options->io));
    list_init(&o->ready);
    list_init(&o->to_settle);
    if (options->sink) o->sink = *options->sink;
    else o->bus_sink = bus_sink_new(options->bus, &o->sink);
    if (!o->sink.key_window) o->sink.key_window = 1;
    o->settle_limit = SETTLE_MAX;
    o->rewind = -1;
    o->safety_timer.fn = safety_check;
    o->away_timer.fn = send_away_ended;
    o->settle_timer.fn = settle_again;
    o->gather_timer.fn = gathered;
    o->claim_timer.fn = claim_again;
    o->settle_post.fn = settle_posted;
    snprintf(o->name, sizeof o->name, "%s", options->name ? options->name : "barid");
    const char *consumer = options->table.consumer;
    snprintf(o->queue, sizeof o->queue, consumer ? "inbox:%s" : "outbox", consumer);
    if (options->settings && !(o->settings = strdup(options->settings))) die("no memory for the outbox");
    if (shared) begin_shared(o);
    outbox_look_at_all(o);
    loop_timer_start(options->loop, &o->safety_timer, o->options.safety_check_ms);
    *out = o;
    return ERR_OK;
}

static void end_shared(struct outbox *o) {
    loop_timer_stop(o->options.loop, &o->notice_timer);
    loop_timer_stop(o->options.loop, &o->look.due_timer);
    database_unlisten(o->options.database, channel(o), noticed, o);
    leases_free(o);
    wake_free(o);
    measure_free(o);
}

void outbox_free(struct outbox *o) {
    if (!o) return;
    // Nothing is in hand: others need not wait for the leases to end.
    if (o->leases && o->rows.len == 0 && !leases_busy(o)) lease_leave(o);
    o->closing = true;
    struct loop *loop = o->options.loop;
    loop_timer_stop(loop, &o->safety_timer);
    loop_timer_stop(loop, &o->away_timer);
    loop_timer_stop(loop, &o->settle_timer);
    loop_timer_stop(loop, &o->gather_timer);
    loop_timer_stop(loop, &o->claim_timer);
    if (o->leases) end_shared(o);
    size_t at = 0;
    struct key *k;
    while ((k = map_next(&o->keys, &at)) != NULL) loop_timer_stop(loop, &k->timer);
    at = 0;
    struct row *r;
    while ((r = map_next(&o->rows, &at)) != NULL)
        if (r->key) loop_timer_stop(loop, &r->key->timer);
    outbox_ended(o);
}

void outbox_check_drained(struct outbox *o) {
    if (!o->draining || o->claiming || o->settling || o->rows.len || o->closing) return;
    if (o->leases) lease_leave(o);
    else outbox_left(o);
}

void outbox_left(struct outbox *o) {
    void (*done)(void *arg) = o->drained;
    o->drained = NULL;
    if (done) done(o->drained_arg);
}

void outbox_drain(struct outbox *o, void (*done)(void *arg), void *arg) {
    ASSERT(!o->draining);
    o->draining = true;
    o->drained = done;
    o->drained_arg = arg;
    outbox_drop(o, ALL_BUCKETS);
    if (o->leases) lease_leave(o);
    outbox_check_drained(o);
}

void outbox_wake(struct outbox *o) {
    o->more = o->woken = true;
    outbox_claim(o);
}

bool outbox_idle(const struct outbox *o) {
    return !o->more && !o->claiming && !o->settling && !o->in_flight && o->rows.len == 0;
}

void outbox_stats(const struct outbox *o, struct outbox_stats *out) {
    *out = o->stats;
    out->bus_away = o->away || (o->sink.there && !o->sink.there(o->sink.sink));
    size_t at = 0;
    const struct row *r;
    while ((r = map_next(&o->rows, &at)) != NULL) {
        if (r->state == ROW_SETTLED) continue;
        out->waiting++;
        if (!out->oldest_at_ms || r->stored_at_ms < out->oldest_at_ms) out->oldest_at_ms = r->stored_at_ms;
    }
    out->stored = out->published + out->waiting;
    out->notices = o->leases ? o->notices : NOTICES_NONE;
    lease_stats(o, out);
    measure_stats(o, out);
}
