// Recovery within one segment: replays what is valid and decides what the rest is.
//
// The evidence. A batch is one frame, and a frame is written only when the one before it is durable. So a valid
// frame, or any byte of a later segment, proves that everything before it once was on the disk: what is
// unreadable there is damage. Without such proof it is the tail of the one batch that was under way when the
// machine stopped; nobody was told that it is safe.
//
//   | found                                             | last segment with data      | an earlier one |
//   |---------------------------------------------------|-----------------------------|----------------|
//   | zeros where a frame would be, zeros to the end    | clean end                   | clean end      |
//   | no valid frame, something follows, no valid frame | torn: erase                 | damage         |
//   | no valid frame, a valid frame follows             | damage                      | damage         |
//   | bad record, no valid frame behind it              | torn: keep records before   | damage         |
//   |                                                   | it, erase from it on        |                |
//   | bad record, a valid frame behind it               | damage                      | damage         |
//   | bad record, exactly there the next frame          | a tail dropped earlier      | the same       |
//   | a frame's number does not follow                  | damage (a lost batch)       | damage         |
//
// Salvage keeps every record whose checksum holds. A lost range becomes a filler, a lost frame head is written
// anew, so that the segment reads as sound afterwards.
#include "journal/recovery.h"

#include <string.h>

#define ZEROS_AT_ONCE (64u << 10)

struct seg_walk {
    struct recovery *r;
    struct segment *s;
    struct walk w;
    bool last;
    bool first;        // no frame seen yet
    uint64_t frame_at; // of the last frame
    bool done;
};

static bool repairing(const struct seg_walk *sw) { return sw->r->how->mode == RECOVERY_REPAIR; }

static enum err put(struct seg_walk *sw, uint64_t at, const void *data, size_t n) {
    struct journal *j = sw->r->j;
    char path[SEGMENT_PATH];
    enum err err = j->io->v->pwrite(j->io, sw->s->fd, data, n, at);
    segment_path(j->dir, sw->s->number, path);
    return err == ERR_OK ? ERR_OK : segment_error(sw->r->e, err, "write", path);
}

// --- mending ---

// Old bytes must be gone before anything is appended: they could be taken for records of the new batch.
static enum err erase(struct seg_walk *sw, uint64_t from, uint64_t to) {
    static const uint8_t zeros[ZEROS_AT_ONCE];
    enum err err = ERR_OK;
    while (from < to && err == ERR_OK) {
        size_t part = to - from < sizeof zeros ? (size_t)(to - from) : sizeof zeros;
        err = put(sw, from, zeros, part);
        from += part;
    }
    return err;
}

static enum err write_filler(struct seg_walk *sw, uint64_t from, uint64_t to) {
    uint8_t record[RECORD_BYTES];
    struct record_head h = {.length = (uint32_t)(to - from - RECORD_BYTES), .offset = (uint32_t)from};
    record_seal(&h, sw->s->salt, record);
    return put(sw, from, record, sizeof record);
}

static enum err write_frame(struct seg_walk *sw, uint64_t at, const struct frame *f) {
    uint8_t bytes[FRAME_BYTES];
    frame_encode(f, sw->s->salt, bytes);
    return put(sw, at, bytes, sizeof bytes);
}

static enum err lost(struct seg_walk *sw, uint64_t from, uint64_t to, const char *what) {
    sw->r->gap_known = true;
    return recovery_report(sw->r, FINDING_LOST, sw->s->number, from, to - from, what);
}

static enum err torn(struct seg_walk *sw, uint64_t from, uint64_t to) {
    sw->done = true;
    if (to == from) return ERR_OK;
    enum err err = recovery_report(sw->r, FINDING_TORN, sw->s->number, from, to - from, "an unfinished last batch");
    if (err != ERR_OK || sw->r->how->mode == RECOVERY_CHECK) return err;
    return erase(sw, from, to);
}

// No room for a filler: frames are not laid so.
static enum err hopeless(struct seg_walk *sw, uint64_t at) {
    return error_set(sw->r->e, ERR_CORRUPT, "segment %u cannot be salvaged past byte %llu", sw->s->number,
                     (unsigned long long)at);
}

// --- records ---

