// Verifying a journal that nobody has open, and salvaging what is left of a damaged one.
#ifndef BARID_JOURNAL_CHECK_H
#define BARID_JOURNAL_CHECK_H

#include "base/error.h"
#include "journal/segment.h"

#include <stdbool.h>
#include <stdint.h>

struct io;

enum finding_kind {
    FINDING_NOTE, // nothing is lost: a header copy to write again, a file that was never used
    FINDING_TORN, // the tail of the last batch: nothing in it was ever acknowledged
    FINDING_LOST, // damage: bytes that were durable and cannot be read
};

struct finding {
    enum finding_kind kind;
    char file[SEGMENT_PATH];
    uint64_t offset, bytes; // bytes 0: unknown
    const char *what;
};

typedef void finding_fn(void *arg, const struct finding *f);

struct check_result {
    uint64_t segments, records, record_bytes;
    uint64_t torn_bytes, lost_ranges, lost_bytes;
};

// `dir` as in journal_options. Without `repair` not a byte is changed. ERR_OK: sound, or repaired; ERR_CORRUPT:
// damage was found; ERR_LOCKED: somebody has it open; ERR_NOT_FOUND: there is none; ERR_VERSION.
enum err journal_check(struct io *io, const char *dir, bool repair, finding_fn *report, void *arg,
                       struct check_result *result, struct error *e);

#endif
