// Looking the function up: at the start, and when an event has failed.
//
// A function that was dropped, or that may no longer be called, would fail every event, one after the other. That is no
// fault of theirs: it is as if the handler were away, until the function is there again. It may come back with another
// type for the payload.
#include "inbox/handler_sql.h"

#include "base/assert.h"

#include <stdio.h>
#include <string.h>

static struct db_sql look_sql = {
    .text =
        "select p.oid::regprocedure::text, oidvectortypes(p.proargtypes), p.prokind = 'f', p.proretset, p.proisstrict, "
        "has_function_privilege(p.oid, 'execute') and has_schema_privilege(n.oid, 'usage') "
        "from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace "
        "where n.nspname = ?1 and p.proname = ?2 order by 1",
};

static const struct {
    const char *arguments, *payload;
} shapes[SQL_SHAPES] = {
    {"uuid, text, text, bytea, jsonb", "payload"},
    {"uuid, text, text, text, jsonb", "convert_from(payload, 'UTF8')"},
    {"uuid, text, text, jsonb, jsonb", "convert_from(payload, 'UTF8')::jsonb"},
    {"uuid, text, text, json, jsonb", "convert_from(payload, 'UTF8')::json"},
};

static int shape_of(const char *arguments) {
    for (int i = 0; i < SQL_SHAPES; i++)
        if (strcmp(arguments, shapes[i].arguments) == 0) return i;
    return -1;
}

static const char *unfit(struct db_stmt *q) {
    if (!db_int(q, 2)) return "is no plain function";
    if (db_int(q, 3)) return "returns a set";
    if (db_int(q, 4)) return "is STRICT, and would not be called for an event without a key";
    if (!db_int(q, 5)) return "may not be called by this role";
    return NULL;
}

static enum err run(struct db *db, struct db_unit *u) {
    struct sql_look *l = (struct sql_look *)u;
    char others[100] = "";
    l->shape = -1;
    l->why[0] = '\0';
    struct db_stmt *q = db_prepare(db, &look_sql);
    db_bind_text(q, 1, l->h->schema);
    db_bind_text(q, 2, l->h->function);
    int row;
    while ((row = db_step(q)) == DB_ROW) {
        const char *name = db_text(q, 0, NULL), *why = unfit(q);
        int shape = shape_of(db_text(q, 1, NULL));
        size_t n = strlen(others);
        if (shape < 0) snprintf(others + n, sizeof others - n, "; there is %s", name);
        else if (why) snprintf(l->why, sizeof l->why, "the function %s %s", name, why);
        else if (l->shape >= 0) snprintf(l->why, sizeof l->why, "several functions fit: %s is only one of them", name);
        if (shape >= 0) l->shape = shape;
    }
    if (row == DB_DONE && l->shape < 0)
        snprintf(l->why, sizeof l->why, "no function %s.%s(uuid, text, text, bytea|text|jsonb|json, jsonb)%.66s",
                 l->h->schema, l->h->function, others);
    return (enum err) - row;
}

// The ids are an array and no join: a join that was planned while the table was empty reads all of it, for each of
// them. The rows go in the order of their ids, which is that of each key; `offset 0` keeps the sorting below the calls.
static struct db_sql *call_of(struct sql_handler *h, int shape) {
    struct db_sql *sql = &h->calls[shape].sql;
    if (sql->text) return sql;
    char *text = h->calls[shape].text;
    int n = snprintf(text, SQL_TEXT_BYTES,
                     "with gone as (delete from barid.inbox_queue q where q.consumer = ?1 "
                     "and q.id = any(?2::bigint[]) and q.state = 0 "
                     "returning q.id, q.event_id, q.topic, q.key, q.payload, q.headers) "
                     "select id, (\"%s\".\"%s\"(event_id, topic, key, %s, coalesce(headers, '{}'))) is null "
                     "from (select * from gone order by id offset 0) g order by id",
                     h->schema, h->function, shapes[shape].payload);
    ASSERT(n > 0 && n < SQL_TEXT_BYTES);
    sql->text = text;
    return sql;
}

static enum err submit(struct sql_look *l, struct sql_handler *h, struct slot *s,
                       void (*done)(struct db_unit *u, enum err err)) {
    *l = (struct sql_look){.unit = {.run = run, .done = done, .read_only = true}, .h = h, .slot = s};
    return database_submit(h->base.options.database, &l->unit);
}

// ---- at the start

static void found(struct db_unit *u, enum err err) {
    struct sql_look *l = (struct sql_look *)u;
    if (err != ERR_OK) {
        handler_ready(&l->h->base, err, l->unit.error.text[0] ? l->unit.error.text : err_text(err));
        return;
    }
    if (!l->why[0]) l->h->call = call_of(l->h, l->shape);
    handler_ready(&l->h->base, l->why[0] ? ERR_INVALID : ERR_OK, l->why);
}

void sql_look_at_start(struct handler *base) {
    struct sql_handler *h = (struct sql_handler *)base;
    enum err err = submit(&h->look, h, NULL, found);
    if (err != ERR_OK) die("the database takes no question at the start: %s", err_text(err));
}

// ---- when an event has failed

static void found_again(struct db_unit *u, enum err err) {
    struct sql_look *l = (struct sql_look *)u;
    struct slot *s = l->slot;
    s->running = false;
    if (err != ERR_OK) {
        sql_away(s, l->unit.error.text[0] ? l->unit.error.text : err_text(err));
    } else if (l->why[0]) {
        sql_away(s, l->why);
    } else if (s->call != call_of(s->h, l->shape)) {
        s->h->call = call_of(s->h, l->shape);
        sql_again(s);
    } else {
        sql_refuse(s, s->why);
    }
}

void sql_look_again(struct slot *s) {
    s->running = submit(&s->look, s->h, s, found_again) == ERR_OK;
    if (!s->running) sql_away(s, s->why);
}
