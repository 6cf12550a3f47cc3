// Publishing: where it goes, who takes it, one record, one stored message, an entry a queue.
//
// Nothing changes before the record is appended, so a refused publish leaves no trace.
#include "engine/death.h"
#include "engine/internal.h"
#include "engine/present.h"
#include "wire/properties.h"

#define YEARS_MS INT64_C(3153600000000)

enum verdict { TAKE, DUPLICATE, REJECT };

static enum err check_message(const struct message *m, struct error *err) {
    if (strlen(m->routing_key) > NAME_BYTES || strlen(m->exchange) > NAME_BYTES ||
        (m->message_id && strlen(m->message_id) > NAME_BYTES))
        return error_set(err, ERR_INVALID, "names, keys and message ids have at most %d bytes", NAME_BYTES);
    if (m->claimed && m->body_length != CLAIM_TICKET)
        return error_set(err, ERR_INVALID, "a ticket has %d bytes", CLAIM_TICKET);
    if ((uint64_t)m->body_length + m->properties_length > MESSAGE_MAX)
        return error_set(err, ERR_TOO_LARGE, "a message has at most %u bytes", MESSAGE_MAX);
    return ERR_OK;
}

// The bytes that a queue counts.
static uint32_t counted_length(const struct message *m) {
    uint64_t n = m->claimed ? m->claimed_length : m->body_length;
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

static bool rejects(const struct engine *e, const struct queue *q, uint32_t body_length) {
    const struct queue_options *o = &q->options;
    if (e->max_ready && q->ready >= e->max_ready) return true;
    if (o->overflow == OVERFLOW_DROP_HEAD) return false;
    return (o->has_max_length && q->ready >= o->max_length) ||
           (o->has_max_length_bytes && q->bytes + body_length > o->max_length_bytes);
}

struct plan {
    uint32_t takes, recorded, rejected, duplicates;
    bool near_head; // a queue will hand it out soon
    bool written;   // it has a record
    struct value_key value;
    enum { VALUE_UNKNOWN, VALUE_NONE, VALUE_KNOWN } has_value;
};

static bool value_of(const struct message *m, struct plan *p) {
    if (p->has_value == VALUE_UNKNOWN)
        p->has_value = value_key_of_message(m->properties, m->properties_length, &p->value) ? VALUE_KNOWN : VALUE_NONE;
    return p->has_value == VALUE_KNOWN;
}

// Is one like it there, or was lately? A dead letter was taken once already, so the window does not hold it off.
static bool is_duplicate(struct engine *e, const struct queue *q, const struct message *m, const struct origin *o,
                         struct plan *p) {
    if (q->present && value_of(m, p) && present_has(q->present, &p->value)) return true;
    return q->dedupe && m->message_id && m->message_id[0] && o->hops == 0 &&
           dedupe_has(e, q->dedupe, m->message_id, now_ms(e));
}

// No room for its id: a window may last for days, so the publisher is told and does not wait.
static bool window_full(const struct queue *q, const struct message *m) {
    return q->dedupe && m->message_id && m->message_id[0] && dedupe_full(q->dedupe);
}

static void decide(struct engine *e, const struct message *m, const struct origin *o, struct plan *p) {
    *p = (struct plan){0};
    if (e->cap_verdicts < e->cap_route) {
        e->cap_verdicts = e->cap_route;
        e->verdicts = memory_resize(e->verdicts, e->cap_verdicts);
    }
    for (uint32_t i = 0; i < e->n_route; i++) {
        struct queue *q = e->route[i];
        bool refused = rejects(e, q, counted_length(m)) || window_full(q, m);
        e->verdicts[i] = is_duplicate(e, q, m, o, p) ? DUPLICATE : refused ? REJECT : TAKE;
        p->duplicates += e->verdicts[i] == DUPLICATE;
        p->rejected += e->verdicts[i] == REJECT;
        if (e->verdicts[i] != TAKE) continue;
        p->takes++;
        p->recorded += m->persistent && queue_recorded(q);
        p->near_head |= q->ready < NEAR_HEAD;
    }
}

static uint32_t gather(const struct content *c, const uint8_t *head, struct iovec parts[6]) {
    uint32_t n = 0;
    parts[n++] = (struct iovec){(void *)head, HEAD_BYTES};
    parts[n++] = (struct iovec){(void *)c->exchange, (size_t)c->exchange_length + 1};
    parts[n++] = (struct iovec){(void *)c->routing_key, (size_t)c->key_length + 1};
    parts[n++] = (struct iovec){(void *)c->message_id, (size_t)c->id_length + 1};
    if (c->properties_length) parts[n++] = (struct iovec){(void *)c->properties, c->properties_length};
    if (c->body_length) parts[n++] = (struct iovec){(void *)c->body, c->body_length};
    return n;
}

// The ids of the queues whose entries the record names, four bytes each.
static uint8_t *recorded_ids(struct engine *e, uint32_t n, uint8_t *few, uint32_t few_count) {
    uint8_t *ids = n <= few_count ? few : memory_new((size_t)n * 4);
    uint32_t at = 0;
    for (uint32_t i = 0; i < e->n_route; i++)
        if (e->verdicts[i] == TAKE && queue_recorded(e->route[i])) put_u32(ids + 4 * at++, e->route[i]->id);
    ASSERT(at == n);
    return ids;
}

// One that takes the place of a recorded entry ends it in the same record. Where ids are remembered the end is written
// by itself, after them.
static struct entry *ends_with(struct engine *e, const struct origin *o, const struct content *c) {
    struct entry *x = o->again && o->of != NONE && c->entries > 0 ? entry_at(e, o->of) : NULL;
    return x && x->recorded && !entry_queue(e, x)->dedupe ? x : NULL;
}

static enum err append(struct engine *e, const struct content *c, const struct iovec *content, uint32_t n,
                       const struct origin *o, struct journal_ref *ref, jpos *pos) {
    uint8_t few[16 * 4], old[12];
    uint8_t *ids = c->entries > 0 ? recorded_ids(e, c->entries, few, 16) : few; // a transient one is in none
    struct iovec parts[8];
    struct entry *x = ends_with(e, o, c);
    uint32_t segment = 0;
    memcpy(parts, content, n * sizeof *parts);
    parts[n++] = (struct iovec){ids, (size_t)c->entries * 4};
    if (x) {
        const struct stored *s = stored_at(e, x->stored);
        segment = s->segment;
        put_u32(old, segment);
        put_u32(old + 4, s->offset);
        put_u32(old + 8, entry_queue(e, x)->id);
        parts[n++] = (struct iovec){old, sizeof old};
    }
    enum record_kind kind = x ? RECORD_LETTER : RECORD_PUBLISH;
    unsigned flags = o->again ? JOURNAL_URGENT : 0;
    enum err code = journal_append(e->journal, kind, flags, segment, parts, (int)n, ref, pos);
    if (x && code == ERR_OK) x->recorded = 0; // its end is written
    if (ids != few) free(ids);
    return code;
}

static uint8_t *block_of(const struct iovec *parts, uint32_t n, uint32_t size) {
    uint8_t *block = memory_new(size), *at = block;
    for (uint32_t i = 0; i < n; at += parts[i++].iov_len) memcpy(at, parts[i].iov_base, parts[i].iov_len);
    return block;
}

static struct times times_in(const struct queue *q, const struct content *c) {
    if (q->is_room) // its own time begins when it is routed
        return (struct times){.published_at_ms = c->published_at_ms, .delay_until_ms = room_until(c), .expires_ms = -1};
    return (struct times){
        .published_at_ms = c->published_at_ms, .delay_until_ms = c->delay_until_ms, .expires_ms = c->expires_ms};
}

static void take(struct engine *e, struct queue *q, uint32_t stored, const struct content *c, const struct plan *p,
                 bool recorded) {
    uint32_t h = entry_new(e, stored, q);
    struct entry *x = entry_at(e, h);
    uint8_t max = q->options.max_priority;
    x->priority = c->priority < max ? c->priority : max;
    x->recorded = recorded;
    struct times t = times_in(q, c);
    place_entry(e, h, &t);
    q->published++;
    if (q->present && p->has_value == VALUE_KNOWN) present_add(q->present, &p->value, c->seq);
    if (q->dedupe && c->id_length)
        dedupe_add(e, q, c->message_id, c->id_length, c->seq, now_ms(e) + q->options.dedupe_window_ms);
    queue_wake(e, q);
}

static uint64_t at_most(uint64_t ms) { return ms < (uint64_t)YEARS_MS ? ms : (uint64_t)YEARS_MS; }

static struct content describe(struct engine *e, const struct message *m, uint8_t hops, const struct plan *p) {
    const char *id = m->message_id ? m->message_id : "";
    int64_t now = io_wall_ms(e->io);
    return (struct content){
        .seq = e->next_seq,
        .published_at_ms = now,
        .delay_until_ms = m->delay_ms ? now + (int64_t)at_most(m->delay_ms) : 0,
        .expires_ms = m->has_expiration ? (int64_t)at_most(m->expiration_ms) : -1,
        .properties_length = m->properties_length,
        .body_length = m->body_length,
        .entries = p->recorded,
        .priority = m->priority,
        .hops = hops,
        .exchange_length = (uint8_t)strlen(m->exchange),
        .key_length = (uint8_t)strlen(m->routing_key),
        .id_length = (uint8_t)strlen(id),
        .exchange = m->exchange,
        .routing_key = m->routing_key,
        .message_id = id,
        .properties = m->properties,
        .body = m->body,
        .claimed = m->claimed,
    };
}

// Stores it once and gives every queue that takes it an entry. A transient message for which memory has no room is
// written as one that no queue has: it can be read back, and does not come back after a restart.
static enum err store(struct engine *e, const struct message *m, const struct origin *o, struct plan *p, jpos *pos,
                      struct error *err) {
    struct content c = describe(e, m, o->hops, p);
    uint8_t head[HEAD_BYTES], claimed[CLAIMED_BYTES];
    if (m->claimed) {
        memcpy(claimed, m->body, CLAIM_TICKET);
        put_u64(claimed + CLAIM_TICKET, m->claimed_length);
        c.body = claimed;
        c.body_length = CLAIMED_BYTES;
    }
    struct iovec parts[6];
    content_encode_head(&c, head);
    uint32_t n = gather(&c, head, parts), size = (uint32_t)content_size(&c);
    struct journal_ref ref;
    p->written = p->recorded || !memory_has_room_transient(e, size, o->again);
    if (p->written && !o->again && journal_is_full(e->journal))
        return error_set(err, ERR_FULL, "the disk is full: nothing is taken until there is room again");
    if (p->written) {
        enum err code = append(e, &c, parts, n, o, &ref, pos);
        if (code) return error_set(err, code, "the message was not taken: %s", err_text(code));
    }
    uint32_t stored = stored_new(e, e->next_seq++, p->written ? &ref : NULL);
    struct stored *s = stored_at(e, stored);
    s->transient = p->recorded == 0;
    s->published_at_ms = c.published_at_ms;
    s->body_length = counted_length(m);
    if (m->claimed) s->claim = claim_new(e, m->body);
    if (!p->written || memory_has_room(e, size, p->near_head)) stored_keep(e, s, block_of(parts, n, size), size);
    for (uint32_t i = 0; i < e->n_route; i++)
        if (e->verdicts[i] == TAKE) take(e, e->route[i], stored, &c, p, m->persistent && queue_recorded(e->route[i]));
    for (uint32_t i = 0; i < e->n_route; i++) queue_limit(e, e->route[i]);
    return ERR_OK;
}

// The queues that dead-letter what they refuse. The route will be overwritten, so they are copied out of it.
static struct queue **rejecting_with_dlx(struct engine *e, uint32_t *n) {
    struct queue **queues = NULL;
    *n = 0;
    for (uint32_t i = 0; i < e->n_route; i++) {
        const struct queue_options *o = &e->route[i]->options;
        if (e->verdicts[i] != REJECT || o->overflow != OVERFLOW_REJECT_PUBLISH_DLX || !o->dead_letter_exchange)
            continue;
        if (!queues) queues = memory_new(e->n_route * sizeof *queues);
        queues[(*n)++] = e->route[i];
    }
    return queues;
}

// Queues where it died by itself before are left out.
static uint32_t leave_circles(struct engine *e, const struct message *m) {
    struct view headers = properties_headers(m->properties, m->properties_length);
    uint32_t kept = 0, n = e->n_route;
    for (uint32_t i = 0; i < n; i++)
        if (!death_is_cycle(headers, e->route[i]->name)) e->route[kept++] = e->route[i];
    e->n_route = kept;
    return n - kept;
}

static enum publish_result result_of(const struct engine *e, const struct plan *p) {
    if (p->rejected) return PUBLISH_REJECTED;
    if (p->takes) return PUBLISH_OK;
    return p->duplicates || e->n_repeated ? PUBLISH_DUPLICATE : PUBLISH_UNROUTABLE;
}

// The value of the one that leaves is not in the way of the one that comes.
static enum err decide_and_store(struct engine *e, const struct message *m, const struct origin *o,
                                 const struct publishing *to, struct plan *p, jpos *pos, struct error *err) {
    struct value_key own;
    bool lifted = to->leaving && present_lift(to->leaving->present, to->leaving_seq, &own);
    decide(e, m, o, p);
    enum err code = p->takes > 0 ? store(e, m, o, p, pos, err) : ERR_OK;
    if (lifted) present_put_back(to->leaving->present, to->leaving_seq, &own);
    return code;
}

enum err publish_to(struct engine *e, struct exchange *x, const struct message *m, const struct origin *o,
                    struct publishing *to, struct error *err) {
    struct plan p;
    route(e, x, m);
    to->circles = o->dying ? leave_circles(e, m) : 0;
    jpos pos = 0;
    uint64_t seq = e->next_seq;
    enum err code = decide_and_store(e, m, o, to, &p, &pos, err);
    if (code) return code;
    to->result = result_of(e, &p);
    to->taken = p.takes;
    if (!p.rejected) route_taken(e, m);
    if (p.recorded == 0) pos = 0; // a crash would forget it anyway, so nobody waits for the disk
    // A duplicate is answered when the first one is durable, which may still be on its way.
    if (to->result == PUBLISH_DUPLICATE || (p.duplicates && pos == 0)) pos = journal_appended(e->journal);
    if (to->done || p.recorded)
        done_push(e,
                  &(struct done){
                      .pos = pos, .seq = p.recorded ? seq : 0, .fn = to->done, .arg = to->arg, .result = to->result});
    uint32_t n;
    struct queue **queues = p.rejected ? rejecting_with_dlx(e, &n) : NULL;
    for (uint32_t i = 0; queues && i < n; i++) dead_letter_refused(e, queues[i], m, o->hops);
    free(queues);
    return ERR_OK;
}

enum err engine_publish(struct vhost *v, const struct message *m, publish_done_fn *done, void *arg,
                        enum publish_result *result, struct error *err) {
    struct engine *e = v->engine;
    enum err code = check_message(m, err);
    if (code) return code;
    struct exchange *x = exchange_find(v, m->exchange);
    if (!x) return error_set(err, ERR_NOT_FOUND, "no exchange '%s' in vhost '%s'", m->exchange, v->name);
    if (x->options.internal)
        return error_set(err, ERR_FORBIDDEN, "cannot publish to internal exchange '%s' in vhost '%s'", m->exchange,
                         v->name);
    if (e->n_done >= DONE_MAX) return error_set(err, ERR_BUSY, "%u messages are waiting for the disk", e->n_done);
    struct publishing to = {.done = done, .arg = arg};
    code = publish_to(e, x, m, &(struct origin){0}, &to, err);
    if (result && code == ERR_OK) *result = to.result;
    return code;
}
