// basic.ack, nack and reject.
//
// A message is parked where its queue was declared with x-park: rejected with requeue=false, or with its attempts
// spent, it stays with the queue's name and the reason, instead of being dropped, unless a dead-letter exchange takes
// it.
#include "amqp/basic.h"

#include <inttypes.h>

bool settle_now(struct channel *ch, uint32_t method, uint64_t tag, bool multiple, enum settle how) {
    struct error e = {0};
    uint32_t before = engine_session_unacked(ch->session);
    enum err err = engine_settle(ch->session, tag, multiple, how, how == SETTLE_REJECT ? "rejected" : NULL, &e);
    if (err == ERR_OK) {
        uint32_t settled = before - engine_session_unacked(ch->session);
        if (how != SETTLE_ACK) return true;
        ch->basic->acked += settled;
        ch->connection->amqp->stats.acked += settled;
        return true;
    }
    if (err == ERR_NOT_FOUND)
        channel_error(ch, REPLY_PRECONDITION_FAILED, method, "unknown delivery tag %" PRIu64, tag);
    else channel_fail(ch, method, &e);
    return false;
}

void on_settle(struct channel *ch, uint32_t method, uint64_t tag, bool multiple, enum settle how) {
    if (ch->transactional) tx_settle(ch, method, tag, multiple, how);
    else settle_now(ch, method, tag, multiple, how);
}
