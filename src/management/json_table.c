// JSON and AMQP's tables; see json_table.h.
#include "management/json_table.h"

#include "management/call.h"
#include "management/out.h"
#include "wire/properties.h"

#include <string.h>

// ---- to tables ------------------------------------------------------------------------------------------

static enum err to_field(const json_t *v, struct field *f, struct buf *inner, int depth, struct error *e);

static enum err put_entries(const json_t *object, struct buf *out, int depth, struct error *e) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)object, key, v) {
        struct field f;
        struct buf inner;
        if (strlen(key) > 255) return error_set(e, ERR_INVALID, "a name of an argument is longer than 255 bytes");
        buf_init(&inner, JSON_TABLE_MAX);
        enum err err = to_field(v, &f, &inner, depth, e);
        if (err == ERR_OK) table_put(out, view_of(key), &f);
        buf_release(&inner);
        if (err != ERR_OK) return err;
    }
    return ERR_OK;
}

static enum err put_elements(const json_t *array, struct buf *out, int depth, struct error *e) {
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)array, i, v) {
        struct field f;
        struct buf inner;
        buf_init(&inner, JSON_TABLE_MAX);
        enum err err = to_field(v, &f, &inner, depth, e);
        if (err == ERR_OK) array_put(out, &f);
        buf_release(&inner);
        if (err != ERR_OK) return err;
    }
    return ERR_OK;
}

static enum err put_inner(const json_t *v, struct field *f, struct buf *inner, int depth, struct error *e) {
    if (depth + 1 >= TABLE_DEPTH_MAX) return error_set(e, ERR_INVALID, "arguments are nested too deeply");
    f->type = json_is_array(v) ? FIELD_ARRAY : FIELD_TABLE;
    enum err err = json_is_array(v) ? put_elements(v, inner, depth + 1, e) : put_entries(v, inner, depth + 1, e);
    if (err == ERR_OK && !buf_ok(inner)) err = error_set(e, ERR_INVALID, "arguments are too large");
    f->bytes = (struct view){inner->data, (uint32_t)inner->len};
    return err;
}

static enum err to_field(const json_t *v, struct field *f, struct buf *inner, int depth, struct error *e) {
    *f = (struct field){.type = FIELD_VOID};
    switch (json_typeof(v)) {
    case JSON_TRUE:
    case JSON_FALSE: *f = (struct field){.type = FIELD_BOOL, .integer = json_is_true(v)}; return ERR_OK;
    case JSON_INTEGER: *f = (struct field){.type = FIELD_I64, .integer = json_integer_value(v)}; return ERR_OK;
    case JSON_REAL: *f = (struct field){.type = FIELD_DOUBLE, .real = json_real_value(v)}; return ERR_OK;
    case JSON_STRING:
        f->type = FIELD_STRING;
        f->bytes = (struct view){(const uint8_t *)json_string_value(v), (uint32_t)json_string_length(v)};
        return ERR_OK;
    case JSON_NULL: return ERR_OK;
    case JSON_ARRAY:
    case JSON_OBJECT: return put_inner(v, f, inner, depth, e);
    }
    return ERR_OK;
}

enum err json_to_table(const json_t *object, struct buf *out, struct error *e) {
    if (object == NULL || json_is_null(object)) return ERR_OK;
    // Clients write an empty table as an empty list, too.
    if (json_is_array(object) && json_array_size(object) == 0) return ERR_OK;
    if (!json_is_object(object)) return error_set(e, ERR_INVALID, "arguments must be an object");
    enum err err = put_entries(object, out, 0, e);
    if (err == ERR_OK && !buf_ok(out)) err = error_set(e, ERR_INVALID, "arguments are too large");
    return err;
}

// ---- properties -----------------------------------------------------------------------------------------

static const struct {
    const char *name;
    enum property flag;
    size_t at;
} texts[] = {
    {"content_type", PROPERTY_CONTENT_TYPE, offsetof(struct properties, content_type)},
    {"content_encoding", PROPERTY_CONTENT_ENCODING, offsetof(struct properties, content_encoding)},
    {"correlation_id", PROPERTY_CORRELATION_ID, offsetof(struct properties, correlation_id)},
    {"reply_to", PROPERTY_REPLY_TO, offsetof(struct properties, reply_to)},
    {"expiration", PROPERTY_EXPIRATION, offsetof(struct properties, expiration)},
    {"message_id", PROPERTY_MESSAGE_ID, offsetof(struct properties, message_id)},
    {"type", PROPERTY_TYPE, offsetof(struct properties, type)},
    {"user_id", PROPERTY_USER_ID, offsetof(struct properties, user_id)},
    {"app_id", PROPERTY_APP_ID, offsetof(struct properties, app_id)},
    {"cluster_id", PROPERTY_CLUSTER_ID, offsetof(struct properties, cluster_id)},
};

