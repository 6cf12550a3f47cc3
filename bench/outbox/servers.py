"""What the measurements of the outbox run on: a PostgreSQL, a Kafka, and the programs of build/bench.

    with Servers(logical=False) as servers:
        url = servers.database()              # with the outbox's tables and bench.events
        topic = servers.topic()
        watch = servers.watch(topic, n, commits)
        load = servers.load(url, topic, "--events", n, …)
        watch.result()                        # its JSON
        before = servers.cpu(relay.process.pid)
        servers.cpu(relay.process.pid) - before   # Cpu: seconds of each party
"""
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get("BUILD", os.path.join(ROOT, "build"))
os.environ.setdefault("BARID", os.path.join(BUILD, "barid"))
sys.path.insert(0, os.path.join(ROOT, "tests"))

from support.kafka import Kafka  # noqa: E402
from support.postgres import Postgres, children_of  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
# As a machine of its own would have it, but for the disk, which is the same for all.
POSTGRES = {"shared_buffers": "512MB", "max_wal_size": "4GB", "checkpoint_timeout": "5min", "track_commit_timestamp": "on",
            "log_autovacuum_min_duration": "0", "max_connections": "200"}
KAFKA_JAVA = ["-Xms1g", "-Xmx1g", "-XX:+UseG1GC"]  # as its own scripts start it
PARTITIONS = 4
# The table of Debezium's outbox event router, with its customary columns.
EVENTS = """create schema bench;
create table bench.events (id uuid primary key default gen_random_uuid(), aggregatetype text not null,
                           aggregateid text not null, type text not null, payload bytea);
create table bench.ledger (number bigint not null);
-- The handler of `barid receive`: writes down which event it was. When, is the commit's own time (track_commit_timestamp).
create function bench.handle(event_id uuid, topic text, key text, payload text, headers jsonb) returns void
    language sql as $$ insert into bench.ledger (number) values (left(payload, 20)::bigint) $$;"""


def cpu_of(pid):
    """Seconds of a process, with the children it has buried."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            fields = f.read().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(int(fields[i]) for i in (11, 12, 13, 14)) / TICK


def memory_of(pid):
    """Resident bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS:"))


def memory_of_tree(pid):
    """Bytes of a process and its children, shared pages counted in shares (Pss)."""
    total = 0
    for each in [pid] + children_of(pid):
        with contextlib.suppress(OSError), open(f"/proc/{each}/smaps_rollup", encoding="ascii") as f:
            total += next(int(line.split()[1]) * 1024 for line in f if line.startswith("Pss:"))
    return total


@dataclasses.dataclass
class Cpu:
    """Seconds of CPU so far, or between two looks."""
    contender: float
    postgres: float
    kafka: float

    def __sub__(self, other):
        return Cpu(self.contender - other.contender, self.postgres - other.postgres, self.kafka - other.kafka)


class Program:
    """A program of build/bench that prints one line of JSON at its end."""

    def __init__(self, name, *arguments, says=None):
        self.name = name
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen([os.path.join(BUILD, "bench", name), *map(str, arguments)], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=self.errors, text=True)
        if says and self.process.stdout.readline().strip() != says:
            self.fail()

    def fail(self):
        self.process.kill()
        self.process.wait()
        self.errors.seek(0)
        raise RuntimeError(f"{self.name}: {self.errors.read().decode(errors='replace').strip()}")

    def results(self):
        """All its lines."""
        out, _ = self.process.communicate()
        if self.process.returncode != 0:
            self.fail()
        self.errors.seek(0)
        sys.stderr.write(self.errors.read().decode(errors="replace"))
        self.errors.close()
        return [json.loads(line) for line in out.splitlines()]

    def result(self):
        return self.results()[-1]

    def end(self):
        self.process.kill()
        self.process.communicate()
        self.errors.close()


class Servers:
    """A fresh PostgreSQL and a fresh Kafka. `logical`: wal_level=logical, for who reads the log."""

    def __init__(self, logical=False):
        self.postgres = self.kafka = None
        self.topics = 0
        self.directory = tempfile.mkdtemp(prefix="barid-bench-")
        try:
            self.postgres = Postgres(settings={**POSTGRES, "wal_level": "logical" if logical else "replica"})
            self.kafka = Kafka(settings={"log.retention.bytes": str(4 << 30), "log.segment.bytes": str(256 << 20)})
            self.kafka.java[1:1 + self.kafka.java.index("-cp") - 1] = KAFKA_JAVA
            self.kafka.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for server in (self.kafka, self.postgres):
            if server is not None:
                server.close()
        with contextlib.suppress(OSError):
            for name in os.listdir(self.directory):
                os.unlink(os.path.join(self.directory, name))
            os.rmdir(self.directory)

    def database(self):
        url = self.postgres.create_database("bench")
        subprocess.run([os.environ["BARID"], "migrate", "--database", url], check=True, stdout=subprocess.DEVNULL)
        self.postgres.execute(EVENTS, url=url)
        return url

    def topic(self):
        self.topics += 1
        name = f"orders-{self.topics}"
        self.kafka.create_topic(name, PARTITIONS, {"message.timestamp.type": "LogAppendTime"})
        return name

    def commits(self):
        """A new file for the times of commits."""
        handle, path = tempfile.mkstemp(dir=self.directory)
        os.close(handle)
        return path

    def cpu(self, pid):
        postgres = sum(map(cpu_of, self.postgres.processes()))
        return Cpu(cpu_of(pid) if pid else 0.0, postgres, cpu_of(self.kafka.process.pid))

    def load(self, url, topic, *arguments):
        return Program("outbox_load", "--url", url, "--topic", topic, *arguments)

    def watch(self, topic, events, *arguments):
        return Program("outbox_watch", "--brokers", self.kafka.address, "--topic", topic, "--events", events, *arguments,
                       says="watching")

    def ceiling(self, mode, *arguments):
        return Program("outbox_ceiling", mode, *arguments)
