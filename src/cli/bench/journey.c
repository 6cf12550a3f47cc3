// `barid bench journey`: complete journeys over WebSockets, as two people and their devices make them.
//
//   sender    send ──────────────► answer 202            delivered ◄─┐          read ◄─┐
//   recipient          message ◄── get ──► content ──► received ─────┘  read ──────────┘
//
// Open loop by default: journeys start at the asked rate whatever the server does, and latencies count from the
// moment a journey was *due*, so a server that stalls cannot hide it. With --in-flight N it is a closed loop: N
// journeys under way a pair, each end starts the next; that finds the most a server can do.
#include "cli/bench/bench.h"
#include "cli/bench/histogram.h"
#include "cli/bench/setup.h"
#include "cli/bench/socket.h"

#include "base/assert.h"

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum leg { ACCEPTED, NOTIFIED, DELIVERED, READ, LEGS };
static const char *const leg_name[LEGS] = {"accepted", "notified", "delivered", "read"};

struct journey {
    uint64_t due_ns;
    uint32_t pair;
    uint8_t seen; // a bit a leg
};

struct pair;

struct side {
    struct pair *pair;
    struct bench_user user;
    struct bench_socket *socket;
    uint64_t cursor; // highest entry seen and not yet acked, 0: none
    bool dirty;
};

struct pair {
    struct bench *bench;
    struct side sender, recipient;
    char conversation_id[NAME_MAX_LENGTH + 1];
};

struct options {
    const char *url, *dir;
    uint32_t pairs, seconds, warmup, in_flight, bytes;
    double rate;
    bool json;
};

