"""Messages through pika's blocking channel: publishing, confirms, returns, consuming, settling, prefetch, transactions."""
import threading
import time

import pika
import pika.exceptions as ex
import pytest


def drain(channel, queue, auto_ack=True):
    got = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=auto_ack)
        if method is None:
            return got
        got.append(body)


def wait_for(connection, condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come true"
        connection.process_data_events(time_limit=0.05)


@pytest.fixture
def queue(channel):
    return channel.queue_declare("", exclusive=True).method.queue


# --- publishing ---

@pytest.mark.parametrize("size", [0, 1, 131064, 131065, 131072, 262144, 1_000_000, 5_000_000])
def test_bodies_of_any_size_come_back_whole(channel, queue, size):
    body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    channel.confirm_delivery()
    channel.basic_publish("", queue, body)
    assert channel.basic_get(queue, auto_ack=True)[2] == body
    got = []
    channel.basic_consume(queue, lambda c, m, p, b: got.append(b), auto_ack=True)
    channel.basic_publish("", queue, body)
    wait_for(channel.connection, lambda: got)
    assert got == [body]


def test_bodies_in_small_frames(connect):
    channel = connect(frame_max=4096).channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    body = bytes(range(256)) * 1000
    channel.basic_publish("", queue, body)
    assert channel.basic_get(queue, auto_ack=True)[2] == body


def test_every_property_comes_back(channel, queue):
    sent = pika.BasicProperties(
        content_type="text/plain", content_encoding="utf-8", delivery_mode=2, priority=3, correlation_id="c", reply_to="r",
        expiration="60000", message_id="m", timestamp=1700000000, type="t", user_id="guest", app_id="a", cluster_id="x",
        headers={"s": "text", "i": 5, "n": -5, "big": 2 ** 40, "t": True, "f": False, "none": None,
                 "list": [1, "a", {"x": 1}], "table": {"in": {"in": 1}}, "bytes": b"\x00\xff"})
    channel.basic_publish("", queue, b"x", sent)
    got = channel.basic_get(queue, auto_ack=True)[1]
    assert {k: v for k, v in vars(got).items() if k != "headers"} == {k: v for k, v in vars(sent).items() if k != "headers"}
    assert got.headers == sent.headers


def test_a_confirmed_publish(channel, queue):
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"x", mandatory=True)
    channel.basic_publish("", queue, b"y", pika.BasicProperties(delivery_mode=2))
    assert drain(channel, queue) == [b"x", b"y"]


def test_confirming_twice_is_fine(channel, queue):
    channel.confirm_delivery()
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"x")
    assert drain(channel, queue) == [b"x"]


def test_a_mandatory_message_for_nobody_is_returned(channel):
    channel.confirm_delivery()
    with pytest.raises(ex.UnroutableError) as caught:
        channel.basic_publish("", "nobody", b"back", pika.BasicProperties(app_id="me"), mandatory=True)
    [back] = caught.value.messages
    assert (back.method.reply_code, back.method.reply_text) == (312, "NO_ROUTE")
    assert (back.method.exchange, back.method.routing_key) == ("", "nobody")
    assert back.body == b"back" and back.properties.app_id == "me"
    channel.basic_publish("", "nobody", b"gone")  # not mandatory: confirmed


def test_returns_without_confirms(channel, queue):
    returned = []
    channel.add_on_return_callback(lambda c, m, p, b: returned.append(b))
    for i in range(3):
        channel.basic_publish("", "nobody", b"%d" % i, mandatory=True)
    channel.queue_declare(queue, passive=True)
    channel.connection.process_data_events()
    assert returned == [b"0", b"1", b"2"]


def test_publishing_to_no_exchange_ends_the_channel(channel):
    channel.confirm_delivery()
    with pytest.raises(ex.ChannelClosedByBroker) as caught:
        channel.basic_publish("not there", "", b"x")
    assert (caught.value.reply_code, caught.value.reply_text) == (404, "NOT_FOUND - no exchange 'not there' in vhost '/'")


