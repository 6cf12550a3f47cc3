// basic.publish and what answers it: returns, confirms, transactions, direct replies, waiting for room.
#include "amqp/commands_test.h"

#define Q(text) view_of(text)

static const struct properties persistent = {.flags = PROPERTY_DELIVERY_MODE, .delivery_mode = 2};

static void queue(struct house *h, const char *name) {
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q(name), .durable = true, .no_wait = true);
}

static void send(struct house *h, const char *queue_name, const char *body) {
    house_publish(h, 0, (struct basic_publish){.routing_key = Q(queue_name)}, &persistent, body);
}

static void consume(struct house *h, const char *queue_name, const char *tag) {
    DO(h, BASIC_CONSUME, basic_consume, .queue = Q(queue_name), .consumer_tag = Q(tag), .no_wait = true);
}

static struct view headers(struct house *h) { return house_table_done(h); }

static void publish_needs_an_exchange_that_takes_it(void **state) {
    struct house *h = *state;
    house_publish(h, 0, (struct basic_publish){.exchange = Q("x")}, NULL, "m");
    house_expect(h, "channel 404 basic.publish: no exchange 'x' in vhost '/'\n");
    house_again(h, 0);
    DO(h, EXCHANGE_DECLARE, exchange_declare, .exchange = Q("i"), .type = Q("fanout"), .internal = true,
       .no_wait = true);
    house_publish(h, 0, (struct basic_publish){.exchange = Q("i")}, NULL, "m");
    house_expect(h, "channel 403 basic.publish: cannot publish to internal exchange 'i' in vhost '/'\n");
    house_again(h, 0);
    house_publish(h, 0, (struct basic_publish){.immediate = true}, NULL, "m");
    house_expect(h, "connection 540 basic.publish: immediate=true\n");
}

static void publish_needs_permission(void **state) {
    struct house *h = *state;
    house_refuse(h, "write amq.default");
    house_publish(h, 0, (struct basic_publish){.routing_key = Q("q")}, NULL, "m");
    house_expect(h, "channel 403 basic.publish: write access to exchange 'amq.default' in vhost '/' refused for user "
                    "'alice'\n");
    house_again(h, 0);
    house_publish(h, 0, (struct basic_publish){.exchange = Q("amq.fanout")}, NULL, "m");
    house_refuse(h, "write amq.direct");
    house_publish(h, 0, (struct basic_publish){.exchange = Q("amq.direct")}, NULL, "m");
    house_expect(h, "channel 403 basic.publish: write access to exchange 'amq.direct' in vhost '/' refused for user "
                    "'alice'\n");
}

static void the_unroutable_comes_back_before_its_confirm(void **state) {
    struct house *h = *state;
    DO(h, CONFIRM_SELECT, confirm_select, .no_wait = false);
    house_publish(h, 0, (struct basic_publish){.routing_key = Q("none"), .mandatory = true}, NULL, "back");
    house_publish(h, 0, (struct basic_publish){.routing_key = Q("none")}, NULL, "dropped");
    house_expect(h, "confirm.select-ok\nbasic.return 312 NO_ROUTE '' 'none' | back\nbasic.ack 2 multiple\n");
    assert_int_equal(h->amqp.stats.returned, 1);
    assert_int_equal(h->amqp.stats.unroutable_dropped, 1);
}

static void confirms_are_gathered_and_come_when_durable(void **state) {
    struct house *h = *state;
    queue(h, "q");
    DO(h, CONFIRM_SELECT, confirm_select, .no_wait = true);
    house_run(h);
    for (int i = 0; i < 5; i++) send(h, "q", "m");
    publishes_retry(&h->amqp);
    confirms_flush(&h->amqp);
    assert_string_equal(h->said, "");
    house_expect(h, "basic.ack 5 multiple\n");
    send(h, "q", "m");
    house_expect(h, "basic.ack 6\n");
    assert_int_equal(h->amqp.stats.confirmed, 6);
}

