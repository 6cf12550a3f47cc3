// Frames out: framing (RFC 6455, 5.2; a server's frames are not masked), gathering, writing.
//
//   81 nn            text, up to 125 bytes          89 nn   ping
//   81 7e nnnn       … up to 65,535
//   81 7f nnnnnnnn nnnnnnnn                        88 nn   close
#include "http/socket.h"

#include "http/json_out.h"

#include <string.h>

#define WRITE_MAX (64 * 1024) // handed to libwebsockets at once
#define OUT_KEEP  4096        // a socket with nothing to say keeps no more than this

static void mark_dirty(struct socket *s) {
    if (s->wsi != NULL && !list_linked(&s->dirty)) list_push_back(&s->http->dirty, &s->dirty);
}

struct buf *socket_frame(struct socket *s) {
    struct buf *b = &s->http->frame;
    buf_clear(b);
    return b;
}

void socket_frame_end(struct socket *s) {
    struct buf *b = &s->http->frame;
    if (s->wsi == NULL || s->close_code != 0) return;
    uint8_t head[10] = {0x81};
    size_t n = b->len, used;
    if (n < 126) {
        head[1] = (uint8_t)n;
        used = 2;
    } else if (n < 65536) {
        head[1] = 126;
        head[2] = (uint8_t)(n >> 8);
        head[3] = (uint8_t)n;
        used = 4;
    } else {
        head[1] = 127;
        for (int i = 0; i < 8; i++) head[2 + i] = (uint8_t)((uint64_t)n >> (56 - 8 * i));
        used = 10;
    }
    if (buf_ok(b) && used + n <= s->out.max - s->out.len) {
        buf_add(&s->out, head, used);
        buf_add(&s->out, b->data, n);
    } else {
        s->out.failed = true;
    }
    if (!buf_ok(&s->out)) socket_close(s, CLOSE_SLOW, "slow");
    s->http->counters.frames_out++;
    mark_dirty(s);
}

void socket_ping(struct socket *s) {
    static const uint8_t ping[] = {0x89, 5, 'b', 'a', 'r', 'i', 'd'}; // an empty pong would not be told to us
    buf_add(&s->out, ping, sizeof ping);
    mark_dirty(s);
}

// 88 nn code(2) reason: the last frame of all.
void socket_close_frame(struct socket *s, int code, const char *reason) {
    size_t n = strlen(reason);
    uint8_t head[4] = {0x88, (uint8_t)(n + 2), (uint8_t)(code >> 8), (uint8_t)code};
    s->out.failed = false;
    buf_add(&s->out, head, sizeof head);
    buf_add(&s->out, reason, n);
    mark_dirty(s);
}

static void write_some(struct socket *s) {
    size_t n = s->out.len < WRITE_MAX ? s->out.len : WRITE_MAX;
    int wrote = lws_write(s->wsi, s->out.data, n, LWS_WRITE_HTTP);
    if (wrote < 0) {
        lws_set_timeout(s->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
        buf_clear(&s->out);
        return;
    }
    s->http->counters.bytes_out += n;
    s->wrote_ms = loop_now_ms(s->http->o.loop);
    s->with_lws = lws_partial_buffered(s->wsi) ? n : 0;
    if (n == s->out.len) buf_clear(&s->out);
    else buf_consume(&s->out, n);
}

void socket_flush(struct socket *s) {
    while (s->out.len > 0 && !lws_partial_buffered(s->wsi)) write_some(s);
    if (s->out.len == 0 && s->out.cap > OUT_KEEP) buf_release(&s->out);
    if (s->reading_stopped) socket_review_reading(s);
}

void sockets_flush(struct loop_idle *i) {
    struct http *h = LIST_ITEM(i, struct http, flush);
    struct list_node *n;
    while ((n = list_pop_front(&h->dirty)) != NULL) socket_flush(LIST_ITEM(n, struct socket, dirty));
}
