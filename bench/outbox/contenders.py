"""Who brings events from a database to Kafka: `barid relay`, and Debezium (debezium.py). All have the same face.

    with Barid(servers, url) as contender:
        contender.pid, contender.stored_by
        contender.freeze(); …a backlog…; contender.thaw()
"""
import os
import signal

from debezium import Debezium
from support.courier import Receive, Relay


class Barid:
    name = "barid relay"
    stored_by = "publish"
    fills_by = "rows"  # how a backlog is stored
    logical = False

    def __init__(self, servers, url):
        self.relay = Relay(url, servers.kafka.url)

    def __enter__(self):
        self.relay.start()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.relay.stop()  # in good order: the next one need not wait for its leases to run out
        self.relay.close()

    @property
    def pid(self):
        return self.relay.process.pid

    def freeze(self):
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self):
        os.kill(self.pid, signal.SIGCONT)


class Router(Debezium):
    """Debezium, tuned."""
    name = "Debezium"
    fills_by = "plain"
    logical = True

    def freeze(self):
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self):
        os.kill(self.pid, signal.SIGCONT)


class StandardRouter(Router):
    """Debezium with its standard settings."""
    name = "Debezium, standard settings"

    def __init__(self, servers, url):
        super().__init__(servers, url, tuned=False)


CONTENDERS = {"barid": Barid, "debezium": Router, "debezium-standard": StandardRouter}
__all__ = ["CONTENDERS", "Barid", "Receive", "Router", "StandardRouter"]
