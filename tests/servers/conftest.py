"""Several servers on one PostgreSQL and one Kafka."""
import contextlib

import pytest

from support.parts import Distributed
from support.server import Server


@contextlib.contextmanager
def servers_on(parts, count, args=()):
    with contextlib.ExitStack() as stack:
        stack.callback(parts.close)
        yield [stack.enter_context(Server(parts=parts, args=args)) for _ in range(count)]


@pytest.fixture(name="three")
def fixture_three(postgres, kafka):
    with servers_on(Distributed(postgres, kafka), 3) as servers:
        yield servers


@pytest.fixture(name="two")
def fixture_two(postgres, kafka):
    with servers_on(Distributed(postgres, kafka), 2) as servers:
        yield servers
