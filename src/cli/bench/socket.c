// A WebSocket client for load; see socket.h.
//
//   frame to the server:  0x81 | 0x80+len (126: +u16, 127: +u64, big endian) | 4 zero mask bytes | text
//   frame from the server: 0x81 | len … | text
#include "cli/bench/socket.h"

#include "base/assert.h"
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IN_MAX     (4 * 1024 * 1024)
#define OUT_MAX    (64 * 1024 * 1024)
#define READ_CHUNK 65536

enum { OP_TEXT = 1, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

struct bench_socket {
    uv_tcp_t tcp;
    uv_connect_t connect;
    struct bench_socket_events events;
    void *arg;
    struct buf in, out;
    char request[512];
    bool upgraded, closing;
};

struct pending_write {
    uv_write_t request;
    struct buf data;
};

static void on_closed(uv_handle_t *h) {
    struct bench_socket *s = h->data;
    buf_release(&s->in);
    buf_release(&s->out);
    free(s);
}

void bench_socket_close(struct bench_socket *s) {
    if (s->closing) return;
    s->closing = true;
    uv_close((uv_handle_t *)&s->tcp, on_closed);
}

static void fail(struct bench_socket *s, const char *why) {
    if (s->closing) return;
    s->events.closed(s->arg, why);
    bench_socket_close(s);
}

static void add_frame(struct buf *out, uint8_t opcode, const void *data, size_t n) {
    static const uint8_t no_mask[4];
    buf_add_u8(out, 0x80 | opcode);
    if (n < 126) {
        buf_add_u8(out, 0x80 | (uint8_t)n);
    } else {
        ASSERT(n <= 0xffff);
        buf_add_u8(out, 0x80 | 126);
        buf_add_u8(out, (uint8_t)(n >> 8));
        buf_add_u8(out, (uint8_t)n);
    }
    buf_add(out, no_mask, sizeof no_mask);
    buf_add(out, data, n);
}

void bench_socket_send(struct bench_socket *s, const char *text, size_t n) { add_frame(&s->out, OP_TEXT, text, n); }

static void on_written(uv_write_t *request, int status) {
    struct pending_write *w = (struct pending_write *)request;
    struct bench_socket *s = request->handle->data;
    if (status < 0 && status != UV_ECANCELED) fail(s, uv_strerror(status));
    buf_release(&w->data);
    free(w);
}

void bench_socket_flush(struct bench_socket *s) {
    if (s->closing || !s->out.len) return;
    uv_buf_t data = uv_buf_init((char *)s->out.data, (unsigned)s->out.len);
    int n = uv_try_write((uv_stream_t *)&s->tcp, &data, 1);
    if (n < 0 && n != UV_EAGAIN) {
        fail(s, uv_strerror(n));
        return;
    }
    if (n > 0) buf_consume(&s->out, (size_t)n);
    if (!s->out.len) return;
    struct pending_write *w = malloc(sizeof *w);
    if (!w) die("bench: out of memory");
    w->data = s->out;
    buf_init(&s->out, OUT_MAX);
    data = uv_buf_init((char *)w->data.data, (unsigned)w->data.len);
    uv_write(&w->request, (uv_stream_t *)&s->tcp, &data, 1, on_written);
}

// One frame at `at`; returns its length, 0 when it is not complete yet.
static size_t take_frame(struct bench_socket *s, const uint8_t *at, size_t have) {
    if (have < 2) return 0;
    size_t head = 2, n = at[1] & 0x7f;
    if (n == 126) {
        if (have < 4) return 0;
        head = 4;
        n = (size_t)at[2] << 8 | at[3];
    } else if (n == 127) {
        if (have < 10) return 0;
        head = 10;
        n = (size_t)at[6] << 24 | (size_t)at[7] << 16 | (size_t)at[8] << 8 | at[9];
    }
    if (have - head < n) return 0;
    switch (at[0] & 0x0f) {
    case OP_TEXT: s->events.text(s->arg, (const char *)at + head, n); break;
    case OP_PING: add_frame(&s->out, OP_PONG, at + head, n); break;
    case OP_CLOSE: fail(s, "closed by the server"); break;
    default: break;
    }
    return head + n;
}

static size_t take_upgrade(struct bench_socket *s) {
    const uint8_t *end = memmem(s->in.data, s->in.len, "\r\n\r\n", 4);
    if (!end) return 0;
    if (s->in.len < 12 || memcmp(s->in.data + 9, "101", 3) != 0) {
        fail(s, "the server did not take the WebSocket");
        return 0;
    }
    s->upgraded = true;
    s->events.open(s->arg);
    return (size_t)(end - s->in.data) + 4;
}

static void take_all(struct bench_socket *s) {
    size_t at = 0;
    if (!s->upgraded) at = take_upgrade(s);
    if (!s->upgraded) return;
    while (!s->closing) {
        size_t n = take_frame(s, s->in.data + at, s->in.len - at);
        if (!n) break;
        at += n;
    }
    if (s->closing) return;
    buf_consume(&s->in, at);
    s->events.batch_end(s->arg);
    bench_socket_flush(s);
}

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *out) {
    struct bench_socket *s = h->data;
    uint8_t *room = buf_reserve(&s->in, READ_CHUNK);
    *out = uv_buf_init((char *)room, room ? READ_CHUNK : 0);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *data) {
    struct bench_socket *s = stream->data;
    if (n < 0) {
        fail(s, n == UV_EOF ? "end of stream" : uv_strerror((int)n));
        return;
    }
    s->in.len += (size_t)n;
    take_all(s);
}

static void on_connect(uv_connect_t *c, int status) {
    struct bench_socket *s = c->data;
    if (status < 0) {
        fail(s, uv_strerror(status));
        return;
    }
    uv_tcp_nodelay(&s->tcp, 1);
    buf_add_str(&s->out, s->request);
    bench_socket_flush(s);
    uv_read_start((uv_stream_t *)&s->tcp, on_alloc, on_read);
}

struct bench_socket *bench_socket_new(uv_loop_t *loop, const struct sockaddr *address, const char *host,
                                      const struct bench_socket_events *events, void *arg) {
    struct bench_socket *s = calloc(1, sizeof *s);
    if (!s) die("bench: out of memory");
    s->events = *events;
    s->arg = arg;
    buf_init(&s->in, IN_MAX);
    buf_init(&s->out, OUT_MAX);
    uv_tcp_init(loop, &s->tcp);
    s->tcp.data = s;
    s->connect.data = s;
    snprintf(s->request, sizeof s->request,
             "GET /events HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Key: YmFyaWQgYmVuY2hlcyB1cw==\r\nSec-WebSocket-Version: 13\r\n"
             "Sec-WebSocket-Protocol: barid.v1\r\n\r\n",
             host);
    int rc = uv_tcp_connect(&s->connect, &s->tcp, address, on_connect);
    if (rc < 0) die("bench: connect: %s", uv_strerror(rc));
    return s;
}