struct bench {
    struct options o;
    struct bench_server server;
    uv_loop_t loop;
    uv_timer_t tick;
    uint32_t run_tag, open;
    struct pair *pairs;
    struct journey *journeys;
    uint64_t started, limit, complete, errors, doubled;
    uint64_t begin_ns, measure_ns, end_ns, drain_ns, last_progress_ns;
    uint64_t done[LEGS]; // within the measured time
    struct histogram *latency;
    struct bench_usage before, after;
    double own_cpu_before, own_cpu_after;
    char *text;
    char problem[256];
    bool measuring, measured, running;
};

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double own_cpu(void) {
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

// The value of a field of the server's compact, flat JSON: strings without quotes, numbers as they stand.
static const char *field(const char *json, size_t n, const char *key, size_t *length) {
    char quoted[40];
    size_t k = (size_t)snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *at = memmem(json, n, quoted, k), *end = json + n;
    if (!at) return NULL;
    at += k;
    bool string = at < end && *at == '"';
    if (string) at++;
    const char *stop = at;
    while (stop < end && (string ? *stop != '"' : *stop != ',' && *stop != '}')) stop++;
    *length = (size_t)(stop - at);
    return at;
}

static bool field_is(const char *json, size_t n, const char *key, const char *value) {
    size_t length;
    const char *at = field(json, n, key, &length);
    return at && length == strlen(value) && memcmp(at, value, length) == 0;
}

static uint64_t field_number(const char *json, size_t n, const char *key) {
    size_t length;
    const char *at = field(json, n, key, &length);
    uint64_t v = 0;
    for (size_t i = 0; at && i < length && at[i] >= '0' && at[i] <= '9'; i++) v = v * 10 + (uint64_t)(at[i] - '0');
    return v;
}

// The journey a frame is about, from the number in its message_id; NULL when it is not of this run.
static struct journey *journey_of(struct bench *b, const char *json, size_t n, const char **id) {
    size_t length;
    char digits[9] = {0}, tag[9] = {0};
    *id = field(json, n, "message_id", &length);
    if (!*id || length != 36) return NULL;
    memcpy(digits, *id + 28, 8);
    memcpy(tag, *id, 8);
    uint64_t index = strtoull(digits, NULL, 16);
    return strtoul(tag, NULL, 16) == b->run_tag && index < b->started ? &b->journeys[index] : NULL;
}

static void problem(struct bench *b, const char *what, const char *json, size_t n) {
    b->errors++;
    if (!b->problem[0]) snprintf(b->problem, sizeof b->problem, "%s: %.*s", what, (int)(n < 180 ? n : 180), json);
}

static void start_journey(struct bench *b, struct pair *p, uint64_t due_ns) {
    char frame[1024 + 65536];
    if (b->started == b->limit) return;
    uint64_t index = b->started++;
    b->journeys[index] = (struct journey){.due_ns = due_ns, .pair = (uint32_t)(p - b->pairs)};
    int n = snprintf(frame, sizeof frame,
                     "{\"type\":\"send\",\"message_id\":\"%08x-0000-7000-8000-0000%08llx\","
                     "\"conversation_id\":\"%s\",\"by_user_id\":\"%s\",\"message_text\":\"%s\"}",
                     b->run_tag, (unsigned long long)index, p->conversation_id, p->sender.user.user_id, b->text);
    bench_socket_send(p->sender.socket, frame, (size_t)n);
    p->sender.dirty = true;
}

static void passed(struct bench *b, struct journey *j, enum leg leg, const char *json, size_t n) {
    uint64_t now = now_ns();
    if (j->seen & 1u << leg) {
        b->doubled++;
        problem(b, "came twice", json, n);
        return;
    }
    j->seen |= (uint8_t)(1u << leg);
    b->last_progress_ns = now;
    if (b->measuring) {
        b->done[leg]++;
        if (j->due_ns >= b->measure_ns) histogram_add(&b->latency[leg], now - j->due_ns);
    }
    if (leg != READ) return;
    b->complete++;
    if (b->o.in_flight && b->running) start_journey(b, &b->pairs[j->pair], now);
}

static void say(struct side *s, const char *type, const char *id) {
    char frame[96];
    int n = snprintf(frame, sizeof frame, "{\"type\":\"%s\",\"message_id\":\"%.36s\"}", type, id);
    bench_socket_send(s->socket, frame, (size_t)n);
}

static bool entry_seen(struct side *s, const char *json, size_t n) {
    s->cursor = field_number(json, n, "cursor");
    return true;
}

static void on_sender_text(void *arg, const char *json, size_t n) {
    struct side *s = arg;
    struct bench *b = s->pair->bench;
    const char *id;
    struct journey *j = journey_of(b, json, n, &id);
    if (field_is(json, n, "type", "drained")) b->open++;
    else if (field_is(json, n, "type", "answer") && field_number(json, n, "status") != 202) problem(b, "send", json, n);
    else if (field_is(json, n, "type", "answer") && j) passed(b, j, ACCEPTED, json, n);
    else if (field_is(json, n, "type", "delivered") && entry_seen(s, json, n) && j) passed(b, j, DELIVERED, json, n);
    else if (field_is(json, n, "type", "read") && entry_seen(s, json, n) && j) passed(b, j, READ, json, n);
    else problem(b, "unexpected", json, n);
}

static void on_recipient_text(void *arg, const char *json, size_t n) {
    struct side *s = arg;
    struct bench *b = s->pair->bench;
    const char *id;
    struct journey *j = journey_of(b, json, n, &id);
    if (field_is(json, n, "type", "drained")) {
        b->open++;
    } else if (field_is(json, n, "type", "message") && entry_seen(s, json, n) && j) {
        passed(b, j, NOTIFIED, json, n);
        say(s, "get", id);
    } else if (field_is(json, n, "type", "answer") && field_number(json, n, "status") != 200) {
        problem(b, "answer", json, n);
    } else if (field_is(json, n, "to", "get") && j) {
        say(s, "received", id);
        say(s, "read", id);
    }
}

static void on_batch_end(void *arg) {
    struct side *s = arg;
    char frame[64];
    if (!s->cursor) return;
    int n = snprintf(frame, sizeof frame, "{\"type\":\"ack\",\"cursor\":%llu}", (unsigned long long)s->cursor);
    bench_socket_send(s->socket, frame, (size_t)n);
    s->cursor = 0;
}

static void on_open(void *arg) {
    struct side *s = arg;
    char frame[160];
    int n = snprintf(frame, sizeof frame, "{\"type\":\"hello\",\"token\":\"%s\",\"after\":0}", s->user.token);
    bench_socket_send(s->socket, frame, (size_t)n);
}

static void on_closed(void *arg, const char *why) {
    struct side *s = arg;
    die("bench: the connection of %s ended: %s", s->user.user_id, why);
}

static void connect_side(struct bench *b, struct side *s, bool sender) {
    struct bench_socket_events events = {.open = on_open, .closed = on_closed, .batch_end = on_batch_end};
    events.text = sender ? on_sender_text : on_recipient_text;
    s->socket = bench_socket_new(&b->loop, (const struct sockaddr *)&b->server.address, b->server.host, &events, s);
}

static void progress(struct bench *b, const char *what, double share) {
    char bar[31];
    if (b->o.json || !isatty(STDERR_FILENO)) return;
    if (share > 1) share = 1;
    for (int i = 0; i < 30; i++) bar[i] = i < share * 30 ? '#' : '.';
    bar[30] = 0;
    fprintf(stderr, "\r%-10s [%s] %3.0f %%  %llu complete ", what, bar, share * 100, (unsigned long long)b->complete);
    if (share >= 1) fputc('\n', stderr);
}

static void start_due(struct bench *b, uint64_t now) {
    double due = (double)(now - b->begin_ns) / 1e9 * b->o.rate;
    while ((double)b->started < due && b->started < b->limit) {
        uint64_t due_ns = b->begin_ns + (uint64_t)((double)b->started / b->o.rate * 1e9);
        start_journey(b, &b->pairs[b->started % b->o.pairs], due_ns);
    }
    for (uint32_t i = 0; i < b->o.pairs; i++) {
        if (!b->pairs[i].sender.dirty) continue;
        b->pairs[i].sender.dirty = false;
        bench_socket_flush(b->pairs[i].sender.socket);
    }
}

static void begin(struct bench *b, uint64_t now) {
    b->running = true;
    b->begin_ns = now;
    b->measure_ns = now + (uint64_t)b->o.warmup * 1000000000u;
    b->end_ns = b->measure_ns + (uint64_t)b->o.seconds * 1000000000u;
    for (uint32_t i = 0; i < b->o.in_flight * b->o.pairs; i++) start_journey(b, &b->pairs[i % b->o.pairs], now);
}

static void on_tick(uv_timer_t *t) {
    struct bench *b = t->data;
    uint64_t now = now_ns();
    if (!b->begin_ns) {
        if (b->open == 2 * b->o.pairs) begin(b, now);
        return;
    }
    if (b->running && now >= b->measure_ns && !b->measuring) {
        b->measuring = true;
        b->measure_ns = now;
        b->before = bench_usage(&b->server);
        b->own_cpu_before = own_cpu();
    }
    if (b->running && now >= b->end_ns) {
        b->running = b->measuring = false;
        b->end_ns = now;
        b->after = bench_usage(&b->server);
        b->own_cpu_after = own_cpu();
    }
    if (b->running) {
        if (!b->o.in_flight) start_due(b, now);
        else start_due(b, b->begin_ns);
        progress(b, b->measuring ? "measuring" : "warming up",
                 (double)(now - b->begin_ns) / (double)(b->end_ns - b->begin_ns));
        return;
    }
    // Drain: everything that was started has to arrive; ten seconds without any progress is loss.
    if (b->complete == b->started || now - b->last_progress_ns > 10000000000u) uv_stop(&b->loop);
}

static void print_json(struct bench *b, double seconds) {
    json_t *legs = json_object();
    for (int i = 0; i < LEGS; i++)
        json_object_set_new(legs, leg_name[i],
                            json_pack("{sf sf sf sf}", "p50_ms", histogram_ms(&b->latency[i], 0.5), "p99_ms",
                                      histogram_ms(&b->latency[i], 0.99), "p999_ms",
                                      histogram_ms(&b->latency[i], 0.999), "max_ms", histogram_ms(&b->latency[i], 1)));
    json_t *out = json_pack(
        "{ss sf si si si sf sf sI sI sI sI so sf sf sI}", "benchmark", "journey", "asked_rate", b->o.rate, "pairs",
        (int)b->o.pairs, "in_flight", (int)b->o.in_flight, "bytes", (int)b->o.bytes, "accepted_per_second",
        (double)b->done[ACCEPTED] / seconds, "complete_per_second", (double)b->done[READ] / seconds, "started",
        (json_int_t)b->started, "complete", (json_int_t)b->complete, "doubled", (json_int_t)b->doubled, "errors",
        (json_int_t)b->errors, "legs", legs, "server_cpu", (b->after.cpu_seconds - b->before.cpu_seconds) / seconds,
        "client_cpu", (b->own_cpu_after - b->own_cpu_before) / seconds, "server_resident_bytes",
        (json_int_t)b->after.resident_bytes);
    char *text = json_dumps(out, JSON_COMPACT | JSON_REAL_PRECISION(6));
    puts(text);
    free(text);
    json_decref(out);
}

static void print_table(struct bench *b, double seconds) {
    printf(
        "accepted  %10.0f /s\ncomplete  %10.0f /s   (%llu of %llu started, %llu lost, %llu doubled, %llu errors)\n\n",
        (double)b->done[ACCEPTED] / seconds, (double)b->done[READ] / seconds, (unsigned long long)b->complete,
        (unsigned long long)b->started, (unsigned long long)(b->started - b->complete), (unsigned long long)b->doubled,
        (unsigned long long)b->errors);
    printf("%-10s %9s %9s %9s %9s   (ms since the journey was due)\n", "leg", "p50", "p99", "p99.9", "max");
    for (int i = 0; i < LEGS; i++)
        printf("%-10s %9.2f %9.2f %9.2f %9.2f\n", leg_name[i], histogram_ms(&b->latency[i], 0.5),
               histogram_ms(&b->latency[i], 0.99), histogram_ms(&b->latency[i], 0.999),
               histogram_ms(&b->latency[i], 1));
    printf("\nserver    %.2f cores, %.1f MB resident\nload      %.2f cores\n",
           (b->after.cpu_seconds - b->before.cpu_seconds) / seconds, (double)b->after.resident_bytes / 1e6,
           (b->own_cpu_after - b->own_cpu_before) / seconds);
    if (b->problem[0]) printf("first problem: %s\n", b->problem);
}

static const char help[] = "usage: barid bench journey [options]\n\n"
                           "  --url URL        a running server (default: start one of our own)\n"
                           "  --dir DIR        where our own server's data goes (default /var/tmp)\n"
                           "  --rate N         journeys started a second, open loop (default 1000)\n"
                           "  --in-flight N    closed loop instead: N journeys under way a pair\n"
                           "  --pairs N        pairs of sender and recipient (default 50)\n"
                           "  --bytes N        text length, at most 65,000 (default 200)\n"
                           "  --seconds N      measured time (default 10)\n"
                           "  --warmup N       seconds before it (default 2)\n"
                           "  --json           one JSON object\n";

static bool parse(struct options *o, int argc, char **argv) {
    static const struct option longs[] = {{"url", 1, 0, 'u'},       {"dir", 1, 0, 'd'},    {"rate", 1, 0, 'r'},
                                          {"in-flight", 1, 0, 'i'}, {"pairs", 1, 0, 'p'},  {"bytes", 1, 0, 'b'},
                                          {"seconds", 1, 0, 's'},   {"warmup", 1, 0, 'w'}, {"json", 0, 0, 'j'},
                                          {"help", 0, 0, 'h'},      {0, 0, 0, 0}};
    *o = (struct options){.dir = "/var/tmp", .pairs = 50, .seconds = 10, .warmup = 2, .bytes = 200, .rate = 1000};
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        switch (c) {
        case 'u': o->url = optarg; break;
        case 'd': o->dir = optarg; break;
        case 'r': o->rate = strtod(optarg, NULL); break;
        case 'i': o->in_flight = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'p': o->pairs = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'b': o->bytes = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 's': o->seconds = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'w': o->warmup = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'j': o->json = true; break;
        case 'h': fputs(help, stdout); exit(0);
        default: fputs(help, stderr); return false;
        }
    }
    bool ok = o->pairs > 0 && o->pairs <= 5000 && o->bytes > 0 && o->bytes <= 65000 && o->seconds > 0 && o->rate > 0 &&
              o->in_flight <= 200 && optind == argc;
    if (!ok) fputs(help, stderr);
    return ok;
}

