#include "inbox/intake.h"

#include "base/assert.h"
#include "base/backoff.h"
#include "base/crash.h"
#include "base/io.h"
#include "base/log.h"
#include "inbox/intake_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFETCH 4096

static const struct backoff away_backoff = {.base_ms = 200, .cap_ms = 5000, .multiplier = 2.0};

static void forget(struct intake *i, struct taken *t) {
    list_remove(&t->node);
    i->waiting_n--;
    i->waiting_bytes -= t->bytes;
    free(t);
}

void intake_collect(struct intake *i, struct taken *t) {
    list_push_back(&i->waiting, &t->node);
    i->waiting_n++;
    i->waiting_bytes += t->bytes;
}

static bool is_from(const struct taken *t, const struct bus_place *place) {
    return t->partition == place->partition && t->partition >= 0 && strcmp(t->place_topic, place->topic) == 0;
}

// It comes again, to whoever has the partition now. With us it could carry the stored offset past an event that was
// being parked.
void intake_give_up(struct intake *i, const struct bus_place *place) {
    LIST_EACH_SAFE(&i->waiting, at) {
        struct taken *t = LIST_ITEM(at, struct taken, node);
        if (is_from(t, place)) forget(i, t);
    }
    for (size_t k = 0; i->storing && k < i->store.n; k++)
        if (is_from(i->store.events[k], place)) i->store.events[k]->revoked = true;
}

static void place_text(const struct bus_place *p, char *out, size_t size) {
    if (p->topic && p->partition >= 0)
        snprintf(out, size, "%s/%d@%lld", p->topic, (int)p->partition, (long long)p->offset);
    else snprintf(out, size, "-");
}

// ---- the end

static void tell_ended(struct loop_post *p) {
    struct intake *i = LIST_ITEM(p, struct intake, ended_post);
    i->ended(i->ended_arg);
}

// Draining, and nothing is under way: the bus gets back what was not stored.
static void end_if_drained(struct intake *i) {
    if (!i->draining || i->storing || !i->subscription) return;
    bus_unsubscribe(i->subscription);
    i->subscription = NULL;
    loop_timer_stop(i->options.loop, &i->again);
    i->ended_post.fn = tell_ended;
    loop_post(i->options.loop, &i->ended_post);
}

// ---- a batch is stored, or not

static void stored(struct intake *i) {
    struct store *s = &i->store;
    crash_point("receive.stored"); // committed, and the bus does not know
    if (i->away) log_event(LOG_INFO, "database_back", "consumer", i->options.consumer, NULL);
    i->away = false;
    i->failures = 0;
    i->limit = i->limit * 2 < BATCH_MAX ? i->limit * 2 : BATCH_MAX;
    i->stats.received += s->fresh;
    i->stats.duplicates += s->events_n - s->fresh;
    for (size_t k = 0; k < s->n; k++) {
        struct taken *t = s->events[k];
        if (t->mark) intake_mark_stored(i, t);
        else bus_settle(i->subscription, t->tag, BUS_ACK, NULL);
        forget(i, t);
    }
    if (s->fresh && i->options.stored) i->options.stored(i->options.arg);
}

// About this one event, not about the database.
static bool blames_the_event(enum err err) { return err == ERR_INVALID || err == ERR_TOO_LARGE; }

static void park(struct intake *i, struct taken *t, const char *why) {
    i->stats.unstorable++;
    log_event(LOG_WARN, "event_unstorable", "consumer", i->options.consumer, "event_id", t->event_id_text, "place",
              t->place ? t->place : "-", "error", why, NULL);
    struct bus_place place = {.topic = t->place_topic, .partition = t->partition, .offset = t->offset};
    intake_parking(i, &place);
    bus_settle(i->subscription, t->tag, BUS_PARK, why);
    forget(i, t);
}

static void put_back(struct intake *i) {
    struct store *s = &i->store;
    while (s->n > 0) {
        struct taken *t = s->events[--s->n];
        list_push_front(&i->waiting, &t->node);
        if (t->revoked) forget(i, t);
    }
}

static void not_stored(struct intake *i, enum err err) {
    struct store *s = &i->store;
    const char *why = s->unit.error.text[0] ? s->unit.error.text : err_text(err);
    bool blamed = blames_the_event(err) && s->events_n > 0;
    if (blamed && s->n == 1 && !s->events[0]->revoked) {
        park(i, s->events[0], why);
        return;
    }
    put_back(i);
    if (blamed) {
        i->limit = 1;
        return;
    }
    if (!i->away && err != ERR_CLOSED)
        log_event(LOG_WARN, "database_away", "consumer", i->options.consumer, "error", why, NULL);
    i->away = true;
    loop_timer_start(i->options.loop, &i->again, backoff_delay(&away_backoff, i->options.io, i->failures++, 50));
}

static void store_some(struct intake *i);

static void store_done(struct db_unit *u, enum err err) {
    struct intake *i = ((struct store *)u)->i;
    i->storing = false;
    if (!i->subscription) return;
    if (err == ERR_OK) stored(i);
    else not_stored(i, err);
    end_if_drained(i);
    store_some(i);
}

