// For tests: field tables and properties written in one line.
#ifndef BARID_ENGINE_TABLE_TEST_H
#define BARID_ENGINE_TABLE_TEST_H

#include "base/test.h"

#include "wire/properties.h"

// Tables are made in turn in a few buffers, so that several may be in use at once.
static inline struct buf *table_fresh(void) {
    static struct buf buffers[16];
    static unsigned turn;
    struct buf *b = &buffers[turn++ % 16];
    if (b->max) buf_release(b);
    buf_init(b, 1 << 20);
    return b;
}

static inline struct view view_of_buf(const struct buf *b) { return (struct view){b->data, (uint32_t)b->len}; }

// Properties with these headers, and an expiration when not NULL.
static inline struct view properties_with(struct view headers, const char *expiration) {
    struct properties p = {.flags = PROPERTY_HEADERS, .headers = headers};
    if (expiration) {
        p.flags |= PROPERTY_EXPIRATION;
        p.expiration = view_of(expiration);
    }
    struct buf *b = table_fresh();
    properties_encode(b, &p);
    assert_true(buf_ok(b));
    return view_of_buf(b);
}

#endif
