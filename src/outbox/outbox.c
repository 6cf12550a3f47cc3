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

#define EMBEDDED_KEY_WINDOW 64
#define NEXT_AT_MAX_MS      60000 // a clock that was set back must not hold a key for long
#define CLAIM_AGAIN_MS      1000

static const struct backoff attempts_backoff = BACKOFF_DEFAULT;
// Asking whether the bus is back, or the database has room, is one call: no need to be long away ourselves.
static const struct backoff away_backoff = {.base_ms = 500, .cap_ms = 5000, .multiplier = 2.0};

static void settle(struct outbox *o);

static void destroy(struct outbox *o) {
    size_t at = 0;
    struct row *r;
    struct key *k;
    while ((r = map_next(&o->rows, &at)) != NULL) row_free(r);
    at = 0;
    while ((k = map_next(&o->keys, &at)) != NULL) free(k);
    map_release(&o->rows);
    map_release(&o->keys);
    free(o);
}

// Closing, and nothing is under way any more: it is freed.
static bool ended(struct outbox *o) {
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

static void outcome(struct row *r, enum row_outcome how) {
    struct outbox *o = r->o;
    r->outcome = how;
    r->state = how == ROW_RETRY ? ROW_FAILED : ROW_SETTLED;
    list_push_back(&o->to_settle, &r->in_settle);
    if (how != ROW_RETRY) key_leave(r);
    settle_soon(o);
}

static void refused(struct row *r, const char *why) {
    struct outbox *o = r->o;
    o->stats.failed++;
    snprintf(r->error, sizeof r->error, "%s", why);
    if (++r->attempts >= o->options.max_attempts) {
        log_event(LOG_WARN, "event_parked", "topic", r->topic, "key", r->key_text, "error", r->error, NULL);
        outcome(r, ROW_PARK);
        return;
    }
    uint32_t delay = backoff_delay(&attempts_backoff, o->options.io, r->attempts - 1, 0);
    r->next_at_ms = io_wall_ms(o->options.io) + delay;
    struct key *k = r->key;
    outcome(r, ROW_RETRY);
    key_hold(k, delay);
}

// ---- the bus

static bool means_away(enum err err) {
    return err == ERR_UNAVAILABLE || err == ERR_FULL || err == ERR_BUSY || err == ERR_CLOSED;
}

static void bus_away(struct outbox *o, enum err err) {
    if (!o->away && o->in_flight == 0) { // otherwise it is only slow
        o->away = true;
        log_event(LOG_WARN, "bus_away", "error", err_name(err), NULL);
    }
    if (o->away_waiting) return;
    o->away_waiting = true;
    loop_timer_start(o->options.loop, &o->away_timer,
                     backoff_delay(&away_backoff, o->options.io, o->away_attempts++, 0));
}

static void bus_there(struct outbox *o) {
    if (o->away) log_event(LOG_INFO, "bus_back", NULL);
    o->away = o->away_waiting = false;
    o->away_attempts = 0;
    loop_timer_stop(o->options.loop, &o->away_timer);
}

static void again_after_away(struct row *r, enum err err) {
    struct outbox *o = r->o;
    r->state = ROW_READY;
    bus_away(o, err);
    key_turn(r->key, true);
}

static void bus_answered(void *arg, enum err err, const char *why) {
    struct row *r = arg;
    struct outbox *o = r->o;
    ASSERT(r->state == ROW_IN_FLIGHT);
    o->in_flight--;
    r->key->in_flight--;
    if (ended(o) || o->closing) return;
    if (err == ERR_OK) {
        bus_there(o);
        o->stats.published++;
        outcome(r, ROW_PUBLISHED);
    } else if (means_away(err)) {
        again_after_away(r, err);
    } else {
        refused(r, why);
    }
    outbox_pump(o);
}

// False: the bus takes nothing now.
static bool publish(struct outbox *o, struct row *r) {
    struct bus_event event = {.event_id = r->event_id,
                              .topic = r->topic,
                              .key = r->key_text,
                              .payload = r->payload,
                              .payload_length = r->payload_length};
    struct error e = {0};
    struct key *k = r->key;
    r->state = ROW_IN_FLIGHT;
    k->in_flight++;
    o->in_flight++;
    enum err err = bus_publish(o->options.bus, &event, bus_answered, r, &e);
    if (err == ERR_OK) return true; // and may have been answered already
    k->in_flight--;
    o->in_flight--;
    if (means_away(err)) {
        again_after_away(r, err);
        return false;
    }
    refused(r, e.text[0] ? e.text : err_text(err));
    return true;
}

void outbox_pump(struct outbox *o) {
    if (o->pumping || o->closing) return;
    o->pumping = true;
    while (!o->away_waiting && !list_empty(&o->ready)) {
        struct key *k = LIST_ITEM(list_pop_front(&o->ready), struct key, in_ready);
        struct row *r = key_next(k);
        if (!r) continue;
        struct row *follower = NULL;
        if (k->in_flight + 1 < o->options.key_window && r->in_key.next != &k->rows.head)
            follower = LIST_ITEM(r->in_key.next, struct row, in_key);
        if (follower && follower->state == ROW_READY) list_push_back(&o->ready, &k->in_ready);
        if (!publish(o, r)) break;
    }
    o->pumping = false;
}

static void away_ended(struct loop_timer *t) {
    struct outbox *o = LIST_ITEM(t, struct outbox, away_timer);
    o->away_waiting = false;
    outbox_pump(o);
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
    int64_t wait = r->next_at_ms - io_wall_ms(o->options.io);
    if (wait > 0) key_hold(k, (uint64_t)(wait < NEXT_AT_MAX_MS ? wait : NEXT_AT_MAX_MS));
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
    if (ended(o) || o->closing) return;
    if (err) claim_failed(o, c, err);
    outbox_pump(o);
    outbox_claim(o);
}

void outbox_claim(struct outbox *o) {
    if (o->claiming || o->closing || !o->more || loop_timer_active(&o->claim_timer)) return;
    if (o->rows.len + o->options.batch > ROWS_MAX || o->bytes > ROWS_BYTES_MAX) return;
    struct claim *c = &o->claim;
    *c = (struct claim){.unit = {.run = claim_run, .done = claim_done, .read_only = true},
                        .o = o,
                        .after = o->rewind >= 0 && o->rewind < o->cursor ? o->rewind : o->cursor,
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
    if (ended(o) || o->closing) return;
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
    if (!ended(o)) settle(o);
}

static void settle_again(struct loop_timer *t) { settle(LIST_ITEM(t, struct outbox, settle_timer)); }

// ---- the outside

enum err outbox_new(struct outbox **out, const struct outbox_options *options, struct error *e) {
    ASSERT(options->loop && options->io && options->database && options->bus);
    struct outbox *o = calloc(1, sizeof *o);
    if (!o) return error_set(e, ERR_NOMEM, "no memory for the outbox");
    o->options = *options;
    if (!o->options.max_attempts) o->options.max_attempts = 3;
    if (!o->options.batch || o->options.batch > ROWS_MAX) o->options.batch = 512;
    if (!o->options.safety_check_ms) o->options.safety_check_ms = 30000;
    if (!o->options.key_window) o->options.key_window = bus_engine(options->bus) ? EMBEDDED_KEY_WINDOW : 1;
    map_init(&o->rows, io_random_u64(options->io));
    map_init(&o->keys, io_random_u64(options->io));
    list_init(&o->ready);
    list_init(&o->to_settle);
    o->settle_limit = SETTLE_MAX;
    o->rewind = -1;
    o->safety_timer.fn = safety_check;
    o->away_timer.fn = away_ended;
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
    ended(o);
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
