"""What a queue with x-park has set aside: looked at, put back and dropped, over the API and by barid parked --queue."""
import json
import os
import subprocess

import pika
import pytest

from support.management import Management
from support.server import Server, binary, eventually

PERSISTENT = 2


@pytest.fixture
def world():
    with Server(amqp=True, management=True) as server:
        yield World(server)


class World:
    def __init__(self, server):
        self.server = server
        self.connect()

    def connect(self):
        self.api = Management(self.server)
        self.channel = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", self.server.amqp_port)).channel()
        self.channel.confirm_delivery()

    def park(self, queue, *ids, **arguments):
        self.channel.queue_declare(queue, durable=True, arguments={"x-park": True, **arguments})
        for name in ids:
            self.channel.basic_publish("", queue, name.encode(), pika.BasicProperties(delivery_mode=PERSISTENT, message_id=name))
            method, _, _ = eventually(lambda: (got := self.channel.basic_get(queue))[0] and got)
            self.channel.basic_reject(method.delivery_tag, requeue=False)
        eventually(lambda: len(self.parked(queue)) == len(ids), what="parking")

    def parked(self, queue, query=""):
        return self.api.get("parked", "/", queue, query=query)

    def run(self, *words, code=0, **env):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("BARID_")}
        done = subprocess.run([binary(), "parked", *words], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
                              env={**clean, "BARID_BROKER": f"http://127.0.0.1:{self.server.management_port}", **env})
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr

    def bodies(self, queue):
        def got():
            while (message := self.channel.basic_get(queue, auto_ack=True))[0]:
                yield message[2].decode()
        return list(got())


def test_the_reason_and_the_attempts_are_told(world):
    world.park("q", "a", "b")
    first, second = world.parked("q")
    assert (first["message_id"], first["reason"], first["attempts"], first["message_bytes"]) == ("a", "rejected", 1, 1)
    assert first["id"] != second["id"] and first["published_at"] <= first["parked_at"]
    assert [m["message_id"] for m in world.parked("q", "?limit=1&skip=1")] == ["b"]
    assert world.api.get("queues", "/", "q")["messages_parked"] == 2
    for query in ("?limit=1001", "?skip=-1", "?limit=many"):
        world.api.get("parked", "/", "q", query=query, status=400)


def test_spent_attempts_park_with_their_number(world):
    world.channel.queue_declare("q", durable=True, arguments={"x-park": True, "x-delivery-limit": 1})
    world.channel.basic_publish("", "q", b"x", pika.BasicProperties(delivery_mode=PERSISTENT))
    for _ in range(2):
        method, _, _ = eventually(lambda: (got := world.channel.basic_get("q"))[0] and got)
        world.channel.basic_nack(method.delivery_tag, requeue=True)
    parked = eventually(lambda: world.parked("q"))
    assert parked[0]["attempts"] == 2 and parked[0]["reason"] == "given back"


def test_one_is_put_back_and_one_is_dropped_for_good(world):
    world.park("q", "a", "b", "c")
    ids = {m["message_id"]: str(m["id"]) for m in world.parked("q")}
    world.api.post("parked", "/", "q", ids["b"], "retry", status=204)
    world.api.delete("parked", "/", "q", ids["a"])
    world.server.restart()
    world.connect()
    assert [m["message_id"] for m in world.parked("q")] == ["c"]
    assert world.bodies("q") == ["b"]
    world.api.delete("parked", "/", "q", ids["a"], status=404)


def test_a_number_of_another_queue_is_not_touched(world):
    world.park("q", "a")
    world.channel.queue_declare("other")
    number = str(world.parked("q")[0]["id"])
    for queue in ("other", "nowhere"):
        world.api.delete("parked", "/", queue, number, status=404)
        world.api.delete("parked", "/", queue, "1x", status=404)
    assert len(world.parked("q")) == 1


def test_only_readers_may(world):
    world.park("secret", "a")
    world.api.put("users", "ann", password="ann", tags="management")
    world.api.put("permissions", "/", "ann", configure=".*", write=".*", read="^mine")
    ann = Management(world.server, "ann", "ann")
    assert ann.get("parked", "/", "secret", status=401)["error"] == "not_authorised"
    ann.delete("parked", "/", "secret", "all", status=401)
    assert len(world.parked("secret")) == 1


def test_the_command_lists_puts_back_and_drops(world):
    assert world.run("list", "--queue", "q", code=1).strip() == "barid parked: there is no queue q in /"
    world.park("q", "a", "b", "c", "d")
    listed = [json.loads(line) for line in world.run("list", "--queue=q", "--json").splitlines()]
    assert listed == world.parked("q")
    lines = world.run("list", "--queue", "q").splitlines()
    assert lines[0].split() == ["ID", "PARKED", "ATTEMPTS", "MESSAGE", "REASON"] and len(lines) == 5
    assert world.run("drop", str(listed[0]["id"]), "--queue", "q") == f"{listed[0]['id']} dropped\n"
    assert world.run("retry", str(listed[2]["id"]), str(listed[1]["id"]), "--queue", "q").count("retried") == 2
    assert sorted(world.bodies("q")) == ["b", "c"]
    assert world.run("retry", "all", "--queue", "q", "--vhost", "/") == "all retried\n"
    assert world.run("list", "--queue", "q") == "Nothing is parked.\n"
    assert world.bodies("q") == ["d"]
    assert "no such message parked by queue q in /" in world.run("drop", "99", "--queue", "q", code=1)
    assert "wants: ID" in world.run("drop", "--queue", "q", code=2)


def test_many_are_listed_page_by_page_and_dropped_at_once(world):
    arguments = {"x-park": True}
    world.channel.queue_declare("q", durable=True, arguments=arguments)
    plain = world.channel.connection.channel()
    for i in range(2500):
        plain.basic_publish("", "q", b"x", pika.BasicProperties(delivery_mode=PERSISTENT, message_id=str(i)))
    got = []
    for method, _, _ in plain.consume("q", inactivity_timeout=20):
        got.append(method.delivery_tag)
        if len(got) == 2500:
            break
    plain.basic_nack(0, multiple=True, requeue=False)
    eventually(lambda: world.api.get("queues", "/", "q")["messages_parked"] == 2500)
    listed = [json.loads(line)["message_id"] for line in world.run("list", "--queue", "q", "--json").splitlines()]
    assert sorted(listed, key=int) == [str(i) for i in range(2500)]
    world.run("drop", "all", "--queue", "q")
    assert world.parked("q") == [] and world.api.get("queues", "/", "q")["messages_parked"] == 0
