// One simulated life: the real engine and journal on a simulated machine, sessions with consumers, and the model.
#ifndef BARID_SIM_WORLD_H
#define BARID_SIM_WORLD_H

#include "engine/engine.h"
#include "journal/journal.h"
#include "sim/io_sim.h"
#include "sim/model.h"
#include "sim/topology.h"

#include <setjmp.h>

#define SESSIONS      6
#define CONSUMERS     16
#define HELD_MAX      8192
#define MARGIN_MS     10 // times are not known better
#define LATEST_SIZE   4  // of the deduplicating exchange
#define LATEST_TTL_MS 1500

enum sabotage { SABOTAGE_NONE, SABOTAGE_NO_SYNC, SABOTAGE_NO_DIR_SYNC, SABOTAGE_DROP_SETTLE, SABOTAGE_EARLY_CONFIRM };

struct world;

struct holder { // a session
    struct world *world;
    struct session *session; // NULL: there is none
    bool census;
};

struct slot {
    struct holder *holder;
    struct consumer *consumer; // NULL: free
    int queue;
    bool no_ack;
};

struct held_delivery {
    struct holder *holder;
    int queue;
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
    struct vhost *vhost, *other; // "/", "two"
    struct journal_batch *batch;
    bool batch_written;
    struct model model;
    struct holder holders[SESSIONS];
    struct slot slots[CONSUMERS];
    struct slot getters[QUEUES]; // for engine_get
    struct held_delivery held[HELD_MAX];
    uint32_t n_held;
    struct bindings bindings;
    struct {
        uint8_t value;
        int64_t until_ms;
    } latest[LATEST_SIZE]; // what the deduplicating exchange knows, oldest first
    uint32_t n_latest;
    int32_t claims[MESSAGES_MAX]; // messages that carry the ticket
    bool disk_full, calm, bulk;
    bool fleeting; // most messages are transient
    uint64_t deliveries;
    uint32_t steps_done, deaths, lives;
    int depth; // inside a delivery

    // census
    int64_t census_ms; // what was due by then has come
    uint32_t found[QUEUES][MESSAGES_MAX];
    uint16_t found_attempts[QUEUES][MESSAGES_MAX];
    uint32_t n_found[QUEUES];
    uint8_t found_place[QUEUES][MESSAGES_MAX];

    jmp_buf failed, died;
    char failure[512];
};

_Noreturn void world_fail(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void world_say(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

// sim.c
void end_a_life(struct world *w); // or not

// recover.c
void world_open(struct world *w);              // opens until it succeeds, then takes the census
void world_died(struct world *w);              // its process ended by itself: what is left of it is forgotten
void world_crash(struct world *w, bool power); // the process ends; power: so does the machine
void world_restart_clean(struct world *w);
void world_flip(struct world *w); // a bit flips in a synced place: opening must refuse

// traffic.c
void op_publish(struct world *w);
void fill_body(uint32_t number, uint32_t size, char *out);

// world.c
uint64_t pick(struct world *w, uint64_t below);
int64_t wall_now(struct world *w);
void world_claim(void *arg, const uint8_t ticket[CLAIM_TICKET], int change);
void world_flush(struct world *w);
void world_sync(struct world *w); // everything appended is durable, everything visible is delivered
void batch_begin(struct world *w);
void batch_write(struct world *w);
void batch_end(struct world *w);
void holder_open(struct world *w, struct holder *h, bool census);
void holder_end(struct world *w, struct holder *h);
void consumer_add(struct world *w, int queue, const struct consumer_options *o, struct holder *h);
void op_get(struct world *w);
void settle_one(struct world *w, uint32_t held, enum settle how);
void settle_many(struct world *w, uint32_t held, enum settle how); // up to and with that one
void check_bounds(struct world *w);
void world_drain(struct world *w); // at the end: everything is consumed, nothing is missing

#endif
