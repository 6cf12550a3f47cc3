"""Clients that break the rules or break down: they cost the broker little, and others nothing."""
import concurrent.futures
import os
import random
import resource
import select
import socket
import struct
import threading
import time

import pytest

from support import amqp
from support.amqp import (CONSUME_OK, HEADER, NO_PROPERTIES, OPEN_OK, PERSISTENT, QOS_OK, QUEUE_DECLARE_OK, QUEUE_DELETE_OK,
                          QUEUE_PURGE_OK, RETURN, START, TUNE, Raw, ack, consume, declare, delete, method, open_vhost, publish, purge, qos,
                          start_ok, tune_ok)
from support.management import Management
from support.server import Server, eventually

MB = 1 << 20
IDLE = 5000


@pytest.fixture(scope="module", name="server")
def fixture_server():
    with Server(amqp=True, management=True, args=["--rate-unauthenticated", "1000000"]) as s:
        yield s


@pytest.fixture(name="ch")
def fixture_ch(server):
    with Raw(server.amqp_port, timeout=60) as raw:
        yield raw.open().channel(1)


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def slowest(server, seconds=None, until=None, begun=None):
    """Another client asks something again and again; gives the longest it had to wait. `begun` is set after the first time."""
    worst, end = 0, time.monotonic() + (seconds or 60)
    with Raw(server.amqp_port) as raw:
        raw.open().channel(1)
        while time.monotonic() < end and not (until and until()):
            began = time.monotonic()
            raw.call(method(1, amqp.ACCESS_REQUEST, b"\0\0"), amqp.ACCESS_REQUEST_OK)
            worst = max(worst, time.monotonic() - began)
            if begun:
                begun.set()
    return worst


# ---- half-open

def test_what_a_silent_client_held_goes_to_others(server, ch):
    """Its machine lost power: nothing comes any more, not even the end of the stream."""
    ch.call(declare(1, "held", durable=True), QUEUE_DECLARE_OK)
    ch.send(publish(1, "", "held", b"once"))
    silent = Raw(server.amqp_port).open(heartbeat=1).channel(1)
    silent.call(consume(1, "held"), CONSUME_OK)
    silent.delivered()
    began = time.monotonic()
    ch.call(consume(1, "held"), CONSUME_OK)
    again = ch.delivered()
    assert again.redelivered and again.body == b"once"
    assert 1.5 < time.monotonic() - began < 6
    ch.call(delete(1, "held"), QUEUE_DELETE_OK)
    silent.close()


def test_a_client_that_reads_nothing_more_is_given_up_by_heartbeat(server, ch):
    """Its socket is full of what it does not read, and it says nothing."""
    ch.call(declare(1, "unread"), QUEUE_DECLARE_OK)
    ch.send(*(publish(1, "", "unread", bytes(MB), NO_PROPERTIES) for _ in range(20)))
    stuck = Raw(server.amqp_port, receive_buffer=4096).open(heartbeat=1).channel(1)
    stuck.send(consume(1, "unread"))
    eventually(lambda: ch.count("unread") < 20)
    eventually(lambda: ch.count("unread") == 20, what="the messages' return")
    ch.call(delete(1, "unread"), QUEUE_DELETE_OK)
    stuck.close()


# ---- slow and greedy