static void what_a_full_queue_refuses_is_nacked(void **state) {
    struct house *h = *state;
    struct buf *t = house_table(h);
    table_put_integer(t, "x-max-length", 2);
    table_put_text(t, "x-overflow", "reject-publish");
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("q"), .durable = true, .no_wait = true, .arguments = headers(h));
    queue(h, "r");
    DO(h, CONFIRM_SELECT, confirm_select, .no_wait = true);
    house_run(h);
    for (int i = 0; i < 4; i++) send(h, "q", "m");
    send(h, "r", "m");
    house_expect(h, "basic.ack 2 multiple\nbasic.nack 4 multiple\nbasic.ack 5\n");
}

static void cc_and_bcc_lead_to_more_queues_and_bcc_is_not_shown(void **state) {
    struct house *h = *state;
    const char *names[] = {"a", "b", "c"};
    for (int i = 0; i < 3; i++) queue(h, names[i]);
    struct buf *t = house_table(h);
    size_t cc = table_put_array(t, "CC");
    array_put(t, &(struct field){.type = FIELD_STRING, .bytes = Q("b")});
    table_end(t, cc);
    size_t bcc = table_put_array(t, "BCC");
    array_put(t, &(struct field){.type = FIELD_STRING, .bytes = Q("c")});
    table_end(t, bcc);
    table_put_text(t, "mine", "kept");
    house_publish(h, 0, (struct basic_publish){.routing_key = Q("a")},
                  &(struct properties){.flags = PROPERTY_HEADERS, .headers = headers(h)}, "m");
    house_run(h);
    for (int i = 0; i < 3; i++) DO(h, BASIC_GET, basic_get, .queue = Q(names[i]), .no_ack = true);
    house_expect(h, "basic.get-ok 1 '' 'a' 0 CC mine=kept | m\nbasic.get-ok 2 '' 'a' 0 CC mine=kept | m\n"
                    "basic.get-ok 3 '' 'a' 0 CC mine=kept | m\n");
    table_put_text(house_table(h), "CC", "no array");
    house_publish(h, 0, (struct basic_publish){.routing_key = Q("a")},
                  &(struct properties){.flags = PROPERTY_HEADERS, .headers = headers(h)}, "m");
    house_expect(h, "channel 406 basic.publish: invalid message: {unacceptable_type_in_header,\"CC\"}\n");
}

static void a_user_id_must_be_ones_own(void **state) {
    struct house *h = *state;
    queue(h, "q");
    struct properties p = {.flags = PROPERTY_USER_ID, .user_id = Q("alice")};
    house_publish(h, 0, (struct basic_publish){.routing_key = Q("q")}, &p, "m");
    p.user_id = Q("bob");
    h->user.impersonator = true;
    house_publish(h, 0, (struct basic_publish){.routing_key = Q("q")}, &p, "m");
    house_expect(h, "");
    h->user.impersonator = false;
    house_publish(h, 0, (struct basic_publish){.routing_key = Q("q")}, &p, "m");
    house_expect(h, "channel 406 basic.publish: user_id property set to 'bob' but authenticated user was 'alice'\n");
}

static void expect_expiration(struct house *h, const char *expiration, const char *why) {
    char expected[200];
    struct properties p = {.flags = PROPERTY_EXPIRATION, .expiration = Q(expiration)};
    house_publish(h, 0, (struct basic_publish){.routing_key = Q("q")}, &p, "m");
    snprintf(expected, sizeof expected, "channel 406 basic.publish: invalid expiration '%s': %s\n", expiration, why);
    house_expect(h, why == NULL ? "" : expected);
    house_again(h, 0);
}

static void an_expiration_is_a_number_of_milliseconds(void **state) {
    struct house *h = *state;
    queue(h, "q");
    house_run(h);
    expect_expiration(h, "60000", NULL);
    expect_expiration(h, "soon", "no_integer");
    expect_expiration(h, "", "no_integer");
    expect_expiration(h, "10s", "{leftover_string,\"s\"}");
    expect_expiration(h, "-5", "{value_negative,-5}");
    expect_expiration(h, "315360000001", "{value_too_large,315360000001}");
}

