#include "journal/walk.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

#define WINDOW (512u << 10)

void walk_init(struct walk *w, struct io *io, int fd, uint64_t salt, uint64_t limit) {
    *w = (struct walk){.io = io, .fd = fd, .salt = salt, .limit = limit};
}

void walk_release(struct walk *w) {
    free(w->window);
    w->window = NULL;
}

static bool fill(struct walk *w, uint64_t at, size_t n) {
    size_t want = n > WINDOW ? n : WINDOW;
    if (want > w->limit - at) want = (size_t)(w->limit - at);
    if (want > w->cap) {
        uint8_t *grown = realloc(w->window, want);
        if (grown == NULL) {
            w->err = ERR_NOMEM;
            return false;
        }
        w->window = grown;
        w->cap = want;
    }
    w->have = 0;
    w->err = w->io->v->pread(w->io, w->fd, w->window, want, at, &w->have);
    w->window_at = at;
    return w->err == ERR_OK && w->have >= n;
}

const uint8_t *walk_bytes(struct walk *w, uint64_t at, size_t n) {
    if (w->err != ERR_OK || at > w->limit || n > w->limit - at) return NULL;
    bool here = at >= w->window_at && at - w->window_at <= w->have && n <= w->have - (at - w->window_at);
    if (!here && !fill(w, at, n)) return NULL;
    return w->window + (at - w->window_at);
}

bool walk_frame(struct walk *w, uint64_t at, struct frame *f) {
    const uint8_t *in = walk_bytes(w, at, FRAME_BYTES);
    if (in == NULL || !frame_read(f, w->salt, in)) return false;
    uint64_t room = (w->limit - at) / 8 * 8;
    if (f->bytes > room) f->bytes = (uint32_t)room;
    return true;
}

bool walk_record(struct walk *w, uint64_t at, uint64_t end, struct record_head *h, const uint8_t **payload) {
    if (end > w->limit || at > end || end - at < RECORD_BYTES) return false;
    const uint8_t *in = walk_bytes(w, at, RECORD_BYTES);
    if (in == NULL || !record_decode(h, (uint32_t)at, in) || record_size(h->length) > end - at) return false;
    if (h->kind != 0) in = walk_bytes(w, at, RECORD_BYTES + (size_t)h->length);
    if (in == NULL || !record_verify(h, w->salt, in)) return false;
    if (payload != NULL) *payload = in + RECORD_BYTES;
    return true;
}

uint64_t walk_find_frame(struct walk *w, uint64_t from, uint64_t to) {
    struct frame f;
    for (uint64_t at = padded(from); at + FRAME_BYTES <= to && w->err == ERR_OK; at += 8)
        if (walk_frame(w, at, &f)) return at;
    return to;
}

uint64_t walk_find_record(struct walk *w, uint64_t from, uint64_t to) {
    struct record_head h;
    for (uint64_t at = padded(from); at + RECORD_BYTES <= to && w->err == ERR_OK; at += 8)
        if (walk_record(w, at, to, &h, NULL)) return at;
    return to;
}

static size_t used_in(const uint8_t *bytes, size_t n) {
    static const uint8_t zeros[4096];
    while (n >= sizeof zeros && memcmp(bytes + n - sizeof zeros, zeros, sizeof zeros) == 0) n -= sizeof zeros;
    while (n > 0 && bytes[n - 1] == 0) n--;
    return n;
}

uint64_t walk_used_end(struct walk *w, uint64_t from) {
    uint64_t used = from;
    while (from < w->limit) {
        size_t part = w->limit - from < WINDOW ? (size_t)(w->limit - from) : WINDOW;
        const uint8_t *bytes = walk_bytes(w, from, part);
        if (bytes == NULL) break;
        size_t n = used_in(bytes, part);
        if (n > 0) used = from + n;
        from += part;
    }
    return used;
}

bool walk_is_zero(struct walk *w, uint64_t from) {
    while (from < w->limit) {
        size_t part = w->limit - from < WINDOW ? (size_t)(w->limit - from) : WINDOW;
        const uint8_t *bytes = walk_bytes(w, from, part);
        if (bytes == NULL || used_in(bytes, part) > 0) return false;
        from += part;
    }
    return true;
}
