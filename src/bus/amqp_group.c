// Groups on the loop: the order of keys, who gets what, retries, parking.
//
// Of one key, one event at a time is with the group's handlers (turns.h); a retry keeps its turn while it waits. What
// is held, bytes and all, is bounded by the consumer's window: four times the prefetch of the group's first member.
//
// When the connection is lost, all that was delivered and not acknowledged comes again. What waits here is dropped;
// what is in a handler's hands keeps its key's turn until it is settled, which then means nothing to the broker.
#include "bus/amqp_group.h"
#include "bus/amqp_pattern.h"

#include "base/assert.h"
#include "base/backoff.h"
#include "base/io.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFETCH_DEFAULT 256
#define WINDOW_FACTOR    4
#define ATTEMPTS_DEFAULT 3
#define PARK_AGAIN_MS    1000
#define REASON_MAX       1000

struct amqp_member {
    struct bus_subscription subscription;
    struct list_node node;
    struct amqp_group *group; // NULL: it has left
    bus_deliver_fn *deliver;
    void *arg;
    uint32_t prefetch, in_hand;
};

// ---- items

static void make_ready(struct amqp_item *v) {
    v->state = AMQP_READY;
    list_push_back(&v->group->ready, &v->node);
}

// It leaves, and its key goes on without it. The item is the caller's then.
static void leave(struct amqp_item *v) {
    struct amqp_group *g = v->group;
    loop_timer_stop(g->bus->loop, &v->timer);
    list_remove(&v->node);
    map_remove(&g->items, &v->tag, sizeof v->tag);
    struct turn *next = turns_leave(&g->turns, &v->turn);
    if (next) make_ready(LIST_ITEM(next, struct amqp_item, turn));
}

static void acknowledge(struct amqp_item *v) {
    struct amqp_group *g = v->group;
    leave(v);
    amqp_link_lock(g->link);
    bool first = !g->settled.first;
    amqp_items_add(&g->settled, v);
    amqp_link_unlock(g->link);
    if (first) amqp_link_wake(g->link);
}

static void park(struct amqp_item *v);

static void on_timer(struct loop_timer *t) {
    struct amqp_item *v = LIST_ITEM(t, struct amqp_item, timer);
    if (v->to_park) park(v);
    else make_ready(v);
}

static void arrive(struct amqp_group *g, struct amqp_item *v) {
    v->group = g;
    v->tag = ++g->next_tag;
    v->attempt = 1;
    v->timer.fn = on_timer;
    // Without a message id nothing tells a redelivery from another message: an id that is new each time loses nothing.
    if (!v->event->has_id) v->event->event.event_id = id_new(g->bus->io);
    if (!map_put(&g->items, &v->tag, sizeof v->tag, v)) die("out of memory");
    v->state = AMQP_WAITS;
    if (turns_add(&g->turns, &v->turn, g->ordered ? v->event->event.key : NULL)) make_ready(v);
}

// ---- parking

static struct amqp_event *parked_event(const struct amqp_item *v) {
    const struct amqp_group *g = v->group;
    char attempts[16];
    snprintf(attempts, sizeof attempts, "%u", v->attempt);
    struct bus_header why[] = {
        {"x-barid-reason", v->reason ? v->reason : ""}, {"x-barid-attempts", attempts}, {"x-barid-queue", g->queue}};
    struct amqp_event *copy = amqp_event_new(&v->event->event, why, sizeof why / sizeof *why);
    if (copy && !(copy->route = strdup(g->parked))) {
        amqp_event_free(copy);
        return NULL;
    }
    if (copy) copy->at_ms = v->event->at_ms;
    return copy;
}

static void park_later(struct amqp_item *v) {
    v->to_park = true;
    v->state = AMQP_RETRYING;
    loop_timer_start(v->group->bus->loop, &v->timer, PARK_AGAIN_MS);
}

static void on_parked(void *arg, enum err err, const char *why) {
    struct amqp_item *v = arg;
    if (!v->group) {
        amqp_item_free(v); // not acknowledged: it comes again
        return;
    }
    if (v->stale) {
        leave(v);
        amqp_item_free(v);
    } else if (err) {
        log_event(LOG_WARN, "park_failed", "queue", v->group->parked, "why", why, NULL);
        park_later(v);
    } else {
        acknowledge(v);
    }
}

static void park(struct amqp_item *v) {
    struct error e;
    struct amqp_event *copy = parked_event(v);
    v->to_park = false;
    v->state = AMQP_PARKING;
    if (copy && amqp_publisher_put(v->group->bus->publisher, copy, NULL, true, on_parked, v, &e) == ERR_OK) return;
    amqp_event_free(copy);
    park_later(v);
}

// ---- settling

static void retry(struct amqp_item *v) {
    struct amqp_group *g = v->group;
    if (v->attempt >= g->attempts_max) {
        park(v);
        return;
    }
    v->attempt++;
    v->state = AMQP_RETRYING;
    loop_timer_start(g->bus->loop, &v->timer, backoff_delay(&BACKOFF_DEFAULT, g->bus->io, v->attempt - 2, 0));
}

