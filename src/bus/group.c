// Subscriptions: a group is the durable queue "barid.<group>", its members are consumers of it.
//
// The order of keys. Of one key, one event at a time is with the group's handlers; those behind it are held here,
// unsettled, until it is acked or parked. So a retry is never overtaken, whichever member it or its followers went
// to. An event that is to be tried again is kept too: its attempt is counted in the journal (engine_attempt), and
// after the backoff the engine hands it out once more. Events without a key, and those of an `unordered` member, are
// independent of each other.
//
// What is held is a few words an event; its bytes stay with the engine. It is bounded by the consumer's window, four
// times the prefetch: when a key's followers fill it while their first waits for a retry, the group waits with
// them, at most for the backoffs of its attempts.
//
// When a member leaves, everything that is not in a handler's hands goes back to the queue, of all members, so that
// those who stay get it again in the queue's order.
#include "bus/embedded.h"

#include "base/assert.h"
#include "base/io.h"
#include "wire/properties.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFETCH_DEFAULT 256
#define WINDOW_FACTOR    4
#define ATTEMPTS_DEFAULT 3
#define RETRY_DELAY_MS   500
#define KEY_MAX          255

struct group {
    struct list_node node;
    struct embedded *bus;
    char name[256]; // of its queue
    struct list members;
    struct map keys; // struct key, those with an event that is not settled
};

struct key {
    struct event *first; // the one that may be with a handler
    struct list held;    // those behind it
    uint32_t length;
    char text[];
};

struct member {
    struct bus_subscription subscription;
    struct list_node node; // in group.members
    struct group *group;
    struct session *session;
    bus_deliver_fn *deliver;
    void *arg;
    bool unordered;
    uint32_t prefetch, in_hand;
    struct map events;     // by tag
    struct list eligible;  // may be handed out when there is room
    struct event *handing; // the engine is delivering this one again
    bool ended;
};

enum event_state { EVENT_HELD, EVENT_ELIGIBLE, EVENT_IN_HAND, EVENT_RETRYING };

struct event {
    struct list_node node; // in key.held or member.eligible
    struct loop_timer timer;
    struct member *member;
    struct key *key; // NULL: none
    uint64_t tag;
    enum event_state state;
};

// ---- keys

static struct key *key_get(struct group *g, const void *text, uint32_t length) {
    struct key *k = map_get(&g->keys, text, length);
    if (k) return k;
    k = calloc(1, sizeof *k + length);
    if (!k) die("out of memory");
    list_init(&k->held);
    k->length = length;
    memcpy(k->text, text, length);
    if (!map_put(&g->keys, k->text, length, k)) die("out of memory");
    return k;
}

static void make_eligible(struct event *v) {
    v->state = EVENT_ELIGIBLE;
    list_push_back(&v->member->eligible, &v->node);
}

// The key's first event is done with: the next one's turn.
static void key_advance(struct group *g, struct key *k) {
    struct list_node *next = list_pop_front(&k->held);
    if (next) {
        k->first = LIST_ITEM(next, struct event, node);
        make_eligible(k->first);
        return;
    }
    map_remove(&g->keys, k->text, k->length);
    free(k);
}

// ---- events

static void on_retry(struct loop_timer *t) { make_eligible(LIST_ITEM(t, struct event, timer)); }

static struct event *event_new(struct member *m, const struct delivery *d) {
    struct event *v = calloc(1, sizeof *v);
    if (!v) die("out of memory");
    v->member = m;
    v->tag = d->tag;
    v->timer.fn = on_retry;
    if (!map_put(&m->events, &v->tag, sizeof v->tag, v)) die("out of memory");
    return v;
}

static void event_free(struct event *v) {
    loop_timer_stop(v->member->group->bus->loop, &v->timer);
    list_remove(&v->node);
    map_remove(&v->member->events, &v->tag, sizeof v->tag);
    free(v);
}

