// POST /api/exchanges/vhost/exchange/publish, and the aliveness test, which publishes and gets.
#include "management/internal.h"

#include "http/json_out.h"
#include "management/json_table.h"
#include "wire/properties.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define MORE_KEYS_MAX   64
#define BODY_MAX        (16 << 20)
#define ALIVENESS_QUEUE "aliveness-test"

struct publishing {
    struct call *call;
    struct message message;
    struct properties properties;
    struct buf encoded, body;
    char *message_id;
    const char *more_keys[MORE_KEYS_MAX];
};

static void release(struct publishing *p) {
    buf_release(&p->encoded);
    buf_release(&p->body);
    free(p->message_id);
}

static void answer_routed(struct call *c, enum publish_result result) {
    if (result == PUBLISH_REJECTED) {
        call_fail(c, 400, "bad_request", "rejected: Unable to publish message. Check queue limits.");
        return;
    }
    json_open(&c->out, NULL, '{');
    json_flag(&c->out, "routed", result != PUBLISH_UNROUTABLE);
    json_close(&c->out, '}');
    call_answer(c, 200);
}

static void on_published(void *arg, enum publish_result result) { answer_routed(arg, result); }

// CC and BCC are lists of more routing keys.
static void take_keys(struct publishing *p, const json_t *headers, const char *name) {
    size_t i;
    json_t *key;
    json_array_foreach(json_object_get(headers, name), i, key) {
        if (!json_is_string(key) || json_string_length(key) > 255 || p->message.more_keys_count == MORE_KEYS_MAX)
            continue;
        p->more_keys[p->message.more_keys_count++] = json_string_value(key);
    }
    p->message.more_keys = p->more_keys;
}

static bool read_body(struct publishing *p, const json_t *o) {
    struct call *c = p->call;
    const json_t *payload = json_object_get(o, "payload");
    const char *encoding = json_text_or(o, "payload_encoding", "string");
    if (!json_is_string(payload)) {
        call_fail(c, 400, "bad_request", "payload_not_string");
        return false;
    }
    size_t n = json_string_length(payload);
    if (strcmp(encoding, "string") == 0) {
        buf_add(&p->body, json_string_value(payload), n);
    } else if (strcmp(encoding, "base64") == 0) {
        uint8_t *room = buf_reserve(&p->body, n + 1);
        if (room != NULL && sodium_base642bin(room, n + 1, json_string_value(payload), n, " \r\n", &n, NULL,
                                              sodium_base64_VARIANT_ORIGINAL) != 0) {
            call_fail(c, 400, "bad_request", "payload is not base64");
            return false;
        }
        p->body.len = room != NULL ? n : 0;
    } else {
        call_fail(c, 400, "bad_request", "unsupported_encoding: %s", encoding);
        return false;
    }
    if (!buf_ok(&p->body)) call_fail(c, 400, "bad_request", "payload is larger than %d bytes", BODY_MAX);
    return buf_ok(&p->body);
}

// What the engine wants to know of the properties, besides their bytes.
static bool read_properties(struct publishing *p, const json_t *o) {
    struct call *c = p->call;
    struct error e = {0};
    const json_t *properties = json_object_get(o, "properties");
    take_keys(p, json_object_get(properties, "headers"), "CC");
    take_keys(p, json_object_get(properties, "headers"), "BCC");
    if (json_to_properties(properties, &p->encoded, &e) != ERR_OK) {
        call_bad_request(c, &e);
        return false;
    }
    if (!properties_decode(&p->properties, p->encoded.data, (uint32_t)p->encoded.len)) {
        call_fail(c, 400, "bad_request", "the properties cannot be used");
        return false;
    }
    struct message *m = &p->message;
    m->properties = p->encoded.data;
    m->properties_length = (uint32_t)p->encoded.len;
    m->persistent = p->properties.delivery_mode == 2;
    m->priority = p->properties.priority;
    if (p->properties.message_id.length > 0)
        p->message_id = strndup((const char *)p->properties.message_id.data, p->properties.message_id.length);
    m->message_id = p->message_id;
    if (!(p->properties.flags & PROPERTY_EXPIRATION)) return true;
    const json_t *expiration = json_object_get(properties, "expiration");
    int64_t ms;
    m->has_expiration = json_int_of(expiration, &ms) && ms >= 0;
    m->expiration_ms = m->has_expiration ? (uint64_t)ms : 0;
    if (!m->has_expiration) call_fail(c, 400, "bad_request", "invalid expiration '%s'", json_string_value(expiration));
    return m->has_expiration;
}

