// How a connection begins, and what else goes over channel 0.
//
//   client  "AMQP" 0 0 9 1 │ start-ok               │ tune-ok, open
//   server                 │ start       (log in)   │ tune          │ open-ok        … close ─► close-ok, either way
//
// What is said of ourselves in `start` is what clients branch on: they look for the product "RabbitMQ" and for the
// capabilities, and turn their extensions on by them.
#include "amqp/core.h"
#include "amqp/names.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TAKEN_FOR         "3.13.7" // the version of RabbitMQ whose behaviour this is
#define CREDENTIAL_MAX    1024
#define FRAME_MAX_LEAST   FRAME_MIN_SIZE
#define HEADER_LENGTH     8
#define MECHANISMS        "PLAIN AMQPLAIN"
#define MECHANISMS_SECURE "PLAIN AMQPLAIN EXTERNAL"

static const uint8_t protocol_header[HEADER_LENGTH] = {'A', 'M', 'Q', 'P', 0, 0, 9, 1};

struct login {
    struct connection *connection; // NULL: it is gone
};

// ---- start

static void put_server_properties(struct buf *b) {
    static const char *const capabilities[] = {
        "publisher_confirms",           "exchange_exchange_bindings", "basic.nack",
        "consumer_cancel_notify",       "connection.blocked",         "consumer_priorities",
        "authentication_failure_close", "per_consumer_qos",           "direct_reply_to"};
    size_t table = table_put_table(b, "capabilities");
    for (size_t i = 0; i < sizeof capabilities / sizeof capabilities[0]; i++) table_put_bool(b, capabilities[i], true);
    table_end(b, table);
}

static void send_start(struct connection *c) {
    const struct connection_core *core = core_of(c);
    struct buf properties;
    buf_init(&properties, 4096);
    put_server_properties(&properties);
    table_put_text(&properties, "cluster_name", c->amqp->cluster_name);
    table_put_text(&properties, "product", "RabbitMQ");
    table_put_text(&properties, "version", TAKEN_FOR);
    table_put_text(&properties, "platform", "barid");
    table_put_text(&properties, "information", "barid speaks AMQP 0-9-1 as RabbitMQ does");
    table_put_text(&properties, "barid", BARID_VERSION);
    bool external = core->tls && core->tls->common_name[0];
    connection_send(
        c, 0,
        &(struct method){.id = METHOD_CONNECTION_START,
                         .connection_start = {.version_minor = 9,
                                              .server_properties = {properties.data, (uint32_t)properties.len},
                                              .mechanisms = view_of(external ? MECHANISMS_SECURE : MECHANISMS),
                                              .locales = view_of("en_US")}});
    buf_release(&properties);
}

size_t on_protocol_header(struct connection *c, const uint8_t *data, size_t n) {
    size_t have = n < HEADER_LENGTH ? n : HEADER_LENGTH;
    if (memcmp(data, protocol_header, have) != 0) {
        buf_add(&c->out, protocol_header, HEADER_LENGTH); // "this is what I speak"
        connection_finish(c);
        return n;
    }
    if (have < HEADER_LENGTH) return 0;
    core_of(c)->stage = STAGE_START;
    send_start(c);
    return HEADER_LENGTH;
}

// ---- logging in

static bool capability(struct view properties, const char *name) {
    struct field capabilities, f;
    return table_find(properties, "capabilities", &capabilities) && capabilities.type == FIELD_TABLE &&
           table_find(capabilities.bytes, name, &f) && f.type == FIELD_BOOL && f.integer;
}

static void refuse_login(struct connection *c) {
    struct connection_core *core = core_of(c);
    c->amqp->stats.auth_failures++;
    log_event(LOG_WARN, "amqp_login_refused", "connection", core->name, "mechanism", core->mechanism, NULL);
    if (c->client_auth_failure)
        connection_error(c, REPLY_ACCESS_REFUSED, 0,
                         "Login was refused using authentication mechanism %s. For details see the broker logfile.",
                         core->mechanism);
    else connection_silence(c);
}