// Settled or sent back: the event leaves, and its key goes on without it.
static void event_leave(struct event *v) {
    struct group *g = v->member->group;
    struct key *k = v->key;
    if (v->state == EVENT_IN_HAND) v->member->in_hand--;
    bool first = k && k->first == v;
    event_free(v);
    if (first) key_advance(g, k);
}

// ---- delivering

// The first version wrote the key in the place of properties; what decodes as such is none of its.
static struct view key_of(const struct delivery *d) {
    struct field f = {0};
    struct view none = {0}, bare = {.data = d->properties, .length = d->properties_length};
    if (!properties_check(d->properties, d->properties_length)) return bare.length <= KEY_MAX ? bare : none;
    bool is = table_find(properties_headers(d->properties, d->properties_length), "key", &f) && f.type == FIELD_STRING;
    return is && f.bytes.length <= KEY_MAX ? f.bytes : none;
}

static void hand_over(struct event *v, const struct delivery *d) {
    struct member *m = v->member;
    struct view k = key_of(d);
    char key[KEY_MAX + 1];
    struct bus_delivery out = {.tag = d->tag, .attempt = d->attempt, .published_at_ms = d->published_at_ms};
    if (k.length > 0) memcpy(key, k.data, k.length);
    key[k.length] = 0;
    // A body so large that it is kept elsewhere is no event of ours: its group will refuse an empty one.
    out.event = (struct bus_event){.topic = d->routing_key,
                                   .key = k.length ? key : NULL,
                                   .payload = d->body,
                                   .payload_length = d->claimed ? 0 : d->body_length};
    if (!id_parse(d->message_id, strlen(d->message_id), &out.event.event_id))
        memset(&out.event.event_id, 0, sizeof out.event.event_id); // published by someone else over AMQP
    v->state = EVENT_IN_HAND;
    m->in_hand++;
    m->deliver(m->arg, &out);
}

static void on_deliver(void *arg, const struct delivery *d) {
    struct member *m = arg;
    if (m->handing) {
        struct event *v = m->handing;
        m->handing = NULL;
        hand_over(v, d);
        return;
    }
    struct event *v = event_new(m, d);
    struct view key = m->unordered ? (struct view){0} : key_of(d);
    if (key.length > 0) v->key = key_get(m->group, key.data, key.length);
    if (v->key && v->key->first) {
        v->state = EVENT_HELD;
        list_push_back(&v->key->held, &v->node);
        return;
    }
    if (v->key) v->key->first = v;
    if (m->in_hand < m->prefetch && list_empty(&m->eligible)) hand_over(v, d);
    else make_eligible(v);
}

static bool can_take(const struct member *m) { return m->in_hand < m->prefetch && !list_empty(&m->eligible); }

static void hand_out_one(struct member *m) {
    struct event *v = LIST_ITEM(list_pop_front(&m->eligible), struct event, node);
    struct error e;
    m->handing = v;
    if (engine_redeliver(m->session, v->tag, &e) == ERR_OK) return;
    m->handing = NULL;
    engine_settle(m->session, v->tag, false, SETTLE_PARK, e.text, NULL);
    event_leave(v);
}

// One at a time: a handler may subscribe and unsubscribe.
static bool pump_one(struct group *g) {
    LIST_EACH(&g->members, at) {
        struct member *m = LIST_ITEM(at, struct member, node);
        if (!can_take(m)) continue;
        hand_out_one(m);
        return true;
    }
    return false;
}

static void member_free(struct member *m) {
    map_release(&m->events);
    free(m);
}

void groups_pump(struct embedded *b) {
    LIST_EACH(&b->groups, at) {
        while (pump_one(LIST_ITEM(at, struct group, node))) continue;
    }
    for (struct list_node *at; (at = list_pop_front(&b->gone));) member_free(LIST_ITEM(at, struct member, node));
}

