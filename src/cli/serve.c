// barid serve: puts the parts together, in the order in which each needs the ones before, and takes them apart in
// the reverse order after a drain.
//
// On standard output, once everything listens:
//   barid 0.1.0
//     open     http://127.0.0.1:8080/
//     amqp     amqp://127.0.0.1:5672
//     manage   http://127.0.0.1:15672
//     data     ./data
//   ready
#include "base/crash.h"
#include "base/io.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "bus/bus.h"
#include "chat/chat.h"
#include "cli/cli.h"
#include "cli/config.h"
#include "cli/serve_broker.h"
#include "cli/serve_parts.h"
#include "cli/shown.h"
#include "cli/stop_signals.h"
#include "database/database.h"
#include "datastore/datastore.h"
#include "http/http.h"
#include "management/management.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define DRAIN_MS        5000
#define OUTBOX_DRAIN_MS 5000 // for what is with the bus
#define FILES_BESIDE    1024 // open files besides connections

static const struct setting settings[] = {
    {"data", "DIR", "./data", "where everything is kept that has no other place"},
    {"database", "URL", "sqlite", "sqlite: below --data; postgresql://USER@HOST/NAME: for any number of servers"},
    {"bus", "URL", "embedded",
     "embedded: below --data, with the message broker; kafka://HOST:PORT or amqp://…: one that is there already"},
    {"bus-prefix", "TEXT", "", "before the names of topics and groups, for several services on one broker"},
    {"data-store", "KIND", "files", "of media: files, below --data; postgresql, in --database"},
    {"http", "ADDR:PORT", "127.0.0.1:8080", "HTTP and WebSocket; port 0 picks a free one"},
    {"amqp", "ADDR:PORT", "127.0.0.1:5672", "AMQP 0-9-1; off: none; port 0 picks a free one"},
    {"amqps", "ADDR:PORT", "off", "AMQP 0-9-1 over TLS, usually port 5671, with --tls-cert and --tls-key"},
    {"management", "ADDR:PORT", "127.0.0.1:15672", "RabbitMQ's management API; off: none; port 0 picks a free one"},
    {"registration", "open|closed", "open", "who may make an account: anyone, or nobody"},
    {"message-ttl", "TIME", "30d", "a message undelivered for this long expires"},
    {"session-ttl", "TIME", "180d", "a session unused for this long ends"},
    {"upload-max", "BYTES", "100M", "one media file"},
    {"upload-quota", "BYTES", "1G", "a user's media not yet delivered"},
    {"low-water", "BYTES", "256M", "with less disk left nothing new is accepted; AMQP: a quarter of it, at most 64M"},
    {"max-connections", "N", "10000", "connections at once, and as many over AMQP"},
    {"rate", "N", "5000", "requests a second a device"},
    {"rate-unauthenticated", "N", "200", "requests a second an address, without a session"},
    {"tls-cert", "FILE", NULL, "certificate chain (PEM); HTTP and management then speak TLS as well"},
    {"tls-key", "FILE", NULL, "its private key (PEM)"},
    {"tls-ca", "FILE", NULL, "who signs the certificates that AMQP clients may log in with (EXTERNAL)"},
    {"heartbeat", "SECONDS", "60", "AMQP: a side unheard for twice as long is taken for dead"},
    {"channel-max", "N", "2047", "AMQP: channels a connection"},
    {"frame-max", "BYTES", "128K", "AMQP: one frame"},
    {"claim-bytes", "BYTES", "256K",
     "AMQP: bodies from this size on are files, and never in memory as a whole; up to 4M"},
    {"max-message-size", "BYTES", "128M", "AMQP: a message's body; up to 2G"},
    {"consumer-timeout", "TIME", "30m", "AMQP: a delivery unanswered for this long closes its channel"},
    {"guest-anywhere", NULL, NULL, "AMQP: let the user guest in from other than loopback"},
    {"insecure-bind", NULL, NULL, "listen on other than loopback without TLS"},
    {"log-level", "LEVEL", "info", "debug, info, warn or error"},
    {"ping-interval-ms", "MS", "25000", NULL},
    {"slow-link-ms", "MS", "60000", NULL},
    {"sweep-every-ms", "MS", "60000", NULL},
    {0},
};

struct server {
    struct config config;
    char address[64];
    uint16_t port;
    uint64_t low_water, message_ttl, session_ttl, upload_max, upload_quota;
    uint64_t max_connections, rate, rate_unauthenticated, ping_interval, slow_link, sweep_every;

