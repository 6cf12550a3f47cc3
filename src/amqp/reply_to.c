// Direct reply-to: a client consumes from amq.rabbitmq.reply-to, publishes with that as reply-to, and the answer, sent
// to the default exchange with the name that took its place, reaches the client's channel without a queue.
//
//   amq.rabbitmq.reply-to.<22 characters>   one a channel, in amqp->reply_queues; nobody can guess it
//
// A reply is kept nowhere. It is dropped, as unroutable, when its channel is gone or has too much to send already.
#include "amqp/basic.h"
#include "amqp/topology.h"

#include <string.h>

#define REPLY_BACKLOG_MAX (16 * OUT_HIGH)

bool is_reply_to(const char *queue) {
    size_t n = strlen(REPLY_TO);
    return strncmp(queue, REPLY_TO, n) == 0 && (queue[n] == '\0' || queue[n] == '.');
}

static struct channel *find(struct amqp *a, const char *queue) {
    return map_get(&a->reply_queues, queue, strlen(queue));
}

static bool refuse(struct channel *ch, const char *why) {
    channel_error(ch, REPLY_PRECONDITION_FAILED, METHOD_BASIC_CONSUME, "%s", why);
    return false;
}

static bool may_consume(struct channel *ch, const struct basic_consume *c) {
    if (!consumer_may_begin(ch, c->consumer_tag)) return false;
    if (!c->no_ack) return refuse(ch, "reply consumer cannot acknowledge");
    if (ch->basic->reply != NULL) return refuse(ch, "reply consumer already set");
    return true;
}

void reply_to_consume(struct channel *ch, const struct basic_consume *c) {
    struct channel_basic *b = ch->basic;
    struct amqp *a = ch->connection->amqp;
    if (!may_consume(ch, c)) return;
    name_generate(b->reply_token, REPLY_TO ".", a->o.io);
    if (!map_put(&a->reply_queues, b->reply_token, strlen(b->reply_token), ch)) {
        connection_error(ch->connection, REPLY_RESOURCE_ERROR, METHOD_BASIC_CONSUME, "out of memory");
        return;
    }
    b->reply = consumer_begin(ch, c);
    if (b->reply == NULL) map_remove(&a->reply_queues, b->reply_token, strlen(b->reply_token));
    else consumer_begun(b->reply, c->no_wait);
}

void reply_to_release(struct channel *ch) {
    struct channel_basic *b = ch->basic;
    if (b->reply == NULL) return;
    map_remove(&ch->connection->amqp->reply_queues, b->reply_token, strlen(b->reply_token));
    consumer_remove(b->reply);
    b->reply = NULL;
}

static bool takes(const struct channel *to, const struct channel *from) {
    return to != NULL && !to->closed && !to->close_sent && !to->connection->closing &&
           to->connection->vhost == from->connection->vhost &&
           to->connection->out.len + to->connection->behind < REPLY_BACKLOG_MAX;
}

bool reply_to_publish(struct channel *ch, const struct publish *p) {
    const struct message *m = &p->message;
    struct channel *to = find(ch->connection->amqp, m->routing_key);
    if (!takes(to, ch)) return false;
    const struct channel_consumer *consumer = to->basic->reply;
    const struct method deliver = {
        .id = METHOD_BASIC_DELIVER,
        .basic_deliver = {.consumer_tag = {(const uint8_t *)consumer->tag, consumer->tag_length},
                          .delivery_tag = engine_session_take_tag(to->session),
                          .exchange = view_of(m->exchange),
                          .routing_key = view_of(m->routing_key)}};
    struct view properties = {m->properties, m->properties_length};
    to->basic->delivered_no_ack++;
    to->connection->amqp->stats.delivered_no_ack++;
    if (m->claimed) {
        channel_send_claimed(to, &deliver, properties, m->body, m->claimed_length);
        return true;
    }
    content_encode(channel_out(to), to->number, &deliver, properties, (struct view){m->body, m->body_length},
                   to->connection->frame_max);
    channel_wrote(to);
    return true;
}

void on_reply_to_declare(struct channel *ch, const struct queue_declare *d, const char *name) {
    const struct method ok = {.id = METHOD_QUEUE_DECLARE_OK,
                              .queue_declare_ok = {.queue = view_of(name), .consumer_count = 1}};
    if (strcmp(name, REPLY_TO) != 0 && find(ch->connection->amqp, name) == NULL) {
        channel_error(ch, REPLY_NOT_FOUND, METHOD_QUEUE_DECLARE, "no queue '%s' in vhost '%s'", name,
                      vhost_name(ch->connection->vhost));
        return;
    }
    memcpy(ch->last_queue, name, strlen(name) + 1);
    if (!d->no_wait) channel_send(ch, &ok);
}
