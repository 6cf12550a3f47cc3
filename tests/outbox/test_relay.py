"""`barid relay` with a real PostgreSQL and a real Kafka: the publishing half of the seed, step by step.

The first six tests have the names of the seed's words: store, retries as a parameter, marking, publish, delete, notify.
"""
import json
import signal
import time

import psycopg2
import pytest

from support.courier import Relay, Source, Tap, rows
from support.process import barid, eventually

UNKNOWN = "there_is_no_such_topic"


@pytest.fixture
def ready_database(database):
    barid("migrate", "--database", database)
    return database


@pytest.fixture
def source(ready_database, topic):
    made = Source(ready_database, topic)
    yield made
    made.close()


@pytest.fixture
def relay(ready_database, kafka):
    with Relay(ready_database, f"kafka://{kafka.address}") as made:
        yield made


def parked(database, *args):
    return [json.loads(line) for line in barid("parked", "list", "--database", database, "--json", *args)
            .stdout.splitlines()]


# ---- the seed's words

def test_store(source, ready_database):
    """An event is there if its transaction is, and refused while the application can still do something about it."""
    first = source.store(key="a")[0]
    with psycopg2.connect(ready_database) as connection, connection.cursor() as cursor:
        cursor.execute("select barid.publish('t', 'a', 'text')")
        connection.rollback()
    for bad in ("select barid.publish('no topic', 'a', 'x')", "select barid.publish('t', repeat('k', 256), 'x')",
                "select barid.publish('t', 'a', null::text)",
                "select barid.publish('t', 'a', 'x'::text, '{\"a\": 1}'::jsonb)"):
        with pytest.raises(psycopg2.Error):
            rows(ready_database, bad)
    assert rows(ready_database, "select event_id::text, key, attempts, state from barid.outbox") == [(first, "a", 0, 0)]


@pytest.mark.parametrize("attempts", [1, 3])
def test_retries_are_a_parameter(ready_database, kafka, topic, attempts):
    source = Source(ready_database, topic)
    event = source.store(key="poison", topic=UNKNOWN)[0]
    with Relay(ready_database, f"kafka://{kafka.address}", "--attempts", str(attempts)) as relay:
        eventually(source.parked, 60, "the event being parked")
        assert relay.metrics()["barid_relay_failed_total"] == attempts
    [(parked_event, counted, error)] = source.parked()
    assert (parked_event, counted) == (event, attempts)
    assert UNKNOWN in error or "nknown topic" in error
    source.close()


def test_marking(ready_database, kafka, topic, source):
    """After its attempts an event is marked, and not taken up again by itself, not even by another relay; its key goes on."""
    source.store(key="a", topic=UNKNOWN)
    source.owed["a"].clear()
    for round in range(2):
        with Relay(ready_database, f"kafka://{kafka.address}", "--attempts", "2") as relay, Tap(kafka, topic) as tap:
            eventually(source.parked, 60, "the event being parked")
            source.owed["a"] = list(range(len(source.owed["a"])))
            source.store(key="a", count=5)
            eventually(lambda: source.waiting() == 0, 30, "its followers being published")
            eventually(lambda: tap.distinct() == 5 * (round + 1), 30, "Kafka having them")
            tap.ledger.check(source.owed)
            assert relay.metrics()["barid_relay_failed_total"] == (2 if round == 0 else 0)
    [only] = parked(ready_database)
    assert only["topic"] == UNKNOWN and only["attempts"] == 2 and only["error"] and only["parked_at"]


def test_publish(source, relay, kafka, topic):
    """What arrives in Kafka: key, payload, headers, its id; the events of a key in order and in one partition."""
    [event] = source.store(key="a", headers={"traceparent": "00-1-2-01"})
    for key in "abcdefgh":
        source.store(key=key, count=50)
    records = kafka.records(topic, 401)
    first = next(r for r in records if dict(r.headers()).get("ce_id") == event.encode())
    assert first.key() == b"a" and json.loads(first.value()) == {"key": "a", "number": 0}
    assert dict(first.headers())["traceparent"] == b"00-1-2-01"
    by_key, partitions = {}, {}
    for r in records:
        by_key.setdefault(r.key(), []).append(json.loads(r.value())["number"])
        partitions.setdefault(r.key(), set()).add(r.partition())
    for key, numbers in by_key.items():
        assert numbers == source.owed[key.decode()]
        assert len(partitions[key]) == 1


