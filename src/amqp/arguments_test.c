// What the arguments of queues, exchanges, consumers and bindings mean, and the texts for those that mean nothing.
#include "base/test.h"

#include "amqp/arguments.h"

static struct buf table;
static struct error e;

static int setup(void **state) {
    buf_init(&table, 1 << 16);
    memset(&e, 0, sizeof e);
    return 0;
}

static int teardown(void **state) {
    buf_release(&table);
    return 0;
}

static struct view done(void) { return (struct view){table.data, (uint32_t)table.len}; }

static void put(const char *name, struct field f) { table_put(&table, view_of(name), &f); }

static enum err read_queue(struct queue_arguments *a) { return queue_arguments(a, done(), "q", "/", &e); }

static enum err read_exchange(struct exchange_arguments *a, const char *type) {
    return exchange_arguments(a, view_of(type), done(), "x", "/", &e);
}

static void expect_queue_error(const char *why) {
    struct queue_arguments a;
    memset(&e, 0, sizeof e);
    assert_int_equal(read_queue(&a), ERR_INVALID);
    assert_string_equal(e.text, why);
    buf_clear(&table);
}

static void a_queue_without_arguments_is_a_plain_one(void **state) {
    struct queue_arguments a;
    assert_int_equal(read_queue(&a), ERR_OK);
    const struct queue_options *o = &a.options;
    assert_int_equal(o->type, QUEUE_CLASSIC);
    assert_false(o->has_message_ttl || o->has_max_length || o->has_max_length_bytes);
    assert_false(o->single_active_consumer || o->dedupe_present || o->park);
    assert_null(o->dead_letter_exchange);
    assert_int_equal(o->max_priority, 0);
}

static void every_queue_argument_is_understood(void **state) {
    struct queue_arguments a;
    const struct queue_options *o = &a.options;
    table_put_text(&table, "x-queue-type", "quorum");
    table_put_integer(&table, "x-message-ttl", 0);
    table_put_integer(&table, "x-expires", 1000);
    table_put_integer(&table, "x-max-length", 5);
    put("x-max-length-bytes", (struct field){.type = FIELD_U8, .integer = 200});
    table_put_text(&table, "x-overflow", "reject-publish-dlx");
    put("x-max-priority", (struct field){.type = FIELD_I32, .integer = 255});
    table_put_text(&table, "x-dead-letter-exchange", "");
    table_put_text(&table, "x-dead-letter-routing-key", "dead");
    table_put_bool(&table, "x-single-active-consumer", true);
    table_put_integer(&table, "x-delivery-limit", 7);
    table_put_integer(&table, "x-retry-delay", 50);
    put("x-retry-multiplier", (struct field){.type = FIELD_DOUBLE, .real = 1.5});
    table_put_integer(&table, "x-retry-max-delay", 900);
    table_put_integer(&table, "x-deduplication-window", 60000);
    table_put_bool(&table, "x-message-deduplication", true);
    table_put_bool(&table, "x-park", true);
    assert_int_equal(read_queue(&a), ERR_OK);
    assert_int_equal(o->type, QUEUE_QUORUM);
    assert_true(o->has_message_ttl && o->message_ttl_ms == 0 && o->expires_ms == 1000);
    assert_true(o->has_max_length && o->max_length == 5);
    assert_true(o->has_max_length_bytes && o->max_length_bytes == 200);
    assert_int_equal(o->overflow, OVERFLOW_REJECT_PUBLISH_DLX);
    assert_int_equal(o->max_priority, 255);
    assert_string_equal(o->dead_letter_exchange, "");
    assert_string_equal(o->dead_letter_routing_key, "dead");
    assert_int_equal(o->delivery_limit, 8); // tries
    assert_int_equal(o->retry_delay_ms, 50);
    assert_true(o->retry_multiplier > 1.49 && o->retry_multiplier < 1.51);
    assert_int_equal(o->retry_max_delay_ms, 900);
    assert_int_equal(o->dedupe_window_ms, 60000);
    assert_true(o->single_active_consumer && o->dedupe_present && o->park);
}

static void arguments_that_mean_nothing_here_are_accepted(void **state) {
    struct queue_arguments a;
    table_put_text(&table, "x-queue-mode", "lazy");
    table_put_integer(&table, "x-queue-version", 2);
    table_put_text(&table, "x-queue-leader-locator", "balanced");
    table_put_integer(&table, "my-own", 1);
    table_put_integer(&table, "x-delivery-limit", -1);
    assert_int_equal(read_queue(&a), ERR_OK);
    assert_int_equal(a.options.delivery_limit, 0);
    assert_int_equal(a.options.arguments.length, table.len);
}

