// Reading requests with jansson; the helpers of json_in.h.
#include "http/json_in.h"

#include "base/time.h"
#include "chat/chat.h"

#include <string.h>

json_t *json_in_parse(const void *data, size_t n, struct error *e) {
    json_error_t where;
    json_t *o = json_loadb(data, n, JSON_REJECT_DUPLICATES, &where);
    if (o == NULL) {
        error_set(e, ERR_INVALID, "not valid JSON at byte %d: %s", where.position, where.text);
        return NULL;
    }
    if (json_is_object(o)) return o;
    json_decref(o);
    error_set(e, ERR_INVALID, "must be a JSON object");
    return NULL;
}

bool json_in_text(const json_t *o, const char *field, enum json_need need, const char **out, size_t *n,
                  struct error *e) {
    const json_t *v = json_object_get(o, field);
    *out = NULL;
    if (n != NULL) *n = 0;
    if (v == NULL || json_is_null(v)) {
        if (need == JSON_OPTIONAL) return true;
        error_field(e, field, "must be set");
        return false;
    }
    if (!json_is_string(v)) {
        error_field(e, field, "must be a string");
        return false;
    }
    *out = json_string_value(v);
    if (n != NULL) *n = json_string_length(v);
    return true;
}

bool json_in_uint(const json_t *o, const char *field, uint64_t *out, struct error *e) {
    const json_t *v = json_object_get(o, field);
    if (!json_is_integer(v) || json_integer_value(v) < 0) {
        error_field(e, field, "must be a whole number, 0 or more");
        return false;
    }
    *out = (uint64_t)json_integer_value(v);
    return true;
}

bool json_in_id(const json_t *o, const char *field, struct id *out, struct error *e) {
    const char *text;
    size_t n;
    if (!json_in_text(o, field, JSON_REQUIRED, &text, &n, e)) return false;
    if (id_parse(text, n, out)) return true;
    error_field(e, field, "must be a UUID");
    return false;
}

bool json_in_time(const json_t *o, const char *field, int64_t *out_ms, struct error *e) {
    const char *text;
    size_t n;
    *out_ms = 0;
    if (!json_in_text(o, field, JSON_OPTIONAL, &text, &n, e)) return false;
    if (text == NULL || time_parse_ms(text, n, out_ms)) return true;
    error_field(e, field, "must be an RFC 3339 time");
    return false;
}

bool json_in_send(const json_t *o, struct chat_send *out, struct error *e) {
    if (!json_in_id(o, "message_id", &out->message_id, e) ||
        !json_in_text(o, "by_user_id", JSON_REQUIRED, &out->by_user_id, NULL, e) ||
        !json_in_text(o, "message_text", JSON_OPTIONAL, &out->text, &out->text_length, e) ||
        !json_in_text(o, "media", JSON_OPTIONAL, &out->ticket, NULL, e) ||
        !json_in_time(o, "created_at", &out->created_at_ms, e))
        return false;
    if (out->text != NULL && out->ticket != NULL) {
        error_field(e, "media", "a message is a text or media, not both");
        return false;
    }
    if (out->text == NULL && out->ticket == NULL) {
        error_field(e, "message_text", "must be set (or media)");
        return false;
    }
    return true;
}
