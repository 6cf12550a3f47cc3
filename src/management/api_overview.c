// /api/overview, /api/nodes, /api/whoami and other small ones.
#include "management/internal.h"

#include "http/json_out.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

// ---- sums -----------------------------------------------------------------------------------------------

struct totals {
    uint64_t ready, unacked, queues, exchanges;
};

static void add_queue(void *arg, const struct queue_info *q) {
    struct totals *t = arg;
    t->ready += q->ready;
    t->unacked += q->unacked;
    t->queues++;
}

static void add_exchange(void *arg, const struct exchange_info *x) { ((struct totals *)arg)->exchanges++; }

static void add_vhost(void *arg, struct vhost *v) { engine_each_exchange(v, add_exchange, arg); }

static void write_message_stats(struct out *o, const struct amqp_stats *s, const double *rate) {
    out_open(o, "message_stats", '{');
    out_count(o, "publish", s->published, rate[RATE_PUBLISH]);
    out_count(o, "confirm", s->confirmed, rate[RATE_CONFIRM]);
    out_count(o, "return_unroutable", s->returned, rate[RATE_RETURN]);
    out_count(o, "drop_unroutable", s->unroutable_dropped, rate[RATE_DROP]);
    out_count(o, "deliver", s->delivered, rate[RATE_DELIVER]);
    out_count(o, "deliver_no_ack", s->delivered_no_ack, rate[RATE_DELIVER_NO_ACK]);
    out_count(o, "get", s->got, rate[RATE_GET]);
    out_count(o, "get_no_ack", s->got_no_ack, rate[RATE_GET_NO_ACK]);
    out_count(o, "deliver_get", s->delivered + s->delivered_no_ack + s->got + s->got_no_ack,
              rate[RATE_DELIVER] + rate[RATE_DELIVER_NO_ACK] + rate[RATE_GET] + rate[RATE_GET_NO_ACK]);
    out_count(o, "ack", s->acked, rate[RATE_ACK]);
    out_count(o, "redeliver", s->redelivered, rate[RATE_REDELIVER]);
    out_close(o, '}');
}

static void write_totals(struct out *o, const struct totals *t, const struct amqp_stats *s, const double *rate) {
    out_open(o, "queue_totals", '{');
    out_count(o, "messages", t->ready + t->unacked, rate[RATE_READY] + rate[RATE_UNACKED]);
    out_count(o, "messages_ready", t->ready, rate[RATE_READY]);
    out_count(o, "messages_unacknowledged", t->unacked, rate[RATE_UNACKED]);
    out_close(o, '}');
    out_open(o, "object_totals", '{');
    out_uint(o, "channels", s->channels);
    out_uint(o, "connections", s->connections);
    out_uint(o, "consumers", s->consumers);
    out_uint(o, "exchanges", t->exchanges);
    out_uint(o, "queues", t->queues);
    out_close(o, '}');
    out_open(o, "churn_rates", '{');
    out_count(o, "connection_created", s->connections_opened, 0);
    out_count(o, "connection_closed", s->connections_closed, 0);
    out_count(o, "channel_created", s->channels_opened, 0);
    out_count(o, "channel_closed", s->channels_closed, 0);
    out_close(o, '}');
}

// ---- what listens ---------------------------------------------------------------------------------------

static void write_listener(struct out *o, const struct management *m, const char *protocol, uint16_t port) {
    if (port == 0) return;
    out_open(o, NULL, '{');
    out_text(o, "node", m->node);
    out_text(o, "protocol", protocol);
    out_text(o, "ip_address", m->o.address);
    out_uint(o, "port", port);
    out_open(o, "socket_opts", '{');
    out_close(o, '}');
    out_close(o, '}');
}

struct listener {
    const char *protocol;
    uint16_t port;
};

static void listeners(const struct management *m, struct listener out[static 3]) {
    out[0] = (struct listener){"amqp", m->o.amqp != NULL ? amqp_port(m->o.amqp) : 0};
    out[1] = (struct listener){"amqp/ssl", m->o.amqp != NULL ? amqp_tls_port(m->o.amqp) : 0};
    out[2] = (struct listener){door_tls(m->door) ? "https" : "http", management_port(m)};
}