// Who says who they are must be that one.
static bool user_is_right(struct publishing *p) {
    const struct properties *s = &p->properties;
    if (!(s->flags & PROPERTY_USER_ID) || view_is(s->user_id, p->call->user->name)) return true;
    call_fail(p->call, 400, "bad_request", "PRECONDITION_FAILED - user_id property set but authenticated user was '%s'",
              p->call->user->name);
    return false;
}

static void publish(struct publishing *p) {
    struct call *c = p->call;
    struct error e = {0};
    p->message.body = p->body.data;
    p->message.body_length = (uint32_t)p->body.len;
    if (engine_publish(c->vhost, &p->message, on_published, c, NULL, &e) == ERR_OK) return;
    if (e.code == ERR_FORBIDDEN)
        call_fail(c, 400, "bad_request", "ACCESS_REFUSED - cannot publish to internal exchange '%s' in vhost '%s'",
                  p->message.exchange, vhost_name(c->vhost));
    else call_error(c, &e);
}

void manage_publish(struct call *c) {
    struct exchange_info x;
    struct publishing p = {.call = c};
    p.message.exchange = exchange_name(call_param(c, "exchange"));
    if (!engine_exchange(c->vhost, p.message.exchange, &x)) {
        call_not_found(c, "exchange");
        return;
    }
    if (call_json(c) == NULL || !call_may(c, ACCESS_WRITE, p.message.exchange)) return;
    p.message.routing_key = json_text_or(c->json, "routing_key", NULL);
    if (p.message.routing_key == NULL || strlen(p.message.routing_key) > 255) {
        call_fail(c, 400, "bad_request", "routing_key is missing, or longer than 255 bytes");
        return;
    }
    buf_init(&p.encoded, JSON_TABLE_MAX);
    buf_init(&p.body, BODY_MAX);
    if (read_body(&p, c->json) && read_properties(&p, c->json) && user_is_right(&p)) publish(&p);
    release(&p);
}

// ---- /api/aliveness-test --------------------------------------------------------------------------------

static void on_alive_delivery(void *arg, const struct delivery *d) {}

static void get_alive(struct loop_post *post) {
    struct call *c = LIST_ITEM(post, struct call, post);
    struct error e = {0};
    bool got = false;
    uint64_t left;
    // The virtual host may have been deleted meanwhile.
    c->vhost = engine_vhost(c->management->o.engine, call_param(c, "vhost"));
    const struct session_options o = {.deliver = on_alive_delivery};
    struct session *s = c->vhost != NULL ? engine_session_new(c->management->o.engine, &o) : NULL;
    if (s != NULL) {
        engine_get(s, c->vhost, ALIVENESS_QUEUE, true, NULL, &got, &left, &e);
        engine_session_free(s);
    }
    if (got) manage_health_ok(c);
    else call_fail(c, 503, "service_unavailable", "the message did not come back: %s", e.text);
}

// The engine hands nothing over from inside a callback.
static void on_alive_published(void *arg, enum publish_result result) {
    struct call *c = arg;
    c->post.fn = get_alive;
    loop_post(c->management->o.loop, &c->post);
}

void manage_aliveness(struct call *c) {
    struct error e = {0};
    const struct queue_options q = {.type = QUEUE_CLASSIC};
    const struct message m = {
        .exchange = "", .routing_key = ALIVENESS_QUEUE, .body = "test_message", .body_length = 12};
    if (!call_may(c, ACCESS_CONFIGURE, ALIVENESS_QUEUE) || !call_may(c, ACCESS_WRITE, "") ||
        !call_may(c, ACCESS_READ, ALIVENESS_QUEUE))
        return;
    enum err err = engine_queue_declare(c->vhost, ALIVENESS_QUEUE, &q, &e);
    if (err == ERR_OK) err = engine_publish(c->vhost, &m, on_alive_published, c, NULL, &e);
    if (err != ERR_OK) call_error(c, &e);
}
