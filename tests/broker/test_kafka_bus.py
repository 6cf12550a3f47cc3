"""The Kafka bus and a broker that has bad days: what was confirmed arrives, each key in order, and nobody needs to help.

build/src/bus/kafka_bench publishes and consumes at once, and publishes again what was answered as away.
"""
import json
import os
import subprocess
import time

import pytest

from support.kafka import Kafka, KafkaMissing
from support.server import ROOT

BENCH = os.path.join(os.environ.get("BUILD", os.path.join(ROOT, "build")), "src", "bus", "kafka_bench")
SECONDS = 14
RATE = 300
SETTINGS = "create_topics=true&partitions=3&replication=1"


@pytest.fixture(scope="module")
def broker():
    if not os.path.exists(BENCH):
        pytest.skip(f"{BENCH} is not built (meson options tests and kafka)")
    try:
        with Kafka() as kafka:
            yield kafka
    except KafkaMissing as missing:
        pytest.skip(str(missing))


def endure(broker, topic, trouble, settings=""):
    """Runs the load, and trouble() in its midst; gives what it counted."""
    url = f"{broker.url}?{SETTINGS}{settings}"
    with subprocess.Popen([BENCH, url, topic, "endure", str(RATE), str(SECONDS)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as load:
        try:
            deadline = time.monotonic() + 20
            while topic not in broker.topics() or not broker.records(topic, 1, seconds=1):
                assert time.monotonic() < deadline, "the load does not begin"
            trouble()
            out, log = load.communicate(timeout=120)
        finally:
            load.kill()
    counted = json.loads(out.splitlines()[-1])
    assert load.returncode == 0, (counted, log[-3000:])
    assert counted["all"] and counted["refused"] == 0 and counted["disorder"] == 0
    assert counted["received"] == counted["confirmed"] > RATE
    return counted


def test_a_broker_that_is_restarted(broker):
    counted = endure(broker, "restarted", broker.restart)
    assert counted["away"] == 0  # shorter than message.timeout.ms: librdkafka rides it out


def test_a_broker_that_is_killed(broker):
    def trouble():
        broker.kill()
        broker.start()
    endure(broker, "killed", trouble)


def test_a_broker_that_is_away_for_longer_than_a_record_waits(broker):
    def trouble():
        broker.stop()
        time.sleep(6)  # the outage itself
        broker.start()
    counted = endure(broker, "away", trouble, "&message.timeout.ms=2000&request.timeout.ms=1000")
    assert counted["away"] > 0


def test_a_broker_that_is_frozen(broker):
    def trouble():
        broker.freeze()
        time.sleep(6)
        broker.thaw()
    counted = endure(broker, "frozen", trouble, "&message.timeout.ms=3000&request.timeout.ms=1000&socket.timeout.ms=1000")
    assert counted["away"] > 0
