// The SQL function: called in the transaction that takes the event out of the queue, so that both happen or neither
// does. What deletes the row decides: two processes that both believe an event to be theirs cannot both call the
// function.
//
//   take ─> a slot's queue ─> batch ─> one statement: delete … returning, and the function for each row, in order
//              (by bucket)               ├─ ok: all settled
//                                        ├─ fails, many: half of it alone, and so on down to the one that fails
//                                        └─ fails, one: refused; those of its key behind it go back, unless the
//                                           function has gone (handler_sql_look.c), or the database
//                                           (handler_sql_doubt.c)
//
// A key is always in the same slot, and a slot runs one transaction at a time, so the order of keys holds across
// batches. What takes too long is not halved, for every half would wait as long: its batch goes on one by one.
#include "inbox/handler_sql.h"

#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS      4
#define SLOTS_MAX  64
#define KEY_WINDOW 64

// ---- the transaction

// What the function sees is what it would see without us: its role's own search path, and its time limit.
static struct db_sql surroundings_sql = {
    .text =
        "select set_config('search_path', regexp_replace(current_setting('search_path'), '^barid(, *|$)', ''), true), "
        "set_config('statement_timeout', ?1, true)",
};

static enum err run(struct db *db, struct db_unit *u) {
    struct slot *s = (struct slot *)u;
    int64_t ids[SQL_BATCH];
    struct db_stmt *q = db_prepare(db, &surroundings_sql);
    db_bind_text(q, 1, s->h->timeout);
    enum err err = db_run_later(q);
    if (err != ERR_OK) return err;
    for (size_t i = 0; i < s->n; i++) ids[i] = s->batch[i]->event.item.id;
    q = db_prepare(db, s->call);
    db_bind_text(q, 1, s->h->base.options.consumer);
    db_bind_ints(q, 2, ids, s->n);
    int row;
    while ((row = db_step(q)) == DB_ROW) {
    }
    return (enum err) - row;
}

// ---- what became of a batch

static void answer(struct sql_event *v, enum outbox_taken how, const char *why) {
    struct handler_event event = v->event;
    list_remove(&v->node);
    free(v);
    event.done(event.arg, how, why);
}

static void answer_batch(struct slot *s, enum outbox_taken how, const char *why) {
    struct sql_event *batch[SQL_BATCH]; // an answer may bring the next events
    size_t n = s->n;
    memcpy(batch, s->batch, n * sizeof *batch);
    s->n = 0;
    for (size_t i = 0; i < n; i++) answer(batch[i], how, why);
}

void sql_again(struct slot *s) {
    while (s->n > 0) list_push_front(&s->queue, &s->batch[--s->n]->node);
}

static void answer_queue(struct slot *s, enum outbox_taken how, const char *why) {
    struct list taken;
    struct list_node *n;
    list_init(&taken);
    while ((n = list_pop_front(&s->queue)) != NULL) list_push_back(&taken, n);
    while ((n = list_pop_front(&taken)) != NULL) answer(LIST_ITEM(n, struct sql_event, node), how, why);
}

// The one event failed. Its followers must not be done before it.
static void refuse(struct slot *s, const char *why) {
    const char *key = s->batch[0]->event.item.event.key;
    struct list followers;
    struct list_node *n;
    list_init(&followers);
    LIST_EACH_SAFE(&s->queue, at) {
        struct sql_event *v = LIST_ITEM(at, struct sql_event, node);
        if (!key || !v->event.item.event.key || strcmp(key, v->event.item.event.key) != 0) continue;
        list_remove(at);
        list_push_back(&followers, at);
    }
    answer_batch(s, TAKEN_REFUSED, why);
    while ((n = list_pop_front(&followers)) != NULL) answer(LIST_ITEM(n, struct sql_event, node), TAKEN_BACK, "");
}

void sql_refuse(struct slot *s, const char *why) {
    if (s->alone) s->alone--;
    refuse(s, why);
}

void sql_away(struct slot *s, const char *why) {
    char text[ERROR_TEXT_MAX];
    snprintf(text, sizeof text, "%s", why);
    sql_again(s);
    for (uint32_t k = 0; k < s->h->slots_n; k++)
        if (!s->h->slots[k].running) answer_queue(&s->h->slots[k], TAKEN_AWAY, text);
}

static void went_well(struct slot *s) {
    s->alone -= s->alone < s->n ? s->alone : (uint32_t)s->n;
    s->limit = s->alone ? 1 : s->limit * 2 < SQL_BATCH ? s->limit * 2 : SQL_BATCH;
    if (s->h->careful) s->h->careful--;
    answer_batch(s, TAKEN_SETTLED, "");
}

