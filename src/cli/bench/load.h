// A load on an AMQP broker: publishers with a window of unconfirmed messages, consumers with a prefetch, each a
// connection in a thread of its own. What is done is written here once; how AMQP is spoken is a driver's: barid's own
// codec (amqp_client.c), or rabbitmq-c (bench/amqp_load.c), so that the same load can be put on any broker by both.
//
// A message begins with the time it was published at, CLOCK_MONOTONIC in nanoseconds, when it is long enough.
#ifndef BARID_CLI_BENCH_LOAD_H
#define BARID_CLI_BENCH_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#define LOAD_STAMP 8 // bytes of a message that tell when it was published

struct load_options {
    const char *url, *dir;                    // url NULL: a server of one's own below dir
    char host[128], user[128], password[256]; // from the url
    char vhost[256];
    uint16_t port;
    const char *prefix, *queue_type;               // of the queues' names; their x-queue-type, NULL: none
    uint32_t publishers, consumers, queues, bytes; // connections, connections, queues, of a body
    uint32_t window;                               // unconfirmed messages of a publisher, 0: without confirms
    uint32_t prefetch;                             // 0: consumers acknowledge nothing
    uint32_t multiple;                             // acks are given for so many messages at once
    uint32_t seconds, warmup;
    uint64_t count; // instead of seconds: messages to publish, or to consume when nobody publishes
    uint32_t idle;  // instead of a load: so many connections that do nothing
    bool fanout, transient, keep, json;
};

enum load_event_kind { LOAD_NOTHING, LOAD_CONFIRM, LOAD_REFUSED, LOAD_DELIVERY };
struct load_event {
    enum load_event_kind kind;
    uint64_t tag, stamp; // stamp: of a delivery, 0 when the body is too short
    bool multiple;       // of confirm and refused
};

struct load_route {
    const char *exchange, *key;
};

// One connection with one channel. Every call ends the process with a message when it fails.
struct load_client;
struct load_driver {
    const char *name;
    struct load_client *(*open)(const struct load_options *o);
    void (*close)(struct load_client *c);
    void (*declare_queue)(struct load_client *c, const char *queue);
    uint64_t (*ready)(struct load_client *c, const char *queue); // its messages; also a round trip
    void (*purge)(struct load_client *c, const char *queue);
    void (*delete_queue)(struct load_client *c, const char *queue);
    void (*declare_fanout)(struct load_client *c, const char *exchange);
    void (*delete_exchange)(struct load_client *c, const char *exchange);
    void (*bind)(struct load_client *c, const char *queue, const char *exchange);
    void (*confirm_select)(struct load_client *c);
    void (*consume)(struct load_client *c, const char *queue);
    // May keep bytes back until flush, or until `next` waits.
    void (*publish)(struct load_client *c, const struct load_route *route, uint64_t stamp);
    void (*ack)(struct load_client *c, uint64_t tag, bool multiple);
    void (*flush)(struct load_client *c);
    // Waits at most wait_ms; 0: only what is there already.
    void (*next)(struct load_client *c, uint32_t wait_ms, struct load_event *out);
};

extern const struct load_driver load_driver_barid;

// -1: go on; else the exit code. `usage` is the help's first line.
int load_options_parse(struct load_options *o, int argc, char **argv, const char *usage);
void load_url_parse(struct load_options *o, const char *url);
int load_run(const struct load_options *o, const struct load_driver *driver);

#endif
