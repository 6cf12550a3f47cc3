"""A full disk over AMQP: publishers are told and wait, consumers go on, and when there is room the broker does by itself
what it was asked to. Nothing that was confirmed is lost, nothing that was sent is dropped."""
import os
import select

import pytest

from support import amqp
from support.amqp import ACK, BLOCKED, QUEUE_DECLARE_OK, UNBLOCKED, Raw, ack, publish, read_short
from support.disk import fill, small_disk
from support.server import Server, eventually

BODY = b"x" * 2000
LIMIT = 60_000  # messages until a full disk must have been noticed


def body(i):
    return b"%d " % i + BODY


def publish_until_blocked(raw):
    """Gives how many were sent, and how many of them confirmed, when the broker says that it is full."""
    sent = confirmed = 0
    while sent < LIMIT:
        raw.send(b"".join(publish(1, "", "q", body(i)) for i in range(sent, sent + 20)))
        sent += 20
        while confirmed < sent:
            channel, name, arguments = raw.method()
            if name == BLOCKED:
                assert channel == 0 and read_short(arguments)[0] == "low on disk"
                return sent, confirmed
            assert name == ACK
            confirmed = int.from_bytes(arguments[:8], "big")
    raise AssertionError("it was never blocked")


def quiet(raw, seconds=0.5):
    return not raw.unread and not select.select([raw.socket], [], [], seconds)[0]


def consumer(server):
    raw = Raw(server.amqp_port).open().channel(1)
    raw.call(amqp.qos(1, 100), amqp.QOS_OK)
    raw.call(amqp.consume(1, "q", "c"), amqp.CONSUME_OK)
    return raw


def take(raw, numbers):
    for i in numbers:
        m = raw.delivered()
        assert m.body == body(i)
        raw.send(ack(1, m.tag))


@pytest.mark.parametrize("left", [16 << 20, 0], ids=["16M_left", "nothing_left"])
def test_publishers_wait_consumers_go_on(left):
    with small_disk() as disk:
        if not disk:
            pytest.skip("mounting a small file system needs root")
        data = os.path.join(disk, "data")
        os.mkdir(data)
        with Server(data=data, amqp=True, args=["--low-water", "32M"]) as server:
            raw, old = Raw(server.amqp_port).open(), Raw(server.amqp_port).open(client={})
            raw.channel(1, confirms=True).call(amqp.declare(1, "q", durable=True), QUEUE_DECLARE_OK)
            old.channel(1, confirms=True).call(amqp.declare(1, "other", durable=True), QUEUE_DECLARE_OK)
            filler = fill(disk, leave=left)
            sent, confirmed = publish_until_blocked(raw)
            old.send(publish(1, "", "other", b"from one that cannot be told"))
            raw.send(b"".join(publish(1, "", "q", body(i)) for i in range(sent, sent + 100)))
            sent += 100
            while not quiet(raw):  # what had been taken before
                confirmed = int.from_bytes(raw.expect(ACK)[:8], "big")
            assert confirmed < sent and quiet(old, 0), "the rest waits"

            with consumer(server) as c:  # others are served
                take(c, range(confirmed))
                assert server.process.poll() is None
                os.unlink(filler)
                assert raw.expect(UNBLOCKED, 0) == b""
                while confirmed < sent:
                    confirmed = int.from_bytes(raw.expect(ACK)[:8], "big")
                old.confirmed(1)
                raw.send(publish(1, "", "q", body(sent)))
                raw.expect(ACK)
                server.kill9()
            server.start()
            with Raw(server.amqp_port) as again:
                again.open().channel(1)
                assert again.get("other").body == b"from one that cannot be told"
                n = again.count("q")
                again.call(amqp.consume(1, "q", "c", no_ack=True), amqp.CONSUME_OK)
                got = [int(again.delivered().body.split()[0]) for _ in range(n)]
            assert got == sorted(set(got)) and got[-1] == sent, "in order, each once"
            assert sent + 1 - len(got) <= confirmed, "only what was acknowledged is gone"
            raw.close()
            old.close()


def test_acks_while_it_is_full_survive_a_kill():
    """What was taken and acknowledged below the mark does not come again once the acks are on the disk."""
    with small_disk() as disk:
        if not disk:
            pytest.skip("mounting a small file system needs root")
        data = os.path.join(disk, "data")
        os.mkdir(data)
        with Server(data=data, amqp=True, args=["--low-water", "32M"]) as server:
            with Raw(server.amqp_port) as raw:
                raw.open().channel(1, confirms=True).call(amqp.declare(1, "q", durable=True), QUEUE_DECLARE_OK)
                raw.send(b"".join(publish(1, "", "q", body(i)) for i in range(1000)))
                raw.confirmed(1000)
                fill(disk, leave=16 << 20)
                with consumer(server) as c:
                    take(c, range(600))
                    c.send(amqp.close())
                    while c.frame() is not None:
                        pass
                eventually(lambda: ready(server) == 400, what="the acks")
            server.restart()
            assert ready(server) == 400


def ready(server):
    with Raw(server.amqp_port) as raw:
        return raw.open().channel(1).count("q")
