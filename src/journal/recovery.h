// Opening what a crash, or worse, has left. recovery.c holds the decision table.
#ifndef BARID_JOURNAL_RECOVERY_H
#define BARID_JOURNAL_RECOVERY_H

#include "journal/check.h"
#include "journal/internal.h"
#include "journal/walk.h"

enum recovery_mode {
    RECOVERY_REFUSE, // mend what a crash may leave, stop at damage
    RECOVERY_REPAIR, // mend everything, giving up what cannot be read
    RECOVERY_CHECK,  // change nothing, report everything
};

struct recovery_options {
    enum recovery_mode mode;
    journal_replay_fn *replay;
    void *arg;
    finding_fn *report; // NULL: to the log
    void *report_arg;
};

struct recovery {
    struct journal *j;
    const struct recovery_options *how;
    struct error *e;
    uint64_t batch;      // the newest seen
    jpos at;             // the position behind everything seen
    bool gap_known;      // a loss was reported since the last good batch: a gap in the numbers is no news
    bool last_was_empty; // the last frame is a seal
};

enum err journal_open_as(struct journal **out, struct io *io, const struct journal_options *o,
                         const struct recovery_options *how, struct error *e);
enum err recover(struct journal *j, const struct recovery_options *how, struct error *e);

// Reports; ERR_CORRUPT when it is damage and the mode is to refuse.
enum err recovery_report(struct recovery *r, enum finding_kind kind, uint32_t number, uint64_t offset, uint64_t bytes,
                         const char *what);

// salvage.c: replays one segment that has data; `last`: no later segment has any.
enum err recover_segment(struct recovery *r, struct segment *s, bool last);

#endif
