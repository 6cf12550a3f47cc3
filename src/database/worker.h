// One database thread with its connection and its queue. database.c has two: one that writes, one that reads.
//
//   loop thread                         worker's thread
//   worker_push ── queue ──────────────> takes all that waits, runs a batch in one transaction
//   done()s, in order <── loop_post ──── hands the whole batch back after the commit
#ifndef BARID_DATABASE_WORKER_H
#define BARID_DATABASE_WORKER_H

#include "database/driver.h"

struct loop;
struct worker;

// Called on the loop thread for every unit, in the order in which they were pushed. `commits` is how many
// commits the batch took: once a batch, on its first unit.
typedef void worker_done_fn(void *arg, struct db_unit *u, unsigned commits);

struct worker *worker_new(struct loop *loop, struct db *db, bool writes, worker_done_fn *done, void *arg);
void worker_push(struct worker *w, struct db_unit *u);
// Finishes what was pushed and calls its done()s; the connection is the caller's again.
void worker_free(struct worker *w);

#endif
