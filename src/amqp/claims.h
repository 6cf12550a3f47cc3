// Large bodies outside the journal: who still needs which file of DATA/bodies.
//
// A body is a file named by its SHA-256, and that name is the ticket that the engine stores in its place. The same
// content published twice is one file. It stays while a stored message carries its ticket (claim_fn counts them) or
// somebody has it in hand (claims_hold): an upload before its publish, a publish that waits for room or for tx.commit,
// a body that is being sent. When nobody does, it is removed once the record that ended the last message is durable;
// what a crash left over is removed at the next start.
#ifndef BARID_AMQP_CLAIMS_H
#define BARID_AMQP_CLAIMS_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct claims;
struct claims_call;
struct datastore;
struct ds_reader;
struct ds_writer;
struct engine;
struct io;
struct loop;

// Before the engine, which counts with claims_count from its replay on.
enum err claims_open(struct claims **out, struct loop *loop, struct io *io, const char *dir, uint64_t low_water_bytes,
                     struct error *e);
void claims_count(void *claims, const uint8_t *ticket, int change); // the engine's claim_fn
// The engine has replayed: what nobody needs is removed from now on, and what a message names and is not there is told
// in the log.
void claims_start(struct claims *c, struct engine *engine);
void claims_close(struct claims *c); // after the engine; nothing is removed any more

void claims_hold(struct claims *c, const uint8_t *ticket);
void claims_release(struct claims *c, const uint8_t *ticket);
struct datastore *claims_store(const struct claims *c);

// An upload is complete: it gets its name, and is held while `done` runs.
typedef void claims_finished_fn(void *arg, enum err err, const uint8_t *ticket);
struct claims_call *claims_finish(struct claims *c, struct ds_writer *w, claims_finished_fn *done, void *arg);
// Opens a body that is held. ERR_NOT_FOUND: it is missing; ERR_BUSY: too many are open, try again later.
typedef void claims_opened_fn(void *arg, enum err err, struct ds_reader *r, uint64_t bytes);
struct claims_call *claims_read(struct claims *c, const uint8_t *ticket, claims_opened_fn *done, void *arg);
void claims_call_forget(struct claims_call *call); // its `done` is not called any more

struct claims_stats {
    uint64_t bodies;  // with owners
    uint64_t missing; // at the start
};
void claims_stats(const struct claims *c, struct claims_stats *out);

#endif
