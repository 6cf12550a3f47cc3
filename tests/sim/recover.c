// The end of a life and the beginning of the next: what may be found, and whether it is.
#include "sim/world.h"

#include "journal/format.h"
#include "journal/segment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- census

static bool is_reason(const char *text) {
    static const char *const all[] = {"simulated", "rejected", "its consumer went away"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(text, all[i]) == 0) return true;
    return false;
}

static void note_parked(void *arg, const struct parked *p) {
    struct world *w = arg;
    uint32_t key = (uint32_t)strtoul(p->message_id, NULL, 10);
    int queue = queue_of(p->vhost, p->queue);
    for (uint32_t i = key; i < w->model.n; i++) {
        const struct entry_model *x = &w->model.messages[i].in[queue];
        if (w->model.messages[i].key == key && x->twice) return;
        if (w->model.messages[i].key != key || !(x->may & PARKED) || w->found_place[queue][i]) continue;
        w->found_place[queue][i] = PARKED;
        w->found_attempts[queue][i] = (uint16_t)p->attempts;
        if (!is_reason(p->reason)) world_fail(w, "message %u is parked with the reason \"%s\"", i, p->reason);
        return;
    }
    world_fail(w, "a message with id %u is parked in queue %s and should not be", key, p->queue);
}

// What is due leaves its room before anybody looks.
static void look(struct world *w) {
    memset(w->found_place, 0, sizeof w->found_place);
    memset(w->n_found, 0, sizeof w->n_found);
    world_sync(w);
    w->census_ms = wall_now(w);
    world_sync(w);
    struct holder h;
    holder_open(w, &h, true);
    for (int q = 0; q < QUEUES; q++)
        if (q != Q_MEMORY) consumer_add(w, q, &(struct consumer_options){0}, &h);
    while (engine_dispatch(w->engine)) continue;
    engine_parked_list(w->engine, NULL, note_parked, w);
    holder_end(w, &h);
}

static uint8_t level_of(const struct world *w, int queue, uint32_t number) {
    uint8_t priority = w->model.messages[number].priority;
    return queue == Q_LEVELS ? priority > 3 ? 3 : priority : 0;
}

static void check_order(struct world *w, int queue) {
    if (queue == Q_DEAD || queue == Q_GRAVE || queue == Q_SPIN || queue == Q_LATE) return;
    for (uint32_t i = 1; i < w->n_found[queue]; i++) {
        uint32_t a = w->found[queue][i - 1], b = w->found[queue][i];
        uint8_t high = level_of(w, queue, a), low = level_of(w, queue, b);
        if (high > low || (high == low && a < b)) continue;
        world_fail(w, "after a restart queue %s has message %u before message %u", queue_names[queue], a, b);
    }
}

static void resolve(struct world *w, uint32_t number, int queue) {
    struct message_model *msg = &w->model.messages[number];
    struct entry_model *x = &msg->in[queue];
    uint8_t place = w->found_place[queue][number];
    uint16_t attempts = w->found_attempts[queue][number];
    if (x->twice) return;
    if (place && !(x->may & place))
        world_fail(w, "message %u came back to queue %s (%s): it may only be %s%s%s", number, queue_names[queue],
                   place == HERE ? "ready" : "parked", x->may & HERE ? "ready " : "", x->may & PARKED ? "parked " : "",
                   x->may & GONE ? "gone" : "");
    if (place && (attempts < x->fewest || attempts > x->most))
        world_fail(w, "message %u in queue %s has %u attempts instead of %u to %u", number, queue_names[queue],
                   attempts, x->fewest, x->most);
    bool waits = !place && msg->due_ms > w->census_ms - (msg->late ? MARGIN_MS : 0) && (x->may & HERE);
    if (!place && !waits && !(x->may & GONE))
        world_fail(w, "message %u of queue %s is lost in the crash", number, queue_names[queue]);
    if (place) x->attempts = x->fewest = x->most = attempts;
    x->unsure = waits && (x->may & (GONE | PARKED));
    x->now = place ? place : waits ? HERE : GONE;
    x->may = x->now | (x->unsure || queue_is_lossy(queue) ? GONE : 0);
    x->seen = !(waits && msg->late); // what comes out of a room is new
    if (place) msg->pos = 0;
    if (queue == Q_LOSSY && place) x->let_go = place == PARKED;
    if (queue == Q_GRAVE && place) msg->in[Q_LOSSY].let_go = false;
}

// A letter and the end of what it was are one record.
static void check_letter(struct world *w, uint32_t number) {
    struct entry_model *x = &w->model.messages[number].in[Q_GRAVE];
    if (!w->found_place[Q_GRAVE][number]) return;
    if (w->found_place[Q_LOSSY][number])
        world_fail(w, "message %u is in queue lossy, and dead-lettered as well", number);
    if (x->now == NOWHERE && x->owed) *x = (struct entry_model){.now = HERE, .may = HERE}; // nobody saw it yet
}

