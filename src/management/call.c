// Reading a call and answering it; see call.h.
#include "management/call.h"

#include "base/assert.h"
#include "base/log.h"
#include "http/json_out.h"
#include "management/internal.h"
#include "management/routes.h"

#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

// ---- asking ---------------------------------------------------------------------------------------------

static int hex_of(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool call_decode(char *text) {
    char *to = text;
    for (const char *from = text; *from != '\0'; from++, to++) {
        *to = *from;
        if (*from != '%') continue;
        int high = hex_of(from[1]), low = high < 0 ? -1 : hex_of(from[2]);
        if (low < 0 || high * 16 + low == 0) return false;
        *to = (char)(high * 16 + low);
        from += 2;
    }
    *to = '\0';
    return true;
}

// Parameters are stored in the order in which the pattern names them.
const char *call_param(const struct call *c, const char *name) {
    size_t n = strlen(name), i = 0;
    for (const char *at = c->route->pattern; (at = strchr(at, '{')) != NULL; at++, i++)
        if (strncmp(at + 1, name, n) == 0 && at[1 + n] == '}') return c->params[i];
    return NULL;
}

const char *call_header(const struct call *c, const char *name) {
    return c->connection != NULL ? MHD_lookup_connection_value(c->connection, MHD_HEADER_KIND, name) : NULL;
}

char *call_query(const struct call *c, const char *name) {
    const char *raw =
        c->connection != NULL ? MHD_lookup_connection_value(c->connection, MHD_GET_ARGUMENT_KIND, name) : NULL;
    char *text = raw != NULL ? strdup(raw) : NULL;
    if (text == NULL || call_decode(text)) return text;
    free(text);
    return NULL;
}

bool call_flag(const struct call *c, const char *name) {
    char *text = call_query(c, name);
    bool set = text != NULL && strcmp(text, "true") == 0;
    free(text);
    return set;
}

json_t *call_json(struct call *c) {
    json_error_t where;
    const char *text = c->body.len > 0 ? (const char *)c->body.data : "{}";
    size_t n = c->body.len > 0 ? c->body.len : 2;
    c->json = json_loadb(text, n, JSON_DECODE_ANY, &where);
    buf_release(&c->body);
    if (json_is_null(c->json)) {
        json_decref(c->json);
        c->json = json_object();
    }
    if (json_is_object(c->json)) return c->json;
    if (c->json == NULL) call_fail(c, 400, "bad_request", "not_json: byte %d: %s", where.position, where.text);
    else call_fail(c, 400, "bad_request", "not_json: an object is expected");
    return NULL;
}

bool json_bool_or(const json_t *o, const char *key, bool otherwise) {
    const json_t *v = json_object_get(o, key);
    if (json_is_boolean(v)) return json_is_true(v);
    if (!json_is_string(v)) return otherwise;
    return strcasecmp(json_string_value(v), "true") == 0;
}

bool json_int_of(const json_t *v, int64_t *out) {
    if (json_is_integer(v)) {
        *out = json_integer_value(v);
        return true;
    }
    if (!json_is_string(v)) return false;
    char *end;
    *out = strtoll(json_string_value(v), &end, 10);
    return end != json_string_value(v) && *end == '\0';
}

const char *json_text_or(const json_t *o, const char *key, const char *otherwise) {
    const json_t *v = json_object_get(o, key);
    return json_is_string(v) ? json_string_value(v) : otherwise;
}

// ---- answering ------------------------------------------------------------------------------------------

void call_answer_as(struct call *c, int status, const char *type) {
    ASSERT(!c->answered);
    if (!buf_ok(&c->out)) {
        buf_release(&c->out);
        call_fail(c, 400, "bad_request", "the answer is larger than 64 MiB: ask for pages, or for fewer columns");
        return;
    }
    c->answered = true;
    c->status = status;
    c->type = type;
    call_deliver(c);
}

void call_answer(struct call *c, int status) { call_answer_as(c, status, "application/json"); }

void call_empty(struct call *c, int status) {
    buf_clear(&c->out);
    call_answer_as(c, status, NULL);
}

void call_fail(struct call *c, int status, const char *error, const char *format, ...) {
    char reason[ERROR_TEXT_MAX * 2];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    buf_clear(&c->out);
    json_open(&c->out, NULL, '{');
    json_text(&c->out, "error", error);
    json_text(&c->out, "reason", reason);
    json_close(&c->out, '}');
    call_answer(c, status);
}

void call_bad_request(struct call *c, const struct error *e) {
    call_fail(c, 400, "bad_request", "%s%s%s", e->field, e->field[0] != '\0' ? ": " : "",
              e->text[0] != '\0' ? e->text : err_text(e->code));
}

void call_refused(struct call *c) { call_fail(c, 401, "not_authorised", "Access refused."); }

void call_not_found(struct call *c, const char *what) { call_fail(c, 404, "not_found", "%s_not_found", what); }

void call_error(struct call *c, const struct error *e) {
    const char *text = e->text[0] != '\0' ? e->text : err_text(e->code);
    switch (e->code) {
    case ERR_NOT_FOUND: call_fail(c, 404, "not_found", "%s", text); return;
    case ERR_FORBIDDEN:
    case ERR_UNAUTHORIZED: call_refused(c); return;
    case ERR_FULL:
    case ERR_BUSY:
    case ERR_CLOSED:
    case ERR_TIMEOUT:
    case ERR_UNAVAILABLE: call_fail(c, 503, "service_unavailable", "%s", text); return;
    case ERR_IO:
    case ERR_CORRUPT:
    case ERR_NOMEM:
    case ERR_DATABASE:
        log_text(LOG_ERROR, "management", "%s", text);
        call_fail(c, 500, "internal_server_error", "%s", err_text(e->code));
        return;
    default: call_bad_request(c, e); return;
    }
}

static void on_durable(void *arg, enum publish_result result) {
    struct call *c = arg;
    call_empty(c, c->status);
}

void call_durable(struct call *c, int status) {
    c->status = status;
    if (!engine_when_durable(c->management->o.engine, on_durable, c)) call_empty(c, status);
}

bool call_may(struct call *c, enum access_kind kind, const char *resource) {
    const char *name = resource[0] == '\0' ? "amq.default" : resource;
    if (access_may(c->management->o.access, c->user, vhost_name(c->vhost), kind, name)) return true;
    call_refused(c);
    return false;
}
