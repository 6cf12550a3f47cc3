"""`barid receive` with a real PostgreSQL and a real Kafka: the receiving half of the seed, step by step.

The first three tests have the names of the seed's words: consume, handle, notify the handler. What was acted on is counted
in a ledger: a table for functions, a list for webhooks, a file for programs.
"""
import json
import socket
import subprocess
import threading
import uuid

import psycopg2
import pytest

from confluent_kafka import Consumer, KafkaException, TopicPartition

from support.courier import rows
from support.inbox import Hook, everything_is_handled_once, handled, queue, receive
from support.process import binary, eventually

PARTITIONS = 4  # of a topic (Kafka.create_topic)


# ---- the seed's words

def test_consume(shop, kafka, topic, publisher):
    """Taken in once, with the offsets in the same transaction, then committed to Kafka; whoever handles may be away."""
    for key in "abc":
        publisher.send(key, 100, headers={"traceparent": "00-ab"})
    publisher.flush()
    with receive(shop, kafka, topic, handler="http://127.0.0.1:1/") as receiver:
        eventually(lambda: len(queue(shop, 0)) == 300, 30, "300 events in the queue")
        assert rows(shop, "select count(*), count(distinct event_id) from barid.inbox where consumer = 'receive_invoices'") == [(300, 300)]
        assert rows(shop, "select sum(next_offset)::int from barid.offsets where consumer = 'receive_invoices'") == [(300,)]
        stored = dict(rows(shop, "select partition, next_offset from barid.offsets"))
        eventually(lambda: {p: o for p, o in kafka.committed("receive_invoices", topic).items() if o > 0} == stored, 30, "Kafka told")
        event = rows(shop, "select event_id::text, topic, payload, headers, place, published_at > now() - interval '1 minute' "
                           "from barid.inbox_queue where key = 'b' order by id limit 1")[0]
        assert event[0] == publisher.ids["b", 0] and event[1] == topic and json.loads(bytes(event[2]))["number"] == 0
        assert event[3]["traceparent"] == "00-ab" and event[4].startswith(topic + "/") and event[5]
        assert receiver.metrics()["barid_receive_received_total"] == 300
        assert all(attempts == 0 for _, attempts, _ in queue(shop, 0))  # away costs none


def test_handle(shop, kafka, topic, publisher):
    """Each once, in the order of its key, in the transaction that takes it out of the queue; by the role's own path."""
    with receive(shop, kafka, topic) as receiver:
        for _ in range(50):
            for key in "abcdefgh":
                publisher.send(key, 5)
        publisher.flush()
        everything_is_handled_once(shop, publisher)
        eventually(lambda: receiver.metrics()["barid_receive_handled_total"] == 2000, 20, "the metrics")
        assert rows(shop, "select count(*) from barid.inbox_queue") == [(0,)]
        assert rows(shop, "select distinct path from shop.ledger") == [('"$user", public',)]
        assert receiver.stop() == 0


def test_notify_handler(shop, kafka, topic):
    """What any process takes in wakes the handlers of all, without anybody looking."""
    with receive(shop, kafka, topic, "--safety-check-ms", "3600000") as receiver:
        eventually(lambda: receiver.metrics()["barid_receive_leases"] == 64, 20, "the leases")
        for number in range(3):
            rows(shop, "insert into barid.inbox_queue (consumer, event_id, topic, key, payload) values "
                       "('receive_invoices', gen_random_uuid(), 't', 'k', convert_to(%s, 'UTF8'))", json.dumps({"number": number}))
            eventually(lambda: handled(shop) == number + 1, 5, "the event being handled")


# ---- handlers that fail

def test_a_function_that_fails_at_first_holds_its_key(shop, kafka, topic, publisher):
    publisher.send("k", fails=5).send("k", 5).send("other", 5).flush()  # calls: alone, and in batches
    with receive(shop, kafka, topic, "--attempts", "100"):
        everything_is_handled_once(shop, publisher)
        assert queue(shop, 0) == queue(shop, 1) == []


def test_a_handler_that_fails_always_parks_and_others_flow(shop, kafka, topic, publisher):
    publisher.send("k", fails=1000000)
    publisher.send("k", 20).send("other", 200).flush()
    publisher.owed["k"] = publisher.owed["k"][1:]
    with receive(shop, kafka, topic) as receiver:
        everything_is_handled_once(shop, publisher)
        parked = queue(shop, 1)
        assert parked == [(publisher.ids["k", 0], 3, "not yet: 0 (SQLSTATE P0001)")]
        eventually(lambda: receiver.metrics()["barid_receive_parked"] == 1, 20, "the metrics")
        rows(shop, "select setval('shop.tries', 10000000)")
        number = rows(shop, "select id from barid.inbox_queue")[0][0]
        subprocess.run([binary(), "parked", "retry", str(number), "--database", shop, "--inbox", "receive_invoices"], check=True,
                       capture_output=True)
        eventually(lambda: handled(shop) == 221, 20, "the parked event, sent on")


