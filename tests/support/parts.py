"""Which parts a server of the tests stands on: its own directory, or PostgreSQL and Kafka, which others may share.

    @pytest.fixture(params=EVERY)                    # the tests run once on each
    def parts(request):
        with on(request.param, request) as chosen:   # servers made meanwhile without `parts` get them
            yield chosen

    shared = Distributed(postgres, kafka)            # several servers on the same
    with Server(parts=shared) as first, Server(parts=shared) as second: …
"""
import contextlib
import uuid

from support import server as server_support

EMBEDDED = "embedded"
DISTRIBUTED = "distributed"
EVERY = (EMBEDDED, DISTRIBUTED)


class Distributed:
    """A database of its own on a PostgreSQL, and topics of its own on a Kafka."""

    def __init__(self, postgres, kafka, url=None):
        """`url`: the database by another way (a pooler)."""
        self.postgres = postgres
        self.kafka = kafka
        self.database = postgres.create_database("chat")
        self.url = url(self.database) if url else self.database
        self.prefix = f"chat-{uuid.uuid4().hex[:12]}."

    def arguments(self):
        return ["--database", self.url, "--bus", f"kafka://{self.kafka.address}?partitions=4&replication=1",
                "--bus-prefix", self.prefix, "--data-store", "postgresql"]

    def value(self, sql, *parameters):
        return self.postgres.value(sql, *parameters, url=self.database)

    def execute(self, sql, *parameters):
        return self.postgres.execute(sql, *parameters, url=self.database)

    def close(self):
        self.postgres.drop_database(self.database)


@contextlib.contextmanager
def on(kind, request):
    """Servers made meanwhile stand on these parts; each has a database and topics of its own."""
    if kind == EMBEDDED:
        yield kind
        return
    postgres, kafka = request.getfixturevalue("postgres"), request.getfixturevalue("kafka")
    before = server_support.PARTS
    server_support.PARTS = lambda: Distributed(postgres, kafka)
    try:
        yield kind
    finally:
        server_support.PARTS = before


@contextlib.contextmanager
def servers_on(parts, count, args=()):
    """So many servers on the same parts, which go with them."""
    with contextlib.ExitStack() as stack:
        stack.callback(parts.close)
        yield [stack.enter_context(server_support.Server(parts=parts, args=args)) for _ in range(count)]
