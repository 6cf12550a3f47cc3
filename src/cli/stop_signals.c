#include "cli/stop_signals.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/loop.h"

#include <signal.h>
#include <stdlib.h> // _Exit

static const int numbers[2] = {SIGTERM, SIGINT};

static void on_signal(uv_signal_t *handle, int number) {
    struct stop_signals *s = handle->data;
    if (s->stopping) {
        log_text(LOG_WARN, "stopping", "asked twice: ending at once");
        _Exit(1);
    }
    s->stopping = true;
    log_text(LOG_INFO, "stopping", "%s: finishing what is under way", number == SIGINT ? "SIGINT" : "SIGTERM");
    s->stop(s->arg);
}

void stop_signals_watch(struct stop_signals *s, struct loop *loop, void (*stop)(void *arg), void *arg) {
    s->stop = stop;
    s->arg = arg;
    for (size_t i = 0; i < 2; i++) {
        ASSERT(uv_signal_init(loop_uv(loop), &s->handles[i]) == 0);
        s->handles[i].data = s;
        ASSERT(uv_signal_start(&s->handles[i], on_signal, numbers[i]) == 0);
    }
}

void stop_signals_end(struct stop_signals *s) {
    for (size_t i = 0; i < 2; i++) uv_close((uv_handle_t *)&s->handles[i], NULL);
}