def test_a_full_queue_that_rejects_says_no(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    channel.confirm_delivery()
    channel.basic_publish("", name, b"in")
    with pytest.raises(ex.NackError):
        channel.basic_publish("", name, b"out")
    assert drain(channel, name) == [b"in"]


def test_a_forged_user_id_is_refused(channel, queue):
    channel.confirm_delivery()
    with pytest.raises(ex.ChannelClosedByBroker) as caught:
        channel.basic_publish("", queue, b"x", pika.BasicProperties(user_id="somebody"))
    assert "user_id property set to 'somebody' but authenticated user was 'guest'" in caught.value.reply_text


def test_a_bad_expiration_is_refused(channel, queue):
    channel.confirm_delivery()
    with pytest.raises(ex.ChannelClosedByBroker) as caught:
        channel.basic_publish("", queue, b"x", pika.BasicProperties(expiration="soon"))
    assert caught.value.reply_code == 406 and "invalid expiration 'soon'" in caught.value.reply_text


# --- getting and settling ---

def test_getting_from_an_empty_queue(channel, queue):
    assert channel.basic_get(queue) == (None, None, None)


def test_get_tells_what_is_left_and_where_it_came_from(channel, queue):
    for i in range(3):
        channel.basic_publish("", queue, b"%d" % i)
    method, _, body = channel.basic_get(queue)
    assert (method.message_count, method.exchange, method.routing_key, method.redelivered) == (2, "", queue, False)
    assert body == b"0"


def test_what_is_not_acknowledged_comes_back_with_the_channels_end(connect, name):
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(name, exclusive=True)
    for i in range(4):
        channel.basic_publish("", name, b"%d" % i)
    tags = [channel.basic_get(name)[0].delivery_tag for _ in range(4)]
    channel.basic_ack(tags[1])
    channel.close()
    again = connection.channel()
    got = [again.basic_get(name) for _ in range(4)]
    assert [g[2] for g in got] == [b"0", b"2", b"3", None] and all(g[0].redelivered for g in got[:3])


@pytest.mark.parametrize("settle, left", [
    (lambda c, t: c.basic_ack(t[1], multiple=True), [b"2", b"3"]), (lambda c, t: c.basic_ack(0, multiple=True), []),
    (lambda c, t: c.basic_nack(t[2], multiple=True, requeue=False), [b"3"]),
    (lambda c, t: c.basic_nack(t[2], multiple=True, requeue=True), [b"0", b"1", b"2", b"3"]),
    (lambda c, t: c.basic_nack(requeue=False, multiple=True), []), (lambda c, t: c.basic_reject(t[0], requeue=False), [b"1", b"2", b"3"]),
    (lambda c, t: c.basic_reject(t[3], requeue=True), [b"0", b"1", b"2", b"3"])])
def test_settling(connect, name, settle, left):
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(name, exclusive=True)
    for i in range(4):
        channel.basic_publish("", name, b"%d" % i)
    tags = [channel.basic_get(name)[0].delivery_tag for _ in range(4)]
    settle(channel, tags)
    channel.close()
    assert drain(connection.channel(), name) == left


@pytest.mark.parametrize("settle", [lambda c: c.basic_ack(7), lambda c: c.basic_nack(7), lambda c: c.basic_reject(7)])
def test_an_unknown_delivery_tag_ends_the_channel(channel, queue, settle):
    settle(channel)
    with pytest.raises(ex.ChannelClosedByBroker) as caught:
        channel.queue_declare(queue, passive=True)
    assert (caught.value.reply_code, caught.value.reply_text) == (406, "PRECONDITION_FAILED - unknown delivery tag 7")


def test_acknowledging_twice_ends_the_channel(channel, queue):
    channel.basic_publish("", queue, b"x")
    tag = channel.basic_get(queue)[0].delivery_tag
    channel.basic_ack(tag)
    channel.basic_ack(tag)
    with pytest.raises(ex.ChannelClosedByBroker) as caught:
        channel.queue_declare(queue, passive=True)
    assert caught.value.reply_code == 406


def test_recover(channel, queue):
    channel.basic_publish("", queue, b"x")
    channel.basic_get(queue)
    channel.basic_recover(requeue=True)
    method, _, body = channel.basic_get(queue, auto_ack=True)
    assert body == b"x" and method.redelivered


# --- consuming ---

def test_consuming_and_acknowledging(channel, queue):
    got = []

    def on_message(ch, method, properties, body):
        got.append((method.delivery_tag, body, method.redelivered))
        ch.basic_ack(method.delivery_tag)
        if len(got) == 10:
            ch.stop_consuming()

    for i in range(10):
        channel.basic_publish("", queue, b"%d" % i)
    channel.basic_consume(queue, on_message)
    channel.start_consuming()
    assert got == [(i + 1, b"%d" % i, False) for i in range(10)]
    assert channel.queue_declare(queue, passive=True).method.consumer_count == 0


def test_consuming_by_generator(channel, queue):
    for i in range(5):
        channel.basic_publish("", queue, b"%d" % i)
    got = []
    for method, _, body in channel.consume(queue, inactivity_timeout=5):
        got.append(body)
        channel.basic_ack(method.delivery_tag)
        if len(got) == 5:
            break
    assert channel.cancel() == 0
    assert got == [b"%d" % i for i in range(5)]


def test_cancelling_gives_back_what_the_client_had_not_handled(channel, queue):
    for i in range(5):
        channel.basic_publish("", queue, b"%d" % i)
    next(channel.consume(queue))
    channel.cancel()
    wait_for(channel.connection, lambda: channel.queue_declare(queue, passive=True).method.message_count == 4)


def test_consumer_tags(channel, queue):
    assert channel.basic_consume(queue, print, consumer_tag="mine") == "mine"
    with pytest.raises(ex.DuplicateConsumerTag):
        channel.basic_consume(queue, print, consumer_tag="mine")
    assert channel.basic_consume(queue, print) != channel.basic_consume(queue, print)
    channel.basic_cancel("mine")
    channel.basic_cancel("never there")


def test_a_deleted_queue_tells_its_consumers(connect, name):
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(name)
    cancelled = []
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    tag = channel.basic_consume(name, print)
    connect().channel().queue_delete(name)
    wait_for(connection, lambda: cancelled)
    assert cancelled == [tag] and channel.is_open


def test_exclusive_consumers(connect, name):
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(name, auto_delete=True)
    channel.basic_consume(name, print, exclusive=True)
    with pytest.raises(ex.ChannelClosedByBroker) as caught:
        connection.channel().basic_consume(name, print)
    assert caught.value.reply_code == 403 and "in exclusive use" in caught.value.reply_text


def test_consuming_from_no_queue(channel):
    with pytest.raises(ex.ChannelClosedByBroker) as caught:
        channel.basic_consume("not there", print)
    assert caught.value.reply_code == 404


@pytest.mark.parametrize("prefetch", [1, 3])
def test_prefetch_of_each_consumer(connect, name, prefetch):
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(name, exclusive=True)
    for i in range(10):
        channel.basic_publish("", name, b"%d" % i)
    got = []
    channel.basic_qos(prefetch_count=prefetch)
    channel.basic_consume(name, lambda c, m, p, b: got.append(m.delivery_tag))
    wait_for(connection, lambda: len(got) == prefetch)
    connection.process_data_events(time_limit=0.2)
    assert len(got) == prefetch
    channel.basic_ack(got[0])
    wait_for(connection, lambda: len(got) == prefetch + 1)


def test_prefetch_of_the_whole_channel(connect, name):
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(name, exclusive=True)
    for i in range(10):
        channel.basic_publish("", name, b"%d" % i)
    got = []
    channel.basic_qos(prefetch_count=3, global_qos=True)
    for _ in range(3):
        channel.basic_consume(name, lambda c, m, p, b: got.append(m.delivery_tag))
    connection.process_data_events(time_limit=0.3)
    assert len(got) == 3
    channel.basic_ack(max(got), multiple=True)
    wait_for(connection, lambda: len(got) == 6)


def test_consumers_take_turns(connect, name):
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(name, exclusive=True)
    got = {}
    for i in range(3):
        channel.basic_consume(name, lambda c, m, p, b: got.setdefault(m.consumer_tag, []).append(b), auto_ack=True)
    for i in range(30):
        channel.basic_publish("", name, b"%d" % i)
    wait_for(connection, lambda: sum(map(len, got.values())) == 30)
    assert [len(bodies) for bodies in got.values()] == [10, 10, 10]


def test_higher_consumer_priority_comes_first(connect, name):
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(name, exclusive=True)
    got = {"low": [], "high": []}
    channel.basic_qos(prefetch_count=2)
    channel.basic_consume(name, lambda c, m, p, b: got["low"].append(b), consumer_tag="low")
    channel.basic_consume(name, lambda c, m, p, b: got["high"].append(b), consumer_tag="high", arguments={"x-priority": 5})
    for i in range(3):
        channel.basic_publish("", name, b"%d" % i)
    wait_for(connection, lambda: sum(map(len, got.values())) == 3)
    assert got == {"high": [b"0", b"1"], "low": [b"2"]}


def test_single_active_consumer(connect, name):
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(name, arguments={"x-single-active-consumer": True}, auto_delete=True)
    got = {"first": [], "second": []}
    for tag in ("first", "second"):
        channel.basic_consume(name, lambda c, m, p, b: got[m.consumer_tag].append(b), auto_ack=True, consumer_tag=tag)
    for i in range(2):
        channel.basic_publish("", name, b"%d" % i)
    wait_for(connection, lambda: len(got["first"]) == 2)
    channel.basic_cancel("first")
    channel.basic_publish("", name, b"2")
    wait_for(connection, lambda: got["second"] == [b"2"])


def test_acknowledging_from_another_thread(connect, name):
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(name, exclusive=True)
    channel.basic_qos(prefetch_count=1)
    got = []

    def on_message(ch, method, properties, body):
        def work():
            connection.add_callback_threadsafe(lambda: (ch.basic_ack(method.delivery_tag), got.append(body)))
        threading.Thread(target=work).start()

    channel.basic_consume(name, on_message)
    for i in range(5):
        channel.basic_publish("", name, b"%d" % i)
    wait_for(connection, lambda: len(got) == 5)
    assert got == [b"%d" % i for i in range(5)]


def test_direct_reply_to(connect):
    server, client = connect(), connect()
    queue = server.channel().queue_declare("", exclusive=True).method.queue
    serving = server.channel()

    def answer(ch, method, properties, body):
        ch.basic_publish("", properties.reply_to, body.upper(), pika.BasicProperties(correlation_id=properties.correlation_id))

    serving.basic_consume(queue, answer, auto_ack=True)
    channel, got = client.channel(), []
    channel.basic_consume("amq.rabbitmq.reply-to", lambda c, m, p, b: got.append((p.correlation_id, b)), auto_ack=True)
    for i in range(3):
        channel.basic_publish("", queue, b"question %d" % i, pika.BasicProperties(reply_to="amq.rabbitmq.reply-to",
                                                                                 correlation_id=str(i)))
    wait_for(client, lambda: server.process_data_events(time_limit=0.02) or len(got) == 3)
    assert got == [(str(i), b"QUESTION %d" % i) for i in range(3)]


# --- transactions ---

def test_a_transaction_commits_publishes_and_acknowledgements(connect, name):
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(name, exclusive=True)
    channel.basic_publish("", name, b"before")
    channel.tx_select()
    channel.basic_publish("", name, b"in it")
    other = connection.channel()
    assert drain(other, name, auto_ack=False) == [b"before"]
    other.basic_nack(0, multiple=True)
    channel.basic_ack(channel.basic_get(name)[0].delivery_tag)
    channel.tx_commit()
    channel.close()
    assert drain(connection.channel(), name) == [b"in it"]


def test_a_transaction_rolled_back_leaves_nothing(connect, name):
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(name, exclusive=True)
    channel.basic_publish("", name, b"before")
    channel.tx_select()
    channel.basic_publish("", name, b"in it")
    channel.basic_ack(channel.basic_get(name)[0].delivery_tag)
    channel.tx_rollback()
    channel.close()
    assert drain(connection.channel(), name) == [b"before"]


@pytest.mark.parametrize("call", [lambda c: c.tx_commit(), lambda c: c.tx_rollback()])
def test_a_channel_without_transactions(channel, call):
    with pytest.raises(ex.ChannelClosedByBroker) as caught:
        call(channel)
    assert caught.value.reply_code == 406 and "channel is not transactional" in caught.value.reply_text


def test_transactions_and_confirms_exclude_each_other(channel):
    channel.tx_select()
    with pytest.raises(ex.ChannelClosedByBroker) as caught:
        channel.confirm_delivery()
    assert caught.value.reply_code == 406 and "cannot switch from tx to confirm mode" in caught.value.reply_text
