// Consumers of a channel, basic.get, and the way of a delivery into the connection's output.
#include "amqp/arguments.h"
#include "amqp/basic.h"
#include "amqp/permissions.h"
#include "amqp/topology.h"
#include "base/io.h"

#include <stdlib.h>
#include <string.h>

#define MAX_CONSUMERS 10000

void consumers_init(struct channel *ch) {
    struct io *io = ch->connection->amqp->o.io;
    map_init(&ch->basic->consumers, io_random_u64(io));
    list_init(&ch->basic->consumer_list);
    list_init(&ch->basic->ended);
}

void consumers_release(struct channel *ch) {
    LIST_EACH_SAFE(&ch->basic->consumer_list, at) consumer_remove(LIST_ITEM(at, struct channel_consumer, of_channel));
    map_release(&ch->basic->consumers);
}

// As the client said it: it may have a zero byte in it.
static struct view tag_of(const struct channel_consumer *c) {
    return (struct view){(const uint8_t *)c->tag, c->tag_length};
}

// In the channel's books, without the engine knowing. NULL: out of memory.
static struct channel_consumer *consumer_add(struct channel *ch, struct view tag, struct view arguments) {
    struct channel_basic *b = ch->basic;
    struct channel_consumer *c = calloc(1, sizeof *c + tag.length + 1 + arguments.length);
    if (c == NULL) return NULL;
    memcpy(c->tag, tag.data, tag.length);
    c->channel = ch;
    c->tag_length = (uint8_t)tag.length;
    c->arguments = (uint8_t *)c->tag + tag.length + 1;
    c->arguments_length = arguments.length;
    if (arguments.length > 0) memcpy(c->arguments, arguments.data, arguments.length);
    if (!map_put(&b->consumers, c->tag, c->tag_length, c)) {
        free(c);
        return NULL;
    }
    list_push_back(&b->consumer_list, &c->of_channel);
    b->n_consumers++;
    ch->connection->amqp->stats.consumers++;
    return c;
}

static void forget(struct channel_consumer *c) {
    struct channel *ch = c->channel;
    map_remove(&ch->basic->consumers, c->tag, c->tag_length);
    list_remove(&c->of_channel);
    ch->basic->n_consumers--;
    ch->connection->amqp->stats.consumers--;
}

void consumer_remove(struct channel_consumer *c) {
    forget(c);
    free(c);
}

// ---- basic.consume and cancel

bool consumer_may_begin(struct channel *ch, struct view tag) {
    uint32_t max = ch->connection->amqp->o.max_consumers;
    if (max == 0) max = MAX_CONSUMERS;
    if (map_get(&ch->basic->consumers, tag.data, tag.length) != NULL) {
        connection_error(ch->connection, REPLY_NOT_ALLOWED, METHOD_BASIC_CONSUME,
                         "attempt to reuse consumer tag '%.*s'", (int)tag.length, (const char *)tag.data);
        return false;
    }
    if (ch->basic->n_consumers >= max) {
        connection_error(ch->connection, REPLY_NOT_ALLOWED, METHOD_BASIC_CONSUME,
                         "reached maximum (%u) of consumers per channel", max);
        return false;
    }
    return true;
}

struct channel_consumer *consumer_begin(struct channel *ch, const struct basic_consume *c) {
    char generated[NAME_SIZE];
    struct view tag = c->consumer_tag;
    if (tag.length == 0) {
        name_generate(generated, TAG_PREFIX, ch->connection->amqp->o.io);
        tag = view_of(generated);
    }
    struct channel_consumer *made = consumer_add(ch, tag, c->arguments);
    if (made == NULL) {
        connection_error(ch->connection, REPLY_RESOURCE_ERROR, METHOD_BASIC_CONSUME, "out of memory");
        return NULL;
    }
    made->no_ack = c->no_ack;
    made->exclusive = c->exclusive;
    return made;
}

void consumer_begun(struct channel_consumer *c, bool no_wait) {
    const struct method ok = {.id = METHOD_BASIC_CONSUME_OK, .basic_consume_ok = {.consumer_tag = tag_of(c)}};
    if (!no_wait) channel_send(c->channel, &ok);
}

static void consume_fail(struct channel *ch, uint32_t method, const char *queue, const struct error *e) {
    if (e->code == ERR_LOCKED)
        channel_error(ch, REPLY_ACCESS_REFUSED, method, "queue '%s' in vhost '%s' in exclusive use", queue,
                      vhost_name(ch->connection->vhost));
    else channel_fail(ch, method, e);
}