bool groups_ready(struct embedded *b) {
    LIST_EACH(&b->groups, g) {
        LIST_EACH(&LIST_ITEM(g, struct group, node)->members, m) {
            if (can_take(LIST_ITEM(m, struct member, node))) return true;
        }
    }
    return false;
}

// ---- settling

static bool try_again(struct event *v) {
    struct embedded *b = v->member->group->bus;
    uint32_t delay_ms;
    if (engine_attempt(v->member->session, v->tag, &delay_ms, NULL)) return false;
    v->state = EVENT_RETRYING;
    v->member->in_hand--;
    loop_timer_start(b->loop, &v->timer, delay_ms);
    return true;
}

void group_settle(struct bus_subscription *s, uint64_t tag, enum bus_settle how, const char *reason) {
    struct member *m = (struct member *)s;
    struct event *v = map_get(&m->events, &tag, sizeof tag);
    if (!v || v->state != EVENT_IN_HAND) return; // it went back meanwhile
    if (how == BUS_RETRY && try_again(v)) return;
    enum settle settle = how == BUS_ACK ? SETTLE_ACK : how == BUS_PARK ? SETTLE_PARK : SETTLE_RETRY;
    engine_settle(m->session, tag, false, settle, reason, NULL);
    event_leave(v);
}

// ---- subscribing

static struct group *group_find(struct embedded *b, const char *name) {
    LIST_EACH(&b->groups, at) {
        struct group *g = LIST_ITEM(at, struct group, node);
        if (strcmp(g->name, name) == 0) return g;
    }
    return NULL;
}

struct old_patterns {
    const char *keep;
    char (*patterns)[256];
    uint32_t n, cap;
    bool failed;
};

static void note_pattern(void *arg, const struct binding_spec *binding) {
    struct old_patterns *old = arg;
    if (strcmp(binding->source, EVENTS_EXCHANGE) != 0 || strcmp(binding->key, old->keep) == 0) return;
    char(*grown)[256] = realloc(old->patterns, (old->n + 1) * sizeof *grown);
    if (!grown) die("out of memory");
    old->patterns = grown;
    snprintf(old->patterns[old->n++], sizeof *grown, "%s", binding->key);
}

// A group whose pattern has changed since the last start must not go on collecting by the old one.
static void unbind_old(struct embedded *b, const char *queue, const char *pattern) {
    struct old_patterns old = {.keep = pattern};
    engine_each_binding(b->vhost, queue, note_pattern, &old);
    for (uint32_t i = 0; i < old.n; i++)
        engine_unbind(b->vhost,
                      &(struct binding_spec){.source = EVENTS_EXCHANGE, .destination = queue, .key = old.patterns[i]},
                      NULL);
    free(old.patterns);
}

static enum err declare(struct embedded *b, const char *queue, const struct bus_subscribe_options *o, bool first,
                        struct error *e) {
    struct queue_options options = {.durable = true,
                                    .delivery_limit = o->max_attempts ? o->max_attempts : ATTEMPTS_DEFAULT,
                                    .retry_delay_ms = RETRY_DELAY_MS,
                                    .park = true};
    struct binding_spec binding = {.source = EVENTS_EXCHANGE, .destination = queue, .key = o->pattern};
    enum err code = engine_queue_declare(b->vhost, queue, &options, e);
    if (!code) code = engine_bind(b->vhost, &binding, e);
    if (!code && first) unbind_old(b, queue, o->pattern);
    return code;
}

static struct group *group_new(struct embedded *b, const char *name) {
    struct group *g = calloc(1, sizeof *g);
    if (!g) die("out of memory");
    g->bus = b;
    snprintf(g->name, sizeof g->name, "%s", name);
    list_init(&g->members);
    map_init(&g->keys, io_random_u64(b->io));
    list_push_back(&b->groups, &g->node);
    return g;
}

