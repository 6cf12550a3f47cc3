// Asking a running server: its management API, over libcurl.
#include "base/assert.h"
#include "base/buf.h"
#include "base/local_server.h"
#include "cli/broker.h"
#include "cli/password.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX ((size_t)1 << 30)
#define CONNECT_S  10L
#define WAIT_S     600L // definitions with many passwords to hash take their time
#define URL_MAX    4096

struct broker_web {
    CURL *curl;
    const struct broker_command *command;
    char *password;
};

enum err broker_http_open(void **self, const struct broker_command *c, struct error *e) {
    static const struct password_source source = {"--password-file", "BARID_BROKER_PASSWORD",
                                                  "Password of the broker's user: "};
    const char *environment = getenv(source.environment);
    bool guest =
        strcmp(c->user, "guest") == 0 && c->password_file == NULL && (environment == NULL || *environment == '\0');
    struct broker_web *w = calloc(1, sizeof *w);
    if (w == NULL) return error_set(e, ERR_NOMEM, "out of memory");
    w->command = c;
    w->password = guest ? strdup("guest") : cli_password_of(&source, c->password_file, false, e);
    w->curl = w->password != NULL ? curl_easy_init() : NULL;
    if (w->curl != NULL) {
        *self = w;
        return ERR_OK;
    }
    cli_password_release(w->password);
    free(w);
    return e->code != ERR_OK ? e->code : error_set(e, ERR_NOMEM, "out of memory");
}

static void web_close(void *self) {
    struct broker_web *w = self;
    curl_easy_cleanup(w->curl);
    cli_password_release(w->password);
    free(w);
}

static size_t on_data(char *data, size_t size, size_t n, void *arg) {
    buf_add(arg, data, size * n);
    return buf_ok(arg) ? size * n : 0;
}

// http://host:port/api/vhosts/%2F, and after a word "?" what follows it as it is
static bool make_url(struct broker_web *w, const char *const *path, struct buf *url) {
    const char *server = w->command->server;
    size_t n = strlen(server);
    while (n > 0 && server[n - 1] == '/') n--;
    buf_add(url, server, n);
    buf_add_str(url, "/api");
    for (; *path != NULL && strcmp(*path, "?") != 0; path++) {
        char *safe = curl_easy_escape(w->curl, *path, (int)strlen(*path));
        if (safe == NULL) return false;
        buf_add_str(url, "/");
        buf_add_str(url, safe);
        curl_free(safe);
    }
    if (*path != NULL) {
        buf_add_str(url, "?");
        buf_add_str(url, path[1]);
    }
    buf_cstr(url);
    return buf_ok(url);
}

