"""barid user, vhost, permission and definitions with a running server: what they change is in force over AMQP, at once
and after a restart."""
import json
import os
import subprocess

import pika
import pytest

from support.server import Server, binary, eventually


class Broker:
    def __init__(self, server):
        self.server = server

    def run(self, *words, user=None, password=None, new=None, data=None):
        env = {k: v for k, v in os.environ.items() if not k.startswith("BARID_")}
        env["BARID_BROKER"] = f"http://127.0.0.1:{self.server.management_port}"
        env.update({k: v for k, v in {"BARID_BROKER_USER": user, "BARID_BROKER_PASSWORD": password,
                                      "BARID_NEW_PASSWORD": new}.items() if v is not None})
        where = ["--data", data] if data else []
        return subprocess.run([binary(), *words, *where], env=env, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60)

    def ok(self, *words, **more):
        done = self.run(*words, **more)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def refused(self, *words, **more):
        done = self.run(*words, **more)
        assert done.returncode == 1, (words, done.stdout, done.stderr)
        return done.stderr

    def objects(self, *words, **more):
        return [json.loads(line) for line in self.ok(*words, "--json", **more).splitlines()]

    def connect(self, user, password, vhost="/"):
        return pika.BlockingConnection(pika.ConnectionParameters(
            "127.0.0.1", self.server.amqp_port, vhost, pika.PlainCredentials(user, password), socket_timeout=20))


@pytest.fixture
def broker():
    with Server(amqp=True, management=True) as server:
        yield Broker(server)


REFUSED = (pika.exceptions.AMQPConnectionError, pika.exceptions.ProbableAuthenticationError,
           pika.exceptions.ProbableAccessDeniedError)


def test_a_new_user_comes_in_where_it_may(broker):
    broker.ok("user", "add", "ann", new="secret")
    broker.ok("vhost", "add", "blue")
    with pytest.raises(REFUSED):
        broker.connect("ann", "secret", "blue")
    broker.ok("permission", "set", "ann", "--vhost", "blue", "^mine", "^mine|^amq\\.default$", "^mine")
    for _ in range(2):
        with broker.connect("ann", "secret", "blue") as connection:
            channel = connection.channel()
            channel.queue_declare("mine.1", durable=True)
            channel.basic_publish("", "mine.1", b"salam")
            with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
                channel.queue_declare("yours")
            assert refused.value.reply_code == 403
        with pytest.raises(REFUSED):
            broker.connect("ann", "wrong", "blue")
        with pytest.raises(REFUSED):
            broker.connect("ann", "secret", "/")
        broker.server.restart()


def test_a_deleted_users_connections_are_closed(broker):
    broker.ok("user", "add", "ann", new="secret")
    broker.ok("permission", "set", "ann", ".*", ".*", ".*")
    connection = broker.connect("ann", "secret")
    broker.ok("user", "delete", "ann")
    with pytest.raises(pika.exceptions.ConnectionClosed):
        connection.process_data_events(time_limit=20)
    with pytest.raises(REFUSED):
        broker.connect("ann", "secret")


def test_a_virtual_host_goes_with_its_connections_and_queues(broker):
    broker.ok("vhost", "add", "blue")
    broker.ok("permission", "set", "guest", "--vhost", "blue", ".*", ".*", ".*")
    connection = broker.connect("guest", "guest", "blue")
    connection.channel().queue_declare("q", durable=True)
    broker.ok("vhost", "delete", "blue")
    with pytest.raises(pika.exceptions.ConnectionClosed):
        connection.process_data_events(time_limit=20)
    broker.server.restart()
    broker.ok("vhost", "add", "blue")
    broker.ok("permission", "set", "guest", "--vhost", "blue", ".*", ".*", ".*")
    with broker.connect("guest", "guest", "blue") as connection:
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as gone:
            connection.channel().queue_declare("q", passive=True)
        assert gone.value.reply_code == 404


def test_a_password_is_changed(broker):
    broker.ok("user", "password", "guest", new="better")
    with pytest.raises(REFUSED):
        broker.connect("guest", "guest")
    broker.connect("guest", "better").close()
    assert "password is wrong" in broker.refused("user", "list")
    assert broker.objects("user", "list", password="better") == [{"name": "guest", "tags": "administrator"}]


