// May the user of this channel do that? What is refused is answered as RabbitMQ does: the channel ends with 403.
#ifndef BARID_AMQP_PERMISSIONS_H
#define BARID_AMQP_PERMISSIONS_H

#include "amqp/internal.h"

// `what` is "queue" or "exchange". False: refused, the channel has ended.
bool may(struct channel *ch, uint32_t method, enum access_kind kind, const char *what, const char *name);
// Any permission at all, which is what a passive declaration needs.
bool may_look(struct channel *ch, uint32_t method, const char *what, const char *name);

#endif
