"""Several servers on one PostgreSQL and one Kafka."""
import pytest

from support.parts import Distributed, servers_on


@pytest.fixture(name="three")
def fixture_three(postgres, kafka):
    with servers_on(Distributed(postgres, kafka), 3) as servers:
        yield servers


@pytest.fixture(name="two")
def fixture_two(postgres, kafka):
    with servers_on(Distributed(postgres, kafka), 2) as servers:
        yield servers
