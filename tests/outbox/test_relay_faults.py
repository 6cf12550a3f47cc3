"""The relay where things fail: killed at each step, brokers and databases away, events nobody takes, frozen, cut off.

In all of it: nothing stored is lost, events of a key keep their order, and what is published twice has the same id, so that
whoever drops repeats acts once.
"""
import datetime
import threading
import time
import uuid

import pytest

from support.courier import Relay, Source, Tap, rows
from support.kafka import Kafka
from support.postgres import Postgres
from support.server import eventually

KEYS = [f"key-{i}" for i in range(8)]


@pytest.fixture(name="url")
def fixture_url(database):
    return database


def to(kafka, settings=""):
    return f"kafka://{kafka.address}{settings}"


def store_everywhere(source, times=5, keys=KEYS):
    for _ in range(times):
        for key in keys:
            source.store(key, 4)


def all_arrived(*sources, tap, seconds=60):
    total = sum(len(numbers) for source in sources for numbers in source.owed.values())
    eventually(lambda: tap.distinct() >= total, seconds, f"{total} events on the topic")
    for source in sources:
        eventually(lambda: source.waiting() == 0, seconds, "the outbox being empty")
        tap.ledger.check(source.owed)


@pytest.mark.parametrize("passing", [1, 3])
@pytest.mark.parametrize("point", ["publish.claimed", "publish.confirmed", "publish.deleted"])
def test_relay_killed_at_each_step(url, kafka, topic, point, passing):
    with Relay(url, to(kafka), "--batch", "8", "--lease", "2s") as relay, Tap(kafka, topic) as tap:
        source = Source(url, topic)
        relay.stop()
        store_everywhere(source)
        relay.start(env={"BARID_CRASH_AT": f"{point}:{passing}"}, wait=False)
        assert relay.wait_exit() == -9
        relay.start()
        store_everywhere(source, 1)
        all_arrived(source, tap=tap)


def test_kafka_down_for_a_minute_mid_stream(url, kafka):
    with Kafka() as own_kafka:
        down_for_a_minute(url, own_kafka)


def down_for_a_minute(url, own_kafka):
    topic = "orders"
    own_kafka.create_topic(topic)
    with Relay(url, to(own_kafka)) as relay, Tap(own_kafka, topic) as tap:
        source = Source(url, topic)
        store_everywhere(source)
        eventually(lambda: tap.distinct() > 0, 30)
        own_kafka.kill()
        down = time.monotonic()
        while time.monotonic() - down < 60:  # the outage itself is what is tested
            store_everywhere(source, 1)
            time.sleep(1)
        eventually(lambda: relay.metrics()["barid_relay_bus_away"] == 1, 10, "the relay saying that the broker is away")
        own_kafka.start()
        all_arrived(source, tap=tap, seconds=90)
        assert not source.parked(), "an outage is nobody's failed attempt"
        assert rows(url, "select coalesce(max(attempts), 0) from barid.outbox")[0][0] == 0


def test_a_poison_event_parks_after_its_attempts_while_other_keys_flow(url, kafka, topic):
    with Relay(url, to(kafka), "--attempts", "3") as relay, Tap(kafka, topic) as tap:
        source, poison = Source(url, topic), Source(url, topic)
        too_large = poison.store("poison", size=3_000_000)[0]
        unknown = poison.store("stray", topic="no-such-topic")[0]
        store_everywhere(source)
        all_arrived_but = lambda: tap.distinct() >= sum(map(len, source.owed.values()))  # noqa: E731
        eventually(all_arrived_but, 30, "the other keys' events")
        eventually(lambda: len(source.parked()) == 2, 90, "both being parked")
        parked = {event_id: (attempts, error) for event_id, attempts, error in source.parked()}
        assert parked[too_large][0] == parked[unknown][0] == 3
        assert all(error for _, error in parked.values())
        eventually(lambda: relay.metrics()["barid_relay_parked"] == 2, 30, "the metrics telling of them")
        source.store("poison", 1)  # the key goes on
        poison.owed.clear()
        eventually(lambda: tap.ledger.by_key()["poison"] == [0], 30, "the key of what was parked going on")
        tap.ledger.check(source.owed)


def test_a_batch_is_refused_for_one_event_in_it(url, kafka):
    """A broker refuses a batch as a whole; the others in it are published all the same, and count no attempt."""
    topic = f"faults-{uuid.uuid4()}"
    kafka.create_topic(topic, partitions=1, config={"max.message.bytes": "3000"})
    with Relay(url, to(kafka), "--attempts", "2") as relay, Tap(kafka, topic) as tap:
        relay.stop()
        source = Source(url, topic)
        for i in range(20):
            source.store(f"key-{i}")
        guilty = source.store("guilty", size=4000)[0]
        source.owed.pop("guilty")
        for i in range(20, 40):
            source.store(f"key-{i}")
        relay.start()  # all of it in one claim
        eventually(lambda: len(source.parked()) == 1, 60, "the guilty one being parked")
        all_arrived(source, tap=tap)
        [(event_id, attempts, error)] = source.parked()
        assert (event_id, attempts) == (guilty, 2) and "large" in error.lower()
        assert relay.metrics()["barid_relay_failed_total"] == 2, "the innocent count none"
    kafka.delete_topic(topic)


