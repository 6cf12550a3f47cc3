// Recovery: the journal's records, in the order they were written, become the engine's state.
//
// Compaction writes old records again, so a message can come before the record of its queue. While replaying, vhosts,
// queues and exchanges are therefore made when first named, their messages wait in one chain in the order of
// publishing, and replay_finish gives everything its place and removes what nobody declared.
//
// After recovery every message is marked redelivered: which ones a consumer had seen is not written down. Waits
// before a retry end early, so that a message is not overtaken by those behind it; delays do not.
#include "engine/internal.h"
#include "engine/present.h"

enum err replay_damaged(const struct journal_record *r, struct error *err) {
    return error_set(err, ERR_CORRUPT, "segment %u, offset %u: the record of kind %u does not decode", r->ref.segment,
                     r->ref.offset, r->kind);
}

static void seen_seq(struct engine *e, uint64_t seq) {
    if (seq >= e->next_seq) e->next_seq = seq + 1;
}

// ---- messages

static uint32_t message_new(struct engine *e, const struct journal_record *r, const struct content *c) {
    seen_seq(e, c->seq);
    uint32_t h = stored_new(e, c->seq, &r->ref);
    struct stored *s = stored_at(e, h);
    s->published_at_ms = c->published_at_ms;
    s->body_length = c->body_length;
    if (c->claimed) {
        uint64_t length = claimed_length(c);
        s->body_length = length < UINT32_MAX ? (uint32_t)length : UINT32_MAX;
        s->claim = claim_new(e, c->body);
    }
    if (memory_has_room(e, c->size, false)) {
        uint8_t *block = memory_new(c->size);
        memcpy(block, r->payload, c->size);
        stored_keep(e, s, block, c->size);
    }
    return h;
}

// The wait chain holds a queue's messages by seq. Moved messages come in runs, hence the finger.
static void entry_restore(struct engine *e, uint32_t stored, const struct content *c, const struct entry_record *r) {
    struct queue *q = replay_queue(e, r->queue_id);
    uint32_t h = entry_new(e, stored, q);
    struct entry *x = entry_at(e, h);
    x->priority = c->priority;
    x->attempts = r->attempts;
    x->recorded = 1;
    x->redelivered = 1;
    x->state = ENTRY_WAITING;
    x->timed = c->delay_until_ms != 0 || c->expires_ms >= 0;
    x->named = c->id_length > 0;
    chain_insert_ordered(e, &q->waiting, h, q->finger);
    if (x->next != NONE) q->finger = h;
    if (r->parked) x->aux = parking_new(e, h, r->parked_id, r->parked_at_ms, r->reason, r->reason_length);
}

void entry_forget(struct engine *e, uint32_t h) {
    struct entry *x = entry_at(e, h);
    if (x->aux != NONE) parking_free(e, x->aux);
    x->aux = NONE;
    entry_finish(e, h, false);
}

static void message_forget(struct engine *e, uint32_t stored) {
    while (stored_at(e, stored)->first != NONE) {
        uint32_t h = stored_at(e, stored)->first;
        bool last = entry_at(e, h)->sibling == NONE;
        entry_forget(e, h);
        if (last) return; // the message went with it
    }
    stored_forget(e, stored);
}

static uint32_t find_entry(struct engine *e, uint32_t segment, uint32_t offset, uint32_t queue_id) {
    uint32_t stored = index_find(&e->by_place, index_place(segment, offset));
    if (stored == NONE) return NONE;
    uint32_t h = stored_at(e, stored)->first;
    while (h != NONE && entry_queue(e, entry_at(e, h))->id != queue_id) h = entry_at(e, h)->sibling;
    return h;
}

static enum err replay_publish(struct engine *e, const struct journal_record *r, struct error *err) {
    struct content c;
    if (!content_decode(&c, r->payload, r->length)) return replay_damaged(r, err);
    struct reader in = reader_of(r->payload + c.size, r->length - c.size);
    bool letter = r->kind == RECORD_LETTER;
    if (in.len != (uint64_t)c.entries * 4 + (letter ? 12 : 0)) return replay_damaged(r, err);
    uint32_t h = message_new(e, r, &c);
    for (uint32_t i = 0; i < c.entries; i++) entry_restore(e, h, &c, &(struct entry_record){.queue_id = read_u32(&in)});
    if (c.entries == 0) stored_forget(e, h);
    uint32_t segment = letter ? read_u32(&in) : 0, offset = letter ? read_u32(&in) : 0;
    uint32_t ended = letter ? find_entry(e, segment, offset, read_u32(&in)) : NONE;
    if (ended != NONE) entry_forget(e, ended);
    if (letter) journal_mark_refers(e->journal, &r->ref, segment);
    return ERR_OK;
}

