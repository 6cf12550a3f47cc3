// Consumers, basic.get, settling, prefetch, recovery and cancellation.
#include "amqp/commands_test.h"

#define Q(text) view_of(text)

static void queue(struct house *h, const char *name) {
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q(name), .durable = true, .no_wait = true);
}

static void send(struct house *h, const char *queue_name, const char *body) {
    house_publish(h, 0, (struct basic_publish){.routing_key = Q(queue_name)},
                  &(struct properties){.flags = PROPERTY_DELIVERY_MODE, .delivery_mode = 2}, body);
}

static void consume(struct house *h, const char *queue_name, const char *tag) {
    DO(h, BASIC_CONSUME, basic_consume, .queue = Q(queue_name), .consumer_tag = Q(tag), .no_wait = true);
}

static void consume_ok_comes_before_the_deliveries(void **state) {
    struct house *h = *state;
    queue(h, "q");
    send(h, "q", "a");
    send(h, "q", "b");
    house_run(h);
    DO(h, BASIC_CONSUME, basic_consume, .queue = Q("q"), .consumer_tag = Q("t"));
    house_expect(h, "basic.consume-ok t\nbasic.deliver t 1 '' 'q' | a\nbasic.deliver t 2 '' 'q' | b\n");
}

static void a_tag_is_made_when_none_is_given(void **state) {
    struct house *h = *state;
    queue(h, "q");
    DO(h, BASIC_CONSUME, basic_consume, .queue = Q("q"));
    house_expect(h, "basic.consume-ok amq.ctag-\n");
}

static void a_tag_is_used_once(void **state) {
    struct house *h = *state;
    queue(h, "q");
    consume(h, "q", "t");
    DO(h, BASIC_CONSUME, basic_consume, .queue = Q("q"), .consumer_tag = Q("t"));
    house_expect(h, "connection 530 basic.consume: attempt to reuse consumer tag 't'\n");
}

static void an_exclusive_consumer_is_the_only_one(void **state) {
    struct house *h = *state;
    queue(h, "q");
    DO(h, BASIC_CONSUME, basic_consume, .queue = Q("q"), .consumer_tag = Q("t"), .exclusive = true);
    DO_OTHER(h, BASIC_CONSUME, basic_consume, .queue = Q("q"), .consumer_tag = Q("u"));
    house_expect(h, "basic.consume-ok t\nother channel 403 basic.consume: queue 'q' in vhost '/' in exclusive use\n");
}

static void consuming_needs_a_queue_and_permission(void **state) {
    struct house *h = *state;
    DO(h, BASIC_CONSUME, basic_consume, .queue = Q("q"));
    house_expect(h, "channel 404 basic.consume: no queue 'q' in vhost '/'\n");
    house_again(h, 0);
    queue(h, "q");
    house_refuse(h, "read q");
    DO(h, BASIC_CONSUME, basic_consume, .queue = Q("q"));
    house_expect(h, "channel 403 basic.consume: read access to queue 'q' in vhost '/' refused for user 'alice'\n");
    house_again(h, 0);
    DO(h, BASIC_GET, basic_get, .queue = Q("q"));
    house_expect(h, "channel 403 basic.get: read access to queue 'q' in vhost '/' refused for user 'alice'\n");
}

static void a_consumers_priority_decides(void **state) {
    struct house *h = *state;
    queue(h, "q");
    consume(h, "q", "low");
    table_put_integer(house_table(h), "x-priority", 10);
    DO(h, BASIC_CONSUME, basic_consume, .queue = Q("q"), .consumer_tag = Q("high"), .no_wait = true,
       .arguments = house_table_done(h));
    send(h, "q", "a");
    send(h, "q", "b");
    house_expect(h, "basic.deliver high 1 '' 'q' | a\nbasic.deliver high 2 '' 'q' | b\n");
}

static void consumers_of_a_channel_are_limited(void **state) {
    struct house *h = *state;
    h->amqp.o.max_consumers = 1;
    queue(h, "q");
    consume(h, "q", "t");
    DO(h, BASIC_CONSUME, basic_consume, .queue = Q("q"), .consumer_tag = Q("u"));
    house_expect(h, "connection 530 basic.consume: reached maximum (1) of consumers per channel\n");
}

