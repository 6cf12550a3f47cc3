// The SQL function: called in the transaction that takes the event out of the queue, so that both happen or neither
// does. What deletes the row decides: two processes that both believe an event to be theirs cannot both call the
// function.
//
//   take ─> a slot's queue ─> batch ─> one statement: delete … returning, and the function for each row, in order
//              (by bucket)               ├─ ok: all settled
//                                        ├─ fails, many: half of it alone, and so on down to the one that fails
//                                        └─ fails, one: refused; those of its key behind it go back
//
// A key is always in the same slot, and a slot runs one transaction at a time, so the order of keys holds across
// batches. What takes too long is not halved, for every half would wait as long: its batch goes on one by one.
#include "inbox/handler_internal.h"

#include "base/assert.h"
#include "base/list.h"
#include "database/database.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS      4
#define SLOTS_MAX  64
#define BATCH      256 // events a transaction
#define KEY_WINDOW 64
#define NAME_BYTES 64 // as PostgreSQL's, with the NUL
#define TEXT_BYTES 1024

struct sql_event {
    struct list_node node; // in its slot's queue
    struct handler_event event;
};

struct slot {
    struct db_unit unit; // first
    struct sql_handler *h;
    struct list queue;
    struct sql_event *batch[BATCH];
    size_t n;
    uint32_t limit; // events the next batch may have
    uint32_t alone; // so many go one by one
    bool running;
};

struct look {
    struct db_unit unit; // first
    struct sql_handler *h;
    char why[ERROR_TEXT_MAX];
    const char *payload; // how the function wants it
};

struct sql_handler {
    struct handler base; // first
    char schema[NAME_BYTES], function[NAME_BYTES];
    char timeout[16];
    char text[TEXT_BYTES];
    struct db_sql call;
    struct look look;
    struct loop_idle idle;
    uint32_t slots_n;
    bool closing;
    struct slot slots[];
};

// ---- the transaction

// What the function sees is what it would see without us: its role's own search path, and its time limit.
static struct db_sql surroundings_sql = {
    .text =
        "select set_config('search_path', regexp_replace(current_setting('search_path'), '^barid(, *|$)', ''), true), "
        "set_config('statement_timeout', ?1, true)",
};

static enum err run(struct db *db, struct db_unit *u) {
    struct slot *s = (struct slot *)u;
    int64_t ids[BATCH];
    struct db_stmt *q = db_prepare(db, &surroundings_sql);
    db_bind_text(q, 1, s->h->timeout);
    enum err err = db_run_later(q);
    if (err != ERR_OK) return err;
    for (size_t i = 0; i < s->n; i++) ids[i] = s->batch[i]->event.item.id;
    q = db_prepare(db, &s->h->call);
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
    struct sql_event *batch[BATCH]; // an answer may bring the next events
    size_t n = s->n;
    memcpy(batch, s->batch, n * sizeof *batch);
    s->n = 0;
    for (size_t i = 0; i < n; i++) answer(batch[i], how, why);
}