    struct loop *loop;
    struct serve_parts parts;
    struct chat *chat;
    struct http *http;
    struct serve_broker broker;
    struct stop_signals signals;
    struct loop_timer patience;
    bool ended;
};

// ---- settings -------------------------------------------------------------------------------------------

static bool read_settings(struct server *s) {
    const struct config *c = &s->config;
    const char *registration = config_text(c, "registration");
    enum log_level level;
    if (log_level_parse(config_text(c, "log-level"), &level) != 0) {
        fprintf(stderr, "barid serve: --log-level is one of debug, info, warn, error\n");
        return false;
    }
    log_set_level(level);
    if (strcmp(registration, "open") != 0 && strcmp(registration, "closed") != 0) {
        fprintf(stderr, "barid serve: --registration is open or closed\n");
        return false;
    }
    return serve_broker_settings(&s->broker, c) && config_address(c, "http", s->address, sizeof s->address, &s->port) &&
           config_bytes(c, "low-water", &s->low_water) && config_bytes(c, "upload-max", &s->upload_max) &&
           config_bytes(c, "upload-quota", &s->upload_quota) && config_duration_ms(c, "message-ttl", &s->message_ttl) &&
           config_duration_ms(c, "session-ttl", &s->session_ttl) &&
           config_number(c, "max-connections", 1000000, &s->max_connections) &&
           config_number(c, "rate", 100000000, &s->rate) &&
           config_number(c, "rate-unauthenticated", 100000000, &s->rate_unauthenticated) &&
           config_number(c, "ping-interval-ms", 3600000, &s->ping_interval) &&
           config_number(c, "slow-link-ms", 3600000, &s->slow_link) &&
           config_number(c, "sweep-every-ms", 3600000, &s->sweep_every) &&
           serve_parts_settings(&s->parts, c, s->low_water) && (s->parts.embedded || serve_broker_off(&s->broker));
}

// Memory: few arenas are enough for a loop and a few threads, and what is freed goes back soon. Files: as many
// as connections need, which is also what libwebsockets sizes its tables by.
static void set_limits(const struct server *s) {
    mallopt(M_ARENA_MAX, 4);
    mallopt(M_TRIM_THRESHOLD, 256 * 1024);
    mallopt(M_MMAP_THRESHOLD, 128 * 1024);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
    rlim_t want = 2 * s->max_connections + FILES_BESIDE; // HTTP's and AMQP's
    if (files.rlim_max != RLIM_INFINITY && files.rlim_max < want) {
        log_text(LOG_WARN, "limits", "the system allows %llu open files; %llu connections need %llu",
                 (unsigned long long)files.rlim_max, 2 * (unsigned long long)s->max_connections,
                 (unsigned long long)want);
        want = files.rlim_max;
    }
    files.rlim_cur = want;
    setrlimit(RLIMIT_NOFILE, &files);
}

// ---- putting it together --------------------------------------------------------------------------------

static enum err open_chat(struct server *s, struct error *e) {
    struct chat_options o = {
        .loop = s->loop,
        .io = s->parts.io,
        .database = s->parts.database,
        .servers = s->parts.servers,
        .datastore = s->parts.datastore,
        .bus = s->parts.bus,
        .bus_prefix = s->parts.bus_prefix,
        .registration_closed = strcmp(config_text(&s->config, "registration"), "closed") == 0,
        .message_ttl_ms = s->message_ttl,
        .session_ttl_ms = s->session_ttl,
        .upload_quota_bytes = s->upload_quota,
        .upload_max_bytes = s->upload_max,
        .sweep_every_ms = (uint32_t)s->sweep_every,
        .slow_link_ms = (uint32_t)s->slow_link,
    };
    return chat_new(&s->chat, &o, e);
}

static enum err open_http(struct server *s, struct error *e) {
    struct http_options o = {
        .loop = s->loop,
        .io = s->parts.io,
        .chat = s->chat,
        .database = s->parts.database,
        .datastore = s->parts.datastore,
        .bus = s->parts.bus,
        .address = s->address,
        .port = s->port,
        .tls_certificate = config_text(&s->config, "tls-cert"),
        .tls_key = config_text(&s->config, "tls-key"),
        .insecure_bind = config_switch(&s->config, "insecure-bind"),
        .low_water_bytes = serve_parts_local(&s->parts) ? s->low_water : 0,
        .upload_max_bytes = s->upload_max,
        .max_connections = (uint32_t)s->max_connections,
        .rate = (uint32_t)s->rate,
        .rate_unauthenticated = (uint32_t)s->rate_unauthenticated,
        .ping_interval_ms = (uint32_t)s->ping_interval,
        .more_metrics = serve_broker_metrics,
        .more_metrics_arg = &s->broker,
    };
    return http_new(&s->http, &o, e);
}

