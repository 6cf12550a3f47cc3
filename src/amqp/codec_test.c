// The codec: known bytes, every method there and back, every split point, every length.
#include "amqp/codec.h"

#include "base/test.h"

#define BIG 1000000

// ---- the bytes of some methods, as the specification has them

static void assert_bytes(const struct buf *b, const char *hex) {
    char text[1024], wanted[1024];
    size_t n = 0, w = 0;
    for (size_t i = 0; i < b->len; i++) n += (size_t)snprintf(text + n, sizeof text - n, "%02x", b->data[i]);
    for (const char *c = hex; *c != 0; c++)
        if (*c != ' ') wanted[w++] = *c;
    text[n] = wanted[w] = 0;
    assert_string_equal(text, wanted);
}

static void assert_method_bytes(uint16_t channel, const struct method *m, const char *hex) {
    struct buf b;
    buf_init(&b, BIG);
    method_encode(&b, channel, m);
    assert_true(buf_ok(&b));
    assert_bytes(&b, hex);
    buf_release(&b);
}
#define ASSERT_METHOD(channel, ID, place, hex, ...)                                                                    \
    assert_method_bytes(channel, &(struct method){.id = ID, .place = {__VA_ARGS__}}, hex)

static void known_bytes(void **state) {
    (void)state;
    ASSERT_METHOD(0, METHOD_CONNECTION_TUNE_OK, connection_tune_ok, "01 0000 0000000c 000a 001f 07ff 00020000 003c ce",
                  .channel_max = 2047, .frame_max = 131072, .heartbeat = 60);
    ASSERT_METHOD(0, METHOD_CONNECTION_OPEN, connection_open, "01 0000 00000008 000a 0028 01 2f 00 00 ce",
                  .virtual_host = view_of("/"));
    assert_method_bytes(0, &(struct method){.id = METHOD_CONNECTION_OPEN_OK}, "01 0000 00000005 000a 0029 00 ce");
    ASSERT_METHOD(0, METHOD_CONNECTION_CLOSE, connection_close,
                  "01 0000 00000011 000a 0032 0140 06 666f72636564 0000 0000 ce", .reply_code = 320,
                  .reply_text = view_of("forced"));
    ASSERT_METHOD(0, METHOD_CONNECTION_SECURE_OK, connection_secure_ok, "01 0000 0000000a 000a 0015 00000002 0061 ce",
                  .response = {(const uint8_t *)"\0a", 2});
    assert_method_bytes(1, &(struct method){.id = METHOD_CHANNEL_OPEN}, "01 0001 00000005 0014 000a 00 ce");
    assert_method_bytes(1, &(struct method){.id = METHOD_CHANNEL_OPEN_OK}, "01 0001 00000008 0014 000b 00000000 ce");
    ASSERT_METHOD(1, METHOD_QUEUE_DECLARE, queue_declare, "01 0001 00000010 0032 000a 0000 04 74657374 02 00000000 ce",
                  .queue = view_of("test"), .durable = true);
    ASSERT_METHOD(258, METHOD_QUEUE_DECLARE, queue_declare,
                  "01 0102 00000016 0032 000a 0000 00 19 0000000a 01 61 49 00000007 01 62 56 ce", .passive = true,
                  .auto_delete = true, .no_wait = true, .arguments = {(const uint8_t *)"\1aI\0\0\0\7\1bV", 10});
    ASSERT_METHOD(1, METHOD_EXCHANGE_DECLARE, exchange_declare,
                  "01 0001 00000013 0028 000a 0000 01 78 05 746f706963 08 00000000 ce", .exchange = view_of("x"),
                  .type = view_of("topic"), .internal = true);
    assert_method_bytes(1, &(struct method){.id = METHOD_EXCHANGE_UNBIND_OK}, "01 0001 00000004 0028 0033 ce");
    ASSERT_METHOD(1, METHOD_BASIC_QOS, basic_qos, "01 0001 0000000b 003c 000a 00000000 01f4 01 ce",
                  .prefetch_count = 500, .global = true);
    ASSERT_METHOD(1, METHOD_BASIC_PUBLISH, basic_publish, "01 0001 0000000a 003c 0028 0000 00 01 71 01 ce",
                  .routing_key = view_of("q"), .mandatory = true);
    ASSERT_METHOD(1, METHOD_BASIC_PUBLISH, basic_publish, "01 0001 0000000a 003c 0028 0000 01 65 00 02 ce",
                  .exchange = view_of("e"), .immediate = true);
    ASSERT_METHOD(1, METHOD_BASIC_GET_OK, basic_get_ok,
                  "01 0001 00000014 003c 0047 0000000000000003 01 00 01 71 00000009 ce", .delivery_tag = 3,
                  .redelivered = true, .routing_key = view_of("q"), .message_count = 9);
    ASSERT_METHOD(1, METHOD_BASIC_ACK, basic_ack, "01 0001 0000000d 003c 0050 0102030405060708 01 ce",
                  .delivery_tag = 0x0102030405060708, .multiple = true);
    ASSERT_METHOD(1, METHOD_BASIC_NACK, basic_nack, "01 0001 0000000d 003c 0078 0000000000000001 02 ce",
                  .delivery_tag = 1, .requeue = true);
    ASSERT_METHOD(1, METHOD_CONFIRM_SELECT, confirm_select, "01 0001 00000005 0055 000a 01 ce", .no_wait = true);
    assert_method_bytes(1, &(struct method){.id = METHOD_TX_ROLLBACK_OK}, "01 0001 00000004 005a 001f ce");
}

