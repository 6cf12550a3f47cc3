// A load from its beginning to its figures; see load.h.
#include "cli/bench/load.h"
#include "cli/bench/load_worker.h"

#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define TICK_US        1000
#define STUCK_NS       60000000000ull // without progress a counted run is given up
#define NAME_MAX_BYTES 96

struct figures {
    uint64_t published, consumed, refused, ready;
    double publish_per_s, consume_per_s, seconds, cores;
};

struct run {
    struct load load;
    struct load_worker *publishers, *consumers;
    char (*names)[NAME_MAX_BYTES]; // of the queues
    char exchange[NAME_MAX_BYTES];
    struct load_client *control;
};

static double own_cpu(void) {
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static uint64_t total(struct load_worker *workers, uint32_t n) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += workers[i].done;
    return sum;
}

static uint64_t latest(struct load_worker *workers, uint32_t n) {
    uint64_t last = 0;
    for (uint32_t i = 0; i < n; i++)
        if (workers[i].last_ns > last) last = workers[i].last_ns;
    return last;
}

static bool all_ended(struct load_worker *workers, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        if (!workers[i].ended) return false;
    return true;
}

// ---- the stage

static void topology(struct run *r) {
    const struct load_options *o = r->load.o;
    const struct load_driver *d = r->load.driver;
    r->names = calloc(o->queues, sizeof *r->names);
    r->load.routes = calloc(o->queues, sizeof *r->load.routes);
    if (!r->names || !r->load.routes) die("load: out of memory");
    snprintf(r->exchange, sizeof r->exchange, "%s-fanout", o->prefix);
    if (o->fanout) d->declare_fanout(r->control, r->exchange);
    for (uint32_t i = 0; i < o->queues; i++) {
        snprintf(r->names[i], sizeof r->names[i], "%s-%u", o->prefix, i);
        d->declare_queue(r->control, r->names[i]);
        if (!o->keep) d->purge(r->control, r->names[i]);
        if (o->fanout) d->bind(r->control, r->names[i], r->exchange);
        r->load.routes[i] = (struct load_route){o->fanout ? r->exchange : "", r->names[i]};
    }
    r->load.route_count = o->fanout ? 1 : o->queues;
}

static struct load_worker *workers_new(struct run *r, uint32_t n) {
    struct load_worker *w = calloc(n ? n : 1, sizeof *w);
    if (!w) die("load: out of memory");
    for (uint32_t i = 0; i < n; i++) {
        w[i].load = &r->load;
        w[i].client = r->load.driver->open(r->load.o);
    }
    return w;
}

static void open_all(struct run *r) {
    const struct load_options *o = r->load.o;
    const struct load_driver *d = r->load.driver;
    r->publishers = workers_new(r, o->publishers);
    r->consumers = workers_new(r, o->consumers);
    for (uint32_t i = 0; i < o->publishers; i++) {
        uint64_t share = o->count / o->publishers + (i < o->count % o->publishers);
        r->publishers[i].quota = o->count ? share : UINT64_MAX;
        if (o->window) d->confirm_select(r->publishers[i].client);
    }
    uint32_t shares = o->consumers > o->queues ? o->consumers : o->queues;
    for (uint32_t i = 0; o->consumers && i < shares; i++)
        d->consume(r->consumers[i % o->consumers].client, r->names[i % o->queues]);
}

static void start(struct load_worker *w, uint32_t n, void *(*run)(void *)) {
    for (uint32_t i = 0; i < n; i++)
        if (pthread_create(&w[i].thread, NULL, run, &w[i]) != 0) die("load: cannot start a thread");
}

static void finish(struct load *l, struct load_worker *w, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        pthread_join(w[i].thread, NULL);
        l->driver->close(w[i].client);
    }
}

// ---- the two ways of measuring

static void measure_begin(struct run *r) {
    r->load.measure_ns = load_now_ns();
    r->load.measuring = true;
}

static void for_seconds(struct run *r, struct figures *f) {
    const struct load_options *o = r->load.o;
    sleep(o->warmup);
    measure_begin(r);
    uint64_t begun = load_now_ns(), published = total(r->publishers, o->publishers);
    uint64_t consumed = total(r->consumers, o->consumers);
    double cpu = own_cpu();
    sleep(o->seconds);
    f->published = total(r->publishers, o->publishers) - published;
    f->consumed = total(r->consumers, o->consumers) - consumed;
    f->seconds = (double)(load_now_ns() - begun) / 1e9;
    f->cores = (own_cpu() - cpu) / f->seconds;
    f->publish_per_s = (double)f->published / f->seconds;
    f->consume_per_s = (double)f->consumed / f->seconds;
}

static double rate(uint64_t n, uint64_t from_ns, uint64_t to_ns) {
    return n && to_ns > from_ns ? (double)n * 1e9 / (double)(to_ns - from_ns) : 0;
}

