// exchange.*: each command is checked in RabbitMQ's order (name, permission, arguments, what is there), then done.
#include "amqp/arguments.h"
#include "amqp/permissions.h"
#include "amqp/topology.h"

#include <string.h>

static bool not_default(struct channel *ch, uint32_t method, const char *name) {
    if (name[0] != '\0') return true;
    channel_error(ch, REPLY_ACCESS_REFUSED, method, "operation not permitted on the default exchange");
    return false;
}

static void declare_passive(struct channel *ch, const struct exchange_declare *d) {
    char name[NAME_SIZE];
    struct exchange_info info;
    if (!name_read(ch, METHOD_EXCHANGE_DECLARE, name, d->exchange)) return;
    if (!not_default(ch, METHOD_EXCHANGE_DECLARE, name) || !may_look(ch, METHOD_EXCHANGE_DECLARE, "exchange", name) ||
        !exchange_there(ch, METHOD_EXCHANGE_DECLARE, name, &info))
        return;
    if (!d->no_wait) channel_send(ch, &(struct method){.id = METHOD_EXCHANGE_DECLARE_OK});
}

// Of a new one: its name must not be reserved, and it must not lead where its maker may not publish.
static bool may_make(struct channel *ch, const char *name, const struct exchange_options *o) {
    if (name_reserved(name)) {
        channel_error(ch, REPLY_ACCESS_REFUSED, METHOD_EXCHANGE_DECLARE,
                      "exchange name '%s' contains reserved prefix 'amq.*'", name);
        return false;
    }
    return o->alternate == NULL || (may(ch, METHOD_EXCHANGE_DECLARE, ACCESS_READ, "exchange", name) &&
                                    may(ch, METHOD_EXCHANGE_DECLARE, ACCESS_WRITE, "exchange", o->alternate));
}

static void declare(struct channel *ch, const struct exchange_declare *d) {
    char name[NAME_SIZE];
    struct exchange_arguments a;
    struct exchange_info there;
    struct error e = {0};
    struct vhost *vhost = ch->connection->vhost;
    if (!name_read(ch, METHOD_EXCHANGE_DECLARE, name, d->exchange)) return;
    enum err err = exchange_arguments(&a, d->type, d->arguments, name, vhost_name(vhost), &e);
    if (!not_default(ch, METHOD_EXCHANGE_DECLARE, name) ||
        !may(ch, METHOD_EXCHANGE_DECLARE, ACCESS_CONFIGURE, "exchange", name))
        return;
    if (err != ERR_OK) {
        channel_fail(ch, METHOD_EXCHANGE_DECLARE, &e);
        return;
    }
    if (!engine_exchange(vhost, name, &there) && !may_make(ch, name, &a.options)) return;
    a.options.durable = d->durable;
    a.options.auto_delete = d->auto_delete;
    a.options.internal = d->internal;
    if (engine_exchange_declare(vhost, name, &a.options, &e) != ERR_OK) channel_fail(ch, METHOD_EXCHANGE_DECLARE, &e);
    else answer(ch, d->no_wait, METHOD_EXCHANGE_DECLARE_OK);
}

static void delete_exchange(struct channel *ch, const struct exchange_delete *d) {
    char name[NAME_SIZE];
    struct error e = {0};
    struct vhost *vhost = ch->connection->vhost;
    if (!name_read(ch, METHOD_EXCHANGE_DELETE, name, d->exchange) || !not_default(ch, METHOD_EXCHANGE_DELETE, name))
        return;
    if (name_reserved(name)) {
        channel_error(ch, REPLY_ACCESS_REFUSED, METHOD_EXCHANGE_DELETE,
                      "deletion of system exchange '%s' in vhost '%s' not allowed", name, vhost_name(vhost));
        return;
    }
    if (!may(ch, METHOD_EXCHANGE_DELETE, ACCESS_CONFIGURE, "exchange", name)) return;
    enum err err = engine_exchange_delete(vhost, name, d->if_unused, &e);
    if (err == ERR_CONFLICT)
        channel_error(ch, REPLY_PRECONDITION_FAILED, METHOD_EXCHANGE_DELETE, "exchange '%s' in vhost '%s' in use", name,
                      vhost_name(vhost));
    else if (err != ERR_OK && err != ERR_NOT_FOUND) channel_fail(ch, METHOD_EXCHANGE_DELETE, &e);
    else answer(ch, d->no_wait, METHOD_EXCHANGE_DELETE_OK);
}

static void bind(struct channel *ch, const struct exchange_bind *b) {
    const struct binding_command command = {.method = METHOD_EXCHANGE_BIND,
                                            .bind = true,
                                            .to_exchange = true,
                                            .source = b->source,
                                            .destination = b->destination,
                                            .key = b->routing_key,
                                            .arguments = b->arguments};
    if (bind_or_unbind(ch, &command)) answer(ch, b->no_wait, METHOD_EXCHANGE_BIND_OK);
}

static void unbind(struct channel *ch, const struct exchange_unbind *b) {
    const struct binding_command command = {.method = METHOD_EXCHANGE_UNBIND,
                                            .to_exchange = true,
                                            .source = b->source,
                                            .destination = b->destination,
                                            .key = b->routing_key,
                                            .arguments = b->arguments};
    if (bind_or_unbind(ch, &command)) answer(ch, b->no_wait, METHOD_EXCHANGE_UNBIND_OK);
}

void on_exchange(struct channel *ch, const struct command *c) {
    const struct method *m = c->method;
    switch (m->id) {
    case METHOD_EXCHANGE_DECLARE:
        if (m->exchange_declare.passive) declare_passive(ch, &m->exchange_declare);
        else declare(ch, &m->exchange_declare);
        break;
    case METHOD_EXCHANGE_DELETE: delete_exchange(ch, &m->exchange_delete); break;
    case METHOD_EXCHANGE_BIND: bind(ch, &m->exchange_bind); break;
    case METHOD_EXCHANGE_UNBIND: unbind(ch, &m->exchange_unbind); break;
    default: connection_error(ch->connection, REPLY_COMMAND_INVALID, m->id, "unimplemented method");
    }
}
