// The seeded simulator: the real journal and engine on a machine that tears, forgets, fills up and fails, driven
// by random calls, crashed and restarted, and held against a model (model.h) at every step.
//
//   sim --seeds N [--seed S] [--steps M] [--sabotage WHAT] [--expect-failure] [--verbose]
//
// A seed decides everything, so a failure replays exactly. --sabotage breaks something on purpose: the simulator
// must then fail, which is how its own eyes are tested.
#include "sim/world.h"

#include "base/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS 1200

struct arguments {
    uint64_t seeds, seed, steps;
    bool one, verbose, expect_failure;
    enum sabotage sabotage;
    const char *sabotage_name;
};

static struct world *current; // for die() and assertions, which have no argument of ours

// ---- the ends of a process

void assert_failed(const char *file, int line, const char *expression) {
    if (!current) abort();
    world_fail(current, "assertion failed: %s (%s:%d)", expression, file, line);
}

// The process ends with a message for the operator; a new one is started.
void die(const char *format, ...) {
    va_list args;
    char text[256];
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!current) abort();
    world_say(current, "the process ends: %s", text);
    if (!current->engine) world_fail(current, "the process ended while opening: %s", text);
    longjmp(current->died, 1);
}

// ---- sabotage

static enum err no_sync(struct io *io, int fd) { return ERR_OK; }
static enum err no_dir_sync(struct io *io, const char *path) { return ERR_OK; }

#define REAL(io) (((struct liar *)(io))->real)
static uint64_t pass_monotonic(struct io *io) { return io_monotonic_ns(REAL(io)); }
static int64_t pass_wall(struct io *io) { return io_wall_ms(REAL(io)); }
static void pass_random(struct io *io, void *out, size_t n) { REAL(io)->v->random(REAL(io), out, n); }
static enum err pass_open(struct io *io, const char *path, int flags, int *fd) {
    return REAL(io)->v->open(REAL(io), path, flags, fd);
}
static enum err pass_close(struct io *io, int fd) { return REAL(io)->v->close(REAL(io), fd); }
static enum err pass_pread(struct io *io, int fd, void *out, size_t n, uint64_t offset, size_t *got) {
    return REAL(io)->v->pread(REAL(io), fd, out, n, offset, got);
}
static enum err pass_pwrite(struct io *io, int fd, const void *data, size_t n, uint64_t offset) {
    enum err code = REAL(io)->v->pwrite(REAL(io), fd, data, n, offset);
    world_say(current, "    pwrite %d: %zu bytes at %llu: %s", fd, n, (unsigned long long)offset, err_name(code));
    return code;
}
static enum err pass_datasync(struct io *io, int fd) {
    enum err code = REAL(io)->v->datasync(REAL(io), fd);
    world_say(current, "    datasync %d: %s", fd, err_name(code));
    return code;
}
static enum err pass_allocate(struct io *io, int fd, uint64_t bytes) {
    return REAL(io)->v->allocate(REAL(io), fd, bytes);
}
static enum err pass_truncate(struct io *io, int fd, uint64_t bytes) {
    return REAL(io)->v->truncate(REAL(io), fd, bytes);
}
static enum err pass_size(struct io *io, int fd, uint64_t *bytes) { return REAL(io)->v->size(REAL(io), fd, bytes); }
static enum err pass_lock(struct io *io, int fd) { return REAL(io)->v->lock(REAL(io), fd); }
static enum err pass_remove(struct io *io, const char *path) { return REAL(io)->v->remove(REAL(io), path); }
static enum err pass_rename(struct io *io, const char *from, const char *to) {
    return REAL(io)->v->rename(REAL(io), from, to);
}
static enum err pass_make_dir(struct io *io, const char *path) { return REAL(io)->v->make_dir(REAL(io), path); }
static enum err pass_sync_dir(struct io *io, const char *path) { return REAL(io)->v->sync_dir(REAL(io), path); }
static enum err pass_list(struct io *io, const char *path, void (*each)(void *, const char *), void *arg) {
    return REAL(io)->v->list(REAL(io), path, each, arg);
}
static enum err pass_space(struct io *io, struct io_space *out) { return REAL(io)->v->space(REAL(io), out); }

