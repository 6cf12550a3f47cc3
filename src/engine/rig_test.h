// For tests: an engine on a simulated machine, its commits made by hand, and a consumer that writes down what it
// gets.
#ifndef BARID_ENGINE_RIG_TEST_H
#define BARID_ENGINE_RIG_TEST_H

#include "base/test.h"

#include "engine/engine.h"
#include "journal/journal.h"
#include "sim/io_sim.h"

#define SEEN_MAX 4096

struct seen {
    char body[64], queue[64], id[64], key[64];
    uint64_t tag;
    uint32_t attempt, body_length;
    uint8_t priority;
    bool redelivered, counted;
    uint8_t properties[1500];
    uint32_t properties_length;
    struct session *session;
};

struct rig {
    struct io_sim *sim;
    struct journal_options journal;
    struct engine_options options;
    struct engine *engine;
    struct vhost *vhost; // "/"
    struct error err;
    struct seen seen[SEEN_MAX];
    uint32_t n_seen;
    uint32_t done[4];        // callbacks, by result
    uint32_t settled_inline; // the consumer acks at once
};

struct taker { // a session with one consumer
    struct rig *rig;
    struct session *session;
    struct consumer *consumer;
    uint32_t ended;
    bool ack;
};

static inline void rig_deliver(void *arg, const struct delivery *d) {
    struct taker *t = arg;
    struct rig *r = t->rig;
    assert_true(r->n_seen < SEEN_MAX);
    struct seen *s = &r->seen[r->n_seen++];
    memset(s, 0, sizeof *s);
    uint32_t n = d->body_length < sizeof s->body - 1 ? d->body_length : sizeof s->body - 1;
    memcpy(s->body, d->body, n);
    snprintf(s->queue, sizeof s->queue, "%s", d->queue);
    snprintf(s->id, sizeof s->id, "%s", d->message_id);
    snprintf(s->key, sizeof s->key, "%s", d->routing_key);
    s->tag = d->tag;
    s->attempt = d->attempt;
    s->body_length = d->body_length;
    s->priority = d->priority;
    s->redelivered = d->redelivered;
    s->counted = d->counted;
    if (d->properties_length <= sizeof s->properties) {
        if (d->properties_length) memcpy(s->properties, d->properties, d->properties_length);
        s->properties_length = d->properties_length;
    }
    s->session = t->session;
    if (t->ack) assert_int_equal(engine_settle(t->session, d->tag, false, SETTLE_ACK, NULL, NULL), ERR_OK);
}

static inline void rig_done(void *arg, enum publish_result result) { ((struct rig *)arg)->done[result]++; }

static inline void rig_open(struct rig *r) {
    r->options.journal = &r->journal;
    if (engine_open(&r->engine, io_sim_io(r->sim), &r->options, &r->err)) fail_msg("%s", r->err.text);
    r->vhost = engine_vhost(r->engine, "/");
}

static inline struct rig *rig_new(void) {
    struct rig *r = calloc(1, sizeof *r);
    r->sim = io_sim_new(1);
    r->journal = (struct journal_options){.dir = "journal", .segment_bytes = 1 << 20, .low_water_bytes = 1 << 20};
    rig_open(r);
    return r;
}

static inline void rig_free(struct rig *r) {
    engine_close(r->engine);
    io_sim_free(r->sim);
    free(r);
}

static inline void rig_sync(struct rig *r) {
    struct journal *j = engine_journal(r->engine);
    engine_flush(r->engine);
    for (struct journal_batch *b; (b = journal_batch_begin(j));) {
        assert_int_equal(journal_batch_write(b, &r->err), ERR_OK);
        journal_batch_end(j, b);
    }
    engine_durable(r->engine);
}

// Until there is nothing left to do at this moment.
static inline void rig_run(struct rig *r) {
    do {
        rig_sync(r);
        engine_tick(r->engine);
    } while (engine_dispatch(r->engine) ||
             journal_appended(engine_journal(r->engine)) > journal_durable(engine_journal(r->engine)));
}

static inline void rig_advance(struct rig *r, uint64_t ms) {
    io_sim_advance(r->sim, ms * 1000000);
    rig_run(r);
}

