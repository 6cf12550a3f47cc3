#!/usr/bin/python3
"""RabbitMQ (Debian's) and barid under the same loads, in turn, in one go, on the same disk; prints a Markdown table.

    bench/side_by_side.py                            everything, three times: about an hour
    bench/side_by_side.py --cases publish,both       some of it; --list names the cases
    bench/side_by_side.py --brokers barid --repeats 1 --seconds 2
    bench/side_by_side.py --results figures.json     every single figure, too

A repeat starts each broker on an empty directory below --dir, measures what the disk does raw at that moment (4 KiB
appended and fdatasync, over and over), runs the cases, and stops it; the brokers never run at the same time. Figures
are medians of the repeats, a ratio is barid's median by the other's.

The loads are made by `barid bench amqp` (barid's own client: cheap, so that the broker is what is measured), by
build/bench/amqp_load (the same loads by rabbitmq-c), and by RabbitMQ's PerfTest (bench/perf_test.xml, fetched by Maven).
"""
import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from brokers import BUILD, ROOT, Barid, RabbitMQ, rabbitmq_version

RAW_SECONDS = 2.0
PAGE = 4096
PERF_TEST_SECONDS = 20  # Java takes its time to be fast
SETTLE_SECONDS = 3  # until a broker is quiet after a start or a load
MEGABYTE = 1e6


def raw_disk(directory):
    """Appends of 4 KiB with an fdatasync each, a second, in a preallocated file as both brokers' disks would have it."""
    page = b"\x07" * PAGE
    path = os.path.join(directory, "raw")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(fd, 0, 256 << 20)
        os.fdatasync(fd)
        n, begun = 0, time.monotonic()
        while time.monotonic() - begun < RAW_SECONDS and n < (256 << 20) // PAGE:
            os.pwrite(fd, page, n * PAGE)
            os.fdatasync(fd)
            n += 1
        return n / (time.monotonic() - begun)
    finally:
        os.close(fd)
        os.unlink(path)


# --- the load programs ---

CLIENTS = {"barid": [os.path.join(BUILD, "barid"), "bench", "amqp"],
           "rabbitmq-c": [os.path.join(BUILD, "bench", "amqp_load")]}


class Bench:
    """One broker in one repeat: where cases put their loads and their figures."""

    def __init__(self, broker, contender, options, figures):
        self.broker, self.contender, self.options, self.figures = broker, contender, options, figures
        self.queue_type = "quorum" if contender.endswith("quorum") else "classic"
        self.client = "barid"

    def load(self, *arguments, timed=False, client=None):
        """Runs the load program; its figures."""
        o = self.options
        command = CLIENTS[client or self.client] + ["--url", self.broker.url, "--json"]
        if "--transient" not in arguments:
            command += ["--queue-type", self.queue_type]
        if timed:
            command += ["--seconds", str(o.seconds), "--warmup", str(o.warmup)]
        done = subprocess.run(command + [str(a) for a in arguments], capture_output=True, text=True,
                              timeout=o.case_seconds, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "the load failed")
        return json.loads(done.stdout)

    def note(self, case, value, unit="/s"):
        if self.client != "barid":
            case += f", by {self.client}"
        self.figures.setdefault(case, {"unit": unit, "values": {}})["values"].setdefault(self.contender, []).append(value)
        print(f"  {self.contender:18} {case:60} {shown(value, unit)} {unit}", file=sys.stderr, flush=True)

    def size(self, n):
        return max(1, int(n * self.options.scale))


# --- the cases: each notes its figures ---

def case_publish(b):
    for window in (1, 100, 1000, 10000):
        got = b.load("--consumers", 0, "--window", window, timed=True)
        b.note(f"publish, window {window:,}", got["publish_per_s"])
        b.note(f"publish, window {window:,}: p99 of the confirm", got["confirm_ms"]["p99"], "ms")


def case_consume(b):
    n = b.size(300_000)
    b.load("--consumers", 0, "--window", 10000, "--count", n, "--prefix", "consume", "--keep")
    got = b.load("--publishers", 0, "--prefetch", 500, "--count", n, "--keep", "--prefix", "consume")
    b.note("consume, prefetch 500", got["consume_per_s"])
    b.load("--consumers", 0, "--count", 1, "--prefix", "consume")


def case_both(b):
    got = b.load("--window", 1000, "--prefetch", 500, timed=True)
    b.note("publisher and consumer at once", got["consume_per_s"])
    b.note("publisher and consumer at once: p99 of the delivery", got["delivery_ms"]["p99"], "ms")


def case_queues(b):
    for window in (1000, 10000):
        one = b.load("--consumers", 0, "--window", window, timed=True)["publish_per_s"]
        many = b.load("--consumers", 0, "--window", window, "--queues", 100, timed=True)["publish_per_s"]
        b.note(f"100 queues, window {window:,}", many)
        b.note(f"100 queues, window {window:,}, by the rate of one", many / one, "×")


