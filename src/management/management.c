// The management API as a whole: a call's way through the door, who it is and whether they may, to its handler.
#include "management/management.h"

#include "management/internal.h"
#include "management/metrics.h"
#include "management/routes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_CONNECTIONS 1000
#define PAGE_BYTES      4096

static void on_begin(void *arg, struct call *c) {
    c->management = arg;
    if (!manage_route_find(c)) return;
    if (c->route->needs & NEED_NOBODY) call_go_on(c);
    else auth_check(c, call_go_on);
}

// The virtual host is looked for only now: it may have gone while the body came.
static void on_handle(void *arg, struct call *c) {
    if (c->answered || !manage_route_allows(c)) return;
    sampler_wanted(&c->management->sampler);
    c->route->handle(c);
}

enum err management_new(struct management **out, const struct management_options *o, struct error *e) {
    char host[NODE_TEXT - 16] = "localhost";
    struct management *m = calloc(1, sizeof *m);
    if (m == NULL) return error_set(e, ERR_NOMEM, "no memory for the management port");
    m->o = *o;
    if (m->o.max_connections == 0) m->o.max_connections = MAX_CONNECTIONS;
    m->started_ms = io_wall_ms(o->io);
    gethostname(host, sizeof host - 1);
    host[strcspn(host, ".")] = '\0';
    snprintf(m->node, sizeof m->node, "rabbit@%s", host);
    const struct door_options d = {
        .loop = o->loop,
        .address = o->address,
        .port = o->port,
        .tls_certificate = o->tls_certificate,
        .tls_key = o->tls_key,
        .insecure_bind = o->insecure_bind,
        .max_connections = m->o.max_connections,
        .begin = on_begin,
        .handle = on_handle,
        .arg = m,
    };
    enum err err = door_new(&m->door, &d, e);
    if (err != ERR_OK) {
        free(m);
        return err;
    }
    sampler_start(&m->sampler, m);
    *out = m;
    return ERR_OK;
}

uint16_t management_port(const struct management *m) { return door_port(m->door); }

void management_more_metrics(struct management *m, void (*write)(void *arg, struct buf *b), void *arg) {
    m->more_metrics = write;
    m->more_metrics_arg = arg;
}

void management_drain(struct management *m, uint32_t limit_ms, void (*done)(void *arg), void *arg) {
    door_drain(m->door, limit_ms, done, arg);
}

void management_free(struct management *m) {
    if (m == NULL) return;
    sampler_stop(&m->sampler);
    door_free(m->door);
    free(m);
}

// ---- shared ---------------------------------------------------------------------------------------------

bool sees_vhost(const struct call *c, const char *vhost) {
    if (c->user->administrator || c->user->monitoring) return true;
    return access_may_enter(c->management->o.access, c->user, vhost);
}

const char *exchange_name(const char *name) { return strcmp(name, "amq.default") == 0 ? "" : name; }

const char *exchange_type_name(const struct exchange_options *o) {
    static const char *const names[] = {
        [EXCHANGE_DIRECT] = "direct",
        [EXCHANGE_FANOUT] = "fanout",
        [EXCHANGE_TOPIC] = "topic",
        [EXCHANGE_HEADERS] = "headers",
        [EXCHANGE_CONSISTENT_HASH] = "x-consistent-hash",
    };
    if (o->delayed) return "x-delayed-message";
    if (o->dedupe_size > 0) return "x-message-deduplication";
    return names[o->type];
}

uint64_t process_resident_bytes(void) {
    unsigned long long size, resident;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL) return 0;
    bool ok = fscanf(f, "%llu %llu", &size, &resident) == 2;
    fclose(f);
    return ok ? resident * PAGE_BYTES : 0;
}

void manage_metrics(struct call *c) {
    struct management *m = c->management;
    const struct metrics_sources s = {
        .engine = m->o.engine, .amqp = m->o.amqp, .io = m->o.io, .low_water_bytes = m->o.low_water_bytes};
    metrics_write(&c->out, &s);
    if (m->more_metrics != NULL) m->more_metrics(m->more_metrics_arg, &c->out);
    call_answer_as(c, 200, "text/plain; version=0.0.4; charset=utf-8");
}
