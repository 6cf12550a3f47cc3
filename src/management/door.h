// The HTTP of the management port: libmicrohttpd, driven by the process's one loop.
//
// It is here beside libwebsockets (http/) because a name in RabbitMQ's paths is percent-encoded, "/" among its
// characters (/api/queues/%2F/orders), and libwebsockets decodes a path and joins its slashes before anybody sees it.
#ifndef BARID_MANAGEMENT_DOOR_H
#define BARID_MANAGEMENT_DOOR_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct call;
struct door;
struct loop;

struct door_options {
    struct loop *loop;
    const char *address;
    uint16_t port;
    const char *tls_certificate, *tls_key;
    bool insecure_bind;
    uint32_t max_connections;
    // The head is here: answer, or call_go_on, now or later.
    void (*begin)(void *arg, struct call *c);
    // And the body: answer, now or later.
    void (*handle)(void *arg, struct call *c);
    void *arg;
};

enum err door_new(struct door **out, const struct door_options *o, struct error *e);
uint16_t door_port(const struct door *d);
bool door_tls(const struct door *d);
uint32_t door_connections(const struct door *d);
void door_drain(struct door *d, uint32_t limit_ms, void (*done)(void *arg), void *arg);
void door_free(struct door *d);

#endif