static void for_count(struct run *r, struct figures *f) {
    const struct load_options *o = r->load.o;
    uint64_t begun = load_now_ns(), moved = begun, seen = 0;
    uint64_t wanted = o->consumers ? o->count * (o->publishers && o->fanout ? o->queues : 1) : 0;
    double cpu = own_cpu();
    for (;;) {
        f->published = total(r->publishers, o->publishers);
        f->consumed = total(r->consumers, o->consumers);
        if (all_ended(r->publishers, o->publishers) && f->consumed >= wanted) break;
        if (f->published + f->consumed != seen) moved = load_now_ns();
        seen = f->published + f->consumed;
        if (load_now_ns() - moved > STUCK_NS)
            die("load: nothing moves any more after %llu published and %llu consumed", (unsigned long long)f->published,
                (unsigned long long)f->consumed);
        usleep(TICK_US);
    }
    uint64_t published_ns = latest(r->publishers, o->publishers), end = load_now_ns();
    f->seconds = (double)(end - begun) / 1e9;
    f->cores = (own_cpu() - cpu) / f->seconds;
    f->publish_per_s = rate(f->published, begun, published_ns);
    f->consume_per_s = rate(f->consumed, begun, end);
}

// ---- what came out

static void merge(struct histogram *into, const struct load_worker *w, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        into->count += w[i].latency.count;
        if (w[i].latency.max > into->max) into->max = w[i].latency.max;
        for (uint32_t b = 0; b < HISTOGRAM_BUCKETS; b++) into->buckets[b] += w[i].latency.buckets[b];
    }
}

static void tell_latency(const char *what, const struct histogram *h, bool json) {
    double p50 = histogram_ms(h, 0.5), p99 = histogram_ms(h, 0.99), p999 = histogram_ms(h, 0.999);
    double max = (double)h->max / 1e6;
    if (json) printf(",\"%s_ms\":{\"p50\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f}", what, p50, p99, p999, max);
    else if (h->count) printf("%-10s p50 %.2f  p99 %.2f  p99.9 %.2f  max %.2f ms\n", what, p50, p99, p999, max);
}

static void tell(const struct run *r, const struct figures *f) {
    static struct histogram confirm, delivery;
    const struct load_options *o = r->load.o;
    merge(&confirm, r->publishers, o->publishers);
    merge(&delivery, r->consumers, o->consumers);
    if (o->json)
        printf("{\"benchmark\":\"amqp\",\"client\":\"%s\",\"published\":%llu,\"publish_per_s\":%.0f,\"consumed\":%llu,"
               "\"consume_per_s\":%.0f,\"refused\":%llu,\"ready\":%llu,\"seconds\":%.3f,\"own_cores\":%.2f",
               r->load.driver->name, (unsigned long long)f->published, f->publish_per_s,
               (unsigned long long)f->consumed, f->consume_per_s, (unsigned long long)f->refused,
               (unsigned long long)f->ready, f->seconds, f->cores);
    else
        printf("published  %llu in %.1f s: %.0f/s%s\nconsumed   %llu: %.0f/s%s\nleft       %llu, refused %llu\n",
               (unsigned long long)f->published, f->seconds, f->publish_per_s, o->window ? ", confirmed" : "",
               (unsigned long long)f->consumed, f->consume_per_s, o->prefetch ? ", acknowledged" : "",
               (unsigned long long)f->ready, (unsigned long long)f->refused);
    tell_latency("confirm", &confirm, o->json);
    tell_latency("delivery", &delivery, o->json);
    if (o->json) puts("}");
    else printf("the load itself took %.2f cores\n", f->cores);
}

static void clear_up(struct run *r, struct figures *f) {
    const struct load_options *o = r->load.o;
    const struct load_driver *d = r->load.driver;
    for (uint32_t i = 0; i < o->queues; i++) {
        f->ready += d->ready(r->control, r->names[i]);
        if (!o->keep) d->delete_queue(r->control, r->names[i]);
    }
    if (o->fanout && !o->keep) d->delete_exchange(r->control, r->exchange);
    d->close(r->control);
    free(r->names);
    free(r->load.routes);
}

static int hold_idle(const struct load_options *o, const struct load_driver *driver) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    struct load_client **each = calloc(o->idle, sizeof(struct load_client *));
    if (!each) die("load: out of memory");
    for (uint32_t i = 0; i < o->idle; i++) each[i] = driver->open(o);
    puts("open");
    fflush(stdout);
    for (char c; read(STDIN_FILENO, &c, 1) > 0;) {
    }
    for (uint32_t i = 0; i < o->idle; i++) driver->close(each[i]);
    free(each);
    return 0;
}

int load_run(const struct load_options *o, const struct load_driver *driver) {
    struct run r = {.load = {.o = o, .driver = driver}};
    struct figures f = {0};
    if (o->idle) return hold_idle(o, driver);
    r.control = driver->open(o);
    topology(&r);
    open_all(&r);
    if (o->count) measure_begin(&r);
    start(r.consumers, o->consumers, load_consume);
    start(r.publishers, o->publishers, load_publish);
    if (o->count) for_count(&r, &f);
    else if (o->publishers || o->consumers) for_seconds(&r, &f);
    r.load.stop = true;
    finish(&r.load, r.publishers, o->publishers);
    finish(&r.load, r.consumers, o->consumers);
    for (uint32_t i = 0; i < o->publishers; i++) f.refused += r.publishers[i].refused;
    clear_up(&r, &f);
    tell(&r, &f);
    free(r.publishers);
    free(r.consumers);
    return 0;
}
