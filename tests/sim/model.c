#include "sim/model.h"

#include <string.h>

void model_init(struct model *m) {
    memset(m, 0, sizeof *m);
    memset(m->last_first, 0xff, sizeof m->last_first);
}

void model_attempts(struct entry_model *x, uint16_t attempts) {
    x->attempts = attempts;
    if (attempts > x->most) x->most = attempts;
    if (attempts < x->fewest) x->fewest = attempts;
}

static uint8_t place_bit(uint8_t now) { return now == HELD ? HERE : now; }

void model_change(struct model *m, uint32_t message, int queue, enum place now) {
    struct entry_model *x = &m->messages[message].in[queue];
    x->now = (uint8_t)now;
    x->unsure = false;
    x->may |= place_bit(x->now);
    x->pos = 0;
    if (x->settling) return;
    x->settling = true;
    m->changes[m->n_changes++] = (struct change){.message = message, .queue = (uint8_t)queue};
}

void model_flushed(struct model *m, uint64_t appended) {
    for (uint32_t i = 0; i < m->n_changes; i++) {
        struct entry_model *x = &m->messages[m->changes[i].message].in[m->changes[i].queue];
        if (x->pos == 0) x->pos = appended;
    }
}

static void synced(struct entry_model *x, int queue) {
    x->settling = false;
    x->may = place_bit(x->now);
    if (queue_is_lossy(queue) || x->unsure) x->may |= GONE;
    x->fewest = x->most = x->attempts;
}

void model_durable(struct model *m, uint64_t durable) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < m->n_changes; i++) {
        struct change c = m->changes[i];
        struct entry_model *x = &m->messages[c.message].in[c.queue];
        if (x->pos != 0 && x->pos <= durable) synced(x, c.queue);
        else m->changes[kept++] = c;
    }
    m->n_changes = kept;
}

static void crashed_entry(const struct message_model *msg, struct entry_model *x, int queue, uint64_t durable) {
    if (x->now == NOWHERE) return;
    bool kept = msg->persistent && queue != Q_MEMORY;
    if (!kept) x->may = GONE;
    else if (msg->pos > durable || queue_is_lossy(queue)) x->may |= GONE;
    x->settling = false;
}

static void crashed_lossy(struct message_model *msg) {
    if (msg->in[Q_LOSSY].may & HERE) msg->in[Q_GRAVE].owed = true;
}

void model_crashed(struct model *m, uint64_t durable) {
    model_durable(m, durable);
    for (uint32_t i = 0; i < m->n; i++) {
        struct message_model *msg = &m->messages[i];
        crashed_lossy(msg);
        if (!msg->persistent || msg->pos > durable) msg->doubtful = true;
        for (int q = 0; q < QUEUES; q++) crashed_entry(msg, &msg->in[q], q, durable);
        bool id_kept = msg->persistent && msg->pos <= durable;
        if (!id_kept && msg->in[Q_ONCE].now != NOWHERE) m->ids[msg->key].surely_until_ms = 0;
    }
    m->n_changes = 0;
    m->next_answer = m->n;
    memset(m->last_first, 0xff, sizeof m->last_first);
}
