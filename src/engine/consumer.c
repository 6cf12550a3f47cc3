// Consumers: coming, going, and whose turn it is. Those of the highest priority with room take turns; of a queue with
// a single active consumer one has everything, and when it goes the next in order of priority, then of coming.
#include "engine/internal.h"

// ---- whose turn it is

// Where those of that priority are, or would be.
static uint32_t peers_place(const struct queue *q, int32_t priority) {
    uint32_t low = 0, high = q->n_peers;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (q->peers[middle]->priority > priority) low = middle + 1;
        else high = middle;
    }
    return low;
}

static void join(struct queue *q, struct consumer *c) {
    uint32_t at = peers_place(q, c->options.priority);
    if (at == q->n_peers || q->peers[at]->priority != c->options.priority) {
        ROOM_FOR_ONE(q->peers, q->n_peers, q->cap_peers);
        memmove(&q->peers[at + 1], &q->peers[at], (q->n_peers++ - at) * sizeof *q->peers);
        q->peers[at] = memory_zero(sizeof **q->peers);
        q->peers[at]->priority = c->options.priority;
        list_init(&q->peers[at]->line);
    }
    c->peers = q->peers[at];
    c->peers->n++;
    consumer_line_up(c);
}

static void part(struct queue *q, struct consumer *c) {
    struct peers *p = c->peers;
    list_remove(&c->turn);
    c->peers = NULL;
    if (--p->n > 0) return;
    uint32_t at = peers_place(q, p->priority);
    memmove(&q->peers[at], &q->peers[at + 1], (--q->n_peers - at) * sizeof *q->peers);
    free(p);
}

void consumer_line_up(struct consumer *c) {
    if (!list_linked(&c->turn)) list_push_back(&c->peers->line, &c->turn);
}

bool consumer_has_room(const struct consumer *c) {
    if (c->session->paused || !session_has_room(c->session)) return false;
    return c->options.no_ack || c->options.prefetch == 0 || c->unacked < c->options.prefetch;
}

struct consumer *consumer_next(struct queue *q) {
    if (q->options.single_active_consumer) return q->active && consumer_has_room(q->active) ? q->active : NULL;
    for (uint32_t i = 0; i < q->n_peers; i++) {
        struct list *line = &q->peers[i]->line;
        for (struct list_node *at; (at = list_pop_front(line));) {
            struct consumer *c = LIST_ITEM(at, struct consumer, turn);
            if (!consumer_has_room(c)) continue;
            consumer_line_up(c); // behind the others
            return c;
        }
    }
    return NULL;
}

// ---- coming and going

static void take_place(struct queue *q, struct consumer *c) {
    ROOM_FOR_ONE(q->consumers, q->n_consumers, q->cap_consumers);
    uint32_t at = q->n_consumers++;
    for (; at > 0 && q->consumers[at - 1]->options.priority < c->options.priority; at--)
        q->consumers[at] = q->consumers[at - 1];
    q->consumers[at] = c;
    join(q, c);
    if (!q->active) q->active = c;
}

enum err engine_consume(struct session *s, struct vhost *v, const char *queue, const struct consumer_options *o,
                        void *consumer_arg, struct consumer **out, struct error *err) {
    struct engine *e = s->engine;
    struct queue *q = queue_find(v, queue);
    if (!q) return error_set(err, ERR_NOT_FOUND, "no queue '%s' in vhost '%s'", queue, v->name);
    if (q->exclusive || (o->exclusive && q->n_consumers > 0))
        return error_set(err, ERR_LOCKED, "queue '%s' in vhost '%s' in exclusive use", queue, v->name);
    struct consumer *c = memory_zero(sizeof *c);
    c->session = s;
    c->queue = q;
    c->options = *o;
    c->arg = consumer_arg;
    list_push_back(&s->consumers, &c->node);
    take_place(q, c);
    q->exclusive = o->exclusive;
    queue_wake(e, q);
    *out = c;
    return ERR_OK;
}

static void leave_place(struct queue *q, struct consumer *c) {
    uint32_t at = 0;
    part(q, c);
    while (q->consumers[at] != c) at++;
    memmove(&q->consumers[at], &q->consumers[at + 1], (--q->n_consumers - at) * sizeof *q->consumers);
    q->exclusive = false;
    if (q->active == c) q->active = q->n_consumers ? q->consumers[0] : NULL;
}

static void end(struct consumer *c) {
    c->queue = NULL;
    c->ended = true;
    list_remove(&c->node);
    if (c->unacked == 0) free(c);
}

void engine_cancel(struct consumer *c) {
    struct engine *e = c->session->engine;
    struct queue *q = c->queue;
    leave_place(q, c);
    end(c);
    if (q->deleted) return;
    if (q->n_consumers > 0) queue_wake(e, q);
    else if (q->options.auto_delete) queue_remove(e, q, true);
    else queue_used(e, q);
}

// The queue is gone. What they are told may end others of them, and whole sessions.
void consumers_end(struct engine *e, struct queue *q) {
    while (q->n_consumers > 0) {
        struct consumer *c = q->consumers[q->n_consumers - 1];
        struct session_options tell = c->session->options;
        void *consumer_arg = c->arg;
        leave_place(q, c);
        end(c);
        if (!tell.ended) continue;
        e->depth++;
        tell.ended(tell.arg, consumer_arg);
        e->depth--;
    }
}

const char *consumer_queue(const struct consumer *c) { return c->queue->name; }
uint32_t consumer_unacked(const struct consumer *c) { return c->unacked; }

bool consumer_active(const struct consumer *c) {
    return !c->queue->options.single_active_consumer || c->queue->active == c;
}
