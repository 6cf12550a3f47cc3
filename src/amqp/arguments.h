// The arguments of queue.declare, exchange.declare, basic.consume and bindings: what they mean to the engine, checked
// with RabbitMQ's texts. Arguments that mean nothing here (x-queue-mode, x-queue-version, x-queue-leader-locator …) are
// kept to be shown.
//
// An error is ERR_INVALID: 406 PRECONDITION_FAILED.
#ifndef BARID_AMQP_ARGUMENTS_H
#define BARID_AMQP_ARGUMENTS_H

#include "amqp/names.h"
#include "engine/engine.h"

// The options with what they point at; they point into `arguments` as well, which must live as long.
struct queue_arguments {
    struct queue_options options; // of the table alone: type … arguments; the caller sets durable, owner and so on
    char dead_letter_exchange[NAME_SIZE];
    char dead_letter_routing_key[NAME_SIZE];
};
enum err queue_arguments(struct queue_arguments *out, struct view arguments, const char *queue, const char *vhost,
                         struct error *e);

struct exchange_arguments {
    struct exchange_options options; // type, delayed, and of the table; the caller sets durable, internal and so on
    char alternate[NAME_SIZE];
    char hash_header[NAME_SIZE];
    char hash_property[NAME_SIZE];
};
enum err exchange_arguments(struct exchange_arguments *out, struct view type, struct view arguments,
                            const char *exchange, const char *vhost, struct error *e);

// x-priority; the others of basic.consume are ignored.
enum err consume_arguments(int32_t *priority, struct view arguments, const char *queue, const char *vhost,
                           struct error *e);
// Is the binding one that the type of its exchange understands?
enum err binding_arguments(const struct exchange_options *exchange, const char *key, struct view arguments,
                           struct error *e);

#endif