static void liar_init(struct liar *l, struct io *real, enum sabotage sabotage) {
    l->real = real;
    l->vtable = (struct io_vtable){.monotonic_ns = pass_monotonic,
                                   .wall_ms = pass_wall,
                                   .random = pass_random,
                                   .open = pass_open,
                                   .close = pass_close,
                                   .pread = pass_pread,
                                   .pwrite = pass_pwrite,
                                   .datasync = pass_datasync,
                                   .allocate = pass_allocate,
                                   .truncate = pass_truncate,
                                   .size = pass_size,
                                   .lock = pass_lock,
                                   .remove = pass_remove,
                                   .rename = pass_rename,
                                   .make_dir = pass_make_dir,
                                   .sync_dir = pass_sync_dir,
                                   .list = pass_list,
                                   .space = pass_space};
    if (sabotage == SABOTAGE_NO_SYNC) l->vtable.datasync = no_sync;
    if (sabotage == SABOTAGE_NO_DIR_SYNC) l->vtable.sync_dir = no_dir_sync;
    l->io.v = &l->vtable;
}

// ---- the calls

static void op_settle(struct world *w) {
    if (w->n_held == 0) return;
    uint64_t dice = pick(w, 22);
    enum settle how = dice < 12   ? SETTLE_ACK
                      : dice < 15 ? SETTLE_RETRY
                      : dice < 17 ? SETTLE_REQUEUE
                      : dice < 18 ? SETTLE_PARK
                      : dice < 20 ? SETTLE_RETURN
                                  : SETTLE_REJECT;
    uint32_t which = (uint32_t)pick(w, w->n_held);
    if (pick(w, 6) == 0) settle_many(w, which, how);
    else settle_one(w, which, how);
}

static void op_consume(struct world *w) {
    struct consumer_options o = {
        .prefetch = (uint32_t)pick(w, 6), .priority = (int32_t)pick(w, 3), .no_ack = pick(w, 8) == 0};
    int queue = (int)pick(w, QUEUES);
    struct holder *h = &w->holders[pick(w, SESSIONS)];
    if (!h->session) holder_open(w, h, false);
    world_say(w, "consume %s, prefetch %u%s", queue_names[queue], o.prefetch, o.no_ack ? ", no ack" : "");
    consumer_add(w, queue, &o, h);
}

// What it holds stays with its session.
static void op_cancel(struct world *w) {
    struct slot *s = &w->slots[pick(w, CONSUMERS)];
    if (!s->consumer) return;
    world_say(w, "cancel a consumer of %s", queue_names[s->queue]);
    engine_cancel(s->consumer);
    s->consumer = NULL;
}

static void op_session(struct world *w) {
    struct holder *h = &w->holders[pick(w, SESSIONS)];
    if (!h->session) return;
    uint64_t dice = pick(w, 4);
    world_say(w, "session %d: %llu", (int)(h - w->holders), (unsigned long long)dice);
    if (dice == 0) holder_end(w, h);
    else if (dice == 1) engine_session_prefetch(h->session, (uint32_t)pick(w, 10));
    else engine_session_pause(h->session, dice == 2);
}

static void op_tick(struct world *w) {
    uint64_t ms = pick(w, 20) == 0 ? pick(w, 6000) : pick(w, 200);
    io_sim_advance(w->sim, ms * 1000000 + pick(w, 1000000));
    world_say(w, "%llu ms later", (unsigned long long)ms);
    engine_tick(w->engine);
}

static void op_purge(struct world *w) {
    struct error e;
    if (engine_queue_purge(w->vhost, queue_names[Q_LEVELS], NULL, &e)) world_fail(w, "purge: %s", e.text);
    world_say(w, "purge levels");
    int64_t now = wall_now(w);
    for (uint32_t i = 0; i < w->model.n; i++) {
        struct message_model *msg = &w->model.messages[i];
        if (msg->in[Q_LEVELS].now != HERE) continue;
        if (msg->due_ms == 0) model_change(&w->model, i, Q_LEVELS, GONE);
        else if (msg->due_ms <= now) // it may have become ready, or not yet
            msg->in[Q_LEVELS].may |= GONE, msg->in[Q_LEVELS].unsure = true;
    }
}

void end_a_life(struct world *w) {
    if (w->calm && pick(w, 12) != 0) return;
    uint64_t dice = pick(w, 14);
    if (dice < 6) world_crash(w, true);
    else if (dice < 10) world_crash(w, false);
    else if (dice < 13) world_restart_clean(w);
    else world_flip(w);
}

