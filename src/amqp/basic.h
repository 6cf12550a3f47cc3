// What the files of the basic class share: a channel's consumers, its publishes and what waits with them.
//
//   on_basic.c    which command goes where; qos, cancel, recover
//   consume.c     consumers, basic.get, and deliveries to both
//   kept.c        a publish that waits
//   settle.c      ack, nack, reject
//   on_publish.c  basic.publish; a publish for which the engine has no room is held
//   confirms.c    confirm.select, and acks for publishes, gathered
//   on_tx.c       publishes and acks kept until tx.commit
//   reply_to.c    direct reply-to
#ifndef BARID_AMQP_BASIC_H
#define BARID_AMQP_BASIC_H

#include "amqp/confirms.h"
#include "amqp/internal.h"
#include "amqp/names.h"

#define TAG_PREFIX        "amq.ctag-"
#define REPLY_TO          "amq.rabbitmq.reply-to"
#define REWRITTEN_MAX     (16u << 20)
#define EXCHANGE_KNOWN_MS 1000 // for so long a permission to publish is taken for granted

struct channel_consumer {
    struct channel *channel;
    struct list_node of_channel;
    struct consumer *engine; // NULL: of direct reply-to, which has no queue
    char queue[NAME_SIZE];
    uint32_t prefetch;
    bool no_ack, exclusive;
    uint8_t tag_length;
    uint32_t arguments_length;
    uint8_t *arguments;
    char tag[]; // NUL-terminated, to be shown
};

// A publish as the engine takes it, and what the channel does about the answer.
struct publish {
    struct message message;
    bool mandatory;
};

struct channel_basic {
    struct channel *channel;
    struct map consumers; // by tag
    struct list consumer_list;
    struct list ended; // consumers whose queue this channel deletes just now: told after delete-ok
    bool deleting;
    uint32_t n_consumers;
    uint32_t prefetch;        // for consumers to come
    uint32_t global_prefetch; // of all
    bool getting;             // what is delivered now answers a basic.get, …
    bool getting_no_ack;
    uint64_t getting_left; // … and so many are left

    char exchange[NAME_SIZE]; // published to last, and allowed until …
    uint16_t exchange_length; // NAME_SIZE: none yet
    uint64_t exchange_until_ms;
    struct buf rewritten; // properties that are not as the client sent them
    struct buf keys;      // CC and BCC

    struct kept *held; // no room: the connection is paused until it is in
    struct list_node of_holding;
    struct confirms confirms;

    struct channel_consumer *reply; // consumes from amq.rabbitmq.reply-to
    char reply_token[NAME_SIZE];    // the whole name: amq.rabbitmq.reply-to.<token>

    uint64_t published, returned, delivered, delivered_no_ack, got, acked, redelivered;
};

// ---- consume.c
void consumers_init(struct channel *ch);
void consumers_release(struct channel *ch);
void on_consume(struct channel *ch, const struct basic_consume *c);
void on_cancel(struct channel *ch, const struct basic_cancel *c);
void on_get(struct channel *ch, const struct basic_get *g);
void consumer_deliver(void *arg, const struct delivery *d); // deliver_fn, the channel
void consumer_ended(void *arg, void *consumer_arg);         // ended_fn
void consumer_remove(struct channel_consumer *c);
// Consumers of a queue that this channel deletes are told after the answer, as clients of RabbitMQ expect.
void consumers_hold_ended(struct channel *ch);
void consumers_tell_ended(struct channel *ch);
// The steps of basic.consume that direct reply-to has too. False, NULL: the connection has ended.
bool consumer_may_begin(struct channel *ch, struct view tag);
struct channel_consumer *consumer_begin(struct channel *ch, const struct basic_consume *c);
void consumer_begun(struct channel_consumer *c, bool no_wait);

// ---- settle.c
void on_settle(struct channel *ch, uint32_t method, uint64_t tag, bool multiple, enum settle how);
// The same without a transaction. False: the channel has ended.
bool settle_now(struct channel *ch, uint32_t method, uint64_t tag, bool multiple, enum settle how);

// ---- on_publish.c
void on_publish(struct channel *ch, const struct command *c);
void publish_release(struct channel *ch); // waits for room no more
// Into the engine, with return and confirm. ERR_BUSY, ERR_FULL: not now. Other errors have ended the channel.
// *result as the engine said it.
enum err publish_now(struct channel *ch, const struct publish *p, enum publish_result *result);

// ---- kept.c: a publish with everything it points at
struct kept {
    struct kept *next;
    struct publish publish;
    struct claims *claims; // that hold its body, NULL: it has it with it
    size_t size;
};
struct kept *kept_new(const struct channel *ch, const struct publish *p); // NULL: out of memory
void kept_free(struct kept *k);

// ---- on_tx.c
void tx_publish(struct channel *ch, const struct publish *p);
void tx_settle(struct channel *ch, uint32_t method, uint64_t tag, bool multiple, enum settle how);
bool tx_continue(struct channel *ch); // commits what there is room for. False: no room yet
uint32_t tx_publishes(const struct channel *ch);
uint32_t tx_settles(const struct channel *ch);

// ---- reply_to.c
bool is_reply_to(const char *queue); // amq.rabbitmq.reply-to itself, or with a token
void reply_to_consume(struct channel *ch, const struct basic_consume *c);
void reply_to_release(struct channel *ch);
// Hands the reply over at once. False: there is nobody to take it.
bool reply_to_publish(struct channel *ch, const struct publish *p);
void on_reply_to_declare(struct channel *ch, const struct queue_declare *d, const char *name);

#endif
