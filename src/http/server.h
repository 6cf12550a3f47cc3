// Private to http/: the server object and what hangs on each connection.
//
//   struct conn      one a TCP connection (libwebsockets' opaque pointer): its address, and either …
//   struct request   … the HTTP request it is in the middle of, or …
//   struct socket    … the WebSocket it has become
#ifndef BARID_HTTP_SERVER_H
#define BARID_HTTP_SERVER_H

#include "base/buf.h"
#include "base/list.h"
#include "base/loop.h"
#include "http/http.h"
#include "http/limits.h"

#include <libwebsockets.h>

// Of a JSON request, and of a WebSocket frame from a client. A text of 64 KiB takes six times as much when a client
// escapes every byte of it, and must still come through.
#define BODY_MAX     (400 * 1024)
#define STRANGER_MAX (16 * 1024)       // … from somebody without a session
#define PAGE_MAX     (8 * 1024 * 1024) // of an answer
#define ADDRESS_TEXT 48

struct conn {
    struct http *http;
    struct request *request;
    struct socket *socket;
    char address[ADDRESS_TEXT];
    bool counted; // in the per-address limit
    bool too_many;
    uint64_t linger_until_ms; // not 0: answered, and reading what the peer still sends, then closing
};

struct http_counters {
    uint64_t requests, answers[6], connections_refused, rate_limited, frames_in, frames_out, bytes_out, bad_frames,
        sockets_dead;
};

struct http {
    struct http_options o;
    struct lws_context *context;
    struct lws_vhost *vhost;
    struct lws_protocols protocols[3];
    lws_retry_bo_t retry; // libwebsockets' own idle policy, out of the way of ours
    void *foreign_loop[1];

    uint32_t connections, requests_open, sockets_open;
    struct rates device_rates, address_rates;
    struct address_counts addresses;

    struct list polls;       // requests that wait for something in a mailbox
    struct list streams;     // requests whose answer is being streamed
    struct list sockets;     // all
    struct list dirty;       // those with frames to write
    struct loop_idle flush;  // writes them, once a turn of the loop
    struct loop_timer sweep; // pings, deaths, late hellos
    struct buf frame;        // the frame being written
    struct list free_calls;  // kept struct socket_call
    size_t free_call_count;

    bool ready, draining;
    struct loop_timer drain_timer;
    uint64_t drain_until_ms;
    void (*drained)(void *arg);
    void *drained_arg;

    char date[40]; // of the Date header, made once a second
    int64_t date_s;
    struct http_counters counters;
};

#endif