struct parked_pick {
    struct world *world;
    uint64_t id;
    uint32_t left, key;
    int queue;
};

static void pick_parked(void *arg, const struct parked *p) {
    struct parked_pick *k = arg;
    if (k->left-- != 0) return;
    k->id = p->id;
    k->key = (uint32_t)strtoul(p->message_id, NULL, 10);
    k->queue = queue_of(p->vhost, p->queue);
}

// Not where ids may be used twice: the parked list would not say which of the messages it was.
static void op_parked(struct world *w) {
    struct parked_pick k = {.world = w, .left = (uint32_t)pick(w, 5)};
    engine_parked_list(w->engine, NULL, pick_parked, &k);
    if (k.id == 0 || k.queue == Q_ONCE) return;
    struct entry_model *x = &w->model.messages[k.key].in[k.queue];
    if (x->twice) return;
    if (x->now != PARKED) world_fail(w, "message %u is parked in %s and should not be", k.key, queue_names[k.queue]);
    bool retry = pick(w, 2);
    world_say(w, "parked %u of %s: %s", k.key, queue_names[k.queue], retry ? "send on" : "drop");
    if ((retry ? engine_parked_retry(w->engine, k.id) : engine_parked_drop(w->engine, k.id)) != ERR_OK)
        world_fail(w, "a parked message is not found by its id");
    x->let_go = !retry;
    if (retry) model_attempts(x, 0);
    model_change(&w->model, k.key, k.queue, retry ? HERE : GONE);
}

static void op_fault(struct world *w) {
    static const enum sim_op ops[] = {SIM_PWRITE, SIM_DATASYNC, SIM_ALLOCATE, SIM_SYNC_DIR, SIM_CHANGE};
    enum sim_op op = ops[pick(w, 5)];
    world_say(w, "a disk operation will fail");
    io_sim_fail(w->sim, op, 1 + pick(w, 4), pick(w, 3) ? ERR_IO : ERR_FULL, pick(w, 2));
}

static void op_disk(struct world *w) {
    struct io_sim_stats s;
    io_sim_stats(w->sim, &s);
    w->disk_full = !w->disk_full;
    uint64_t room = pick(w, 6) * w->journal.segment_bytes;
    io_sim_capacity(w->sim, w->disk_full ? s.used_bytes + room : UINT64_C(1) << 40);
    world_say(w, "the disk has %s", w->disk_full ? "little room" : "room again");
}

static void step(struct world *w) {
    uint64_t dice = pick(w, 1000);
    if (dice < 330) op_publish(w);
    else if (dice < 530) op_settle(w);
    else if (dice < 568) op_consume(w);
    else if (dice < 578) op_cancel(w);
    else if (dice < 584) op_session(w);
    else if (dice < 590) op_get(w);
    else if (dice < 690) op_tick(w);
    else if (dice < 770) batch_begin(w);
    else if (dice < 850) batch_write(w);
    else if (dice < 910) batch_end(w);
    else if (dice < 940) world_flush(w);
    else if (dice < 955) world_sync(w);
    else if (dice < 965) op_bind(w);
    else if (dice < 967) op_purge(w);
    else if (dice < 968) op_recreate_queue(w);
    else if (dice < 969) pick(w, 2) ? op_recreate_vhost(w) : op_recreate_delayed(w);
    else if (dice < 975) op_parked(w);
    else if (dice < 978) w->calm ? (void)0 : op_fault(w);
    else if (dice < 982) op_disk(w);
    else if (dice < 985) io_sim_slow(w->sim, SIM_DATASYNC, pick(w, 2) * pick(w, 300) * 1000000);
    else if (dice < 999) end_a_life(w);
    check_bounds(w);
}

// ---- a seed

static void *abandoned[1 << 16]; // engines whose process died: never closed, and not leaks either
static uint32_t n_abandoned;

static void after_death(struct world *w) {
    if (++w->deaths > 1000) world_fail(w, "the process dies again and again");
    if (n_abandoned < sizeof abandoned / sizeof *abandoned) abandoned[n_abandoned++] = w->engine;
    world_died(w);
}

