"""What `barid receive` takes in: events that cannot be stored, large ones, and processes that share a consumer."""
import contextlib
import json
import os
import subprocess
import uuid

import psycopg2
import pytest

from confluent_kafka.admin import ConfigResource

from support.courier import rows
from support.inbox import everything_is_handled_once, receive
from support.server import binary, eventually

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
        the_tool_shows_it(kafka, consumer, event)
        publisher.send("k", 3).flush()
        waits(shop, publisher, receiver)


def parked(kafka, consumer, *words):
    return subprocess.run([binary(), "parked", *words, "--bus", f"kafka://{kafka.address}", "--consumer", consumer],
                          capture_output=True, text=True, check=False)


def the_tool_shows_it(kafka, consumer, event):
    [only] = [json.loads(line) for line in parked(kafka, consumer, "list", "--json").stdout.splitlines()]
    assert only["event_id"] == event and only["number"] == "0@0" and only["place"].endswith("@5") and only["key"] == "k"
    assert "more than 65536 bytes" in only["error"] and only["parked_at"].startswith("20")
    shown = parked(kafka, consumer, "show", "0@0").stdout
    assert event in shown and '"bad": 1' in shown and "heavy=xxx" in shown
    assert parked(kafka, consumer, "show", "0@1").returncode == 1
    assert "takes nothing out" in parked(kafka, consumer, "drop", "0@0").stderr
    assert parked(kafka, "receive_nobody", "list").stdout == "Nothing is parked.\n"


def test_what_was_parked_last_in_its_partition_is_not_parked_again(shop, kafka, topic, publisher, consumer):
    publisher.send("k", 3).send("k", headers=UNSTORABLE, owe=False).flush()
    with receive(shop, kafka, topic, consumer=consumer) as receiver:
        eventually(lambda: rows(shop, "select sum(parked) from barid.offsets") == [(1,)], 30, "it being parked")
        assert offsets(shop) == (4, 1) and receiver.metrics()["barid_receive_unstorable_total"] == 1
        said = subprocess.run([binary(), "status", "--database", shop], check=True, capture_output=True, text=True).stdout
        assert said.splitlines()[2].split()[5] == "1" and "ON BUS" in said, "counted by status"
        eventually(lambda: receiver.metrics()["barid_receive_parked_on_bus"] == 1, 20, "counted by the metrics")
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


# ---- processes that share a consumer

@pytest.mark.parametrize("other", ["topic", "handler"])
def test_who_is_set_up_otherwise_does_not_start_beside_those_at_work(shop, kafka, topic, publisher, other):
    changed = {"topic": "receive_elsewhere"} if other == "topic" else {"handler": "http://nobody:secret@127.0.0.1:1/hook"}

    def another():
        return receive(shop, kafka, changed.get("topic", topic), handler=changed.get("handler", "sql:shop.handle"))

    with receive(shop, kafka, topic) as one:
        refused = another()
        refused.start(wait=False)
        assert refused.wait_exit(30) == 1
        assert f"with other settings: topics {topic}, handler sql:shop.handle" in refused.log()
        with receive(shop, kafka, topic) as alike:  # any number of those that are set up alike
            assert alike.stop() == 0
        publisher.send("a", 20).flush()
        everything_is_handled_once(shop, publisher)
        assert one.stop() == 0
    with another():  # once all have stopped
        [settings] = rows(shop, "select settings from barid.members where queue like 'inbox:%%'")
        assert "secret" not in settings[0] and (changed.get("topic") or "nobody@127.0.0.1:1/hook") in settings[0]


def test_who_was_killed_counts_until_its_lease_ends(shop, kafka, topic):
    with receive(shop, kafka, topic) as one:
        one.kill9()
        other = receive(shop, kafka, topic, handler="http://127.0.0.1:1/")
        eventually(lambda: starts(other), 30, "the other starting once the lease is over")
        other.close()


def starts(receiver):
    try:
        return receiver.start()
    except AssertionError:
        return None


def test_who_was_frozen_and_missed_that_others_came_ends(shop, kafka, topic, publisher):
    with receive(shop, kafka, topic) as one:
        one.freeze()
        other = receive(shop, kafka, topic, handler="sql:shop.handle_otherwise")
        rows(shop, "create function shop.handle_otherwise(uuid, text, text, jsonb, jsonb) returns void language sql as "
                   "'select shop.handle($1, $2, $3, $4, $5)'")
        eventually(lambda: starts(other), 30, "the other starting once the lease is over")
        one.thaw()
        assert one.wait_exit(30) == 1 and "not_joined" in one.log()
        publisher.send("a", 20).flush()
        everything_is_handled_once(shop, publisher)
        other.close()
