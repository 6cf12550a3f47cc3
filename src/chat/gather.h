// Operations of one kind that go to PostgreSQL together: while some are being committed the next ones gather, and then
// share the statements, the transaction and the commit. A statement on many rows costs the server little more than one
// on one row, and what is in one transaction does not wait for itself where the same rows are locked.
//
//   gather_add ─> waiting ──those that may go together──> run(db, ops, n) ─commit─> each op's answer
//                                                          │           └─ failed ─> each op by itself, as a unit
//                                                          ├─ those it leaves out (`alone`): likewise, afterwards
//                                                          └─ those beyond GATHER_ROWS (`later`): wait again, first
//
// What is out of the ordinary is for the unit of the op itself: `run` knows the common case only. On SQLite, where
// units share a commit anyway, every op is a unit. The next ones go when all of these have their answer, so the order
// in which they were added is kept for each id and for each name of op_order.
//
// A batch does not wait long for a lock: somebody may hold it who is frozen. Its ops go by themselves then. And for an
// op that takes long by itself the next ones do not wait, but for those of the same name.
#ifndef BARID_CHAT_GATHER_H
#define BARID_CHAT_GATHER_H

#include "chat/internal.h"

#define GATHER_BATCH 256
// Recipients of a batch, so that many messages to large groups neither take longer than a statement may nor hold the
// locks of everybody meanwhile. A single op may have more.
#define GATHER_ROWS 4096

struct gather;
struct gathered {
    struct op op; // first; op.unit is what it does by itself
    struct list_node in_gather;
    struct gather *gather;
    const struct id *id; // of those with the same id one is in a batch
    bool single;         // set before gather_add: never in a batch
    bool alone;          // set by `run`: not in this one, but by itself
    bool later;          // set by `run`: not in this one, and none of those behind it either
    enum err result;     // set by `run`: why this one failed, op.unit.error with it; it has changed nothing then
};

// In one transaction. Not ERR_OK: none of it has happened.
typedef enum err gather_run_fn(struct db *db, struct gathered **ops, size_t n);

struct gather *gather_new(struct chat *c, gather_run_fn *run);
void gather_free(struct gather *g); // while the service closes: those that wait are never answered
void gather_add(struct gather *g, struct gathered *op);

// In `run`: whether an op with so many recipients is still to go with those before it, of which `rows` has the sum;
// false: it is for later.
bool gather_takes(struct gathered *op, size_t *rows, int64_t recipients);
// In `run`: the ids of the ops as a parameter of statements.
void gather_ids(struct gathered *const *ops, size_t n, struct db_bytes *ids);
// In `run`, first of all: the planner is to go by the indexes, whatever it believes of tables that are empty now and
// have a million rows later.
enum err gather_settings(struct db *db);

#endif
