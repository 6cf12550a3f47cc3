"""The outbox over AMQP 0-9-1: barid relay to a broker, barid receive from it. The broker is `barid serve`."""
import json
import os
import subprocess
import uuid

import pika
import pytest

from support.courier import Receive, Relay, Source, rows
from support.server import Server, binary, eventually

LEDGER = """
create table ledger (n bigint generated always as identity, event_id uuid, topic text, key text, payload jsonb,
                     headers jsonb);
create function handle(event_id uuid, topic text, key text, payload jsonb, headers jsonb) returns void language sql
    as $$ insert into ledger (event_id, topic, key, payload, headers) values (event_id, topic, key, payload, headers) $$;
"""


def url_of(server):
    return f"amqp://guest:guest@127.0.0.1:{server.amqp_port}/%2F"


@pytest.fixture
def broker():
    with Server(amqp=True) as server:
        yield server


@pytest.fixture
def shop(postgres):
    """The sending application's database, with an outbox."""
    with postgres.database() as url:
        subprocess.run([binary(), "migrate", "--database", url], check=True, stdout=subprocess.DEVNULL)
        yield url


@pytest.fixture
def reader(postgres):
    """The receiving application's database."""
    with postgres.database() as url:
        rows(url, LEDGER)
        yield url


def received(url):
    return rows(url, "select count(*) from ledger")[0][0]


def by_key(url):
    keys = {}
    for key, number in rows(url, "select key, (payload->>'number')::int from ledger order by n"):
        keys.setdefault(key, []).append(number)
    return keys


def test_an_event_comes_from_the_outbox_through_the_broker_to_a_function(broker, shop, reader):
    with Receive(reader, url_of(broker), "statistics", "orders", "sql:public.handle"), Relay(shop, url_of(broker)):
        source = Source(shop, "orders")
        ids = source.store(key="order-1", count=3, headers={"traceparent": "00-abc"})
        eventually(lambda: received(reader) == 3, 20, "three events handled")
        assert by_key(reader) == {"order-1": [0, 1, 2]}
        assert sorted(row[0] for row in rows(reader, "select event_id::text from ledger")) == sorted(ids)
        assert rows(reader, "select distinct topic, headers->>'traceparent' from ledger") == [("orders", "00-abc")]
        eventually(lambda: source.waiting() == 0, 20, "an empty outbox")
        source.close()


def test_an_event_that_no_queue_takes_is_parked_after_its_attempts(broker, shop):
    with Relay(shop, url_of(broker)):
        source = Source(shop, "nobody-wants-this")
        source.store()
        eventually(lambda: len(source.parked()) == 1, 30, "a parked event")
        _, attempts, error = source.parked()[0]
        assert attempts == 3
        assert "no queue takes the topic 'nobody-wants-this'" in error
        source.close()


def test_a_missing_exchange_costs_no_attempt_and_is_said(broker, shop):
    with Relay(shop, url_of(broker) + "?exchange=shop") as relay:
        source = Source(shop, "orders")
        source.store()
        eventually(lambda: "there is no exchange 'shop'" in relay.log(), 20, "the reason in the log")
        assert source.parked() == []
        with pika.BlockingConnection(pika.URLParameters(url_of(broker))) as connection:
            channel = connection.channel()
            channel.exchange_declare("shop", "topic", durable=True)
            channel.queue_declare("all", durable=True)
            channel.queue_bind("all", "shop", "#")
            eventually(lambda: source.waiting() == 0, 30, "an empty outbox")
            _, properties, body = channel.basic_get("all", auto_ack=True)
        assert json.loads(body) == {"key": "k", "number": 0}
        assert properties.headers["key"] == "k"
        assert properties.headers["cloudEvents:id"] == properties.message_id
        assert properties.delivery_mode == 2
        assert rows(shop, "select count(*) from barid.outbox where attempts > 0")[0][0] == 0
        source.close()


