"""The application's side of the outbox: rolled back, killed before and after its COMMIT, with rights to publish and no others,
and how many notices its statements send."""
import json
import select
import subprocess
import sys
import uuid

import psycopg2
import psycopg2.extensions
import pytest

from support.courier import Relay, Source, Tap, rows
from support.server import binary, eventually

# Stores an order and its event, says how far it is, and waits to be killed.
APPLICATION = """
import sys, psycopg2
connection = psycopg2.connect(sys.argv[1])
cursor = connection.cursor()
cursor.execute("insert into orders values (%s)", (sys.argv[3],))
cursor.execute("select barid.publish(%s, 'k', %s)", (sys.argv[2], '{"key": "k", "number": ' + sys.argv[3] + '}'))
if sys.argv[4] == "committed":
    connection.commit()
print("there", flush=True)
sys.stdin.read()
"""


@pytest.fixture(name="shop")
def fixture_shop(database):
    subprocess.run([binary(), "migrate", "--database", database], check=True, stdout=subprocess.DEVNULL)
    rows(database, "create table orders (number int)")
    return database


def killed_application(shop, topic, number, where):
    """Runs it until it is there, then kill -9."""
    with subprocess.Popen([sys.executable, "-c", APPLICATION, shop, topic, str(number), where], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "there\n"
        process.kill()
        process.wait()


def test_the_application_rolls_back(shop, kafka, topic):
    connection = psycopg2.connect(shop)
    with connection.cursor() as cursor:
        cursor.execute("insert into orders values (0)")
        cursor.execute("select barid.publish(%s, 'k', '{\"key\": \"k\", \"number\": 0}')", (topic,))
    connection.rollback()
    connection.close()
    with Relay(shop, f"kafka://{kafka.address}"), Tap(kafka, topic) as tap:
        later = Source(shop, topic)
        later.store("later")
        eventually(lambda: tap.distinct() == 1, 30, "the event that is there")
        assert dict(tap.ledger.by_key()) == {"later": [0]}
        assert rows(shop, "select count(*) from orders") == [(0,)]
        later.close()


def test_the_application_is_killed_before_and_after_its_commit(shop, kafka, topic):
    """No relay is running meanwhile. What was committed waits, with its order; what was not is gone, with its order."""
    killed_application(shop, topic, 1, "open")
    killed_application(shop, topic, 2, "committed")
    killed_application(shop, topic, 3, "open")
    eventually(lambda: rows(shop, "select number from orders") == [(2,)], 10, "only what was committed being there")
    assert rows(shop, "select convert_from(payload, 'UTF8') from barid.outbox") == [('{"key": "k", "number": 2}',)]
    with Relay(shop, f"kafka://{kafka.address}"), Tap(kafka, topic) as tap:
        eventually(lambda: tap.distinct() == 1, 30, "the event that was waiting")
        eventually(lambda: rows(shop, "select count(*) from barid.outbox") == [(0,)], 10, "an empty outbox")
        assert dict(tap.ledger.by_key()) == {"k": [2]}


def test_a_role_that_may_only_publish(shop, postgres):
    role = f"application_{uuid.uuid4().hex[:12]}"
    rows(shop, f"create role {role}; grant usage on schema barid to {role}")
    try:
        with psycopg2.connect(shop) as connection, connection.cursor() as cursor:
            cursor.execute(f"set role {role}")
            for payload in ("text", "jsonb", "bytea"):
                cursor.execute(f"select barid.publish('t', 'k', '{{}}'::{payload})")
                cursor.execute(f"select error is null from barid.publish_or_park('t', 'k', '{{}}'::{payload})")
                assert cursor.fetchone() == (True,)
            cursor.execute("select error is null from barid.publish_or_park('no topic', 'k', '{}'::jsonb)")
            assert cursor.fetchone() == (False,)
        assert rows(shop, "select state, count(*) from barid.outbox group by state order by state") == [(0, 6), (1, 1)]
        with psycopg2.connect(shop) as connection, connection.cursor() as cursor:
            cursor.execute(f"set role {role}")
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute("select * from barid.outbox")
    finally:
        rows(shop, f"drop owned by {role}; drop role {role}")


def test_one_notice_a_statement_and_one_a_transaction(shop):
    rows(shop, "insert into barid.members (queue, member, name, seen_until) "
               "values ('outbox', gen_random_uuid(), 'asleep', now() + interval '1 hour')")
    listener = psycopg2.connect(shop)
    listener.set_isolation_level(psycopg2.extensions.ISOLATION_LEVEL_AUTOCOMMIT)
    listener.cursor().execute("listen barid_outbox; listen done")
    many = "insert into barid.outbox (topic, key, payload) select 't', 'k' || i, '' from generate_series(1, 1000) i"
    rows(shop, many)
    rows(shop, f"{many}; {many}; select barid.publish('t', 'k', '{json.dumps({})}')")
    rows(shop, "notify done")
    while not listener.notifies or listener.notifies[-1].channel != "done":
        assert select.select([listener], [], [], 20)[0], "the notices"
        listener.poll()
    assert [(notice.channel, notice.payload) for notice in listener.notifies] == [("barid_outbox", "")] * 2 + [("done", "")]
    listener.close()
