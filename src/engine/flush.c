// What the next flush writes: notes of one loop pass become one record a segment.
#include "engine/internal.h"

void settle_note(struct engine *e, const struct stored *s, uint32_t queue_id) {
    ROOM_FOR_ONE(e->settled, e->n_settled, e->cap_settled);
    e->settled[e->n_settled++] = (struct settled){s->segment, s->offset, queue_id};
    if (e->n_settled % SETTLE_BATCH == 0) engine_flush(e);
}

void gone_note(struct engine *e, const struct journal_ref *ref) {
    ROOM_FOR_ONE(e->gone, e->n_gone, e->cap_gone);
    e->gone[e->n_gone++] = (struct settled){ref->segment, ref->offset, 0};
}

void state_note(struct engine *e, uint32_t h) {
    struct entry *x = entry_at(e, h);
    struct stored *s = stored_at(e, x->stored);
    if (!x->recorded) return;
    struct entry_record r = {.queue_id = entry_queue(e, x)->id, .attempts = x->attempts};
    if (x->state == ENTRY_PARKED) {
        struct parking *p = parking_at(e, x->aux);
        r.parked = true;
        r.parked_id = p->id;
        r.parked_at_ms = p->parked_at_ms;
        r.reason = p->reason;
        r.reason_length = (uint8_t)strlen(p->reason);
    }
    ROOM_FOR_ONE(e->states, e->n_states, e->cap_states);
    struct state_change *change = &e->states[e->n_states++];
    change->segment = s->segment;
    change->at = (uint32_t)e->state_bytes.len;
    buf_add_u32(&e->state_bytes, s->offset);
    entry_encode(&e->state_bytes, &r);
    change->length = (uint32_t)e->state_bytes.len - change->at;
    if (e->n_states % SETTLE_BATCH == 0) engine_flush(e);
}

// A record is released only after the one that says so was appended; the journal keeps the segment until that one
// is durable.
void release_late(struct engine *e, const struct journal_ref *ref) {
    if (e->replaying) {
        journal_release(e->journal, ref);
        return;
    }
    ROOM_FOR_ONE(e->unneeded, e->n_unneeded, e->cap_unneeded);
    e->unneeded[e->n_unneeded++] = *ref;
}

// ---- flushing

// Each of these is false when the journal has no room now, on the disk or in what waits for the disk; what was not
// written then stays noted.

static bool append(struct engine *e, enum record_kind kind, unsigned flags, uint32_t segment, const struct iovec *parts,
                   int n, struct journal_ref *ref) {
    jpos pos;
    enum err code = journal_append(e->journal, kind, JOURNAL_URGENT | flags, segment, parts, n, ref, &pos);
    if (code && !no_room_now(code)) die("the journal does not take a record of what was settled: %s", err_text(code));
    return code == ERR_OK;
}

static bool append_about(struct engine *e, enum record_kind kind, uint32_t segment, uint32_t count,
                         const uint8_t *items, size_t length) {
    uint8_t head[8];
    struct journal_ref ref;
    put_u32(head, segment);
    put_u32(head + 4, count);
    struct iovec parts[2] = {{head, sizeof head}, {(void *)items, length}};
    return append(e, kind, JOURNAL_EPHEMERAL, segment, parts, 2, &ref);
}

// Order matters among changes of one entry, so runs of one segment are written as they came.
static bool flush_states(struct engine *e) {
    if (!buf_ok(&e->state_bytes)) die("out of memory for what was settled");
    struct state_change *list = e->states;
    uint32_t i = 0;
    for (uint32_t j; i < e->n_states; i = j) {
        size_t length = 0;
        for (j = i; j < e->n_states && j - i < SETTLE_BATCH && list[j].segment == list[i].segment; j++)
            length += list[j].length;
        if (!append_about(e, RECORD_STATE, list[i].segment, j - i, e->state_bytes.data + list[i].at, length)) break;
    }
    e->n_states -= i;
    if (e->n_states > 0) memmove(list, list + i, e->n_states * sizeof *list);
    else buf_clear(&e->state_bytes);
    return e->n_states == 0;
}

static int by_segment(const void *a, const void *b) {
    const struct settled *x = a, *y = b;
    if (x->segment != y->segment) return x->segment < y->segment ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static bool one_segment(const struct settled *s, uint32_t n) {
    for (uint32_t i = 1; i < n; i++)
        if (s[i].segment != s[0].segment) return false;
    return true;
}

static bool flush_list(struct engine *e, enum record_kind kind, struct settled *list, uint32_t *n, bool ids) {
    uint8_t items[SETTLE_BATCH * 8];
    uint32_t i = 0;
    if (!one_segment(list, *n)) qsort(list, *n, sizeof *list, by_segment);
    for (uint32_t j; i < *n; i = j) {
        size_t length = 0;
        for (j = i; j < *n && j - i < SETTLE_BATCH && list[j].segment == list[i].segment; j++) {
            put_u32(items + length, list[j].offset);
            length += 4;
            if (!ids) continue;
            put_u32(items + length, list[j].queue_id);
            length += 4;
        }
        if (!append_about(e, kind, list[i].segment, j - i, items, length)) break;
    }
    *n -= i;
    if (*n > 0) memmove(list, list + i, *n * sizeof *list);
    return *n == 0;
}

static bool flush_dedupe(struct engine *e) {
    if (e->n_dedupe == 0) return true;
    if (!buf_ok(&e->dedupe_bytes)) die("out of memory for a deduplication window");
    uint8_t head[4];
    struct journal_ref ref;
    put_u32(head, e->n_dedupe);
    struct iovec parts[2] = {{head, sizeof head}, {e->dedupe_bytes.data, e->dedupe_bytes.len}};
    if (!append(e, RECORD_DEDUPE, 0, 0, parts, 2, &ref)) return false;
    uint32_t pin = pin_new(e, PIN_DEDUPE, NULL, &ref);
    int64_t left = e->dedupe_until_ms - io_wall_ms(e->io);
    pin_at(e, pin)->until_ms = e->dedupe_until_ms;
    timers_set(e, TIMER_PIN, pin, now_ms(e) + (left > 0 ? (uint64_t)left : 0), UINT64_MAX);
    e->n_dedupe = 0;
    e->dedupe_until_ms = 0;
    buf_clear(&e->dedupe_bytes);
    return true;
}

// Ids are written before the settles that make their messages go, states before settles of the same entry.
void engine_flush(struct engine *e) {
    bool waited = e->no_room;
    e->no_room =
        !(flush_dedupe(e) && flush_states(e) && flush_list(e, RECORD_SETTLE, e->settled, &e->n_settled, true) &&
          flush_list(e, RECORD_GONE, e->gone, &e->n_gone, false));
    if (e->no_room) return; // nothing is released before it is written that it may be
    for (uint32_t i = 0; i < e->n_unneeded; i++) journal_release(e->journal, &e->unneeded[i]);
    e->n_unneeded = 0;
    claims_flushed(e);
    if (waited) done_written(e);
}
