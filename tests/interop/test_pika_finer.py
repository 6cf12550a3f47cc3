"""Finer points of what RabbitMQ does, which other clients' suites rely on."""
import time

import pika
import pika.exceptions as ex
import pytest


def wait_for(connection, condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come true"
        connection.process_data_events(time_limit=0.02)


def bodies(channel, queue):
    got = []
    while (body := channel.basic_get(queue, auto_ack=True)[2]) is not None:
        got.append(body)
    return got


def filled(channel, count, **arguments):
    """A queue with messages 0, 1, 2 …"""
    queue = channel.queue_declare("", exclusive=True, arguments=arguments).method.queue
    for i in range(count):
        channel.basic_publish("", queue, b"%d" % i)
    return queue


# --- what is given back ---

def test_given_back_to_a_full_queue_the_oldest_go(channel):
    queue = filled(channel, 2, **{"x-max-length": 2})
    tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(2)]
    for body in (b"2", b"3"):
        channel.basic_publish("", queue, body)
    channel.basic_nack(tags[1], multiple=True)
    assert bodies(channel, queue) == [b"2", b"3"]


def test_given_back_after_its_time_it_expires(channel):
    queue = filled(channel, 0)
    channel.basic_publish("", queue, b"late", pika.BasicProperties(expiration="50"))
    tag = channel.basic_get(queue)[0].delivery_tag
    channel.connection.process_data_events(time_limit=0.2)
    channel.basic_nack(tag)
    assert bodies(channel, queue) == []


def test_with_no_time_to_live_a_consumer_gets_it_once(connect):
    connection = connect()
    channel = connection.channel()
    queue = filled(channel, 1, **{"x-message-ttl": 0})
    assert bodies(channel, queue) == []
    got = []
    channel.basic_consume(queue, lambda c, m, p, b: got.append(m.delivery_tag))
    channel.basic_publish("", queue, b"x")
    wait_for(connection, lambda: got)
    channel.basic_reject(got[0], requeue=True)
    connection.process_data_events(time_limit=0.2)
    assert len(got) == 1


def test_a_get_right_behind_a_message_without_time_to_live_misses_it(channel):
    queue = filled(channel, 0)
    impl, answers = channel._impl, []
    impl.add_callback(lambda *a: answers.append("empty"), [pika.spec.Basic.GetEmpty])
    with channel.connection._acquire_event_dispatch():
        impl.basic_publish("", queue, b"x", pika.BasicProperties(expiration="0"))
        impl.basic_get(queue, lambda *a: answers.append("got"))
    wait_for(channel.connection, lambda: answers)
    assert answers == ["empty"]


# --- whose turn it is ---

def test_waiting_consumers_come_before_a_get(connect):
    connection = connect()
    channel = connection.channel()
    queue = filled(channel, 0)
    got, impl = [], channel._impl
    channel.basic_consume(queue, lambda c, m, p, b: got.append("consumer"), auto_ack=True)
    impl.add_callback(lambda *a: got.append("empty"), [pika.spec.Basic.GetEmpty])
    with connection._acquire_event_dispatch():
        impl.basic_publish("", queue, b"x")
        impl.basic_get(queue, lambda *a: got.append("get"))
    wait_for(connection, lambda: len(got) == 2)
    assert sorted(got) == ["consumer", "empty"]


def test_the_channels_prefetch_is_shared_fairly_by_its_queues(connect):
    connection = connect()
    channel = connection.channel()
    channel.basic_qos(prefetch_count=1, global_qos=True)
    queues, got = [filled(channel, 10) for _ in range(3)], []

    def on_message(ch, method, properties, body):
        got.append(method.routing_key)
        ch.basic_ack(method.delivery_tag)

    for queue in queues:
        channel.basic_consume(queue, on_message)
    wait_for(connection, lambda: len(got) >= 12)
    assert all(queue in got[:12] for queue in queues), got


def test_the_channels_prefetch_is_shared_fairly_by_the_consumers_of_a_queue(connect):
    connection = connect()
    channel = connection.channel()
    channel.basic_qos(prefetch_count=1, global_qos=True)
    queue, got = filled(channel, 10), []

    def on_message(ch, method, properties, body):
        got.append(method.consumer_tag)
        ch.basic_ack(method.delivery_tag)

    for tag in ("one", "two"):
        channel.basic_consume(queue, on_message, consumer_tag=tag)
    wait_for(connection, lambda: len(got) == 10)
    assert 4 <= got.count("one") <= 6, got


def test_a_consumer_without_acknowledgements_waits_for_the_channels_prefetch_too(connect):
    connection = connect()
    channel = connection.channel()
    channel.basic_qos(prefetch_count=1, global_qos=True)
    held, free = [], []
    channel.basic_consume(filled(channel, 1), lambda c, m, p, b: held.append(m.delivery_tag))
    wait_for(connection, lambda: held)
    channel.basic_consume(filled(channel, 1), lambda c, m, p, b: free.append(b), auto_ack=True)
    connection.process_data_events(time_limit=0.2)
    assert free == []
    channel.basic_ack(held[0])
    wait_for(connection, lambda: free)


# --- transactions ---

def test_acknowledged_in_a_transaction_it_is_not_recovered(channel):
    queue = filled(channel, 2)
    channel.tx_select()
    tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(2)]
    channel.basic_ack(tags[0])
    channel.basic_recover(requeue=True)
    assert bodies(channel, queue) == [b"1"]
    channel.tx_rollback()
    channel.basic_recover(requeue=True)
    assert bodies(channel, queue) == [b"0"]


@pytest.mark.parametrize("settle", [lambda c, t: c.basic_ack(t), lambda c, t: c.basic_nack(t), lambda c, t: c.basic_ack(t + 1)])
def test_settled_twice_in_a_transaction_it_ends_the_channel(channel, settle):
    queue = filled(channel, 1)
    channel.tx_select()
    tag = channel.basic_get(queue)[0].delivery_tag
    channel.basic_ack(tag)
    settle(channel, tag)
    with pytest.raises(ex.ChannelClosedByBroker) as caught:
        channel.tx_commit()
    assert caught.value.reply_code == 406 and "unknown delivery tag" in caught.value.reply_text


def test_one_then_all_acknowledged_in_a_transaction(connect):
    connection = connect()
    channel = connection.channel()
    queue = filled(channel, 4)
    channel.tx_select()
    tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(3)]
    channel.basic_ack(tags[2])
    channel.basic_ack(0, multiple=True)
    channel.basic_ack(0, multiple=True)
    last = channel.basic_get(queue)[0].delivery_tag
    channel.tx_commit()
    channel.basic_nack(last)
    channel.tx_commit()
    channel.close()
    assert bodies(connection.channel(), queue) == [b"3"]


# --- leases ---

def test_a_look_at_a_queue_prolongs_its_lease(connect, name):
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(name, arguments={"x-expires": 600})
    for _ in range(4):
        connection.process_data_events(time_limit=0.3)
        channel.queue_declare(name, passive=True)
    channel.queue_delete(name)
