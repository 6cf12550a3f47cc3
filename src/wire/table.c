#include "wire/table.h"

#include "base/assert.h"
#include "wire/bytes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 255
#define SORT_INLINE    32 // entries that are put in order without asking for memory

struct view view_of(const char *text) {
    return (struct view){(const uint8_t *)text, text == NULL ? 0 : (uint32_t)strlen(text)};
}

static bool view_equal(struct view a, struct view b) {
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

bool view_is(struct view v, const char *text) { return view_equal(v, view_of(text)); }

// ---- reading

static const uint8_t *take(struct view *rest, uint32_t n) {
    const uint8_t *at = rest->data;
    if (n > rest->length) return NULL;
    rest->data += n;
    rest->length -= n;
    return at;
}

// How many bytes a value has, the u32 length of those that have one included; -1: no such type.
static int fixed_size(uint8_t type) {
    switch (type) {
    case FIELD_VOID: return 0;
    case FIELD_BOOL:
    case FIELD_I8:
    case FIELD_U8: return 1;
    case FIELD_I16:
    case FIELD_U16: return 2;
    case FIELD_I32:
    case FIELD_U32:
    case FIELD_FLOAT:
    case FIELD_STRING:
    case FIELD_BYTES:
    case FIELD_ARRAY:
    case FIELD_TABLE: return 4;
    case FIELD_DECIMAL: return 5;
    case FIELD_I64:
    case FIELD_DOUBLE:
    case FIELD_TIMESTAMP: return 8;
    default: return -1;
    }
}

static bool has_length(uint8_t type) {
    return type == FIELD_STRING || type == FIELD_BYTES || type == FIELD_ARRAY || type == FIELD_TABLE;
}

static double load_float(const uint8_t *at) {
    uint32_t bits = load_u32(at);
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static double load_double(const uint8_t *at) {
    uint64_t bits = load_u64(at);
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

// A value, still as bytes: `fixed` the part that every one of its type has, `inside` what its length tells of.
struct value {
    uint8_t type;
    const uint8_t *fixed;
    struct view inside;
};

static inline bool take_value(struct view *rest, struct value *out) {
    const uint8_t *type = take(rest, 1);
    if (type == NULL) return false;
    out->type = *type == 'L' ? FIELD_I64 : *type;
    int size = fixed_size(out->type);
    out->fixed = size < 0 ? NULL : take(rest, (uint32_t)size);
    if (out->fixed == NULL) return false;
    out->inside = (struct view){0};
    if (!has_length(out->type)) return true;
    out->inside.length = load_u32(out->fixed);
    out->inside.data = take(rest, out->inside.length);
    return out->inside.data != NULL;
}

bool array_next(struct table_cursor *c, struct field *out) {
    struct view rest = c->rest;
    struct value v;
    if (!take_value(&rest, &v)) return false;
    c->rest = rest;
    *out = (struct field){.type = v.type};
    switch (out->type) {
    case FIELD_VOID: break;
    case FIELD_BOOL: out->integer = *v.fixed != 0; break;
    case FIELD_I8: out->integer = (int8_t)*v.fixed; break;
    case FIELD_U8: out->integer = *v.fixed; break;
    case FIELD_I16: out->integer = (int16_t)load_u16(v.fixed); break;
    case FIELD_U16: out->integer = load_u16(v.fixed); break;
    case FIELD_I32: out->integer = (int32_t)load_u32(v.fixed); break;
    case FIELD_U32: out->integer = load_u32(v.fixed); break;
    case FIELD_I64:
    case FIELD_TIMESTAMP: out->integer = (int64_t)load_u64(v.fixed); break;
    case FIELD_FLOAT: out->real = load_float(v.fixed); break;
    case FIELD_DOUBLE: out->real = load_double(v.fixed); break;
    case FIELD_DECIMAL:
        out->scale = *v.fixed;
        out->integer = (int32_t)load_u32(v.fixed + 1);
        break;
    case FIELD_STRING:
    case FIELD_BYTES:
    case FIELD_ARRAY:
    case FIELD_TABLE: out->bytes = v.inside; break;
    }
    return true;
}

struct table_cursor table_begin(struct view table) {
    // Never NULL, so that a NULL of take() always means too short.
    static const uint8_t nothing[1];
    return (struct table_cursor){table.length == 0 ? (struct view){nothing, 0} : table};
}

bool table_next(struct table_cursor *c, struct view *name, struct field *out) {
    struct table_cursor next = *c;
    const uint8_t *length = take(&next.rest, 1);
    if (length == NULL) return false;
    name->length = *length;
    name->data = take(&next.rest, name->length);
    if (name->data == NULL || !array_next(&next, out)) return false;
    *c = next;
    return true;
}

static inline bool take_name(struct view *rest) {
    const uint8_t *length = take(rest, 1);
    return length != NULL && take(rest, *length) != NULL;
}

static bool check(struct view entries, bool named, int depth) {
    struct view rest = table_begin(entries).rest;
    struct value v;
    if (depth > TABLE_DEPTH_MAX) return false;
    while (rest.length > 0) {
        if ((named && !take_name(&rest)) || !take_value(&rest, &v)) return false;
        if (v.type == FIELD_TABLE && !check(v.inside, true, depth + 1)) return false;
        if (v.type == FIELD_ARRAY && !check(v.inside, false, depth + 1)) return false;
    }
    return true;
}

bool table_check(struct view table) { return check(table, true, 1); }

bool table_find(struct view table, const char *name, struct field *out) {
    struct table_cursor c = table_begin(table);
    struct view wanted = view_of(name), seen;
    struct field f;
    while (table_next(&c, &seen, &f)) {
        if (!view_equal(seen, wanted)) continue;
        *out = f;
        return true;
    }
    return false;
}

// ---- comparing

static bool is_integer(enum field_type type) {
    return type == FIELD_I8 || type == FIELD_U8 || type == FIELD_I16 || type == FIELD_U16 || type == FIELD_I32 ||
           type == FIELD_U32 || type == FIELD_I64;
}

static bool is_real(enum field_type type) { return type == FIELD_FLOAT || type == FIELD_DOUBLE; }

bool field_integer(const struct field *f, int64_t *out) {
    if (!is_integer(f->type)) return false;
    *out = f->integer;
    return true;
}

static bool array_equal(struct view a, struct view b) {
    struct table_cursor at_a = table_begin(a), at_b = table_begin(b);
    for (;;) {
        struct field in_a, in_b;
        bool more_a = array_next(&at_a, &in_a), more_b = array_next(&at_b, &in_b);
        if (more_a != more_b) return false;
        if (!more_a) return true;
        if (!field_equal(&in_a, &in_b)) return false;
    }
}

bool field_equal(const struct field *a, const struct field *b) {
    if (is_integer(a->type) && is_integer(b->type)) return a->integer == b->integer;
    if (is_real(a->type) && is_real(b->type)) return a->real == b->real || (isnan(a->real) && isnan(b->real));
    if (a->type != b->type) return false;
    switch (a->type) {
    case FIELD_VOID: return true;
    case FIELD_DECIMAL: return a->scale == b->scale && a->integer == b->integer;
    case FIELD_STRING:
    case FIELD_BYTES: return view_equal(a->bytes, b->bytes);
    case FIELD_ARRAY: return array_equal(a->bytes, b->bytes);
    case FIELD_TABLE: return table_equal(a->bytes, b->bytes);
    default: return a->integer == b->integer;
    }
}

struct entry {
    struct view name;
    struct field field;
};

// By name; entries of one name stay in the order in which they are.
static int compare_entries(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    uint32_t shorter = x->name.length < y->name.length ? x->name.length : y->name.length;
    int order = memcmp(x->name.data, y->name.data, shorter);
    if (order != 0) return order;
    if (x->name.length != y->name.length) return x->name.length < y->name.length ? -1 : 1;
    return x->name.data < y->name.data ? -1 : x->name.data > y->name.data;
}

static size_t count_entries(struct view table) {
    struct table_cursor c = table_begin(table);
    struct entry e;
    size_t n = 0;
    while (table_next(&c, &e.name, &e.field)) n++;
    return n;
}

static void sort_entries(struct view table, struct entry *out, size_t n) {
    struct table_cursor c = table_begin(table);
    for (size_t i = 0; i < n; i++) ASSERT(table_next(&c, &out[i].name, &out[i].field));
    qsort(out, n, sizeof *out, compare_entries);
}

static bool entries_equal(struct view a, struct view b, struct entry *room, size_t n) {
    struct entry *of_a = room, *of_b = room + n;
    sort_entries(a, of_a, n);
    sort_entries(b, of_b, n);
    for (size_t i = 0; i < n; i++)
        if (!view_equal(of_a[i].name, of_b[i].name) || !field_equal(&of_a[i].field, &of_b[i].field)) return false;
    return true;
}

// In order, not each against each: a client may fill a frame with entries of two bytes.
bool table_equal(struct view a, struct view b) {
    if (view_equal(a, b)) return true;
    size_t n = count_entries(a);
    if (n != count_entries(b)) return false;
    struct entry few[2 * SORT_INLINE], *room = n <= SORT_INLINE ? few : calloc(2 * n, sizeof *room);
    bool equal = room != NULL && entries_equal(a, b, room, n);
    if (room != few) free(room);
    return equal;
}

// ---- writing

static uint8_t *append(struct buf *b, size_t n) {
    uint8_t *room = buf_reserve(b, n);
    if (room != NULL) b->len += n;
    return room;
}

void wire_u16(struct buf *b, uint16_t v) {
    uint8_t *room = append(b, sizeof v);
    if (room != NULL) store_u16(room, v);
}

void wire_u32(struct buf *b, uint32_t v) {
    uint8_t *room = append(b, sizeof v);
    if (room != NULL) store_u32(room, v);
}

void wire_u64(struct buf *b, uint64_t v) {
    uint8_t *room = append(b, sizeof v);
    if (room != NULL) store_u64(room, v);
}

bool wire_short_string(struct buf *b, struct view v) {
    if (v.length > NAME_MAX_BYTES) return false;
    uint8_t *room = append(b, 1 + (size_t)v.length);
    if (room == NULL) return true;
    room[0] = (uint8_t)v.length;
    if (v.length > 0) memcpy(room + 1, v.data, v.length);
    return true;
}

size_t table_start(struct buf *b) {
    size_t start = b->len;
    wire_u32(b, 0);
    return start;
}

void table_end(struct buf *b, size_t start) {
    if (b->failed) return;
    size_t length = b->len - start - sizeof(uint32_t);
    ASSERT(start + sizeof(uint32_t) <= b->len && length <= UINT32_MAX);
    store_u32(b->data + start, (uint32_t)length);
}

static void put_float(struct buf *b, double real) {
    float v = (float)real;
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    wire_u32(b, bits);
}

static void put_double(struct buf *b, double v) {
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    wire_u64(b, bits);
}

void array_put(struct buf *b, const struct field *f) {
    buf_add_u8(b, (uint8_t)f->type);
    switch (f->type) {
    case FIELD_VOID: break;
    case FIELD_BOOL: buf_add_u8(b, f->integer != 0); break;
    case FIELD_I8:
    case FIELD_U8: buf_add_u8(b, (uint8_t)f->integer); break;
    case FIELD_I16:
    case FIELD_U16: wire_u16(b, (uint16_t)f->integer); break;
    case FIELD_I32:
    case FIELD_U32: wire_u32(b, (uint32_t)f->integer); break;
    case FIELD_I64:
    case FIELD_TIMESTAMP: wire_u64(b, (uint64_t)f->integer); break;
    case FIELD_FLOAT: put_float(b, f->real); break;
    case FIELD_DOUBLE: put_double(b, f->real); break;
    case FIELD_DECIMAL:
        buf_add_u8(b, f->scale);
        wire_u32(b, (uint32_t)f->integer);
        break;
    case FIELD_STRING:
    case FIELD_BYTES:
    case FIELD_ARRAY:
    case FIELD_TABLE:
        wire_u32(b, f->bytes.length);
        buf_add(b, f->bytes.data, f->bytes.length);
        break;
    }
}

static void put_name(struct buf *b, struct view name) {
    if (!wire_short_string(b, name)) b->failed = true;
}

void table_put(struct buf *b, struct view name, const struct field *f) {
    put_name(b, name);
    array_put(b, f);
}

void table_put_text(struct buf *b, const char *name, const char *text) {
    table_put(b, view_of(name), &(struct field){.type = FIELD_STRING, .bytes = view_of(text)});
}

void table_put_integer(struct buf *b, const char *name, int64_t v) {
    table_put(b, view_of(name), &(struct field){.type = FIELD_I64, .integer = v});
}

void table_put_bool(struct buf *b, const char *name, bool v) {
    table_put(b, view_of(name), &(struct field){.type = FIELD_BOOL, .integer = v});
}

size_t table_put_table(struct buf *b, const char *name) {
    put_name(b, view_of(name));
    return array_put_table(b);
}

size_t table_put_array(struct buf *b, const char *name) {
    put_name(b, view_of(name));
    buf_add_u8(b, FIELD_ARRAY);
    return table_start(b);
}

size_t array_put_table(struct buf *b) {
    buf_add_u8(b, FIELD_TABLE);
    return table_start(b);
}
