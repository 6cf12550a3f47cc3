"""The terminal client as a person at a terminal uses it: one home directory, one user."""
import json
import os
import shutil
import subprocess
import tempfile

from support.server import binary

PASSWORD = "correct horse"


class Terminal:
    def __init__(self, server, user_id):
        self.server = server
        self.user_id = user_id
        self.home = tempfile.mkdtemp(prefix=f"barid-{user_id}-")
        self.ok("register", user_id)
        self.ok("login", user_id)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        shutil.rmtree(self.home, ignore_errors=True)

    def run(self, *words, crash=None, timeout=60):
        """Runs `barid …`; returns the finished process."""
        env = {**os.environ, "BARID_HOME": self.home, "BARID_SERVER": self.server.url, "BARID_PASSWORD": PASSWORD}
        env.pop("BARID_CRASH_AT", None)
        if crash:
            env["BARID_CRASH_AT"] = crash
        return subprocess.run([binary(), *words], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)

    def ok(self, *words):
        """Runs it with --json, which must succeed; returns its objects."""
        done = self.run(*words, "--json")
        assert done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def outbox(self):
        return self.ok("outbox", "list", "--all")

    def inbox(self, fetch=False):
        return self.ok("inbox", "--all", *([] if fetch else ["--offline"]))

    def points(self, message_id):
        return [p["point"] for p in self.ok("track", message_id)[0]["points"]]
