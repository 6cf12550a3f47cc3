// GET /message/{message_id}/media: the bytes, whole or one range of them, a chunk at a time: one is read from the
// data store while the one before it is with the socket.
#include "http/api.h"
#include "http/disposition.h"
#include "http/range.h"
#include "http/request.h"

#include "base/assert.h"
#include "base/hex.h"
#include "datastore/datastore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK     (64 * 1024)
#define STALLED_S 30 // the peer takes nothing for this long: closed
#define ETAG_TEXT 72

struct download {
    struct request *r;
    struct ds_reader *from; // NULL until opened
    struct buf headers;
    uint64_t at, end; // [at, end) is still to be sent
    bool busy;        // opening or reading
    bool gone;
    int status;
};

static void end(struct download *d) {
    struct request *r = d->r;
    if (d->from != NULL) ds_reader_free(d->from);
    buf_release(&d->headers);
    r->stream = NULL;
    r->on_write = NULL;
    r->on_gone = NULL;
    free(d);
}

static void on_gone(struct request *r) {
    struct download *d = r->stream;
    d->gone = true;
    if (d->busy) return;
    bool answered = r->answered;
    end(d);
    if (answered) request_free_if_done(r);
    else request_release(r);
}

// What went wrong after the head went out can only be told by closing.
static void break_off(struct download *d) { lws_set_timeout(d->r->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC); }

static void on_chunk(void *arg, enum err err, const uint8_t *data, size_t n) {
    struct download *d = arg;
    d->busy = false;
    if (d->gone) {
        on_gone(d->r);
        return;
    }
    if (err != ERR_OK || n == 0) {
        break_off(d);
        return;
    }
    d->at += n;
    d->r->http->counters.bytes_out += n;
    lws_set_timeout(d->r->wsi, PENDING_TIMEOUT_HTTP_CONTENT, STALLED_S);
    if (lws_write(d->r->wsi, (unsigned char *)data, n, LWS_WRITE_HTTP) < 0) break_off(d);
    else lws_callback_on_writable(d->r->wsi);
}

static bool on_write(struct request *r) {
    struct download *d = r->stream;
    if (d->busy) return false;
    if (d->at == d->end || r->head) {
        end(d);
        return true;
    }
    uint64_t left = d->end - d->at;
    d->busy = true;
    ds_reader_read(d->from, d->at, left < CHUNK ? (size_t)left : CHUNK, on_chunk, d);
    return false;
}

static void on_opened(void *arg, enum err err, struct ds_reader *reader, uint64_t bytes) {
    struct download *d = arg;
    struct request *r = d->r;
    d->busy = false;
    d->from = err == ERR_OK ? reader : NULL;
    if (d->gone) {
        on_gone(r);
        return;
    }
    if (err != ERR_OK || d->end > bytes) {
        struct error e;
        error_set(&e, err == ERR_NOT_FOUND ? ERR_GONE : err != ERR_OK ? err : ERR_CORRUPT, "the content is gone");
        end(d);
        request_fail(r, &e);
        return;
    }
    r->on_write = on_write;
    request_answer_stream(r, d->status, buf_cstr(&d->headers), d->end - d->at);
}

static bool etag_matches(struct request *r, enum lws_token_indexes header, const char *etag) {
    char text[512];
    return request_header(r, header, text, sizeof text) && (strcmp(text, "*") == 0 || strstr(text, etag) != NULL);
}

// If-Range is not among libwebsockets' known headers in every build; it is asked for by name.
static bool range_is_current(struct request *r, const char *etag) {
    char text[ETAG_TEXT + 8];
    return !request_custom_header(r, "if-range:", text, sizeof text) || strcmp(text, etag) == 0;
}

static void write_headers(struct buf *b, const struct chat_content *c, const char *etag) {
    buf_init(b, 8192);
    buf_printf(b, "Content-Type: %s\r\nETag: %s\r\nAccept-Ranges: bytes\r\n", c->media_type, etag);
    buf_add_str(b, "Content-Disposition: ");
    disposition_write(b, c->media_type, c->filename);
    buf_add_str(b, "\r\nContent-Security-Policy: sandbox; default-src 'none'\r\n"
                   "Cache-Control: private, no-cache\r\n");
}

static void open_content(struct request *r, const struct chat_content *c, struct buf *headers, int status,
                         uint64_t from, uint64_t to) {
    struct download *d = calloc(1, sizeof *d);
    if (d == NULL) {
        buf_release(headers);
        request_fail_with(r, 503, "nomem", "out of memory", "Retry-After: 1\r\n");
        return;
    }
    *d = (struct download){.r = r, .headers = *headers, .at = from, .end = to, .status = status, .busy = true};
    r->stream = d;
    r->on_gone = on_gone;
    datastore_read(r->http->o.datastore, c->sha256, on_opened, d);
}

static void serve(struct request *r, const struct chat_content *c) {
    char etag[ETAG_TEXT], hex[65], range[128];
    hex_encode(c->sha256, sizeof c->sha256, hex);
    snprintf(etag, sizeof etag, "\"%s\"", hex);
    struct buf headers;
    write_headers(&headers, c, etag);
    if (etag_matches(r, WSI_TOKEN_HTTP_IF_NONE_MATCH, etag)) {
        request_answer_as(r, 304, NULL, buf_cstr(&headers), "", 0);
        buf_release(&headers);
        return;
    }
    uint64_t first = 0, last = 0;
    enum range part = RANGE_WHOLE;
    if (request_header(r, WSI_TOKEN_HTTP_RANGE, range, sizeof range) && range_is_current(r, etag))
        part = range_parse(range, c->bytes, &first, &last);
    if (part == RANGE_UNSATISFIABLE) {
        buf_release(&headers);
        char line[64];
        snprintf(line, sizeof line, "Content-Range: bytes */%llu\r\n", (unsigned long long)c->bytes);
        request_fail_with(r, 416, "invalid", "the range is not within the content", line);
        return;
    }
    if (part == RANGE_PART)
        buf_printf(&headers, "Content-Range: bytes %llu-%llu/%llu\r\n", (unsigned long long)first,
                   (unsigned long long)last, (unsigned long long)c->bytes);
    bool whole = part == RANGE_WHOLE;
    open_content(r, c, &headers, whole ? 200 : 206, first, whole ? c->bytes : last + 1);
}

static void on_content(void *arg, const struct error *error, const struct chat_content *ok) {
    struct request *r = arg;
    if (ok == NULL) request_fail(r, error);
    else if (r->wsi == NULL) request_release(r);
    else if (ok->kind != CHAT_MEDIA) request_fail_with(r, 404, "not_found", "this message is a text", "");
    else serve(r, ok);
}

void api_media_download(struct request *r) {
    struct id id;
    if (request_message_id(r, &id)) chat_content_get(r->http->o.chat, &r->who, &id, on_content, r);
}
