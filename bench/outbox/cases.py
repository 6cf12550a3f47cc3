"""The measurements. Each notes its figures; a figure is a value, its unit, and whose it is.

COMMIT → Kafka is from the moment COMMIT had returned to the client until the record was in the broker's log by its own
clock; COMMIT → consumed until a consumer beside it had it; COMMIT → handled until the transaction of the handler was
committed. Loss, duplicates and broken order of a key end the run.
"""
import array
import collections
import contextlib
import time

from contenders import Barid, Receive
from servers import Servers, memory_of, memory_of_tree

RATES = {500: 1, 5000: 10, 20000: 20}  # events/s: events a transaction
CONNECTIONS = 4
WARMUP_SECONDS = 3
KEYS = 1000
HANDLED_SECONDS = 120
PAYLOAD = ("--bytes", 200)


class Figures:
    """case -> who -> values of the repeats."""

    def __init__(self, log):
        self.units, self.values, self.log = {}, collections.defaultdict(lambda: collections.defaultdict(list)), log

    def note(self, case, who, value, unit="/s"):
        self.units[case] = unit
        self.values[case][who].append(value)
        self.log(f"{who:28} {case:66} {shown(value, unit)} {unit}")


def shown(value, unit):
    if unit == "/s":
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def must_be_whole(watched, who, case):
    wrong = {name: watched[name] for name in ("lost", "out_of_order", "strange") if watched[name]}
    if who == Barid.name and watched["duplicates"]:
        wrong["duplicates"] = watched["duplicates"]  # nothing failed, so nothing is sent twice
    if wrong:
        raise RuntimeError(f"{who}, {case}: {wrong}")


def note_cpu(figures, case, who, cpu, events):
    for party in ("contender", "postgres", "kafka"):
        figures.note(f"{case}: CPU of {party}", who, getattr(cpu, party) * 1e6 / events, "µs/event")


# --- to Kafka ---

def latency(servers, contender, url, figures, rate, seconds):
    per_tx, events = RATES.get(rate, 10), rate * (seconds + WARMUP_SECONDS)
    topic, commits, case = servers.topic(), servers.commits(), f"{rate:,}/s"
    watch = servers.watch(topic, events, "--commits", commits, "--skip", rate * WARMUP_SECONDS)
    before = servers.cpu(contender.pid)
    load = servers.load(url, topic, "--by", contender.stored_by, "--rate", rate, "--per-tx", per_tx, "--events", events,
                        "--connections", CONNECTIONS, "--commits", commits, *PAYLOAD).result()
    watched = watch.result()
    cpu = servers.cpu(contender.pid) - before
    must_be_whole(watched, contender.name, case)
    for what, name in (("kafka", "COMMIT → Kafka"), ("consumed", "COMMIT → consumed")):
        for quantile, label in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9")):
            figures.note(f"{case}: {name} {label}", contender.name, watched[f"{what}_ms"][quantile], "ms")
    figures.note(f"{case}: load late p99", contender.name, load["late_ms"]["p99"], "ms")
    note_cpu(figures, case, contender.name, cpu, events)


def backlog(servers, contender, url, figures, events):
    topic, commits, case = servers.topic(), servers.commits(), f"backlog of {events:,}"
    contender.freeze()
    try:
        servers.load(url, topic, "--by", contender.fills_by, "--per-tx", 1000 if contender.fills_by == "rows" else 100,
                     "--events", events, "--connections", 1, "--commits", commits, *PAYLOAD).result()
        servers.postgres.execute("checkpoint", url=url)
        watch = servers.watch(topic, events, "--commits", commits, "--idle", 60)
        before = servers.cpu(contender.pid)
    finally:
        contender.thaw()
    watched = watch.result()
    cpu = servers.cpu(contender.pid) - before
    must_be_whole(watched, contender.name, case)
    figures.note(f"{case}: to Kafka", contender.name, watched["per_s"])
    note_cpu(figures, case, contender.name, cpu, events)


