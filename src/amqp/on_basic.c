// basic.*: which command goes where; qos and recover, which are short; and what a channel holds for all of them.
#include "amqp/basic.h"

#include <stdlib.h>
#include <string.h>

static void on_qos(struct channel *ch, const struct basic_qos *q) {
    struct channel_basic *b = ch->basic;
    if (q->prefetch_size != 0) {
        connection_error(ch->connection, REPLY_NOT_IMPLEMENTED, METHOD_BASIC_QOS, "prefetch_size!=0 (%u)",
                         q->prefetch_size);
        return;
    }
    if (!q->global) b->prefetch = q->prefetch_count;
    // As RabbitMQ has it: a limit for consumers to come takes away the channel's.
    b->global_prefetch = q->global ? q->prefetch_count : 0;
    engine_session_prefetch(ch->session, b->global_prefetch);
    channel_send(ch, &(struct method){.id = METHOD_BASIC_QOS_OK});
}

static void on_recover(struct channel *ch, uint32_t method, bool requeue) {
    if (!requeue) {
        connection_error(ch->connection, REPLY_NOT_IMPLEMENTED, method, "requeue=false");
        return;
    }
    if (!settle_now(ch, method, 0, true, SETTLE_REQUEUE)) return;
    if (method == METHOD_BASIC_RECOVER) channel_send(ch, &(struct method){.id = METHOD_BASIC_RECOVER_OK});
}

void on_basic(struct channel *ch, const struct command *c) {
    const struct method *m = c->method;
    switch (m->id) {
    case METHOD_BASIC_PUBLISH: on_publish(ch, c); break;
    case METHOD_BASIC_ACK: on_settle(ch, m->id, m->basic_ack.delivery_tag, m->basic_ack.multiple, SETTLE_ACK); break;
    case METHOD_BASIC_NACK:
        on_settle(ch, m->id, m->basic_nack.delivery_tag, m->basic_nack.multiple,
                  m->basic_nack.requeue ? SETTLE_REQUEUE : SETTLE_REJECT);
        break;
    case METHOD_BASIC_REJECT:
        on_settle(ch, m->id, m->basic_reject.delivery_tag, false,
                  m->basic_reject.requeue ? SETTLE_REQUEUE : SETTLE_REJECT);
        break;
    case METHOD_BASIC_GET: on_get(ch, &m->basic_get); break;
    case METHOD_BASIC_CONSUME: on_consume(ch, &m->basic_consume); break;
    case METHOD_BASIC_CANCEL: on_cancel(ch, &m->basic_cancel); break;
    case METHOD_BASIC_CANCEL_OK: break; // answers a cancel that needed none
    case METHOD_BASIC_QOS: on_qos(ch, &m->basic_qos); break;
    case METHOD_BASIC_RECOVER: on_recover(ch, m->id, m->basic_recover.requeue); break;
    case METHOD_BASIC_RECOVER_ASYNC: on_recover(ch, m->id, m->basic_recover_async.requeue); break;
    default: connection_error(ch->connection, REPLY_COMMAND_INVALID, m->id, "unimplemented method");
    }
}

void channel_basic_init(struct channel *ch) {
    const struct session_options o = {.deliver = consumer_deliver, .ended = consumer_ended, .arg = ch};
    struct channel_basic *b = calloc(1, sizeof *b);
    if (b == NULL) die("out of memory for a channel");
    ch->basic = b;
    b->channel = ch;
    ch->session = engine_session_new(ch->connection->amqp->o.engine, &o);
    b->exchange_length = NAME_SIZE;
    buf_init(&b->rewritten, REWRITTEN_MAX);
    buf_init(&b->keys, REWRITTEN_MAX);
    consumers_init(ch);
}

void channel_basic_release(struct channel *ch) {
    struct channel_basic *b = ch->basic;
    if (b == NULL) return;
    engine_session_free(ch->session);
    ch->session = NULL;
    reply_to_release(ch);
    consumers_release(ch);
    publish_release(ch);
    confirms_release(ch);
    buf_release(&b->rewritten);
    buf_release(&b->keys);
    free(b);
    ch->basic = NULL;
}

void channel_basic_info(const struct channel *ch, struct amqp_channel_info *out) {
    const struct channel_basic *b = ch->basic;
    if (b == NULL) return;
    out->consumers = b->n_consumers;
    out->unacked = engine_session_unacked(ch->session);
    out->unconfirmed = (uint32_t)confirms_waiting(ch);
    out->uncommitted = tx_publishes(ch);
    out->uncommitted_acks = tx_settles(ch);
    out->prefetch = b->prefetch;
    out->global_prefetch = b->global_prefetch;
    out->confirms = ch->confirms;
    out->transactional = ch->transactional;
    out->published = b->published;
    out->confirmed = b->confirms.sent;
    out->returned = b->returned;
    out->delivered = b->delivered;
    out->delivered_no_ack = b->delivered_no_ack;
    out->got = b->got;
    out->acked = b->acked;
    out->redelivered = b->redelivered;
}
