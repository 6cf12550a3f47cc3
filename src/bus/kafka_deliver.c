// Records become deliveries, and settling lets offsets go on.
//
// Of one key, one event at a time is with the handlers, those behind it wait (bus/turns.h). A retry keeps its turn and
// comes again after its backoff; attempts are counted in memory, so another owner of the partition begins with the
// first. Events without a key, and those of an `unordered` subscription, are independent of each other.
//
// At most four times the prefetch is held, and HELD_BYTES and one record more, of all partitions together; and a
// partition is not read further than so many records past its first unsettled one. Beyond that its records stay in
// librdkafka's queue, which is bounded too (queued.max.messages.kbytes), and then with the broker. Partitions are read
// in turn.
#include "bus/kafka_group.h"

#include "base/assert.h"
#include "base/backoff.h"
#include "base/log.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_FACTOR 4
#define HELD_BYTES    (32u << 20)
#define READ_A_TURN   512
#define READ_A_PLACE  64
#define AHEAD_MAX     100000 // so many come again at most when the partition goes to somebody else

// ---- events

static void make_eligible(struct kafka_event *v) {
    v->state = KAFKA_ELIGIBLE;
    list_push_back(&v->member->eligible, &v->node);
}

static void message_done(struct kafka_member *m, rd_kafka_message_t *message) {
    if (m->calling == message) m->calling_left = true; // the handler is reading it
    else rd_kafka_message_destroy(message);
}

// Its key goes on without it.
static void event_free(struct kafka_event *v) {
    struct kafka_member *m = v->member;
    struct turn *next = m->unordered ? NULL : turns_leave(&m->turns, &v->turn);
    if (next) make_eligible(LIST_ITEM(next, struct kafka_event, turn));
    if (v->state == KAFKA_IN_HAND) m->in_hand--;
    if (v->parking) kafka_parking_forget(v->parking);
    loop_timer_stop(m->bus->loop, &v->timer);
    list_remove(&v->node);
    list_remove(&v->unsettled);
    map_remove(&m->events, &v->tag, sizeof v->tag);
    m->bytes -= v->bytes;
    message_done(m, v->m);
    free(v);
}

void kafka_event_leave(struct kafka_event *v) {
    struct kafka_member *m = v->member;
    event_free(v);
    kafka_commit_soon(m);
    kafka_wake_again(m->wake); // there is room, and perhaps nothing more to wait for
}

void kafka_event_drop(struct kafka_event *v) {
    struct kafka_partition *p = v->partition;
    if (p->dropped < 0 || v->m->offset < p->dropped) p->dropped = v->m->offset;
    event_free(v);
}

void kafka_event_later(struct kafka_event *v, uint32_t ms, void (*then)(struct loop_timer *t)) {
    v->timer.fn = then;
    loop_timer_start(v->member->bus->loop, &v->timer, ms);
}

static void event_new(struct kafka_partition *p, rd_kafka_message_t *message) {
    struct kafka_member *m = p->member;
    struct kafka_event *v = calloc(1, sizeof *v);
    char key[KAFKA_KEY_MAX + 1];
    if (!v) die("out of memory");
    *v = (struct kafka_event){.member = m, .partition = p, .m = message, .tag = ++m->last_tag, .attempt = 1};
    v->bytes = kafka_record_bytes(message);
    m->bytes += v->bytes;
    if (!map_put(&m->events, &v->tag, sizeof v->tag, v)) die("out of memory");
    list_push_back(&p->unsettled, &v->unsettled);
    p->next = message->offset + 1;
    if (m->unordered || !kafka_record_key(message, key) || turns_add(&m->turns, &v->turn, key)) make_eligible(v);
}

// ---- reading

static bool has_room(const struct kafka_member *m) {
    return m->events.len < (size_t)m->prefetch * WINDOW_FACTOR && m->bytes < HELD_BYTES;
}

static bool too_far_ahead(struct kafka_partition *p) {
    struct list_node *first = list_first(&p->unsettled);
    return first && p->next - LIST_ITEM(first, struct kafka_event, unsettled)->m->offset > AHEAD_MAX;
}