static void write_listeners(struct out *o, const struct management *m) {
    struct listener all[3];
    listeners(m, all);
    out_open(o, "listeners", '[');
    for (size_t i = 0; i < 3; i++) write_listener(o, m, all[i].protocol, all[i].port);
    out_close(o, ']');
    out_open(o, "contexts", '[');
    out_open(o, NULL, '{');
    out_text(o, "node", m->node);
    out_text(o, "description", "Management");
    out_text(o, "path", "/");
    out_uint(o, "port", all[2].port);
    out_bool(o, "ssl", door_tls(m->door));
    out_close(o, '}');
    out_close(o, ']');
}

static void write_exchange_types(struct out *o) {
    static const char *const types[][2] = {
        {"direct", "routes by the whole key"},
        {"fanout", "routes to all"},
        {"topic", "routes by patterns of keys"},
        {"headers", "routes by headers"},
        {"x-consistent-hash", "spreads by a hash"},
        {"x-delayed-message", "routes after a delay"},
        {"x-message-deduplication", "routes what it has not seen"},
    };
    out_open(o, "exchange_types", '[');
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        out_open(o, NULL, '{');
        out_text(o, "name", types[i][0]);
        out_text(o, "description", types[i][1]);
        out_bool(o, "enabled", true);
        out_close(o, '}');
    }
    out_close(o, ']');
}

static void write_rates_mode(struct out *o) {
    static const char *const kinds[] = {"global", "basic", "detailed"};
    out_text(o, "rates_mode", "basic");
    out_open(o, "sample_retention_policies", '{');
    for (size_t i = 0; i < 3; i++) {
        out_open(o, kinds[i], '[');
        out_uint(o, NULL, RATES_EVERY_MS / 1000);
        out_close(o, ']');
    }
    out_close(o, '}');
}

void manage_overview(struct call *c) {
    struct management *m = c->management;
    const double *rate = sampler_rates(&m->sampler, RATE_ALL, "", NULL);
    struct single s;
    struct out *o = single_init(&s, c);
    if (o == NULL) return;
    struct totals t = {0};
    struct amqp_stats stats = {0};
    engine_each_queue(m->o.engine, add_queue, &t);
    engine_each_vhost(m->o.engine, add_vhost, &t);
    if (m->o.amqp != NULL) amqp_stats(m->o.amqp, &stats);
    out_text(o, "management_version", RABBITMQ_VERSION);
    out_text(o, "rabbitmq_version", RABBITMQ_VERSION);
    out_text(o, "product_name", "barid");
    out_text(o, "product_version", m->o.version);
    out_text(o, "erlang_version", "");
    out_text(o, "erlang_full_version", "");
    out_text(o, "cluster_name", m->node);
    out_text(o, "node", m->node);
    out_bool(o, "disable_stats", false);
    out_bool(o, "enable_queue_totals", false);
    out_bool(o, "is_op_policy_updating_enabled", false);
    out_uint(o, "statistics_db_event_queue", 0);
    write_rates_mode(o);
    write_exchange_types(o);
    write_message_stats(o, &stats, rate);
    write_totals(o, &t, &stats, rate);
    if (c->user->administrator || c->user->monitoring) write_listeners(o, m);
    single_answer(&s);
}

// ---- the one node ---------------------------------------------------------------------------------------

static uint64_t open_files(void) {
    DIR *d = opendir("/proc/self/fd");
    uint64_t n = 0;
    if (d == NULL) return 0;
    while (readdir(d) != NULL) n++;
    closedir(d);
    return n > 3 ? n - 3 : 0; // ".", ".." and this one
}

static uint64_t max_files(void) {
    struct rlimit files;
    return getrlimit(RLIMIT_NOFILE, &files) == 0 ? (uint64_t)files.rlim_cur : 0;
}

static uint64_t memory_total(void) {
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
}

static void write_disk(struct out *o, const struct management *m) {
    struct io_space space;
    if (m->o.io->v->space(m->o.io, &space) != ERR_OK) return;
    out_uint(o, "disk_free", space.free_bytes);
    out_uint(o, "disk_free_limit", m->o.low_water_bytes);
    out_bool(o, "disk_free_alarm", engine_blocked(m->o.engine, NULL));
}

