// Answers: the head, the body, errors as JSON, and writing them out.
#include "http/request.h"

#include "base/assert.h"
#include "base/io.h"
#include "http/json_out.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FRAME_KEEP (1 << 20)
#define LINGER_MS  2000

// Of one length: the first is turned into the second when it comes to that. The space at the end is no part of the
// value.
#define CONNECTION_KEPT   "Connection: keep-alive\r\n"
#define CONNECTION_CLOSED "Connection: close     \r\n"

static const char *status_text(int status) {
    switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 206: return "Partial Content";
    case 304: return "Not Modified";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 409: return "Conflict";
    case 410: return "Gone";
    case 411: return "Length Required";
    case 413: return "Content Too Large";
    case 416: return "Range Not Satisfiable";
    case 422: return "Unprocessable Content";
    case 426: return "Upgrade Required";
    case 429: return "Too Many Requests";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 505: return "HTTP Version Not Supported";
    }
    return "Unknown";
}

// ---- errors ---------------------------------------------------------------------------------------------

int error_status(const struct error *e) {
    switch (e->code) {
    case ERR_OK: return 200;
    case ERR_INVALID: return 422;
    case ERR_UNAUTHORIZED: return 401;
    case ERR_FORBIDDEN: return 403;
    case ERR_NOT_FOUND: return 404;
    case ERR_GONE: return 410;
    case ERR_CONFLICT: return 409;
    case ERR_TOO_LARGE: return 413;
    case ERR_LIMIT:
    case ERR_RATE: return 429;
    case ERR_BUSY:
    case ERR_FULL:
    case ERR_CLOSED:
    case ERR_TIMEOUT:
    case ERR_UNAVAILABLE: return 503;
    case ERR_UNSUPPORTED: return 501;
    case ERR_IO:
    case ERR_CORRUPT:
    case ERR_VERSION:
    case ERR_LOCKED:
    case ERR_NOMEM:
    case ERR_DATABASE:
    case ERR_COUNT: return 500;
    }
    return 500;
}

// The field of a limit error may say how many seconds to wait.
uint32_t error_retry_after(const struct error *e) {
    int status = error_status(e);
    if (status != 429 && status != 503) return 0;
    unsigned long told = strtoul(e->field, NULL, 10);
    if (told > 0) return told < 86400 ? (uint32_t)told : 86400;
    if (e->code == ERR_LIMIT) return 60;
    return e->code == ERR_FULL ? 10 : 1;
}

// Inner errors keep their details for the log; the caller learns that it was not their fault.
static const char *public_text(const struct error *e) {
    if (error_status(e) == 500) return "an error on the server's side; it is in its log";
    return e->text[0] != '\0' ? e->text : err_text(e->code);
}

void error_write(struct buf *b, const char *key, const struct error *e) {
    json_open(b, key, '{');
    json_text(b, "code", error_status(e) == 500 ? "internal" : err_name(e->code));
    if (e->code == ERR_INVALID && e->field[0] != '\0') json_text(b, "field", e->field);
    json_text(b, "reason", public_text(e));
    json_close(b, '}');
}

// ---- the head -------------------------------------------------------------------------------------------

