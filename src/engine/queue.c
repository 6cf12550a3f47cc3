// Queues: declaring, deleting, purging, limits, expiry.
#include "engine/internal.h"

#define YEARS_MS UINT64_C(3153600000000) // a hundred years: no sum of times overflows

struct queue *queue_find(const struct engine *e, const char *name) {
    return map_get(&e->queue_names, name, strlen(name));
}

static uint32_t slot_take(struct engine *e) {
    e->used_queues++;
    if (e->n_free_slots > 0) return e->free_slots[--e->n_free_slots];
    ROOM_FOR_ONE(e->queues, e->n_queues, e->cap_queues);
    return e->n_queues++;
}

// `name` may be NULL while replaying, when only the id is known.
struct queue *queue_new(struct engine *e, const char *name, uint32_t id) {
    struct queue *q = memory_zero(sizeof *q);
    q->name = memory_text(name);
    q->id = id;
    q->slot = slot_take(e);
    q->pin = q->finger = NONE;
    q->declared = name != NULL;
    chain_init(&q->waiting);
    chain_init(&q->unacked);
    chain_init(&q->parked);
    list_init(&q->bindings);
    e->queues[q->slot] = q;
    index_add(&e->by_queue_id, q->slot);
    if (name && !map_put(&e->queue_names, q->name, strlen(q->name), q)) die("out of memory");
    return q;
}

static uint64_t capped(uint64_t ms) { return ms < YEARS_MS ? ms : YEARS_MS; }

void queue_set_options(struct engine *e, struct queue *q, const struct queue_options *o) {
    q->options = *o;
    q->options.message_ttl_ms = capped(o->message_ttl_ms);
    q->options.expires_ms = capped(o->expires_ms);
    q->options.dead_letter_exchange = memory_text(o->dead_letter_exchange);
    q->options.dead_letter_routing_key = memory_text(o->dead_letter_routing_key);
    q->backoff = (struct backoff){.base_ms = o->retry_delay_ms,
                                  .cap_ms = o->retry_max_delay_ms ? o->retry_max_delay_ms : 60000,
                                  .multiplier = o->retry_multiplier > 0 ? o->retry_multiplier : 2};
    q->levels = memory_new(((size_t)o->max_priority + 1) * sizeof *q->levels);
    for (unsigned i = 0; i <= o->max_priority; i++) chain_init(&q->levels[i]);
    if (o->dedupe_window_ms && !q->dedupe) q->dedupe = dedupe_new(e);
}

static bool same_text(const char *a, const char *b) { return a && b ? strcmp(a, b) == 0 : a == b; }

bool queue_options_equal(const struct queue_options *a, const struct queue_options *b) {
    return a->durable == b->durable && a->auto_delete == b->auto_delete && a->max_priority == b->max_priority &&
           a->has_message_ttl == b->has_message_ttl && a->message_ttl_ms == capped(b->message_ttl_ms) &&
           a->expires_ms == capped(b->expires_ms) && a->max_length == b->max_length &&
           a->max_length_bytes == b->max_length_bytes && a->overflow == b->overflow &&
           a->delivery_limit == b->delivery_limit && a->retry_delay_ms == b->retry_delay_ms &&
           a->retry_multiplier == b->retry_multiplier && a->retry_max_delay_ms == b->retry_max_delay_ms &&
           a->dedupe_window_ms == b->dedupe_window_ms && a->park == b->park &&
           same_text(a->dead_letter_exchange, b->dead_letter_exchange) &&
           same_text(a->dead_letter_routing_key, b->dead_letter_routing_key);
}

static enum err check_options(const char *name, const struct queue_options *o, struct error *err) {
    if (name[0] == 0 || strlen(name) > NAME_BYTES)
        return error_field(err, "queue", "a queue's name has 1 to %d bytes", NAME_BYTES);
    if ((o->dead_letter_exchange && strlen(o->dead_letter_exchange) > NAME_BYTES) ||
        (o->dead_letter_routing_key && strlen(o->dead_letter_routing_key) > NAME_BYTES))
        return error_field(err, "dead_letter_exchange", "a name or key has at most %d bytes", NAME_BYTES);
    if (o->retry_multiplier < 0 || o->retry_multiplier > 1000)
        return error_field(err, "retry_multiplier", "a multiplier is between 0 and 1,000");
    return ERR_OK;
}

enum err engine_queue_declare(struct engine *e, const char *name, const struct queue_options *o, struct error *err) {
    enum err code = check_options(name, o, err);
    if (code) return code;
    struct queue *q = queue_find(e, name);
    if (q) {
        if (!queue_options_equal(&q->options, o))
            return error_set(err, ERR_CONFLICT, "queue %s exists with other properties", name);
        queue_used(e, q);
        return ERR_OK;
    }
    if (e->used_queues >= e->max_queues)
        return error_set(err, ERR_LIMIT, "there are %u queues already, no more are allowed", e->max_queues);
    struct queue fresh = {.name = (char *)name, .id = e->next_queue_id, .options = *o};
    struct journal_ref ref;
    if (o->durable) {
        code = write_queue(e, &fresh, 0, &ref);
        if (code) return error_set(err, code, "queue %s was not declared: %s", name, err_text(code));
    }
    q = queue_new(e, name, e->next_queue_id++);
    queue_set_options(e, q, o);
    if (o->durable) q->pin = pin_new(e, PIN_QUEUE, q, &ref);
    queue_used(e, q);
    return ERR_OK;
}

static void empty_chain(struct engine *e, struct chain *c) {
    while (c->head != NONE) entry_finish(e, c->head, false);
}

