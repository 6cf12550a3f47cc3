"""Field tables: every type, in a message's headers, comes back byte for byte; at once, and after a kill."""
import struct

import pytest

from support.amqp import QUEUE_DECLARE_OK, Raw, declare, delete, field, properties, publish, short, table
from support.server import Server

EVERY_TYPE = {
    "t": ("t", True), "f-": ("t", False), "b": ("b", -128), "B": ("B", 255), "s": ("s", -32768), "u": ("u", 65535),
    "I": ("I", -2147483648), "i": ("i", 4294967295), "l": ("l", -(1 << 63)), "f": ("f", 1.5), "d": ("d", -2.5e300),
    "nan": ("d", float("nan")), "D": ("D", (3, -314159)), "S": ("S", "salām"), "S0": ("S", ""), "bytes": ("S", b"\0\xff\xfe"),
    "x": ("x", b"\0\1\2"), "A": ("A", [("I", 1), ("S", "two"), ("A", [("V", None)]), ("F", {"in": ("l", 7)})]), "A0": ("A", []),
    "T": ("T", 1 << 40), "F": ("F", {"x": ("F", {"y": ("F", {"z": ("t", True)})})}), "F0": ("F", {}), "V": ("V", None),
    "": ("S", "an empty name"), "n" * 255: ("B", 1), "دلیل": ("S", "a name that is not ASCII"),
}
RAW = table(EVERY_TYPE)


def put(raw, queue, headers):
    """Publishes, persistent, with this encoded table."""
    raw.send(publish(1, "", queue, b"body", struct.pack(">H", 0x3000) + headers + b"\x02"))


def headers_of(delivered):
    assert delivered.properties[:2] == b"\x30\0" and delivered.properties[-1:] == b"\x02"
    return delivered.properties[2:-1]


@pytest.mark.parametrize("name", EVERY_TYPE, ids=repr)
def test_each_type_alone(ch, name):
    ch.call(declare(1, "typed", exclusive=True), QUEUE_DECLARE_OK)
    alone = table({name: EVERY_TYPE[name]})
    put(ch, "typed", alone)
    assert headers_of(ch.get("typed")) == alone


def test_all_types_together_survive_a_kill():
    with Server(amqp=True) as server:
        with Raw(server.amqp_port) as raw:
            raw.open().channel(1, confirms=True)
            raw.call(declare(1, "typed", durable=True), QUEUE_DECLARE_OK)
            put(raw, "typed", RAW)
            assert raw.confirmed(1) == 0
        server.restart()
        with Raw(server.amqp_port) as raw:
            raw.open().channel(1)
            got = raw.get("typed")
            assert headers_of(got) == RAW and got.body == b"body"


def test_the_same_name_twice(ch):
    twice = short("a") + field(("I", 1)) + short("a") + field(("I", 2))
    ch.call(declare(1, "typed", exclusive=True), QUEUE_DECLARE_OK)
    put(ch, "typed", struct.pack(">I", len(twice)) + twice)
    assert headers_of(ch.get("typed")) == struct.pack(">I", len(twice)) + twice


def test_a_signed_64_of_another_spelling(ch):
    """'L' is what some clients write for 'l'."""
    odd = short("n") + b"L" + struct.pack(">q", -5)
    ch.call(declare(1, "typed", exclusive=True), QUEUE_DECLARE_OK)
    put(ch, "typed", struct.pack(">I", len(odd)) + odd)
    assert headers_of(ch.get("typed"))[4:].startswith(short("n"))


@pytest.mark.parametrize("bad", [b"\x01a", b"\x01aS", b"\x01aS\0\0\0\x09x", b"\x01aI\0", b"\x05a", b"\x01aA\0\0\0\x01I", b"\x01aF\0\0\0\x02\x05a",
                                 b"\x01aZ\0", b"\x01a\0"], ids=range(9))
def test_damaged_tables(ch, bad):
    put(ch, "typed", struct.pack(">I", len(bad)) + bad)
    ch.refused(502)


def test_a_table_as_large_as_a_frame(ch):
    large = table({f"name-{i}": "x" * 100 for i in range(1000)})
    assert 100_000 < len(large) < 131_000
    ch.call(declare(1, "typed", exclusive=True), QUEUE_DECLARE_OK)
    put(ch, "typed", large)
    assert headers_of(ch.get("typed")) == large


def test_arguments_of_every_type_are_kept(ch):
    """Arguments that mean nothing here are welcome."""
    ch.call(declare(1, "args", durable=True, arguments=EVERY_TYPE), QUEUE_DECLARE_OK)
    ch.call(delete(1, "args"), (50, 41))


def test_properties_without_a_table(ch):
    ch.call(declare(1, "typed", exclusive=True), QUEUE_DECLARE_OK)
    ch.send(publish(1, "", "typed", b"", properties(headers={})))
    assert ch.get("typed").properties == properties(headers={})