static void heartbeats(void **state) {
    (void)state;
    struct buf b;
    struct frame f;
    size_t consumed;
    buf_init(&b, BIG);
    heartbeat_encode(&b);
    assert_bytes(&b, "08 0000 00000000 ce");
    assert_int_equal(frame_decode(b.data, b.len, FRAME_MIN_SIZE, &f, &consumed), FRAME_DONE);
    assert_true(f.type == FRAME_HEARTBEAT && f.channel == 0 && f.payload.length == 0 && consumed == 8);
    buf_release(&b);
}

// ---- every method of the table

static const uint8_t TABLE_BYTES[] = "\1aI\0\0\0\7\4textS\0\0\0\2hi\4nestF\0\0\0\4\1bt\1";

// What is put into a field: different in each of a method, and other bits the next time.
struct filler {
    unsigned at, bits;
    char text[32][16];
};

static struct view fill_text(struct filler *f) {
    char *text = f->text[f->at];
    snprintf(text, sizeof f->text[0], "field %u \xc3\xa9", f->at++);
    return view_of(text);
}

static uint64_t fill_number(struct filler *f) { return 0xf1e2d3c4b5a69788u + 3 * f->at++; }
static struct view fill_table(struct filler *f) {
    f->at++;
    return (struct view){TABLE_BYTES, sizeof TABLE_BYTES - 1};
}
static bool fill_bit(struct filler *f) { return f->bits >> f->at++ & 1; }

#define METHOD(ID, place, name, class_id, method_id, fields)                                                           \
    static void fill_##place(struct filler *f, struct place *m) {                                                      \
        (void)f, (void)m;                                                                                              \
        fields                                                                                                         \
    }
#define CONTENT_METHOD METHOD
#define U8(name)       m->name = (uint8_t)fill_number(f);
#define U16(name)      m->name = (uint16_t)fill_number(f);
#define U32(name)      m->name = (uint32_t)fill_number(f);
#define U64(name)      m->name = fill_number(f);
#define BIT(name)      m->name = fill_bit(f);
#define SHORT(name)    m->name = fill_text(f);
#define LONG(name)     m->name = fill_text(f);
#define TABLE(name)    m->name = fill_table(f);
#define RESERVED_U16
#define RESERVED_BIT
#define RESERVED_SHORT
#define RESERVED_LONG
#include "amqp/methods.def"

static void assert_same_view(struct view a, struct view b) {
    assert_int_equal(a.length, b.length);
    assert_memory_equal(a.data, b.data, a.length);
}

#define METHOD(ID, place, name, class_id, method_id, fields)                                                           \
    static void same_##place(const struct place *a, const struct place *b) {                                           \
        (void)a, (void)b;                                                                                              \
        fields                                                                                                         \
    }
#define CONTENT_METHOD METHOD
#define U8(name)       assert_int_equal(a->name, b->name);
#define U16(name)      assert_int_equal(a->name, b->name);
#define U32(name)      assert_int_equal(a->name, b->name);
#define U64(name)      assert_true(a->name == b->name);
#define BIT(name)      assert_int_equal(a->name, b->name);
#define SHORT(name)    assert_same_view(a->name, b->name);
#define LONG(name)     assert_same_view(a->name, b->name);
#define TABLE(name)    assert_same_view(a->name, b->name);
#define RESERVED_U16
#define RESERVED_BIT
#define RESERVED_SHORT
#define RESERVED_LONG
#include "amqp/methods.def"

