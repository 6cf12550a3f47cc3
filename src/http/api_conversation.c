// Conversations.
#include "http/api.h"
#include "http/json_out.h"
#include "http/request.h"

#include <stdlib.h>

#define MEMBERS_READ_MAX 4096 // of one request; chat has its own, smaller limit

static void write_conversation(struct buf *b, const char *key, const struct chat_conversation *c) {
    json_open(b, key, '{');
    json_text(b, "conversation_id", c->conversation_id);
    json_text_opt(b, "title", c->title);
    json_text_opt(b, "created_by", c->created_by);
    json_time(b, "created_at", c->created_at_ms);
    json_uint(b, "last_seq", c->last_seq);
    json_open(b, "members", '[');
    for (size_t i = 0; i < c->member_count; i++) json_text(b, NULL, c->members[i]);
    json_close(b, ']');
    json_close(b, '}');
}

static void on_added(void *arg, const struct error *error, const struct chat_conversation *ok) {
    struct request *r = arg;
    if (ok == NULL) {
        request_fail(r, error);
        return;
    }
    write_conversation(request_out(r), NULL, ok);
    request_answer(r, ok->existed ? 200 : 201);
}

static void on_conversation(void *arg, const struct error *error, const struct chat_conversation *ok) {
    struct request *r = arg;
    if (ok == NULL) {
        request_fail(r, error);
        return;
    }
    write_conversation(request_out(r), NULL, ok);
    request_answer(r, 200);
}

static void on_list(void *arg, const struct error *error, const struct chat_conversation *ok, size_t n) {
    struct request *r = arg;
    if (error != NULL) {
        request_fail(r, error);
        return;
    }
    struct buf *b = request_out(r);
    json_open(b, NULL, '{');
    json_open(b, "conversations", '[');
    for (size_t i = 0; i < n; i++) write_conversation(b, NULL, &ok[i]);
    json_close(b, ']');
    json_close(b, '}');
    request_answer(r, 200);
}

// The members as an array of views into `o`, to be freed; NULL with the error.
static const char **read_members(const json_t *o, size_t *n, struct error *e) {
    const json_t *list = json_object_get(o, "members");
    if (!json_is_array(list)) {
        error_field(e, "members", "must be an array of user ids");
        return NULL;
    }
    *n = json_array_size(list);
    if (*n > MEMBERS_READ_MAX) {
        error_field(e, "members", "too many");
        return NULL;
    }
    const char **members = calloc(*n + 1, sizeof *members);
    if (members == NULL) {
        error_set(e, ERR_NOMEM, "no memory for the members");
        return NULL;
    }
    for (size_t i = 0; i < *n; i++) {
        members[i] = json_string_value(json_array_get(list, i));
        if (members[i] != NULL) continue;
        error_field(e, "members", "must be an array of user ids");
        free(members);
        return NULL;
    }
    return members;
}

void api_conversation_add(struct request *r) {
    json_t *o = request_json(r);
    if (o == NULL) return;
    const char *conversation_id, *title, **members = NULL;
    size_t n = 0;
    struct error e;
    if (json_in_text(o, "conversation_id", JSON_OPTIONAL, &conversation_id, NULL, &e) &&
        json_in_text(o, "title", JSON_OPTIONAL, &title, NULL, &e) && (members = read_members(o, &n, &e)) != NULL)
        chat_conversation_add(r->http->o.chat, &r->who, conversation_id, title, members, n, on_added, r);
    else request_fail(r, &e);
    free(members);
    json_decref(o);
}

void api_conversation_get(struct request *r) {
    chat_conversation_get(r->http->o.chat, &r->who, r->param, on_conversation, r);
}

void api_conversation_list(struct request *r) { chat_conversation_list(r->http->o.chat, &r->who, on_list, r); }
