#!/usr/bin/env python3
"""make demo: watch a text and a picture travel while the server is killed under them.

alice, bob and carol are three terminals on this machine, each with a store of its own. The server is made to die with
kill -9 between two safe points, twice, and is started again. At the end the journeys are printed as alice's
`barid track` shows them. The exit code is 0 only when every message has arrived exactly once.
"""
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BARID = os.environ.get("BARID", os.path.join(ROOT, "build", "barid"))
PASSWORD = "demonstration only"
COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def paint(code, text):
    return f"\033[{code}m{text}\033[0m" if COLOUR else text


def chapter(text):
    print("\n" + paint("1", text), flush=True)


def tell(text):
    print("  " + text, flush=True)


def give_up(text):
    print(paint("31", "  " + text), file=sys.stderr)
    sys.exit(1)


class Server:
    """`barid serve`, whose address stays the same over its lives."""

    def __init__(self, data):
        self.data = data
        self.port = 0
        self.process = None
        self.log = open(os.path.join(data, "..", "server.log"), "ab")

    def start(self, crash=None):
        env = dict(os.environ)
        env.pop("BARID_CRASH_AT", None)
        if crash:
            env["BARID_CRASH_AT"] = crash
        self.process = subprocess.Popen([BARID, "serve", "--data", self.data, "--http", f"127.0.0.1:{self.port}", "--amqp", "off", "--management", "off"],
                                        stdout=subprocess.PIPE, stderr=self.log, stdin=subprocess.DEVNULL, env=env, text=True)
        for line in self.process.stdout:
            if line.strip().startswith("open"):
                self.port = int(line.rsplit(":", 1)[1].strip().strip("/"))
            if line.startswith("ready"):
                return
        give_up("the server did not start; its log: " + self.log.name)

    def died(self):
        """Waits for its end, which must be kill -9."""
        code = self.process.wait(timeout=30)
        self.process.stdout.close()
        if code != -signal.SIGKILL:
            give_up(f"the server ended with {code}, not by kill -9")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=20)


class Person:
    def __init__(self, name, directory, server):
        self.name = name
        self.server = server
        self.home = os.path.join(directory, name)

    def environment(self):
        env = {**os.environ, "BARID_HOME": self.home, "BARID_PASSWORD": PASSWORD,
               "BARID_SERVER": f"http://127.0.0.1:{self.server.port}"}
        env.pop("BARID_CRASH_AT", None)
        env.pop("BARID_USER", None)
        return env

    def run(self, *words, show=False):
        if show:
            shown = " ".join(f"'{w}'" if " " in w else w for w in words)
            tell(paint("36", f"{self.name}$") + f" barid {shown}")
        return subprocess.run([BARID, *words], env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=120)

    def ok(self, *words, show=False):
        done = self.run(*words, show=show)
        if done.returncode:
            give_up(f"barid {' '.join(words)} of {self.name} failed with {done.returncode}: {done.stderr or done.stdout}")
        if show:
            for line in done.stdout.splitlines():
                tell("       " + line)
        return done.stdout

    def json(self, *words):
        return [json.loads(line) for line in self.ok(*words, "--json").splitlines() if line.startswith("{")]


def draw_picture(path, width=640, height=400):
    """A sun over a dune, as a PNG."""
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        for x in range(width):
            if (x - 480) ** 2 + (y - 110) ** 2 < 2500:
                rows += bytes((255, 214, 120))
            elif y > height * 0.62 + (x % 213 - 106) ** 2 / 400:
                rows += bytes((222 - y // 8, 160 - y // 8, 95))
            else:
                rows += bytes((90 + y // 4, 150 + y // 5, 220 - y // 8))

    def chunk(kind, data):
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    header = struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0)
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(rows))) + chunk(b"IEND", b""))