static void went_wrong(struct slot *s, enum err err) {
    snprintf(s->why, sizeof s->why, "%s", s->unit.error.text[0] ? s->unit.error.text : err_text(err));
    if (err == ERR_CLOSED) {
        sql_away(s, s->why);
    } else if (sql_means_away(err)) {
        sql_doubt(s);
    } else if (s->n > 1) {
        if (err == ERR_TIMEOUT) s->alone = (uint32_t)s->n;
        s->limit = s->alone ? 1 : (uint32_t)s->n / 2;
        sql_again(s);
    } else if (err == ERR_DATABASE || err == ERR_FORBIDDEN) {
        sql_look_again(s);
    } else {
        sql_refuse(s, s->why);
    }
}

static void done(struct db_unit *u, enum err err) {
    struct slot *s = (struct slot *)u;
    s->running = false;
    if (err == ERR_OK) went_well(s);
    else went_wrong(s, err);
}

static void start(struct slot *s) {
    struct list_node *n;
    while (s->n < s->limit && (n = list_pop_front(&s->queue)) != NULL)
        s->batch[s->n++] = LIST_ITEM(n, struct sql_event, node);
    if (!sql_probe_before(s)) sql_run(s);
}

void sql_run(struct slot *s) {
    s->call = s->h->call;
    s->unit = (struct db_unit){.run = run, .done = done, .frees_space = true};
    enum err err = database_submit(s->h->base.options.database, &s->unit);
    if (err == ERR_OK) {
        s->running = true;
        return;
    }
    sql_away(s, err_text(err));
}

static bool is_running(const struct sql_handler *h) {
    for (uint32_t k = 0; k < h->slots_n; k++)
        if (h->slots[k].running) return true;
    return false;
}

// Once a turn of the loop: what came in this turn is one batch.
static void before_block(struct loop_idle *i) {
    struct sql_handler *h = LIST_ITEM(i, struct sql_handler, idle);
    for (uint32_t k = 0; k < h->slots_n && !h->closing; k++) {
        struct slot *s = &h->slots[(h->turn + k) % h->slots_n];
        if (s->running || list_empty(&s->queue)) continue;
        if (h->careful && is_running(h)) return;
        start(s);
        if (h->careful) h->turn = (h->turn + k + 1) % h->slots_n;
    }
}

static void take(void *sink, const struct outbox_item *item, outbox_taken_fn *taken, void *arg) {
    struct sql_handler *h = sink;
    struct slot *s = &h->slots[item->bucket > 0 ? (uint64_t)item->bucket % h->slots_n : 0];
    struct sql_event *v = calloc(1, sizeof *v);
    if (!v) die("no memory for an event");
    v->event = (struct handler_event){*item, taken, arg};
    list_push_back(&s->queue, &v->node);
}

// ---- the outside

static void sql_free(struct handler *base) {
    struct sql_handler *h = (struct sql_handler *)base;
    h->closing = true;
    loop_before_block_end(base->options.loop, &h->idle);
    for (uint32_t k = 0; k < h->slots_n; k++) {
        ASSERT(!h->slots[k].running);
        answer_queue(&h->slots[k], TAKEN_AWAY, "the handler is closed");
    }
    free(h);
}

static const struct handler_vtable vtable = {.check = sql_look_at_start, .free = sql_free};

static bool take_name(const char *from, size_t n, char *to) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
    if (n == 0 || n >= SQL_NAME_BYTES || strspn(from, letters) < n) return false;
    memcpy(to, from, n);
    to[n] = '\0';
    return true;
}

static bool take_names(struct sql_handler *h, const char *name) {
    const char *dot = strchr(name, '.');
    return dot && take_name(name, (size_t)(dot - name), h->schema) && take_name(dot + 1, strlen(dot + 1), h->function);
}

enum err handler_sql_open(struct handler **out, const struct handler_options *o, struct error *e) {
    uint32_t slots = o->concurrency ? o->concurrency : SLOTS;
    if (slots > SLOTS_MAX) return error_set(e, ERR_INVALID, "at most %d transactions at once", SLOTS_MAX);
    struct sql_handler *h = calloc(1, sizeof *h + slots * sizeof h->slots[0]);
    if (!h) die("no memory for the handler");
    if (!take_names(h, o->spec + strlen("sql:"))) {
        free(h);
        return error_set(e, ERR_INVALID, "sql: wants SCHEMA.FUNCTION, each of letters, digits and _");
    }
    handler_init(&h->base, &vtable, o);
    snprintf(h->timeout, sizeof h->timeout, "%u", o->timeout_ms);
    h->slots_n = slots;
    for (uint32_t k = 0; k < slots; k++) {
        h->slots[k].h = h;
        h->slots[k].limit = SQL_BATCH;
        list_init(&h->slots[k].queue);
    }
    h->base.sink = (struct outbox_sink){
        .take = take, .sink = h, .name = "handler", .key_window = KEY_WINDOW, .at_once = 2 * SQL_BATCH * slots};
    h->idle.fn = before_block;
    loop_before_block(o->loop, &h->idle);
    *out = &h->base;
    return ERR_OK;
}
