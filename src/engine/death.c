#include "engine/death.h"

#include "wire/properties.h"

#include <string.h>

static bool same_text(struct view table, const char *name, const char *text) {
    struct field f;
    return table_find(table, name, &f) && f.type == FIELD_STRING && view_is(f.bytes, text);
}

static bool deaths_of(struct view headers, struct table_cursor *out) {
    struct field f;
    if (!table_find(headers, "x-death", &f) || f.type != FIELD_ARRAY) return false;
    *out = (struct table_cursor){f.bytes};
    return true;
}

bool death_is_cycle(struct view headers, const char *queue) {
    struct table_cursor c;
    struct field f;
    if (!deaths_of(headers, &c)) return false;
    while (array_next(&c, &f)) {
        if (f.type != FIELD_TABLE) continue;
        if (same_text(f.bytes, "reason", "rejected")) return false;
        if (same_text(f.bytes, "queue", queue)) return true;
    }
    return false;
}

bool death_next_cc(struct view headers, struct cc_cursor *c, struct view *key) {
    struct field f;
    if (!c->begun) {
        c->begun = true;
        if (!table_find(headers, "CC", &f) || f.type != FIELD_ARRAY) return false;
        c->array = (struct table_cursor){f.bytes};
    }
    while (array_next(&c->array, &f)) {
        if (f.type != FIELD_STRING) continue;
        *key = f.bytes;
        return true;
    }
    return false;
}

// ---- writing

static struct field text_field(struct view text) { return (struct field){.type = FIELD_STRING, .bytes = text}; }

static void write_keys(struct buf *out, const struct death *d, struct view headers) {
    size_t start = table_put_array(out, "routing-keys");
    struct field f = text_field(view_of(d->routing_key));
    array_put(out, &f);
    struct cc_cursor c = {0};
    for (struct view key; death_next_cc(headers, &c, &key);) {
        f = text_field(key);
        array_put(out, &f);
    }
    table_end(out, start);
}

static void write_new(struct buf *out, const struct death *d, const struct properties *p) {
    size_t start = array_put_table(out);
    if (p->flags & PROPERTY_EXPIRATION) {
        struct field f = text_field(p->expiration);
        table_put(out, view_of("original-expiration"), &f);
    }
    table_put_integer(out, "count", 1);
    table_put_text(out, "reason", d->reason);
    table_put_text(out, "queue", d->queue);
    struct field time = {.type = FIELD_TIMESTAMP, .integer = d->at_ms / 1000};
    table_put(out, view_of("time"), &time);
    table_put_text(out, "exchange", d->exchange);
    write_keys(out, d, p->headers);
    table_end(out, start);
}

static void write_counted(struct buf *out, struct view old) {
    size_t start = array_put_table(out);
    struct table_cursor c = table_begin(old);
    struct view name;
    struct field f;
    while (table_next(&c, &name, &f)) {
        int64_t count;
        if (view_is(name, "count") && field_integer(&f, &count) && count < INT64_MAX)
            table_put_integer(out, "count", count + 1);
        else table_put(out, name, &f);
    }
    table_end(out, start);
}

static bool is_same_death(const struct field *f, const struct death *d) {
    return f->type == FIELD_TABLE && same_text(f->bytes, "queue", d->queue) && same_text(f->bytes, "reason", d->reason);
}

// False: there was none of that queue and reason.
static bool write_front(struct buf *out, const struct death *d, struct table_cursor c) {
    struct field f;
    while (array_next(&c, &f)) {
        if (!is_same_death(&f, d)) continue;
        write_counted(out, f.bytes);
        return true;
    }
    return false;
}

static void write_deaths(struct buf *out, const struct death *d, const struct properties *p) {
    size_t start = table_put_array(out, "x-death");
    struct table_cursor c = {0};
    deaths_of(p->headers, &c);
    if (!write_front(out, d, c)) write_new(out, d, p);
    struct field f;
    for (int n = 1; n < DEATHS_MAX && array_next(&c, &f);) {
        if (f.type != FIELD_TABLE || is_same_death(&f, d)) continue;
        array_put(out, &f);
        n++;
    }
    table_end(out, start);
}

static bool starts_with(struct view v, const char *prefix) {
    size_t n = strlen(prefix);
    return v.length >= n && memcmp(v.data, prefix, n) == 0;
}

static void write_headers(struct buf *out, const struct death *d, const struct properties *p) {
    struct table_cursor deaths, c = table_begin(p->headers);
    struct view name;
    struct field f;
    bool first = !deaths_of(p->headers, &deaths);
    while (table_next(&c, &name, &f)) {
        if (view_is(name, "x-death") || starts_with(name, "x-last-death-")) continue;
        if ((first && starts_with(name, "x-first-death-")) || (d->new_key && view_is(name, "CC"))) continue;
        table_put(out, name, &f);
    }
    write_deaths(out, d, p);
    if (first) {
        table_put_text(out, "x-first-death-exchange", d->exchange);
        table_put_text(out, "x-first-death-queue", d->queue);
        table_put_text(out, "x-first-death-reason", d->reason);
    }
    table_put_text(out, "x-last-death-exchange", d->exchange);
    table_put_text(out, "x-last-death-queue", d->queue);
    table_put_text(out, "x-last-death-reason", d->reason);
}

bool death_note(struct buf *out, const struct death *d) {
    struct properties p = {0};
    if (d->properties.length > 0 && !properties_decode(&p, d->properties.data, d->properties.length)) return false;
    struct buf headers;
    buf_init(&headers, out->max);
    write_headers(&headers, d, &p);
    p.flags = (uint16_t)((p.flags & ~PROPERTY_EXPIRATION) | PROPERTY_HEADERS);
    p.headers = (struct view){headers.data, (uint32_t)headers.len};
    properties_encode(out, &p);
    bool good = buf_ok(&headers) && buf_ok(out);
    buf_release(&headers);
    return good;
}
