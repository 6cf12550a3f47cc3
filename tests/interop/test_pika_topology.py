"""Exchanges, queues and bindings through pika: declaring again, differing, missing, deleting, routing."""
import pika
import pika.exceptions as ex
import pytest


def refused(code, call, *args, **kwargs):
    """Calls, which must end the channel with this code; returns the text."""
    with pytest.raises(ex.ChannelClosedByBroker) as caught:
        call(*args, **kwargs)
    assert caught.value.reply_code == code, caught.value
    return caught.value.reply_text


def get(channel, queue):
    return channel.basic_get(queue, auto_ack=True)[2]


def all_of(channel, queue):
    bodies = []
    while (body := get(channel, queue)) is not None:
        bodies.append(body)
    return bodies


def test_exchange_declare_again_and_delete(channel, name):
    for _ in range(2):
        channel.exchange_declare(name, "topic", durable=True, auto_delete=True, arguments={"a": 1})
    channel.exchange_declare(name, passive=True)
    channel.exchange_delete(name)
    channel.exchange_delete(name)  # RabbitMQ: deleting what is not there succeeds
    assert "no exchange" in refused(404, channel.exchange_declare, name, passive=True)


@pytest.mark.parametrize("what, second", [("type", {"exchange_type": "direct"}), ("durable", {"durable": True}),
                                          ("auto_delete", {"auto_delete": True}), ("internal", {"internal": True})])
def test_exchange_declared_otherwise(connect, name, what, second):
    connection = connect()
    connection.channel().exchange_declare(name, "fanout")
    text = refused(406, connection.channel().exchange_declare, name, **{"exchange_type": "fanout", **second})
    assert text.startswith(f"PRECONDITION_FAILED - inequivalent arg '{what}' for exchange '{name}' in vhost '/': received")
    connection.channel().exchange_delete(name)


def test_exchange_of_an_unknown_type(channel, name):
    assert "unknown exchange type 'nonsense'" in refused(406, channel.exchange_declare, name, "nonsense")


@pytest.mark.parametrize("exchange", ["amq.mine", "amq."])
def test_reserved_exchange_names(channel, exchange):
    text = refused(403, channel.exchange_declare, exchange, "direct")
    assert "contains reserved prefix 'amq.*'" in text


def test_the_default_exchange_is_nobodys(connect):
    connection = connect()
    refused(403, connection.channel().exchange_declare, "", "direct")
    refused(403, connection.channel().exchange_delete, "")
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    refused(403, channel.queue_bind, queue, "", "key")


@pytest.mark.parametrize("exchange, kind", [("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.topic", "topic"),
                                            ("amq.headers", "headers"), ("amq.match", "headers")])
def test_exchanges_that_are_always_there(channel, exchange, kind):
    channel.exchange_declare(exchange, kind, passive=True)
    channel.exchange_declare(exchange, kind, durable=True)
    refused(403, channel.exchange_delete, exchange)


def test_exchange_deleted_if_unused(connect, name):
    connection = connect()
    channel = connection.channel()
    channel.exchange_declare(name)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, name, "k")
    assert "in use" in refused(406, channel.exchange_delete, name, if_unused=True)
    channel = connection.channel()
    channel.queue_unbind(queue, name, "k")
    channel.exchange_delete(name, if_unused=True)


def test_exchange_auto_delete(connect, name):
    channel = connect().channel()
    channel.exchange_declare(name, auto_delete=True)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, name, "k")
    channel.queue_unbind(queue, name, "k")
    refused(404, channel.exchange_declare, name, passive=True)


def test_internal_exchange_takes_no_publishes(connect, name):
    channel = connect().channel()
    channel.exchange_declare(name, internal=True)
    channel.basic_publish(name, "", b"")
    assert "internal" in refused(403, channel.queue_declare, "", exclusive=True)
    connect().channel().exchange_delete(name)


def test_queue_named_by_the_broker(channel):
    declared = channel.queue_declare("", exclusive=True).method
    assert declared.queue.startswith("amq.gen-") and (declared.message_count, declared.consumer_count) == (0, 0)
    channel.basic_publish("", declared.queue, b"x")
    assert channel.queue_purge("").method.message_count == 1  # no name: the channel's last


def test_queue_counts(channel, name):
    channel.queue_declare(name)
    for _ in range(3):
        channel.basic_publish("", name, b"x")
    channel.basic_get(name)
    again = channel.queue_declare(name, passive=True).method
    assert (again.message_count, again.consumer_count) == (2, 0)
    assert channel.queue_delete(name).method.message_count == 2


