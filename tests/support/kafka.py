"""A real Kafka of one node (KRaft), for tests and measurements: fetched once from Maven Central, then started at will.

    with Kafka() as kafka:                 # raises KafkaMissing when there is no Java, or it cannot be fetched
        kafka.url                          # kafka://127.0.0.1:PORT
        kafka.create_topic("orders", partitions=4)
        kafka.produce("orders", b"value", key=b"key", headers={"ce_id": "…"})
        kafka.records("orders", 3)         # the first three there are, in the order of their partitions
        kafka.kill(); kafka.start()        # the same one: same port, same data
        kafka.freeze(); kafka.thaw()       # SIGSTOP, SIGCONT: a broker that is there and does not answer
        kafka.stop(); kafka.start()        # in good order

The jars are kept in ${XDG_CACHE_HOME:-~/.cache}/barid/kafka-VERSION; KAFKA_JARS names another folder of them. Topics are
not made by themselves (auto.create.topics.enable=false), as on brokers that are looked after.
"""
import os
import shutil
import signal
import subprocess
import tempfile
import time

from support import maven
from support.ports import free_port

HERE = os.path.dirname(os.path.abspath(__file__))
POM = os.path.join(HERE, "kafka-pom.xml")
START_SECONDS = 60
STOP_SECONDS = 30
JAVA = ["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]  # starts in about two seconds
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "2000",  # so long a killed broker is not let in again
    "num.partitions": "4",
    "auto.create.topics.enable": "false",
}


class KafkaMissing(maven.Missing):
    """There is no Kafka here, and why."""


def jars():
    """The folder with Kafka's jars, fetched when they are not there yet."""
    try:
        return maven.jars("kafka", POM, "kafka-tools")
    except maven.Missing as e:
        raise KafkaMissing(str(e)) from None


class Kafka:
    """One broker and its data. Ports and data stay the same from one start to the next."""

    def __init__(self, settings=None, directory=None):
        """`settings`: of the broker, over SETTINGS. `directory`: kept afterwards; else a temporary one, removed."""
        if not shutil.which("java"):
            raise KafkaMissing("no java to run Kafka with")
        self.java = ["java", *JAVA, "-cp", os.path.join(jars(), "*")]
        self.owns = directory is None
        self.directory = directory or tempfile.mkdtemp(prefix="barid-kafka-")
        self.port, self.controller_port = free_port(), free_port()
        self.process = None
        self.log = os.path.join(self.directory, "log")
        self.config = os.path.join(self.directory, "server.properties")
        self.configure(settings or {})

    def configure(self, settings):
        addresses = {
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self.controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "log.dirs": os.path.join(self.directory, "data"),
        }
        with open(self.config, "w", encoding="utf-8") as f:
            for name, value in {**SETTINGS, **addresses, **settings}.items():
                f.write(f"{name}={value}\n")

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"kafka://{self.address}"

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    # --- the process ---

    def start(self):
        if not os.path.isdir(os.path.join(self.directory, "data")):
            self.format()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([*self.java, "kafka.Kafka", self.config], stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, start_new_session=True)
        end = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                self.kill()
                with open(self.log, encoding="utf-8", errors="replace") as f:
                    raise KafkaMissing(f"Kafka does not start: {f.read()[-1000:]}")
        return self

    def format(self):
        done = subprocess.run([*self.java, "kafka.tools.StorageTool", "format", "--standalone", "-t",
                               "barid-kafka-for-tests0", "-c", self.config], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=START_SECONDS, check=False)
        if done.returncode != 0:
            raise KafkaMissing(f"Kafka's storage cannot be made: {(done.stdout + done.stderr).strip()[-1000:]}")

    def answers(self):
        """Does it give metadata? Waits a moment for it."""
        from confluent_kafka import KafkaException
        try:
            return bool(self.admin().list_topics(timeout=1).brokers)
        except KafkaException:
            return False

    def stop(self):
        """In good order: offsets and logs written, leadership given up."""
        self.end(signal.SIGTERM)

    def kill(self):
        """As a crash ends it."""
        self.end(signal.SIGKILL)

    def end(self, how):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)  # a frozen one takes no other signal
            self.process.send_signal(how)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def restart(self):
        self.stop()
        return self.start()

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        if not self.owns:
            self.stop()
            return
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- what is on it ---

    def admin(self):
        from confluent_kafka.admin import AdminClient
        return AdminClient({"bootstrap.servers": self.address, "log_level": 0})

    def create_topic(self, name, partitions=4, config=None):
        from confluent_kafka.admin import NewTopic
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config or {})
        admin = self.admin()  # which must outlive its answer
        admin.create_topics([topic], request_timeout=30)[name].result(30)

    def delete_topic(self, name):
        admin = self.admin()
        admin.delete_topics([name], operation_timeout=30)[name].result(30)

    def topics(self):
        return set(self.admin().list_topics(timeout=10).topics)

    def produce(self, topic, value, key=None, headers=None, partition=-1):
        """Returns when the broker has it: (partition, offset)."""
        from confluent_kafka import KafkaException, Producer
        answer = []
        producer = Producer({"bootstrap.servers": self.address, "partitioner": "murmur2_random", "log_level": 0})
        producer.produce(topic, value, key=key, headers=headers or {}, partition=partition,
                         on_delivery=lambda error, message: answer.append((error, message)))
        producer.flush(30)
        error, message = answer[0]
        if error:
            raise KafkaException(error)
        return message.partition(), message.offset()

    def records(self, topic, n, seconds=30):
        """The first n records of a topic, which need not be there yet, fewer when the time is up: confluent_kafka's
        messages, those of a partition in its order."""
        from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "barid-reader", "log_level": 0,
                             "enable.auto.commit": False})
        try:
            got, end, partitions = [], time.monotonic() + seconds, {}
            while not partitions and time.monotonic() < end:
                partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
            while len(got) < n and time.monotonic() < end:
                got += [m for m in consumer.consume(n - len(got), timeout=0.2) if not m.error()]
            return sorted(got, key=lambda m: (m.partition(), m.offset()))
        finally:
            consumer.close()

    def committed(self, group, topic):
        """The offset a group has committed, for each partition that has one: {partition: offset}."""
        from confluent_kafka import Consumer, TopicPartition
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": group, "log_level": 0})
        try:
            partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            stored = consumer.committed([TopicPartition(topic, p) for p in partitions], timeout=10)
            return {p.partition: p.offset for p in stored if p.offset >= 0}
        finally:
            consumer.close()
