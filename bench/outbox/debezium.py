"""Debezium's PostgreSQL connector with its outbox event router, in Kafka Connect standalone, as a contender.

    with Debezium(servers, url) as debezium:   # running: reads the log of the database, writes to Kafka
        debezium.pid
        debezium.stop(); debezium.start()      # its replication slot and its offsets stay

Kafka Connect comes with the Kafka of the tests, the connector from Maven Central, once, into ${XDG_CACHE_HOME:-~/.cache}/barid
(DEBEZIUM_JARS names another folder). The heap and the collector are those of Connect's own scripts. `tuned`: what its
documentation offers for speed, since with the standard poll.interval.ms of 500 ms it naps between changes.
"""
import os
import shutil
import subprocess
import tempfile
import time
import urllib.parse

from support import maven
from support.kafka import jars as kafka_jars
from support.ports import free_port

HERE = os.path.dirname(os.path.abspath(__file__))
POM = os.path.join(HERE, "debezium-pom.xml")
START_SECONDS = 90
JAVA = ["-Xms256m", "-Xmx2g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35"]
TUNED = {"poll.interval.ms": "2", "max.batch.size": "8192", "max.queue.size": "32768"}
TUNED_PRODUCER = {"producer.linger.ms": "0", "producer.batch.size": "131072", "producer.compression.type": "none"}


def jars():
    """The folder with the connector's jars, fetched when they are not there yet."""
    return maven.jars("debezium", POM, "debezium-connector-postgres")


class Debezium:
    name = "Debezium"
    stored_by = "plain"  # how outbox_load stores for it

    def __init__(self, servers, url, tuned=True):
        self.servers, self.url, self.tuned = servers, url, tuned
        self.directory = tempfile.mkdtemp(prefix="barid-debezium-")
        self.log = os.path.join(self.directory, "log")
        self.rest = free_port()
        self.process = None
        self.write("worker.properties", self.worker())
        self.write("connector.properties", self.connector())

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    @property
    def pid(self):
        return self.process.pid

    def write(self, name, settings):
        with open(os.path.join(self.directory, name), "w", encoding="utf-8") as f:
            f.writelines(f"{key}={value}\n" for key, value in settings.items())

    def worker(self):
        return {"bootstrap.servers": self.servers.kafka.address,
                "key.converter": "org.apache.kafka.connect.storage.StringConverter",
                "value.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
                "offset.storage.file.filename": os.path.join(self.directory, "offsets"), "offset.flush.interval.ms": "1000",
                "listeners": f"http://127.0.0.1:{self.rest}", "plugin.discovery": "only_scan",
                **(TUNED_PRODUCER if self.tuned else {})}

    def connector(self):
        at = urllib.parse.urlsplit(self.url)
        return {"name": "outbox", "connector.class": "io.debezium.connector.postgresql.PostgresConnector", "tasks.max": "1",
                "plugin.name": "pgoutput", "publication.autocreate.mode": "filtered", "slot.name": "outbox",
                "database.hostname": at.hostname, "database.port": at.port, "database.user": at.username,
                "database.password": at.password or "x", "database.dbname": at.path.lstrip("/"), "topic.prefix": "bench",
                "table.include.list": "bench.events", "snapshot.mode": "no_data", "tombstones.on.delete": "false",
                "binary.handling.mode": "bytes", "transforms": "outbox",
                "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
                "transforms.outbox.route.topic.replacement": "${routedByValue}",
                "transforms.outbox.table.fields.additional.placement": "type:header:eventType",
                **(TUNED if self.tuned else {})}

    def start(self):
        classes = f"{kafka_jars()}/*:{jars()}/*"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["java", *JAVA, "-cp", classes, "org.apache.kafka.connect.cli.ConnectStandalone",
                 os.path.join(self.directory, "worker.properties"), os.path.join(self.directory, "connector.properties")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.wait_streaming()
        return self

    def wait_streaming(self):
        """Until the slot of this database is being read."""
        end = time.monotonic() + START_SECONDS
        while not self.servers.postgres.value("select count(*) from pg_replication_slots where active", url=self.url):
            if self.process.poll() is not None or time.monotonic() > end:
                with open(self.log, encoding="utf-8", errors="replace") as f:
                    text = f.read()
                self.close()
                raise RuntimeError(f"Debezium does not start: {text[-3000:]}")
            time.sleep(0.05)

    def stop(self):
        """In good order, so that its offsets are written; the slot stays."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
