// Publisher confirms of a channel: which publishes were answered by the engine, and the basic.ack or nack that says so.
//
// The engine answers in the order of publishing, so counting is enough. Publishes that never reached it (direct
// replies) are answered in their place: `own` names those that are not yet passed. Answers of one kind that follow each
// other are gathered, and leave as one method with multiple=true.
#ifndef BARID_AMQP_CONFIRMS_H
#define BARID_AMQP_CONFIRMS_H

#include "base/list.h"
#include "engine/engine.h"

struct channel;

struct confirms {
    struct list_node of_confirming; // in amqp->confirming while something is gathered
    uint64_t published;             // the last number given out
    uint64_t answered;              // up to here all are answered
    uint64_t sent;                  // up to here the client knows
    bool refused;                   // what is between `sent` and `answered` is nacked
    uint64_t *own;                  // a ring of numbers above `answered`, ascending
    uint32_t own_first, own_count, own_size;
};

void confirms_release(struct channel *ch);
void confirms_expect(struct channel *ch);                          // a publish the engine will answer …
void confirms_answered(void *channel, enum publish_result result); // … by this: publish_done_fn
void confirms_answer_own(struct channel *ch);                      // a publish that is done without the engine
uint64_t confirms_waiting(const struct channel *ch);

#endif