def test_a_handler_that_hangs(shop, kafka, topic, publisher):
    publisher.send("k", hangs=1, owe=False).flush()
    publisher.owed["other"] = []
    publisher.send("other", 100).flush()
    with receive(shop, kafka, topic, "--handler-timeout", "300ms", "--attempts", "2"):
        eventually(lambda: queue(shop, 1), 30, "the event being parked")
        everything_is_handled_once(shop, publisher)
        assert "statement timeout" in queue(shop, 1)[0][2]


def test_a_handler_that_fails_twice_then_succeeds(shop, kafka, topic, publisher):
    publisher.send("k", 5).send("other", 5).flush()
    with Hook(lambda event, times: 503 if times <= 2 and event == publisher.ids["k", 0] else 200) as hook, \
            receive(shop, kafka, topic, handler=hook.url) as receiver:
        eventually(lambda: len(hook.came) == 10 and queue(shop, 0) == [], 30, "all events handled")
        assert receiver.metrics()["barid_receive_failed_total"] == 2
        assert hook.came[publisher.ids["k", 0]] == 3 and sum(hook.came.values()) == 12
        hook.ledger.check(publisher.owed)  # those behind it waited
        assert queue(shop, 1) == []


def test_a_webhook_that_dies_after_its_action_is_asked_again_with_the_same_id(shop, kafka, topic, publisher):
    publisher.send("k", 10).send("other", 10).flush()
    with Hook(lambda event, times: None if times == 1 and event == publisher.ids["k", 3] else 204) as hook, \
            receive(shop, kafka, topic, handler=hook.url):
        eventually(lambda: len(hook.came) == 20, 30, "all events asked for")
        eventually(lambda: queue(shop, 0) == [], 30, "the queue being empty")
        assert hook.came[publisher.ids["k", 3]] == 2 and sum(hook.came.values()) == 21
        hook.ledger.check(publisher.owed)


def test_what_a_webhook_does_not_want_is_parked_at_once(shop, kafka, topic, publisher):
    publisher.send("k", 3).flush()
    with Hook(lambda event, times: 422 if event == publisher.ids["k", 1] else 200) as hook, \
            receive(shop, kafka, topic, handler=hook.url):
        eventually(lambda: queue(shop, 1), 30, "the event being parked")
        eventually(lambda: queue(shop, 0) == [], 30, "the queue being empty")
        assert queue(shop, 1) == [(publisher.ids["k", 1], 1, "HTTP 422")]
        assert sum(hook.came.values()) == 3


def test_a_webhook_that_is_not_there(shop, kafka, topic, publisher):
    """No attempt is spent, and it is said; once the server is there everything is handled."""
    publisher.send("k", 5).send("other", 5).flush()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and not listening
        port = nobody.getsockname()[1]
        receiver = receive(shop, kafka, topic, handler=f"http://127.0.0.1:{port}/").start()
    try:
        eventually(lambda: "handler_away" in receiver.log(), 30, "the log telling of it")
        eventually(lambda: receiver.metrics()["barid_receive_handler_away"] == 1, 10, "the metrics telling of it")
        eventually(lambda: len(queue(shop, 0)) == 10, 30, "all events waiting")
        with Hook(lambda event, times: 200, port) as hook:
            eventually(lambda: queue(shop, 0) == [], 30, "all events handled")
            assert receiver.metrics()["barid_receive_failed_total"] == 0 and sum(hook.came.values()) == 10
            assert "handler_back" in receiver.log()
            hook.ledger.check(publisher.owed, once=True)
    finally:
        receiver.close()


def test_killed_after_the_programs_action_it_runs_again_with_the_same_id(shop, kafka, topic, publisher, tmp_path):
    publisher.send("k", 5).flush()
    ledger = tmp_path / "ledger"
    with receive(shop, kafka, topic, handler=f"exec:echo $BARID_EVENT_ID $BARID_ATTEMPT >> {ledger}") as receiver:
        receiver.stop()
        receiver.start(env={"BARID_CRASH_AT": "receive.handled:3"}, wait=False)
        assert receiver.wait_exit(30) == -9
        receiver.start()
        eventually(lambda: queue(shop, 0) == [], 30, "the queue being empty")
        ran = [line.split()[0] for line in ledger.read_text().splitlines()]
        expected = [publisher.ids["k", number] for number in range(5)]
        assert list(dict.fromkeys(ran)) == expected
        assert len(ran) > 5, "nothing was written down of the third"


