"""The connection itself: keep-alive, pipelining, early answers, draining, and a WebSocket library of the field."""
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import time

import pytest
import websockets

from support.server import Api, Server, binary, eventually


@pytest.fixture(scope="module", name="server")
def fixture_server(parts):
    with Server() as server:
        yield server


def exchange(server, data, answers=1):
    """Sends the bytes and reads that many answers off one connection: [(status, head, body)]."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as s:
        s.sendall(data)
        got, buffer = [], b""
        while len(got) < answers:
            while b"\r\n\r\n" not in buffer:
                more = s.recv(65536)
                if not more:
                    return got
                buffer += more
            head, buffer = buffer.split(b"\r\n\r\n", 1)
            lines = head.decode().lower().split("\r\n")
            length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length:")), 0)
            while len(buffer) < length:
                buffer += s.recv(65536)
            got.append((int(head.split()[1]), head.decode(), buffer[:length]))
            buffer = buffer[length:]
        return got


GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
MISSING = b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"


def post(user_id):
    body = b'{"user_id":"%s","password":"correct horse"}' % user_id
    return b"POST /users HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


@pytest.mark.parametrize("order", ["gg", "gp", "pg", "pp", "gmg", "gpgmp", "ppppp", "mpg"])
def test_pipelined_requests_are_answered_in_order_or_not_at_all(server, order):
    """The connection may be closed after any of them, saying so; no answer may belong to another request."""
    user = b"pipe-" + order.encode()
    bytes_of = {"g": GET, "m": MISSING, "p": post(user)}
    want = {"g": [200] * 9, "m": [404] * 9, "p": [201] + [409] * 9}
    answers = exchange(server, b"".join(bytes_of[o] for o in order), len(order))
    assert answers
    for o, (status, head, _) in zip(order, answers):
        assert status == want[o].pop(0), order
    if len(answers) < len(order):
        assert "connection: close" in answers[-1][1].lower()
    assert Api(server).call("GET", "/healthz").status_code == 200


def test_requests_one_after_the_other_share_a_connection(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as s:
        for i in range(20):
            s.sendall(post(b"keep") if i % 2 else GET)
            assert s.recv(65536).startswith(b"HTTP/1.1 ")


def test_a_body_that_is_refused_does_not_spoil_the_connection(server):
    body = b"x" * 1000
    request = b"POST /conversation HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + body
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as s:
        s.sendall(request[:600])
        time.sleep(0.05)  # so that it comes in two pieces; either way the answer is the same
        s.sendall(request[600:])
        assert s.recv(65536).startswith(b"HTTP/1.1 401")
        s.sendall(GET)
        assert s.recv(65536).startswith(b"HTTP/1.1 200")


def test_connection_close_is_honoured(server):
    answers = exchange(server, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 2)
    assert [a[0] for a in answers] == [200] and "connection: close" in answers[0][1].lower()
    assert len(exchange(server, b"GET /healthz HTTP/1.0\r\n\r\n", 2)) == 1


def test_a_post_without_a_body_needs_no_length(server):
    alice = server.new_user("nolength")
    head = f"DELETE /sessions/current HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.token}\r\n\r\n"
    assert exchange(server, head.encode())[0][0] == 204
    head = "POST /message/01a1fc89-0e8c-7b5f-802c-cbf320ac1d3d/read HTTP/1.1\r\nHost: x\r\n\r\n"
    assert exchange(server, head.encode())[0][0] == 401


def test_a_large_upload_is_asked_to_continue(server):
    alice = server.new_user("continues")
    head = (f"POST /media HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.token}\r\nContent-Length: 5\r\n"
            "Content-Type: text/plain\r\nExpect: 100-continue\r\n\r\n")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as s:
        s.sendall(head.encode())
        assert s.recv(1000).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        s.sendall(b"bytes")
        assert s.recv(10000).startswith(b"HTTP/1.1 201")


def test_an_upload_that_is_too_large_hears_why(server):
    alice = server.new_user("toolarge")
    answer = alice.call("POST", "/users", data=b"x" * 2_000_000)
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "too_large"


def test_an_upload_that_breaks_off_leaves_nothing(server):
    alice = server.new_user("breaksoff")
    head = (f"POST /media HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.token}\r\nContent-Length: 1000000\r\n\r\n")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as s:
        s.sendall(head.encode() + b"x" * 100_000)
        eventually(lambda: server.metrics()["barid_datastore_writing"] == 1)
    eventually(lambda: server.metrics()["barid_datastore_writing"] == 0)
    if server.parts:
        eventually(lambda: server.parts.value("select count(*) from barid.datastore_upload where id not in "
                                              "(select upload from barid.datastore_content)") == 0)
        return
    temporary = os.path.join(server.data, "media", "tmp")
    eventually(lambda: os.listdir(temporary) == [])


def test_a_websocket_library_of_the_field_gets_along(server):
    alice, bob = server.new_user("lib-alice"), server.new_user("lib-bob")
    conversation = alice.conversation(["lib-bob"])["conversation_id"]

    async def talk():
        url = f"ws://127.0.0.1:{server.port}/events"
        async with websockets.connect(url, subprotocols=["barid.v1"]) as link:
            assert link.subprotocol == "barid.v1"
            await link.send(json.dumps({"type": "hello", "token": bob.token, "after": 0}))
            assert json.loads(await link.recv())["type"] == "drained"
            alice.send(conversation, "salam")
            assert json.loads(await link.recv())["type"] == "message"
            await (await link.ping())
            await link.send(json.dumps({"type": "get", "message_id": "x" * 20_000}))  # several fragments' worth
            assert json.loads(await link.recv())["status"] == 422
    asyncio.run(talk())


def test_frames_in_pieces_are_put_together(server):
    alice = server.new_user("pieces")
    link = alice.connect()
    link.expect("drained")
    text = json.dumps({"type": "get", "ref": "r" * 60, "message_id": "y" * 5000}).encode()
    link.send_raw(link.frame(1, text[:10], fin=False))
    link.send_raw(link.frame(0, text[10:3000], fin=False))
    link.send_raw(link.frame(0, text[3000:]))
    assert link.expect("answer")["status"] == 422


def test_senseless_frames_are_told_and_then_closed(server):
    link = server.new_user("senseless").connect()
    link.expect("drained")
    for frame in ("{", "[]", '{"type":5}', '{"type":"dance"}', '{"type":"ack"}'):
        link.send_text(frame)
        assert "reason" in link.expect("error")["error"]
    for _ in range(5):
        link.send_text("{")
    assert link.expect_close() == 4400


def test_a_frame_too_large_closes_the_socket(server):
    link = server.new_user("large-frame").connect()
    link.expect("drained")
    link.send_raw(link.frame(1, b" " * 500_000))
    assert link.expect_close() == 1009


def test_sigterm_drains():
    with Server() as server:
        alice = server.new_user("alice")
        link = alice.connect()
        link.expect("drained")
        server.process.send_signal(signal.SIGTERM)
        assert link.expect_close() == 1001
        link.close()
        assert server.wait_exit() == 0
        server.start()
        assert alice.call("GET", "/mailbox").status_code == 200
        assert server.stop() == 0


@pytest.mark.embedded
def test_it_listens_elsewhere_only_when_told_to():
    command = [binary(), "serve", "--data", "/nonexistent/barid", "--http", "0.0.0.0:0"]
    with Server() as server:
        command[3] = os.path.join(server.data, "other")
        refused = subprocess.run(command, capture_output=True, timeout=20, check=False)
        assert refused.returncode == 1 and b"--insecure-bind" in refused.stderr
        taken = subprocess.run(command[:5] + [f"127.0.0.1:{server.port}"], capture_output=True, timeout=20, check=False)
        assert taken.returncode == 1 and b"cannot listen" in taken.stderr
        same = subprocess.run(command[:3] + [server.data, "--http", "127.0.0.1:0"], capture_output=True, timeout=20,
                              check=False)
        assert same.returncode == 1 and b"another barid" in same.stderr


def test_tls():
    with Server() as plain:
        key, certificate = (os.path.join(plain.data, name) for name in ("key.pem", "cert.pem"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
                        "-days", "2", "-subj", "/CN=localhost"], check=True, capture_output=True)
        with Server(args=["--tls-cert", certificate, "--tls-key", key]) as server:
            import requests
            answer = requests.get(f"https://127.0.0.1:{server.port}/healthz", verify=False, timeout=10)
            assert answer.status_code == 200


def test_settings_come_from_flags_environment_and_file_in_that_order(tmp_path):
    settings = tmp_path / "barid.ini"
    settings.write_text("# everything\nregistration = closed\n[serve]\nlog-level = error\nrate = 7\n[send]\nurl = x\n")
    body = {"user_id": "alice", "password": "correct horse"}
    with Server(args=["--config", str(settings)]) as server:
        assert Api(server).call("POST", "/users", body).status_code == 403
    with Server(args=["--config", str(settings)], env={"BARID_REGISTRATION": "open"}) as server:
        assert Api(server).call("POST", "/users", body).status_code == 201
    with Server(args=["--registration", "closed"], env={"BARID_REGISTRATION": "open"}) as server:
        assert Api(server).call("POST", "/users", body).status_code == 403
    wrong = subprocess.run([binary(), "serve", "--low-water", "plenty"], capture_output=True, timeout=10, check=False)
    assert wrong.returncode == 2 and b"--low-water plenty" in wrong.stderr
    helped = subprocess.run([binary(), "serve", "--help"], capture_output=True, timeout=10, check=True)
    assert b"BARID_BUS_PREFIX" in helped.stdout and b"--insecure-bind" in helped.stdout


def test_no_mixture_of_requests_in_no_pieces_hangs_the_server(server):
    """Seeded: requests of every kind, cut at random places, some broken off; the server answers the next one."""
    alice = server.new_user("mixture")
    token = f"Authorization: Bearer {alice.token}\r\n".encode()
    upload = b"POST /media HTTP/1.1\r\nHost: x\r\n" + token + b"Content-Length: 3000\r\n\r\n" + b"u" * 3000
    kinds = [GET, MISSING, post(b"mixed"), upload, b"GET /mailbox HTTP/1.1\r\nHost: x\r\n" + token + b"\r\n",
             b"GET /mailbox?wait=1 HTTP/1.1\r\nHost: x\r\n" + token + b"\r\n",
             b"POST /mailbox/ack HTTP/1.1\r\nHost: x\r\n" + token + b"Content-Length: 12\r\n\r\n" + b'{"cursor":0}',
             b"POST /mailbox/ack HTTP/1.1\r\nHost: x\r\n" + token + b"\r\n",
             b"POST /media HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n" + b"v" * 500,
             b"GET /healthz HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\n\r\n", b"\x00" * 50]
    seeds = int(os.environ.get("BARID_MIXTURES", "150"))
    for seed in range(seeds):
        dice = random.Random(seed)
        data = b"".join(dice.choice(kinds) for _ in range(dice.randint(1, 6)))
        data = data[:dice.randint(1, len(data))] if dice.random() < 0.3 else data
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as s:
            try:
                while data:
                    n = dice.choice([1, 10, 60, 200, 1000, 4000, len(data)])
                    s.sendall(data[:n])
                    data = data[n:]
                if dice.random() < 0.5:
                    s.settimeout(0.02)
                    s.recv(65536)
            except OSError:
                pass
        assert alice.call("GET", "/healthz", timeout=5).status_code == 200, f"seed {seed}"


def test_a_download_whose_peer_sends_and_takes_nothing_is_given_up(server):
    alice, bob = server.new_user("gives"), server.new_user("stalls")
    conversation = alice.conversation(["stalls"])["conversation_id"]
    ticket = alice.upload(b"x" * 20_000_000)["ticket"]
    message_id = alice.send(conversation, ticket=ticket)["message_id"]
    eventually(lambda: bob.mailbox()["entries"])
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", server.port))
        s.sendall(f"GET /message/{message_id}/media HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bob.token}\r\n\r\n"
                  .encode())
        eventually(lambda: server.metrics()["barid_datastore_reading"] == 1)
        s.sendall(b"GET /healthz")
        eventually(lambda: server.metrics()["barid_datastore_reading"] == 0, 5)
    assert bob.media(message_id).content == b"x" * 20_000_000