def test_who_is_ready_has_its_queue(broker, reader):
    """What is published afterwards is not refused for want of a queue; a broker that is away keeps nobody from being ready."""
    with pika.BlockingConnection(pika.URLParameters(url_of(broker))) as connection:
        channel = connection.channel()
        for name in ("one", "two", "three"):
            with Receive(reader, url_of(broker), name, "orders", "sql:public.handle"):
                channel.queue_declare(f"barid.{name}", passive=True)
    with Receive(reader, "amqp://guest:guest@127.0.0.1:1/%2F", "four", "orders", "sql:public.handle") as receive:
        assert receive.ask("/readyz") == (503, "the broker is away\n")


@pytest.mark.parametrize("headers,said", [
    ({"key": b"\xff\xfe"}, "the key is no UTF-8 text"), ({"key": "k", "other": b"\xff"}, "a header is no UTF-8 text"),
    ({"key": "k", "large": "x" * 70000}, "the headers have more than 65536 bytes")])
def test_an_event_that_cannot_be_stored(broker, reader, headers, said):
    """Parked on the broker's side with the reason; what stands behind it goes on."""
    with Receive(reader, url_of(broker), "statistics", "orders", "sql:public.handle"), \
            pika.BlockingConnection(pika.URLParameters(url_of(broker))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for number, more in enumerate((headers, {"key": "k"})):
            channel.basic_publish("barid.events", "orders", json.dumps({"number": number}),
                                  pika.BasicProperties(headers=more, message_id=str(uuid.uuid4())))
        eventually(lambda: by_key(reader) == {"k": [1]}, 20, "the one behind it handled")
        parked = eventually(lambda: [got for got in [channel.basic_get("barid.statistics.parked", auto_ack=True)] if got[0]], 20,
                            "the parked event")
        assert json.loads(parked[0][2]) == {"number": 0} and said in str(parked[0][1].headers)


@pytest.mark.parametrize("victim", ["broker", "relay", "receive"])
def test_nothing_is_lost_or_handled_twice_when_one_is_killed_mid_stream(victim, broker, shop, reader):
    with Receive(reader, url_of(broker), "statistics", "orders", "sql:public.handle") as receive, \
            Relay(shop, url_of(broker), "--lease", "1s") as relay:
        source = Source(shop, "orders")
        for batch in range(10):
            for key in range(8):
                source.store(key=f"order-{key}", count=25)
            if batch == 4:
                eventually(lambda: received(reader) > 100, 20, "some events handled")
                killed = {"broker": broker, "relay": relay, "receive": receive}[victim]
                killed.kill9()
                killed.start()
        eventually(lambda: received(reader) >= 2000, 60, "all events handled")
        eventually(lambda: source.waiting() == 0, 30, "an empty outbox")
        assert by_key(reader) == {key: list(numbers) for key, numbers in source.owed.items()}
        assert source.parked() == []
        source.close()


def test_of_two_receivers_one_is_at_work_and_the_other_takes_over_in_order(broker, shop, reader):
    with Receive(reader, url_of(broker), "statistics", "orders", "sql:public.handle") as one, \
            Receive(reader, url_of(broker), "statistics", "orders", "sql:public.handle"), \
            Relay(shop, url_of(broker)):
        source = Source(shop, "orders")
        for batch in range(6):
            for key in range(4):
                source.store(key=f"order-{key}", count=50)
            if batch == 2:
                eventually(lambda: received(reader) > 100, 20, "some events handled")
                one.kill9()
        eventually(lambda: received(reader) >= 1200, 90, "all events handled")
        assert by_key(reader) == {key: list(numbers) for key, numbers in source.owed.items()}
        source.close()


def test_a_bus_that_barid_cannot_speak_is_said_at_once(shop):
    run = subprocess.run([binary(), "relay", "--database", shop, "--to", "amqp://h/v?exchanges=x"], env=os.environ,
                         capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode != 0
    assert "exchange=NAME" in run.stderr