static enum err emit(struct seg_walk *sw, const struct record_head *h, uint64_t at, const uint8_t *payload) {
    struct recovery *r = sw->r;
    struct segment *s = sw->s;
    r->j->appended = r->at = s->base + (at - DATA_AT) + record_size(h->length);
    s->end = (uint32_t)(at + record_size(h->length));
    if (h->kind == 0) return ERR_OK;
    space_record(r->j, s, h->length, h->flags);
    space_refer(r->j, s, h->refers_to);
    struct journal_record record = {.kind = h->kind,
                                    .ref = {.segment = s->number, .offset = (uint32_t)at, .length = h->length},
                                    .payload = payload,
                                    .length = h->length,
                                    .flags = h->flags,
                                    .refers_to = h->refers_to};
    r->j->replaying = &record;
    enum err err = r->how->replay(r->how->arg, &record, r->e);
    r->j->replaying = NULL;
    return err;
}

// Where the salvageable part after a bad place begins; a filler must fit before it.
static uint64_t next_record(struct seg_walk *sw, uint64_t bad, uint64_t end) {
    uint64_t at = bad + RECORD_BYTES;
    return at < end ? walk_find_record(&sw->w, at, end) : end;
}

static enum err skip_lost(struct seg_walk *sw, uint64_t *at, uint64_t end, const char *what) {
    uint64_t next = next_record(sw, *at, end);
    enum err err = lost(sw, *at, next, what);
    if (err == ERR_OK && next - *at < RECORD_BYTES) return hopeless(sw, *at);
    if (err == ERR_OK && repairing(sw)) err = write_filler(sw, *at, next);
    *at = next;
    return err;
}

static bool frame_follows(struct seg_walk *sw, uint64_t at, struct frame *f) {
    if (!walk_frame(&sw->w, at, f) || f->batch < f->prev || f->prev < sw->r->batch) return false;
    return sw->first ? f->jpos >= sw->r->at : f->jpos == sw->s->base + (at - DATA_AT);
}

static enum err bad_record(struct seg_walk *sw, uint64_t *at, uint64_t end) {
    uint64_t used = walk_used_end(&sw->w, *at);
    uint64_t proof = walk_find_frame(&sw->w, *at, sw->w.limit);
    if (sw->last && proof == sw->w.limit) return torn(sw, *at, used);
    return skip_lost(sw, at, end, "a record does not match its checksum");
}

static enum err replay_frame(struct seg_walk *sw, const struct frame *f, uint64_t *frame_at) {
    struct recovery *r = sw->r;
    sw->frame_at = *frame_at;
    uint64_t at = *frame_at + FRAME_BYTES, end = *frame_at + f->bytes;
    struct record_head h;
    const uint8_t *payload;
    struct frame next;
    enum err err = ERR_OK;
    r->batch = f->batch;
    r->j->appended = r->at = f->jpos + FRAME_BYTES;
    r->last_was_empty = f->bytes == FRAME_BYTES;
    sw->s->end = (uint32_t)at;
    while (at < end && err == ERR_OK && !sw->done && sw->w.err == ERR_OK) {
        if (walk_record(&sw->w, at, end, &h, &payload)) {
            err = emit(sw, &h, at, payload);
            at += record_size(h.length);
        } else if (frame_follows(sw, at, &next) && next.prev == f->batch) {
            break;
        } else {
            err = bad_record(sw, &at, end);
        }
    }
    *frame_at = at;
    return err;
}

// --- frames ---

static enum err check_number(struct seg_walk *sw, uint64_t at, struct frame *f) {
    struct recovery *r = sw->r;
    bool gap = f->prev > r->batch, known = r->gap_known;
    r->gap_known = false;
    if (!gap) return ERR_OK;
    enum err err = ERR_OK;
    if (!known)
        err = recovery_report(r, FINDING_LOST, sw->s->number, at, 0, "the batches before this place are missing");
    f->prev = r->batch;
    return err == ERR_OK && repairing(sw) ? write_frame(sw, at, f) : err;
}

static enum err good_frame(struct seg_walk *sw, uint64_t *at, struct frame *f) {
    enum err err = check_number(sw, *at, f);
    if (err != ERR_OK) return err;
    if (sw->first) sw->s->base = f->jpos - (*at - DATA_AT);
    sw->first = false;
    return replay_frame(sw, f, at);
}

static uint64_t end_of_records(struct seg_walk *sw, uint64_t from, uint64_t limit) {
    uint64_t end = from;
    struct record_head h;
    for (uint64_t at = from; at < limit; at = walk_find_record(&sw->w, end, limit)) {
        if (!walk_record(&sw->w, at, limit, &h, NULL)) break;
        end = at + record_size(h.length);
    }
    return end;
}