static const enum method_id METHODS[] = {
#define METHOD(ID, place, name, class_id, method_id, fields) METHOD_##ID,
#define CONTENT_METHOD                                       METHOD
#include "amqp/methods.def"
};
#define N_METHODS (sizeof METHODS / sizeof *METHODS)

static void fill(struct filler *f, struct method *m) {
    f->at = 0;
    switch (m->id) {
#define METHOD(ID, place, name, class_id, method_id, fields)                                                           \
    case METHOD_##ID:                                                                                                  \
        fill_##place(f, &m->place);                                                                                    \
        break;
#define CONTENT_METHOD METHOD
#include "amqp/methods.def"
    }
}

static void assert_same(const struct method *a, const struct method *b) {
    assert_int_equal(a->id, b->id);
    switch (a->id) {
#define METHOD(ID, place, name, class_id, method_id, fields)                                                           \
    case METHOD_##ID:                                                                                                  \
        same_##place(&a->place, &b->place);                                                                            \
        break;
#define CONTENT_METHOD METHOD
#include "amqp/methods.def"
    }
}

// In memory of its own of just that length, so that a sanitizer sees a step too far.
static enum method_result decode_exact(struct view payload, uint32_t length, struct method *out) {
    uint8_t *exact = malloc(length + (length == 0));
    memcpy(exact, payload.data, length < payload.length ? length : payload.length);
    if (length > payload.length) exact[payload.length] = 0;
    enum method_result result = method_decode((struct view){exact, length}, out);
    free(exact);
    return result;
}

static void every_method_there_and_back(void **state) {
    (void)state;
    struct buf b;
    struct filler f;
    buf_init(&b, BIG);
    assert_int_equal(N_METHODS, 14 + 6 + 2 + 8 + 10 + 18 + 2 + 6);
    for (size_t i = 0; i < N_METHODS; i++)
        for (unsigned bits = 0; bits < 512; bits++) {
            struct method m = {.id = METHODS[i]}, again;
            struct frame frame;
            size_t consumed;
            f.bits = bits;
            fill(&f, &m);
            buf_clear(&b);
            method_encode(&b, 7, &m);
            assert_int_equal(frame_decode(b.data, b.len, FRAME_MIN_SIZE, &frame, &consumed), FRAME_DONE);
            assert_true(frame.type == FRAME_METHOD && frame.channel == 7 && consumed == b.len);
            assert_int_equal(method_decode(frame.payload, &again), METHOD_DONE);
            assert_same(&m, &again);
        }
    buf_release(&b);
}

static void every_method_of_another_length_is_damaged(void **state) {
    (void)state;
    struct buf b;
    struct filler f = {.bits = ~0u};
    buf_init(&b, BIG);
    for (size_t i = 0; i < N_METHODS; i++) {
        struct method m = {.id = METHODS[i]}, again;
        struct frame frame;
        size_t consumed;
        fill(&f, &m);
        buf_clear(&b);
        method_encode(&b, 7, &m);
        assert_int_equal(frame_decode(b.data, b.len, FRAME_MIN_SIZE, &frame, &consumed), FRAME_DONE);
        for (uint32_t n = 0; n < frame.payload.length; n++)
            assert_int_equal(decode_exact(frame.payload, n, &again), METHOD_DAMAGED);
        assert_int_equal(decode_exact(frame.payload, frame.payload.length, &again), METHOD_DONE);
        assert_int_equal(decode_exact(frame.payload, frame.payload.length + 1, &again), METHOD_DAMAGED);
    }
    buf_release(&b);
}

static void names(void **state) {
    (void)state;
    assert_string_equal(method_name(METHOD_QUEUE_DECLARE), "queue.declare");
    assert_string_equal(method_name(METHOD_BASIC_RECOVER_ASYNC), "basic.recover-async");
    assert_string_equal(method_name((enum method_id)(60 << 16 | 999)), "unknown");
    for (size_t i = 0; i < N_METHODS; i++) {
        bool content = METHODS[i] == METHOD_BASIC_PUBLISH || METHODS[i] == METHOD_BASIC_RETURN ||
                       METHODS[i] == METHOD_BASIC_DELIVER || METHODS[i] == METHOD_BASIC_GET_OK;
        assert_int_equal(method_has_content(METHODS[i]), content);
        assert_int_equal(METHOD_CLASS(METHODS[i]) << 16 | METHOD_INDEX(METHODS[i]), METHODS[i]);
    }
    assert_false(method_has_content((enum method_id)0));
}

