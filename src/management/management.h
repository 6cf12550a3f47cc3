// The door for RabbitMQ's tools: the HTTP API of its management plugin on a port of its own, and metrics under its
// names (docs/management.md). Everything runs on the loop thread.
//
// Handlers translate: a request becomes calls on the engine, on access and on the AMQP door; what changes something is
// answered when it is durable.
#ifndef BARID_MANAGEMENT_MANAGEMENT_H
#define BARID_MANAGEMENT_MANAGEMENT_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct access;
struct amqp;
struct buf;
struct engine;
struct io;
struct loop;
struct management;

struct management_options {
    struct loop *loop;
    struct io *io;
    struct engine *engine;
    struct access *access;
    struct amqp *amqp;                     // NULL: AMQP is not served
    const char *address;                   // an IP address
    uint16_t port;                         // 0: any free one, see management_port
    const char *tls_certificate, *tls_key; // paths, NULL: no TLS
    bool insecure_bind;                    // allow an address that is not loopback without TLS
    uint64_t low_water_bytes;              // what the disk's alarm is told to be at
    uint32_t max_connections;              // 0: 1,000
    const char *version;                   // of barid
    const char *data;                      // where it is kept, to be shown
};

enum err management_new(struct management **out, const struct management_options *o, struct error *e);
uint16_t management_port(const struct management *m);
// More for GET /metrics: what another door has to say.
void management_more_metrics(struct management *m, void (*write)(void *arg, struct buf *b), void *arg);
// Accepts no more connections, lets requests under way finish, for at most limit_ms. Then done.
void management_drain(struct management *m, uint32_t limit_ms, void (*done)(void *arg), void *arg);
void management_free(struct management *m); // after the loop has ended, before the engine is closed

#endif
