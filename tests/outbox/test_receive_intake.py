"""What `barid receive` takes in: events that cannot be stored, large ones, and processes that share a consumer."""
import contextlib
import json
import os
import uuid

import psycopg2
import pytest

from confluent_kafka.admin import ConfigResource

from support.courier import rows
from support.server import eventually

from test_receive import everything_is_handled_once, receive
from test_receive import fixture_publisher, fixture_shop, fixture_topic  # noqa: F401

UNSTORABLE = {"heavy": "x" * 70000}  # headers of more than 64 KiB


@pytest.fixture(name="consumer")
def fixture_consumer(kafka):
    """A name of the test's own; its parked topic goes with it."""
    name = f"receive_{uuid.uuid4().hex[:12]}"
    yield name
    with contextlib.suppress(Exception):
        kafka.delete_topic(f"{name}.parked")


def offsets(shop):
    return rows(shop, "select sum(next_offset)::int, sum(parked)::int from barid.offsets")[0]


def waits(shop, publisher, receiver):
    """All is handled, and the receiver has written down how far it is."""
    everything_is_handled_once(shop, publisher)
    eventually(lambda: receiver.metrics()["barid_receive_intake_waiting"] == 0, 20, "the intake being empty")


# ---- events that cannot be stored

def test_the_stored_offset_waits_for_the_parking_of_what_cannot_be_stored(shop, kafka, topic, publisher, consumer):
    """A crash before the bus has the copy must not leave the event out: it comes again, and is parked then."""
    kafka.create_topic(f"{consumer}.parked", 1, {"max.message.bytes": "1000"})  # takes nothing so large
    event = str(uuid.uuid4())
    publisher.send("k", 5).send("k", event_id=event, headers=UNSTORABLE, owe=False, bad=1).send("k", 5).flush()
    with receive(shop, kafka, topic, consumer=consumer) as receiver:
        waits(shop, publisher, receiver)
        eventually(lambda: "park_failed" in receiver.log(), 30, "the parking being refused")
        assert offsets(shop) == (5, 0)
        receiver.kill9()
        resource = ConfigResource("topic", f"{consumer}.parked", set_config={"max.message.bytes": "1000000"})
        admin = kafka.admin()
        admin.alter_configs([resource])[resource].result(30)
        receiver.start()
        parked = kafka.records(f"{consumer}.parked", 1)[0]
        headers = dict(parked.headers())
        assert json.loads(parked.value())["bad"] and headers["barid-parked-offset"] == b"5"
        assert headers["ce_id"].decode() == event and b"more than 65536 bytes" in headers["barid-parked-reason"]
        eventually(lambda: offsets(shop) == (11, 1), 30, "the offset going past it")
        publisher.send("k", 3).flush()
        waits(shop, publisher, receiver)


def test_what_was_parked_last_in_its_partition_is_not_parked_again(shop, kafka, topic, publisher, consumer):
    publisher.send("k", 3).send("k", headers=UNSTORABLE, owe=False).flush()
    with receive(shop, kafka, topic, consumer=consumer) as receiver:
        eventually(lambda: rows(shop, "select sum(parked) from barid.offsets") == [(1,)], 30, "it being parked")
        assert offsets(shop) == (4, 1) and receiver.metrics()["barid_receive_unstorable_total"] == 1
        receiver.kill9()
        receiver.start()
        publisher.send("k", 3).flush()
        waits(shop, publisher, receiver)
        assert receiver.metrics()["barid_receive_unstorable_total"] == 0
        assert offsets(shop) == (7, 1)


def test_many_that_cannot_be_stored_among_many_that_can(shop, kafka, topic, publisher, consumer):
    for n in range(200):
        publisher.send(f"k{n % 8}")
        if n % 10 == 0:
            publisher.send(f"k{n % 8}", headers=UNSTORABLE, owe=False)
    publisher.flush()
    with receive(shop, kafka, topic, consumer=consumer):
        eventually(lambda: offsets(shop) == (220, 20), 60, "all offsets, and the count of those parked")
        everything_is_handled_once(shop, publisher)
        assert len(kafka.records(f"{consumer}.parked", 20)) == 20


# ---- large ones

def test_what_is_taken_from_the_broker_is_bounded_by_its_bytes_too(shop, kafka, topic, publisher, consumer):
    """While nothing can be stored, 150 MB of events stay with the broker."""
    for n in range(200):
        publisher.send(f"k{n % 8}", pad="x" * 750000)
        if n % 20 == 19:
            publisher.flush()
    with receive(shop, kafka, topic, consumer=consumer) as receiver:
        with contextlib.closing(psycopg2.connect(shop)) as lock, lock.cursor() as cursor:
            cursor.execute("lock table barid.inbox in share mode")
            eventually(lambda: receiver.metrics()["barid_receive_intake_bytes"] > 25e6, 30, "the intake being full")
            taken = receiver.metrics()
            assert taken["barid_receive_intake_bytes"] < 36e6 and taken["barid_receive_intake_waiting"] < 50
            assert resident(receiver) < 200e6
        everything_is_handled_once(shop, publisher)
        assert resident(receiver) < 250e6


def resident(receiver):
    with open(f"/proc/{receiver.process.pid}/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")