static void set_up(struct broker_web *w, const char *method, const char *url, const char *body, struct buf *answer,
                   struct curl_slist *headers) {
    CURL *c = w->curl;
    curl_easy_reset(c);
    curl_easy_setopt(c, CURLOPT_URL, url);
    if (server_is_local(url)) curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(c, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
    curl_easy_setopt(c, CURLOPT_USERNAME, w->command->user);
    curl_easy_setopt(c, CURLOPT_PASSWORD, w->password);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
    curl_easy_setopt(c, CURLOPT_TIMEOUT, WAIT_S);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    const char *authorities = getenv("SSL_CERT_FILE");
    if (authorities != NULL && *authorities != '\0') curl_easy_setopt(c, CURLOPT_CAINFO, authorities);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, answer);
    if (body == NULL) return;
    curl_easy_setopt(c, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
}

// RabbitMQ's errors are {"error":…,"reason":…}, and the reason is the sentence.
static const char *reason_of(const json_t *answer, long status, char *otherwise, size_t size) {
    const char *reason = broker_text(answer, "reason");
    if (*reason == '\0') reason = broker_text(answer, "error");
    if (*reason != '\0') return reason;
    snprintf(otherwise, size, "the server answered %ld", status);
    return otherwise;
}

static enum err verdict(struct broker_web *w, long status, const json_t *answer, const char *what, struct error *e) {
    char text[64];
    const struct broker_command *c = w->command;
    if (status >= 200 && status < 300) return ERR_OK;
    const char *reason = reason_of(answer, status, text, sizeof text);
    switch (status) {
    case 401:
        // RabbitMQ's way of saying it, and ours
        if (strcmp(reason, "Not_Authorized") == 0 || strcmp(reason, "Login failed") == 0)
            reason = "name or password is wrong";
        return error_set(e, ERR_UNAUTHORIZED, "%.60s refuses %.60s: %.60s; --user and --password-file say who asks",
                         c->server, c->user, reason);
    case 403: return error_set(e, ERR_FORBIDDEN, "%.60s may not do this: %.120s", c->user, reason);
    case 404: return error_set(e, ERR_NOT_FOUND, "there is no %.200s", what);
    case 409: return error_set(e, ERR_CONFLICT, "%.200s", reason);
    case 400:
    case 422: return error_set(e, ERR_INVALID, "%.220s", reason);
    case 429:
    case 503: return error_set(e, ERR_BUSY, "%.60s cannot do it now: %.150s", c->server, reason);
    default: return error_set(e, ERR_UNSUPPORTED, "%.60s answered %ld: %.150s", c->server, status, reason);
    }
}

static enum err unreachable(const struct broker_command *c, CURLcode code, struct error *e) {
    if (code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL)
        return error_set(e, ERR_INVALID, "%.100s is no URL of a server", c->server);
    if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST)
        return error_set(e, ERR_UNAVAILABLE,
                         "nothing answers at %.80s: is `barid serve` running? --server names another place, --data "
                         "DIR works on the data of a server that is not running",
                         c->server);
    return error_set(e, ERR_UNAVAILABLE, "%.100s: %.120s", c->server, curl_easy_strerror(code));
}

// "user ann", for a sentence
static void name_thing(const char *const *path, char *out, size_t size) {
    size_t n = strlen(path[0]);
    if (path[1] == NULL) snprintf(out, size, "/api/%s there: is it a management API?", path[0]);
    else if (strcmp(path[0], "parked") == 0)
        snprintf(out, size,
                 path[3] == NULL || path[3][0] == '?' ? "queue %s in %s" : "such message parked by queue %s in %s",
                 path[2], path[1]);
    else if (path[2] == NULL) snprintf(out, size, "%.*s %s", n > 1 ? (int)n - 1 : (int)n, path[0], path[1]);
    else snprintf(out, size, "such permission of %s in %s", path[2], path[1]);
}

static enum err perform(struct broker_web *w, const char *what, struct buf *data, json_t **answer, struct error *e) {
    long status = 0;
    CURLcode code = curl_easy_perform(w->curl);
    if (code != CURLE_OK) return unreachable(w->command, code, e);
    curl_easy_getinfo(w->curl, CURLINFO_RESPONSE_CODE, &status);
    json_t *body = data->len > 0 ? json_loadb((const char *)data->data, data->len, JSON_DECODE_ANY, NULL) : NULL;
    enum err err = verdict(w, status, body, what, e);
    if (err == ERR_OK && data->len > 0 && body == NULL)
        err = error_set(e, ERR_UNSUPPORTED, "the answer of %.100s is not JSON: is it a management API?",
                        w->command->server);
    if (err == ERR_OK) *answer = body;
    else json_decref(body);
    return err;
}

static enum err web_call(void *self, const char *method, const char *const *path, const json_t *body, json_t **answer,
                         struct error *e) {
    struct broker_web *w = self;
    struct buf url, data;
    char what[600];
    buf_init(&url, URL_MAX);
    buf_init(&data, ANSWER_MAX);
    name_thing(path, what, sizeof what);
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    enum err err;
    if (!make_url(w, path, &url)) {
        err = error_set(e, ERR_TOO_LARGE, "the name is too long");
    } else {
        set_up(w, method, buf_cstr(&url), text, &data, headers);
        err = perform(w, what, &data, answer, e);
    }
    curl_slist_free_all(headers);
    if (text != NULL) explicit_bzero(text, strlen(text)); // there may be a password in it
    free(text);
    buf_release(&data);
    buf_release(&url);
    return err;
}

const struct broker_kind broker_http = {web_call, web_close};
