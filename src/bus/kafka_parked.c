// What a group has parked: its topic GROUP.parked, read from the beginning to the end. For tools: it blocks, and takes
// no part in any group.
#include "bus/kafka_group.h"

#include "base/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK_MS      10000
#define PATIENCE_MS 30000 // without anything coming

struct reading {
    rd_kafka_t *rk;
    bus_parked_fn *each;
    void *arg;
    int ends;    // partitions that are not read to their end
    bool *ended; // those that are: one that grows meanwhile ends twice
};

// "" when there is none. librdkafka ends a value with a zero byte.
static const char *text_of(const rd_kafka_headers_t *h, const char *name) {
    const void *value = NULL;
    size_t size;
    return h && !rd_kafka_header_get_last(h, name, &value, &size) && value ? value : "";
}

static void give(struct reading *r, const rd_kafka_message_t *m) {
    struct kafka_record record;
    rd_kafka_headers_t *h = NULL;
    char from[KAFKA_TOPIC_MAX + 40];
    if (rd_kafka_message_headers(m, &h)) h = NULL;
    kafka_record_read(&record, m);
    const char *topic = text_of(h, "barid-parked-topic");
    snprintf(from, sizeof from, "%.*s/%s@%s", KAFKA_TOPIC_MAX, topic, text_of(h, "barid-parked-partition"),
             text_of(h, "barid-parked-offset"));
    struct bus_parked p = {.event = record.event,
                           .at = {rd_kafka_topic_name(m->rkt), m->partition, m->offset},
                           .from = from,
                           .reason = text_of(h, "barid-parked-reason"),
                           .parked_at = text_of(h, "barid-parked-at"),
                           .attempts = (uint32_t)strtoul(text_of(h, "barid-parked-attempts"), NULL, 10)};
    if (*topic) p.event.topic = topic;
    r->each(r->arg, &p);
}

static void has_ended(struct reading *r, int32_t partition) {
    if (!r->ended[partition]) r->ends--;
    r->ended[partition] = true;
}

static enum err read_all(struct reading *r, struct error *e) {
    while (r->ends > 0) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(r->rk, PATIENCE_MS);
        if (!m) return error_set(e, ERR_TIMEOUT, "nothing came for %d s", PATIENCE_MS / 1000);
        rd_kafka_resp_err_t code = m->err;
        if (code == RD_KAFKA_RESP_ERR__PARTITION_EOF) has_ended(r, m->partition);
        else if (!code) give(r, m);
        bool lost = code && code != RD_KAFKA_RESP_ERR__PARTITION_EOF && code != RD_KAFKA_RESP_ERR__TRANSPORT;
        if (lost) error_set(e, ERR_UNAVAILABLE, "%s", rd_kafka_message_errstr(m));
        rd_kafka_message_destroy(m);
        if (lost) return ERR_UNAVAILABLE;
    }
    return ERR_OK;
}

// How many partitions the topic has, 0: there is no such topic.
static enum err count(rd_kafka_t *rk, const char *topic, int *out, struct error *e) {
    const struct rd_kafka_metadata *found = NULL;
    rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, topic, NULL);
    if (!rkt) return error_set(e, ERR_INVALID, "not a topic: %s", topic);
    rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 0, rkt, &found, ASK_MS);
    rd_kafka_topic_destroy(rkt);
    if (code) return error_set(e, ERR_UNAVAILABLE, "%s", rd_kafka_err2str(code));
    code = found->topic_cnt == 1 ? found->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    *out = code ? 0 : found->topics[0].partition_cnt;
    rd_kafka_metadata_destroy(found);
    return !code || kafka_err_no_topic(code) ? ERR_OK : error_set(e, kafka_err(code), "%s", rd_kafka_err2str(code));
}

static enum err read_topic(struct reading *r, const char *topic, struct error *e) {
    enum err err = count(r->rk, topic, &r->ends, e);
    if (err || r->ends == 0) return err;
    if (!(r->ended = calloc((size_t)r->ends, sizeof *r->ended))) die("out of memory");
    rd_kafka_topic_partition_list_t *all = rd_kafka_topic_partition_list_new(r->ends);
    for (int i = 0; i < r->ends; i++)
        rd_kafka_topic_partition_list_add(all, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_assign(r->rk, all);
    rd_kafka_topic_partition_list_destroy(all);
    err = read_all(r, e);
    free(r->ended);
    rd_kafka_assign(r->rk, NULL);
    return err;
}

enum err kafka_each_parked(const char *url, const char *group, bus_parked_fn *each, void *arg, struct error *e) {
    struct kafka_settings settings;
    struct reading r = {.each = each, .arg = arg};
    char topic[KAFKA_TOPIC_MAX + 16], why[256];
    if ((size_t)snprintf(topic, sizeof topic, "%s.parked", group) >= KAFKA_TOPIC_MAX)
        return error_field(e, "group", "the name is too long");
    enum err err = kafka_settings_init(&settings, url, e);
    if (err) return err;
    rd_kafka_conf_t *conf = rd_kafka_conf_dup(settings.conf);
    kafka_settings_release(&settings);
    kafka_conf_set(conf, "group.id", "barid-parked", "enable.auto.commit", "false", "enable.partition.eof", "true",
                   NULL);
    r.rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (!r.rk) {
        rd_kafka_conf_destroy(conf);
        return error_set(e, ERR_INVALID, "no consumer for Kafka: %s", why);
    }
    rd_kafka_poll_set_consumer(r.rk);
    err = read_topic(&r, topic, e);
    rd_kafka_consumer_close(r.rk);
    rd_kafka_destroy(r.rk);
    return err;
}
