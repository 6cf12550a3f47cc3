// Intake: from the bus into the inbox.
//
//   bus ─deliver─> collected ─> one transaction: inbox (only what is new), inbox_queue, offsets ─commit─> bus: ack
//                  while the one before commits                                     └─ NOTIFY ─> the handlers, anywhere
//
// An event that comes again (the bus delivers at least once) meets its own id in the inbox, and is only acked. On a
// bus with places the offset stored here, written in the transaction that takes the events in, wins over the bus's
// own. While the database is away events stay with the bus, up to the prefetch. One that can never be stored, because
// its key or a header is no UTF-8 text, or it is too large, is parked on the bus with the reason; the stored offset
// stays below it until the bus has it there.
#ifndef BARID_INBOX_INTAKE_H
#define BARID_INBOX_INTAKE_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct io;
struct database;
struct bus;
struct intake;

struct intake_options {
    struct loop *loop;
    struct io *io;
    struct database *database; // PostgreSQL
    struct bus *bus;
    const char *consumer;      // outlives the intake; the bus's group, too
    const char *pattern;       // of topics
    uint32_t prefetch;         // events with us and not settled, 0: 4,096
    void (*stored)(void *arg); // new events are in the queue. May be NULL.
    void *arg;
};

enum err intake_new(struct intake **out, const struct intake_options *o, struct error *e);
// Takes no more: what was collected and is not under way goes back to the bus. `ended` is called, not from inside, when
// the last transaction is over and settled; not before is the subscription given up.
void intake_drain(struct intake *i, void (*ended)(void *arg), void *arg);
void intake_free(struct intake *i); // after database_close, before bus_close; any time

struct intake_stats {
    uint64_t received;   // events stored for the first time
    uint64_t duplicates; // those that were there already
    uint64_t unstorable; // parked on the bus
    uint64_t resets;     // a topic began again below the stored offset
    uint64_t waiting;    // with us, not stored
    uint64_t bytes;      // of these
    bool away;           // the database does not take them
};
void intake_stats(const struct intake *i, struct intake_stats *out);

#endif
