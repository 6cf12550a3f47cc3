"""Complete journeys of the messaging service on distributed parts: `barid bench journey` against `barid serve` on
PostgreSQL and Kafka. In open loop latencies count from when a journey was due.
"""
import contextlib
import json
import os
import subprocess

from servers import Servers, memory_of
from support.parts import Distributed
from support.server import Server

JOURNEY_SECONDS = 180  # beside those measured: a hundred accounts, each with a password to hash
LOADS = {"one in flight a pair": ("--in-flight", 1), "ten in flight a pair": ("--in-flight", 10),
         "500/s": ("--rate", 500), "1,000/s": ("--rate", 1000)}


def play(server, seconds, *load):
    command = [os.environ["BARID"], "bench", "journey", "--url", server.url, "--json", "--seconds", seconds, *load]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=seconds + JOURNEY_SECONDS,
                          check=False)
    if done.returncode != 0:
        raise RuntimeError(f"bench journey: {done.stderr.strip()}")
    return json.loads(done.stdout)


def journey(figures, options):
    with Servers() as servers, contextlib.closing(Distributed(servers.postgres, servers.kafka)) as parts:
        for name, load in LOADS.items():
            with Server(parts=parts, args=("--rate-unauthenticated", "5000")) as server:
                before = servers.cpu(server.process.pid)
                got = play(server, options.seconds, *load)
                cpu = servers.cpu(server.process.pid) - before
                note(figures, f"journeys, {name}", got, cpu)
                figures.note(f"journeys, {name}: resident", "barid serve", memory_of(server.process.pid) / 1e6, "MB")


def note(figures, case, got, cpu):
    if got["doubled"] or got["errors"] or got["complete"] != got["started"]:
        raise RuntimeError(f"{case}: {got}")
    figures.note(f"{case}: complete", "barid serve", got["complete_per_second"])
    for leg, times in got["legs"].items():
        for quantile in ("p50", "p99"):
            figures.note(f"{case}: {leg} {quantile}", "barid serve", times[f"{quantile}_ms"], "ms")
    for party, who in (("contender", "the server"), ("postgres", "PostgreSQL"), ("kafka", "Kafka")):
        figures.note(f"{case}: CPU of {who}", "barid serve", getattr(cpu, party) * 1e6 / got["started"], "µs/journey")
