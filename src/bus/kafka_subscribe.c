// A subscription is a consumer of librdkafka's in the consumer group of its name.
//
// Kafka keeps the group's offsets. A group that is new begins at the beginning, and so does one whose offsets are no
// longer there (librdkafka warns, facility OFFSET). A consumer that is killed is missed after six seconds.
//
// Leaving takes a few round trips: the consumer goes on by itself until it is closed, while its subscriber has long
// forgotten it.
#include "bus/kafka_group.h"

#include "base/assert.h"
#include "base/io.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFETCH_DEFAULT 256
#define ATTEMPTS_DEFAULT 3
#define EVENTS_A_TURN    64
#define BEAT_MS          30000 // librdkafka wants to be asked now and then (max.poll.interval.ms), however quiet it is
#define POLL_MS          20
#define PATTERN_SIZE     2048

// ---- what librdkafka says

static void on_error(struct kafka_member *m, rd_kafka_event_t *event) {
    rd_kafka_resp_err_t code = rd_kafka_event_error(event);
    bool again = code == m->last_error; // a consumer without its topic says so at every refresh
    m->last_error = code;
    if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) kafka_suspect(m->bus);
    log_event(again || code == RD_KAFKA_RESP_ERR__TRANSPORT || code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN ? LOG_DEBUG
                                                                                                           : LOG_WARN,
              "kafka_consumer_error", "group", m->group, "code", rd_kafka_err2name(code), "why",
              rd_kafka_event_error_string(event), NULL);
}

static bool serve_one(struct kafka_member *m, int wait_ms) {
    rd_kafka_event_t *event = rd_kafka_queue_poll(m->closing ? m->closing : m->queue, wait_ms);
    if (!event) return false;
    switch (rd_kafka_event_type(event)) {
    case RD_KAFKA_EVENT_REBALANCE: kafka_on_rebalance(m, event); break;
    case RD_KAFKA_EVENT_OFFSET_COMMIT: kafka_on_commit(m, event); break;
    case RD_KAFKA_EVENT_ERROR: on_error(m, event); break;
    case RD_KAFKA_EVENT_FETCH: die("a record in a queue that is not its partition's"); // it would be lost
    default: break;
    }
    rd_kafka_event_destroy(event);
    return true;
}

// ---- its end

static void member_free(struct kafka_member *m) {
    struct kafka *k = m->bus;
    loop_timer_stop(k->loop, &m->commit);
    loop_timer_stop(k->loop, &m->revoke);
    loop_timer_stop(k->loop, &m->beat);
    kafka_partitions_free(m);
    if (m->due) rd_kafka_topic_partition_list_destroy(m->due);
    if (m->revoking) rd_kafka_topic_partition_list_destroy(m->revoking);
    turns_release(&m->turns);
    map_release(&m->events);
    kafka_wake_off(m->queue);
    if (m->closing) kafka_wake_off(m->closing);
    kafka_wake_free(m->wake);
    rd_kafka_queue_destroy(m->queue);
    if (m->closing) rd_kafka_queue_destroy(m->closing);
    list_remove(&m->node);
    kafka_destroy(k->loop, m->rk);
    free(m);
}

void kafka_unsubscribe(struct bus_subscription *s) {
    struct kafka_member *m = (struct kafka_member *)s;
    ASSERT(!m->ended);
    m->ended = true;
    loop_timer_stop(m->bus->loop, &m->commit);
    kafka_drop_all(m);
    kafka_assign_due(m); // librdkafka waits for it
    m->closing = rd_kafka_queue_new(m->rk);
    kafka_wake_on(m->wake, m->closing);
    rd_kafka_error_t *failed = rd_kafka_consumer_close_queue(m->rk, m->closing);
    if (failed) rd_kafka_error_destroy(failed);
}

void kafka_member_finish(struct kafka_member *m, uint64_t until_ns) {
    if (!m->ended) kafka_unsubscribe(&m->subscription);
    while (!rd_kafka_consumer_closed(m->rk) && io_monotonic_ns(m->bus->io) < until_ns) serve_one(m, POLL_MS);
    member_free(m);
}

// ---- its life

static void on_wake(void *arg) {
    struct kafka_member *m = arg;
    int n = 0;
    while (n < EVENTS_A_TURN && serve_one(m, 0)) n++;
    if (m->ended) {
        if (rd_kafka_consumer_closed(m->rk)) member_free(m);
        else if (n == EVENTS_A_TURN) kafka_wake_again(m->wake);
        return;
    }
    kafka_drain(m);
    bool more = kafka_read(m) || n == EVENTS_A_TURN;
    kafka_hand_out(m);
    if (more) kafka_wake_again(m->wake);
}

