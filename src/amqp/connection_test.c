// A connection, bytes in and bytes out: how it begins, what it refuses and with which words, how it ends.
#include "amqp/door_test.h"

static const struct amqp_options plain = {0};

// ---- the whole way, cut in two everywhere

static void add_method(struct buf *b, uint16_t channel, const struct method *m) { method_encode(b, channel, m); }
#define ADD(b, channel, ...) add_method(b, channel, &(struct method){__VA_ARGS__})

static void add_content(struct buf *b, const char *first, const char *second) {
    ADD(b, 1, .id = METHOD_BASIC_PUBLISH, .basic_publish = {.routing_key = view_of("q")});
    // header: class 60, weight 0, body size 6, delivery-mode 2
    buf_add(b, "\x02\0\x01\0\0\0\x0f\0\x3c\0\0\0\0\0\0\0\0\0\x06\x10\0\x02\xce", 23);
    body_frame_encode(b, 1, view_of(first));
    if (second) body_frame_encode(b, 1, view_of(second));
}

static void add_conversation(struct buf *b) {
    buf_add(b, PROTOCOL_HEADER, 8);
    ADD(b, 0, .id = METHOD_CONNECTION_START_OK,
        .connection_start_ok = {.mechanism = view_of("PLAIN"),
                                .response = {(const uint8_t *)"\0guest\0guest", 12},
                                .locale = view_of("en_US")});
    ADD(b, 0, .id = METHOD_CONNECTION_TUNE_OK, .connection_tune_ok = {.frame_max = 4096, .heartbeat = 10});
    ADD(b, 0, .id = METHOD_CONNECTION_OPEN, .connection_open.virtual_host = view_of("/"));
    ADD(b, 1, .id = METHOD_CHANNEL_OPEN);
    ADD(b, 1, .id = METHOD_QUEUE_DECLARE, .queue_declare = {.queue = view_of("q"), .durable = true});
    add_content(b, "as one", NULL);
    heartbeat_encode(b);
    add_content(b, "in", " two");
    ADD(b, 1, .id = METHOD_QUEUE_DECLARE, .queue_declare = {.queue = view_of("q"), .durable = true});
    ADD(b, 1, .id = METHOD_BASIC_GET, .basic_get = {.queue = view_of("q"), .no_ack = true});
    ADD(b, 1, .id = METHOD_BASIC_GET, .basic_get = {.queue = view_of("q"), .no_ack = true});
    ADD(b, 1, .id = METHOD_BASIC_GET, .basic_get = {.queue = view_of("q"), .no_ack = true});
    ADD(b, 1, .id = METHOD_QUEUE_DELETE, .queue_delete = {.queue = view_of("q")});
    ADD(b, 1, .id = METHOD_CHANNEL_CLOSE, .channel_close.reply_code = 200);
    ADD(b, 0, .id = METHOD_CONNECTION_CLOSE, .connection_close.reply_code = 200);
}

#define FRAME(type, channel, length) type "\0" channel "\0\0\0" length
#define OK(class, method)            FRAME("\x01", "\x01", "\x04") "\0" class "\0" method "\xce"
#define GET_OK(tag, body, left)                                                                                        \
    FRAME("\x01", "\x01", "\x14")                                                                                      \
    "\0\x3c\0\x47\0\0\0\0\0\0\0" tag "\0\0\x01q\0\0\0" left                                                            \
    "\xce" FRAME("\x02", "\x01", "\x0f") "\0\x3c\0\0\0\0\0\0\0\0\0\x06\x10\0\x02\xce" FRAME("\x03", "\x01", "\x06")    \
        body "\xce"

// Everything after connection.start.
static const char answers[] = FRAME("\x01", "\0", "\x0c") "\0\x0a\0\x1e\x07\xff\0\x02\0\0\0\x3c\xce" // tune
    FRAME("\x01", "\0", "\x05") "\0\x0a\0\x29\0\xce"                                                 // open-ok
    FRAME("\x01", "\x01", "\x08") "\0\x14\0\x0b\0\0\0\0\xce"                                         // channel.open-ok
    FRAME("\x01", "\x01", "\x0e") "\0\x32\0\x0b\x01q\0\0\0\0\0\0\0\0\xce"                            // declare-ok
    FRAME("\x01", "\x01", "\x0e") "\0\x32\0\x0b\x01q\0\0\0\x02\0\0\0\0\xce"                          // with two
    GET_OK("\x01", "as one", "\x01") GET_OK("\x02", "in two", "\0")                                  // get-ok
    FRAME("\x01", "\x01", "\x05") "\0\x3c\0\x48\0\xce"                                               // get-empty
    FRAME("\x01", "\x01", "\x08") "\0\x32\0\x29\0\0\0\0\xce"                                         // delete-ok
    OK("\x14", "\x29")                                                                               // channel.close-ok
    FRAME("\x01", "\0", "\x04") "\0\x0a\0\x33\xce";                                                  // close-ok

