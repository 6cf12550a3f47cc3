"""Follow a page word for word: its commands in one shell, and what they print.

    for text, printed in blocks("docs/outbox.md"):   # ```sh blocks, each with the plain ``` block right after it, or None
        shell.run(text)
"""
import os
import re
import subprocess
import threading

from support.process import ROOT, binary, eventually

SECONDS = 40


def blocks(page):
    with open(os.path.join(ROOT, page), encoding="utf-8") as f:
        found = re.findall(r"^```(\w*)\n(.*?)^```$", f.read(), re.M | re.S)
    return [[text, found[i + 1][1] if i + 1 < len(found) and not found[i + 1][0] else None]
            for i, (kind, text) in enumerate(found) if kind == "sh"]


class Shell:
    """bash that is given one block after the other; what the background says (its `ready`) is kept apart."""

    def __init__(self, env):
        path = os.path.dirname(binary()) + ":" + os.environ["PATH"]
        self.process = subprocess.Popen(["bash"], cwd=ROOT, env={**os.environ, "PATH": path, **env}, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1,
                                        start_new_session=True)
        self.lines, self.ready, self.changed = [], 0, threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.write("kill $(jobs -p); wait; exit\n")
        self.process.wait(SECONDS)

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

    def follow(self, steps):
        """What a block prints comes sooner or later; lines of different keys in any order."""
        for text, printed in steps:
            if printed is None:
                self.run(text)
                continue
            wanted = sorted(printed.splitlines())
            try:
                eventually(lambda: sorted(self.run(text)) == wanted, SECONDS)
            except AssertionError:
                raise AssertionError(f"the page says:\n{printed}and it is:\n" + "\n".join(self.lines[-40:])) from None