static void census(struct world *w) {
    look(w);
    for (int q = 0; q < QUEUES; q++) check_order(w, q);
    for (uint32_t i = 0; i < w->model.n; i++) {
        check_letter(w, i);
        for (int q = 0; q < QUEUES; q++) {
            if (w->model.messages[i].in[q].now != NOWHERE) resolve(w, i, q);
            else if (w->found_place[q][i])
                world_fail(w, "message %u is in queue %s and never went there", i, queue_names[q]);
        }
        w->model.messages[i].pos = 0;
    }
}

// ---- opening

static bool try_open(struct world *w, struct error *e) {
    w->options.journal = &w->journal;
    w->options.claim = world_claim;
    w->options.claim_arg = w;
    memset(w->claims, 0, sizeof w->claims);
    enum err code = engine_open(&w->engine, &w->liar.io, &w->options, e);
    w->vhost = code ? NULL : engine_vhost(w->engine, "/");
    if (code == ERR_OK) return true;
    w->engine = NULL;
    world_say(w, "opening: %s", e->text);
    if (code == ERR_CORRUPT || code == ERR_VERSION)
        world_fail(w, "the journal does not open after a crash: %s", e->text);
    return false;
}

void world_open(struct world *w) {
    struct error e;
    io_sim_fail(w->sim, SIM_ANY, 0, ERR_OK, false);
    io_sim_capacity(w->sim, UINT64_C(1) << 40);
    w->disk_full = false;
    for (int tries = 0; tries < 3 && pick(w, 4) == 0; tries++) { // it may end again while it recovers
        io_sim_die_at(w->sim, SIM_CHANGE, 1 + pick(w, 6));
        world_say(w, "POWER CUT while opening");
        if (try_open(w, &e)) {
            engine_close(w->engine);
            w->engine = NULL;
        }
        io_sim_crash(w->sim);
    }
    io_sim_die_at(w->sim, SIM_CHANGE, 0);
    if (!try_open(w, &e)) world_fail(w, "the journal does not open: %s", e.text);
    if (w->lives++ > 0) {
        topology_read(w);
        census(w);
    }
    w->bindings.unsure = true; // if the next lines do not come to their end
    topology_declare(w);
    world_sync(w);
}

static void forget_life(struct world *w) {
    memset(w->slots, 0, sizeof w->slots);
    memset(w->holders, 0, sizeof w->holders);
    w->n_held = w->n_latest = 0;
    w->batch = NULL;
    w->depth = 0;
}

static void note_crash(struct world *w) { model_crashed(&w->model, journal_durable(engine_journal(w->engine))); }

void world_died(struct world *w) {
    note_crash(w);
    w->bindings.unsure = true;
    io_sim_crash(w->sim);
    forget_life(w);
    w->engine = NULL;
    world_open(w);
}

void world_crash(struct world *w, bool power) {
    world_say(w, "%s", power ? "POWER CUT" : "KILL");
    note_crash(w);
    if (power) io_sim_crash(w->sim);
    else io_sim_kill(w->sim);
    engine_close(w->engine);
    w->engine = NULL;
    forget_life(w);
    world_open(w);
}

static void close_clean(struct world *w) {
    world_sync(w);
    note_crash(w);
    engine_close(w->engine);
    w->engine = NULL;
    forget_life(w);
}

void world_restart_clean(struct world *w) {
    world_say(w, "restart");
    close_clean(w);
    world_open(w);
}

// ---- damage

struct records {
    struct journal_ref refs[4096];
    uint32_t n;
};

static enum err note_record(void *arg, const struct journal_record *r, struct error *e) {
    struct records *all = arg;
    if (all->n < sizeof all->refs / sizeof *all->refs) all->refs[all->n++] = r->ref;
    return ERR_OK;
}

static void note_segment(void *arg, const char *name) {
    uint32_t *last = arg, number = segment_number(name);
    if (number > *last) *last = number;
}

static bool choose_record(struct world *w, struct journal_ref *out) {
    static struct records all;
    struct error e;
    uint32_t last = 0;
    all.n = 0;
    w->liar.io.v->list(&w->liar.io, w->journal.dir, note_segment, &last);
    for (uint32_t s = 1; s <= last; s++) journal_scan(engine_journal(w->engine), s, note_record, &all, &e);
    if (all.n == 0) return false;
    *out = all.refs[pick(w, all.n)];
    return true;
}

void world_flip(struct world *w) {
    struct journal_ref ref;
    char path[SEGMENT_PATH];
    struct error e;
    io_sim_fail(w->sim, SIM_ANY, 0, ERR_OK, false);
    world_sync(w);
    if (!choose_record(w, &ref)) return;
    close_clean(w);
    segment_path(w->journal.dir, ref.segment, path);
    uint64_t at = ref.offset + pick(w, RECORD_BYTES + ref.length);
    unsigned bit = (unsigned)pick(w, 8);
    world_say(w, "bit %u of byte %llu of %s flips", bit, (unsigned long long)at, path);
    if (io_sim_flip(w->sim, path, at, bit)) {
        enum err code = engine_open(&w->engine, &w->liar.io, &w->options, &e);
        if (code != ERR_CORRUPT)
            world_fail(w, "a flipped bit in byte %llu of %s was not noticed: %s", (unsigned long long)at, path,
                       err_name(code));
        io_sim_flip(w->sim, path, at, bit);
        io_sim_kill(w->sim);
    }
    w->engine = NULL;
    world_open(w);
}
