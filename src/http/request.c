// A request from its head to its handler; see request.h. Answers are respond.c's.
#include "http/request.h"

#include "base/assert.h"
#include "http/api.h"
#include "http/upgrade.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define AUTHORIZATION_MAX 256
#define SLOW_BODY_MS      60000 // after this long a body must have come at …
#define SLOW_BODY_RATE    1     // … so many bytes a millisecond

static const struct {
    enum lws_token_indexes token;
    const char *method;
} methods[] = {
    {WSI_TOKEN_GET_URI, "GET"},         {WSI_TOKEN_POST_URI, "POST"}, {WSI_TOKEN_HEAD_URI, "HEAD"},
    {WSI_TOKEN_DELETE_URI, "DELETE"},   {WSI_TOKEN_PUT_URI, "PUT"},   {WSI_TOKEN_PATCH_URI, "PATCH"},
    {WSI_TOKEN_OPTIONS_URI, "OPTIONS"},
};

static const char *method_of(struct lws *wsi) {
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (lws_hdr_total_length(wsi, methods[i].token) > 0) return methods[i].method;
    return "UNKNOWN";
}

// ---- the head -------------------------------------------------------------------------------------------

bool request_header(struct request *r, enum lws_token_indexes token, char *out, size_t size) {
    out[0] = '\0';
    if (r->wsi == NULL || lws_hdr_total_length(r->wsi, token) <= 0) return false;
    return lws_hdr_copy(r->wsi, out, (int)size, token) >= 0;
}

bool request_custom_header(struct request *r, const char *name, char *out, size_t size) {
    out[0] = '\0';
    if (r->wsi == NULL) return false;
    int n = (int)strlen(name);
    if (lws_hdr_custom_length(r->wsi, name, n) <= 0) return false;
    return lws_hdr_custom_copy(r->wsi, out, (int)size, name, n) >= 0;
}

bool request_query(struct request *r, const char *name, char *out, size_t size) {
    char part[ROUTE_PARAM_MAX];
    size_t n = strlen(name);
    out[0] = '\0';
    if (r->wsi == NULL) return false;
    for (int i = 0; lws_hdr_copy_fragment(r->wsi, part, sizeof part, WSI_TOKEN_HTTP_URI_ARGS, i) >= 0; i++) {
        if (strncmp(part, name, n) != 0 || part[n] != '=') continue;
        size_t length = strlen(part + n + 1);
        if (length >= size) return false;
        memcpy(out, part + n + 1, length + 1);
        return true;
    }
    return false;
}

// HTTP/1.1 keeps the connection unless told otherwise, HTTP/1.0 the other way round.
static bool wants_keep_alive(struct request *r) {
    char version[16], connection[64];
    request_header(r, WSI_TOKEN_HTTP, version, sizeof version);
    bool keep = strcmp(version, "HTTP/1.1") == 0;
    if (lws_hdr_total_length(r->wsi, WSI_TOKEN_CONNECTION) <= 0) return keep;
    if (!request_header(r, WSI_TOKEN_CONNECTION, connection, sizeof connection)) return false;
    if (strcasecmp(connection, "keep-alive") == 0) return true;
    return keep && strcasestr(connection, "close") == NULL;
}

// False: there is a Content-Length, and it is not one plain number.
static bool read_length(struct request *r) {
    char text[32];
    if (lws_hdr_total_length(r->wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH) <= 0) return true;
    if (!request_header(r, WSI_TOKEN_HTTP_CONTENT_LENGTH, text, sizeof text)) return false;
    size_t n = strlen(text);
    if (n == 0 || n > 15 || strspn(text, "0123456789") != n) return false;
    r->has_length = true;
    r->length = strtoull(text, NULL, 10);
    return true;
}

static void fail_now(struct request *r, int status, const char *code, const char *reason) {
    r->keep_alive = false;
    request_fail_with(r, status, code, reason, "");
}

