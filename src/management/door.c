// libmicrohttpd on the loop: its epoll descriptor is watched by libuv, its time-outs are a timer.
#include "management/door.h"

#include "base/assert.h"
#include "base/loop.h"
#include "http/limits.h"
#include "management/call.h"
#include "management/routes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#define IDLE_S        75
#define MEMORY_BYTES  (32 * 1024) // a connection's: heads, and what is read at once
#define DRAIN_LOOK_MS 20
#define PEM_MAX       (1 << 20)

struct door {
    struct door_options o;
    struct MHD_Daemon *daemon;
    uv_poll_t *poll; // freed when libuv has let go of it
    struct loop_timer run, drain;
    struct list calls;
    char *key, *certificate;
    uint64_t drain_until_ms;
    void (*drained)(void *arg);
    void *drained_arg;
    bool draining, stopping;
    bool resumed; // a connection waits to be gone on with
};

// ---- turning it -----------------------------------------------------------------------------------------

static void turn(struct door *d) {
    MHD_UNSIGNED_LONG_LONG wait_ms;
    d->resumed = false;
    MHD_run(d->daemon);
    if (d->resumed) loop_timer_start(d->o.loop, &d->run, 0);
    else if (MHD_get_timeout(d->daemon, &wait_ms) == MHD_YES) loop_timer_start(d->o.loop, &d->run, wait_ms);
    else loop_timer_stop(d->o.loop, &d->run);
}

static void on_run(struct loop_timer *t) { turn(LIST_ITEM(t, struct door, run)); }

static void on_poll(uv_poll_t *poll, int status, int events) { turn(poll->data); }

// ---- a call's way ---------------------------------------------------------------------------------------

static void peer_text(struct MHD_Connection *connection, char *out, size_t size) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    out[0] = '\0';
    if (info == NULL || info->client_addr == NULL) return;
    const struct sockaddr *a = info->client_addr;
    socklen_t n = a->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (getnameinfo(a, n, out, (socklen_t)size, NULL, 0, NI_NUMERICHOST) != 0) out[0] = '\0';
}

static struct call *call_new(struct door *d, struct MHD_Connection *connection, const char *path, const char *method) {
    struct call *c = calloc(1, sizeof *c);
    if (c == NULL) return NULL;
    *c = (struct call){.door = d, .connection = connection, .path = strdup(path)};
    buf_init(&c->body, CALL_BODY_MAX);
    buf_init(&c->out, CALL_OUT_MAX);
    snprintf(c->method, sizeof c->method, "%s", method);
    peer_text(connection, c->address, sizeof c->address);
    list_push_back(&d->calls, &c->node);
    if (c->path != NULL) return c;
    call_free(c);
    return NULL;
}

void call_free(struct call *c) {
    list_remove(&c->node);
    if (c->user != NULL) access_user_release(c->user);
    for (size_t i = 0; i < CALL_PARAMS; i++) free(c->params[i]);
    json_decref(c->json);
    buf_release(&c->body);
    buf_release(&c->out);
    free(c->location);
    free(c->path);
    free(c);
}

static void add_headers(const struct call *c, struct MHD_Response *r) {
    MHD_add_response_header(r, "Cache-Control", "no-cache");
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    if (c->type != NULL) MHD_add_response_header(r, "Content-Type", c->type);
    if (c->location != NULL) MHD_add_response_header(r, "Location", c->location);
    if (c->status == 401) MHD_add_response_header(r, "WWW-Authenticate", "Basic realm=\"RabbitMQ Management\"");
    if (c->status == 503) MHD_add_response_header(r, "Retry-After", "1");
    if (c->door->draining) MHD_add_response_header(r, "Connection", "close");
}

static enum MHD_Result write_answer(struct call *c) {
    struct MHD_Response *r = MHD_create_response_from_buffer(c->out.len, c->out.data, MHD_RESPMEM_MUST_FREE);
    if (r == NULL) return MHD_NO;
    c->out.data = NULL; // the response frees it
    c->out.len = c->out.cap = 0;
    add_headers(c, r);
    enum MHD_Result queued = MHD_queue_response(c->connection, (unsigned)c->status, r);
    MHD_destroy_response(r);
    return queued;
}

// Answered by now: written. Not yet: the connection waits until call_deliver.
static enum MHD_Result wait_or_answer(struct call *c) {
    if (c->answered) return write_answer(c);
    c->suspended = true;
    MHD_suspend_connection(c->connection);
    return MHD_YES;
}