static void not_a_record(struct kafka_partition *p, rd_kafka_message_t *message) {
    log_event(LOG_WARN, "kafka_partition_error", "topic", p->topic, "why", rd_kafka_message_errstr(message), NULL);
    rd_kafka_message_destroy(message);
}

// True: there may be more.
static bool read_partition(struct kafka_partition *p) {
    if (p->leaving || too_far_ahead(p)) return false;
    for (int i = 0; i < READ_A_PLACE && has_room(p->member); i++) {
        rd_kafka_message_t *message = rd_kafka_consume_queue(p->queue, 0);
        if (!message) return false;
        if (message->err) not_a_record(p, message);
        else event_new(p, message);
    }
    return true;
}

bool kafka_read(struct kafka_member *m) {
    bool more = true;
    if (m->calling) return false;
    for (int turn = 0; more && turn < READ_A_TURN / READ_A_PLACE; turn++) {
        more = false;
        LIST_EACH(&m->partitions, at) { more = read_partition(LIST_ITEM(at, struct kafka_partition, node)) || more; }
    }
    // Who was last among many is first next time.
    struct list_node *first = list_pop_front(&m->partitions);
    if (first) list_push_back(&m->partitions, first);
    return more && has_room(m);
}

// ---- handing out

static void hand_over(struct kafka_event *v) {
    struct kafka_member *m = v->member;
    struct kafka_record record;
    rd_kafka_message_t *message = v->m;
    kafka_record_read(&record, message);
    struct bus_delivery out = {.event = record.event,
                               .tag = v->tag,
                               .attempt = v->attempt,
                               .published_at_ms = rd_kafka_message_timestamp(message, NULL),
                               .place = kafka_place_of(v->partition, message->offset)};
    if (out.published_at_ms < 0) out.published_at_ms = 0;
    v->state = KAFKA_IN_HAND;
    m->in_hand++;
    m->calling = message;
    m->calling_left = false;
    m->deliver(m->arg, &out);
    m->calling = NULL;
    if (m->calling_left) rd_kafka_message_destroy(message);
}

void kafka_hand_out(struct kafka_member *m) {
    if (m->calling) return;
    for (int i = 0; i < READ_A_TURN && !m->ended && m->in_hand < m->prefetch; i++) {
        struct list_node *n = list_pop_front(&m->eligible);
        if (!n) return;
        hand_over(LIST_ITEM(n, struct kafka_event, node));
    }
    if (!m->ended && m->in_hand < m->prefetch && !list_empty(&m->eligible)) kafka_wake_again(m->wake);
}

// ---- settling

static void on_retry(struct loop_timer *t) {
    struct kafka_event *v = LIST_ITEM(t, struct kafka_event, timer);
    v->attempt++;
    make_eligible(v);
    kafka_wake_again(v->member->wake);
}

static void out_of_hand(struct kafka_event *v, enum kafka_event_state state) {
    v->state = state;
    v->member->in_hand--;
    kafka_wake_again(v->member->wake);
}

void kafka_settle(struct bus_subscription *s, uint64_t tag, enum bus_settle how, const char *reason) {
    struct kafka_member *m = (struct kafka_member *)s;
    struct kafka_event *v = map_get(&m->events, &tag, sizeof tag);
    if (!v || v->state != KAFKA_IN_HAND) return; // its partition is somebody else's by now
    if (how == BUS_ACK) {
        kafka_event_leave(v);
        return;
    }
    if (how == BUS_RETRY && v->partition->leaving) { // by the next owner
        kafka_event_drop(v);
        kafka_wake_again(m->wake);
        return;
    }
    snprintf(v->reason, sizeof v->reason, "%s", reason ? reason : "");
    v->reason[utf8_whole(v->reason, strlen(v->reason))] = '\0';
    if (how == BUS_RETRY && v->attempt < m->max_attempts) {
        out_of_hand(v, KAFKA_RETRIES);
        kafka_event_later(v, backoff_delay(&BACKOFF_DEFAULT, m->bus->io, v->attempt - 1, 0), on_retry);
        return;
    }
    out_of_hand(v, KAFKA_PARKS);
    kafka_park(v);
}
