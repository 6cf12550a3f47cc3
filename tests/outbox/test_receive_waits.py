"""`barid receive` and events that have to wait for long before their next attempt: they wait in the table, and others flow."""
import http.server
import json
import threading
import time

from support.courier import Ledger, rows
from support.inbox import everything_is_handled_once, handled, queue, receive
from support.server import eventually

KEYS = 10000  # more than a process has room for
CONSUMER = "receive_invoices"


def test_many_keys_that_wait_for_an_hour_do_not_hold_up_others(shop, kafka, topic, publisher):
    with receive(shop, kafka, topic) as receiver:  # for the tables
        receiver.stop()
    rows(shop, "insert into barid.inbox_queue (consumer, event_id, topic, key, payload, attempts, next_at) "
               "select %s, gen_random_uuid(), 't', 'late' || mod(g, %s), convert_to('{\"number\": ' || g / %s || '}', 'UTF8'), "
               "case when g < %s then 1 else 0 end, case when g < %s then now() + interval '1 hour' end "
               "from generate_series(0, 3 * %s - 1) g", CONSUMER, KEYS, KEYS, KEYS, KEYS, KEYS)
    with receive(shop, kafka, topic) as receiver:
        publisher.send("a", 200).send("b", 200).flush()
        everything_is_handled_once(shop, publisher)
        eventually(lambda: receiver.metrics()["barid_receive_in_memory"] == 0, 20, "memory being for what is due")
        assert len(queue(shop, 0)) == 3 * KEYS
        # Some of them are due.
        rows(shop, "update barid.inbox_queue set next_at = now() + interval '3 seconds' where key like 'late12%%' and attempts = 1")
        publisher.send("a", 1).flush()
        eventually(lambda: handled(shop) == 401 + 3 * 111, 30, "those of the keys that are due")
        late = rows(shop, "select array_agg(number order by n) from shop.ledger where key like 'late%%' group by key")
        assert all(numbers == ([0, 1, 2],) for numbers in late), "in the order of their keys"


class Slow(threading.Thread):
    """A webhook that wants each key's first event again after some seconds."""

    def __init__(self, seconds):
        slow = self
        super().__init__(daemon=True)
        self.ledger, self.met, self.lock = Ledger(), {}, threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                key = json.loads(body)["key"]
                with slow.lock:
                    times = slow.met.setdefault(key, [])
                    times.append(time.monotonic())
                    refused = key.startswith("slow") and len(times) == 1
                    if not refused:
                        slow.ledger.act(self.headers["ce-id"], body)
                self.send_response(429 if refused else 204)
                if refused:
                    self.send_header("Retry-After", str(seconds))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def run(self):
        self.server.serve_forever(0.05)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def test_what_is_wanted_later_waits_in_the_table_and_comes_in_time(shop, kafka, topic, publisher):
    keys = [f"slow{n}" for n in range(20)]
    for key in keys:
        publisher.send(key, 3)
    publisher.send("quick", 20).flush()
    with Slow(5) as hook, receive(shop, kafka, topic, handler=hook.url) as receiver:
        eventually(lambda: len(hook.met) == 21 and len(hook.met["quick"]) == 20, 30, "the first attempts")
        eventually(lambda: receiver.metrics()["barid_receive_in_memory"] == 0, 4, "them waiting in the table")
        eventually(lambda: not queue(shop, 0), 30, "the queue being empty")
        hook.ledger.check(publisher.owed, once=True)
        for key in keys:
            first, second = hook.met[key][:2]
            assert 5 <= second - first < 15, "after what was wanted, and not long after"
        assert receiver.metrics()["barid_receive_failed_total"] == 20
