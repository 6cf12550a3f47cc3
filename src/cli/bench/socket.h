// A WebSocket client for load: many frames a system call, no allocation a frame.
//
// A load program must cost less than what it measures, and it shares two cores with the server; a general
// client library spends more a frame than the server under test. This one knows just what the load needs:
// RFC 6455 text frames that are never fragmented, ping and close; client frames carry an all-zero mask.
#ifndef BARID_CLI_BENCH_SOCKET_H
#define BARID_CLI_BENCH_SOCKET_H

#include <stddef.h>
#include <uv.h>

struct bench_socket;

struct bench_socket_events {
    void (*open)(void *arg);
    void (*text)(void *arg, const char *json, size_t n); // valid during the call
    void (*batch_end)(void *arg);                        // after the frames of one read
    void (*closed)(void *arg, const char *why);          // once; then the socket is gone
};

// `host` is "127.0.0.1:8080"-like, for the Host header. Both are used during the call only.
struct bench_socket *bench_socket_new(uv_loop_t *loop, const struct sockaddr *address, const char *host,
                                      const struct bench_socket_events *events, void *arg);
void bench_socket_send(struct bench_socket *s, const char *text, size_t n); // queued until the flush
void bench_socket_flush(struct bench_socket *s);
void bench_socket_close(struct bench_socket *s); // frees it soon; no `closed`

#endif