static void a_wrong_queue_argument_is_told_as_rabbitmq_does(void **state) {
    table_put_text(&table, "x-message-ttl", "soon");
    expect_queue_error("invalid arg 'x-message-ttl' for queue 'q' in vhost '/': \"expected integer, got longstr\"");
    table_put_integer(&table, "x-message-ttl", -1);
    expect_queue_error("invalid arg 'x-message-ttl' for queue 'q' in vhost '/': {value_negative,-1}");
    table_put_integer(&table, "x-message-ttl", INT64_C(315360000001));
    expect_queue_error("invalid arg 'x-message-ttl' for queue 'q' in vhost '/': {value_too_large,315360000001}");
    table_put_integer(&table, "x-expires", 0);
    expect_queue_error("invalid arg 'x-expires' for queue 'q' in vhost '/': {value_zero,0}");
    table_put_integer(&table, "x-max-priority", 256);
    expect_queue_error("invalid arg 'x-max-priority' for queue 'q' in vhost '/': {max_value_exceeded,256}");
    table_put_integer(&table, "x-max-length", -5);
    expect_queue_error("invalid arg 'x-max-length' for queue 'q' in vhost '/': {value_negative,-5}");
    table_put_bool(&table, "x-max-length-bytes", true);
    expect_queue_error("invalid arg 'x-max-length-bytes' for queue 'q' in vhost '/': \"expected integer, got bool\"");
    table_put_text(&table, "x-overflow", "burst");
    expect_queue_error("invalid arg 'x-overflow' for queue 'q' in vhost '/': invalid_overflow");
    table_put_text(&table, "x-single-active-consumer", "yes");
    expect_queue_error("invalid arg 'x-single-active-consumer' for queue 'q' in vhost '/': "
                       "{unacceptable_type,longstr}");
    table_put_integer(&table, "x-dead-letter-exchange", 1);
    expect_queue_error("invalid type 'long' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'");
    table_put_text(&table, "x-dead-letter-routing-key", "k");
    expect_queue_error("invalid arg 'x-dead-letter-routing-key' for queue 'q' in vhost '/': "
                       "routing_key_but_no_dlx_defined");
    table_put_integer(&table, "x-delivery-limit", -2);
    expect_queue_error("invalid arg 'x-delivery-limit' for queue 'q' in vhost '/': {value_negative,-2}");
    table_put_integer(&table, "x-retry-multiplier", 0);
    expect_queue_error("invalid arg 'x-retry-multiplier' for queue 'q' in vhost '/': expected a number from 1 to 1000");
    table_put_text(&table, "x-queue-type", "odd");
    expect_queue_error("invalid arg 'x-queue-type' for queue 'q' in vhost '/': \"unsupported queue type 'odd'\"");
}

static void streams_are_refused_in_plain_words(void **state) {
    table_put_text(&table, "x-queue-type", "stream");
    expect_queue_error("invalid arg 'x-queue-type' for queue 'q' in vhost '/': "
                       "\"streams are not supported here, declare a classic or quorum queue\"");
}

static void exchange_types_are_known_by_name(void **state) {
    static const struct {
        const char *name;
        enum exchange_type type;
    } types[] = {{"direct", EXCHANGE_DIRECT},
                 {"fanout", EXCHANGE_FANOUT},
                 {"topic", EXCHANGE_TOPIC},
                 {"headers", EXCHANGE_HEADERS},
                 {"x-consistent-hash", EXCHANGE_CONSISTENT_HASH}};
    for (size_t i = 0; i < 5; i++) {
        struct exchange_arguments a;
        assert_int_equal(read_exchange(&a, types[i].name), ERR_OK);
        assert_int_equal(a.options.type, types[i].type);
        assert_false(a.options.delayed);
    }
    struct exchange_arguments a;
    assert_int_equal(read_exchange(&a, "x-unknown"), ERR_INVALID);
    assert_string_equal(e.text, "unknown exchange type 'x-unknown'");
}

static void a_delayed_exchange_says_how_it_routes(void **state) {
    struct exchange_arguments a;
    assert_int_equal(read_exchange(&a, "x-delayed-message"), ERR_INVALID);
    assert_string_equal(e.text, "Invalid argument, 'x-delayed-type' must be an existing exchange type");
    table_put_text(&table, "x-delayed-type", "x-delayed-message");
    assert_int_equal(read_exchange(&a, "x-delayed-message"), ERR_INVALID);
    buf_clear(&table);
    table_put_text(&table, "x-delayed-type", "topic");
    assert_int_equal(read_exchange(&a, "x-delayed-message"), ERR_OK);
    assert_true(a.options.delayed);
    assert_int_equal(a.options.type, EXCHANGE_TOPIC);
}