@pytest.mark.parametrize("second, what", [({"durable": True}, "durable"), ({"auto_delete": True}, "auto_delete"),
                                          ({"arguments": {"x-max-length": 5}}, "x-max-length"),
                                          ({"arguments": {"x-max-priority": 5}}, "x-max-priority"),
                                          ({"arguments": {"x-message-ttl": 5000}}, "x-message-ttl")])
def test_queue_declared_otherwise(connect, name, second, what):
    connection = connect()
    connection.channel().queue_declare(name)
    text = refused(406, connection.channel().queue_declare, name, **second)
    assert text.startswith(f"PRECONDITION_FAILED - inequivalent arg '{what}' for queue '{name}' in vhost '/': received")
    connection.channel().queue_delete(name)


def test_queue_exclusive_to_its_connection(connect, name):
    connect().channel().queue_declare(name, exclusive=True)
    other = connect()
    for call in (lambda c: c.queue_declare(name, exclusive=True), lambda c: c.queue_declare(name, passive=True),
                 lambda c: c.basic_get(name), lambda c: c.basic_consume(name, print), lambda c: c.queue_purge(name),
                 lambda c: c.queue_delete(name), lambda c: c.queue_bind(name, "amq.direct", "k")):
        text = refused(405, call, other.channel())
        assert f"cannot obtain exclusive access to locked queue '{name}' in vhost '/'" in text


def test_exclusive_queue_goes_with_its_connection(connect, name):
    first = connect()
    first.channel().queue_declare(name, exclusive=True)
    first.close()
    refused(404, connect().channel().queue_declare, name, passive=True)


def test_auto_delete_queue_goes_with_its_last_consumer(connect, name):
    channel = connect().channel()
    channel.queue_declare(name, auto_delete=True)
    channel.queue_declare(name, passive=True, auto_delete=True)
    tag = channel.basic_consume(name, lambda *a: None)
    channel.basic_cancel(tag)
    refused(404, channel.queue_declare, name, passive=True)


def test_reserved_queue_names(channel):
    assert "contains reserved prefix 'amq.*'" in refused(403, channel.queue_declare, "amq.mine")


@pytest.mark.parametrize("arguments", [{"x-message-ttl": "soon"}, {"x-message-ttl": -1}, {"x-expires": 0},
                                       {"x-max-length": -1}, {"x-max-priority": 256}, {"x-overflow": "panic"},
                                       {"x-dead-letter-routing-key": "k"}, {"x-queue-type": "nonsense"}])
def test_queue_arguments_are_checked(channel, name, arguments):
    text = refused(406, channel.queue_declare, name, arguments=arguments)
    assert next(iter(arguments)) in text


def test_queue_deleted_with_conditions(connect, name):
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(name)
    channel.basic_publish("", name, b"x")
    assert "not empty" in refused(406, channel.queue_delete, name, if_empty=True)
    channel = connection.channel()
    channel.queue_purge(name)
    channel.basic_consume(name, lambda *a: None)
    assert "in use" in refused(406, connection.channel().queue_delete, name, if_unused=True)
    assert channel.queue_delete(name, if_empty=True).method.message_count == 0
    connection.channel().queue_delete(name)  # RabbitMQ: deleting what is not there succeeds


def test_queue_purge(channel, name):
    channel.queue_declare(name)
    for i in range(5):
        channel.basic_publish("", name, b"%d" % i)
    method, _, _ = channel.basic_get(name)
    assert channel.queue_purge(name).method.message_count == 4
    channel.basic_nack(method.delivery_tag)
    assert get(channel, name) == b"0"
    channel.queue_delete(name)


def test_bind_to_what_is_not_there(connect, name):
    connection = connect()
    assert "no exchange" in refused(404, connection.channel().queue_bind, connection.channel().queue_declare(
        "", exclusive=True).method.queue, name, "k")
    assert "no queue" in refused(404, connection.channel().queue_bind, name, "amq.direct", "k")
    assert "no exchange" in refused(404, connection.channel().exchange_bind, "amq.direct", name, "k")


