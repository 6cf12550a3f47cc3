"""The bus over AMQP (src/bus/amqp*.c): its own tests, which want a broker, against barid and against RabbitMQ."""
import glob
import importlib.util
import os
import subprocess

import pytest

from support.server import Server, binary

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def brokers():
    spec = importlib.util.spec_from_file_location("brokers", os.path.join(ROOT, "bench", "brokers.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_against(port):
    program = os.path.join(os.path.dirname(binary()), "src", "bus", "amqp_bus_test")
    if not os.path.exists(program):
        pytest.skip("built without rabbitmq-c or without tests")
    env = {**os.environ, "BARID_TEST_AMQP": f"amqp://guest:guest@127.0.0.1:{port}"}
    run = subprocess.run([program], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200,
                         check=False)
    assert run.returncode == 0, run.stdout[-6000:]
    assert "SKIPPED" not in run.stdout, run.stdout[-2000:]


def test_the_bus_over_amqp_keeps_its_promises_on_barid():
    with Server(amqp=True) as server:
        run_against(server.amqp_port)


def rabbitmq_is_here():
    places = ["/usr/lib/rabbitmq/lib/rabbitmq_server-*",
              os.path.join(brokers().BUILD, "rabbitmq", "usr/lib/rabbitmq/lib/rabbitmq_server-*")]
    return any(glob.glob(place) for place in places)


if rabbitmq_is_here():  # bench/side_by_side.py fetches it; `make test` does not want it
    def test_the_bus_over_amqp_keeps_its_promises_on_rabbitmq(tmp_path):
        with brokers().RabbitMQ(str(tmp_path)) as broker:
            run_against(broker.port)
