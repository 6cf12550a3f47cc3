// Accounts and sessions.
#include "http/api.h"
#include "http/json_out.h"
#include "http/request.h"

#include <string.h>

static void write_user(struct buf *b, const struct chat_user *u) {
    json_open(b, NULL, '{');
    json_text(b, "user_id", u->user_id);
    json_text_opt(b, "display_name", u->display_name);
    json_flag(b, "online", u->online);
    json_close(b, '}');
}

static void answer_user(struct request *r, const struct error *error, const struct chat_user *ok, int status) {
    if (ok == NULL) {
        request_fail(r, error);
        return;
    }
    write_user(request_out(r), ok);
    request_answer(r, status);
}

static void on_added(void *arg, const struct error *error, const struct chat_user *ok) {
    answer_user(arg, error, ok, 201);
}

static void on_user(void *arg, const struct error *error, const struct chat_user *ok) {
    answer_user(arg, error, ok, 200);
}

void api_user_add(struct request *r) {
    json_t *o = request_json(r);
    if (o == NULL) return;
    const char *user_id, *password, *display_name;
    struct error e;
    if (json_in_text(o, "user_id", JSON_REQUIRED, &user_id, NULL, &e) &&
        json_in_text(o, "password", JSON_REQUIRED, &password, NULL, &e) &&
        json_in_text(o, "display_name", JSON_OPTIONAL, &display_name, NULL, &e))
        chat_user_add(r->http->o.chat, user_id, password, display_name, on_added, r);
    else request_fail(r, &e);
    json_decref(o);
}

void api_user_get(struct request *r) { chat_user_get(r->http->o.chat, &r->who, r->param, on_user, r); }

static void on_session(void *arg, const struct error *error, const struct chat_session *ok) {
    struct request *r = arg;
    if (ok == NULL) {
        request_fail(r, error);
        return;
    }
    struct buf *b = request_out(r);
    json_open(b, NULL, '{');
    json_text(b, "token", ok->token);
    json_text(b, "user_id", ok->user_id);
    json_id(b, "device_id", &ok->device_id);
    json_time(b, "expires_at", ok->expires_at_ms);
    json_close(b, '}');
    request_answer(r, 201);
}

void api_login(struct request *r) {
    json_t *o = request_json(r);
    if (o == NULL) return;
    const char *user_id, *password, *device_name;
    struct id device_id;
    bool has_device = json_object_get(o, "device_id") != NULL && !json_is_null(json_object_get(o, "device_id"));
    struct error e;
    if (json_in_text(o, "user_id", JSON_REQUIRED, &user_id, NULL, &e) &&
        json_in_text(o, "password", JSON_REQUIRED, &password, NULL, &e) &&
        json_in_text(o, "device_name", JSON_OPTIONAL, &device_name, NULL, &e) &&
        (!has_device || json_in_id(o, "device_id", &device_id, &e)))
        chat_login(r->http->o.chat, user_id, password, device_name, has_device ? &device_id : NULL,
                   r->conn != NULL ? r->conn->address : "", on_session, r);
    else request_fail(r, &e);
    json_decref(o);
}

static void on_logged_out(void *arg, const struct error *error) {
    struct request *r = arg;
    if (error != NULL) {
        request_fail(r, error);
        return;
    }
    request_out(r);
    request_answer(r, 204);
}

void api_logout(struct request *r) { chat_logout(r->http->o.chat, &r->who, on_logged_out, r); }
