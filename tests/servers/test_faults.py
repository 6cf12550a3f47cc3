"""A server dies, PostgreSQL is restarted, Kafka is restarted, all under load: nothing acknowledged is lost, nothing comes to a
device twice, the receipts are right. The evidence is the clients' own stores (support/faithful.py), and at the end the
database agrees with itself (support/invariants.py)."""
import contextlib
import os
import random
import threading
import time

import pytest

from support.balancer import Balancer
from support.faithful import Faithful, check_ledger, settle
from support.invariants import broken
from support.parts import Distributed
from support.server import Api, Server, eventually

SEED = int(os.environ.get("BARID_SEED", str(time.time_ns() % 1_000_000)))
WINDOW = 4  # messages of a writer in a conversation that not everybody has read yet


@pytest.fixture(name="own")
def fixture_own():
    """A PostgreSQL and a Kafka that may be killed."""
    from support import postgres as postgres_support
    try:
        from support.kafka import Kafka, KafkaMissing
    except ImportError as e:
        pytest.skip(f"no {e.name} (Debian: python3-confluent-kafka)")
    if postgres_support.missing():
        pytest.skip(postgres_support.missing())
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(postgres_support.Postgres())
        try:
            kafka = stack.enter_context(Kafka())
        except KafkaMissing as e:
            pytest.skip(str(e))
        yield postgres, kafka


class World:
    """Two servers; alice at the first, bob at the second, carol everywhere in turn, each with a faithful client."""

    def __init__(self, parts, directory):
        self.parts = parts
        self.directory = str(directory)
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        self.servers = [self.stack.enter_context(Server(parts=self.parts)) for _ in range(2)]
        self.clients = []
        self.alice = self.client("alice", Balancer(self.servers[:1]), "socket")
        self.bob = self.client("bob", Balancer(self.servers[1:]), "socket")
        self.carol = self.client("carol", Balancer(self.servers), "http")
        api = self.alice.api
        self.conversations = [api.conversation(["bob", "carol"])] + [api.conversation(["bob"], title=str(i)) for i in range(3)] \
            + [self.carol.api.conversation(["bob"], title="other")]
        for c in self.clients:
            c.run()
        return self

    def client(self, name, where, over):
        api = Api(where)
        api.add_user(name)
        api.login(name)
        self.clients.append(Faithful(api, self.directory, over))
        return self.clients[-1]

    def __exit__(self, kind, error, trace):
        for c in self.clients:
            c.stop()
        self.stack.__exit__(kind, error, trace)

    def feed(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for client in self.clients:
                for c in self.conversations:
                    if client.api.user_id in c["members"]:
                        self._top_up(client, c)
            time.sleep(0.02)  # the pace of the load

    def _top_up(self, client, c):
        waiting = client.sql("SELECT count(*) FROM outbox o WHERE conversation_id=? AND "
                             "(SELECT count(*) FROM receipts r WHERE r.message_id=o.message_id AND type='read') < ?",
                             c["conversation_id"], len(c["members"]) - 1)[0][0]
        for _ in range(WINDOW - waiting):
            client.write(c["conversation_id"], f"{client.name} {time.monotonic_ns()}")

    def under_load(self, seconds):
        t = threading.Thread(target=self.feed, args=(seconds,))
        t.start()
        return t

    def check(self):
        settle(self.clients, self.conversations, 90)
        check_ledger(self.clients, self.conversations)
        assert not broken(self.parts)
        count = sum(len(c.sent()) for c in self.clients)
        print(f"BARID_SEED={SEED}: {count} messages")
        assert count > 20, "there was load"


def test_a_server_dies_again_and_again(postgres, kafka, tmp_path):
    dice = random.Random(SEED)
    parts = Distributed(postgres, kafka)
    with contextlib.closing(parts), World(parts, tmp_path) as world:
        load = world.under_load(8)
        for i in range(6):
            world.feed(dice.uniform(0.2, 0.9))
            world.servers[i % 2].restart()
        load.join()
        world.check()


def test_postgresql_is_killed_and_comes_back(own, tmp_path):
    postgres, kafka = own
    with World(Distributed(postgres, kafka), tmp_path) as world:
        load = world.under_load(9)
        world.feed(1)
        postgres.kill()
        eventually(lambda: world.servers[0].api().call("GET", "/readyz").status_code == 503, 10, "saying so")
        postgres.start()
        world.feed(1.5)
        postgres.restart()
        load.join()
        eventually(lambda: world.servers[0].api().call("GET", "/readyz").status_code == 200, 20)
        world.check()
        assert all(s.process.poll() is None for s in world.servers)


def test_kafka_is_killed_and_comes_back(own, tmp_path):
    postgres, kafka = own
    with World(Distributed(postgres, kafka), tmp_path) as world:
        load = world.under_load(9)
        world.feed(1)
        kafka.kill()
        world.feed(1)
        kafka.start()
        load.join()
        world.check()
        assert all(s.process.poll() is None for s in world.servers)
