// Publishing: an event becomes a record, a delivery report becomes its answer.
//
//   topic, key, payload   Kafka's topic, key (none when empty) and value
//   headers               CloudEvents, binary mode: ce_specversion, ce_id, ce_type (the topic), ce_source, ce_time,
//                         content-type; then the event's own. An event that brings one of these itself is taken at its
//                         word, but for ce_specversion and ce_id.
//
// To a topic that is not known yet the event waits until the broker has said whether there is one (kafka_topics.c).
//
// A broker refuses a batch as a whole, the innocent with the guilty. So the members of a batch that is refused for what
// one of them may have done are published again, one by one and in order; what is refused then is guilty. Events of one
// key that are under way meanwhile may overtake: whoever needs the order of a key has one event of it under way.
#include "bus/kafka.h"

#include "base/assert.h"
#include "base/id.h"
#include "base/io.h"
#include "base/log.h"
#include "base/time.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define WAITING_MAX 10000
#define HEADERS_MAX 64

// ---- headers

static bool brings(const struct bus_event *event, const char *name) {
    for (size_t i = 0; i < event->header_count; i++)
        if (strcasecmp(event->headers[i].name, name) == 0) return true;
    return false;
}

static void add(rd_kafka_headers_t *h, const char *name, const char *value) {
    if (rd_kafka_header_add(h, name, -1, value, -1)) die("out of memory");
}

static void add_missing(rd_kafka_headers_t *h, const struct bus_event *event, const char *name, const char *value) {
    if (!brings(event, name)) add(h, name, value);
}

static int64_t published_at(struct kafka *k, const struct bus_event *event) {
    return event->at_ms ? event->at_ms : io_wall_ms(k->io);
}

static rd_kafka_headers_t *headers_of(struct kafka *k, const struct bus_event *event) {
    char id[ID_TEXT], time[TIME_TEXT];
    rd_kafka_headers_t *h = rd_kafka_headers_new(event->header_count + 6);
    id_format(&event->event_id, id);
    time_format_ms(published_at(k, event), time);
    add(h, "ce_specversion", "1.0");
    add(h, "ce_id", id);
    add_missing(h, event, "ce_type", event->topic);
    add_missing(h, event, "ce_source", k->settings.source);
    add_missing(h, event, "ce_time", time);
    add_missing(h, event, "content-type", "application/json");
    for (size_t i = 0; i < event->header_count; i++) {
        const struct bus_header *own = &event->headers[i];
        if (strcasecmp(own->name, "ce_id") != 0 && strcasecmp(own->name, "ce_specversion") != 0)
            add(h, own->name, own->value);
    }
    return h;
}

// ---- records

// What a report has to find again.
struct unanswered {
    bus_done_fn *done;
    void *arg;
    int gate;
};

static void answer(bus_done_fn *done, void *arg, enum err err, const char *why) {
    if (done) done(arg, err, why);
}

void kafka_held_answer(struct kafka_held *h, enum err err, const char *why) {
    answer(h->done, h->arg, err, why);
    if (h->headers) rd_kafka_headers_destroy(h->headers);
    free(h);
}

static struct kafka_held *held_copy(const struct kafka_held *from) {
    size_t topic = strlen(from->topic) + 1;
    struct kafka_held *h = malloc(sizeof *h + topic + from->key_length + from->payload_length);
    if (!h) die("out of memory");
    char *at = (char *)(h + 1);
    *h = *from;
    h->node = (struct list_node){0};
    h->topic = memcpy(at, from->topic, topic);
    if (from->key) h->key = memcpy(at + topic, from->key, from->key_length);
    if (from->payload) h->payload = memcpy(at + topic + from->key_length, from->payload, from->payload_length);
    return h;
}

