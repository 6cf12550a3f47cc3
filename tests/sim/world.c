// Sessions, deliveries, settling and commits, each with what the model has to say about it.
#include "sim/world.h"

#include "base/io.h"
#include "wire/properties.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void world_fail(struct world *w, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(w->failure, sizeof w->failure, format, args);
    va_end(args);
    longjmp(w->failed, 1);
}

void world_say(struct world *w, const char *format, ...) {
    if (!w->verbose) return;
    va_list args;
    va_start(args, format);
    printf("%6u  ", w->steps_done);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

uint64_t pick(struct world *w, uint64_t below) { return io_sim_random(w->sim, below); }

int64_t wall_now(struct world *w) { return io_wall_ms(io_sim_io(w->sim)); }

static struct journal *journal(struct world *w) { return engine_journal(w->engine); }

static uint32_t number_in(const void *text) {
    char digits[8] = {0};
    memcpy(digits, text, 6);
    return (uint32_t)strtoul(digits, NULL, 10);
}

void world_claim(void *arg, const uint8_t ticket[CLAIM_TICKET], int change) {
    struct world *w = arg;
    uint32_t number = number_in(ticket);
    if (number >= w->model.n) world_fail(w, "a ticket that was never given in: %u", number);
    w->claims[number] += change;
    if (w->claims[number] < 0) world_fail(w, "the ticket of message %u went more often than it came", number);
}

// ---- delivering

static void note_found(struct world *w, int queue, const struct delivery *d, uint32_t number) {
    if (w->n_found[queue] >= MESSAGES_MAX) world_fail(w, "queue %s has more than was ever sent", queue_names[queue]);
    w->found[queue][w->n_found[queue]++] = number;
    if (w->found_place[queue][number] && !w->model.messages[number].in[queue].twice)
        world_fail(w, "message %u is in queue %s twice", number, d->queue);
    w->found_place[queue][number] = HERE;
    w->found_attempts[queue][number] = (uint16_t)(d->attempt - 1);
}

static bool keeps_order(int queue) { return queue != Q_DEAD && queue != Q_GRAVE && queue != Q_SPIN; }

static void check_first_delivery(struct world *w, const struct delivery *d, int queue, uint32_t number) {
    const struct message_model *msg = &w->model.messages[number];
    if (d->redelivered || msg->due_ms || !keeps_order(queue)) return;
    int32_t *last = &w->model.last_first[queue][d->priority];
    if ((int32_t)number <= *last)
        world_fail(w, "queue %s: message %u was offered after message %d", d->queue, number, *last);
    *last = (int32_t)number;
}

static bool word_is(struct view table, const char *name, const char *text) {
    struct field f;
    return table_find(table, name, &f) && view_is(f.bytes, text);
}

// The latest death: of that queue, for one of the reasons.
static void check_death(struct world *w, const struct delivery *d, uint32_t number, const char *queue, bool by_itself) {
    struct field deaths, death;
    struct view headers = properties_headers(d->properties, d->properties_length);
    if (!table_find(headers, "x-death", &deaths)) world_fail(w, "letter %u says nothing of its death", number);
    struct table_cursor c = {deaths.bytes};
    if (!array_next(&c, &death) || !word_is(death.bytes, "queue", queue) ||
        !word_is(headers, "x-last-death-queue", queue))
        world_fail(w, "letter %u of queue %s says it was elsewhere", number, queue);
    bool alone = word_is(death.bytes, "reason", "expired") || word_is(death.bytes, "reason", "maxlen");
    if (!word_is(death.bytes, "reason", "rejected") && !(by_itself && alone))
        world_fail(w, "letter %u of queue %s gives a wrong reason", number, queue);
}

// The first that is seen of a letter of Q_LOSSY, which drops what it likes when it likes.
static void letter_comes(struct world *w, const struct delivery *d, uint32_t number) {
    struct message_model *msg = &w->model.messages[number];
    struct entry_model *from = &msg->in[Q_LOSSY], *x = &msg->in[Q_GRAVE];
    check_death(w, d, number, "lossy", true);
    if (d->redelivered || x->twice) return;
    if (!x->owed || (x->now != NOWHERE && x->now != GONE)) world_fail(w, "message %u is dead-lettered again", number);
    if (from->now == HELD || from->let_go) world_fail(w, "message %u is dead-lettered and was taken as well", number);
    *x = (struct entry_model){.now = HERE, .may = HERE, .settling = x->settling};
    model_change(&w->model, number, Q_LOSSY, GONE);
}

static void check_delivery(struct world *w, const struct delivery *d, int queue, uint32_t number) {
    const struct message_model *msg = &w->model.messages[number];
    const struct entry_model *x = &msg->in[queue];
    if (queue == Q_GRAVE) letter_comes(w, d, number);
    if (x->twice) return;
    bool letter = queue == Q_DEAD || queue == Q_GRAVE;
    if (x->now != HERE)
        world_fail(w, "message %u was offered by queue %s, where it is not (%d)", number, d->queue, x->now);
    if (msg->persistent && msg->pos > journal_durable(journal(w)) && !letter)
        world_fail(w, "message %u was offered before it was durable", number);
    if (d->redelivered != x->seen)
        world_fail(w, "message %u in queue %s: redelivered is %d", number, d->queue, d->redelivered);
    if (d->attempt != x->attempts + 1u || d->counted != (queue == Q_RETRY))
        world_fail(w, "message %u in queue %s: attempt %u instead of %u", number, d->queue, d->attempt,
                   x->attempts + 1);
    if (msg->due_ms > wall_now(w) && !letter) world_fail(w, "message %u was offered before its delay was over", number);
    check_first_delivery(w, d, queue, number);
}

static void check_headers(struct world *w, const struct delivery *d, uint32_t number) {
    struct view headers = properties_headers(d->properties, d->properties_length);
    struct field f;
    int64_t n;
    if (!table_find(headers, "n", &f) || !field_integer(&f, &n) || n != number)
        world_fail(w, "the headers of message %u have changed", number);
    bool has_delay = table_find(headers, "x-delay", &f) && field_integer(&f, &n);
    if (has_delay != w->model.messages[number].late || (has_delay && n >= 0))
        world_fail(w, "message %u: its delay was to be negated", number);
}

static uint32_t check_content(struct world *w, const struct delivery *d) {
    static char expected[40000];
    if (d->body_length < CLAIM_TICKET) world_fail(w, "a body of %u bytes was never sent", d->body_length);
    uint32_t number = number_in(d->body);
    uint64_t size = d->claimed ? d->claimed_length : d->body_length;
    const struct message_model *msg = &w->model.messages[number];
    if (number >= w->model.n || msg->size != size || msg->claimed != d->claimed)
        world_fail(w, "message %u of %llu bytes was never sent", number, (unsigned long long)size);
    fill_body(number, d->body_length, expected);
    if (memcmp(expected, d->body, d->body_length) != 0) world_fail(w, "the body of message %u has changed", number);
    if (d->claimed && w->claims[number] == 0) world_fail(w, "the ticket of message %u is gone", number);
    check_headers(w, d, number);
    return number;
}

static void on_deliver(void *arg, const struct delivery *d) {
    struct holder *h = arg;
    struct world *w = h->world;
    const struct slot *s = d->consumer_arg;
    int queue = s->queue;
    uint32_t number = check_content(w, d);
    if (strcmp(d->queue, queue_names[queue]) != 0)
        world_fail(w, "a delivery of queue %s came from %s", queue_names[queue], d->queue);
    if (h->census) {
        note_found(w, queue, d, number);
        return;
    }
    world_say(w, "  %s offers %u (attempt %u%s)", d->queue, number, d->attempt, d->redelivered ? ", redelivered" : "");
    w->deliveries++;
    check_delivery(w, d, queue, number);
    const struct message_model *msg = &w->model.messages[number];
    if (queue == Q_DEAD && msg->lettered && !msg->in[queue].twice) check_death(w, d, number, "source", false);
    struct entry_model *x = &w->model.messages[number].in[queue];
    x->seen = true;
    x->now = HELD;
    if (s->no_ack) {
        x->let_go = true;
        model_change(&w->model, number, queue, GONE);
        return;
    }
    if (w->n_held == HELD_MAX) world_fail(w, "the simulator's own list is full");
    w->held[w->n_held++] = (struct held_delivery){.holder = h, .queue = queue, .tag = d->tag, .message = number};
    w->depth++;
    if (pick(w, 4) == 0) settle_one(w, w->n_held - 1, pick(w, 3) ? SETTLE_ACK : SETTLE_RETRY);
    w->depth--;
}

// ---- sessions and consumers

static void on_ended(void *arg, void *consumer_arg) { ((struct slot *)consumer_arg)->consumer = NULL; }

void holder_open(struct world *w, struct holder *h, bool census) {
    *h = (struct holder){.world = w, .census = census};
    struct session_options o = {.deliver = on_deliver, .ended = on_ended, .arg = h};
    h->session = engine_session_new(w->engine, &o);
}

void consumer_add(struct world *w, int queue, const struct consumer_options *o, struct holder *h) {
    for (int i = 0; i < CONSUMERS; i++) {
        struct slot *s = &w->slots[i];
        if (s->consumer) continue;
        *s = (struct slot){.holder = h, .queue = queue, .no_ack = o->no_ack};
        struct error e;
        struct vhost *v = engine_vhost(w->engine, queue == Q_OTHER ? "two" : "/");
        enum err code = v ? engine_consume(h->session, v, queue_names[queue], o, s, &s->consumer, &e) : ERR_NOT_FOUND;
        if (code == ERR_NOT_FOUND && h->census) return; // it may have been deleted
        if (code) world_fail(w, "consume: %s", e.text);
        return;
    }
}

static void attempt_failed(struct world *w, uint32_t number, int queue) {
    struct entry_model *x = &w->model.messages[number].in[queue];
    model_attempts(x, (uint16_t)(x->attempts + 1));
    model_change(&w->model, number, queue, queue == Q_RETRY && x->attempts >= 3 ? PARKED : HERE);
}

void holder_end(struct world *w, struct holder *h) {
    uint32_t kept = 0;
    if (h->census) engine_settle(h->session, 0, true, SETTLE_RETURN, NULL, NULL);
    for (uint32_t i = 0; i < w->n_held; i++) {
        struct held_delivery d = w->held[i];
        struct entry_model *x = &w->model.messages[d.message].in[d.queue];
        if (d.holder != h) w->held[kept++] = d;
        else if (x->now == HELD && d.queue == Q_RETRY) attempt_failed(w, d.message, Q_RETRY);
        else if (x->now == HELD) x->now = HERE;
    }
    w->n_held = kept;
    engine_session_free(h->session);
    for (int i = 0; i < CONSUMERS; i++)
        if (w->slots[i].holder == h) w->slots[i].consumer = NULL;
    h->session = NULL;
}

void op_get(struct world *w) {
    struct holder *h = &w->holders[pick(w, SESSIONS)];
    int queue = (int)pick(w, QUEUES);
    if (!h->session) return;
    struct slot *s = &w->getters[queue];
    *s = (struct slot){.holder = h, .queue = queue, .no_ack = pick(w, 4) == 0};
    world_say(w, "get from %s", queue_names[queue]);
    bool got;
    uint64_t left, before = w->deliveries;
    struct error e;
    if (engine_get(h->session, queue_vhost(w, queue), queue_names[queue], s->no_ack, s, &got, &left, &e))
        world_fail(w, "get: %s", e.text);
    if (got != (w->deliveries != before)) world_fail(w, "get did not hand over what it said");
}

// ---- settling

static void dead_lettered(struct world *w, uint32_t number) {
    struct entry_model *x = &w->model.messages[number].in[Q_DEAD];
    w->model.messages[number].lettered = x->now == NOWHERE;
    if (x->now != NOWHERE) x->twice = true;
    uint8_t may = x->may;
    *x = (struct entry_model){.twice = x->twice, .settling = x->settling};
    model_change(&w->model, number, Q_DEAD, HERE);
    x->may |= may | GONE;
}

static void rejected(struct world *w, uint32_t number, int queue) {
    struct entry_model *x = &w->model.messages[number].in[queue];
    bool letter = queue == Q_SOURCE || queue == Q_LOSSY || queue == Q_SPIN;
    if (queue == Q_SPIN) x->twice = true; // it comes back as a letter to itself: nothing more can be said
    if (!letter) model_attempts(x, (uint16_t)(x->attempts + 1));
    model_change(&w->model, number, queue, letter ? GONE : PARKED);
    if (queue == Q_SOURCE) dead_lettered(w, number);
}

static void settled(struct world *w, uint32_t number, int queue, enum settle how) {
    struct model *m = &w->model;
    struct entry_model *x = &m->messages[number].in[queue];
    x->let_go = how == SETTLE_ACK || how == SETTLE_PARK;
    switch (how) {
    case SETTLE_ACK: model_change(m, number, queue, GONE); break;
    case SETTLE_RETURN: x->now = HERE; break;
    case SETTLE_REQUEUE:
        if (queue == Q_RETRY) attempt_failed(w, number, queue);
        else x->now = HERE;
        break;
    case SETTLE_RETRY: attempt_failed(w, number, queue); break;
    case SETTLE_PARK:
        model_attempts(x, (uint16_t)(x->attempts + 1));
        model_change(m, number, queue, PARKED);
        break;
    case SETTLE_REJECT: rejected(w, number, queue); break;
    }
}

static void settle(struct world *w, struct held_delivery h, bool many, enum settle how) {
    enum settle really = w->sabotage == SABOTAGE_DROP_SETTLE && how == SETTLE_ACK ? SETTLE_RETURN : how;
    struct error e;
    world_say(w, "  settle %s%u of %s: %d", many ? "up to " : "", h.message, queue_names[h.queue], how);
    if (engine_settle(h.holder->session, h.tag, many, really, "simulated", &e)) world_fail(w, "settle: %s", e.text);
}

void settle_one(struct world *w, uint32_t at, enum settle how) {
    struct held_delivery h = w->held[at];
    w->held[at] = w->held[--w->n_held];
    if (w->model.messages[h.message].in[h.queue].twice) how = SETTLE_ACK;
    settled(w, h.message, h.queue, how);
    settle(w, h, false, how);
}

void settle_many(struct world *w, uint32_t at, enum settle how) {
    struct held_delivery last = w->held[at];
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->n_held; i++) {
        struct held_delivery h = w->held[i];
        bool with = h.holder == last.holder && h.tag <= last.tag;
        if (with && w->model.messages[h.message].in[h.queue].twice) how = SETTLE_ACK;
    }
    for (uint32_t i = 0; i < w->n_held; i++) {
        struct held_delivery h = w->held[i];
        if (h.holder == last.holder && h.tag <= last.tag) settled(w, h.message, h.queue, how);
        else w->held[kept++] = h;
    }
    w->n_held = kept;
    settle(w, last, true, how);
}

