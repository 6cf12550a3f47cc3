"""A broker for the tests of this folder, and names that no other test uses. `import registry` works."""
import os
import sys
import uuid

import pika
import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from support.server import Server


@pytest.fixture(scope="session")
def port():
    """Where barid listens; with INTEROP_PORT whatever listens there, to see what another broker does."""
    if os.environ.get("INTEROP_PORT"):
        yield int(os.environ["INTEROP_PORT"])
        return
    with Server(amqp=True) as server:
        yield server.amqp_port


@pytest.fixture
def name(request):
    """A name for a queue or an exchange."""
    return f"{request.node.name[:60]}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def parameters(port):
    def of(**more):
        return pika.ConnectionParameters(**{"host": "127.0.0.1", "port": port, "blocked_connection_timeout": 20,
                                            "socket_timeout": 5, "connection_attempts": 1, **more})
    return of


@pytest.fixture
def connect(parameters):
    """Opens blocking connections and closes them when the test ends."""
    opened = []

    def open_one(**more):
        opened.append(pika.BlockingConnection(parameters(**more)))
        return opened[-1]

    yield open_one
    for connection in opened:
        if connection.is_open:
            connection.close()


@pytest.fixture
def channel(connect):
    return connect().channel()