static enum err replay_moved(struct engine *e, const struct journal_record *r, struct error *err) {
    struct content c;
    if (!content_decode(&c, r->payload, r->length)) return replay_damaged(r, err);
    struct reader in = reader_of(r->payload + c.size, r->length - c.size);
    uint32_t segment = read_u32(&in), offset = read_u32(&in);
    uint32_t old = index_find(&e->by_place, index_place(segment, offset));
    if (old != NONE) message_forget(e, old);
    uint32_t h = message_new(e, r, &c);
    for (uint32_t i = 0; i < c.entries; i++) {
        struct entry_record x;
        if (!entry_decode(&in, &x)) return replay_damaged(r, err);
        entry_restore(e, h, &c, &x);
    }
    if (c.entries == 0) stored_forget(e, h);
    return ERR_OK;
}

static enum err replay_settle(struct engine *e, const struct journal_record *r, struct error *err) {
    struct reader in = reader_of(r->payload, r->length);
    uint32_t segment = read_u32(&in), n = read_u32(&in);
    for (uint32_t i = 0; i < n && !in.failed; i++) {
        uint32_t offset = read_u32(&in), queue_id = read_u32(&in);
        if (in.failed) break;
        uint32_t h = find_entry(e, segment, offset, queue_id);
        if (h != NONE) entry_forget(e, h);
    }
    if (in.failed) return replay_damaged(r, err);
    journal_mark_ephemeral(e->journal, &r->ref, segment);
    return ERR_OK;
}

static enum err replay_state(struct engine *e, const struct journal_record *r, struct error *err) {
    struct reader in = reader_of(r->payload, r->length);
    uint32_t segment = read_u32(&in), n = read_u32(&in);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t offset = read_u32(&in);
        struct entry_record change;
        if (!entry_decode(&in, &change)) return replay_damaged(r, err);
        if (change.parked && change.parked_id >= e->next_parking) e->next_parking = change.parked_id + 1;
        uint32_t h = find_entry(e, segment, offset, change.queue_id);
        if (h == NONE) continue;
        struct entry *x = entry_at(e, h);
        x->attempts = change.attempts;
        if (x->aux != NONE) parking_free(e, x->aux);
        x->aux = NONE;
        if (change.parked)
            x->aux = parking_new(e, h, change.parked_id, change.parked_at_ms, change.reason, change.reason_length);
    }
    if (in.failed) return replay_damaged(r, err);
    journal_mark_ephemeral(e->journal, &r->ref, segment);
    return ERR_OK;
}

// ---- windows, and records that mean nothing any more

static enum err replay_dedupe(struct engine *e, const struct journal_record *r, struct error *err) {
    struct reader in = reader_of(r->payload, r->length);
    int64_t wall = io_wall_ms(e->io), latest = 0;
    uint64_t now = now_ms(e);
    uint32_t n = read_u32(&in);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t queue_id = read_u32(&in);
        uint64_t seq = read_u64(&in);
        int64_t until = (int64_t)read_u64(&in);
        const char *id = text_decode(&in);
        if (in.failed) return replay_damaged(r, err);
        seen_seq(e, seq);
        if (until > latest) latest = until;
        if (until <= wall) continue;
        struct queue *q = replay_queue(e, queue_id);
        if (!q->dedupe) q->dedupe = dedupe_new(e);
        dedupe_add(e, q, id, strlen(id), seq, now + (uint64_t)(until - wall));
    }
    uint32_t pin = pin_new(e, PIN_DEDUPE, NULL, &r->ref);
    pin_at(e, pin)->until_ms = latest;
    timers_set(e, TIMER_PIN, pin, now + (latest > wall ? (uint64_t)(latest - wall) : 0), UINT64_MAX);
    return ERR_OK;
}

