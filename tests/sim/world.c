// Random calls against the engine, each with what the model has to say about it.
#include "sim/world.h"

#include "base/io.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARGIN_MS 10

const char *const queue_names[QUEUES] = {"plain", "levels", "retry", "once", "source", "dead", "lossy", "memory"};
static const char *const keys[] = {"a.b", "a.c", "b.b", "c", "a.b.c"};

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

// ---- publishing

static void fill_body(uint32_t number, uint32_t size, char *out) {
    for (uint32_t i = 0; i < size; i++) out[i] = (char)('a' + (number * 7 + i) % 26);
    char text[16];
    int n = snprintf(text, sizeof text, "%06u", number);
    memcpy(out, text, (size_t)n);
}

struct answer {
    struct world *world;
    uint32_t message;
};
static struct answer answers[MESSAGES_MAX];

static void answered(void *arg, enum publish_result result) {
    struct answer *a = arg;
    struct world *w = a->world;
    struct model *m = &w->model;
    struct message_model *msg = &m->messages[a->message];
    while (m->next_answer < m->n && !m->messages[m->next_answer].accepted) m->next_answer++;
    if (m->next_answer != a->message)
        world_fail(w, "message %u was answered before message %u", a->message, m->next_answer);
    m->next_answer++;
    msg->answered = true;
    if (w->sabotage != SABOTAGE_EARLY_CONFIRM && msg->pos > journal_durable(journal(w)))
        world_fail(w, "message %u was confirmed before it was durable", a->message);
    if (result == PUBLISH_DUPLICATE && !msg->duplicate && !msg->ambiguous)
        world_fail(w, "message %u with id %u was called a duplicate and is none", a->message, msg->key);
    if (result == PUBLISH_OK && msg->duplicate)
        world_fail(w, "message %u with id %u is a duplicate and was taken", a->message, msg->key);
    if (result == PUBLISH_OK && msg->ambiguous && msg->in[Q_ONCE].now == HERE) msg->in[Q_ONCE].may = HERE;
    if (result == PUBLISH_DUPLICATE) memset(&msg->in[Q_ONCE], 0, sizeof msg->in[Q_ONCE]);
}

static void taken(struct world *w, uint32_t number, int queue) {
    struct message_model *msg = &w->model.messages[number];
    msg->in[queue] = (struct entry_model){.now = HERE, .may = HERE};
    if (queue == Q_LOSSY) msg->in[queue].may |= GONE;
    if (queue != Q_ONCE) return;
    if (msg->ambiguous) msg->in[queue].may |= GONE;
    struct id_model *id = &w->model.ids[msg->key];
    int64_t until = wall_now(w) + 5000;
    id->maybe_until_ms = until;
    if (!msg->ambiguous) id->surely_until_ms = until;
}

// A duplicate goes straight to the queue that knows ids.
static bool choose_key(struct world *w, struct message_model *msg, uint32_t number) {
    msg->key = number;
    if (number == 0 || pick(w, 10) != 0) return false;
    uint32_t old = (uint32_t)pick(w, number);
    msg->key = w->model.messages[old].key;
    int64_t now = wall_now(w);
    struct id_model *id = &w->model.ids[msg->key];
    msg->duplicate = now < id->surely_until_ms - MARGIN_MS;
    msg->ambiguous = !msg->duplicate && now <= id->maybe_until_ms + MARGIN_MS;
    return true;
}

static void choose_target(struct world *w, struct message *m, bool *goes) {
    memset(goes, 0, QUEUES);
    uint64_t way = pick(w, 4);
    if (way < 2) {
        int queue = (int)pick(w, QUEUES);
        m->exchange = "";
        m->routing_key = queue_names[queue];
        goes[queue] = true;
        return;
    }
    int x = way == 3;
    m->exchange = x ? "fanout" : "topic";
    m->routing_key = keys[pick(w, 5)];
    for (int p = 0; p < PATTERNS; p++)
        for (int q = 0; q < QUEUES; q++)
            if (w->bound[x][p][q] && (x || pattern_matches(p, m->routing_key))) goes[q] = true;
}

