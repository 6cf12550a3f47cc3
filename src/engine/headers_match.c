#include "engine/headers_match.h"

#include <stdlib.h>
#include <string.h>

#define FEW 16

struct header {
    struct view name;
    struct field field;
};

static int compare_names(struct view a, struct view b) {
    uint32_t shorter = a.length < b.length ? a.length : b.length;
    int order = shorter == 0 ? 0 : memcmp(a.data, b.data, shorter);
    return order != 0 ? order : (a.length > b.length) - (a.length < b.length);
}

// Of one name, the first in the table comes first: it is the one that counts.
static int compare_headers(const void *a, const void *b) {
    const struct header *x = a, *y = b;
    int order = compare_names(x->name, y->name);
    return order != 0 ? order : (x->name.data > y->name.data) - (x->name.data < y->name.data);
}

void headers_init(struct headers *h, struct view table) {
    *h = (struct headers){.table = table};
    struct header at;
    struct table_cursor c = table_begin(table);
    while (table_next(&c, &at.name, &at.field)) h->n++;
    h->sorted = h->n > FEW ? calloc(h->n, sizeof *h->sorted) : NULL;
    if (!h->sorted) return;
    c = table_begin(table);
    for (uint32_t i = 0; i < h->n; i++) table_next(&c, &h->sorted[i].name, &h->sorted[i].field);
    qsort(h->sorted, h->n, sizeof *h->sorted, compare_headers);
}

void headers_release(struct headers *h) { free(h->sorted); }

static bool starts_with_x(struct view name) { return name.length >= 2 && memcmp(name.data, "x-", 2) == 0; }

static bool find_sorted(const struct headers *h, struct view name, struct field *out) {
    uint32_t low = 0, high = h->n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (compare_names(h->sorted[middle].name, name) < 0) low = middle + 1;
        else high = middle;
    }
    if (low == h->n || compare_names(h->sorted[low].name, name) != 0) return false;
    *out = h->sorted[low].field;
    return true;
}

static bool find(const struct headers *h, struct view name, struct field *out) {
    if (h->sorted) return find_sorted(h, name, out);
    struct table_cursor c = table_begin(h->table);
    struct view at;
    while (table_next(&c, &at, out))
        if (at.length == name.length && memcmp(at.data, name.data, name.length) == 0) return true;
    return false;
}

static bool holds(struct view name, const struct field *wanted, const struct headers *h) {
    struct field had;
    if (!find(h, name, &had)) return false;
    return wanted->type == FIELD_VOID || field_equal(wanted, &had);
}

bool headers_match(struct view arguments, const struct headers *h) {
    struct field f;
    bool stated = table_find(arguments, "x-match", &f) && f.type == FIELD_STRING;
    bool with_x = stated && (view_is(f.bytes, "any-with-x") || view_is(f.bytes, "all-with-x"));
    bool any = stated && (view_is(f.bytes, "any-with-x") || view_is(f.bytes, "any"));
    struct table_cursor c = table_begin(arguments);
    struct view name;
    while (table_next(&c, &name, &f)) {
        if (with_x ? view_is(name, "x-match") : starts_with_x(name)) continue;
        if (holds(name, &f, h) == any) return any;
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
