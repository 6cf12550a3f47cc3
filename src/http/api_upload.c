// POST /media: the body streams into the data store as it comes. While one piece is being written the next
// gathers in the request's body buffer; past READ_AHEAD the connection is not read any further.
#include "http/api.h"
#include "http/json_out.h"
#include "http/request.h"

#include <stdlib.h>
#include <string.h>

#define READ_AHEAD (64 * 1024)

struct upload {
    struct request *r;
    struct chat_upload *to; // NULL until opened
    bool busy;              // a write, or the finish, is under way
    bool finishing;
    bool gone; // the peer has gone
};

static void go_on(struct upload *u);

static void end(struct upload *u) {
    u->r->stream = NULL;
    u->r->on_body = NULL;
    u->r->on_gone = NULL;
    free(u);
}

// The peer has gone and nothing is under way.
static void drop(struct upload *u) {
    struct request *r = u->r;
    if (u->to != NULL) chat_upload_abort(u->to);
    end(u);
    request_release(r);
}

static void fail(struct upload *u, const struct error *error) {
    struct request *r = u->r;
    if (u->gone) {
        drop(u);
        return;
    }
    if (u->to != NULL) chat_upload_abort(u->to);
    end(u);
    request_fail(r, error);
}

static void on_finished(void *arg, const struct error *error, const struct chat_ticket *ok) {
    struct upload *u = arg;
    struct request *r = u->r;
    u->to = NULL; // finish has let go of it, whatever came of it
    if (ok == NULL || u->gone) {
        fail(u, error);
        return;
    }
    end(u);
    struct buf *b = request_out(r);
    json_open(b, NULL, '{');
    json_text(b, "ticket", ok->ticket);
    json_uint(b, "bytes", ok->bytes);
    json_hex(b, "sha256", ok->sha256, sizeof ok->sha256);
    json_text(b, "media_type", ok->media_type);
    json_text_opt(b, "filename", ok->filename);
    json_close(b, '}');
    request_answer(r, 201);
}

static void on_written(void *arg, const struct error *error) {
    struct upload *u = arg;
    u->busy = false;
    if (error != NULL) fail(u, error);
    else if (u->gone) drop(u);
    else go_on(u);
}

static void go_on(struct upload *u) {
    struct request *r = u->r;
    if (u->to == NULL || u->busy || u->finishing) return;
    if (r->body.len > 0) {
        u->busy = true;
        chat_upload_write(u->to, r->body.data, r->body.len, on_written, u);
        buf_clear(&r->body);
    } else if (r->body_complete) {
        u->busy = u->finishing = true;
        chat_upload_finish(u->to, on_finished, u);
    }
    if (!r->body_complete) request_go_on_reading(r);
}

static void on_body(struct request *r) {
    struct upload *u = r->stream;
    if (r->body.len >= READ_AHEAD) request_stop_reading(r);
    go_on(u);
}

static void on_gone(struct request *r) {
    struct upload *u = r->stream;
    u->gone = true;
    if (!u->busy) drop(u);
}

static void on_opened(void *arg, const struct error *error, struct chat_upload *ok) {
    struct upload *u = arg;
    u->busy = false;
    u->to = ok;
    if (ok == NULL) fail(u, error);
    else if (u->gone) drop(u);
    else go_on(u);
}

// %XX in X-Filename stands for a byte, so that a header can carry any name.
static void percent_decode(char *text) {
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        char two[3] = {0};
        if (*from == '%' && strspn(from + 1, "0123456789abcdefABCDEF") >= 2) {
            memcpy(two, from + 1, 2);
            *to++ = (char)strtoul(two, NULL, 16);
            from += 2;
        } else {
            *to++ = *from;
        }
    }
    *to = '\0';
}

void api_media_upload(struct request *r) {
    char type[128], filename[512];
    if (!request_header(r, WSI_TOKEN_HTTP_CONTENT_TYPE, type, sizeof type))
        memcpy(type, "application/octet-stream", sizeof "application/octet-stream");
    bool named = request_custom_header(r, "x-filename:", filename, sizeof filename);
    if (named) percent_decode(filename);
    struct upload *u = calloc(1, sizeof *u);
    if (u == NULL) {
        request_fail_with(r, 503, "nomem", "out of memory", "Retry-After: 1\r\n");
        return;
    }
    *u = (struct upload){.r = r, .busy = true};
    r->stream = u;
    r->on_body = on_body;
    r->on_gone = on_gone;
    chat_upload_open(r->http->o.chat, &r->who, type, named ? filename : NULL, r->length, on_opened, u);
}
