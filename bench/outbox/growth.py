"""A long run: does anything grow that ought not to?

Events are stored at a steady rate (open loop) while `barid relay` carries them away; every few seconds the sizes of the
table and its indexes, dead rows, backlog, WAL and CPU are looked at. Then the same goes on with a transaction that holds
back every vacuum for a while, and goes on again without it. Growth is judged by the largest of the samples: those of the
last third may not be more than a quarter above those of the third before.
"""
import contextlib
import csv
import sys
import time

from contenders import Barid
from servers import Servers, memory_of

SAMPLE_SECONDS = 5
GROWTH = 1.25
SMALL = 64 << 20  # bytes within which the vacuum's rhythm plays, and nothing counts as growth
SMALL_BACKLOG = 5  # seconds of the rate
SAMPLE = """select pg_table_size('barid.outbox'), pg_indexes_size('barid.outbox'), n_dead_tup, n_live_tup,
       pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint, autovacuum_count
       from pg_stat_user_tables where relid = 'barid.outbox'::regclass"""
COLUMNS = ["seconds", "table", "indexes", "dead", "live", "wal", "vacuums", "relay_memory", "relay_cpu", "postgres_cpu",
           "kafka_cpu", "phase"]


class Sampler:
    """Looks every few seconds, and writes what it sees to standard error as CSV."""

    def __init__(self, servers, url, relay):
        self.servers, self.relay = servers, relay
        self.connection = servers.postgres.connect(url)
        self.begun = time.monotonic()
        self.samples = []
        self.writer = csv.writer(sys.stderr)
        self.writer.writerow(COLUMNS)

    def close(self):
        self.connection.close()

    def sample(self, phase):
        with self.connection.cursor() as cursor:
            cursor.execute(SAMPLE)
            row = cursor.fetchone()
        cpu = self.servers.cpu(self.relay.pid)
        values = [round(time.monotonic() - self.begun, 1), *row, memory_of(self.relay.pid), cpu.contender, cpu.postgres,
                  cpu.kafka, phase]
        self.samples.append(dict(zip(COLUMNS, values)))
        self.writer.writerow(values)
        sys.stderr.flush()

    def during(self, program, phase):
        """Until it has ended; its result."""
        while program.process.poll() is None:
            self.sample(phase)
            with contextlib.suppress(Exception):
                program.process.wait(SAMPLE_SECONDS)
        self.sample(phase)
        return program.result()

    def of(self, phase, name):
        return [each[name] for each in self.samples if each["phase"] == phase]


def must_not_grow(sampler, phase, name, small):
    values = sampler.of(phase, name)
    third = len(values) // 3
    if third == 0:
        raise RuntimeError(f"the run is too short to tell whether {name} grows")
    before, after = max(values[third:2 * third]), max(values[2 * third:])
    if after > max(before * GROWTH, small):
        raise RuntimeError(f"{phase}: {name} grows: {before:,} at most in the second third, {after:,} in the last")


def store(servers, url, topic, first, events, rate):
    return servers.load(url, topic, "--by", "publish", "--rate", rate, "--per-tx", 20, "--connections", 4, "--first", first,
                        "--events", events, "--bytes", 200)


def backlog(servers, url):
    return servers.postgres.value("select count(*) from barid.outbox", url=url)


def note_phase(figures, sampler, phase, events):
    first = [each for each in sampler.samples if each["phase"] == phase][0]
    last = [each for each in sampler.samples if each["phase"] == phase][-1]
    for name, of in (("relay_cpu", "CPU of relay"), ("postgres_cpu", "CPU of PostgreSQL"), ("kafka_cpu", "CPU of Kafka")):
        figures.note(f"{phase}: {of}", "barid relay", (last[name] - first[name]) * 1e6 / events, "µs/event")
    figures.note(f"{phase}: WAL", "barid relay", (last["wal"] - first["wal"]) / events, "bytes/event")
    for name, of in (("table", "table"), ("indexes", "indexes"), ("relay_memory", "resident relay")):
        figures.note(f"{phase}: {of} at most", "barid relay", max(sampler.of(phase, name)) / 1e6, "MB")
    figures.note(f"{phase}: dead rows at most", "barid relay", max(sampler.of(phase, "dead")), "rows")


def must_keep_up(servers, url, rate, phase):
    waiting = backlog(servers, url)
    if waiting > rate * SMALL_BACKLOG:
        raise RuntimeError(f"{phase}: {waiting:,} events wait at its end: the relay does not keep up with {rate:,} a second")


def growth(figures, options):
    rate, pinned = options.growth_rate, options.growth_rate * options.pin_seconds
    with Servers() as servers:
        url, topic = servers.database(), servers.topic()
        with Barid(servers, url) as relay, contextlib.closing(Sampler(servers, url, relay)) as sampler:
            phase = f"long run, {options.events:,} events at {rate:,}/s"
            sampler.during(store(servers, url, topic, 0, options.events, rate), phase)
            must_keep_up(servers, url, rate, phase)
            note_phase(figures, sampler, phase, options.events)
            must_not_grow(sampler, phase, "table", SMALL)
            must_not_grow(sampler, phase, "indexes", SMALL)
            must_not_grow(sampler, phase, "relay_memory", SMALL)
            pin(servers, url, topic, sampler, figures, options, rate, pinned)


def pin(servers, url, topic, sampler, figures, options, rate, events):
    phase = f"vacuum held back for {options.pin_seconds} s at {rate:,}/s"
    with contextlib.closing(servers.postgres.connect(url, autocommit=False)) as holder:
        holder.set_session(isolation_level="REPEATABLE READ")
        with holder.cursor() as cursor:
            cursor.execute("select count(*) from barid.buckets")
        sampler.during(store(servers, url, topic, options.events, events, rate), phase)
        must_keep_up(servers, url, rate, phase)
        note_phase(figures, sampler, phase, events)
    after = f"after it, at {rate:,}/s"
    more = rate * options.settle_seconds
    sampler.during(store(servers, url, topic, options.events + events, more, rate), after)
    must_keep_up(servers, url, rate, after)
    note_phase(figures, sampler, after, more)
    figures.note(f"{after}: dead rows at the end", "barid relay", sampler.samples[-1]["dead"], "rows")
    must_not_grow(sampler, after, "table", SMALL)
