"""Celery, as it comes from PyPI: three workers of two processes each, and programs that use them (celery_project/)."""
import os
import shutil
import signal
import subprocess
import tempfile

import pytest

import registry
from support.server import Server, eventually

PROJECT = os.path.join(registry.HERE, "celery_project")


class Celery:
    """A broker, workers, and what they note."""

    def __init__(self, results="rpc://", queue_type="classic"):
        self.python = registry.python()
        self.directory = tempfile.mkdtemp(prefix="barid-celery-")
        self.workers = {}
        self.server = None
        if os.environ.get("INTEROP_PORT"):
            port = int(os.environ["INTEROP_PORT"])
        else:
            self.server = Server(amqp=True).start()
            port = self.server.amqp_port
        if results == "file":
            os.mkdir(os.path.join(self.directory, "results"))
            results = "file://" + os.path.join(self.directory, "results")
        self.env = {**os.environ, "BROKER": f"amqp://guest:guest@127.0.0.1:{port}//", "RESULTS": results,
                    "QUEUE_TYPE": queue_type, "NOTES": self.directory, "PYTHONDONTWRITEBYTECODE": "1"}

    def start_worker(self, name, queues="work", processes=2):
        log = open(os.path.join(self.directory, name + ".log"), "wb")
        self.workers[name] = subprocess.Popen(
            [self.python, "-m", "celery", "-A", "tasks", "worker", "-n", f"{name}@here", "-Q", queues, "--concurrency",
             str(processes), "-l", "INFO"], cwd=PROJECT, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True)
        log.close()

    def wait_ready(self):
        for name in self.workers:
            eventually(lambda: b" ready." in self.log(name), 60, f"worker {name}: {self.log(name)[-2000:]}")

    def log(self, name):
        with open(os.path.join(self.directory, name + ".log"), "rb") as f:
            return f.read()

    def run(self, scenario, *words):
        done = subprocess.run([self.python, os.path.join(PROJECT, "scenarios.py"), scenario, *words], env=self.env,
                              cwd=PROJECT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90)
        logs = "".join(f"--- {n}\n{self.log(n).decode(errors='replace')[-1500:]}" for n in self.workers)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{logs}"

    def close(self):
        for worker in self.workers.values():
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
        if self.server:
            self.server.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def started(*workers, **options):
    try:
        celery = Celery(**options)
    except registry.Missing as e:
        pytest.skip(f"celery: {e}")
    try:
        for name in workers:
            celery.start_worker(name)
        celery.wait_ready()
        yield celery
    finally:
        celery.close()


@pytest.fixture(scope="module")
def celery():
    yield from started("a", "b", "c")


@pytest.fixture(scope="module")
def with_files():
    """Results in files: the kind of backend that chords need, and whose chords wait by tasks that retry."""
    yield from started("a", "b", results="file")


@pytest.fixture(scope="module")
def quorum():
    """Quorum queues, for which Celery delays messages with a chain of queues and topic exchanges."""
    yield from started("a", "b", queue_type="quorum")


@pytest.mark.parametrize("scenario", ["many", "retries", "failure", "countdown", "expires", "workflows", "revoke", "events"])
def test_three_workers(celery, scenario):
    celery.run(scenario)


def test_workers_answer_control_commands(celery):
    celery.run("control", "3")


def test_chords(with_files):
    with_files.run("chords")


@pytest.mark.parametrize("scenario", ["retries", "countdown", "workflows"])
def test_quorum_queues(quorum, scenario):
    quorum.run(scenario)


def test_priorities_and_topics():
    for celery in started():
        # The queues are declared by who sends first.
        celery.run("priorities")
        celery.start_worker("a", "urgent,audit", processes=1)  # two would race to write down what they were given
        celery.wait_ready()
        celery.run("in_order")
        celery.run("topics")


def test_a_killed_workers_task_goes_to_another():
    for celery in started("a", "b"):
        celery.run("killed", *(f"{name}={worker.pid}" for name, worker in celery.workers.items()))


def test_a_worker_that_is_told_to_stop_loses_nothing():
    for celery in started("a", "b"):
        celery.run("burst", "one")
        celery.workers["a"].send_signal(signal.SIGTERM)
        celery.run("all_done", "one")
        try:
            assert celery.workers["a"].wait(30) == 0
        except subprocess.TimeoutExpired as e:
            raise AssertionError(celery.log("a")[-3000:].decode()) from e


def test_workers_come_back_to_a_broker_that_was_killed():
    for celery in started("a", "b"):
        celery.run("burst", "before")
        celery.server.restart()
        celery.run("all_done", "before")
        celery.run("retries")