#define DECODE(bytes, out) method_decode((struct view){(const uint8_t *)(bytes), sizeof(bytes) - 1}, out)

static void what_a_method_may_not_hold(void **state) {
    (void)state;
    struct method m;
    assert_int_equal(DECODE("\0\x3c\x03\xe7", &m), METHOD_UNKNOWN);
    assert_int_equal(DECODE("\0\x63\0\x0a", &m), METHOD_UNKNOWN);
    assert_int_equal(DECODE("\0\x3c\0\x15\1\xff", &m), METHOD_DAMAGED); // a consumer tag that is not UTF-8
    assert_int_equal(DECODE("\0\x3c\0\x15\2\xc3\xa9", &m), METHOD_DONE);
    // queue.unbind with arguments of no type
    assert_int_equal(DECODE("\0\x32\0\x32\0\0\0\0\0\0\0\0\3\1k?", &m), METHOD_DAMAGED);
    assert_int_equal(DECODE("\0\x32\0\x32\0\0\0\0\0\0\0\0\3\1kV", &m), METHOD_DONE);
    // the bits that are in no use are read over, and so is what is reserved
    assert_int_equal(DECODE("\0\x3c\0\x28\xff\xff\0\0\xfd", &m), METHOD_DONE);
    assert_true(m.basic_publish.mandatory && !m.basic_publish.immediate);
    assert_int_equal(DECODE("\0\x0a\0\x28\1/\3abc\1", &m), METHOD_DONE);
    assert_true(view_is(m.connection_open.virtual_host, "/"));
}

static void too_long_a_string_fails_the_buffer(void **state) {
    (void)state;
    char text[257];
    memset(text, 'x', 256);
    text[256] = 0;
    struct buf b;
    buf_init(&b, BIG);
    struct method m = {.id = METHOD_BASIC_CANCEL_OK, .basic_cancel_ok.consumer_tag = view_of(text + 1)};
    method_encode(&b, 1, &m);
    assert_true(buf_ok(&b) && b.len == 8 + 4 + 256);
    m.basic_cancel_ok.consumer_tag = view_of(text);
    method_encode(&b, 1, &m);
    assert_true(!buf_ok(&b) && b.len == 8 + 4 + 256);
    buf_release(&b);
}

// ---- frames and contents

static void bad_frames(void **state) {
    (void)state;
    static const uint8_t head[] = {1, 0, 1, 0, 0, 0x10, 0};
    struct frame f;
    size_t consumed = 1;
    for (unsigned type = 0; type < 256; type++) {
        uint8_t first = (uint8_t)type;
        bool known = type == 1 || type == 2 || type == 3 || type == 8;
        assert_int_equal(frame_decode(&first, 1, 0, &f, &consumed), known ? FRAME_MORE : FRAME_BAD_TYPE);
    }
    assert_int_equal(frame_decode(head, sizeof head, 4096, &f, &consumed), FRAME_MORE); // its overhead forgotten
    assert_int_equal(frame_decode(head, sizeof head, 4096 - 1, &f, &consumed), FRAME_TOO_LARGE);
    assert_int_equal(frame_decode(head, sizeof head - 1, 4096 - 1, &f, &consumed), FRAME_MORE);
    assert_int_equal(frame_decode(head, sizeof head, 0, &f, &consumed), FRAME_MORE);
    assert_int_equal(frame_decode((const uint8_t *)"\1\0\1\xff\xff\xff\xff", 7, 0, &f, &consumed), FRAME_MORE);
    assert_int_equal(frame_decode((const uint8_t *)"\1\0\1\xff\xff\xff\xff", 7, 131072, &f, &consumed),
                     FRAME_TOO_LARGE);
    assert_int_equal(frame_decode((const uint8_t *)"\3\0\1\0\0\0\1a\xcd", 9, 4096, &f, &consumed), FRAME_BAD_END);
    assert_int_equal(consumed, 0);
    assert_int_equal(frame_decode((const uint8_t *)"\3\0\1\0\0\0\1a\xce", 9, 4096, &f, &consumed), FRAME_DONE);
    assert_int_equal(consumed, 9);
}

