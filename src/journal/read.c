// Reading records back: from what is still in memory, or from their file.
#include "journal/internal.h"
#include "journal/walk.h"

#include "base/assert.h"

#include <string.h>

// --- files ---

void journal_close_file(struct journal *j) {
    struct segment *oldest = NULL;
    for (uint32_t i = 0; i < j->seg_count; i++) {
        struct segment *s = j->segs[i];
        if (s->fd < 0 || s->pins > 0 || s == j->current) continue;
        if (oldest == NULL || s->used_at < oldest->used_at) oldest = s;
    }
    if (oldest == NULL) return;
    (void)j->io->v->close(j->io, oldest->fd);
    oldest->fd = -1;
    j->open_files--;
}

enum err journal_file(struct journal *j, struct segment *s) {
    s->used_at = ++j->read_clock;
    if (s->fd >= 0) return ERR_OK;
    char path[SEGMENT_PATH];
    segment_path(j->dir, s->number, path);
    enum err err = j->io->v->open(j->io, path, IO_READ | IO_WRITE, &s->fd);
    if (err != ERR_OK) {
        s->fd = -1;
        return err;
    }
    s->pins++;
    if (j->open_files++ >= OPEN_FILES_MAX) journal_close_file(j);
    s->pins--;
    return ERR_OK;
}

// --- one record ---

static const uint8_t *in_chunk(const struct chunk *c, const struct segment *s, uint32_t offset) {
    if (c == NULL || c->seg != s || offset < c->offset || offset - c->offset >= c->bytes.len) return NULL;
    return c->bytes.data + (offset - c->offset);
}

static const uint8_t *in_memory(const struct journal *j, const struct segment *s, uint32_t offset) {
    const uint8_t *found = in_chunk(j->batch.chunk, s, offset);
    for (const struct chunk *c = j->pending; c != NULL && found == NULL; c = c->next) found = in_chunk(c, s, offset);
    return found;
}

static enum err from_file(struct journal *j, struct segment *s, uint32_t offset, uint8_t *to, size_t n) {
    enum err err = journal_file(j, s);
    if (err != ERR_OK) return err;
    size_t got = 0;
    err = j->io->v->pread(j->io, s->fd, to, n, offset, &got);
    if (err != ERR_OK) return err;
    return got == n ? ERR_OK : ERR_CORRUPT;
}

enum err journal_read(struct journal *j, const struct journal_ref *ref, struct buf *out) {
    struct segment *s = journal_segment(j, ref->segment);
    if (s == NULL) return ERR_NOT_FOUND;
    buf_clear(out);
    size_t n = RECORD_BYTES + (size_t)ref->length;
    uint8_t *to = buf_reserve(out, n);
    if (to == NULL) {
        buf_clear(out);
        return n > out->max ? ERR_TOO_LARGE : ERR_NOMEM;
    }
    const uint8_t *memory = in_memory(j, s, ref->offset);
    if (memory != NULL) memcpy(to, memory, n);
    else {
        enum err err = from_file(j, s, ref->offset, to, n);
        if (err != ERR_OK) return err;
    }
    struct record_head h;
    if (!record_decode(&h, ref->offset, to) || h.kind == 0 || h.length != ref->length ||
        !record_verify(&h, s->salt, to))
        return ERR_CORRUPT;
    memmove(to, to + RECORD_BYTES, ref->length);
    out->len = ref->length;
    return ERR_OK;
}

// --- a segment ---

// Up to where its bytes are in the file.
static uint32_t written_end(const struct journal *j, const struct segment *s) {
    if (j->batch.chunk != NULL && j->batch.chunk->seg == s) return j->batch.chunk->offset;
    for (const struct chunk *c = j->pending; c != NULL; c = c->next)
        if (c->seg == s) return c->offset;
    return s->end;
}

static enum err scan_step(struct walk *w, uint32_t number, uint32_t end, uint32_t *at, journal_replay_fn *each,
                          void *arg, struct error *e) {
    struct record_head h;
    struct frame f;
    const uint8_t *payload;
    if (walk_record(w, *at, end, &h, &payload)) {
        struct journal_record r = {.kind = h.kind,
                                   .ref = {.segment = number, .offset = *at, .length = h.length},
                                   .payload = payload,
                                   .length = h.length,
                                   .flags = h.flags,
                                   .refers_to = h.refers_to};
        *at += (uint32_t)record_size(h.length);
        return h.kind == 0 ? ERR_OK : each(arg, &r, e);
    }
    if (walk_frame(w, *at, &f)) {
        *at += FRAME_BYTES;
        return ERR_OK;
    }
    if (w->err != ERR_OK) return error_set(e, w->err, "cannot read segment %u: %s", number, err_text(w->err));
    return error_set(e, ERR_CORRUPT, "segment %u is damaged at byte %u", number, *at);
}

enum err journal_scan_part(struct journal *j, uint32_t segment, uint32_t *offset, uint32_t max_bytes,
                           journal_replay_fn *each, void *arg, struct error *e) {
    struct segment *s = journal_segment(j, segment);
    if (s == NULL) return error_set(e, ERR_NOT_FOUND, "segment %u is not there", segment);
    enum err err = journal_file(j, s);
    if (err != ERR_OK) return error_set(e, err, "cannot open segment %u: %s", segment, err_text(err));
    uint32_t end = written_end(j, s), at = *offset == 0 ? DATA_AT : *offset;
    uint32_t stop = max_bytes < end - at ? at + max_bytes : end;
    struct walk w;
    s->pins++;
    walk_init(&w, j->io, s->fd, s->salt, s->bytes); // a frame whose tail was dropped still claims its old length
    while (at < stop && err == ERR_OK) err = scan_step(&w, segment, end, &at, each, arg, e);
    walk_release(&w);
    s->pins--;
    *offset = at < end ? at : 0;
    return err;
}

enum err journal_scan(struct journal *j, uint32_t segment, journal_replay_fn *each, void *arg, struct error *e) {
    uint32_t offset = 0;
    return journal_scan_part(j, segment, &offset, UINT32_MAX, each, arg, e);
}
