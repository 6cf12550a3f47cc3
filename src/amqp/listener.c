// A listening socket.
#include "amqp/server.h"

#include <stdlib.h>
#include <string.h>

#define BACKLOG 1024

struct listener {
    uv_tcp_t tcp;
    struct server *server;
    bool secure;
};

static void on_connection_waits(uv_stream_t *stream, int status) {
    struct listener *l = stream->data;
    if (status == 0) tcp_accept(l->server, stream, l->secure);
}

static int bind_to(struct listener *l, const char *address, uint16_t port, bool *loopback) {
    struct sockaddr_storage a;
    if (uv_ip4_addr(address, port, (struct sockaddr_in *)&a) == 0) {
        *loopback = (ntohl(((struct sockaddr_in *)&a)->sin_addr.s_addr) >> 24) == 127;
    } else if (uv_ip6_addr(address, port, (struct sockaddr_in6 *)&a) == 0) {
        *loopback = memcmp(&((struct sockaddr_in6 *)&a)->sin6_addr, &in6addr_loopback, sizeof in6addr_loopback) == 0;
    } else return UV_EINVAL;
    if (!l->secure && !*loopback && !l->server->amqp->o.insecure_bind) return UV_EACCES;
    return uv_tcp_bind(&l->tcp, (struct sockaddr *)&a, 0);
}

static void on_closed(uv_handle_t *h) { free(h->data); }

void listener_close(struct listener *l) {
    if (l) uv_close((uv_handle_t *)&l->tcp, on_closed);
}

enum err listener_new(struct listener **out, struct server *s, const char *address, uint16_t port, bool secure,
                      struct error *e) {
    struct listener *l = calloc(1, sizeof *l);
    if (!l) return error_set(e, ERR_NOMEM, "out of memory");
    l->server = s;
    l->secure = secure;
    ASSERT(uv_tcp_init(loop_uv(s->amqp->o.loop), &l->tcp) == 0);
    l->tcp.data = l;
    bool loopback = false;
    int rc = bind_to(l, address, port, &loopback);
    if (rc == 0) rc = uv_listen((uv_stream_t *)&l->tcp, BACKLOG, on_connection_waits);
    if (rc == 0) {
        *out = l;
        return ERR_OK;
    }
    listener_close(l);
    if (rc == UV_EACCES && !secure && !loopback)
        return error_set(e, ERR_FORBIDDEN,
                         "AMQP on %s would send passwords in the open: give a certificate, or force it", address);
    return error_set(e, ERR_UNAVAILABLE, "AMQP cannot listen on %s port %u: %s", address, port, uv_strerror(rc));
}

uint16_t listener_port(const struct listener *l) {
    struct sockaddr_storage a;
    int length = sizeof a;
    if (!l || uv_tcp_getsockname(&l->tcp, (struct sockaddr *)&a, &length) != 0) return 0;
    return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
                                         : ((struct sockaddr_in *)&a)->sin_port);
}