def test_a_slow_reader_of_a_long_queue(server, ch):
    """200 MB for a consumer without a prefetch limit that does not read: memory stays bounded, all of it comes in the end."""
    body, n = bytes(10_000), 20_000
    ch.call(declare(1, "long", durable=True), QUEUE_DECLARE_OK)
    ch.call(method(1, amqp.CONFIRM_SELECT, b"\0"), amqp.CONFIRM_SELECT_OK)
    one = publish(1, "", "long", body)
    for _ in range(n // 100):
        ch.send(one * 100)
    ch.confirmed(n)
    before = server.rss_bytes()
    with Raw(server.amqp_port, receive_buffer=8192, timeout=60) as slow:
        slow.open().channel(1).send(consume(1, "long", "c"))
        assert slowest(server, 2) < 0.5, "others are served"
        assert server.rss_bytes() < before + 48 * MB
        slow.expect(CONSUME_OK)
        heard = 0
        while heard < n * len(body):
            kind, _, payload = slow.frame()
            heard += len(payload) if kind == amqp.BODY else 0
        slow.send(ack(1, 0, multiple=True))
        eventually(lambda: Management(server).get("queues", "/", "long")["messages"] == 0)
    assert server.rss_bytes() < 300 * MB
    ch.call(delete(1, "long"), QUEUE_DELETE_OK)


def flood(raw, data, seconds):
    """Sends without reading for so long, or until the server takes no more; gives how many bytes went."""
    raw.socket.setblocking(False)
    sent, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            at = sent % len(data)
            sent += raw.socket.send(data[at:])
        except BlockingIOError:
            if not select.select([], [raw.socket], [], 1)[1]:
                break
    raw.socket.setblocking(True)
    raw.socket.settimeout(60)
    return sent


def test_a_flood_whose_confirms_nobody_reads(server, ch):
    ch.call(declare(1, "flooded"), QUEUE_DECLARE_OK)
    with Raw(server.amqp_port) as raw:
        raw.open().channel(1, confirms=True)
        one = publish(1, "", "flooded", b"x" * 100, PERSISTENT)
        sent = flood(raw, one * 1000, 4)
        if sent % len(one):
            raw.send(one[sent % len(one):])
        n = -(-sent // len(one))
        assert raw.confirmed(n) == 0
    assert eventually(lambda: ch.count("flooded") == n)
    ch.call(delete(1, "flooded"), QUEUE_DELETE_OK)


def test_a_flood_of_what_comes_back(server):
    """Mandatory messages for nobody: each comes back whole, and the client does not read. It is not read from, then."""
    before = server.rss_bytes()
    with Raw(server.amqp_port, receive_buffer=8192) as raw:
        raw.open().channel(1)
        one = publish(1, "", "nobody", bytes(5000), NO_PROPERTIES, mandatory=True)
        sent = flood(raw, one * 100, 6)
        assert server.rss_bytes() < before + 64 * MB
        assert slowest(server, 0.5) < 0.5
        returned = 0
        while returned < sent // len(one):
            raw.delivered(RETURN)
            returned += 1


# ---- many

def test_thousands_of_idle_connections(server):
    """What they cost, whether others notice, and that nothing of them stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, IDLE + 2000), hard))
    fds, before = descriptors(server), server.rss_bytes()
    hello = HEADER + start_ok() + tune_ok() + open_vhost() + method(1, (20, 10), b"\0")
    raws = []
    try:
        for _ in range(IDLE // 100):
            batch = [Raw(server.amqp_port) for _ in range(100)]
            for raw in batch:
                raw.send(hello)
            for raw in batch:
                for name in (START, TUNE, OPEN_OK, (20, 11)):
                    raw.expect(name)
            raws += batch
        cost = (server.rss_bytes() - before) / IDLE
        print(f"{cost:.0f} bytes a connection with a channel")
        assert cost < 16 * 1024
        assert slowest(server, 1) < 0.5
    finally:
        for raw in raws:
            raw.reset()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    eventually(lambda: descriptors(server) <= fds + 5, 20, "their descriptors being closed")


@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_churn(server, how):
    """Connections that come and go as fast as they can, some with a farewell."""
    fds = descriptors(server)

    def part(seed):
        dice = random.Random(seed)
        for _ in range(150):
            raw = Raw(server.amqp_port)
            said = [HEADER, start_ok(), tune_ok(), open_vhost(), method(1, (20, 10), b"\0"), declare(1, "", exclusive=True),
                    consume(1, ""), publish(1, "amq.topic", "x", b"y" * 3000)]
            if how == "half":
                said = said[:dice.randrange(0, len(said) + 1)]
            raw.send(*said)
            if how == "close":
                raw.send(amqp.close())
                while raw.frame() is not None:
                    pass
                raw.close()
            elif dice.random() < 0.5:
                raw.reset()
            else:
                raw.close()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(part, range(4)))
    eventually(lambda: descriptors(server) <= fds + 5, 20, "their descriptors being closed")
    eventually(lambda: [q for q in Management(server).get("queues", "/") if q["name"].startswith("amq.gen")] == [],
               what="their exclusive queues going")


# ---- hostile

def hostile(dice):
    """A conversation as it should be, with something done to it."""
    said = [HEADER, start_ok(), tune_ok(dice.choice((0, 1, 9)), dice.choice((0, 4096))), open_vhost(), method(1, (20, 10), b"\0")]
    more = [declare(1, "h", {"x-max-length": 5, "x-overflow": "reject-publish"}), declare(1, "h2", exclusive=True),
            method(1, (85, 10), b"\0"), method(1, (90, 10)), method(1, (90, 20)), method(1, (90, 30)),
            publish(1, "", "h", b"x" * dice.randrange(9000)), consume(1, "h", "c"), amqp.get(1, "h"),
            ack(1, dice.randrange(9), dice.random() < 0.5), amqp.nack(1, dice.randrange(9)), purge(1, "h"), delete(1, "h"),
            amqp.bind(1, "h", "amq.headers", "", {"x-match": "any", "a": [1, {"b": None}]}), method(1, (60, 110), b"\x01"),
            amqp.declare_exchange(1, "hx", "topic", auto_delete=True), amqp.bind(1, "h", "hx", "#.*"), amqp.close(1), method(1, (20, 41)),
            method(1, (20, 10), b"\0"), publish(1, "hx", "a.b", b"", amqp.properties(headers={"CC": ["h"], "x-delay": 5}, expiration="7")),
            method(2, (20, 10), b"\0"), amqp.frame(8, 0, b""), amqp.close()]
    said += [dice.choice(more) for _ in range(dice.randrange(1, 25))]
    whole = bytearray(b"".join(said))
    for _ in range(dice.choice((0, 1, 1, 2, 5, 30))):
        at = dice.randrange(8 if dice.random() < 0.9 else 0, len(whole))
        what = dice.randrange(5)
        if what == 0:
            whole[at] = dice.randrange(256)
        elif what == 1:
            whole[at] ^= 1 << dice.randrange(8)
        elif what == 2:
            del whole[at:at + dice.randrange(1, 30)]
        elif what == 3:
            whole[at:at] = dice.randbytes(dice.randrange(1, 30))
        else:
            whole[at:at + 4] = dice.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1"))
    return bytes(whole)


SEEDS = int(os.environ.get("BARID_HOSTILE_SEEDS", "1500"))


def test_garbage(server, ch):
    """Whatever comes: the same process goes on, others are served, and what is heard is well-formed AMQP or nothing."""
    pid = server.process.pid
    ch.call(declare(1, "witness", durable=True), QUEUE_DECLARE_OK)
    ch.send(publish(1, "", "witness", b"still there"))

    def part(first):
        for seed in range(first, SEEDS, 3):
            raw = Raw(server.amqp_port, timeout=0.05)
            try:
                raw.send(hostile(random.Random(seed)))
                raw.socket.shutdown(socket.SHUT_WR)
                if raw._more() and raw.unread != HEADER:  # pylint: disable=protected-access
                    while raw.frame() is not None:
                        pass
            except OSError:
                pass
            finally:
                raw.reset()
            assert server.process.poll() is None, f"seed {seed}: {server.log()[-2000:]}"

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        list(pool.map(part, range(3)))
    assert server.process.pid == pid
    assert ch.get("witness").body == b"still there"
    for queue in ("witness", "h"):
        ch.call(delete(1, queue), QUEUE_DELETE_OK)


def test_noise(server):
    """No AMQP at all."""
    dice = random.Random(7)
    raws = []
    for i in range(200):
        raw = Raw(server.amqp_port)
        raw.send((HEADER if i % 2 else b"") + dice.randbytes(dice.randrange(1, 5000)))
        raws.append(raw)
    assert slowest(server, 0.5) < 0.5
    for raw in raws:
        raw.reset()


# ---- a million messages

def fill_queue(raw, queue, n, props=NO_PROPERTIES):
    eventually(lambda: raw.call(declare(1, queue, passive=True), QUEUE_DECLARE_OK)[-4:] == bytes(4), what="no consumers")
    raw.call(purge(1, queue), QUEUE_PURGE_OK)  # what one had held came back
    one = publish(1, "", queue, b"small", props)
    for _ in range(n // 1000):
        raw.send(one * 1000)
    eventually(lambda: raw.count(queue) == n, 60, "all messages")


@pytest.mark.parametrize("props", [NO_PROPERTIES, PERSISTENT], ids=["transient", "persistent"])
def test_a_million_messages_purged_and_deleted_under_a_consumer(server, ch, props):
    """The loop is not held: others wait no longer than they would notice."""
    n = 1_000_000
    ch.call(declare(1, "million", durable=True), QUEUE_DECLARE_OK)
    for what, answer in ((purge(1, "million"), QUEUE_PURGE_OK), (delete(1, "million"), QUEUE_DELETE_OK)):
        fill_queue(ch, "million", n, props)
        with Raw(server.amqp_port, timeout=60) as other:
            other.open().channel(1)
            other.call(qos(1, 100), QOS_OK)
            other.call(consume(1, "million", "c"), CONSUME_OK)
            for _ in range(1000):
                other.send(ack(1, other.delivered().tag))
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                begun, done = threading.Event(), threading.Event()
                worst = pool.submit(slowest, server, 60, done.is_set, begun)
                begun.wait(20)
                took = time.monotonic()
                gone = struct.unpack(">I", ch.call(what, answer))[0]
                took = time.monotonic() - took
                done.set()
            assert n - 1300 <= gone <= n - 1000
            print(f"{answer}: took {took * 1000:.0f} ms, others waited {worst.result() * 1000:.0f} ms at most")
            assert worst.result() < 2
            if answer == QUEUE_DELETE_OK:
                while True:
                    _, name, _ = next_method(other)
                    if name == amqp.CANCEL:
                        break
    eventually(lambda: server.rss_bytes() < 400 * MB)


def next_method(raw):
    """Over contents."""
    while True:
        kind, channel, payload = raw.frame()
        if kind == amqp.METHOD:
            return channel, struct.unpack(">HH", payload[:4]), payload[4:]
