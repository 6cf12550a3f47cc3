// barid receive: events from Kafka or an AMQP broker, into the inbox of a PostgreSQL database, and from there to a
// handler. Several of one consumer run side by side: the broker shares out what is taken in, leases share out what is
// handled.
//
// On standard output, once it works. An AMQP broker has its queue by then, so that nothing published afterwards is
// refused for want of one; one that is away is not waited for.
//   barid 0.1.0
//     from     kafka://127.0.0.1:9092  orders.*
//     into     postgresql://shop@127.0.0.1/shop  as invoices
//     handler  sql:shop.on_order
//     metrics  http://127.0.0.1:9187/metrics
//   ready
#include "base/crash.h"
#include "base/io.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/utf8.h"
#include "bus/bus.h"
#include "cli/cli.h"
#include "cli/config.h"
#include "cli/metrics_door.h"
#include "cli/shown.h"
#include "cli/stop_signals.h"
#include "database/database.h"
#include "inbox/handler.h"
#include "inbox/intake.h"
#include "inbox/remember.h"
#include "outbox/outbox.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONSUMER_MAX     100
#define CHECK_AGAIN_MS   1000
#define READY_LOOK_MS    20
#define READY_MOST_MS    3000 // the broker is away: it is said without it
#define DRAIN_MORE_MS    5000 // beyond the handler's own time limit
#define HANDLER_TIME_MAX UINT64_C(86400000)

static const struct setting settings[] = {
    {"database", "URL", NULL, "the application's: postgresql://USER:PASSWORD@HOST/NAME"},
    {"from", "URL", NULL, "kafka://HOST:PORT[,HOST:PORT…] or amqp://USER:PASSWORD@HOST/VHOST"},
    {"consumer", "NAME", NULL, "who receives: each name gets every event, processes of one name share them"},
    {"topic", "PATTERN", NULL, "which topics: words with dots between, * any word, # any words"},
    {"handler", "HANDLER", NULL, "sql:SCHEMA.FUNCTION, http(s)://…, or exec:COMMAND"},
    {"attempts", "N", "3", "how often an event is tried before it is parked"},
    {"on-failure", "park|block", "park", "then: the event steps aside, or its key waits for somebody to look at it"},
    {"concurrency", "N", "0", "events at once (sql: transactions at once); 0: 16 (sql: 4)"},
    {"handler-timeout", "TIME", "30s", "for one event; a program is killed then"},
    {"prefetch", "N", "4096", "events taken from the broker and not stored yet, at most"},
    {"remember", "TIME", "7d", "for how long an event is known as received"},
    {"metrics", "ADDR:PORT", "off", "GET /metrics, /healthz, /readyz; port 0 picks a free one"},
    {"name", "NAME", NULL, "what others see it as; otherwise the machine and the process"},
    {"log-level", "LEVEL", "info", "debug, info, warn or error"},
    {"lease-ms", "MS", "0", NULL},
    {"safety-check-ms", "MS", "0", NULL},
    {"forget-every-ms", "MS", "0", NULL},
    {0},
};

struct receive {
    struct config config;
    const char *database_url, *from, *consumer, *topic, *handler_spec;
    uint64_t attempts, concurrency, handler_timeout_ms, prefetch, remember_ms, lease_ms, safety_check_ms,
        forget_every_ms;
    enum outbox_on_failure on_failure;
    char name[64], address[64];
    uint16_t port;
    bool with_metrics;

    struct loop *loop;
    struct io *io;
    struct database *database;
    struct bus *bus;
    struct handler *handler;
    struct intake *intake;
    struct outbox *queue;
    struct remember *remember;
    struct metrics_door *door;
    struct loop_timer check_again, ready, patience;
    uint64_t ready_until_ms;
    struct stop_signals signals;
    char shared[URL_SHOWN + 600]; // what all of the consumer have in common
    bool started, intake_drained, queue_drained, failed;
};

// ---- settings

static bool complain(const char *what) {
    fprintf(stderr, "barid receive: %s\n", what);
    return false;
}

static bool name_is_good(const char *name) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t n = strlen(name);
    return n > 0 && n <= CONSUMER_MAX && strspn(name, letters) == n;
}

static bool is_text(const char *text) { return utf8_valid(text, strlen(text)); }

static bool read_names(struct receive *r) {
    const struct config *c = &r->config;
    r->database_url = config_text(c, "database");
    r->from = config_text(c, "from");
    r->consumer = config_text(c, "consumer");
    r->topic = config_text(c, "topic");
    r->handler_spec = config_text(c, "handler");
    if (!r->database_url || !r->from || !r->consumer || !r->topic || !r->handler_spec)
        return complain("it wants --database, --from, --consumer, --topic and --handler");
    if (database_kind(r->database_url) != DATABASE_POSTGRES) return complain("--database is a postgresql:// URL");
    if (strncmp(r->from, "embedded:", 9) == 0) return complain("--from is a kafka://, amqp:// or amqps:// URL");
    if (!is_text(r->topic) || !is_text(r->handler_spec)) return complain("--topic and --handler are UTF-8 text");
    if (!name_is_good(r->consumer)) return complain("--consumer has 1 to 100 of the characters A-Z a-z 0-9 . _ -");
    return true;
}

