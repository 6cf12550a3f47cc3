// Messages and their bytes. A body is stored once however many queues hold it, and stays in memory only while
// there is room: the journal has it anyway.
#include "engine/internal.h"
#include "engine/present.h"

// What a block holds follows from the lengths in its head.
static uint32_t block_size(const uint8_t *block) {
    struct reader r = reader_of(block + 32, HEAD_BYTES - 32);
    struct content c = {.properties_length = read_u32(&r), .body_length = read_u32(&r)};
    c.exchange_length = block[46];
    c.key_length = block[47];
    c.id_length = block[48];
    return (uint32_t)content_size(&c);
}

struct journal_ref stored_ref(const struct stored *s) {
    return (struct journal_ref){.segment = s->segment, .offset = s->offset, .length = s->length};
}

uint32_t stored_new(struct engine *e, uint64_t seq, const struct journal_ref *ref) {
    uint32_t h = slab_new(&e->stored);
    struct stored *s = stored_at(e, h);
    s->seq = seq;
    s->first = s->claim = NONE;
    if (!ref) return h;
    s->segment = ref->segment;
    s->offset = ref->offset;
    s->length = ref->length;
    index_add(&e->by_place, h);
    return h;
}

void stored_keep(struct engine *e, struct stored *s, uint8_t *block, uint32_t size) {
    s->block = block;
    e->memory += size;
    if (s->segment == 0) e->memory_transient += size;
}

static void block_leave(struct engine *e, uint32_t h) {
    struct stored *s = stored_at(e, h);
    if (!s->block) return;
    uint32_t size = block_size(s->block);
    for (uint32_t i = s->first; i != NONE; i = entry_at(e, i)->sibling)
        entry_queue(e, entry_at(e, i))->body_memory -= size;
    e->memory -= size;
    if (s->segment == 0) e->memory_transient -= size;
    if (h == e->delivering && !e->kept_block) e->kept_block = s->block;
    else free(s->block);
    s->block = NULL;
}

void stored_drop_block(struct engine *e, uint32_t h) {
    ASSERT(stored_at(e, h)->segment != 0);
    if (h != e->delivering) block_leave(e, h);
}

// Of the budget, a third is for transient messages without a record, which cannot be dropped; bodies that are in the
// journal are kept while all together take less than half, those that will be delivered at once while less than two
// thirds. So a stalled backlog does not make every queue read its messages back, and the sum never exceeds the budget.
bool memory_has_room(const struct engine *e, uint64_t size, bool near_head) {
    uint64_t limit = near_head ? e->memory_budget / 3 * 2 : e->memory_budget / 2;
    return e->memory + size <= limit;
}

// A dead letter takes the place of what it was, so it may use all there is.
bool memory_has_room_transient(const struct engine *e, uint64_t size, bool dead_letter) {
    if (dead_letter) return e->memory + size <= e->memory_budget;
    return e->memory_transient + size <= e->memory_budget / 3;
}

enum err stored_content(struct engine *e, const struct stored *s, struct buf *scratch, struct content *out,
                        struct error *err) {
    if (s->block) {
        bool sound = content_decode(out, s->block, block_size(s->block));
        ASSERT(sound);
        return ERR_OK;
    }
    struct journal_ref ref = stored_ref(s);
    buf_clear(scratch);
    enum err code = journal_read(e->journal, &ref, scratch);
    if (code) return error_set(err, code, "the message could not be read back: %s", err_text(code));
    if (!content_decode(out, scratch->data, scratch->len))
        return error_set(err, ERR_CORRUPT, "the message read back is not one");
    return ERR_OK;
}

bool stored_visible(const struct engine *e, const struct stored *s) {
    return s->segment == 0 || s->transient || s->seq <= e->durable_seq;
}

void stored_forget(struct engine *e, uint32_t h) {
    struct stored *s = stored_at(e, h);
    ASSERT(s->first == NONE);
    block_leave(e, h);
    if (s->claim != NONE) claim_drop(e, s->claim);
    if (s->segment != 0) {
        struct journal_ref ref = stored_ref(s);
        index_remove(&e->by_place, h);
        release_late(e, &ref);
    }
    slab_free(&e->stored, h);
}

uint32_t entry_new(struct engine *e, uint32_t stored, struct queue *q) {
    uint32_t h = slab_new(&e->entries);
    struct stored *s = stored_at(e, stored);
    struct entry *x = entry_at(e, h);
    *x = (struct entry){
        .next = NONE, .prev = NONE, .stored = stored, .sibling = s->first, .queue = q->slot, .aux = NONE};
    s->first = h;
    if (s->block) q->body_memory += block_size(s->block);
    return h;
}

void entry_finish(struct engine *e, uint32_t h, bool record) {
    struct entry *x = entry_at(e, h);
    struct queue *q = entry_queue(e, x);
    uint32_t stored = x->stored;
    struct stored *s = stored_at(e, stored);
    if (q->dedupe && !e->replaying) dedupe_settled(e, q, s->seq);
    if (q->present) present_remove(q->present, s->seq);
    if (record && x->recorded) settle_note(e, s, q->id);
    timers_stop(e, &x->timer);
    if (x->state == ENTRY_PARKED) parking_free(e, x->aux);
    entry_unlink(e, h);
    if (s->block) q->body_memory -= block_size(s->block);
    uint32_t *link = &s->first;
    while (*link != h) link = &entry_at(e, *link)->sibling;
    *link = x->sibling;
    slab_free(&e->entries, h);
    if (s->first == NONE) stored_forget(e, stored);
}
