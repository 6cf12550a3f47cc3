// Fuzzes what is read from AMQP clients: frames, methods, content headers, tables. clang's libFuzzer drives it
// (tools/run_tests.py fuzz); the corpus is in fuzz/amqp.
//
//   0    what the rest is: 0 a stream of frames, 1 a method's payload, 2 a content header's payload, 3 a table's
//   entries 1    of a stream: where it is split, in 256ths
//
// Whatever the input: no crash, no step outside of it; a stream means the same however it is split; what was accepted
// and is written again is accepted again and means the same, properties byte for byte.
#include "amqp/codec.h"
#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

#define FRAME_MAX 4096
#define OUT_MAX   (1u << 20)

enum { STREAM, METHOD_PAYLOAD, HEADER_PAYLOAD, TABLE_ENTRIES, KINDS };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// ---- tables

static void rewrite(struct buf *b, struct view entries, bool named) {
    struct table_cursor c = table_begin(entries);
    struct view name;
    struct field f;
    while (named ? table_next(&c, &name, &f) : array_next(&c, &f)) {
        struct buf inside;
        buf_init(&inside, OUT_MAX);
        if (f.type == FIELD_TABLE || f.type == FIELD_ARRAY) {
            rewrite(&inside, f.bytes, f.type == FIELD_TABLE);
            f.bytes = (struct view){inside.data, (uint32_t)inside.len};
        }
        if (named) table_put(b, name, &f);
        else array_put(b, &f);
        buf_release(&inside);
    }
}

static void walk(struct view entries, bool named) {
    struct table_cursor c = table_begin(entries);
    struct view name;
    struct field f;
    while (named ? table_next(&c, &name, &f) : array_next(&c, &f)) {
        const uint8_t *end = entries.data + entries.length;
        ASSERT(f.bytes.data == NULL || (f.bytes.data >= entries.data && f.bytes.length <= end - f.bytes.data));
    }
}

static void try_table(struct view entries) {
    struct buf b;
    struct field f;
    walk(entries, true);
    walk(entries, false);
    table_find(entries, "x-match", &f);
    if (!table_check(entries)) return;
    buf_init(&b, OUT_MAX);
    rewrite(&b, entries, true);
    struct view again = {b.data, (uint32_t)b.len};
    ASSERT(buf_ok(&b) && again.length == entries.length);
    ASSERT(table_check(again) && table_equal(entries, again) && table_equal(again, entries));
    buf_release(&b);
}

// ---- payloads

static void try_properties(struct view bytes) {
    struct properties p;
    struct buf b;
    struct view headers = properties_headers(bytes.data, bytes.length);
    bool good = properties_decode(&p, bytes.data, bytes.length);
    ASSERT(properties_check(bytes.data, bytes.length) == good);
    if (!good) return;
    ASSERT(headers.data == p.headers.data && headers.length == p.headers.length);
    buf_init(&b, OUT_MAX);
    properties_encode(&b, &p);
    ASSERT(buf_ok(&b) && b.len == bytes.length && memcmp(b.data, bytes.data, b.len) == 0);
    buf_release(&b);
    try_table(p.headers);
}

static void try_header(struct view payload) {
    struct content_header h;
    enum method_result r = content_header_decode(payload, &h);
    ASSERT((r == METHOD_UNKNOWN) == (payload.length >= 12 && h.class_id != 60));
    if (payload.length >= 12) try_properties((struct view){payload.data + 12, payload.length - 12});
}

static struct view only_payload(const struct buf *b) {
    struct frame f;
    size_t consumed;
    ASSERT(buf_ok(b) && frame_decode(b->data, b->len, 0, &f, &consumed) == FRAME_DONE && consumed == b->len);
    ASSERT(f.type == FRAME_METHOD && f.channel == 9);
    return f.payload;
}

static void try_method(struct view payload) {
    struct method m, again;
    struct buf first, second;
    enum method_result r = method_decode(payload, &m);
    if (payload.length >= 4) ASSERT((r == METHOD_UNKNOWN) == (strcmp(method_name(m.id), "unknown") == 0));
    if (r != METHOD_DONE) return;
    buf_init(&first, OUT_MAX);
    buf_init(&second, OUT_MAX);
    method_encode(&first, 9, &m);
    ASSERT(method_decode(only_payload(&first), &again) == METHOD_DONE);
    method_encode(&second, 9, &again);
    ASSERT(buf_ok(&second) && first.len == second.len && memcmp(first.data, second.data, first.len) == 0);
    buf_release(&first);
    buf_release(&second);
}

// ---- streams

struct seen {
    size_t frames, bytes;
    enum frame_result last;
};

static void try_frame(const struct frame *f) {
    ASSERT(f->payload.length <= FRAME_MAX - FRAME_OVERHEAD);
    if (f->type == FRAME_METHOD) try_method(f->payload);
    if (f->type == FRAME_HEADER) try_header(f->payload);
}

static void read_stream(const uint8_t *data, size_t n, struct seen *seen, bool deep) {
    struct frame f;
    size_t consumed;
    while ((seen->last = frame_decode(data, n, FRAME_MAX, &f, &consumed)) == FRAME_DONE) {
        ASSERT(consumed >= FRAME_OVERHEAD && consumed <= n);
        if (deep) try_frame(&f);
        data += consumed;
        n -= consumed;
        seen->bytes += consumed;
        seen->frames++;
    }
    ASSERT(consumed == 0);
}

static void try_stream(const uint8_t *data, size_t n, size_t split) {
    struct seen whole = {0}, parts = {0};
    read_stream(data, n, &whole, true);
    uint8_t *first = malloc(split + (split == 0)); // so that a step behind the split is seen
    memcpy(first, data, split);
    read_stream(first, split, &parts, false);
    if (parts.last == FRAME_MORE) read_stream(data + parts.bytes, n - parts.bytes, &parts, false);
    ASSERT(parts.frames == whole.frames && parts.bytes == whole.bytes && parts.last == whole.last);
    free(first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    size_t n = size - 2;
    uint8_t *exact = malloc(n + (n == 0));
    memcpy(exact, data + 2, n);
    struct view rest = {exact, (uint32_t)n};
    switch (data[0] % KINDS) {
    case STREAM: try_stream(exact, n, n * data[1] / 256); break;
    case METHOD_PAYLOAD: try_method(rest); break;
    case HEADER_PAYLOAD: try_header(rest); break;
    case TABLE_ENTRIES: try_table(rest); break;
    }
    free(exact);
    return 0;
}
