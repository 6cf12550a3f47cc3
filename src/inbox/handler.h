// Handlers: what an event is given to once it is in the inbox. Each is a sink (outbox/sink.h) behind the core that
// counts attempts, waits, keeps the order of keys and parks.
//
//   sql:SCHEMA.FUNCTION   called in the transaction that deletes the event: its effect happens exactly once
//   http(s)://…           a webhook: POST, with CloudEvents headers and an Idempotency-Key
//   exec:COMMAND          a program, started an event: the payload on its standard input
//
// A webhook or a program may have acted and still be asked again with the same event id: when its answer was lost, or
// when this process ended before it had written the answer down.
#ifndef BARID_INBOX_HANDLER_H
#define BARID_INBOX_HANDLER_H

#include "base/error.h"
#include "outbox/sink.h"

#include <stdint.h>

struct loop;
struct database;
struct handler;

struct handler_options {
    struct loop *loop;
    struct database *database; // sql: only
    const char *consumer;
    const char *spec;     // as above
    uint32_t concurrency; // events at once (sql: transactions at once), 0: 16 (sql: 4)
    uint32_t timeout_ms;  // for one event (sql: one statement), 0: 30,000
};

// ERR_INVALID with a sentence: the spec makes no sense.
enum err handler_open(struct handler **out, const struct handler_options *o, struct error *e);
// Is it there and fit? Answered on the loop thread, never from inside the call: ERR_OK, ERR_INVALID with why it can
// never work (no such function, several), or what the database said. May be called again after an error; nothing is
// taken before it was answered with ERR_OK.
typedef void handler_ready_fn(void *arg, enum err err, const char *why);
void handler_check(struct handler *h, handler_ready_fn *ready, void *arg);
const struct outbox_sink *handler_sink(const struct handler *h);
// What is still with it is answered as away: calls are broken off, programs killed. After outbox_free, and for sql:
// after database_close, so that no unit is under way; before loop_free.
void handler_free(struct handler *h);

#endif
