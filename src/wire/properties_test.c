// The basic class's properties: as bytes and back, for every set of flags, cut short, too long.
#include "base/test.h"
#include "wire/properties.h"

// All of them: "\xff\xfc", then in their order.
#define PART_CONTENT_TYPE     "\x0atext/plain"
#define PART_CONTENT_ENCODING "\4gzip"
#define PART_HEADERS          "\0\0\0\x0a\1aI\0\0\0\7\1bV"
#define PART_DELIVERY_MODE    "\2"
#define PART_PRIORITY         "\x09"
#define PART_CORRELATION_ID   "\2c1"
#define PART_REPLY_TO         "\5reply"
#define PART_EXPIRATION                                                                                                \
    "\x05"                                                                                                             \
    "60000"
#define PART_MESSAGE_ID "\2m1"
#define PART_TIMESTAMP  "\0\0\0\0\x65\x92\0\x80"
#define PART_TYPE       "\1t"
#define PART_USER_ID    "\5guest"
#define PART_APP_ID     "\3app"
#define PART_CLUSTER_ID "\0"

#define PART(text)                                                                                                     \
    { text, sizeof(text) - 1 }
static const struct {
    const char *bytes;
    size_t length;
} PARTS[] = {
    // from flag 15 down
    PART(PART_CONTENT_TYPE), PART(PART_CONTENT_ENCODING), PART(PART_HEADERS),  PART(PART_DELIVERY_MODE),
    PART(PART_PRIORITY),     PART(PART_CORRELATION_ID),   PART(PART_REPLY_TO), PART(PART_EXPIRATION),
    PART(PART_MESSAGE_ID),   PART(PART_TIMESTAMP),        PART(PART_TYPE),     PART(PART_USER_ID),
    PART(PART_APP_ID),       PART(PART_CLUSTER_ID),
};

// Properties with these flags, each with the value above.
static void put_wire(struct buf *b, unsigned flags) {
    wire_u16(b, (uint16_t)flags);
    for (int i = 0; i < 14; i++)
        if (flags & 1u << (15 - i)) buf_add(b, PARTS[i].bytes, PARTS[i].length);
}

static void all_of_them_are_read(void **state) {
    (void)state;
    struct buf b;
    struct properties p;
    struct field f;
    buf_init(&b, 1000);
    put_wire(&b, 0xfffc);
    assert_true(properties_decode(&p, b.data, (uint32_t)b.len));
    assert_int_equal(p.flags, 0xfffc);
    assert_true(view_is(p.content_type, "text/plain"));
    assert_true(view_is(p.content_encoding, "gzip"));
    assert_true(table_find(p.headers, "a", &f) && f.integer == 7);
    assert_int_equal(p.delivery_mode, 2);
    assert_int_equal(p.priority, 9);
    assert_true(view_is(p.correlation_id, "c1"));
    assert_true(view_is(p.reply_to, "reply"));
    assert_true(view_is(p.expiration, "60000"));
    assert_true(view_is(p.message_id, "m1"));
    assert_int_equal(p.timestamp, 0x65920080);
    assert_true(view_is(p.type, "t"));
    assert_true(view_is(p.user_id, "guest"));
    assert_true(view_is(p.app_id, "app"));
    assert_true(p.cluster_id.data != NULL && p.cluster_id.length == 0); // there, and empty
    buf_release(&b);
}

static void every_set_of_them_comes_back_byte_for_byte(void **state) {
    (void)state;
    struct buf b, again;
    buf_init(&b, 1000);
    buf_init(&again, 1000);
    for (unsigned flags = 0; flags <= 0xfffc; flags += 4) {
        struct properties p;
        buf_clear(&b);
        buf_clear(&again);
        put_wire(&b, flags);
        assert_true(properties_decode(&p, b.data, (uint32_t)b.len));
        assert_true(properties_check(b.data, (uint32_t)b.len));
        assert_int_equal(p.content_type.data != NULL, (flags & PROPERTY_CONTENT_TYPE) != 0);
        assert_int_equal(p.headers.data != NULL, (flags & PROPERTY_HEADERS) != 0);
        properties_encode(&again, &p);
        assert_int_equal(again.len, b.len);
        assert_memory_equal(again.data, b.data, b.len);
        struct view headers = properties_headers(b.data, (uint32_t)b.len);
        assert_int_equal(headers.length, p.headers.length);
        assert_ptr_equal(headers.data, p.headers.data);
    }
    buf_release(&b);
    buf_release(&again);
}

static void cut_short_anywhere_they_are_refused(void **state) {
    (void)state;
    struct buf b;
    struct properties p;
    buf_init(&b, 1000);
    put_wire(&b, 0xfffc);
    for (uint32_t n = 0; n < b.len; n++) {
        uint8_t *exact = malloc(n + (n == 0)); // so that a sanitizer sees a step too far
        memcpy(exact, b.data, n);
        assert_false(properties_decode(&p, exact, n));
        assert_false(properties_check(exact, n));
        properties_headers(exact, n);
        free(exact);
    }
    assert_false(properties_decode(&p, NULL, 0));
    assert_null(properties_headers(NULL, 0).data);
    buf_release(&b);
}

static bool good(const void *bytes, size_t n) {
    struct properties p;
    bool decoded = properties_decode(&p, bytes, (uint32_t)n);
    assert_int_equal(properties_check(bytes, (uint32_t)n), decoded);
    return decoded;
}
#define GOOD(text) good(text, sizeof(text) - 1)

static void what_is_not_theirs_is_refused(void **state) {
    (void)state;
    assert_true(GOOD("\0\0"));
    assert_false(GOOD("\0\0\0")); // a byte too many
    assert_false(GOOD("\0\1"));
    assert_false(GOOD("\0\1\0\0"));               // more flags: there are none
    assert_false(GOOD("\0\2"));                   // a flag that means nothing
    assert_true(GOOD("\x20\0\0\0\0\0"));          // an empty table
    assert_false(GOOD("\x20\0\0\0\0\3\1k?"));     // headers of no type
    assert_false(GOOD("\x20\0\xff\xff\xff\xff")); // headers longer than everything
}

static void made_by_hand(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 1000);
    properties_encode(&b, &(struct properties){.flags = PROPERTY_CONTENT_TYPE | PROPERTY_DELIVERY_MODE,
                                               .content_type = view_of("text/plain"),
                                               .delivery_mode = 2,
                                               .app_id = view_of("not named by a flag")});
    assert_int_equal(b.len, 14);
    assert_memory_equal(b.data, "\x90\0\x0atext/plain\2", 14);
    buf_clear(&b);
    char text[257];
    memset(text, 'x', 256);
    text[256] = 0;
    properties_encode(&b, &(struct properties){.flags = PROPERTY_APP_ID, .app_id = view_of(text)});
    assert_false(buf_ok(&b));
    buf_release(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_them_are_read),
        cmocka_unit_test(every_set_of_them_comes_back_byte_for_byte),
        cmocka_unit_test(cut_short_anywhere_they_are_refused),
        cmocka_unit_test(what_is_not_theirs_is_refused),
        cmocka_unit_test(made_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
