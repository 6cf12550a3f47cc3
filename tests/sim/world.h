// One simulated life: the real engine and journal on a simulated machine, consumers, and the model.
#ifndef BARID_SIM_WORLD_H
#define BARID_SIM_WORLD_H

#include "engine/engine.h"
#include "journal/journal.h"
#include "sim/io_sim.h"
#include "sim/model.h"

#include <setjmp.h>

#define CONSUMERS 16
#define HELD_MAX  8192
#define PATTERNS  5
#define EXCHANGES 2 // topic, fanout

enum sabotage { SABOTAGE_NONE, SABOTAGE_NO_SYNC, SABOTAGE_NO_DIR_SYNC, SABOTAGE_DROP_SETTLE, SABOTAGE_EARLY_CONFIRM };

struct world;

struct slot {
    struct world *world;
    struct session *session;
    struct consumer *consumer;
    int queue;
    bool no_ack, census;
    uint8_t generation; // 0: free
};

struct held_delivery {
    struct slot *slot;
    uint64_t tag;
    uint32_t message;
};

// The io given to the journal: the simulated one, or one that lies (sabotage).
struct liar {
    struct io io;
    struct io *real;
    struct io_vtable vtable;
};

struct world {
    uint64_t seed;
    enum sabotage sabotage;
    bool verbose;
    struct io_sim *sim;
    struct liar liar;
    struct journal_options journal;
    struct engine_options options;
    struct engine *engine;
    struct vhost *vhost; // "/"
    struct journal_batch *batch;
    bool batch_written;
    struct model model;
    struct slot slots[CONSUMERS];
    struct held_delivery held[HELD_MAX];
    uint32_t n_held;
    bool bound[EXCHANGES][PATTERNS][QUEUES], bindings_unsure;
    bool disk_full, calm, bulk;
    uint64_t deliveries;
    uint32_t steps_done, deaths, lives;
    int depth; // inside a delivery

    // census
    uint32_t found[QUEUES][MESSAGES_MAX];
    uint16_t found_attempts[QUEUES][MESSAGES_MAX];
    uint32_t n_found[QUEUES];
    uint8_t found_place[QUEUES][MESSAGES_MAX];

    jmp_buf failed, died;
    char failure[512];
};

extern const char *const queue_names[QUEUES];

_Noreturn void world_fail(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void world_say(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

// recover.c
void world_open(struct world *w);              // opens until it succeeds, then takes the census
void world_crash(struct world *w, bool power); // the process ends; power: so does the machine
void world_restart_clean(struct world *w);
void world_flip(struct world *w); // a bit flips in a synced place: opening must refuse
void world_declare_all(struct world *w);
bool pattern_matches(int pattern, const char *key);

// world.c
uint64_t pick(struct world *w, uint64_t below);
int64_t wall_now(struct world *w);
void world_flush(struct world *w);
void world_sync(struct world *w); // everything appended is durable, everything visible is delivered
void batch_begin(struct world *w);
void batch_write(struct world *w);
void batch_end(struct world *w);
void consumer_add(struct world *w, int queue, const struct consumer_options *o, bool census);
void consumer_end(struct world *w, struct slot *s);
void settle_one(struct world *w, uint32_t held, enum settle how);
void settle_many(struct world *w, uint32_t held, enum settle how);
void op_publish(struct world *w);
void check_bounds(struct world *w);
void world_drain(struct world *w); // at the end: everything is consumed, nothing is missing

#endif
