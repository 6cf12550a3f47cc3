// Operations: /healthz, /readyz, /metrics, and GET /events by somebody who forgot to upgrade.
#include "http/api.h"
#include "http/json_out.h"
#include "http/request.h"

#include "base/io.h"
#include "bus/bus.h"
#include "database/database.h"
#include "datastore/datastore.h"

#include <stdio.h>
#include <sys/resource.h>

#define PAGE_BYTES 4096

typedef unsigned long long ull;

static void answer_state(struct request *r, int status, const char *state, const char *reason) {
    struct buf *b = request_out(r);
    json_open(b, NULL, '{');
    json_text(b, "status", state);
    json_text_opt(b, "reason", reason);
    json_close(b, '}');
    request_answer_as(r, status, "application/json", status == 503 ? "Retry-After: 5\r\n" : "", b->data, b->len);
}

void api_healthz(struct request *r) { answer_state(r, 200, "ok", NULL); }

void api_readyz(struct request *r) {
    struct io_space space;
    struct io *io = r->http->o.io;
    if (!r->http->ready) answer_state(r, 503, "not ready", "starting or going down");
    else if (io->v->space(io, &space) == ERR_OK && space.free_bytes < r->http->o.low_water_bytes)
        answer_state(r, 503, "not ready", "the disk is full");
    else if (database_notices(r->http->o.database) == NOTICES_AWAY)
        answer_state(r, 503, "not ready", "the database is away");
    else if (!bus_reachable(r->http->o.bus)) // what is accepted waits in the database
        answer_state(r, 200, "ready", "the bus is away");
    else answer_state(r, 200, "ready", NULL);
}

void api_events_plain(struct request *r) {
    request_fail_with(r, 426, "upgrade_required", "open it as a WebSocket with the subprotocol barid.v1",
                      "Upgrade: websocket\r\n");
}

// ---- metrics --------------------------------------------------------------------------------------------

static void head(struct buf *b, const char *name, const char *type, const char *help) {
    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void gauge(struct buf *b, const char *name, const char *help, ull v) {
    head(b, name, "gauge", help);
    buf_printf(b, "%s %llu\n", name, v);
}

static void counter(struct buf *b, const char *name, const char *help, ull v) {
    head(b, name, "counter", help);
    buf_printf(b, "%s %llu\n", name, v);
}

static void write_points(struct buf *b, const struct chat_stats *s) {
    const struct {
        const char *point;
        uint64_t n;
    } points[] = {
        {"accepted", s->accepted}, {"published", s->published}, {"queued", s->queued}, {"notified", s->notified},
        {"received", s->received}, {"deleted", s->deleted},     {"read", s->read},     {"duplicate", s->duplicates},
        {"rejected", s->rejected}, {"expired", s->expired},
    };
    head(b, "barid_messages_total", "counter",
         "Messages that passed each safe point of their journey since the start.");
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++)
        buf_printf(b, "barid_messages_total{point=\"%s\"} %llu\n", points[i].point, (ull)points[i].n);
    counter(b, "barid_notices_total", "Entries that other servers told of, for devices connected here.", s->notices);
    gauge(b, "barid_links", "Devices connected by WebSocket.", s->links);
    gauge(b, "barid_outbox_waiting", "Events stored and not yet published.", s->outbox_waiting);
    gauge(b, "barid_outbox_parked", "Events whose attempts are spent.", s->outbox_parked);
}

static void write_stores(struct buf *b, struct http *h) {
    struct database_stats db;
    struct datastore_stats ds;
    database_stats(h->o.database, &db);
    datastore_stats(h->o.datastore, &ds);
    counter(b, "barid_database_units_total", "Units of work done.", db.units);
    counter(b, "barid_database_commits_total", "Commits (many units share one).", db.commits);
    counter(b, "barid_database_failed_total", "Units of work that failed.", db.failed);
    gauge(b, "barid_database_pending", "Units of work waiting.", db.pending);
    gauge(b, "barid_datastore_writing", "Media being written.", ds.writing);
    gauge(b, "barid_datastore_reading", "Media being read.", ds.reading);
    gauge(b, "barid_disk_free_bytes", "Space left for the data directory.", ds.free_bytes);
}

static void write_door(struct buf *b, struct http *h) {
    const struct http_counters *c = &h->counters;
    counter(b, "barid_http_requests_total", "HTTP requests begun.", c->requests);
    head(b, "barid_http_answers_total", "counter", "HTTP answers by class of status.");
    for (int i = 2; i < 6; i++) buf_printf(b, "barid_http_answers_total{class=\"%dxx\"} %llu\n", i, (ull)c->answers[i]);
    gauge(b, "barid_http_requests_open", "HTTP requests not yet answered.", h->requests_open);
    gauge(b, "barid_connections", "Connections open.", h->connections);
    counter(b, "barid_connections_refused_total", "Connections refused at a limit.", c->connections_refused);
    counter(b, "barid_rate_limited_total", "Requests refused for their rate.", c->rate_limited);
    gauge(b, "barid_sockets", "WebSockets open.", h->sockets_open);
    counter(b, "barid_socket_frames_in_total", "WebSocket frames from clients.", c->frames_in);
    counter(b, "barid_socket_frames_out_total", "WebSocket frames to clients.", c->frames_out);
    counter(b, "barid_socket_bad_frames_total", "WebSocket frames that made no sense.", c->bad_frames);
    counter(b, "barid_sockets_dead_total", "WebSockets closed because the peer was silent or stuck.", c->sockets_dead);
    counter(b, "barid_bytes_out_total", "Bytes sent.", c->bytes_out);
}

static bool resident_bytes(uint64_t *out) {
    ull size, resident;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL) return false;
    bool ok = fscanf(f, "%llu %llu", &size, &resident) == 2;
    fclose(f);
    *out = ok ? resident * PAGE_BYTES : 0;
    return ok;
}

static double cpu_seconds(void) {
    struct rusage used;
    if (getrusage(RUSAGE_SELF, &used) != 0) return 0;
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

void http_metrics(struct http *h, struct buf *b) {
    struct chat_stats s;
    uint64_t resident;
    chat_stats(h->o.chat, &s);
    write_points(b, &s);
    write_stores(b, h);
    write_door(b, h);
    if (resident_bytes(&resident)) gauge(b, "process_resident_memory_bytes", "Resident memory.", resident);
    head(b, "process_cpu_seconds_total", "counter", "CPU time used, user and system.");
    buf_printf(b, "process_cpu_seconds_total %.2f\n", cpu_seconds());
}

void api_metrics(struct request *r) {
    const struct http_options *o = &r->http->o;
    struct buf *b = request_out(r);
    http_metrics(r->http, b);
    if (o->more_metrics != NULL) o->more_metrics(o->more_metrics_arg, b);
    if (!buf_ok(b)) request_fail_with(r, 500, "internal", "there is more to tell than an answer may hold", "");
    else request_answer_as(r, 200, "text/plain; version=0.0.4; charset=utf-8", "", b->data, b->len);
}