static const uint8_t PROPERTIES[] = {0x10, 0x00, 0x02};
static const struct view PERSISTENT = {PROPERTIES, sizeof PROPERTIES};

static void contents_as_bytes(void **state) {
    (void)state;
    struct buf b;
    struct method m = {.id = METHOD_BASIC_DELIVER,
                       .basic_deliver = {.consumer_tag = view_of("c"),
                                         .delivery_tag = 1,
                                         .redelivered = true,
                                         .exchange = view_of("e"),
                                         .routing_key = view_of("k")}};
    static const char deliver[] = "01 0001 00000013 003c 003c 01 63 0000000000000001 01 01 65 01 6b ce";
    char wanted[256];
    buf_init(&b, BIG);
    content_encode(&b, 1, &m, PERSISTENT, view_of("hello"), 4096);
    snprintf(wanted, sizeof wanted, "%s %s", deliver,
             "02 0001 0000000f 003c 0000 0000000000000005 1000 02 ce 03 0001 00000005 68656c6c6f ce");
    assert_bytes(&b, wanted);
    buf_clear(&b);
    content_encode(&b, 1, &m, (struct view){0}, (struct view){0},
                   4096); // no properties are none of them, no body no frame
    snprintf(wanted, sizeof wanted, "%s %s", deliver, "02 0001 0000000e 003c 0000 0000000000000000 0000 ce");
    assert_bytes(&b, wanted);
    buf_clear(&b);
    content_encode(&b, 1, &m, PERSISTENT, view_of("hello"), 8 + 2);
    snprintf(wanted, sizeof wanted, "%s %s", deliver,
             "02 0001 0000000f 003c 0000 0000000000000005 1000 02 ce 03 0001 00000002 6865 ce 03 0001 00000002 6c6c ce "
             "03 0001 00000001 6f ce");
    assert_bytes(&b, wanted);
    struct buf pieces; // the same in pieces
    buf_init(&pieces, BIG);
    content_head_encode(&pieces, 1, &m, PERSISTENT, 5);
    body_frame_encode(&pieces, 1, view_of("he"));
    body_frame_encode(&pieces, 1, view_of("ll"));
    body_frame_encode(&pieces, 1, view_of("o"));
    assert_int_equal(pieces.len, b.len);
    assert_memory_equal(pieces.data, b.data, b.len);
    buf_release(&pieces);
    buf_release(&b);
}

static void bodies_fill_frames(void **state) {
    (void)state;
    static uint8_t body[3 * 4088 + 1];
    struct method m = {.id = METHOD_BASIC_PUBLISH};
    static const uint32_t lengths[] = {0, 1, 4087, 4088, 4089, 2 * 4088, 2 * 4088 + 1, sizeof body};
    for (size_t i = 0; i < sizeof body; i++) body[i] = (uint8_t)(i * 7 >> 3);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct buf b, got;
        struct frame f;
        size_t consumed, at = 0, frames = 0;
        buf_init(&b, BIG);
        buf_init(&got, BIG);
        content_encode(&b, 1, &m, PERSISTENT, (struct view){body, lengths[i]}, 4096);
        while (frame_decode(b.data + at, b.len - at, 4096, &f, &consumed) == FRAME_DONE) {
            at += consumed;
            if (f.type != FRAME_BODY) continue;
            frames++;
            buf_add(&got, f.payload.data, f.payload.length);
        }
        assert_int_equal(at, b.len);
        assert_int_equal(frames, (lengths[i] + 4087) / 4088);
        assert_int_equal(got.len, lengths[i]);
        if (got.len > 0) assert_memory_equal(got.data, body, got.len);
        buf_release(&got);
        buf_release(&b);
    }
}

