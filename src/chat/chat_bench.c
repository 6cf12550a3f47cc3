// What a journey costs below the socket: chat_bench [JOURNEYS [IN_FLIGHT]].
//
// Pairs of devices in one process, on the real database, bus and journal in a temporary directory. Every message is
// sent, shown, fetched, received, read and acknowledged by both sides. Prints journeys a second and the processor time
// a journey took, by thread: on a busy machine the second is the number to look at.
#include "chat/chat_fixture.h"

#include "base/assert.h"
#include "base/io.h"
#include "base/test.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAIRS 10

struct bench;
struct couple {
    struct bench *bench;
    struct chat_actor sender, reader;
    struct chat_link *out, *in;
    char conversation_id[16];
};
struct bench {
    struct fixture *f;
    struct couple pairs[PAIRS];
    unsigned long total, started, complete;
};

static void nothing(void *arg) {}
static void closed(void *arg, const char *reason) { die("a link was closed: %s", reason); }
static uint64_t none(void *arg) { return 0; }
static void done(void *arg, const struct error *error) {
    if (error != NULL) die("%s", error->text);
}
static void accepted(void *arg, const struct error *error, const struct chat_accepted *ok) { done(arg, error); }

static void start(struct couple *p) {
    static char text[200];
    struct bench *b = p->bench;
    if (b->started == b->total) return;
    b->started++;
    memset(text, 'x', sizeof text);
    struct chat_send m = {.conversation_id = p->conversation_id,
                          .message_id = new_id(b->f),
                          .by_user_id = p->sender.user_id,
                          .text = text,
                          .text_length = sizeof text,
                          .created_at_ms = 1};
    chat_send(b->f->chat, &p->sender, &m, accepted, p);
}

struct fetch {
    struct couple *pair;
    struct id message_id;
};
static void fetched(void *arg, const struct error *error, const struct chat_content *ok) {
    struct fetch *f = arg;
    done(NULL, error);
    chat_received(f->pair->bench->f->chat, &f->pair->reader, &f->message_id, done, NULL);
    chat_read(f->pair->bench->f->chat, &f->pair->reader, &f->message_id, done, NULL);
    free(f);
}

static void shown(void *arg, const struct chat_entry *entries, size_t n) {
    struct couple *p = arg;
    for (size_t i = 0; i < n; i++) {
        struct fetch *f = calloc(1, sizeof *f);
        if (f == NULL) die("out of memory");
        *f = (struct fetch){p, entries[i].message_id};
        chat_content_get(p->bench->f->chat, &p->reader, &f->message_id, fetched, f);
    }
    chat_link_ack(p->in, entries[n - 1].cursor);
}

static void told(void *arg, const struct chat_entry *entries, size_t n) {
    struct couple *p = arg;
    for (size_t i = 0; i < n; i++) {
        if (entries[i].type != ENTRY_READ) continue;
        p->bench->complete++;
        start(p);
    }
    chat_link_ack(p->out, entries[n - 1].cursor);
}

static bool is_complete(void *arg) {
    struct bench *b = arg;
    return b->complete == b->total;
}

static void pair_start(struct bench *b, int i) {
    static const struct chat_link_events in = {shown, nothing, closed, none}, out = {told, nothing, closed, none};
    struct couple *p = &b->pairs[i];
    char name[16];
    p->bench = b;
    snprintf(name, sizeof name, "s%d", i);
    p->sender = join(b->f, name);
    snprintf(name, sizeof name, "r%d", i);
    p->reader = join(b->f, name);
    snprintf(p->conversation_id, sizeof p->conversation_id, "c%d", i);
    converse(b->f, &p->sender, p->conversation_id, name);
    p->in = chat_attach(b->f->chat, &p->reader, 0, NULL, &in, p);
    p->out = chat_attach(b->f->chat, &p->sender, 0, NULL, &out, p);
}

#define THREADS_MAX 32
static size_t thread_ticks(unsigned long ticks[THREADS_MAX]) {
    DIR *d = opendir("/proc/self/task");
    size_t n = 0;
    struct dirent *at;
    while (d != NULL && (at = readdir(d)) != NULL && n < THREADS_MAX) {
        char path[300], line[512] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/stat", at->d_name);
        FILE *f = at->d_name[0] != '.' ? fopen(path, "r") : NULL;
        if (f == NULL) continue;
        unsigned long user = 0, kernel = 0;
        if (fgets(line, sizeof line, f) != NULL)
            (void)sscanf(strrchr(line, ')') + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                         &kernel);
        ticks[n++] = user + kernel;
        fclose(f);
    }
    if (d != NULL) closedir(d);
    return n;
}

int main(int argc, char **argv) {
    struct bench b = {.total = argc > 1 ? strtoul(argv[1], NULL, 10) : 20000};
    unsigned long in_flight = argc > 2 ? strtoul(argv[2], NULL, 10) : 10, before[THREADS_MAX], after[THREADS_MAX];
    void *state = NULL;
    if (fixture_setup(&state) != 0) return 1;
    b.f = state;
    for (int i = 0; i < PAIRS; i++) pair_start(&b, i);
    size_t n = thread_ticks(before);
    uint64_t from = io_monotonic_ns(b.f->disk);
    for (unsigned long i = 0; i < in_flight * PAIRS; i++) start(&b.pairs[i % PAIRS]);
    run_until(b.f, is_complete, &b);
    double seconds = (double)(io_monotonic_ns(b.f->disk) - from) / 1e9;
    double tick_us = 1e6 / (double)sysconf(_SC_CLK_TCK);
    printf("%lu journeys, %.0f a second\n", b.total, (double)b.total / seconds);
    size_t m = thread_ticks(after);
    for (size_t i = 0; i < n && i < m; i++)
        if (after[i] > before[i])
            printf("thread %zu: %.0f us a journey\n", i, (double)(after[i] - before[i]) * tick_us / (double)b.total);
    return fixture_teardown(&state);
}