static void cancel_stops_deliveries_and_keeps_what_is_held(void **state) {
    struct house *h = *state;
    queue(h, "q");
    consume(h, "q", "t");
    send(h, "q", "a");
    house_run(h);
    DO(h, BASIC_CANCEL, basic_cancel, .consumer_tag = Q("t"));
    DO(h, BASIC_CANCEL, basic_cancel, .consumer_tag = Q("nobody"));
    send(h, "q", "b");
    house_run(h);
    DO(h, BASIC_ACK, basic_ack, .delivery_tag = 1);
    house_expect(h, "basic.deliver t 1 '' 'q' | a\nbasic.cancel-ok t\nbasic.cancel-ok nobody\n");
}

static void a_consumer_is_told_that_its_queue_is_gone(void **state) {
    struct house *h = *state;
    queue(h, "q");
    consume(h, "q", "t");
    h->connection[1].client_cancel_notify = false;
    DO_OTHER(h, BASIC_CONSUME, basic_consume, .queue = Q("q"), .consumer_tag = Q("u"), .no_wait = true);
    house_run(h);
    DO(h, QUEUE_DELETE, queue_delete, .queue = Q("q"), .no_wait = true);
    house_expect(h, "basic.cancel t\n");
    queue(h, "q");
    consume(h, "q", "t");
    DO(h, QUEUE_DELETE, queue_delete, .queue = Q("q"));
    house_expect(h, "queue.delete-ok 0\nbasic.cancel t\n"); // in this order
    queue(h, "q");
    consume(h, "q", "t");
    DO_OTHER(h, QUEUE_DELETE, queue_delete, .queue = Q("q"));
    house_expect(h, "basic.cancel t\nother queue.delete-ok 0\n");
    assert_int_equal(h->amqp.stats.consumers, 0);
}

static void get_tells_how_many_are_left(void **state) {
    struct house *h = *state;
    queue(h, "q");
    send(h, "q", "a");
    send(h, "q", "b");
    house_run(h);
    for (int i = 0; i < 3; i++) DO(h, BASIC_GET, basic_get, .queue = Q("q"));
    house_expect(h, "basic.get-ok 1 '' 'q' 1 | a\nbasic.get-ok 2 '' 'q' 0 | b\nbasic.get-empty\n");
    DO(h, BASIC_GET, basic_get, .queue = Q("none"));
    house_expect(h, "channel 404 basic.get: no queue 'none' in vhost '/'\n");
}

static void what_is_not_acked_comes_again(void **state) {
    struct house *h = *state;
    queue(h, "q");
    send(h, "q", "a");
    send(h, "q", "b");
    send(h, "q", "c");
    house_run(h);
    for (int i = 0; i < 3; i++) DO(h, BASIC_GET, basic_get, .queue = Q("q"));
    h->said[0] = '\0';
    DO(h, BASIC_NACK, basic_nack, .delivery_tag = 2, .multiple = true, .requeue = true);
    DO(h, BASIC_REJECT, basic_reject, .delivery_tag = 3);
    house_run(h);
    consume(h, "q", "t");
    house_expect(h, "basic.deliver t 4 again '' 'q' | a\nbasic.deliver t 5 again '' 'q' | b\n");
    DO(h, BASIC_ACK, basic_ack, .delivery_tag = 0, .multiple = true);
    DO(h, BASIC_ACK, basic_ack, .delivery_tag = 0, .multiple = true); // all of nothing
    house_run(h);
    assert_int_equal(h->amqp.stats.acked, 2);
    house_expect(h, "");
}

static void an_unknown_delivery_tag_ends_the_channel(void **state) {
    struct house *h = *state;
    DO(h, BASIC_ACK, basic_ack, .delivery_tag = 7);
    house_expect(h, "channel 406 basic.ack: unknown delivery tag 7\n");
    house_again(h, 0);
    DO(h, BASIC_NACK, basic_nack, .delivery_tag = 7, .multiple = true);
    house_expect(h, "channel 406 basic.nack: unknown delivery tag 7\n");
    house_again(h, 0);
    DO(h, BASIC_REJECT, basic_reject, .delivery_tag = 0);
    house_expect(h, "channel 406 basic.reject: unknown delivery tag 0\n");
}

static void rejected_ones_are_parked_where_the_queue_says_so(void **state) {
    struct house *h = *state;
    struct queue_info info;
    table_put_bool(house_table(h), "x-park", true);
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("q"), .durable = true, .no_wait = true,
       .arguments = house_table_done(h));
    send(h, "q", "a");
    house_run(h);
    DO(h, BASIC_GET, basic_get, .queue = Q("q"));
    DO(h, BASIC_REJECT, basic_reject, .delivery_tag = 1);
    house_expect(h, "basic.get-ok 1 '' 'q' 0 | a\n");
    assert_true(engine_queue(h->rig->vhost, "q", &info));
    assert_int_equal(info.parked, 1);
}

