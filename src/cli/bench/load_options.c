// The options of a load, the same for every program that makes one.
#include "cli/bench/load.h"

#include "base/assert.h"

#include <curl/curl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "\n"
    "  --url URL          broker, amqp://guest:guest@127.0.0.1:5672/ (%2F is the virtual host \"/\")\n"
    "  --publishers N     connections that publish (default 1)\n"
    "  --consumers N      connections that consume (default 1)\n"
    "  --queues N         queues, published to in turn (default 1)\n"
    "  --fanout           publish to an exchange that gives each message to all of them\n"
    "  --queue-type T     x-queue-type of the queues: classic, quorum\n"
    "  --prefix NAME      the queues' names begin with it (default barid-load)\n"
    "  --bytes N          body of a message (default 128)\n"
    "  --window N         unconfirmed messages a publisher keeps under way (default 1000; 0: no confirms)\n"
    "  --prefetch N       unacknowledged messages a consumer may have (default 500; 0: it acknowledges nothing)\n"
    "  --multiple N       one acknowledgement for N messages (default 1)\n"
    "  --transient        messages and queues that need not outlive the broker\n"
    "  --seconds N        measured time (default 10), after --warmup N (default 2)\n"
    "  --count N          instead: publish (without publishers: consume) N messages and tell how long it took\n"
    "  --idle N           instead: open N connections, say \"open\", and hold them until standard input ends\n"
    "  --keep             neither purge the queues before nor delete them after\n"
    "  --json             one line of JSON\n";

static uint64_t number(const char *text, uint64_t least, uint64_t most) {
    char *end;
    unsigned long long v = strtoull(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end && v >= least && v <= most) return v;
    fprintf(stderr, "load: not a number from %llu to %llu: %s\n", (unsigned long long)least, (unsigned long long)most,
            text);
    exit(2);
}

static void part(CURLU *u, CURLUPart which, const char *otherwise, char *out, size_t size) {
    char *value = NULL;
    CURLUcode rc = curl_url_get(u, which, &value, CURLU_URLDECODE);
    const char *text = rc == CURLUE_OK ? value : otherwise;
    if (strlen(text) >= size) die("load: the URL is too long");
    memcpy(out, text, strlen(text) + 1);
    curl_free(value);
}

void load_url_parse(struct load_options *o, const char *url) {
    char scheme[16], port[8], path[256];
    CURLU *u = curl_url();
    if (!u) die("load: out of memory");
    CURLUcode rc = curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME);
    if (rc != CURLUE_OK) die("load: not a URL: %s", url);
    part(u, CURLUPART_SCHEME, "", scheme, sizeof scheme);
    if (strcmp(scheme, "amqp") != 0) die("load: --url wants amqp://…, not %s", url);
    part(u, CURLUPART_HOST, "127.0.0.1", o->host, sizeof o->host);
    part(u, CURLUPART_PORT, "5672", port, sizeof port);
    part(u, CURLUPART_USER, "guest", o->user, sizeof o->user);
    part(u, CURLUPART_PASSWORD, "guest", o->password, sizeof o->password);
    part(u, CURLUPART_PATH, "/", path, sizeof path);
    snprintf(o->vhost, sizeof o->vhost, "%s", strcmp(path, "/") == 0 ? "/" : path + 1);
    o->port = (uint16_t)number(port, 1, UINT16_MAX);
    curl_url_cleanup(u);
}

static const struct option longs[] = {{"url", 1, 0, 'u'},        {"dir", 1, 0, 'd'},      {"publishers", 1, 0, 'P'},
                                      {"consumers", 1, 0, 'C'},  {"queues", 1, 0, 'q'},   {"fanout", 0, 0, 'f'},
                                      {"queue-type", 1, 0, 't'}, {"prefix", 1, 0, 'x'},   {"bytes", 1, 0, 'b'},
                                      {"window", 1, 0, 'w'},     {"prefetch", 1, 0, 'p'}, {"multiple", 1, 0, 'm'},
                                      {"transient", 0, 0, 'T'},  {"seconds", 1, 0, 's'},  {"warmup", 1, 0, 'W'},
                                      {"count", 1, 0, 'c'},      {"idle", 1, 0, 'i'},     {"keep", 0, 0, 'k'},
                                      {"json", 0, 0, 'j'},       {"help", 0, 0, 'h'},     {0, 0, 0, 0}};

static bool take(struct load_options *o, int c, const char *arg) {
    switch (c) {
    case 'u': o->url = arg; return true;
    case 'd': o->dir = arg; return true;
    case 'P': o->publishers = (uint32_t)number(arg, 0, 1000); return true;
    case 'C': o->consumers = (uint32_t)number(arg, 0, 1000); return true;
    case 'q': o->queues = (uint32_t)number(arg, 1, 100000); return true;
    case 'f': o->fanout = true; return true;
    case 't': o->queue_type = arg; return true;
    case 'x': o->prefix = arg; return true;
    case 'b': o->bytes = (uint32_t)number(arg, 0, 64 << 20); return true;
    case 'w': o->window = (uint32_t)number(arg, 0, 1 << 20); return true;
    case 'p': o->prefetch = (uint32_t)number(arg, 0, UINT16_MAX); return true;
    case 'm': o->multiple = (uint32_t)number(arg, 1, UINT16_MAX); return true;
    case 'T': o->transient = true; return true;
    case 's': o->seconds = (uint32_t)number(arg, 1, 86400); return true;
    case 'W': o->warmup = (uint32_t)number(arg, 0, 3600); return true;
    case 'c': o->count = number(arg, 1, UINT64_MAX >> 16); return true;
    case 'i': o->idle = (uint32_t)number(arg, 1, 100000); return true;
    case 'k': o->keep = true; return true;
    case 'j': o->json = true; return true;
    default: return false;
    }
}

int load_options_parse(struct load_options *o, int argc, char **argv, const char *usage) {
    *o = (struct load_options){.dir = "/var/tmp",
                               .prefix = "barid-load",
                               .publishers = 1,
                               .consumers = 1,
                               .queues = 1,
                               .bytes = 128,
                               .window = 1000,
                               .prefetch = 500,
                               .multiple = 1,
                               .seconds = 10,
                               .warmup = 2};
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (c == 'h') {
            printf("%s%s", usage, help);
            return 0;
        }
        if (!take(o, c, optarg)) {
            fprintf(stderr, "%s%s", usage, help);
            return 2;
        }
    }
    if (optind != argc || (o->publishers == 0 && o->consumers == 0 && !o->idle && !o->keep) || strlen(o->prefix) > 64 ||
        (o->prefetch && o->multiple > o->prefetch) || (o->idle && o->count)) {
        fprintf(stderr, "%s%s", usage, help);
        return 2;
    }
    if (o->url) load_url_parse(o, o->url);
    return -1;
}