static void headers_of_contents(void **state) {
    (void)state;
    static const char header[] = "\0\x3c\0\0\0\0\0\1\0\0\0\2\x30\0\0\0\0\3\1kV\2";
    struct content_header h;
    struct view v = {(const uint8_t *)header, sizeof header - 1};
    assert_int_equal(content_header_decode(v, &h), METHOD_DONE);
    assert_int_equal(h.class_id, 60);
    assert_int_equal(h.body_size, 0x100000002);
    assert_ptr_equal(h.properties.data, header + 12);
    assert_int_equal(h.properties.length, v.length - 12);
    for (uint32_t n = 0; n < v.length; n++) {
        uint8_t *exact = malloc(n + (n == 0));
        memcpy(exact, header, n);
        assert_int_equal(content_header_decode((struct view){exact, n}, &h), METHOD_DAMAGED);
        free(exact);
    }
    assert_int_equal(content_header_decode((struct view){(const uint8_t *)"\0\x32\0\0\0\0\0\0\0\0\0\0\0\0", 14}, &h),
                     METHOD_UNKNOWN);
    assert_int_equal(h.class_id, 50);
    assert_int_equal(content_header_decode((struct view){(const uint8_t *)"\0\x3c\0\1\0\0\0\0\0\0\0\0\0\0", 14}, &h),
                     METHOD_DAMAGED); // a weight
}

// Everything that there is, in one stream.
static void put_stream(struct buf *b) {
    struct filler f = {.bits = 0x55};
    for (size_t i = 0; i < N_METHODS; i++) {
        struct method m = {.id = METHODS[i]};
        fill(&f, &m);
        if (method_has_content(m.id)) content_encode(b, (uint16_t)i, &m, PERSISTENT, view_of("some body"), 8 + 4);
        else method_encode(b, (uint16_t)i, &m);
        if (i % 10 == 0) heartbeat_encode(b);
    }
}

// Reads frames up to `end`, from where the last call stopped; each must be the one that the whole stream has there.
static size_t read_frames(const struct buf *b, size_t at, size_t end, size_t *frames) {
    struct frame f, whole;
    size_t consumed, all;
    enum frame_result r;
    uint8_t *exact = malloc(end - at + (end == at));
    memcpy(exact, b->data + at, end - at);
    size_t done = 0;
    while ((r = frame_decode(exact + done, end - at - done, FRAME_MIN_SIZE, &f, &consumed)) == FRAME_DONE) {
        assert_int_equal(frame_decode(b->data + at + done, b->len - at - done, 0, &whole, &all), FRAME_DONE);
        assert_true(f.type == whole.type && f.channel == whole.channel && consumed == all);
        assert_same_view(f.payload, whole.payload);
        done += consumed;
        (*frames)++;
    }
    assert_int_equal(r, FRAME_MORE);
    assert_int_equal(consumed, 0);
    free(exact);
    return at + done;
}

static void a_stream_split_anywhere(void **state) {
    (void)state;
    struct buf b;
    size_t total = 0;
    buf_init(&b, BIG);
    put_stream(&b);
    assert_int_equal(read_frames(&b, 0, b.len, &total), b.len);
    for (size_t split = 0; split <= b.len; split++) {
        size_t frames = 0, at = read_frames(&b, 0, split, &frames);
        assert_true(at <= split);
        assert_int_equal(read_frames(&b, at, b.len, &frames), b.len);
        assert_int_equal(frames, total);
    }
    size_t frames = 0, at = 0;
    for (size_t end = 0; end <= b.len; end++) at = read_frames(&b, at, end, &frames); // byte by byte
    assert_true(at == b.len && frames == total);
    buf_release(&b);
}

static void full_buffers_are_left_as_they_were(void **state) {
    (void)state;
    struct method m = {.id = METHOD_BASIC_DELIVER, .basic_deliver.consumer_tag = view_of("c")};
    size_t whole = 0;
    for (size_t max = 0; max < 200; max++) {
        struct buf b;
        buf_init(&b, max);
        content_encode(&b, 1, &m, PERSISTENT, view_of("hello"), 4096);
        if (buf_ok(&b) && whole == 0) whole = b.len;
        assert_int_equal(b.len, buf_ok(&b) ? whole : 0);
        assert_true(buf_ok(&b) == (whole != 0));
        buf_release(&b);
    }
    assert_true(whole > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_bytes),
        cmocka_unit_test(heartbeats),
        cmocka_unit_test(every_method_there_and_back),
        cmocka_unit_test(every_method_of_another_length_is_damaged),
        cmocka_unit_test(names),
        cmocka_unit_test(what_a_method_may_not_hold),
        cmocka_unit_test(too_long_a_string_fails_the_buffer),
        cmocka_unit_test(bad_frames),
        cmocka_unit_test(contents_as_bytes),
        cmocka_unit_test(bodies_fill_frames),
        cmocka_unit_test(headers_of_contents),
        cmocka_unit_test(a_stream_split_anywhere),
        cmocka_unit_test(full_buffers_are_left_as_they_were),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
