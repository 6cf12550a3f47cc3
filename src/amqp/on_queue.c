// queue.*: checked in RabbitMQ's order. An exclusive queue belongs to the connection, whose end is its end.
#include "amqp/arguments.h"
#include "amqp/basic.h"
#include "amqp/permissions.h"
#include "amqp/topology.h"

#include <string.h>

static uint32_t count(uint64_t n) { return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n; }

static void declared(struct channel *ch, const struct queue_declare *d, const char *name, bool durable) {
    struct queue_info info = {0};
    memcpy(ch->last_queue, name, strlen(name) + 1);
    if (d->no_wait) return;
    engine_queue(ch->connection->vhost, name, &info);
    const struct method ok = {.id = METHOD_QUEUE_DECLARE_OK,
                              .queue_declare_ok = {.queue = view_of(name),
                                                   .message_count = count(info.ready),
                                                   .consumer_count = count(info.consumers)}};
    if (durable) channel_send_durable(ch, &ok);
    else channel_send(ch, &ok);
}

static void declare_passive(struct channel *ch, const struct queue_declare *d) {
    char name[NAME_SIZE];
    struct queue_info info;
    if (!name_read(ch, METHOD_QUEUE_DECLARE, name, d->queue)) return;
    if (is_reply_to(name)) {
        on_reply_to_declare(ch, d, name);
        return;
    }
    if (!may_look(ch, METHOD_QUEUE_DECLARE, "queue", name) || !queue_there(ch, METHOD_QUEUE_DECLARE, name, &info))
        return;
    engine_queue_used(ch->connection->vhost, name);
    declared(ch, d, name, false);
}

static bool new_name(struct channel *ch, const struct queue_declare *d, char name[static NAME_SIZE]) {
    if (!name_read(ch, METHOD_QUEUE_DECLARE, name, d->queue)) return false;
    if (name[0] == '\0') name_generate(name, "amq.gen-", ch->connection->amqp->o.io);
    else if (name_reserved(name) && !is_reply_to(name)) {
        channel_error(ch, REPLY_ACCESS_REFUSED, METHOD_QUEUE_DECLARE,
                      "queue name '%s' contains reserved prefix 'amq.*'", name);
        return false;
    }
    return true;
}

// What a quorum queue cannot be, so that an application is told here as it is there.
static bool type_allows(struct channel *ch, const char *name, const struct queue_declare *d, enum queue_type type) {
    if (type != QUEUE_QUORUM || (d->durable && !d->exclusive)) return true;
    channel_error(ch, REPLY_PRECONDITION_FAILED, METHOD_QUEUE_DECLARE,
                  "invalid property '%s' for queue '%s' in vhost '%s'", d->durable ? "exclusive-owner" : "non-durable",
                  name, vhost_name(ch->connection->vhost));
    return false;
}

// An exclusive queue is its connection's alone, and can only be declared again as one.
static bool same_owner(struct channel *ch, const struct queue_info *there, const void *owner) {
    return there->options->owner == owner || queue_locked(ch, METHOD_QUEUE_DECLARE, there->name);
}

static bool may_make(struct channel *ch, const char *name, const struct queue_options *o) {
    return o->dead_letter_exchange == NULL ||
           (may(ch, METHOD_QUEUE_DECLARE, ACCESS_READ, "queue", name) &&
            may(ch, METHOD_QUEUE_DECLARE, ACCESS_WRITE, "exchange", o->dead_letter_exchange));
}

static void declare(struct channel *ch, const struct queue_declare *d) {
    char name[NAME_SIZE];
    struct queue_arguments a;
    struct queue_info there;
    struct error e = {0};
    struct vhost *vhost = ch->connection->vhost;
    if (!new_name(ch, d, name)) return;
    if (is_reply_to(name)) {
        on_reply_to_declare(ch, d, name);
        return;
    }
    if (!may(ch, METHOD_QUEUE_DECLARE, ACCESS_CONFIGURE, "queue", name)) return;
    if (queue_arguments(&a, d->arguments, name, vhost_name(vhost), &e) != ERR_OK) {
        channel_fail(ch, METHOD_QUEUE_DECLARE, &e);
        return;
    }
    a.options.owner = d->exclusive ? ch->connection : NULL;
    a.options.durable = d->durable && !d->exclusive;
    a.options.auto_delete = d->auto_delete;
    if (engine_queue(vhost, name, &there)) {
        if (!same_owner(ch, &there, a.options.owner)) return;
    } else if (!type_allows(ch, name, d, a.options.type) || !may_make(ch, name, &a.options)) return;
    if (engine_queue_declare(vhost, name, &a.options, &e) != ERR_OK) channel_fail(ch, METHOD_QUEUE_DECLARE, &e);
    else declared(ch, d, name, a.options.durable);
}