def steady(servers, contender, url, figures, seconds, per_tx=10):
    """As much as four connections store, while it is carried away."""
    topic, commits, case = servers.topic(), servers.commits(), f"closed loop, {CONNECTIONS} connections, {per_tx} events a transaction"
    most = 60000 * seconds
    before = servers.cpu(contender.pid)
    begun = time.monotonic_ns()
    watch = servers.watch(topic, most, "--commits", commits, "--idle", 5)
    load = servers.load(url, topic, "--by", contender.stored_by, "--seconds", seconds, "--per-tx", per_tx, "--events", most,
                        "--connections", CONNECTIONS, "--commits", commits, *PAYLOAD).result()
    loaded = time.monotonic_ns()
    watched = watch.result()
    cpu = servers.cpu(contender.pid) - before
    must_be_whole(watched, contender.name, case)
    figures.note(f"{case}: stored", contender.name, load["per_s"])
    figures.note(f"{case}: came to Kafka", contender.name, watched["distinct"] * 1e9 / (watched["last_ns"] - begun))
    figures.note(f"{case}: behind at the end", contender.name, max(0, watched["last_ns"] - loaded) / 1e9, "s")
    note_cpu(figures, case, contender.name, cpu, load["events"])


def to_kafka(kind, figures, options):
    with Servers(logical=kind.logical) as servers:
        url = servers.database()
        with kind(servers, url) as contender:
            figures.note("resident, idle", contender.name, memory_of(contender.pid) / 1e6, "MB")
            if "latency" in options.cases:
                latency(servers, contender, url, Figures(lambda _: None), 2000, options.jvm_warmup)  # JIT, caches
                for rate in options.rates:
                    latency(servers, contender, url, figures, rate, options.seconds)
            if "backlog" in options.cases:
                backlog(servers, contender, url, figures, options.backlog)
            if "steady" in options.cases:
                steady(servers, contender, url, figures, options.seconds)
            figures.note("resident, afterwards", contender.name, memory_of(contender.pid) / 1e6, "MB")
            figures.note("resident, afterwards: PostgreSQL", contender.name,
                         memory_of_tree(servers.postgres.process.pid) / 1e6, "MB")


# --- to the handler ---

def handled_times(servers, url, events, commits):
    """Seconds from COMMIT to the handler's commit, sorted; fails when an event is not there exactly once."""
    rows = servers.postgres.execute(
        "select number, (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1e9)::bigint from bench.ledger", url=url)
    if len(rows) != events or len({number for number, _ in rows}) != events:
        raise RuntimeError(f"handled {len(rows)} times {len(set(n for n, _ in rows))} events of {events}")
    committed = array.array("q")
    with open(commits, "rb") as f:
        committed.frombytes(f.read(events * 8))
    wall = time.time_ns() - time.monotonic_ns()
    return sorted((number, max(0, at - committed[number] - wall) / 1e9) for number, at in rows)


def wait_for_ledger(servers, url, events):
    end = time.monotonic() + HANDLED_SECONDS
    with contextlib.closing(servers.postgres.connect(url)) as connection, connection.cursor() as cursor:
        while time.monotonic() < end:
            cursor.execute("select count(*) from bench.ledger")
            if cursor.fetchone()[0] >= events:
                return
            time.sleep(0.2)
    raise RuntimeError(f"not handled within {HANDLED_SECONDS} s")


def quantile(values, q):
    return values[min(len(values) - 1, int(q * len(values)))]


