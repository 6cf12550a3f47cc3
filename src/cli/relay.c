// barid relay: from an application's outbox in PostgreSQL to Kafka or AMQP.
//
// On standard output, once it works:
//   barid 0.1.0
//     relay    HOST:PID
//     database postgresql://shop@db/shop
//     to       kafka://kafka:9092
//     metrics  http://127.0.0.1:9464/metrics
//   ready
//
// SIGTERM: nothing new is begun, what is with the broker is waited for and written down, the buckets are given back for
// others to go on with at once.
#include "base/crash.h"
#include "base/io.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "bus/bus.h"
#include "cli/cli.h"
#include "cli/config.h"
#include "cli/metrics_door.h"
#include "cli/shown.h"
#include "cli/stop_signals.h"
#include "cli/waited_unit.h"
#include "database/database.h"
#include "outbox/outbox.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DRAIN_MS 15000

static const struct setting settings[] = {
    {"database", "URL", NULL, "postgresql://…: where the outbox is"},
    {"to", "URL", NULL, "kafka://HOST:PORT[,…][?NAME=VALUE&…] or amqp[s]://USER:PASSWORD@HOST/VHOST[?exchange=NAME]"},
    {"attempts", "N", "3", "so often an event is tried that the broker refuses; then it is parked"},
    {"on-failure", "park|block", "park", "its key goes on without it, or waits until somebody has dealt with it"},
    {"lease", "TIME", "15s", "how long a bucket of keys stays with a relay that is heard of no more"},
    {"batch", "N", "2000", "events claimed at once"},
    {"in-memory", "N", "16384", "events claimed and not yet deleted, at most"},
    {"metrics", "ADDR:PORT", "off", "GET /metrics, /healthz, /readyz; port 0 picks a free one"},
    {"name", "NAME", NULL, "what others see it as; otherwise the machine and the process"},
    {"no-migrate", NULL, NULL, "leave the schema as it is; `barid migrate` brings it up to date"},
    {"log-level", "LEVEL", "info", "debug, info, warn or error"},
    {"safety-check", "TIME", "30s", NULL},
    {0},
};

struct relay {
    struct config config;
    uint64_t attempts, lease_ms, batch, in_memory, safety_check_ms;
    enum outbox_on_failure on_failure;
    char name[64], metrics_address[64];
    uint16_t metrics_port;
    bool metrics;

    struct loop *loop;
    struct io *io;
    struct database *database;
    struct bus *bus;
    struct outbox *outbox;
    struct metrics_door *door;
    struct loop_timer drain_timer;
    struct stop_signals signals;
};

// ---- settings

static bool wrong(const char *what) {
    fprintf(stderr, "barid relay: %s\n`barid relay --help` tells the options.\n", what);
    return false;
}

static bool read_words(struct relay *r) {
    const struct config *c = &r->config;
    const char *on_failure = config_text(c, "on-failure"), *name = config_text(c, "name");
    enum log_level level;
    if (!config_text(c, "database")) return wrong("which database? --database postgresql://…");
    if (database_kind(config_text(c, "database")) != DATABASE_POSTGRES)
        return wrong("--database is a postgresql:// URL; the embedded one is `barid serve`'s own");
    if (!config_text(c, "to")) return wrong("to where? --to kafka://… or amqp://…");
    if (strcmp(config_text(c, "to"), "embedded:") == 0) return wrong("--to is a kafka:// or amqp:// URL");
    if (strcmp(on_failure, "park") != 0 && strcmp(on_failure, "block") != 0)
        return wrong("--on-failure is park or block");
    r->on_failure = strcmp(on_failure, "block") == 0 ? ON_FAILURE_BLOCK : ON_FAILURE_PARK;
    if (log_level_parse(config_text(c, "log-level"), &level) != 0)
        return wrong("--log-level is one of debug, info, warn, error");
    log_set_level(level);
    process_name(name, r->name, sizeof r->name);
    return true;
}

