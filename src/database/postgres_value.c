// Values to and from PostgreSQL, in its binary form: integers in network order, texts and bytes as they are.
#include "database/postgres.h"

#include "base/assert.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

// From the server's pg_type, where they never change.
enum {
    TYPE_BOOL = 16,
    TYPE_BYTEA = 17,
    TYPE_CHAR = 18,
    TYPE_NAME = 19,
    TYPE_INT8 = 20,
    TYPE_INT2 = 21,
    TYPE_INT4 = 23,
    TYPE_TEXT = 25,
    TYPE_OID = 26,
    TYPE_XID = 28,
    TYPE_JSON = 114,
    TYPE_UNKNOWN = 705,
    TYPE_BYTEA_ARRAY = 1001,
    TYPE_TEXT_ARRAY = 1009,
    TYPE_INT8_ARRAY = 1016,
    TYPE_BPCHAR = 1042,
    TYPE_VARCHAR = 1043,
    TYPE_VOID = 2278,
    TYPE_UUID = 2950,
    TYPE_JSONB = 3802,
    TYPE_XID8 = 5069,
    TYPE_FIRST_OF_USERS = 16384, // enums are sent as their text
};

static void put(char *to, uint64_t v, int bytes) {
    for (int i = bytes; i-- > 0; v >>= 8) to[i] = (char)(v & 0xff);
}

static struct postgres_parameter *parameter(struct db_stmt *base, int index, Oid type) {
    struct postgres_stmt *s = (struct postgres_stmt *)base;
    if (index < 1 || index > s->parameters) die("there is no parameter ?%d in: %s", index, s->text);
    struct postgres_parameter *p = &s->bound[index - 1];
    free(p->array);
    *p = (struct postgres_parameter){.type = type};
    s->usual[index - 1] = type;
    return p;
}

static int checked_size(size_t n) {
    if (n > INT_MAX / 2) die("a value of %zu bytes is bound", n);
    return (int)n;
}

void postgres_bind_int(struct db_stmt *s, int index, int64_t v) {
    struct postgres_parameter *p = parameter(s, index, TYPE_INT8);
    put(p->number, (uint64_t)v, 8);
    p->value = p->number;
    p->size = 8;
}

static void bind_bytes(struct db_stmt *s, int index, Oid type, const void *data, size_t n) {
    struct postgres_parameter *p = parameter(s, index, type);
    p->value = data;
    p->size = checked_size(n);
}

void postgres_bind_text(struct db_stmt *s, int index, const char *text, size_t n) {
    bind_bytes(s, index, TYPE_TEXT, text, n);
}

void postgres_bind_blob(struct db_stmt *s, int index, const void *data, size_t n) {
    bind_bytes(s, index, TYPE_BYTEA, data, n);
}

void postgres_bind_null(struct db_stmt *base, int index) {
    struct postgres_stmt *s = (struct postgres_stmt *)base;
    Oid usual = index >= 1 && index <= s->parameters ? s->usual[index - 1] : 0;
    parameter(base, index, usual);
}

// An array: dimensions (one, or none when it is empty), whether there are nulls, the kind of element; then how many and
// the first index; then each element with its size in front.
static char *array_of(struct postgres_parameter *p, Oid element, size_t n, size_t bytes, bool nulls) {
    size_t size = n ? 20 + 4 * n + bytes : 12;
    p->size = checked_size(size);
    p->value = p->array = malloc(size);
    if (!p->array) die("no memory for an array of %zu", n);
    put(p->array, n ? 1 : 0, 4);
    put(p->array + 4, nulls, 4);
    put(p->array + 8, element, 4);
    if (!n) return p->array + 12;
    put(p->array + 12, n, 4);
    put(p->array + 16, 1, 4);
    return p->array + 20;
}

static char *put_element(char *at, const void *data, size_t n) {
    put(at, data ? n : UINT32_MAX, 4);
    if (data && n) memcpy(at + 4, data, n);
    return at + 4 + (data ? n : 0);
}

void postgres_bind_ints(struct db_stmt *s, int index, const int64_t *v, size_t n) {
    char *at = array_of(parameter(s, index, TYPE_INT8_ARRAY), TYPE_INT8, n, 8 * n, false);
    for (size_t i = 0; i < n; i++, at += 12) {
        put(at, 8, 4);
        put(at + 4, (uint64_t)v[i], 8);
    }
}

