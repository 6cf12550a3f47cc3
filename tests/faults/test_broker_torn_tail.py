"""The end of the journal is torn, as by a power cut in the middle of a write: what was on the disk before stays, in order,
what was torn is gone as a whole, and the broker starts and goes on.

BARID_SEED repeats the choice of places."""
import glob
import os
import random
import struct
import time

import pytest

from support import amqp
from support.amqp import QUEUE_DECLARE_OK, Raw
from support.server import Server

SEED = int(os.environ.get("BARID_SEED", str(time.time_ns() % 1_000_000)))
FRAME_HEAD = 40  # bytes, docs/journal.md
FIRST, LATER = 200, 300


def last_segment(server):
    return sorted(glob.glob(os.path.join(server.data, "journal", "*.seg")))[-1]


def frames(path):
    """(offset, length) of every frame of a segment."""
    data = read(path)
    at, found = 4096, []
    while data[at + 8:at + 12] == b"FRM1":
        size = struct.unpack_from("<I", data, at + 12)[0]
        found.append((at, size))
        at += size
    return found


def publish(raw, numbers, size):
    for i in numbers:
        raw.send(amqp.publish(1, "", "q", b"%d " % i + b"x" * size))


def numbers_of(server):
    """What is in the queue, in order."""
    with Raw(server.amqp_port) as raw:
        raw.open().channel(1)
        n = raw.count("q")
        raw.call(amqp.consume(1, "q", no_ack=True), amqp.CONSUME_OK)
        got = [int(raw.delivered().body.split()[0]) for _ in range(n)]
        assert raw.count("q") == 0
        return got


def journal_of_two_parts(server, dice):
    """FIRST messages, confirmed; then LATER ones, and a kill. Gives how much of the segment the first part is."""
    with Raw(server.amqp_port) as raw:
        raw.open().channel(1, confirms=True)
        raw.call(amqp.declare(1, "q", durable=True), QUEUE_DECLARE_OK)
        publish(raw, range(FIRST), 50)
        raw.confirmed(FIRST)
        proven = sum(frames(last_segment(server))[-1])
        for start in range(FIRST, FIRST + LATER, 50):
            publish(raw, range(start, start + 50), dice.choice((10, 2000)))
            raw.confirmed(start + 50)
    server.kill9()
    return proven


def read(path):
    with open(path, "rb") as f:
        return f.read()


def refuses_to_start(server):
    server.start(wait=False)
    assert server.wait_exit() == 1
    assert "is damaged at byte" in server.log() and "barid check" in server.log()


def check_prefix(server):
    server.start()
    got = numbers_of(server)
    assert len(got) >= FIRST and got == list(range(len(got))), got[:5] + got[-5:]
    with Raw(server.amqp_port) as raw:
        raw.open().channel(1, confirms=True)
        publish(raw, (7, 8, 9), 10)
        raw.confirmed(3)
    server.restart()
    assert numbers_of(server) == [7, 8, 9]
    return len(got)


@pytest.mark.parametrize("n", range(8))
def test_the_last_frame_is_torn(n):
    """From a random byte of it on there are zeros, or what lay on the disk before."""
    dice = random.Random(SEED + n)
    print(f"BARID_SEED={SEED}")
    with Server(amqp=True) as server:
        proven = journal_of_two_parts(server, dice)
        path = last_segment(server)
        at, size = frames(path)[-1]
        assert at >= proven
        cut = at + dice.randrange(0, size)
        with open(path, "r+b") as f:
            f.seek(cut)
            f.write(bytes(at + size - cut) if n % 2 else dice.randbytes(at + size - cut))
        got = check_prefix(server)
        assert got < FIRST + LATER or cut > at + FRAME_HEAD


@pytest.mark.parametrize("n", range(4))
def test_everything_after_a_frame_is_gone(n):
    """As if the last writes had never been: the journal ends where a frame ends, or in the middle of one."""
    dice = random.Random(SEED + n)
    print(f"BARID_SEED={SEED}")
    with Server(amqp=True) as server:
        proven = journal_of_two_parts(server, dice)
        path = last_segment(server)
        end, size = sum(frames(path)[-1]), os.path.getsize(path)
        cut = dice.randrange(proven, end)
        os.truncate(path, cut)
        os.truncate(path, size)
        check_prefix(server)


def test_a_file_cut_short_is_refused():
    """A segment shorter than its header says is not what a crash leaves: barid says so, and changes nothing."""
    dice = random.Random(SEED)
    with Server(amqp=True) as server:
        proven = journal_of_two_parts(server, dice)
        path = last_segment(server)
        os.truncate(path, dice.randrange(proven, sum(frames(path)[-1])))
        before = read(path)
        refuses_to_start(server)
        assert read(path) == before


def test_damage_in_the_middle_is_not_passed_over():
    """A frame with frames after it was on the disk: the broker says so, and does not start without it."""
    dice = random.Random(SEED)
    with Server(amqp=True) as server:
        proven = journal_of_two_parts(server, dice)
        path = last_segment(server)
        with open(path, "r+b") as f:
            f.seek(dice.randrange(4096 + FRAME_HEAD, proven - 100))
            was = f.read(1)
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([was[0] ^ 1]))
        before = read(path)
        refuses_to_start(server)
        assert read(path) == before