# ---- delivery

def test_duplicate_delivery(shop, kafka, topic, publisher):
    publisher.send("k", 3)
    for number in range(3):
        publisher.send("k", event_id=publisher.ids["k", number], owe=False)
    publisher.flush()
    with receive(shop, kafka, topic) as receiver:
        eventually(lambda: receiver.metrics()["barid_receive_duplicates_total"] == 3, 30, "the duplicates")
        publisher.owed["k"] = [0, 1, 2]
        everything_is_handled_once(shop, publisher)


def test_an_event_that_cannot_be_stored(shop, kafka, topic, publisher):
    """Parked on the broker's side with the reason; what stands behind it in its partition goes on."""
    with receive(shop, kafka, topic, consumer=topic) as receiver:
        event = str(uuid.uuid4())
        publisher.producer.produce(topic, b"{}", b"k", partition=0, headers=[("ce_id", event), ("large", b"x" * 70000)])
        for number in range(20):
            publisher.producer.produce(topic, json.dumps({"key": "after", "number": number}), "after", partition=0,
                                       headers=[("ce_id", str(uuid.uuid4()))])
        publisher.owed["after"] = list(range(20))
        publisher.flush()
        everything_is_handled_once(shop, publisher)
        eventually(lambda: receiver.metrics()["barid_receive_unstorable_total"] == 1, 10, "the metrics")
        [parked] = kafka.records(f"{topic}.parked", 1)
        assert (parked.key(), parked.value(), dict(parked.headers())["ce_id"]) == (b"k", b"{}", event.encode())
        assert "headers have more than 65536 bytes" in str(dict(parked.headers()))
    kafka.delete_topic(f"{topic}.parked")


def test_what_is_no_text_is_stored_as_text(shop, kafka, topic, publisher):
    """Keys as digits, so that different ones stay different; headers not at all."""
    for key in (b"\xff\xfe", b"\xff\xfd", b"a\0b"):
        publisher.producer.produce(topic, b'{"number": 1}', key, headers=[("no_text", b"\xff"), ("text", b"yes")])
    publisher.flush()
    with receive(shop, kafka, topic):
        eventually(lambda: handled(shop) == 3, 30, "all of them handled")
        assert rows(shop, "select key, headers->>'text', headers ? 'no_text' from shop.ledger order by key") == \
            [("0x610062", "yes", False), ("0xfffd", "yes", False), ("0xfffe", "yes", False)]


@pytest.mark.parametrize("point", ["receive.taken:2", "receive.stored:2"])
def test_killed_around_the_transaction_nothing_is_lost_or_doubled(shop, kafka, topic, publisher, point):
    with receive(shop, kafka, topic) as receiver:
        receiver.stop()
        receiver.start(env={"BARID_CRASH_AT": point})
        publisher.send("a", 20).flush()
        eventually(lambda: handled(shop) > 0 or not receiver.running(), 30, "the first events")
        publisher.send("a", 200).send("b", 200).flush()
        assert receiver.wait_exit(60) == -9
        receiver.start()
        everything_is_handled_once(shop, publisher)


def forget(consumer, topic):
    """Sets a group back to the beginning; refused as long as a member's leaving is on its way."""
    try:
        return consumer.commit(offsets=[TopicPartition(topic, p, 0) for p in range(PARTITIONS)], asynchronous=False)
    except KafkaException:
        return None


def test_the_stored_offset_wins(shop, kafka, topic, publisher):
    with receive(shop, kafka, topic) as receiver:
        publisher.send("a", 100).send("b", 100).flush()
        everything_is_handled_once(shop, publisher)
        receiver.stop()
        consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": "receive_invoices"})
        eventually(lambda: forget(consumer, topic), 30, "Kafka having forgotten how far we were")
        consumer.close()
        publisher.send("a", 10).flush()
        receiver.start()
        everything_is_handled_once(shop, publisher)
        assert receiver.metrics()["barid_receive_received_total"] == 10
        assert receiver.metrics()["barid_receive_duplicates_total"] == 0


