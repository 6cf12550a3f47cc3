"""Large bodies: never in memory as a whole, in a file while a message names them, and gone with the last one."""
import hashlib
import json
import os
import random
import struct
import subprocess
import threading
import time

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker, ChannelWrongStateError

from support.disk import fill, small_disk
from support.raw_amqp import Raw, frame, method, short
from support.server import Server, binary, eventually

KIB, MIB = 1 << 10, 1 << 20
LARGE = 300 * KIB
PERSISTENT = pika.BasicProperties(delivery_mode=2)


def content(size, seed=1):
    return random.Random(seed).randbytes(size)


def connect(server, **more):
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", server.amqp_port, socket_timeout=60,
                                                             heartbeat=0, **more))


def files(server):
    """The names of the bodies that are there."""
    found = []
    for shard in os.listdir(os.path.join(server.data, "bodies")):
        if shard != "tmp":
            found += os.listdir(os.path.join(server.data, "bodies", shard))
    return sorted(found)


def parts(server):
    return os.listdir(os.path.join(server.data, "bodies", "tmp"))


def names(*bodies):
    return sorted(hashlib.sha256(body).hexdigest() for body in bodies)


def expect_files(server, *bodies):
    eventually(lambda: files(server) == names(*bodies), 20, f"{len(bodies)} files of bodies")


def get(channel, queue, seconds=20, **more):
    return eventually(lambda: (lambda got: got if got[0] else None)(channel.basic_get(queue, **more)), seconds)


@pytest.fixture
def server():
    with Server(amqp=True, args=["--max-message-size", "512M"]) as s:
        yield s


@pytest.fixture
def channel(server):
    ch = connect(server).channel()
    ch.confirm_delivery()
    ch.queue_declare("q", durable=True)
    return ch


def publish(channel, body, queue="q", exchange="", properties=PERSISTENT, **more):
    channel.basic_publish(exchange, queue, body, properties, **more)


def publish_head(size, channel=1):
    """basic.publish to the queue q, and the header of a body of that size."""
    return (method(channel, 60, 40, b"\0\0" + short(b"") + short(b"q") + b"\0") +
            frame(2, channel, struct.pack(">HHQH", 60, 0, size, 0)))


class Memory:
    """The most that the server's memory grew by in the meantime."""

    def __init__(self, server):
        self.server = server
        self.peak = 0
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        while not self.stopped.wait(0.005):
            self.peak = max(self.peak, self.server.rss_bytes())

    def __enter__(self):
        self.before = self.server.rss_bytes()
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.stopped.set()
        self.thread.join()

    @property
    def grew(self):
        return self.peak - self.before


# ---- there and back

@pytest.mark.parametrize("size", [256 * KIB - 1, 256 * KIB, LARGE, 20 * MIB, 100 * MIB])
def test_a_body_comes_back_as_it_was(server, channel, size):
    body = content(size)
    properties = pika.BasicProperties(delivery_mode=2, message_id="m", headers={"a": 1})
    with Memory(server) as memory:
        publish(channel, body, properties=properties)
        assert files(server) == (names(body) if size >= 256 * KIB else [])
        delivered, back, got = channel.basic_get("q")
        assert got == body and back.message_id == "m" and back.headers == {"a": 1}
        channel.basic_nack(delivered.delivery_tag)
        for delivered, _, got in channel.consume("q"):
            assert got == body and delivered.redelivered
            channel.basic_ack(delivered.delivery_tag)
            break
    assert memory.grew < 16 * MIB
    expect_files(server)


def test_many_at_once_over_many_connections(server):
    def work(seed):
        connection = connect(server)
        ch = connection.channel()
        ch.confirm_delivery()
        queue = ch.queue_declare("", exclusive=True).method.queue
        bodies = [content(MIB + seed * 1000 + i, seed) for i in range(8)]
        for body in bodies:
            publish(ch, body, queue)
        for body in bodies:
            assert get(ch, queue, auto_ack=True)[2] == body
        connection.close()
        done.append(seed)

    done = []
    with Memory(server) as memory:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert sorted(done) == list(range(8))
    assert memory.grew < 48 * MIB
    expect_files(server)


def test_larger_than_is_allowed(server, channel):
    raw = Raw(server.amqp_port).open()
    raw.send(method(1, 20, 10, short(b"")) + publish_head(513 * MIB))
    closed = raw.expect((20, 40))
    assert struct.unpack(">H", closed[:2]) == (406,) and b"is larger than configured max size 536870912" in closed
    raw.close()


def test_order_holds_between_large_and_small(server, channel):
    bodies = [content(LARGE, i) if i % 3 == 0 else b"small %d" % i for i in range(30)]
    for body in bodies:
        publish(channel, body)
    got = []
    for delivered, _, body in channel.consume("q", auto_ack=True):
        got.append(body)
        if len(got) == len(bodies):
            break
    assert got == bodies