static void bind(struct channel *ch, const struct queue_bind *b) {
    const struct binding_command command = {.method = METHOD_QUEUE_BIND,
                                            .bind = true,
                                            .source = b->exchange,
                                            .destination = b->queue,
                                            .key = b->routing_key,
                                            .arguments = b->arguments};
    if (bind_or_unbind(ch, &command)) answer(ch, b->no_wait, METHOD_QUEUE_BIND_OK);
}

static void unbind(struct channel *ch, const struct queue_unbind *b) {
    const struct binding_command command = {.method = METHOD_QUEUE_UNBIND,
                                            .source = b->exchange,
                                            .destination = b->queue,
                                            .key = b->routing_key,
                                            .arguments = b->arguments};
    if (bind_or_unbind(ch, &command)) answer(ch, false, METHOD_QUEUE_UNBIND_OK);
}

static void purge(struct channel *ch, const struct queue_purge *p) {
    char name[NAME_SIZE];
    struct queue_info info;
    struct error e = {0};
    uint64_t purged = 0;
    if (!queue_name_read(ch, METHOD_QUEUE_PURGE, name, p->queue) ||
        !may(ch, METHOD_QUEUE_PURGE, ACCESS_READ, "queue", name) || !queue_there(ch, METHOD_QUEUE_PURGE, name, &info))
        return;
    if (engine_queue_purge(ch->connection->vhost, name, &purged, &e) != ERR_OK) {
        channel_fail(ch, METHOD_QUEUE_PURGE, &e);
        return;
    }
    const struct method ok = {.id = METHOD_QUEUE_PURGE_OK, .queue_purge_ok = {.message_count = count(purged)}};
    if (!p->no_wait) channel_send_durable(ch, &ok);
}

static bool may_delete(struct channel *ch, const struct queue_delete *d, const struct queue_info *info) {
    const char *vhost = vhost_name(ch->connection->vhost);
    if (!queue_ours(ch, METHOD_QUEUE_DELETE, info)) return false;
    if (d->if_empty && info->ready > 0) {
        channel_error(ch, REPLY_PRECONDITION_FAILED, METHOD_QUEUE_DELETE, "queue '%s' in vhost '%s' not empty",
                      info->name, vhost);
        return false;
    }
    if (d->if_unused && info->consumers > 0) {
        channel_error(ch, REPLY_PRECONDITION_FAILED, METHOD_QUEUE_DELETE, "queue '%s' in vhost '%s' in use", info->name,
                      vhost);
        return false;
    }
    return true;
}

static bool delete_there(struct channel *ch, const struct queue_delete *d, const char *name, uint64_t *deleted) {
    struct error e = {0};
    enum err err = engine_queue_delete(ch->connection->vhost, name, d->if_unused, d->if_empty, deleted, &e);
    if (err != ERR_OK) channel_fail(ch, METHOD_QUEUE_DELETE, &e);
    return err == ERR_OK;
}

static void delete_queue(struct channel *ch, const struct queue_delete *d) {
    char name[NAME_SIZE];
    struct queue_info info;
    uint64_t deleted = 0;
    if (!queue_name_read(ch, METHOD_QUEUE_DELETE, name, d->queue) ||
        !may(ch, METHOD_QUEUE_DELETE, ACCESS_CONFIGURE, "queue", name))
        return;
    bool there = engine_queue(ch->connection->vhost, name, &info);
    if (there && !may_delete(ch, d, &info)) return;
    consumers_hold_ended(ch);
    if ((!there || delete_there(ch, d, name, &deleted)) && !d->no_wait) {
        const struct method ok = {.id = METHOD_QUEUE_DELETE_OK, .queue_delete_ok = {.message_count = count(deleted)}};
        channel_send_durable(ch, &ok);
    }
    consumers_tell_ended(ch);
}

void on_queue(struct channel *ch, const struct command *c) {
    const struct method *m = c->method;
    switch (m->id) {
    case METHOD_QUEUE_DECLARE:
        if (m->queue_declare.passive) declare_passive(ch, &m->queue_declare);
        else declare(ch, &m->queue_declare);
        break;
    case METHOD_QUEUE_BIND: bind(ch, &m->queue_bind); break;
    case METHOD_QUEUE_UNBIND: unbind(ch, &m->queue_unbind); break;
    case METHOD_QUEUE_PURGE: purge(ch, &m->queue_purge); break;
    case METHOD_QUEUE_DELETE: delete_queue(ch, &m->queue_delete); break;
    default: connection_error(ch->connection, REPLY_COMMAND_INVALID, m->id, "unimplemented method");
    }
}
