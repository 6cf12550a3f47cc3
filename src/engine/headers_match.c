#include "engine/headers_match.h"

#include <string.h>

static bool starts_with_x(struct view name) { return name.length >= 2 && memcmp(name.data, "x-", 2) == 0; }

static bool find(struct view headers, struct view name, struct field *out) {
    struct table_cursor c = table_begin(headers);
    struct view at;
    while (table_next(&c, &at, out))
        if (at.length == name.length && memcmp(at.data, name.data, name.length) == 0) return true;
    return false;
}

static bool holds(struct view name, const struct field *wanted, struct view headers) {
    struct field had;
    if (!find(headers, name, &had)) return false;
    return wanted->type == FIELD_VOID || field_equal(wanted, &had);
}

bool headers_match(struct view arguments, struct view headers) {
    struct field f;
    bool stated = table_find(arguments, "x-match", &f) && f.type == FIELD_STRING;
    bool with_x = stated && (view_is(f.bytes, "any-with-x") || view_is(f.bytes, "all-with-x"));
    bool any = stated && (view_is(f.bytes, "any-with-x") || view_is(f.bytes, "any"));
    struct table_cursor c = table_begin(arguments);
    struct view name;
    while (table_next(&c, &name, &f)) {
        if (with_x ? view_is(name, "x-match") : starts_with_x(name)) continue;
        if (holds(name, &f, headers) == any) return any;
    }
    return !any;
}

enum err headers_match_check(struct view arguments, struct error *err) {
    struct field f;
    if (!table_find(arguments, "x-match", &f)) return ERR_OK;
    if (f.type != FIELD_STRING) return error_field(err, "x-match", "x-match must be a string");
    if (view_is(f.bytes, "all") || view_is(f.bytes, "any") || view_is(f.bytes, "all-with-x") ||
        view_is(f.bytes, "any-with-x"))
        return ERR_OK;
    return error_field(err, "x-match",
                       "invalid x-match field value '%.*s'; expected all, any, all-with-x, or any-with-x",
                       f.bytes.length < 60 ? (int)f.bytes.length : 60, (const char *)f.bytes.data);
}
