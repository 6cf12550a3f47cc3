// A gate a partition: while a batch is on its way there, what comes behind it waits here and not with librdkafka.
//
//   publish ─> open: librdkafka, at once
//         └──> closed: held ─all that went before is answered─> librdkafka, together: the next batch
//
// librdkafka would let it wait as well, since an idempotent producer has five records of a partition under way at most,
// or one batch; but its thread then asks without end whether it may go on, a whole core's worth. It costs no time: what
// is published while nothing of its partition is under way goes at once. And batches are larger than they would be.
//
// Gates are a guess at which partition a record goes to; a wrong one (the topic has more partitions by now) delays a
// record by one answer. A record without a key goes where its gate is, so now and then librdkafka chooses for one: it
// knows of new partitions, and a report from one of those has the topic asked for anew. Too many events are no business
// of a gate: it lets them pass, and librdkafka has its bounds.
#include "bus/kafka.h"

#include "base/assert.h"

#include <stdlib.h>

#define UNDER_WAY_MAX  4           // of a partition: it closes with the next one
#define HELD_MAX       256         // by one gate
#define HELD_ALL_MAX   10000       // by all
#define HELD_BYTES_MAX (16u << 20) // … and their payloads
#define CHOICES        8           // for a record without a key
#define FREE_EVERY     512         // of those, so many have a gate and one has none

struct kafka_gate {
    struct list held;         // struct kafka_held
    struct list_node drained; // in kafka_producer.drained
    struct kafka_topic *topic;
    uint32_t held_n, under_way;
    bool away; // something that went before came back as undeliverable
};

// ---- a topic's gates

void kafka_gates_free(struct kafka_topic *t) {
    for (int i = 0; i < t->gates_n; i++) {
        ASSERT(list_empty(&t->gates[i].held));
        list_remove(&t->gates[i].drained);
    }
    free(t->gates);
    t->gates = NULL;
    t->gates_n = 0;
}

static struct kafka_held *take(struct kafka_gate *g) {
    struct list_node *n = list_pop_front(&g->held);
    if (!n) return NULL;
    struct kafka_held *h = LIST_ITEM(n, struct kafka_held, node);
    g->held_n--;
    g->topic->producer->held--;
    g->topic->producer->held_bytes -= h->payload_length;
    return h;
}

void kafka_gates_take(struct kafka_topic *t, struct list *out) {
    for (int i = 0; i < t->gates_n; i++)
        for (struct kafka_held *h; (h = take(&t->gates[i]));) list_push_back(out, &h->node);
}

// What is under way is forgotten with the old ones: its answers find other gates, or none.
void kafka_gates_set(struct kafka_topic *t, int partitions) {
    if (partitions == t->gates_n) return;
    struct list held;
    list_init(&held);
    kafka_gates_take(t, &held);
    kafka_gates_free(t);
    t->gates = calloc((size_t)partitions, sizeof *t->gates);
    if (!t->gates) die("out of memory");
    t->gates_n = partitions;
    for (int i = 0; i < partitions; i++) {
        list_init(&t->gates[i].held);
        t->gates[i].topic = t;
    }
    for (struct list_node *n; (n = list_pop_front(&held));) {
        struct kafka_held *h = LIST_ITEM(n, struct kafka_held, node);
        h->gate = 0;
        kafka_topic_send(t, h);
    }
}

// ---- through a gate

static bool closed(const struct kafka_gate *g) { return g->held_n > 0 || g->under_way >= UNDER_WAY_MAX; }

// Without a key it may go wherever there is room: the next one round, or an open one that is near.
static int any_gate(struct kafka_topic *t) {
    int first = (int)(t->turn++ % (uint32_t)t->gates_n), best = first;
    for (int i = 0; i < CHOICES && i < t->gates_n; i++) {
        int at = (first + i) % t->gates_n;
        if (!closed(&t->gates[at])) return at;
        if (t->gates[at].held_n < t->gates[best].held_n) best = at;
    }
    return best;
}

static void let_all_pass(struct kafka_gate *g) {
    for (struct kafka_held *h; (h = take(g));) kafka_topic_send(g->topic, h);
}

bool kafka_gate_closed(struct kafka_topic *t, struct kafka_held *record) {
    if (t->gates_n == 0 || (!record->key && ++t->keyless % FREE_EVERY == 0)) return false;
    int at = record->key
                 ? rd_kafka_msg_partitioner_murmur2(t->rkt, record->key, record->key_length, t->gates_n, NULL, NULL)
                 : any_gate(t);
    record->gate = at + 1;
    return closed(&t->gates[at]);
}

void kafka_gate_hold(struct kafka_topic *t, struct kafka_held *h) {
    struct kafka_gate *g = &t->gates[h->gate - 1];
    struct kafka_producer *p = t->producer;
    list_push_back(&g->held, &h->node);
    g->held_n++;
    p->held++;
    p->held_bytes += h->payload_length;
    if (g->held_n >= HELD_MAX || p->held >= HELD_ALL_MAX || p->held_bytes >= HELD_BYTES_MAX) let_all_pass(g);
}

void kafka_gate_passed(struct kafka_topic *t, int gate) {
    if (gate > 0 && gate <= t->gates_n) t->gates[gate - 1].under_way++;
}

void kafka_gate_answered(struct kafka_topic *t, int gate, bool away) {
    if (gate == 0 || gate > t->gates_n) return;
    struct kafka_gate *g = &t->gates[gate - 1];
    g->away |= away && g->held_n > 0;
    if (g->under_way > 0) g->under_way--;
    if (g->under_way == 0 && g->held_n > 0 && !list_linked(&g->drained))
        list_push_back(&t->producer->drained, &g->drained);
}

// What came while a broker was away has waited long enough: whoever published it knows better where to keep it.
static void answer_away(struct kafka_gate *g) {
    struct list now;
    list_init(&now);
    for (struct kafka_held *h; (h = take(g));) list_push_back(&now, &h->node);
    for (struct list_node *n; (n = list_pop_front(&now));)
        kafka_held_answer(LIST_ITEM(n, struct kafka_held, node), ERR_UNAVAILABLE,
                          "the broker has not confirmed what went before");
}

void kafka_gates_open(struct kafka_producer *p) {
    for (struct list_node *n; (n = list_pop_front(&p->drained));) {
        struct kafka_gate *g = LIST_ITEM(n, struct kafka_gate, drained);
        bool away = g->away || p->purged;
        g->away = false;
        if (away) answer_away(g);
        else let_all_pass(g);
    }
}
