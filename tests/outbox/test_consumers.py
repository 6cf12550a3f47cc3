"""`barid consumer`: what a consumer that was renamed or given up leaves in the tables, shown and removed; nobody else's."""
import json
import os
import subprocess

import pytest

from support.courier import rows
from support.inbox import everything_is_handled_once, queue, receive
from support.server import binary, eventually

TABLES = {"inbox": "consumer", "inbox_queue": "consumer", "offsets": "consumer", "buckets": "queue", "members": "queue"}


def consumer(shop, *words):
    return subprocess.run([binary(), "consumer", *words], capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, "BARID_DATABASE": shop})


def listed(shop):
    done = consumer(shop, "list", "--json")
    assert done.returncode == 0, done.stderr
    return {c.pop("consumer"): c for c in map(json.loads, done.stdout.splitlines())}


def left_of(shop, name):
    """The tables in which there is still something of it."""
    return [table for table, column in TABLES.items()
            if rows(shop, f"select 1 from barid.{table} where {column} in (%s, 'inbox:' || %s) limit 1", name, name)]


def test_a_consumer_that_was_renamed_is_forgotten_and_the_other_goes_on(shop, kafka, topic, publisher):
    publisher.send("a", 200).send("bad", fails=1000000, owe=False).flush()
    publisher.owed["bad"] = []
    with receive(shop, kafka, topic, "--attempts", "1", consumer="receive_old") as receiver:
        everything_is_handled_once(shop, publisher)
        eventually(lambda: queue(shop, 1), 30, "the event being parked")
        assert listed(shop) == {"receive_old": {"processes": 1, "waiting": 0, "parked": 1, "remembered": 201}}
        done = consumer(shop, "drop", "receive_old", "--force")
        assert done.returncode == 1 and "a process of receive_old is running" in done.stderr
        assert receiver.stop() == 0
    rows(shop, "truncate shop.ledger")
    with receive(shop, kafka, topic, "--attempts", "1", consumer="receive_new"):
        everything_is_handled_once(shop, publisher)
        eventually(lambda: len(queue(shop, 1)) == 2, 30, "the event being parked here, too")
        done = consumer(shop, "drop", "receive_old")
        assert done.returncode == 1 and "(0 waiting, 1 parked)" in done.stderr and "--force" in done.stderr
        assert left_of(shop, "receive_old") == ["inbox", "inbox_queue", "offsets", "buckets"], "nothing was removed"
        done = consumer(shop, "drop", "receive_old", "--force")
        assert (done.returncode, done.stdout) == (0, "receive_old dropped\n"), done.stderr
        assert left_of(shop, "receive_old") == []
        assert listed(shop) == {"receive_new": {"processes": 1, "waiting": 0, "parked": 1, "remembered": 201}}
        publisher.send("a", 100).flush()
        everything_is_handled_once(shop, publisher)


def test_one_that_was_killed_is_forgotten_once_its_lease_has_ended(shop, kafka, topic, publisher):
    publisher.send("a", 10).flush()
    with receive(shop, kafka, topic, consumer="receive_old") as receiver:
        everything_is_handled_once(shop, publisher)
        receiver.kill9()
        assert consumer(shop, "drop", "receive_old").returncode == 1, "who knows whether it is gone"
        eventually(lambda: consumer(shop, "drop", "receive_old").returncode == 0, 20, "the end of its lease")
        assert left_of(shop, "receive_old") == []


def test_more_than_one_transaction_of_rows(shop, kafka, topic, publisher):
    with receive(shop, kafka, topic, consumer="receive_old") as receiver:
        assert receiver.stop() == 0
    rows(shop, "insert into barid.inbox select 'receive_old', gen_random_uuid() from generate_series(1, 12000)")
    rows(shop, "insert into barid.inbox_queue (consumer, event_id, topic, payload) "
               "select 'receive_old', gen_random_uuid(), 't', '' from generate_series(1, 7000)")
    assert "> 10000" in consumer(shop, "list").stdout
    assert consumer(shop, "drop", "receive_old", "--force").returncode == 0
    assert left_of(shop, "receive_old") == []
    assert consumer(shop, "list").stdout.split() == ["CONSUMER", "PROCESSES", "WAITING", "PARKED", "IDS"]


def test_what_is_not_there_is_said(shop, kafka, topic):
    assert "the database has no inbox" in consumer(shop, "list").stderr
    with receive(shop, kafka, topic):
        done = consumer(shop, "drop", "receive_nobody")
        assert done.returncode == 1 and "there is no consumer receive_nobody" in done.stderr


@pytest.mark.parametrize("words", [(), ("drop",), ("list", "x"), ("list", "--database", "sqlite:x"), ("--nonsense",)])
def test_wrong_usage(database, words):
    assert consumer(database, *words).returncode == 2