static void write_files(struct out *o, const struct management *m) {
    struct amqp_stats stats = {0};
    if (m->o.amqp != NULL) amqp_stats(m->o.amqp, &stats);
    out_uint(o, "fd_total", max_files());
    out_uint(o, "fd_used", open_files());
    out_uint(o, "sockets_total", max_files());
    out_uint(o, "sockets_used", stats.connections + door_connections(m->door));
}

static void write_lists(struct out *o, const struct management *m) {
    static const char *const empty[] = {"partitions",   "cluster_links",   "log_files",
                                        "config_files", "enabled_plugins", "ra_open_file_metrics"};
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
        out_open(o, empty[i], '[');
        out_close(o, ']');
    }
    out_open(o, "auth_mechanisms", '[');
    static const char *const mechanisms[] = {"PLAIN", "AMQPLAIN", "EXTERNAL"};
    for (size_t i = 0; i < 3; i++) {
        out_open(o, NULL, '{');
        out_text(o, "name", mechanisms[i]);
        out_text(o, "description", mechanisms[i]);
        out_bool(o, "enabled", true);
        out_close(o, '}');
    }
    out_close(o, ']');
    out_open(o, "applications", '[');
    out_open(o, NULL, '{');
    out_text(o, "name", "barid");
    out_text(o, "description", "barid");
    out_text(o, "version", m->o.version);
    out_close(o, '}');
    out_close(o, ']');
}

