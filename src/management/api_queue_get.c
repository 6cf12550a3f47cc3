// POST /api/queues/vhost/queue/get: takes messages out, and puts them back unless told otherwise.
#include "management/internal.h"

#include "base/utf8.h"
#include "management/json_table.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define GET_MAX   10000
#define GET_BYTES (32u << 20) // of bodies in one answer; what is behind stays in the queue

enum then { THEN_ACK, THEN_REQUEUE, THEN_DROP };

struct getting {
    struct call *call;
    struct out out;
    struct session *session;
    enum then then;
    bool base64, has_truncate, outside;
    int64_t count, truncate;
    uint64_t bytes, left, tag;
    uint64_t *settled; // tags of what is taken for good, if the answer can be given
    size_t settled_count;
};

static bool read_mode(struct getting *g, const char *mode) {
    static const struct {
        const char *name;
        enum then then;
    } modes[] = {
        {"ack_requeue_true", THEN_REQUEUE},
        {"ack_requeue_false", THEN_ACK},
        {"reject_requeue_true", THEN_REQUEUE},
        {"reject_requeue_false", THEN_DROP},
    };
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(mode, modes[i].name) != 0) continue;
        g->then = modes[i].then;
        return true;
    }
    return false;
}

// An older way to say the mode: "requeue": true.
static const char *mode_of(const json_t *o) {
    const char *mode = json_text_or(o, "ackmode", NULL);
    if (mode != NULL) return mode;
    return json_bool_or(o, "requeue", true) ? "ack_requeue_true" : "ack_requeue_false";
}

static bool read_wish(struct getting *g, const json_t *o) {
    struct call *c = g->call;
    const char *encoding = json_text_or(o, "encoding", "auto");
    g->count = 1;
    g->base64 = strcmp(encoding, "base64") == 0;
    const json_t *count = json_object_get(o, "count"), *truncate = json_object_get(o, "truncate");
    g->has_truncate = truncate != NULL;
    if (count != NULL && (!json_int_of(count, &g->count) || g->count < 0))
        call_fail(c, 400, "bad_request", "count is not a number");
    else if (truncate != NULL && (!json_int_of(truncate, &g->truncate) || g->truncate < 0))
        call_fail(c, 400, "bad_request", "truncate is not a number");
    else if (!g->base64 && strcmp(encoding, "auto") != 0)
        call_fail(c, 400, "bad_request", "Unsupported encoding. Please use auto or base64.");
    else if (!read_mode(g, mode_of(o))) call_fail(c, 400, "bad_request", "unknown ackmode");
    if (g->count > GET_MAX) g->count = GET_MAX;
    return !c->answered;
}

static void write_payload(struct getting *g, const uint8_t *body, size_t n) {
    struct out *o = &g->out;
    if (g->has_truncate && n > (size_t)g->truncate) n = (size_t)g->truncate;
    if (!g->base64 && utf8_valid(body, n)) {
        out_view(o, "payload", (struct view){body, (uint32_t)n});
        out_text(o, "payload_encoding", "string");
        return;
    }
    size_t size = sodium_base64_encoded_len(n, sodium_base64_VARIANT_ORIGINAL);
    char *text = malloc(size);
    if (text != NULL) sodium_bin2base64(text, size, body, n, sodium_base64_VARIANT_ORIGINAL);
    out_text(o, "payload", text != NULL ? text : "");
    out_text(o, "payload_encoding", "base64");
    free(text);
}

// A claimed body lies in a store that is read only over AMQP: what has one is shown without it, and put back.
static void on_delivery(void *arg, const struct delivery *d) {
    struct getting *g = arg;
    struct out *o = &g->out;
    out_open(o, NULL, '{');
    out_uint(o, "payload_bytes", d->claimed ? d->claimed_length : d->body_length);
    out_bool(o, "redelivered", d->redelivered);
    out_text(o, "exchange", d->exchange);
    out_text(o, "routing_key", d->routing_key);
    properties_to_json(o, "properties", d->properties, d->properties_length);
    write_payload(g, d->body, d->claimed ? 0 : d->body_length);
    if (d->claimed) out_bool(o, "payload_omitted", true);
    g->outside = d->claimed;
    g->bytes += d->claimed ? 0 : d->body_length;
    g->tag = d->tag;
}

static void take(struct getting *g, const char *queue, struct error *e) {
    bool got = true;
    while (got && g->count-- > 0 && g->bytes < GET_BYTES && buf_ok(g->out.b)) {
        if (engine_get(g->session, g->call->vhost, queue, false, NULL, &got, &g->left, e) != ERR_OK) return;
        if (!got) return;
        out_uint(&g->out, "message_count", g->left);
        out_close(&g->out, '}');
        if (g->then != THEN_REQUEUE && !g->outside) g->settled[g->settled_count++] = g->tag;
    }
}

static void on_settled(void *arg, enum publish_result result) {
    struct call *c = arg;
    call_answer(c, 200);
}

// What was taken for good must be gone for good before anybody is told; what cannot be told is not taken. All else is
// given back only now, or it would have been got again.
static void answer(struct getting *g, const struct error *e) {
    struct call *c = g->call;
    struct error ignored;
    bool told = e->code == ERR_OK && buf_ok(&c->out);
    enum settle how = g->then == THEN_ACK ? SETTLE_ACK : SETTLE_REJECT;
    for (size_t i = 0; told && i < g->settled_count; i++)
        engine_settle(g->session, g->settled[i], false, how, NULL, &ignored);
    free(g->settled);
    engine_settle(g->session, 0, true, SETTLE_REQUEUE, NULL, &ignored);
    engine_session_free(g->session);
    engine_flush(c->management->o.engine);
    if (e->code != ERR_OK) call_error(c, e);
    else if (g->then == THEN_REQUEUE || !engine_when_durable(c->management->o.engine, on_settled, c))
        call_answer(c, 200);
}

void manage_queue_get(struct call *c) {
    struct getting g = {.call = c};
    struct queue_info q;
    struct error e = {0};
    const char *queue = call_param(c, "queue");
    if (!engine_queue(c->vhost, queue, &q)) {
        call_not_found(c, "queue");
        return;
    }
    if (call_json(c) == NULL || !call_may(c, ACCESS_READ, queue) || queue_is_locked(c, queue) ||
        !read_wish(&g, c->json))
        return;
    const struct session_options o = {.deliver = on_delivery, .arg = &g};
    g.settled = calloc((size_t)g.count + 1, sizeof *g.settled);
    g.session = g.settled != NULL ? engine_session_new(c->management->o.engine, &o) : NULL;
    if (g.session == NULL) {
        free(g.settled);
        error_set(&e, ERR_NOMEM, "no memory");
        call_error(c, &e);
        return;
    }
    out_init(&g.out, &c->out, NULL);
    out_open(&g.out, NULL, '[');
    take(&g, queue, &e);
    out_close(&g.out, ']');
    answer(&g, &e);
}
