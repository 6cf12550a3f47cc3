"""What the tests of `barid receive` share: a handler that writes a ledger and does what its payload tells it to, who produces
events for it, and a webhook.

    with receive(shop, kafka, topic, "--attempts", "1"):     # the fixtures of tests/outbox/conftest.py
        publisher.send("key", 10).flush()
        everything_is_handled_once(shop, publisher)
"""
import http.server
import json
import threading
import uuid

from confluent_kafka import Producer

from support.courier import Ledger, Receive, rows
from support.process import eventually

ROUGH = ["--lease-ms", "1500"]  # who was killed is replaced soon

# Refuses what its payload tells it to; sequences count attempts, since they are not taken back.
SCHEMA = """
create schema shop;
create table shop.ledger (n bigint generated always as identity, event_id uuid, topic text, key text, number int,
    headers jsonb, path text default current_setting('search_path'));
create sequence shop.tries;
create function shop.handle(event_id uuid, topic text, key text, payload jsonb, headers jsonb) returns void
language plpgsql as $$
begin
    if payload ? 'fails' and nextval('shop.tries') <= (payload->>'fails')::int then
        raise exception 'not yet: %', payload->>'number';
    end if;
    if payload ? 'hangs' then perform pg_sleep(60); end if;
    insert into shop.ledger (event_id, topic, key, number, headers)
        values (event_id, topic, key, (payload->>'number')::int, headers);
end $$;
"""


class Publisher:
    """Produces numbered events, and knows what it owes: the numbers of each key in order."""

    def __init__(self, kafka, topic):
        self.topic, self.owed, self.ids = topic, {}, {}
        self.producer = Producer({"bootstrap.servers": kafka.address, "partitioner": "murmur2_random",
                                  "enable.idempotence": True, "linger.ms": 2})

    def send(self, key="k", count=1, event_id=None, headers=None, owe=True, **payload):
        for _ in range(count):
            number = len(self.owed.setdefault(key, []))
            body = json.dumps({"key": key, "number": number, **payload})
            event = event_id or str(uuid.uuid4())
            self.ids[key, number] = event
            self.producer.produce(self.topic, body, key, headers=[("ce_id", event), *(headers or {}).items()])
            if owe:
                self.owed[key].append(number)
        return self

    def flush(self):
        assert self.producer.flush(30) == 0
        return self


def receive(shop, kafka, topic, *args, consumer="receive_invoices", handler="sql:shop.handle"):
    return Receive(shop, f"kafka://{kafka.address}", consumer, topic, handler, *ROUGH, *args)


def handled(shop):
    return rows(shop, "select count(*) from shop.ledger")[0][0]


def ledger_of(shop):
    ledger = Ledger()
    for event, key, number in rows(shop, "select event_id::text, key, number from shop.ledger order by n"):
        ledger.act(event, json.dumps({"key": key, "number": number}))
    return ledger


def queue(shop, state):
    return rows(shop, "select event_id::text, attempts, error from barid.inbox_queue where state = %s order by id", state)


def everything_is_handled_once(shop, publisher, seconds=60):
    owed = sum(map(len, publisher.owed.values()))
    eventually(lambda: handled(shop) >= owed, seconds, f"{owed} events handled")
    ledger_of(shop).check(publisher.owed, once=True)


class Hook:
    """A webhook with a ledger; what `answer` gives for (event id, how often it came) is the status, None: no answer."""

    def __init__(self, answer, port=0):
        hook = self
        self.ledger, self.came, self.lock = Ledger(), {}, threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                event = self.headers["ce-id"]
                with hook.lock:
                    hook.came[event] = hook.came.get(event, 0) + 1
                    status = answer(event, hook.came[event])
                    assert self.headers["Idempotency-Key"] == event
                    hook.ledger.act(event, body)
                if status is None:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
