"""A topic for a test, and what those of `barid receive` begin with (support/inbox.py)."""
import uuid

import pytest


@pytest.fixture
def topic(kafka):
    name = f"outbox_{uuid.uuid4().hex[:12]}"
    kafka.create_topic(name)
    yield name
    kafka.delete_topic(name)


@pytest.fixture
def shop(database):
    """The URL of a database with a handler, shop.handle()."""
    from support.courier import rows
    from support.inbox import SCHEMA
    rows(database, SCHEMA)
    return database


@pytest.fixture
def publisher(kafka, topic):
    from support.inbox import Publisher
    return Publisher(kafka, topic)
