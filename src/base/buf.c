// The growable buffer and the reader of buf.h. One spare byte is always allocated behind `cap`, so that
// buf_cstr can end the content with NUL without growing anything.
#include "base/buf.h"

#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAP_FIRST 64

void buf_init(struct buf *b, size_t max) { *b = (struct buf){.max = max < SIZE_MAX ? max : SIZE_MAX - 1}; }

void buf_release(struct buf *b) {
    free(b->data);
    buf_init(b, b->max);
}

void buf_clear(struct buf *b) {
    b->len = 0;
    b->failed = false;
}

bool buf_ok(const struct buf *b) { return !b->failed; }

static size_t grown_cap(const struct buf *b, size_t need) {
    size_t cap = b->cap < CAP_FIRST ? CAP_FIRST : b->cap;
    while (cap < need) cap = cap > b->max / 2 ? b->max : cap * 2;
    return cap < b->max ? cap : b->max;
}

uint8_t *buf_reserve(struct buf *b, size_t n) {
    if (b->failed || n > b->max - b->len) {
        b->failed = true;
        return NULL;
    }
    if (b->data == NULL || n > b->cap - b->len) {
        size_t cap = grown_cap(b, b->len + n);
        uint8_t *data = realloc(b->data, cap + 1);
        if (data == NULL) {
            b->failed = true;
            return NULL;
        }
        b->data = data;
        b->cap = cap;
    }
    return b->data + b->len;
}

void buf_add(struct buf *b, const void *data, size_t n) {
    uint8_t *room = buf_reserve(b, n);
    if (room == NULL || n == 0) return;
    memcpy(room, data, n);
    b->len += n;
}

void buf_add_str(struct buf *b, const char *s) { buf_add(b, s, strlen(s)); }

static void add_little_endian(struct buf *b, uint64_t v, size_t n) {
    uint8_t *room = buf_reserve(b, n);
    if (room == NULL) return;
    for (size_t i = 0; i < n; i++) room[i] = (uint8_t)(v >> (8 * i));
    b->len += n;
}

void buf_add_u8(struct buf *b, uint8_t v) { add_little_endian(b, v, 1); }
void buf_add_u16(struct buf *b, uint16_t v) { add_little_endian(b, v, 2); }
void buf_add_u32(struct buf *b, uint32_t v) { add_little_endian(b, v, 4); }
void buf_add_u64(struct buf *b, uint64_t v) { add_little_endian(b, v, 8); }

void buf_printf(struct buf *b, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    uint8_t *room = n < 0 ? NULL : buf_reserve(b, (size_t)n);
    if (room == NULL) {
        b->failed = true;
        return;
    }
    va_start(args, format);
    vsnprintf((char *)room, (size_t)n + 1, format, args); // the NUL goes into the spare byte
    va_end(args);
    b->len += (size_t)n;
}

void buf_consume(struct buf *b, size_t n) {
    ASSERT(n <= b->len);
    if (n == 0) return;
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
}

char *buf_cstr(struct buf *b) {
    static char empty[1];
    if (b->data == NULL) return empty;
    b->data[b->len] = 0;
    return (char *)b->data;
}

struct reader reader_of(const void *data, size_t len) {
    return (struct reader){.data = data, .len = len};
}

const uint8_t *read_bytes(struct reader *r, size_t n) {
    static const uint8_t nothing[1];
    if (r->failed || n > r->len - r->at) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *view = r->data == NULL ? nothing : r->data + r->at;
    r->at += n;
    return view;
}

static uint64_t read_little_endian(struct reader *r, size_t n) {
    const uint8_t *bytes = read_bytes(r, n);
    uint64_t v = 0;
    for (size_t i = 0; bytes != NULL && i < n; i++) v |= (uint64_t)bytes[i] << (8 * i);
    return v;
}

uint8_t read_u8(struct reader *r) { return (uint8_t)read_little_endian(r, 1); }
uint16_t read_u16(struct reader *r) { return (uint16_t)read_little_endian(r, 2); }
uint32_t read_u32(struct reader *r) { return (uint32_t)read_little_endian(r, 4); }
uint64_t read_u64(struct reader *r) { return read_little_endian(r, 8); }