def test_unbind_what_is_not_bound(channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_unbind(queue, "amq.direct", "never")


def test_direct_routing(channel, name):
    channel.exchange_declare(name, "direct", auto_delete=True)
    one = channel.queue_declare("", exclusive=True).method.queue
    two = channel.queue_declare("", exclusive=True).method.queue
    for queue, key in ((one, "a"), (one, "b"), (two, "b"), (two, "b")):
        channel.queue_bind(queue, name, key)
    for key in "abc":
        channel.basic_publish(name, key, key.encode())
    assert all_of(channel, one) == [b"a", b"b"] and all_of(channel, two) == [b"b"]


@pytest.mark.parametrize("pattern, matching", [
    ("a.*.c", {"a.b.c", "a..c"}), ("#", {"", "a", "a.b.c", "a..c", "a.b.c.d"}), ("a.#", {"a", "a.b.c", "a..c", "a.b.c.d"}),
    ("#.c", {"a.b.c", "a..c"}), ("a.#.d", {"a.b.c.d"}), ("*", {"", "a"}), ("*.#.*", {"a.b.c", "a..c", "a.b.c.d"}),
    ("a.b.c", {"a.b.c"}), ("#.#", {"", "a", "a.b.c", "a..c", "a.b.c.d"})])
def test_topic_routing(channel, name, pattern, matching):
    channel.exchange_declare(name, "topic", auto_delete=True)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, name, pattern)
    for key in ("", "a", "a.b.c", "a..c", "a.b.c.d"):
        channel.basic_publish(name, key, key.encode())
    got = {body.decode() for body in all_of(channel, queue)}
    # RabbitMQ takes an empty key for no word at all.
    assert got - {""} == matching - {""}


def test_fanout_routing_ignores_the_key(channel, name):
    channel.exchange_declare(name, "fanout", auto_delete=True)
    queues = [channel.queue_declare("", exclusive=True).method.queue for _ in range(5)]
    for queue in queues:
        channel.queue_bind(queue, name, "ignored")
    channel.basic_publish(name, "other", b"x")
    assert [all_of(channel, queue) for queue in queues] == [[b"x"]] * 5


@pytest.mark.parametrize("arguments, headers, match", [
    ({"x-match": "all", "a": 1, "b": "x"}, {"a": 1, "b": "x", "c": 2}, True),
    ({"x-match": "all", "a": 1, "b": "x"}, {"a": 1}, False), ({"x-match": "any", "a": 1, "b": "x"}, {"a": 1}, True),
    ({"x-match": "any", "a": 1}, {"a": 2}, False), ({"a": 1}, {"a": 1}, True),
    ({"x-match": "all"}, {}, True), ({"x-match": "any"}, {"a": 1}, False), ({"x-match": "all", "x-a": 1}, {}, True),
    ({"x-match": "all-with-x", "x-a": 1}, {}, False), ({"x-match": "any-with-x", "x-a": 1}, {"x-a": 1}, True)])
def test_headers_routing(channel, name, arguments, headers, match):
    channel.exchange_declare(name, "headers", auto_delete=True)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, name, "", arguments)
    channel.basic_publish(name, "", b"x", pika.BasicProperties(headers=headers))
    assert (get(channel, queue) == b"x") is match


def test_headers_binding_is_checked(channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    assert "x-match" in refused(406, channel.queue_bind, queue, "amq.headers", "", {"x-match": "some"})


def test_exchange_to_exchange(channel, name):
    channel.exchange_declare(name + "-in", "fanout", auto_delete=True)
    channel.exchange_declare(name + "-out", "topic", auto_delete=True)
    channel.exchange_bind(name + "-out", name + "-in", "ignored")
    channel.exchange_bind(name + "-in", name + "-out", "loop.#")  # a circle ends
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, name + "-out", "#.a")
    for key in ("x.a", "loop.a", "b"):
        channel.basic_publish(name + "-in", key, key.encode())
    assert all_of(channel, queue) == [b"x.a", b"loop.a"]
    channel.exchange_unbind(name + "-out", name + "-in", "ignored")
    channel.exchange_delete(name + "-in")
    channel.exchange_delete(name + "-out")


def test_alternate_exchange(channel, name):
    channel.exchange_declare(name + "-rest", "fanout", auto_delete=True)
    channel.exchange_declare(name, "direct", arguments={"alternate-exchange": name + "-rest"})
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, name + "-rest", "")
    channel.basic_publish(name, "nobody", b"x", mandatory=True)
    assert get(channel, queue) == b"x"
    channel.exchange_delete(name)


def test_cc_and_bcc(channel):
    queues = [channel.queue_declare("", exclusive=True).method.queue for _ in range(3)]
    channel.basic_publish("", queues[0], b"x", pika.BasicProperties(headers={"CC": [queues[1]], "BCC": [queues[2]]}))
    for queue in queues:
        _, properties, body = channel.basic_get(queue, auto_ack=True)
        assert body == b"x" and "BCC" not in properties.headers and properties.headers["CC"] == [queues[1]]
