// How fast counters move: a sample of all of them every few seconds, and the rate between the last two.
//
// Nobody pays for it when nobody looks: the first question starts it, and it ends when none has come for a while.
#ifndef BARID_MANAGEMENT_SAMPLER_H
#define BARID_MANAGEMENT_SAMPLER_H

#include "base/loop.h"
#include "base/map.h"

#include <stdbool.h>
#include <stdint.h>

struct management;

#define RATES_COUNTERS 12
#define RATES_EVERY_MS 5000
#define RATES_IDLE_MS  60000
#define RATES_ROWS_MAX 100000 // more things than this: the others' rates are 0

enum rate_kind { RATE_ALL = 'a', RATE_QUEUE = 'q', RATE_EXCHANGE = 'x', RATE_CONNECTION = 'c', RATE_CHANNEL = 'h' };
// What the counters of each kind are.
enum rate_message { // of RATE_ALL and RATE_CHANNEL
    RATE_PUBLISH,
    RATE_CONFIRM,
    RATE_RETURN,
    RATE_DROP,
    RATE_DELIVER,
    RATE_DELIVER_NO_ACK,
    RATE_GET,
    RATE_GET_NO_ACK,
    RATE_ACK,
    RATE_REDELIVER,
    RATE_READY, // of RATE_ALL: lengths
    RATE_UNACKED,
};
enum rate_queue { // of RATE_QUEUE
    RATE_QUEUE_PUBLISH,
    RATE_QUEUE_DELIVER,
    RATE_QUEUE_GET,
    RATE_QUEUE_ACK,
    RATE_QUEUE_REDELIVER,
    RATE_QUEUE_READY,
    RATE_QUEUE_UNACKED,
};
enum { RATE_IN, RATE_OUT }; // of RATE_EXCHANGE; bytes of RATE_CONNECTION

struct sampler {
    struct management *management;
    struct map rows;
    struct loop_timer timer;
    uint64_t asked_ms, sampled_ms;
    double seconds; // since the sample before
    uint32_t round;
};

void sampler_start(struct sampler *r, struct management *m);
void sampler_stop(struct sampler *r);
void sampler_wanted(struct sampler *r); // somebody looks
// RATES_COUNTERS of them, a second; zeros when it is not known. `b` may be NULL.
const double *sampler_rates(const struct sampler *r, enum rate_kind kind, const char *a, const char *b);

#endif
