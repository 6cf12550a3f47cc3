// The writer of out.h.
#include "management/out.h"

#include "base/assert.h"
#include "base/utf8.h"
#include "http/json_out.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum want { WANT_NO, WANT_PARTS, WANT_ALL };

bool columns_init(struct columns *c, const char *text) {
    *c = (struct columns){0};
    if (text == NULL || (c->text = strdup(text)) == NULL) return true;
    for (char *at = c->text; at != NULL;) {
        char *comma = strchr(at, ',');
        if (comma != NULL) *comma++ = '\0';
        if (*at != '\0') {
            if (c->count == OUT_COLUMNS_MAX) return false;
            c->names[c->count++] = at;
        }
        at = comma;
    }
    return true;
}

void columns_release(struct columns *c) {
    free(c->text);
    *c = (struct columns){0};
}

int sort_value_compare(const struct sort_value *a, const struct sort_value *b) {
    if (a->is_text != b->is_text) return a->is_text ? 1 : -1;
    if (a->is_text) return strcmp(a->text, b->text);
    return a->number < b->number ? -1 : a->number > b->number;
}

void sort_value_release(struct sort_value *v) { free(v->text); }

// ---- which columns --------------------------------------------------------------------------------------

static bool all_wanted(const struct out *o) { return o->columns == NULL || o->columns->count == 0; }

static bool follows_paths(const struct out *o) { return o->sort != NULL || !all_wanted(o); }

void out_init(struct out *o, struct buf *b, const struct columns *columns) {
    *o = (struct out){.b = b, .columns = columns};
    o->level[0].want = all_wanted(o) ? WANT_ALL : WANT_PARTS;
}

// By the path as it is now.
static enum want look(const struct out *o) {
    enum want want = WANT_NO;
    for (uint32_t i = 0; i < o->columns->count; i++) {
        const char *column = o->columns->names[i];
        size_t n = strlen(column);
        if (n <= o->path_length && strncmp(o->path, column, n) == 0 && (n == o->path_length || o->path[n] == '.'))
            return WANT_ALL;
        if (n > o->path_length && strncmp(o->path, column, o->path_length) == 0 && column[o->path_length] == '.')
            want = WANT_PARTS;
    }
    return want;
}

static enum want enter(struct out *o, const char *key) {
    if (key != NULL && follows_paths(o)) {
        size_t n = strlen(key), dot = o->path_length > 0 ? 1 : 0;
        if (o->path_length + dot + n + 1 <= sizeof o->path) {
            if (dot == 1) o->path[o->path_length] = '.';
            memcpy(o->path + o->path_length + dot, key, n + 1);
            o->path_length += (uint32_t)(dot + n);
        }
    }
    enum want above = o->level[o->depth].want;
    return above != WANT_PARTS || key == NULL || o->level[o->depth].array ? above : look(o);
}

static void leave(struct out *o) {
    o->path_length = o->level[o->depth].path_length;
    o->path[o->path_length] = '\0';
}

void out_open(struct out *o, const char *key, char bracket) {
    enum want want = enter(o, key);
    if (want != WANT_NO) json_open(o->b, key, bracket);
    ASSERT(o->depth + 1 < OUT_DEPTH_MAX);
    o->depth++;
    o->level[o->depth].path_length = o->path_length;
    o->level[o->depth].want = (uint8_t)want;
    o->level[o->depth].array = bracket == '[';
}

void out_close(struct out *o, char bracket) {
    ASSERT(o->depth > 0);
    if (o->level[o->depth].want != WANT_NO) json_close(o->b, bracket);
    o->depth--;
    leave(o);
}

// ---- values ---------------------------------------------------------------------------------------------

static bool sought(const struct out *o) { return o->sort != NULL && strcmp(o->path, o->sort) == 0; }

static void found_number(struct out *o, double v) {
    if (sought(o)) *o->found = (struct sort_value){.number = v};
}

static void found_text(struct out *o, const char *text, size_t n) {
    if (!sought(o)) return;
    free(o->found->text);
    *o->found = (struct sort_value){.is_text = true, .text = strndup(text, n)};
    if (o->found->text == NULL) o->found->is_text = false;
}

static void raw(struct out *o, const char *key, const char *json) {
    if (enter(o, key) == WANT_ALL) json_raw(o->b, key, json);
    leave(o);
}

// What is not UTF-8 could not be read by anybody: its bytes above 0x7f become the replacement character.
static void write_text(struct buf *b, const char *key, const char *text, size_t n) {
    if (utf8_valid(text, n)) {
        json_text_n(b, key, text, n);
        return;
    }
    struct buf clean;
    buf_init(&clean, n * 3 + 1);
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)text[i] < 0x80) buf_add(&clean, text + i, 1);
        else buf_add_str(&clean, "\xef\xbf\xbd");
    }
    json_text_n(b, key, (const char *)clean.data, clean.len);
    buf_release(&clean);
}

