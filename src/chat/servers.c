#include "chat/servers.h"

#include "base/io.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "chat/internal.h"
#include "database/database.h"

#include <stdio.h>
#include <stdlib.h>

#define LEASE_MS  15000
#define RENEW_MS  (LEASE_MS / 3)
#define FORGET_MS CHAT_DAY_MS
#define NAME_TEXT 200
#define CLOCK_MS  100 // our clock may be so far from the database's before we follow
#define JOIN_LOCK INT64_C(0x6261726a)

struct servers {
    struct db_unit unit; // first; one under way at most
    struct loop *loop;
    struct io *io;
    struct database *database;
    struct loop_timer timer;
    char name[NAME_TEXT];
    bool alone, busy, leaving;
    int64_t id;
    int64_t clock, measured; // how far the database's clock is ahead: what holds, what the unit found
    servers_joined_fn *joined;
    void (*lost)(void *arg, const struct error *e);
    void *arg;
};

int64_t servers_id(const struct servers *s) { return s->id; }
int64_t servers_clock(const struct servers *s) { return s != NULL ? s->clock : 0; }

static enum err measure_clock(struct db *db, struct servers *s) {
    static struct db_sql now = {.text = "select (extract(epoch from clock_timestamp()) * 1000)::bigint"};
    enum err err = ERR_OK;
    int64_t asked = io_wall_ms(s->io);
    struct db_stmt *q = db_prepare(db, &now);
    if (row(q, &err)) s->measured = db_int(q, 0) - (asked + io_wall_ms(s->io)) / 2;
    while (err == ERR_OK && row(q, &err)) {
    }
    return err;
}

// A little off is left alone, so that time does not go back and forth.
static void set_clock(struct servers *s) {
    int64_t off = s->measured - s->clock;
    if (off > -CLOCK_MS && off < CLOCK_MS) return;
    s->clock = s->measured;
    log_text(LOG_WARN, "clock_is_off", "the database's clock is %lld ms ahead of ours; it holds", (long long)s->clock);
}

// Whoever joins does so one after the other.
static enum err take_turn(struct db *db) {
    static struct db_sql lock = {.text = "select pg_advisory_xact_lock(?1)"};
    return RUN(db, &lock, JOIN_LOCK);
}

static enum err look_for_others(struct db *db, const struct servers *s) {
    static struct db_sql find = {
        .text = "select name, alone from server where lease_until > clock_timestamp() and server_id <> ?1 "
                "and not (alone and name = ?2) and (alone or ?3 = 1) order by alone desc, server_id limit 1"};
    enum err err = ERR_OK;
    struct db_stmt *q = db_prepare(db, &find);
    db_bind_int(q, 1, s->id);
    db_bind_text(q, 2, s->name);
    db_bind_int(q, 3, s->alone);
    if (!row(q, &err)) return err;
    if (db_int(q, 1) != 0)
        return error_set(db_error(db), ERR_LOCKED,
                         "the database belongs to the server %s, which keeps its bus or its media on its own disk: "
                         "several servers need --bus kafka://… and --data-store postgresql",
                         db_text(q, 0, NULL));
    return error_set(
        db_error(db), ERR_LOCKED,
        "the server %s is running on the database: a server with its bus or its media on its own disk must "
        "be the only one (several need --bus kafka://… and --data-store postgresql)",
        db_text(q, 0, NULL));
}

// What was here before us under the same name, and whoever has been away for long.
static enum err forget(struct db *db, const struct servers *s) {
    static struct db_sql remove = {.text = "delete from server where server_id <> ?1 and ((alone and name = ?2) "
                                           "or lease_until < clock_timestamp() - ?3 * interval '1 millisecond')"};
    struct db_stmt *q = db_prepare(db, &remove);
    db_bind_int(q, 1, s->id);
    db_bind_text(q, 2, s->name);
    db_bind_int(q, 3, FORGET_MS);
    return db_run(q);
}

static enum err insert(struct db *db, struct servers *s) {
    static struct db_sql add = {.text = "insert into server (name, alone, lease_until) values (?1, ?2 = 1, "
                                        "clock_timestamp() + ?3 * interval '1 millisecond') returning server_id"};
    enum err err = ERR_OK;
    struct db_stmt *q = db_prepare(db, &add);
    db_bind_text(q, 1, s->name);
    db_bind_int(q, 2, s->alone);
    db_bind_int(q, 3, LEASE_MS);
    if (row(q, &err)) s->id = db_int(q, 0);
    return err;
}