def test_delete(source, relay, kafka, topic):
    """An event is deleted once Kafka has it, and not before."""
    source.store(key="a", count=100)
    eventually(lambda: source.waiting() == 0, 30, "the outbox being empty")
    assert len(kafka.records(topic, 100)) == 100  # all of them, though nothing is left
    eventually(lambda: relay.metrics()["barid_relay_published_total"] == 100)
    assert rows(source.database, "select count(*) from barid.outbox") == [(0,)]


def test_notify(source, relay, kafka, topic):
    """The notice of the storing transaction wakes the relay: the safety check is 30 s away."""
    eventually(lambda: relay.metrics()["barid_relay_notices"] == 1, 10, "notices coming through")
    took = []
    for _ in range(20):
        begun = time.monotonic()
        source.store(key="a")
        eventually(lambda: source.waiting() == 0, 10, "the event being published")
        took.append(time.monotonic() - begun)
    assert sorted(took)[10] < 0.5, took


# ---- more of what it promises

def test_what_an_older_transaction_leaves_comes_before_what_follows_it(source, relay, kafka, topic):
    """Ids rise in the order of storing, rows appear in the order of committing. Here an event is stored, others that are
    younger are published meanwhile, it is committed, and what follows it under its key is committed at once; all that
    while looking back is slow, for a third transaction stays open and keeps what was deleted from being cleared away."""
    holder, older = psycopg2.connect(source.database), Source(source.database, topic)
    try:
        with holder.cursor() as cursor:
            cursor.execute("create temporary table held (n int)")  # anything that writes
        source.store(key="bulk", count=1)
        rows(source.database, "insert into barid.outbox (topic, key, payload) select %s, 'many-' || i, "
             "convert_to('{\"key\": \"many\", \"number\": 0}', 'UTF8') from generate_series(1, 30000) i", topic)
        eventually(lambda: source.waiting() == 0, 60, "the many being published")
        with Tap(kafka, topic) as tap:
            for number in range(20):
                with older.connection, older.connection.cursor() as cursor:
                    cursor.execute("select barid.publish(%s, 'k', %s)", (topic, json.dumps({"key": "k", "number": 2 * number})))
                    source.store(key="younger")
                    eventually(lambda: source.waiting() == 0, 10, "the younger one being published")
                older.owed["k"] += [2 * number]
                older.store(key="k")  # 2 * number + 1
                eventually(lambda: source.waiting() == 0, 40, "both being published")
            eventually(lambda: tap.distinct() == 30_001 + 20 * 3, 60, "everything arriving")
            tap.ledger.check(older.owed)
    finally:
        older.close()
        holder.close()


def test_a_long_line_of_keys_flows_while_one_is_refused(source, relay, kafka, topic):
    source.store(key="poison", topic=UNKNOWN)
    source.owed["poison"].clear()
    with Tap(kafka, topic) as tap:
        for key in range(20):
            source.store(key=f"k{key}", count=50)
        eventually(lambda: tap.distinct() == 1000, 30, "the others arriving")
        tap.ledger.check(source.owed, once=True)


def test_an_event_too_large_for_kafka_is_parked(source, relay, kafka, topic):
    source.store(key="large", size=3_000_000)
    source.store(key="small")
    eventually(lambda: source.parked() and source.waiting() == 0, 60, "the large one being parked")
    [(_, attempts, error)] = source.parked()
    assert attempts == 3 and "large" in error.lower()