void on_consume(struct channel *ch, const struct basic_consume *c) {
    char queue[NAME_SIZE];
    struct queue_info info;
    struct error e = {0};
    struct consumer_options o = {.prefetch = ch->basic->prefetch, .no_ack = c->no_ack, .exclusive = c->exclusive};
    if (!queue_name_read(ch, METHOD_BASIC_CONSUME, queue, c->queue)) return;
    if (strcmp(queue, REPLY_TO) == 0) {
        reply_to_consume(ch, c);
        return;
    }
    if (!consumer_may_begin(ch, c->consumer_tag) || !may(ch, METHOD_BASIC_CONSUME, ACCESS_READ, "queue", queue) ||
        !queue_there(ch, METHOD_BASIC_CONSUME, queue, &info))
        return;
    if (consume_arguments(&o.priority, c->arguments, queue, vhost_name(ch->connection->vhost), &e) != ERR_OK) {
        channel_fail(ch, METHOD_BASIC_CONSUME, &e);
        return;
    }
    struct channel_consumer *made = consumer_begin(ch, c);
    if (made == NULL) return;
    made->prefetch = o.prefetch;
    memcpy(made->queue, queue, NAME_SIZE);
    if (engine_consume(ch->session, ch->connection->vhost, queue, &o, made, &made->engine, &e) != ERR_OK) {
        consumer_remove(made);
        consume_fail(ch, METHOD_BASIC_CONSUME, queue, &e);
    } else consumer_begun(made, c->no_wait);
}

void on_cancel(struct channel *ch, const struct basic_cancel *c) {
    const struct method ok = {.id = METHOD_BASIC_CANCEL_OK, .basic_cancel_ok = {.consumer_tag = c->consumer_tag}};
    struct channel_consumer *gone = map_get(&ch->basic->consumers, c->consumer_tag.data, c->consumer_tag.length);
    if (gone != NULL && gone == ch->basic->reply) reply_to_release(ch);
    else if (gone != NULL) {
        engine_cancel(gone->engine);
        consumer_remove(gone);
    }
    if (!c->no_wait) channel_send(ch, &ok);
}

// ---- consumers that end with their queue

static bool wants_to_know(const struct channel *ch) {
    return ch->connection->client_cancel_notify && !ch->closed && !ch->close_sent && !ch->connection->closing;
}

static struct method cancel_of(const struct channel_consumer *c) {
    return (struct method){.id = METHOD_BASIC_CANCEL, .basic_cancel = {.consumer_tag = tag_of(c), .no_wait = true}};
}

void consumer_ended(void *arg, void *consumer_arg) {
    struct channel *ch = arg;
    struct channel_consumer *gone = consumer_arg;
    const struct method cancel = cancel_of(gone);
    forget(gone);
    if (ch->basic->deleting) {
        list_push_back(&ch->basic->ended, &gone->of_channel);
        return;
    }
    if (wants_to_know(ch)) channel_send(ch, &cancel);
    free(gone);
}

void consumers_hold_ended(struct channel *ch) { ch->basic->deleting = true; }

void consumers_tell_ended(struct channel *ch) {
    struct list_node *at;
    ch->basic->deleting = false;
    while ((at = list_pop_front(&ch->basic->ended)) != NULL) {
        struct channel_consumer *gone = LIST_ITEM(at, struct channel_consumer, of_channel);
        const struct method cancel = cancel_of(gone);
        if (wants_to_know(ch)) channel_send_durable(ch, &cancel); // behind the answer, which waits likewise
        free(gone);
    }
}

// ---- deliveries

// x-delivery-count, from the second attempt on, as quorum queues tell it.
static struct view with_delivery_count(struct channel *ch, const struct delivery *d) {
    struct properties p = {0};
    struct buf *b = &ch->basic->rewritten, headers;
    struct view name, plain = {d->properties, d->properties_length};
    struct field f;
    if (d->properties_length > 0 && !properties_decode(&p, d->properties, d->properties_length)) return plain;
    buf_init(&headers, REWRITTEN_MAX);
    struct table_cursor cursor = table_begin(p.headers);
    while (table_next(&cursor, &name, &f))
        if (!view_is(name, "x-delivery-count")) table_put(&headers, name, &f);
    table_put_integer(&headers, "x-delivery-count", d->attempt - 1);
    p.flags |= PROPERTY_HEADERS;
    p.headers = (struct view){headers.data, (uint32_t)headers.len};
    buf_clear(b);
    properties_encode(b, &p);
    bool ok = buf_ok(&headers) && buf_ok(b);
    buf_release(&headers);
    return ok ? (struct view){b->data, (uint32_t)b->len} : plain;
}