enum err group_subscribe(struct bus *bus, const struct bus_subscribe_options *o, bus_deliver_fn *deliver, void *arg,
                         struct bus_subscription **out, struct error *e) {
    struct embedded *b = (struct embedded *)bus;
    char queue[256];
    snprintf(queue, sizeof queue, "barid.%s", o->group);
    struct group *g = group_find(b, queue);
    enum err code = declare(b, queue, o, !g || list_empty(&g->members), e);
    if (code) return code;
    if (!g) g = group_new(b, queue);
    struct member *m = calloc(1, sizeof *m);
    if (!m) return error_set(e, ERR_NOMEM, "out of memory");
    m->subscription.bus = bus;
    m->group = g;
    m->deliver = deliver;
    m->arg = arg;
    m->unordered = o->unordered;
    m->prefetch = o->prefetch ? o->prefetch : PREFETCH_DEFAULT;
    list_init(&m->eligible);
    map_init(&m->events, io_random_u64(b->io));
    struct consumer_options options = {.prefetch = m->prefetch * WINDOW_FACTOR};
    struct consumer *consumer; // ends with its session
    m->session = engine_session_new(b->engine, &(struct session_options){.deliver = on_deliver, .arg = m});
    code = engine_consume(m->session, b->vhost, queue, &options, NULL, &consumer, e);
    if (code) {
        engine_session_free(m->session);
        member_free(m);
        return code;
    }
    list_push_back(&g->members, &m->node);
    *out = &m->subscription;
    return ERR_OK;
}

// ---- leaving

// Newest first, so that each goes to the very head of the queue.
static int by_tag_down(const void *a, const void *b) {
    const struct event *x = *(struct event *const *)a, *y = *(struct event *const *)b;
    return x->tag < y->tag ? 1 : -1;
}

static void send_back(struct member *m, bool all) {
    size_t at = 0, n = 0;
    struct event **list = malloc((m->events.len + 1) * sizeof *list);
    if (!list) die("out of memory");
    for (struct event *v; (v = map_next(&m->events, &at));)
        if (all || v->state == EVENT_HELD) list[n++] = v;
    qsort(list, n, sizeof *list, by_tag_down);
    for (size_t i = 0; i < n; i++) {
        struct event *v = list[i];
        engine_settle(m->session, v->tag, false, SETTLE_RETURN, NULL, NULL);
        if (v->state == EVENT_IN_HAND) m->in_hand--;
        if (v->key && v->key->first == v) v->key->first = NULL;
        event_free(v);
    }
    free(list);
}

static void drop_empty_keys(struct group *g) {
    struct map kept;
    size_t at = 0;
    map_init(&kept, g->keys.seed);
    for (struct key *k; (k = map_next(&g->keys, &at));) {
        if (!k->first) free(k);
        else if (!map_put(&kept, k->text, k->length, k)) die("out of memory");
    }
    map_release(&g->keys);
    g->keys = kept;
}

void group_unsubscribe(struct bus_subscription *s) {
    struct member *m = (struct member *)s;
    struct group *g = m->group;
    ASSERT(!m->ended);
    m->ended = true;
    LIST_EACH(&g->members, at)
    if (at != &m->node) send_back(LIST_ITEM(at, struct member, node), false);
    send_back(m, true);
    drop_empty_keys(g);
    engine_session_free(m->session);
    list_remove(&m->node);
    list_push_back(&g->bus->gone, &m->node); // this may be its own callback
}

void groups_free(struct embedded *b) {
    for (struct list_node *at; (at = list_first(&b->groups));) {
        struct group *g = LIST_ITEM(at, struct group, node);
        for (struct list_node *m; (m = list_first(&g->members));)
            group_unsubscribe(&LIST_ITEM(m, struct member, node)->subscription);
        map_release(&g->keys);
        list_remove(&g->node);
        free(g);
    }
    for (struct list_node *at; (at = list_pop_front(&b->gone));) member_free(LIST_ITEM(at, struct member, node));
}