static void check_answers(struct door *d) {
    assert_true(connection_done(d->c));
    assert_memory_equal(d->said.data, "\x01\0\0", 3);
    HEARD(d, "0 connection.start");
    assert_int_equal(d->said.len, sizeof answers - 1);
    assert_memory_equal(d->said.data, answers, sizeof answers - 1);
}

static void whole_conversation_to_the_byte(void **state) {
    struct door *d = door_new(&plain);
    struct buf b;
    buf_init(&b, SIZE_MAX);
    add_conversation(&b);
    door_feed(d, b.data, b.len);
    check_answers(d);
    buf_release(&b);
    door_free(d);
}

static void every_split_point_gives_the_same(void **state) {
    struct buf b;
    buf_init(&b, SIZE_MAX);
    add_conversation(&b);
    struct door *d = door_new(&plain);
    for (size_t at = 1; at < b.len; at++) {
        door_feed(d, b.data, at);
        door_feed(d, b.data + at, b.len - at);
        check_answers(d);
        connection_free(d->c);
        door_connect(d);
    }
    for (size_t at = 0; at < b.len; at++) door_feed(d, b.data + at, 1);
    check_answers(d);
    door_free(d);
    buf_release(&b);
}

// ---- beginning

static void start_says_what_clients_look_for(void **state) {
    struct door *d = door_new(&plain);
    struct frame f;
    struct method m;
    size_t used;
    struct field field;
    door_feed(d, PROTOCOL_HEADER, 8);
    assert_int_equal(frame_decode(d->said.data, d->said.len, 0, &f, &used), FRAME_DONE);
    assert_int_equal(method_decode(f.payload, &m), METHOD_DONE);
    assert_int_equal(m.id, METHOD_CONNECTION_START);
    assert_int_equal(m.connection_start.version_major, 0);
    assert_int_equal(m.connection_start.version_minor, 9);
    assert_true(view_is(m.connection_start.mechanisms, "PLAIN AMQPLAIN"));
    assert_true(view_is(m.connection_start.locales, "en_US"));
    struct view properties = m.connection_start.server_properties;
    assert_true(table_find(properties, "product", &field) && view_is(field.bytes, "RabbitMQ"));
    assert_true(table_find(properties, "version", &field) && view_is(field.bytes, "3.13.7"));
    assert_true(table_find(properties, "capabilities", &field));
    struct view capabilities = field.bytes;
    assert_true(table_find(capabilities, "publisher_confirms", &field) && field.integer);
    assert_true(table_find(capabilities, "basic.nack", &field) && field.integer);
    assert_true(table_find(capabilities, "direct_reply_to", &field) && field.integer);
    door_free(d);
}

static void another_protocol_is_told_ours(void **state) {
    static const char *const others[] = {"AMQP\0\1\0\x0a", "AMQP\1\1\x08\0", "GET / HTTP/1.1\r\n", "AMQP\0\0\x09\0"};
    for (size_t i = 0; i < 4; i++) {
        struct door *d = door_new(&plain);
        door_feed(d, others[i], 8);
        assert_int_equal(d->said.len, 8);
        assert_memory_equal(d->said.data, PROTOCOL_HEADER, 8);
        assert_true(connection_done(d->c));
        door_free(d);
    }
}

static void wrong_password(void **state) {
    struct door *d = door_new(&plain);
    door_feed(d, PROTOCOL_HEADER, 8);
    door_start_ok(d, "wrong", true);
    HEARD(d, "0 connection.start");
    HEARD(d, "0 connection.close 403 ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For "
             "details see the broker logfile.");
    struct amqp_stats stats;
    amqp_stats(d->amqp, &stats);
    assert_int_equal(stats.auth_failures, 1);
    door_free(d);
}

static void wrong_password_without_the_capability(void **state) {
    struct door *d = door_new(&plain);
    door_feed(d, PROTOCOL_HEADER, 8);
    door_start_ok(d, "wrong", false);
    HEARD(d, "0 connection.start");
    HEARD(d, "");
    assert_false(connection_done(d->c));
    connection_tick(d->c, 1000);
    assert_false(connection_done(d->c));
    connection_tick(d->c, 1000 + SILENT_MS);
    assert_true(connection_done(d->c));
    door_free(d);
}

