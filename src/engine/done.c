// Answers: each waits until what it is about is durable.
#include "engine/internal.h"

#define NOT_WRITTEN UINT64_MAX // its place in the journal: not known yet

void done_push(struct engine *e, const struct done *d) {
    if (e->n_done == e->cap_done) {
        uint32_t cap = e->cap_done ? e->cap_done * 2 : 256;
        struct done *bigger = memory_new((size_t)cap * sizeof *bigger);
        for (uint32_t i = 0; i < e->n_done; i++) bigger[i] = e->done[(e->done_head + i) % e->cap_done];
        free(e->done);
        e->done = bigger;
        e->done_head = 0;
        e->cap_done = cap;
    }
    e->done[(e->done_head + e->n_done++) % e->cap_done] = *d;
}

static bool answer_is_due(const struct engine *e, jpos durable) {
    return e->n_done > 0 && e->done[e->done_head].pos <= durable;
}

// In publish order: one that waits for the disk holds up those behind it. Those that callbacks publish and that
// could be answered at once are left for the next time.
bool done_run(struct engine *e) {
    jpos durable = journal_durable(e->journal);
    for (uint32_t left = e->n_done; left > 0 && answer_is_due(e, durable); left--) {
        struct done d = e->done[e->done_head];
        e->done_head = (e->done_head + 1) % e->cap_done;
        e->n_done--;
        if (d.seq) e->durable_seq = d.seq;
        if (!d.fn) continue;
        e->depth++;
        d.fn(d.arg, d.result);
        e->depth--;
    }
    return answer_is_due(e, durable);
}

void done_written(struct engine *e) {
    for (uint32_t i = 0; i < e->n_done; i++) {
        struct done *d = &e->done[(e->done_head + i) % e->cap_done];
        if (d->pos == NOT_WRITTEN) d->pos = journal_appended(e->journal);
    }
}

// What could not be flushed may be written in pieces: where its end is, is known when the last of them is.
bool engine_when_durable(struct engine *e, publish_done_fn *done, void *arg) {
    engine_flush(e);
    jpos end = e->no_room ? NOT_WRITTEN : journal_appended(e->journal);
    if (e->n_done == 0 && end <= journal_durable(e->journal)) return false;
    done_push(e, &(struct done){.pos = end, .fn = done, .arg = arg, .result = PUBLISH_OK});
    return true;
}

bool engine_blocked(struct engine *e, const char **reason) {
    bool blocked = e->no_room || journal_is_full(e->journal);
    if (blocked && reason) *reason = "low on disk";
    return blocked;
}