static void live(struct world *w, volatile uint64_t *left) {
    while (setjmp(w->died) != 0) after_death(w);
    if (!w->engine) world_open(w);
    for (; *left > 0; (*left)--) {
        w->steps_done++;
        step(w);
    }
    io_sim_fail(w->sim, SIM_ANY, 0, ERR_OK, false);
    io_sim_capacity(w->sim, UINT64_C(1) << 40);
    io_sim_slow(w->sim, SIM_DATASYNC, 0);
    world_drain(w);
    world_restart_clean(w); // and nothing has come back
    world_drain(w);
}

static bool run_seed(const struct arguments *a, uint64_t seed) {
    struct world *w = calloc(1, sizeof *w);
    if (!w) abort();
    volatile uint64_t left = a->steps;
    volatile bool good = true;
    current = w;
    w->seed = seed;
    w->verbose = a->verbose;
    w->sabotage = a->sabotage;
    w->sim = io_sim_new(seed);
    liar_init(&w->liar, io_sim_io(w->sim), a->sabotage);
    w->journal = (struct journal_options){
        .dir = "journal", .segment_bytes = 64 << 10, .low_water_bytes = 256 << 10, .batch_max_bytes = 256 << 10};
    w->options = (struct engine_options){.memory_budget = 48 << 10};
    model_init(&w->model);
    w->calm = pick(w, 2); // long lives, in which much goes through
    w->bulk = w->calm && pick(w, 2);
    w->fleeting = pick(w, 3) == 0;
    if (setjmp(w->failed) == 0) live(w, &left);
    else good = false;
    if (good) engine_close(w->engine);
    current = NULL;
    if (!good) {
        printf("seed %llu failed: %s; replay with: tests/sim/sim --seed %llu --steps %llu%s%s\n",
               (unsigned long long)seed, w->failure, (unsigned long long)seed, (unsigned long long)a->steps,
               a->sabotage ? " --sabotage " : "", a->sabotage ? a->sabotage_name : "");
        if (n_abandoned < sizeof abandoned / sizeof *abandoned) abandoned[n_abandoned++] = w;
        return false; // its engine is in no state to be closed
    }
    io_sim_free(w->sim);
    free(w);
    return true;
}

// ---- the command line

static uint64_t number(const char *text) {
    char *end;
    unsigned long long n = text ? strtoull(text, &end, 10) : 0;
    if (!text || *end || end == text) {
        fprintf(stderr, "sim: a number is missing or wrong\n");
        exit(2);
    }
    return n;
}

static enum sabotage sabotage_of(const char *name) {
    static const char *const names[] = {"none", "no-sync", "no-dir-sync", "drop-settle", "early-confirm"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (name && strcmp(name, names[i]) == 0) return (enum sabotage)i;
    fprintf(stderr, "sim: --sabotage no-sync | no-dir-sync | drop-settle | early-confirm\n");
    exit(2);
}

static struct arguments parse(int argc, char **argv) {
    struct arguments a = {.seeds = 100, .steps = STEPS};
    for (int i = 1; i < argc; i++) {
        const char *next = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--seeds") == 0) a.seeds = number(next), i++;
        else if (strcmp(argv[i], "--seed") == 0) a.seed = number(next), a.one = true, i++;
        else if (strcmp(argv[i], "--steps") == 0) a.steps = number(next), i++;
        else if (strcmp(argv[i], "--sabotage") == 0) a.sabotage = sabotage_of(next), a.sabotage_name = next, i++;
        else if (strcmp(argv[i], "--expect-failure") == 0) a.expect_failure = true;
        else if (strcmp(argv[i], "--verbose") == 0) a.verbose = true;
        else {
            fprintf(stderr,
                    "usage: sim [--seeds N] [--seed S] [--steps M] [--sabotage WHAT] [--expect-failure] [--verbose]\n");
            exit(2);
        }
    }
    return a;
}

int main(int argc, char **argv) {
    struct arguments a = parse(argc, argv);
    uint64_t first = a.one ? a.seed : 1, count = a.one ? 1 : a.seeds, failed = 0;
    for (uint64_t seed = first; seed < first + count; seed++) {
        failed += !run_seed(&a, seed);
        if (a.expect_failure && failed) break;
    }
    if (a.expect_failure) {
        printf(failed ? "the sabotage was noticed\n" : "the sabotage was NOT noticed\n");
        return failed ? 0 : 1;
    }
    printf("%llu passed, %llu failed, 0 skipped\n", (unsigned long long)(count - failed), (unsigned long long)failed);
    return failed ? 1 : 0;
}
