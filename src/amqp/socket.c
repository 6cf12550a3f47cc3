// A socket and its connection: reads into the loop's shared buffer, keeps what the connection leaves, writes what it
// answers. With TLS the bytes make a detour through tls.c.
//
// Reading. What was left unread goes in front of the next read, so that a frame always lies in one piece and the
// connection may look at it where it is. A paused connection is not read from. Each has a turn of so many bytes in a
// pass of the loop: one that publishes without a break must not keep those that consume from getting and acknowledging.
//
// Writing. `out` is given to the system at once; what it does not take is moved, not copied, into a write that libuv
// finishes, while `out` fills anew. There is one such write at a time.
//
// Ending. A connection that is done gets its last bytes, then the end of our stream, and the socket goes when the
// client has closed its own side or a while has passed: closed at once, what the client still sends would make the
// system throw away our last words. A client that takes nothing of a write under way is not waited for.
#include "amqp/server.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define OUT_KEEP  (256u << 10)
#define WRITE_MAX (1u << 30)
#define LINGER_MS 2000
#define STALL_MS  5000
#define EARLY_MAX 8192 // bytes a read, of who has not logged in
#define TURN      (64u << 10)

struct write {
    uv_write_t request;
    struct buf data;
};

struct tcp {
    uv_tcp_t tcp;
    struct server *server;
    struct connection *connection;
    struct tls *tls; // NULL: none
    bool tls_done;   // its handshake
    bool reading;
    uint64_t pass; // in which `taken` bytes were read
    size_t taken;
    struct list_node of_waiting; // it has had its turn
    bool ended;                  // our side of the stream
    bool closing;
    struct buf unread; // from `unread_at` on
    size_t unread_at;
    struct buf encrypted; // to be written, with TLS
    struct write *write;  // under way, NULL: none
    uv_shutdown_t shutdown;
    struct loop_timer linger;
    bool lingers;
    size_t left_to_write; // when we began to linger, or last looked
};

// ---- closing

static void on_closed(uv_handle_t *h) {
    struct tcp *s = h->data;
    ASSERT(s->write == NULL); // libuv ends it first; the server may be gone
    buf_release(&s->unread);
    buf_release(&s->encrypted);
    tls_free(s->tls);
    free(s);
}

void tcp_close(struct tcp *s) {
    if (s->closing) return;
    s->closing = true;
    loop_timer_stop(s->server->amqp->o.loop, &s->linger);
    list_remove(&s->of_waiting);
    s->server->sockets--;
    connection_free(s->connection);
    s->connection = NULL;
    uv_close((uv_handle_t *)&s->tcp, on_closed);
}

static size_t left_to_write(const struct tcp *s) {
    return uv_stream_get_write_queue_size((const uv_stream_t *)&s->tcp);
}

static void linger(struct tcp *s, uint64_t ms) {
    s->lingers = true;
    s->left_to_write = left_to_write(s);
    loop_timer_start(s->server->amqp->o.loop, &s->linger, ms);
}

static void on_linger(struct loop_timer *t) {
    struct tcp *s = LIST_ITEM(t, struct tcp, linger);
    if (s->write && left_to_write(s) < s->left_to_write) linger(s, STALL_MS);
    else tcp_close(s);
}

static void on_shutdown(uv_shutdown_t *request, int status) {
    (void)request;
    (void)status;
}

static void end_stream(struct tcp *s) {
    if (s->ended) return;
    s->ended = true;
    linger(s, LINGER_MS);
    s->shutdown.data = s;
    if (uv_shutdown(&s->shutdown, (uv_stream_t *)&s->tcp, on_shutdown) != 0) tcp_close(s);
    else tcp_pump(s); // its end is to be seen, even if we were not reading
}

// ---- writing

static void on_written(uv_write_t *request, int status) {
    struct write *w = LIST_ITEM(request, struct write, request);
    struct tcp *s = request->data;
    s->write = NULL;
    if (!s->closing && status == 0) {
        connection_sent(s->connection, core_of(s->connection)->in_flight, 0);
        if (s->connection->out.cap == 0 && w->data.cap <= OUT_KEEP) { // its memory serves again
            buf_clear(&w->data);
            w->data.max = s->connection->out.max;
            s->connection->out = w->data;
            buf_init(&w->data, 0);
        }
    }
    buf_release(&w->data);
    free(w);
    if (s->closing) return;
    if (status != 0) tcp_close(s);
    else connection_wrote(s->connection); // whatever came meanwhile
}

