"""`barid receive` and an SQL function that takes its connection down, asks for too much, or goes away: what is the event's
fault spends its attempts, what is not does not.
"""
import json
import re
import subprocess

import psycopg2
import pytest

from support.courier import rows
from support.inbox import SCHEMA, everything_is_handled_once, queue, receive
from support.postgres import Postgres
from support.server import binary, eventually

# Ends its own session, or says what the server says when it has no room.
GREEDY = """
create function shop.greedy(event_id uuid, topic text, key text, payload jsonb, headers jsonb) returns void
language plpgsql as $$
begin
    if payload ? 'suicide' then perform pg_terminate_backend(pg_backend_pid()); end if;
    if payload ? 'murder' then copy (select 1) to program 'kill -9 $PPID'; end if;
    if payload ? 'state' then raise exception 'no room' using errcode = payload->>'state'; end if;
    insert into shop.ledger (event_id, topic, key, number, headers)
        values (event_id, topic, key, (payload->>'number')::int, headers);
end $$;
"""
BY_BYTES = """
create function shop.handle(event_id uuid, topic text, key text, payload bytea, headers jsonb) returns void
language sql as $$
    insert into shop.ledger (event_id, topic, key, number, headers)
        values (event_id, topic, key, (convert_from(payload, 'UTF8')::jsonb->>'number')::int, headers);
$$;
"""
ARGUMENTS = "(uuid, text, text, jsonb, jsonb)"


def status(shop):
    """What `barid status` says of the one queue of a consumer."""
    said = subprocess.run([binary(), "status", "--database", shop, "--json"], check=True, capture_output=True).stdout
    return [q for q in json.loads(said)["queues"] if q["queue"].startswith("inbox:")][0]


@pytest.mark.parametrize("what,said", [
    ({"suicide": 1}, "connection"), ({"state": "53200"}, "no room (SQLSTATE 53200)"), ({"state": "53100"}, "no room (SQLSTATE 53100)"),
])
def test_what_takes_its_connection_down_each_time_spends_its_attempts(shop, kafka, topic, publisher, what, said):
    rows(shop, GREEDY)
    keys = [f"k{n}" for n in range(40)]  # in all lanes
    for key in keys:
        publisher.send(key, 5)
    publisher.send("bad", owe=False, **what).send("bad", 5)
    for key in keys:
        publisher.send(key, 5)
    publisher.flush()
    with receive(shop, kafka, topic, "--attempts", "2", "--concurrency", "2", handler="sql:shop.greedy"):
        everything_is_handled_once(shop, publisher)
        [(_, attempts, error)] = queue(shop, 1)
        assert attempts == 2 and said in error
        assert not queue(shop, 0)


def test_what_takes_the_whole_server_down_each_time_spends_its_attempts(kafka, topic, publisher):
    with Postgres() as own_postgres:
        url = own_postgres.create_database()
        rows(url, SCHEMA)
        rows(url, GREEDY)
        for key in ("a", "b", "c"):
            publisher.send(key, 20)
        publisher.send("bad", owe=False, murder=1).send("bad", 5).send("a", 20).flush()
        with receive(url, kafka, topic, "--attempts", "1", "--lease-ms", "15000", handler="sql:shop.greedy"):
            eventually(lambda: parked(url), 90, "the event being parked")
            everything_is_handled_once(url, publisher)
            assert parked(url)[0][1] == 1


def parked(url):
    try:
        return queue(url, 1)
    except psycopg2.Error:  # just then it is down
        return []


def test_a_function_that_is_dropped_while_events_come_is_an_outage(shop, kafka, topic, publisher):
    publisher.send("a", 20).flush()
    with receive(shop, kafka, topic) as receiver:
        everything_is_handled_once(shop, publisher)
        rows(shop, f"alter function shop.handle{ARGUMENTS} rename to elsewhere")
        publisher.send("a", 20).send("b", 20).flush()
        eventually(lambda: "handler_away" in receiver.log(), 30, "its being said in the log")
        assert "no function shop.handle(" in receiver.log()
        eventually(lambda: status(shop)["members"][0].get("away"), 20, "its being said by status")
        assert "no function shop.handle(" in status(shop)["members"][0]["away"]
        assert receiver.metrics()["barid_receive_handler_away"] == 1
        assert all(attempts == 0 for _, attempts, _ in queue(shop, 0)) and not queue(shop, 1)
        rows(shop, f"alter function shop.elsewhere{ARGUMENTS} rename to handle")
        everything_is_handled_once(shop, publisher)
        eventually(lambda: not status(shop)["members"][0].get("away"), 20, "its being back in status")
        assert receiver.metrics()["barid_receive_failed_total"] == 0 and "handler_back" in receiver.log()


def test_a_function_that_may_not_be_called_any_more_is_an_outage(shop, kafka, topic, publisher):
    role = f"receive_{topic[-8:]}"
    rows(shop, f"create role {role} login superuser")
    try:
        publisher.send("a", 5).flush()
        url = re.sub("//[^@/]*@", f"//{role}@", shop)
        with receive(url, kafka, topic) as receiver:
            everything_is_handled_once(shop, publisher)
            rows(shop, f"alter role {role} nosuperuser")
            rows(shop, f"grant usage on schema barid to {role}")
            rows(shop, f"grant all on all tables in schema barid to {role}")
            rows(shop, f"grant all on all sequences in schema barid to {role}")
            publisher.send("a", 5).flush()
            eventually(lambda: "may not be called by this role" in receiver.log(), 30, "its being said in the log")
            assert all(attempts == 0 for _, attempts, _ in queue(shop, 0)) and not queue(shop, 1)
            rows(shop, f"alter role {role} superuser")
            everything_is_handled_once(shop, publisher)
    finally:
        rows(shop, f"drop owned by {role}; drop role {role}")


def test_a_function_that_comes_back_with_another_payload_is_called_by_that(shop, kafka, topic, publisher):
    publisher.send("a", 20).flush()
    with receive(shop, kafka, topic) as receiver:
        everything_is_handled_once(shop, publisher)
        rows(shop, f"drop function shop.handle{ARGUMENTS};" + BY_BYTES)
        publisher.send("a", 20).send("b", 20).flush()
        everything_is_handled_once(shop, publisher)
        assert receiver.metrics()["barid_receive_failed_total"] == 0 and not queue(shop, 1)