static void write_node(struct out *o, const struct management *m) {
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    out_text(o, "name", m->node);
    out_text(o, "type", "disc");
    out_bool(o, "running", true);
    out_bool(o, "being_drained", false);
    out_text(o, "os_pid", pid);
    write_files(o, m);
    out_uint(o, "mem_used", process_resident_bytes());
    out_uint(o, "mem_limit", memory_total());
    out_bool(o, "mem_alarm", false);
    out_text(o, "mem_calculation_strategy", "rss");
    write_disk(o, m);
    out_uint(o, "proc_total", 1);
    out_uint(o, "proc_used", 1);
    out_uint(o, "processors", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
    out_uint(o, "run_queue", 0);
    out_uint(o, "uptime", (uint64_t)(io_wall_ms(m->o.io) - m->started_ms));
    out_uint(o, "net_ticktime", 60);
    out_text(o, "db_dir", m->o.data);
    write_rates_mode(o);
    write_exchange_types(o);
    write_lists(o, m);
    write_listeners(o, m);
}

void manage_nodes(struct call *c) {
    struct listing l;
    if (!listing_init(&l, c)) return;
    struct out *o = listing_item(&l, c->management->node, c->management->node);
    if (o != NULL) {
        write_node(o, c->management);
        listing_item_end(&l);
    }
    listing_answer(&l);
}

void manage_node(struct call *c) {
    struct single s;
    if (strcmp(call_param(c, "node"), c->management->node) != 0) {
        call_not_found(c, "node");
        return;
    }
    struct out *o = single_init(&s, c);
    if (o == NULL) return;
    write_node(o, c->management);
    single_answer(&s);
}

// ---- small ones -----------------------------------------------------------------------------------------

void manage_whoami(struct call *c) {
    struct single s;
    struct out *o = single_init(&s, c);
    if (o == NULL) return;
    out_text(o, "name", c->user->name);
    write_tags(o, "tags", c->user->tags);
    out_bool(o, "is_internal_user", true);
    single_answer(&s);
}

void manage_cluster_name(struct call *c) {
    json_open(&c->out, NULL, '{');
    json_text(&c->out, "name", c->management->node);
    json_close(&c->out, '}');
    call_answer(c, 200);
}

void manage_version(struct call *c) {
    json_text(&c->out, NULL, RABBITMQ_VERSION);
    call_answer(c, 200);
}

void manage_none(struct call *c) {
    buf_add_str(&c->out, "[]");
    call_answer(c, 200);
}

void manage_unsupported(struct call *c) {
    call_fail(c, 400, "bad_request",
              "not supported: policies, parameters, limits and topic permissions; give queues "
              "and exchanges their arguments instead");
}

// ---- health ---------------------------------------------------------------------------------------------

void manage_health_ok(struct call *c) {
    json_open(&c->out, NULL, '{');
    json_text(&c->out, "status", "ok");
    json_close(&c->out, '}');
    call_answer(c, 200);
}

// The one check there was before there were many.
void manage_health_node(struct call *c) {
    if (strcmp(call_param(c, "node"), c->management->node) == 0) manage_health_ok(c);
    else call_not_found(c, "node");
}

void manage_health_quorum(struct call *c) {
    json_open(&c->out, NULL, '{');
    json_text(&c->out, "status", "ok");
    json_text(&c->out, "reason", "single node cluster");
    json_close(&c->out, '}');
    call_answer(c, 200);
}

void manage_health_alarms(struct call *c) {
    struct buf *b = &c->out;
    if (!engine_blocked(c->management->o.engine, NULL)) {
        manage_health_ok(c);
        return;
    }
    json_open(b, NULL, '{');
    json_text(b, "status", "failed");
    json_text(b, "reason", "There are alarms in effect in the cluster");
    json_open(b, "alarms", '[');
    json_open(b, NULL, '{');
    json_text(b, "node", c->management->node);
    json_text(b, "resource", "disk");
    json_close(b, '}');
    json_close(b, ']');
    json_close(b, '}');
    call_answer(c, 503);
}

void manage_health_port(struct call *c) {
    struct listener all[3];
    struct buf *b = &c->out;
    const char *text = call_param(c, "port");
    char *end;
    unsigned long port = strtoul(text, &end, 10);
    bool found = false;
    if (*text == '\0' || *end != '\0' || port == 0 || port > 65535) {
        call_fail(c, 400, "bad_request", "Invalid port");
        return;
    }
    listeners(c->management, all);
    for (size_t i = 0; i < 3; i++) found = found || all[i].port == port;
    json_open(b, NULL, '{');
    json_text(b, "status", found ? "ok" : "failed");
    if (!found) json_text(b, "reason", "No active listener");
    json_uint(b, found ? "port" : "missing", port);
    if (!found) {
        json_open(b, "ports", '[');
        for (size_t i = 0; i < 3; i++)
            if (all[i].port != 0) json_uint(b, NULL, all[i].port);
        json_close(b, ']');
    }
    json_close(b, '}');
    call_answer(c, found ? 200 : 503);
}

// The names that RabbitMQ takes for the same.
static const char *protocol_named(const char *name) {
    static const char *const amqp[] = {"amqp091", "amqp0.9.1", "amqp0-9-1", "amqp0_9_1"};
    static const char *const http[] = {"http1", "http1.1", "http_api", "management", "management_ui", "ui"};
    for (size_t i = 0; i < sizeof amqp / sizeof amqp[0]; i++)
        if (strcasecmp(name, amqp[i]) == 0) return "amqp";
    for (size_t i = 0; i < sizeof http / sizeof http[0]; i++)
        if (strcasecmp(name, http[i]) == 0) return "http";
    return strcasecmp(name, "amqps") == 0 ? "amqp/ssl" : name;
}

void manage_health_protocol(struct call *c) {
    struct listener all[3];
    struct buf *b = &c->out;
    const char *protocol = protocol_named(call_param(c, "protocol"));
    bool found = false;
    listeners(c->management, all);
    for (size_t i = 0; i < 3; i++) found = found || (all[i].port != 0 && strcasecmp(all[i].protocol, protocol) == 0);
    json_open(b, NULL, '{');
    json_text(b, "status", found ? "ok" : "failed");
    if (!found) json_text(b, "reason", "No active listener");
    json_text(b, found ? "protocol" : "missing", protocol);
    if (!found) {
        json_open(b, "protocols", '[');
        for (size_t i = 0; i < 3; i++)
            if (all[i].port != 0) json_text(b, NULL, all[i].protocol);
        json_close(b, ']');
    }
    json_close(b, '}');
    call_answer(c, found ? 200 : 503);
}