static void gone_while_logging_in(void **state) {
    struct door *d = door_new(&plain);
    door_feed(d, PROTOCOL_HEADER, 8);
    struct buf b;
    buf_init(&b, SIZE_MAX);
    ADD(&b, 0, .id = METHOD_CONNECTION_START_OK,
        .connection_start_ok = {.mechanism = view_of("PLAIN"), .response = {(const uint8_t *)"\0guest\0guest", 12}});
    assert_int_equal(connection_input(d->c, b.data, b.len), b.len);
    assert_non_null(fake.done);
    connection_free(d->c);
    fake.done(fake.arg, ERR_OK, &fake_guest);
    fake.done = NULL;
    buf_release(&b);
    door_free(d);
}

static void limits_are_agreed_on(void **state) {
    static const struct {
        uint16_t channel_max;
        uint32_t frame_max;
        const char *answer;
    } cases[] = {
        {0, 0, ""},
        {10, 4096, ""},
        {0, 4095,
         "0 connection.close 530 NOT_ALLOWED - negotiated frame_max = 4095 is lower than the minimum allowed "
         "value (4096)"},
        {0, 131073,
         "0 connection.close 530 NOT_ALLOWED - negotiated frame_max = 131073 is higher than the maximum "
         "allowed value (131072)"},
        {2048, 0,
         "0 connection.close 530 NOT_ALLOWED - negotiated channel_max = 2048 is higher than the maximum allowed "
         "value (2047)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct door *d = door_new(&plain);
        door_tune(d, cases[i].channel_max, cases[i].frame_max, 0);
        HEARD(d, cases[i].answer);
        door_free(d);
    }
}

static void virtual_hosts(void **state) {
    static const char *const cases[][2] = {
        {"other", "0 connection.open-ok"},
        {"nowhere", "0 connection.close 530 NOT_ALLOWED - vhost nowhere not found"},
        {"closed", "0 connection.close 530 NOT_ALLOWED - access to vhost 'closed' refused for user 'guest'"},
    };
    for (size_t i = 0; i < 3; i++) {
        struct door *d = door_new(&plain);
        door_open(d, cases[i][0]);
        HEARD(d, cases[i][1]);
        door_free(d);
    }
}

static void unexpected_before_open(void **state) {
    struct door *d = door_new(&plain);
    door_tune(d, 0, 0, 0);
    SAY(d, 0, .id = METHOD_CONNECTION_TUNE_OK);
    HEARD(d, "0 connection.close 504 CHANNEL_ERROR - unexpected method in connection state opening");
    door_free(d);
}

static void a_stranger_is_told_nothing(void **state) {
    struct door *d = door_new(&plain);
    door_feed(d, PROTOCOL_HEADER, 8);
    HEARD(d, "0 connection.start");
    SAY(d, 1, .id = METHOD_CHANNEL_OPEN);
    HEARD(d, "");
    assert_true(d->c->closing);
    door_free(d);
}

static void a_stranger_is_not_listened_to_for_long(void **state) {
    struct door *d = door_new(&plain);
    door_feed(d, PROTOCOL_HEADER, 8);
    HEARD(d, "0 connection.start");
    door_feed(d, "\1\0\0\0\0\x20\0", 7); // a frame of 8 KiB may come
    assert_false(d->c->closing);
    connection_free(d->c);
    door_connect(d);
    door_feed(d, PROTOCOL_HEADER, 8);
    HEARD(d, "0 connection.start");
    door_feed(d, "\1\0\0\0\0\x20\1", 7);
    assert_true(d->c->closing);
    door_free(d);
}

static void handshake_takes_only_so_long(void **state) {
    struct door *d = door_new(&plain);
    door_feed(d, "AMQP", 4);
    connection_tick(d->c, 1000);
    connection_tick(d->c, 10999);
    assert_false(connection_done(d->c));
    connection_tick(d->c, 11000);
    assert_true(connection_done(d->c));
    door_free(d);
}

// ---- frames that are wrong

static void wrong_frames(void **state) {
    static const struct {
        const char *bytes;
        size_t n;
        const char *answer;
    } cases[] = {
        {"\x08\0\0\0\0\0\0\xcd", 8,
         "0 connection.close 501 FRAME_ERROR - type 8, channel 0, size 0: invalid frame end marker"},
        {"\x09\0\0\0\0\0\0\xce", 8, "0 connection.close 501 FRAME_ERROR - unknown frame type 9 on channel 0"},
        {"\x03\0\1\0\1\0\0", 7, "0 connection.close 501 FRAME_ERROR - type 3, channel 1, {frame_too_large,65536,4088}"},
        {"\x08\0\1\0\0\0\0\xce", 8, "0 connection.close 505 UNEXPECTED_FRAME - a heartbeat on channel 1"},
        {"\x02\0\0\0\0\0\0\xce", 8, "0 connection.close 505 UNEXPECTED_FRAME - unexpected frame on channel 0: type 2"},
        {"\x02\0\1\0\0\0\0\xce", 8,
         "0 connection.close 505 UNEXPECTED_FRAME - expected method frame, got non method frame instead"},
        {"\x03\0\2\0\0\0\0\xce", 8, "0 connection.close 504 CHANNEL_ERROR - expected 'channel.open'"},
        {"\x01\0\2\0\0\0\x04\0\x5a\0\x0a\xce", 12, "0 connection.close 504 CHANNEL_ERROR - expected 'channel.open'"},
        {"\x01\0\1\0\0\0\x05\0\x14\0\x0a\0\xce", 13,
         "0 connection.close 504 CHANNEL_ERROR - second 'channel.open' seen"},
        {"\x01\0\1\0\0\0\x04\0\x63\0\x0a\xce", 12,
         "0 connection.close 540 NOT_IMPLEMENTED - unknown method on channel 1"},
        {"\x01\0\1\0\0\0\x04\0\x32\0\x0a\xce", 12,
         "0 connection.close 502 SYNTAX_ERROR - cannot decode a method on channel 1"},
        {"\x01\0\1\0\0\0\x04\0\x0a\0\x33\xce", 12,
         "0 connection.close 503 COMMAND_INVALID - connection.close-ok on channel 1"},
        {"\x01\0\0\0\0\0\x04\0\x5a\0\x0a\xce", 12,
         "0 connection.close 504 CHANNEL_ERROR - unexpected method in connection state running"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct door *d = door_new(&plain);
        door_open_channel(d);
        door_feed(d, cases[i].bytes, cases[i].n);
        HEARD(d, cases[i].answer);
        HEARD(d, "");
        door_free(d);
    }
}

static void wrong_contents(void **state) {
    static const struct {
        const char *bytes;
        size_t n;
        const char *answer;
    } cases[] = {
        {"\x03\0\1\0\0\0\0\xce", 8,
         "0 connection.close 505 UNEXPECTED_FRAME - expected content header for class 60, got non content header frame "
         "instead"},
        {"\x01\0\1\0\0\0\x04\0\x5a\0\x0a\xce", 12,
         "0 connection.close 505 UNEXPECTED_FRAME - expected content header for class 60, got non content header frame "
         "instead"},
        {"\x02\0\1\0\0\0\x0e\0\x3d\0\0\0\0\0\0\0\0\0\0\0\0\xce", 22,
         "0 connection.close 505 UNEXPECTED_FRAME - expected content header for class 60, got one for another class "
         "instead"},
        {"\x02\0\1\0\0\0\x03\0\x3c\0\xce", 11, "0 connection.close 502 SYNTAX_ERROR - cannot decode a content header"},
        {"\x02\0\1\0\0\0\x0e\0\x3c\0\0\0\0\0\0\0\0\0\1\0\0\xce\x03\0\1\0\0\0\2ab\xce", 32,
         "0 connection.close 501 FRAME_ERROR - a body longer than its header said"},
        {"\x02\0\1\0\0\0\x0e\0\x3c\0\0\0\0\0\0\0\0\0\1\0\0\xce\x01\0\1\0\0\0\x04\0\x5a\0\x0a\xce", 34,
         "0 connection.close 505 UNEXPECTED_FRAME - expected content body, got non content body frame instead"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct door *d = door_new(&plain);
        door_open_channel(d);
        SAY(d, 1, .id = METHOD_BASIC_PUBLISH, .basic_publish = {.routing_key = view_of("q")});
        door_feed(d, cases[i].bytes, cases[i].n);
        HEARD(d, cases[i].answer);
        door_free(d);
    }
}

static void too_many_channels(void **state) {
    struct door *d = door_new(&plain);
    door_tune(d, 2, 4096, 0);
    SAY(d, 0, .id = METHOD_CONNECTION_OPEN, .connection_open.virtual_host = view_of("/"));
    HEARD(d, "0 connection.open-ok");
    SAY(d, 1, .id = METHOD_CHANNEL_OPEN);
    SAY(d, 2, .id = METHOD_CHANNEL_OPEN);
    HEARD(d, "1 channel.open-ok");
    HEARD(d, "2 channel.open-ok");
    SAY(d, 3, .id = METHOD_CHANNEL_OPEN);
    HEARD(d,
          "0 connection.close 530 NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max "
          "(2)");
    door_free(d);
}

// ---- a channel's errors

static void too_large_a_body_ends_the_channel_alone(void **state) {
    struct door *d = door_new(&(struct amqp_options){.max_body = 3});
    door_open_channel(d);
    struct buf b;
    buf_init(&b, SIZE_MAX);
    add_content(&b, "as", " one");
    door_feed(d, b.data, b.len);
    HEARD(d, "1 channel.close 406 PRECONDITION_FAILED - message size 6 is larger than configured max size 3");
    // Everything but close-ok is dropped.
    SAY(d, 1, .id = METHOD_QUEUE_DECLARE, .queue_declare = {.queue = view_of("q")});
    door_feed(d, b.data, b.len);
    HEARD(d, "");
    SAY(d, 1, .id = METHOD_CHANNEL_CLOSE_OK);
    SAY(d, 1, .id = METHOD_CHANNEL_OPEN);
    HEARD(d, "1 channel.open-ok");
    buf_release(&b);
    door_free(d);
}

static void both_close_a_channel(void **state) {
    struct door *d = door_new(&plain);
    door_open_channel(d);
    SAY(d, 1, .id = METHOD_QUEUE_DECLARE, .queue_declare = {.queue = view_of("none"), .passive = true});
    HEARD(d, "1 channel.close 404 NOT_FOUND - no queue 'none' in vhost '/'");
    SAY(d, 1, .id = METHOD_CHANNEL_CLOSE);
    HEARD(d, "1 channel.close-ok");
    SAY(d, 1, .id = METHOD_CHANNEL_OPEN);
    HEARD(d, "1 channel.open-ok");
    door_free(d);
}

static void flow_cannot_be_stopped(void **state) {
    struct door *d = door_new(&plain);
    door_open_channel(d);
    SAY(d, 1, .id = METHOD_CHANNEL_FLOW, .channel_flow.active = true);
    HEARD(d, "1 channel.flow-ok");
    SAY(d, 1, .id = METHOD_CHANNEL_FLOW, .channel_flow.active = false);
    HEARD(d, "0 connection.close 540 NOT_IMPLEMENTED - active=false");
    door_free(d);
}

static void what_was_published_without_confirms_is_there_for_who_looks(void **state) {
    struct door *d = door_new(&plain);
    door_open_channel(d);
    rig_queue(d->rig, "q", (struct queue_options){.durable = true});
    struct buf b;
    buf_init(&b, SIZE_MAX);
    add_content(&b, "as one", NULL);
    ADD(&b, 1, .id = METHOD_BASIC_GET, .basic_get = {.queue = view_of("q"), .no_ack = true});
    add_content(&b, "purged", NULL);
    ADD(&b, 1, .id = METHOD_QUEUE_PURGE, .queue_purge = {.queue = view_of("q")});
    ADD(&b, 1, .id = METHOD_BASIC_GET, .basic_get = {.queue = view_of("q"), .no_ack = true});
    door_feed(d, b.data, b.len);
    HEARD(d, "1 basic.get-ok");
    HEARD(d, "1 header");
    HEARD(d, "1 body as one");
    HEARD(d, "1 queue.purge-ok");
    HEARD(d, "1 basic.get-empty");
    buf_release(&b);
    door_free(d);
}

static void a_close_is_answered_when_what_was_published_is_there(void **state) {
    for (int all = 0; all < 2; all++) {
        struct door *d = door_new(&plain);
        door_open_channel(d);
        rig_queue(d->rig, "q", (struct queue_options){.durable = true});
        struct buf b;
        struct queue_info q;
        buf_init(&b, SIZE_MAX);
        add_content(&b, "as one", NULL);
        if (all) ADD(&b, 0, .id = METHOD_CONNECTION_CLOSE);
        else ADD(&b, 1, .id = METHOD_CHANNEL_CLOSE);
        size_t used = connection_input(d->c, b.data, b.len); // and the disk does nothing yet
        assert_true(used < b.len);
        assert_int_equal(d->c->out.len, 0);
        door_pass(d); // now it has
        door_feed(d, b.data + used, b.len - used);
        HEARD(d, all ? "0 connection.close-ok" : "1 channel.close-ok");
        assert_true(engine_queue(d->rig->vhost, "q", &q));
        assert_int_equal(q.ready, 1);
        buf_release(&b);
        door_free(d);
    }
}

static void a_delivery_unanswered_for_too_long(void **state) {
    struct door *d = door_new(&(struct amqp_options){.consumer_timeout_ms = 5000});
    door_open_channel(d);
    rig_queue(d->rig, "q", (struct queue_options){.durable = true});
    SAY(d, 1, .id = METHOD_BASIC_CONSUME, .basic_consume = {.queue = view_of("q")});
    struct buf b;
    buf_init(&b, SIZE_MAX);
    add_content(&b, "as one", NULL);
    door_feed(d, b.data, b.len);
    buf_clear(&d->said);
    uint64_t now_ms = io_sim_io(d->rig->sim)->v->monotonic_ns(io_sim_io(d->rig->sim)) / 1000000;
    connection_tick(d->c, now_ms + 4000);
    door_pass(d);
    HEARD(d, "");
    connection_tick(d->c, now_ms + 6000);
    door_pass(d);
    HEARD(d, "1 channel.close 406 PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value "
             "used: 5000 ms. This timeout value can be configured, see consumers doc guide to learn more");
    struct queue_info info;
    assert_true(engine_queue(d->rig->vhost, "q", &info));
    assert_int_equal(info.ready, 1);
    buf_release(&b);
    door_free(d);
}

// ---- time

static void heartbeats_both_ways(void **state) {
    struct door *d = door_new(&plain);
    door_open_channel(d); // agrees on 10 s
    uint64_t now = 100000;
    connection_tick(d->c, now);
    connection_tick(d->c, now + 4800);
    door_listen(d);
    HEARD(d, "");
    connection_tick(d->c, now + 5000);
    door_listen(d);
    HEARD(d, "heartbeat");
    connection_tick(d->c, now + 19000);
    assert_false(connection_done(d->c));
    door_feed(d, "\x08\0\0\0\0\0\0\xce", 8);
    connection_tick(d->c, now + 20000);
    connection_tick(d->c, now + 39999);
    assert_false(connection_done(d->c));
    connection_tick(d->c, now + 40000);
    assert_true(connection_done(d->c));
    door_free(d);
}

// Says that `waiting` bytes wait to be written, looks each second, and tells after how many it was taken for dead.
static int seconds_alive(struct door *d, uint64_t waiting, uint64_t taken_a_second) {
    connection_sent(d->c, 0, waiting);
    for (int s = 0; s < 60; s++) {
        connection_tick(d->c, 100000 + (uint64_t)s * 1000);
        if (connection_done(d->c)) return s;
        waiting -= taken_a_second;
        connection_sent(d->c, taken_a_second, waiting);
    }
    return 60;
}

static void who_takes_nothing_is_dead_though_it_is_not_read_from(void **state) {
    struct door *d = door_new(&plain);
    door_open_channel(d); // agrees on 10 s
    assert_int_equal(seconds_alive(d, OUT_STOP + 1000, 0), 20);
    connection_free(d->c);
    door_connect(d);
    door_open_channel(d);
    assert_int_equal(seconds_alive(d, OUT_STOP + 1000, 10), 60);
    door_free(d);
}

static void close_ok_is_waited_for_only_so_long(void **state) {
    struct door *d = door_new(&plain);
    door_open_channel(d);
    assert_int_equal(amqp_close_connection(d->amqp, "127.0.0.1:51234 -> 127.0.0.1:5672", "enough"), ERR_OK);
    door_pass(d);
    HEARD(d, "0 connection.close 320 CONNECTION_FORCED - enough");
    connection_tick(d->c, 1000);
    connection_tick(d->c, 1000 + CLOSE_OK_MS - 1);
    assert_false(connection_done(d->c));
    connection_tick(d->c, 1000 + CLOSE_OK_MS);
    assert_true(connection_done(d->c));
    door_free(d);
}

// ---- ending

static void exclusive_queues_go_with_the_connection(void **state) {
    struct door *d = door_new(&plain);
    struct queue_info info;
    door_open_channel(d);
    SAY(d, 1, .id = METHOD_QUEUE_DECLARE, .queue_declare = {.queue = view_of("mine"), .exclusive = true});
    HEARD(d, "1 queue.declare-ok");
    assert_true(engine_queue(d->rig->vhost, "mine", &info));
    SAY(d, 0, .id = METHOD_CONNECTION_CLOSE);
    HEARD(d, "0 connection.close-ok");
    assert_false(engine_queue(d->rig->vhost, "mine", &info));
    door_free(d);
}

static void closing_drops_all_but_close_ok(void **state) {
    struct door *d = door_new(&plain);
    door_open_channel(d);
    fake.entry_lost = true;
    amqp_access_changed(d->amqp, NULL, NULL);
    door_pass(d);
    HEARD(d, "0 connection.close 320 CONNECTION_FORCED - access to vhost '/' is no longer allowed for user 'guest'");
    SAY(d, 1, .id = METHOD_QUEUE_DECLARE, .queue_declare = {.queue = view_of("q")});
    HEARD(d, "");
    SAY(d, 0, .id = METHOD_CONNECTION_CLOSE_OK);
    assert_true(connection_done(d->c));
    door_free(d);
}

static void deleted_users_and_vhosts(void **state) {
    struct door *d = door_new(&plain);
    door_open_channel(d);
    amqp_access_changed(d->amqp, "somebody", "else");
    assert_false(d->c->closing);
    amqp_access_changed(d->amqp, "guest", NULL);
    door_pass(d);
    HEARD(d, "0 connection.close 320 CONNECTION_FORCED - user 'guest' was deleted");
    connection_free(d->c);
    door_connect(d);
    door_open_channel(d);
    amqp_access_changed(d->amqp, NULL, "/");
    door_pass(d);
    HEARD(d, "0 connection.close 320 CONNECTION_FORCED - vhost '/' is deleted");
    door_free(d);
}

// ---- pressure

static void nothing_is_published_while_blocked(void **state) {
    struct door *d = door_new(&plain);
    struct queue_info info;
    door_open_channel(d);
    rig_queue(d->rig, "q", (struct queue_options){.durable = true});
    struct buf b;
    buf_init(&b, SIZE_MAX);
    add_content(&b, "as one", NULL);
    door_feed(d, b.data, b.len); // it is known as one that publishes
    HEARD(d, "");
    io_sim_capacity(d->rig->sim, 1 << 16);
    for (int i = 0; i < 200 && !d->amqp->blocked; i++) {
        rig_advance(d->rig, 1000);
        door_pass(d);
    }
    assert_true(d->amqp->blocked);
    assert_memory_equal(door_heard(d), "0 connection.blocked", 20);
    door_feed(d, b.data, b.len);
    assert_false(connection_reads(d->c));
    assert_true(engine_queue(d->rig->vhost, "q", &info));
    assert_int_equal(info.ready, 1);
    io_sim_capacity(d->rig->sim, UINT64_C(1) << 40);
    for (int i = 0; i < 200 && d->amqp->blocked; i++) {
        rig_advance(d->rig, 1000);
        door_pass(d);
    }
    HEARD(d, "0 connection.unblocked");
    door_feed(d, "", 0);
    assert_true(engine_queue(d->rig->vhost, "q", &info));
    assert_int_equal(info.ready, 2);
    buf_release(&b);
    door_free(d);
}

static void a_slow_reader_is_not_given_more(void **state) {
    struct door *d = door_new(&(struct amqp_options){0});
    door_open_channel(d);
    rig_queue(d->rig, "q", (struct queue_options){.durable = true});
    static uint8_t body[100000];
    for (int i = 0; i < 40; i++) {
        struct message m = {.exchange = "",
                            .routing_key = "q",
                            .properties = "\0\0",
                            .properties_length = 2,
                            .body = body,
                            .body_length = sizeof body,
                            .persistent = true};
        assert_int_equal(engine_publish(d->rig->vhost, &m, NULL, NULL, NULL, NULL), ERR_OK);
        rig_run(d->rig);
    }
    struct buf b;
    buf_init(&b, SIZE_MAX);
    ADD(&b, 1, .id = METHOD_BASIC_CONSUME, .basic_consume = {.queue = view_of("q")});
    assert_int_equal(connection_input(d->c, b.data, b.len), b.len);
    rig_run(d->rig);
    assert_in_range(d->c->out.len, OUT_HIGH, OUT_HIGH + 2 * sizeof body);
    uint64_t taken = d->c->out.len;
    buf_clear(&d->c->out);
    connection_sent(d->c, 1000, OUT_LOW); // on its way, not there yet
    rig_run(d->rig);
    assert_int_equal(d->c->out.len, 0);
    connection_sent(d->c, taken, 0);
    rig_run(d->rig);
    assert_in_range(d->c->out.len, OUT_HIGH, OUT_HIGH + 2 * sizeof body);
    buf_release(&b);
    door_free(d);
}

static void who_does_not_read_is_not_asked_for_more(void **state) {
    struct door *d = door_new(&plain);
    door_open_channel(d);
    rig_queue(d->rig, "q", (struct queue_options){.durable = true});
    uint32_t n = 3 << 20, gets = 0;
    uint8_t *body = calloc(1, n);
    struct message m = {.exchange = "", .routing_key = "q", .body = body, .body_length = n, .persistent = true};
    m.properties = "\0\0";
    m.properties_length = 2;
    for (int i = 0; i < 8; i++) {
        assert_int_equal(engine_publish(d->rig->vhost, &m, NULL, NULL, NULL, NULL), ERR_OK);
        rig_run(d->rig);
    }
    struct buf get;
    buf_init(&get, SIZE_MAX);
    ADD(&get, 1, .id = METHOD_BASIC_GET, .basic_get = {.queue = view_of("q"), .no_ack = true});
    while (gets < 100 && connection_input(d->c, get.data, get.len) > 0) gets++;
    assert_int_equal(gets, OUT_STOP / n + 1);
    assert_false(connection_reads(d->c));
    // The system takes most of it, the rest is on its way; then it has all.
    uint64_t all = d->c->out.len, rest = 5 << 20;
    buf_clear(&d->c->out);
    connection_sent(d->c, all - rest, rest);
    assert_true(connection_reads(d->c));
    assert_true(list_linked(&core_of(d->c)->of_resuming)); // it is read on by itself
    free(body);
    buf_release(&get);
    door_free(d);
}

// ---- damage

static void damaged_input_breaks_nothing(void **state) {
    struct door *d = door_new(&plain);
    struct buf b;
    buf_init(&b, SIZE_MAX);
    for (int i = 0; i < 2000; i++) {
        buf_clear(&b);
        add_conversation(&b);
        for (uint64_t n = 1 + io_sim_random(d->rig->sim, 4); n > 0; n--)
            b.data[io_sim_random(d->rig->sim, b.len)] = (uint8_t)io_sim_random(d->rig->sim, 256);
        size_t cut = (size_t)io_sim_random(d->rig->sim, b.len);
        door_feed(d, b.data, cut);
        door_feed(d, b.data + cut, b.len - cut);
        connection_free(d->c);
        door_connect(d);
    }
    buf_clear(&b);
    add_conversation(&b);
    engine_queue_delete(d->rig->vhost, "q", false, false, &(uint64_t){0}, NULL);
    door_feed(d, b.data, b.len);
    check_answers(d);
    buf_release(&b);
    door_free(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_conversation_to_the_byte),
        cmocka_unit_test(every_split_point_gives_the_same),
        cmocka_unit_test(start_says_what_clients_look_for),
        cmocka_unit_test(another_protocol_is_told_ours),
        cmocka_unit_test(wrong_password),
        cmocka_unit_test(wrong_password_without_the_capability),
        cmocka_unit_test(gone_while_logging_in),
        cmocka_unit_test(limits_are_agreed_on),
        cmocka_unit_test(virtual_hosts),
        cmocka_unit_test(unexpected_before_open),
        cmocka_unit_test(a_stranger_is_told_nothing),
        cmocka_unit_test(a_stranger_is_not_listened_to_for_long),
        cmocka_unit_test(handshake_takes_only_so_long),
        cmocka_unit_test(wrong_frames),
        cmocka_unit_test(wrong_contents),
        cmocka_unit_test(too_many_channels),
        cmocka_unit_test(too_large_a_body_ends_the_channel_alone),
        cmocka_unit_test(both_close_a_channel),
        cmocka_unit_test(flow_cannot_be_stopped),
        cmocka_unit_test(what_was_published_without_confirms_is_there_for_who_looks),
        cmocka_unit_test(a_close_is_answered_when_what_was_published_is_there),
        cmocka_unit_test(a_delivery_unanswered_for_too_long),
        cmocka_unit_test(heartbeats_both_ways),
        cmocka_unit_test(who_takes_nothing_is_dead_though_it_is_not_read_from),
        cmocka_unit_test(close_ok_is_waited_for_only_so_long),
        cmocka_unit_test(exclusive_queues_go_with_the_connection),
        cmocka_unit_test(closing_drops_all_but_close_ok),
        cmocka_unit_test(deleted_users_and_vhosts),
        cmocka_unit_test(nothing_is_published_while_blocked),
        cmocka_unit_test(a_slow_reader_is_not_given_more),
        cmocka_unit_test(who_does_not_read_is_not_asked_for_more),
        cmocka_unit_test(damaged_input_breaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
