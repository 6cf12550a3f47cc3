// What exchange.* and queue.* commands share: names, what is there, who may bind.
#ifndef BARID_AMQP_TOPOLOGY_H
#define BARID_AMQP_TOPOLOGY_H

#include "amqp/internal.h"
#include "amqp/names.h"

// The name of a queue or exchange. False: it has a zero byte, and the connection has ended.
bool name_read(struct channel *ch, uint32_t method, char out[static NAME_SIZE], struct view v);
// The name of a queue, where an empty one means the queue declared last. False: there is none, the channel has ended.
bool queue_name_read(struct channel *ch, uint32_t method, char out[static NAME_SIZE], struct view v);
// False: there is none, the channel has ended with 404.
bool exchange_there(struct channel *ch, uint32_t method, const char *name, struct exchange_info *out);
// False: there is none (404), or it is exclusively another connection's (405).
bool queue_there(struct channel *ch, uint32_t method, const char *name, struct queue_info *out);
// False: it is exclusively another connection's, the channel has ended with 405.
bool queue_ours(struct channel *ch, uint32_t method, const struct queue_info *q);
bool queue_locked(struct channel *ch, uint32_t method, const char *name); // ends the channel with that 405; false

// queue.bind, exchange.bind and their opposites.
struct binding_command {
    uint32_t method;
    bool bind; // or unbind
    bool to_exchange;
    struct view source, destination, key, arguments;
};
bool bind_or_unbind(struct channel *ch, const struct binding_command *b); // false: the channel has ended

// The answer to a command: none with no_wait, and otherwise not before its effect is durable.
void answer(struct channel *ch, bool no_wait, enum method_id id);

#endif