def test_a_blocked_key_waits_for_its_event(ready_database, kafka, topic, source):
    event = source.store(key="a", topic=UNKNOWN)[0]
    source.owed.clear()
    source.store(key="a", count=3)
    source.store(key="b", count=3)
    with Relay(ready_database, f"kafka://{kafka.address}", "--attempts", "1", "--on-failure", "block"), \
            Tap(kafka, topic) as tap:
        eventually(lambda: parked(ready_database), 60, "the event being blocked")
        eventually(lambda: tap.distinct() == 3, 30, "the other key arriving")
        assert set(tap.ledger.by_key()) == {"b"}
        [only] = parked(ready_database)
        assert only["blocked"] is True and only["event_id"] == event
        shown = barid("parked", "show", str(only["number"]), "--database", ready_database).stdout
        assert "its key waits for it" in shown and '"key": "a"' in shown
        barid("parked", "drop", str(only["number"]), "--database", ready_database)
        eventually(lambda: tap.distinct() == 6, 10, "its followers arriving without the safety check")
        tap.ledger.check(source.owed, once=True)


def test_a_parked_event_is_sent_on_when_told(ready_database, kafka, source, topic, relay):
    late = f"{topic}_late"
    source.store(key="a", topic=late)
    eventually(source.parked, 60, "the event being parked")
    kafka.create_topic(late)
    [only] = parked(ready_database)
    barid("parked", "retry", str(only["number"]), "--database", ready_database)
    assert len(kafka.records(late, 1)) == 1
    eventually(lambda: not source.parked() and source.waiting() == 0, 30, "the outbox being empty")
    kafka.delete_topic(late)


@pytest.mark.parametrize("point", ["publish.claimed", "publish.confirmed", "publish.deleted"])
def test_killed_at_each_step_nothing_is_lost(ready_database, kafka, source, topic, point):
    for key in range(10):
        source.store(key=f"k{key}", count=20)
    relay = Relay(ready_database, f"kafka://{kafka.address}", "--lease", "1s")
    with Tap(kafka, topic) as tap:
        relay.start(env={"BARID_CRASH_AT": f"{point}:1"}, wait=False)
        assert relay.wait_exit(30) == -signal.SIGKILL
        with relay:
            eventually(lambda: source.waiting() == 0, 30, "the outbox being empty")
            eventually(lambda: tap.distinct() == 200, 30, "Kafka having them")
        tap.ledger.check(source.owed)


def test_two_share_the_keys_and_one_that_is_frozen_is_replaced(ready_database, kafka, source, topic):
    to = f"kafka://{kafka.address}"
    with Relay(ready_database, to, "--lease", "2s") as one, Relay(ready_database, to, "--lease", "2s") as two, \
            Tap(kafka, topic) as tap:
        eventually(lambda: one.metrics()["barid_relay_leases"] == two.metrics()["barid_relay_leases"] == 32, 10,
                   "each having half of the buckets")
        for key in range(20):
            source.store(key=f"k{key}", count=20)
        eventually(lambda: source.waiting() == 0, 30, "the outbox being empty")
        assert one.metrics()["barid_relay_published_total"] > 0 and two.metrics()["barid_relay_published_total"] > 0
        one.freeze()
        for key in range(20):
            source.store(key=f"k{key}", count=20)
        eventually(lambda: source.waiting() == 0, 30, "the other one taking over")
        assert two.metrics()["barid_relay_leases"] == 64
        one.thaw()
        for key in range(20):
            source.store(key=f"k{key}", count=20)
        eventually(lambda: source.waiting() == 0, 30, "the outbox being empty")
        eventually(lambda: tap.distinct() == 1200, 30, "Kafka having everything")
        tap.ledger.check(source.owed)


def test_who_is_told_to_stop_gives_its_buckets_back(ready_database, kafka, source, topic):
    with Relay(ready_database, f"kafka://{kafka.address}", "--lease", "1h") as relay:
        source.store(key="a", count=1000)
        assert relay.stop() == 0
    assert rows(ready_database, "select count(*) from barid.buckets where owner is not null") == [(0,)]
    assert rows(ready_database, "select count(*) from barid.members") == [(0,)]
    with Relay(ready_database, f"kafka://{kafka.address}", "--lease", "1h"), Tap(kafka, topic) as tap:
        eventually(lambda: source.waiting() == 0, 10, "the next one going on at once")
        eventually(lambda: tap.distinct() == 1000, 30, "Kafka having everything")
        tap.ledger.check(source.owed, once=True)


