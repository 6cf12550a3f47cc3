// A group's connection, on its thread: makes the queue, puts messages together from their frames, acknowledges.
#include "bus/amqp_group.h"
#include "bus/amqp_pattern.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

// ---- lists between the threads

void amqp_items_clear(struct amqp_items *l) {
    l->first = NULL;
    l->end = &l->first;
}

void amqp_items_add(struct amqp_items *l, struct amqp_item *v) {
    v->next = NULL;
    *l->end = v;
    l->end = &v->next;
}

struct amqp_item *amqp_items_all(struct amqp_items *l) {
    struct amqp_item *first = l->first;
    amqp_items_clear(l);
    return first;
}

void amqp_item_free(struct amqp_item *v) {
    if (!v) return;
    amqp_event_free(v->event);
    free(v->reason);
    free(v);
}

// ---- setting up

static bool make_queues(struct amqp_group *g) {
    amqp_table_entry_t one = {.key = amqp_cstring_bytes("x-single-active-consumer"),
                              .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}};
    amqp_table_t single = {.num_entries = 1, .entries = &one};
    return amqp_link_queue(g->link, g->queue, single) && amqp_link_queue(g->link, g->parked, amqp_empty_table);
}

static bool bind_queue(struct amqp_group *g) {
    const char *exchange = g->bus->settings.exchange;
    if (exchange[0] == 0) return true;
    amqp_queue_bind(amqp_link_connection(g->link), AMQP_CHANNEL, amqp_cstring_bytes(g->queue),
                    amqp_cstring_bytes(exchange), amqp_cstring_bytes(g->bound), amqp_empty_table);
    return amqp_link_replied(g->link, "binding the queue");
}

static bool on_ready(void *role) {
    struct amqp_group *g = role;
    amqp_connection_state_t c = amqp_link_connection(g->link);
    if (!amqp_link_exchange(g->link, &g->bus->settings) || !make_queues(g) || !bind_queue(g)) return false;
    amqp_basic_qos(c, AMQP_CHANNEL, 0, (uint16_t)g->window, 0);
    if (!amqp_link_replied(g->link, "setting the prefetch")) return false;
    amqp_basic_consume(c, AMQP_CHANNEL, amqp_cstring_bytes(g->queue), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
    return amqp_link_replied(g->link, "consuming");
}

// ---- messages

static bool acknowledge(struct amqp_group *g, const struct amqp_item *v) {
    return amqp_link_sent(g->link, amqp_basic_ack(amqp_link_connection(g->link), AMQP_CHANNEL, v->delivery_tag, 0));
}

static bool complete(struct amqp_group *g) {
    struct amqp_item *v = g->incoming;
    g->incoming = NULL;
    if (g->sift && !amqp_pattern_matches(g->pattern, v->event->event.topic)) {
        bool sent = acknowledge(g, v);
        amqp_item_free(v);
        return sent;
    }
    amqp_link_proved(g->link);
    amqp_link_lock(g->link);
    v->epoch = g->epoch;
    amqp_items_add(&g->arrived, v);
    amqp_link_post(g->link);
    amqp_link_unlock(g->link);
    return true;
}

static bool on_method(struct amqp_group *g, const amqp_method_t *method) {
    if (method->id == AMQP_BASIC_CANCEL_METHOD) return amqp_link_fail(g->link, "the queue '%s' is gone", g->queue);
    if (method->id != AMQP_BASIC_DELIVER_METHOD) return true;
    const amqp_basic_deliver_t *m = method->decoded;
    g->incoming = calloc(1, sizeof *g->incoming);
    if (!g->incoming) return amqp_link_fail(g->link, "out of memory");
    g->incoming->delivery_tag = m->delivery_tag;
    g->routing_key_length = m->routing_key.len;
    ASSERT(m->routing_key.len < sizeof g->routing_key);
    memcpy(g->routing_key, m->routing_key.bytes, m->routing_key.len);
    return true;
}

static bool on_header(struct amqp_group *g, const amqp_frame_t *f) {
    amqp_bytes_t key = {.bytes = g->routing_key, .len = g->routing_key_length};
    uint64_t size = f->payload.properties.body_size;
    if (size > UINT32_MAX / 2) return amqp_link_fail(g->link, "a message of %llu bytes", (unsigned long long)size);
    g->incoming->event = amqp_event_decode(key, f->payload.properties.decoded, size);
    if (!g->incoming->event)
        return amqp_link_fail(g->link, "out of memory for a message of %llu bytes", (unsigned long long)size);
    g->filled = 0;
    return size > 0 || complete(g);
}

static bool on_body(struct amqp_group *g, amqp_bytes_t part) {
    struct amqp_event *v = g->incoming->event;
    if (!v || part.len > v->event.payload_length - g->filled)
        return amqp_link_fail(g->link, "the broker sends more than it said");
    memcpy(v->body + g->filled, part.bytes, part.len);
    g->filled += part.len;
    return g->filled < v->event.payload_length || complete(g);
}

static bool on_frame(void *role, const amqp_frame_t *f) {
    struct amqp_group *g = role;
    if (f->frame_type == AMQP_FRAME_METHOD) return on_method(g, &f->payload.method);
    if (!g->incoming) return true;
    if (f->frame_type == AMQP_FRAME_HEADER) return on_header(g, f);
    return f->frame_type != AMQP_FRAME_BODY || on_body(g, f->payload.body_fragment);
}

// ---- what the loop asks for

static enum amqp_work on_work(void *role) {
    struct amqp_group *g = role;
    bool ok = true;
    amqp_link_lock(g->link);
    struct amqp_item *v = amqp_items_all(&g->settled), *next;
    uint32_t epoch = g->epoch;
    amqp_link_unlock(g->link);
    for (; v; v = next) {
        next = v->next;
        ok = ok && (v->epoch != epoch || acknowledge(g, v));
        amqp_item_free(v);
    }
    return ok ? AMQP_WORK_DONE : AMQP_WORK_LOST;
}

static void on_lost(void *role, const char *why) {
    struct amqp_group *g = role;
    amqp_item_free(g->incoming);
    g->incoming = NULL;
    amqp_link_lock(g->link);
    g->epoch++;
    struct amqp_item *v = amqp_items_all(&g->settled), *next;
    amqp_link_post(g->link);
    amqp_link_unlock(g->link);
    for (; v; v = next) {
        next = v->next;
        amqp_item_free(v);
    }
}

static bool on_idle(void *role) {
    struct amqp_group *g = role;
    amqp_link_lock(g->link);
    bool idle = !g->settled.first;
    amqp_link_unlock(g->link);
    return idle;
}

const struct amqp_role amqp_consumer = {.ready = on_ready,
                                        .work = on_work,
                                        .frame = on_frame,
                                        .lost = on_lost,
                                        .idle = on_idle,
                                        .post = amqp_group_post,
                                        .ended = amqp_group_ended};