void op_publish(struct world *w) {
    static char body[40000];
    struct model *m = &w->model;
    if (m->n == MESSAGES_MAX) return;
    uint32_t number = m->n;
    struct message_model *msg = &m->messages[number];
    bool goes[QUEUES] = {false};
    char id[16];
    struct message out = {0};
    memset(msg, 0, sizeof *msg);
    if (choose_key(w, msg, number)) {
        out.exchange = "";
        out.routing_key = queue_names[Q_ONCE];
        goes[Q_ONCE] = true;
    } else {
        choose_target(w, &out, goes);
    }
    msg->size = pick(w, w->bulk ? 3 : 40) == 0 ? 6 + (uint32_t)pick(w, 30000) : 6 + (uint32_t)pick(w, 900);
    msg->priority = (uint8_t)pick(w, 6);
    msg->persistent = pick(w, 8) != 0;
    fill_body(number, msg->size, body);
    snprintf(id, sizeof id, "%u", msg->key);
    out.body = body;
    out.body_length = msg->size;
    out.message_id = id;
    out.persistent = msg->persistent;
    out.priority = msg->priority;
    if (pick(w, 12) == 0) {
        out.delay_ms = 1 + pick(w, 3000);
        msg->due_ms = wall_now(w) + (int64_t)out.delay_ms;
    }
    answers[number] = (struct answer){.world = w, .message = number};
    m->n++;
    struct error e;
    enum err code = engine_publish(w->vhost, &out, answered, &answers[number], NULL, &e);
    world_say(w, "publish %u to %s%s (%u bytes%s%s): %s", number, out.exchange[0] ? out.exchange : "", out.routing_key,
              msg->size, msg->persistent ? "" : ", transient", msg->due_ms ? ", delayed" : "", err_name(code));
    if (code == ERR_IO) longjmp(w->died, 1);
    if (code != ERR_OK && code != ERR_FULL && code != ERR_BUSY) world_fail(w, "publish: %s", e.text);
    if (code != ERR_OK) return;
    msg->accepted = true;
    for (int q = 0; q < QUEUES; q++) {
        if (!goes[q] || (q == Q_ONCE && msg->duplicate)) continue;
        taken(w, number, q);
        if (msg->persistent && q != Q_MEMORY && w->sabotage != SABOTAGE_EARLY_CONFIRM)
            msg->pos = journal_appended(journal(w));
    }
}

// ---- delivering

static void note_found(struct world *w, struct slot *s, const struct delivery *d, uint32_t number) {
    if (w->n_found[s->queue] >= MESSAGES_MAX)
        world_fail(w, "queue %s has more than was ever sent", queue_names[s->queue]);
    w->found[s->queue][w->n_found[s->queue]++] = number;
    if (w->found_place[s->queue][number] && !w->model.messages[number].in[s->queue].twice)
        world_fail(w, "message %u is in queue %s twice", number, d->queue);
    w->found_place[s->queue][number] = HERE;
    w->found_attempts[s->queue][number] = (uint16_t)(d->attempt - 1);
    if (!d->redelivered) world_fail(w, "message %u came back after a restart and is not marked redelivered", number);
}

static void check_first_delivery(struct world *w, const struct delivery *d, int queue, uint32_t number) {
    const struct message_model *msg = &w->model.messages[number];
    if (d->redelivered || msg->due_ms || queue == Q_DEAD) return;
    int32_t *last = &w->model.last_first[queue][d->priority];
    if ((int32_t)number <= *last)
        world_fail(w, "queue %s: message %u was offered after message %d", d->queue, number, *last);
    *last = (int32_t)number;
}

static void check_delivery(struct world *w, const struct delivery *d, int queue, uint32_t number) {
    const struct message_model *msg = &w->model.messages[number];
    const struct entry_model *x = &msg->in[queue];
    if (x->twice) return;
    if (x->now != HERE)
        world_fail(w, "message %u was offered by queue %s, where it is not (%d)", number, d->queue, x->now);
    if (msg->persistent && msg->pos > journal_durable(journal(w)) && queue != Q_DEAD)
        world_fail(w, "message %u was offered before it was durable", number);
    if (d->redelivered != x->seen)
        world_fail(w, "message %u in queue %s: redelivered is %d", number, d->queue, d->redelivered);
    if (d->attempt != x->attempts + 1u)
        world_fail(w, "message %u in queue %s: attempt %u instead of %u", number, d->queue, d->attempt,
                   x->attempts + 1);
    if (msg->due_ms > wall_now(w) && queue != Q_DEAD)
        world_fail(w, "message %u was offered before its delay was over", number);
    check_first_delivery(w, d, queue, number);
}

