#include "chat/gather.h"

#include "chat/homes.h"

#include <stdlib.h>
#include <string.h>

#define WAITING_MAX 16384
#define LOOK_MOST   (2 * GATHER_BATCH) // ops that are looked at for a batch

struct batch {
    struct op op;
    struct gather *gather;
    size_t n; // 0: they have been taken care of
    struct gathered *ops[GATHER_BATCH];
};

struct gather {
    struct chat *chat;
    gather_run_fn *run;
    struct list waiting;
    size_t waits;
    size_t under_way; // ops that have no answer yet
    size_t most;      // ops of a batch, while there are such with many recipients
    bool ended;       // the last one under way frees it
};

enum err gather_settings(struct db *db) {
    static struct db_sql settings = {
        .text = "select 1",
        .postgres = "select set_config('plan_cache_mode', 'force_generic_plan', true), "
                    "set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), "
                    "set_config('enable_mergejoin', 'off', true), set_config('enable_material', 'off', true), "
                    "set_config('jit', 'off', true)"};
    return db_run_later(db_prepare(db, &settings));
}

bool gather_takes(struct gathered *op, size_t *rows, int64_t recipients) {
    op->later = *rows > 0 && *rows + (size_t)recipients > GATHER_ROWS;
    *rows += (size_t)recipients;
    return !op->later;
}

// ---- the ops of a batch, one by one ---------------------------------------------------------------------

static void flush(struct gather *g);

static void one_is_over(struct op *op) {
    struct gather *g = ((struct gathered *)op)->gather;
    ASSERT(g->under_way > 0);
    if (--g->under_way > 0) return;
    if (g->ended) free(g);
    else flush(g);
}

// A database that is away or full is so for each. Anything else one of them may be to blame for, or that they are many:
// the time a statement may take, what the server has memory for, locks it waited for too long.
static bool failed_for_all(enum err err) { return err == ERR_UNAVAILABLE || err == ERR_FULL || err == ERR_CLOSED; }

static void end_one(struct batch *b, struct gathered *op, enum err err) {
    if (failed_for_all(err)) {
        op->op.unit.error = b->op.unit.error;
        op_end(&op->op, err);
    } else if (err != ERR_OK || op->alone) {
        op_submit(&op->op);
    } else {
        op_end(&op->op, op->result);
    }
}

// Those for later go back to where they were, and so many will be tried at once.
static size_t put_back(struct batch *b) {
    struct gather *g = b->gather;
    size_t n = b->n;
    while (n > 0 && b->ops[n - 1]->later) {
        list_push_front(&g->waiting, &b->ops[--n]->in_gather);
        g->waits++;
        g->under_way--;
    }
    ASSERT(n > 0);
    g->most = n < b->n ? n : 2 * g->most;
    if (g->most > GATHER_BATCH) g->most = GATHER_BATCH;
    return n;
}

static void end_all(struct batch *b, enum err err) {
    size_t n = b->n > 0 && err == ERR_OK ? put_back(b) : b->n;
    b->n = 0;
    for (size_t i = 0; i < n; i++) end_one(b, b->ops[i], err);
}

static enum err batch_run(struct db *db, struct db_unit *u) {
    struct batch *b = (struct batch *)u;
    for (size_t i = 0; i < b->n; i++) {
        b->ops[i]->alone = b->ops[i]->later = false; // of an earlier attempt
        b->ops[i]->result = ERR_OK;
        b->ops[i]->op.unit.error.code = ERR_OK;
    }
    return b->gather->run(db, b->ops, b->n);
}

static void batch_answer(struct op *op, enum err err) { end_all((struct batch *)op, err); }

static void batch_release(struct op *op) { end_all((struct batch *)op, ERR_CLOSED); }

// ---- the next ones --------------------------------------------------------------------------------------

static bool has(const struct batch *b, const struct id *id) {
    for (size_t i = 0; i < b->n; i++)
        if (memcmp(b->ops[i]->id, id, sizeof *id) == 0) return true;
    return false;
}

// Up to the first that has to be by itself. One that has to be later than one of these stays where it is.
static void fill(struct gather *g, struct batch *b) {
    size_t looked_at = 0;
    LIST_EACH_SAFE(&g->waiting, at) {
        struct gathered *op = LIST_ITEM(at, struct gathered, in_gather);
        if (b->n == g->most || op->single || looked_at++ == LOOK_MOST) break;
        if (has(b, op->id)) continue;
        list_remove(at);
        op->op.server = homes_server(g->chat);
        b->ops[b->n++] = op;
    }
    g->waits -= b->n;
    g->under_way = b->n;
}

static struct gathered *first(struct gather *g) {
    return LIST_ITEM(list_first(&g->waiting), struct gathered, in_gather);
}

// Each in its own unit, side by side.
static void submit_first(struct gather *g) {
    struct gathered *op = first(g);
    list_remove(&op->in_gather);
    g->waits--;
    g->under_way++;
    op_submit(&op->op);
}

static void flush(struct gather *g) {
    if (g->under_way > 0 || list_empty(&g->waiting)) return;
    if (g->waits == 1 || first(g)->single) {
        do submit_first(g);
        while (!list_empty(&g->waiting) && first(g)->single);
        return;
    }
    struct batch *b = op_new(g->chat, sizeof *b, batch_run, batch_answer);
    b->op.release = batch_release;
    b->gather = g;
    fill(g, b);
    op_submit(&b->op);
}

struct gather *gather_new(struct chat *c, gather_run_fn *run) {
    struct gather *g = chat_alloc(sizeof *g);
    g->chat = c;
    g->run = run;
    g->most = GATHER_BATCH;
    list_init(&g->waiting);
    return g;
}

void gather_free(struct gather *g) {
    struct list_node *at;
    if (g == NULL) return;
    while ((at = list_pop_front(&g->waiting)) != NULL) op_drop(&LIST_ITEM(at, struct gathered, in_gather)->op);
    g->ended = true;
    if (g->under_way == 0) free(g);
}

void gather_add(struct gather *g, struct gathered *op) {
    if (database_kind_of(g->chat->database) == DATABASE_SQLITE) {
        op_submit(&op->op);
    } else if (g->waits == WAITING_MAX) {
        op_finish(&op->op, ERR_BUSY);
    } else {
        op->gather = g;
        op->op.over = one_is_over;
        list_push_back(&g->waiting, &op->in_gather);
        g->waits++;
        flush(g);
    }
}
