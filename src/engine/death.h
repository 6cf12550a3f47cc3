// What is written on a message that is dead-lettered: the headers from which a consumer reads where it has been.
//
//   x-death               array of tables, latest first; one a queue and reason:
//                         count l, reason S, queue S, time T, exchange S, routing-keys A of S,
//                         original-expiration S (when its own TTL was taken off)
//   x-first-death-queue, -reason, -exchange     of the first time
//   x-last-death-queue, -reason, -exchange      of this time
//
// A death at the same queue for the same reason counts its table up and moves it to the front; the time stays that of
// the first. `expiration` is taken off whatever the reason, or it would expire again at once. CC is taken off when a
// dead-letter routing key replaces the message's own.
#ifndef BARID_ENGINE_DEATH_H
#define BARID_ENGINE_DEATH_H

#include "wire/table.h"

#define DEATHS_MAX 64 // tables in x-death; beyond it the oldest goes

struct death {
    struct view properties; // as the message had them, may be empty
    const char *queue, *reason, *exchange, *routing_key;
    int64_t at_ms; // wall clock
    bool new_key;
};

// Appends the letter's properties to `out`. False: the message's are damaged, nothing is known of them.
bool death_note(struct buf *out, const struct death *d);

// Was the message in `queue` before, and was it not rejected by anybody since? Then it goes round by itself, and would
// for ever. `headers` are the letter's.
bool death_is_cycle(struct view headers, const char *queue);

// The texts of the CC header, one a call: start with a cursor of zeros.
struct cc_cursor {
    struct table_cursor array;
    bool begun;
};
bool death_next_cc(struct view headers, struct cc_cursor *c, struct view *key);

#endif
