// Is there such a topic? An event to a topic not seen before waits here until the broker has said so: otherwise
// librdkafka would let it wait for half a minute before it calls a topic unknown. With `create_topics` a missing topic
// is made.
//
// A topic that a subscription wants is asked for until it is there: nobody waits for an answer who could ask again.
//
// One question at a time, on the pool, since asking blocks. The same question, without a topic, tells whether the
// broker is there (kafka_ask_broker).
#include "bus/kafka.h"

#include "base/assert.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOPICS_MAX   10000
#define ASK_MS       5000
#define PROBE_MS     1500
#define AGAIN_MS     100 // a topic just made takes a moment to be known everywhere
#define AWAY_MS      2000
#define TRIES_ABSENT 3
#define TRIES_MADE   50

struct kafka_ask {
    struct loop_work work;
    struct kafka_producer *producer; // NULL: it has gone meanwhile, and left us its end
    struct loop *loop;
    rd_kafka_t *rk;
    struct kafka_topic *topic; // NULL: only whether the broker is there
    rd_kafka_topic_t *rkt;
    rd_kafka_resp_err_t err, topic_err;
    int partitions;
};

static void ask_next(struct kafka_producer *p);

// ---- a topic's life

static void topic_free(struct kafka_topic *t) {
    struct kafka_producer *p = t->producer;
    ASSERT(list_empty(&t->waiting));
    loop_timer_stop(p->bus->loop, &t->again);
    list_remove(&t->asking);
    map_remove(&p->topics, t->name, (uint32_t)strlen(t->name));
    if (p->asking && p->asking->topic == t) p->asking->topic = NULL;
    if (t->rkt) rd_kafka_topic_destroy(t->rkt);
    kafka_gates_free(t);
    free(t);
}

static void to_ask(struct kafka_topic *t) {
    if (!list_linked(&t->asking)) list_push_back(&t->producer->to_ask, &t->asking);
    ask_next(t->producer);
}

static void on_again(struct loop_timer *timer) { to_ask(LIST_ITEM(timer, struct kafka_topic, again)); }

struct kafka_topic *kafka_topic_get(struct kafka_producer *p, const char *name, struct error *e) {
    size_t length = strlen(name);
    struct kafka_topic *t = map_get(&p->topics, name, length);
    if (t) return t;
    if (p->topics.len >= TOPICS_MAX) {
        error_set(e, ERR_LIMIT, "events go to more than %d topics", TOPICS_MAX);
        return NULL;
    }
    rd_kafka_topic_t *rkt = rd_kafka_topic_new(p->rk, name, NULL);
    if (!rkt) {
        error_set(e, ERR_INVALID, "not a topic: %s", rd_kafka_err2str(rd_kafka_last_error()));
        return NULL;
    }
    t = calloc(1, sizeof *t + length + 1);
    if (!t) die("out of memory");
    memcpy(t->name, name, length + 1);
    t->producer = p;
    t->again.fn = on_again;
    t->rkt = rkt;
    list_init(&t->waiting);
    if (!map_put(&p->topics, t->name, length, t)) die("out of memory");
    return t;
}

void kafka_topic_wait(struct kafka_topic *t, struct kafka_held *h) {
    bool first = list_empty(&t->waiting);
    h->gate = 0; // its partition may not be there either
    list_push_back(&t->waiting, &h->node);
    t->producer->waiting++;
    if (!first) return;
    t->tries = 0;
    t->created = false;
    to_ask(t);
}

void kafka_topic_want(struct kafka *k, const char *name) {
    struct error e;
    struct kafka_producer *p = kafka_producer_together(k, &e);
    struct kafka_topic *t = p ? kafka_topic_get(p, name, &e) : NULL;
    if (!t || t->known) return;
    t->create = t->wanted = true;
    to_ask(t);
}

void kafka_topic_look(struct kafka_topic *t) {
    t->tries = 0;
    to_ask(t);
}

// ---- what comes of it

