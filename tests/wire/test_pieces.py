"""However a client cuts its bytes, into frames or into segments, the answers are the same to the byte."""
import os
import random
import socket
import threading
import time

import pytest

from support.amqp import (CANCEL, GET_OK, HEADER, NO_PROPERTIES, PUBLISH, QUEUE_DECLARE_OK, Raw, ack, bind, close, content,
                          declare, declare_exchange, delete, get, method, open_vhost, properties, publish, purge, short, start_ok,
                          tune_ok)


def conversation(queue):
    """All that a client says, from the first byte to the last; what is answered does not depend on time."""
    props = properties(content_type="text/plain", headers={"n": 1, "t": {"a": ["x", None]}}, delivery_mode=2, message_id="m1")
    return b"".join([
        HEADER, start_ok(), tune_ok(heartbeat=0), open_vhost(), method(1, (20, 10), b"\0"),
        declare(1, queue, exclusive=True, arguments={"x-max-priority": ("B", 5)}),
        declare_exchange(1, queue, "topic", auto_delete=True), bind(1, queue, queue, "a.#"),
        publish(1, queue, "a.b", b"in three frames", props, frame_size=6), publish(1, "", "nobody", b"", NO_PROPERTIES, mandatory=True),
        get(1, queue), ack(1, 1), publish(1, "", queue, b"", NO_PROPERTIES), purge(1, queue), method(1, CANCEL, short("c") + b"\0"),
        get(1, "no-such-queue"), declare(1, "dropped", durable=True), method(1, (20, 41)), method(1, (20, 10), b"\0"), delete(1, queue),
        close(1), close()])


def answers(raw):
    heard = []
    while data := raw.socket.recv(1 << 16):
        heard.append(data)
    return b"".join(heard)


@pytest.fixture(scope="module")
def whole(server):
    with Raw(server.amqp_port) as raw:
        raw.send(conversation("pieces-0000"))
        heard = answers(raw)
    assert heard.count(b"in three frames") == 1 and heard.endswith(method(1, (20, 41)) + method(0, (10, 51)))
    return heard


def test_every_split_point(server, whole):
    """Two pieces, cut at every byte. Between them the server has time to look at the first."""
    said = conversation("pieces-0000")
    failed = []

    def part(first):
        queue = f"pieces-{first:04d}"
        mine, wanted = conversation(queue), whole.replace(b"pieces-0000", queue.encode())
        for at in range(first, len(said), 8):
            with Raw(server.amqp_port) as raw:
                raw.send(mine[:at])
                time.sleep(0.002)
                raw.send(mine[at:])
                if answers(raw) != wanted:
                    failed.append(at)

    threads = [threading.Thread(target=part, args=(i,)) for i in range(1, 9)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failed == []


def test_one_byte_a_segment(server, whole):
    with Raw(server.amqp_port) as raw:
        for byte in conversation("pieces-0000"):
            raw.socket.send(bytes([byte]))
        assert answers(raw) == whole


@pytest.mark.parametrize("seed", range(8))
def test_random_pieces(server, whole, seed):
    dice, said = random.Random(seed), conversation("pieces-0000")
    with Raw(server.amqp_port) as raw:
        while said:
            n = dice.choice((1, 2, 3, 7, 8, 20, 100))
            raw.send(said[:n])
            said = said[n:]
            if dice.random() < 0.2:
                time.sleep(0.001)
        assert answers(raw) == whole


@pytest.mark.parametrize("size", [1, 2, 100, 4088, 131064])
def test_a_body_in_frames_of_any_size(ch, size):
    body = os.urandom(min(size * 3000, 1_000_000) + 1)
    ch.call(declare(1, "framed", exclusive=True), QUEUE_DECLARE_OK)
    ch.send(publish(1, "", "framed", body, frame_size=size))
    assert ch.get("framed").body == body


def test_empty_body_frames_are_nothing(ch):
    ch.call(declare(1, "holes", exclusive=True), QUEUE_DECLARE_OK)
    ch.send(method(1, PUBLISH, b"\0\0" + short("") + short("holes") + b"\0"), content(1, b"abc", frame_size=1).replace(
        b"\x03\0\x01\0\0\0\x01", b"\x03\0\x01\0\0\0\0\xce\x03\0\x01\0\0\0\x01"))
    assert ch.get("holes").body == b"abc"


def test_contents_of_channels_interleave(raw):
    """Frames of one content may stand between those of another, of another channel."""
    channels, bodies = range(1, 6), {}
    raw.channel(9)
    raw.call(declare(9, "interleaved", exclusive=True), QUEUE_DECLARE_OK)
    frames = {}
    for n in channels:
        raw.channel(n)
        bodies[n] = os.urandom(1000)
        whole = content(n, bodies[n], frame_size=100)
        head = len(whole) - 10 * 108
        frames[n] = [method(n, PUBLISH, b"\0\0" + short("") + short("interleaved") + b"\0"), whole[:head]] + \
            [whole[head + i * 108:head + (i + 1) * 108] for i in range(10)]
    dice = random.Random(5)
    left = [n for n in channels for _ in frames[n]]
    dice.shuffle(left)
    raw.send(b"".join(frames[n].pop(0) for n in left))
    got = {raw.get("interleaved", 9).body for _ in channels}
    assert got == set(bodies.values())


def test_frames_that_come_slowly_while_others_are_served(server, ch):
    ch.call(declare(1, "slowly", exclusive=True), QUEUE_DECLARE_OK)
    said = publish(1, "", "slowly", b"x" * 200)
    with Raw(server.amqp_port) as other:
        other.open().channel(1)
        for i in range(0, len(said), 10):
            ch.send(said[i:i + 10])
            other.call(declare(1, "amq.nothing", passive=True), (20, 40))
            other.send(method(1, (20, 41)))
            other.channel(1)
    assert ch.get("slowly").body == b"x" * 200


def test_the_end_of_the_stream_in_the_middle(server, ch):
    """A content that never comes to its end is not published, wherever the stream ends."""
    ch.call(declare(1, "half", durable=True), QUEUE_DECLARE_OK)
    said = publish(1, "", "half", b"x" * 20, frame_size=10)
    for at in range(1, len(said), 3):
        with Raw(server.amqp_port) as other:
            other.open().channel(1)
            other.send(said[:at])
            other.socket.shutdown(socket.SHUT_WR)
            other.ended()
    assert ch.count("half") == 0
    ch.send(delete(1, "half"))


def test_a_long_line_of_commands_is_answered_in_order(ch):
    ch.call(declare(1, "line", exclusive=True), QUEUE_DECLARE_OK)
    ch.send(b"".join(publish(1, "", "line", b"%d" % i) + get(1, "line", True) for i in range(500)))
    assert [int(ch.delivered(GET_OK).body) for _ in range(500)] == list(range(500))
