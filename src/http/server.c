// The server object: libwebsockets' context on our loop, and its callbacks, which hand each event to the request
// or the socket it belongs to.
//
// HTTP/2 and compression are off: one way of framing, nothing to negotiate. libwebsockets sizes its tables by the
// limit of open files, which barid serve sets to what max_connections needs.
#include "http/server.h"

#include "base/assert.h"
#include "base/io.h"
#include "base/log.h"
#include "http/api.h"
#include "http/request.h"
#include "http/socket.h"
#include "http/upgrade.h"

#include <stdlib.h>
#include <string.h>

#define RX_BYTES      2048         // kept a socket, for frames that come in pieces
#define SERVICE_BYTES (32 * 1024)  // one for all: what is read at once
#define TX_BYTES      (256 * 1024) // at most so much is given to the system at once
#define HEADERS_BYTES 16384        // of one request, while it is being read
#define KEEP_ALIVE_S  75
#define REFUSE_ABOVE  64 // past the limit this many are answered with 503, more are just closed
#define CLOSE_MS      50
#define DRAIN_LOOK_MS 20

// ---- connections ----------------------------------------------------------------------------------------

static int connection_new(struct http *h, struct lws *wsi) {
    struct conn *c = calloc(1, sizeof *c);
    if (c == NULL) return -1;
    c->http = h;
    lws_get_peer_simple(wsi, c->address, sizeof c->address);
    if (strncmp(c->address, "::ffff:", 7) == 0) memmove(c->address, c->address + 7, strlen(c->address + 7) + 1);
    bool loopback = address_is_loopback(c->address);
    c->counted = !loopback && addresses_enter(&h->addresses, c->address, h->o.max_connections_per_address);
    c->too_many = h->connections >= h->o.max_connections || (!loopback && !c->counted);
    if (c->too_many) h->counters.connections_refused++;
    h->connections++;
    lws_set_opaque_user_data(wsi, c);
    return 0;
}

static void connection_gone(struct lws *wsi, struct conn *c) {
    if (c->request != NULL) request_gone(c->request);
    if (c->socket != NULL) socket_gone(c->socket);
    if (c->counted) addresses_leave(&c->http->addresses, c->address);
    c->http->connections--;
    lws_set_opaque_user_data(wsi, NULL);
    free(c);
}

static void request_closed(struct conn *c) {
    if (c->request != NULL) request_gone(c->request);
}

static bool lingering_on(const struct conn *c) {
    return c != NULL && loop_now_ms(c->http->o.loop) < c->linger_until_ms;
}

// ---- callbacks ------------------------------------------------------------------------------------------

static struct http *http_of(struct lws *wsi) { return lws_context_user(lws_get_context(wsi)); }

// libwebsockets names an empty slice of reasons nobody here cares for; the rest falls to its own handling.
static int on_http(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t n) {
    struct conn *c = wsi != NULL ? lws_get_opaque_user_data(wsi) : NULL;
    switch (reason) {
    case LWS_CALLBACK_FILTER_NETWORK_CONNECTION: {
        struct http *h = http_of(wsi);
        bool refuse = h->draining || h->connections >= h->o.max_connections + REFUSE_ABOVE;
        if (refuse) h->counters.connections_refused++;
        return refuse ? 1 : 0;
    }
    case LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED: return connection_new(http_of(wsi), wsi);
    case LWS_CALLBACK_HTTP: return c == NULL ? -1 : request_begin(c, wsi, in);
    case LWS_CALLBACK_HTTP_BODY:
        if (c == NULL || c->request == NULL) return lingering_on(c) ? 0 : -1;
        return request_body(c->request, in, n);
    case LWS_CALLBACK_HTTP_BODY_COMPLETION: return c == NULL || c->request == NULL ? -1 : request_body_end(c->request);
    case LWS_CALLBACK_HTTP_WRITEABLE: return c == NULL || c->request == NULL ? 0 : request_writable(c->request);
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE: return c == NULL ? -1 : upgrade_check(c, wsi);
    case LWS_CALLBACK_CLOSED_HTTP:
        if (c != NULL) request_closed(c);
        return 0;
    case LWS_CALLBACK_WSI_DESTROY:
        if (c != NULL) connection_gone(wsi, c);
        return 0;
    case LWS_CALLBACK_RAW_CONNECTED:
    case LWS_CALLBACK_RAW_ADOPT:
    case LWS_CALLBACK_RAW_RX: return -1; // CONNECT makes it raw; we are no proxy
    default: return 0;
    }
}

