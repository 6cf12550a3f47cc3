// A program, started once an event by /bin/sh: the payload on its standard input, what else there is to know in its
// environment, and exit status 0 for "done". It is the leader of a process group of its own, so that one that takes too
// long is killed with whatever it has started. Its standard output is ours; of its standard error the last line is
// kept, as the reason of a failure.
#include "inbox/handler_internal.h"
#include "inbox/program_environment.h"

#include "base/assert.h"
#include "base/crash.h"
#include "base/list.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define CONCURRENCY     16
#define CONCURRENCY_MAX 1024
#define LINE_KEPT       200
#define LAST_WORDS_MS   500 // after the end of the program, for one it has left behind to close standard error

struct program_handler {
    struct handler base; // first
    struct list runs;
};

struct run {
    struct list_node node; // while it is not answered
    struct program_handler *h;
    struct handler_event event;
    uv_process_t process;
    uv_pipe_t in, err;
    uv_write_t write;
    struct loop_timer timer; // until it is too late; after its end: for its last words
    uint32_t open;           // handles that are not closed yet
    bool exited, too_late, err_ended, answered;
    int64_t status;
    int signal;
    char read[4096];
    char line[LINE_KEPT + 1], last[LINE_KEPT + 1]; // the line that is coming in, and the last complete one
    size_t line_n;
};

// ---- the end

static void on_closed(uv_handle_t *handle) {
    struct run *r = handle->data;
    if (--r->open == 0) free(r);
}

static void close_input(struct run *r) {
    if (!uv_is_closing((uv_handle_t *)&r->in)) uv_close((uv_handle_t *)&r->in, on_closed);
}

static void close_all(struct run *r) {
    loop_timer_stop(r->h->base.options.loop, &r->timer);
    close_input(r);
    uv_close((uv_handle_t *)&r->err, on_closed);
    uv_close((uv_handle_t *)&r->process, on_closed);
}

static void answer(struct run *r, enum outbox_taken how, const char *why) {
    ASSERT(!r->answered);
    r->answered = true;
    struct handler_event event = r->event;
    list_remove(&r->node);
    close_all(r);
    event.done(event.arg, how, why);
}

static const char *last_words(struct run *r) {
    r->line[r->line_n] = '\0';
    return r->line_n ? r->line : r->last;
}

static void conclude(struct run *r) {
    char why[ERROR_TEXT_MAX];
    const char *words = last_words(r);
    if (r->too_late) snprintf(why, sizeof why, "no end after %u ms, killed", r->h->base.options.timeout_ms);
    else if (r->signal) snprintf(why, sizeof why, "ended by signal %d", r->signal);
    else snprintf(why, sizeof why, "exit status %d", (int)r->status);
    if (*words) snprintf(why + strlen(why), sizeof why - strlen(why), ": %s", words);
    if (r->status == 0 && !r->signal) crash_point("receive.handled");
    bool done = !r->too_late && !r->signal && r->status == 0;
    answer(r, done ? TAKEN : TAKEN_REFUSED, done ? "" : why);
}

static void ended_in_part(struct run *r) {
    if (r->exited && r->err_ended) conclude(r);
}

static void on_exit_of(uv_process_t *process, int64_t status, int signal_number) {
    struct run *r = process->data;
    if (r->answered) return;
    r->exited = true;
    r->status = status;
    r->signal = signal_number;
    loop_timer_start(r->h->base.options.loop, &r->timer, LAST_WORDS_MS);
    ended_in_part(r);
}

static void kill_group(struct run *r) {
    if (!r->exited) uv_kill(-r->process.pid, SIGKILL);
}

static void on_timer(struct loop_timer *t) {
    struct run *r = LIST_ITEM(t, struct run, timer);
    if (r->exited) {
        conclude(r);
        return;
    }
    r->too_late = true;
    kill_group(r);
}

// ---- its standard error

static void keep_lines(struct run *r, const char *data, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)data[i];
        if (c == '\n') {
            if (r->line_n == 0) continue;
            r->line[r->line_n] = '\0';
            memcpy(r->last, r->line, r->line_n + 1);
            r->line_n = 0;
        } else if (r->line_n < LINE_KEPT) {
            r->line[r->line_n++] = c >= ' ' && c < 0x7f ? (char)c : '?';
        }
    }
}