static void ask_again(struct kafka_topic *t, uint32_t ms) { loop_timer_start(t->producer->bus->loop, &t->again, ms); }

static struct kafka_held *take_waiting(struct kafka_topic *t) {
    struct list_node *n = list_pop_front(&t->waiting);
    if (n) t->producer->waiting--;
    return n ? LIST_ITEM(n, struct kafka_held, node) : NULL;
}

static void topic_is(struct kafka_topic *t) {
    t->known = t->existed = true;
    t->wanted = false;
    for (struct kafka_held *h; (h = take_waiting(t));) kafka_held_send(t->producer, t->rkt, h);
}

// What is wanted is asked for anew, unless it is refused for good.
static void wanted_fails(struct kafka_topic *t, enum err err, const char *why) {
    if (err == ERR_UNAVAILABLE || err == ERR_NOT_FOUND) {
        log_event(LOG_DEBUG, "kafka_topic_awaited", "topic", t->name, "why", why, NULL);
        t->created = false;
        t->tries = 0;
        ask_again(t, AWAY_MS);
        return;
    }
    log_event(LOG_WARN, "kafka_topic_refused", "topic", t->name, "why", why, NULL);
    topic_free(t);
}

// Its answers may publish to it anew: those that come meanwhile ask again.
static void topic_fails(struct kafka_topic *t, enum err err, const char *why) {
    struct list now;
    list_init(&now);
    for (struct kafka_held *h; (h = take_waiting(t));) list_push_back(&now, &h->node);
    kafka_gates_take(t, &now);
    if (t->wanted) wanted_fails(t, err, why);
    else topic_free(t);
    for (struct list_node *n; (n = list_pop_front(&now));)
        kafka_held_answer(LIST_ITEM(n, struct kafka_held, node), err, why);
}

static void topic_fails_with(struct kafka_topic *t, rd_kafka_resp_err_t code, const char *what) {
    char why[512];
    snprintf(why, sizeof why, "topic %s: %s (%s)", t->name, what, rd_kafka_err2name(code));
    topic_fails(t, kafka_err(code), why);
}

static void create(struct kafka_topic *t) {
    char why[256];
    struct kafka *k = t->producer->bus;
    rd_kafka_NewTopic_t *wanted =
        rd_kafka_NewTopic_new(t->name, k->settings.partitions, k->settings.replication, why, sizeof why);
    if (!wanted) {
        topic_fails(t, ERR_INVALID, why);
        return;
    }
    t->created = true;
    rd_kafka_CreateTopics(t->producer->rk, &wanted, 1, NULL, t->producer->queue);
    rd_kafka_NewTopic_destroy(wanted);
}

void kafka_topic_created(struct kafka_producer *p, rd_kafka_event_t *event) {
    size_t n = 0;
    const rd_kafka_topic_result_t **results =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
    rd_kafka_resp_err_t code = rd_kafka_event_error(event);
    if (code) kafka_topics_fail(p, rd_kafka_event_error_string(event));
    for (size_t i = 0; !code && i < n; i++) {
        const char *name = rd_kafka_topic_result_name(results[i]),
                   *why = rd_kafka_topic_result_error_string(results[i]);
        struct kafka_topic *t = map_get(&p->topics, name, strlen(name));
        rd_kafka_resp_err_t err = rd_kafka_topic_result_error(results[i]);
        if (!err) log_event(LOG_INFO, "kafka_topic_created", "topic", name, NULL);
        if (!t) continue;
        if (!err || err == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS) to_ask(t);
        else topic_fails_with(t, err, why ? why : rd_kafka_err2str(err));
    }
}

static void decide(struct kafka_topic *t, rd_kafka_resp_err_t code) {
    if (!code) {
        topic_is(t);
        return;
    }
    bool absent = kafka_err_no_topic(code), passes = kafka_err(code) == ERR_UNAVAILABLE;
    if (absent && t->create && !t->created) create(t);
    else if (++t->tries < (t->created || t->existed || passes ? TRIES_MADE : TRIES_ABSENT) && (absent || passes))
        ask_again(t, AGAIN_MS);
    else topic_fails_with(t, code, rd_kafka_err2str(code));
}

