// The door for AMQP 0-9-1: what every RabbitMQ client takes for RabbitMQ. Sockets and TLS over the loop's libuv, a
// sans-IO codec, and one call on the engine a command. All on the loop thread.
#ifndef BARID_AMQP_AMQP_H
#define BARID_AMQP_AMQP_H

#include "base/error.h"
#include "wire/table.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct access;
struct amqp;
struct claims;
struct engine;
struct io;
struct loop;

struct amqp_options {
    struct loop *loop;
    struct io *io;
    struct engine *engine;
    struct access *access;
    struct claims *claims;   // large bodies (claims.h); NULL: none is claimed
    const char *address;     // an IP address, NULL: no listener without TLS
    uint16_t port;           // 0: any free one, see amqp_port
    const char *tls_address; // NULL: none
    uint16_t tls_port;
    const char *tls_certificate, *tls_key, *tls_ca; // paths; with `tls_ca` client certificates are checked (EXTERNAL)
    bool insecure_bind;                             // allow an address that is not loopback without TLS
    uint32_t max_connections;                       // 0: 10,000
    uint32_t frame_max;                             // 0: 131,072
    uint16_t channel_max;                           // 0: 2,047
    uint16_t heartbeat_s;                           // 0: 60
    uint32_t max_consumers;                         // a channel, 0: 10,000
    uint64_t max_body;                              // 0: 128 MiB; at most 2 GiB
    uint64_t claim_bytes;                           // bodies from this size on are claimed, 0: 256 KiB; at most 4 MiB
    uint64_t consumer_timeout_ms;                   // 0: 30 minutes
    uint32_t handshake_timeout_ms;                  // 0: 10,000
};

enum err amqp_new(struct amqp **out, const struct amqp_options *o, struct error *e);
uint16_t amqp_port(const struct amqp *a);
uint16_t amqp_tls_port(const struct amqp *a);
// Stops listening, closes connections with 320 CONNECTION_FORCED, waits at most limit_ms for close-ok. Then done.
void amqp_drain(struct amqp *a, uint32_t limit_ms, void (*done)(void *arg), void *arg);
void amqp_free(struct amqp *a); // after the loop has ended

// ---- looking at it. Pointers are valid during the call.
struct amqp_connection_info {
    const char *name;                                  // "127.0.0.1:51234 -> 127.0.0.1:5672"
    const char *vhost, *user, *auth_mechanism, *state; // "running", "blocked", "flow", "closing", …
    const char *peer_host, *host;
    uint16_t peer_port, port;
    bool tls;
    const char *tls_protocol, *tls_cipher; // NULL without TLS
    uint32_t channels, frame_max;
    uint16_t channel_max, heartbeat_s;
    int64_t connected_at_ms;
    uint64_t received_bytes, sent_bytes, received_frames, sent_frames, send_pending;
    struct view client_properties;
};
struct amqp_channel_info {
    const char *connection, *vhost, *user;
    uint16_t number;
    uint32_t consumers, unacked, unconfirmed, uncommitted, uncommitted_acks, prefetch, global_prefetch;
    bool confirms, transactional, flow_stopped;
    uint64_t published, confirmed, returned, delivered, delivered_no_ack, got, acked, redelivered;
};
struct amqp_consumer_info {
    const char *connection, *vhost, *queue, *tag, *user;
    uint16_t channel;
    uint32_t prefetch;
    bool ack_required, exclusive, active;
    struct view arguments;
};
void amqp_each_connection(struct amqp *a, void (*each)(void *arg, const struct amqp_connection_info *), void *arg);
void amqp_each_channel(struct amqp *a, void (*each)(void *arg, const struct amqp_channel_info *), void *arg);
void amqp_each_consumer(struct amqp *a, void (*each)(void *arg, const struct amqp_consumer_info *), void *arg);
// ERR_NOT_FOUND. The client gets 320 CONNECTION_FORCED with the reason.
enum err amqp_close_connection(struct amqp *a, const char *name, const char *reason);
void amqp_close_user(struct amqp *a, const char *user);   // was deleted, or may no longer enter
void amqp_close_vhost(struct amqp *a, const char *vhost); // is being deleted
// For access_options.changed: closes those who were deleted, or may no longer enter.
void amqp_access_changed(struct amqp *a, const char *deleted_user, const char *deleted_vhost);

struct amqp_stats {
    uint64_t connections, channels, consumers;
    uint64_t connections_opened, connections_closed, channels_opened, channels_closed;
    uint64_t published, confirmed, returned, unroutable_dropped, delivered, delivered_no_ack, got, got_no_ack, acked,
        redelivered;
    uint64_t received_bytes, sent_bytes, auth_failures;
    bool blocked;
};
void amqp_stats(const struct amqp *a, struct amqp_stats *out);

#endif
