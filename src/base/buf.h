// A growable byte buffer with a bound.
//
// Appending beyond `max` (or running out of memory) sets `failed` and leaves the content as it was; callers
// append freely and check `buf_ok` once at the end. Embedded: buf_init / buf_release.
#ifndef BARID_BASE_BUF_H
#define BARID_BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    uint8_t *data;
    size_t len;
    size_t cap;
    size_t max;
    bool failed;
};

void buf_init(struct buf *b, size_t max);
void buf_release(struct buf *b);
void buf_clear(struct buf *b); // len = 0, keeps the memory, clears `failed`
bool buf_ok(const struct buf *b);
uint8_t *buf_reserve(struct buf *b, size_t n); // room for n bytes at the end, NULL when over the bound
void buf_add(struct buf *b, const void *data, size_t n);
void buf_add_str(struct buf *b, const char *s);
void buf_add_u8(struct buf *b, uint8_t v);
void buf_add_u16(struct buf *b, uint16_t v); // little endian, as everything in our own files
void buf_add_u32(struct buf *b, uint32_t v);
void buf_add_u64(struct buf *b, uint64_t v);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_consume(struct buf *b, size_t n); // drop n bytes from the front
char *buf_cstr(struct buf *b);             // NUL-terminated view of the content, not counted in len

// A reader over bytes someone else owns: reading past the end sets `failed` and gives zeros.
struct reader {
    const uint8_t *data;
    size_t len;
    size_t at;
    bool failed;
};

struct reader reader_of(const void *data, size_t len);
uint8_t read_u8(struct reader *r);
uint16_t read_u16(struct reader *r);
uint32_t read_u32(struct reader *r);
uint64_t read_u64(struct reader *r);
const uint8_t *read_bytes(struct reader *r, size_t n); // a view, NULL when past the end

#endif