def while_dying(server, person, *words, crash, between):
    """Sends while the server is about to die, starts it again, and waits for the send to end well."""
    server.stop()
    server.start(crash=crash)
    result = []
    sender = threading.Thread(target=lambda: result.append(person.run(*words)))
    shown = " ".join(f"'{w}'" if " " in w else w for w in words)
    tell(paint("36", f"{person.name}$") + f" barid {shown}")
    sender.start()
    server.died()
    tell(paint("31;1", "       kill -9") + f" hits the server {between}")
    time.sleep(1)  # long enough to see that the client waits
    server.start()
    tell(paint("32;1", "       started again") + " on the same data")
    sender.join(60)
    if not result or result[0].returncode:
        give_up(f"the send failed: {result and result[0].stderr}")
    for line in result[0].stdout.splitlines():
        tell("       " + line)


def wait_until(check, what):
    end = time.monotonic() + 30
    while not check():
        if time.monotonic() > end:
            give_up(f"{what} did not happen within 30 s")
        time.sleep(0.05)


def play(directory):
    data = os.path.join(directory, "data")
    os.mkdir(data)
    server = Server(data)
    people = alice, bob, carol = [Person(name, directory, server) for name in ("alice", "bob", "carol")]
    picture = os.path.join(directory, "caravan.png")
    draw_picture(picture)
    try:
        chapter("A server, and three people")
        server.start()
        tell(f"listening on http://127.0.0.1:{server.port}/, data in {data}")
        for p in people:
            p.ok("register", p.name)
            p.ok("login", p.name)
            tell(f"{p.name} has an account and is logged in at a terminal of their own")

        chapter("A text, on a quiet day")
        alice.ok("send", "bob", "carol", "Salam! The caravan leaves at dawn.", show=True)

        chapter("A text, and the server dies after accepting it, before alice hears of it")
        while_dying(server, alice, "send", "bob", "carol", "Bring water for three days.", crash="accept.committed:1",
                    between="between `accepted` and the answer")
        tell("alice's client has asked again under the same message id, and was told: a duplicate, it is safe")

        chapter("A picture, and the server dies before it reaches the mailboxes")
        while_dying(server, alice, "send", "bob", "carol", "--media", picture, crash="queue.before_commit:1",
                    between="between `published` and `queued`")
        tell("the event was still on the bus: the restarted server has taken it from there")

        chapter("bob and carol listen, and read")
        last = alice.json("outbox", "list", "--all")[-1]["message_id"]
        wait_until(lambda: sum(p["point"] == "queued" for p in alice.json("track", last)[0]["points"]) == 2,
                   "the picture reaching the mailboxes")
        bob.ok("listen", "--once", "--read", show=True)
        carol.ok("inbox", show=True)
        carol.ok("read", "--all", show=True)

        chapter("alice sees her ticks, and the journeys")
        wait_until(lambda: alice.ok("listen", "--once") is not None
                   and [m["state"] for m in alice.json("outbox", "list", "--all")] == ["read"] * 3, "the last tick")
        alice.ok("outbox", "list", "--all", show=True)
        sent = alice.json("outbox", "list", "--all")
        for m in sent:
            print()
            alice.ok("track", m["message_id"], show=True)

        chapter("The count")
        check(sent, picture, bob, carol)
    finally:
        server.stop()


def check(sent, picture, *readers):
    wanted = [m["message_id"] for m in sent]
    with open(picture, "rb") as f:
        drawn = f.read()
    for p in readers:
        got = p.json("inbox", "--all", "--offline")
        if sorted(m["message_id"] for m in got) != sorted(wanted):
            give_up(f"{p.name} has {[m['message_id'] for m in got]}, not {wanted}")
        if [m["seq"] for m in got] != [1, 2, 3]:
            give_up(f"{p.name} has them out of order: {[m['seq'] for m in got]}")
        with open(got[2]["media_path"], "rb") as f:
            if f.read() != drawn:
                give_up(f"{p.name}'s picture is not the one that was sent")
    tell(paint("32;1", "3 messages sent, 2 kill -9 on the way, 6 of 6 deliveries, each exactly once, in order, all read."))


def main():
    if not os.path.exists(BARID):
        give_up(f"{BARID} is not there: `make` builds it")
    directory = tempfile.mkdtemp(prefix="barid-demo-")
    try:
        play(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