static void an_expired_message_is_not_delivered(void **state) {
    struct house *h = *state;
    struct properties p = {.flags = PROPERTY_EXPIRATION, .expiration = Q("50")};
    queue(h, "q");
    house_publish(h, 0, (struct basic_publish){.routing_key = Q("q")}, &p, "m");
    house_run(h);
    rig_advance(h->rig, 100);
    DO(h, BASIC_GET, basic_get, .queue = Q("q"));
    house_expect(h, "basic.get-empty\n");
}

static void priorities_are_the_messages(void **state) {
    struct house *h = *state;
    table_put_integer(house_table(h), "x-max-priority", 9);
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("q"), .durable = true, .no_wait = true, .arguments = headers(h));
    send(h, "q", "low");
    house_publish(h, 0, (struct basic_publish){.routing_key = Q("q")},
                  &(struct properties){.flags = PROPERTY_PRIORITY, .priority = 5}, "high");
    house_run(h);
    DO(h, BASIC_GET, basic_get, .queue = Q("q"), .no_ack = true);
    DO(h, BASIC_GET, basic_get, .queue = Q("q"), .no_ack = true);
    house_expect(h, "basic.get-ok 1 '' 'q' 1 | high\nbasic.get-ok 2 '' 'q' 0 | low\n");
}

// ---- waiting for room

static void a_publish_waits_until_there_is_room(void **state) {
    struct house *h = *state;
    queue(h, "q");
    DO(h, CONFIRM_SELECT, confirm_select, .no_wait = true);
    house_run(h);
    house_fill(h);
    send(h, "q", "waits");
    assert_int_equal(h->connection[0].pauses, 1);
    publishes_retry(&h->amqp);
    assert_int_equal(h->connection[0].pauses, 1);
    house_expect(h, "");
    house_make_room(h);
    house_expect(h, "basic.ack 1\n");
    assert_int_equal(h->connection[0].pauses, 0);
    DO(h, BASIC_GET, basic_get, .queue = Q("q"), .no_ack = true);
    house_expect(h, "basic.get-ok 1 '' 'q' 0 | waits\n");
}

static void who_waits_for_room_keeps_nobody_else_waiting(void **state) {
    struct house *h = *state;
    queue(h, "q");
    queue(h, "gone");
    DO_OTHER(h, CONFIRM_SELECT, confirm_select, .no_wait = true);
    house_run(h);
    house_fill(h);
    send(h, "q", "waits");
    house_publish(h, 1, (struct basic_publish){.routing_key = Q("gone")}, &persistent, "needs no room soon");
    assert_int_equal(h->connection[1].pauses, 1);
    rig_delete(h->rig, "gone");
    house_expect(h, "other basic.ack 1\n");
    assert_int_equal(h->connection[0].pauses, 1);
    assert_int_equal(h->connection[1].pauses, 0);
    house_make_room(h);
    house_expect(h, "");
    assert_int_equal(h->connection[0].pauses, 0);
}

// ---- transactions

static void a_transaction_is_done_at_commit(void **state) {
    struct house *h = *state;
    queue(h, "q");
    send(h, "q", "before");
    house_run(h);
    DO(h, TX_SELECT, tx_select);
    DO(h, BASIC_GET, basic_get, .queue = Q("q"));
    DO(h, BASIC_ACK, basic_ack, .delivery_tag = 1);
    send(h, "q", "within");
    house_publish(h, 0, (struct basic_publish){.routing_key = Q("none"), .mandatory = true}, NULL, "back");
    house_expect(h, "tx.select-ok\nbasic.get-ok 1 '' 'q' 0 | before\n");
    assert_int_equal(engine_session_unacked(h->channel[0]->session), 1);
    DO(h, TX_COMMIT, tx_commit);
    house_expect(h, "basic.return 312 NO_ROUTE '' 'none' | back\ntx.commit-ok\n");
    assert_int_equal(engine_session_unacked(h->channel[0]->session), 0);
    DO(h, BASIC_GET, basic_get, .queue = Q("q"));
    house_expect(h, "basic.get-ok 2 '' 'q' 0 | within\n");
}

