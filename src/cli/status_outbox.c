// barid status --database: outbox and inboxes in a PostgreSQL database, who works on them, and what waits. One look.
//
// It asks the database alone, so it works from anywhere and tells of all processes; their own numbers are behind
// --metrics.
#include "cli/status_outbox.h"
#include "base/loop.h"
#include "cli/cli.h"
#include "cli/table.h"
#include "cli/waited_unit.h"
#include "database/database.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNTED_MAX      10000 // rows of a queue; beyond, "more than"
#define NOTICES_PATIENCE 3000  // ms, for the probe
#define NOTICES_LOOK     20

struct look {
    struct waited_unit unit; // first
    struct loop *loop;
    struct database *database;
    struct loop_timer timer;
    uint64_t until_ms;
    json_t *queues;
};

#define NUMBERS(table, which)                                                                                          \
    "(select count(*) from (select from " table " where " which "state = 0 limit ?1::bigint + 1) w), "                 \
    "coalesce((select ceil(extract(epoch from clock_timestamp() - stored_at) * 1000) from " table " where " which      \
    "state = 0 order by id limit 1), 0)::bigint, "                                                                     \
    "(select count(*) from " table " where " which "state <> 0), "                                                     \
    "(select count(*) from " table " where " which "state = 2)"

static struct db_sql there_sql = {.text = "select 1 where 0",
                                  .postgres = "select 1 where to_regclass('barid.buckets') is not null"};
static struct db_sql queues_sql = {
    .text = "select 1 where 0",
    .postgres = "select 'outbox'::text, null::text, " NUMBERS(
        "outbox",
        "") ", 0::bigint union all "
            "select q.queue, c.name, " NUMBERS(
                "inbox_queue",
                "consumer = c.name and ") ", (select coalesce(sum(o.parked), 0)::bigint from offsets o where "
                                          "o.consumer = c.name) from (select distinct queue from buckets where queue "
                                          "like 'inbox:%') q, "
                                          "lateral (select substr(q.queue, 7) as name) c order by 2 nulls first",
};
static struct db_sql members_sql = {
    .text = "select 1 where 0",
    .postgres = "select m.queue, m.name, count(b.bucket), m.away, m.settings from members m left join buckets b "
                "on b.queue = m.queue and b.owner = m.member and b.lease_until >= now() where m.seen_until >= now() "
                "group by m.queue, m.member order by 1, 2",
};

// ---- asking

static enum err read_queues(struct db *db, struct look *l) {
    struct db_stmt *s = db_prepare(db, &queues_sql);
    db_bind_int(s, 1, COUNTED_MAX);
    int row;
    while ((row = db_step(s)) == DB_ROW) {
        json_t *q = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:i, s:[]}", "queue", db_text(s, 0, NULL), "waiting",
                              (json_int_t)db_int(s, 2), "oldest_ms", (json_int_t)db_int(s, 3), "parked",
                              (json_int_t)db_int(s, 4), "blocked", (json_int_t)db_int(s, 5), "parked_on_bus",
                              (json_int_t)db_int(s, 6), "leases", 0, "members");
        json_array_append_new(l->queues, q);
    }
    return row < 0 ? (enum err) - row : ERR_OK;
}

static void add_member(struct look *l, struct db_stmt *s) {
    const char *queue = db_text(s, 0, NULL), *name = db_text(s, 1, NULL);
    json_int_t leases = db_int(s, 2);
    size_t i;
    json_t *q;
    json_array_foreach(l->queues, i, q) {
        if (strcmp(json_string_value(json_object_get(q, "queue")), queue) != 0) continue;
        json_int_t sum = json_integer_value(json_object_get(q, "leases")) + leases;
        json_object_set_new(q, "leases", json_integer(sum));
        json_array_append_new(json_object_get(q, "members"),
                              json_pack("{s:s, s:I, s:s*, s:s*}", "name", name, "leases", leases, "away",
                                        db_text(s, 3, NULL), "settings", db_text(s, 4, NULL)));
    }
}

static enum err run(struct db *db, struct db_unit *u) {
    struct look *l = (struct look *)u;
    json_array_clear(l->queues);
    int row = db_step(db_prepare(db, &there_sql));
    if (row == DB_DONE) return error_set(db_error(db), ERR_NOT_FOUND, "the database has no outbox");
    enum err err = row < 0 ? (enum err) - row : read_queues(db, l);
    if (err) return err;
    struct db_stmt *s = db_prepare(db, &members_sql);
    while ((row = db_step(s)) == DB_ROW) add_member(l, s);
    return row < 0 ? (enum err) - row : ERR_OK;
}

// ---- do notices come through?

static void noticed(void *arg, const char *payload) {}

static void look_at_notices(struct loop_timer *t) {
    struct look *l = (struct look *)((char *)t - offsetof(struct look, timer));
    if (database_notices(l->database) != NOTICES_AWAY || loop_now_ms(l->loop) >= l->until_ms) loop_stop(l->loop);
    else loop_timer_start(l->loop, t, NOTICES_LOOK);
}

static void wait_for_notices(struct look *l) {
    struct error e;
    if (database_listen(l->database, "barid_outbox", noticed, l, &e)) return;
    l->until_ms = loop_now_ms(l->loop) + NOTICES_PATIENCE;
    l->timer.fn = look_at_notices;
    loop_timer_start(l->loop, &l->timer, 0);
    loop_run(l->loop);
    database_unlisten(l->database, "barid_outbox", noticed, l);
}

