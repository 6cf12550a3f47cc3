"""Connections that end in the middle of something: the server must neither spin over what is left of them nor keep
their descriptors.

Every way to leave is tried several times at once. Then the server's processor time is read from /proc until one second
of it is near zero, and its open descriptors until they are as many as before.
"""
import base64
import json
import os
import socket
import struct
import time

import pytest

from support.server import Server, new_id
from support.websocket import WebSocket

TIMES = 3
TICKS = os.sysconf("SC_CLK_TCK")
IDLE_SHARE = 0.10  # of one core, over one second


@pytest.fixture(scope="module", name="server")
def fixture_server():
    with Server() as server:
        yield server


class Scene:
    def __init__(self, server):
        self.server = server
        self.alice, self.bob = server.new_user("alice"), server.new_user("bob")
        self.conversation = self.alice.conversation(["bob"])["conversation_id"]
        self.eve = server.new_user("eve")  # nobody ever writes to her

    def raw(self):
        s = socket.create_connection(("127.0.0.1", self.server.port), timeout=10)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def head(self, method, path, length=None, api=None, more=()):
        lines = [f"{method} {path} HTTP/1.1", "Host: x", "Authorization: Bearer " + (api or self.alice).token, *more]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def get(self, path="/conversation", api=None):
        return self.head("GET", path, api=api)

    def post(self, path, body):
        return self.head("POST", path, len(body)) + body

    def message(self, text="salam"):
        body = {"message_id": new_id(), "by_user_id": "alice", "message_text": text}
        return self.post("/conversation/" + self.conversation, json.dumps(body).encode())


@pytest.fixture(scope="module", name="scene")
def fixture_scene(server):
    return Scene(server)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def connections(pid):
    """Inodes of the process's sockets that are in CLOSE_WAIT or ESTABLISHED, as text for a failure."""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            inodes.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            pass
    with open(f"/proc/{pid}/net/tcp", encoding="ascii") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    return [f"state {r[3]} queues {r[4]}" for r in rows if f"socket:[{r[9]}]" in inodes]


def at_rest(server, before, seconds=15):
    pid = server.process.pid
    end = time.monotonic() + seconds
    while True:
        began, used = time.monotonic(), cpu_seconds(pid)
        time.sleep(1)  # what is measured is a share of time
        share = (cpu_seconds(pid) - used) / (time.monotonic() - began)
        open_now = descriptors(pid)
        if share < IDLE_SHARE and open_now <= before:
            return
        assert time.monotonic() < end, (f"{share:.0%} of a core with nothing to do, {open_now} descriptors instead of "
                                        f"{before}: {connections(pid)}")


# ---- ways to leave; each gets the scene and returns a socket that is then closed in one of three ways -----------

def pipelined_gets(scene):
    s = scene.raw()
    s.sendall(scene.get() * 30)
    return s


def pipelined_posts(scene):
    s = scene.raw()
    s.sendall(b"".join(scene.message() for _ in range(20)))
    return s


def pipelined_mix(scene):
    s = scene.raw()
    s.sendall((scene.get() + scene.message() + scene.get("/healthz")) * 10 + scene.message()[:-5])
    return s


def longer_than_announced(scene):
    s = scene.raw()
    s.sendall(scene.message() + b"and then some more that nobody announced" * 50)
    return s


def shorter_than_announced(scene):
    s = scene.raw()
    s.sendall(scene.message()[:-3])
    return s


def half_a_head(scene):
    s = scene.raw()
    s.sendall(scene.get()[:-4])
    return s


def in_the_middle_of_an_upload(scene):
    s = scene.raw()
    s.sendall(scene.head("POST", "/media", 5_000_000) + bytes(1_000_000))
    return s


def an_upload_too_large(scene):
    s = scene.raw()
    s.settimeout(2)
    try:
        s.sendall(scene.head("POST", "/media", 1 << 40) + bytes(1_000_000))
    except OSError:
        pass
    return s


def an_upload_with_a_bad_token(scene):
    s = scene.raw()
    head = scene.head("POST", "/media", 3_000_000).replace(b"Bearer ", b"Bearer x")
    try:
        s.sendall(head + bytes(2_000_000))
    except OSError:
        pass
    return s


def an_upload_of_a_bad_type(scene):
    s = scene.raw()
    try:
        s.sendall(scene.head("POST", "/media", 300_000, more=["Content-Type: no type"]) + bytes(200_000))
    except OSError:
        pass
    return s


def an_upload_and_a_pipelined_request(scene):
    s = scene.raw()
    s.sendall(scene.post("/media", bytes(100_000)) + scene.get() * 5 + scene.message()[:-3])
    return s