// Moves what `out` holds from `from` on into a write of its own.
static bool write_rest(struct tcp *s, struct buf *out, size_t from) {
    struct write *w = malloc(sizeof *w);
    if (!w) return false;
    w->data = *out;
    buf_init(out, w->data.max);
    w->request.data = s;
    uv_buf_t b = uv_buf_init((char *)w->data.data + from, (unsigned)(w->data.len - from));
    if (uv_write(&w->request, (uv_stream_t *)&s->tcp, &b, 1, on_written) != 0) {
        buf_release(&w->data);
        free(w);
        return false;
    }
    s->write = w;
    return true;
}

static bool write_out(struct tcp *s, struct buf *out) {
    if (out->failed || out->len > UINT_MAX) return false;
    uv_buf_t b = uv_buf_init((char *)out->data, (unsigned)(out->len < WRITE_MAX ? out->len : WRITE_MAX));
    int n = uv_try_write((uv_stream_t *)&s->tcp, &b, 1);
    if (n < 0 && n != UV_EAGAIN) return false;
    size_t sent = n > 0 ? (size_t)n : 0, rest = out->len - sent;
    if (rest > 0 && !write_rest(s, out, sent)) return false;
    if (rest == 0) {
        buf_clear(out);
        if (out->cap > OUT_KEEP) buf_release(out);
    }
    connection_sent(s->connection, sent, rest);
    return true;
}

static bool encrypt_out(struct tcp *s) {
    struct buf *out = &s->connection->out;
    if (s->tls_done && out->len > 0) {
        if (out->failed || !tls_write(s->tls, out)) return false;
        buf_clear(out);
    }
    if (connection_done(s->connection)) tls_end(s->tls);
    tls_take(s->tls, &s->encrypted);
    return true;
}

void tcp_look(struct tcp *s) {
    if (s->closing || !s->write) return;
    uint64_t left = left_to_write(s), before = core_of(s->connection)->in_flight;
    if (left < before) connection_sent(s->connection, before - left, left);
}

void tcp_flush(struct tcp *s) {
    if (s->closing) return;
    if (s->write) {
        if (connection_done(s->connection) && !s->lingers) linger(s, STALL_MS);
        return;
    }
    struct buf *out = s->tls ? &s->encrypted : &s->connection->out;
    bool ok = !s->tls || encrypt_out(s);
    if (ok && (out->len > 0 || out->failed)) ok = write_out(s, out);
    if (!ok) tcp_close(s);
    else if (!s->write && connection_done(s->connection)) end_stream(s);
}

// ---- reading

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *out) {
    (void)suggested;
    struct tcp *s = h->data;
    struct server *server = s->server;
    bool early = core_of(s->connection)->stage < STAGE_TUNE;
    if (s->tls) {
        *out = uv_buf_init((char *)server->encrypted, early ? EARLY_MAX : ENCRYPTED_SIZE);
        return;
    }
    size_t left = s->unread.len - s->unread_at, room = server->input_size - left;
    ASSERT(left < server->input_size);
    if (left > 0) memcpy(server->input, s->unread.data + s->unread_at, left);
    if (left < TURN && room > TURN) room = TURN; // what is larger than that grows with less copying in large parts
    *out = uv_buf_init((char *)server->input + left, (unsigned)(early && room > EARLY_MAX ? EARLY_MAX : room));
}

// Gives n bytes of the shared buffer, which begin with what was left unread.
static bool give_input(struct tcp *s, size_t n) {
    const uint8_t *data = s->server->input;
    size_t used = connection_input(s->connection, data, n);
    if (n == used) {
        buf_release(&s->unread);
    } else {
        buf_clear(&s->unread);
        buf_add(&s->unread, data + used, n - used);
    }
    s->unread_at = 0;
    return buf_ok(&s->unread);
}

static void take_unread(struct tcp *s) {
    if (s->unread.len == s->unread_at) return;
    s->unread_at += connection_input(s->connection, s->unread.data + s->unread_at, s->unread.len - s->unread_at);
    if (s->unread.len > s->unread_at) return;
    buf_release(&s->unread);
    s->unread_at = 0;
}

// Decrypts as much as the connection takes. False: the stream has ended.
static bool take_decrypted(struct tcp *s) {
    struct server *server = s->server;
    while (connection_reads(s->connection)) {
        size_t left = s->unread.len - s->unread_at, got = 0;
        if (left > 0) memcpy(server->input, s->unread.data + s->unread_at, left);
        enum tls_result r = tls_read(s->tls, server->input + left, server->input_size - left, &got);
        if (r == TLS_MORE) return true;
        if (r == TLS_END || !give_input(s, left + got)) return false;
    }
    return true;
}

static bool secure(struct tcp *s) {
    if (s->tls_done) return true;
    enum tls_result r = tls_handshake(s->tls);
    connection_wrote(s->connection); // the handshake has something to say
    if (r != TLS_OK) return r == TLS_MORE;
    s->tls_done = true;
    struct connection_tls described;
    tls_describe(s->tls, &described);
    connection_secured(s->connection, &described);
    return true;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b);

