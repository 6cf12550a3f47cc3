"""The load programs do what their figures say: `barid bench amqp`, amqp_load (rabbitmq-c), and the side-by-side run."""
import json
import os
import subprocess
import sys

import pytest

from support.server import ROOT, Server, binary

AMQP_LOAD = os.path.join(os.path.dirname(binary()), "bench", "amqp_load")
CLIENTS = {"barid": [binary(), "bench", "amqp"], "rabbitmq-c": [AMQP_LOAD]}


@pytest.fixture(scope="module", name="server")
def one_server():
    with Server(amqp=True) as server:
        yield server


@pytest.fixture(params=list(CLIENTS), name="load")
def load_program(request, server):
    """load(*options) -> the figures."""
    command = CLIENTS[request.param]
    if not os.path.exists(command[0]):
        pytest.skip(f"{command[0]} is not built")

    def run(*options):
        done = subprocess.run(command + ["--url", f"amqp://guest:guest@127.0.0.1:{server.amqp_port}/%2F", "--json"]
                              + [str(o) for o in options], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        figures = json.loads(done.stdout)
        assert figures["client"] == request.param
        return figures
    return run


def test_all_that_is_published_is_consumed(load):
    figures = load("--count", 3000, "--window", 100, "--prefetch", 50, "--multiple", 7)
    assert (figures["published"], figures["consumed"], figures["refused"], figures["ready"]) == (3000, 3000, 0, 0)
    assert figures["publish_per_s"] > 0 and figures["consume_per_s"] > 0
    assert 0 < figures["confirm_ms"]["p50"] <= figures["confirm_ms"]["p99"] <= figures["confirm_ms"]["max"]
    assert figures["delivery_ms"]["p50"] > 0


def test_what_is_kept_is_consumed_later(load):
    assert load("--count", 500, "--consumers", 0, "--prefix", "kept", "--keep")["ready"] == 500
    assert load("--publishers", 0, "--consumers", 0, "--prefix", "kept", "--keep")["ready"] == 500
    later = load("--publishers", 0, "--count", 500, "--prefix", "kept", "--keep")
    assert (later["consumed"], later["ready"]) == (500, 0)


def test_acknowledgements_reach_the_broker(load):
    load("--count", 300, "--consumers", 0, "--prefix", "acked", "--keep")
    load("--publishers", 0, "--count", 200, "--prefetch", 20, "--prefix", "acked", "--keep")
    left = load("--publishers", 0, "--consumers", 0, "--prefix", "acked", "--keep")["ready"]
    assert left <= 100


def test_fan_out_gives_each_queue_every_message(load):
    figures = load("--count", 200, "--queues", 5, "--fanout", "--publishers", 2, "--consumers", 2)
    assert (figures["published"], figures["consumed"]) == (200, 1000)


def test_many_queues_share_the_messages(load):
    figures = load("--count", 100, "--queues", 20, "--consumers", 0)
    assert (figures["published"], figures["ready"]) == (100, 100)


@pytest.mark.parametrize("size", [0, 7, 8, 300_000])
def test_any_size(load, size):
    figures = load("--count", 20, "--bytes", size, "--window", 1)
    assert figures["consumed"] == 20
    assert (figures["delivery_ms"]["p50"] > 0) == (size >= 8)


def test_transient_without_confirms_and_without_acks(load):
    figures = load("--count", 5000, "--transient", "--window", 0, "--prefetch", 0)
    assert (figures["published"], figures["consumed"]) == (5000, 5000)


def test_measured_by_time(load):
    figures = load("--seconds", 1, "--warmup", 0, "--queue-type", "quorum")
    assert 0.9 < figures["seconds"] < 3
    assert figures["published"] > 0 and figures["consumed"] > 0


@pytest.mark.parametrize("program", CLIENTS)
def test_idle_connections_stay_until_told(server, program):
    if not os.path.exists(CLIENTS[program][0]):
        pytest.skip(f"{CLIENTS[program][0]} is not built")
    idle = subprocess.Popen(CLIENTS[program] + ["--url", f"amqp://127.0.0.1:{server.amqp_port}", "--idle", "20"],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert idle.stdout.readline() == b"open\n"
    assert idle.poll() is None
    idle.communicate(b"", timeout=30)
    assert idle.returncode == 0


def test_it_starts_a_server_of_its_own(tmp_path):
    done = subprocess.run([binary(), "bench", "amqp", "--dir", str(tmp_path), "--count", "100"], capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "published  100 " in done.stdout and "consumed   100:" in done.stdout
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("options", [["--window"], ["--window", "x"], ["--bytes", "-1"], ["--what"], ["extra"],
                                     ["--publishers", "0", "--consumers", "0"], ["--prefetch", "5", "--multiple", "6"]])
def test_what_makes_no_sense_is_refused(options):
    done = subprocess.run([binary(), "bench", "amqp"] + options, capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 2
    assert done.stderr


@pytest.mark.parametrize("url,told", [("amqp://127.0.0.1:1", "cannot connect"), ("http://127.0.0.1", "wants amqp://")])
def test_a_broker_that_is_not_there(url, told):
    done = subprocess.run([binary(), "bench", "amqp", "--url", url], capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode not in (0, 2)
    assert told in done.stderr


def test_a_wrong_password_is_told(server):
    done = subprocess.run([binary(), "bench", "amqp", "--url", f"amqp://guest:wrong@127.0.0.1:{server.amqp_port}"],
                          capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode not in (0, 2)
    assert "closed the connection" in done.stderr


def test_side_by_side_makes_a_table(tmp_path):
    results = tmp_path / "figures.json"
    done = subprocess.run([sys.executable, os.path.join(ROOT, "bench", "side_by_side.py"), "--brokers", "barid",
                           "--cases", "written,fanout,consume,idle,backlog", "--clients", "barid", "--repeats", "1",
                           "--scale", "0.002", "--dir", str(tmp_path), "--results", str(results)],
                          env={**os.environ, "BUILD": os.path.dirname(binary())}, capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| consume, prefetch 500 |" in done.stdout
    figures = json.loads(results.read_text())
    assert figures["fan-out to 10 queues, 1 KiB: written by payload"]["values"]["barid"][0] < 10
    assert figures["backlog: recovered after kill -9 in"]["values"]["barid"][0] > 0
    assert os.listdir(tmp_path) == ["figures.json"]


def test_a_publisher_without_a_break_does_not_starve_consumers(server):
    done = subprocess.run(CLIENTS["barid"] + ["--url", f"amqp://127.0.0.1:{server.amqp_port}", "--window", "0", "--seconds",
                                              "3", "--warmup", "1", "--json"], capture_output=True, text=True, timeout=60,
                          check=False)
    figures = json.loads(done.stdout)
    assert figures["consumed"] > figures["published"] / 5