static void attempts_are_counted_where_there_is_a_limit(void **state) {
    struct house *h = *state;
    table_put_integer(house_table(h), "x-delivery-limit", 5);
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("q"), .durable = true, .no_wait = true,
       .arguments = house_table_done(h));
    struct buf headers;
    buf_init(&headers, 1 << 10);
    table_put_text(&headers, "mine", "kept");
    house_publish(h, 0, (struct basic_publish){.routing_key = Q("q")},
                  &(struct properties){.flags = PROPERTY_DELIVERY_MODE | PROPERTY_HEADERS,
                                       .delivery_mode = 2,
                                       .headers = {headers.data, (uint32_t)headers.len}},
                  "a");
    buf_release(&headers);
    send(h, "q", "b");
    house_run(h);
    consume(h, "q", "t");
    house_expect(h, "basic.deliver t 1 '' 'q' mine=kept | a\nbasic.deliver t 2 '' 'q' | b\n");
    DO(h, BASIC_NACK, basic_nack, .delivery_tag = 2, .multiple = true, .requeue = true);
    house_expect(h, "basic.deliver t 3 again '' 'q' mine=kept x-delivery-count=1 | a\n"
                    "basic.deliver t 4 again '' 'q' x-delivery-count=1 | b\n");
}

static void a_delivery_limit_is_how_often_a_message_may_be_given_back(void **state) {
    struct house *h = *state;
    struct queue_info info;
    table_put_integer(house_table(h), "x-delivery-limit", 1);
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("q"), .durable = true, .no_wait = true,
       .arguments = house_table_done(h));
    send(h, "q", "a");
    house_run(h);
    consume(h, "q", "t");
    house_expect(h, "basic.deliver t 1 '' 'q' | a\n");
    DO(h, BASIC_REJECT, basic_reject, .delivery_tag = 1, .requeue = true);
    house_expect(h, "basic.deliver t 2 again '' 'q' x-delivery-count=1 | a\n");
    DO(h, BASIC_REJECT, basic_reject, .delivery_tag = 2, .requeue = true);
    house_expect(h, "");
    assert_true(engine_queue(h->rig->vhost, "q", &info));
    assert_int_equal(info.ready + info.unacked, 0);
}

static void a_quorum_queue_counts_without_a_limit(void **state) {
    struct house *h = *state;
    table_put_text(house_table(h), "x-queue-type", "quorum");
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("q"), .durable = true, .no_wait = true,
       .arguments = house_table_done(h));
    send(h, "q", "a");
    house_run(h);
    consume(h, "q", "t");
    house_expect(h, "basic.deliver t 1 '' 'q' | a\n");
    DO(h, BASIC_REJECT, basic_reject, .delivery_tag = 1, .requeue = true);
    house_expect(h, "basic.deliver t 2 again '' 'q' x-delivery-count=1 | a\n");
    DO(h, BASIC_REJECT, basic_reject, .delivery_tag = 2, .requeue = true);
    house_expect(h, "basic.deliver t 3 again '' 'q' x-delivery-count=2 | a\n");
}

static void prefetch_is_each_consumers(void **state) {
    struct house *h = *state;
    queue(h, "q");
    DO(h, BASIC_QOS, basic_qos, .prefetch_count = 1);
    consume(h, "q", "t");
    DO(h, BASIC_QOS, basic_qos, .prefetch_count = 2); // for those to come
    for (int i = 0; i < 4; i++) send(h, "q", "m");
    house_expect(h, "basic.qos-ok\nbasic.qos-ok\nbasic.deliver t 1 '' 'q' | m\n");
    consume(h, "q", "u");
    house_expect(h, "basic.deliver u 2 '' 'q' | m\nbasic.deliver u 3 '' 'q' | m\n");
    DO(h, BASIC_ACK, basic_ack, .delivery_tag = 1);
    house_expect(h, "basic.deliver t 4 '' 'q' | m\n");
}

