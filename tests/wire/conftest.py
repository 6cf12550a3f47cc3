"""One server for all of these tests: whatever bytes one of them sends must not disturb the next."""
import pytest

from support.amqp import Raw
from support.server import Server


@pytest.fixture(scope="session")
def server():
    with Server(amqp=True) as s:
        pid = s.process.pid
        yield s
        assert s.process.poll() is None and s.process.pid == pid, "it lives"
        with Raw(s.amqp_port).open() as raw:
            raw.channel(1)


@pytest.fixture
def raw(server):
    """Logged in, without a channel."""
    with Raw(server.amqp_port) as r:
        yield r.open()


@pytest.fixture
def ch(raw):
    """Logged in, with channel 1."""
    return raw.channel(1)


@pytest.fixture
def stranger(server):
    """Connected; has said nothing yet."""
    with Raw(server.amqp_port) as r:
        yield r