def test_the_listening_connection_is_cut(url, postgres, kafka, topic):
    with Relay(url, to(kafka)) as relay, Tap(kafka, topic) as tap:
        source = Source(url, topic)
        store_everywhere(source, 1)
        all_arrived(source, tap=tap)
        for _ in range(3):
            rows(url, "select pg_terminate_backend(pid) from pg_stat_activity "
                      "where datname = current_database() and pid <> pg_backend_pid() and query ilike 'listen%'")
            store_everywhere(source, 1)
            all_arrived(source, tap=tap, seconds=20)
        eventually(lambda: relay.metrics()["barid_relay_notices"] == 1, 30, "notices coming through again")


def test_every_connection_is_cut_under_load(url, postgres, kafka, topic):
    with Relay(url, to(kafka)), Tap(kafka, topic) as tap:
        source = Source(url, topic)
        for _ in range(5):
            store_everywhere(source, 1)
            rows(url, "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
                      "and pid <> pg_backend_pid() and application_name like 'barid%'")
        all_arrived(source, tap=tap)


def test_two_relays_and_one_is_frozen_past_its_lease(url, kafka, topic):
    lease = ("--lease", "3s")
    with Relay(url, to(kafka), *lease) as one, Relay(url, to(kafka), *lease) as two, Tap(kafka, topic) as tap:
        source = Source(url, topic)
        eventually(lambda: one.metrics()["barid_relay_leases"] > 0 and two.metrics()["barid_relay_leases"] > 0, 30,
                   "both having a share")
        store_everywhere(source)
        one.freeze()
        store_everywhere(source)
        all_arrived(source, tap=tap)  # by the other alone, once the lease has ended
        assert two.metrics()["barid_relay_leases"] == 64
        store_everywhere(source)
        one.thaw()
        store_everywhere(source)
        all_arrived(source, tap=tap)
        eventually(lambda: one.metrics()["barid_relay_leases"] > 0, 30, "the one that was frozen having a share again")


def test_relays_come_and_go_under_load(url, kafka, topic):
    lease = ("--lease", "2s")
    with Tap(kafka, topic) as tap:
        source = Source(url, topic)
        relays = [Relay(url, to(kafka), *lease).start() for _ in range(3)]
        try:
            for i in range(6):
                store_everywhere(source, 3)
                victim = relays[i % 3]
                if i % 2:
                    victim.kill9()
                else:
                    assert victim.stop() == 0
                store_everywhere(source, 3)
                victim.start()
            all_arrived(source, tap=tap)
        finally:
            for relay in relays:
                relay.close()


def test_postgres_restarted_under_load(postgres, kafka, topic):
    with Postgres() as own_postgres:
        restarted_under_load(own_postgres, own_postgres.create_database(), kafka, topic)


def restarted_under_load(own_postgres, url, kafka, topic):
    with Relay(url, to(kafka)), Tap(kafka, topic) as tap:
        source = Source(url, topic)
        for how in (own_postgres.restart, own_postgres.kill):
            store_everywhere(source)
            how()
            if how == own_postgres.kill:
                own_postgres.start()
            source.reconnect()
            store_everywhere(source)
            all_arrived(source, tap=tap)


@pytest.mark.parametrize("hours", [2, -2])
def test_the_clock_of_the_relay_is_wrong(url, kafka, topic, hours):
    env = {"BARID_CLOCK_SHIFT": str(hours * 3600)}
    with Relay(url, to(kafka), "--lease", "2s", env=env) as wrong, Relay(url, to(kafka), "--lease", "2s"), \
            Tap(kafka, topic) as tap:
        source = Source(url, topic)
        store_everywhere(source)
        all_arrived(source, tap=tap)
        wrong.kill9()
        store_everywhere(source)
        all_arrived(source, tap=tap)
        wrong.start()
        source.store("poison", size=3_000_000)
        source.owed.pop("poison")
        eventually(lambda: len(source.parked()) == 1, 60, "backing off and parking by the database's clock")
        now = rows(url, "select extract(epoch from clock_timestamp())::float")[0][0]
        for record in kafka.records(topic, 10):
            told = datetime.datetime.fromisoformat(dict(record.headers())["ce_time"].decode()).timestamp()
            assert abs(now - told) < 600 and abs(now - record.timestamp()[1] / 1000) < 600, "the database's time"


def test_many_writers_at_once(url, kafka, topic):
    """Transactions commit in another order than their events got their ids: none is passed over."""
    with Relay(url, to(kafka)), Tap(kafka, topic) as tap:
        sources = [Source(url, topic) for _ in range(6)]

        def write(i):
            for _ in range(50):
                sources[i].store(f"writer-{i}", 3)
        threads = [threading.Thread(target=write, args=(i,)) for i in range(len(sources))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        all_arrived(*sources, tap=tap)


def test_a_transaction_that_stays_open_is_not_passed_over(url, kafka, topic):
    with Relay(url, to(kafka)), Tap(kafka, topic) as tap:
        early, late = Source(url, topic), Source(url, topic)
        cursor = early.connection.cursor()
        cursor.execute("select barid.publish(%s, 'early', '{\"key\": \"early\", \"number\": 0}')", (topic,))
        store_everywhere(late)
        all_arrived_late = sum(map(len, late.owed.values()))
        eventually(lambda: tap.distinct() >= all_arrived_late, 30)
        early.connection.commit()
        early.owed["early"] = [0]
        eventually(lambda: tap.ledger.by_key()["early"] == [0], 10, "the one that was committed last")
