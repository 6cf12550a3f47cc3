// exchange.* and queue.*: what succeeds, and each way in which they fail, by code and text.
#include "amqp/commands_test.h"

#define Q(text) view_of(text)

static void declare_queue(struct house *h, const char *name) {
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q(name), .durable = true, .no_wait = true);
}

static void an_exchange_is_declared_and_again_and_passively(void **state) {
    struct house *h = *state;
    DO(h, EXCHANGE_DECLARE, exchange_declare, .exchange = Q("x"), .type = Q("topic"), .durable = true);
    assert_string_equal(h->said, ""); // not before it is durable
    house_expect(h, "exchange.declare-ok\n");
    DO(h, EXCHANGE_DECLARE, exchange_declare, .exchange = Q("x"), .type = Q("topic"), .durable = true);
    DO(h, EXCHANGE_DECLARE, exchange_declare, .exchange = Q("x"), .passive = true);
    DO(h, EXCHANGE_DECLARE, exchange_declare, .exchange = Q("x"), .passive = true, .no_wait = true);
    DO(h, EXCHANGE_DECLARE, exchange_declare, .exchange = Q("amq.topic"), .type = Q("topic"), .durable = true);
    house_expect(h, "exchange.declare-ok\nexchange.declare-ok\nexchange.declare-ok\n");
}

static void an_exchange_that_is_not_there_is_not_found(void **state) {
    struct house *h = *state;
    DO(h, EXCHANGE_DECLARE, exchange_declare, .exchange = Q("x"), .passive = true);
    house_expect(h, "channel 404 exchange.declare: no exchange 'x' in vhost '/'\n");
}

static void an_unknown_type_ends_the_channel(void **state) {
    struct house *h = *state;
    DO(h, EXCHANGE_DECLARE, exchange_declare, .exchange = Q("x"), .type = Q("odd"));
    house_expect(h, "channel 406 exchange.declare: unknown exchange type 'odd'\n");
}

static void an_exchange_with_other_properties_is_told(void **state) {
    struct house *h = *state;
    DO(h, EXCHANGE_DECLARE, exchange_declare, .exchange = Q("x"), .type = Q("topic"), .no_wait = true);
    DO(h, EXCHANGE_DECLARE, exchange_declare, .exchange = Q("x"), .type = Q("topic"), .durable = true);
    house_expect(h, "channel 406 exchange.declare: inequivalent arg 'durable' for exchange 'x' in vhost '/': received "
                    "'true' but current is 'false'\n");
}

static void reserved_and_default_exchanges_are_refused(void **state) {
    struct house *h = *state;
    DO(h, EXCHANGE_DECLARE, exchange_declare, .exchange = Q("amq.mine"), .type = Q("direct"));
    house_expect(h, "channel 403 exchange.declare: exchange name 'amq.mine' contains reserved prefix 'amq.*'\n");
    house_again(h, 0);
    DO(h, EXCHANGE_DECLARE, exchange_declare, .exchange = Q(""), .type = Q("direct"));
    house_expect(h, "channel 403 exchange.declare: operation not permitted on the default exchange\n");
    house_again(h, 0);
    DO(h, EXCHANGE_DELETE, exchange_delete, .exchange = Q(""));
    house_expect(h, "channel 403 exchange.delete: operation not permitted on the default exchange\n");
    house_again(h, 0);
    DO(h, EXCHANGE_DELETE, exchange_delete, .exchange = Q("amq.fanout"));
    house_expect(h, "channel 403 exchange.delete: deletion of system exchange 'amq.fanout' in vhost '/' not allowed\n");
}

static void an_exchange_in_use_is_not_deleted_if_unused(void **state) {
    struct house *h = *state;
    DO(h, EXCHANGE_DECLARE, exchange_declare, .exchange = Q("x"), .type = Q("fanout"), .no_wait = true);
    declare_queue(h, "q");
    DO(h, QUEUE_BIND, queue_bind, .queue = Q("q"), .exchange = Q("x"), .no_wait = true);
    DO(h, EXCHANGE_DELETE, exchange_delete, .exchange = Q("x"), .if_unused = true);
    house_expect(h, "channel 406 exchange.delete: exchange 'x' in vhost '/' in use\n");
    house_again(h, 0);
    DO(h, EXCHANGE_DELETE, exchange_delete, .exchange = Q("x"));
    DO(h, EXCHANGE_DELETE, exchange_delete, .exchange = Q("x")); // gone already: fine
    house_expect(h, "exchange.delete-ok\nexchange.delete-ok\n");
}