void queue_empty(struct engine *e, struct queue *q) {
    for (int p; (p = queue_highest(q)) >= 0;) empty_chain(e, &q->levels[p]);
    empty_chain(e, &q->waiting);
    empty_chain(e, &q->unacked);
    empty_chain(e, &q->parked);
    for (uint32_t h = e->dead.head, next; h != NONE; h = next) {
        next = entry_at(e, h)->next;
        if (entry_queue(e, entry_at(e, h)) == q) entry_finish(e, h, false);
    }
}

// Its messages need no record of their own: an entry of a queue that no record declares means nothing.
void queue_remove(struct engine *e, struct queue *q, bool record) {
    dedupe_free(q->dedupe);
    q->dedupe = NULL;
    queue_empty(e, q);
    LIST_EACH_SAFE(&q->bindings, at)
    binding_remove(e, LIST_ITEM(at, struct binding, of_queue), record);
    for (uint32_t i = 0; i < q->n_consumers; i++) {
        struct consumer *c = q->consumers[i];
        c->queue = NULL;
        c->n_held = c->first_held = c->unacked = 0;
    }
    q->n_consumers = 0;
    timers_stop(e, &q->expiry_timer);
    timers_stop(e, &q->dedupe_timer);
    if (q->pin != NONE) pin_drop(e, q->pin, record);
    list_remove(&q->dirty);
    index_remove(&e->by_queue_id, q->slot);
    if (q->name) map_remove(&e->queue_names, q->name, strlen(q->name));
    e->queues[q->slot] = NULL;
    ROOM_FOR_ONE(e->free_slots, e->n_free_slots, e->cap_free_slots);
    e->free_slots[e->n_free_slots++] = q->slot;
    e->used_queues--;
    q->deleted = true;
    ROOM_FOR_ONE(e->graves, e->n_graves, e->cap_graves);
    e->graves[e->n_graves++] = q;
    queues_bury(e);
}

void queue_free(struct queue *q) {
    dedupe_free(q->dedupe);
    free(q->name);
    free(q->levels);
    free(q->consumers);
    free((char *)q->options.dead_letter_exchange);
    free((char *)q->options.dead_letter_routing_key);
    free(q);
}

void queues_bury(struct engine *e) {
    if (e->depth > 0) return;
    while (e->n_graves > 0) queue_free(e->graves[--e->n_graves]);
    while (e->n_old_consumers > 0) {
        struct consumer *c = e->old_consumers[--e->n_old_consumers];
        free(c->held);
        free(c);
    }
}

enum err engine_queue_delete(struct engine *e, const char *name, struct error *err) {
    struct queue *q = queue_find(e, name);
    if (!q) return error_set(err, ERR_NOT_FOUND, "there is no queue %s", name);
    queue_remove(e, q, true);
    return ERR_OK;
}

enum err engine_queue_purge(struct engine *e, const char *name, uint64_t *count, struct error *err) {
    struct queue *q = queue_find(e, name);
    if (!q) return error_set(err, ERR_NOT_FOUND, "there is no queue %s", name);
    if (count) *count = q->ready;
    for (int p; (p = queue_highest(q)) >= 0;)
        while (q->levels[p].head != NONE) entry_finish(e, q->levels[p].head, true);
    return ERR_OK;
}

void queue_wake(struct engine *e, struct queue *q) {
    if (list_linked(&q->dirty) && !q->awaiting) return;
    list_remove(&q->dirty);
    q->awaiting = false;
    if (q->n_consumers > 0) list_push_back(&e->dirty, &q->dirty);
}

void queue_used(struct engine *e, struct queue *q) {
    if (q->options.expires_ms == 0) return;
    timers_set(e, TIMER_QUEUE, q->slot, now_ms(e) + q->options.expires_ms, UINT64_MAX);
}

void queue_expiry_due(struct engine *e, struct queue *q) {
    if (q->n_consumers > 0) queue_used(e, q);
    else queue_remove(e, q, true);
}

static bool over_limit(const struct queue *q) {
    const struct queue_options *o = &q->options;
    return (o->max_length && q->ready > o->max_length) || (o->max_length_bytes && q->bytes > o->max_length_bytes);
}

// The oldest of the lowest priority goes first: a high priority is not paid for with its own messages.
void queue_limit(struct engine *e, struct queue *q) {
    if (q->options.overflow != OVERFLOW_DROP_HEAD) return;
    while (q->ready > 0 && over_limit(q)) entry_dead(e, q->levels[queue_lowest(q)].head, DEAD_MAXLEN);
}

static int64_t oldest(const struct engine *e, const struct queue *q) {
    int64_t at = 0;
    for (unsigned p = 0; p <= q->options.max_priority; p++) {
        if (q->levels[p].head == NONE) continue;
        int64_t published = stored_at(e, entry_at(e, q->levels[p].head)->stored)->published_at_ms;
        if (at == 0 || published < at) at = published;
    }
    return at;
}

void engine_each_queue(struct engine *e, void (*each)(void *arg, const struct queue_info *q), void *arg) {
    for (uint32_t i = 0; i < e->n_queues; i++) {
        struct queue *q = e->queues[i];
        if (!q) continue;
        struct queue_info info = {.name = q->name,
                                  .ready = q->ready,
                                  .unacked = q->unacked.count,
                                  .parked = q->parked.count,
                                  .delayed = q->waiting.count,
                                  .bytes = q->bytes,
                                  .consumers = q->n_consumers,
                                  .published = q->published,
                                  .delivered = q->delivered,
                                  .acked = q->acked,
                                  .oldest_at_ms = oldest(e, q)};
        each(arg, &info);
    }
}