static bool read_settings(struct relay *r) {
    const struct config *c = &r->config;
    r->metrics = strcmp(config_text(c, "metrics"), "off") != 0;
    if (!read_words(r)) return false;
    if (r->metrics && !config_address(c, "metrics", r->metrics_address, sizeof r->metrics_address, &r->metrics_port))
        return false;
    if (!config_number(c, "attempts", 1000, &r->attempts) || !config_number(c, "batch", 65536, &r->batch) ||
        !config_number(c, "in-memory", 65536, &r->in_memory) || !config_duration_ms(c, "lease", &r->lease_ms) ||
        !config_duration_ms(c, "safety-check", &r->safety_check_ms))
        return false;
    if (!r->attempts || !r->batch || !r->in_memory) return wrong("--attempts, --batch and --in-memory are at least 1");
    if (r->batch > r->in_memory) return wrong("--batch is more than --in-memory");
    if (r->lease_ms < 300 || r->lease_ms > 3600000) return wrong("--lease is from 300ms to 1h");
    return r->safety_check_ms > 0 || wrong("--safety-check is more than nothing");
}

// ---- putting it together

static void write_metrics(void *arg, struct buf *b) {
    struct relay *r = arg;
    struct outbox_stats s;
    outbox_stats(r->outbox, &s);
    metrics_number(b, "barid_relay_published_total", "counter", "Events that were taken.", (double)s.published);
    metrics_number(b, "barid_relay_failed_total", "counter", "Attempts that failed.", (double)s.failed);
    metrics_number(b, "barid_relay_in_memory", "gauge", "Events claimed and not settled.", (double)s.waiting);
    metrics_number(b, "barid_relay_bus_away", "gauge", "1 while the other side takes nothing.", s.bus_away);
    metrics_number(b, "barid_relay_leases", "gauge", "Buckets of 64 that this process has.", s.leases);
    metrics_number(b, "barid_relay_members", "gauge", "Processes that share the buckets.", s.members);
    metrics_number(b, "barid_relay_notices", "gauge", "1 while NOTIFY comes through; otherwise it looks every second.",
                   s.notices == NOTICES_ARRIVE);
    if (!s.measured) return;
    metrics_number(b, "barid_relay_lag", "gauge", "Events waiting in the table; beyond 10,000 an estimate.",
                   (double)s.lag);
    metrics_number(b, "barid_relay_oldest_seconds", "gauge", "Age of the oldest event waiting.",
                   (double)s.oldest_age_ms / 1000);
    metrics_number(b, "barid_relay_parked", "gauge", "Events whose attempts are spent.", (double)s.parked);
    metrics_number(b, "barid_relay_blocked", "gauge", "Of the parked: those whose key waits for them.",
                   (double)s.blocked);
}

static const char *say_missing(void *arg) {
    const struct relay *r = arg;
    if (r->signals.stopping) return "going down";
    if (database_notices(r->database) == NOTICES_AWAY) return "the database is away";
    return bus_reachable(r->bus) ? NULL : "the broker is away";
}

static enum err check_run(struct db *db, struct db_unit *u) {
    static struct db_sql sql = {.text = "select 1",
                                .postgres = "select 1 where to_regclass('barid.outbox') is not null and "
                                            "to_regclass('barid.buckets') is not null"};
    int row = db_step(db_prepare(db, &sql));
    if (row < 0) return (enum err) - row;
    return row == DB_ROW ? ERR_OK
                         : error_set(db_error(db), ERR_NOT_FOUND,
                                     "the database has no outbox: run `barid migrate`, or leave --no-migrate away");
}

static enum err check_schema(struct relay *r, struct error *e) {
    struct waited_unit check;
    return unit_wait(&check, r->loop, r->database, check_run, true, e);
}

