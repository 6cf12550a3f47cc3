// barid status: what a running server says of itself on /metrics: its queues as a table, fresh every second on a
// terminal, and how far messages have come.
#include "base/buf.h"
#include "base/local_server.h"
#include "cli/cli.h"
#include "cli/config.h"
#include "cli/status_outbox.h"
#include "cli/status_queues.h"

#include <curl/curl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define METRICS_MAX (16 << 20)
#define WAIT_S      10L
#define POINTS      10
#define FRESH_MS    1000
#define SAMPLE_MS   500 // between the two readings of --once

static const struct setting settings[] = {
    {"server", "URL", "http://127.0.0.1:8080", "the server"},
    {"database", "URL", NULL, "postgresql://…: instead, outbox and inboxes there, and who works on them"},
    {"once", NULL, NULL, "one table, also on a terminal; anywhere else it is always one"},
    {"sort", "COLUMN", "name", "name, ready, unacked, in, out, oldest, parked, memory or disk"},
    {"json", NULL, NULL, "the queues and every metric as one JSON object"},
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
    const char *authorities = getenv("SSL_CERT_FILE");
    if (authorities != NULL && *authorities != '\0') curl_easy_setopt(c, CURLOPT_CAINFO, authorities);
    curl_easy_setopt(c, CURLOPT_URL, url);
    if (server_is_local(url)) curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
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
    static const char *const points[POINTS] = {"accepted", "published", "queued",    "notified", "received",
                                               "deleted",  "read",      "duplicate", "rejected", "expired"};
    puts("\nmessages since the start");
    for (size_t i = 0; i < POINTS; i++)
        printf("  %-12s %12.0f\n", points[i], labelled(o, "barid_messages_total", "point", points[i]));
}

// ---- one look -------------------------------------------------------------------------------------------

struct look {
    json_t *metrics;
    struct queue_rows queues;
    bool ready;
};

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void sleep_ms(long ms) {
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static void look_release(struct look *l) {
    json_decref(l->metrics);
    queue_rows_release(&l->queues);
    *l = (struct look){0};
}

// False: there is no server, or none that answers; told.
static bool look_at(struct look *l, const char *url) {
    struct buf metrics, readiness;
    *l = (struct look){0};
    buf_init(&metrics, METRICS_MAX);
    buf_init(&readiness, METRICS_MAX);
    long status = get(url, "/metrics", &metrics);
    if (status == 200) {
        l->metrics = parse(buf_cstr(&metrics));
        l->ready = get(url, "/readyz", &readiness) == 200;
        queue_rows_read(&l->queues, l->metrics, now_ms());
    } else if (status != 0) {
        fprintf(stderr, "barid status: %s answers %ld\n", url, status);
    }
    buf_release(&metrics);
    buf_release(&readiness);
    return status == 200;
}

// ---- showing it -----------------------------------------------------------------------------------------

struct screen {
    size_t width, lines;
    bool live;
};

static struct screen screen_of(bool live) {
    struct winsize size;
    struct screen s = {.width = 120, .lines = SIZE_MAX, .live = live};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        s.width = size.ws_col;
        if (live && size.ws_row > 0) s.lines = size.ws_row;
    }
    return s;
}

// A line no wider than the screen.
static void print_line(const struct screen *s, const char *text) { printf("%.*s\n", (int)s->width, text); }

static void print_head(const json_t *o, const char *url, bool ready, const struct screen *s) {
    char line[512];
    snprintf(line, sizeof line, "%s  %s", url, ready ? "ready" : "not ready");
    print_line(s, line);
    snprintf(line, sizeof line, "  AMQP: %.0f connections, %.0f channels, %.0f consumers; devices: %.0f; HTTP: %.0f",
             value(o, "rabbitmq_connections"), value(o, "rabbitmq_channels"), value(o, "rabbitmq_consumers"),
             value(o, "barid_links"), value(o, "barid_connections"));
    print_line(s, line);
    snprintf(line, sizeof line, "  memory %.1f MiB, disk free %.1f GiB, outbox %.0f waiting, %.0f parked",
             value(o, "process_resident_memory_bytes") / (1 << 20), value(o, "barid_disk_free_bytes") / (1 << 30),
             value(o, "barid_outbox_waiting"), value(o, "barid_outbox_parked"));
    print_line(s, line);
    if (value(o, "rabbitmq_alarms_free_disk_space_watermark") > 0)
        print_line(s, "  the disk is full: publishers are told to wait");
}

