// barid status: what a running server says of itself on /metrics, as a small table.
#include "base/buf.h"
#include "cli/cli.h"
#include "cli/config.h"

#include <curl/curl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define METRICS_MAX (4 << 20)
#define WAIT_S      10L

static const struct setting settings[] = {
    {"server", "URL", "http://127.0.0.1:8080", "the server"},
    {"json", NULL, NULL, "every metric as one JSON object"},
    {0},
};

// ---- fetching -------------------------------------------------------------------------------------------

static size_t on_data(char *data, size_t size, size_t n, void *arg) {
    buf_add(arg, data, size * n);
    return buf_ok(arg) ? size * n : 0;
}

// Status of the answer, 0 when there was none (told on stderr).
static long get(const char *base, const char *path, struct buf *out) {
    char url[1024];
    size_t n = strlen(base);
    long status = 0;
    while (n > 0 && base[n - 1] == '/') n--;
    snprintf(url, sizeof url, "%.*s%s", (int)n, base, path);
    CURL *c = curl_easy_init();
    if (c == NULL) return 0;
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_TIMEOUT, WAIT_S);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, out);
    CURLcode code = curl_easy_perform(c);
    if (code == CURLE_OK) curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    else fprintf(stderr, "barid status: %s: %s\n", url, curl_easy_strerror(code));
    curl_easy_cleanup(c);
    return status;
}

// ---- the text format ------------------------------------------------------------------------------------

// {"barid_messages_total{point=\"accepted\"}": 3, …}
static json_t *parse(char *text) {
    json_t *o = json_object();
    for (char *line = text, *next; line != NULL; line = next) {
        next = strchr(line, '\n');
        if (next != NULL) *next++ = '\0';
        char *space = strrchr(line, ' ');
        if (*line == '#' || space == NULL) continue;
        *space = '\0';
        double v = strtod(space + 1, NULL);
        json_object_set_new(o, line, v == (double)(json_int_t)v ? json_integer((json_int_t)v) : json_real(v));
    }
    return o;
}

static double value(const json_t *o, const char *name) { return json_number_value(json_object_get(o, name)); }

static double labelled(const json_t *o, const char *name, const char *label, const char *which) {
    char key[256];
    snprintf(key, sizeof key, "%s{%s=\"%s\"}", name, label, which);
    return value(o, key);
}

// ---- the table ------------------------------------------------------------------------------------------

static void print_points(const json_t *o) {
    static const char *const points[] = {"accepted", "published", "queued",    "notified", "received",
                                         "deleted",  "read",      "duplicate", "rejected", "expired"};
    puts("\nmessages since the start");
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++)
        printf("  %-12s %12.0f\n", points[i], labelled(o, "barid_messages_total", "point", points[i]));
}

static void print_queues(json_t *o) {
    static const char prefix[] = "barid_queue_ready{queue=\"";
    const char *key;
    json_t *v;
    printf("\n%-28s %10s %10s %10s %10s\n", "queue", "ready", "unacked", "parked", "oldest s");
    json_object_foreach(o, key, v) {
        char name[128];
        if (strncmp(key, prefix, sizeof prefix - 1) != 0) continue;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(key + sizeof prefix - 1, "\""), key + sizeof prefix - 1);
        printf("  %-26s %10.0f %10.0f %10.0f %10.1f\n", name, json_number_value(v),
               labelled(o, "barid_queue_unacked", "queue", name), labelled(o, "barid_queue_parked", "queue", name),
               labelled(o, "barid_queue_oldest_seconds", "queue", name));
    }
    printf("  %-26s %10.0f %10s %10.0f\n", "(outbox)", value(o, "barid_outbox_waiting"), "",
           value(o, "barid_outbox_parked"));
}

static void print_table(json_t *o, const char *url, bool ready) {
    printf("%s  %s\n", url, ready ? "ready" : "not ready");
    printf("  devices connected %.0f, connections %.0f, requests open %.0f\n", value(o, "barid_links"),
           value(o, "barid_connections"), value(o, "barid_http_requests_open"));
    printf("  memory %.1f MiB, disk free %.1f GiB, database units waiting %.0f\n",
           value(o, "process_resident_memory_bytes") / (1 << 20), value(o, "barid_disk_free_bytes") / (1 << 30),
           value(o, "barid_database_pending"));
    print_points(o);
    print_queues(o);
}

static int show(const struct config *c) {
    struct buf metrics, readiness;
    const char *url = config_text(c, "server");
    buf_init(&metrics, METRICS_MAX);
    buf_init(&readiness, METRICS_MAX);
    int code = 1;
    if (get(url, "/metrics", &metrics) == 200) {
        bool ready = get(url, "/readyz", &readiness) == 200;
        json_t *o = parse(buf_cstr(&metrics));
        if (config_switch(c, "json")) {
            json_object_set_new(o, "ready", json_boolean(ready));
            json_dumpf(o, stdout, JSON_INDENT(2) | JSON_SORT_KEYS);
            putchar('\n');
        } else {
            print_table(o, url, ready);
        }
        json_decref(o);
        code = ready ? 0 : 1;
    }
    buf_release(&metrics);
    buf_release(&readiness);
    return code;
}

int cli_status(int argc, char **argv) {
    struct config c;
    enum config_read r = config_read(
        &c, "status", "Shows what a running server says of itself. Exit code 0: it is ready.", settings, argc, argv);
    if (r != CONFIG_OK) return r == CONFIG_HELP ? 0 : EXIT_USAGE;
    int code = show(&c);
    config_release(&c);
    return code;
}