// ---- asking

static void ask(struct loop_work *w) {
    struct kafka_ask *a = LIST_ITEM(w, struct kafka_ask, work);
    const struct rd_kafka_metadata *found = NULL;
    a->err = rd_kafka_metadata(a->rk, 0, a->rkt, &found, a->rkt ? ASK_MS : PROBE_MS);
    if (a->err) return;
    if (a->rkt) {
        bool one = found->topic_cnt == 1;
        a->topic_err = one ? found->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        a->partitions = one ? found->topics[0].partition_cnt : 0;
        if (!a->topic_err && a->partitions == 0) a->topic_err = RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
    }
    rd_kafka_metadata_destroy(found);
}

static void asked(struct loop_work *w) {
    struct kafka_ask *a = LIST_ITEM(w, struct kafka_ask, work);
    struct kafka_producer *p = a->producer;
    struct kafka_topic *t = a->topic;
    if (a->rkt) rd_kafka_topic_destroy(a->rkt);
    if (!p) {
        kafka_destroy(a->loop, a->rk);
        free(a);
        return;
    }
    if (a->err) {
        kafka_is_away(p->bus, rd_kafka_err2str(a->err));
        kafka_topics_fail(p, rd_kafka_err2str(a->err));
        p->asking = NULL;
    } else {
        kafka_is_there(p->bus);
        p->asking = NULL;
        if (t && !a->topic_err && !p->retired) kafka_gates_set(t, a->partitions);
        if (t) decide(t, a->topic_err);
    }
    free(a);
    if (p->retired) kafka_wake_again(p->wake);
    else ask_next(p);
}

static void ask_about(struct kafka_producer *p, struct kafka_topic *t) {
    struct kafka_ask *a = calloc(1, sizeof *a);
    if (!a) die("out of memory");
    *a = (struct kafka_ask){
        .work = {.work = ask, .done = asked}, .producer = p, .loop = p->bus->loop, .rk = p->rk, .topic = t};
    if (t) a->rkt = rd_kafka_topic_new(p->rk, t->name, NULL); // a reference of its own
    p->asking = a;
    loop_work(a->loop, &a->work);
}

static void ask_next(struct kafka_producer *p) {
    if (p->asking || p->retired) return;
    struct list_node *n = list_pop_front(&p->to_ask);
    if (n) ask_about(p, LIST_ITEM(n, struct kafka_topic, asking));
}

void kafka_ask_broker(struct kafka_producer *p) {
    if (!p->asking && !p->retired) ask_about(p, NULL);
}

// ---- ending

void kafka_topics_fail(struct kafka_producer *p, const char *why) {
    size_t at = 0, n = 0;
    struct kafka_topic **all = malloc((p->topics.len + 1) * sizeof *all);
    if (!all) die("out of memory");
    for (struct kafka_topic *t; (t = map_next(&p->topics, &at));)
        if (t->wanted || !list_empty(&t->waiting)) all[n++] = t;
    for (size_t i = 0; i < n; i++) topic_fails(all[i], ERR_UNAVAILABLE, why);
    free(all);
}

void kafka_topics_hand_on(struct kafka_producer *p) {
    size_t at = 0;
    for (struct kafka_topic *t; (t = map_next(&p->topics, &at));)
        if (t->wanted) kafka_topic_want(p->bus, t->name);
}

// True: a question is under way, and its end will destroy the instance too.
bool kafka_topics_free(struct kafka_producer *p) {
    size_t at;
    for (struct kafka_topic *t; at = 0, (t = map_next(&p->topics, &at));) topic_free(t);
    map_release(&p->topics);
    if (p->asking) p->asking->producer = NULL;
    return p->asking;
}