static enum err ask(struct look *l, const char *url, enum database_notices *notices, struct error *e) {
    enum err err = loop_new(&l->loop, e);
    if (err) return err;
    err = database_open(&l->database, l->loop, &(struct database_options){.url = url, .connections = 1}, NULL, e);
    if (!err) {
        err = unit_wait(&l->unit, l->loop, l->database, run, true, e);
        if (!err) wait_for_notices(l);
        *notices = database_notices(l->database);
        database_close(l->database);
    }
    loop_free(l->loop);
    return err;
}

// ---- showing

static void print_age(char *out, size_t size, json_int_t ms, json_int_t waiting) {
    if (!waiting) snprintf(out, size, "-");
    else if (ms < 60000) snprintf(out, size, "%.1f s", (double)ms / 1000);
    else if (ms < 7200000) snprintf(out, size, "%lld min", (long long)(ms / 60000));
    else snprintf(out, size, "%lld h", (long long)(ms / 3600000));
}

static json_int_t number(const json_t *q, const char *name) { return json_integer_value(json_object_get(q, name)); }

static void print_queues(json_t *queues) {
    struct table t;
    size_t i;
    json_t *q;
    table_init(&t, 8);
    table_row(&t,
              (const char *[]){"QUEUE", "WAITING", "OLDEST", "PARKED", "BLOCKED", "ON BUS", "PROCESSES", "BUCKETS"});
    json_array_foreach(queues, i, q) {
        char waiting[24], oldest[24], parked[24], blocked[24], on_bus[24], processes[24], buckets[24];
        json_int_t n = number(q, "waiting");
        snprintf(waiting, sizeof waiting, n > COUNTED_MAX ? "> %d" : "%d", n > COUNTED_MAX ? COUNTED_MAX : (int)n);
        print_age(oldest, sizeof oldest, number(q, "oldest_ms"), n);
        snprintf(parked, sizeof parked, "%lld", (long long)number(q, "parked"));
        snprintf(blocked, sizeof blocked, "%lld", (long long)number(q, "blocked"));
        snprintf(on_bus, sizeof on_bus, "%lld", (long long)number(q, "parked_on_bus"));
        snprintf(processes, sizeof processes, "%zu", json_array_size(json_object_get(q, "members")));
        snprintf(buckets, sizeof buckets, "%lld/64", (long long)number(q, "leases"));
        table_row(&t, (const char *[]){json_string_value(json_object_get(q, "queue")), waiting, oldest, parked, blocked,
                                       on_bus, processes, buckets});
    }
    table_print(&t);
    table_release(&t);
}

static const char *text_of(const json_t *o, const char *name) { return json_string_value(json_object_get(o, name)); }

static void print_members(json_t *queues) {
    struct table t;
    size_t i, j;
    json_t *q, *m;
    table_init(&t, 4);
    table_row(&t, (const char *[]){"PROCESS", "QUEUE", "BUCKETS", "SET UP WITH"});
    json_array_foreach(queues, i, q) json_array_foreach(json_object_get(q, "members"), j, m) {
        char leases[24];
        snprintf(leases, sizeof leases, "%lld", (long long)number(m, "leases"));
        table_row(&t, (const char *[]){json_string_value(json_object_get(m, "name")),
                                       json_string_value(json_object_get(q, "queue")), leases,
                                       text_of(m, "settings") ? text_of(m, "settings") : "-"});
    }
    putchar('\n');
    table_print(&t);
    table_release(&t);
}

// Who gets rid of nothing, and why.
static void print_away(json_t *queues) {
    size_t i, j;
    json_t *q, *m;
    json_array_foreach(queues, i, q) json_array_foreach(json_object_get(q, "members"), j, m) {
        if (text_of(m, "away"))
            printf("\n%s of %s waits: %s\n", text_of(m, "name"), text_of(q, "queue"), text_of(m, "away"));
    }
}

static const char *notices_word(enum database_notices notices) {
    switch (notices) {
    case NOTICES_NONE: return "none";
    case NOTICES_ARRIVE: return "arrive";
    case NOTICES_LOST: return "lost";
    case NOTICES_AWAY: return "away";
    }
    return "?";
}

static const char *explain(enum database_notices notices) {
    if (notices == NOTICES_LOST) return "lost: something between swallows NOTIFY, everybody looks every second";
    if (notices == NOTICES_AWAY) return "away: no listening connection";
    return "arrive";
}

int status_outbox(const char *url, bool json) {
    struct error e = {0};
    struct look l = {.queues = json_array()};
    enum database_notices notices = NOTICES_AWAY;
    if (database_kind(url) != DATABASE_POSTGRES) {
        fprintf(stderr, "barid status: --database is a postgresql:// URL\n");
        json_decref(l.queues);
        return EXIT_USAGE;
    }
    enum err err = ask(&l, url, &notices, &e);
    if (err) {
        fprintf(stderr, "barid status: %s\n", e.text[0] ? e.text : err_text(err));
    } else if (json) {
        json_t *all = json_pack("{s:O, s:s}", "queues", l.queues, "notices", notices_word(notices));
        json_dumpf(all, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(all);
    } else {
        print_queues(l.queues);
        print_members(l.queues);
        print_away(l.queues);
        printf("\nnotices   %s\n", explain(notices));
    }
    json_decref(l.queues);
    return err ? 1 : 0;
}