static void a_rollback_forgets_publishes_and_acks(void **state) {
    struct house *h = *state;
    queue(h, "q");
    send(h, "q", "before");
    house_run(h);
    DO(h, TX_SELECT, tx_select);
    DO(h, BASIC_GET, basic_get, .queue = Q("q"));
    DO(h, BASIC_ACK, basic_ack, .delivery_tag = 0, .multiple = true);
    send(h, "q", "within");
    DO(h, TX_ROLLBACK, tx_rollback);
    DO(h, TX_COMMIT, tx_commit);
    DO(h, BASIC_GET, basic_get, .queue = Q("q"));
    house_expect(h, "tx.select-ok\nbasic.get-ok 1 '' 'q' 0 | before\ntx.rollback-ok\ntx.commit-ok\nbasic.get-empty\n");
    DO(h, BASIC_ACK, basic_ack, .delivery_tag = 1);
    DO(h, TX_COMMIT, tx_commit);
    house_expect(h, "tx.commit-ok\n");
    assert_int_equal(engine_session_unacked(h->channel[0]->session), 0);
}

static void all_acked_in_a_transaction_are_those_delivered_until_then(void **state) {
    struct house *h = *state;
    queue(h, "q");
    send(h, "q", "a");
    send(h, "q", "b");
    DO(h, TX_SELECT, tx_select);
    house_run(h);
    DO(h, BASIC_GET, basic_get, .queue = Q("q"));
    DO(h, BASIC_ACK, basic_ack, .delivery_tag = 0, .multiple = true);
    DO(h, BASIC_GET, basic_get, .queue = Q("q"));
    DO(h, TX_COMMIT, tx_commit);
    house_expect(h, "tx.select-ok\nbasic.get-ok 1 '' 'q' 1 | a\nbasic.get-ok 2 '' 'q' 0 | b\ntx.commit-ok\n");
    assert_int_equal(engine_session_unacked(h->channel[0]->session), 1);
}

static void all_acked_in_a_transaction_are_none_when_none_was_delivered_yet(void **state) {
    struct house *h = *state;
    queue(h, "q");
    send(h, "q", "a");
    DO(h, TX_SELECT, tx_select);
    house_run(h);
    DO(h, BASIC_ACK, basic_ack, .delivery_tag = 0, .multiple = true);
    DO(h, BASIC_GET, basic_get, .queue = Q("q"));
    DO(h, TX_COMMIT, tx_commit);
    house_expect(h, "tx.select-ok\nbasic.get-ok 1 '' 'q' 0 | a\ntx.commit-ok\n");
    assert_int_equal(engine_session_unacked(h->channel[0]->session), 1);
}

static void a_commit_waits_for_room(void **state) {
    struct house *h = *state;
    queue(h, "q");
    DO(h, TX_SELECT, tx_select);
    house_run(h);
    house_fill(h);
    send(h, "q", "waits");
    DO(h, TX_COMMIT, tx_commit);
    house_expect(h, "tx.select-ok\n");
    assert_int_equal(h->connection[0].pauses, 1);
    house_make_room(h);
    house_expect(h, "tx.commit-ok\n");
    assert_int_equal(h->connection[0].pauses, 0);
}

static void transactions_and_confirms_exclude_each_other(void **state) {
    struct house *h = *state;
    DO(h, TX_COMMIT, tx_commit);
    house_expect(h, "channel 406 tx.commit: channel is not transactional\n");
    house_again(h, 0);
    DO(h, TX_ROLLBACK, tx_rollback);
    house_expect(h, "channel 406 tx.rollback: channel is not transactional\n");
    house_again(h, 0);
    DO(h, TX_SELECT, tx_select);
    DO(h, CONFIRM_SELECT, confirm_select);
    house_expect(h, "tx.select-ok\nchannel 406 confirm.select: cannot switch from tx to confirm mode\n");
    house_again(h, 0);
    DO(h, CONFIRM_SELECT, confirm_select);
    DO(h, TX_SELECT, tx_select);
    house_expect(h, "confirm.select-ok\nchannel 406 tx.select: cannot switch from confirm to tx mode\n");
}

