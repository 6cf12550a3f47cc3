// Reading a segment file front to back through a window, and searching it after damage.
#ifndef BARID_JOURNAL_WALK_H
#define BARID_JOURNAL_WALK_H

#include "base/io.h"
#include "journal/format.h"

struct walk {
    struct io *io;
    int fd;
    uint64_t salt;
    uint64_t limit; // bytes of the file
    uint8_t *window;
    size_t cap, have;
    uint64_t window_at;
    enum err err; // the first read that failed; everything after it is invalid
};

void walk_init(struct walk *w, struct io *io, int fd, uint64_t salt, uint64_t limit);
void walk_release(struct walk *w);

// n bytes at `at`, valid until the next call; NULL past the end or after an error.
const uint8_t *walk_bytes(struct walk *w, uint64_t at, size_t n);
// A valid frame; one that claims more than the file has (the file was cut) is given as far as it goes.
bool walk_frame(struct walk *w, uint64_t at, struct frame *f);
// A valid record that ends at or before `end`. *payload (may be NULL) is valid until the next call.
bool walk_record(struct walk *w, uint64_t at, uint64_t end, struct record_head *h, const uint8_t **payload);

// The first valid one at or after `from`, 8 bytes apart; `to` when there is none.
uint64_t walk_find_frame(struct walk *w, uint64_t from, uint64_t to);
uint64_t walk_find_record(struct walk *w, uint64_t from, uint64_t to);
// Where the last byte that is not zero ends; `from` when all are zeros.
uint64_t walk_used_end(struct walk *w, uint64_t from);
bool walk_is_zero(struct walk *w, uint64_t from); // to the end of the file

#endif