static const char *date(struct http *h) {
    time_t now = (time_t)(io_wall_ms(h->o.io) / 1000);
    if (now != h->date_s) {
        struct tm tm;
        gmtime_r(&now, &tm);
        strftime(h->date, sizeof h->date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        h->date_s = now;
    }
    return h->date;
}

static void write_head(struct request *r, int status, const char *type, const char *headers, uint64_t length) {
    struct buf *b = &r->out;
    buf_clear(b);
    buf_printf(b, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status, status_text(status), date(r->http));
    if (type != NULL) buf_printf(b, "Content-Type: %s\r\n", type);
    if (status != 204 && status != 304) buf_printf(b, "Content-Length: %llu\r\n", (unsigned long long)length);
    if (strstr(headers, "Cache-Control:") == NULL) buf_add_str(b, "Cache-Control: no-store\r\n");
    buf_add_str(b, "X-Content-Type-Options: nosniff\r\n");
    buf_add_str(b, CONNECTION_KEPT);
    if (status == 401) buf_add_str(b, "WWW-Authenticate: Bearer realm=\"barid\"\r\n");
    buf_add_str(b, headers);
    buf_add(b, "\r\n", 2);
}

void request_want_write(struct request *r) {
    request_go_on_reading(r); // a connection held back from reading is not told that it may write
    lws_callback_on_writable(r->wsi);
}

// libwebsockets 4.1 reads a pipelined request with a body wrongly: it takes the request's own head for its body, and
// may never come back. So a connection on which the next request is here already is closed after this answer, which
// HTTP allows; clients that pipeline send the rest again. What libwebsockets has stashed away can be seen only for all
// connections together, so now and then another one is closed with it.
static bool has_pipelined(const struct request *r) { return lws_service_adjust_timeout(r->http->context, 1, 0) == 0; }

static void settle_connection(struct request *r) {
    if (has_pipelined(r)) r->keep_alive = false;
    if (r->keep_alive) return;
    char *line = strstr(buf_cstr(&r->out), CONNECTION_KEPT);
    ASSERT(line != NULL && sizeof CONNECTION_KEPT == sizeof CONNECTION_CLOSED);
    memcpy(line, CONNECTION_CLOSED, sizeof CONNECTION_CLOSED - 1);
}

static void count(struct request *r, int status) { r->http->counters.answers[status / 100 % 6]++; }

// False: there is nobody to answer any more, and r is gone.
static bool begin_answer(struct request *r, int status) {
    ASSERT(!r->answered);
    r->answered = true;
    count(r, status);
    if (r->wsi == NULL) {
        request_free_if_done(r);
        return false;
    }
    // A body that is refused half way is not waited for when it is large, or when its sender waits for us.
    char expects[32];
    if (!r->body_complete &&
        (r->length > BODY_MAX || request_header(r, WSI_TOKEN_HTTP_EXPECT, expects, sizeof expects)))
        r->keep_alive = false;
    if (!r->body_complete && !r->keep_alive) r->unread = true;
    if (r->http->draining) r->keep_alive = false;
    return true;
}

void request_answer_as(struct request *r, int status, const char *type, const char *headers, const void *body,
                       size_t n) {
    if (!begin_answer(r, status)) return;
    r->on_body = NULL;
    r->on_gone = NULL;
    write_head(r, status, type, headers, n);
    if (!r->head) buf_add(&r->out, body, n);
    ASSERT(buf_ok(&r->out));
    request_want_write(r);
}

struct buf *request_out(struct request *r) {
    struct buf *b = &r->http->frame;
    if (b->cap > FRAME_KEEP) buf_release(b);
    buf_clear(b);
    return b;
}

void request_answer(struct request *r, int status) {
    struct buf *b = &r->http->frame;
    if (!buf_ok(b)) {
        request_fail_with(r, 500, "internal", "the answer is larger than an answer may be", "");
        return;
    }
    request_answer_as(r, status, status == 204 ? NULL : "application/json", "", b->data, b->len);
}

void request_answer_stream(struct request *r, int status, const char *headers, uint64_t length) {
    ASSERT(r->on_write != NULL && r->on_gone != NULL && r->wsi != NULL);
    begin_answer(r, status);
    write_head(r, status, NULL, headers, length);
    list_push_back(&r->http->streams, &r->streaming);
    request_want_write(r);
}

// While an answer is streamed libwebsockets waits for room and for input alike, and does not read the input: whoever
// sends some and takes nothing keeps the loop spinning. Nobody needs to; such a connection is closed.
void requests_sweep(struct http *h) {
    LIST_EACH_SAFE(&h->streams, at) {
        struct request *r = LIST_ITEM(at, struct request, streaming);
        if (loop_input_waits(lws_get_socket_fd(r->wsi)))
            lws_set_timeout(r->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
    }
}

void request_fail_with(struct request *r, int status, const char *code, const char *reason, const char *headers) {
    struct buf *b = request_out(r);
    json_open(b, NULL, '{');
    json_open(b, "error", '{');
    json_text(b, "code", code);
    json_text(b, "reason", reason);
    json_close(b, '}');
    json_close(b, '}');
    request_answer_as(r, status, "application/json", headers, b->data, b->len);
}

void request_fail(struct request *r, const struct error *e) {
    char headers[40] = "";
    uint32_t wait = error_retry_after(e);
    if (wait > 0) snprintf(headers, sizeof headers, "Retry-After: %u\r\n", wait);
    struct buf *b = request_out(r);
    json_open(b, NULL, '{');
    error_write(b, "error", e);
    json_close(b, '}');
    request_answer_as(r, error_status(e), "application/json", headers, b->data, b->len);
}

// ---- writing --------------------------------------------------------------------------------------------

// Closing on a peer that is still sending would reset the connection, and the answer might never be read.
static int linger(struct conn *c, struct lws *wsi) {
    c->linger_until_ms = loop_now_ms(c->http->o.loop) + LINGER_MS;
    lws_set_timeout(wsi, PENDING_TIMEOUT_USER_OK, LINGER_MS / 1000);
    return 0;
}

static int finish(struct request *r) {
    struct lws *wsi = r->wsi;
    struct conn *c = r->conn;
    bool keep = r->keep_alive, unread = r->unread, pipelined = has_pipelined(r);
    list_remove(&r->streaming);
    c->request = NULL;
    r->conn = NULL;
    r->wsi = NULL;
    request_free_if_done(r);
    if (keep && !pipelined) return lws_http_transaction_completed(wsi) ? -1 : 0;
    return unread ? linger(c, wsi) : -1;
}

int request_writable(struct request *r) {
    if (!r->answered) return 0;
    // On a connection that is to be kept the rest of the body goes first, and its end calls again: libwebsockets
    // spins for ever over a transaction that is completed before its body.
    if (r->keep_alive && !r->body_complete) return 0;
    if (r->out.len > 0) {
        settle_connection(r);
        int n = lws_write(r->wsi, r->out.data, r->out.len, LWS_WRITE_HTTP);
        if (n < 0) return -1;
        r->http->counters.bytes_out += r->out.len;
        buf_release(&r->out);
    } else if (lws_partial_buffered(r->wsi)) {
        return 0;
    }
    return r->on_write != NULL && !r->on_write(r) ? 0 : finish(r);
}
