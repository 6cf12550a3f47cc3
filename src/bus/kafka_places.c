// Partitions come and go. They are assigned cooperatively: in a rebalance a consumer keeps what it keeps, and goes on
// with it. Each partition has a queue of its own, which is read only while there is room: so a consumer that is full
// needs no pausing, and one slow partition does not hold up the others.
//
//   assign ─> (the subscriber is asked for its offsets) ─> incremental_assign
//   revoke ─> what no handler has is dropped ─> what handlers have is settled ─> committed ─> incremental_unassign
//
// Until we answer an assignment or a revocation the group waits with it, so that the next owner begins where the
// commit left off, and not while a handler here is still at work on the same key. None of this blocks the loop.
// Handlers have five seconds to settle what they hold, and a commit has five to be answered; after that it is given up,
// and the events come again to the next owner.
#include "bus/kafka_group.h"

#include "base/assert.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define COMMIT_MS 200
#define DRAIN_MS  5000
#define REVOKE_MS 5000
#define ANSWERED  ((void *)1)

// ---- partitions

struct bus_place kafka_place_of(const struct kafka_partition *p, int64_t offset) {
    return (struct bus_place){.topic = p->topic, .partition = p->number, .offset = offset};
}

static struct kafka_partition *find(struct kafka_member *m, const rd_kafka_topic_partition_t *which) {
    LIST_EACH(&m->partitions, at) {
        struct kafka_partition *p = LIST_ITEM(at, struct kafka_partition, node);
        if (p->number == which->partition && strcmp(p->topic, which->topic) == 0) return p;
    }
    return NULL;
}

static void partition_new(struct kafka_member *m, const rd_kafka_topic_partition_t *which) {
    size_t size = strlen(which->topic) + 1;
    struct kafka_partition *p = calloc(1, sizeof *p + size);
    if (!p) die("out of memory");
    p->member = m;
    p->next = p->committed = p->dropped = -1;
    p->number = which->partition;
    memcpy(p->topic, which->topic, size);
    list_init(&p->unsettled);
    p->queue = rd_kafka_queue_get_partition(m->rk, p->topic, p->number);
    rd_kafka_queue_forward(p->queue, NULL); // not into the consumer's own
    kafka_wake_on(m->wake, p->queue);
    list_push_back(&m->partitions, &p->node);
}

// The first offset that must come again, -1: nothing was read.
static int64_t settled_to(struct kafka_partition *p) {
    struct list_node *first = list_first(&p->unsettled);
    int64_t to = first ? LIST_ITEM(first, struct kafka_event, unsettled)->m->offset : p->next;
    return p->dropped >= 0 && p->dropped < to ? p->dropped : to;
}

static void drop_events(struct kafka_partition *p) {
    for (struct list_node *n; (n = list_first(&p->unsettled));)
        kafka_event_drop(LIST_ITEM(n, struct kafka_event, unsettled));
}

static void drop_idle_events(struct kafka_partition *p) {
    LIST_EACH_SAFE(&p->unsettled, at) {
        struct kafka_event *v = LIST_ITEM(at, struct kafka_event, unsettled);
        if (v->state != KAFKA_IN_HAND && v->state != KAFKA_PARKS) kafka_event_drop(v);
    }
}

static void partition_free(struct kafka_partition *p) {
    drop_events(p);
    kafka_wake_off(p->queue);
    rd_kafka_queue_destroy(p->queue);
    list_remove(&p->node);
    free(p);
}

void kafka_drop_all(struct kafka_member *m) {
    LIST_EACH(&m->partitions, at) drop_events(LIST_ITEM(at, struct kafka_partition, node));
}

void kafka_partitions_free(struct kafka_member *m) {
    for (struct list_node *n; (n = list_first(&m->partitions));)
        partition_free(LIST_ITEM(n, struct kafka_partition, node));
}

// ---- committing

static void add_due(struct kafka_partition *p, rd_kafka_topic_partition_list_t *out) {
    int64_t to = settled_to(p);
    if (to < 0 || to == p->committed) return;
    rd_kafka_topic_partition_list_add(out, p->topic, p->number)->offset = to;
    p->committed = to;
}

static bool commit(struct kafka_member *m, const rd_kafka_topic_partition_list_t *offsets, void *opaque) {
    return offsets->cnt > 0 && !rd_kafka_commit_queue(m->rk, offsets, m->queue, NULL, opaque);
}

void kafka_commit_soon(struct kafka_member *m) {
    if (!m->ended && !loop_timer_active(&m->commit)) loop_timer_start(m->bus->loop, &m->commit, COMMIT_MS);
}