void amqp_settle(struct bus_subscription *s, uint64_t tag, enum bus_settle how, const char *reason) {
    struct amqp_member *m = (struct amqp_member *)s;
    struct amqp_item *v = m->group ? map_get(&m->group->items, &tag, sizeof tag) : NULL;
    if (!v || v->state != AMQP_IN_HAND || v->member != m) return; // it went back meanwhile
    m->in_hand--;
    v->member = NULL;
    if (v->stale) {
        leave(v);
        amqp_item_free(v);
        return;
    }
    if (how == BUS_ACK) {
        acknowledge(v);
        return;
    }
    free(v->reason);
    v->reason = reason ? strndup(reason, REASON_MAX) : NULL;
    if (how == BUS_PARK) park(v);
    else retry(v);
}

// ---- delivering

static void hand_over(struct amqp_member *m, struct amqp_item *v) {
    struct bus_delivery out = {.event = v->event->event,
                               .tag = v->tag,
                               .attempt = v->attempt,
                               .published_at_ms = v->event->at_ms,
                               .place = {.partition = -1}};
    v->state = AMQP_IN_HAND;
    v->member = m;
    m->in_hand++;
    m->deliver(m->arg, &out);
}

// In turn, whoever has room.
static struct amqp_member *next_member(struct amqp_group *g) {
    LIST_EACH(&g->members, at) {
        struct amqp_member *m = LIST_ITEM(at, struct amqp_member, node);
        if (m->in_hand >= m->prefetch) continue;
        list_remove(&m->node);
        list_push_back(&g->members, &m->node);
        return m;
    }
    return NULL;
}

// One at a time: a handler may subscribe and unsubscribe.
static bool pump_one(struct amqp_bus *b) {
    LIST_EACH(&b->groups, at) {
        struct amqp_group *g = LIST_ITEM(at, struct amqp_group, node);
        struct amqp_member *m = list_empty(&g->ready) ? NULL : next_member(g);
        if (!m) continue;
        hand_over(m, LIST_ITEM(list_pop_front(&g->ready), struct amqp_item, node));
        return true;
    }
    return false;
}

void amqp_groups_pump(struct amqp_bus *b) {
    while (pump_one(b)) continue;
    for (struct list_node *at; (at = list_pop_front(&b->gone));) free(LIST_ITEM(at, struct amqp_member, node));
}

// ---- the link's posts

// Everything but what is in hand or being parked goes; those keep their turn.
static void drop_stale(struct amqp_group *g) {
    size_t at = 0, n = 0;
    struct amqp_item **list = malloc((g->items.len + 1) * sizeof *list);
    if (!list) die("out of memory");
    for (struct amqp_item *v; (v = map_next(&g->items, &at));) {
        if (v->state == AMQP_IN_HAND || v->state == AMQP_PARKING) v->stale = true;
        else list[n++] = v;
    }
    for (size_t i = 0; i < n; i++) {
        leave(list[i]);
        amqp_item_free(list[i]);
    }
    free(list);
}

void amqp_group_post(void *role) {
    struct amqp_group *g = role;
    amqp_link_lock(g->link);
    struct amqp_item *v = amqp_items_all(&g->arrived), *next;
    uint32_t epoch = g->epoch;
    amqp_link_unlock(g->link);
    if (epoch != g->seen_epoch) drop_stale(g);
    g->seen_epoch = epoch;
    for (; v; v = next) {
        next = v->next;
        if (v->epoch == epoch && !list_empty(&g->members)) arrive(g, v);
        else amqp_item_free(v);
    }
}

void amqp_group_ended(void *role) {
    struct amqp_group *g = role;
    ASSERT(g->items.len == 0);
    turns_release(&g->turns);
    map_release(&g->items);
    list_remove(&g->node);
    free(g);
}

// ---- subscribing

static struct amqp_group *group_find(struct amqp_bus *b, const char *name) {
    LIST_EACH(&b->groups, at) {
        struct amqp_group *g = LIST_ITEM(at, struct amqp_group, node);
        if (strcmp(g->name, name) == 0) return g;
    }
    return NULL;
}

static void name_queues(struct amqp_group *g, const struct bus_subscribe_options *o) {
    bool named = g->bus->settings.exchange[0] != 0;
    snprintf(g->name, sizeof g->name, "%s", o->group);
    snprintf(g->pattern, sizeof g->pattern, "%s", o->pattern);
    if (named) snprintf(g->queue, sizeof g->queue, "barid.%s", o->group);
    else snprintf(g->queue, sizeof g->queue, "%s", o->pattern); // the default exchange: the topic is the queue
    snprintf(g->parked, sizeof g->parked, "barid.%s.parked", o->group);
    g->sift = amqp_pattern_bound(o->pattern, g->bound) && named;
}