static void set_stage(struct bench *b) {
    bench_server_start(&b->server, b->o.url, b->o.dir);
    b->run_tag = (uint32_t)time(NULL);
    for (uint32_t i = 0; i < b->o.pairs; i++) {
        struct pair *p = &b->pairs[i];
        char name[NAME_MAX_LENGTH];
        p->bench = b;
        p->sender.pair = p->recipient.pair = p;
        snprintf(name, sizeof name, "s%u-%x", i, b->run_tag);
        bench_user_add(&b->server, name, &p->sender.user);
        snprintf(name, sizeof name, "r%u-%x", i, b->run_tag);
        bench_user_add(&b->server, name, &p->recipient.user);
        bench_conversation_add(&b->server, &p->sender.user, name, p->conversation_id);
        progress(b, "users", (double)(i + 1) / b->o.pairs);
    }
}

static void *allocate(size_t n, size_t size) {
    void *p = calloc(n, size);
    if (!p) die("bench: out of memory");
    return p;
}

int bench_journey(int argc, char **argv) {
    static struct bench b;
    if (!parse(&b.o, argc, argv)) return 2;
    uint64_t most = b.o.in_flight ? 200000 : (uint64_t)b.o.rate;
    b.limit = most * (b.o.seconds + b.o.warmup + 1);
    b.pairs = allocate(b.o.pairs, sizeof *b.pairs);
    b.journeys = allocate(b.limit, sizeof *b.journeys);
    b.latency = allocate(LEGS, sizeof *b.latency);
    b.text = allocate(b.o.bytes + 1, 1);
    memset(b.text, 'x', b.o.bytes);
    set_stage(&b);
    uv_loop_init(&b.loop);
    for (uint32_t i = 0; i < b.o.pairs; i++) {
        connect_side(&b, &b.pairs[i].sender, true);
        connect_side(&b, &b.pairs[i].recipient, false);
    }
    uv_timer_init(&b.loop, &b.tick);
    b.tick.data = &b;
    uv_timer_start(&b.tick, on_tick, 1, 1);
    uv_run(&b.loop, UV_RUN_DEFAULT);
    double seconds = (double)(b.end_ns - b.measure_ns) / 1e9;
    if (b.o.json) print_json(&b, seconds);
    else print_table(&b, seconds);
    bench_server_stop(&b.server);
    return b.complete == b.started && !b.doubled && !b.errors ? 0 : 1;
}