static void look_whether_to_read(struct tcp *s) {
    bool want = connection_reads(s->connection) && !list_linked(&s->of_waiting);
    if (want && !s->reading) s->reading = uv_read_start((uv_stream_t *)&s->tcp, on_alloc, on_read) == 0;
    else if (!want && s->reading) {
        uv_read_stop((uv_stream_t *)&s->tcp);
        s->reading = false;
    }
}

static void take_turn(struct tcp *s, size_t n) {
    if (s->pass != s->server->pass) s->taken = 0;
    s->pass = s->server->pass;
    s->taken += n;
    if (s->taken >= TURN && !list_linked(&s->of_waiting)) list_push_back(&s->server->waiting, &s->of_waiting);
}

void tcp_next_turn(struct list_node *waiting) { look_whether_to_read(LIST_ITEM(waiting, struct tcp, of_waiting)); }

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b) {
    struct tcp *s = stream->data;
    if (n == 0 || s->closing) return;
    bool ok = n > 0;
    if (ok) {
        take_turn(s, (size_t)n);
        connection_heard(s->connection, (size_t)n);
        if (!s->tls) ok = give_input(s, s->unread.len - s->unread_at + (size_t)n);
        else {
            ok = tls_put(s->tls, (const uint8_t *)b->base, (size_t)n) && secure(s);
            if (ok && s->tls_done) ok = take_decrypted(s);
        }
    }
    if (ok) look_whether_to_read(s);
    else tcp_close(s);
}

void tcp_pump(struct tcp *s) {
    if (s->closing) return;
    if (connection_reads(s->connection)) take_unread(s);
    if (!s->tls_done || take_decrypted(s)) look_whether_to_read(s);
    else tcp_close(s);
}

// ---- beginning

// An IPv4 address that came over a socket for both is one: users know it as that.
static void unmap(char address[static 46]) {
    static const char mapped[] = "::ffff:";
    size_t n = strlen(mapped);
    if (strncmp(address, mapped, n) == 0 && strchr(address, '.') != NULL) memmove(address, address + n, 46 - n);
}

static void address_of(const struct sockaddr_storage *a, char out[static 46], uint16_t *port) {
    uv_ip_name((const struct sockaddr *)a, out, 46);
    unmap(out);
    *port = ntohs(a->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)a)->sin6_port
                                           : ((const struct sockaddr_in *)a)->sin_port);
}

static bool peer_of(const uv_tcp_t *tcp, struct connection_peer *p) {
    struct sockaddr_storage here, there;
    int here_length = sizeof here, there_length = sizeof there;
    if (uv_tcp_getpeername(tcp, (struct sockaddr *)&there, &there_length) != 0 ||
        uv_tcp_getsockname(tcp, (struct sockaddr *)&here, &here_length) != 0)
        return false;
    memset(p, 0, sizeof *p);
    address_of(&there, p->peer_host, &p->peer_port);
    address_of(&here, p->host, &p->port);
    p->loopback = strncmp(p->peer_host, "127.", 4) == 0 || strcmp(p->peer_host, "::1") == 0;
    return true;
}

static void on_refused(uv_handle_t *h) {
    struct tcp *s = h->data;
    tls_free(s->tls);
    free(s);
}

static bool begin(struct tcp *s, bool with_tls) {
    struct connection_peer peer;
    if (s->server->draining || s->server->sockets > s->server->amqp->o.max_connections || !peer_of(&s->tcp, &peer))
        return false;
    if (with_tls && !(s->tls = tls_new(s->server->tls))) return false;
    s->connection = connection_new(s->server->amqp, &peer);
    if (!s->connection) return false;
    core_of(s->connection)->socket = s;
    uv_tcp_nodelay(&s->tcp, 1);
    buf_init(&s->unread, s->server->input_size);
    buf_init(&s->encrypted, OUT_MAX);
    s->linger.fn = on_linger;
    return true;
}

void tcp_accept(struct server *server, uv_stream_t *listener, bool with_tls) {
    struct tcp *s = calloc(1, sizeof *s);
    if (!s) return; // libuv asks again
    s->server = server;
    ASSERT(uv_tcp_init(loop_uv(server->amqp->o.loop), &s->tcp) == 0);
    s->tcp.data = s;
    server->sockets++;
    if (uv_accept(listener, (uv_stream_t *)&s->tcp) == 0 && begin(s, with_tls)) look_whether_to_read(s);
    else {
        server->sockets--;
        uv_close((uv_handle_t *)&s->tcp, on_refused);
    }
}