def test_behind_a_pooler_that_swallows_notices_it_looks_every_second(ready_database, bouncer, kafka, source, topic):
    url = bouncer.url(ready_database.rsplit("/", 1)[1])
    with Relay(url, f"kafka://{kafka.address}") as relay, Tap(kafka, topic) as tap:
        eventually(lambda: "notices_lost" in relay.log(), 20, "the log telling of it")
        assert relay.metrics()["barid_relay_notices"] == 0
        for _ in range(3):
            source.store(key="a")
            eventually(lambda: source.waiting() == 0, 5, "the event being published")
        eventually(lambda: tap.distinct() == 3, 10, "Kafka having them")
        tap.ledger.check(source.owed, once=True)


# ---- the command line

def test_wrong_settings_are_told_before_anything_begins(ready_database):
    for args, word in [((), "--database"), (("--database", ready_database), "--to"),
                       (("--database", "x.db", "--to", "kafka://h"), "postgresql://"),
                       (("--database", ready_database, "--to", "kafka://h", "--on-failure", "x"), "park or block"),
                       (("--database", ready_database, "--to", "kafka://h", "--lease", "1ms"), "--lease")]:
        done = barid("relay", *args, check=False)
        assert done.returncode == 2 and word in done.stderr


def test_without_its_tables_it_says_what_to_do(database):
    done = barid("relay", "--database", database, "--to", "kafka://127.0.0.1:1", "--no-migrate", check=False)
    assert done.returncode == 1 and "barid migrate" in done.stderr


def test_no_secret_of_a_url_is_shown(ready_database, kafka):
    secret = ready_database.replace("barid@", "barid:hunter2@")
    with Relay(secret, f"kafka://{kafka.address}?sasl.oauthbearer.config=hunter3") as relay:
        relay.stop()
        assert "hunter" not in relay.log() + "\n".join(relay.lines)


def test_status_shows_the_queue_and_who_works_on_it(ready_database, kafka, source, topic):
    empty = json.loads(barid("status", "--database", ready_database, "--json").stdout)
    assert [q["queue"] for q in empty["queues"]] == ["outbox"] and empty["queues"][0]["members"] == []
    with Relay(ready_database, f"kafka://{kafka.address}", "--name", "one", "--attempts", "1"):
        source.store(key="a", topic=UNKNOWN)
        eventually(source.parked, 60, "the event being parked")
        [queue] = json.loads(barid("status", "--database", ready_database, "--json").stdout)["queues"]
        assert (queue["waiting"], queue["parked"], queue["blocked"], queue["leases"]) == (0, 1, 0, 64)
        assert queue["members"] == [{"name": "one", "leases": 64}]
        text = barid("status", "--database", ready_database).stdout
        assert "64/64" in text and "notices   arrive" in text


def test_a_name_that_is_too_long_ends_with_a_whole_letter(ready_database, kafka):
    with Relay(ready_database, f"kafka://{kafka.address}", "--name", "ü" * 40):
        eventually(lambda: rows(ready_database, "select name from barid.members") == [("ü" * 31,)], 20, "it being a member")


def test_migrate_says_what_it_did_once(database):
    assert "applied 0001 outbox" in barid("migrate", "--database", database).stdout
    assert barid("migrate", "--database", database).stdout == "Everything is up to date.\n"
    server = barid("migrate", "--database", database, "--for", "server").stdout
    assert "applied 0101 chat" in server and "0001" not in server
    refused = barid("migrate", "--database", database.replace(str(database.rsplit("/", 1)[1]), "there_is_none"),
                    check=False)
    assert refused.returncode == 1 and "there_is_none" in refused.stderr


def test_it_says_whether_it_is_ready(ready_database, kafka):
    with Relay(ready_database, f"kafka://{kafka.address}") as relay:
        eventually(lambda: relay.ask("/readyz") == (200, "ready\n"), 20, "the relay being ready")
        assert relay.ask("/healthz") == (200, "ok\n")
    with Relay(ready_database, "kafka://127.0.0.1:1") as relay:
        eventually(lambda: relay.ask("/readyz") == (503, "the broker is away\n"), 20, "the relay telling that Kafka is away")
        assert relay.ask("/healthz") == (200, "ok\n")