def test_only_an_administrator_manages(broker):
    broker.ok("user", "add", "ann", "--tags", "monitoring", new="secret")
    assert "ann" in broker.refused("user", "add", "ben", user="ann", password="secret", new="x")
    broker.ok("user", "tags", "ann", "administrator")
    broker.ok("user", "add", "ben", user="ann", password="secret", new="x")


def test_a_lost_password_is_set_while_the_server_is_stopped(broker):
    broker.ok("user", "password", "guest", new="forgotten")
    assert "a server is running" in broker.refused("user", "password", "guest", new="found", data=broker.server.data)
    broker.server.stop()
    broker.ok("user", "password", "guest", new="found", data=broker.server.data)
    broker.ok("vhost", "add", "made-offline", data=broker.server.data)
    broker.ok("permission", "set", "guest", "--vhost", "made-offline", ".*", ".*", ".*", data=broker.server.data)
    broker.server.start()
    with broker.connect("guest", "found", "made-offline") as connection:
        connection.channel().queue_declare("q")


def test_queues_are_kept_when_an_older_database_is_put_back(broker):
    database = os.path.join(broker.server.data, "barid.db")
    broker.server.stop()
    with open(database, "rb") as f:
        older = f.read()
    broker.server.start()
    broker.ok("vhost", "add", "blue")
    broker.ok("permission", "set", "guest", "--vhost", "blue", ".*", ".*", ".*")
    with broker.connect("guest", "guest", "blue") as connection:
        connection.channel().queue_declare("q", durable=True)
    broker.server.stop()
    with open(database, "wb") as f:
        f.write(older)
    broker.server.start()
    eventually(lambda: "blue" in broker.ok("vhost", "list"), what="blue")
    broker.ok("permission", "set", "guest", "--vhost", "blue", ".*", ".*", ".*")
    with broker.connect("guest", "guest", "blue") as connection:
        connection.channel().queue_declare("q", passive=True)


def test_definitions_move_a_broker(broker, tmp_path):
    broker.ok("user", "add", "ann", "--tags", "monitoring", new="secret")
    broker.ok("vhost", "add", "blue", "--description", "The blue one")
    broker.ok("permission", "set", "guest", "--vhost", "blue", ".*", ".*", ".*")
    broker.ok("permission", "set", "ann", "--vhost", "blue", "1", "2", "3")
    with broker.connect("guest", "guest", "blue") as connection:
        channel = connection.channel()
        channel.exchange_declare("orders", "topic", durable=True)
        channel.queue_declare("invoices", durable=True, arguments={"x-max-length": 5, "x-dead-letter-exchange": "orders"})
        channel.queue_bind("invoices", "orders", "order.*")
    file = str(tmp_path / "broker.json")
    broker.ok("definitions", "export", file)
    with Server(amqp=True, management=True) as other_server:
        other = Broker(other_server)
        for _ in range(2):
            assert other.ok("definitions", "import", file).startswith("imported: 2 users, 2 vhosts, 3 permissions")
        assert json.loads(other.ok("definitions", "export")) == json.loads(broker.ok("definitions", "export"))
        other_server.restart()
        assert json.loads(other.ok("definitions", "export")) == json.loads(broker.ok("definitions", "export"))
        with other.connect("guest", "guest", "blue") as connection:
            channel = connection.channel()
            channel.basic_publish("orders", "order.7", b"seven")
            body = eventually(lambda: channel.basic_get("invoices", auto_ack=True)[2], what="the message")
            assert body == b"seven"


def test_a_refused_entry_is_named(broker, tmp_path):
    file = tmp_path / "bad.json"
    file.write_text(json.dumps({"queues": [{"name": "fine", "vhost": "/", "durable": True, "arguments": {}},
                                           {"name": "odd", "vhost": "/", "durable": True,
                                            "arguments": {"x-message-ttl": "soon"}}]}))
    assert "odd" in broker.refused("definitions", "import", str(file))