static void permissions_on_exchanges(void **state) {
    struct house *h = *state;
    house_refuse(h, "configure x");
    DO(h, EXCHANGE_DECLARE, exchange_declare, .exchange = Q("x"), .type = Q("fanout"));
    house_expect(h, "channel 403 exchange.declare: configure access to exchange 'x' in vhost '/' refused for user "
                    "'alice'\n");
    house_again(h, 0);
    DO(h, EXCHANGE_DELETE, exchange_delete, .exchange = Q("x"));
    house_expect(
        h, "channel 403 exchange.delete: configure access to exchange 'x' in vhost '/' refused for user 'alice'\n");
    house_again(h, 0);
    house_refuse(h, "write other");
    table_put_text(house_table(h), "alternate-exchange", "other");
    DO(h, EXCHANGE_DECLARE, exchange_declare, .exchange = Q("x"), .type = Q("fanout"),
       .arguments = house_table_done(h));
    house_expect(h, "channel 403 exchange.declare: write access to exchange 'other' in vhost '/' refused for user "
                    "'alice'\n");
}

static void exchanges_are_bound_to_exchanges(void **state) {
    struct house *h = *state;
    DO(h, EXCHANGE_BIND, exchange_bind, .destination = Q("amq.fanout"), .source = Q("amq.topic"),
       .routing_key = Q("#"));
    DO(h, EXCHANGE_UNBIND, exchange_unbind, .destination = Q("amq.fanout"), .source = Q("amq.topic"),
       .routing_key = Q("#"));
    DO(h, EXCHANGE_UNBIND, exchange_unbind, .destination = Q("none"), .source = Q("amq.topic"), .routing_key = Q("#"));
    house_expect(h, "exchange.bind-ok\nexchange.unbind-ok\nexchange.unbind-ok\n");
    DO(h, EXCHANGE_BIND, exchange_bind, .destination = Q("none"), .source = Q("amq.topic"));
    house_expect(h, "channel 404 exchange.bind: no exchange 'none' in vhost '/'\n");
    house_again(h, 0);
    DO(h, EXCHANGE_BIND, exchange_bind, .destination = Q("amq.fanout"), .source = Q(""));
    house_expect(h, "channel 403 exchange.bind: operation not permitted on the default exchange\n");
}

static void a_queue_is_declared_and_counted(void **state) {
    struct house *h = *state;
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("q"), .durable = true);
    assert_string_equal(h->said, "");
    house_expect(h, "queue.declare-ok q 0 0\n");
    house_publish(h, 0, (struct basic_publish){.routing_key = Q("q")}, NULL, "one");
    house_run(h);
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("q"), .passive = true);
    house_expect(h, "queue.declare-ok q 1 0\n");
    DO(h, BASIC_CONSUME, basic_consume, .queue = Q("q"), .consumer_tag = Q("t"), .no_wait = true);
    house_run(h);
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("q"), .durable = true);
    house_expect(h, "basic.deliver t 1 '' 'q' | one\nqueue.declare-ok q 0 1\n");
}

static void a_name_is_made_and_meant_when_it_is_left_out(void **state) {
    struct house *h = *state;
    DO(h, QUEUE_PURGE, queue_purge, .queue = Q(""));
    house_expect(h, "channel 404 queue.purge: no previously declared queue\n");
    house_again(h, 0);
    DO(h, QUEUE_DECLARE, queue_declare, .exclusive = true);
    DO(h, QUEUE_BIND, queue_bind, .exchange = Q("amq.direct"));
    house_publish(h, 0,
                  (struct basic_publish){.exchange = Q("amq.direct"), .routing_key = Q(h->channel[0]->last_queue)},
                  NULL, "one");
    DO(h, BASIC_GET, basic_get, .no_ack = true);
    house_expect(h, "queue.declare-ok amq.gen- 0 0\nqueue.bind-ok\nbasic.get-ok 1 'amq.direct' 'amq.gen-' 0 | one\n");
}

static void a_reserved_queue_name_is_refused(void **state) {
    struct house *h = *state;
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("amq.mine"));
    house_expect(h, "channel 403 queue.declare: queue name 'amq.mine' contains reserved prefix 'amq.*'\n");
}

static void a_queue_that_is_not_there_is_not_found(void **state) {
    struct house *h = *state;
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("q"), .passive = true);
    house_expect(h, "channel 404 queue.declare: no queue 'q' in vhost '/'\n");
    house_again(h, 0);
    DO(h, QUEUE_PURGE, queue_purge, .queue = Q("q"));
    house_expect(h, "channel 404 queue.purge: no queue 'q' in vhost '/'\n");
    house_again(h, 0);
    DO(h, QUEUE_BIND, queue_bind, .queue = Q("q"), .exchange = Q("amq.direct"));
    house_expect(h, "channel 404 queue.bind: no queue 'q' in vhost '/'\n");
    house_again(h, 0);
    declare_queue(h, "q");
    DO(h, QUEUE_BIND, queue_bind, .queue = Q("q"), .exchange = Q("x"));
    house_expect(h, "channel 404 queue.bind: no exchange 'x' in vhost '/'\n");
    house_again(h, 0);
    DO(h, QUEUE_DELETE, queue_delete, .queue = Q("none"));
    DO(h, QUEUE_UNBIND, queue_unbind, .queue = Q("none"), .exchange = Q("amq.direct"));
    house_expect(h, "queue.delete-ok 0\nqueue.unbind-ok\n");
}