static enum err open_outbox(struct relay *r, struct error *e) {
    struct outbox_options o = {.loop = r->loop,
                               .io = r->io,
                               .database = r->database,
                               .bus = r->bus,
                               .max_attempts = (uint32_t)r->attempts,
                               .on_failure = r->on_failure,
                               .batch = (uint32_t)r->batch,
                               .rows_max = (uint32_t)r->in_memory,
                               .safety_check_ms = (uint32_t)r->safety_check_ms,
                               .lease_ms = (uint32_t)r->lease_ms,
                               .name = r->name};
    return outbox_new(&r->outbox, &o, e);
}

static enum err open_all(struct relay *r, struct error *e) {
    bool migrate = !config_switch(&r->config, "no-migrate");
    struct database_options d = {.url = config_text(&r->config, "database"), .connections = 2};
    struct bus_options b = {.url = config_text(&r->config, "to"), .mandatory = true};
    enum err err = loop_new(&r->loop, e);
    if (!err) err = io_os_new(&r->io, ".", e);
    b.io = r->io;
    if (!err) err = database_open(&r->database, r->loop, &d, migrate ? outbox_component : NULL, e);
    if (!err) err = check_schema(r, e);
    if (!err) err = bus_open(&r->bus, r->loop, &b, e);
    if (!err) err = open_outbox(r, e);
    if (!err && r->metrics)
        err =
            metrics_door_open(&r->door, r->loop, r->metrics_address, r->metrics_port, write_metrics, say_missing, r, e);
    return err;
}

static void close_all(struct relay *r) {
    metrics_door_close(r->door);
    outbox_free(r->outbox);
    bus_close(r->bus);
    database_close(r->database);
    loop_free(r->loop);
    io_os_free(r->io);
}

static void say_ready(const struct relay *r) {
    char database[URL_SHOWN], to[URL_SHOWN];
    printf("barid " BARID_VERSION "\n  relay    %s\n  database %s\n  to       %s\n", r->name,
           url_shown(config_text(&r->config, "database"), database), url_shown(config_text(&r->config, "to"), to));
    if (r->door) door_print("metrics", "http", r->metrics_address, metrics_door_port(r->door), "/metrics");
    puts("ready");
    fflush(stdout);
}

// ---- running

static void on_drained(void *arg) {
    struct relay *r = arg;
    loop_timer_stop(r->loop, &r->drain_timer);
    stop_signals_end(&r->signals);
    loop_stop(r->loop);
}

static void on_drain_late(struct loop_timer *t) {
    struct relay *r = LIST_ITEM(t, struct relay, drain_timer);
    log_text(LOG_WARN, "stopping", "no answer for what is under way: others go on with it when the leases have ended");
    on_drained(r);
}

static void stop(void *arg) {
    struct relay *r = arg;
    r->drain_timer.fn = on_drain_late;
    loop_timer_start(r->loop, &r->drain_timer, DRAIN_MS);
    outbox_drain(r->outbox, on_drained, r);
}

int cli_relay(int argc, char **argv) {
    struct relay r = {0};
    struct error e = {0};
    enum config_read read = config_read(
        &r.config, "relay", "Publishes what applications store in their outbox in PostgreSQL.", settings, argc, argv);
    if (read != CONFIG_OK) return read == CONFIG_HELP ? 0 : EXIT_USAGE;
    crash_init();
    if (!read_settings(&r)) {
        config_release(&r.config);
        return EXIT_USAGE;
    }
    if (open_all(&r, &e) != ERR_OK) {
        fprintf(stderr, "barid relay: %s\n", e.text);
        _Exit(1); // nothing was begun: there is nothing to take apart
    }
    signal(SIGPIPE, SIG_IGN); // whoever asks for metrics, or reads the log, may go away
    stop_signals_watch(&r.signals, r.loop, stop, &r);
    say_ready(&r);
    loop_run(r.loop);
    close_all(&r);
    log_text(LOG_INFO, "stopped", "nothing is under way");
    config_release(&r.config);
    return 0;
}