static struct amqp_group *group_new(struct amqp_bus *b, const struct bus_subscribe_options *o) {
    struct amqp_group *g = calloc(1, sizeof *g);
    if (!g) die("out of memory");
    uint64_t window = (uint64_t)(o->prefetch ? o->prefetch : PREFETCH_DEFAULT) * WINDOW_FACTOR;
    g->bus = b;
    g->ordered = !o->unordered;
    g->window = window > UINT16_MAX ? UINT16_MAX : (uint32_t)window;
    g->attempts_max = o->max_attempts ? o->max_attempts : ATTEMPTS_DEFAULT;
    name_queues(g, o);
    list_init(&g->members);
    list_init(&g->ready);
    turns_init(&g->turns, io_random_u64(b->io));
    map_init(&g->items, io_random_u64(b->io));
    amqp_items_clear(&g->arrived);
    amqp_items_clear(&g->settled);
    return g;
}

static enum err group_open(struct amqp_group **out, struct amqp_bus *b, const struct bus_subscribe_options *o,
                           struct error *e) {
    struct amqp_group *g = group_new(b, o);
    enum err code = amqp_link_open(&g->link, b->loop, b->io, &b->settings, &amqp_consumer, g, e);
    if (code) {
        amqp_group_ended(g);
        return code;
    }
    list_push_back(&b->groups, &g->node);
    *out = g;
    return ERR_OK;
}

enum err amqp_subscribe(struct bus *bus, const struct bus_subscribe_options *o, bus_deliver_fn *deliver, void *arg,
                        struct bus_subscription **out, struct error *e) {
    struct amqp_bus *b = (struct amqp_bus *)bus;
    struct amqp_group *g = group_find(b, o->group);
    if (g && strcmp(g->pattern, o->pattern) != 0)
        return error_field(e, "pattern", "the group '%s' has the pattern '%s' here", g->name, g->pattern);
    struct amqp_member *m = calloc(1, sizeof *m);
    if (!m) return error_set(e, ERR_NOMEM, "out of memory");
    enum err code = g ? ERR_OK : group_open(&g, b, o, e);
    if (code) {
        free(m);
        return code;
    }
    m->subscription.bus = bus;
    m->group = g;
    m->deliver = deliver;
    m->arg = arg;
    m->prefetch = o->prefetch ? o->prefetch : PREFETCH_DEFAULT;
    list_push_back(&g->members, &m->node);
    *out = &m->subscription;
    return ERR_OK;
}

// ---- leaving

// What the member had goes to the others, before what waits.
static void give_to_others(struct amqp_group *g, struct amqp_member *m) {
    size_t at = 0;
    for (struct amqp_item *v; (v = map_next(&g->items, &at));) {
        if (v->member != m) continue;
        v->member = NULL;
        v->state = AMQP_READY;
        list_push_front(&g->ready, &v->node);
    }
}

// The broker takes everything back when the connection ends.
static void drop_all(struct amqp_group *g) {
    size_t at = 0;
    struct map items = g->items;
    map_init(&g->items, items.seed);
    for (struct amqp_item *v; (v = map_next(&items, &at));) {
        loop_timer_stop(g->bus->loop, &v->timer);
        list_remove(&v->node);
        turns_leave(&g->turns, &v->turn);
        if (v->state == AMQP_PARKING) v->group = NULL;
        else amqp_item_free(v);
    }
    map_release(&items);
}

static void group_leave(struct amqp_group *g) {
    list_remove(&g->node);
    list_push_back(&g->bus->leaving, &g->node);
    drop_all(g);
}

void amqp_unsubscribe(struct bus_subscription *s) {
    struct amqp_member *m = (struct amqp_member *)s;
    struct amqp_group *g = m->group;
    ASSERT(g);
    m->group = NULL;
    list_remove(&m->node);
    list_push_back(&g->bus->gone, &m->node); // this may be its own callback
    if (!list_empty(&g->members)) {
        give_to_others(g, m);
        return;
    }
    group_leave(g);
    amqp_link_stop(g->link);
}

void amqp_groups_close(struct amqp_bus *b) {
    for (struct list_node *at; (at = list_first(&b->groups));) {
        struct amqp_group *g = LIST_ITEM(at, struct amqp_group, node);
        for (struct list_node *m; (m = list_pop_front(&g->members));) free(LIST_ITEM(m, struct amqp_member, node));
        group_leave(g);
        amqp_link_stop(g->link);
    }
    for (struct list_node *at; (at = list_first(&b->leaving));)
        amqp_link_end(LIST_ITEM(at, struct amqp_group, node)->link);
    for (struct list_node *at; (at = list_pop_front(&b->gone));) free(LIST_ITEM(at, struct amqp_member, node));
}

// ---- how it stands

bool amqp_groups_up(struct amqp_bus *b) {
    LIST_EACH(&b->groups, at) {
        struct amqp_link *l = LIST_ITEM(at, struct amqp_group, node)->link;
        amqp_link_lock(l);
        bool up = amqp_link_state(l) == AMQP_UP;
        amqp_link_unlock(l);
        if (!up) return false;
    }
    return true;
}
