"""docs/amqp.md does what it says: its Python runs from top to bottom, its commands and the README's print what stands there,
and the events of a message come to a queue bound as it shows."""
import os
import re
import signal
import subprocess
import sys
import threading

import pytest

from support.server import ROOT, Server, binary

PAGE, README = os.path.join(ROOT, "docs", "amqp.md"), os.path.join(ROOT, "README.md")
URL = "amqp://guest:guest@127.0.0.1:5672/"


@pytest.fixture(scope="module")
def server():
    with Server(amqp=True, management=True) as running:
        yield running


def blocks(kind, path=PAGE):
    with open(path, encoding="utf-8") as f:
        return re.findall(rf"^```{kind}\n(.*?)^```", f.read(), re.M | re.S)


def environment(server, **more):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BARID_")}
    return {**clean, "PATH": os.path.dirname(binary()) + os.pathsep + os.environ["PATH"],
            "BARID_BROKER": f"http://127.0.0.1:{server.management_port}", "BARID_SERVER": server.url, **more}


def shell(server, command, **more):
    """A command of the page, with the test's port where the page has the standard one."""
    command = command.replace("--url=amqp://127.0.0.1", f"--url=amqp://127.0.0.1:{server.amqp_port}")
    return subprocess.run(["sh", "-c", command], env=environment(server, **more), capture_output=True, text=True,
                          timeout=60, stdin=subprocess.DEVNULL, check=True).stdout


def prompts(block):
    """[(command, what it prints)] of a ```console block."""
    return [(step.split("\n", 1)[0], step.split("\n", 1)[1]) for step in re.split(r"^\$ ", block, flags=re.M)[1:]]


def same_shape(said, shown):
    """Equal but for times."""
    blank = r"\d{4}-\d\d-\d\dT[\d:.]+Z"
    return re.sub(blank, "T", said).split() == re.sub(blank, "T", shown).split()


def test_the_python_and_then_the_commands(server):
    program = "\n".join(blocks("python")).replace(URL, URL.replace("5672", str(server.amqp_port)))
    assert program.count("channel.") > 20
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
    for command, shown in [step for block in blocks("console") + blocks("console", README) for step in prompts(block)]:
        assert same_shape(shell(server, command), shown), command


class Shown:
    """The lines of a program that listens, as they come."""

    def __init__(self, command, env, **more):
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **more)
        self.timer = threading.Timer(60, self.process.kill)
        self.timer.start()

    def line(self):
        line = self.process.stdout.readline()
        assert line, "it ended"
        return line.rstrip("\n")

    def end(self):
        self.process.send_signal(signal.SIGINT)
        self.process.communicate()
        self.timer.cancel()


def queues_bound(server):
    from support.management import Management
    return [b for b in Management(server).get("bindings") if b["source"] == "barid.events" and b["destination"].startswith("amq.gen")]


def test_the_events_of_a_message(server, tmp_path):
    from support.server import eventually
    env = environment(server, BARID_HOME=str(tmp_path), BARID_PASSWORD="correct horse")
    for user in ("alice", "bob"):
        for verb in ("register", "login"):
            subprocess.run(["barid", verb, user], env=env, check=True, timeout=60, capture_output=True)
    consume = next(b for b in blocks("sh") if "barid.events" in b).strip()
    consume = consume.replace("--url=amqp://127.0.0.1", f"--url=amqp://127.0.0.1:{server.amqp_port}")
    example = [sys.executable, os.path.join(ROOT, "examples", "events.py"), URL.replace("5672", str(server.amqp_port))]
    tool, program = Shown(["sh", "-c", "exec " + consume], env), Shown(example, env)
    try:
        eventually(lambda: len(queues_bound(server)) == 2, what="two queues bound")
        assert program.line() == "waiting for events; Ctrl-C ends"
        for command in (["send", "--as", "alice", "bob", "Dinner at eight?"], ["inbox", "--as", "bob"], ["read", "--as", "bob", "--all"]):
            subprocess.run(["barid", *command], env=env, check=True, timeout=60, capture_output=True)
        shown = next(b for b in blocks("json") if "accepted_at" in b).splitlines()
        for line, (key, who) in zip(shown, (("message_send", "alice"), ("message_delivered", "bob"), ("message_read", "bob"))):
            assert re.fullmatch(rf"{key} +dm-\w+ #1 {who}", program.line())
            assert blank(tool.line()) == blank(line)
    finally:
        tool.end()
        program.end()


def blank(event):
    return re.sub(r'"(message_id)":"[0-9a-f-]{36}"', r'"\1":""', re.sub(r'_at":\d{13}|"at":\d{13}', '_at":0', event))
