// What the table as a whole is like, for metrics and status: looked at every few seconds, at a bounded cost.
#include "outbox/internal.h"

#include "base/assert.h"

#include <stdlib.h>

#define MEASURE_MS  5000
#define COUNTED_MAX 10000 // rows; beyond, what the statistics of the table say, if that is more

#define PARKED(table, which)                                                                                           \
    "(select count(*) from barid." table " where " which "state <> 0), (select count(*) from barid." table             \
    " where " which "state = 2), "
#define OLDEST(table, which)                                                                                           \
    "coalesce((select ceil(extract(epoch from clock_timestamp() - stored_at) * 1000) from barid." table                \
    " where " which "state = 0 order by id limit 1), 0)::bigint, "
#define LAG(table, which)                                                                                              \
    "(select count(*) from (select from barid." table " where " which "state = 0 limit ?1::bigint) w), "               \
    "(select greatest(reltuples, 0)::bigint from pg_class where oid = 'barid." table "'::regclass)"

static struct db_sql outbox_sql = {
    .text = "select 0, 0, 0, 0, 0, 0",
    .postgres = "select " PARKED("outbox", "") OLDEST("outbox", "") LAG("outbox", "") ", 0",
};
static struct db_sql inbox_sql = {
    .text = "select 0, 0, 0, 0, 0, 0",
    .postgres =
        "select " PARKED("inbox_queue", "consumer = ?2::text and ") OLDEST("inbox_queue", "consumer = ?2::text and ")
            LAG("inbox_queue", "consumer = ?2::text and ") ", (select coalesce(sum(parked), 0)::bigint from "
                                                           "barid.offsets where consumer = ?2::text)",
};

static enum err run(struct db *db, struct db_unit *u) {
    struct measure *m = (struct measure *)u;
    const char *consumer = m->o->options.table.consumer;
    struct db_stmt *s = db_prepare(db, consumer ? &inbox_sql : &outbox_sql);
    db_bind_int(s, 1, COUNTED_MAX);
    if (consumer) db_bind_text(s, 2, consumer);
    int row = db_step(s);
    if (row < 0) return (enum err) - row;
    m->parked = (uint64_t)db_int(s, 0);
    m->blocked = (uint64_t)db_int(s, 1);
    m->oldest_age_ms = db_int(s, 2);
    m->lag = (uint64_t)db_int(s, 3);
    m->on_bus = (uint64_t)db_int(s, 5);
    if (m->lag == COUNTED_MAX && db_int(s, 4) > COUNTED_MAX) m->lag = (uint64_t)db_int(s, 4);
    return ERR_OK;
}

static void done(struct db_unit *u, enum err err) {
    struct measure *m = (struct measure *)u;
    struct outbox *o = m->o;
    m->running = false;
    if (outbox_ended(o) || o->closing) return;
    if (!err) m->known = (struct measured){m->lag, m->parked, m->blocked, m->on_bus, m->oldest_age_ms, true};
    loop_timer_start(o->options.loop, &m->timer, MEASURE_MS);
}

static void begin(struct loop_timer *t) {
    struct measure *m = LIST_ITEM(t, struct measure, timer);
    m->unit = (struct db_unit){.run = run, .done = done, .read_only = true};
    m->running = true;
    if (!database_submit(m->o->options.database, &m->unit)) return;
    m->running = false;
    loop_timer_start(m->o->options.loop, t, MEASURE_MS);
}

void measure_new(struct outbox *o) {
    o->measure = calloc(1, sizeof *o->measure);
    if (!o->measure) die("no memory for the outbox");
    o->measure->o = o;
    o->measure->timer.fn = begin;
    begin(&o->measure->timer);
}

void measure_free(struct outbox *o) { loop_timer_stop(o->options.loop, &o->measure->timer); }

bool measure_busy(const struct outbox *o) { return o->measure && o->measure->running; }

void measure_stats(const struct outbox *o, struct outbox_stats *out) {
    if (!o->measure || !o->measure->known.yes) return;
    const struct measured *known = &o->measure->known;
    out->measured = true;
    out->lag = known->lag;
    out->parked = known->parked;
    out->blocked = known->blocked;
    out->parked_on_bus = known->on_bus;
    out->oldest_age_ms = known->oldest_age_ms;
}