def a_body_for_a_stranger(scene):
    s = scene.raw()
    s.sendall(b"POST /conversation/x HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + bytes(100_000))
    return s


def an_expectation(scene):
    s = scene.raw()
    s.sendall(scene.head("POST", "/media", 1_000_000, more=["Expect: 100-continue"]))
    return s


def chunks(scene):
    s = scene.raw()
    s.sendall(scene.head("POST", "/media", more=["Transfer-Encoding: chunked"]) + b"5\r\nhello\r\n" * 1000)
    return s


def a_long_poll(scene):
    s = scene.raw()
    s.sendall(scene.get("/mailbox?wait=3", scene.eve))
    return s


def a_long_poll_with_more_behind_it(scene):
    s = scene.raw()
    s.sendall(scene.get("/mailbox?wait=3", scene.eve) + scene.get() * 50 + scene.message())
    return s


def a_long_poll_with_a_body(scene):
    s = scene.raw()
    s.sendall(scene.head("GET", "/mailbox?wait=3", 100_000, scene.eve) + bytes(50_000))
    return s


def a_download_nobody_reads(scene):
    data = bytes(3_000_000)
    r = scene.alice.call("POST", "/media", data=data, headers={"Content-Type": "image/png"})
    body = {"message_id": new_id(), "by_user_id": "alice", "media": r.json()["ticket"]}
    scene.alice.call("POST", "/conversation/" + scene.conversation, body)
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", scene.server.port))
    s.sendall(scene.get(f"/message/{body['message_id']}/media", scene.bob) * 2)
    return s


def answers_nobody_reads(scene):
    """One request after the other, not pipelined, until the answers fill every buffer on the way; and then one more."""
    sent = scene.alice.send(scene.conversation, "x" * 65536)
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.connect(("127.0.0.1", scene.server.port))
    try:
        for _ in range(70):
            s.sendall(scene.get("/message/" + sent["message_id"]))
            time.sleep(0.003)
    except OSError:
        pass
    return s


def link(scene, api=None):
    ws = WebSocket("127.0.0.1", scene.server.port)
    ws.send({"type": "hello", "token": (api or scene.alice).token, "after": 0})
    return ws


def frames(scene, count):
    return b"".join(WebSocket.frame(1, json.dumps(
        {"type": "send", "message_id": new_id(), "by_user_id": "alice", "message_text": "x" * 50,
         "conversation_id": scene.conversation}).encode()) for _ in range(count))


def a_socket_with_many_requests(scene):
    ws = link(scene)
    ws.send_raw(frames(scene, 400))
    return ws.socket


def a_socket_with_many_requests_and_a_half_frame(scene):
    ws = link(scene)
    ws.send_raw(frames(scene, 300) + WebSocket.frame(1, bytes(5000))[:1000])
    return ws.socket


def a_socket_that_says_close_behind_its_requests(scene):
    ws = link(scene)
    ws.send_raw(frames(scene, 300) + WebSocket.frame(8, struct.pack("!H", 1000)) + frames(scene, 50))
    return ws.socket


def a_socket_without_hello(scene):
    return WebSocket("127.0.0.1", scene.server.port).socket


def a_socket_with_a_wrong_token_and_more(scene):
    ws = WebSocket("127.0.0.1", scene.server.port)
    hello = json.dumps({"type": "hello", "token": "0" * 64, "after": 0}).encode()
    ws.send_raw(WebSocket.frame(1, hello) + frames(scene, 200))
    return ws.socket


def garbage_after_the_upgrade(scene):
    ws = link(scene)
    ws.send_raw(os.urandom(50_000))
    return ws.socket


def an_upgrade_with_a_body_behind_it(scene):
    s = scene.raw()
    key = base64.b64encode(os.urandom(16)).decode()
    head = scene.head("GET", "/events", more=[
        "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: barid.v1"])
    s.sendall(head + b"no frame at all " * 1000)
    return s


def an_upgrade_that_is_refused(scene):
    s = scene.raw()
    s.sendall(scene.head("GET", "/events", more=["Upgrade: websocket", "Connection: Upgrade"]) + bytes(5000))
    return s


LEAVINGS = [
    pipelined_gets, pipelined_posts, pipelined_mix, longer_than_announced, shorter_than_announced, half_a_head,
    in_the_middle_of_an_upload, an_upload_too_large, an_upload_with_a_bad_token, an_upload_of_a_bad_type,
    an_upload_and_a_pipelined_request, a_body_for_a_stranger, an_expectation, chunks, a_long_poll,
    a_long_poll_with_more_behind_it, a_long_poll_with_a_body, a_download_nobody_reads, answers_nobody_reads, a_socket_with_many_requests,
    a_socket_with_many_requests_and_a_half_frame, a_socket_that_says_close_behind_its_requests,
    a_socket_without_hello, a_socket_with_a_wrong_token_and_more, garbage_after_the_upgrade,
    an_upgrade_with_a_body_behind_it, an_upgrade_that_is_refused,
]


# ---- ways to close ------------------------------------------------------------------------------------------------

def fin(s):
    s.close()


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def half(s):
    """The peer says that nothing more comes and stays to listen."""
    try:
        s.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def answered(s):
    """Closed after what can be read has been read, so that no reset is sent."""
    s.settimeout(0.05)
    try:
        while s.recv(65536):
            pass
    except OSError:
        pass
    s.close()


@pytest.mark.parametrize("close", [fin, reset, half, answered])
def test_nothing_is_left_of_connections_that_end_in_the_middle(server, scene, close):
    scene.alice.call("GET", "/conversation")  # files that are opened once and kept
    before = descriptors(server.process.pid)
    for _ in range(TIMES):
        held = []
        for leave in LEAVINGS:
            s = leave(scene)
            close(s)
            held.append(s)
        if close is half:
            for s in held:
                answered(s)
    at_rest(server, before)
    assert scene.alice.call("GET", "/healthz").status_code == 200
