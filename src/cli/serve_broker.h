// The message broker's part of `barid serve`: who may use it (access), and the door for AMQP. The engine is the
// embedded bus's, so that the chat's events are ordinary messages of it.
#ifndef BARID_CLI_SERVE_BROKER_H
#define BARID_CLI_SERVE_BROKER_H

#include "base/error.h"
#include "cli/config.h"

#include <stdbool.h>
#include <stdint.h>

struct access;
struct amqp;
struct buf;
struct claims;
struct database;
struct engine;
struct io;
struct loop;
struct management;

struct serve_broker {
    char address[64], tls_address[64], management_address[64]; // "": off
    uint16_t port, tls_port, management_port;
    uint64_t max_connections, heartbeat, channel_max, frame_max, max_message_size, claim_bytes, consumer_timeout;

    struct claims *claims; // large bodies: set by the caller
    struct engine *engine;
    struct access *access;
    struct amqp *amqp;             // NULL: not open
    struct management *management; // NULL: not open
    uint64_t low_water;            // at which the engine refuses publishes: set by the caller
    void (*drained)(void *arg);
    void *drained_arg;
    uint32_t drain_ms;
    void (*opened)(void *arg, enum err err, const struct error *e);
    void *opened_arg;
    const struct config *config;
    struct loop *loop;
    struct io *io;
};

bool serve_broker_settings(struct serve_broker *b, const struct config *c); // false after telling what makes no sense
// Without the embedded bus there is no broker: its doors are off. False after telling who asked for one all the same.
bool serve_broker_off(struct serve_broker *b);
// `opened` from a turn of the loop, once it listens, or cannot.
enum err serve_broker_open(struct serve_broker *b, struct loop *loop, struct io *io, struct database *database,
                           struct engine *engine, void (*opened)(void *arg, enum err err, const struct error *e),
                           void *arg, struct error *e);
void serve_broker_drain(struct serve_broker *b, uint32_t limit_ms, void (*done)(void *arg), void *arg);
void serve_broker_close(struct serve_broker *b);       // after the loop has ended
void serve_broker_metrics(void *arg, struct buf *b);   // of a struct serve_broker, in Prometheus' format
void serve_broker_print(const struct serve_broker *b); // the lines of "ready"

#endif
