// The commit thread: takes the journal's pending batch, writes and syncs it, hands it back to the loop.
// No timer: while one batch is on its way to the disk the loop fills the next.
#ifndef BARID_JOURNAL_COMMIT_H
#define BARID_JOURNAL_COMMIT_H

#include "base/error.h"
#include "journal/journal.h"

struct loop;
struct commit;

// `durable(arg)` runs on the loop thread after each batch, when journal_durable() has moved. A failed write or
// sync ends the process there (die), naming the file.
enum err commit_new(struct commit **out, struct loop *loop, struct journal *j, void (*durable)(void *arg), void *arg,
                    struct error *e);
// Something was appended; cheap, call it as often as you like. What is pending is written when the loop is about to
// block anyway; this only lets the disk begin sooner when there is much.
void commit_kick(struct commit *c);
// Writes what is pending first; `durable` is not called for it. On the loop thread, before loop_free, and not from
// a before-block hook.
void commit_free(struct commit *c);
#endif
