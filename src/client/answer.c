#include "client/answer.h"

#include "base/time.h"

#include <stdio.h>
#include <string.h>

void answer_release(struct answer *a) {
    json_decref(a->body);
    memset(a, 0, sizeof *a);
}

void answer_none(struct answer *a, enum err code, const char *why) {
    memset(a, 0, sizeof *a);
    error_set(&a->error, code, "%s", why);
}

static enum err err_of_status(int status) {
    switch (status) {
    case 400:
    case 422: return ERR_INVALID;
    case 401: return ERR_UNAUTHORIZED;
    case 403: return ERR_FORBIDDEN;
    case 404: return ERR_NOT_FOUND;
    case 408: return ERR_TIMEOUT;
    case 409: return ERR_CONFLICT;
    case 410: return ERR_GONE;
    case 413: return ERR_TOO_LARGE;
    case 429: return ERR_RATE;
    case 503: return ERR_BUSY;
    default: return status >= 500 ? ERR_UNAVAILABLE : ERR_UNSUPPORTED;
    }
}

static void read_error(struct answer *a) {
    const json_t *error = json_object_get(a->body, "error");
    const char *field = member_text(error, "field", "");
    const char *reason = member_text(error, "reason", "");
    enum err code = err_of_status(a->status);
    if (!*reason) reason = err_text(code);
    if (*field) error_set(&a->error, code, "%s: %s", field, reason);
    else error_set(&a->error, code, "%s", reason);
    snprintf(a->error.field, sizeof a->error.field, "%s", field);
}

void answer_set(struct answer *a, int status, json_t *body, uint32_t retry_after_ms) {
    memset(a, 0, sizeof *a);
    a->status = status;
    a->body = body;
    a->retry_after_ms = retry_after_ms;
    if (status < 200 || status > 299) read_error(a);
}

enum verdict answer_verdict(const struct answer *a) {
    if (a->status >= 200 && a->status <= 299) return VERDICT_DONE;
    if (a->status == 401) return VERDICT_LOGIN;
    if (a->status == 0 || a->status == 408 || a->status == 425 || a->status == 429 || a->status >= 500)
        return VERDICT_LATER;
    return VERDICT_NO;
}

uint32_t answer_delay(const struct answer *a, struct io *io, uint32_t attempts) {
    struct backoff backoff = BACKOFF_DEFAULT;
    return backoff_delay(&backoff, io, attempts > 0 ? attempts - 1 : 0, a->retry_after_ms);
}

const char *member_text(const json_t *object, const char *key, const char *otherwise) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : otherwise;
}

uint64_t member_count(const json_t *object, const char *key) {
    json_int_t n = json_integer_value(json_object_get(object, key));
    return n > 0 ? (uint64_t)n : 0;
}

int64_t member_time(const json_t *object, const char *key, int64_t otherwise) {
    const char *text = member_text(object, key, "");
    int64_t ms;
    return time_parse_ms(text, strlen(text), &ms) ? ms : otherwise;
}
