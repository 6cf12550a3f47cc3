"""RabbitMQ's own tool against the server: rabbitmqadmin as Debian's rabbitmq-server package has it."""
import glob
import os
import shutil
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The installed one, or the one in the package, which is fetched and unpacked but not installed."""
    installed = glob.glob("/usr/lib/rabbitmq/lib/*/plugins/rabbitmq_management-*/priv/www/cli/rabbitmqadmin")
    if installed:
        return installed[0]
    folder = str(tmp_path_factory.mktemp("package"))
    if shutil.which("apt-get") is None:
        pytest.skip("no apt-get to fetch rabbitmqadmin with")
    try:
        fetched = subprocess.run(["apt-get", "download", "rabbitmq-server"], cwd=folder, capture_output=True, timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip("the package does not come")
    packages = glob.glob(os.path.join(folder, "*.deb"))
    if fetched.returncode != 0 or not packages:
        pytest.skip("the package cannot be fetched")
    subprocess.run(["dpkg-deb", "-x", packages[0], folder], check=True)
    return glob.glob(folder + "/usr/lib/rabbitmq/lib/*/plugins/rabbitmq_management-*/priv/www/cli/rabbitmqadmin")[0]


@pytest.fixture
def admin(script, server):
    def run(*args, user="guest", code=0):
        command = [sys.executable, script, "-H", "127.0.0.1", "-P", str(server.management_port), "-u", user, "-p", "guest",
                   "-f", "tsv", *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stdout + done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]
    return run


def test_it_declares_publishes_gets_and_deletes(admin):
    admin("declare", "queue", "name=ra/q", "durable=true", 'arguments={"x-max-priority":5}')
    admin("declare", "exchange", "name=ra", "type=topic")
    admin("declare", "binding", "source=ra", "destination=ra/q", "routing_key=a.#")
    assert ["ra", "ra/q", "a.#"] in admin("list", "bindings")
    admin("publish", "exchange=ra", "routing_key=a.b", "payload=hello", 'properties={"delivery_mode":2}')
    assert admin("get", "queue=ra/q", "ackmode=ack_requeue_true")[1][:4] == ["a.b", "ra", "0", "hello"]
    assert ["ra/q", "1"] in admin("list", "queues", "name", "messages")
    admin("purge", "queue", "name=ra/q")
    assert ["ra/q", "0"] in admin("list", "queues", "name", "messages")
    admin("delete", "binding", "source=ra", "destination=ra/q", "destination_type=queue", "properties_key=a.%23")
    admin("delete", "exchange", "name=ra")
    admin("delete", "queue", "name=ra/q")
    admin("declare", "queue", "name=bad", 'arguments={"x-max-length":"many"}', code=1)


def test_it_manages_users_and_virtual_hosts(admin):
    admin("declare", "vhost", "name=ra/v")
    admin("declare", "user", "name=rae", "password=guest", "tags=management")
    admin("declare", "permission", "vhost=ra/v", "user=rae", "configure=.*", "write=.*", "read=.*")
    admin("-V", "ra/v", "declare", "queue", "name=mine", user="rae")
    assert admin("list", "queues", "name", user="rae")[1:] == [["mine"]]
    admin("list", "users", user="rae", code=1)
    assert ["rae", "ra/v"] in admin("list", "permissions", "user", "vhost")
    admin("delete", "vhost", "name=ra/v")
    admin("delete", "user", "name=rae")


def test_it_looks_around(admin, amqp):
    connection = amqp()
    connection.channel()
    for what in ("connections", "channels", "consumers", "nodes", "exchanges", "vhosts", "users", "permissions"):
        admin("list", what)
    assert len(admin("show", "overview")) == 2
    [*_, last] = admin("list", "connections", "name")
    admin("close", "connection", "name=" + last[0])
    with pytest.raises(Exception):
        connection.process_data_events(5)
        connection.channel()


def test_it_exports_and_imports(admin, tmp_path):
    admin("declare", "queue", "name=kept", "durable=true")
    path = str(tmp_path / "definitions.json")
    admin("export", path)
    admin("delete", "queue", "name=kept")
    admin("import", path)
    assert ["kept"] in admin("list", "queues", "name")
