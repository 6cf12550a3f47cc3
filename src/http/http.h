// The door to chat and to operations: HTTP/1.1, WebSocket, the web page, metrics (docs/http-api.md).
//
// Everything runs on the loop thread, on libwebsockets over the same libuv loop. The door translates: a request
// becomes one call on chat, chat's answer becomes the response. It answers nothing from memory of its own.
#ifndef BARID_HTTP_HTTP_H
#define BARID_HTTP_HTTP_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct bus;
struct chat;
struct database;
struct datastore;
struct http;
struct io;
struct loop;

struct http_options {
    struct loop *loop;
    struct io *io; // clock, and space on the disk for /readyz
    struct chat *chat;
    struct database *database;
    struct datastore *datastore;
    struct bus *bus;
    const char *address;                            // an IP address
    uint16_t port;                                  // 0: any free one, see http_port
    const char *tls_certificate, *tls_key;          // paths, NULL: no TLS
    bool insecure_bind;                             // allow an address that is not loopback without TLS
    uint64_t low_water_bytes;                       // less free than this: not ready
    uint64_t upload_max_bytes;                      // refused before reading; 0: 100 MiB
    uint32_t max_connections;                       // 0: 10,000
    uint32_t max_connections_per_address;           // 0: 1,000; loopback is not counted
    uint32_t rate, rate_unauthenticated;            // requests a second a device, an address; 0: 5,000 and 200
    uint32_t ping_interval_ms;                      // 0: 25,000
    uint32_t header_timeout_s;                      // 0: 20
    void (*more_metrics)(void *arg, struct buf *b); // appended to /metrics; NULL: nothing
    void *more_metrics_arg;
};

// After an error the process has to end without freeing the loop: libwebsockets 4.1 cannot be taken down on somebody
// else's loop when none of its sockets was ever open.
enum err http_new(struct http **out, const struct http_options *o, struct error *e);
uint16_t http_port(const struct http *h);
void http_set_ready(struct http *h, bool ready); // what /readyz says

// What /metrics says of this door and what is behind it, for another door that says it too.
void http_metrics(struct http *h, struct buf *b);

// Stops accepting, closes sockets with 1001, lets requests in flight finish, for at most limit_ms. Then done.
void http_drain(struct http *h, uint32_t limit_ms, void (*done)(void *arg), void *arg);
void http_free(struct http *h); // after the loop has ended; turns it a little to let sockets close

// The operations offered, for the test that compares them with docs/openapi.yaml. False past the end.
bool http_operation(size_t at, const char **method, const char **pattern);

#endif