static void count_delivery(struct channel *ch, const struct delivery *d, const struct channel_consumer *c) {
    struct channel_basic *b = ch->basic;
    struct amqp_stats *s = &ch->connection->amqp->stats;
    if (d->redelivered) b->redelivered++, s->redelivered++;
    if (b->getting) {
        b->got++;
        if (b->getting_no_ack) s->got_no_ack++;
        else s->got++;
    } else if (c->no_ack) b->delivered_no_ack++, s->delivered_no_ack++;
    else b->delivered++, s->delivered++;
}

static void delivery_method(struct method *m, const struct channel_basic *b, const struct delivery *d,
                            const struct channel_consumer *c) {
    if (b->getting) {
        m->id = METHOD_BASIC_GET_OK;
        m->basic_get_ok = (struct basic_get_ok){.delivery_tag = d->tag,
                                                .redelivered = d->redelivered,
                                                .exchange = view_of(d->exchange),
                                                .routing_key = view_of(d->routing_key),
                                                .message_count = (uint32_t)b->getting_left};
        return;
    }
    m->id = METHOD_BASIC_DELIVER;
    m->basic_deliver = (struct basic_deliver){.consumer_tag = tag_of(c),
                                              .delivery_tag = d->tag,
                                              .redelivered = d->redelivered,
                                              .exchange = view_of(d->exchange),
                                              .routing_key = view_of(d->routing_key)};
}

void consumer_deliver(void *arg, const struct delivery *d) {
    struct channel *ch = arg;
    struct channel_basic *b = ch->basic;
    struct connection *connection = ch->connection;
    if (ch->closed || ch->close_sent || connection->closing) return; // goes back with the session
    struct view properties = {d->properties, d->properties_length};
    struct method m;
    if (d->counted && d->attempt > 1) properties = with_delivery_count(ch, d);
    delivery_method(&m, b, d, d->consumer_arg);
    count_delivery(ch, d, d->consumer_arg);
    if (d->claimed) channel_send_claimed(ch, &m, properties, d->body, d->claimed_length);
    else {
        content_encode(channel_out(ch), ch->number, &m, properties, (struct view){d->body, d->body_length},
                       connection->frame_max);
        channel_wrote(ch);
    }
}

// ---- basic.get

void on_get(struct channel *ch, const struct basic_get *g) {
    char queue[NAME_SIZE];
    struct queue_info info;
    struct error e = {0};
    struct channel_basic *b = ch->basic;
    bool got = false;
    if (!queue_name_read(ch, METHOD_BASIC_GET, queue, g->queue) ||
        !may(ch, METHOD_BASIC_GET, ACCESS_READ, "queue", queue) || !queue_there(ch, METHOD_BASIC_GET, queue, &info))
        return;
    // Consumers were here first.
    if (info.consumers > 0 && info.ready > 0) engine_dispatch(ch->connection->amqp->o.engine);
    b->getting = true;
    b->getting_no_ack = g->no_ack;
    enum err err = engine_get(ch->session, ch->connection->vhost, queue, g->no_ack, NULL, &got, &b->getting_left, &e);
    b->getting = false;
    if (err != ERR_OK) consume_fail(ch, METHOD_BASIC_GET, queue, &e);
    else if (!got) channel_send(ch, &(struct method){.id = METHOD_BASIC_GET_EMPTY});
}

// ---- looking at it

void channel_each_consumer(struct channel *ch, const struct amqp_consumer_info *of,
                           void (*each)(void *arg, const struct amqp_consumer_info *), void *arg) {
    if (ch->basic == NULL) return;
    LIST_EACH(&ch->basic->consumer_list, at) {
        const struct channel_consumer *c = LIST_ITEM(at, struct channel_consumer, of_channel);
        struct amqp_consumer_info info = *of;
        info.channel = ch->number;
        info.queue = c->engine == NULL ? REPLY_TO : c->queue;
        info.tag = c->tag;
        info.prefetch = c->prefetch;
        info.ack_required = !c->no_ack;
        info.exclusive = c->exclusive;
        info.active = c->engine == NULL || consumer_active(c->engine);
        info.arguments = (struct view){c->arguments, c->arguments_length};
        each(arg, &info);
    }
}
