"""Puts tests/ on the path, so that tests say `from support.server import Server`; and the servers that tests share.

    def test_something(postgres, kafka):
        url = postgres.create_database()

    def test_something_else(database):       # a URL; the database is empty, and dropped afterwards
"""
import os
import sys

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from support.services import ServiceMissing, Services  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "embedded: looks into a server's directory; not for PostgreSQL and Kafka")


@pytest.fixture(scope="session")
def services():
    with Services() as shared:
        yield shared


@pytest.fixture(scope="session")
def postgres(services):
    """The PostgreSQL of this run (support/postgres.py). Do not stop it: start a Postgres() of your own for that."""
    try:
        return services.postgres()
    except ServiceMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def kafka(services):
    """The Kafka of this run (support/kafka.py). Do not stop it: start a Kafka() of your own for that."""
    try:
        return services.kafka()
    except ServiceMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def database(postgres):
    """The URL of an empty database of the test's own."""
    with postgres.database() as url:
        yield url


@pytest.fixture
def bouncer(postgres):
    """A pooler in transaction mode before the PostgreSQL of this run: bouncer.url(database)."""
    from support.postgres import PgBouncer, missing_bouncer
    if missing_bouncer():
        pytest.skip(missing_bouncer())
    with PgBouncer(postgres) as pooler:
        yield pooler
