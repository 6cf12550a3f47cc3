"""examples/outbox/README.md, word for word: its commands in one shell, what they print, and what it says of failures."""
import os
import re
import socket
import subprocess
import threading

import psycopg2
import pytest

from support.server import binary, eventually

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
README = os.path.join(ROOT, "examples", "outbox", "README.md")
SECONDS = 40


def blocks():
    """The page's commands, and after each what it prints or None."""
    with open(README, encoding="utf-8") as f:
        found = re.findall(r"^```(sh)?\n(.*?)^```$", f.read(), re.M | re.S)
    return [[text, found[i + 1][1] if i + 1 < len(found) and not found[i + 1][0] else None]
            for i, (kind, text) in enumerate(found) if kind]


class Shell:
    """bash that is given one block after the other; what the background says (its `ready`) is kept apart."""

    def __init__(self, env):
        self.process = subprocess.Popen(["bash"], cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, bufsize=1, start_new_session=True)
        self.lines, self.ready, self.changed = [], 0, threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.ready += line == "ready\n"
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()

    def _wait(self, what, text):
        with self.changed:
            assert self.changed.wait_for(what, SECONDS), f"after {text!r}:\n" + "\n".join(self.lines[-30:])

    def run(self, text):
        """What the block printed, once all it has started is ready."""
        with self.changed:
            begun, ready = len(self.lines), self.ready + len(re.findall(r"&$", text, re.M))
        self.process.stdin.write(text + "echo end-of-block $?\n")
        self._wait(lambda: any(line.startswith("end-of-block") for line in self.lines[begun:]), text)
        self._wait(lambda: self.ready >= ready, text)
        with self.changed:
            end = next(i for i in range(begun, len(self.lines)) if self.lines[i].startswith("end-of-block"))
            assert self.lines[end] == "end-of-block 0", "\n".join(self.lines[begun:])
            return [line for line in self.lines[begun:end] if not re.match(r"ts=|ready$|barid \d|  ", line)]

    def close(self):
        self.process.stdin.write("kill $(jobs -p); wait; exit\n")
        self.process.wait(SECONDS)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def shell(postgres, tmp_path):
    with postgres.database() as shop, postgres.database() as invoices, postgres.database() as shipping, \
            postgres.database() as statistics:
        amqp = f"127.0.0.1:{free_port()}"
        here = Shell({**os.environ, "SHOP": shop, "INVOICES": invoices, "SHIPPING": shipping, "STATISTICS": statistics,
                      "AMQP": amqp, "BROKER": f"amqp://guest:guest@{amqp}/%2F", "WEBHOOK": f"127.0.0.1:{free_port()}",
                      "WORK": str(tmp_path), "PATH": os.path.dirname(binary()) + ":" + os.environ["PATH"]})
        here.shop = shop
        try:
            yield here
        finally:
            here.close()


def test_the_page_of_the_order_story_can_be_followed_word_for_word(shell):
    page = blocks()
    assert "createdb" in page[0][0] and len(page) == 11, "the first block is what this test replaces"
    for text, printed in page[1:]:
        if printed is None:
            shell.run(text)
            continue
        wanted = sorted(printed.splitlines())  # of different orders, in any order
        try:
            eventually(lambda: sorted(shell.run(text)) == wanted, SECONDS)
        except AssertionError:
            raise AssertionError(f"the page says:\n{printed}and it is:\n" + "\n".join(shell.lines[-40:])) from None


def test_an_order_that_is_not_placed_tells_nobody(shell):
    for text, _ in blocks()[2:3]:
        shell.run(text)
    out = shell.run("$WORK/order_service $SHOP eve tea 0 || echo refused\n")
    assert out[-1] == "refused"
    out = shell.run("examples/outbox/order_service.py $SHOP eve tea 0 2>/dev/null || echo refused\n")
    assert out == ["refused"]
    connection = psycopg2.connect(shell.shop)
    with connection, connection.cursor() as cursor:
        cursor.execute("select (select count(*) from orders), (select count(*) from barid.outbox)")
        assert cursor.fetchone() == (0, 0)
    connection.close()