def case_fanout(b):
    n = b.size(50_000)
    before = b.broker.written()
    got = b.load("--consumers", 0, "--fanout", "--queues", 10, "--bytes", 1024, "--count", n, "--prefix", "fan", "--keep")
    time.sleep(SETTLE_SECONDS)
    b.note("fan-out to 10 queues, 1 KiB: published", got["publish_per_s"])
    b.note("fan-out to 10 queues, 1 KiB: written by payload", (b.broker.written() - before) / (n * 1024), "×")
    b.load("--consumers", 0, "--fanout", "--queues", 10, "--count", 1, "--prefix", "fan")


def case_written(b):
    n = b.size(200_000)
    for window in (100, 10000):
        before = b.broker.written()
        b.load("--consumers", 0, "--bytes", 1024, "--count", n, "--window", window, "--prefix", "written")
        time.sleep(SETTLE_SECONDS)
        b.note(f"written by payload, 1 KiB, window {window:,}", (b.broker.written() - before) / (n * 1024), "×")
    before = b.broker.written()
    b.load("--bytes", 1024, "--count", n, "--window", 1000, "--prefix", "written")
    time.sleep(SETTLE_SECONDS)
    b.note("written by payload, 1 KiB, consumed and acknowledged", (b.broker.written() - before) / (n * 1024), "×")


def case_transient(b):
    got = b.load("--transient", "--window", 0, "--prefetch", 0, timed=True)
    b.note("transient, no confirms, no acks: published", got["publish_per_s"])
    b.note("transient, no confirms, no acks: consumed", got["consume_per_s"])