static void print_look(const struct look *l, const char *url, const struct screen *s) {
    print_head(l->metrics, url, l->ready, s);
    size_t taken = 6 + POINTS; // lines of all but the queues
    size_t left = s->lines > taken + 4 ? s->lines - taken : s->lines > 8 ? s->lines - 6 : 2;
    putchar('\n');
    queue_rows_print(&l->queues, s->width, s->lines == SIZE_MAX ? SIZE_MAX : left);
    if (s->lines == SIZE_MAX || s->lines > taken + 4) print_points(l->metrics);
}

static void print_json(const struct look *l) {
    json_object_set_new(l->metrics, "ready", json_boolean(l->ready));
    json_object_set_new(l->metrics, "queues", queue_rows_json(&l->queues));
    json_dumpf(l->metrics, stdout, JSON_INDENT(2) | JSON_SORT_KEYS);
    putchar('\n');
}

// The rates come from the look before; that one is let go of.
static bool look_again(struct look *last, const char *url, const char *sort) {
    struct look fresh;
    if (!look_at(&fresh, url)) return false;
    queue_rows_sort(&last->queues, "name");
    queue_rows_rates(&fresh.queues, &last->queues);
    queue_rows_sort(&fresh.queues, sort);
    look_release(last);
    *last = fresh;
    return true;
}

static int show_once(const struct config *c) {
    const char *url = config_text(c, "server");
    struct look l;
    if (!look_at(&l, url)) return 1;
    sleep_ms(SAMPLE_MS);
    bool good = look_again(&l, url, config_text(c, "sort"));
    if (good && config_switch(c, "json")) {
        print_json(&l);
    } else if (good) {
        struct screen s = screen_of(false);
        print_look(&l, url, &s);
    }
    int code = good && l.ready ? 0 : 1;
    look_release(&l);
    return code;
}

static int show_live(const struct config *c) {
    const char *url = config_text(c, "server");
    struct look l;
    if (!look_at(&l, url)) return 1;
    queue_rows_sort(&l.queues, config_text(c, "sort"));
    for (bool good = true; good; good = look_again(&l, url, config_text(c, "sort"))) {
        struct screen s = screen_of(true);
        fputs("\033[H\033[J", stdout); // to the corner, everything away
        print_look(&l, url, &s);
        fflush(stdout);
        sleep_ms(FRESH_MS);
    }
    look_release(&l);
    return 1; // the server has gone
}

int cli_status(int argc, char **argv) {
    struct config c;
    enum config_read r = config_read(&c, "status",
                                     "Shows what a running server says of itself: its queues, and how far messages "
                                     "have come. Fresh every second on a terminal. Exit code 0: it is ready.",
                                     settings, argc, argv);
    if (r != CONFIG_OK) return r == CONFIG_HELP ? 0 : EXIT_USAGE;
    struct queue_rows none = {0};
    int code = EXIT_USAGE;
    if (config_text(&c, "database")) code = status_outbox(config_text(&c, "database"), config_switch(&c, "json"));
    else if (!queue_rows_sort(&none, config_text(&c, "sort")))
        fprintf(stderr, "barid status: --sort is one of name, ready, unacked, in, out, oldest, parked, memory, disk\n");
    else if (config_switch(&c, "once") || config_switch(&c, "json") || !isatty(STDOUT_FILENO)) code = show_once(&c);
    else code = show_live(&c);
    config_release(&c);
    return code;
}