static void resume(struct call *c) {
    if (!c->suspended) return;
    c->suspended = false;
    MHD_resume_connection(c->connection);
    c->door->resumed = true;
    loop_timer_start(c->door->o.loop, &c->door->run, 0);
}

void call_go_on(struct call *c) {
    c->admitted = true;
    if (c->connection == NULL) call_free(c);
    else resume(c);
}

void call_deliver(struct call *c) {
    if (c->connection == NULL) call_free(c);
    else resume(c);
}

static bool body_is_allowed(const struct call *c) {
    const char *length = call_header(c, "Content-Length");
    return length == NULL || strtoull(length, NULL, 10) <= CALL_BODY_MAX;
}

static enum MHD_Result first(struct door *d, struct call *c) {
    if (!body_is_allowed(c)) call_fail(c, 413, "bad_request", "Exceeded HTTP request body size limit");
    else d->o.begin(d->o.arg, c);
    if (!c->answered && c->admitted) {
        c->reading = true;
        return MHD_YES;
    }
    return wait_or_answer(c);
}

// libmicrohttpd calls with the head, again after a suspension, with every piece of the body, and at its end.
static enum MHD_Result on_access(void *arg, struct MHD_Connection *connection, const char *path, const char *method,
                                 const char *version, const char *data, size_t *length, void **slot) {
    struct door *d = arg;
    struct call *c = *slot;
    if (d->stopping) return MHD_NO;
    if (c == NULL) {
        *slot = c = call_new(d, connection, path, method);
        return c == NULL ? MHD_NO : first(d, c);
    }
    if (!c->reading) {
        c->reading = true;
        return c->answered ? write_answer(c) : MHD_YES;
    }
    if (*length > 0) {
        // What only looks has no use for one, and some of it is open to strangers.
        if (strcmp(c->route->method, "GET") != 0) buf_add(&c->body, data, *length);
        *length = 0;
        return buf_ok(&c->body) ? MHD_YES : MHD_NO;
    }
    if (!c->handled) {
        c->handled = true;
        d->o.handle(d->o.arg, c);
    }
    return wait_or_answer(c);
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **slot,
                         enum MHD_RequestTerminationCode code) {
    struct call *c = *slot;
    *slot = NULL;
    if (c == NULL) return;
    c->connection = NULL;
    if (!c->suspended) call_free(c);
}

// Paths stay as they came: a name may have a slash in it.
static size_t keep_escapes(void *arg, struct MHD_Connection *connection, char *text) { return strlen(text); }

// ---- starting -------------------------------------------------------------------------------------------

static char *read_pem(const char *path) {
    FILE *f = fopen(path, "re");
    struct buf b;
    if (f == NULL) return NULL;
    buf_init(&b, PEM_MAX);
    char piece[4096];
    for (size_t n; (n = fread(piece, 1, sizeof piece, f)) > 0;) buf_add(&b, piece, n);
    fclose(f);
    char *text = buf_ok(&b) ? strdup(buf_cstr(&b)) : NULL;
    buf_release(&b);
    return text;
}

static enum err check(struct door *d, struct error *e) {
    const struct door_options *o = &d->o;
    if ((o->tls_certificate == NULL) != (o->tls_key == NULL))
        return error_set(e, ERR_INVALID, "--tls-cert and --tls-key go together");
    if (!address_is_loopback(o->address) && o->tls_certificate == NULL && !o->insecure_bind)
        return error_set(e, ERR_FORBIDDEN,
                         "--management %s is reachable from other machines and there is no TLS: give --tls-cert and "
                         "--tls-key, or --insecure-bind if you know that the network is yours",
                         o->address);
    if (o->tls_certificate == NULL) return ERR_OK;
    d->certificate = read_pem(o->tls_certificate);
    d->key = read_pem(o->tls_key);
    if (d->certificate == NULL || d->key == NULL)
        return error_set(e, ERR_INVALID, "cannot read %s or %s", o->tls_certificate, o->tls_key);
    return ERR_OK;
}

static bool address_of(const struct door_options *o, struct sockaddr_storage *out) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, o->address, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(o->port);
        return true;
    }
    if (inet_pton(AF_INET6, o->address, &v6->sin6_addr) != 1) return false;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(o->port);
    return true;
}

