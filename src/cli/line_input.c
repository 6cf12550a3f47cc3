#include "cli/line_input.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#define LINE_MAX_BYTES (64 * 1024)

struct line_input {
    struct loop *loop;
    uv_poll_t poll;
    struct loop_post file;         // a regular file cannot be polled, and never blocks
    bool polling, ended, skipping; // skipping: the rest of a line that was too long
    struct buf b;
    void (*line)(void *arg, char *text);
    void (*end)(void *arg);
    void *arg;
};

// What is in hand is a whole line, or all there is of the last one.
static void give_line(struct line_input *in) {
    if (!in->skipping) in->line(in->arg, buf_cstr(&in->b));
    in->skipping = false;
    buf_clear(&in->b);
}

static void gather(struct line_input *in, const char *data, size_t n) {
    if (in->skipping) return;
    buf_add(&in->b, data, n);
    if (buf_ok(&in->b)) return;
    in->skipping = true;
    in->line(in->arg, NULL);
}

static void take(struct line_input *in, const char *data, size_t n) {
    for (const char *end = data + n, *newline; data < end; data = newline + 1) {
        newline = memchr(data, '\n', (size_t)(end - data));
        gather(in, data, (size_t)((newline ? newline : end) - data));
        if (!newline) return;
        give_line(in);
    }
}

static void finish(struct line_input *in) {
    if (in->ended) return;
    in->ended = true;
    if (in->polling) uv_poll_stop(&in->poll);
    if (in->b.len) give_line(in);
    in->end(in->arg);
}

// False: no more.
static bool read_some(struct line_input *in) {
    char part[8192];
    ssize_t n = read(STDIN_FILENO, part, sizeof part);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return true;
    if (n <= 0) {
        finish(in);
        return false;
    }
    take(in, part, (size_t)n);
    return !in->ended;
}

static void on_readable(uv_poll_t *poll, int status, int events) { read_some(poll->data); }

static void on_file(struct loop_post *p) {
    struct line_input *in = (struct line_input *)((char *)p - offsetof(struct line_input, file));
    if (!in->ended && read_some(in)) loop_post(in->loop, p);
}

struct line_input *line_input_new(struct loop *loop, void (*line)(void *arg, char *text), void (*end)(void *arg),
                                  void *arg) {
    struct line_input *in = calloc(1, sizeof *in);
    if (!in) die("out of memory");
    *in = (struct line_input){.loop = loop, .line = line, .end = end, .arg = arg, .file.fn = on_file};
    buf_init(&in->b, LINE_MAX_BYTES);
    struct stat info;
    bool file = fstat(STDIN_FILENO, &info) == 0 && S_ISREG(info.st_mode);
    if (!file && uv_poll_init(loop_uv(loop), &in->poll, STDIN_FILENO) == 0) {
        in->poll.data = in;
        in->polling = true;
        uv_poll_start(&in->poll, UV_READABLE, on_readable);
    } else {
        loop_post(loop, &in->file);
    }
    return in;
}

static void on_closed(uv_handle_t *handle) { free(handle->data); }

void line_input_free(struct line_input *in) {
    if (!in) return;
    in->ended = true;
    buf_release(&in->b);
    if (in->polling) uv_close((uv_handle_t *)&in->poll, on_closed);
    else if (!in->file.posted) free(in);
}