// The headers are taken over when, and only when, it is ERR_OK. `rkt` NULL: the topic by its name.
static rd_kafka_resp_err_t produce(struct kafka_producer *p, rd_kafka_topic_t *rkt, const struct kafka_held *h,
                                   struct error *e) {
    struct unanswered *u = malloc(sizeof *u);
    if (!u) die("out of memory");
    *u = (struct unanswered){.done = h->done, .arg = h->arg, .gate = h->gate};
    rd_kafka_vu_t what[] = {
        rkt ? (rd_kafka_vu_t){.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = rkt}
            : (rd_kafka_vu_t){.vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = h->topic},
        {.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = h->gate && !h->key ? h->gate - 1 : RD_KAFKA_PARTITION_UA},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {.ptr = (void *)h->key, .size = h->key_length}},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {.ptr = (void *)h->payload, .size = h->payload_length}},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = h->headers},
        {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = h->at_ms},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = u},
    };
    rd_kafka_error_t *failed = rd_kafka_produceva(p->rk, what, sizeof what / sizeof *what);
    if (!failed) {
        p->unanswered++;
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    }
    rd_kafka_resp_err_t code = rd_kafka_error_code(failed);
    enum err err = code == RD_KAFKA_RESP_ERR__QUEUE_FULL ? ERR_BUSY : kafka_err(code);
    error_set(e, err, "%s", rd_kafka_error_string(failed));
    rd_kafka_error_destroy(failed);
    free(u);
    return code;
}

void kafka_held_send(struct kafka_producer *p, rd_kafka_topic_t *rkt, struct kafka_held *h) {
    struct error e;
    if (produce(p, rkt, h, &e)) {
        kafka_held_answer(h, e.code, e.text);
        return;
    }
    free(h); // its answer comes with the report, its headers are librdkafka's
}

void kafka_topic_send(struct kafka_topic *t, struct kafka_held *h) {
    struct error e;
    rd_kafka_resp_err_t code = produce(t->producer, t->rkt, h, &e);
    if (!code) {
        kafka_gate_passed(t, h->gate);
        free(h);
    } else if (kafka_err_no_topic(code)) { // it was deleted
        t->known = false;
        kafka_topic_wait(t, h);
    } else {
        kafka_held_answer(h, e.code, e.text);
    }
}

// ---- one by one

// The next one when the one before has its answer; one that is refused at once has it already.
static void send_next_alone(struct kafka *k) {
    struct list_node *next;
    struct error e;
    while ((!k->alone || k->alone->unanswered == 0) && (next = list_pop_front(&k->lonely)) != NULL) {
        struct kafka_held *h = LIST_ITEM(next, struct kafka_held, node);
        if (!k->alone) k->alone = kafka_producer_new(k, true, &e);
        if (k->alone) kafka_held_send(k->alone, NULL, h);
        else kafka_held_answer(h, ERR_UNAVAILABLE, e.text);
    }
}

static struct kafka_held *take_back(const rd_kafka_message_t *m, const struct unanswered *u) {
    rd_kafka_headers_t *headers = NULL;
    rd_kafka_message_detach_headers((rd_kafka_message_t *)m, &headers);
    struct kafka_held from = {.done = u->done,
                              .arg = u->arg,
                              .headers = headers,
                              .topic = rd_kafka_topic_name(m->rkt),
                              .key = m->key,
                              .key_length = m->key_len,
                              .payload = m->payload,
                              .payload_length = m->len,
                              .at_ms = rd_kafka_message_timestamp(m, NULL)};
    return held_copy(&from);
}

// The broker says of a batch that it has had it, but not where: librdkafka calls that a success without an offset. It
// can be wrong. When the first batch to a partition just made is refused for a moment and the second is not, the broker
// begins to count with the second, and takes the first for an old one when it comes again. So such records are
// published anew: twice, with the same id, rather than never.
static void send_again(struct kafka_producer *p, const rd_kafka_message_t *m, const struct unanswered *u) {
    log_event(LOG_WARN, "kafka_duplicate_doubted", "topic", rd_kafka_topic_name(m->rkt), NULL);
    kafka_held_send(p, m->rkt, take_back(m, u));
}

// ---- reports

static struct kafka_topic *topic_of(struct kafka_producer *p, const rd_kafka_message_t *m) {
    const char *name = rd_kafka_topic_name(m->rkt);
    return map_get(&p->topics, name, strlen(name));
}

// A broker that has just come back may not know its topics yet: the event waits until it is asked.
static bool ask_for_topic(struct kafka_producer *p, const rd_kafka_message_t *m, const struct unanswered *u) {
    struct kafka_topic *t = topic_of(p, m);
    if (!t || p->retired || p->bus->closing) return false;
    t->known = false;
    kafka_topic_wait(t, take_back(m, u));
    return true;
}

