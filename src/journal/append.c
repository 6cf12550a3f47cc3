// Appending and group commit: records are gathered in chunks, and a chunk becomes a batch.
#include "journal/internal.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK_KEEP (1u << 20) // a buffer larger than this is not kept for the next chunk

static uint64_t position(const struct segment *s, uint32_t offset) { return s->base + (offset - DATA_AT); }

// --- chunks ---

static struct chunk *open_chunk(const struct journal *j) {
    struct chunk *c = j->pending_last;
    return c != NULL && c->seg == j->current ? c : NULL;
}

static struct chunk *chunk_new(struct journal *j) {
    struct chunk *c = j->idle_chunk;
    j->idle_chunk = NULL;
    if (c == NULL) {
        c = calloc(1, sizeof *c);
        if (c == NULL) return NULL;
        buf_init(&c->bytes, SIZE_MAX);
    }
    if (buf_reserve(&c->bytes, FRAME_BYTES) == NULL) {
        buf_release(&c->bytes);
        free(c);
        return NULL;
    }
    memset(c->bytes.data, 0, FRAME_BYTES);
    c->bytes.len = FRAME_BYTES;
    return c;
}

static void chunk_done(struct journal *j, struct chunk *c) {
    if (j->idle_chunk != NULL || c->bytes.cap > CHUNK_KEEP) {
        buf_release(&c->bytes);
        free(c);
        return;
    }
    buf_clear(&c->bytes);
    c->next = NULL;
    j->idle_chunk = c;
}

static struct chunk *begin_chunk(struct journal *j) {
    struct chunk *c = chunk_new(j);
    if (c == NULL) return NULL;
    struct segment *s = j->current;
    c->seg = s;
    c->offset = s->end;
    s->end += FRAME_BYTES;
    s->pins++; // its file stays open until the batch has ended
    j->appended += FRAME_BYTES;
    j->pending_bytes += FRAME_BYTES;
    if (j->pending_last != NULL) j->pending_last->next = c;
    else j->pending = c;
    j->pending_last = c;
    return c;
}

// --- rolling to the next segment ---

// Room for one empty frame is always left, so that closing can write one.
static bool has_room(const struct journal *j, uint64_t size) {
    const struct segment *s = j->current;
    if (s == NULL) return false;
    uint64_t need = (open_chunk(j) == NULL ? FRAME_BYTES : 0) + size + FRAME_BYTES;
    return need <= s->bytes && s->end <= s->bytes - need;
}

// Where there is no room for a whole segment a smaller one does: acks make room, so they must find some to the last.
static enum err next_segment(struct journal *j, uint64_t size, struct segment *fresh, struct error *e) {
    uint64_t need = DATA_AT + FRAME_BYTES + size + FRAME_BYTES;
    uint64_t least = (need + DATA_AT - 1) / DATA_AT * DATA_AT;
    if (least < SEGMENT_MIN) least = SEGMENT_MIN;
    uint64_t bytes = least > j->options.segment_bytes ? least : j->options.segment_bytes;
    enum err err = spare_take(j, j->last_number + 1, bytes, fresh, e);
    while (err == ERR_FULL && bytes > least) {
        bytes = bytes / 2 / DATA_AT * DATA_AT;
        if (bytes < least) bytes = least;
        err = spare_take(j, j->last_number + 1, bytes, fresh, e);
    }
    return err;
}

static enum err roll(struct journal *j, uint64_t size) {
    struct segment fresh, *added;
    struct error e = {0};
    enum err err = next_segment(j, size, &fresh, &e);
    if (err == ERR_IO) journal_break(j, err, &e);
    if (err != ERR_OK) return err;
    fresh.base = j->appended;
    fresh.last_batch = j->last_batch;
    err = journal_add_segment(j, &fresh, &added);
    if (err != ERR_OK) die("out of memory for the journal's segments");
    j->last_number = fresh.number;
    j->current = added;
    j->retire_due = true;
    space_check(j);
    return ERR_OK;
}

// --- appending ---

static enum err admit(struct journal *j, unsigned flags, uint64_t size) {
    bool urgent = (flags & JOURNAL_URGENT) != 0;
    uint64_t bound = j->options.batch_max_bytes * (urgent ? URGENT_FACTOR : 1);
    if (j->broken) return ERR_IO;
    if (j->pending_bytes > 0 && j->pending_bytes + size > bound) return ERR_BUSY;
    bool look = j->full || j->appended - j->space_checked_at >= SPACE_CHECK_BYTES;
    return look && journal_is_full(j) && !urgent ? ERR_FULL : ERR_OK;
}

static uint64_t length_of(const struct iovec *parts, int n) {
    uint64_t sum = 0;
    for (int i = 0; i < n; i++) {
        if (parts[i].iov_len > RECORD_MAX) return RECORD_MAX + 1ull;
        sum += parts[i].iov_len;
    }
    return sum;
}

static void gather(uint8_t *to, const struct iovec *parts, int n, uint64_t padding) {
    for (int i = 0; i < n; i++) {
        if (parts[i].iov_len > 0) memcpy(to, parts[i].iov_base, parts[i].iov_len);
        to += parts[i].iov_len;
    }
    memset(to, 0, padding);
}