static enum err listen_now(struct door *d, struct error *e) {
    struct sockaddr_storage at;
    if (!address_of(&d->o, &at)) return error_set(e, ERR_INVALID, "%s is not an IP address", d->o.address);
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME;
    if (at.ss_family == AF_INET6) flags |= MHD_USE_IPv6;
    if (d->key != NULL) flags |= MHD_USE_TLS;
    struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_KEY, 0, d->key},
                                   {MHD_OPTION_HTTPS_MEM_CERT, 0, d->certificate},
                                   {MHD_OPTION_END, 0, NULL}};
    if (d->key == NULL) tls[0].option = MHD_OPTION_END;
    d->daemon =
        MHD_start_daemon(flags, d->o.port, NULL, NULL, on_access, d, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&at,
                         MHD_OPTION_CONNECTION_LIMIT, (unsigned)d->o.max_connections, MHD_OPTION_CONNECTION_TIMEOUT,
                         (unsigned)IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_BYTES,
                         MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed, d,
                         MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
    if (d->daemon == NULL)
        return error_set(e, ERR_UNAVAILABLE, "cannot listen on %s port %u (in use?)%s", d->o.address, d->o.port,
                         d->key != NULL ? ", or the certificate cannot be used" : "");
    return ERR_OK;
}

static enum err watch(struct door *d, struct error *e) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(d->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    d->poll = calloc(1, sizeof *d->poll);
    if (info == NULL || d->poll == NULL) return error_set(e, ERR_NOMEM, "no memory for the management port");
    ASSERT(uv_poll_init(loop_uv(d->o.loop), d->poll, info->epoll_fd) == 0);
    d->poll->data = d;
    ASSERT(uv_poll_start(d->poll, UV_READABLE, on_poll) == 0);
    d->run.fn = on_run;
    return ERR_OK;
}

enum err door_new(struct door **out, const struct door_options *o, struct error *e) {
    struct door *d = calloc(1, sizeof *d);
    if (d == NULL) return error_set(e, ERR_NOMEM, "no memory for the management port");
    d->o = *o;
    list_init(&d->calls);
    enum err err = check(d, e);
    if (err == ERR_OK) err = listen_now(d, e);
    if (err == ERR_OK) err = watch(d, e);
    if (err == ERR_OK) *out = d;
    else door_free(d);
    return err;
}

uint16_t door_port(const struct door *d) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(d->daemon, MHD_DAEMON_INFO_BIND_PORT);
    return info != NULL ? info->port : 0;
}

bool door_tls(const struct door *d) { return d->key != NULL; }

uint32_t door_connections(const struct door *d) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(d->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
    return info != NULL ? info->num_connections : 0;
}

// ---- ending ---------------------------------------------------------------------------------------------

static void look_drained(struct loop_timer *t) {
    struct door *d = LIST_ITEM(t, struct door, drain);
    bool late = loop_now_ms(d->o.loop) >= d->drain_until_ms;
    if (list_empty(&d->calls) || late) d->drained(d->drained_arg);
    else loop_timer_start(d->o.loop, t, DRAIN_LOOK_MS);
}

void door_drain(struct door *d, uint32_t limit_ms, void (*done)(void *arg), void *arg) {
    d->draining = true;
    MHD_socket listener = MHD_quiesce_daemon(d->daemon);
    if (listener != MHD_INVALID_SOCKET) close(listener);
    d->drained = done;
    d->drained_arg = arg;
    d->drain_until_ms = loop_now_ms(d->o.loop) + limit_ms;
    d->drain.fn = look_drained;
    loop_timer_start(d->o.loop, &d->drain, 0);
}

static void on_closed(uv_handle_t *h) { free(h); }

// libmicrohttpd wants no connection suspended when it stops. A call that still waits belongs to what it waits for.
static void abandon_calls(struct door *d) {
    d->stopping = true;
    LIST_EACH_SAFE(&d->calls, at) {
        struct call *c = LIST_ITEM(at, struct call, node);
        if (!c->suspended) continue;
        list_remove(&c->node);
        MHD_resume_connection(c->connection);
    }
    MHD_run(d->daemon);
}

void door_free(struct door *d) {
    if (d == NULL) return;
    loop_timer_stop(d->o.loop, &d->run);
    loop_timer_stop(d->o.loop, &d->drain);
    if (d->poll != NULL) uv_close((uv_handle_t *)d->poll, on_closed);
    if (d->daemon != NULL) {
        abandon_calls(d);
        MHD_stop_daemon(d->daemon);
    }
    free(d->key);
    free(d->certificate);
    free(d);
}
