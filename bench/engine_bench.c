// engine_bench DIR [MESSAGES]: what the engine costs, apart from sockets.
//
// Persistent messages of 128 bytes in one durable queue, on one thread that also commits: first through a consumer that
// acknowledges at once, then as a backlog of MESSAGES (1,000,000) that is built, recovered after a restart, and
// drained. The longest pass says how long the loop would have been held, in time of the processor, so that others on
// the machine do not count. Memory is what the process has resident.
#include "base/io.h"
#include "base/log.h"
#include "engine/engine.h"
#include "journal/journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define BODY 128
#define PASS 512 // messages published in one pass of the loop

struct bench {
    struct io *io;
    struct journal_options journal;
    struct engine_options options;
    struct engine *engine;
    struct vhost *vhost;
    struct session *session;
    uint64_t delivered, confirmed, longest_ns;
};

static _Noreturn void fail(const char *what, const struct error *e) {
    fprintf(stderr, "engine_bench: %s: %s\n", what, e->text);
    exit(1);
}

static uint64_t now(struct bench *b) { return io_monotonic_ns(b->io); }
// Of this thread on the processor.
static uint64_t busy_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static double since(struct bench *b, uint64_t begun) { return (double)(now(b) - begun) / 1e9; }

static double megabytes_resident(void) {
    long pages = 0, ignored;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%ld %ld", &ignored, &pages) != 2) pages = 0;
    if (f) fclose(f);
    return (double)pages * 4096 / 1e6;
}

static double peak_megabytes(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_maxrss * 1024 / 1e6;
}

static void on_deliver(void *arg, const struct delivery *d) {
    struct bench *b = arg;
    b->delivered++;
    engine_settle(b->session, d->tag, false, SETTLE_ACK, NULL, NULL);
}

static void on_done(void *arg, enum publish_result result) { ((struct bench *)arg)->confirmed += result == PUBLISH_OK; }

static void open_engine(struct bench *b) {
    struct error e;
    b->options.journal = &b->journal;
    if (engine_open(&b->engine, b->io, &b->options, &e)) fail("open", &e);
    b->vhost = engine_vhost(b->engine, "/");
    journal_background(engine_journal(b->engine), true); // in commit, as on a thread of its own
    struct queue_options o = {.durable = true};
    if (engine_queue_declare(b->vhost, "q", &o, &e)) fail("declare", &e);
}

static void consume(struct bench *b, uint32_t prefetch) {
    struct error e;
    struct consumer *c;
    b->session = engine_session_new(b->engine, &(struct session_options){.deliver = on_deliver, .arg = b});
    struct consumer_options o = {.prefetch = prefetch};
    if (engine_consume(b->session, b->vhost, "q", &o, NULL, &c, &e)) fail("consume", &e);
}

static void commit(struct bench *b) {
    struct error e;
    struct journal *j = engine_journal(b->engine);
    engine_flush(b->engine);
    for (struct journal_batch *batch; (batch = journal_batch_begin(j));) {
        if (journal_batch_write(batch, &e)) fail("write", &e);
        journal_batch_end(j, batch);
    }
    for (struct journal_chore *chore; (chore = journal_chore_begin(j));) {
        if (journal_chore_run(chore, &e)) fail("segments", &e);
        journal_chore_end(j, chore);
    }
}

static void note_pass(struct bench *b, uint64_t begun) {
    uint64_t took = busy_ns() - begun;
    if (took > b->longest_ns) b->longest_ns = took;
}

// One pass of the loop, with what it does to the disk left out of the measure of its length.
static void pass(struct bench *b) {
    commit(b);
    uint64_t begun = busy_ns();
    engine_durable(b->engine);
    engine_tick(b->engine);
    note_pass(b, begun);
}

static void publish(struct bench *b, uint64_t n) {
    static char body[BODY];
    struct error e;
    struct message m = {
        .exchange = "", .routing_key = "q", .body = body, .body_length = sizeof body, .persistent = true};
    for (uint64_t i = 0; i < n;) {
        uint64_t end = i + PASS < n ? i + PASS : n, begun = busy_ns();
        for (; i < end; i++)
            if (engine_publish(b->vhost, &m, on_done, b, NULL, &e)) fail("publish", &e);
        note_pass(b, begun);
        pass(b);
    }
}

static void report(struct bench *b, const char *what, uint64_t n, uint64_t begun) {
    double s = since(b, begun);
    printf("%-34s %10.0f messages/s  %6.2f s  longest pass %7.2f ms  %7.0f MB resident, %7.0f at most\n", what,
           (double)n / s, s, (double)b->longest_ns / 1e6, megabytes_resident(), peak_megabytes());
    fflush(stdout);
    b->longest_ns = 0;
}

static void through(struct bench *b, uint64_t n) {
    consume(b, 1000);
    uint64_t begun = now(b);
    publish(b, n);
    while (b->delivered < n) pass(b);
    report(b, "published, delivered, acknowledged", n, begun);
    engine_session_free(b->session);
}

static void backlog(struct bench *b, uint64_t n) {
    uint64_t begun = now(b);
    publish(b, n);
    report(b, "published to a backlog", n, begun);
    struct engine_stats s;
    engine_stats(b->engine, &s);
    printf("%-34s %10.1f bytes of structure a message, %.0f MB of bodies in memory\n", "",
           (double)s.structure_bytes / (double)n, (double)s.body_bytes / 1e6);
    engine_close(b->engine);
    begun = now(b);
    open_engine(b);
    report(b, "recovered", n, begun);
    b->delivered = 0;
    consume(b, 1000);
    begun = now(b);
    while (b->delivered < n) pass(b);
    report(b, "drained", n, begun);
}

static void remove_file(void *arg, const char *name) {
    struct io *io = arg;
    char path[300];
    snprintf(path, sizeof path, "log/%s", name);
    io->v->remove(io, path);
}

int main(int argc, char **argv) {
    struct bench b = {.journal = {.dir = "log"}};
    struct error e;
    uint64_t n = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000000;
    if (argc < 2 || argc > 3 || n == 0) {
        fputs("usage: engine_bench DIR [MESSAGES]\n", stderr);
        return 2;
    }
    log_set_level(LOG_ERROR);
    if (io_os_new(&b.io, argv[1], &e) != ERR_OK) fail("directory", &e);
    open_engine(&b);
    through(&b, n < 1000000 ? n : 1000000);
    backlog(&b, n);
    engine_close(b.engine);
    b.io->v->list(b.io, "log", remove_file, b.io);
    b.io->v->remove(b.io, "log");
    io_os_free(b.io);
    return 0;
}