// ---- commits

// A dead letter without room for it is settled nowhere yet, nor is what waits for room on the disk.
static bool all_is_written(struct world *w) {
    struct engine_stats s;
    engine_stats(w->engine, &s);
    return s.dead_letters == 0 && !s.no_room;
}

void world_flush(struct world *w) {
    if (w->depth > 0) return;
    while (engine_dispatch(w->engine)) continue;
    engine_flush(w->engine);
    if (all_is_written(w)) model_flushed(&w->model, journal_appended(journal(w)));
}

void batch_begin(struct world *w) {
    if (w->batch) return;
    w->batch = journal_batch_begin(journal(w));
    w->batch_written = false;
}

void batch_write(struct world *w) {
    struct error e;
    if (w->batch && !w->batch_written)
        world_say(w, "write (durable %llu)", (unsigned long long)journal_durable(journal(w)));
    if (!w->batch || w->batch_written) return;
    if (journal_batch_write(w->batch, &e)) {
        world_say(w, "the batch could not be written: %s", e.text);
        longjmp(w->died, 1);
    }
    w->batch_written = true;
}

void batch_end(struct world *w) {
    if (!w->batch || !w->batch_written) return;
    journal_batch_end(journal(w), w->batch);
    w->batch = NULL;
    model_durable(&w->model, journal_durable(journal(w)));
    engine_durable(w->engine);
}