void kafka_on_commit_due(struct loop_timer *t) {
    struct kafka_member *m = LIST_ITEM(t, struct kafka_member, commit);
    rd_kafka_topic_partition_list_t *offsets = rd_kafka_topic_partition_list_new(16);
    LIST_EACH(&m->partitions, at) add_due(LIST_ITEM(at, struct kafka_partition, node), offsets);
    commit(m, offsets, NULL);
    rd_kafka_topic_partition_list_destroy(offsets);
}

static void finish_revoking(struct kafka_member *m);

// What was not taken is committed again, with what is settled by then.
void kafka_on_commit(struct kafka_member *m, rd_kafka_event_t *event) {
    rd_kafka_resp_err_t code = rd_kafka_event_error(event);
    rd_kafka_topic_partition_list_t *offsets = rd_kafka_event_topic_partition_list(event);
    if (m->revoking && rd_kafka_event_opaque(event) == (void *)m->revocation) finish_revoking(m);
    if (code && code != RD_KAFKA_RESP_ERR__NO_OFFSET)
        log_event(LOG_DEBUG, "kafka_commit_failed", "group", m->group, "why", rd_kafka_err2str(code), NULL);
    for (int i = 0; offsets && i < offsets->cnt; i++) {
        struct kafka_partition *p = code || offsets->elems[i].err ? find(m, &offsets->elems[i]) : NULL;
        if (!p) continue;
        p->committed = -1;
        kafka_commit_soon(m);
    }
}

// ---- telling the subscriber

typedef void tell_fn(void *arg, struct bus_subscription *s, const struct bus_place *places, size_t n);

static void tell(struct kafka_member *m, tell_fn *fn, const rd_kafka_topic_partition_list_t *list) {
    if (!fn || m->ended || list->cnt == 0) return;
    struct bus_place *places = calloc((size_t)list->cnt, sizeof *places);
    if (!places) die("out of memory");
    for (int i = 0; i < list->cnt; i++)
        places[i] =
            (struct bus_place){.topic = list->elems[i].topic, .partition = list->elems[i].partition, .offset = -1};
    fn(m->arg, &m->subscription, places, (size_t)list->cnt);
    free(places);
}

// ---- assigning

static bool cooperative(struct kafka_member *m) {
    const char *protocol = rd_kafka_rebalance_protocol(m->rk);
    return protocol && strcmp(protocol, "COOPERATIVE") == 0;
}

static void log_failed(struct kafka_member *m, rd_kafka_error_t *failed) {
    if (!failed) return;
    log_event(LOG_WARN, "kafka_rebalance_failed", "group", m->group, "why", rd_kafka_error_string(failed), NULL);
    rd_kafka_error_destroy(failed);
}

static void assign(struct kafka_member *m, const rd_kafka_topic_partition_list_t *list) {
    if (cooperative(m)) log_failed(m, rd_kafka_incremental_assign(m->rk, list));
    else rd_kafka_assign(m->rk, list);
}

void kafka_assign_due(struct kafka_member *m) {
    rd_kafka_topic_partition_list_t *list = m->due;
    if (!list) return;
    m->due = NULL;
    assign(m, list);
    rd_kafka_topic_partition_list_destroy(list);
}

static bool all_answered(const rd_kafka_topic_partition_list_t *list) {
    for (int i = 0; i < list->cnt; i++)
        if (list->elems[i].opaque != ANSWERED) return false;
    return true;
}

void kafka_assigned(struct bus_subscription *s, const struct bus_place *places, size_t n) {
    struct kafka_member *m = (struct kafka_member *)s;
    if (!m->due) return; // taken away meanwhile
    for (size_t i = 0; i < n; i++) {
        rd_kafka_topic_partition_t *t =
            rd_kafka_topic_partition_list_find(m->due, places[i].topic, places[i].partition);
        if (!t) continue;
        t->offset = places[i].offset < 0 ? RD_KAFKA_OFFSET_INVALID : places[i].offset; // invalid: what is stored
        t->opaque = ANSWERED;
    }
    if (all_answered(m->due)) kafka_assign_due(m);
}

// What is still due waits on, and what is new waits with it.
static void on_assign(struct kafka_member *m, const rd_kafka_topic_partition_list_t *list) {
    if (m->due && list->cnt == 0) {
        assign(m, list);
        return;
    }
    if (!m->due) m->due = rd_kafka_topic_partition_list_new(list->cnt);
    for (int i = 0; i < list->cnt; i++) {
        rd_kafka_topic_partition_list_add(m->due, list->elems[i].topic, list->elems[i].partition);
        if (!find(m, &list->elems[i])) partition_new(m, &list->elems[i]);
        log_event(LOG_INFO, "partition_assigned", "group", m->group, "topic", list->elems[i].topic, NULL);
    }
    if (m->assigned && !m->ended && list->cnt > 0) tell(m, m->assigned, list);
    else kafka_assign_due(m);
}