static uint32_t check_body(struct world *w, const struct delivery *d) {
    static char expected[40000];
    char text[8] = {0};
    if (d->body_length < 6) world_fail(w, "a body of %u bytes was never sent", d->body_length);
    memcpy(text, d->body, 6);
    uint32_t number = (uint32_t)strtoul(text, NULL, 10);
    if (number >= w->model.n || w->model.messages[number].size != d->body_length)
        world_fail(w, "message %s of %u bytes was never sent", text, d->body_length);
    fill_body(number, d->body_length, expected);
    if (memcmp(expected, d->body, d->body_length) != 0) world_fail(w, "the body of message %u has changed", number);
    return number;
}

static void on_deliver(void *arg, const struct delivery *d) {
    struct slot *s = arg;
    struct world *w = s->world;
    uint32_t number = check_body(w, d);
    if (strcmp(d->queue, queue_names[s->queue]) != 0)
        world_fail(w, "a delivery of queue %s came from %s", queue_names[s->queue], d->queue);
    if (s->census) {
        note_found(w, s, d, number);
        return;
    }
    world_say(w, "  %s offers %u (attempt %u%s)", d->queue, number, d->attempt, d->redelivered ? ", redelivered" : "");
    w->deliveries++;
    check_delivery(w, d, s->queue, number);
    struct entry_model *x = &w->model.messages[number].in[s->queue];
    x->seen = true;
    x->now = HELD;
    if (s->no_ack) {
        model_change(&w->model, number, s->queue, GONE);
        return;
    }
    if (w->n_held == HELD_MAX) world_fail(w, "the simulator's own list is full");
    w->held[w->n_held++] = (struct held_delivery){.slot = s, .tag = d->tag, .message = number};
    w->depth++;
    if (pick(w, 4) == 0) settle_one(w, w->n_held - 1, pick(w, 3) ? SETTLE_ACK : SETTLE_RETRY);
    w->depth--;
}

void consumer_add(struct world *w, int queue, const struct consumer_options *o, bool census) {
    for (int i = 0; i < CONSUMERS; i++) {
        struct slot *s = &w->slots[i];
        if (s->consumer) continue;
        *s = (struct slot){.world = w, .queue = queue, .no_ack = o->no_ack, .census = census};
        struct error e;
        s->session = engine_session_new(w->engine, &(struct session_options){.deliver = on_deliver, .arg = s});
        enum err code = engine_consume(s->session, w->vhost, queue_names[queue], o, NULL, &s->consumer, &e);
        if (code) engine_session_free(s->session);
        if (code == ERR_NOT_FOUND && census && queue == Q_LEVELS) return; // it may have been deleted
        if (code) world_fail(w, "consume: %s", e.text);
        return;
    }
}

static void attempt_failed(struct world *w, uint32_t number, int queue) {
    struct entry_model *x = &w->model.messages[number].in[queue];
    model_attempts(x, (uint16_t)(x->attempts + 1));
    model_change(&w->model, number, queue, queue == Q_RETRY && x->attempts >= 3 ? PARKED : HERE);
}

void consumer_end(struct world *w, struct slot *s) {
    uint32_t kept = 0;
    if (s->census) engine_settle(s->session, 0, true, SETTLE_RETURN, NULL, NULL);
    for (uint32_t i = 0; i < w->n_held; i++) {
        struct held_delivery h = w->held[i];
        struct entry_model *x = &w->model.messages[h.message].in[s->queue];
        if (h.slot != s) w->held[kept++] = h;
        else if (x->now == HELD && s->queue == Q_RETRY) attempt_failed(w, h.message, Q_RETRY);
        else if (x->now == HELD) x->now = HERE;
    }
    w->n_held = kept;
    engine_session_free(s->session);
    s->consumer = NULL;
}

// ---- settling

static void dead_lettered(struct world *w, uint32_t number) {
    struct entry_model *x = &w->model.messages[number].in[Q_DEAD];
    if (x->now != NOWHERE) x->twice = true;
    uint8_t may = x->may;
    *x = (struct entry_model){.twice = x->twice, .settling = x->settling};
    model_change(&w->model, number, Q_DEAD, HERE);
    x->may |= may | GONE;
}

static void settled(struct world *w, uint32_t number, int queue, enum settle how) {
    struct model *m = &w->model;
    struct entry_model *x = &m->messages[number].in[queue];
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
    case SETTLE_REJECT:
        model_change(m, number, queue, queue == Q_SOURCE ? GONE : PARKED);
        if (queue == Q_SOURCE) dead_lettered(w, number);
        break;
    }
}