def test_two_queues_and_two_publishes_share_one_file(server, channel):
    body = content(LARGE)
    channel.queue_declare("other", durable=True)
    for queue in ("q", "other"):
        channel.queue_bind(queue, "amq.fanout")
    publish(channel, body, "", "amq.fanout")
    publish(channel, body, "", "amq.fanout")
    assert files(server) == names(body)
    for left in (3, 2, 1, 0):
        delivered, _, got = get(channel, "q" if left % 2 else "other")
        assert got == body
        assert files(server) == names(body)
        channel.basic_ack(delivered.delivery_tag)
        if left:
            publish(channel, b"later", "nobody")  # a round trip to the disk
            assert files(server) == names(body)
    expect_files(server)


def test_an_upload_of_what_is_just_being_removed_stays(server, channel):
    body = content(LARGE)
    consumer = connect(server).channel()
    for _ in range(60):
        publish(channel, body)
        delivered, _, got = get(consumer, "q")
        assert got == body
        consumer.basic_ack(delivered.delivery_tag)  # and at the same time it comes again
    publish(channel, body)
    assert get(consumer, "q", auto_ack=True)[2] == body
    expect_files(server)


# ---- where it goes with its message

def test_purge_and_deletion_and_expiry_let_go(server, channel):
    first, second, third = (content(LARGE, i) for i in range(3))
    publish(channel, first)
    channel.queue_purge("q")
    expect_files(server)
    publish(channel, second)
    channel.queue_delete("q")
    expect_files(server)
    channel.queue_declare("short", durable=True, arguments={"x-message-ttl": 200})
    publish(channel, third, "short")
    expect_files(server)


