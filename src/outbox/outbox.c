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
#define BATCH          512

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
    bus_sink_free(o->bus_sink);
    free(o);
}

bool outbox_ended(struct outbox *o) {
    if (!o->closing || o->claiming || o->settling || o->pumping || o->in_flight || o->settle_post.posted) return false;
    destroy(o);
    return true;
}

void outbox_forget(struct outbox *o, struct row *r) {
    o->bytes -= r->payload_length;
    r->state = ROW_SETTLED;
    if (o->claiming) { // the claim may have seen it: it must be recognised
        r->next_claimed = o->buried;
        o->buried = r;
        return;
    }
    map_remove(&o->rows, &r->id, sizeof r->id);
    row_free(r);
}

static void forget_buried(struct outbox *o) {
    while (o->buried) {
        struct row *r = o->buried;
        o->buried = r->next_claimed;
        map_remove(&o->rows, &r->id, sizeof r->id);
        row_free(r);
    }
}

// ---- what became of a row

static void settle_soon(struct outbox *o) {
    if (!o->settle_post.posted && !o->settling) loop_post(o->options.loop, &o->settle_post);
}

void outbox_outcome(struct row *r, enum row_outcome how) {
    struct outbox *o = r->o;
    r->outcome = how;
    r->state = how == ROW_RETRY ? ROW_FAILED : ROW_SETTLED;
    list_push_back(&o->to_settle, &r->in_settle);
    if (how != ROW_RETRY) key_leave(r);
    settle_soon(o);
}

// ---- claiming

void outbox_rewind(struct outbox *o, int64_t to) {
    if (o->rewind < 0 || to < o->rewind) o->rewind = to;
    o->more = true;
}

