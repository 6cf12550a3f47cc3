"""Complete journeys of the messaging service on distributed parts: `barid bench journey` against `barid serve` on
PostgreSQL and Kafka. In open loop latencies count from when a journey was due.
"""
import contextlib
import json
import os
import subprocess
import time

from servers import Servers, memory_of
from support.parts import Distributed
from support.server import Server

JOURNEY_SECONDS = 180  # beside those measured: a hundred accounts, each with a password to hash
WARM_SECONDS = 10      # Kafka's virtual machine compiles what it runs often, on the cores that are measured
LOOK_SECONDS = 0.5
LOADS = {"one in flight a pair": ("--in-flight", 1), "ten in flight a pair": ("--in-flight", 10),
         "100/s": ("--rate", 100), "250/s": ("--rate", 250), "500/s": ("--rate", 500), "1,000/s": ("--rate", 1000)}


def play(server, seconds, look, *load):
    """The results of the load, and what `look` said of CPU in the measured seconds, a second."""
    command = [os.environ["BARID"], "bench", "journey", "--url", server.url, "--json", "--seconds", seconds,
               "--warmup", WARM_SECONDS, *load]
    looks, until = [], time.monotonic() + seconds + WARM_SECONDS + JOURNEY_SECONDS
    with subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        while process.poll() is None and time.monotonic() < until:
            looks.append((time.monotonic(), look()))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_SECONDS)
        process.kill()
        out, err = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"bench journey: {err.strip()}")
    end, last = looks[-1]
    begin, first = next(at for at in looks if at[0] >= end - seconds)
    cpu = last - first
    return json.loads(out), {who: getattr(cpu, who) / (end - begin) for who in ("contender", "postgres", "kafka")}


def journey(figures, options):
    with Servers() as servers, contextlib.closing(Distributed(servers.postgres, servers.kafka)) as parts:
        for name, load in LOADS.items():
            with Server(parts=parts, args=("--rate-unauthenticated", "5000")) as server:
                pid = server.process.pid
                got, cpu = play(server, options.seconds, lambda pid=pid: servers.cpu(pid), *load)
                note(figures, f"journeys, {name}", got, cpu)
                figures.note(f"journeys, {name}: resident", "barid serve", memory_of(pid) / 1e6, "MB")


def note(figures, case, got, cpu):
    if got["doubled"] or got["errors"] or got["complete"] != got["started"]:
        raise RuntimeError(f"{case}: {got}")
    figures.note(f"{case}: complete", "barid serve", got["complete_per_second"])
    for leg, times in got["legs"].items():
        for quantile in ("p50", "p99"):
            figures.note(f"{case}: {leg} {quantile}", "barid serve", times[f"{quantile}_ms"], "ms")
    for party, who in (("contender", "the server"), ("postgres", "PostgreSQL"), ("kafka", "Kafka")):
        figures.note(f"{case}: CPU of {who}", "barid serve", cpu[party] * 1e6 / got["complete_per_second"], "µs/journey")