static void in_a_transaction_what_cannot_be_done_is_told_at_once(void **state) {
    struct house *h = *state;
    DO(h, TX_SELECT, tx_select);
    DO(h, BASIC_ACK, basic_ack, .delivery_tag = 3);
    house_expect(h, "tx.select-ok\nchannel 406 basic.ack: unknown delivery tag 3\n");
    house_again(h, 0);
    DO(h, TX_SELECT, tx_select);
    house_publish(h, 0, (struct basic_publish){.exchange = Q("x")}, NULL, "m");
    house_expect(h, "tx.select-ok\nchannel 404 basic.publish: no exchange 'x' in vhost '/'\n");
}

static void a_commit_of_which_a_queue_refuses_a_part_fails(void **state) {
    struct house *h = *state;
    struct buf *t = house_table(h);
    table_put_integer(t, "x-max-length", 1);
    table_put_text(t, "x-overflow", "reject-publish");
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q("q"), .durable = true, .no_wait = true, .arguments = headers(h));
    DO(h, TX_SELECT, tx_select);
    send(h, "q", "a");
    send(h, "q", "b");
    DO(h, TX_COMMIT, tx_commit);
    house_expect(h, "tx.select-ok\nchannel 406 tx.commit: partial tx completion\n");
}

// ---- direct reply-to

static void a_reply_reaches_the_channel_that_asked(void **state) {
    struct house *h = *state;
    char reply_to[NAME_SIZE];
    queue(h, "rpc");
    DO(h, BASIC_CONSUME, basic_consume, .queue = Q(REPLY_TO), .consumer_tag = Q("replies"), .no_ack = true);
    house_publish(h, 0, (struct basic_publish){.routing_key = Q("rpc")},
                  &(struct properties){.flags = PROPERTY_REPLY_TO | PROPERTY_CORRELATION_ID,
                                       .reply_to = Q(REPLY_TO),
                                       .correlation_id = Q("7")},
                  "question");
    house_run(h);
    DO_OTHER(h, BASIC_GET, basic_get, .queue = Q("rpc"), .no_ack = true);
    house_expect(h, "basic.consume-ok replies\n"
                    "other basic.get-ok 1 '' 'rpc' 0 reply-to=amq.rabbitmq.reply-to. correlation-id=7 | question\n");
    snprintf(reply_to, sizeof reply_to, "%s", h->channel[0]->basic->reply_token);
    DO_OTHER(h, QUEUE_DECLARE, queue_declare, .queue = Q(reply_to), .passive = true);
    DO_OTHER(h, CONFIRM_SELECT, confirm_select, .no_wait = true);
    house_publish(h, 1, (struct basic_publish){.routing_key = Q(reply_to), .mandatory = true},
                  &(struct properties){.flags = PROPERTY_CORRELATION_ID, .correlation_id = Q("7")}, "answer");
    house_expect(h, "other queue.declare-ok amq.rabbitmq.reply-to. 0 1\n"
                    "basic.deliver replies 1 '' 'amq.rabbitmq.reply-to.' correlation-id=7 | answer\n"
                    "other basic.ack 1\n");
    DO(h, BASIC_CANCEL, basic_cancel, .consumer_tag = Q("replies"));
    house_publish(h, 1, (struct basic_publish){.routing_key = Q(reply_to), .mandatory = true}, NULL, "late");
    house_expect(h, "basic.cancel-ok replies\n"
                    "other basic.return 312 NO_ROUTE '' 'amq.rabbitmq.reply-to.' | late\nother basic.ack 2\n");
    DO_OTHER(h, QUEUE_DECLARE, queue_declare, .queue = Q(reply_to), .passive = true);
    h->said[strcspn(h->said, "'")] = '\0';
    house_expect(h, "other channel 404 queue.declare: no queue ");
}

