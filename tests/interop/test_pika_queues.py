"""What queues do by their arguments: priorities, time to live, lengths, dead letters, attempts, expiry, delays."""
import time

import pika
import pika.exceptions
import pytest


def get(channel, queue, seconds=5):
    """The next message, waited for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method is not None:
            return properties, body
        channel.connection.process_data_events(time_limit=0.02)
    raise AssertionError("nothing came")


def bodies(channel, queue, count):
    return [get(channel, queue)[1] for _ in range(count)]


def dead_letters(channel, name, **arguments):
    """A queue whose dead letters go to name-dead."""
    channel.queue_declare(name + "-dead", exclusive=True)
    channel.queue_declare(name, exclusive=True, arguments={
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": name + "-dead", **arguments})
    return name + "-dead"


def test_priorities(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={"x-max-priority": 5})
    for body, priority in ((b"low", 0), (b"high", 5), (b"middle", 3), (b"none", None), (b"higher than max", 9)):
        channel.basic_publish("", name, body, pika.BasicProperties(priority=priority))
    assert bodies(channel, name, 5) == [b"high", b"higher than max", b"middle", b"low", b"none"]


@pytest.mark.parametrize("arguments, expiration", [({"x-message-ttl": 50}, None), ({}, "50"),
                                                   ({"x-message-ttl": 60000}, "50"), ({"x-message-ttl": 50}, "60000")])
def test_messages_expire(channel, name, arguments, expiration):
    dead = dead_letters(channel, name, **arguments)
    channel.basic_publish("", name, b"x", pika.BasicProperties(expiration=expiration))
    properties, body = get(channel, dead)
    assert body == b"x" and properties.headers["x-death"][0]["reason"] == "expired"
    assert properties.expiration is None
    if expiration:
        assert properties.headers["x-death"][0]["original-expiration"] == expiration


def test_a_message_that_may_not_wait(channel, name):
    channel.queue_declare(name, exclusive=True)
    channel.basic_publish("", name, b"x", pika.BasicProperties(expiration="0"))
    assert channel.basic_get(name) == (None, None, None)


def test_drop_head(channel, name):
    dead = dead_letters(channel, name, **{"x-max-length": 2})
    for i in range(4):
        channel.basic_publish("", name, b"%d" % i)
    assert bodies(channel, name, 2) == [b"2", b"3"]
    properties, body = get(channel, dead)
    assert body == b"0" and properties.headers["x-death"][0]["reason"] == "maxlen"


def test_length_in_bytes(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={"x-max-length-bytes": 10})
    for i in range(4):
        channel.basic_publish("", name, b"%d234" % i)
    assert bodies(channel, name, 2) == [b"2234", b"3234"]


def test_reject_publish_dlx(channel, name):
    dead = dead_letters(channel, name, **{"x-max-length": 1, "x-overflow": "reject-publish-dlx"})
    for i in range(2):
        channel.basic_publish("", name, b"%d" % i)
    properties, body = get(channel, dead)
    assert body == b"1" and properties.headers["x-death"][0]["reason"] == "maxlen"
    assert bodies(channel, name, 1) == [b"0"]


def test_rejected_messages_tell_their_story(channel, name):
    dead = dead_letters(channel, name)
    channel.exchange_declare(name, "fanout", auto_delete=True)
    channel.queue_bind(name, name)
    channel.basic_publish(name, "its key", b"x", pika.BasicProperties(headers={"mine": 1}))
    channel.basic_reject(channel.basic_get(name)[0].delivery_tag, requeue=False)
    properties, body = get(channel, dead)
    [death] = properties.headers["x-death"]
    assert (death["count"], death["reason"], death["queue"], death["exchange"], death["routing-keys"]) == (
        1, "rejected", name, name, ["its key"])
    assert death["time"] is not None and properties.headers["mine"] == 1
    assert properties.headers["x-first-death-reason"] == "rejected"
    assert properties.headers["x-first-death-queue"] == name and properties.headers["x-first-death-exchange"] == name


def test_dead_letters_that_go_round_are_counted(channel, name):
    channel.queue_declare(name + "-wait", exclusive=True, arguments={
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": name, "x-message-ttl": 20})
    channel.queue_declare(name, exclusive=True, arguments={
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": name + "-wait"})
    channel.basic_publish("", name, b"x")
    for turn in range(3):
        end = time.monotonic() + 5
        while (got := channel.basic_get(name))[0] is None:
            assert time.monotonic() < end
        deaths = {d["queue"]: d["count"] for d in (got[1].headers or {}).get("x-death", [])}
        assert deaths == ({name: turn, name + "-wait": turn} if turn else {})
        channel.basic_nack(got[0].delivery_tag, requeue=False)


def test_a_circle_of_expiry_alone_ends(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": name, "x-message-ttl": 20})
    channel.basic_publish("", name, b"x")
    end = time.monotonic() + 5
    while channel.queue_declare(name, passive=True).method.message_count:
        assert time.monotonic() < end
        channel.connection.process_data_events(time_limit=0.02)


def test_delivery_limit(connect, name):
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(name + "-dead", exclusive=True)
    channel.queue_declare(name, durable=True, arguments={
        "x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": name + "-dead"})
    channel.basic_publish("", name, b"x")
    counts = []
    end = time.monotonic() + 10
    while channel.queue_declare(name + "-dead", passive=True).method.message_count == 0:
        assert time.monotonic() < end
        method, properties, _ = channel.basic_get(name)
        if method is None:
            connection.process_data_events(time_limit=0.02)
            continue
        counts.append((properties.headers or {}).get("x-delivery-count", 0))
        channel.basic_nack(method.delivery_tag, requeue=True)
    assert counts == [0, 1, 2]
    assert get(channel, name + "-dead")[0].headers["x-death"][0]["reason"] == "delivery_limit"
    channel.queue_delete(name)


def test_unused_queues_expire(connect, name):
    """A look counts as use, so each comes later than the last."""
    connection = connect()
    connection.channel().queue_declare(name, arguments={"x-expires": 100})
    for wait in (0.2, 0.4, 0.8, 1.6, 3.2):
        connection.process_data_events(time_limit=wait)
        try:
            connection.channel().queue_declare(name, passive=True)
        except pika.exceptions.ChannelClosedByBroker as e:
            assert e.reply_code == 404
            return
    raise AssertionError("it is still there")


def test_a_queue_with_a_consumer_does_not_expire(connect, name):
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(name, arguments={"x-expires": 100})
    channel.basic_consume(name, print)
    connection.process_data_events(time_limit=0.4)
    assert channel.queue_declare(name, passive=True).method.consumer_count == 1
    channel.queue_delete(name)


def test_lazy_and_other_modes_are_taken(channel, name):
    for i, arguments in enumerate(({"x-queue-mode": "lazy"}, {"x-queue-type": "classic"}, {"x-queue-version": 2},
                                   {"x-queue-master-locator": "min-masters"})):
        channel.queue_declare(f"{name}-{i}", exclusive=True, arguments=arguments)


def test_messages_survive_a_full_turn_of_the_queue(channel, name):
    """Ten thousand, persistent and not, in order."""
    channel.queue_declare(name, exclusive=True)
    channel.confirm_delivery()
    channel2 = channel.connection.channel()
    for i in range(10_000):
        channel2.basic_publish("", name, b"%d" % i, pika.BasicProperties(delivery_mode=1))
    got = []
    for method, _, body in channel2.consume(name, auto_ack=True, inactivity_timeout=5):
        got.append(body)
        if len(got) == 10_000 or method is None:
            break
    assert got == [b"%d" % i for i in range(10_000)]
