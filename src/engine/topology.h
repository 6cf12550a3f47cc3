// Virtual hosts, exchanges, bindings: the names of the broker and where a message goes.
#ifndef BARID_ENGINE_TOPOLOGY_H
#define BARID_ENGINE_TOPOLOGY_H

#include "base/list.h"
#include "base/map.h"
#include "engine/engine.h"
#include "engine/recent.h"
#include "engine/topic_trie.h"

#include <stddef.h>

struct queue;

#define DEFAULT_VHOST 0 // the id of "/", which has no record

struct vhost {
    struct engine *engine;
    char *name;
    uint32_t id;   // in records, never used again
    bool declared; // false while replaying, and once deleted: its owner may still hold it
    uint32_t pin;
    struct map queues, exchanges; // by name
    struct exchange *fallback;    // the default exchange
};

struct binding {
    struct list_node of_source, of_destination;
    struct binding *next_same_key; // direct exchanges
    struct exchange *source;
    struct queue *queue;     // where it leads: to a queue, or
    struct exchange *target; // to an exchange
    bool attached;           // false only while replaying
    uint32_t weight;         // consistent hash
    uint64_t seed;
    uint32_t pin; // NONE: not durable
    uint32_t arguments_length;
    const uint8_t *arguments; // behind the key
    const void *ends[2];      // with key and arguments: what it is, by which engine.bindings knows it
    char key[];
};
_Static_assert(offsetof(struct binding, key) == offsetof(struct binding, ends) + 2 * sizeof(void *), "they touch");

struct exchange {
    struct vhost *vhost;
    char *name;
    struct exchange_options options; // its texts are ours
    bool declared;                   // false only while replaying
    bool predeclared;                // the default one and amq.*: always there, no record
    bool removing;
    uint32_t pin;
    struct list bindings;    // from it
    struct list incoming;    // of other exchanges, to it
    struct map by_key;       // direct: key -> first binding
    struct topic_trie *trie; // topic
    struct recent *recent;   // of a deduplicating one
    struct queue *room;      // of a delayed one (delayed.c)
    uint64_t visit;          // the last message that came by: it passes an exchange once
    uint64_t published_in, published_out;
};

// ---- vhost.c
struct vhost *vhost_new(struct engine *e, const char *name, uint32_t id); // name NULL while replaying
void vhost_name_put(struct engine *e, struct vhost *v);
struct vhost *vhost_by_id(const struct engine *e, uint32_t id);
enum err vhost_check(const struct vhost *v, struct error *err); // ERR_NOT_FOUND once it was deleted
void vhost_remove(struct engine *e, struct vhost *v, bool record);
void vhost_free(struct vhost *v);

// ---- exchange.c
struct exchange *exchange_find(const struct vhost *v, const char *name);
struct exchange *exchange_new(struct vhost *v, const char *name);
void exchange_set_options(struct exchange *x, const struct exchange_options *o);
void exchange_remove(struct exchange *x, bool record);
void exchange_free(struct exchange *x);
void exchanges_predeclare(struct vhost *v);

// ---- options.c: what is declared again must be as it was
enum err exchange_options_same(const struct exchange *x, const struct exchange_options *o, struct error *err);
enum err queue_options_same(const struct queue *q, const struct queue_options *o, struct error *err);

// ---- binding.c
struct binding *binding_new(struct exchange *x, struct queue *q, struct exchange *target, const char *key,
                            struct view arguments);
void binding_attach(struct binding *b); // from now on it takes part in routing
void binding_drop(struct binding *b, bool record);
void binding_remove(struct binding *b, bool record); // and the source with it, when that goes with its last binding
struct binding *binding_find(struct exchange *x, const struct queue *q, const struct exchange *target, const char *key,
                             struct view arguments);

// ---- route.c
// Fills engine.route with the queues that a message of these keys goes to, each once.
void route(struct engine *e, struct exchange *x, const struct message *m);
// That message was taken: the deduplicating exchanges it passed remember its value.
void route_taken(struct engine *e, const struct message *m);

#endif
