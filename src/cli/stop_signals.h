// SIGTERM and SIGINT: the first begins an orderly end, the second ends the process at once.
#ifndef BARID_CLI_STOP_SIGNALS_H
#define BARID_CLI_STOP_SIGNALS_H

#include <stdbool.h>
#include <uv.h>

struct loop;

struct stop_signals {
    uv_signal_t handles[2];
    bool stopping; // the first has come
    void (*stop)(void *arg);
    void *arg;
};

// `stop` once, on the loop thread. The struct stays where it is.
void stop_signals_watch(struct stop_signals *s, struct loop *loop, void (*stop)(void *arg), void *arg);
void stop_signals_end(struct stop_signals *s); // before loop_free

#endif