static bool read_on_failure(struct receive *r) {
    const char *text = config_text(&r->config, "on-failure");
    if (strcmp(text, "park") != 0 && strcmp(text, "block") != 0) return complain("--on-failure is park or block");
    r->on_failure = strcmp(text, "block") == 0 ? ON_FAILURE_BLOCK : ON_FAILURE_PARK;
    return true;
}

static bool read_settings(struct receive *r) {
    const struct config *c = &r->config;
    enum log_level level;
    if (log_level_parse(config_text(c, "log-level"), &level) != 0)
        return complain("--log-level is one of debug, info, warn, error");
    log_set_level(level);
    process_name(config_text(c, "name"), r->name, sizeof r->name);
    r->with_metrics = strcmp(config_text(c, "metrics"), "off") != 0;
    if (r->with_metrics && !config_address(c, "metrics", r->address, sizeof r->address, &r->port)) return false;
    bool ok =
        read_names(r) && read_on_failure(r) && config_number(c, "attempts", 1000, &r->attempts) &&
        config_number(c, "concurrency", 1024, &r->concurrency) && config_number(c, "prefetch", 100000, &r->prefetch) &&
        config_duration_ms(c, "handler-timeout", &r->handler_timeout_ms) &&
        config_duration_ms(c, "remember", &r->remember_ms) && config_number(c, "lease-ms", 3600000, &r->lease_ms) &&
        config_number(c, "safety-check-ms", 3600000, &r->safety_check_ms) &&
        config_number(c, "forget-every-ms", 3600000, &r->forget_every_ms);
    if (ok && (r->attempts == 0 || r->handler_timeout_ms == 0 || r->handler_timeout_ms > HANDLER_TIME_MAX))
        return complain("--attempts is at least 1, --handler-timeout at most a day and not 0");
    return ok;
}

// ---- what people see

// A webhook's URL may hold a password, too.
static const char *handler_shown(const struct receive *r, char out[static URL_SHOWN]) {
    return strncmp(r->handler_spec, "http", 4) == 0 ? url_shown(r->handler_spec, out) : r->handler_spec;
}

static void say_ready(const struct receive *r) {
    char from[URL_SHOWN], into[URL_SHOWN], handler[URL_SHOWN];
    printf("barid " BARID_VERSION "\n  from     %s  %s\n  into     %s  as %s\n  handler  %s\n",
           url_shown(r->from, from), r->topic, url_shown(r->database_url, into), r->consumer,
           handler_shown(r, handler));
    if (r->door) door_print("metrics", "http", r->address, metrics_door_port(r->door), "/metrics");
    puts("ready");
    fflush(stdout);
}

static void ready_or_later(struct loop_timer *t) {
    struct receive *r = LIST_ITEM(t, struct receive, ready);
    if (bus_reachable(r->bus) || loop_now_ms(r->loop) >= r->ready_until_ms) say_ready(r);
    else loop_timer_start(r->loop, t, READY_LOOK_MS);
}

static double seconds(int64_t ms) { return ms > 0 ? (double)ms / 1000.0 : 0; }

