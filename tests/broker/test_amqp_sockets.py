"""The AMQP door over real sockets: what it listens on, TLS, limits, time, slow and vanishing clients, draining."""
import os
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import pika
import pytest
import requests
from pika.exceptions import (AMQPConnectionError, ChannelClosedByBroker, ConnectionClosedByBroker,
                             ProbableAccessDeniedError, ProbableAuthenticationError)

from support.raw_amqp import CLOSE, CLOSE_OK, HEADER, Raw, SECRET_OK, frame, long, method, short
from support.server import Server, binary, eventually

def connect(server, **more):
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", server.amqp_port, socket_timeout=20, **more))


@pytest.fixture(scope="module")
def server():
    with Server(amqp=True) as s:
        yield s


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """An authority, the server's certificate for localhost, and a client's for the user guest."""
    d = tmp_path_factory.mktemp("pki")

    def run(*command):
        subprocess.run(["openssl", *command], check=True, capture_output=True, timeout=60, cwd=d)

    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3", "-keyout", "ca.key", "-out", "ca.pem",
        "-subj", "/CN=authority")
    (d / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for name, subject in (("server", "/CN=localhost"), ("client", "/CN=guest")):
        run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", name + ".key", "-out", name + ".csr", "-subj", subject)
        run("x509", "-req", "-in", name + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "3",
            "-extfile", "names", "-out", name + ".pem")
    return str(d)


# ---- where it listens

def test_taken_port_is_said_clearly(server, tmp_path):
    ended = subprocess.run([binary(), "serve", "--data", tmp_path / "data", "--http", "127.0.0.1:0", "--amqp",
                            f"127.0.0.1:{server.amqp_port}", "--management", "off"],
                           capture_output=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert f"AMQP cannot listen on 127.0.0.1 port {server.amqp_port}: address already in use".encode() in ended.stderr


def test_passwords_do_not_travel_in_the_open(tmp_path):
    command = [binary(), "serve", "--data", tmp_path / "data", "--http", "127.0.0.1:0", "--amqp", "0.0.0.0:0",
               "--management", "off"]
    ended = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert ended.returncode == 1 and b"passwords" in ended.stderr


def test_tls_needs_a_certificate(tmp_path):
    command = [binary(), "serve", "--data", tmp_path / "data", "--http", "127.0.0.1:0", "--amqp", "off", "--amqps",
               "127.0.0.1:0", "--management", "off"]
    ended = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert ended.returncode == 2 and b"--amqps" in ended.stderr


# ---- coming in

def test_wrong_protocol_is_told_ours(server):
    raw = Raw(server.amqp_port)
    raw.send(b"GET / HTTP/1.1\r\n\r\n")
    got = b""
    while data := raw.socket.recv(100):
        got += data
    assert got == HEADER
    raw.close()


def test_amqplain_and_a_new_secret(server):
    raw = Raw(server.amqp_port).open(b"AMQPLAIN", short(b"LOGIN") + b"S" + long(b"guest") + short(b"PASSWORD") + b"S" +
                                     long(b"guest"))
    raw.send(method(0, 10, 70, long(b"another") + short(b"it was time")))
    raw.expect(SECRET_OK)
    raw.send(method(0, 10, 50, struct.pack(">H", 200) + short(b"") + struct.pack(">HH", 0, 0)))
    raw.expect(CLOSE_OK)
    raw.ended()
    raw.close()


def test_who_may_not_come_in(server):
    with pytest.raises(ProbableAuthenticationError, match="ACCESS_REFUSED - Login was refused using authentication "
                                                          "mechanism PLAIN"):
        connect(server, credentials=pika.PlainCredentials("guest", "wrong"))
    with pytest.raises(ProbableAccessDeniedError, match="NOT_ALLOWED - vhost nowhere not found"):
        connect(server, virtual_host="nowhere")


def tls(server, pki, certificate, **more):
    context = ssl.create_default_context(cafile=pki + "/ca.pem")
    if certificate:
        context.load_cert_chain(pki + "/client.pem", pki + "/client.key")
    return pika.BlockingConnection(pika.ConnectionParameters(
        "127.0.0.1", server.tls_port, ssl_options=pika.SSLOptions(context, "localhost"), **more))


def test_tls_and_who_a_certificate_is(pki):
    args = ["--amqps", "127.0.0.1:0", "--tls-cert", pki + "/server.pem", "--tls-key", pki + "/server.key", "--tls-ca",
            pki + "/ca.pem"]
    external = pika.credentials.ExternalCredentials()
    with Server(args=args) as server:
        server.tls_port = next(int(line.rsplit(":", 1)[1]) for line in server.lines if "amqps://" in line)
        for certificate, more in ((False, {}), (True, {}), (True, {"credentials": external})):
            with tls(server, pki, certificate, **more) as connection:
                channel = connection.channel()
                queue = channel.queue_declare("", exclusive=True).method.queue
                channel.confirm_delivery()
                body = os.urandom(3_000_000)
                channel.basic_publish("", queue, body)
                assert channel.basic_get(queue, auto_ack=True)[2] == body
        with pytest.raises(AMQPConnectionError):
            tls(server, pki, False, credentials=external)


# ---- limits and time

def test_connections_are_limited():
    with Server(args=["--max-connections", "3"], amqp=True) as server:
        raws = [Raw(server.amqp_port).open() for _ in range(3)]
        refused = Raw(server.amqp_port)
        refused.ended()
        raws.pop().close()
        eventually(lambda: reopened(server, raws), what="a place for another connection")
        for raw in raws + [refused]:
            raw.close()


def reopened(server, raws):
    raw = opened(server)
    if raw:
        raws.append(raw)
    return raw is not None


def test_heartbeats_and_a_client_that_sends_none(server):
    raw = Raw(server.amqp_port).open(heartbeat=1)
    start = time.monotonic()
    assert raw.frame() == (8, 0, b"")
    raw.ended()
    assert 1.5 < time.monotonic() - start < 6
    raw.close()


def test_a_client_that_says_nothing_is_not_kept_waiting_for():
    with Server(amqp=True) as server:
        raw = Raw(server.amqp_port)
        raw.send(b"AMQP")
        start = time.monotonic()
        raw.ended()
        assert time.monotonic() - start < 15
        raw.close()


# ---- clients that are slow, or gone

def test_a_slow_reader_costs_little_and_gets_everything(server):
    with connect(server) as connection:
        channel = connection.channel()
        channel.queue_declare("slow", durable=True)
        channel.confirm_delivery()
        body = bytes(1_000_000)
        for _ in range(40):
            channel.basic_publish("", "slow", body, pika.BasicProperties(delivery_mode=2))
        before = server.rss_bytes()
        raw = Raw(server.amqp_port).open()
        raw.send(method(1, 20, 10, short(b"")) +
                 method(1, 60, 20, struct.pack(">H", 0) + short(b"slow") + short(b"c") + b"\x02" + long(b"")))
        raw.expect((60, 21))
        for _ in range(20):  # others are served meanwhile
            channel.basic_publish("", "amq.fanout.nobody", b"")
        assert server.rss_bytes() < before + 20_000_000
        size = 0
        while size < 40 * len(body):
            kind, _, payload = raw.frame()
            size += len(payload) if kind == 3 else 0
        raw.close()
        channel.queue_delete("slow")


@pytest.mark.parametrize("messages", [3, 10])  # less and more than what stops us from reading
def test_who_takes_nothing_of_what_it_is_sent_is_let_go(messages):
    with Server(args=["--max-connections", "1"], amqp=True) as server:
        with connect(server) as connection:
            channel = connection.channel()
            channel.queue_declare("large", durable=True)
            channel.confirm_delivery()
            for _ in range(messages):
                channel.basic_publish("", "large", bytes(4_000_000), pika.BasicProperties(delivery_mode=2))
        raw = eventually(lambda: opened(server, heartbeat=1), what="a place")
        raw.send(method(1, 20, 10, short(b"")) +
                 method(1, 60, 70, struct.pack(">H", 0) + short(b"large") + b"\0") * messages)
        raw.expect((60, 71))
        after = eventually(lambda: opened(server), seconds=40, what="a place for another connection")
        after.close()
        raw.close()


def opened(server, **more):
    try:
        return Raw(server.amqp_port).open(**more)
    except (AssertionError, OSError):
        return None


def test_one_that_floods_us_does_not_keep_others_waiting(server):
    publish = (method(1, 60, 40, struct.pack(">H", 0) + short(b"amq.fanout") + short(b"") + b"\0") +
               frame(2, 1, struct.pack(">HHQH", 60, 0, 1, 0)) + frame(3, 1, b"x")) * 50000
    ended = threading.Event()
    flooding = [threading.Thread(target=flood, args=(server, publish, ended)) for _ in range(3)]
    raw = Raw(server.amqp_port).open()
    raw.send(method(1, 20, 10, short(b"")))
    raw.expect((20, 11))
    for thread in flooding:
        thread.start()
    try:
        times = [answered(raw) for _ in range(30)]
    finally:
        ended.set()
        for thread in flooding:
            thread.join()
        raw.close()
    assert sorted(times)[15] < 0.15


def flood(server, what, ended):
    raw = Raw(server.amqp_port).open()
    raw.send(method(1, 20, 10, short(b"")))
    while not ended.is_set():
        raw.send(what)
    raw.close()


def answered(raw):
    start = time.monotonic()
    raw.send(method(1, 60, 10, struct.pack(">IH", 0, 0) + b"\0"))
    raw.expect((60, 11))
    return time.monotonic() - start


def test_what_a_vanished_client_held_goes_to_others(server):
    with connect(server) as connection:
        channel = connection.channel()
        channel.queue_declare("kept", durable=True)
        channel.basic_publish("", "kept", b"once", pika.BasicProperties(delivery_mode=2))
        raw = Raw(server.amqp_port).open()
        raw.send(method(1, 20, 10, short(b"")) +
                 method(1, 50, 10, struct.pack(">H", 0) + short(b"own") + b"\x04" + long(b"")) +
                 method(1, 60, 20, struct.pack(">H", 0) + short(b"kept") + short(b"c") + b"\0" + long(b"")))
        raw.expect((60, 60))
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()  # a reset
        got, _, body = eventually(lambda: present(channel.basic_get("kept")), what="the message's return")
        assert body == b"once" and got.redelivered
        with pytest.raises(ChannelClosedByBroker, match="NOT_FOUND - no queue 'own' in vhost '/'"):
            connection.channel().queue_declare("own", passive=True)
        channel.basic_ack(got.delivery_tag)
        channel.queue_delete("kept")


def present(got):
    return got if got[0] is not None else None


def test_draining_tells_clients_and_ends():
    with Server(amqp=True) as server:
        connection = connect(server)
        silent = Raw(server.amqp_port)  # has not said who it is
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosedByBroker, match="CONNECTION_FORCED - broker forced connection closure with "
                                                           "reason 'shutdown'") as closed:
            while True:
                connection.process_data_events(1)
        assert closed.value.reply_code == 320
        silent.ended()
        silent.close()
        assert server.wait_exit() == 0


def test_a_listener_for_ipv4_and_ipv6_names_both_as_their_users_do():
    with Server(amqp="[::]:0", management=True, args=["--insecure-bind"]) as server:
        for host in ("127.0.0.1", "::1"):
            connection = pika.BlockingConnection(pika.ConnectionParameters(host, server.amqp_port))
            seen = requests.get(f"http://127.0.0.1:{server.management_port}/api/connections", auth=("guest", "guest"),
                                timeout=10).json()
            assert (host, host) in [(c["peer_host"], c["host"]) for c in seen]
            connection.close()


def test_draining_does_not_wait_for_who_does_not_answer():
    with Server(amqp=True) as server:
        raw = Raw(server.amqp_port).open()
        server.process.send_signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        raw.close()
