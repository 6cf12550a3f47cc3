"""Each version of PostgreSQL that docs/outbox.md names: migrations, an event from the outbox to a function, parked events,
and a message of the messaging service; and what is said to a version that is too old.

The binaries come from Maven Central (support/postgres_releases.py); a version that cannot be had is skipped by name.
"""
import json

import pytest

from support.courier import Receive, Relay, Source, rows
from support.maven import Missing
from support.parts import Distributed
from support.postgres import Postgres, missing
from support.postgres_releases import RELEASES, TOO_OLD, release
from support.process import barid, eventually
from support.server import Server

HANDLER = """
create table public.ledger (n bigint generated always as identity, key text, number int);
create function public.handle(event_id uuid, topic text, key text, payload jsonb, headers jsonb) returns void language plpgsql as $$
begin
    if key = 'bad' then raise exception 'not this one'; end if;
    insert into ledger (key, number) values (key, (payload->>'number')::int);
end $$;
"""


def started(version):
    if missing():
        pytest.skip(missing())
    try:
        return Postgres(fsync=False, release=release(version))
    except Missing as lacking:
        pytest.skip(str(lacking))


@pytest.fixture(scope="module", params=RELEASES, name="server")
def fixture_server(request):
    with started(request.param) as running:
        assert running.value("show server_version").split()[0] == request.param.rsplit(".", 1)[0]
        yield running


@pytest.fixture(name="url")
def fixture_url(server):
    with server.database() as url:
        yield url


def test_migrations(server, url):
    """Outbox and inbox; chat, users and the data store; and a second time nothing."""
    assert "applied 0001 outbox" in barid("migrate", "--database", url).stdout
    said = barid("migrate", "--database", url, "--for", "server").stdout
    assert [line.split()[2] for line in said.splitlines()] == ["chat", "access", "datastore"]
    assert barid("migrate", "--database", url, "--for", "server").stdout == "Everything is up to date.\n"


def test_from_the_outbox_to_a_function(server, url, kafka, topic):
    """Stored in three ways, published, deleted, taken in, handled once and in order; what fails is parked and sent on."""
    rows(url, HANDLER)
    barid("migrate", "--database", url)
    bus = f"kafka://{kafka.address}"
    with Relay(url, bus, "--attempts", "1") as relay, \
            Receive(url, bus, f"consumer_{topic}", topic, "sql:public.handle", "--attempts", "1"):
        source = Source(url, topic)
        for key in "abc":
            source.store(key, 30)
        rows(url, "insert into barid.outbox (topic, key, payload) select %s, 'many', convert_to('{\"number\": ' || i || '}', 'UTF8') "
             "from generate_series(0, 99) i", topic)
        [(_, error)] = rows(url, "select * from barid.publish_or_park('no topic', 'x', '{}'::jsonb)")
        assert "a topic has" in error
        source.store("bad")
        source.store("lost", topic="there_is_no_such_topic")
        source.close()
        eventually(lambda: rows(url, "select count(*) from ledger") == [(190,)], 30, "190 events handled")
        eventually(lambda: len(source.parked()) == 2, 30, "two parked events in the outbox")
        assert rows(url, "select key, array_agg(number order by n) from ledger group by key order by key") == \
            [(key, list(range(n))) for key, n in (("a", 30), ("b", 30), ("c", 30), ("many", 100))]
        assert rows(url, "select count(*) from barid.outbox where state = 0") == [(0,)]
        assert relay.metrics()["barid_relay_notices"] == 1
        inbox = ("--database", url, "--inbox", f"consumer_{topic}")
        eventually(lambda: barid("parked", "list", *inbox, "--json").stdout, 30, "a parked event in the inbox")
        [only] = map(json.loads, barid("parked", "list", *inbox, "--json").stdout.splitlines())
        assert only["key"] == "bad" and "not this one" in only["error"]
        rows(url, "create or replace function public.handle(event_id uuid, topic text, key text, payload jsonb, headers jsonb) "
                  "returns void language sql as $$ insert into ledger (key, number) values (key, 0) $$")
        barid("parked", "retry", str(only["number"]), *inbox)
        eventually(lambda: rows(url, "select count(*) from ledger where key = 'bad'") == [(1,)], 30, "its being handled")
        [outbox, consumer] = json.loads(barid("status", "--database", url, "--json").stdout)["queues"]
        assert (outbox["parked"], consumer["parked"]) == (2, 0)


def test_the_messaging_service(server, kafka):
    """A message with a picture from alice to bob, who was away, and their receipts."""
    parts = Distributed(server, kafka)
    try:
        with Server(parts=parts) as service:
            alice, bob = service.new_user("alice"), service.new_user("bob")
            conversation = alice.conversation(["bob"])["conversation_id"]
            text = alice.send(conversation, "salam")["message_id"]
            picture = alice.send(conversation, ticket=alice.upload(b"x" * 300000)["ticket"])["message_id"]
            socket = bob.connect()
            assert [socket.expect("message")["message_id"] for _ in range(2)] == [text, picture]
            assert bob.media(picture).content == b"x" * 300000
            for message in (text, picture):
                bob.received(message)
                bob.read(message)
            eventually(lambda: "read" in alice.points(picture), 20, "the receipt")
    finally:
        parts.close()


def test_a_version_that_is_too_old_is_told():
    with started(TOO_OLD) as old:
        url = old.create_database()
        for command in (["migrate", "--database", url], ["relay", "--database", url, "--to", "kafka://127.0.0.1:1"],
                        ["serve", "--database", url, "--bus", "kafka://127.0.0.1:1", "--data-store", "postgresql",
                         "--http", "127.0.0.1:0", "--amqp", "off", "--management", "off"]):
            done = barid(*command, check=False)
            assert done.returncode == 1 and "PostgreSQL 12.22 is too old: barid needs 13 or newer" in done.stderr, command
        assert rows(url, "select from pg_namespace where nspname = 'barid'") == []
