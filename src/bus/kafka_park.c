// Parking: an event that spent its attempts, or was given up, is published to the topic GROUP.parked, with what it was
// and why it is there, and only when that is confirmed does it count as done. Until then its key waits, and its offset
// is not committed; a broker that is away is asked again and again.
//
//   barid-parked-reason, -attempts, -topic, -partition, -offset, -at   beside the headers it came with
#include "bus/kafka_group.h"

#include "base/backoff.h"
#include "base/io.h"
#include "base/log.h"
#include "base/time.h"

#include "base/assert.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "barid-parked-"

struct kafka_parking {
    struct kafka_event *event; // NULL: it went back meanwhile
};

static void add(rd_kafka_headers_t *h, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void add(rd_kafka_headers_t *h, const char *name, const char *format, ...) {
    char value[512];
    va_list args;
    va_start(args, format);
    vsnprintf(value, sizeof value, format, args);
    va_end(args);
    rd_kafka_header_remove(h, name); // parked before, and sent on again
    if (rd_kafka_header_add(h, name, -1, value, -1)) die("out of memory");
}

static rd_kafka_headers_t *headers_of(const struct kafka_event *v) {
    rd_kafka_headers_t *own, *h;
    char at[TIME_TEXT];
    h = rd_kafka_message_headers(v->m, &own) ? rd_kafka_headers_new(6) : rd_kafka_headers_copy(own);
    time_format_ms(io_wall_ms(v->member->bus->io), at);
    add(h, PREFIX "reason", "%s", v->reason);
    add(h, PREFIX "attempts", "%" PRIu32, v->attempt);
    add(h, PREFIX "topic", "%s", v->partition->topic);
    add(h, PREFIX "partition", "%" PRId32, v->partition->number);
    add(h, PREFIX "offset", "%" PRId64, v->m->offset);
    add(h, PREFIX "at", "%s", at);
    return h;
}

void kafka_parking_forget(struct kafka_parking *p) { p->event = NULL; }

static void on_again(struct loop_timer *t) { kafka_park(LIST_ITEM(t, struct kafka_event, timer)); }

static void not_now(struct kafka_event *v, enum err err, const char *why) {
    log_event(LOG_WARN, "park_failed", "group", v->member->group, "topic", v->partition->topic, "error", err_name(err),
              "why", why, NULL);
    kafka_event_later(v, backoff_delay(&BACKOFF_DEFAULT, v->member->bus->io, 3, 500), on_again);
}

static void on_done(void *arg, enum err err, const char *why) {
    struct kafka_parking *p = arg;
    struct kafka_event *v = p->event;
    free(p);
    if (!v) return;
    v->parking = NULL;
    if (err) {
        not_now(v, err, why);
        return;
    }
    struct kafka_member *m = v->member;
    struct bus_place place = kafka_place_of(v->partition, v->m->offset);
    if (m->on_parked && !m->ended) m->on_parked(m->arg, &m->subscription, &place);
    kafka_event_leave(v);
}

void kafka_park(struct kafka_event *v) {
    char topic[KAFKA_TOPIC_MAX + 16];
    struct error e;
    struct kafka_parking *p = malloc(sizeof *p);
    if (!p) die("out of memory");
    p->event = v;
    snprintf(topic, sizeof topic, "%s.parked", v->member->group);
    struct kafka_held record = {.done = on_done,
                                .arg = p,
                                .headers = headers_of(v),
                                .topic = topic,
                                .key = v->m->key,
                                .key_length = v->m->key_len,
                                .payload = v->m->payload,
                                .payload_length = v->m->len};
    v->state = KAFKA_PARKS;
    if (kafka_publish_record(v->member->bus, &record, &e)) {
        free(p);
        not_now(v, e.code, e.text);
        return;
    }
    v->parking = p;
}