static int on_socket(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t n) {
    struct conn *c = wsi != NULL ? lws_get_opaque_user_data(wsi) : NULL;
    if (c == NULL) return 0;
    switch (reason) {
    case LWS_CALLBACK_ESTABLISHED: c->socket = socket_new(c->http, wsi, c->address); return c->socket == NULL ? -1 : 0;
    case LWS_CALLBACK_RECEIVE:
        if (c->socket != NULL) socket_receive(c->socket, in, n, lws_frame_is_binary(wsi));
        return 0;
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE: return c->socket == NULL ? 0 : socket_peer_closes(c->socket);
    case LWS_CALLBACK_RECEIVE_PONG:
        if (c->socket != NULL) socket_pong(c->socket);
        return 0;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        if (c->socket != NULL) socket_writable(c->socket);
        return 0;
    case LWS_CALLBACK_CLOSED:
        if (c->socket != NULL) socket_gone(c->socket);
        c->socket = NULL;
        return 0;
    case LWS_CALLBACK_WSI_DESTROY: connection_gone(wsi, c); return 0;
    default: return 0;
    }
}

static void on_lws_log(int level, const char *line) {
    size_t n = strcspn(line, "\n");
    log_text(level == LLL_ERR ? LOG_WARN : LOG_DEBUG, "libwebsockets", "%.*s", (int)n, line);
}

// ---- making it ------------------------------------------------------------------------------------------

static void set_defaults(struct http_options *o) {
    if (o->max_connections == 0) o->max_connections = 10000;
    if (o->max_connections_per_address == 0) o->max_connections_per_address = 1000;
    if (o->rate == 0) o->rate = 5000;
    if (o->rate_unauthenticated == 0) o->rate_unauthenticated = 200;
    if (o->ping_interval_ms == 0) o->ping_interval_ms = 25000;
    if (o->header_timeout_s == 0) o->header_timeout_s = 20;
    if (o->upload_max_bytes == 0) o->upload_max_bytes = 100 << 20;
}

static enum err check(const struct http_options *o, struct error *e) {
    if ((o->tls_certificate == NULL) != (o->tls_key == NULL))
        return error_set(e, ERR_INVALID, "--tls-cert and --tls-key go together");
    if (!address_is_loopback(o->address) && o->tls_certificate == NULL && !o->insecure_bind)
        return error_set(e, ERR_FORBIDDEN,
                         "%s is reachable from other machines and there is no TLS: give --tls-cert and --tls-key, "
                         "or --insecure-bind if you know that the network is yours",
                         o->address);
    return ERR_OK;
}

static void fill(struct http *h, struct lws_context_creation_info *i) {
    h->protocols[0] = (struct lws_protocols){
        .name = "http", .callback = on_http, .rx_buffer_size = RX_BYTES, .tx_packet_size = TX_BYTES};
    h->protocols[1] = (struct lws_protocols){
        .name = "barid.v1", .callback = on_socket, .rx_buffer_size = RX_BYTES, .tx_packet_size = TX_BYTES};
    h->retry = (lws_retry_bo_t){.secs_since_valid_ping = 0xfff0, .secs_since_valid_hangup = 0xfff8};
    h->foreign_loop[0] = loop_uv(h->o.loop);
    *i = (struct lws_context_creation_info){
        .port = h->o.port,
        .iface = h->o.address,
        .protocols = h->protocols,
        .gid = (gid_t)-1,
        .uid = (uid_t)-1,
        .user = h,
        .foreign_loops = h->foreign_loop,
        .options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                   (strchr(h->o.address, ':') == NULL ? LWS_SERVER_OPTION_DISABLE_IPV6 : 0),
        .pt_serv_buf_size = SERVICE_BYTES,
        .max_http_header_data = HEADERS_BYTES,
        .timeout_secs = h->o.header_timeout_s,
        .keepalive_timeout = KEEP_ALIVE_S,
        .retry_and_idle_policy = &h->retry,
        .alpn = "http/1.1",
        .vhost_name = "barid",
        .server_string = "barid",
    };
    if (h->o.tls_certificate != NULL) {
        i->options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
        i->ssl_cert_filepath = h->o.tls_certificate;
        i->ssl_private_key_filepath = h->o.tls_key;
    }
}