void world_sync(struct world *w) {
    engine_tick(w->engine);
    do {
        world_flush(w);
        batch_begin(w);
        batch_write(w);
        batch_end(w);
    } while (w->batch || journal_appended(journal(w)) > journal_durable(journal(w)));
    if (!all_is_written(w)) return;
    model_flushed(&w->model, journal_appended(journal(w)));
    model_durable(&w->model, journal_durable(journal(w)));
    w->bindings.unsure = false;
}

// ---- bounds, and the end

void check_bounds(struct world *w) {
    struct engine_stats s;
    engine_stats(w->engine, &s);
    if (s.body_bytes > s.memory_budget)
        world_fail(w, "%llu bytes of bodies are in memory, the budget is %llu", (unsigned long long)s.body_bytes,
                   (unsigned long long)s.memory_budget);
}

static void consume_all(struct world *w) {
    for (int i = 0; i < SESSIONS; i++)
        if (w->holders[i].session) holder_end(w, &w->holders[i]);
    for (int i = 0; i < SESSIONS; i++) holder_open(w, &w->holders[i], false);
    for (int q = 0; q < QUEUES; q++) consumer_add(w, q, &(struct consumer_options){0}, &w->holders[pick(w, SESSIONS)]);
    for (int round = 0; round < 40; round++) {
        io_sim_advance(w->sim, 250000000);
        engine_tick(w->engine);
        world_sync(w);
        while (w->n_held > 0) settle_one(w, 0, SETTLE_ACK);
        world_sync(w);
    }
}

