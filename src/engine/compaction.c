// Compaction: the journal names a segment that is mostly garbage; what is still needed of it is written again,
// a bounded piece at a time, and released there.
//
// A copy refers to the segment of the original, so it is kept at least as long: replaying, it takes the
// original's place, and once the copy is settled the original cannot come back to life.
#include "engine/internal.h"

#define STEP_BYTES     (1u << 20) // scanned, and moved, in one step
#define UNWRITTEN_MAX  (4u << 20) // no faster than the disk
#define CHECK_EVERY_MS 100
#define SCANNED        UINT32_MAX // the scan came to the segment's end

static enum err collect(void *arg, const struct journal_record *r, struct error *err) {
    struct engine *e = arg;
    struct compaction *k = &e->compaction;
    uint64_t place = index_place(r->ref.segment, r->ref.offset);
    if (index_find(&e->by_place, place) == NONE && index_find(&e->pin_place, place) == NONE) return ERR_OK;
    ROOM_FOR_ONE(k->offsets, k->n, k->cap);
    k->offsets[k->n++] = r->ref.offset;
    return ERR_OK;
}

static struct entry_record describe(const struct engine *e, const struct entry *x) {
    struct entry_record r = {.queue_id = entry_queue(e, x)->id, .attempts = x->attempts};
    if (x->state != ENTRY_PARKED) return r;
    const struct parking *p = parking_at(e, x->aux);
    r.parked = true;
    r.parked_id = p->id;
    r.parked_at_ms = p->parked_at_ms;
    r.reason = p->reason;
    r.reason_length = (uint8_t)strlen(p->reason);
    return r;
}

// The state of the remaining entries, after the place the message was at.
static uint32_t encode_entries(struct engine *e, const struct stored *s, struct buf *out) {
    uint32_t n = 0;
    buf_add_u32(out, s->segment);
    buf_add_u32(out, s->offset);
    for (uint32_t h = s->first; h != NONE; h = entry_at(e, h)->sibling) {
        struct entry *x = entry_at(e, h);
        if (!x->recorded) continue;
        struct entry_record r = describe(e, x);
        entry_encode(out, &r);
        n++;
    }
    return n;
}

static void stored_moved(struct engine *e, uint32_t h, const struct journal_ref *ref) {
    struct stored *s = stored_at(e, h);
    struct journal_ref old = stored_ref(s);
    index_remove(&e->by_place, h);
    s->segment = ref->segment;
    s->offset = ref->offset;
    s->length = ref->length;
    index_add(&e->by_place, h);
    release_late(e, &old);
}

static enum err move_message(struct engine *e, uint32_t h) {
    struct stored *s = stored_at(e, h);
    struct content c;
    struct error err;
    if (stored_content(e, s, &e->scratch, &c, &err)) die("compaction: %s", err.text);
    buf_clear(&e->tail);
    c.entries = encode_entries(e, s, &e->tail);
    if (!buf_ok(&e->tail)) die("out of memory");
    uint8_t head[HEAD_BYTES];
    content_encode_head(&c, head);
    struct iovec parts[3] = {
        {head, HEAD_BYTES}, {(uint8_t *)c.exchange, c.size - HEAD_BYTES}, {e->tail.data, e->tail.len}};
    struct journal_ref ref;
    jpos pos;
    enum err code = journal_append(e->journal, RECORD_MOVED, JOURNAL_URGENT, s->segment, parts, 3, &ref, &pos);
    if (code == ERR_OK) stored_moved(e, h, &ref);
    return code;
}

static enum err copy_raw(struct engine *e, const struct pin *p, struct journal_ref *ref) {
    buf_clear(&e->scratch);
    enum err code = journal_read(e->journal, &p->ref, &e->scratch);
    if (code) return code;
    struct iovec part = {e->scratch.data, e->scratch.len};
    jpos pos;
    return journal_append(e->journal, RECORD_DEDUPE, JOURNAL_URGENT, p->ref.segment, &part, 1, ref, &pos);
}

static enum err move_pin(struct engine *e, uint32_t h) {
    struct pin *p = pin_at(e, h);
    struct journal_ref ref, old = p->ref;
    enum err code = ERR_OK;
    switch (p->kind) {
    case PIN_VHOST: code = write_vhost(e, p->owner, old.segment, &ref); break;
    case PIN_QUEUE: code = write_queue(e, p->owner, old.segment, &ref); break;
    case PIN_EXCHANGE: code = write_exchange(e, p->owner, old.segment, &ref); break;
    case PIN_BINDING: code = write_binding(e, p->owner, old.segment, &ref); break;
    case PIN_DEDUPE: code = copy_raw(e, p, &ref); break;
    }
    if (code) return code;
    gone_note(e, &old);
    pin_move(e, h, &ref);
    return ERR_OK;
}

// It may have been settled since the scan. False: there is no room for it now.
static bool move_record(struct engine *e, uint64_t place) {
    uint32_t message = index_find(&e->by_place, place), pin = index_find(&e->pin_place, place);
    enum err code = message != NONE ? move_message(e, message) : pin != NONE ? move_pin(e, pin) : ERR_OK;
    if (code && !no_room_now(code)) die("compaction: %s", err_text(code));
    return code == ERR_OK;
}

static bool disk_keeps_up(const struct engine *e) {
    return journal_appended(e->journal) - journal_durable(e->journal) < UNWRITTEN_MAX;
}

void compaction_check(struct engine *e) {
    struct compaction *k = &e->compaction;
    uint64_t now = now_ms(e);
    if (now < k->next_check_ms) return;
    k->next_check_ms = now + CHECK_EVERY_MS;
    k->refused = false;
    if (k->segment != 0) return;
    k->segment = journal_compact_next(e->journal);
    k->offset = k->n = k->at = 0;
}

static void scan(struct engine *e) {
    struct compaction *k = &e->compaction;
    struct error err;
    k->n = k->at = 0;
    enum err code = journal_scan_part(e->journal, k->segment, &k->offset, STEP_BYTES, collect, e, &err);
    if (code && code != ERR_NOT_FOUND) die("compaction: %s", err.text);
    if (code || k->offset == 0) k->offset = SCANNED; // not found: all of it was settled meanwhile
}

void compaction_step(struct engine *e) {
    struct compaction *k = &e->compaction;
    if (k->segment == 0 || k->refused) return;
    engine_flush(e); // what is settled by now need not move, and refers to the old place
    if (e->no_room || !disk_keeps_up(e)) return;
    if (k->at == k->n) scan(e);
    while (k->at < k->n && disk_keeps_up(e) && move_record(e, index_place(k->segment, k->offsets[k->at]))) k->at++;
    k->refused = k->at < k->n && disk_keeps_up(e);
    engine_flush(e);
    if (k->at == k->n && k->offset == SCANNED) k->segment = 0;
}

// Is there a step to take now? When the disk is behind, engine_durable comes first.
bool compaction_pending(const struct engine *e) {
    return e->compaction.segment != 0 && !e->compaction.refused && disk_keeps_up(e);
}