static void keep(struct outbox *o, struct row *r) {
    if (map_get(&o->rows, &r->id, sizeof r->id)) {
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
    key_add(k, r);
    if (r->wait_ms > 0) key_hold(k, (uint64_t)(r->wait_ms < WAIT_MAX_MS ? r->wait_ms : WAIT_MAX_MS));
    else key_turn(k, false);
}

static void claimed(struct outbox *o, struct claim *c) {
    bool some = c->rows != NULL;
    while (c->rows) {
        struct row *r = c->rows;
        c->rows = r->next_claimed;
        r->next_claimed = NULL;
        keep(o, r);
    }
    o->cursor = c->last_id;
    o->more = c->more || o->woken || o->rewind >= 0;
    if (c->count_parked) o->stats.parked = c->parked;
    if (some) crash_point("publish.claimed");
}

static void claim_failed(struct outbox *o, struct claim *c, enum err err) {
    outbox_rewind(o, c->after);
    if (err == ERR_CLOSED) return;
    log_event(LOG_WARN, "claim_failed", "error", c->unit.error.text, NULL);
    loop_timer_start(o->options.loop, &o->claim_timer, CLAIM_AGAIN_MS);
}

static void drop_claimed(struct claim *c) {
    while (c->rows) {
        struct row *r = c->rows;
        c->rows = r->next_claimed;
        row_free(r);
    }
}

static void claim_done(struct db_unit *u, enum err err) {
    struct claim *c = (struct claim *)u;
    struct outbox *o = c->o;
    if (o->closing || err) drop_claimed(c);
    if (!err && !o->closing) claimed(o, c);
    o->claiming = false;
    forget_buried(o);
    if (outbox_ended(o) || o->closing) return;
    if (err) claim_failed(o, c, err);
    outbox_pump(o);
    outbox_claim(o);
}

void outbox_claim(struct outbox *o) {
    if (o->claiming || o->closing || !o->more || loop_timer_active(&o->claim_timer)) return;
    if (o->rows.len + o->options.batch > o->options.rows_max || o->bytes > ROWS_BYTES_MAX) return;
    struct claim *c = &o->claim;
    *c = (struct claim){.unit = {.run = claim_run, .done = claim_done, .read_only = true},
                        .o = o,
                        .after = o->rewind >= 0 && o->rewind < o->cursor ? o->rewind : o->cursor,
                        .now_ms = io_wall_ms(o->options.io),
                        .limit = o->options.batch,
                        .count_parked = o->count_parked};
    c->rows_end = &c->rows;
    c->last_id = c->after;
    o->rewind = -1;
    o->woken = o->count_parked = false;
    enum err err = database_submit(o->options.database, &c->unit);
    if (err) claim_failed(o, c, err);
    else o->claiming = true;
}

static void claim_again(struct loop_timer *t) { outbox_claim(LIST_ITEM(t, struct outbox, claim_timer)); }

static void look_at_all(struct outbox *o) {
    o->count_parked = true;
    outbox_rewind(o, 0);
    outbox_claim(o);
}

static void safety_check(struct loop_timer *t) {
    struct outbox *o = LIST_ITEM(t, struct outbox, safety_timer);
    look_at_all(o);
    loop_timer_start(o->options.loop, &o->safety_timer, o->options.safety_check_ms);
}

// ---- settling

static void settled(struct outbox *o, struct settle *s) {
    crash_point("publish.deleted");
    struct list_node *n;
    while ((n = list_pop_front(&s->rows)) != NULL) {
        struct row *r = LIST_ITEM(n, struct row, in_settle);
        if (r->outcome == ROW_RETRY) {
            r->state = ROW_READY;
            key_turn(r->key, false);
            continue;
        }
        if (r->outcome == ROW_PARK) o->stats.parked++;
        outbox_forget(o, r);
    }
    o->settle_failures = 0;
    o->settle_limit = o->settle_limit * 2 < SETTLE_MAX ? o->settle_limit * 2 : SETTLE_MAX;
}

// Tries again, row by row, so that one that cannot be settled does not keep the others; that one goes to the end.
static void settle_failed(struct outbox *o, struct settle *s, enum err err) {
    struct list_node *n;
    if (s->n == 1) {
        list_push_back(&o->to_settle, list_pop_front(&s->rows));
    } else {
        while ((n = list_last(&s->rows)) != NULL) {
            list_remove(n);
            list_push_front(&o->to_settle, n);
        }
    }
    o->settle_limit = 1;
    if (err == ERR_CLOSED) return;
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
    settle(o);
    outbox_pump(o);
    outbox_claim(o);
}

static void settle(struct outbox *o) {
    if (o->settling || o->closing || list_empty(&o->to_settle) || loop_timer_active(&o->settle_timer)) return;
    struct settle *s = &o->settle;
    *s = (struct settle){.unit = {.run = settle_run, .done = settle_done, .frees_space = true},
                         .o = o,
                         .at_ms = io_wall_ms(o->options.io)};
    list_init(&s->rows);
    struct list_node *n;
    while (s->n < o->settle_limit && (n = list_pop_front(&o->to_settle)) != NULL) {
        list_push_back(&s->rows, n);
        s->n++;
    }
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

// ---- the outside

enum err outbox_new(struct outbox **out, const struct outbox_options *options, struct error *e) {
    ASSERT(options->loop && options->io && options->database && (options->bus || options->sink));
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
    o->claim_timer.fn = claim_again;
    o->settle_post.fn = settle_posted;
    look_at_all(o);
    loop_timer_start(options->loop, &o->safety_timer, o->options.safety_check_ms);
    *out = o;
    return ERR_OK;
}

void outbox_free(struct outbox *o) {
    if (!o) return;
    o->closing = true;
    struct loop *loop = o->options.loop;
    loop_timer_stop(loop, &o->safety_timer);
    loop_timer_stop(loop, &o->away_timer);
    loop_timer_stop(loop, &o->settle_timer);
    loop_timer_stop(loop, &o->claim_timer);
    size_t at = 0;
    struct key *k;
    while ((k = map_next(&o->keys, &at)) != NULL) loop_timer_stop(loop, &k->timer);
    at = 0;
    struct row *r;
    while ((r = map_next(&o->rows, &at)) != NULL)
        if (r->key) loop_timer_stop(loop, &r->key->timer);
    outbox_ended(o);
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
    out->bus_away = o->away;
    size_t at = 0;
    const struct row *r;
    while ((r = map_next(&o->rows, &at)) != NULL) {
        if (r->state == ROW_SETTLED) continue;
        out->waiting++;
        if (!out->oldest_at_ms || r->stored_at_ms < out->oldest_at_ms) out->oldest_at_ms = r->stored_at_ms;
    }
    out->stored = out->published + out->waiting;
}