// Of what went to Q_LOSSY, all that no consumer was the end of must have been seen as a letter.
static void check_letters(struct world *w) {
    for (uint32_t i = 0; i < w->model.n; i++) {
        const struct message_model *msg = &w->model.messages[i];
        const struct entry_model *x = &msg->in[Q_LOSSY];
        if (x->now == NOWHERE || x->let_go || msg->doubtful || msg->in[Q_GRAVE].now != NOWHERE) continue;
        world_fail(w, "message %u left queue lossy, and no letter of it came", i);
    }
}

static void check_nothing_left(struct world *w) {
    for (uint32_t i = 0; i < w->model.n; i++) {
        for (int q = 0; q < QUEUES; q++) {
            const struct entry_model *x = &w->model.messages[i].in[q];
            if (x->now != HERE || x->unsure || x->twice || (x->may & GONE)) continue;
            world_fail(w, "message %u is not in queue %s any more: lost", i, queue_names[q]);
        }
    }
}

static void check_disk(struct world *w) {
    struct journal_stats s;
    struct error e;
    for (int i = 0; i < 200; i++) {
        io_sim_advance(w->sim, 200000000);
        world_sync(w);
        struct journal_chore *c = journal_chore_begin(journal(w)); // the commit thread does it beside the batches
        if (c && journal_chore_run(c, &e)) world_fail(w, "%s", e.text);
        if (c) journal_chore_end(journal(w), c);
    }
    journal_stats(journal(w), &s);
    uint64_t bound = 6 * w->journal.segment_bytes + 3 * s.live_bytes;
    if (s.bytes_on_disk > bound)
        world_fail(w, "%llu bytes are on the disk for %llu that are needed", (unsigned long long)s.bytes_on_disk,
                   (unsigned long long)s.live_bytes);
}

static bool is_parked(const struct message_model *msg) {
    for (int q = 0; q < QUEUES; q++)
        if (msg->in[q].now == PARKED || msg->in[q].twice) return true;
    return false;
}

static void check_claims(struct world *w) {
    for (uint32_t i = 0; i < w->model.n; i++)
        if (w->claims[i] > 0 && !is_parked(&w->model.messages[i]))
            world_fail(w, "the ticket of message %u is kept, and nobody has the message", i);
}

void world_drain(struct world *w) {
    consume_all(w);
    check_nothing_left(w);
    check_letters(w);
    check_disk(w);
    check_claims(w);
}
