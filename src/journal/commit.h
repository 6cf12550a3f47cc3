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
enum err commit_new(struct commit **out, struct loop *loop, struct journal *j, void (*durable)(void *arg),
                    void *arg, struct error *e);
void commit_kick(struct commit *c); // something was appended; cheap, call it as often as you like
void commit_free(struct commit *c); // writes what is pending first
#endif
