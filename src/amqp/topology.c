#include "amqp/topology.h"

#include "amqp/arguments.h"
#include "amqp/basic.h"
#include "amqp/permissions.h"

#include <string.h>

bool name_read(struct channel *ch, uint32_t method, char out[static NAME_SIZE], struct view v) {
    if (name_clean(out, v)) return true;
    connection_error(ch->connection, REPLY_SYNTAX_ERROR, method, "a name with a zero byte");
    return false;
}

bool queue_name_read(struct channel *ch, uint32_t method, char out[static NAME_SIZE], struct view v) {
    if (v.length > 0) return name_read(ch, method, out, v);
    if (ch->last_queue[0] == '\0') {
        channel_error(ch, REPLY_NOT_FOUND, method, "no previously declared queue");
        return false;
    }
    memcpy(out, ch->last_queue, NAME_SIZE);
    return true;
}

static bool missing(struct channel *ch, uint32_t method, const char *what, const char *name) {
    channel_error(ch, REPLY_NOT_FOUND, method, "no %s '%s' in vhost '%s'", what, name,
                  vhost_name(ch->connection->vhost));
    return false;
}

bool exchange_there(struct channel *ch, uint32_t method, const char *name, struct exchange_info *out) {
    return engine_exchange(ch->connection->vhost, name, out) || missing(ch, method, "exchange", name);
}

bool queue_locked(struct channel *ch, uint32_t method, const char *name) {
    channel_error(ch, REPLY_RESOURCE_LOCKED, method,
                  "cannot obtain exclusive access to locked queue '%s' in vhost '%s'. It could be originally declared "
                  "on another connection or the exclusive property value does not match that of the original "
                  "declaration.",
                  name, vhost_name(ch->connection->vhost));
    return false;
}

bool queue_ours(struct channel *ch, uint32_t method, const struct queue_info *q) {
    const void *owner = q->options->owner;
    return owner == NULL || owner == ch->connection || queue_locked(ch, method, q->name);
}

bool queue_there(struct channel *ch, uint32_t method, const char *name, struct queue_info *out) {
    if (!engine_queue(ch->connection->vhost, name, out)) return missing(ch, method, "queue", name);
    return queue_ours(ch, method, out);
}

void answer(struct channel *ch, bool no_wait, enum method_id id) {
    if (!no_wait) channel_send_durable(ch, &(struct method){.id = id});
}

// ---- bindings

struct ends {
    char source[NAME_SIZE], destination[NAME_SIZE], key[NAME_SIZE];
};

// With an empty queue name the routing key, too, may be the queue's.
static bool read_ends(struct channel *ch, const struct binding_command *b, struct ends *e) {
    bool ok = b->to_exchange ? name_read(ch, b->method, e->destination, b->destination)
                             : queue_name_read(ch, b->method, e->destination, b->destination);
    if (!ok || !name_read(ch, b->method, e->source, b->source)) return false;
    if (!b->to_exchange && b->destination.length == 0 && b->key.length == 0) {
        memcpy(e->key, ch->last_queue, NAME_SIZE);
        return true;
    }
    if (name_copy(e->key, b->key)) return true;
    connection_error(ch->connection, REPLY_SYNTAX_ERROR, b->method, "a routing key with a zero byte");
    return false;
}

static bool may_bind(struct channel *ch, const struct binding_command *b, const struct ends *e) {
    if (!b->to_exchange && is_reply_to(e->destination)) {
        channel_error(ch, REPLY_ACCESS_REFUSED, b->method,
                      "cannot bind or unbind to a volatile (direct reply-to) queue");
        return false;
    }
    if (!may(ch, b->method, ACCESS_WRITE, b->to_exchange ? "exchange" : "queue", e->destination)) return false;
    if (e->source[0] == '\0' || (b->to_exchange && e->destination[0] == '\0')) {
        channel_error(ch, REPLY_ACCESS_REFUSED, b->method, "operation not permitted on the default exchange");
        return false;
    }
    return may(ch, b->method, ACCESS_READ, "exchange", e->source);
}

static bool destination_there(struct channel *ch, const struct binding_command *b, const struct ends *e) {
    struct exchange_info exchange;
    struct queue_info queue;
    if (b->to_exchange) return exchange_there(ch, b->method, e->destination, &exchange);
    return queue_there(ch, b->method, e->destination, &queue);
}

// What is not there cannot be bound to anything: unbinding it has succeeded already.
static bool nothing_to_unbind(struct channel *ch, const struct binding_command *b, const struct ends *e) {
    struct exchange_info exchange;
    struct queue_info queue;
    struct vhost *v = ch->connection->vhost;
    if (b->bind) return false;
    return !engine_exchange(v, e->source, &exchange) ||
           !(b->to_exchange ? engine_exchange(v, e->destination, &exchange) : engine_queue(v, e->destination, &queue));
}

bool bind_or_unbind(struct channel *ch, const struct binding_command *b) {
    struct ends e;
    struct exchange_info source;
    struct error error = {0};
    if (!read_ends(ch, b, &e) || !may_bind(ch, b, &e)) return false;
    if (nothing_to_unbind(ch, b, &e)) return true;
    if (!exchange_there(ch, b->method, e.source, &source) || !destination_there(ch, b, &e)) return false;
    const struct binding_spec spec = {.source = e.source,
                                      .destination = e.destination,
                                      .to_exchange = b->to_exchange,
                                      .key = e.key,
                                      .arguments = b->arguments};
    enum err err = binding_arguments(source.options, e.key, b->arguments, &error);
    if (err == ERR_OK)
        err = b->bind ? engine_bind(ch->connection->vhost, &spec, &error)
                      : engine_unbind(ch->connection->vhost, &spec, &error);
    if (err != ERR_OK) channel_fail(ch, b->method, &error);
    return err == ERR_OK;
}
