// basic.publish, the hot path: what the client sent goes to the engine as it lies in the input, but for the names,
// which the engine wants NUL-terminated. Properties are written anew only where they must be: without BCC, or with the
// reply-to that amq.rabbitmq.reply-to stands for.
#include "amqp/basic.h"
#include "amqp/permissions.h"
#include "amqp/topology.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MORE_KEYS_MAX     1024                  // CC and BCC of a message
#define EXPIRATION_MAX_MS INT64_C(315360000000) // ten years

// What of a publish is not in the input: lives as long as the call.
struct parts {
    char key[NAME_SIZE];
    char message_id[NAME_SIZE];
    const char *more_keys[MORE_KEYS_MAX];
};

// ---- the exchange and the permission, remembered for the next publish

static bool exchange_known(struct channel *ch, struct view exchange) {
    const struct channel_basic *b = ch->basic;
    return exchange.length == b->exchange_length && memcmp(exchange.data, b->exchange, exchange.length) == 0 &&
           loop_now_ms(ch->connection->amqp->o.loop) < b->exchange_until_ms;
}

static bool exchange_allowed(struct channel *ch, struct view exchange) {
    struct channel_basic *b = ch->basic;
    if (exchange.length > 0 && exchange_known(ch, exchange)) return true;
    if (exchange.length == 0 && exchange_known(ch, (struct view){(const uint8_t *)"", 0})) return true;
    b->exchange_length = NAME_SIZE;
    if (!name_copy(b->exchange, exchange)) {
        connection_error(ch->connection, REPLY_SYNTAX_ERROR, METHOD_BASIC_PUBLISH, "a name with a zero byte");
        return false;
    }
    if (!may(ch, METHOD_BASIC_PUBLISH, ACCESS_WRITE, "exchange", b->exchange)) return false;
    b->exchange_length = (uint16_t)exchange.length;
    b->exchange_until_ms = loop_now_ms(ch->connection->amqp->o.loop) + EXCHANGE_KNOWN_MS;
    return true;
}

static void no_exchange(struct channel *ch, const char *exchange) {
    channel_error(ch, REPLY_NOT_FOUND, METHOD_BASIC_PUBLISH, "no exchange '%s' in vhost '%s'", exchange,
                  vhost_name(ch->connection->vhost));
}

static void internal_exchange(struct channel *ch, const char *exchange) {
    channel_error(ch, REPLY_ACCESS_REFUSED, METHOD_BASIC_PUBLISH,
                  "cannot publish to internal exchange '%s' in vhost '%s'", exchange,
                  vhost_name(ch->connection->vhost));
}

// ---- properties

static bool bad_expiration(struct channel *ch, struct view v, const char *why) {
    channel_error(ch, REPLY_PRECONDITION_FAILED, METHOD_BASIC_PUBLISH, "invalid expiration '%.*s': %s",
                  (int)(v.length > 64 ? 64 : v.length), (const char *)v.data, why);
    return false;
}

// A decimal number of milliseconds, up to ten years.
static bool read_expiration(struct channel *ch, struct view v, uint64_t *out) {
    char why[64];
    int64_t n = 0;
    uint32_t at = 0;
    bool negative = v.length > 0 && v.data[0] == '-';
    if (v.length > 0 && (v.data[0] == '-' || v.data[0] == '+')) at++;
    uint32_t digits = at;
    while (at < v.length && v.data[at] >= '0' && v.data[at] <= '9' && n <= EXPIRATION_MAX_MS)
        n = n * 10 + (v.data[at++] - '0');
    if (at == digits) return bad_expiration(ch, v, "no_integer");
    snprintf(why, sizeof why, "{%s,%" PRId64 "}", negative ? "value_negative" : "value_too_large", negative ? -n : n);
    if (n > EXPIRATION_MAX_MS) return bad_expiration(ch, v, why);
    snprintf(why, sizeof why, "{leftover_string,\"%.*s\"}", (int)(v.length - at > 32 ? 32 : v.length - at),
             (const char *)v.data + at);
    if (at < v.length) return bad_expiration(ch, v, why);
    snprintf(why, sizeof why, "{value_negative,%" PRId64 "}", -n);
    if (negative && n > 0) return bad_expiration(ch, v, why);
    *out = (uint64_t)n;
    return true;
}

static bool user_id_valid(struct channel *ch, struct view id) {
    const struct connection *c = ch->connection;
    if (view_is(id, c->user_name) || c->user->impersonator) return true;
    channel_error(ch, REPLY_PRECONDITION_FAILED, METHOD_BASIC_PUBLISH,
                  "user_id property set to '%.*s' but authenticated user was '%s'", (int)id.length,
                  (const char *)id.data, c->user_name);
    return false;
}

