// `barid bench connections`: what idle connections cost the server. Opens N WebSockets of N devices, waits until each
// is drained, and compares the server's resident memory before and after.
#include "cli/bench/bench.h"
#include "cli/bench/setup.h"
#include "cli/bench/socket.h"

#include "base/assert.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

struct connections {
    struct bench_server server;
    uv_loop_t loop;
    uint32_t wanted, drained;
};

struct connection {
    struct connections *all;
    struct bench_user user;
    struct bench_socket *socket;
};

static void on_open(void *arg) {
    struct connection *c = arg;
    char frame[160];
    int n = snprintf(frame, sizeof frame, "{\"type\":\"hello\",\"token\":\"%s\",\"after\":0}", c->user.token);
    bench_socket_send(c->socket, frame, (size_t)n);
}

static void on_text(void *arg, const char *json, size_t n) {
    struct connection *c = arg;
    static const char drained[] = "\"drained\"";
    if (!memmem(json, n, drained, sizeof drained - 1)) return;
    if (++c->all->drained == c->all->wanted) uv_stop(&c->all->loop);
}

static void on_batch_end(void *arg) {}

static void on_closed(void *arg, const char *why) {
    struct connection *c = arg;
    die("bench: the connection of %s ended: %s", c->user.user_id, why);
}

static const char help[] = "usage: barid bench connections [--url URL] [--dir DIR] [--count N] [--json]\n\n"
                           "  --count N   connections, each of a device of its own (default 1000)\n";

int bench_connections(int argc, char **argv) {
    static struct connections all;
    static const struct option longs[] = {{"url", 1, 0, 'u'},  {"dir", 1, 0, 'd'},  {"count", 1, 0, 'c'},
                                          {"json", 0, 0, 'j'}, {"help", 0, 0, 'h'}, {0, 0, 0, 0}};
    static const struct bench_socket_events events = {on_open, on_text, on_batch_end, on_closed};
    const char *url = NULL, *dir = "/var/tmp";
    bool json = false;
    struct rlimit files;
    all.wanted = 1000;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        switch (c) {
        case 'u': url = optarg; break;
        case 'd': dir = optarg; break;
        case 'c': all.wanted = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'j': json = true; break;
        case 'h': fputs(help, stdout); return 0;
        default: fputs(help, stderr); return 2;
        }
    }
    if (!all.wanted || all.wanted > 50000 || optind != argc) {
        fputs(help, stderr);
        return 2;
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    bench_server_start(&all.server, url, dir);
    struct connection *each = calloc(all.wanted, sizeof *each);
    if (!each) die("bench: out of memory");
    struct bench_usage fresh = bench_usage(&all.server);
    uint32_t tag = (uint32_t)time(NULL);
    for (uint32_t i = 0; i < all.wanted; i++) {
        char name[NAME_MAX_LENGTH];
        snprintf(name, sizeof name, "idle%u-%x", i, tag);
        each[i].all = &all;
        bench_user_add(&all.server, name, &each[i].user);
    }
    struct bench_usage before = bench_usage(&all.server);
    uv_loop_init(&all.loop);
    for (uint32_t i = 0; i < all.wanted; i++)
        each[i].socket = bench_socket_new(&all.loop, (const struct sockaddr *)&all.server.address, all.server.host,
                                          &events, &each[i]);
    uv_run(&all.loop, UV_RUN_DEFAULT);
    struct bench_usage after = bench_usage(&all.server);
    double per = ((double)after.resident_bytes - (double)before.resident_bytes) / all.wanted;
    if (json)
        printf("{\"benchmark\":\"connections\",\"count\":%u,\"idle_bytes\":%llu,\"before_bytes\":%llu,"
               "\"after_bytes\":%llu,\"bytes_per_connection\":%.0f}\n",
               all.wanted, (unsigned long long)fresh.resident_bytes, (unsigned long long)before.resident_bytes,
               (unsigned long long)after.resident_bytes, per);
    else
        printf("server after start            %8.1f MB\nwith %u users logged in     %8.1f MB\n"
               "with %u connections         %8.1f MB\neach connection               %8.1f KB\n",
               (double)fresh.resident_bytes / 1e6, all.wanted, (double)before.resident_bytes / 1e6, all.wanted,
               (double)after.resident_bytes / 1e6, per / 1e3);
    bench_server_stop(&all.server);
    return 0;
}