def handled_latency(servers, url, figures, rate, seconds):
    topic, commits, case, events = servers.topic(), servers.commits(), f"{rate:,}/s", rate * (seconds + WARMUP_SECONDS)
    who = "barid relay and receive"
    servers.postgres.execute("truncate bench.ledger", url=url)
    with Barid(servers, url) as relay, Receive(url, servers.kafka.url, f"c-{topic}", topic, "sql:bench.handle") as receive:
        before, before_receive = servers.cpu(relay.pid), servers.cpu(receive.process.pid)
        servers.load(url, topic, "--by", "publish", "--rate", rate, "--per-tx", RATES.get(rate, 10), "--events", events,
                     "--connections", CONNECTIONS, "--commits", commits, *PAYLOAD).result()
        wait_for_ledger(servers, url, events)
        cpu, of_receive = servers.cpu(relay.pid) - before, servers.cpu(receive.process.pid) - before_receive
    note_cpu(figures, f"handled, {case}", who, cpu, events)
    figures.note(f"handled, {case}: CPU of receive", who, of_receive.contender * 1e6 / events, "µs/event")
    times = sorted(ms for number, ms in handled_times(servers, url, events, commits) if number >= rate * WARMUP_SECONDS)
    for q, label in ((0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")):
        figures.note(f"handled, {case}: COMMIT → handled {label}", who, quantile(times, q) * 1e3, "ms")


def handled_backlog(servers, url, figures, events):
    """What lies in Kafka already is taken in and handled."""
    topic, who, case = servers.topic(), "barid receive", f"handled, backlog of {events:,}"
    servers.postgres.execute("truncate bench.ledger", url=url)
    servers.ceiling("produce", "--brokers", servers.kafka.address, "--topic", topic, "--events", events, *PAYLOAD).result()
    with Receive(url, servers.kafka.url, f"c-{topic}", topic, "sql:bench.handle") as receive:
        wait_for_ledger(servers, url, events)
        cpu = servers.cpu(receive.process.pid)
    first, last, n, distinct = servers.postgres.execute(
        "select min(extract(epoch from pg_xact_commit_timestamp(xmin)))::float8, "
        "max(extract(epoch from pg_xact_commit_timestamp(xmin)))::float8, count(*), count(distinct number) from bench.ledger",
        url=url)[0]
    if (n, distinct) != (events, events):
        raise RuntimeError(f"{case}: handled {n} times {distinct} events")
    figures.note(f"{case}: handled", who, events / (last - first))
    figures.note(f"{case}: CPU of receive", who, cpu.contender * 1e6 / events, "µs/event")


def handled(figures, options):
    with Servers() as servers:
        url = servers.database()
        for rate in options.rates:
            handled_latency(servers, url, figures, rate, options.seconds)
        handled_backlog(servers, url, figures, options.handled_backlog)


# --- ceilings ---

def ceiling_delete(servers, url, figures, events):
    best = (0, None)
    for connections in (1, 2):
        for batch in (100, 1000, 5000) if connections == 1 else (best[1],):
            servers.postgres.execute("truncate barid.outbox", url=url)
            servers.load(url, "none", "--by", "rows", "--per-tx", 1000, "--events", events, *PAYLOAD).result()
            servers.postgres.execute("vacuum analyze barid.outbox", url=url)
            got = servers.ceiling("delete", "--url", url, "--batch", batch, "--connections", connections).result()
            figures.note(f"ceiling: delete … returning, batch {batch:,}, {connections} connection{'s' * (connections > 1)}",
                         "ceiling", got["per_s"])
            best = max(best, (got["per_s"], batch))
    return best[0]


def ceiling_produce(servers, figures, events):
    best = 0
    for linger in ("0", "5"):
        got = servers.ceiling("produce", "--brokers", servers.kafka.address, "--topic", servers.topic(), "--events", events,
                              "--linger", linger, *PAYLOAD).result()
        figures.note(f"ceiling: librdkafka, acks=all, idempotent, linger {linger} ms", "ceiling", got["per_s"])
        best = max(best, got["per_s"])
    return best


def ceiling_inbox(servers, url, figures, events):
    for got in servers.ceiling("inbox", "--url", url, "--events", events, "--batch", 1000, *PAYLOAD).results():
        figures.note(f"ceiling: {got['mode']}, batch 1,000", "ceiling", got["per_s"])


def stored(servers, url, figures, seconds):
    """What the application pays, and what of it is the notice."""
    for per_tx in (1, 10):
        for connections in (1, 8, 32):
            for by, trigger in (("insert", "disable"), ("insert", "enable"), ("publish", "enable")):
                servers.postgres.execute(f"alter table barid.outbox {trigger} trigger outbox_notify", url=url)
                servers.postgres.execute("truncate barid.outbox", url=url)
                got = servers.load(url, "none", "--by", by, "--per-tx", per_tx, "--connections", connections, "--seconds",
                                   seconds, *PAYLOAD).result()
                how = "barid.publish" if by == "publish" else f"insert, notices {'on' if trigger == 'enable' else 'off'}"
                figures.note(f"stored, {per_tx} a transaction, {connections} connections: {how}", "application", got["per_s"])
    servers.postgres.execute("truncate barid.outbox", url=url)


def ceilings(figures, options):
    with Servers() as servers:
        url = servers.database()
        lower = min(ceiling_delete(servers, url, figures, options.backlog),
                    ceiling_produce(servers, figures, options.backlog))
        figures.note("ceiling: the lower of the two", "ceiling", lower)
        ceiling_inbox(servers, url, figures, options.handled_backlog)
        stored(servers, url, figures, options.stored_seconds)
