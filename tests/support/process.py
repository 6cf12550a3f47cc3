"""A real `barid COMMAND …` that says `ready`: started, stopped, killed, frozen; its log is shown when a test fails.

    class Relay(Process):
        def command_line(self):             # what is run
        def on_line(self, line):            # what it says before it is ready: addresses it has chosen

Nothing here sleeps for a fixed time: every wait is for an event, with a time limit that fails the test.
"""
import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
START_SECONDS = 30
STOP_SECONDS = 20


def binary():
    """The program under test: $BARID, or the one in build/."""
    return os.environ.get("BARID", os.path.join(ROOT, "build", "barid"))


def barid(*args, check=True):
    """Runs `barid ARGS…` to its end, and well unless `check` is False."""
    done = subprocess.run([binary(), *args], capture_output=True, text=True, timeout=60, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


def eventually(check, seconds=10, what="the condition"):
    """Calls check() until it gives something true, and returns that."""
    end = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come true within {seconds} s")
        time.sleep(0.01)


class Process:
    """The same one to others over its lives: what it is told to run and its log stay, across stop, kill9 and start."""

    def __init__(self, command, env=None, log_path=None):
        """`log_path`: of a log that stays when it is closed; else one of its own, which goes."""
        self.command = command
        self.owns_log = log_path is None
        self.env = dict(env or {})
        self.process = None
        self.lines = []  # of its standard output, up to `ready`
        self.log_path = log_path or tempfile.mkstemp(prefix=f"barid-{command}-", suffix=".log")[1]

    def command_line(self):
        return [binary(), self.command]

    def on_line(self, line):
        """One line of its standard output."""

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, error, trace):
        if kind is not None:
            print(f"--- log of barid {self.command} ({self.log_path}), last lines ---\n{self.log()[-4000:]}")
        self.close()

    def log(self):
        """Everything it wrote to standard error, over all its lives."""
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def start(self, env=None, wait=True, args=()):
        """Starts it and waits until it says `ready`. `env` and `args` are for this start only."""
        assert not self.running(), "it is running"
        self.lines = []
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command_line() + list(args), stdout=subprocess.PIPE, stderr=log,
                                            stdin=subprocess.DEVNULL, env={**os.environ, **self.env, **(env or {})})
        if wait:
            self._wait_ready()
        return self

    def _wait_ready(self):
        timer = threading.Timer(START_SECONDS, self.process.kill)
        timer.start()
        try:
            for raw in self.process.stdout:
                line = raw.decode().rstrip("\n")
                self.lines.append(line)
                if line.startswith("ready"):
                    return
                self.on_line(line.strip())
        finally:
            timer.cancel()
        code = self.process.wait()
        raise AssertionError(f"barid {self.command} ended with {code} before it was ready:\n{self.log()[-3000:]}")

    def running(self):
        return self.process is not None and self.process.poll() is None

    def wait_exit(self, seconds=STOP_SECONDS):
        """Waits until the process has ended by itself (a crash point, say) and returns its exit code."""
        code = self.process.wait(timeout=seconds)
        self.process.stdout.close()
        return code

    def stop(self):
        """SIGTERM, and the exit code after the drain."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait_exit()

    def kill9(self):
        self.process.kill()
        return self.wait_exit()

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        """Ended and forgotten."""
        if self.running():
            self.process.kill()
        if self.process is not None:
            self.wait_exit()
        if self.owns_log:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.log_path)
