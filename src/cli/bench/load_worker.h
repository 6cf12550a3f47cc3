// What the threads of a load share: the state of a run, and one worker a connection.
#ifndef BARID_CLI_BENCH_LOAD_WORKER_H
#define BARID_CLI_BENCH_LOAD_WORKER_H

#include "cli/bench/histogram.h"
#include "cli/bench/load.h"

#include <pthread.h>
#include <stdatomic.h>

struct load {
    const struct load_options *o;
    const struct load_driver *driver;
    struct load_route *routes; // where publishers publish to, in turn
    uint32_t route_count;
    _Atomic bool stop, measuring;
    _Atomic uint64_t measure_ns; // messages published before do not count for latencies
};

struct load_worker {
    struct load *load;
    struct load_client *client;
    pthread_t thread;
    uint64_t quota;           // a publisher's share of --count
    _Atomic uint64_t done;    // confirmed (sent, without confirms), or consumed
    _Atomic uint64_t last_ns; // when the last of them was
    _Atomic bool ended;       // a publisher has done its quota
    _Atomic uint64_t refused; // negative confirms
    struct histogram latency; // to the confirm, or from publishing to consuming
};

uint64_t load_now_ns(void);
void *load_publish(void *worker); // thread functions
void *load_consume(void *worker);

#endif