static enum err take_texts(const json_t *object, struct properties *p, struct error *e) {
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const json_t *v = json_object_get(object, texts[i].name);
        if (v == NULL || json_is_null(v)) continue;
        if (!json_is_string(v) || json_string_length(v) > 255 || strlen(json_string_value(v)) != json_string_length(v))
            return error_set(e, ERR_INVALID, "%s must be a text of at most 255 bytes", texts[i].name);
        struct view *to = (struct view *)((char *)p + texts[i].at);
        *to = view_of(json_string_value(v));
        p->flags |= (uint16_t)texts[i].flag;
    }
    return ERR_OK;
}

// False: it is there and not a number of 0 to max.
static bool take_number(const json_t *object, const char *name, enum property flag, int64_t max, struct properties *p,
                        int64_t *out) {
    const json_t *v = json_object_get(object, name);
    if (v == NULL || json_is_null(v)) return true;
    if (!json_int_of(v, out) || *out < 0 || *out > max) return false;
    p->flags |= (uint16_t)flag;
    return true;
}

static enum err take_numbers(const json_t *object, struct properties *p, struct error *e) {
    int64_t mode = 0, priority = 0, timestamp = 0;
    if (!take_number(object, "delivery_mode", PROPERTY_DELIVERY_MODE, 255, p, &mode))
        return error_set(e, ERR_INVALID, "delivery_mode must be 1 or 2");
    if (!take_number(object, "priority", PROPERTY_PRIORITY, 255, p, &priority))
        return error_set(e, ERR_INVALID, "priority must be 0 to 255");
    if (!take_number(object, "timestamp", PROPERTY_TIMESTAMP, INT64_MAX, p, &timestamp))
        return error_set(e, ERR_INVALID, "timestamp must be a number of seconds");
    p->delivery_mode = (uint8_t)mode;
    p->priority = (uint8_t)priority;
    p->timestamp = (uint64_t)timestamp;
    return ERR_OK;
}

static enum err take_headers(const json_t *object, struct properties *p, struct buf *table, struct error *e) {
    const json_t *v = json_object_get(object, "headers");
    if (v == NULL || json_is_null(v)) return ERR_OK;
    json_t *shown = json_copy((json_t *)v);
    json_object_del(shown, "BCC");
    enum err err = json_to_table(shown, table, e);
    json_decref(shown);
    p->headers = (struct view){table->data, (uint32_t)table->len};
    p->flags |= PROPERTY_HEADERS;
    return err;
}

enum err json_to_properties(const json_t *object, struct buf *out, struct error *e) {
    struct properties p = {0};
    struct buf table;
    // An empty list is an empty object to some clients.
    if (object != NULL && !json_is_object(object) && !json_is_null(object) && json_array_size(object) > 0)
        return error_set(e, ERR_INVALID, "properties must be an object");
    buf_init(&table, JSON_TABLE_MAX);
    enum err err = take_texts(object, &p, e);
    if (err == ERR_OK) err = take_numbers(object, &p, e);
    if (err == ERR_OK) err = take_headers(object, &p, &table, e);
    if (err == ERR_OK) properties_encode(out, &p);
    buf_release(&table);
    return err;
}

void properties_to_json(struct out *o, const char *key, const void *data, uint32_t length) {
    struct properties p;
    out_open(o, key, '{');
    if (length > 0 && properties_decode(&p, data, length)) {
        for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
            if (p.flags & texts[i].flag) out_view(o, texts[i].name, *(struct view *)((char *)&p + texts[i].at));
        if (p.flags & PROPERTY_TIMESTAMP) out_uint(o, "timestamp", p.timestamp);
        if (p.flags & PROPERTY_PRIORITY) out_uint(o, "priority", p.priority);
        if (p.flags & PROPERTY_DELIVERY_MODE) out_uint(o, "delivery_mode", p.delivery_mode);
        if (p.flags & PROPERTY_HEADERS) out_table(o, "headers", p.headers);
    }
    out_close(o, '}');
}
