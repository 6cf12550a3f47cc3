// Queues: declaring, deleting, purging, limits, expiry.
#include "engine/internal.h"
#include "engine/present.h"

#define YEARS_MS UINT64_C(3153600000000) // a hundred years: no sum of times overflows

struct queue *queue_find(const struct vhost *v, const char *name) {
    return map_get(&v->queues, name, strlen(name));
}

static uint32_t slot_take(struct engine *e) {
    e->used_queues++;
    if (e->n_free_slots > 0) return e->free_slots[--e->n_free_slots];
    ROOM_FOR_ONE(e->queues, e->n_queues, e->cap_queues);
    return e->n_queues++;
}

struct queue *queue_new(struct engine *e, uint32_t id) {
    struct queue *q = memory_zero(sizeof *q);
    q->id = id;
    q->slot = slot_take(e);
    q->pin = q->finger = NONE;
    chain_init(&q->waiting);
    chain_init(&q->unacked);
    chain_init(&q->parked);
    list_init(&q->bindings);
    e->queues[q->slot] = q;
    index_add(&e->by_queue_id, q->slot);
    return q;
}

void queue_name_put(struct queue *q) {
    if (!map_put(&q->vhost->queues, q->name, strlen(q->name), q)) die("out of memory");
}

uint64_t queue_time(uint64_t ms) { return ms < YEARS_MS ? ms : YEARS_MS; }

void queue_set_options(struct engine *e, struct queue *q, const struct queue_options *o) {
    q->options = *o;
    q->options.message_ttl_ms = queue_time(o->message_ttl_ms);
    q->options.expires_ms = queue_time(o->expires_ms);
    q->options.dead_letter_exchange = memory_text(o->dead_letter_exchange);
    q->options.dead_letter_routing_key = memory_text(o->dead_letter_routing_key);
    q->options.arguments = memory_view(o->arguments);
    q->backoff = (struct backoff){.base_ms = o->retry_delay_ms,
                                  .cap_ms = o->retry_max_delay_ms ? o->retry_max_delay_ms : 60000,
                                  .multiplier = o->retry_multiplier > 0 ? o->retry_multiplier : 2};
    q->levels = memory_new(((size_t)o->max_priority + 1) * sizeof *q->levels);
    for (unsigned i = 0; i <= o->max_priority; i++) chain_init(&q->levels[i]);
    if (o->dedupe_window_ms && !q->dedupe) q->dedupe = dedupe_new(e);
    if (o->dedupe_present) q->present = present_new(io_random_u64(e->io));
    if (o->owner) list_push_back(&e->owned, &q->owned);
}

static enum err check_options(const char *name, const struct queue_options *o, struct error *err) {
    if (name[0] == 0 || strlen(name) > NAME_BYTES)
        return error_field(err, "queue", "a queue's name has 1 to %d bytes", NAME_BYTES);
    if ((o->dead_letter_exchange && strlen(o->dead_letter_exchange) > NAME_BYTES) ||
        (o->dead_letter_routing_key && strlen(o->dead_letter_routing_key) > NAME_BYTES))
        return error_field(err, "dead_letter_exchange", "a name or key has at most %d bytes", NAME_BYTES);
    if (o->retry_multiplier < 0 || o->retry_multiplier > 1000)
        return error_field(err, "retry_multiplier", "a multiplier is between 0 and 1,000");
    if (o->arguments.length > ARGUMENTS_MAX)
        return error_field(err, "arguments", "arguments have at most %u bytes", ARGUMENTS_MAX);
    return ERR_OK;
}

enum err engine_queue_declare(struct vhost *v, const char *name, const struct queue_options *o, struct error *err) {
    struct engine *e = v->engine;
    enum err code = vhost_check(v, err);
    if (code) return code;
    struct queue *q = queue_find(v, name);
    if (q) {
        code = queue_options_same(q, o, err);
        if (code == ERR_OK) queue_used(e, q);
        return code;
    }
    code = check_options(name, o, err);
    if (code) return code;
    if (e->used_queues >= e->max_queues)
        return error_set(err, ERR_LIMIT, "there are %u queues already, no more are allowed", e->max_queues);
    struct queue fresh = {.vhost = v, .name = (char *)name, .id = e->next_queue_id, .options = *o};
    struct journal_ref ref;
    bool recorded = queue_recorded(&fresh);
    if (recorded) {
        code = write_queue(e, &fresh, 0, &ref);
        if (code) return error_set(err, code, "queue %s was not declared: %s", name, err_text(code));
    }
    q = queue_new(e, e->next_queue_id++);
    q->vhost = v;
    q->name = memory_text(name);
    q->declared = true;
    queue_name_put(q);
    queue_set_options(e, q, o);
    if (recorded) q->pin = pin_new(e, PIN_QUEUE, q, &ref);
    queue_used(e, q);
    return ERR_OK;
}

static void empty_chain(struct engine *e, struct chain *c) {
    while (c->head != NONE) entry_finish(e, c->head, false);
}

static void queue_empty(struct engine *e, struct queue *q) {
    for (int p; (p = queue_highest(q)) >= 0;) empty_chain(e, &q->levels[p]);
    empty_chain(e, &q->waiting);
    for (uint32_t h; (h = q->unacked.head) != NONE;) session_lose(slab_at(&e->sessions, entry_at(e, h)->aux), q);
    empty_chain(e, &q->parked);
    for (uint32_t h = e->dead.head, next; h != NONE; h = next) {
        next = entry_at(e, h)->next;
        if (entry_queue(e, entry_at(e, h)) == q) entry_finish(e, h, false);
    }
}