// The keys under one header, as NUL-terminated strings one after the other in `keys`.
static bool read_keys(struct channel *ch, struct view headers, const char *header, uint32_t *count) {
    struct buf *keys = &ch->basic->keys;
    struct field f, key;
    if (!table_find(headers, header, &f)) return true;
    if (f.type != FIELD_ARRAY) {
        channel_error(ch, REPLY_PRECONDITION_FAILED, METHOD_BASIC_PUBLISH,
                      "invalid message: {unacceptable_type_in_header,\"%s\"}", header);
        return false;
    }
    struct table_cursor cursor = table_begin(f.bytes);
    while (array_next(&cursor, &key)) {
        char name[NAME_SIZE];
        if (key.type != FIELD_STRING || !name_copy(name, key.bytes)) continue;
        if (++*count > MORE_KEYS_MAX) {
            channel_error(ch, REPLY_PRECONDITION_FAILED, METHOD_BASIC_PUBLISH,
                          "invalid message: more than %u keys in CC and BCC", MORE_KEYS_MAX);
            return false;
        }
        buf_add(keys, name, key.bytes.length + 1);
    }
    return true;
}

static bool more_keys(struct channel *ch, struct view headers, struct message *m, struct parts *parts) {
    struct buf *keys = &ch->basic->keys;
    uint32_t count = 0;
    buf_clear(keys);
    if (!read_keys(ch, headers, "CC", &count) || !read_keys(ch, headers, "BCC", &count)) return false;
    if (!buf_ok(keys)) {
        connection_error(ch->connection, REPLY_RESOURCE_ERROR, METHOD_BASIC_PUBLISH, "out of memory");
        return false;
    }
    const char *at = (const char *)keys->data;
    for (uint32_t i = 0; i < count; i++, at += strlen(at) + 1) parts->more_keys[i] = at;
    m->more_keys = parts->more_keys;
    m->more_keys_count = count;
    return true;
}

static void headers_without_bcc(struct buf *out, struct view headers) {
    struct view name;
    struct field f;
    struct table_cursor cursor = table_begin(headers);
    while (table_next(&cursor, &name, &f))
        if (!view_is(name, "BCC")) table_put(out, name, &f);
}

// False: too large, the channel has ended.
static bool rewrite(struct channel *ch, struct properties *p, bool has_bcc, struct message *m) {
    struct buf *b = &ch->basic->rewritten, headers;
    buf_init(&headers, REWRITTEN_MAX);
    if (has_bcc) {
        headers_without_bcc(&headers, p->headers);
        p->headers = (struct view){headers.data, (uint32_t)headers.len};
    }
    buf_clear(b);
    properties_encode(b, p);
    bool ok = buf_ok(b) && buf_ok(&headers);
    buf_release(&headers);
    m->properties = b->data;
    m->properties_length = (uint32_t)b->len;
    if (!ok) channel_error(ch, REPLY_PRECONDITION_FAILED, METHOD_BASIC_PUBLISH, "invalid message: too large a header");
    return ok;
}

static bool override_reply_to(struct channel *ch, struct properties *p) {
    if (ch->basic->reply == NULL) {
        channel_error(ch, REPLY_PRECONDITION_FAILED, METHOD_BASIC_PUBLISH, "fast reply consumer does not exist");
        return false;
    }
    p->reply_to = view_of(ch->basic->reply_token);
    return true;
}

static bool read_headers(struct channel *ch, struct view headers, struct message *m, struct parts *parts,
                         bool *has_bcc) {
    struct field f;
    *has_bcc = table_find(headers, "BCC", &f);
    return more_keys(ch, headers, m, parts);
}

// Properties that mean something to the broker. False: the channel has ended.
static bool read_properties(struct channel *ch, struct message *m, struct parts *parts) {
    struct properties p;
    bool has_bcc = false, changed = false;
    if (!properties_decode(&p, m->properties, m->properties_length)) {
        connection_error(ch->connection, REPLY_SYNTAX_ERROR, METHOD_BASIC_PUBLISH, "damaged properties");
        return false;
    }
    m->persistent = p.delivery_mode == 2;
    m->priority = p.priority;
    if ((p.flags & PROPERTY_REPLY_TO) != 0 && view_is(p.reply_to, REPLY_TO)) {
        if (!override_reply_to(ch, &p)) return false;
        changed = true;
    }
    if ((p.flags & PROPERTY_EXPIRATION) != 0) {
        m->has_expiration = true;
        if (!read_expiration(ch, p.expiration, &m->expiration_ms)) return false;
    }
    if ((p.flags & PROPERTY_USER_ID) != 0 && !user_id_valid(ch, p.user_id)) return false;
    if ((p.flags & PROPERTY_MESSAGE_ID) != 0 && name_copy(parts->message_id, p.message_id))
        m->message_id = parts->message_id;
    if (p.headers.length > 0 && !read_headers(ch, p.headers, m, parts, &has_bcc)) return false;
    return !(has_bcc || changed) || rewrite(ch, &p, has_bcc, m);
}

// ---- into the engine

static void send_return(struct channel *ch, const struct publish *p) {
    const struct message *m = &p->message;
    const struct method back = {.id = METHOD_BASIC_RETURN,
                                .basic_return = {.reply_code = REPLY_NO_ROUTE,
                                                 .reply_text = view_of("NO_ROUTE"),
                                                 .exchange = view_of(m->exchange),
                                                 .routing_key = view_of(m->routing_key)}};
    struct view properties = {m->properties, m->properties_length};
    ch->basic->returned++;
    ch->connection->amqp->stats.returned++;
    if (m->claimed) {
        channel_send_claimed(ch, &back, properties, m->body, m->claimed_length);
        return;
    }
    content_encode(channel_out(ch), ch->number, &back, properties, (struct view){m->body, m->body_length},
                   ch->connection->frame_max);
    channel_wrote(ch);
}

