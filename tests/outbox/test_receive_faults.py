"""`barid receive` where handlers misbehave and parties fail: poison of every kind, what a function leaves behind on its
connection, PostgreSQL restarted, and the process killed at each step. A ledger counts actions in all.
"""
import pytest

from support.courier import rows
from support.inbox import SCHEMA, Hook, everything_is_handled_once, handled, queue, receive
from support.postgres import Postgres
from support.server import eventually

# Raises what its payload says; and leaves its connection in disorder when told to.
MISCHIEF = """
create function shop.mischief(event_id uuid, topic text, key text, payload jsonb, headers jsonb) returns void
language plpgsql as $$
begin
    if payload ? 'state' then raise exception '%', coalesce(payload->>'says', 'no') using errcode = payload->>'state'; end if;
    if payload ? 'disorder' then
        create temp table if not exists members (x int);
        create temp table if not exists buckets (x int);
        create temp table if not exists inbox_queue (x int);
        perform set_config('search_path', 'pg_catalog', false);
    end if;
    insert into shop.ledger (event_id, topic, key, number, headers)
        values (event_id, topic, key, (payload->>'number')::int, headers);
end $$;
"""


def poison(publisher, **payload):
    """An event that nobody owes, and others behind it."""
    publisher.send("bad", owe=False, **payload)
    publisher.owed["bad"] = []
    publisher.send("other", 100).flush()


@pytest.mark.parametrize("state", ["08006", "57P01", "53300", "25P03", "42601", "XX000", "23505", "54000"])
def test_whatever_a_function_raises_is_its_own_failure(shop, kafka, topic, publisher, state):
    """Also what looks like a broken connection: of one that the function has, not of ours."""
    rows(shop, MISCHIEF)
    poison(publisher, state=state)
    with receive(shop, kafka, topic, "--attempts", "2", handler="sql:shop.mischief"):
        eventually(lambda: queue(shop, 1), 30, "the event being parked")
        assert queue(shop, 1) == [(publisher.ids["bad", 0], 2, f"no (SQLSTATE {state})")]
        everything_is_handled_once(shop, publisher)


def test_the_words_of_a_failure_are_kept_in_any_language(shop, kafka, topic, publisher):
    rows(shop, MISCHIEF)
    poison(publisher, state="P0001", says="xy" + "ä" * 400)  # cut somewhere, and not within a letter
    with receive(shop, kafka, topic, "--attempts", "1", handler="sql:shop.mischief"):
        eventually(lambda: queue(shop, 1), 30, "the event being parked")
        assert queue(shop, 1)[0][2].startswith("xyäää")


def test_what_a_function_leaves_on_its_connection_harms_nobody(shop, kafka, topic, publisher):
    rows(shop, MISCHIEF)
    for key in "abcdefgh":  # on every connection
        publisher.send(key, 5, disorder=1)
    publisher.flush()
    with receive(shop, kafka, topic, handler="sql:shop.mischief") as receiver:
        everything_is_handled_once(shop, publisher)
        publisher.send("a", 100).send("z", 100).flush()
        everything_is_handled_once(shop, publisher)
        assert receiver.stop() == 0
        assert rows(shop, "select count(*) from barid.buckets where owner is not null") == [(0,)], "given back at the end"


def test_postgres_restarted_under_receive(kafka, topic, publisher):
    with Postgres() as own_postgres:
        url = own_postgres.create_database()
        rows(url, SCHEMA)
        with receive(url, kafka, topic):
            for how in (own_postgres.restart, own_postgres.kill):
                publisher.send("a", 50).send("b", 50).flush()
                how()
                if how == own_postgres.kill:
                    own_postgres.start()
                publisher.send("a", 50).send("b", 50).flush()
                everything_is_handled_once(url, publisher)


@pytest.mark.parametrize("point", ["receive.taken:3", "receive.stored:3", "publish.claimed:2"])
def test_receive_killed_at_each_step(shop, kafka, topic, publisher, point):
    with receive(shop, kafka, topic) as receiver:
        receiver.stop()
        receiver.start(env={"BARID_CRASH_AT": point}, wait=False)
        for _ in range(10):
            before = handled(shop)
            publisher.send("a", 20).send("b", 20).flush()
            eventually(lambda: handled(shop) > before or not receiver.running(), 30, "some events")
        assert receiver.wait_exit(30) == -9
        receiver.start()
        everything_is_handled_once(shop, publisher)