static void say_ready(const struct server *s) {
    printf("barid " BARID_VERSION "\n");
    door_print("open", config_text(&s->config, "tls-cert") != NULL ? "https" : "http", s->address, http_port(s->http),
               "/");
    serve_broker_print(&s->broker);
    serve_parts_print(&s->parts);
    printf("ready\n");
    fflush(stdout);
}

// Nothing was accepted yet, and what is on disk is there for good: there is nothing to take apart.
static _Noreturn void cannot_start(const struct error *e) {
    fprintf(stderr, "barid serve: %s\n", e->text);
    _Exit(1);
}

static void write_metrics(void *arg, struct buf *b) { http_metrics(arg, b); }

static void on_broker_opened(void *arg, enum err err, const struct error *e) {
    struct server *s = arg;
    if (err != ERR_OK) cannot_start(e);
    if (s->broker.management != NULL) management_more_metrics(s->broker.management, write_metrics, s->http);
    http_set_ready(s->http, true);
    say_ready(s);
}

static enum err open_doors(struct server *s, struct error *e) {
    enum err err = open_chat(s, e);
    if (err == ERR_OK) err = open_http(s, e);
    if (err != ERR_OK) return err;
    if (s->parts.embedded) {
        s->broker.claims = s->parts.claims;
        s->broker.low_water = s->parts.bus_low_water;
        return serve_broker_open(&s->broker, s->loop, s->parts.io, s->parts.database, bus_engine(s->parts.bus),
                                 on_broker_opened, s, e);
    }
    on_broker_opened(s, ERR_OK, NULL);
    return ERR_OK;
}

static void on_parts_opened(void *arg, enum err err, const struct error *why) {
    struct error e = *why;
    if (err == ERR_OK) err = open_doors(arg, &e);
    if (err != ERR_OK) cannot_start(&e);
}

static enum err open_all(struct server *s, struct error *e) {
    enum err err = loop_new(&s->loop, e);
    return err == ERR_OK ? serve_parts_open(&s->parts, s->loop, on_parts_opened, s, e) : err;
}

static void close_all(struct server *s) {
    serve_broker_close(&s->broker);
    http_free(s->http);
    chat_free(s->chat);
    serve_parts_close(&s->parts);
    loop_free(s->loop);
    serve_parts_free(&s->parts);
}

// ---- running --------------------------------------------------------------------------------------------

static void on_drained(void *arg) {
    struct server *s = arg;
    if (s->ended) return;
    s->ended = true;
    loop_timer_stop(s->loop, &s->patience);
    stop_signals_end(&s->signals);
    loop_stop(s->loop);
}

static void out_of_patience(struct loop_timer *t) {
    struct server *s = LIST_ITEM(t, struct server, patience);
    log_text(LOG_WARN, "stopping",
             "no answer for what is with the bus: others go on with it when the leases have ended");
    on_drained(s);
}

static void on_http_drained(void *arg) {
    struct server *s = arg;
    s->patience.fn = out_of_patience;
    loop_timer_start(s->loop, &s->patience, OUTBOX_DRAIN_MS);
    chat_drain(s->chat, on_drained, s);
}

static void on_broker_drained(void *arg) {
    struct server *s = arg;
    http_drain(s->http, DRAIN_MS, on_http_drained, s);
}

static void stop(void *arg) {
    struct server *s = arg;
    if (s->http == NULL) _Exit(0); // nothing was accepted yet
    serve_broker_drain(&s->broker, DRAIN_MS, on_broker_drained, s);
}

static int serve(struct server *s) {
    struct error e;
    if (open_all(s, &e) != ERR_OK) cannot_start(&e);
    stop_signals_watch(&s->signals, s->loop, stop, s);
    loop_run(s->loop);
    close_all(s);
    log_text(LOG_INFO, "stopped", "everything is on disk");
    return 0;
}

int cli_serve(int argc, char **argv) {
    struct server s = {0};
    enum config_read r = config_read(
        &s.config, "serve", "Runs the server: the messaging service with its web page, and the message broker.",
        settings, argc, argv);
    if (r != CONFIG_OK) return r == CONFIG_HELP ? 0 : EXIT_USAGE;
    crash_init();
    int code = EXIT_USAGE;
    if (read_settings(&s)) {
        set_limits(&s);
        code = serve(&s);
    }
    config_release(&s.config);
    return code;
}