static void let_in(struct connection *c, const struct access_user *u) {
    const struct amqp_options *o = &c->amqp->o;
    c->user = u;
    c->user_name = strdup(u->name);
    if (!c->user_name) {
        connection_finish(c);
        return;
    }
    core_of(c)->stage = STAGE_TUNE;
    connection_send(c, 0,
                    &(struct method){.id = METHOD_CONNECTION_TUNE,
                                     .connection_tune = {.channel_max = o->channel_max,
                                                         .frame_max = o->frame_max,
                                                         .heartbeat = o->heartbeat_s}});
}

static void on_login(void *arg, enum err err, const struct access_user *u) {
    struct login *l = arg;
    struct connection *c = l->connection;
    free(l);
    if (!c) {
        if (err == ERR_OK) access_user_release(u);
        return;
    }
    core_of(c)->login = NULL;
    if (c->closing && err == ERR_OK) access_user_release(u);
    else if (!c->closing && err == ERR_OK) let_in(c, u);
    else if (!c->closing) refuse_login(c);
    connection_resume(c);
}

void login_abandon(struct connection *c) {
    struct connection_core *core = core_of(c);
    if (core->login) core->login->connection = NULL;
    core->login = NULL;
}

static bool text_of(struct view v, char out[static CREDENTIAL_MAX]) {
    if (v.length >= CREDENTIAL_MAX || (v.length > 0 && memchr(v.data, 0, v.length))) return false;
    if (v.length > 0) memcpy(out, v.data, v.length);
    out[v.length] = 0;
    return true;
}

static void log_in(struct connection *c, struct view user, struct view password) {
    struct connection_core *core = core_of(c);
    char name[CREDENTIAL_MAX], secret[CREDENTIAL_MAX];
    struct login *l = NULL;
    if (!text_of(user, name) || !text_of(password, secret) || !(l = malloc(sizeof *l))) {
        refuse_login(c);
        return;
    }
    l->connection = c;
    core->login = l;
    core->stage = STAGE_LOGIN;
    connection_pause(c); // until on_login
    access_login(c->amqp->o.access, name, secret, core->peer.peer_host, core->peer.loopback, on_login, l);
    explicit_bzero(secret, sizeof secret);
}

static void log_in_by_certificate(struct connection *c) {
    const struct connection_core *core = core_of(c);
    const struct access_user *u =
        core->tls && core->tls->common_name[0]
            ? access_user_certified(c->amqp->o.access, core->tls->common_name, core->peer.loopback)
            : NULL;
    if (u) let_in(c, access_user_hold(u));
    else refuse_login(c);
}

static void on_start_ok(struct connection *c, const struct connection_start_ok *m) {
    struct connection_core *core = core_of(c);
    struct view properties = m->client_properties, user, password;
    c->client_blocked = capability(properties, "connection.blocked");
    c->client_cancel_notify = capability(properties, "consumer_cancel_notify");
    c->client_auth_failure = capability(properties, "authentication_failure_close");
    buf_add(&core->client_properties, properties.data, properties.length);
    snprintf(core->mechanism, sizeof core->mechanism, "%.*s", (int)m->mechanism.length,
             (const char *)m->mechanism.data);
    if (view_is(m->mechanism, "PLAIN") && sasl_plain(m->response, &user, &password)) log_in(c, user, password);
    else if (view_is(m->mechanism, "AMQPLAIN") && sasl_amqplain(m->response, &user, &password))
        log_in(c, user, password);
    else if (view_is(m->mechanism, "EXTERNAL") && core->tls) log_in_by_certificate(c);
    else refuse_login(c);
}

// ---- tune, open