@pytest.mark.parametrize("point", ["publish.confirmed:2", "publish.deleted:2", "receive.handled:3"])
def test_receive_killed_at_each_step_behind_a_program(shop, kafka, topic, publisher, point, tmp_path):
    """The action may be repeated, under the same id; never lost, never before what came first."""
    ledger = tmp_path / "ledger"
    publisher.send("a", 10).flush()
    with receive(shop, kafka, topic, handler=f"exec:echo $BARID_EVENT_ID >> {ledger}") as receiver:
        receiver.stop()
        publisher.send("a", 10).flush()
        receiver.start(env={"BARID_CRASH_AT": point}, wait=False)
        publisher.send("a", 10).flush()
        assert receiver.wait_exit(30) == -9
        receiver.start()
        expected = [publisher.ids["a", n] for n in range(30)]
        eventually(lambda: set(ledger.read_text().split()) == set(expected) and not queue(shop, 0), 30, "all actions")
        assert list(dict.fromkeys(ledger.read_text().split())) == expected


# Takes its time, so that whoever is frozen has something in hand.
SLOWLY = """
create function shop.slowly(event_id uuid, topic text, key text, payload jsonb, headers jsonb) returns void language sql as $$
    select pg_sleep(0.003);
    insert into shop.ledger (event_id, topic, key, number, headers)
        values (event_id, topic, key, (payload->>'number')::int, headers);
$$;
"""


def frozen_past_its_lease(one, two, publisher, acted):
    """Events before, while one is frozen, and after; acted() is how many have been acted on. What is frozen in a
    transaction holds its rows until PostgreSQL ends it."""
    keys = [f"k{i}" for i in range(20)]

    def send(count):
        for _ in range(count):
            for key in keys:
                publisher.send(key)
        publisher.flush()

    eventually(lambda: one.metrics()["barid_receive_leases"] > 0 and two.metrics()["barid_receive_leases"] > 0, 30,
               "both having a share")
    for _ in range(2):
        before = acted()
        send(30)
        eventually(lambda: acted() > before + 50, 30, "some events")
        one.freeze()
        send(5)
        owed = sum(map(len, publisher.owed.values()))
        eventually(lambda: acted() >= owed, 90, "all of them, by the other alone")
        assert two.metrics()["barid_receive_leases"] == 64
        send(5)
        one.thaw()
        send(30)
        eventually(lambda: one.metrics()["barid_receive_leases"] > 0, 30, "the one that was frozen having a share again")


def test_two_receivers_and_one_is_frozen_past_its_lease(shop, kafka, topic, publisher):
    rows(shop, SLOWLY)
    impatient = shop + "?options=-c%20idle_in_transaction_session_timeout%3D3s"
    with receive(impatient, kafka, topic, handler="sql:shop.slowly") as one, \
            receive(impatient, kafka, topic, handler="sql:shop.slowly") as two:
        frozen_past_its_lease(one, two, publisher, lambda: handled(shop))
        everything_is_handled_once(shop, publisher)
        eventually(lambda: queue(shop, 0) == [], 30, "the queue being empty")
        handled_by_one = one.metrics()["barid_receive_handled_total"]
        assert handled_by_one > 0


def test_two_receivers_before_a_webhook_and_one_is_frozen_past_its_lease(shop, kafka, topic, publisher):
    """What it had asked for may be asked for again, under the same id; never anything out of its order."""
    impatient = shop + "?options=-c%20idle_in_transaction_session_timeout%3D3s"
    with Hook(lambda *_: 204) as hook, receive(impatient, kafka, topic, handler=hook.url) as one, \
            receive(impatient, kafka, topic, handler=hook.url) as two:
        frozen_past_its_lease(one, two, publisher, lambda: len(hook.came))
        eventually(lambda: queue(shop, 0) == [], 60, "the queue being empty")
        hook.ledger.check(publisher.owed)
        assert set(hook.came) == set(publisher.ids.values())


def test_a_program_that_hangs_floods_and_forks(shop, kafka, topic, publisher, tmp_path):
    """It is killed with what it has started; what it writes and does not read hurts nobody."""
    ledger = tmp_path / "ledger"
    program = tmp_path / "program"
    program.write_text(f"""#!/bin/sh
case "$BARID_KEY" in
hangs) sleep 600 & echo $! > {tmp_path}/child; yes >&2 & sleep 600;;
deaf) exec <&-; head -c 3000000 /dev/zero | tr '\\0' x >&2; echo $BARID_EVENT_ID >> {ledger};;
*) echo $BARID_EVENT_ID >> {ledger};;
esac
""")
    program.chmod(0o755)
    publisher.send("hangs", owe=False)
    publisher.send("deaf", 3, filler="y" * 200000).send("a", 5).flush()
    with receive(shop, kafka, topic, "--attempts", "1", "--handler-timeout", "3s", handler=f"exec:{program}") as receiver:
        eventually(lambda: queue(shop, 1), 30, "the event being parked")
        assert "killed" in queue(shop, 1)[0][2]
        eventually(lambda: not queue(shop, 0), 30, "the others")
        assert len(ledger.read_text().split()) == 8 and receiver.running()
        child = (tmp_path / "child").read_text().strip()
        eventually(lambda: state_of(child) in (None, "Z"), 10, "its child being gone")


def state_of(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return None