void kafka_report(struct kafka_producer *p, const rd_kafka_message_t *m) {
    struct unanswered u = *(struct unanswered *)m->_private;
    struct kafka *k = p->bus;
    rd_kafka_msg_status_t status = rd_kafka_message_status(m);
    free(m->_private);
    bool ok = !m->err || status == RD_KAFKA_MSG_STATUS_PERSISTED, doubtful = ok && m->offset < 0;
    struct kafka_topic *t = topic_of(p, m);
    if (ok && t && t->known && !k->closing && m->partition >= t->gates_n) kafka_topic_look(t);
    if (t) kafka_gate_answered(t, u.gate, !ok && kafka_err(m->err) == ERR_UNAVAILABLE);
    if (doubtful && (p->retired || k->closing)) {
        answer(u.done, u.arg, ERR_UNAVAILABLE, "the broker takes it for a duplicate and does not say of what");
    } else if (doubtful) {
        send_again(p, m, &u);
    } else if (ok) {
        kafka_is_there(k);
        answer(u.done, u.arg, ERR_OK, "");
    } else if (kafka_err_no_topic(m->err) && ask_for_topic(p, m, &u)) {
        // answered when the broker has said whether there is such a topic
    } else if (!p->alone && !k->closing && kafka_err_of_one_in_batch(m->err)) {
        list_push_back(&k->lonely, &take_back(m, &u)->node);
    } else {
        char why[256];
        bool perhaps = status == RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED;
        snprintf(why, sizeof why, "%s (%s)%s", rd_kafka_err2str(m->err), rd_kafka_err2name(m->err),
                 perhaps ? "; the broker may have it all the same" : "");
        if (kafka_err(m->err) == ERR_UNAVAILABLE) kafka_suspect(k);
        answer(u.done, u.arg, kafka_err(m->err), why);
    }
    send_next_alone(k);
}

// ---- publishing

static enum err send_now(struct kafka_topic *t, const struct kafka_held *record, struct error *e) {
    rd_kafka_resp_err_t code = produce(t->producer, t->rkt, record, e);
    if (!code) kafka_gate_passed(t, record->gate);
    else if (kafka_err_no_topic(code)) t->known = false; // it was deleted
    return code ? e->code : ERR_OK;
}

static enum err take(struct kafka *k, struct kafka_held *record, bool create, struct error *e) {
    struct kafka_producer *p = kafka_producer_together(k, e);
    if (!p) return ERR_UNAVAILABLE;
    struct kafka_topic *t = kafka_topic_get(p, record->topic, e);
    if (!t) return e->code;
    t->create |= create;
    if (t->known && kafka_gate_closed(t, record)) {
        if (p->held + p->unanswered >= p->most) return error_set(e, ERR_BUSY, "too many events wait for the broker");
        kafka_gate_hold(t, held_copy(record));
        return ERR_OK;
    }
    if (t->known) {
        enum err err = send_now(t, record, e);
        if (t->known) return err;
    }
    if (p->waiting >= WAITING_MAX) return error_set(e, ERR_BUSY, "too many events wait to know their topic");
    kafka_topic_wait(t, held_copy(record));
    return ERR_OK;
}

enum err kafka_publish_record(struct kafka *k, const struct kafka_held *from, struct error *e) {
    struct error why;
    struct kafka_held own = *from, *record = &own;
    enum err code = k->closing ? error_set(&why, ERR_CLOSED, "the bus is closing") : take(k, record, true, &why);
    if (code) rd_kafka_headers_destroy(record->headers);
    if (code && e) *e = why;
    return code;
}

enum err kafka_publish(struct bus *bus, const struct bus_event *event, bus_done_fn *done, void *arg, struct error *e) {
    struct kafka *k = (struct kafka *)bus;
    struct error why;
    if (k->closing) return error_set(e, ERR_CLOSED, "the bus is closing");
    if (strlen(event->topic) >= KAFKA_TOPIC_MAX)
        return error_field(e, "topic", "Kafka's topics have at most 249 bytes");
    if (event->header_count > HEADERS_MAX)
        return error_field(e, "headers", "an event has at most %d headers", HEADERS_MAX);
    bool keyed = event->key && event->key[0];
    struct kafka_held record = {.done = done,
                                .arg = arg,
                                .headers = headers_of(k, event),
                                .topic = event->topic,
                                .key = keyed ? event->key : NULL,
                                .key_length = keyed ? strlen(event->key) : 0,
                                .payload = event->payload,
                                .payload_length = event->payload_length,
                                .at_ms = event->at_ms};
    enum err code = take(k, &record, k->settings.create_topics, &why);
    if (code) rd_kafka_headers_destroy(record.headers);
    if (code && e) *e = why;
    return code;
}
