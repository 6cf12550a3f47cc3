// Frames in: hello, ack, send, get, received, read; and chat's answers and entries on their way out.
#include "http/socket.h"

#include "base/assert.h"
#include "http/api.h"
#include "http/json_out.h"
#include "http/request.h"

#include <stdlib.h>
#include <string.h>

#define CALLS_KEPT 1024

// ---- what makes no sense --------------------------------------------------------------------------------

static void bad_frame(struct socket *s, const char *code, const char *field, const char *reason) {
    s->http->counters.bad_frames++;
    struct buf *b = socket_frame(s);
    json_open(b, NULL, '{');
    json_text(b, "type", "error");
    json_open(b, "error", '{');
    json_text(b, "code", code);
    json_text_opt(b, "field", field);
    json_text(b, "reason", reason);
    json_close(b, '}');
    json_close(b, '}');
    socket_frame_end(s);
    if (++s->bad >= BAD_MAX) socket_close(s, CLOSE_BAD_FRAMES, "too many bad frames");
}

static void bad_field(struct socket *s, const struct error *e) {
    bad_frame(s, err_name(e->code), e->field[0] != '\0' ? e->field : NULL, e->text);
}

// ---- entries --------------------------------------------------------------------------------------------

static void on_entries(void *arg, const struct chat_entry *entries, size_t n) {
    struct socket *s = arg;
    for (size_t i = 0; i < n; i++) {
        api_write_entry(socket_frame(s), &entries[i]);
        socket_frame_end(s);
    }
}

static void on_drained(void *arg) {
    struct socket *s = arg;
    struct buf *b = socket_frame(s);
    json_open(b, NULL, '{');
    json_text(b, "type", "drained");
    json_close(b, '}');
    socket_frame_end(s);
}

static void on_closed(void *arg, const char *reason) {
    struct socket *s = arg;
    static const struct {
        const char *reason;
        int code;
    } codes[] = {{"replaced", CLOSE_REPLACED}, {"slow", CLOSE_SLOW}, {"logged_out", CLOSE_UNAUTHORIZED}};
    s->link = NULL;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (strcmp(codes[i].reason, reason) == 0) {
            socket_close(s, codes[i].code, codes[i].reason);
            return;
        }
    socket_close(s, CLOSE_ERROR, "error");
}

static uint64_t in_flight(void *arg) {
    const struct socket *s = arg;
    return s->out.len + s->with_lws;
}

const struct chat_link_events socket_link_events = {
    .entries = on_entries, .drained = on_drained, .closed = on_closed, .in_flight = in_flight};

// ---- hello ----------------------------------------------------------------------------------------------

static void attach(struct socket *s, const struct chat_actor *actor) {
    s->who = *actor;
    s->state = SOCKET_ATTACHED;
    s->link = chat_attach(s->http->o.chat, &s->who, s->after, s->address, &socket_link_events, s);
    if (s->link == NULL) socket_close(s, CLOSE_ERROR, "error");
}

static void on_auth(void *arg, const struct error *error, const struct chat_actor *actor) {
    struct socket *s = arg;
    if (s->wsi != NULL && s->close_code == 0) {
        if (actor != NULL) attach(s, actor);
        else if (error->code == ERR_UNAUTHORIZED) socket_close(s, CLOSE_UNAUTHORIZED, "unauthorized");
        else socket_close(s, CLOSE_ERROR, "error");
        socket_review_reading(s);
    }
    socket_call_ended(s);
}

static void take_hello(struct socket *s, const json_t *o) {
    const char *token;
    size_t n;
    struct error e;
    bool has_after = json_object_get(o, "after") != NULL;
    if (!json_in_text(o, "token", JSON_REQUIRED, &token, &n, &e) ||
        (has_after && !json_in_uint(o, "after", &s->after, &e))) {
        bad_field(s, &e);
        socket_close(s, CLOSE_BAD_FRAMES, "bad hello");
        return;
    }
    struct chat_actor actor;
    if (chat_auth_cached(s->http->o.chat, token, n, &actor)) {
        attach(s, &actor);
        return;
    }
    s->state = SOCKET_AUTHENTICATING;
    socket_call_began(s);
    chat_auth(s->http->o.chat, token, n, on_auth, s);
}

// ---- requests -------------------------------------------------------------------------------------------

static struct socket_call *call_new(struct socket *s, const char *kind) {
    struct http *h = s->http;
    struct list_node *kept = list_pop_front(&h->free_calls);
    struct socket_call *c = kept != NULL ? LIST_ITEM(kept, struct socket_call, node) : calloc(1, sizeof *c);
    if (c == NULL) {
        socket_close(s, CLOSE_ERROR, "out of memory");
        return NULL;
    }
    if (kept != NULL) h->free_call_count--;
    c->s = s;
    c->ref[0] = '\0';
    c->has_message_id = false;
    memcpy(c->kind, kind, strlen(kind) + 1);
    socket_call_began(s);
    return c;
}

static void call_end(struct socket_call *c) {
    struct socket *s = c->s;
    struct http *h = s->http;
    if (h->free_call_count < CALLS_KEPT) {
        h->free_call_count++;
        list_push_front(&h->free_calls, &c->node);
    } else {
        free(c);
    }
    socket_call_ended(s);
}

void socket_calls_release(struct http *h) {
    struct list_node *n;
    while ((n = list_pop_front(&h->free_calls)) != NULL) free(LIST_ITEM(n, struct socket_call, node));
}

static struct buf *answer_open(struct socket_call *c, int status) {
    struct buf *b = socket_frame(c->s);
    json_open(b, NULL, '{');
    json_text(b, "type", "answer");
    json_text(b, "to", c->kind);
    if (c->ref[0] != '\0') json_raw(b, "ref", c->ref);
    json_uint(b, "status", (uint64_t)status);
    return b;
}