void settle_one(struct world *w, uint32_t at, enum settle how) {
    struct held_delivery h = w->held[at];
    w->held[at] = w->held[--w->n_held];
    enum settle really = w->sabotage == SABOTAGE_DROP_SETTLE && how == SETTLE_ACK ? SETTLE_RETURN : how;
    struct error e;
    world_say(w, "  settle %u of %s: %d", h.message, queue_names[h.slot->queue], how);
    if (w->model.messages[h.message].in[h.slot->queue].twice && how != SETTLE_ACK) how = really = SETTLE_ACK;
    settled(w, h.message, h.slot->queue, how);
    if (engine_settle(h.slot->session, h.tag, false, really, "simulated", &e)) world_fail(w, "settle: %s", e.text);
}

// Everything of its session up to it; one by one where the model does not know which of two messages is meant.
void settle_many(struct world *w, uint32_t at, enum settle how) {
    struct held_delivery last = w->held[at];
    struct error e;
    uint32_t kept = 0, n = 0;
    for (uint32_t i = 0; i < w->n_held; i++) {
        struct held_delivery h = w->held[i];
        if (h.slot == last.slot && h.tag <= last.tag && w->model.messages[h.message].in[h.slot->queue].twice) {
            settle_one(w, at, how);
            return;
        }
    }
    for (uint32_t i = 0; i < w->n_held; i++) {
        struct held_delivery h = w->held[i];
        if (h.slot != last.slot || h.tag > last.tag) {
            w->held[kept++] = h;
            continue;
        }
        settled(w, h.message, h.slot->queue, how);
        n++;
    }
    w->n_held = kept;
    world_say(w, "  settle %u of %s up to %u: %d", n, queue_names[last.slot->queue], last.message, how);
    enum settle really = w->sabotage == SABOTAGE_DROP_SETTLE && how == SETTLE_ACK ? SETTLE_RETURN : how;
    if (engine_settle(last.slot->session, last.tag, true, really, "simulated", &e)) world_fail(w, "settle: %s", e.text);
}

// ---- commits

// A dead letter without room for it is settled nowhere yet, nor is what waits for room on the disk.
static void note_flushed(struct world *w) {
    struct engine_stats s;
    engine_stats(w->engine, &s);
    if (s.dead_letters == 0 && !s.no_room) model_flushed(&w->model, journal_appended(journal(w)));
}

void world_flush(struct world *w) {
    if (w->depth > 0) return;
    while (engine_dispatch(w->engine)) continue;
    engine_flush(w->engine);
    note_flushed(w);
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
    do {
        world_flush(w);
        batch_begin(w);
        batch_write(w);
        batch_end(w);
    } while (w->batch || journal_appended(journal(w)) > journal_durable(journal(w)));
    note_flushed(w);
    model_durable(&w->model, journal_durable(journal(w)));
}

// ---- bounds, and the end

void check_bounds(struct world *w) {
    struct engine_stats s;
    engine_stats(w->engine, &s);
    if (s.body_bytes > s.memory_budget)
        world_fail(w, "%llu bytes of bodies are in memory, the budget is %llu", (unsigned long long)s.body_bytes,
                   (unsigned long long)s.memory_budget);
}

static void settle_all(struct world *w) {
    while (w->n_held > 0) settle_one(w, 0, SETTLE_ACK);
}

static void consume_all(struct world *w) {
    for (int i = 0; i < CONSUMERS; i++)
        if (w->slots[i].consumer) consumer_end(w, &w->slots[i]);
    for (int q = 0; q < QUEUES; q++) consumer_add(w, q, &(struct consumer_options){0}, false);
    for (int round = 0; round < 40; round++) {
        io_sim_advance(w->sim, 250000000);
        engine_tick(w->engine);
        world_sync(w);
        settle_all(w);
        world_sync(w);
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
    for (int i = 0; i < 200; i++) {
        io_sim_advance(w->sim, 200000000);
        engine_tick(w->engine);
        world_sync(w);
    }
    journal_stats(journal(w), &s);
    uint64_t bound = 6 * w->journal.segment_bytes + 3 * s.live_bytes;
    if (s.bytes_on_disk > bound)
        world_fail(w, "%llu bytes are on the disk for %llu that are needed", (unsigned long long)s.bytes_on_disk,
                   (unsigned long long)s.live_bytes);
}

void world_drain(struct world *w) {
    consume_all(w);
    check_nothing_left(w);
    check_disk(w);
}