def case_idle(b):
    time.sleep(SETTLE_SECONDS)
    before = b.broker.memory()
    b.note("resident, idle", before / MEGABYTE, "MB")
    n = b.size(5000)
    holder = subprocess.Popen(CLIENTS["barid"] + ["--url", b.broker.url, "--idle", str(n)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)
    if holder.stdout.readline() != b"open\n":
        raise RuntimeError("the idle connections did not open")
    time.sleep(SETTLE_SECONDS)
    b.note(f"resident, {n:,} idle connections", b.broker.memory() / MEGABYTE, "MB")
    b.note("an idle connection with a channel", (b.broker.memory() - before) / n / 1e3, "KB")
    holder.communicate(b"")


def case_backlog(b):
    n = b.size(b.options.backlog if b.contender == "barid" else b.options.rabbitmq_backlog)
    b.load("--consumers", 0, "--window", 10000, "--count", n, "--prefix", "backlog", "--keep")
    time.sleep(SETTLE_SECONDS)
    b.note("backlog: messages of 128 B", n, "")
    b.note("backlog: resident", b.broker.memory() / MEGABYTE, "MB")
    b.broker.kill9()
    took = b.broker.start()
    left = b.load("--publishers", 0, "--consumers", 0, "--prefix", "backlog", "--keep")["ready"]
    if left != n:
        raise RuntimeError(f"{n} messages before kill -9, {left} after")
    b.note("backlog: recovered after kill -9 in", took, "s")
    b.note("backlog: resident after it", b.broker.memory() / MEGABYTE, "MB")
    b.load("--consumers", 0, "--count", 1, "--prefix", "backlog")


def perf_test(b, *arguments):
    libraries = os.path.join(BUILD, "perf_test")
    if not os.path.isdir(libraries):
        subprocess.run(["mvn", "-q", "-f", os.path.join(ROOT, "bench", "perf_test.xml"), "dependency:copy-dependencies",
                        "-DoutputDirectory=" + libraries], check=True)
    command = ["java", "-cp", libraries + "/*", "com.rabbitmq.perf.PerfTest", "-h", b.broker.url, "-z",
               str(PERF_TEST_SECONDS), "-s", "128", "-f", "persistent", "-u", "perf-test-0", "-ad",
               "false", "-qa", "x-queue-type=" + b.queue_type]
    done = subprocess.run(command + [str(a) for a in arguments], capture_output=True, text=True,
                          timeout=b.options.case_seconds, check=False)
    rates = dict(re.findall(r"(sending|receiving) rate avg: (\d+) msg/s", done.stdout))
    if done.returncode != 0 or not rates:
        raise RuntimeError("PerfTest: " + (done.stderr or done.stdout).strip()[-200:])
    b.load("--consumers", 0, "--count", 1, "--prefix", "perf-test")
    return {name: int(value) for name, value in rates.items()}


def case_perf_test(b):
    if b.client != "barid":
        return
    b.note("PerfTest: publish, confirms 100", perf_test(b, "-x", 1, "-y", 0, "-c", 100)["sending"])
    b.note("PerfTest: publish, confirms 1,000", perf_test(b, "-x", 1, "-y", 0, "-c", 1000)["sending"])
    b.note("PerfTest: publisher and consumer, confirms 1,000, prefetch 500",
           perf_test(b, "-x", 1, "-y", 1, "-c", 1000, "-q", 500)["receiving"])


# Those that tell of the broker's process need no second client, and come first while it is fresh.
ALONE = {"idle": case_idle, "written": case_written, "fanout": case_fanout}
LOADS = {"publish": case_publish, "consume": case_consume, "both": case_both, "queues": case_queues,
         "transient": case_transient}
LAST = {"perf-test": case_perf_test, "backlog": case_backlog}
CASES = {**ALONE, **LOADS, **LAST}


def run_case(b, name):
    try:
        CASES[name](b)
    except (RuntimeError, OSError, subprocess.SubprocessError) as e:
        print(f"  {b.contender} {name}: {e}", file=sys.stderr, flush=True)
        b.figures.setdefault(f"{name}: failed", {"unit": "", "values": {}})["values"].setdefault(b.contender, []).append(1)


def run_broker(kind, directory, options, figures, first):
    contenders = ["barid"] if kind is Barid else ["RabbitMQ classic", "RabbitMQ quorum"]
    with kind(directory) as broker:
        for contender in contenders:
            b = Bench(broker, contender, options, figures)
            b.note("raw disk: 4 KiB appended and fdatasync", raw_disk(directory))
            for name in options.cases:
                of_process = name in ALONE or name in LAST
                if of_process and contender == "RabbitMQ quorum" and name in ("idle", "backlog"):
                    continue
                if name == "transient" and contender == "RabbitMQ quorum" or name == "backlog" and not first:
                    continue
                for b.client in ["barid"] if of_process else options.clients:
                    run_case(b, name)


# --- the table ---

def shown(value, unit):
    if unit in ("×", "ms", "s"):
        return f"{value:,.2f}"
    return f"{value:,.1f}" if value < 100 and value != int(value) else f"{value:,.0f}"


def table(figures, contenders):
    others = contenders[1:] if contenders[0] == "barid" else []
    heads = contenders + [f"barid ÷ {c}" for c in others]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (1 + len(heads)) + "|"]
    for case, figure in figures.items():
        medians = [statistics.median(figure["values"][c]) if c in figure["values"] else None for c in contenders]
        cells = ["–" if m is None else f"{shown(m, figure['unit'])} {figure['unit']}".strip() for m in medians]
        ratios = ["–" if None in (m, medians[0]) or not m else f"{medians[0] / m:.2f}" for m in medians[1:]]
        lines.append("| " + " | ".join([case] + cells + ratios[:len(others)]) + " |")
    return "\n".join(lines)


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--brokers", default="rabbitmq,barid", help="which, in which order (default %(default)s)")
    p.add_argument("--cases", default=",".join(CASES), help="default: all of them")
    p.add_argument("--clients", default="barid,rabbitmq-c", help="load programs (default %(default)s)")
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--seconds", type=int, default=8, help="measured in each timed case, after --warmup")
    p.add_argument("--warmup", type=int, default=2)
    p.add_argument("--scale", type=float, default=1, help="of the numbers of messages and connections")
    p.add_argument("--backlog", type=int, default=10_000_000)
    p.add_argument("--rabbitmq-backlog", type=int, default=1_000_000, help="it takes its time to fill")
    p.add_argument("--case-seconds", type=int, default=1800, help="a case that takes longer has failed")
    p.add_argument("--dir", default="/var/tmp", help="the disk to measure (default %(default)s)")
    p.add_argument("--results", help="a file for every single figure, as JSON")
    p.add_argument("--list", action="store_true", help="name the cases")
    o = p.parse_args()
    o.cases, o.clients, o.brokers = o.cases.split(","), o.clients.split(","), o.brokers.split(",")
    for given, known in ((o.cases, CASES), (o.clients, CLIENTS), (o.brokers, ("rabbitmq", "barid"))):
        for name in given:
            if name not in known:
                p.error(f"{name} is none of {', '.join(known)}")
    return o


def main():
    o = arguments()
    if o.list:
        print("\n".join(CASES))
        return 0
    figures = {}
    directory = tempfile.mkdtemp(prefix="side-by-side-", dir=o.dir)
    try:
        for repeat in range(o.repeats):
            for name in o.brokers:
                print(f"repeat {repeat + 1} of {o.repeats}: {name}", file=sys.stderr, flush=True)
                run_broker(Barid if name == "barid" else RabbitMQ, directory, o, figures, first=repeat == 0)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if o.results:
        with open(o.results, "w", encoding="utf-8") as f:
            json.dump(figures, f, indent=1)
    seen = [c for c in ("barid", "RabbitMQ classic", "RabbitMQ quorum")
            if any(c in figure["values"] for figure in figures.values())]
    if "rabbitmq" in o.brokers:
        print(f"RabbitMQ {rabbitmq_version()}, {os.cpu_count()} cores, {o.repeats} repeats of {o.seconds} s; medians\n")
    print(table(figures, seen))
    return 1 if any(case.endswith(": failed") for case in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
