"""Start, kill and freeze a real `barid relay` and `barid receive`, store events, and keep the ledger of what came.

    with Relay(database_url, f"kafka://{kafka.address}") as relay, Receive(url, …, consumer="c", topic="t", handler="…"):
        source = Source(database_url, topic)
        source.store(key="k1", count=10)           # one transaction
        eventually(lambda: source.waiting() == 0)

A process (support/process.py) says where its metrics are before it says `ready`.
"""
import collections
import json
import threading
import uuid

import psycopg2
import requests

from confluent_kafka import Consumer

from support.process import Process, eventually


class Courier(Process):
    """A relay or a receiver, with its metrics."""

    def __init__(self, command, args, env=None):
        super().__init__(command, env)
        self.args = list(args)
        self.metrics_url = None

    def command_line(self):
        return [*super().command_line(), "--metrics", "127.0.0.1:0", *self.args]

    def on_line(self, line):
        if line.startswith("metrics "):
            self.metrics_url = line.split()[1]

    def metrics(self):
        """{name: value}; the values of a name with labels are added up."""
        values = collections.defaultdict(float)
        for line in requests.get(self.metrics_url, timeout=10).text.splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name.split("{")[0]] += float(value)
        return values

    def ask(self, path):
        """(status, text) of the door that metrics have."""
        answer = requests.get(self.metrics_url.replace("/metrics", path), timeout=10)
        return answer.status_code, answer.text


class Relay(Courier):
    def __init__(self, database, to, *args, env=None):
        super().__init__("relay", ["--database", database, "--to", to, *args], env)


class Receive(Courier):
    def __init__(self, database, source, consumer, topic, handler, *args, env=None):
        super().__init__("receive", ["--database", database, "--from", source, "--consumer", consumer, "--topic", topic,
                                     "--handler", handler, *args], env)


def rows(database, sql, *values):
    """What one statement gives, in a transaction of its own."""
    connection = psycopg2.connect(database)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


class Source:
    """Stores numbered events, and knows what it owes: the numbers of each key in order."""

    def __init__(self, database, topic):
        self.database, self.topic = database, topic
        self.owed = collections.defaultdict(list)  # key -> numbers, in the order of storing
        self.connection = psycopg2.connect(database)

    def close(self):
        self.connection.close()

    def reconnect(self):
        """After the database went away; waits until it is there."""
        self.connection.close()
        self.connection = eventually(self._connect, 30, "the database being there")

    def _connect(self):
        try:
            return psycopg2.connect(self.database)
        except psycopg2.OperationalError:
            return None

    def store(self, key="k", count=1, size=0, topic=None, headers=None):
        """`count` events of one key in one transaction; their ids. The payload is {"key": …, "number": …}."""
        ids = []
        with self.connection, self.connection.cursor() as cursor:
            first = len(self.owed[key])
            for number in range(first, first + count):
                payload = json.dumps({"key": key, "number": number, **({"pad": "x" * size} if size else {})})
                cursor.execute("select barid.publish(%s, %s, %s, %s)",
                               (topic or self.topic, key, payload, json.dumps(headers) if headers else None))
                ids.append(cursor.fetchone()[0])
        self.owed[key] += range(first, first + count)
        return ids

    def waiting(self):
        return rows(self.database, "select count(*) from barid.outbox where state = 0")[0][0]

    def parked(self):
        return rows(self.database, "select event_id::text, attempts, error from barid.outbox where state <> 0 order by id")


class Ledger:
    """What was acted on: (event id, payload) in the order of acting. Repeats are kept, so that they can be counted."""

    def __init__(self):
        self.seen = []

    def act(self, event_id, payload):
        self.seen.append((uuid.UUID(str(event_id)), json.loads(payload)))

    def by_key(self):
        """key -> numbers in the order of their first coming."""
        keys, met = collections.defaultdict(list), set()
        for event_id, payload in self.seen:
            if event_id not in met:
                met.add(event_id)
                keys[payload["key"]].append(payload["number"])
        return keys

    def check(self, owed, once=False):
        """Everything that is owed came, key by key in order; `once`: and nothing came twice."""
        keys = self.by_key()
        for key, numbers in owed.items():
            assert keys[key] == list(numbers), f"key {key}: {keys[key][:20]}… instead of {list(numbers)[:20]}…"
        if once:
            assert len(self.seen) == sum(len(numbers) for numbers in owed.values()), "something was acted on twice"


class Tap:
    """Reads everything on a topic of Kafka into a ledger, on a thread of its own."""

    def __init__(self, kafka, topic):
        self.ledger = Ledger()
        self.consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": f"tap-{uuid.uuid4()}",
                                  "auto.offset.reset": "earliest", "enable.auto.commit": False})
        self.consumer.subscribe([topic])
        self.ended = threading.Event()
        self.failed = None
        self.thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, error, trace):
        self.ended.set()
        self.thread.join()
        self.consumer.close()

    def _read(self):
        try:
            while not self.ended.is_set():
                message = self.consumer.poll(0.1)
                if message is not None and message.error() is None:
                    self.ledger.act(dict(message.headers())["ce_id"].decode(), message.value())
        except Exception as e:  # told by whoever waits for what does not come
            self.failed = e

    def distinct(self):
        """How many different events came."""
        assert self.failed is None, self.failed
        return len({event_id for event_id, _ in list(self.ledger.seen)})