static void an_exclusive_queue_is_its_connections_alone(void **state) {
    static const char locked[] =
        "cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another "
        "connection or the exclusive property value does not match that of the original declaration.\n";
    struct house *h = *state;
    char expected[512];
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("q"), .exclusive = true);
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("q"), .exclusive = true, .durable = true); // cannot outlive it
    house_expect(h, "queue.declare-ok q 0 0\nqueue.declare-ok q 0 0\n");
    DO_OTHER(h, QUEUE_DECLARE, queue_declare, .queue = Q("q"), .passive = true);
    snprintf(expected, sizeof expected, "other channel 405 queue.declare: %s", locked);
    house_expect(h, expected);
    house_again(h, 1);
    DO_OTHER(h, BASIC_CONSUME, basic_consume, .queue = Q("q"));
    snprintf(expected, sizeof expected, "other channel 405 basic.consume: %s", locked);
    house_expect(h, expected);
    house_again(h, 1);
    DO_OTHER(h, BASIC_GET, basic_get, .queue = Q("q"));
    snprintf(expected, sizeof expected, "other channel 405 basic.get: %s", locked);
    house_expect(h, expected);
    house_again(h, 1);
    DO_OTHER(h, QUEUE_DELETE, queue_delete, .queue = Q("q"));
    snprintf(expected, sizeof expected, "other channel 405 queue.delete: %s", locked);
    house_expect(h, expected);
    house_again(h, 1);
    DO_OTHER(h, QUEUE_BIND, queue_bind, .queue = Q("q"), .exchange = Q("amq.direct"));
    snprintf(expected, sizeof expected, "other channel 405 queue.bind: %s", locked);
    house_expect(h, expected);
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("q"));
    snprintf(expected, sizeof expected, "channel 405 queue.declare: %s", locked);
    house_expect(h, expected);
}

static void a_queue_with_other_properties_is_told(void **state) {
    struct house *h = *state;
    declare_queue(h, "q");
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("q"));
    house_expect(h,
                 "channel 406 queue.declare: inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' "
                 "but current is 'true'\n");
    house_again(h, 0);
    table_put_integer(house_table(h), "x-message-ttl", 5);
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("q"), .durable = true, .arguments = house_table_done(h));
    house_expect(h, "channel 406 queue.declare: inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received "
                    "the value '5' of type 'long' but current is none\n");
    house_again(h, 0);
    table_put_text(house_table(h), "x-message-ttl", "soon");
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("r"), .arguments = house_table_done(h));
    house_expect(h, "channel 406 queue.declare: invalid arg 'x-message-ttl' for queue 'r' in vhost '/': \"expected "
                    "integer, got longstr\"\n");
}

static void a_quorum_queue_is_durable_and_nobodys_own(void **state) {
    struct house *h = *state;
    table_put_text(house_table(h), "x-queue-type", "quorum");
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("q"), .arguments = house_table_done(h));
    house_expect(h, "channel 406 queue.declare: invalid property 'non-durable' for queue 'q' in vhost '/'\n");
    house_again(h, 0);
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("q"), .durable = true, .arguments = house_table_done(h));
    house_expect(h, "queue.declare-ok q 0 0\n");
}

static void a_queue_is_purged_and_deleted(void **state) {
    struct house *h = *state;
    declare_queue(h, "q");
    for (int i = 0; i < 3; i++) house_publish(h, 0, (struct basic_publish){.routing_key = Q("q")}, NULL, "m");
    house_run(h);
    DO(h, QUEUE_DELETE, queue_delete, .queue = Q("q"), .if_empty = true);
    house_expect(h, "channel 406 queue.delete: queue 'q' in vhost '/' not empty\n");
    house_again(h, 0);
    DO(h, QUEUE_PURGE, queue_purge, .queue = Q("q"));
    house_expect(h, "queue.purge-ok 3\n");
    DO(h, BASIC_CONSUME, basic_consume, .queue = Q("q"), .consumer_tag = Q("t"));
    DO(h, QUEUE_DELETE, queue_delete, .queue = Q("q"), .if_unused = true);
    house_expect(h, "basic.consume-ok t\nchannel 406 queue.delete: queue 'q' in vhost '/' in use\n");
    house_again(h, 0);
    house_publish(h, 0, (struct basic_publish){.routing_key = Q("q")}, NULL, "m");
    house_run(h);
    DO(h, QUEUE_DELETE, queue_delete, .queue = Q("q"));
    house_expect(h, "queue.delete-ok 1\n");
}