// The head of a frame is gone. `next`: where the next valid frame begins, or the file ends.
static enum err lost_frame(struct seg_walk *sw, uint64_t *at, uint64_t used, uint64_t next) {
    struct recovery *r = sw->r;
    bool has_next = next < sw->w.limit;
    struct frame f = {.prev = r->batch, .batch = r->batch + 1, .jpos = r->at}, following;
    if (!sw->first) f.jpos = sw->s->base + (*at - DATA_AT);
    if (has_next && walk_frame(&sw->w, next, &following))
        f.batch = following.prev > r->batch ? following.prev : r->batch;
    uint64_t record = walk_find_record(&sw->w, *at + FRAME_BYTES, next);
    if (record == next && !has_next) {
        enum err err = lost(sw, *at, used, "a whole batch cannot be read");
        sw->done = true;
        return err == ERR_OK && repairing(sw) ? erase(sw, *at, used) : err;
    }
    uint64_t end = has_next ? next : end_of_records(sw, record, next);
    uint64_t between = *at + FRAME_BYTES;
    if (end < between || (end > between && end - between < RECORD_BYTES)) return hopeless(sw, *at);
    f.bytes = (uint32_t)(end - *at);
    enum err err = lost(sw, *at, between, "the head of a batch; its records are looked for one by one");
    if (err == ERR_OK && repairing(sw)) err = write_frame(sw, *at, &f);
    return err == ERR_OK ? good_frame(sw, at, &f) : err;
}

static enum err no_frame(struct seg_walk *sw, uint64_t *at) {
    uint64_t used = walk_used_end(&sw->w, *at);
    if (used == *at) {
        sw->done = true;
        return ERR_OK;
    }
    uint64_t next = walk_find_frame(&sw->w, *at + 8, sw->w.limit);
    if (sw->last && next == sw->w.limit) return torn(sw, *at, used);
    return lost_frame(sw, at, used, next);
}

// The last batch may be in the page cache only: its process was killed before the sync, or ended because the sync
// failed, after which the pages count as clean and no sync would bring them to the disk. So it is written again.
static enum err write_again(struct seg_walk *sw, uint64_t end) {
    enum err err = ERR_OK;
    for (uint64_t at = sw->frame_at; at < end && err == ERR_OK;) {
        size_t part = end - at < ZEROS_AT_ONCE ? (size_t)(end - at) : ZEROS_AT_ONCE;
        const uint8_t *bytes = walk_bytes(&sw->w, at, part);
        if (bytes == NULL) break;
        err = put(sw, at, bytes, part);
        at += part;
    }
    return err;
}

static enum err finish(struct seg_walk *sw, uint64_t at) {
    struct journal *j = sw->r->j;
    char path[SEGMENT_PATH];
    segment_path(j->dir, sw->s->number, path);
    sw->s->last_batch = sw->r->batch;
    sw->s->end = (uint32_t)at;
    enum err err = ERR_OK;
    bool changes = sw->r->how->mode != RECOVERY_CHECK;
    sw->w.have = 0; // what was mended is in the file, not in the window
    if (changes && sw->last && !sw->first) err = write_again(sw, at);
    if (sw->w.err != ERR_OK) return segment_error(sw->r->e, sw->w.err, "read", path);
    if (err != ERR_OK || !changes) return err;
    err = j->io->v->datasync(j->io, sw->s->fd);
    return err == ERR_OK ? ERR_OK : segment_error(sw->r->e, err, "sync", path);
}

enum err recover_segment(struct recovery *r, struct segment *s, bool last) {
    struct seg_walk sw = {.r = r, .s = s, .last = last, .first = true};
    struct frame f;
    uint64_t at = DATA_AT;
    enum err err = ERR_OK;
    walk_init(&sw.w, r->j->io, s->fd, s->salt, s->bytes);
    s->base = r->at;
    while (err == ERR_OK && !sw.done && sw.w.err == ERR_OK && at + FRAME_BYTES <= s->bytes)
        err = frame_follows(&sw, at, &f) ? good_frame(&sw, &at, &f) : no_frame(&sw, &at);
    if (err == ERR_OK || sw.w.err != ERR_OK) err = finish(&sw, at);
    walk_release(&sw.w);
    return err;
}
