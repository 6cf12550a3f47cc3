#!/usr/bin/python3
"""From a transaction in PostgreSQL to Kafka, and on to a handler: barid, Debezium, and the ceilings of their parts, in one
go on one machine; prints Markdown tables.

    bench/outbox/run.py                                everything: about an hour
    bench/outbox/run.py --parts ceilings,barid --seconds 10
    bench/outbox/run.py --parts growth --events 10000000
    bench/outbox/run.py --results figures.json         every single figure, too

Parts: ceilings, barid, handled, debezium, debezium-standard, journey, growth. Each begins with a fresh PostgreSQL (fsync on) and a
fresh Kafka; only one runs at a time. docs/benchmarks.md says how each figure is taken.
"""
import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import servers  # noqa: E402,F401  (puts the tests' support on the path)
import cases  # noqa: E402
import growth  # noqa: E402
import journey  # noqa: E402
from contenders import CONTENDERS  # noqa: E402

PARTS = ["ceilings", "barid", "handled", "debezium", "debezium-standard", "journey", "growth"]
RAW_SECONDS = 2.0


def log(text):
    print(f"  {text}", file=sys.stderr, flush=True)


def raw_disk():
    """8 KiB appended and fdatasync, over and over: a second's worth, where the servers' files are."""
    import tempfile
    with tempfile.TemporaryFile() as f:
        os.posix_fallocate(f.fileno(), 0, 64 << 20)
        n, begun = 0, time.monotonic()
        while time.monotonic() - begun < RAW_SECONDS:
            os.pwrite(f.fileno(), b"\7" * 8192, n % 8000 * 8192)
            os.fdatasync(f.fileno())
            n += 1
        return n / (time.monotonic() - begun)


def run(part, figures, options):
    figures.note("raw disk: 8 KiB and fdatasync", part, raw_disk())
    if part == "ceilings":
        cases.ceilings(figures, options)
    elif part == "handled":
        cases.handled(figures, options)
    elif part == "journey":
        journey.journey(figures, options)
    elif part == "growth":
        growth.growth(figures, options)
    else:
        cases.to_kafka(CONTENDERS[part], figures, options)


def table(figures):
    """One row a case, one column for each who has figures in it; medians of the repeats."""
    groups = {}
    for case, values in figures.values.items():
        groups.setdefault(tuple(values), []).append(case)
    whos = sorted({who for values in figures.values.values() for who in values})
    shared = [case for case, values in figures.values.items() if len(values) > 1]
    several = [who for who in whos if any(who in figures.values[case] for case in shared)]
    if shared:
        yield f"| | {' | '.join(several)} |"
        yield "|---" * (len(several) + 1) + "|"
        for case in shared:
            yield f"| {case} | {' | '.join(cell(figures, case, who) for who in several)} |"
        yield ""
    yield "| | whose | |"
    yield "|---|---|---|"
    for case, values in figures.values.items():
        if case not in shared:
            for who in values:
                yield f"| {case} | {who} | {cell(figures, case, who)} |"


def cell(figures, case, who):
    values = figures.values[case].get(who)
    if not values:
        return "–"
    return f"{cases.shown(statistics.median(values), figures.units[case])} {figures.units[case]}"


def options_of(arguments):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    p.add_argument("--cases", default="latency,backlog,steady", help="of barid and debezium")
    p.add_argument("--rates", default="500,5000,20000", help="events a second")
    p.add_argument("--seconds", type=int, default=30, help="of a latency, and of the closed loop")
    p.add_argument("--backlog", type=int, default=1_000_000)
    p.add_argument("--handled-backlog", type=int, default=300_000)
    p.add_argument("--stored-seconds", type=int, default=5)
    p.add_argument("--jvm-warmup", type=int, default=20, help="seconds at 2,000/s before anything counts")
    p.add_argument("--events", type=int, default=10_000_000, help="of the long run")
    p.add_argument("--growth-rate", type=int, default=10_000)
    p.add_argument("--pin-seconds", type=int, default=120, help="so long a transaction holds back the vacuum in the long run")
    p.add_argument("--settle-seconds", type=int, default=150, help="after it; the autovacuum looks once a minute")
    p.add_argument("--repeats", type=int, default=1)
    p.add_argument("--results", help="a JSON file for all figures")
    o = p.parse_args(arguments)
    o.parts, o.cases = o.parts.split(","), o.cases.split(",")
    o.rates = [int(rate) for rate in o.rates.split(",")]
    unknown = set(o.parts) - set(PARTS)
    if unknown:
        p.error(f"no such part: {', '.join(unknown)}")
    return o


def main(arguments):
    options = options_of(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are ended, too
    figures, failed = cases.Figures(log), []
    for _ in range(options.repeats):
        for part in options.parts:
            log(f"--- {part}")
            try:
                run(part, figures, options)
            except (RuntimeError, AssertionError, OSError, subprocess.SubprocessError) as e:
                failed.append(f"{part}: {e}")
                log(f"FAILED: {e}")
    print("\n".join(table(figures)))
    if options.results:
        with open(options.results, "w", encoding="utf-8") as f:
            json.dump({case: {"unit": figures.units[case], "values": values} for case, values in figures.values.items()}, f,
                      indent=1, ensure_ascii=False)
    for text in failed:
        print(f"failed: {text}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
