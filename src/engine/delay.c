#include "engine/delay.h"

#include "wire/properties.h"

#define DELAY_MAX INT64_C(3153600000000) // a hundred years

static bool digits(struct view text, int64_t *out) {
    int64_t n = 0;
    if (text.length == 0 || text.length > 18) return false;
    for (uint32_t i = 0; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return false;
        n = n * 10 + (text.data[i] - '0');
    }
    *out = n;
    return true;
}

static bool milliseconds(const struct field *f, int64_t *out) {
    if (f->type == FIELD_STRING) return digits(f->bytes, out);
    if (f->type != FIELD_FLOAT && f->type != FIELD_DOUBLE) return field_integer(f, out);
    if (!(f->real >= 1)) return false;
    *out = f->real < (double)DELAY_MAX ? (int64_t)f->real : DELAY_MAX;
    return true;
}

bool delay_of(const void *properties, uint32_t length, uint64_t *ms) {
    struct field f;
    int64_t n;
    if (!table_find(properties_headers(properties, length), "x-delay", &f) || !milliseconds(&f, &n)) return false;
    *ms = (uint64_t)(n < DELAY_MAX ? n : DELAY_MAX);
    return n > 0;
}

// Some clients read an l as unsigned, so what fits is an I.
static struct field negated(int64_t n) {
    return (struct field){.type = n <= INT32_MAX ? FIELD_I32 : FIELD_I64, .integer = -n};
}

bool delay_negate(struct buf *out, struct view properties) {
    struct properties p = {0};
    struct buf headers;
    if (!properties_decode(&p, properties.data, properties.length)) return false;
    buf_init(&headers, out->max);
    struct table_cursor c = table_begin(p.headers);
    struct view name;
    struct field f;
    while (table_next(&c, &name, &f)) {
        int64_t n;
        if (view_is(name, "x-delay") && milliseconds(&f, &n) && n > 0) f = negated(n);
        table_put(&headers, name, &f);
    }
    p.headers = (struct view){headers.data, (uint32_t)headers.len};
    properties_encode(out, &p);
    bool good = buf_ok(&headers) && buf_ok(out);
    buf_release(&headers);
    return good;
}
