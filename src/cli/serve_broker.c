// Opens the broker in the order in which its parts need each other: access reads users and virtual hosts, the engine is
// told of every virtual host, then the door opens. A change of access closes who may no longer be there.
#include "cli/serve_broker.h"

#include "access/access.h"
#include "amqp/amqp.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/shown.h"
#include "engine/engine.h"
#include "management/management.h"
#include "management/metrics.h"

#include <stdio.h>
#include <string.h>

// ---- settings

static bool address(const struct config *c, const char *name, char *out, size_t size, uint16_t *port) {
    out[0] = 0;
    return strcmp(config_text(c, name), "off") == 0 || config_address(c, name, out, size, port);
}

bool serve_broker_settings(struct serve_broker *b, const struct config *c) {
    b->config = c;
    if (!address(c, "amqp", b->address, sizeof b->address, &b->port) ||
        !address(c, "amqps", b->tls_address, sizeof b->tls_address, &b->tls_port) ||
        !address(c, "management", b->management_address, sizeof b->management_address, &b->management_port) ||
        !config_number(c, "max-connections", 1000000, &b->max_connections) ||
        !config_number(c, "heartbeat", 65535, &b->heartbeat) ||
        !config_number(c, "channel-max", 65535, &b->channel_max) || !config_bytes(c, "frame-max", &b->frame_max) ||
        !config_bytes(c, "claim-bytes", &b->claim_bytes) ||
        !config_bytes(c, "max-message-size", &b->max_message_size) ||
        !config_duration_ms(c, "consumer-timeout", &b->consumer_timeout))
        return false;
    if (b->frame_max > UINT32_MAX) b->frame_max = UINT32_MAX;
    if (!b->tls_address[0] || (config_text(c, "tls-cert") && config_text(c, "tls-key"))) return true;
    fprintf(stderr, "barid serve: --amqps needs --tls-cert and --tls-key\n");
    return false;
}

bool serve_broker_off(struct serve_broker *b) {
    static const char *const doors[] = {"amqp", "amqps", "management"};
    for (size_t i = 0; i < sizeof doors / sizeof doors[0]; i++) {
        if (!config_given(b->config, doors[i]) || strcmp(config_text(b->config, doors[i]), "off") == 0) continue;
        fprintf(stderr, "barid serve: --%s is a door of the embedded bus, and --bus names another one\n", doors[i]);
        return false;
    }
    b->address[0] = b->tls_address[0] = b->management_address[0] = 0;
    return true;
}

// ---- opening

static void on_access_changed(void *arg, const char *deleted_user, const char *deleted_vhost) {
    struct serve_broker *b = arg;
    if (b->amqp) amqp_access_changed(b->amqp, deleted_user, deleted_vhost);
    if (deleted_vhost) engine_vhost_delete(b->engine, deleted_vhost, NULL);
}

struct vhosts {
    struct serve_broker *broker;
    enum err err;
    struct error *error;
};

static void add_vhost(void *arg, const struct access_vhost_info *v) {
    struct vhosts *all = arg;
    struct vhost *made;
    if (all->err == ERR_OK) all->err = engine_vhost_add(all->broker->engine, v->name, &made, all->error);
}

static void on_kept(void *arg, enum err err, const struct error *e) {
    if (err != ERR_OK) log_event(LOG_WARN, "vhost_not_kept", "reason", e->text, NULL);
}

// The journal has one that the database does not: an older copy of the database was put back, or the last deletion was
// not finished. Its queues are not thrown away for that.
static void keep_vhost(void *arg, struct vhost *v) {
    struct serve_broker *b = arg;
    const char *name = vhost_name(v);
    if (strcmp(name, "/") == 0 || access_vhost(b->access, name)) return;
    log_event(LOG_WARN, "vhost_found", "vhost", name, "reason", "it is in the journal and was not in the database",
              NULL);
    access_vhost_put(b->access, &(struct access_vhost_info){.name = name}, on_kept, b);
}

