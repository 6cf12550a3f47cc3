// journal_bench [DIR]: what the journal makes of the disk it stands on.
//
// First the disk itself: a loop of one 4 KiB write and one fdatasync. Then 128-byte records through the commit thread
// with a window of 1, 100 and 1000 records under way, as an owner that waits for each to be durable would have them.
// The ratio is to the disk loop run just before: with a window of 1 about 1 is all there is to have.
#include "base/io.h"
#include "base/log.h"
#include "base/loop.h"
#include "journal/commit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORD     128
#define SECONDS    2.0
#define MAX_WINDOW 1000

struct bench {
    struct io *io;
    struct loop *loop;
    struct journal *j;
    struct commit *commit;
    struct loop_post first;
    uint32_t window;
    uint64_t begun_ns, done, appended, latency_ns;
    struct journal_ref refs[MAX_WINDOW]; // a ring of those under way
    jpos positions[MAX_WINDOW];
    uint64_t at_ns[MAX_WINDOW];
};

static void fail(const char *what, const struct error *e) {
    fprintf(stderr, "journal_bench: %s: %s\n", what, e->text);
    exit(1);
}

static double seconds_since(struct io *io, uint64_t begun_ns) { return (double)(io_monotonic_ns(io) - begun_ns) / 1e9; }

static double measure_disk(struct io *io) {
    static uint8_t page[4096];
    int fd;
    uint64_t n = 0;
    memset(page, 7, sizeof page);
    if (io->v->open(io, "raw", IO_WRITE | IO_CREATE, &fd) != ERR_OK || io->v->allocate(io, fd, 64 << 20) != ERR_OK ||
        io->v->datasync(io, fd) != ERR_OK) {
        fputs("journal_bench: cannot make a file\n", stderr);
        exit(1);
    }
    uint64_t begun = io_monotonic_ns(io);
    while (seconds_since(io, begun) < SECONDS) {
        if (io->v->pwrite(io, fd, page, sizeof page, n % 16000 * sizeof page) != ERR_OK) break;
        if (io->v->datasync(io, fd) != ERR_OK) break;
        n++;
    }
    double rate = (double)n / seconds_since(io, begun);
    io->v->close(io, fd);
    io->v->remove(io, "raw");
    return rate;
}

static void append_one(struct bench *b) {
    static uint8_t body[RECORD];
    struct iovec part = {body, sizeof body};
    uint32_t slot = (uint32_t)(b->appended % b->window);
    b->at_ns[slot] = io_monotonic_ns(b->io);
    if (journal_append(b->j, 1, 0, 0, &part, 1, &b->refs[slot], &b->positions[slot]) != ERR_OK) {
        fputs("journal_bench: cannot append\n", stderr);
        exit(1);
    }
    b->appended++;
    commit_kick(b->commit);
}

static void on_durable(void *arg) {
    struct bench *b = arg;
    jpos durable = journal_durable(b->j);
    uint64_t now = io_monotonic_ns(b->io), finished = b->done;
    while (finished < b->appended && b->positions[finished % b->window] <= durable) {
        b->latency_ns += now - b->at_ns[finished % b->window];
        journal_release(b->j, &b->refs[finished % b->window]);
        finished++;
    }
    b->done = finished;
    if ((double)(now - b->begun_ns) / 1e9 >= SECONDS) {
        loop_stop(b->loop);
        return;
    }
    while (b->appended - b->done < b->window) append_one(b);
}

static void begin(struct loop_post *p) {
    struct bench *b = (struct bench *)((char *)p - offsetof(struct bench, first));
    b->begun_ns = io_monotonic_ns(b->io);
    while (b->appended < b->window) append_one(b);
}

static enum err ignore(void *arg, const struct journal_record *r, struct error *e) {
    struct bench *b = arg;
    (void)e;
    journal_release(b->j, &r->ref);
    return ERR_OK;
}

static void measure_journal(struct io *io, uint32_t window) {
    double disk = measure_disk(io);
    struct bench *b = calloc(1, sizeof *b);
    struct journal_options options = {.dir = "log"};
    struct error e = {0};
    if (b == NULL) exit(1);
    b->io = io;
    b->window = window;
    b->first.fn = begin;
    if (loop_new(&b->loop, &e) != ERR_OK) fail("loop", &e);
    if (journal_open(&b->j, io, &options, ignore, b, &e) != ERR_OK) fail("journal", &e);
    if (commit_new(&b->commit, b->loop, b->j, on_durable, b, &e) != ERR_OK) fail("commit", &e);
    loop_post(b->loop, &b->first);
    loop_run(b->loop);
    double took = seconds_since(io, b->begun_ns), rate = (double)b->done / took;
    struct journal_stats s;
    journal_stats(b->j, &s);
    printf("disk loop     %9.0f writes of 4 KiB with fdatasync a second, %.1f us each\n", disk, 1e6 / disk);
    printf("window %4u   %9.0f records/s   %7.0f syncs/s   %8.1f us mean latency   %7.2f x the disk loop\n", window,
           rate, (double)s.syncs / took, (double)b->latency_ns / 1e3 / (double)b->done, rate / disk);
    commit_free(b->commit);
    loop_free(b->loop);
    journal_close(b->j);
    free(b);
}

static void remove_file(void *arg, const char *name) {
    struct io *io = arg;
    char path[300];
    snprintf(path, sizeof path, "log/%s", name);
    io->v->remove(io, path);
}

int main(int argc, char **argv) {
    struct io *io;
    struct error e = {0};
    if (argc > 2) {
        fputs("usage: journal_bench [DIR]\n", stderr);
        return 2;
    }
    log_set_level(LOG_ERROR);
    if (io_os_new(&io, argc == 2 ? argv[1] : "journal-bench-data", &e) != ERR_OK) fail("directory", &e);
    static const uint32_t windows[] = {1, 100, MAX_WINDOW};
    for (int i = 0; i < 3; i++) measure_journal(io, windows[i]);
    io->v->list(io, "log", remove_file, io);
    io->v->remove(io, "log");
    io_os_free(io);
    return 0;
}