static void a_deduplicating_exchange_needs_a_cache_size(void **state) {
    struct exchange_arguments a;
    assert_int_equal(read_exchange(&a, "x-message-deduplication"), ERR_INVALID);
    table_put_text(&table, "x-cache-size", "100");
    table_put_integer(&table, "x-cache-ttl", 5000);
    assert_int_equal(read_exchange(&a, "x-message-deduplication"), ERR_OK);
    assert_int_equal(a.options.type, EXCHANGE_FANOUT);
    assert_int_equal(a.options.dedupe_size, 100);
    assert_int_equal(a.options.dedupe_ttl_ms, 5000);
}

static void a_hash_is_of_a_header_or_of_a_property(void **state) {
    struct exchange_arguments a;
    table_put_text(&table, "hash-property", "message_id");
    assert_int_equal(read_exchange(&a, "x-consistent-hash"), ERR_OK);
    assert_string_equal(a.options.hash_property, "message_id");
    table_put_text(&table, "hash-header", "h");
    assert_int_equal(read_exchange(&a, "x-consistent-hash"), ERR_INVALID);
    assert_string_equal(e.text, "hash-header and hash-property are mutually exclusive");
    buf_clear(&table);
    table_put_text(&table, "hash-property", "colour");
    assert_int_equal(read_exchange(&a, "x-consistent-hash"), ERR_INVALID);
    assert_string_equal(e.text, "Unsupported property: colour");
}

static void an_alternate_exchange_is_a_name(void **state) {
    struct exchange_arguments a;
    table_put_text(&table, "alternate-exchange", "other");
    assert_int_equal(read_exchange(&a, "direct"), ERR_OK);
    assert_string_equal(a.options.alternate, "other");
    buf_clear(&table);
    table_put_integer(&table, "alternate-exchange", 3);
    assert_int_equal(read_exchange(&a, "direct"), ERR_INVALID);
    assert_string_equal(e.text, "invalid type 'long' for arg 'alternate-exchange' in exchange 'x' in vhost '/'");
}

static void a_consumers_priority_is_an_integer(void **state) {
    int32_t priority = 0;
    put("x-priority", (struct field){.type = FIELD_I16, .integer = -3});
    assert_int_equal(consume_arguments(&priority, done(), "q", "/", &e), ERR_OK);
    assert_int_equal(priority, -3);
    buf_clear(&table);
    table_put_text(&table, "x-priority", "high");
    assert_int_equal(consume_arguments(&priority, done(), "q", "/", &e), ERR_INVALID);
    assert_string_equal(e.text,
                        "invalid arg 'x-priority' for queue 'q' in vhost '/': \"expected integer, got longstr\"");
}

static void bindings_are_checked_by_the_exchange_type(void **state) {
    struct exchange_options headers = {.type = EXCHANGE_HEADERS}, hash = {.type = EXCHANGE_CONSISTENT_HASH},
                            topic = {.type = EXCHANGE_TOPIC};
    struct view none = {0};
    assert_int_equal(binding_arguments(&hash, "10", none, &e), ERR_OK);
    assert_int_equal(binding_arguments(&hash, "ten", none, &e), ERR_INVALID);
    assert_string_equal(e.text, "The binding key must be an integer: \"ten\"");
    assert_int_equal(binding_arguments(&hash, "0", none, &e), ERR_INVALID);
    assert_string_equal(e.text, "The binding key must be greater than 0");
    assert_int_equal(binding_arguments(&topic, "ten", none, &e), ERR_OK);
    table_put_text(&table, "x-match", "any-with-x");
    assert_int_equal(binding_arguments(&headers, "", done(), &e), ERR_OK);
    buf_clear(&table);
    table_put_text(&table, "x-match", "some");
    assert_int_equal(binding_arguments(&headers, "", done(), &e), ERR_INVALID);
    assert_string_equal(e.text,
                        "Invalid x-match field value <<\"some\">>; expected all, any, all-with-x, or any-with-x");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_queue_without_arguments_is_a_plain_one),
        TEST(every_queue_argument_is_understood),
        TEST(arguments_that_mean_nothing_here_are_accepted),
        TEST(a_wrong_queue_argument_is_told_as_rabbitmq_does),
        TEST(streams_are_refused_in_plain_words),
        TEST(exchange_types_are_known_by_name),
        TEST(a_delayed_exchange_says_how_it_routes),
        TEST(a_deduplicating_exchange_needs_a_cache_size),
        TEST(a_hash_is_of_a_header_or_of_a_property),
        TEST(an_alternate_exchange_is_a_name),
        TEST(a_consumers_priority_is_an_integer),
        TEST(bindings_are_checked_by_the_exchange_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