def test_dead_letters_keep_it(server, channel):
    body = content(LARGE)
    channel.queue_declare("dead", durable=True)
    channel.queue_declare("work", durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    publish(channel, body, "work")
    delivered, _, _ = channel.basic_get("work")
    channel.basic_reject(delivered.delivery_tag, requeue=False)
    delivered, properties, got = get(channel, "dead")
    assert got == body and properties.headers["x-first-death-queue"] == "work"
    channel.basic_ack(delivered.delivery_tag)
    expect_files(server)


def test_nobody_takes_it(server, channel):
    body = content(LARGE)
    publish(channel, body, "nobody")
    expect_files(server)
    with pytest.raises(pika.exceptions.UnroutableError) as returned:
        publish(channel, body, "nobody", mandatory=True)
    assert returned.value.messages[0].body == body
    expect_files(server)


def test_transactions(server):
    connection = connect(server)
    ch = connection.channel()
    ch.queue_declare("q", durable=True)
    ch.tx_select()
    kept, dropped = content(LARGE, 1), content(LARGE, 2)
    publish(ch, kept)
    ch.tx_commit()
    publish(ch, dropped)
    ch.queue_declare("q", durable=True)
    assert files(server) == names(kept, dropped)
    ch.tx_rollback()
    expect_files(server, kept)
    assert get(ch, "q", auto_ack=True)[2] == kept
    expect_files(server)


def test_direct_reply(server):
    connection = connect(server)
    asks = connection.channel()
    replies = []
    asks.basic_consume("amq.rabbitmq.reply-to", lambda *got: replies.append(got[3]), auto_ack=True)
    asks.queue_declare("rpc")
    asks.basic_publish("", "rpc", "?", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
    other = connect(server)
    answers = other.channel()
    _, properties, _ = get(answers, "rpc", auto_ack=True)
    body = content(LARGE)
    answers.basic_publish("", properties.reply_to, body)
    eventually(lambda: connection.process_data_events(0.05) or replies, 20)
    assert replies == [body]
    expect_files(server)


# ---- what the channel says meanwhile

def test_confirms_and_answers_wait_behind_the_body(server, channel):
    body = content(20 * MIB)
    publish(channel, body)
    got = []
    channel.basic_consume("q", lambda ch, method, properties, data: got.append(data), auto_ack=True)
    for i in range(20):
        publish(channel, b"%d" % i, "nobody")  # waits for its confirm, through the body
    channel.queue_declare("another", exclusive=True)
    eventually(lambda: channel.connection.process_data_events(0.05) or got, 20)
    assert got == [body]


def test_a_channel_closed_under_way(server, channel):
    body = content(20 * MIB)
    publish(channel, body)
    other = channel.connection.channel()
    other.basic_consume("q", lambda *got: None)
    other.close()
    delivered, _, got = get(channel, "q")
    assert got == body and delivered.redelivered
    channel.basic_ack(delivered.delivery_tag)
    expect_files(server)


def test_a_slow_consumer_costs_nothing(server, channel):
    body = content(64 * MIB)
    publish(channel, body)
    slow = Raw(server.amqp_port).open()
    with Memory(server) as memory:
        slow.send(method(1, 20, 10, short(b"")) +
                  method(1, 60, 20, b"\0\0" + short(b"q") + short(b"slow") + b"\0" + b"\0\0\0\0"))
        slow.expect((60, 60))
        time.sleep(1)  # it does not read, and nothing may happen
    assert memory.grew < 16 * MIB
    slow.close()
    method_, _, got = get(channel, "q")
    assert got == body and method_.redelivered


# ---- crashes

def test_confirmed_means_there_after_a_crash(server, channel):
    body = content(20 * MIB)
    publish(channel, body)
    server.restart()
    ch = connect(server).channel()
    delivered, _, got = get(ch, "q")
    assert got == body
    ch.basic_ack(delivered.delivery_tag)
    expect_files(server)


def start_upload(server, size, sent):
    """A publish of which only a part comes."""
    raw = Raw(server.amqp_port).open()
    raw.send(method(1, 20, 10, short(b"")) + publish_head(size))
    for at in range(0, len(sent), 100000):
        raw.send(frame(3, 1, sent[at:at + 100000]))
    eventually(lambda: parts(server), 20)
    return raw


def test_killed_during_an_upload(server, channel):
    start_upload(server, 20 * MIB, content(10 * MIB))
    server.restart()
    eventually(lambda: not parts(server), 20)
    assert files(server) == []
    ch = connect(server).channel()
    assert ch.queue_declare("q", passive=True).method.message_count == 0


def test_a_client_that_vanishes_during_an_upload(server, channel):
    start_upload(server, 20 * MIB, content(10 * MIB)).close()
    eventually(lambda: not parts(server), 20)
    assert files(server) == []


def test_stopped_while_bodies_come_and_go(server, channel):
    body = content(20 * MIB)
    publish(channel, body)
    start_upload(server, 20 * MIB, content(3 * MIB, 2))
    slow = Raw(server.amqp_port).open()
    slow.send(method(1, 20, 10, short(b"")) +
              method(1, 60, 20, b"\0\0" + short(b"q") + short(b"slow") + b"\0" + b"\0\0\0\0"))
    slow.expect((60, 60))
    assert server.stop() == 0
    server.start()
    expect_files(server, body)
    assert get(connect(server).channel(), "q", auto_ack=True)[2] == body


def test_what_nobody_needs_is_removed_at_the_start(server, channel):
    body = content(LARGE)
    publish(channel, body)
    server.kill9()
    orphan = hashlib.sha256(b"orphan").hexdigest()
    with open(os.path.join(server.data, "bodies", orphan[:2], orphan), "wb") as f:
        f.write(b"orphan")
    server.start()
    expect_files(server, body)
    assert get(connect(server).channel(), "q", auto_ack=True)[2] == body


# ---- bodies that are lost

def path_of(server, body):
    name, = names(body)
    return os.path.join(server.data, "bodies", name[:2], name)


@pytest.mark.parametrize("how", ["missing", "shorter", "changed"])
def test_a_lost_body_is_never_taken_for_one(server, channel, how):
    lost, good = content(LARGE, 1), content(LARGE, 2)
    publish(channel, lost)
    publish(channel, good)
    server.kill9()
    if how == "missing":
        os.unlink(path_of(server, lost))
    elif how == "shorter":
        os.truncate(path_of(server, lost), LARGE - 1)
    else:
        with open(path_of(server, lost), "r+b") as f:
            f.seek(LARGE // 2)
            f.write(b"X" * 8)
    server.start()
    if how == "missing":
        eventually(lambda: "body_missing" in server.log(), 20)
    with pytest.raises(pika.exceptions.AMQPError) as closed:
        connect(server).channel().basic_get("q")
    assert "541" in str(closed.value) or "INTERNAL_ERROR" in repr(closed.value)
    ch = connect(server).channel()
    assert get(ch, "q", auto_ack=True)[2] == good
    assert ch.basic_get("q") == (None, None, None)
    parked = [value for name, value in server.metrics().items() if name.startswith("barid_queue_parked") and '"q"' in name]
    assert parked == [1]
    assert "body_lost" in server.log()


def test_check_finds_a_changed_body(server, channel):
    body = content(LARGE)
    publish(channel, body)
    server.kill9()
    command = [binary(), "check", "--data", server.data, "--json"]
    told = json.loads(subprocess.run(command, capture_output=True, timeout=60, check=True).stdout)
    assert told["bodies"] == {"files": 1, "bytes": LARGE, "damaged": 0}
    os.truncate(path_of(server, body), LARGE - 1)
    ended = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert ended.returncode == 1 and json.loads(ended.stdout)["bodies"]["damaged"] == 1


# ---- a full disk

def test_no_room_is_said_and_nothing_is_lost():
    with small_disk() as disk:
        if not disk:
            pytest.skip("mounting a small file system needs root")
        data = os.path.join(disk, "data")
        os.mkdir(data)
        with Server(data=data, amqp=True, args=["--low-water", "64M"]) as server:
            ch = connect(server).channel()
            ch.confirm_delivery()
            ch.queue_declare("q", durable=True)
            kept, refused = content(MIB, 1), content(40 * MIB, 2)
            publish(ch, kept)
            filler = fill(disk, leave=(16 + 8) * MIB)
            with pytest.raises((ChannelClosedByBroker, ChannelWrongStateError)) as closed:
                publish(ch, refused)
            assert "no room on the disk" in repr(closed.value)
            eventually(lambda: not parts(server), 20)
            ch = connect(server).channel()
            assert get(ch, "q", auto_ack=True)[2] == kept
            os.unlink(filler)
            ch.confirm_delivery()
            publish(ch, refused)
            assert get(ch, "q", auto_ack=True)[2] == refused
