// What server.c, listener.c, socket.c and tls.c share: the side of the door that knows libuv and OpenSSL.
#ifndef BARID_AMQP_SERVER_H
#define BARID_AMQP_SERVER_H

#include "amqp/core.h"

#include <uv.h>

struct tls_context;
struct tls;
struct listener;

struct server {
    struct amqp *amqp;
    struct loop_idle before_block;
    struct loop_timer tick;
    struct listener *plain, *secure;
    struct tls_context *tls;
    uint32_t sockets; // open
    // Every read of this loop goes here; what a connection leaves unread it keeps itself, in front of its next read.
    uint8_t *input;
    size_t input_size;
    uint8_t *encrypted;  // the same for TLS before decryption
    uint64_t pass;       // of the loop
    struct list waiting; // sockets that have had their turn in this pass
    bool draining;
    struct loop_timer drain_timer;
    uint64_t drain_until_ms;
    void (*drained)(void *arg);
    void *drained_arg;
};

static inline struct server *server_of(const struct amqp *a) { return a->private_; }

#define ENCRYPTED_SIZE (64u << 10)

// ---- listener.c
enum err listener_new(struct listener **out, struct server *s, const char *address, uint16_t port, bool secure,
                      struct error *e);
uint16_t listener_port(const struct listener *l);
void listener_close(struct listener *l);

// ---- socket.c: takes what waits at the listener, and starts reading
void tcp_accept(struct server *s, uv_stream_t *listener, bool secure);

// ---- tls.c: OpenSSL between two buffers
enum err tls_context_new(struct tls_context **out, const char *certificate, const char *key, const char *ca,
                         struct error *e);
void tls_context_free(struct tls_context *t);
struct tls *tls_new(struct tls_context *t);
void tls_free(struct tls *t);
bool tls_put(struct tls *t, const uint8_t *data, size_t n); // came from the network
enum tls_result { TLS_OK, TLS_MORE /* needs more from the network */, TLS_END };
enum tls_result tls_handshake(struct tls *t); // TLS_OK: it is done
enum tls_result tls_read(struct tls *t, uint8_t *out, size_t size, size_t *got);
bool tls_write(struct tls *t, struct buf *plain); // all of it
void tls_end(struct tls *t);                      // says that nothing more comes
void tls_take(struct tls *t, struct buf *out);    // what is to go to the network
void tls_describe(const struct tls *t, struct connection_tls *out);

#endif