static enum err join_run(struct db *db, struct db_unit *u) {
    struct servers *s = (struct servers *)u;
    s->id = 0;
    enum err err = measure_clock(db, s);
    if (err == ERR_OK) err = take_turn(db);
    if (err == ERR_OK) err = look_for_others(db, s);
    if (err == ERR_OK) err = forget(db, s);
    return err == ERR_OK ? insert(db, s) : err;
}

// A lease that ran out (frozen, cut off from the database) is taken up again if the place is still free.
static enum err renew_run(struct db *db, struct db_unit *u) {
    static struct db_sql renew = {
        .text = "update server set lease_until = clock_timestamp() + ?2 * interval '1 millisecond' "
                "where server_id = ?1 and lease_until > clock_timestamp()"};
    static struct db_sql again = {
        .text = "insert into server (server_id, name, alone, lease_until) overriding system value "
                "values (?1, ?2, ?3 = 1, clock_timestamp() + ?4 * interval '1 millisecond') "
                "on conflict (server_id) do update set lease_until = excluded.lease_until"};
    struct servers *s = (struct servers *)u;
    enum err err = measure_clock(db, s);
    if (err == ERR_OK) err = RUN(db, &renew, s->id, LEASE_MS);
    if (err != ERR_OK || db_changes(db) > 0) return err;
    if ((err = take_turn(db)) != ERR_OK || (err = look_for_others(db, s)) != ERR_OK) return err;
    struct db_stmt *q = db_prepare(db, &again);
    db_bind_int(q, 1, s->id);
    db_bind_text(q, 2, s->name);
    db_bind_int(q, 3, s->alone);
    db_bind_int(q, 4, LEASE_MS);
    return db_run(q);
}

static enum err leave_run(struct db *db, struct db_unit *u) {
    static struct db_sql remove = {.text = "delete from server where server_id = ?1"};
    return RUN(db, &remove, ((struct servers *)u)->id);
}

static void left(struct db_unit *u, enum err err) { free(u); }

static void leave(struct servers *s) {
    s->unit = (struct db_unit){.run = leave_run, .done = left, .frees_space = true};
    if (s->id == 0 || database_submit(s->database, &s->unit) != ERR_OK) free(s);
}

static void submit(struct servers *s, enum err (*run)(struct db *db, struct db_unit *u),
                   void (*done)(struct db_unit *u, enum err err)) {
    s->unit = (struct db_unit){.run = run, .done = done, .frees_space = true};
    s->busy = true;
    enum err err = database_submit(s->database, &s->unit);
    if (err != ERR_OK) done(&s->unit, err);
}

static void renewed(struct db_unit *u, enum err err) {
    struct servers *s = (struct servers *)u;
    s->busy = false;
    if (s->leaving) {
        leave(s);
        return;
    }
    if (err == ERR_LOCKED) {
        s->lost(s->arg, &u->error);
        return;
    }
    if (err == ERR_OK) set_clock(s);
    if (err != ERR_OK) log_text(LOG_WARN, "lease_not_renewed", "%s", err_text(err));
    loop_timer_start(s->loop, &s->timer, RENEW_MS);
}

static void renew(struct loop_timer *t) { submit(LIST_ITEM(t, struct servers, timer), renew_run, renewed); }

static void joined(struct db_unit *u, enum err err) {
    struct servers *s = (struct servers *)u;
    s->busy = false;
    if (s->leaving) {
        leave(s);
        return;
    }
    if (err == ERR_OK) set_clock(s);
    if (err == ERR_OK) loop_timer_start(s->loop, &s->timer, RENEW_MS);
    struct error e = u->error;
    if (err != ERR_OK && e.code != err)
        error_set(&e, err, "cannot join the servers on the database: %s", err_text(err));
    s->joined(s->arg, err, &e);
}

static void join(struct loop_timer *t) {
    struct servers *s = LIST_ITEM(t, struct servers, timer);
    s->timer.fn = renew;
    submit(s, join_run, joined);
}

struct servers *servers_join(const struct servers_options *o, servers_joined_fn *done) {
    ASSERT(o->loop && o->io && o->database && o->name);
    struct servers *s = chat_alloc(sizeof *s);
    s->loop = o->loop;
    s->io = o->io;
    s->database = o->database;
    s->alone = o->alone;
    s->joined = done;
    s->lost = o->lost;
    s->arg = o->arg;
    s->timer.fn = join;
    snprintf(s->name, sizeof s->name, "%s", o->name);
    loop_timer_start(s->loop, &s->timer, 0);
    return s;
}

void servers_leave(struct servers *s) {
    if (s == NULL) return;
    loop_timer_stop(s->loop, &s->timer);
    s->leaving = true;
    if (!s->busy) leave(s);
}