// Framing that we do not take is refused with the connection closed, so that no two parties can disagree about
// where the next request begins.
static bool head_is_sound(struct request *r, const char *method) {
    bool body_expected = strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 || strcmp(method, "PATCH") == 0;
    char version[16];
    request_header(r, WSI_TOKEN_HTTP, version, sizeof version);
    if (strcmp(version, "HTTP/1.1") != 0 && strcmp(version, "HTTP/1.0") != 0) {
        fail_now(r, 505, "bad_request", "HTTP/1.1 is spoken here");
        return false;
    }
    if (lws_hdr_total_length(r->wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0) {
        r->unread = true;
        fail_now(r, 411, "length_required", "send a Content-Length instead of a Transfer-Encoding");
        return false;
    }
    if (!read_length(r)) {
        fail_now(r, 400, "bad_request", "Content-Length is not a number");
        return false;
    }
    if (body_expected && !r->has_length) r->keep_alive = false; // libwebsockets would wait for a body
    return true;
}

static bool length_is_allowed(struct request *r) {
    unsigned flags = r->route->flags;
    uint64_t max = flags & ROUTE_AUTH ? BODY_MAX : STRANGER_MAX;
    if (flags & ROUTE_STREAM) max = r->http->o.upload_max_bytes;
    if (r->length <= max) return true;
    fail_now(r, 413, "too_large", "the body is larger than the limit");
    return false;
}

static bool address_has_tokens(struct request *r) {
    if (r->route != NULL && (r->route->flags & (ROUTE_AUTH | ROUTE_FREE))) return true;
    uint64_t key = rates_key(r->conn->address, strlen(r->conn->address));
    if (rates_take(&r->http->address_rates, key, loop_now_ms(r->http->o.loop))) return true;
    r->http->counters.rate_limited++;
    request_fail_with(r, 429, "rate", "too many requests from this address", "Retry-After: 1\r\n");
    return false;
}

// Files of the web page have no route of their own: any GET that fits none is looked up among them.
static const struct route files = {"GET", "/", api_static, 0};

static bool find_route(struct request *r, const char *method) {
    char allow[64], headers[96];
    r->route = route_find(method, r->path, r->param, allow, sizeof allow);
    if (r->route != NULL) return true;
    if (allow[0] != '\0') {
        snprintf(headers, sizeof headers, "Allow: %s\r\n", allow);
        request_fail_with(r, 405, "method_not_allowed", "this path does not take this method", headers);
        return false;
    }
    if (strcmp(method, "GET") == 0 || r->head) {
        r->route = &files;
        return true;
    }
    request_fail_with(r, 404, "not_found", "no such path", "");
    return false;
}

// A page of another origin can have its visitor's browser post here without asking; where no token is wanted it must
// not register anybody, or use up the tries of a log-in.
static bool origin_is_ours(struct request *r, const char *method) {
    char origin[256], host[256];
    if ((r->route->flags & (ROUTE_AUTH | ROUTE_FREE)) || strcmp(method, "POST") != 0) return true;
    if (lws_hdr_total_length(r->wsi, WSI_TOKEN_ORIGIN) <= 0) return true;
    if (request_header(r, WSI_TOKEN_ORIGIN, origin, sizeof origin) &&
        request_header(r, WSI_TOKEN_HOST, host, sizeof host) && upgrade_origin_matches(origin, host))
        return true;
    fail_now(r, 403, "forbidden", "the page is from another origin");
    return false;
}

// ---- going on -------------------------------------------------------------------------------------------

static bool device_has_tokens(struct request *r) {
    uint64_t now = loop_now_ms(r->http->o.loop);
    if (!(r->route->flags & ROUTE_AUTH) || rates_take(&r->http->device_rates, (uint64_t)r->who.did, now)) return true;
    r->http->counters.rate_limited++;
    request_fail_with(r, 429, "rate", "too many requests from this device", "Retry-After: 1\r\n");
    return false;
}

static void advance(struct request *r) {
    if (r->handled || r->answered) return;
    if ((r->route->flags & ROUTE_AUTH) && !r->authenticated) return;
    if (!(r->route->flags & ROUTE_STREAM) && !r->body_complete) return;
    r->handled = true;
    if (device_has_tokens(r)) r->route->handle(r);
}

static void on_auth(void *arg, const struct error *error, const struct chat_actor *actor) {
    struct request *r = arg;
    if (actor == NULL) {
        request_fail(r, error);
        return;
    }
    r->who = *actor;
    r->authenticated = true;
    if (r->wsi == NULL) request_release(r);
    else advance(r);
}

// Authorization: Bearer <token>
static void authenticate(struct request *r) {
    char text[AUTHORIZATION_MAX];
    struct error e;
    if (!request_header(r, WSI_TOKEN_HTTP_AUTHORIZATION, text, sizeof text) || strncasecmp(text, "Bearer ", 7) != 0) {
        error_set(&e, ERR_UNAUTHORIZED, "send Authorization: Bearer <token>");
        request_fail(r, &e);
        return;
    }
    const char *token = text + 7 + strspn(text + 7, " ");
    size_t n = strlen(token);
    if (chat_auth_cached(r->http->o.chat, token, n, &r->who)) r->authenticated = true;
    else chat_auth(r->http->o.chat, token, n, on_auth, r);
}

static void expect_continue(struct request *r) {
    char text[32];
    if (!request_header(r, WSI_TOKEN_HTTP_EXPECT, text, sizeof text) || strcasecmp(text, "100-continue") != 0) return;
    unsigned char go_on[LWS_PRE + 32];
    const char *line = "HTTP/1.1 100 Continue\r\n\r\n";
    memcpy(go_on + LWS_PRE, line, strlen(line));
    lws_write(r->wsi, go_on + LWS_PRE, strlen(line), LWS_WRITE_HTTP_HEADERS);
}

static void start(struct request *r) {
    const char *method = method_of(r->wsi);
    r->head = strcmp(method, "HEAD") == 0;
    r->keep_alive = wants_keep_alive(r) && !r->http->draining;
    if (!head_is_sound(r, method)) return;
    r->body_complete = r->length == 0;
    if (r->http->draining) {
        request_fail_with(r, 503, "busy", "the server is going down", "Retry-After: 5\r\n");
        return;
    }
    if (r->conn->too_many) {
        fail_now(r, 503, "busy", "too many connections");
        return;
    }
    if (strlen(r->path) + 1 >= sizeof r->path) {
        request_fail_with(r, 404, "not_found", "no such path", "");
        return;
    }
    if (!find_route(r, method) || !origin_is_ours(r, method)) return;
    if (!length_is_allowed(r) || !address_has_tokens(r)) return;
    if (r->route->flags & ROUTE_AUTH) authenticate(r);
    if (r->answered) return;
    if (!r->body_complete) expect_continue(r);
    if ((r->route->flags & ROUTE_STREAM) || r->body_complete) request_stop_reading(r);
    advance(r);
}

int request_begin(struct conn *c, struct lws *wsi, const char *path) {
    ASSERT(c->request == NULL);
    struct request *r = calloc(1, sizeof *r);
    if (r == NULL) return -1;
    *r = (struct request){.http = c->http, .conn = c, .wsi = wsi, .began_ms = loop_now_ms(c->http->o.loop)};
    size_t n = strnlen(path, sizeof r->path - 1);
    memcpy(r->path, path, n);
    buf_init(&r->body, BODY_MAX + 65536);
    buf_init(&r->out, PAGE_MAX + 4096);
    c->request = r;
    c->http->requests_open++;
    c->http->counters.requests++;
    start(r);
    // libwebsockets allows a time for the body; there is none to come.
    if (r->body_complete) lws_set_timeout(wsi, NO_PENDING_TIMEOUT, 0);
    return 0;
}

// ---- the body -------------------------------------------------------------------------------------------

int request_body(struct request *r, const void *data, size_t n) {
    if (n == 0 || r->answered || r->body_complete) return 0; // what comes after the answer is thrown away
    r->taken += n;
    uint64_t took = loop_now_ms(r->http->o.loop) - r->began_ms;
    if (took > SLOW_BODY_MS && r->taken / SLOW_BODY_RATE < took) return -1;
    buf_add(&r->body, data, n);
    if (!buf_ok(&r->body)) return -1; // a stream's handler stops reading long before
    if (r->on_body != NULL) r->on_body(r);
    return 0;
}

int request_body_end(struct request *r) {
    if (r->body_complete) return 0;
    r->body_complete = true;
    request_stop_reading(r);
    lws_set_timeout(r->wsi, NO_PENDING_TIMEOUT, 0);
    if (r->answered) {
        request_want_write(r);
        return 0;
    }
    if (r->on_body != NULL) r->on_body(r);
    else advance(r);
    return 0;
}

void request_stop_reading(struct request *r) {
    if (r->wsi == NULL || r->reading_stopped) return;
    r->reading_stopped = true;
    lws_rx_flow_control(r->wsi, 0);
}

void request_go_on_reading(struct request *r) {
    if (r->wsi == NULL || !r->reading_stopped) return;
    r->reading_stopped = false;
    lws_rx_flow_control(r->wsi, 1);
}

json_t *request_json(struct request *r) {
    struct error e;
    json_t *o = json_in_parse(r->body.data != NULL ? r->body.data : (const uint8_t *)"", r->body.len, &e);
    buf_release(&r->body);
    if (o == NULL) request_fail_with(r, 400, "bad_request", e.text, "");
    return o;
}

bool request_message_id(struct request *r, struct id *out) {
    if (id_parse(r->param, strlen(r->param), out)) return true;
    request_fail_with(r, 404, "not_found", "no such message", "");
    return false;
}

// ---- the end --------------------------------------------------------------------------------------------

void request_free_if_done(struct request *r) {
    if (!r->answered || r->wsi != NULL) return;
    r->http->requests_open--;
    list_remove(&r->streaming);
    buf_release(&r->body);
    buf_release(&r->out);
    free(r);
}

void request_release(struct request *r) {
    ASSERT(r->wsi == NULL && !r->answered);
    r->answered = true;
    request_free_if_done(r);
}

void request_gone(struct request *r) {
    list_remove(&r->streaming);
    void (*gone)(struct request *) = r->on_gone;
    r->conn->request = NULL;
    r->conn = NULL;
    r->wsi = NULL;
    r->on_gone = NULL;
    if (gone != NULL) gone(r);
    else request_free_if_done(r);
}