static void replies_are_confirmed_in_their_turn(void **state) {
    struct house *h = *state;
    queue(h, "q");
    DO_OTHER(h, BASIC_CONSUME, basic_consume, .queue = Q(REPLY_TO), .consumer_tag = Q("r"), .no_ack = true,
             .no_wait = true);
    DO(h, CONFIRM_SELECT, confirm_select, .no_wait = true);
    house_run(h);
    const char *token = h->channel[1]->basic->reply_token;
    send(h, "q", "1");
    house_publish(h, 0, (struct basic_publish){.routing_key = Q(token)}, NULL, "2");
    send(h, "q", "3");
    confirms_flush(&h->amqp);
    assert_string_equal(h->said, "other basic.deliver r 1 '' 'amq.rabbitmq.reply-to.' | 2\n");
    h->said[0] = '\0';
    house_publish(h, 0, (struct basic_publish){.routing_key = Q(token)}, NULL, "4");
    house_expect(h, "other basic.deliver r 2 '' 'amq.rabbitmq.reply-to.' | 4\nbasic.ack 4 multiple\n");
}

static void direct_reply_to_is_used_as_it_must_be(void **state) {
    struct house *h = *state;
    house_publish(h, 0, (struct basic_publish){.routing_key = Q("q")},
                  &(struct properties){.flags = PROPERTY_REPLY_TO, .reply_to = Q(REPLY_TO)}, "m");
    house_expect(h, "channel 406 basic.publish: fast reply consumer does not exist\n");
    house_again(h, 0);
    DO(h, BASIC_CONSUME, basic_consume, .queue = Q(REPLY_TO));
    house_expect(h, "channel 406 basic.consume: reply consumer cannot acknowledge\n");
    house_again(h, 0);
    DO(h, BASIC_CONSUME, basic_consume, .queue = Q(REPLY_TO), .no_ack = true, .no_wait = true);
    DO(h, BASIC_CONSUME, basic_consume, .queue = Q(REPLY_TO), .no_ack = true);
    house_expect(h, "channel 406 basic.consume: reply consumer already set\n");
    house_again(h, 0);
    DO(h, QUEUE_DECLARE, queue_declare, .queue = Q(REPLY_TO), .passive = true);
    house_expect(h, "queue.declare-ok amq.rabbitmq.reply-to 0 1\n");
    DO(h, QUEUE_BIND, queue_bind, .queue = Q(REPLY_TO), .exchange = Q("amq.direct"));
    house_expect(h, "channel 403 queue.bind: cannot bind or unbind to a volatile (direct reply-to) queue\n");
}

static void a_channel_that_ends_while_confirms_are_out(void **state) {
    struct house *h = *state;
    queue(h, "q");
    DO(h, CONFIRM_SELECT, confirm_select, .no_wait = true);
    house_run(h);
    send(h, "q", "m");
    house_again(h, 0);
    house_expect(h, "");
    consume(h, "q", "t");
    house_expect(h, "basic.deliver t 1 '' 'q' | m\n");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, house_setup, house_teardown)
    const struct CMUnitTest tests[] = {
        TEST(publish_needs_an_exchange_that_takes_it),
        TEST(publish_needs_permission),
        TEST(the_unroutable_comes_back_before_its_confirm),
        TEST(confirms_are_gathered_and_come_when_durable),
        TEST(what_a_full_queue_refuses_is_nacked),
        TEST(cc_and_bcc_lead_to_more_queues_and_bcc_is_not_shown),
        TEST(a_user_id_must_be_ones_own),
        TEST(an_expiration_is_a_number_of_milliseconds),
        TEST(an_expired_message_is_not_delivered),
        TEST(priorities_are_the_messages),
        TEST(a_publish_waits_until_there_is_room),
        TEST(who_waits_for_room_keeps_nobody_else_waiting),
        TEST(a_transaction_is_done_at_commit),
        TEST(a_rollback_forgets_publishes_and_acks),
        TEST(all_acked_in_a_transaction_are_those_delivered_until_then),
        TEST(all_acked_in_a_transaction_are_none_when_none_was_delivered_yet),
        TEST(a_commit_waits_for_room),
        TEST(transactions_and_confirms_exclude_each_other),
        TEST(in_a_transaction_what_cannot_be_done_is_told_at_once),
        TEST(a_commit_of_which_a_queue_refuses_a_part_fails),
        TEST(a_reply_reaches_the_channel_that_asked),
        TEST(replies_are_confirmed_in_their_turn),
        TEST(direct_reply_to_is_used_as_it_must_be),
        TEST(a_channel_that_ends_while_confirms_are_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