void postgres_bind_texts(struct db_stmt *s, int index, const char *const *texts, size_t n) {
    size_t bytes = 0;
    bool nulls = false;
    for (size_t i = 0; i < n; i++) {
        if (texts[i]) bytes += strlen(texts[i]);
        else nulls = true;
    }
    char *at = array_of(parameter(s, index, TYPE_TEXT_ARRAY), TYPE_TEXT, n, bytes, nulls);
    for (size_t i = 0; i < n; i++) at = put_element(at, texts[i], texts[i] ? strlen(texts[i]) : 0);
}

void postgres_bind_blobs(struct db_stmt *s, int index, const struct db_bytes *v, size_t n) {
    size_t bytes = 0;
    bool nulls = false;
    for (size_t i = 0; i < n; i++) {
        if (v[i].data) bytes += v[i].n;
        else nulls = true;
    }
    char *at = array_of(parameter(s, index, TYPE_BYTEA_ARRAY), TYPE_BYTEA, n, bytes, nulls);
    for (size_t i = 0; i < n; i++) at = put_element(at, v[i].data, v[i].n);
}

void postgres_unbind(struct postgres_stmt *s) {
    for (int i = 0; i < s->parameters; i++) {
        free(s->bound[i].array);
        s->bound[i] = (struct postgres_parameter){.type = s->usual[i]};
    }
}

// ---- columns

struct cell {
    Oid type;
    const char *data; // NULL: null. libpq keeps a zero behind it.
    size_t size;
};

static struct cell cell_of(struct db_stmt *base, int column) {
    struct postgres_stmt *s = (struct postgres_stmt *)base;
    if (!s->result || s->row >= PQntuples(s->result)) die("a column is read without a row: %s", s->text);
    if (column < 0 || column >= PQnfields(s->result)) die("there is no column %d in: %s", column, s->text);
    if (PQgetisnull(s->result, s->row, column)) return (struct cell){.data = NULL};
    return (struct cell){PQftype(s->result, column), PQgetvalue(s->result, s->row, column),
                         (size_t)PQgetlength(s->result, s->row, column)};
}

_Noreturn static void wrong_type(struct db_stmt *s, int column, Oid type, const char *wanted) {
    die("column %d of type %u is read as %s (cast it in the statement): %s", column, type, wanted,
        ((struct postgres_stmt *)s)->text);
}

int64_t postgres_read_int(struct db_stmt *s, int column) {
    struct cell c = cell_of(s, column);
    if (!c.data) return 0;
    switch (c.type) {
    case TYPE_BOOL:
    case TYPE_INT2:
    case TYPE_INT4:
    case TYPE_INT8:
    case TYPE_OID:
    case TYPE_XID:
    case TYPE_XID8: break;
    default: wrong_type(s, column, c.type, "a number");
    }
    bool is_signed = c.type == TYPE_INT2 || c.type == TYPE_INT4;
    uint64_t v = is_signed && (c.data[0] & 0x80) ? UINT64_MAX : 0;
    for (size_t i = 0; i < c.size; i++) v = v << 8 | (uint8_t)c.data[i];
    return (int64_t)v;
}

bool postgres_read_null(struct db_stmt *s, int column) { return !cell_of(s, column).data; }

static bool is_text(Oid type) {
    switch (type) {
    case TYPE_TEXT:
    case TYPE_VARCHAR:
    case TYPE_BPCHAR:
    case TYPE_NAME:
    case TYPE_CHAR:
    case TYPE_UNKNOWN:
    case TYPE_VOID:
    case TYPE_JSON:
    case TYPE_JSONB:
    case TYPE_BYTEA: return true;
    default: return type >= TYPE_FIRST_OF_USERS;
    }
}

const char *postgres_read_text(struct db_stmt *s, int column, size_t *n) {
    struct cell c = cell_of(s, column);
    if (n) *n = 0;
    if (!c.data) return NULL;
    if (!is_text(c.type)) wrong_type(s, column, c.type, "a text");
    size_t skip = c.type == TYPE_JSONB && c.size ? 1 : 0; // the version of the format
    if (n) *n = c.size - skip;
    return c.data + skip;
}

const void *postgres_read_blob(struct db_stmt *s, int column, size_t *n) {
    struct cell c = cell_of(s, column);
    if (n) *n = 0;
    if (!c.data) return NULL;
    if (!is_text(c.type) && c.type != TYPE_UUID) wrong_type(s, column, c.type, "bytes");
    if (n) *n = c.size;
    return c.data;
}