static enum err open_amqp(struct serve_broker *b, struct error *e) {
    const struct config *c = b->config;
    struct amqp_options o = {
        .loop = b->loop,
        .io = b->io,
        .engine = b->engine,
        .access = b->access,
        .address = b->address[0] ? b->address : NULL,
        .port = b->port,
        .tls_address = b->tls_address[0] ? b->tls_address : NULL,
        .tls_port = b->tls_port,
        .tls_certificate = config_text(c, "tls-cert"),
        .tls_key = config_text(c, "tls-key"),
        .tls_ca = config_text(c, "tls-ca"),
        .insecure_bind = config_switch(c, "insecure-bind"),
        .max_connections = (uint32_t)b->max_connections,
        .frame_max = (uint32_t)b->frame_max,
        .channel_max = (uint16_t)b->channel_max,
        .heartbeat_s = (uint16_t)b->heartbeat,
        .claims = b->claims,
        .claim_bytes = b->claim_bytes,
        .max_body = b->max_message_size,
        .consumer_timeout_ms = b->consumer_timeout,
    };
    return amqp_new(&b->amqp, &o, e);
}

static enum err open_management(struct serve_broker *b, struct error *e) {
    const struct config *c = b->config;
    if (!b->management_address[0]) return ERR_OK;
    struct management_options o = {
        .loop = b->loop,
        .io = b->io,
        .engine = b->engine,
        .access = b->access,
        .amqp = b->amqp,
        .address = b->management_address,
        .port = b->management_port,
        .tls_certificate = config_text(c, "tls-cert"),
        .tls_key = config_text(c, "tls-key"),
        .insecure_bind = config_switch(c, "insecure-bind"),
        .low_water_bytes = b->low_water,
        .version = BARID_VERSION,
        .data = config_text(c, "data"),
    };
    return management_new(&b->management, &o, e);
}

static void on_access_opened(void *arg, enum err err, const struct error *why) {
    struct serve_broker *b = arg;
    struct error e = {0};
    if (err != ERR_OK) {
        b->opened(b->opened_arg, err, why);
        return;
    }
    struct vhosts all = {.broker = b, .error = &e};
    access_each_vhost(b->access, add_vhost, &all);
    engine_each_vhost(b->engine, keep_vhost, b);
    err = all.err;
    if (err == ERR_OK) err = open_amqp(b, &e);
    if (err == ERR_OK) err = open_management(b, &e);
    b->opened(b->opened_arg, err, &e);
}

enum err serve_broker_open(struct serve_broker *b, struct loop *loop, struct io *io, struct database *database,
                           struct engine *engine, void (*opened)(void *arg, enum err err, const struct error *e),
                           void *arg, struct error *e) {
    b->loop = loop;
    b->io = io;
    b->engine = engine;
    b->opened = opened;
    b->opened_arg = arg;
    struct access_options o = {.loop = loop,
                               .io = io,
                               .database = database,
                               .guest_anywhere = config_switch(b->config, "guest-anywhere"),
                               .changed = on_access_changed,
                               .changed_arg = b};
    return access_new(&b->access, &o, on_access_opened, b, e);
}

// ---- closing

static void on_amqp_drained(void *arg) {
    struct serve_broker *b = arg;
    if (b->management) management_drain(b->management, b->drain_ms, b->drained, b->drained_arg);
    else b->drained(b->drained_arg);
}

void serve_broker_drain(struct serve_broker *b, uint32_t limit_ms, void (*done)(void *arg), void *arg) {
    b->drained = done;
    b->drained_arg = arg;
    b->drain_ms = limit_ms;
    if (b->amqp) amqp_drain(b->amqp, limit_ms, on_amqp_drained, b);
    else on_amqp_drained(b);
}

void serve_broker_close(struct serve_broker *b) {
    management_free(b->management);
    b->management = NULL;
    amqp_free(b->amqp);
    b->amqp = NULL;
    if (b->access) access_free(b->access);
}

// ---- telling

void serve_broker_metrics(void *arg, struct buf *out) {
    const struct serve_broker *b = arg;
    const struct metrics_sources s = {
        .engine = b->engine, .amqp = b->amqp, .io = b->io, .low_water_bytes = b->low_water};
    if (b->engine) metrics_write(out, &s);
}

void serve_broker_print(const struct serve_broker *b) {
    if (b->address[0]) door_print("amqp", "amqp", b->address, amqp_port(b->amqp), "");
    if (b->tls_address[0]) door_print("amqps", "amqps", b->tls_address, amqp_tls_port(b->amqp), "");
    if (b->management)
        door_print("manage", config_text(b->config, "tls-cert") ? "https" : "http", b->management_address,
                   management_port(b->management), "");
}
