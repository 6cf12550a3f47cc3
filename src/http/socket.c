// A socket's life: opened, kept alive, closed.
#include "http/socket.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

#define RESUME_CALLS (CALLS_MAX / 2)
#define RESUME_OUT   (OUT_PAUSE / 4)

struct socket *socket_new(struct http *h, struct lws *wsi, const char *address) {
    struct socket *s = calloc(1, sizeof *s);
    if (s == NULL) return NULL;
    s->http = h;
    s->wsi = wsi;
    s->heard_ms = s->wrote_ms = s->pinged_ms = loop_now_ms(h->o.loop);
    memcpy(s->address, address, strnlen(address, sizeof s->address - 1));
    buf_init(&s->in, BODY_MAX);
    buf_init(&s->out, OUT_MAX);
    list_push_back(&h->sockets, &s->node);
    h->sockets_open++;
    return s;
}

static void free_if_done(struct socket *s) {
    if (s->wsi != NULL || s->calls > 0) return;
    buf_release(&s->in);
    buf_release(&s->out);
    free(s);
}

static void detach(struct socket *s) {
    if (s->link == NULL) return;
    chat_detach(s->link);
    s->link = NULL;
}

void socket_gone(struct socket *s) {
    detach(s);
    list_remove(&s->node);
    list_remove(&s->dirty);
    s->http->sockets_open--;
    s->wsi = NULL;
    free_if_done(s);
}

// ---- reading --------------------------------------------------------------------------------------------

static bool may_read(const struct socket *s) {
    if (s->close_code != 0) return true;
    if (s->out_of_tokens || s->state == SOCKET_AUTHENTICATING) return false;
    if (s->reading_stopped) return s->calls < RESUME_CALLS && s->out.len < RESUME_OUT;
    return s->calls < CALLS_MAX && s->out.len < OUT_PAUSE;
}

void socket_review_reading(struct socket *s) {
    if (s->wsi == NULL) return;
    bool stop = !may_read(s);
    if (stop == s->reading_stopped) return;
    s->reading_stopped = stop;
    lws_rx_flow_control(s->wsi, stop ? 0 : 1);
}

static size_t frame_max(const struct socket *s) { return s->state == SOCKET_NEW ? STRANGER_MAX : BODY_MAX; }

// A frame may come in pieces: then it is gathered, else it is taken as it lies.
void socket_receive(struct socket *s, const void *data, size_t n, bool binary) {
    s->heard_ms = loop_now_ms(s->http->o.loop);
    if (s->close_code != 0) return;
    bool last = lws_is_final_fragment(s->wsi) && lws_remaining_packet_payload(s->wsi) == 0;
    if (binary) {
        socket_close(s, CLOSE_UNSUPPORTED, "text frames only");
    } else if (s->in.len == 0 && last) {
        if (n <= frame_max(s)) socket_frame_in(s, data, n);
        else socket_close(s, CLOSE_TOO_BIG, "frame too large");
    } else {
        buf_add(&s->in, data, n);
        if (!buf_ok(&s->in) || s->in.len > frame_max(s)) {
            socket_close(s, CLOSE_TOO_BIG, "frame too large");
        } else if (last) {
            socket_frame_in(s, s->in.data, s->in.len);
            buf_release(&s->in);
        }
    }
    socket_review_reading(s);
}

void socket_pong(struct socket *s) { s->heard_ms = loop_now_ms(s->http->o.loop); }

void socket_writable(struct socket *s) {
    s->wrote_ms = loop_now_ms(s->http->o.loop); // the peer has taken something
    if (!lws_partial_buffered(s->wsi)) s->with_lws = 0;
    socket_flush(s);
}

// Non-zero: the handshake is complete, close without an echo.
int socket_peer_closes(struct socket *s) { return s->close_code != 0 ? -1 : 0; }

// ---- calls under way ------------------------------------------------------------------------------------

void socket_call_began(struct socket *s) { s->calls++; }

void socket_call_ended(struct socket *s) {
    ASSERT(s->calls > 0);
    s->calls--;
    if (s->reading_stopped) socket_review_reading(s);
    free_if_done(s);
}

// ---- closing --------------------------------------------------------------------------------------------

void socket_close(struct socket *s, int code, const char *reason) {
    if (s->wsi == NULL || s->close_code != 0) return;
    socket_close_frame(s, code, reason);
    s->close_code = code;
    s->closing_ms = loop_now_ms(s->http->o.loop);
    detach(s);
    socket_review_reading(s);
}

// Without a word: the peer would not hear it.
static void kill_socket(struct socket *s) {
    if (s->killed) return;
    s->killed = true;
    if (s->close_code == 0) s->http->counters.sockets_dead++;
    if (s->close_code == 0) s->close_code = CLOSE_SLOW;
    detach(s);
    lws_set_timeout(s->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
}

static void sweep_one(struct socket *s, uint64_t now, uint64_t interval) {
    bool stuck = (s->out.len > 0 || s->with_lws > 0) && now - s->wrote_ms > 2 * interval;
    bool silent = now - s->heard_ms > 2 * interval + interval / 2 && !s->reading_stopped;
    bool closed = s->close_code != 0 && now - s->closing_ms > CLOSE_WAIT_MS;
    if (stuck || silent || closed) {
        kill_socket(s);
        return;
    }
    if (s->close_code != 0) return;
    if (s->state == SOCKET_NEW && now - s->pinged_ms > HELLO_MS) {
        socket_close(s, CLOSE_NO_HELLO, "no hello");
        return;
    }
    if (s->out_of_tokens) {
        s->out_of_tokens = false;
        socket_review_reading(s);
    }
    if (s->state != SOCKET_NEW && now - s->pinged_ms >= interval) {
        s->pinged_ms = now;
        socket_ping(s);
    }
}

void sockets_sweep(struct http *h) {
    uint64_t now = loop_now_ms(h->o.loop);
    LIST_EACH_SAFE(&h->sockets, at) sweep_one(LIST_ITEM(at, struct socket, node), now, h->o.ping_interval_ms);
}

void sockets_close_all(struct http *h, int code, const char *reason) {
    LIST_EACH_SAFE(&h->sockets, at) socket_close(LIST_ITEM(at, struct socket, node), code, reason);
}