def test_a_topic_that_begins_again(shop, kafka, topic, publisher):
    with receive(shop, kafka, topic) as receiver:
        publisher.send("a", 100).flush()
        everything_is_handled_once(shop, publisher)
        receiver.stop()
        rows(shop, "update barid.offsets set next_offset = next_offset + 1000000")
        publisher.send("a", 10).flush()
        receiver.start()
        everything_is_handled_once(shop, publisher)
        eventually(lambda: rows(shop, "select max(next_offset) from barid.offsets where next_offset < 1000000")[0][0] == 110, 20,
                   "the offset of the new beginning")
        assert receiver.metrics()["barid_receive_offset_resets_total"] == 1
        assert receiver.metrics()["barid_receive_duplicates_total"] == 100


def test_a_rebalance_mid_batch(shop, kafka, topic, publisher):
    """A second process joins, and the first is killed, while events come."""
    keys = [f"k{i}" for i in range(20)]
    with receive(shop, kafka, topic) as one, receive(shop, kafka, topic) as two:
        two.stop()
        ended = threading.Event()
        failed = []

        def produce():
            try:
                for _ in range(100):
                    for key in keys:
                        publisher.send(key)
                    publisher.flush()
                    ended.wait(0.01)
            except Exception as e:
                failed.append(e)

        producing = threading.Thread(target=produce)
        producing.start()
        eventually(lambda: handled(shop) > 100, 30, "the first events")
        two.start()
        eventually(lambda: handled(shop) > 500, 60, "more events")
        one.kill9()
        producing.join()
        assert not failed
        everything_is_handled_once(shop, publisher, 90)


def test_connections_to_the_database_break(shop, kafka, topic, publisher):
    with receive(shop, kafka, topic):
        for _ in range(20):
            publisher.send("a", 50).send("b", 50).flush()
            rows(shop, "select count(pg_terminate_backend(pid)) from pg_stat_activity "
                       "where datname = current_database() and pid <> pg_backend_pid()")
        everything_is_handled_once(shop, publisher)


# ---- the rest

def test_status_tells_receivers_apart(shop, kafka, topic):
    with receive(shop, kafka, topic) as one, receive(shop, kafka, topic, "--name", "the other") as two:
        eventually(lambda: one.metrics()["barid_receive_leases"] == two.metrics()["barid_receive_leases"] == 32, 20, "both sharing")
        said = json.loads(subprocess.run([binary(), "status", "--database", shop, "--json"], check=True, capture_output=True).stdout)
        [members] = [queue["members"] for queue in said["queues"] if queue["queue"] == "inbox:receive_invoices"]
        assert {member["name"] for member in members} == {f"{socket.gethostname()}:{one.process.pid}", "the other"}


def test_ids_are_forgotten_in_time_but_not_of_parked_events(shop, kafka, topic, publisher):
    publisher.send("k", 20).send("bad", fails=1000000, owe=False).flush()
    publisher.owed["bad"] = []
    with receive(shop, kafka, topic, "--remember", "1s", "--forget-every-ms", "100", "--attempts", "1"):
        everything_is_handled_once(shop, publisher)
        eventually(lambda: rows(shop, "select event_id::text from barid.inbox") == [(publisher.ids["bad", 0],)], 20,
                   "only the parked event's id being known")


def test_the_id_of_what_was_parked_for_long_is_known_for_long_after(shop, kafka, topic, publisher):
    publisher.send("bad", fails=1000000, owe=False).flush()
    with receive(shop, kafka, topic, "--attempts", "1"):
        eventually(lambda: queue(shop, 1), 30, "the event being parked")
    rows(shop, "update barid.inbox set received_at = received_at - interval '8 days'")
    rows(shop, "update barid.inbox_queue set stored_at = stored_at - interval '8 days'")
    with receive(shop, kafka, topic, "--forget-every-ms", "100"):
        eventually(lambda: rows(shop, "select received_at > clock_timestamp() - interval '1 hour' from barid.inbox") == [(True,)],
                   20, "its seven days beginning anew")


@pytest.mark.parametrize("create,handler,said", [
    ("select 1", "sql:shop.nothing", "no function shop.nothing"),
    ("create function shop.odd(text) returns void language sql as ''", "sql:shop.odd", "there is shop.odd(text)"),
    ("create function shop.handle(uuid, text, text, bytea, jsonb) returns void language sql as ''", "sql:shop.handle",
     "several functions fit"),
    ("create function shop.strict(uuid, text, text, bytea, jsonb) returns void strict language sql as ''", "sql:shop.strict",
     "STRICT"),
])
def test_a_function_that_does_not_fit_is_told_at_the_start(shop, kafka, topic, create, handler, said):
    with psycopg2.connect(shop) as connection, connection.cursor() as cursor:
        cursor.execute(create)
    receiver = receive(shop, kafka, topic, handler=handler)
    receiver.start(wait=False)
    assert receiver.wait_exit(30) == 1
    assert said in receiver.log()
