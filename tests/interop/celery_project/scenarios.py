"""What a program that uses the tasks does: run as `scenarios.py NAME [arguments]` by tests/interop/test_celery.py, with
the environment of tasks.py. Each function is one scenario, and ends with an error when something is not as it must be.
"""
import os
import signal
import sys
import threading
import time

import tasks
from celery import chain, chord, group
from tasks import add, app, fail, now, slow, stubborn, total, unlucky, write

SECONDS = 30  # for anything that must come


def notes(name):
    try:
        with open(os.path.join(tasks.NOTES, name), encoding="ascii") as f:
            return f.read().split()
    except FileNotFoundError:
        return []


def wait(condition, what):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def many():
    results = [add.delay(i, i) for i in range(200)]
    assert [r.get(timeout=SECONDS) for r in results] == [2 * i for i in range(200)]
    assert len(set(notes("who"))) == 3, "every worker had some"


def retries():
    assert unlucky.delay(3).get(timeout=SECONDS) == 3


def failure():
    try:
        fail.delay().get(timeout=SECONDS)
    except ValueError as e:
        assert str(e) == "as it must"
    else:
        raise AssertionError("it did not fail")


def countdown():
    begin = time.time()
    assert now.apply_async(countdown=1.5).get(timeout=SECONDS) >= begin + 1.4


def expires():
    write.apply_async(("late", "x"), countdown=1, expires=0.5)
    slow.apply_async((2, "later"))
    wait(lambda: notes("later"), "the task behind it")
    assert notes("late") == []


def workflows():
    assert group(add.s(i, 1) for i in range(20)).apply_async().get(timeout=SECONDS) == [i + 1 for i in range(20)]
    assert chain(add.s(1, 2), add.s(3), add.s(4)).apply_async().get(timeout=SECONDS) == 10


def chords():
    assert chord((add.s(i, i) for i in range(20)), total.s()).apply_async().get(timeout=SECONDS) == 380


def control(count):
    control = app.control
    assert len(control.ping(timeout=3)) == int(count)
    queues = app.control.inspect(timeout=3).active_queues()
    assert len(queues) == int(count) and all(q[0]["name"] == "work" for q in queues.values())
    assert all("tasks.add" in names for names in app.control.inspect(timeout=3).registered().values())


def revoke():
    result = write.apply_async(("revoked", "x"), countdown=2)
    app.control.revoke(result.id)
    slow.apply_async((3, "after"))
    wait(lambda: notes("after"), "the task behind it")
    assert notes("revoked") == []


def events():
    seen, ready = [], threading.Event()

    def listen():
        with app.connection() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": seen.append})
            with receiver.consumer_context(wakeup=False) as (open_connection, _, _):
                ready.set()
                while True:
                    open_connection.drain_events(timeout=SECONDS)

    threading.Thread(target=listen, daemon=True).start()
    assert ready.wait(SECONDS)
    result = add.delay(1, 2)
    result.get(timeout=SECONDS)
    wait(lambda: {"task-sent", "task-received", "task-started", "task-succeeded"} <=
         {e["type"] for e in seen if e.get("uuid") == result.id}, f"events: {[e['type'] for e in seen]}")


def priorities():
    """Before a worker looks at the queue."""
    for priority in (0, 5, 9, 3):
        write.apply_async(("order", str(priority)), queue="urgent", routing_key="urgent", priority=priority)


def in_order():
    wait(lambda: len(notes("order")) == 4, "all four")
    assert notes("order") == ["9", "5", "3", "0"], notes("order")


def topics():
    write.apply_async(("topic", "yes"), exchange="audit", routing_key="audit.of.something")
    write.apply_async(("topic", "no"), exchange="audit", routing_key="other.of.something")
    wait(lambda: notes("topic"), "the one that fits")
    time.sleep(0.5)
    assert notes("topic") == ["yes"]


def killed(*pids):
    """A worker dies with a task in hand; another gets it again."""
    result = stubborn.delay("stubborn")
    wait(lambda: notes("stubborn"), "the first start")
    first = notes("stubborn")[0]
    os.killpg(int(dict(p.split("=") for p in pids)[first.split("@")[0]]), signal.SIGKILL)
    second = result.get(timeout=SECONDS)
    assert second != first and notes("stubborn") == [first, second]


def burst(name):
    for _ in range(200):
        slow.delay(0.02, name)


def all_done(name):
    wait(lambda: len(notes(name)) >= 200, f"{len(notes(name))} of 200")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
