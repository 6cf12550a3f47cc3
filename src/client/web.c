#include "client/web.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/crash.h"
#include "base/local_server.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY_MAX           (16u << 20)
#define CONNECT_TIMEOUT_MS 10000L
#define STALLED_SECONDS    10L

struct web {
    CURL *curl;
    char *server;
    char authorization[512];
    const atomic_bool *cancel;
    const char *crash;
    uint32_t timeout_ms, extra_ms;
    struct curl_slist *headers;
    struct buf body;
    web_progress_fn *progress;
    void *progress_arg;
    bool upload;
    web_sink_fn *sink;
    void *sink_arg;
    char why[CURL_ERROR_SIZE];
};

static void global_init(void) {
    if (curl_global_init(CURL_GLOBAL_DEFAULT)) die("libcurl does not start");
}

struct web *web_new(const char *server, const char *token, const atomic_bool *cancel) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, global_init);
    struct web *h = calloc(1, sizeof *h);
    if (!h || !(h->curl = curl_easy_init()) || !(h->server = strdup(server))) die("out of memory");
    h->cancel = cancel;
    h->timeout_ms = ANSWER_TIMEOUT_MS;
    buf_init(&h->body, BODY_MAX);
    web_set_token(h, token);
    return h;
}

void web_free(struct web *h) {
    if (!h) return;
    curl_easy_cleanup(h->curl);
    buf_release(&h->body);
    explicit_bzero(h->authorization, sizeof h->authorization);
    free(h->server);
    free(h);
}

void web_set_token(struct web *h, const char *token) {
    h->authorization[0] = 0;
    if (token && *token) snprintf(h->authorization, sizeof h->authorization, "Authorization: Bearer %s", token);
}

void web_set_timeout(struct web *h, uint32_t timeout_ms) { h->timeout_ms = timeout_ms; }
void web_extra_time(struct web *h, uint32_t extra_ms) { h->extra_ms = extra_ms; }
void web_crash_when_sent(struct web *h, const char *point) { h->crash = point; }

// ---- callbacks ------------------------------------------------------------------------------------------

static int on_progress(void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up) {
    struct web *h = arg;
    if (h->cancel && atomic_load(h->cancel)) return 1;
    if (h->crash && up_total > 0 && up == up_total) crash_point(h->crash);
    if (h->progress && h->upload) h->progress(h->progress_arg, (uint64_t)up, (uint64_t)up_total);
    if (h->progress && !h->upload) h->progress(h->progress_arg, (uint64_t)down, (uint64_t)down_total);
    return 0;
}

static size_t on_body(char *data, size_t one, size_t n, void *arg) {
    struct web *h = arg;
    long status = 0;
    curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &status);
    if (h->sink && status >= 200 && status <= 299) return h->sink(h->sink_arg, data, n) ? n : CURL_WRITEFUNC_ERROR;
    buf_add(&h->body, data, n);
    return buf_ok(&h->body) ? n : CURL_WRITEFUNC_ERROR;
}

static size_t on_read(char *out, size_t one, size_t n, void *arg) {
    FILE *file = arg;
    size_t got = fread(out, 1, one * n, file);
    return ferror(file) ? CURL_READFUNC_ABORT : got;
}

// ---- one call -------------------------------------------------------------------------------------------

static void add_header(struct web *h, const char *line) {
    struct curl_slist *longer = curl_slist_append(h->headers, line);
    if (!longer) die("out of memory");
    h->headers = longer;
}

