// Large bodies that the engine knows by a ticket only.
#include "amqp/core.h"

void channel_send_claimed(struct channel *ch, const struct method *m, struct view properties, const uint8_t *ticket,
                          uint64_t length) {
    (void)properties;
    (void)ticket;
    channel_error(ch, REPLY_INTERNAL_ERROR, m->id, "a body of %llu bytes is kept where this server does not look",
                  (unsigned long long)length);
}
