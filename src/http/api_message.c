// Messages: sending, fetching, receipts, the journey.
#include "http/api.h"
#include "http/json_out.h"
#include "http/request.h"

void api_write_accepted(struct buf *b, const struct chat_accepted *a) {
    json_id(b, "message_id", &a->message_id);
    json_text(b, "conversation_id", a->conversation_id);
    json_uint(b, "seq", a->seq);
    json_text(b, "state", "accepted");
    json_time(b, "accepted_at", a->accepted_at_ms);
    if (a->duplicate) json_flag(b, "duplicate", true);
}

void api_write_content(struct buf *b, const struct chat_content *c) {
    json_id(b, "message_id", &c->message_id);
    json_text(b, "conversation_id", c->conversation_id);
    json_uint(b, "seq", c->seq);
    json_text(b, "by_user_id", c->by_user_id);
    json_text(b, "kind", c->kind == CHAT_TEXT ? "text" : "media");
    json_uint(b, "bytes", c->kind == CHAT_TEXT ? c->text_length : c->bytes);
    json_time(b, "accepted_at", c->accepted_at_ms);
    if (c->kind == CHAT_TEXT) {
        json_text_n(b, "message_text", c->text, c->text_length);
        return;
    }
    json_text(b, "media_type", c->media_type);
    json_text_opt(b, "filename", c->filename);
    json_hex(b, "sha256", c->sha256, sizeof c->sha256);
}

static void on_accepted(void *arg, const struct error *error, const struct chat_accepted *ok) {
    struct request *r = arg;
    if (ok == NULL) {
        request_fail(r, error);
        return;
    }
    struct buf *b = request_out(r);
    json_open(b, NULL, '{');
    api_write_accepted(b, ok);
    json_close(b, '}');
    request_answer(r, ok->duplicate ? 200 : 202);
}

void api_message_send(struct request *r) {
    json_t *o = request_json(r);
    if (o == NULL) return;
    struct chat_send m = {.conversation_id = r->param};
    struct error e;
    if (json_in_send(o, &m, &e)) chat_send(r->http->o.chat, &r->who, &m, on_accepted, r);
    else request_fail(r, &e);
    json_decref(o);
}

static void on_content(void *arg, const struct error *error, const struct chat_content *ok) {
    struct request *r = arg;
    if (ok == NULL) {
        request_fail(r, error);
        return;
    }
    struct buf *b = request_out(r);
    json_open(b, NULL, '{');
    api_write_content(b, ok);
    json_close(b, '}');
    request_answer(r, 200);
}

void api_message_get(struct request *r) {
    struct id id;
    if (request_message_id(r, &id)) chat_content_get(r->http->o.chat, &r->who, &id, on_content, r);
}

// Both receipts answer with the message's id and what is now true of it.
static void answer_receipt(struct request *r, const struct error *error, const char *state) {
    struct id id;
    if (error != NULL) {
        request_fail(r, error);
        return;
    }
    if (!request_message_id(r, &id)) return;
    struct buf *b = request_out(r);
    json_open(b, NULL, '{');
    json_id(b, "message_id", &id);
    json_text(b, "state", state);
    json_close(b, '}');
    request_answer(r, 200);
}

static void on_received(void *arg, const struct error *error) { answer_receipt(arg, error, "received"); }
static void on_read(void *arg, const struct error *error) { answer_receipt(arg, error, "read"); }

void api_message_received(struct request *r) {
    struct id id;
    if (request_message_id(r, &id)) chat_received(r->http->o.chat, &r->who, &id, on_received, r);
}

void api_message_read(struct request *r) {
    struct id id;
    if (request_message_id(r, &id)) chat_read(r->http->o.chat, &r->who, &id, on_read, r);
}

static void write_point(struct buf *b, const struct chat_point *p) {
    json_open(b, NULL, '{');
    json_text(b, "point", p->point);
    json_time(b, "at", p->at_ms);
    json_text_opt(b, "user_id", p->user_id);
    if (p->has_device) json_id(b, "device_id", &p->device_id);
    json_text_opt(b, "detail", p->detail);
    json_close(b, '}');
}

static void on_journey(void *arg, const struct error *error, const struct id *message_id,
                       const struct chat_point *points, size_t n) {
    struct request *r = arg;
    if (error != NULL) {
        request_fail(r, error);
        return;
    }
    struct buf *b = request_out(r);
    json_open(b, NULL, '{');
    json_id(b, "message_id", message_id);
    json_open(b, "points", '[');
    for (size_t i = 0; i < n; i++) write_point(b, &points[i]);
    json_close(b, ']');
    json_close(b, '}');
    request_answer(r, 200);
}

void api_message_journey(struct request *r) {
    struct id id;
    if (request_message_id(r, &id)) chat_journey(r->http->o.chat, &r->who, &id, on_journey, r);
}