// ---- revoking

// librdkafka takes back what it was given, or nothing at all and waits for ever: a partition whose offsets were not
// known yet is left out, and one that it has taken back before.
static void unassign(struct kafka_member *m, const rd_kafka_topic_partition_list_t *list) {
    rd_kafka_topic_partition_list_t *has = NULL, *going = rd_kafka_topic_partition_list_new(list->cnt);
    if (rd_kafka_assignment(m->rk, &has)) has = NULL;
    for (int i = 0; has && i < list->cnt; i++)
        if (rd_kafka_topic_partition_list_find(has, list->elems[i].topic, list->elems[i].partition))
            rd_kafka_topic_partition_list_add(going, list->elems[i].topic, list->elems[i].partition);
    log_failed(m, rd_kafka_incremental_unassign(m->rk, going));
    rd_kafka_topic_partition_list_destroy(going);
    if (has) rd_kafka_topic_partition_list_destroy(has);
}

static void finish_revoking(struct kafka_member *m) {
    rd_kafka_topic_partition_list_t *list = m->revoking;
    m->revoking = NULL;
    loop_timer_stop(m->bus->loop, &m->revoke);
    if (cooperative(m)) unassign(m, list);
    else rd_kafka_assign(m->rk, NULL);
    rd_kafka_topic_partition_list_destroy(list);
}

// Its partitions go, and what is still with handlers.
static void revoke_now(struct kafka_member *m, bool lost) {
    rd_kafka_topic_partition_list_t *offsets = rd_kafka_topic_partition_list_new(16);
    m->draining = false;
    for (int i = 0; i < m->revoking->cnt; i++) {
        struct kafka_partition *p = find(m, &m->revoking->elems[i]);
        if (!p) continue;
        add_due(p, offsets);
        partition_free(p);
    }
    log_event(LOG_INFO, lost ? "partitions_lost" : "partitions_revoked", "group", m->group, NULL);
    tell(m, m->revoked, m->revoking);
    if (!lost && commit(m, offsets, (void *)++m->revocation)) loop_timer_start(m->bus->loop, &m->revoke, REVOKE_MS);
    else finish_revoking(m);
    rd_kafka_topic_partition_list_destroy(offsets);
}

static bool drained(struct kafka_member *m) {
    LIST_EACH(&m->partitions, at) {
        struct kafka_partition *p = LIST_ITEM(at, struct kafka_partition, node);
        if (p->leaving && !list_empty(&p->unsettled)) return false;
    }
    return true;
}

void kafka_drain(struct kafka_member *m) {
    if (m->draining && drained(m)) revoke_now(m, false);
}

void kafka_on_revoke_late(struct loop_timer *t) {
    struct kafka_member *m = LIST_ITEM(t, struct kafka_member, revoke);
    if (m->draining) revoke_now(m, false);
    else if (m->revoking) finish_revoking(m);
}

// What goes is not waited for any more; the rest is, whose offsets nobody knows yet: a topic that was deleted takes
// only its own partitions with it.
static void forget_due(struct kafka_member *m, const rd_kafka_topic_partition_list_t *list) {
    if (!m->due) return;
    for (int i = 0; i < list->cnt; i++)
        rd_kafka_topic_partition_list_del(m->due, list->elems[i].topic, list->elems[i].partition);
    if (m->due->cnt > 0 && !all_answered(m->due)) return;
    if (m->due->cnt > 0) {
        kafka_assign_due(m);
        return;
    }
    rd_kafka_topic_partition_list_destroy(m->due);
    m->due = NULL;
}

static void on_revoke(struct kafka_member *m, const rd_kafka_topic_partition_list_t *list) {
    forget_due(m, list);
    if (m->draining) revoke_now(m, true);
    if (m->revoking) finish_revoking(m);
    m->revoking = rd_kafka_topic_partition_list_copy(list);
    if (rd_kafka_assignment_lost(m->rk)) {
        revoke_now(m, true);
        return;
    }
    m->draining = true;
    for (int i = 0; i < list->cnt; i++) {
        struct kafka_partition *p = find(m, &list->elems[i]);
        if (!p) continue;
        p->leaving = true;
        drop_idle_events(p);
    }
    loop_timer_start(m->bus->loop, &m->revoke, DRAIN_MS);
    kafka_drain(m);
}

void kafka_on_rebalance(struct kafka_member *m, rd_kafka_event_t *event) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_event_topic_partition_list(event);
    if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) on_assign(m, list);
    else if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS) on_revoke(m, list);
    else rd_kafka_assign(m->rk, NULL);
}