static void unroutable(struct channel *ch, const struct publish *p) {
    if (p->mandatory) send_return(ch, p);
    else ch->connection->amqp->stats.unroutable_dropped++;
}

static void publish_fail(struct channel *ch, enum err err, const struct publish *p, const struct error *e) {
    if (err == ERR_NOT_FOUND) no_exchange(ch, p->message.exchange);
    else if (err == ERR_FORBIDDEN) internal_exchange(ch, p->message.exchange);
    else channel_fail(ch, METHOD_BASIC_PUBLISH, e);
}

enum err publish_now(struct channel *ch, const struct publish *p, enum publish_result *result) {
    struct error e = {0};
    bool confirms = ch->confirms;
    *result = PUBLISH_OK;
    if (p->message.exchange[0] == '\0' && is_reply_to(p->message.routing_key)) {
        if (!reply_to_publish(ch, p)) *result = PUBLISH_UNROUTABLE;
        if (confirms) confirms_answer_own(ch);
    } else {
        enum err err =
            engine_publish(ch->connection->vhost, &p->message, confirms ? confirms_answered : NULL, ch, result, &e);
        if (err == ERR_BUSY || err == ERR_FULL) return err;
        if (err != ERR_OK) {
            publish_fail(ch, err, p, &e);
            return err;
        }
        if (confirms) confirms_expect(ch);
    }
    if (ch->basic == NULL) return ERR_CLOSED;
    ch->basic->published++;
    ch->connection->amqp->stats.published++;
    if (*result == PUBLISH_UNROUTABLE) unroutable(ch, p);
    return ERR_OK;
}

// ---- waiting for room

static void hold(struct channel *ch, const struct publish *p) {
    ch->basic->held = kept_new(ch, p);
    if (ch->basic->held == NULL) {
        connection_error(ch->connection, REPLY_RESOURCE_ERROR, METHOD_BASIC_PUBLISH, "out of memory");
        return;
    }
    list_push_back(&ch->connection->amqp->holding, &ch->basic->of_holding);
    connection_pause(ch->connection);
}

void publish_release(struct channel *ch) {
    if (ch->basic == NULL || !list_linked(&ch->basic->of_holding)) return;
    list_remove(&ch->basic->of_holding);
    kept_free(ch->basic->held);
    ch->basic->held = NULL;
    connection_resume(ch->connection);
}

static void retry_held(struct channel *ch) {
    enum publish_result result;
    channel_hold(ch);
    enum err err = publish_now(ch, &ch->basic->held->publish, &result);
    if (err != ERR_BUSY && err != ERR_FULL) publish_release(ch);
    channel_release(ch);
}

void publishes_retry(struct amqp *a) {
    // Each of them: one queue may have no room for longer than the broker has none.
    LIST_EACH_SAFE(&a->holding, at) {
        struct channel *ch = LIST_ITEM(at, struct channel_basic, of_holding)->channel;
        if (ch->basic->held != NULL) retry_held(ch);
        else tx_continue(ch);
    }
}

// ---- the command

// In a transaction nothing reaches the engine yet that would tell.
static bool publish_possible(struct channel *ch, const char *exchange) {
    struct exchange_info info;
    if (!exchange_there(ch, METHOD_BASIC_PUBLISH, exchange, &info)) return false;
    if (!info.options->internal) return true;
    internal_exchange(ch, exchange);
    return false;
}

void on_publish(struct channel *ch, const struct command *c) {
    const struct basic_publish *p = &c->method->basic_publish;
    struct parts parts;
    enum publish_result result;
    struct publish publish = {.message = {.exchange = ch->basic->exchange,
                                          .routing_key = parts.key,
                                          .properties = c->properties.data,
                                          .properties_length = c->properties.length,
                                          .body = c->body.data,
                                          .body_length = c->body.length,
                                          .claimed = c->claimed,
                                          .claimed_length = c->claimed_length},
                              .mandatory = p->mandatory};
    if (p->immediate) {
        connection_error(ch->connection, REPLY_NOT_IMPLEMENTED, METHOD_BASIC_PUBLISH, "immediate=true");
        return;
    }
    if (!exchange_allowed(ch, p->exchange)) return;
    if (!name_copy(parts.key, p->routing_key)) {
        connection_error(ch->connection, REPLY_SYNTAX_ERROR, METHOD_BASIC_PUBLISH, "a routing key with a zero byte");
        return;
    }
    if (c->properties.length > 2 && !read_properties(ch, &publish.message, &parts)) return;
    if (ch->transactional) {
        if (publish_possible(ch, ch->basic->exchange)) tx_publish(ch, &publish);
        return;
    }
    enum err err = publish_now(ch, &publish, &result);
    if (err == ERR_BUSY || err == ERR_FULL) hold(ch, &publish);
}