static void put_text(struct out *o, const char *key, const char *text, size_t n) {
    if (enter(o, key) == WANT_ALL) write_text(o->b, key, text, n);
    found_text(o, text, n);
    leave(o);
}

void out_text(struct out *o, const char *key, const char *text) {
    if (text == NULL) out_null(o, key);
    else put_text(o, key, text, strlen(text));
}

void out_view(struct out *o, const char *key, struct view text) {
    put_text(o, key, text.length > 0 ? (const char *)text.data : "", text.length);
}

static void put_number(struct out *o, const char *key, const char *digits, double v) {
    if (enter(o, key) == WANT_ALL) json_raw(o->b, key, digits);
    found_number(o, v);
    leave(o);
}

void out_int(struct out *o, const char *key, int64_t v) {
    char digits[24];
    snprintf(digits, sizeof digits, "%lld", (long long)v);
    put_number(o, key, digits, (double)v);
}

void out_uint(struct out *o, const char *key, uint64_t v) {
    char digits[24];
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)v);
    put_number(o, key, digits, (double)v);
}

// The shortest of the usual lengths that reads back as the same; a number with a point is not an integer to anybody.
void out_real(struct out *o, const char *key, double v) {
    char digits[40];
    if (!isfinite(v)) {
        out_null(o, key);
        return;
    }
    snprintf(digits, sizeof digits, "%.15g", v);
    if (strtod(digits, NULL) != v) snprintf(digits, sizeof digits, "%.17g", v);
    if (strpbrk(digits, ".e") == NULL) strncat(digits, ".0", sizeof digits - strlen(digits) - 1);
    put_number(o, key, digits, v);
}

void out_bool(struct out *o, const char *key, bool v) { put_number(o, key, v ? "true" : "false", v); }

void out_null(struct out *o, const char *key) { raw(o, key, "null"); }

void out_count(struct out *o, const char *key, uint64_t v, double rate) {
    char details[64];
    out_uint(o, key, v);
    snprintf(details, sizeof details, "%s_details", key);
    out_open(o, details, '{');
    out_real(o, "rate", rate);
    out_close(o, '}');
}

// ---- tables ---------------------------------------------------------------------------------------------

static void out_field(struct out *o, const char *key, const struct field *f) {
    switch (f->type) {
    case FIELD_BOOL: out_bool(o, key, f->integer != 0); return;
    case FIELD_I8:
    case FIELD_U8:
    case FIELD_I16:
    case FIELD_U16:
    case FIELD_I32:
    case FIELD_U32:
    case FIELD_I64: out_int(o, key, f->integer); return;
    case FIELD_TIMESTAMP: out_uint(o, key, (uint64_t)f->integer); return;
    case FIELD_FLOAT:
    case FIELD_DOUBLE: out_real(o, key, f->real); return;
    case FIELD_DECIMAL: out_real(o, key, (double)f->integer / pow(10, f->scale)); return;
    case FIELD_STRING:
    case FIELD_BYTES: out_view(o, key, f->bytes); return;
    case FIELD_ARRAY: out_array(o, key, f->bytes); return;
    case FIELD_TABLE: out_table(o, key, f->bytes); return;
    case FIELD_VOID: out_null(o, key); return;
    }
}

// A name may have anything in it: as a JSON text it is escaped, without its quotes.
static void entry_key(struct view name, char out[static 1600]) {
    struct buf b;
    buf_init(&b, 1600);
    write_text(&b, NULL, (const char *)name.data, name.length);
    size_t n = b.len >= 2 ? b.len - 2 : 0;
    if (n > 1599) n = 0;
    if (n > 0) memcpy(out, b.data + 1, n);
    out[n] = '\0';
    buf_release(&b);
}

void out_table(struct out *o, const char *key, struct view table) {
    struct table_cursor at = table_begin(table);
    struct view name;
    struct field f;
    char text[1600];
    out_open(o, key, '{');
    while (o->depth + 1 < OUT_DEPTH_MAX && table_next(&at, &name, &f)) {
        entry_key(name, text);
        out_field(o, text, &f);
    }
    out_close(o, '}');
}

void out_array(struct out *o, const char *key, struct view entries) {
    struct table_cursor at = table_begin(entries);
    struct field f;
    out_open(o, key, '[');
    while (o->depth + 1 < OUT_DEPTH_MAX && array_next(&at, &f)) out_field(o, NULL, &f);
    out_close(o, ']');
}
