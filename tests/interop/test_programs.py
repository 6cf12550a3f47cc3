"""Programs of others: rabbitmq-c's amqp-tools, and RabbitMQ's PerfTest, which stands for the Java client."""
import os
import subprocess

import pika
import pytest

import registry

MESSAGES = 20_000


@pytest.fixture
def url(port):
    return f"amqp://guest:guest@127.0.0.1:{port}"


def run(*command, text=None, seconds=60):
    """Its standard output, as bytes."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, timeout=seconds)
    except FileNotFoundError:
        pytest.skip(f"{command[0]} is not installed")
    assert done.returncode == 0, done.stdout[-3000:].decode() + done.stderr[-3000:].decode()
    return done.stdout


# --- amqp-tools ---

def test_amqp_publish_and_get(url, name):
    assert run("amqp-declare-queue", "-u", url, "-q", name).decode().strip() == name
    run("amqp-publish", "-u", url, "-r", name, "-b", "salam")
    run("amqp-publish", "-u", url, "-r", name, "-p", "-C", "text/plain", text=b"from\0stdin")
    assert [run("amqp-get", "-u", url, "-q", name) for _ in range(2)] == [b"salam", b"from\0stdin"]
    assert subprocess.run(["amqp-get", "-u", url, "-q", name], capture_output=True, timeout=60).returncode == 2  # empty
    run("amqp-delete-queue", "-u", url, "-q", name)


def test_amqp_consume_runs_a_program_for_each_message(url, name, tmp_path):
    run("amqp-declare-queue", "-u", url, "-q", name, "-d")
    lines = "".join(f"line {i}\n" for i in range(10))
    run("amqp-publish", "-u", url, "-r", name, "-p", "-l", text=lines.encode())
    run("amqp-consume", "-u", url, "-q", name, "-c", "10", "-p", "3", "--", "sh", "-c", f"cat >> {tmp_path}/got")
    assert (tmp_path / "got").read_text() == lines
    run("amqp-delete-queue", "-u", url, "-q", name, "-e")


def test_amqp_consume_gives_back_what_its_program_failed_on(url, name, tmp_path):
    run("amqp-declare-queue", "-u", url, "-q", name)
    run("amqp-publish", "-u", url, "-r", name, "-b", "again")
    for code in ("1", "0"):
        run("amqp-consume", "-u", url, "-q", name, "-c", "1", "--", "sh", "-c", f"cat >> {tmp_path}/got; exit {code}")
    assert (tmp_path / "got").read_text() == "againagain"
    assert run("amqp-delete-queue", "-u", url, "-q", name).strip() == b"0"


def test_amqp_consume_from_an_exchange(url, tmp_path):
    command = ["amqp-consume", "-u", url, "-e", "amq.topic", "-r", "news.#", "-c", "1", "--", "sh", "-c", f"cat > {tmp_path}/got"]
    consumer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert b"amq.gen-" in consumer.stderr.readline()  # it says which queue it has bound
        for _ in range(100):
            run("amqp-publish", "-u", url, "-e", "amq.topic", "-r", "news.of.today", "-b", "spread")
            try:
                consumer.wait(0.1)
                break
            except subprocess.TimeoutExpired:
                pass
    finally:
        consumer.kill()
        consumer.communicate()
    assert (tmp_path / "got").read_text() == "spread"


# --- PerfTest ---

@pytest.fixture(scope="session")
def perf_test():
    try:
        jars = registry.maven("perf-test-2.22.1", "com.rabbitmq", "perf-test", "2.22.1")
    except registry.Missing as e:
        pytest.skip(f"PerfTest: {e}")

    def run_it(url, *words):
        out = run("java", "-Xmx256m", "-cp", os.path.join(jars, "*"), "com.rabbitmq.perf.PerfTest", "--uri", url, *words,
                  seconds=60).decode()
        return out

    return run_it


def left_in(port, queue):
    connection = pika.BlockingConnection(pika.ConnectionParameters(port=port))
    try:
        return connection.channel().queue_declare(queue, passive=True).method.message_count
    finally:
        connection.close()


@pytest.mark.parametrize("what, words", [
    ("confirms", ["--confirm", "200", "--qos", "100", "--flag", "persistent", "--queue-args", "x-max-priority=3"]),
    ("quorum", ["--quorum-queue", "--flag", "persistent", "--confirm", "100", "--qos", "50", "--multi-ack-every", "25"]),
    ("transient", ["--autoack", "--size", "10000", "--flag", "mandatory"]),
    ("transactions", ["--ptxsize", "100", "--ctxsize", "100", "--qos", "100", "--flag", "persistent"]),
    ("topics", ["--type", "topic", "--confirm", "50", "--routing-key", "a.b"]),
    ("polling", ["--polling", "--confirm", "50"]),
])
def test_perf_test(perf_test, port, url, name, what, words):
    """Two producers publish, a consumer takes exactly as many, and nothing is left."""
    each = MESSAGES // (20 if what == "polling" else 2)
    out = perf_test(url, "--producers", "2", "--consumers", "1", "--queue", name, "--auto-delete", "false", "--pmessages",
                    str(each), "--cmessages", str(2 * each), "--id", what, *words)
    assert "receiving rate avg" in out and "Consumer reached message limit" in out, out[-2000:]
    assert left_in(port, name) == 0, out[-2000:]