static void gone(struct engine *e, uint32_t segment, uint32_t offset) {
    uint32_t h = index_find(&e->by_place, index_place(segment, offset));
    if (h != NONE) message_forget(e, h);
    uint32_t pin = index_find(&e->pin_place, index_place(segment, offset));
    if (pin == NONE) return;
    struct pin *p = pin_at(e, pin);
    switch (p->kind) {
    case PIN_BINDING: binding_drop(p->owner, false); return; // drops the pin too
    case PIN_VHOST:
        ((struct vhost *)p->owner)->declared = false;
        ((struct vhost *)p->owner)->pin = NONE;
        break;
    case PIN_QUEUE:
        ((struct queue *)p->owner)->declared = false;
        ((struct queue *)p->owner)->pin = NONE;
        break;
    case PIN_EXCHANGE:
        ((struct exchange *)p->owner)->declared = false;
        ((struct exchange *)p->owner)->pin = NONE;
        break;
    case PIN_DEDUPE: break;
    }
    pin_drop(e, pin, false);
}

static enum err replay_gone(struct engine *e, const struct journal_record *r, struct error *err) {
    struct reader in = reader_of(r->payload, r->length);
    uint32_t segment = read_u32(&in), n = read_u32(&in);
    for (uint32_t i = 0; i < n && !in.failed; i++) {
        uint32_t offset = read_u32(&in);
        if (!in.failed) gone(e, segment, offset);
    }
    if (in.failed) return replay_damaged(r, err);
    journal_mark_ephemeral(e->journal, &r->ref, segment);
    return ERR_OK;
}

enum err replay_record(void *arg, const struct journal_record *r, struct error *err) {
    struct engine *e = arg;
    switch (r->kind) {
    case RECORD_PUBLISH:
    case RECORD_LETTER: return replay_publish(e, r, err);
    case RECORD_MOVED: return replay_moved(e, r, err);
    case RECORD_SETTLE: return replay_settle(e, r, err);
    case RECORD_STATE: return replay_state(e, r, err);
    case RECORD_GONE: return replay_gone(e, r, err);
    case RECORD_DEDUPE: return replay_dedupe(e, r, err);
    default: return replay_topology(e, r, err);
    }
}

// ---- finishing

static void find_place(struct engine *e, struct queue *q, uint32_t h) {
    struct entry *x = entry_at(e, h);
    struct stored *s = stored_at(e, x->stored);
    if (x->priority > q->options.max_priority) x->priority = q->options.max_priority;
    struct times t = {.published_at_ms = s->published_at_ms, .expires_ms = -1};
    int64_t window_end = s->published_at_ms + q->options.dedupe_window_ms, wall = io_wall_ms(e->io);
    bool in_window = q->dedupe && x->named && window_end > wall;
    struct content c;
    bool needed = x->timed || in_window || q->present || q->is_room;
    if (needed && stored_content(e, s, &e->scratch, &c, NULL) == ERR_OK) {
        t.delay_until_ms = c.delay_until_ms;
        t.expires_ms = c.expires_ms;
        if (q->is_room) t.delay_until_ms = room_until(&c);
        struct value_key value;
        if (q->present && value_key_of_message(c.properties, c.properties_length, &value))
            present_add(q->present, &value, s->seq);
        if (in_window) dedupe_add(e, q, c.message_id, c.id_length, s->seq, now_ms(e) + (uint64_t)(window_end - wall));
    }
    if (x->aux != NONE) entry_link(e, h, ENTRY_PARKED);
    else place_entry(e, h, &t);
}

static void queue_finish(struct engine *e, struct queue *q) {
    struct chain all = q->waiting;
    chain_init(&q->waiting);
    q->finger = NONE;
    if (!q->options.dedupe_window_ms) {
        dedupe_free(q->dedupe);
        q->dedupe = NULL;
    }
    for (uint32_t h = all.head, next; h != NONE; h = next) {
        next = entry_at(e, h)->next;
        find_place(e, q, h);
    }
    if (q->dedupe) dedupe_replayed(e, q);
    if (q->is_room) room_wake(e, q);
    queue_used(e, q);
}

void replay_finish(struct engine *e) {
    replay_undeclared(e);
    for (uint32_t i = 0; i < e->n_queues; i++)
        if (e->queues[i]) queue_finish(e, e->queues[i]);
    replay_bindings(e);
    e->durable_seq = e->next_seq - 1;
    e->replaying = false;
}
