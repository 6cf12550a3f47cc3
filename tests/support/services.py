"""The PostgreSQL and the Kafka that many tests share, and what is missing when there is none.

    with Services() as services:
        services.postgres()      # a PostgresServer: started when first asked for, or the one of BARID_TEST_POSTGRES=URL
        services.kafka()         # a Kafka: the same with BARID_TEST_KAFKA=HOST:PORT; takes some seconds to start
        services.environment()   # both variables, for programs that are to use the same servers

ServiceMissing says by name what the machine lacks. Tests take the fixtures `postgres` and `kafka` of conftest.py, which
skip then. They must leave a shared server running: who kills or freezes one starts a `Postgres()` or `Kafka()` itself.
"""
import os

from support import postgres as postgres_support

POSTGRES = "BARID_TEST_POSTGRES"
KAFKA = "BARID_TEST_KAFKA"


class ServiceMissing(Exception):
    """What a test needs and this machine has not."""


class Services:
    def __init__(self):
        self.started = {}  # name -> the server, or the ServiceMissing that came of it
        self.ours = []     # what we end

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        while self.ours:
            self.ours.pop().close()
        self.started.clear()

    def _once(self, name, start):
        if name not in self.started:
            try:
                self.started[name] = start()
            except ServiceMissing as missing:
                self.started[name] = missing
        if isinstance(self.started[name], ServiceMissing):
            raise self.started[name]
        return self.started[name]

    def postgres(self):
        return self._once(POSTGRES, self._start_postgres)

    def kafka(self):
        return self._once(KAFKA, self._start_kafka)

    def _start_postgres(self):
        if os.environ.get(POSTGRES):
            return postgres_support.PostgresServer(os.environ[POSTGRES])
        lacking = postgres_support.missing()
        if lacking:
            raise ServiceMissing(lacking)
        self.ours.append(postgres_support.Postgres())
        return self.ours[-1]

    def _start_kafka(self):
        try:
            import confluent_kafka  # noqa: F401
            from support.kafka import Kafka, KafkaMissing
        except ImportError as e:
            raise ServiceMissing(f"no {e.name} (Debian: python3-confluent-kafka)") from None

        class RunningKafka(Kafka):
            """One that somebody else starts and stops."""

            def __init__(self, address):
                self.given, self.process = address, None

            @property
            def address(self):
                return self.given

        if os.environ.get(KAFKA):
            return RunningKafka(os.environ[KAFKA])
        try:
            broker = Kafka()
            self.ours.append(broker)
            broker.start()
        except KafkaMissing as e:
            raise ServiceMissing(str(e)) from None
        return broker

    def environment(self):
        """What runs by now, as variables for other programs."""
        found = {}
        if isinstance(self.started.get(POSTGRES), postgres_support.PostgresServer):
            found[POSTGRES] = self.started[POSTGRES].url()
        if KAFKA in self.started and not isinstance(self.started[KAFKA], ServiceMissing):
            found[KAFKA] = self.started[KAFKA].address
        return found
