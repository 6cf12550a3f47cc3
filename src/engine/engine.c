// Opening, closing and driving the engine.
#include "engine/internal.h"

#define DEFAULT_BUDGET   (64u << 20)
#define TIMERS_AT_ONCE   4096
#define RETRY_LETTERS_MS 10
#define RETRY_FLUSH_MS   UINT64_C(100)

static uint64_t stored_key(const void *e, uint32_t h) {
    const struct stored *s = stored_at(e, h);
    return index_place(s->segment, s->offset);
}

static uint64_t pin_key(const void *e, uint32_t h) {
    const struct pin *p = pin_at(e, h);
    return index_place(p->ref.segment, p->ref.offset);
}

static uint64_t parking_key(const void *e, uint32_t h) { return index_counter(parking_at(e, h)->id); }
static uint64_t queue_key(const void *e, uint32_t slot) {
    return index_counter(((const struct engine *)e)->queues[slot]->id);
}

static struct engine *engine_new(struct io *io, const struct engine_options *o) {
    struct engine *e = memory_zero(sizeof *e);
    e->io = io;
    e->memory_budget = o->memory_budget ? o->memory_budget : DEFAULT_BUDGET;
    e->max_queues = o->max_queues ? o->max_queues : 100000;
    e->max_exchanges = o->max_exchanges ? o->max_exchanges : 10000;
    e->max_vhosts = o->max_vhosts ? o->max_vhosts : 1000;
    e->max_ready = o->max_ready_per_queue;
    e->claim = o->claim;
    e->claim_arg = o->claim_arg;
    slab_init(&e->stored, sizeof(struct stored));
    slab_init(&e->entries, sizeof(struct entry));
    slab_init(&e->pins, sizeof(struct pin));
    slab_init(&e->parkings, sizeof(struct parking));
    slab_init(&e->claims, CLAIM_TICKET);
    slab_init(&e->sessions, sizeof(struct session));
    index_init(&e->by_place, stored_key, e);
    index_init(&e->pin_place, pin_key, e);
    index_init(&e->by_parking, parking_key, e);
    index_init(&e->by_queue_id, queue_key, e);
    map_init(&e->vhost_names, io_random_u64(io));
    map_init(&e->bindings, io_random_u64(io));
    buf_init(&e->state_bytes, 64u << 20);
    buf_init(&e->dedupe_bytes, 64u << 20);
    buf_init(&e->scratch, 64u << 20);
    buf_init(&e->tail, 64u << 20);
    list_init(&e->all_sessions);
    list_init(&e->owned);
    list_init(&e->dirty);
    list_init(&e->awaiting);
    list_init(&e->rooms);
    chain_init(&e->dead);
    e->next_seq = e->next_parking = 1;
    e->next_queue_id = 1;
    e->delivering = NONE;
    vhost_new(e, "/", DEFAULT_VHOST);
    return e;
}

enum err engine_open(struct engine **out, struct io *io, const struct engine_options *o, struct error *err) {
    struct engine *e = engine_new(io, o);
    e->replaying = true;
    enum err code = journal_open(&e->journal, io, o->journal, replay_record, e, err);
    if (code) {
        e->journal = NULL;
        engine_close(e);
        return code;
    }
    replay_finish(e);
    *out = e;
    return ERR_OK;
}

static void free_messages(struct engine *e, struct chain *c) {
    for (uint32_t h = c->head; h != NONE; h = entry_at(e, h)->next) {
        struct entry *x = entry_at(e, h);
        struct stored *s = stored_at(e, x->stored);
        free(s->block);
        s->block = NULL;
        if (x->state != ENTRY_DEAD && x->state != ENTRY_UNACKED && x->aux != NONE) free(parking_at(e, x->aux)->reason);
    }
}