// Its messages need no record of their own: an entry of a queue that no record declares means nothing. Its consumers
// are told last, when it is gone.
void queue_remove(struct engine *e, struct queue *q, bool record) {
    dedupe_free(q->dedupe);
    present_free(q->present);
    q->dedupe = NULL;
    q->present = NULL;
    if (q->room_of) q->room_of->room = NULL;
    queue_empty(e, q);
    for (struct list_node *at; (at = list_first(&q->bindings));)
        binding_remove(LIST_ITEM(at, struct binding, of_destination), record);
    timers_stop(e, &q->expiry_timer);
    timers_stop(e, &q->dedupe_timer);
    if (q->pin != NONE) pin_drop(e, q->pin, record);
    list_remove(&q->dirty);
    list_remove(&q->owned);
    index_remove(&e->by_queue_id, q->slot);
    if (q->name && !q->is_room) map_remove(&q->vhost->queues, q->name, strlen(q->name));
    e->queues[q->slot] = NULL;
    ROOM_FOR_ONE(e->free_slots, e->n_free_slots, e->cap_free_slots);
    e->free_slots[e->n_free_slots++] = q->slot;
    if (!q->is_room) e->used_queues--;
    q->deleted = true;
    consumers_end(e, q);
    ROOM_FOR_ONE(e->graves, e->n_graves, e->cap_graves);
    e->graves[e->n_graves++] = q;
    queues_bury(e);
}

void queue_free(struct queue *q) {
    dedupe_free(q->dedupe);
    present_free(q->present);
    free(q->name);
    free(q->levels);
    free(q->consumers);
    for (uint32_t i = 0; i < q->n_peers; i++) free(q->peers[i]);
    free(q->peers);
    free((char *)q->options.dead_letter_exchange);
    free((char *)q->options.dead_letter_routing_key);
    free((uint8_t *)q->options.arguments.data);
    free(q);
}

void queues_bury(struct engine *e) {
    if (e->depth > 0) return;
    while (e->n_graves > 0) queue_free(e->graves[--e->n_graves]);
}

static enum err no_queue(const struct vhost *v, const char *name, struct error *err) {
    return error_set(err, ERR_NOT_FOUND, "no queue '%s' in vhost '%s'", name, v->name);
}

enum err engine_queue_delete(struct vhost *v, const char *name, bool if_unused, bool if_empty, uint64_t *count,
                             struct error *err) {
    struct queue *q = queue_find(v, name);
    if (!q) return no_queue(v, name, err);
    if (if_unused && q->n_consumers > 0)
        return error_set(err, ERR_CONFLICT, "queue '%s' in vhost '%s' in use", name, v->name);
    if (if_empty && q->ready > 0)
        return error_set(err, ERR_CONFLICT, "queue '%s' in vhost '%s' is not empty", name, v->name);
    if (count) *count = q->ready;
    queue_remove(v->engine, q, true);
    return ERR_OK;
}

// A callback may delete others of them: begin anew after each.
void engine_delete_owned(struct engine *e, const void *owner) {
    for (struct list_node *at = list_first(&e->owned); at;) {
        struct queue *q = LIST_ITEM(at, struct queue, owned);
        bool its = q->options.owner == owner;
        if (its) queue_remove(e, q, true);
        at = its ? list_first(&e->owned) : list_next(&e->owned, at);
    }
}

enum err engine_queue_purge(struct vhost *v, const char *name, uint64_t *count, struct error *err) {
    struct queue *q = queue_find(v, name);
    if (!q) return no_queue(v, name, err);
    if (count) *count = q->ready;
    for (int p; (p = queue_highest(q)) >= 0;)
        while (q->levels[p].head != NONE) entry_finish(v->engine, q->levels[p].head, true);
    return ERR_OK;
}

void queue_wake(struct engine *e, struct queue *q) {
    if (q->is_room) {
        room_wake(e, q);
        return;
    }
    if (list_linked(&q->dirty) && !q->awaiting) return;
    list_remove(&q->dirty);
    q->awaiting = false;
    if (q->n_consumers > 0 && !q->deleted) list_push_back(&e->dirty, &q->dirty);
}

void queue_used(struct engine *e, struct queue *q) {
    if (q->options.expires_ms == 0) return;
    timers_set(e, TIMER_QUEUE, q->slot, now_ms(e) + q->options.expires_ms, UINT64_MAX);
}

void engine_queue_used(struct vhost *v, const char *name) {
    struct queue *q = queue_find(v, name);
    if (q) queue_used(v->engine, q);
}

void queue_expiry_due(struct engine *e, struct queue *q) {
    if (q->n_consumers > 0) queue_used(e, q);
    else queue_remove(e, q, true);
}

static bool over_limit(const struct queue *q) {
    const struct queue_options *o = &q->options;
    return (o->has_max_length && q->ready > o->max_length) ||
           (o->has_max_length_bytes && q->bytes > o->max_length_bytes);
}

// The oldest of the lowest priority goes first: a high priority is not paid for with its own messages.
void queue_limit(struct engine *e, struct queue *q) {
    if (q->options.overflow != OVERFLOW_DROP_HEAD) return;
    while (q->ready > 0 && over_limit(q)) entry_dead(e, q->levels[queue_lowest(q)].head, DEAD_MAXLEN);
}