static void begin(struct web *h, const char *path) {
    char url[2048];
    int n = snprintf(url, sizeof url, "%s%s", h->server, path);
    ASSERT(n > 0 && (size_t)n < sizeof url);
    curl_easy_reset(h->curl);
    buf_clear(&h->body);
    h->headers = NULL;
    h->why[0] = 0;
    h->progress = NULL;
    h->sink = NULL;
    h->upload = false;
    curl_easy_setopt(h->curl, CURLOPT_URL, url);
    if (server_is_local(url)) curl_easy_setopt(h->curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(h->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h->curl, CURLOPT_NOSIGNAL, 1L);
    const char *authorities = getenv("SSL_CERT_FILE"); // as OpenSSL's own users, the WebSocket among them, take it
    if (authorities && *authorities) curl_easy_setopt(h->curl, CURLOPT_CAINFO, authorities);
    curl_easy_setopt(h->curl, CURLOPT_USERAGENT, "barid");
    curl_easy_setopt(h->curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    curl_easy_setopt(h->curl, CURLOPT_ERRORBUFFER, h->why);
    curl_easy_setopt(h->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(h->curl, CURLOPT_WRITEDATA, h);
    curl_easy_setopt(h->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(h->curl, CURLOPT_XFERINFODATA, h);
    curl_easy_setopt(h->curl, CURLOPT_NOPROGRESS, 0L);
    if (h->authorization[0]) add_header(h, h->authorization);
    add_header(h, "Expect:"); // a 100-continue would cost a round trip
}

static void set_json_timeout(struct web *h) {
    curl_easy_setopt(h->curl, CURLOPT_TIMEOUT_MS, (long)h->timeout_ms + (long)h->extra_ms);
    h->extra_ms = 0;
}

// A transfer of unknown length may take long, but not stand still.
static void set_stall_timeout(struct web *h) {
    curl_easy_setopt(h->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(h->curl, CURLOPT_LOW_SPEED_TIME, STALLED_SECONDS);
}

static void no_answer(struct web *h, CURLcode code, struct answer *a) {
    enum err err = code == CURLE_OPERATION_TIMEDOUT     ? ERR_TIMEOUT
                   : code == CURLE_ABORTED_BY_CALLBACK  ? ERR_CLOSED
                   : code == CURLE_URL_MALFORMAT        ? ERR_INVALID
                   : code == CURLE_UNSUPPORTED_PROTOCOL ? ERR_INVALID
                                                        : ERR_UNAVAILABLE;
    char text[ERROR_TEXT_MAX];
    if (err == ERR_TIMEOUT) snprintf(text, sizeof text, "no answer from %.200s in time", h->server);
    else if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST)
        snprintf(text, sizeof text, "cannot connect to %.200s", h->server);
    else snprintf(text, sizeof text, "%.80s: %.150s", h->server, h->why[0] ? h->why : curl_easy_strerror(code));
    answer_none(a, err, text);
}

static void finish(struct web *h, struct answer *a) {
    curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, h->headers);
    CURLcode code = curl_easy_perform(h->curl);
    curl_slist_free_all(h->headers);
    h->headers = NULL;
    h->crash = NULL;
    if (code != CURLE_OK) {
        no_answer(h, code, a);
        return;
    }
    long status = 0;
    curl_off_t retry_after = 0;
    curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(h->curl, CURLINFO_RETRY_AFTER, &retry_after);
    if (retry_after > 3600) retry_after = 3600;
    json_t *body = h->body.len ? json_loadb((const char *)h->body.data, h->body.len, 0, NULL) : NULL;
    answer_set(a, (int)status, body, (uint32_t)(retry_after * 1000));
}

void web_call(struct web *h, const char *method, const char *path, const json_t *body, struct answer *a) {
    begin(h, path);
    set_json_timeout(h);
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    if (strcmp(method, "GET") != 0) {
        curl_easy_setopt(h->curl, CURLOPT_POST, 1L);
        curl_easy_setopt(h->curl, CURLOPT_CUSTOMREQUEST, method);
        curl_easy_setopt(h->curl, CURLOPT_POSTFIELDSIZE, text ? (long)strlen(text) : 0L);
        curl_easy_setopt(h->curl, CURLOPT_POSTFIELDS, text ? text : "");
        add_header(h, text ? "Content-Type: application/json" : "Content-Type:");
    }
    finish(h, a);
    free(text);
}

// The service takes %XX for a byte (api_upload.c) and makes the name safe in all other respects.
static void add_filename(struct web *h, const char *filename) {
    char line[1024] = "X-Filename: ";
    size_t at = strlen(line);
    for (const char *c = filename; *c && at < sizeof line - 4; c++) {
        bool plain = (unsigned char)*c > 0x20 && *c != 0x7f && *c != '%';
        if (plain) line[at++] = *c;
        else at += (size_t)snprintf(line + at, sizeof line - at, "%%%02X", (unsigned char)*c);
    }
    line[at] = 0;
    add_header(h, line);
}

void web_upload(struct web *h, const char *path, const char *media_type, const char *filename,
                web_progress_fn *progress, void *arg, struct answer *a) {
    FILE *file = fopen(path, "rb");
    if (!file || fseeko(file, 0, SEEK_END) != 0) {
        bool gone = !file && errno == ENOENT;
        answer_none(a, gone ? ERR_NOT_FOUND : ERR_IO,
                    gone ? "the copy of the file is gone" : "the file cannot be read");
        if (file) fclose(file);
        return;
    }
    curl_off_t bytes = ftello(file);
    rewind(file);
    begin(h, "/media");
    set_stall_timeout(h);
    char line[256];
    snprintf(line, sizeof line, "Content-Type: %s", media_type);
    add_header(h, line);
    if (filename) add_filename(h, filename);
    h->progress = progress;
    h->progress_arg = arg;
    h->upload = true;
    curl_easy_setopt(h->curl, CURLOPT_POST, 1L);
    curl_easy_setopt(h->curl, CURLOPT_POSTFIELDSIZE_LARGE, bytes);
    curl_easy_setopt(h->curl, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(h->curl, CURLOPT_READDATA, file);
    finish(h, a);
    fclose(file);
}

void web_download(struct web *h, const char *path, web_sink_fn *sink, void *sink_arg, web_progress_fn *progress,
                  void *arg, struct answer *a) {
    begin(h, path);
    set_stall_timeout(h);
    h->sink = sink;
    h->sink_arg = sink_arg;
    h->progress = progress;
    h->progress_arg = arg;
    finish(h, a);
}