static void prefetch_may_be_the_channels(void **state) {
    struct house *h = *state;
    queue(h, "q");
    queue(h, "r");
    DO(h, BASIC_QOS, basic_qos, .prefetch_count = 1, .global = true);
    consume(h, "q", "t");
    consume(h, "r", "u");
    send(h, "q", "m");
    house_expect(h, "basic.qos-ok\nbasic.deliver t 1 '' 'q' | m\n");
    send(h, "r", "m");
    house_expect(h, "");
    DO(h, BASIC_ACK, basic_ack, .delivery_tag = 1);
    house_expect(h, "basic.deliver u 2 '' 'r' | m\n");
    DO(h, BASIC_QOS, basic_qos, .prefetch_size = 10);
    house_expect(h, "connection 540 basic.qos: prefetch_size!=0 (10)\n");
}

static void recover_gives_everything_back(void **state) {
    struct house *h = *state;
    queue(h, "q");
    consume(h, "q", "t");
    send(h, "q", "a");
    send(h, "q", "b");
    house_run(h);
    h->said[0] = '\0';
    DO(h, BASIC_RECOVER, basic_recover, .requeue = true);
    house_expect(h, "basic.recover-ok\nbasic.deliver t 3 again '' 'q' | a\nbasic.deliver t 4 again '' 'q' | b\n");
    DO(h, BASIC_RECOVER_ASYNC, basic_recover_async, .requeue = true);
    house_expect(h, "basic.deliver t 5 again '' 'q' | a\nbasic.deliver t 6 again '' 'q' | b\n");
    DO(h, BASIC_RECOVER, basic_recover, .requeue = false);
    house_expect(h, "connection 540 basic.recover: requeue=false\n");
}

static void recover_with_nothing_held(void **state) {
    struct house *h = *state;
    DO(h, BASIC_RECOVER, basic_recover, .requeue = true);
    house_expect(h, "basic.recover-ok\n");
}

static void see_consumer(void *arg, const struct amqp_consumer_info *c) {
    struct amqp_consumer_info *out = arg;
    *out = *c;
}

static void a_channel_can_be_looked_at(void **state) {
    struct house *h = *state;
    struct amqp_channel_info info = {0};
    struct amqp_consumer_info consumer = {0};
    queue(h, "q");
    DO(h, BASIC_QOS, basic_qos, .prefetch_count = 9);
    consume(h, "q", "t");
    send(h, "q", "a");
    send(h, "q", "b");
    house_run(h);
    DO(h, BASIC_ACK, basic_ack, .delivery_tag = 1);
    channel_basic_info(h->channel[0], &info);
    assert_int_equal(info.consumers, 1);
    assert_int_equal(info.unacked, 1);
    assert_int_equal(info.published, 2);
    assert_int_equal(info.delivered, 2);
    assert_int_equal(info.acked, 1);
    assert_int_equal(info.prefetch, 9);
    channel_each_consumer(h->channel[0], &(struct amqp_consumer_info){.user = "alice"}, see_consumer, &consumer);
    assert_string_equal(consumer.queue, "q");
    assert_string_equal(consumer.tag, "t");
    assert_string_equal(consumer.user, "alice");
    assert_int_equal(consumer.prefetch, 9);
    assert_true(consumer.ack_required && consumer.active);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, house_setup, house_teardown)
    const struct CMUnitTest tests[] = {
        TEST(consume_ok_comes_before_the_deliveries),
        TEST(a_tag_is_made_when_none_is_given),
        TEST(a_tag_is_used_once),
        TEST(an_exclusive_consumer_is_the_only_one),
        TEST(consuming_needs_a_queue_and_permission),
        TEST(a_consumers_priority_decides),
        TEST(consumers_of_a_channel_are_limited),
        TEST(cancel_stops_deliveries_and_keeps_what_is_held),
        TEST(a_consumer_is_told_that_its_queue_is_gone),
        TEST(get_tells_how_many_are_left),
        TEST(what_is_not_acked_comes_again),
        TEST(an_unknown_delivery_tag_ends_the_channel),
        TEST(rejected_ones_are_parked_where_the_queue_says_so),
        TEST(attempts_are_counted_where_there_is_a_limit),
        TEST(a_delivery_limit_is_how_often_a_message_may_be_given_back),
        TEST(a_quorum_queue_counts_without_a_limit),
        TEST(prefetch_is_each_consumers),
        TEST(prefetch_may_be_the_channels),
        TEST(recover_gives_everything_back),
        TEST(recover_with_nothing_held),
        TEST(a_channel_can_be_looked_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