static void put_back(struct slot *s) {
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

static bool means_away(enum err err) {
    return err == ERR_UNAVAILABLE || err == ERR_FULL || err == ERR_CLOSED || err == ERR_NOMEM;
}

static void went_well(struct slot *s) {
    s->alone -= s->alone < s->n ? s->alone : (uint32_t)s->n;
    s->limit = s->alone ? 1 : s->limit * 2 < BATCH ? s->limit * 2 : BATCH;
    answer_batch(s, TAKEN_SETTLED, "");
}

static void went_wrong(struct slot *s, enum err err) {
    char why[ERROR_TEXT_MAX];
    snprintf(why, sizeof why, "%s", s->unit.error.text[0] ? s->unit.error.text : err_text(err));
    if (means_away(err)) {
        put_back(s);
        answer_queue(s, TAKEN_AWAY, why);
        return;
    }
    if (s->n > 1) {
        if (err == ERR_TIMEOUT) s->alone = (uint32_t)s->n;
        s->limit = s->alone ? 1 : (uint32_t)s->n / 2;
        put_back(s);
        return;
    }
    if (s->alone) s->alone--;
    refuse(s, why);
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
    s->unit = (struct db_unit){.run = run, .done = done, .frees_space = true};
    enum err err = database_submit(s->h->base.options.database, &s->unit);
    if (err == ERR_OK) {
        s->running = true;
        return;
    }
    put_back(s);
    answer_queue(s, TAKEN_AWAY, err_text(err));
}

// Once a turn of the loop: what came in this turn is one batch.
static void before_block(struct loop_idle *i) {
    struct sql_handler *h = LIST_ITEM(i, struct sql_handler, idle);
    for (uint32_t k = 0; k < h->slots_n && !h->closing; k++)
        if (!h->slots[k].running && !list_empty(&h->slots[k].queue)) start(&h->slots[k]);
}

static void take(void *sink, const struct outbox_item *item, outbox_taken_fn *taken, void *arg) {
    struct sql_handler *h = sink;
    struct slot *s = &h->slots[item->bucket > 0 ? (uint64_t)item->bucket % h->slots_n : 0];
    struct sql_event *v = calloc(1, sizeof *v);
    if (!v) die("no memory for an event");
    v->event = (struct handler_event){*item, taken, arg};
    list_push_back(&s->queue, &v->node);
}

// ---- looking the function up

static struct db_sql look_sql = {
    .text =
        "select p.oid::regprocedure::text, oidvectortypes(p.proargtypes), p.prokind = 'f', p.proretset, p.proisstrict, "
        "has_function_privilege(p.oid, 'execute') and has_schema_privilege(n.oid, 'usage') "
        "from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace "
        "where n.nspname = ?1 and p.proname = ?2 order by 1",
};

static const struct {
    const char *arguments, *payload;
} shapes[] = {
    {"uuid, text, text, bytea, jsonb", "payload"},
    {"uuid, text, text, text, jsonb", "convert_from(payload, 'UTF8')"},
    {"uuid, text, text, jsonb, jsonb", "convert_from(payload, 'UTF8')::jsonb"},
    {"uuid, text, text, json, jsonb", "convert_from(payload, 'UTF8')::json"},
};

static const char *payload_of(const char *arguments) {
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        if (strcmp(arguments, shapes[i].arguments) == 0) return shapes[i].payload;
    return NULL;
}

static const char *unfit(struct db_stmt *q) {
    if (!db_int(q, 2)) return "is no plain function";
    if (db_int(q, 3)) return "returns a set";
    if (db_int(q, 4)) return "is STRICT, and would not be called for an event without a key";
    if (!db_int(q, 5)) return "may not be called by this role";
    return NULL;
}

static enum err look_run(struct db *db, struct db_unit *u) {
    struct look *l = (struct look *)u;
    char others[100] = "";
    l->payload = NULL;
    l->why[0] = '\0';
    struct db_stmt *q = db_prepare(db, &look_sql);
    db_bind_text(q, 1, l->h->schema);
    db_bind_text(q, 2, l->h->function);
    int row;
    while ((row = db_step(q)) == DB_ROW) {
        const char *payload = payload_of(db_text(q, 1, NULL)), *name = db_text(q, 0, NULL), *why = unfit(q);
        size_t n = strlen(others);
        if (!payload) snprintf(others + n, sizeof others - n, "; there is %s", name);
        else if (why) snprintf(l->why, sizeof l->why, "the function %s %s", name, why);
        else if (l->payload) snprintf(l->why, sizeof l->why, "several functions fit: %s is only one of them", name);
        if (payload) l->payload = payload;
    }
    if (row == DB_DONE && !l->payload)
        snprintf(l->why, sizeof l->why, "no function %s.%s(uuid, text, text, bytea|text|jsonb|json, jsonb)%s",
                 l->h->schema, l->h->function, others);
    return (enum err) - row;
}

// The ids are an array and no join: a join that was planned while the table was empty reads all of it, for each of
// them. The rows go in the order of their ids, which is that of each key; `offset 0` keeps the sorting below the calls.
static void write_call(struct sql_handler *h, const char *payload) {
    int n = snprintf(h->text, sizeof h->text,
                     "with gone as (delete from barid.inbox_queue q where q.consumer = ?1 "
                     "and q.id = any(?2::bigint[]) and q.state = 0 "
                     "returning q.id, q.event_id, q.topic, q.key, q.payload, q.headers) "
                     "select id, (\"%s\".\"%s\"(event_id, topic, key, %s, coalesce(headers, '{}'))) is null "
                     "from (select * from gone order by id offset 0) g order by id",
                     h->schema, h->function, payload);
    ASSERT(n > 0 && (size_t)n < sizeof h->text);
    h->call.text = h->text;
}

static void looked(struct db_unit *u, enum err err) {
    struct look *l = (struct look *)u;
    if (err != ERR_OK) {
        handler_ready(&l->h->base, err, l->unit.error.text[0] ? l->unit.error.text : err_text(err));
        return;
    }
    if (!l->why[0] && !l->h->call.text) write_call(l->h, l->payload);
    handler_ready(&l->h->base, l->why[0] ? ERR_INVALID : ERR_OK, l->why);
}

static void check(struct handler *base) {
    struct sql_handler *h = (struct sql_handler *)base;
    h->look = (struct look){.unit = {.run = look_run, .done = looked, .read_only = true}, .h = h};
    enum err err = database_submit(base->options.database, &h->look.unit);
    if (err != ERR_OK) die("the database takes no question at the start: %s", err_text(err));
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

static const struct handler_vtable vtable = {.check = check, .free = sql_free};

static bool take_name(const char *from, size_t n, char *to) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
    if (n == 0 || n >= NAME_BYTES || strspn(from, letters) < n) return false;
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
        h->slots[k].limit = BATCH;
        list_init(&h->slots[k].queue);
    }
    h->base.sink = (struct outbox_sink){
        .take = take, .sink = h, .name = "handler", .key_window = KEY_WINDOW, .at_once = 2 * BATCH * slots};
    h->idle.fn = before_block;
    loop_before_block(o->loop, &h->idle);
    *out = &h->base;
    return ERR_OK;
}
