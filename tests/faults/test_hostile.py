"""A hostile client. After each attack the server must be alive and a message must still make its whole journey."""
import json
import os
import socket
import time

import pytest

from support.server import Api, Server, eventually, new_id
from support.websocket import Closed, Refused

TRAVERSALS = ["../../../../etc/passwd", "..\\..\\evil.exe", "/etc/passwd", "a/../../b", "%2e%2e%2fetc%2fpasswd", "..", ".",
              "con\x01trol", "a\"b\r\nX-Evil: 1", "x" * 5000, "\u202egnp.exe", ""]


class Scene:
    """alice, bob and mallory; mallory shares nothing with the others."""

    def __init__(self, server):
        self.server = server
        self.alice, self.bob, self.mallory = (server.new_user(n) for n in ("alice", "bob", "mallory"))
        self.c = self.alice.conversation(["bob"])["conversation_id"]

    def check(self):
        """The server is the same process, and works."""
        assert self.server.process.poll() is None, "the server has died"
        m = self.alice.send(self.c, "all well?")["message_id"]
        eventually(lambda: m in [e["message_id"] for e in self.bob.mailbox(limit=1000)["entries"]])
        assert self.bob.get(m)["message_text"] == "all well?"
        self.bob.received(m)
        self.bob.read(m)
        eventually(lambda: {"deleted", "read"} <= set(self.alice.points(m)), what="the whole journey")

    def raw(self, data, timeout=5, limit=1 << 20):
        """Sends bytes, returns what comes back until the server closes or falls silent."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=timeout) as s:
            got = b""
            try:
                s.sendall(data)
                while len(got) < limit:
                    more = s.recv(65536)
                    if not more:
                        break
                    got += more
                    if b"\r\n\r\n" in got:
                        s.settimeout(0.3)
            except (socket.timeout, ConnectionResetError, BrokenPipeError):
                pass
            return got

    def post(self, path, body, token=None, headers=b""):
        token = token or self.mallory.token
        head = (f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n").encode()
        got = self.raw(head + headers + b"\r\n" + body)
        return int(got.split(b" ")[1]) if got.startswith(b"HTTP/1.1 ") else None


@pytest.fixture(scope="module")
def scene():
    with Server() as server:
        yield Scene(server)


@pytest.fixture(autouse=True)
def alive_and_correct(scene):
    yield
    scene.check()


BAD_JSON = [b"", b"{", b"}", b"nul", b"{\"message_id\":}", b"\xff\xfe\x00", b"{\"a\":\"\xc3\x28\"}", b"{\"a\":\"\xed\xa0\x80\"}",
            b"\x00" * 100, b"{}garbage", b"{\"a\":1,,}", b"'single'", b"{\"a\":1e99999}", b"{\"a\":" + b"9" * 5000 + b"}"]


@pytest.mark.parametrize("body", BAD_JSON, ids=range(len(BAD_JSON)))
def test_bad_json(scene, body):
    assert scene.post("/conversation", body) in (400, 422)
    assert scene.post("/users", body) in (400, 422)
    assert scene.post(f"/conversation/{scene.c}", body, scene.alice.token) in (400, 422)


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b"\"text\"", b"[[1]]", b"true"])
def test_json_of_the_wrong_shape(scene, body):
    assert scene.post("/conversation", body) in (400, 422)
    assert scene.post("/sessions", body) in (400, 422)


def test_deep_nesting(scene):
    for n in (1_000, 30_000):
        assert scene.post("/conversation", b"[" * n + b"]" * n) in (400, 413, 422)
        assert scene.post("/conversation", b'{"a":' * n + b"1" + b"}" * n) in (400, 413, 422)


def test_wrong_types_in_every_field(scene):
    for value in (None, 1, -1, 1.5, True, [], {}, ["x"], {"a": 1}, "", "\u0000", "a\u0000b", "x" * 300, "ünïcode", "../x"):
        for field in ("message_id", "by_user_id"):
            body = {**scene.alice.message("x"), field: value}
            assert scene.alice.call("POST", "/conversation/" + scene.c, body).status_code in (400, 422), (field, value)
        if value != []:  # nobody else: notes to oneself
            assert scene.alice.call("POST", "/conversation", {"members": value}).status_code in (400, 422), value
        assert scene.alice.call("POST", "/users", {"user_id": value, "password": "long enough"}).status_code in (400, 422), value
    for value in (None, 1, True, [], {}, "", "a\u0000b"):
        body = {**scene.alice.message("x"), "message_text": value}
        assert scene.alice.call("POST", "/conversation/" + scene.c, body).status_code in (400, 422), value
    for cursor in (-1, 1 << 70, "1", None, 1.5, [], True):
        assert scene.alice.call("POST", "/mailbox/ack", {"cursor": cursor}).status_code in (400, 422), cursor
    for query in ("after=-1", "after=x", "limit=-1", "limit=x", "wait=x", "after=99999999999999999999999", "limit=0x10"):
        assert scene.alice.call("GET", "/mailbox?" + query).status_code in (400, 422), query


def test_text_limits(scene):
    for text in ("x" * (64 * 1024 + 1), "é" * (32 * 1024 + 1)):
        assert scene.alice.call("POST", "/conversation/" + scene.c, scene.alice.message(text)).status_code in (413, 422)
    m = scene.alice.send(scene.c, "é" * (32 * 1024))["message_id"]
    eventually(lambda: m in [e["message_id"] for e in scene.bob.mailbox(limit=1000)["entries"]])
    assert scene.bob.get(m)["message_text"] == "é" * (32 * 1024)
    scene.bob.received(m)


def test_texts_are_kept_to_the_byte(scene):
    for text in ("<script>alert(1)</script>", "'; DROP TABLE message; --", "\u202eright to left", "👩‍👩‍👧‍👦", "\r\n\t \u0001\u007f", "\uffff\U0010ffff"):
        m = scene.alice.send(scene.c, text)["message_id"]
        eventually(lambda i=m: i in [e["message_id"] for e in scene.bob.mailbox(limit=1000)["entries"]])
        assert scene.bob.get(m)["message_text"] == text
        scene.bob.received(m)


def test_huge_body_announced(scene):
    head = f"POST /conversation HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {scene.mallory.token}\r\n" \
           "Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n"
    got = scene.raw(head.encode() + b"x" * 100_000)
    assert not got or got.split(b" ")[1] in (b"413", b"400")


def test_huge_body_sent(scene):
    before = scene.server.rss_bytes()
    assert scene.post("/conversation", b"x" * (8 << 20)) in (None, 400, 413)
    assert scene.server.rss_bytes() - before < 64 << 20


@pytest.mark.parametrize("length", ["-1", "abc", "1e3", "99999999999999999999999999", "0x10", " ", "5, 6"])
def test_bad_content_length(scene, length):
    got = scene.raw(f"POST /users HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{{}}".encode())
    assert not got or got.split(b" ")[1] in (b"400", b"411", b"413", b"422")


def test_request_line_garbage(scene):
    for line in (b"GET", b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"G\x00T / HTTP/1.1\r\n\r\n", os.urandom(500) + b"\r\n\r\n",
                 b"GET " + b"/a" * 10_000 + b" HTTP/1.1\r\n\r\n", b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00",
                 b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET http://evil/ HTTP/1.1\r\nHost: x\r\n\r\n"):
        got = scene.raw(line, timeout=0.5)
        assert not got or got.startswith(b"HTTP/1."), line


def test_header_floods(scene):
    one = scene.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 200_000 + b"\r\n\r\n")
    many = scene.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(20_000)) + b"\r\n")
    for got in (one, many):
        assert not got or got.split(b" ")[1] in (b"200", b"400", b"413", b"431")
    assert scene.server.rss_bytes() < 200 << 20


@pytest.mark.parametrize("token", ["", "x", "0" * 64, "g" * 64, "a" * 10_000, "\x01", "../../x", "' OR 1=1 --"])
def test_wrong_tokens(scene, token):
    with_token = {"Authorization": "Bearer " + token}
    for method, path in (("GET", "/conversation"), ("GET", "/mailbox"), ("POST", "/media"), ("DELETE", "/sessions/current"),
                         ("GET", f"/conversation/{scene.c}"), ("GET", f"/message/{new_id()}")):
        answer = scene.alice.call(method, path, headers=with_token)
        assert answer.status_code in (400, 401), (method, path)
    ws = scene.alice.connect(hello=False)
    ws.send({"type": "hello", "token": token, "after": 0})
    ws.expect_close()


def test_no_authorization_or_another_scheme(scene):
    nobody = Api(scene.server)
    assert nobody.call("GET", "/conversation").status_code == 401
    for scheme in ("Basic YWxpY2U6cGFzcw==", "Bearer", "bearer " + "0" * 64, scene.alice.token):
        assert nobody.call("GET", "/conversation", headers={"Authorization": scheme}).status_code == 401


def test_a_logged_out_token_is_nothing(scene):
    other = scene.mallory.another_device()
    ws = other.connect()
    ws.expect("drained")
    assert other.call("DELETE", "/sessions/current").status_code == 204
    assert other.call("GET", "/conversation").status_code == 401
    ws.expect_close()


def test_other_users_ids_are_not_found(scene):
    m = scene.alice.send(scene.c, "not for mallory")["message_id"]
    picture = scene.alice.upload(b"private", "image/png", "p.png")["ticket"]
    mm = scene.alice.send(scene.c, ticket=picture)["message_id"]
    mallory = scene.mallory
    for method, path, body in [
        ("GET", f"/conversation/{scene.c}", None),
        ("POST", f"/conversation/{scene.c}", mallory.message("let me in")),
        ("GET", f"/message/{m}", None), ("GET", f"/message/{mm}", None), ("GET", f"/message/{mm}/media", None),
        ("GET", f"/message/{m}/journey", None), ("POST", f"/message/{m}/received", None), ("POST", f"/message/{m}/read", None),
        ("GET", "/users/alice", None), ("GET", "/users/nobody", None),
    ]:
        assert mallory.call(method, path, body).status_code == 404, (method, path)
    ws = mallory.connect()
    for kind in ("get", "received", "read"):
        assert ws.say(kind, message_id=m)["status"] == 404, kind
    assert ws.say("send", conversation_id=scene.c, **mallory.message("let me in"))["status"] == 404
    ws.close()
    # In her own conversation: as somebody else, or with somebody else's upload.
    own = mallory.conversation([])["conversation_id"]
    assert mallory.call("POST", f"/conversation/{own}", {**mallory.message("x"), "by_user_id": "alice"}).status_code in (403, 422)
    ticket = scene.alice.upload(b"alice's", "image/png")["ticket"]
    assert mallory.call("POST", f"/conversation/{own}", mallory.message(ticket=ticket)).status_code in (404, 422)
    # alice is not a recipient of her own message.
    assert scene.alice.call("POST", f"/message/{m}/received").status_code in (200, 404)
    assert "received" not in scene.alice.points(m)
    for i in (m, mm):
        scene.bob.received(i)


def test_malformed_ids_in_paths(scene):
    for bad in ("x", "%00", "0" * 36, new_id().upper() + "0", "a" * 3000, "%ff%fe", "'", new_id()[:-1]):
        for path in (f"/message/{bad}", f"/message/{bad}/media", f"/message/{bad}/journey", f"/conversation/{bad}", f"/users/{bad}"):
            assert scene.alice.call("GET", path).status_code in (400, 404, 405, 414, 422), path


def test_file_paths_are_not_served(scene):
    for path in ("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd", "//etc/passwd", "/index.html/../../x",
                 "/app.js%00.txt", "/barid.db", "/data/barid.db", "/.git/config", "/....//x"):
        got = scene.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert b"root:" not in got and (not got or b" 200 " not in got[:14]), path


@pytest.mark.parametrize("name", TRAVERSALS, ids=range(len(TRAVERSALS)))
def test_path_tricks_in_media_names(scene, name):
    head = (f"POST /media HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {scene.alice.token}\r\nContent-Type: text/html\r\n"
            "Content-Length: 9\r\nConnection: close\r\nX-Filename: ").encode()
    got = scene.raw(head + name.encode() + b"\r\n\r\n<script>!")
    status = int(got.split(b" ")[1])
    assert status in (201, 400, 413, 422, 431), got[:200]
    stored = [n for _, _, names in os.walk(os.path.join(scene.server.data, "media")) for n in names]
    assert all(set(n) <= set("0123456789abcdefghijklmnopqrstuvwxyz.-_") and "passwd" not in n for n in stored), stored
    if status != 201:
        return
    answer = json.loads(got.split(b"\r\n\r\n", 1)[1].decode())
    m = scene.alice.send(scene.c, ticket=answer["ticket"])["message_id"]
    eventually(lambda: m in [e["message_id"] for e in scene.bob.mailbox(limit=1000)["entries"]])
    media = scene.bob.media(m)
    disposition = media.headers.get("Content-Disposition", "")
    assert media.content == b"<script>!" and disposition.startswith("attachment"), "HTML is never shown inline"
    assert media.headers["X-Content-Type-Options"] == "nosniff"
    assert "X-Evil" not in media.headers
    for bad in ("/", "\\", "\r", "\n", "..;", "\x01"):
        assert bad not in disposition.replace("filename*=UTF-8''", ""), disposition
    scene.bob.received(m)


def test_bad_media_types(scene):
    for bad in ("x", "text/html\x01", "a/b/c", "/", "text/", "é/ü", "a" * 500 + "/b"):
        answer = scene.alice.call("POST", "/media", data=b"x", headers={"Content-Type": bad.encode()})
        assert answer.status_code in (201, 400, 415, 422), bad


def test_ranges(scene):
    data = os.urandom(10_000)
    m = scene.alice.send(scene.c, ticket=scene.alice.upload(data, "application/zip", "a.zip")["ticket"])["message_id"]
    eventually(lambda: m in [e["message_id"] for e in scene.bob.mailbox(limit=1000)["entries"]])
    assert scene.bob.media(m, {"Range": "bytes=10-19"}).content == data[10:20]
    assert scene.bob.media(m, {"Range": "bytes=-5"}).content == data[-5:]
    for bad in ("bytes=99999-", "bytes=5-2", "bytes=-0", "bytes=a-b", "bytes=0-1,3-4," + "5-6," * 1000, "lines=1-2",
                "bytes=99999999999999999999-", "bytes=--1"):
        answer = scene.bob.media(m, {"Range": bad})
        assert answer.status_code in (200, 206, 416), bad
        assert answer.status_code == 416 or answer.content in (data, data[:2], data[3:5]), bad
    scene.bob.received(m)


def test_refused_before_its_body_has_come(scene):
    """The refusal and the body cross on the way, in either order, and the connection goes on."""
    for token, path in ((scene.alice.token, "/media"), ("0" * 64, "/media"), ("0" * 64, "/conversation")):
        for pause in (0, 0.02):
            with socket.create_connection(("127.0.0.1", scene.server.port), timeout=5) as s:
                for body in (b"x", b"x" * 1000):
                    s.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: /\r\n"
                              f"Content-Length: {len(body)}\r\n\r\n".encode())
                    time.sleep(pause)  # lets the refusal be ready before its body
                    s.sendall(body)
                    assert s.recv(4096).split(b" ")[1] in (b"401", b"422", b"400")
    got = scene.raw(f"POST /media HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {'0' * 64}\r\nExpect: 100-continue\r\n"
                    "Content-Length: 1000\r\n\r\n".encode())
    assert b"HTTP/1.1 401 " in got, "who waits for a 100 is not waited for"


def test_upload_broken_off_leaves_nothing(scene):
    def files():
        return sum(len(names) for _, _, names in os.walk(scene.server.data))

    before = files()
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", scene.server.port), timeout=5) as s:
            s.sendall(f"POST /media HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {scene.alice.token}\r\nContent-Type: image/png\r\n"
                      "Content-Length: 1000000\r\n\r\n".encode() + b"x" * 50_000)
    eventually(lambda: files() <= before, 10, "the halves of broken uploads going")


def test_slowloris(scene):
    sockets = []
    for i in range(200):
        s = socket.create_connection(("127.0.0.1", scene.server.port), timeout=5)
        s.sendall(b"POST /conversation HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nX-Slow: " if i % 2 else b"GET /")
        sockets.append(s)
    scene.check()  # the others are served meanwhile
    for s in sockets:
        s.close()


def frame_bytes(first, payload=b"", mask=b"\0\0\0\0", length=None):
    n = len(payload) if length is None else length
    size = bytes([0x80 | n]) if n < 126 else bytes([0x80 | 127]) + n.to_bytes(8, "big")
    return bytes([first]) + size + mask + payload


GARBAGE = {
    "random": os.urandom(2000),
    "reserved opcode": frame_bytes(0x83, b"x"),
    "reserved bits": frame_bytes(0xF1, b"x"),
    "binary": frame_bytes(0x82, b"\0\1\2"),
    "huge length": frame_bytes(0x81, length=1 << 62),
    "negative length": frame_bytes(0x81, length=(1 << 64) - 1),
    "long ping": frame_bytes(0x89, b"x" * 100) * 50,
    "fragmented control": frame_bytes(0x09, b"x"),
    "continuation first": frame_bytes(0x80, b"x"),
    "invalid utf-8": frame_bytes(0x81, b"\xff\xfe{}"),
    "not json": frame_bytes(0x81, b"hello"),
    "not an object": frame_bytes(0x81, b"[1,2]"),
    "deep": frame_bytes(0x81, b"[" * 20_000),
    "no type": frame_bytes(0x81, b"{}"),
    "unknown type": frame_bytes(0x81, b'{"type":"shutdown"}'),
    "type of another type": frame_bytes(0x81, b'{"type":7}'),
    "close with garbage": frame_bytes(0x88, b"\xff"),
    "unmasked": b"\x81\x02{}",
    "second hello": frame_bytes(0x81, b'{"type":"hello","token":"x","after":0}'),
    "huge cursor": frame_bytes(0x81, b'{"type":"ack","cursor":99999999999999999999999}'),
    "negative cursor": frame_bytes(0x81, b'{"type":"ack","cursor":-5}'),
    "ack far ahead": frame_bytes(0x81, b'{"type":"ack","cursor":999999}'),
    "endless message": frame_bytes(0x01, b"x" * 100_000) + frame_bytes(0x00, b"x" * 100_000) * 20,
}


@pytest.mark.parametrize("what", GARBAGE)
@pytest.mark.parametrize("greeted", [True, False])
def test_websocket_garbage(scene, what, greeted):
    ws = scene.mallory.connect(hello=greeted)
    if greeted:
        ws.expect("drained")
    try:
        ws.send_raw(GARBAGE[what])
        while True:
            ws.receive(timeout=0.2)
    except (OSError, Closed, AssertionError, ValueError):
        pass
    ws.vanish()


def test_websocket_without_hello_is_closed(scene):
    ws = scene.mallory.connect(hello=False)
    ws.send({"type": "read", "message_id": new_id()})
    ws.expect_close()


def test_websocket_upgrades_that_are_not_ours(scene):
    from support.websocket import WebSocket
    for path, protocol in (("/", "barid.v1"), ("/conversation", "barid.v1"), ("/events", "evil.v9")):
        try:
            ws = WebSocket("127.0.0.1", scene.server.port, path, protocol=protocol, timeout=3)
            ws.send({"type": "hello", "token": "x", "after": 0})
            ws.expect_close()
        except (Refused, Closed, OSError):
            pass


def test_login_guessing_is_limited():
    """On a server of its own: what is limited here must not limit the other tests."""
    with Server() as server:
        server.new_user("alice")
        guesser = Api(server)
        statuses = []
        for i in range(60):
            answer = guesser.call("POST", "/sessions", {"user_id": "alice", "password": f"guess number {i}"})
            statuses.append(answer.status_code)
            if answer.status_code == 429:
                assert int(answer.headers["Retry-After"]) > 0
                break
        assert statuses[0] == 401 and statuses[-1] == 429, statuses


def test_wrong_user_and_wrong_password_take_the_same_time():
    with Server() as server:
        server.new_user("alice")
        nobody = Api(server)

        def median(user):
            times = []
            for i in range(3):
                begin = time.monotonic()
                status = nobody.call("POST", "/sessions", {"user_id": user, "password": f"wrong {i} password"}).status_code
                times.append(time.monotonic() - begin)
                assert status == 401
            return sorted(times)[1]

        known, unknown = median("alice"), median("nobody")
        assert unknown > known / 3 and known > unknown / 3, (known, unknown)


def test_flood_of_requests_is_slowed_down():
    with Server(args=["--rate", "20"]) as server:
        alice, bob = server.new_user("alice"), server.new_user("bob")
        mallory = server.new_user("mallory")
        c = alice.conversation(["bob"])["conversation_id"]
        own = mallory.conversation([])["conversation_id"]
        answers = [mallory.call("POST", "/conversation/" + own, mallory.message("spam")) for _ in range(100)]
        assert {a.status_code for a in answers} == {202, 429}
        slowed = [a for a in answers if a.status_code == 429]
        assert len(slowed) > 20 and all(int(a.headers["Retry-After"]) > 0 for a in slowed)
        assert alice.send(c, "not slowed")["seq"] == 1, "others are not"
        ws = mallory.connect()
        ws.expect("drained")
        asked = [ws.send({"type": "get", "ref": i, "message_id": new_id()}) for i in range(100)]
        assert [ws.expect("answer")["ref"] for _ in asked] == list(range(100)), "a socket is read more slowly instead"


def test_flood_of_connections():
    with Server() as server:
        scene = Scene(server)
        sockets = []
        try:
            for _ in range(900):
                sockets.append(socket.create_connection(("127.0.0.1", server.port), timeout=5))
        except OSError:
            pass
        scene.check()
        for s in sockets:
            s.close()
        scene.check()