// Within a batch the same event may come twice: what the inbox says of the second is known already.
static void mark_repeated(struct intake *i, struct store *s) {
    struct map seen;
    map_init(&seen, io_random_u64(i->options.io));
    for (size_t k = 0; k < s->n; k++) {
        struct taken *t = s->events[k];
        if (t->mark) continue;
        t->again = map_get(&seen, t->event_id.b, sizeof t->event_id.b) != NULL;
        if (!t->again && !map_put(&seen, t->event_id.b, sizeof t->event_id.b, t)) die("no memory for a batch");
    }
    map_release(&seen);
}

static void store_some(struct intake *i) {
    if (i->storing || i->draining || list_empty(&i->waiting) || loop_timer_active(&i->again)) return;
    struct store *s = &i->store;
    s->unit = (struct db_unit){.run = intake_store_run, .done = store_done, .lane = INTAKE_LANE};
    s->i = i;
    s->n = s->events_n = 0;
    size_t bytes = 0;
    struct list_node *n;
    while (s->n < i->limit && (n = list_first(&i->waiting)) != NULL) {
        struct taken *t = LIST_ITEM(n, struct taken, node);
        if (s->n > 0 && bytes + t->bytes > BATCH_BYTES) break;
        list_remove(n);
        bytes += t->bytes;
        t->hold = intake_hold_of(i, t);
        s->events_n += !t->mark;
        s->events[s->n++] = t;
    }
    mark_repeated(i, s);
    crash_point("receive.taken"); // with us, and not stored
    enum err err = database_submit(i->options.database, &s->unit);
    if (err == ERR_OK) i->storing = true;
    else not_stored(i, err);
}

static void store_again(struct loop_timer *t) { store_some(LIST_ITEM(t, struct intake, again)); }
static void before_block(struct loop_idle *idle) { store_some(LIST_ITEM(idle, struct intake, idle)); }

// ---- from the bus

static void refuse(struct intake *i, const struct bus_delivery *d, const char *why) {
    char id[ID_TEXT], place[300];
    id_format(&d->event.event_id, id);
    place_text(&d->place, place, sizeof place);
    i->stats.unstorable++;
    log_event(LOG_WARN, "event_unstorable", "consumer", i->options.consumer, "event_id", id, "place", place, "error",
              why, NULL);
    intake_parking(i, &d->place);
    bus_settle(i->subscription, d->tag, BUS_PARK, why);
}

static void tell_reset(struct intake *i, const struct bus_place *place) {
    char text[300];
    place_text(place, text, sizeof text);
    i->stats.resets++;
    log_event(LOG_WARN, "offset_reset", "consumer", i->options.consumer, "place", text, "error",
              "the topic begins again below the stored offset", NULL);
}

static void deliver(void *arg, const struct bus_delivery *d) {
    struct intake *i = arg;
    struct error e = {0};
    struct taken *t = taken_of(d, &e);
    if (!t) {
        refuse(i, d, e.text);
        return;
    }
    t->reset = intake_came(i, &d->place);
    if (t->reset) tell_reset(i, &d->place);
    intake_collect(i, t);
}

// ---- the outside

enum err intake_new(struct intake **out, const struct intake_options *o, struct error *e) {
    ASSERT(o->loop && o->io && o->database && o->bus && o->consumer && o->pattern);
    struct intake *i = calloc(1, sizeof *i);
    if (!i) return error_set(e, ERR_NOMEM, "no memory for the intake");
    i->options = *o;
    if (!i->options.prefetch) i->options.prefetch = PREFETCH;
    i->limit = BATCH_MAX;
    i->again.fn = store_again;
    i->idle.fn = before_block;
    list_init(&i->waiting);
    list_init(&i->asked);
    map_init(&i->partitions, io_random_u64(o->io));
    struct bus_subscribe_options s = {.group = o->consumer,
                                      .pattern = o->pattern,
                                      .prefetch = i->options.prefetch,
                                      .unordered = true,
                                      .assigned = intake_assigned,
                                      .revoked = intake_revoked,
                                      .parked = intake_parked};
    enum err err = bus_subscribe(o->bus, &s, deliver, i, &i->subscription, e);
    if (err != ERR_OK) {
        map_release(&i->partitions);
        free(i);
        return err;
    }
    loop_before_block(o->loop, &i->idle);
    *out = i;
    return ERR_OK;
}

void intake_drain(struct intake *i, void (*ended)(void *arg), void *arg) {
    i->draining = true;
    i->ended = ended;
    i->ended_arg = arg;
    end_if_drained(i);
}

void intake_free(struct intake *i) {
    if (!i) return;
    ASSERT(!i->storing);
    loop_before_block_end(i->options.loop, &i->idle);
    loop_timer_stop(i->options.loop, &i->again);
    if (i->subscription) bus_unsubscribe(i->subscription);
    intake_places_free(i);
    struct list_node *n;
    while ((n = list_first(&i->waiting)) != NULL) forget(i, LIST_ITEM(n, struct taken, node));
    free(i);
}

void intake_stats(const struct intake *i, struct intake_stats *out) {
    *out = i->stats;
    out->waiting = i->waiting_n;
    out->bytes = i->waiting_bytes;
    out->away = i->away;
}