static void free_queue(struct engine *e, struct queue *q) {
    for (unsigned p = 0; q->levels && p <= q->options.max_priority; p++) free_messages(e, &q->levels[p]);
    free_messages(e, &q->waiting);
    free_messages(e, &q->unacked);
    free_messages(e, &q->parked);
    queue_free(q);
}

static void free_notes(struct engine *e) {
    free(e->route);
    free(e->visits);
    free(e->verdicts);
    free(e->done);
    free(e->settled);
    free(e->states);
    free(e->gone);
    free(e->unneeded);
    free(e->unclaimed);
    free(e->timers.items);
    free(e->compaction.offsets);
    buf_release(&e->state_bytes);
    buf_release(&e->dedupe_bytes);
    buf_release(&e->scratch);
    buf_release(&e->tail);
}

// What was not made durable is lost, as in a crash: flush and end the batches first. Consumers end with it.
void engine_close(struct engine *e) {
    if (!e) return;
    ASSERT(e->depth == 0);
    queues_bury(e);
    free_messages(e, &e->dead);
    sessions_free(e);
    for (uint32_t i = 0; i < e->n_vhosts; i++) vhost_free(e->vhosts[i]);
    for (uint32_t i = 0; i < e->n_queues; i++)
        if (e->queues[i]) free_queue(e, e->queues[i]);
    free_notes(e);
    index_release(&e->by_place);
    index_release(&e->pin_place);
    index_release(&e->by_parking);
    index_release(&e->by_queue_id);
    map_release(&e->vhost_names);
    map_release(&e->bindings);
    slab_release(&e->stored);
    slab_release(&e->entries);
    slab_release(&e->pins);
    slab_release(&e->parkings);
    slab_release(&e->claims);
    slab_release(&e->sessions);
    free(e->queues);
    free(e->free_slots);
    free(e->graves);
    free(e->vhosts);
    if (e->journal) journal_close(e->journal);
    free(e);
}

struct journal *engine_journal(struct engine *e) {
    return e->journal;
}

static void wake_awaiting(struct engine *e) {
    while (!list_empty(&e->awaiting)) queue_wake(e, LIST_ITEM(list_first(&e->awaiting), struct queue, dirty));
}

void engine_durable(struct engine *e) {
    if (e->depth > 0) return; // the callback's caller goes on with it
    done_run(e);
    wake_awaiting(e);
    engine_dispatch(e);
    compaction_check(e);
}

void engine_tick(struct engine *e) {
    if (e->depth > 0) return;
    if (!e->no_room) e->timers_behind = timers_run(e, TIMERS_AT_ONCE);
    engine_dispatch(e);
    compaction_check(e);
    compaction_step(e);
}

uint64_t engine_next_deadline(struct engine *e) {
    uint64_t now = io_monotonic_ns(e->io);
    if (e->no_room) return now + RETRY_FLUSH_MS * 1000000;
    if (compaction_pending(e)) return now;
    uint64_t deadline = e->compaction.refused ? now + RETRY_FLUSH_MS * 1000000 : UINT64_MAX;
    if (e->timers.n > 0 && e->timers.items[0].due_ms < deadline / 1000000)
        deadline = e->timers.items[0].due_ms * 1000000;
    if (e->dead.count > 0 && deadline > now + RETRY_LETTERS_MS * 1000000) deadline = now + RETRY_LETTERS_MS * 1000000;
    return deadline;
}

void engine_stats(const struct engine *e, struct engine_stats *out) {
    *out = (struct engine_stats){
        .body_bytes = e->memory,
        .memory_budget = e->memory_budget,
        .structure_bytes = slab_bytes(&e->stored) + slab_bytes(&e->entries) + index_bytes(&e->by_place),
        .messages = e->stored.used,
        .entries = e->entries.used,
        .vhosts = e->vhost_names.len,
        .exchanges = e->n_exchanges,
        .queues = e->used_queues,
        .bindings = e->n_bindings,
        .waiting_for_disk = e->n_done,
        .no_room = e->no_room,
        .dead_letters = e->dead.count,
    };
}
