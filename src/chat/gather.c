#include "chat/gather.h"

#include "chat/homes.h"

#include <stdlib.h>
#include <string.h>

#define WAITING_MAX 16384
#define PATIENCE_MS 250
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
    size_t under_way;    // ops that have no answer yet, and for which the next ones wait
    struct list singles; // of these: those that are by themselves
    struct list slow;    // … and no longer of these: those for which only ops of the same name wait
    struct loop_timer patience;
    size_t most; // ops of a batch, while there are such with many recipients
    bool ended;  // the last one under way frees it
};

enum err gather_settings(struct db *db) {
    static struct db_sql settings = {
        .text = "select 1",
        .postgres = "select set_config('plan_cache_mode', 'force_generic_plan', true), "
                    "set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), "
                    "set_config('enable_mergejoin', 'off', true), set_config('enable_material', 'off', true), "
                    "set_config('jit', 'off', true), set_config('lock_timeout', '1s', true)"};
    return db_run_later(db_prepare(db, &settings));
}

void gather_ids(struct gathered *const *ops, size_t n, struct db_bytes *ids) {
    for (size_t i = 0; i < n; i++) ids[i] = (struct db_bytes){ops[i]->id->b, sizeof ops[i]->id->b};
}

bool gather_takes(struct gathered *op, size_t *rows, int64_t recipients) {
    op->later = *rows > 0 && *rows + (size_t)recipients > GATHER_ROWS;
    *rows += (size_t)recipients;
    return !op->later;
}

// ---- the ops of a batch, one by one ---------------------------------------------------------------------

static void flush(struct gather *g);

static void go_on(struct gather *g) {
    if (g->under_way > 0) return;
    if (!g->ended) flush(g);
    else if (list_empty(&g->slow)) free(g);
}

static void one_is_over(struct op *op) {
    struct gather *g = ((struct gathered *)op)->gather;
    ASSERT(g->under_way > 0);
    list_remove(&((struct gathered *)op)->in_gather);
    g->under_way--;
    go_on(g);
}

static void slow_one_is_over(struct op *op) {
    struct gathered *slow = (struct gathered *)op;
    list_remove(&slow->in_gather);
    go_on(slow->gather);
}

// Under way by itself: the next ones wait for it, for a while.
static void submit(struct gathered *op) {
    struct gather *g = op->gather;
    list_push_back(&g->singles, &op->in_gather);
    loop_timer_start(g->chat->loop, &g->patience, PATIENCE_MS);
    op_submit(&op->op);
}

static void patience_ended(struct loop_timer *t) {
    struct gather *g = LIST_ITEM(t, struct gather, patience);
    struct list_node *at;
    while ((at = list_pop_front(&g->singles)) != NULL) {
        LIST_ITEM(at, struct gathered, in_gather)->op.over = slow_one_is_over;
        list_push_back(&g->slow, at);
        g->under_way--;
    }
    go_on(g);
}

// A database that is away or full is so for each. Anything else one of them may be to blame for, or that they are many:
// the time a statement may take, what the server has memory for, locks it waited for too long.
static bool failed_for_all(enum err err) { return err == ERR_UNAVAILABLE || err == ERR_FULL || err == ERR_CLOSED; }

static void end_one(struct batch *b, struct gathered *op, enum err err) {
    if (failed_for_all(err)) {
        op->op.unit.error = b->op.unit.error;
        op_end(&op->op, err);
    } else if (err != ERR_OK || op->alone) {
        submit(op);
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
    struct gather *g = b->gather;
    if (n == 0) return;
    b->n = 0;
    g->under_way++; // until they are all taken care of
    for (size_t i = 0; i < n; i++) end_one(b, b->ops[i], err);
    g->under_way--;
    go_on(g);
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

// It has to be later than one that takes its time.
static bool held_up(struct gather *g, const struct gathered *op) {
    LIST_EACH(&g->slow, at)
    if (LIST_ITEM(at, struct gathered, in_gather)->op.unit.lane == op->op.unit.lane) return true;
    return false;
}

// Up to the first that has to be by itself. One that has to be later than one of these, or than a slow one, stays where
// it is.
static void fill(struct gather *g, struct batch *b) {
    size_t looked_at = 0;
    LIST_EACH_SAFE(&g->waiting, at) {
        struct gathered *op = LIST_ITEM(at, struct gathered, in_gather);
        if (b->n == g->most || looked_at++ == LOOK_MOST) break;
        if (held_up(g, op)) continue;
        if (op->single) break;
        if (has(b, op->id)) continue;
        list_remove(at);
        op->op.server = homes_server(g->chat);
        b->ops[b->n++] = op;
    }
    g->waits -= b->n;
    g->under_way = b->n;
}

static struct gathered *first(struct gather *g) {
    size_t looked_at = 0;
    LIST_EACH(&g->waiting, at) {
        struct gathered *op = LIST_ITEM(at, struct gathered, in_gather);
        if (!held_up(g, op)) return op;
        if (++looked_at == LOOK_MOST) break;
    }
    return NULL;
}

static void submit_waiting(struct gather *g, struct gathered *op) {
    list_remove(&op->in_gather);
    g->waits--;
    g->under_way++;
    submit(op);
}

static void flush(struct gather *g) {
    struct gathered *op = g->under_way > 0 ? NULL : first(g);
    if (op == NULL) return;
    if (g->waits == 1 || op->single) {
        do submit_waiting(g, op);
        while ((op = first(g)) != NULL && op->single); // side by side
        return;
    }
    struct batch *b = op_new(g->chat, sizeof *b, batch_run, batch_answer);
    b->op.unit.once = true;
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
    list_init(&g->singles);
    list_init(&g->slow);
    g->patience.fn = patience_ended;
    return g;
}

void gather_free(struct gather *g) {
    struct list_node *at;
    if (g == NULL) return;
    while ((at = list_pop_front(&g->waiting)) != NULL) op_drop(&LIST_ITEM(at, struct gathered, in_gather)->op);
    g->ended = true;
    loop_timer_stop(g->chat->loop, &g->patience);
    go_on(g);
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