static void queues_are_bound_and_unbound(void **state) {
    struct house *h = *state;
    declare_queue(h, "q");
    DO(h, QUEUE_BIND, queue_bind, .queue = Q("q"), .exchange = Q("amq.topic"), .routing_key = Q("a.#"));
    house_publish(h, 0, (struct basic_publish){.exchange = Q("amq.topic"), .routing_key = Q("a.b")}, NULL, "m");
    house_run(h);
    DO(h, BASIC_GET, basic_get, .queue = Q("q"), .no_ack = true);
    DO(h, QUEUE_UNBIND, queue_unbind, .queue = Q("q"), .exchange = Q("amq.topic"), .routing_key = Q("a.#"));
    house_run(h);
    house_publish(h, 0, (struct basic_publish){.exchange = Q("amq.topic"), .routing_key = Q("a.b")}, NULL, "m");
    house_run(h);
    DO(h, BASIC_GET, basic_get, .queue = Q("q"), .no_ack = true);
    house_expect(h, "queue.bind-ok\nbasic.get-ok 1 'amq.topic' 'a.b' 0 | m\nqueue.unbind-ok\nbasic.get-empty\n");
    DO(h, QUEUE_BIND, queue_bind, .queue = Q("q"), .exchange = Q(""), .routing_key = Q("a"));
    house_expect(h, "channel 403 queue.bind: operation not permitted on the default exchange\n");
    house_again(h, 0);
    table_put_text(house_table(h), "x-match", "some");
    DO(h, QUEUE_BIND, queue_bind, .queue = Q("q"), .exchange = Q("amq.headers"), .arguments = house_table_done(h));
    house_expect(h, "channel 406 queue.bind: Invalid x-match field value <<\"some\">>; expected all, any, all-with-x, "
                    "or any-with-x\n");
}

static void expect_refused(struct house *h, const char *method, const char *kind, const char *resource) {
    char expected[512];
    snprintf(expected, sizeof expected, "channel 403 %s: %s access to %s in vhost '/' refused for user 'alice'\n",
             method, kind, resource);
    house_expect(h, expected);
    house_again(h, 0);
    house_refuse(h, NULL);
}

static void permissions_on_queues(void **state) {
    struct house *h = *state;
    declare_queue(h, "q");
    house_refuse(h, "configure p");
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("p"));
    expect_refused(h, "queue.declare", "configure", "queue 'p'");
    house_refuse(h, "configure q");
    DO(h, QUEUE_DELETE, queue_delete, .queue = Q("q"));
    expect_refused(h, "queue.delete", "configure", "queue 'q'");
    house_refuse(h, "read q");
    DO(h, QUEUE_PURGE, queue_purge, .queue = Q("q"));
    expect_refused(h, "queue.purge", "read", "queue 'q'");
    house_refuse(h, "write q");
    DO(h, QUEUE_BIND, queue_bind, .queue = Q("q"), .exchange = Q("amq.direct"));
    expect_refused(h, "queue.bind", "write", "queue 'q'");
    house_refuse(h, "read amq.direct");
    DO(h, QUEUE_BIND, queue_bind, .queue = Q("q"), .exchange = Q("amq.direct"));
    expect_refused(h, "queue.bind", "read", "exchange 'amq.direct'");
    house_refuse(h, "write dead");
    table_put_text(house_table(h), "x-dead-letter-exchange", "dead");
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("p"), .arguments = house_table_done(h));
    expect_refused(h, "queue.declare", "write", "exchange 'dead'");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, house_setup, house_teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_exchange_is_declared_and_again_and_passively),
        TEST(an_exchange_that_is_not_there_is_not_found),
        TEST(an_unknown_type_ends_the_channel),
        TEST(an_exchange_with_other_properties_is_told),
        TEST(reserved_and_default_exchanges_are_refused),
        TEST(an_exchange_in_use_is_not_deleted_if_unused),
        TEST(permissions_on_exchanges),
        TEST(exchanges_are_bound_to_exchanges),
        TEST(a_queue_is_declared_and_counted),
        TEST(a_name_is_made_and_meant_when_it_is_left_out),
        TEST(a_reserved_queue_name_is_refused),
        TEST(a_queue_that_is_not_there_is_not_found),
        TEST(an_exclusive_queue_is_its_connections_alone),
        TEST(a_queue_with_other_properties_is_told),
        TEST(a_quorum_queue_is_durable_and_nobodys_own),
        TEST(a_queue_is_purged_and_deleted),
        TEST(queues_are_bound_and_unbound),
        TEST(permissions_on_queues),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