static void give_room(uv_handle_t *handle, size_t wanted, uv_buf_t *out) {
    struct run *r = handle->data;
    *out = uv_buf_init(r->read, sizeof r->read);
}

static void on_err(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct run *r = stream->data;
    if (n > 0) keep_lines(r, buf->base, (size_t)n);
    if (n >= 0 || r->answered) return;
    uv_read_stop(stream);
    r->err_ended = true;
    ended_in_part(r);
}

// ---- the start

// It may have ended without reading everything; what counts is how it ended. The end of the payload is the end of
// input.
static void on_written(uv_write_t *w, int status) {
    struct run *r = w->data;
    if (!r->answered) close_input(r);
}

static void feed(struct run *r) {
    const struct bus_event *event = &r->event.item.event;
    uv_buf_t payload = uv_buf_init((char *)(uintptr_t)event->payload, (unsigned)event->payload_length);
    r->write.data = r;
    if (uv_write(&r->write, (uv_stream_t *)&r->in, &payload, 1, on_written) != 0) close_input(r);
    uv_read_start((uv_stream_t *)&r->err, give_room, on_err);
}

static int start(struct run *r, char **environment) {
    const char *command = r->h->base.options.spec + strlen("exec:");
    char *args[] = {"/bin/sh", "-c", (char *)(uintptr_t)command, NULL};
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&r->in},
        {.flags = UV_INHERIT_FD, .data.fd = 1},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&r->err},
    };
    uv_process_options_t o = {.file = args[0],
                              .args = args,
                              .env = environment,
                              .exit_cb = on_exit_of,
                              .flags = UV_PROCESS_DETACHED,
                              .stdio_count = 3,
                              .stdio = stdio};
    return uv_spawn(loop_uv(r->h->base.options.loop), &r->process, &o);
}

static void take(void *sink, const struct outbox_item *item, outbox_taken_fn *done, void *arg) {
    struct program_handler *h = sink;
    struct run *r = calloc(1, sizeof *r);
    if (!r) die("no memory for a program");
    r->h = h;
    r->event = (struct handler_event){*item, done, arg};
    r->timer.fn = on_timer;
    r->process.data = r->in.data = r->err.data = r;
    r->open = 3;
    uv_pipe_init(loop_uv(h->base.options.loop), &r->in, 0);
    uv_pipe_init(loop_uv(h->base.options.loop), &r->err, 0);
    list_push_back(&h->runs, &r->node);
    char **environment = program_environment(item);
    int rc = start(r, environment);
    program_environment_free(environment);
    if (rc != 0) { // no process, no memory: not the event's fault
        answer(r, TAKEN_AWAY, uv_strerror(rc));
        return;
    }
    loop_timer_start(h->base.options.loop, &r->timer, h->base.options.timeout_ms);
    feed(r);
}

// ---- the outside

static void program_free(struct handler *base) {
    struct program_handler *h = (struct program_handler *)base;
    struct list_node *n;
    while ((n = list_first(&h->runs)) != NULL) {
        struct run *r = LIST_ITEM(n, struct run, node);
        kill_group(r);
        answer(r, TAKEN_AWAY, "the handler is closed");
    }
    free(h);
}

static const struct handler_vtable vtable = {.check = handler_ready_soon, .free = program_free};

enum err handler_program_open(struct handler **out, const struct handler_options *o, struct error *e) {
    if (strlen(o->spec) == strlen("exec:")) return error_set(e, ERR_INVALID, "exec: wants a command");
    if (o->concurrency > CONCURRENCY_MAX)
        return error_set(e, ERR_INVALID, "at most %d programs at once", CONCURRENCY_MAX);
    struct program_handler *h = calloc(1, sizeof *h);
    if (!h) die("no memory for the handler");
    handler_init(&h->base, &vtable, o);
    list_init(&h->runs);
    h->base.sink = (struct outbox_sink){
        .take = take, .sink = h, .name = "handler", .at_once = o->concurrency ? o->concurrency : CONCURRENCY};
    *out = &h->base;
    return ERR_OK;
}
