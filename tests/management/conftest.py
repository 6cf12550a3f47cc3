"""One server with AMQP and the management API for a file of tests, and a client of each."""
import uuid

import pika
import pytest

from support.management import Management
from support.server import Server


@pytest.fixture(scope="module")
def server():
    with Server(amqp=True, management=True) as running:
        yield running


@pytest.fixture
def api(server):
    return Management(server)


@pytest.fixture
def name():
    """A name nobody has yet, with characters that need care in a path."""
    return f"n/{uuid.uuid4().hex[:8]} é%"


@pytest.fixture
def amqp(server):
    """Opens connections; they are closed at the end."""
    opened = []

    def connect(**more):
        parameters = pika.ConnectionParameters(port=server.amqp_port, host="127.0.0.1", **more)
        opened.append(pika.BlockingConnection(parameters))
        return opened[-1]

    yield connect
    for connection in opened:
        if connection.is_open:
            connection.close()