static enum err listen_now(struct http *h, struct error *e) {
    struct lws_context_creation_info i;
    fill(h, &i);
    lws_set_log_level(LLL_ERR | LLL_WARN, on_lws_log);
    h->context = lws_create_context(&i);
    if (h->context == NULL)
        return error_set(e, ERR_UNAVAILABLE, "libwebsockets does not start (is libwebsockets-evlib-uv installed?)");
    h->vhost = lws_create_vhost(h->context, &i);
    if (h->vhost == NULL || lws_get_vhost_listen_port(h->vhost) <= 0)
        return error_set(e, ERR_UNAVAILABLE, "cannot listen on %s port %u (in use?)%s", h->o.address, h->o.port,
                         h->o.tls_certificate != NULL ? ", or the certificate cannot be used" : "");
    return ERR_OK;
}

// Four times a ping interval, at most once a second, at least every 20 ms.
static void on_sweep(struct loop_timer *t) {
    struct http *h = LIST_ITEM(t, struct http, sweep);
    uint32_t step = h->o.ping_interval_ms / 4;
    sockets_sweep(h);
    requests_sweep(h);
    loop_timer_start(h->o.loop, t, step < 20 ? 20 : step > 1000 ? 1000 : step);
}

enum err http_new(struct http **out, const struct http_options *o, struct error *e) {
    struct http *h = calloc(1, sizeof *h);
    if (h == NULL) return error_set(e, ERR_NOMEM, "no memory for the server");
    h->o = *o;
    set_defaults(&h->o);
    list_init(&h->streams);
    list_init(&h->polls);
    list_init(&h->sockets);
    list_init(&h->dirty);
    list_init(&h->free_calls);
    buf_init(&h->frame, PAGE_MAX);
    addresses_init(&h->addresses, io_random_u64(o->io));
    enum err err = check(&h->o, e);
    if (err == ERR_OK &&
        (!rates_init(&h->device_rates, h->o.rate) || !rates_init(&h->address_rates, h->o.rate_unauthenticated)))
        err = error_set(e, ERR_NOMEM, "no memory for the server");
    if (err == ERR_OK) err = listen_now(h, e);
    if (err != ERR_OK) return err; // see http.h
    h->flush.fn = sockets_flush;
    loop_before_block(o->loop, &h->flush);
    h->sweep.fn = on_sweep;
    loop_timer_start(o->loop, &h->sweep, 20);
    *out = h;
    return ERR_OK;
}

uint16_t http_port(const struct http *h) { return (uint16_t)lws_get_vhost_listen_port(h->vhost); }

void http_set_ready(struct http *h, bool ready) { h->ready = ready; }

// ---- ending ---------------------------------------------------------------------------------------------

static void look_drained(struct loop_timer *t) {
    struct http *h = LIST_ITEM(t, struct http, drain_timer);
    bool late = loop_now_ms(h->o.loop) >= h->drain_until_ms;
    if (!late && (h->requests_open > 0 || h->sockets_open > 0)) {
        loop_timer_start(h->o.loop, t, DRAIN_LOOK_MS);
        return;
    }
    h->drained(h->drained_arg);
}

void http_drain(struct http *h, uint32_t limit_ms, void (*done)(void *arg), void *arg) {
    h->draining = true;
    h->ready = false;
    h->drained = done;
    h->drained_arg = arg;
    h->drain_until_ms = loop_now_ms(h->o.loop) + limit_ms;
    h->drain_timer.fn = look_drained;
    sockets_close_all(h, CLOSE_GOING_AWAY, "going away");
    api_polls_end(h);
    loop_timer_start(h->o.loop, &h->drain_timer, DRAIN_LOOK_MS);
}

struct turn {
    struct loop_timer timer;
    struct loop *loop;
};

static void turn_over(struct loop_timer *t) { loop_stop(LIST_ITEM(t, struct turn, timer)->loop); }

// On a foreign loop libwebsockets closes in two steps, and between them the loop has to run.
static void destroy_context(struct http *h) {
    struct turn turn = {.timer = {.fn = turn_over}, .loop = h->o.loop};
    lws_context_destroy(h->context);
    loop_timer_start(h->o.loop, &turn.timer, CLOSE_MS);
    loop_run(h->o.loop);
    lws_context_destroy(h->context);
}

void http_free(struct http *h) {
    if (h == NULL) return;
    loop_timer_stop(h->o.loop, &h->sweep);
    loop_timer_stop(h->o.loop, &h->drain_timer);
    destroy_context(h);
    loop_before_block_end(h->o.loop, &h->flush);
    socket_calls_release(h);
    addresses_release(&h->addresses);
    rates_release(&h->device_rates);
    rates_release(&h->address_rates);
    buf_release(&h->frame);
    free(h);
}