static void count_record(struct journal *j, const struct record_head *h, uint32_t refers_to) {
    struct segment *s = j->current;
    space_record(j, s, h->length, h->flags);
    space_refer(j, s, h->refers_to);
    space_refer(j, s, refers_to);
    s->end += (uint32_t)record_size(h->length);
    j->appended += record_size(h->length);
    j->pending_bytes += record_size(h->length);
    j->appended_records++;
}

enum err journal_append(struct journal *j, uint8_t kind, unsigned flags, uint32_t refers_to, const struct iovec *parts,
                        int n, struct journal_ref *ref, jpos *pos) {
    ASSERT(kind != 0 && n >= 0 && j->replaying == NULL);
    uint64_t length = length_of(parts, n);
    if (length > RECORD_MAX) return ERR_TOO_LARGE;
    uint64_t size = record_size((uint32_t)length);
    enum err err = admit(j, flags, size);
    if (err == ERR_OK && !has_room(j, size)) err = roll(j, size);
    if (err != ERR_OK) return err;
    struct chunk *c = open_chunk(j);
    if (c == NULL) c = begin_chunk(j);
    uint8_t *record = c == NULL ? NULL : buf_reserve(&c->bytes, size);
    if (record == NULL) {
        if (c != NULL) c->bytes.failed = false;
        return ERR_NOMEM;
    }
    bool copied = (flags & JOURNAL_EPHEMERAL) == 0 && j->compacting != 0;
    struct record_head h = {.length = (uint32_t)length,
                            .kind = kind,
                            .flags = (uint8_t)(flags & JOURNAL_EPHEMERAL),
                            .refers_to = copied ? j->compacting : refers_to,
                            .offset = j->current->end};
    gather(record + RECORD_BYTES, parts, n, size - RECORD_BYTES - length);
    record_seal(&h, j->current->salt, record);
    c->bytes.len += size;
    if (ref != NULL) *ref = (struct journal_ref){.segment = j->current->number, .offset = h.offset, .length = h.length};
    count_record(j, &h, refers_to);
    if (pos != NULL) *pos = j->appended;
    return ERR_OK;
}

// --- batches ---

struct journal_batch *journal_batch_begin(struct journal *j) {
    struct journal_batch *b = &j->batch;
    struct chunk *c = j->pending;
    if (b->chunk != NULL || c == NULL) return NULL;
    j->pending = c->next;
    if (j->pending == NULL) j->pending_last = NULL;
    c->next = NULL;
    j->pending_bytes -= c->bytes.len;
    struct frame f = {.bytes = (uint32_t)c->bytes.len,
                      .batch = j->last_batch + 1,
                      .prev = j->last_batch,
                      .jpos = position(c->seg, c->offset)};
    frame_encode(&f, c->seg->salt, c->bytes.data);
    j->last_batch++;
    c->seg->last_batch = j->last_batch;
    *b = (struct journal_batch){.journal = j, .chunk = c, .fd = c->seg->fd, .broken = j->broken};
    segment_path(j->dir, c->seg->number, b->path);
    return b;
}

enum err journal_batch_write(struct journal_batch *b, struct error *e) {
    struct io *io = b->journal->io;
    const struct chunk *c = b->chunk;
    if (b->broken) {
        if (e != NULL) *e = b->journal->broken_error;
        return b->journal->broken_error.code;
    }
    enum err err = io->v->pwrite(io, b->fd, c->bytes.data, c->bytes.len, c->offset);
    if (err != ERR_OK) return segment_error(e, err, "write", b->path);
    err = io->v->datasync(io, b->fd);
    return err == ERR_OK ? ERR_OK : segment_error(e, err, "sync", b->path);
}

void journal_batch_end(struct journal *j, struct journal_batch *b) {
    ASSERT(b == &j->batch && b->chunk != NULL);
    struct chunk *c = b->chunk;
    j->durable = position(c->seg, c->offset) + c->bytes.len;
    j->syncs++;
    j->sealed = false;
    c->seg->pins--;
    b->chunk = NULL;
    chunk_done(j, c);
    if (!j->background) chore_run_inline(j);
}

// An empty frame behind the last batch: it proves that everything before it was durable, so that damage there
// is never taken for a torn tail.
enum err journal_seal(struct journal *j, struct error *e) {
    struct segment *s = j->current;
    if (j->sealed || s == NULL || s->end == DATA_AT || s->bytes - s->end < FRAME_BYTES) return ERR_OK;
    uint8_t bytes[FRAME_BYTES];
    char path[SEGMENT_PATH];
    struct frame f = {
        .bytes = FRAME_BYTES, .batch = j->last_batch + 1, .prev = j->last_batch, .jpos = position(s, s->end)};
    frame_encode(&f, s->salt, bytes);
    segment_path(j->dir, s->number, path);
    enum err err = j->io->v->pwrite(j->io, s->fd, bytes, sizeof bytes, s->end);
    if (err == ERR_OK) err = j->io->v->datasync(j->io, s->fd);
    if (err != ERR_OK) return segment_error(e, err, "seal", path);
    j->last_batch++;
    s->last_batch = j->last_batch;
    s->end += FRAME_BYTES;
    j->appended += FRAME_BYTES;
    j->durable = j->appended;
    j->sealed = true;
    return ERR_OK;
}
