// The end of a life and the beginning of the next: what may be found, and whether it is.
#include "sim/world.h"

#include "journal/format.h"
#include "journal/segment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const patterns[PATTERNS] = {"#", "a.*", "*.b", "a.#", "c"};
static const char *const exchange_names[EXCHANGES] = {"topic", "fanout"};

bool pattern_matches(int pattern, const char *key) {
    bool starts_a = strncmp(key, "a.", 2) == 0, two_words = strchr(key, '.') && strchr(key, '.') == strrchr(key, '.');
    switch (pattern) {
    case 0: return true;
    case 1: return starts_a && two_words;
    case 2: return two_words && strcmp(strchr(key, '.'), ".b") == 0;
    case 3: return starts_a;
    default: return strcmp(key, "c") == 0;
    }
}

// ---- topology

static struct queue_options options_of(int queue) {
    struct queue_options o = {.durable = queue != Q_MEMORY, .park = true};
    if (queue == Q_LEVELS) o.max_priority = 3;
    if (queue == Q_RETRY) {
        o.delivery_limit = 3;
        o.retry_delay_ms = 200;
        o.retry_max_delay_ms = 1000;
    }
    if (queue == Q_ONCE) o.dedupe_window_ms = 5000;
    if (queue == Q_SOURCE) o.dead_letter_exchange = "dlx";
    if (queue == Q_LOSSY) {
        o.has_max_length = true;
        o.max_length = 10;
        o.has_message_ttl = true;
        o.message_ttl_ms = 2000;
    }
    return o;
}

static void must(struct world *w, enum err code, const struct error *e) {
    if (code == ERR_IO || code == ERR_FULL || code == ERR_BUSY) longjmp(w->died, 1);
    if (code) world_fail(w, "topology: %s", e->text);
}

static void declare_exchange(struct world *w, const char *name, enum exchange_type type) {
    struct error e;
    struct exchange_options o = {.type = type, .durable = true};
    must(w, engine_exchange_declare(w->vhost, name, &o, &e), &e);
}

void world_declare_all(struct world *w) {
    struct error e;
    declare_exchange(w, "topic", EXCHANGE_TOPIC);
    declare_exchange(w, "fanout", EXCHANGE_FANOUT);
    declare_exchange(w, "dlx", EXCHANGE_FANOUT);
    for (int q = 0; q < QUEUES; q++) {
        struct queue_options o = options_of(q);
        must(w, engine_queue_declare(w->vhost, queue_names[q], &o, &e), &e);
    }
    struct binding_spec dead = {.source = "dlx", .destination = "dead", .key = ""};
    must(w, engine_bind(w->vhost, &dead, &e), &e);
}

struct read_bindings {
    struct world *world;
    int queue;
    bool found[EXCHANGES][PATTERNS];
};

static void read_binding(void *arg, const struct binding_spec *b) {
    struct read_bindings *r = arg;
    for (int x = 0; x < EXCHANGES; x++)
        for (int p = 0; p < PATTERNS; p++)
            if (strcmp(b->source, exchange_names[x]) == 0 && strcmp(b->key, patterns[p]) == 0) r->found[x][p] = true;
}

// Bindings are synced as soon as they are made, so they are known, unless the process died meanwhile.
static void check_bindings(struct world *w) {
    for (int q = 0; q < QUEUES; q++) {
        struct read_bindings r = {.world = w, .queue = q};
        engine_each_binding(w->vhost, queue_names[q], read_binding, &r);
        for (int x = 0; x < EXCHANGES; x++) {
            for (int p = 0; p < PATTERNS; p++) {
                if (q != Q_MEMORY && !w->bindings_unsure && r.found[x][p] != w->bound[x][p][q])
                    world_fail(w, "binding %s of %s to %s is %s", patterns[p], queue_names[q], exchange_names[x],
                               r.found[x][p] ? "there again" : "lost");
                w->bound[x][p][q] = r.found[x][p];
            }
        }
    }
    w->bindings_unsure = false;
}

// ---- census

static void note_parked(void *arg, const struct parked *p) {
    struct world *w = arg;
    uint32_t key = (uint32_t)strtoul(p->message_id, NULL, 10);
    int queue = 0;
    while (strcmp(queue_names[queue], p->queue) != 0) queue++;
    for (uint32_t i = key; i < w->model.n; i++) {
        const struct entry_model *x = &w->model.messages[i].in[queue];
        if (w->model.messages[i].key == key && x->twice) return;
        if (w->model.messages[i].key != key || !(x->may & PARKED) || w->found_place[queue][i]) continue;
        w->found_place[queue][i] = PARKED;
        w->found_attempts[queue][i] = (uint16_t)p->attempts;
        bool known = strcmp(p->reason, "simulated") == 0 || strcmp(p->reason, "its consumer went away") == 0 ||
                     strcmp(p->reason, "rejected") == 0;
        if (!known) world_fail(w, "message %u is parked with the reason \"%s\"", i, p->reason);
        return;
    }
    world_fail(w, "a message with id %u is parked in queue %s and should not be", key, p->queue);
}

static void look(struct world *w) {
    memset(w->found_place, 0, sizeof w->found_place);
    memset(w->n_found, 0, sizeof w->n_found);
    for (int q = 0; q < QUEUES; q++)
        if (q != Q_MEMORY) consumer_add(w, q, &(struct consumer_options){0}, true);
    while (engine_dispatch(w->engine)) continue;
    engine_parked_list(w->engine, NULL, note_parked, w);
    for (int i = 0; i < CONSUMERS; i++)
        if (w->slots[i].consumer) consumer_end(w, &w->slots[i]);
}

static uint8_t level_of(const struct world *w, int queue, uint32_t number) {
    uint8_t priority = w->model.messages[number].priority;
    return queue == Q_LEVELS ? priority > 3 ? 3 : priority : 0;
}

static void check_order(struct world *w, int queue) {
    for (uint32_t i = 1; i < w->n_found[queue] && queue != Q_DEAD; i++) {
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
    bool waits = !place && msg->due_ms > wall_now(w) && (x->may & HERE);
    if (!place && !waits && !(x->may & GONE))
        world_fail(w, "message %u of queue %s is lost in the crash", number, queue_names[queue]);
    if (place) x->attempts = x->fewest = x->most = attempts;
    x->unsure = waits && (x->may & (GONE | PARKED));
    x->now = place ? place : waits ? HERE : GONE;
    x->may = x->now | (x->unsure || queue == Q_LOSSY ? GONE : 0);
    x->seen = true;
    if (place) msg->pos = 0;
}

static void census(struct world *w) {
    look(w);
    for (int q = 0; q < QUEUES; q++) check_order(w, q);
    for (uint32_t i = 0; i < w->model.n; i++) {
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
        census(w);
        check_bindings(w);
    }
    w->bindings_unsure = true; // if the next lines do not come to their end
    world_declare_all(w);
    world_sync(w);
    w->bindings_unsure = false;
}

static void forget_life(struct world *w) {
    memset(w->slots, 0, sizeof w->slots);
    w->n_held = 0;
    w->batch = NULL;
    w->depth = 0;
}

void world_crash(struct world *w, bool power) {
    world_say(w, "%s", power ? "POWER CUT" : "KILL");
    model_crashed(&w->model, journal_durable(engine_journal(w->engine)));
    if (power) io_sim_crash(w->sim);
    else io_sim_kill(w->sim);
    engine_close(w->engine);
    w->engine = NULL;
    forget_life(w);
    world_open(w);
}

static void close_clean(struct world *w) {
    world_sync(w);
    model_crashed(&w->model, journal_durable(engine_journal(w->engine)));
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