static void on_beat(struct loop_timer *t) {
    struct kafka_member *m = LIST_ITEM(t, struct kafka_member, beat);
    kafka_wake_again(m->wake);
    loop_timer_start(m->bus->loop, t, BEAT_MS);
}

// ---- subscribing

static enum err consumer_new(struct kafka *k, const char *group, const char *pattern, rd_kafka_t **out,
                             struct error *e) {
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_dup(k->settings.conf);
    kafka_conf_set(conf, "group.id", group, "partition.assignment.strategy", "cooperative-sticky", "enable.auto.commit",
                   "false", "enable.auto.offset.store", "false", "auto.offset.reset", "earliest", NULL);
    // A pattern must not find what other groups parked, nor Kafka's own topics.
    if (pattern[0] == '^') kafka_conf_set(conf, "topic.blacklist", "^__.*,^.*[.]parked$", NULL);
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_OFFSET_COMMIT | RD_KAFKA_EVENT_ERROR);
    *out = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (*out) {
        rd_kafka_poll_set_consumer(*out);
        return ERR_OK;
    }
    rd_kafka_conf_destroy(conf);
    return error_set(e, ERR_INVALID, "no consumer for Kafka: %s", why);
}

static enum err subscribe(rd_kafka_t *rk, const char *pattern, struct error *e) {
    rd_kafka_topic_partition_list_t *wanted = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(wanted, pattern, RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t code = rd_kafka_subscribe(rk, wanted);
    rd_kafka_topic_partition_list_destroy(wanted);
    return code ? error_set(e, ERR_INVALID, "cannot subscribe: %s", rd_kafka_err2str(code)) : ERR_OK;
}

static struct kafka_member *member_new(struct kafka *k, const struct bus_subscribe_options *o, rd_kafka_t *rk) {
    struct kafka_member *m = calloc(1, sizeof *m);
    if (!m) die("out of memory");
    m->subscription.bus = &k->bus;
    m->bus = k;
    m->rk = rk;
    m->assigned = o->assigned;
    m->revoked = o->revoked;
    m->on_parked = o->parked;
    m->unordered = o->unordered;
    m->prefetch = o->prefetch ? o->prefetch : PREFETCH_DEFAULT;
    m->max_attempts = o->max_attempts ? o->max_attempts : ATTEMPTS_DEFAULT;
    snprintf(m->group, sizeof m->group, "%s", o->group);
    m->commit.fn = kafka_on_commit_due;
    m->revoke.fn = kafka_on_revoke_late;
    m->beat.fn = on_beat;
    list_init(&m->partitions);
    list_init(&m->eligible);
    turns_init(&m->turns, io_random_u64(k->io));
    map_init(&m->events, io_random_u64(k->io));
    list_push_back(&k->members, &m->node);
    return m;
}

static bool group_is_fit(const char *group) {
    for (const char *at = group; *at; at++) {
        bool fit = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9');
        if (!fit && !strchr("._-", *at)) return false;
    }
    return true;
}

enum err kafka_subscribe(struct bus *bus, const struct bus_subscribe_options *o, bus_deliver_fn *deliver, void *arg,
                         struct bus_subscription **out, struct error *e) {
    struct kafka *k = (struct kafka *)bus;
    char pattern[PATTERN_SIZE];
    rd_kafka_t *rk;
    if (!group_is_fit(o->group))
        return error_field(e, "group", "a group on Kafka is named of letters, digits and ._- (it names a topic too)");
    if (!kafka_pattern(o->pattern, pattern, sizeof pattern))
        return error_field(e, "pattern", "a topic on Kafka is named of letters, digits and ._-");
    enum err code = consumer_new(k, o->group, pattern, &rk, e);
    if (code) return code;
    code = subscribe(rk, pattern, e);
    if (code) {
        kafka_destroy(k->loop, rk);
        return code;
    }
    struct kafka_member *m = member_new(k, o, rk);
    m->deliver = deliver;
    m->arg = arg;
    m->queue = rd_kafka_queue_get_consumer(rk);
    m->wake = kafka_wake_new(k->loop, on_wake, m);
    kafka_wake_on(m->wake, m->queue);
    loop_timer_start(k->loop, &m->beat, BEAT_MS);
    if (pattern[0] != '^' && k->settings.create_topics) kafka_topic_want(k, pattern);
    *out = &m->subscription;
    return ERR_OK;
}
