#include "inbox/remember.h"

#include "base/assert.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "database/database.h"

#include <stdlib.h>

#define KEEP_MS  (UINT64_C(7) * 24 * 3600 * 1000)
#define EVERY_MS 60000
#define CHUNK    5000
#define PAUSE_MS 100 // between chunks: others want the disk, too

struct remember {
    struct db_unit unit; // first
    struct remember_options options;
    struct loop_timer timer;
    bool running, stopped;
    uint64_t removed, forgotten;
};

// Nothing newer than the oldest event that waits is forgotten, so that no row has to be asked whether its event does;
// parked ones are few, and known by their own index.
static struct db_sql forget_sql = {
    .text = "with oldest as (select min(w.stored_at) as at from (select q.stored_at from barid.inbox_queue q "
            "where q.consumer = ?1 and q.state = 0 order by q.id limit 1) as w), "
            "old as (select i.ctid as at from barid.inbox i, oldest where i.consumer = ?1 "
            "and i.received_at < least(clock_timestamp() - ?2 * interval '1 millisecond', "
            "oldest.at - interval '1 minute') "
            "and not exists (select from barid.inbox_queue p where p.consumer = ?1 and p.state <> 0 "
            "and p.event_id = i.event_id) "
            "order by i.received_at limit ?3 for update of i skip locked) "
            "delete from barid.inbox where ctid = any (array(select at from old))",
};

// Seven days are counted from the handling, as well as that can be had without writing at every one of them: what
// waits, or is parked, for longer than a day is taken for received anew, day by day.
static struct db_sql renew_sql = {
    .text = "update barid.inbox i set received_at = clock_timestamp() from (select q.event_id from barid.inbox_queue q "
            "where q.consumer = ?1 and q.stored_at < clock_timestamp() - interval '1 day' order by q.id limit ?2) w "
            "where i.consumer = ?1 and i.event_id = w.event_id "
            "and i.received_at < clock_timestamp() - interval '1 day'",
};

static enum err renew(struct db *db, const struct remember *r) {
    struct db_stmt *s = db_prepare(db, &renew_sql);
    db_bind_text(s, 1, r->options.consumer);
    db_bind_int(s, 2, CHUNK);
    return db_run(s);
}

static enum err run(struct db *db, struct db_unit *u) {
    struct remember *r = (struct remember *)u;
    enum err err = renew(db, r);
    if (err != ERR_OK) return err;
    struct db_stmt *s = db_prepare(db, &forget_sql);
    db_bind_text(s, 1, r->options.consumer);
    db_bind_int(s, 2, (int64_t)r->options.keep_ms);
    db_bind_int(s, 3, CHUNK);
    err = db_run(s);
    r->removed = err == ERR_OK ? (uint64_t)db_changes(db) : 0;
    return err;
}

static void done(struct db_unit *u, enum err err) {
    struct remember *r = (struct remember *)u;
    r->running = false;
    if (r->stopped) return;
    if (err != ERR_OK)
        log_event(LOG_WARN, "forget_failed", "consumer", r->options.consumer, "error", u->error.text, NULL);
    else r->forgotten += r->removed;
    bool more = err == ERR_OK && r->removed == CHUNK;
    loop_timer_start(r->options.loop, &r->timer, more ? PAUSE_MS : r->options.every_ms);
}

static void look(struct remember *r) {
    r->unit = (struct db_unit){.run = run, .done = done, .frees_space = true};
    r->removed = 0;
    enum err err = database_submit(r->options.database, &r->unit);
    if (err == ERR_OK) r->running = true;
    else loop_timer_start(r->options.loop, &r->timer, r->options.every_ms);
}

static void on_timer(struct loop_timer *t) { look(LIST_ITEM(t, struct remember, timer)); }

void remember_new(struct remember **out, const struct remember_options *o) {
    struct remember *r = calloc(1, sizeof *r);
    if (!r) die("no memory");
    r->options = *o;
    if (!r->options.keep_ms) r->options.keep_ms = KEEP_MS;
    if (!r->options.every_ms) r->options.every_ms = EVERY_MS;
    r->timer.fn = on_timer;
    look(r);
    *out = r;
}

void remember_stop(struct remember *r) {
    r->stopped = true;
    loop_timer_stop(r->options.loop, &r->timer);
}

void remember_free(struct remember *r) {
    if (!r) return;
    ASSERT(!r->running);
    loop_timer_stop(r->options.loop, &r->timer);
    free(r);
}

uint64_t remember_forgotten(const struct remember *r) { return r->forgotten; }