static inline void rig_crash(struct rig *r) {
    io_sim_crash(r->sim);
    engine_close(r->engine);
    r->n_seen = 0;
    rig_open(r);
}

static inline void rig_queue(struct rig *r, const char *name, struct queue_options o) {
    if (engine_queue_declare(r->vhost, name, &o, &r->err)) fail_msg("%s", r->err.text);
}

static inline enum err rig_declare(struct rig *r, const char *name, enum exchange_type type) {
    return engine_exchange_declare(r->vhost, name, &(struct exchange_options){.type = type, .durable = true}, &r->err);
}

static inline void rig_exchange(struct rig *r, const char *name, enum exchange_type type) {
    if (rig_declare(r, name, type)) fail_msg("%s", r->err.text);
}

static inline struct binding_spec rig_binding(const char *exchange, const char *queue, const char *key) {
    return (struct binding_spec){.source = exchange, .destination = queue, .key = key};
}

static inline void rig_bind(struct rig *r, const char *exchange, const char *queue, const char *key) {
    struct binding_spec b = rig_binding(exchange, queue, key);
    if (engine_bind(r->vhost, &b, &r->err)) fail_msg("%s", r->err.text);
}

static inline void rig_unbind(struct rig *r, const char *exchange, const char *queue, const char *key) {
    struct binding_spec b = rig_binding(exchange, queue, key);
    if (engine_unbind(r->vhost, &b, &r->err)) fail_msg("%s", r->err.text);
}

static inline void rig_delete(struct rig *r, const char *queue) {
    if (engine_queue_delete(r->vhost, queue, false, false, NULL, &r->err)) fail_msg("%s", r->err.text);
}

static inline enum err rig_send(struct rig *r, struct message m) {
    if (!m.exchange) m.exchange = "";
    if (m.body && !m.body_length) m.body_length = (uint32_t)strlen(m.body);
    return engine_publish(r->vhost, &m, rig_done, r, NULL, &r->err);
}

// A persistent message straight to a queue.
static inline void rig_put(struct rig *r, const char *queue, const char *body) {
    assert_int_equal(rig_send(r, (struct message){.routing_key = queue, .body = body, .persistent = true}), ERR_OK);
}

static inline void rig_ended(void *arg, void *consumer_arg) { ((struct taker *)arg)->ended++; }

static inline void rig_session(struct rig *r, struct taker *t) {
    t->rig = r;
    t->session =
        engine_session_new(r->engine, &(struct session_options){.deliver = rig_deliver, .ended = rig_ended, .arg = t});
}

static inline void rig_take(struct rig *r, struct taker *t, const char *queue, struct consumer_options o) {
    rig_session(r, t);
    if (engine_consume(t->session, r->vhost, queue, &o, NULL, &t->consumer, &r->err)) fail_msg("%s", r->err.text);
}

static inline void rig_leave(struct taker *t) { engine_session_free(t->session); }

static inline void rig_settle(struct rig *r, uint32_t i, enum settle how, const char *reason) {
    assert_true(i < r->n_seen);
    assert_int_equal(engine_settle(r->seen[i].session, r->seen[i].tag, false, how, reason, &r->err), ERR_OK);
}

static inline void rig_expect(struct rig *r, const char *const *bodies, uint32_t n) {
    for (uint32_t i = 0; i < n && i < r->n_seen; i++) assert_string_equal(r->seen[i].body, bodies[i]);
    assert_int_equal(r->n_seen, n);
}
#define EXPECT(rig, ...)                                                                                               \
    rig_expect(rig, (const char *const[]){__VA_ARGS__},                                                                \
               sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

struct find_info {
    const char *name;
    struct queue_info info;
    bool found;
};
static inline void rig_find_info(void *arg, const struct queue_info *q) {
    struct find_info *f = arg;
    if (strcmp(f->name, q->name) != 0) return;
    f->info = *q;
    f->found = true;
}
static inline struct find_info rig_info(struct rig *r, const char *queue) {
    struct find_info f = {.name = queue};
    engine_each_queue(r->engine, rig_find_info, &f);
    return f;
}

static inline int rig_setup(void **state) {
    *state = rig_new();
    return 0;
}
static inline int rig_teardown(void **state) {
    rig_free(*state);
    return 0;
}
#define RIG_TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

#endif
