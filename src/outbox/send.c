// From memory to the sink, and what it answers: taken, refused, or not there at all.
#include "outbox/internal.h"

#include "base/assert.h"
#include "base/backoff.h"
#include "base/io.h"
#include "base/log.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct backoff attempts_backoff = BACKOFF_DEFAULT;

// "bus_away"
static void tell(const struct outbox *o, enum log_level level, const char *what, const char *why) {
    char event[64];
    snprintf(event, sizeof event, "%s_%s", o->sink.name ? o->sink.name : "bus", what);
    if (why) log_event(level, event, "error", why, NULL);
    else log_event(level, event, NULL);
}

// ---- it is not there

// For others to see in the database, which takes nothing but text.
static void keep_away(struct outbox *o, const char *why) {
    size_t n = utf8_whole(why, strnlen(why, ERROR_TEXT_MAX - 1));
    if (!utf8_valid(why, n)) why = "the reason is not text", n = strlen(why);
    snprintf(o->away_why, sizeof o->away_why, "%.*s", (int)n, why);
}

static void away(struct outbox *o, const char *why) {
    if (!o->away && o->in_flight == 0) { // otherwise it is only slow
        o->away = true;
        keep_away(o, why);
        lease_tell(o);
        tell(o, LOG_WARN, "away", why);
    }
    if (o->away_waiting) return;
    o->away_waiting = true;
    loop_timer_start(o->options.loop, &o->away_timer,
                     backoff_delay(&away_backoff, o->options.io, o->away_attempts++, 0));
}

static void there(struct outbox *o) {
    bool back = o->away;
    o->away = o->away_waiting = false;
    if (back) tell(o, LOG_INFO, "back", NULL);
    if (back) lease_tell(o);
    o->away_attempts = 0;
    loop_timer_stop(o->options.loop, &o->away_timer);
}

void send_away_ended(struct loop_timer *t) {
    struct outbox *o = LIST_ITEM(t, struct outbox, away_timer);
    o->away_waiting = false;
    outbox_pump(o);
}

// ---- it does not want the event

static void keep_error(struct row *r, const char *why) {
    size_t n = utf8_whole(why, strnlen(why, ERROR_TEXT_MAX - 1));
    char *text = realloc(r->error, n + 1);
    if (!text) die("no memory for the outbox");
    memcpy(text, why, n);
    text[n] = 0;
    r->error = text;
}

static void refused(struct row *r, const char *why, bool for_ever) {
    struct outbox *o = r->o;
    o->stats.failed++;
    keep_error(r, why);
    r->key->stalled = true;
    if (++r->attempts >= o->options.max_attempts || for_ever) {
        bool block = o->options.on_failure == ON_FAILURE_BLOCK && !r->key->loose;
        char id[ID_TEXT];
        id_format(&r->event_id, id);
        log_event(LOG_WARN, block ? "event_blocks_its_key" : "event_parked", "event_id", id, "topic", r->topic, "key",
                  r->key_text ? r->key_text : "", "consumer",
                  o->options.table.consumer ? o->options.table.consumer : "", "place", r->place ? r->place : "",
                  "error", r->error, NULL);
        outbox_outcome(r, block ? ROW_BLOCK : ROW_PARK);
        return;
    }
    uint32_t floor_ms = o->sink.retry_floor_ms ? o->sink.retry_floor_ms(o->sink.sink) : 0;
    uint32_t delay = backoff_delay(&attempts_backoff, o->options.io, r->attempts - 1, floor_ms);
    r->wait_ms = delay;
    if (o->leases && delay >= TABLE_WAIT_MS) {
        r->failed_ms = loop_now_ms(o->options.loop);
        outbox_outcome(r, ROW_WAIT);
        return;
    }
    struct key *k = r->key;
    outbox_outcome(r, ROW_RETRY);
    key_hold(k, delay);
}

// ---- the road

static void gone(struct row *r) {
    struct outbox *o = r->o;
    r->state = ROW_SETTLED;
    key_leave(r);
    outbox_forget(o, r);
}

// To be sent again; unless it is somebody else's by now, or has to wait in the table behind one that blocks its key.
static void come_back(struct row *r) {
    struct outbox *o = r->o;
    if (r->key->blocked) key_skip(r->key, r->id);
    if (r->key->blocked || o->draining || !lease_has(o, r->bucket)) {
        gone(r);
        return;
    }
    r->state = ROW_READY;
    key_turn(r->key, true);
}

static void answer(struct row *r, enum outbox_taken how, const char *why) {
    struct outbox *o = r->o;
    switch (how) {
    case TAKEN:
    case TAKEN_SETTLED:
        there(o);
        o->stats.published++;
        if (how == TAKEN) outbox_outcome(r, ROW_PUBLISHED);
        else gone(r);
        return;
    case TAKEN_AWAY:
        away(o, why);
        come_back(r);
        return;
    case TAKEN_BACK: come_back(r); return;
    case TAKEN_REFUSED:
    case TAKEN_NEVER:
        if (lease_has(o, r->bucket)) refused(r, why, how == TAKEN_NEVER);
        else gone(r); // whoever has it now finds out by itself
        return;
    }
}

static void answered(void *arg, enum outbox_taken how, const char *why) {
    struct row *r = arg;
    struct outbox *o = r->o;
    ASSERT(r->state == ROW_IN_FLIGHT);
    o->in_flight--;
    r->key->in_flight--;
    if (outbox_ended(o) || o->closing) return;
    answer(r, how, why);
    outbox_pump(o);
    outbox_claim(o);
    outbox_check_drained(o);
}

static void send(struct outbox *o, struct row *r) {
    struct outbox_item item = {.id = r->id,
                               .bucket = r->bucket,
                               .event = {.event_id = r->event_id,
                                         .topic = r->topic,
                                         .key = r->key_text,
                                         .payload = r->payload,
                                         .payload_length = r->payload_length,
                                         .headers = r->headers,
                                         .header_count = r->header_count,
                                         .at_ms = r->claimed_at_ms},
                               .attempt = r->attempts + 1,
                               .stored_at_ms = r->stored_at_ms,
                               .published_at_ms = r->published_at_ms,
                               .place = r->place};
    r->state = ROW_IN_FLIGHT;
    r->key->in_flight++;
    o->in_flight++;
    o->sink.take(o->sink.sink, &item, answered, r);
}

void outbox_pump(struct outbox *o) {
    if (o->pumping || o->closing) return;
    o->pumping = true;
    while (!o->away_waiting && !list_empty(&o->ready) && (!o->sink.at_once || o->in_flight < o->sink.at_once)) {
        struct key *k = LIST_ITEM(list_pop_front(&o->ready), struct key, in_ready);
        struct row *r = key_next(k);
        if (!r || !lease_has(o, r->bucket)) continue; // lost: its rows are forgotten in a moment
        struct row *follower = NULL;
        if (k->in_flight + 1 < o->sink.key_window && r->in_key.next != &k->rows.head)
            follower = LIST_ITEM(r->in_key.next, struct row, in_key);
        if (follower && follower->state == ROW_READY) list_push_back(&o->ready, &k->in_ready);
        send(o, r);
    }
    o->pumping = false;
}
