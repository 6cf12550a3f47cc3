#include "cli/metrics_door.h"

#include "base/assert.h"
#include "base/list.h"
#include "base/loop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define CALLERS_MAX 32
#define REQUEST_MAX 8192
#define ANSWER_MAX  (1u << 20)
#define PATIENCE_MS 5000 // for a request to come, and an answer to go

struct metrics_door {
    uv_tcp_t listener;
    struct loop *loop;
    metrics_write_fn *write;
    metrics_ready_fn *ready;
    void *arg;
    struct list callers;
    size_t callers_n;
    uint16_t port;
    bool closed;
};

struct caller {
    uv_tcp_t tcp;
    uv_write_t write;
    struct list_node node;
    struct loop_timer patience;
    struct metrics_door *door;
    struct buf answer;
    size_t request_n;
    char request[REQUEST_MAX + 1];
    bool answered;
};

static void door_free(struct metrics_door *d) {
    if (d->closed && d->callers_n == 0) free(d);
}

static void caller_closed(uv_handle_t *handle) {
    struct caller *c = handle->data;
    struct metrics_door *d = c->door;
    d->callers_n--;
    list_remove(&c->node);
    buf_release(&c->answer);
    free(c);
    door_free(d);
}

static void hang_up(struct caller *c) {
    loop_timer_stop(c->door->loop, &c->patience);
    if (!uv_is_closing((uv_handle_t *)&c->tcp)) uv_close((uv_handle_t *)&c->tcp, caller_closed);
}

static void out_of_patience(struct loop_timer *t) { hang_up(LIST_ITEM(t, struct caller, patience)); }
static void written(uv_write_t *w, int status) { hang_up(w->data); }

static void answer(struct caller *c, const char *status, const struct buf *body) {
    c->answered = true;
    buf_printf(&c->answer,
               "HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: %zu\r\n"
               "Cache-Control: no-store\r\nConnection: close\r\n\r\n",
               status, body->len);
    buf_add(&c->answer, body->data, body->len);
    uv_buf_t out = uv_buf_init((char *)c->answer.data, (unsigned)c->answer.len);
    c->write.data = c;
    if (!buf_ok(&c->answer) || uv_write(&c->write, (uv_stream_t *)&c->tcp, &out, 1, written) != 0) hang_up(c);
}

static bool asks_for(const struct caller *c, const char *line) {
    return strncmp(c->request, line, strlen(line)) == 0 && strchr(" ?", c->request[strlen(line)]) != NULL;
}

static void act(struct caller *c) {
    struct buf body;
    buf_init(&body, ANSWER_MAX);
    if (asks_for(c, "GET /metrics")) {
        c->door->write(c->door->arg, &body);
        answer(c, "200 OK", &body);
    } else if (asks_for(c, "GET /healthz")) {
        buf_add_str(&body, "ok\n");
        answer(c, "200 OK", &body);
    } else if (asks_for(c, "GET /readyz")) {
        const char *missing = c->door->ready(c->door->arg);
        buf_printf(&body, "%s\n", missing ? missing : "ready");
        answer(c, missing ? "503 Service Unavailable" : "200 OK", &body);
    } else {
        buf_add_str(&body, "there is /metrics, /healthz and /readyz\n");
        answer(c, "404 Not Found", &body);
    }
    buf_release(&body);
}

static void give_room(uv_handle_t *handle, size_t wanted, uv_buf_t *out) {
    struct caller *c = handle->data;
    *out = uv_buf_init(c->request + c->request_n, (unsigned)(REQUEST_MAX - c->request_n));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct caller *c = stream->data;
    if (n < 0) { // also when there was no room left
        hang_up(c);
        return;
    }
    c->request_n += (size_t)n;
    c->request[c->request_n] = '\0';
    if (c->answered || !strstr(c->request, "\r\n\r\n")) return;
    uv_read_stop(stream);
    act(c);
}

static void on_caller(uv_stream_t *listener, int status) {
    struct metrics_door *d = listener->data;
    struct caller *c = status == 0 ? calloc(1, sizeof *c) : NULL;
    if (!c) return;
    c->door = d;
    c->patience.fn = out_of_patience;
    buf_init(&c->answer, ANSWER_MAX + 1024);
    uv_tcp_init(loop_uv(d->loop), &c->tcp);
    c->tcp.data = c;
    list_push_back(&d->callers, &c->node);
    d->callers_n++;
    bool ok = uv_accept(listener, (uv_stream_t *)&c->tcp) == 0 && d->callers_n <= CALLERS_MAX;
    loop_timer_start(d->loop, &c->patience, PATIENCE_MS);
    if (!ok || uv_read_start((uv_stream_t *)&c->tcp, give_room, on_read) != 0) hang_up(c);
}

static void listener_closed(uv_handle_t *handle) {
    struct metrics_door *d = handle->data;
    d->closed = true;
    door_free(d);
}

static int listen_on(struct metrics_door *d, const char *address, uint16_t port) {
    struct sockaddr_storage where;
    int n = sizeof where;
    int rc = uv_ip4_addr(address, port, (struct sockaddr_in *)&where);
    if (rc != 0) rc = uv_ip6_addr(address, port, (struct sockaddr_in6 *)&where);
    if (rc == 0) rc = uv_tcp_bind(&d->listener, (const struct sockaddr *)&where, 0);
    if (rc == 0) rc = uv_listen((uv_stream_t *)&d->listener, CALLERS_MAX, on_caller);
    if (rc == 0) rc = uv_tcp_getsockname(&d->listener, (struct sockaddr *)&where, &n);
    if (rc == 0) // the port stands at the same place in both kinds of addresses
        d->port = ntohs(((struct sockaddr_in *)&where)->sin_port);
    return rc;
}

enum err metrics_door_open(struct metrics_door **out, struct loop *loop, const char *address, uint16_t port,
                           metrics_write_fn *write, metrics_ready_fn *ready, void *arg, struct error *e) {
    struct metrics_door *d = calloc(1, sizeof *d);
    if (!d) return error_set(e, ERR_NOMEM, "no memory for the metrics");
    *d = (struct metrics_door){.loop = loop, .write = write, .ready = ready, .arg = arg};
    list_init(&d->callers);
    uv_tcp_init(loop_uv(loop), &d->listener);
    d->listener.data = d;
    int rc = listen_on(d, address, port);
    if (rc != 0) {
        uv_close((uv_handle_t *)&d->listener, listener_closed);
        return error_set(e, rc == UV_EADDRINUSE ? ERR_LOCKED : ERR_INVALID, "metrics on %s:%u: %s", address, port,
                         uv_strerror(rc));
    }
    *out = d;
    return ERR_OK;
}

uint16_t metrics_door_port(const struct metrics_door *d) { return d->port; }

void metrics_door_close(struct metrics_door *d) {
    if (!d) return;
    LIST_EACH(&d->callers, at) { hang_up(LIST_ITEM(at, struct caller, node)); }
    uv_close((uv_handle_t *)&d->listener, listener_closed);
}

void metrics_number(struct buf *b, const char *name, const char *type, const char *help, double value) {
    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name, type, name, value);
}
