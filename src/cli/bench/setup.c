// Setting the stage for benchmarks of the messaging service; see setup.h. Plain blocking HTTP through libcurl.
#include "cli/bench/setup.h"

#include "base/assert.h"
#include "base/buf.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <ftw.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER_MAX (1024 * 1024)
#define PASSWORD   "a password for benchmarks"

static size_t take(char *data, size_t size, size_t n, void *arg) {
    buf_add(arg, data, size * n);
    return buf_ok(arg) ? size * n : 0;
}

// One exchange; the status, or 0 when the server cannot be reached.
static long exchange(const char *url, const char *token, const char *body, struct buf *answer) {
    static CURL *curl; // kept, so that the connection is
    char bearer[128];
    long status = 0;
    if (!curl && !(curl = curl_easy_init())) die("bench: libcurl does not start");
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (token) {
        snprintf(bearer, sizeof bearer, "Authorization: Bearer %s", token);
        headers = curl_slist_append(headers, bearer);
    }
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 30L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    if (body) curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    if (curl_easy_perform(curl) == CURLE_OK) curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    return status;
}

// POSTs `body` (stolen) to the path and gives the answer, which the caller releases. Dies unless 2xx.
static json_t *post(const struct bench_server *s, const char *path, const char *token, json_t *body) {
    char url[256];
    struct buf answer;
    buf_init(&answer, ANSWER_MAX);
    snprintf(url, sizeof url, "%s%s", s->url, path);
    char *text = json_dumps(body, JSON_COMPACT);
    long status = exchange(url, token, text, &answer);
    if (status < 200 || status > 299) die("bench: POST %s: %ld %s", path, status, buf_cstr(&answer));
    json_t *json = json_loadb((char *)answer.data, answer.len, 0, NULL);
    if (!json) die("bench: POST %s: the answer is no JSON", path);
    free(text);
    json_decref(body);
    buf_release(&answer);
    return json;
}

static void copy_field(const json_t *json, const char *name, char *out, size_t size) {
    const char *value = json_string_value(json_object_get(json, name));
    if (!value || strlen(value) >= size) die("bench: the answer has no usable %s", name);
    memcpy(out, value, strlen(value) + 1);
}

void bench_user_add(const struct bench_server *s, const char *user_id, struct bench_user *out) {
    json_decref(post(s, "/users", NULL, json_pack("{ssss}", "user_id", user_id, "password", PASSWORD)));
    json_t *session = post(s, "/sessions", NULL, json_pack("{ssss}", "user_id", user_id, "password", PASSWORD));
    snprintf(out->user_id, sizeof out->user_id, "%s", user_id);
    copy_field(session, "token", out->token, sizeof out->token);
    json_decref(session);
}

void bench_conversation_add(const struct bench_server *s, const struct bench_user *who, const char *with,
                            char out[static NAME_MAX_LENGTH + 1]) {
    json_t *made = post(s, "/conversation", who->token, json_pack("{s[ss]}", "members", who->user_id, with));
    copy_field(made, "conversation_id", out, NAME_MAX_LENGTH + 1);
    json_decref(made);
}

static double metric(const char *text, const char *name) {
    size_t n = strlen(name);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (strncmp(line, name, n) == 0 && line[n] == ' ') return strtod(line + n, NULL);
    }
    return 0;
}

struct bench_usage bench_usage(const struct bench_server *s) {
    char url[256];
    struct buf answer;
    struct bench_usage u = {0};
    buf_init(&answer, ANSWER_MAX);
    snprintf(url, sizeof url, "%s/metrics", s->url);
    if (exchange(url, NULL, NULL, &answer) == 200) {
        const char *text = buf_cstr(&answer);
        u.cpu_seconds = metric(text, "process_cpu_seconds_total");
        u.resident_bytes = (uint64_t)metric(text, "process_resident_memory_bytes");
    }
    buf_release(&answer);
    return u;
}

static void serve(const struct bench_server *s, int out) {
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0) die("bench: cannot find my own binary");
    self[n] = 0;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    dup2(out, STDOUT_FILENO);
    execl(self, self, "serve", "--data", s->data, "--http", "127.0.0.1:0", "--amqp", "127.0.0.1:0", "--management",
          "off", "--log-level", "warn", "--rate", "1000000", (char *)NULL);
    _exit(127);
}

static void spawn(struct bench_server *s, const char *dir) {
    int out[2];
    char line[256];
    snprintf(s->data, sizeof s->data, "%s/barid-bench-XXXXXX", dir);
    if (!mkdtemp(s->data) || pipe(out) < 0) die("bench: cannot make a data directory below %s", dir);
    s->pid = fork();
    if (s->pid < 0) die("bench: cannot start a server");
    if (s->pid == 0) serve(s, out[1]);
    close(out[1]);
    FILE *f = fdopen(out[0], "r");
    while (f && fgets(line, sizeof line, f)) {
        const char *at = strstr(line, "http://");
        if (at) snprintf(s->url, sizeof s->url, "%.*s", (int)strcspn(at, " \n"), at);
        if ((at = strstr(line, "amqp://")) != NULL)
            snprintf(s->amqp, sizeof s->amqp, "%.*s", (int)strcspn(at, " \n"), at);
        if (strncmp(line, "ready", 5) == 0) return;
    }
    die("bench: the server did not start");
}

static void parse_address(struct bench_server *s) {
    const char *host = strncmp(s->url, "http://", 7) == 0 ? s->url + 7 : s->url;
    char ip[64];
    snprintf(s->host, sizeof s->host, "%.*s", (int)strcspn(host, "/"), host);
    const char *colon = strrchr(s->host, ':');
    snprintf(ip, sizeof ip, "%.*s", colon ? (int)(colon - s->host) : (int)strlen(s->host), s->host);
    s->address.sin_family = AF_INET;
    s->address.sin_port = htons((uint16_t)(colon ? strtoul(colon + 1, NULL, 10) : 80));
    if (inet_pton(AF_INET, strcmp(ip, "localhost") == 0 ? "127.0.0.1" : ip, &s->address.sin_addr) != 1)
        die("bench: --url wants http://ADDRESS:PORT with an IPv4 address, not %s", s->url);
}

void bench_server_start(struct bench_server *s, const char *url, const char *dir) {
    *s = (struct bench_server){0};
    if (url) snprintf(s->url, sizeof s->url, "%s", url);
    else spawn(s, dir);
    s->url[strcspn(s->url, " \n")] = 0;
    size_t n = strlen(s->url);
    if (n && s->url[n - 1] == '/') s->url[n - 1] = 0;
    parse_address(s);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at) { return remove(path); }

void bench_server_stop(struct bench_server *s) {
    if (!s->pid) return;
    kill(s->pid, SIGTERM);
    waitpid(s->pid, NULL, 0);
    nftw(s->data, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