static void write_metrics(void *arg, struct buf *b) {
    struct receive *r = arg;
    struct intake_stats in;
    struct outbox_stats q;
    intake_stats(r->intake, &in);
    outbox_stats(r->queue, &q);
    const struct {
        const char *name, *type, *help;
        double value;
    } all[] = {
        {"barid_receive_received_total", "counter", "events taken into the inbox", (double)in.received},
        {"barid_receive_duplicates_total", "counter", "events that were there already", (double)in.duplicates},
        {"barid_receive_unstorable_total", "counter", "events parked on the bus: they cannot be stored",
         (double)in.unstorable},
        {"barid_receive_offset_resets_total", "counter", "partitions that began again below the stored offset",
         (double)in.resets},
        {"barid_receive_handled_total", "counter", "events handled", (double)q.published},
        {"barid_receive_failed_total", "counter", "attempts that failed", (double)q.failed},
        {"barid_receive_parked", "gauge", "events that gave up after their attempts", (double)q.parked},
        {"barid_receive_parked_on_bus", "gauge", "events that could not be stored, so far: in CONSUMER.parked of Kafka",
         (double)q.parked_on_bus},
        {"barid_receive_lag", "gauge", "events received and not handled, of the consumer", (double)q.lag},
        {"barid_receive_oldest_seconds", "gauge", "age of the oldest of them", seconds(q.oldest_age_ms)},
        {"barid_receive_in_memory", "gauge", "events with the handler or waiting for it here", (double)q.waiting},
        {"barid_receive_intake_waiting", "gauge", "events from the bus, not stored yet", (double)in.waiting},
        {"barid_receive_intake_bytes", "gauge", "… and their bytes", (double)in.bytes},
        {"barid_receive_leases", "gauge", "buckets of 64 that this process handles", (double)q.leases},
        {"barid_receive_members", "gauge", "processes that share the consumer's buckets", (double)q.members},
        {"barid_receive_handler_away", "gauge", "1: the handler takes nothing", (double)q.bus_away},
        {"barid_receive_database_away", "gauge", "1: the database takes nothing", (double)in.away},
        {"barid_receive_bus_reachable", "gauge", "1: the broker is there", (double)bus_reachable(r->bus)},
        {"barid_receive_notices_lost", "gauge", "1: a pooler swallows NOTIFY; the queue is looked at every second",
         (double)(q.notices == NOTICES_LOST)},
        {"barid_receive_forgotten_total", "counter", "ids forgotten after --remember",
         (double)remember_forgotten(r->remember)},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        metrics_number(b, all[i].name, all[i].type, all[i].help, all[i].value);
}

static const char *say_missing(void *arg) {
    const struct receive *r = arg;
    if (r->signals.stopping) return "going down";
    if (database_notices(r->database) == NOTICES_AWAY) return "the database is away";
    return bus_reachable(r->bus) ? NULL : "the broker is away";
}

// ---- putting it together

static _Noreturn void cannot_start(const char *why) {
    fprintf(stderr, "barid receive: %s\n", why);
    _Exit(1);
}

static enum err open_parts(struct receive *r, struct error *e) {
    struct database_options d = {.url = r->database_url};
    enum err err = loop_new(&r->loop, e);
    if (err == ERR_OK) err = io_os_new(&r->io, ".", e);
    if (err == ERR_OK) err = database_open(&r->database, r->loop, &d, outbox_component, e);
    struct bus_options b = {.url = r->from, .io = r->io};
    if (err == ERR_OK) err = bus_open(&r->bus, r->loop, &b, e);
    struct handler_options h = {.loop = r->loop,
                                .database = r->database,
                                .consumer = r->consumer,
                                .spec = r->handler_spec,
                                .concurrency = (uint32_t)r->concurrency,
                                .timeout_ms = (uint32_t)r->handler_timeout_ms};
    return err == ERR_OK ? handler_open(&r->handler, &h, e) : err;
}

static void on_stored(void *arg) { outbox_wake(((struct receive *)arg)->queue); }

static enum err start_intake(struct receive *r, struct error *e) {
    struct intake_options o = {.loop = r->loop,
                               .io = r->io,
                               .database = r->database,
                               .bus = r->bus,
                               .consumer = r->consumer,
                               .pattern = r->topic,
                               .prefetch = (uint32_t)r->prefetch,
                               .stored = on_stored,
                               .arg = r};
    return intake_new(&r->intake, &o, e);
}

static void start_rest(struct receive *r) {
    struct error e = {0};
    struct remember_options m = {.loop = r->loop,
                                 .database = r->database,
                                 .consumer = r->consumer,
                                 .keep_ms = r->remember_ms,
                                 .every_ms = (uint32_t)r->forget_every_ms};
    enum err err = start_intake(r, &e);
    if (err == ERR_OK) remember_new(&r->remember, &m);
    if (err == ERR_OK && r->with_metrics)
        err = metrics_door_open(&r->door, r->loop, r->address, r->port, write_metrics, say_missing, r, &e);
    if (err != ERR_OK) cannot_start(e.text);
    r->started = true;
    r->ready_until_ms = loop_now_ms(r->loop) + READY_MOST_MS;
    ready_or_later(&r->ready);
}

// One of the consumer's processes, or not: others are at work with other topics, or another handler.
static void on_joined(void *arg, enum err err, const char *why) {
    struct receive *r = arg;
    if (r->signals.stopping) return;
    if (err != ERR_OK) {
        log_event(LOG_ERROR, "not_joined", "consumer", r->consumer, "error", why, NULL);
        cannot_start(why);
    }
    if (!r->started) start_rest(r);
}

static enum err start_queue(struct receive *r, struct error *e) {
    char handler[URL_SHOWN];
    snprintf(r->shared, sizeof r->shared, "topics %s, handler %s", r->topic, handler_shown(r, handler));
    r->shared[utf8_whole(r->shared, strlen(r->shared))] = '\0';
    struct outbox_options o = {.loop = r->loop,
                               .io = r->io,
                               .database = r->database,
                               .table = outbox_table_inbox(r->consumer),
                               .sink = handler_sink(r->handler),
                               .max_attempts = (uint32_t)r->attempts,
                               .on_failure = r->on_failure,
                               .safety_check_ms = (uint32_t)r->safety_check_ms,
                               .lease_ms = (uint32_t)r->lease_ms,
                               .name = r->name,
                               .settings = r->shared,
                               .joined = on_joined,
                               .joined_arg = r};
    return outbox_new(&r->queue, &o, e);
}

static void start_all(struct receive *r) {
    struct error e = {0};
    if (start_queue(r, &e) != ERR_OK) cannot_start(e.text);
}

static void on_checked(void *arg, enum err err, const char *why) {
    struct receive *r = arg;
    if (r->signals.stopping) return;
    if (err == ERR_OK) {
        start_all(r);
        return;
    }
    if (err == ERR_INVALID) cannot_start(why);
    log_event(LOG_WARN, "handler_unknown", "consumer", r->consumer, "error", why, NULL);
    loop_timer_start(r->loop, &r->check_again, CHECK_AGAIN_MS);
}

static void check_again(struct loop_timer *t) {
    struct receive *r = LIST_ITEM(t, struct receive, check_again);
    handler_check(r->handler, on_checked, r);
}

// What is under way when we come here ends with the database; what the handler still has it gives back.
static void close_all(struct receive *r) {
    metrics_door_close(r->door);
    outbox_free(r->queue);
    if (r->remember) remember_stop(r->remember);
    database_close(r->database);
    remember_free(r->remember);
    handler_free(r->handler);
    intake_free(r->intake);
    bus_close(r->bus);
    loop_free(r->loop);
    io_os_free(r->io);
}

// ---- running

static void end(struct receive *r) {
    loop_timer_stop(r->loop, &r->patience);
    loop_timer_stop(r->loop, &r->check_again);
    loop_timer_stop(r->loop, &r->ready);
    stop_signals_end(&r->signals);
    loop_stop(r->loop);
}

static void end_if_drained(struct receive *r) {
    if (r->intake_drained && r->queue_drained) end(r);
}

static void on_intake_drained(void *arg) {
    struct receive *r = arg;
    r->intake_drained = true;
    end_if_drained(r);
}

static void on_queue_drained(void *arg) {
    struct receive *r = arg;
    r->queue_drained = true;
    end_if_drained(r);
}

static void out_of_patience(struct loop_timer *t) {
    struct receive *r = LIST_ITEM(t, struct receive, patience);
    log_event(LOG_WARN, "not_drained", "consumer", r->consumer, "error",
              "something is still under way; it comes again at the next start", NULL);
    r->failed = true;
    end(r);
}

static void stop(void *arg) {
    struct receive *r = arg;
    if (!r->started) _Exit(0); // nothing was taken
    r->patience.fn = out_of_patience;
    loop_timer_start(r->loop, &r->patience, r->handler_timeout_ms + DRAIN_MORE_MS);
    remember_stop(r->remember);
    intake_drain(r->intake, on_intake_drained, r);
    outbox_drain(r->queue, on_queue_drained, r);
}

static int receive(struct receive *r) {
    struct error e = {0};
    if (open_parts(r, &e) != ERR_OK) cannot_start(e.text);
    signal(SIGPIPE, SIG_IGN); // a program may not read its input, a caller not its answer
    stop_signals_watch(&r->signals, r->loop, stop, r);
    r->check_again.fn = check_again;
    r->ready.fn = ready_or_later;
    handler_check(r->handler, on_checked, r);
    loop_run(r->loop);
    close_all(r);
    log_text(LOG_INFO, "stopped", "%s", r->failed ? "not everything was finished" : "everything is written down");
    return r->failed ? 1 : 0;
}

static const char about[] =
    "Receives events from Kafka or AMQP into the inbox of a PostgreSQL database, and gives each to a handler:\n"
    "  sql:SCHEMA.FUNCTION  f(event_id uuid, topic text, key text, payload bytea|text|jsonb|json, headers jsonb),\n"
    "                       called in the transaction that removes the event\n"
    "  https://…            a POST of the payload, with CloudEvents headers and Idempotency-Key; 2xx is done\n"
    "  exec:COMMAND         a program: the payload on its standard input, and BARID_EVENT_ID, BARID_TOPIC, BARID_KEY,\n"
    "                       BARID_ATTEMPT, BARID_PLACE, BARID_PUBLISHED_AT, BARID_HEADER_NAME; exit status 0 is done";

int cli_receive(int argc, char **argv) {
    struct receive r = {0};
    enum config_read read = config_read(&r.config, "receive", about, settings, argc, argv);
    if (read != CONFIG_OK) return read == CONFIG_HELP ? 0 : EXIT_USAGE;
    crash_init();
    int code = read_settings(&r) ? receive(&r) : EXIT_USAGE;
    config_release(&r.config);
    return code;
}