static void on_tune_ok(struct connection *c, const struct connection_tune_ok *m) {
    const struct amqp_options *o = &c->amqp->o;
    uint32_t id = METHOD_CONNECTION_TUNE_OK;
    if (m->frame_max != 0 && m->frame_max < FRAME_MAX_LEAST)
        connection_error(c, REPLY_NOT_ALLOWED, id,
                         "negotiated frame_max = %u is lower than the minimum allowed value (%u)", m->frame_max,
                         FRAME_MAX_LEAST);
    else if (m->frame_max > o->frame_max)
        connection_error(c, REPLY_NOT_ALLOWED, id,
                         "negotiated frame_max = %u is higher than the maximum allowed value (%u)", m->frame_max,
                         o->frame_max);
    else if (m->channel_max > o->channel_max)
        connection_error(c, REPLY_NOT_ALLOWED, id,
                         "negotiated channel_max = %u is higher than the maximum allowed value (%u)", m->channel_max,
                         o->channel_max);
    if (c->closing) return;
    c->frame_max = m->frame_max != 0 ? m->frame_max : o->frame_max; // 0: no limit of its own
    if (m->channel_max != 0) c->channel_max = m->channel_max;
    c->heartbeat_s = m->heartbeat;
    core_of(c)->stage = STAGE_OPEN;
}

static void on_open(struct connection *c, const struct connection_open *m) {
    uint32_t id = METHOD_CONNECTION_OPEN;
    char name[NAME_SIZE];
    struct error e;
    if (!name_copy(name, m->virtual_host)) {
        connection_error(c, REPLY_SYNTAX_ERROR, id, "a name with a zero byte");
        return;
    }
    if (!access_vhost(c->amqp->o.access, name)) {
        connection_error(c, REPLY_NOT_ALLOWED, id, "vhost %s not found", name);
        return;
    }
    if (!access_may_enter(c->amqp->o.access, c->user, name)) {
        connection_error(c, REPLY_NOT_ALLOWED, id, "access to vhost '%s' refused for user '%s'", name, c->user_name);
        return;
    }
    c->vhost = engine_vhost(c->amqp->o.engine, name);
    if (!c->vhost && engine_vhost_add(c->amqp->o.engine, name, &c->vhost, &e) != ERR_OK) {
        connection_error(c, REPLY_INTERNAL_ERROR, id, "vhost '%s' is down: %s", name, e.text);
        return;
    }
    core_of(c)->stage = STAGE_RUNNING;
    connection_send(c, 0, &(struct method){.id = METHOD_CONNECTION_OPEN_OK});
    log_event(LOG_DEBUG, "amqp_connected", "connection", core_of(c)->name, "user", c->user_name, "vhost", name, NULL);
}

// ---- closing, and the rest

static void on_close(struct connection *c) {
    c->closing = true;
    connection_end(c); // its exclusive queues are gone before it is told so
    connection_send(c, 0, &(struct method){.id = METHOD_CONNECTION_CLOSE_OK});
    connection_finish(c);
}

static void on_update_secret(struct connection *c) {
    // Passwords do not expire here: a new one is welcome, and changes nothing.
    connection_send(c, 0, &(struct method){.id = METHOD_CONNECTION_UPDATE_SECRET_OK});
}

static bool on_step(struct connection *c, const struct method *m) {
    enum stage stage = core_of(c)->stage;
    if (stage == STAGE_START && m->id == METHOD_CONNECTION_START_OK) on_start_ok(c, &m->connection_start_ok);
    else if (stage == STAGE_TUNE && m->id == METHOD_CONNECTION_TUNE_OK) on_tune_ok(c, &m->connection_tune_ok);
    else if (stage == STAGE_OPEN && m->id == METHOD_CONNECTION_OPEN) on_open(c, &m->connection_open);
    else if (stage == STAGE_RUNNING && m->id == METHOD_CONNECTION_UPDATE_SECRET) on_update_secret(c);
    else return false;
    return true;
}

void on_connection(struct connection *c, const struct method *m) {
    static const char *const names[] = {"handshake", "starting", "securing", "tuning", "opening", "running"};
    enum stage stage = core_of(c)->stage;
    if (m->id == METHOD_CONNECTION_CLOSE && stage < STAGE_SILENT) on_close(c);
    else if (m->id == METHOD_CONNECTION_CLOSE_OK && stage == STAGE_CLOSING) connection_finish(c);
    else if (stage <= STAGE_RUNNING && !on_step(c, m))
        connection_error(c, REPLY_CHANNEL_ERROR, m->id, "unexpected method in connection state %s", names[stage]);
}
