// The simulator's exchanges, queues and bindings, and its own idea of where a message goes.
//
//   default ──► any queue          topic ──► queues, and fanout (bindings between exchanges); else spare ──► Q_SPARE
//   fanout ──► queues              headers ──► queues
//   late (delayed) ──► Q_LATE      latest (deduplicating) ──► Q_PLAIN      dlx ──► Q_DEAD      grave ──► Q_GRAVE
#ifndef BARID_SIM_TOPOLOGY_H
#define BARID_SIM_TOPOLOGY_H

#include "sim/model.h"

#define PATTERNS 5

struct world;
enum { X_TOPIC, X_FANOUT, X_HEADERS, EXCHANGES }; // whose bindings come and go

struct bindings {
    bool queue[EXCHANGES][PATTERNS][QUEUES];
    bool led[PATTERNS]; // topic to fanout
    bool unsure;        // one of them may be as it was before
};

extern const char *const queue_names[QUEUES];
extern const char *const exchange_names[EXCHANGES];

struct vhost *queue_vhost(const struct world *w, int queue);
int queue_of(const char *vhost, const char *name);
void topology_declare(struct world *w);
void topology_read(struct world *w); // after a restart: must be as it was
void op_bind(struct world *w);
void op_recreate_queue(struct world *w);
void op_recreate_vhost(struct world *w);
void op_recreate_delayed(struct world *w);

// Where message `number` goes from that exchange.
void topology_targets(const struct world *w, int exchange, const char *key, uint32_t number, bool goes[QUEUES]);
int header_h(uint32_t number); // -1: it has no headers
int header_g(uint32_t number);

#endif
