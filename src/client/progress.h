// A progress bar of one line, for transfers:  photo.jpg  ████████░░░░░░░░  52 %  12.3 MB of 23.6 MB  4.1 MB/s
#ifndef BARID_CLIENT_PROGRESS_H
#define BARID_CLIENT_PROGRESS_H

#include "base/buf.h"

#include <stdint.h>

struct progress {
    uint64_t started_ms; // 0: not yet
    uint64_t shown_ms;
};

// The line, without a newline; total 0: not known.
void progress_render(struct buf *out, const char *name, uint64_t done, uint64_t total, uint64_t elapsed_ms);
// Is it time to draw again? Ten times a second, and always at the start and at the end.
bool progress_due(struct progress *p, uint64_t now_ms, uint64_t done, uint64_t total);

#endif