static void answer_end(struct socket_call *c, struct buf *b) {
    json_close(b, '}');
    socket_frame_end(c->s);
    call_end(c);
}

static void answer_error(struct socket_call *c, const struct error *e) {
    struct buf *b = answer_open(c, error_status(e));
    if (c->has_message_id) json_id(b, "message_id", &c->message_id);
    error_write(b, "error", e);
    uint32_t wait = error_retry_after(e);
    if (wait > 0) json_uint(b, "retry_after", wait);
    answer_end(c, b);
}

static void on_accepted(void *arg, const struct error *error, const struct chat_accepted *ok) {
    struct socket_call *c = arg;
    if (ok == NULL) {
        answer_error(c, error);
        return;
    }
    struct buf *b = answer_open(c, ok->duplicate ? 200 : 202);
    api_write_accepted(b, ok);
    answer_end(c, b);
}

static void on_content(void *arg, const struct error *error, const struct chat_content *ok) {
    struct socket_call *c = arg;
    if (ok == NULL) {
        answer_error(c, error);
        return;
    }
    struct buf *b = answer_open(c, 200);
    api_write_content(b, ok);
    answer_end(c, b);
}

static void answer_receipt(struct socket_call *c, const struct error *error, const char *state) {
    if (error != NULL) {
        answer_error(c, error);
        return;
    }
    struct buf *b = answer_open(c, 200);
    json_id(b, "message_id", &c->message_id);
    json_text(b, "state", state);
    answer_end(c, b);
}

static void on_received(void *arg, const struct error *error) { answer_receipt(arg, error, "received"); }
static void on_read(void *arg, const struct error *error) { answer_receipt(arg, error, "read"); }

static void take_send(struct socket_call *c, const json_t *o) {
    struct chat_send m = {0};
    struct error e;
    if (json_in_text(o, "conversation_id", JSON_REQUIRED, &m.conversation_id, NULL, &e) && json_in_send(o, &m, &e))
        chat_send(c->s->http->o.chat, &c->s->who, &m, on_accepted, c);
    else answer_error(c, &e);
}

static void take_get(struct socket_call *c, const json_t *o) {
    chat_content_get(c->s->http->o.chat, &c->s->who, &c->message_id, on_content, c);
}

static void take_received(struct socket_call *c, const json_t *o) {
    chat_received(c->s->http->o.chat, &c->s->who, &c->message_id, on_received, c);
}

static void take_read(struct socket_call *c, const json_t *o) {
    chat_read(c->s->http->o.chat, &c->s->who, &c->message_id, on_read, c);
}

static const struct {
    const char *type;
    void (*take)(struct socket_call *c, const json_t *o);
} requests[] = {{"send", take_send}, {"get", take_get}, {"received", take_received}, {"read", take_read}};

// `ref` is given back as it came: a string or a whole number. False: it is something else.
static bool read_ref(struct socket_call *c, const json_t *o) {
    const json_t *ref = json_object_get(o, "ref");
    if (ref == NULL || json_is_null(ref)) return true;
    if (!json_is_integer(ref) && (!json_is_string(ref) || json_string_length(ref) > REF_MAX)) return false;
    size_t n = json_dumpb(ref, c->ref, sizeof c->ref - 1, JSON_ENCODE_ANY);
    if (n >= sizeof c->ref) n = 0;
    c->ref[n] = '\0';
    return true;
}

static void take_request(struct socket *s, const json_t *o, size_t which) {
    struct socket_call *c = call_new(s, requests[which].type);
    if (c == NULL) return;
    struct error e;
    if (!read_ref(c, o)) {
        error_field(&e, "ref", "must be a string of at most %d bytes or a whole number", REF_MAX);
        answer_error(c, &e);
        return;
    }
    if (!json_in_id(o, "message_id", &c->message_id, &e)) {
        answer_error(c, &e);
        return;
    }
    c->has_message_id = true;
    // A device past its rate is not refused but read more slowly: nothing is lost.
    if (!rates_take(&s->http->device_rates, (uint64_t)s->who.did, loop_now_ms(s->http->o.loop))) {
        s->http->counters.rate_limited++;
        s->out_of_tokens = true;
    }
    requests[which].take(c, o);
}

static void take_ack(struct socket *s, const json_t *o) {
    uint64_t cursor;
    struct error e;
    if (!json_in_uint(o, "cursor", &cursor, &e)) bad_field(s, &e);
    else if (s->link != NULL) chat_link_ack(s->link, cursor);
}

static void take(struct socket *s, const json_t *o) {
    const char *type = json_string_value(json_object_get(o, "type"));
    if (type == NULL) {
        bad_frame(s, "invalid", "type", "must be set");
    } else if (s->state == SOCKET_NEW) {
        if (strcmp(type, "hello") == 0) take_hello(s, o);
        else socket_close(s, CLOSE_BAD_FRAMES, "hello first");
    } else if (s->state != SOCKET_ATTACHED) {
        socket_close(s, CLOSE_BAD_FRAMES, "hello first");
    } else if (strcmp(type, "ack") == 0) {
        take_ack(s, o);
    } else {
        for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++)
            if (strcmp(requests[i].type, type) == 0) {
                take_request(s, o, i);
                return;
            }
        bad_frame(s, "invalid", "type", "unknown");
    }
}

void socket_frame_in(struct socket *s, const void *data, size_t n) {
    struct error e;
    s->http->counters.frames_in++;
    json_t *o = json_in_parse(data, n, &e);
    if (o == NULL) {
        bad_frame(s, "bad_request", NULL, e.text);
        return;
    }
    take(s, o);
    json_decref(o);
}
