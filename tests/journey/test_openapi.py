"""docs/openapi.yaml against the running server: the same operations, and every documented answer of each is produced
and fits its schema."""
import os
import subprocess

import jsonschema
import pytest
import yaml

from support.server import ROOT, Api, Server, binary, eventually, new_id
from support.websocket import Refused, WebSocket

with open(os.path.join(ROOT, "docs", "openapi.yaml"), encoding="utf-8") as f:
    SPEC = yaml.safe_load(f)


def documented():
    return {(method.upper(), path) for path, item in SPEC["paths"].items() for method in item}


def test_the_operations_are_those_of_the_server():
    lines = subprocess.run([binary(), "routes"], check=True, capture_output=True, text=True).stdout.split("\n")
    assert {tuple(line.split(" ")) for line in lines if line} == documented()


def test_every_reference_and_schema_is_sound():
    for schema in SPEC["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)

    def walk(node):
        if isinstance(node, dict):
            if "$ref" in node:
                jsonschema.RefResolver.from_schema(SPEC).resolve(node["$ref"])
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)
    walk(SPEC)


class Book:
    """What has been seen of what is written."""

    def __init__(self):
        self.seen = set()

    def check(self, method, path, status, response=None):
        answers = SPEC["paths"][path][method.lower()]["responses"]
        assert response is None or response.status_code == status, \
            f"{method} {path}: {response.status_code} instead of {status}: {response.text[:300]}"
        assert str(status) in answers, f"{method} {path}: {status} is not documented"
        self.seen.add((method, path, str(status)))
        if response is None:
            return None
        content = answers[str(status)].get("content", {})
        media_type = response.headers.get("Content-Type", "").split(";")[0]
        if "application/json" in content:
            assert media_type == "application/json"
            resolver = jsonschema.RefResolver.from_schema(SPEC)
            schema = content["application/json"]["schema"]
            jsonschema.Draft202012Validator(schema, resolver=resolver).validate(response.json())
            return response.json()
        if content and "*/*" not in content:
            assert media_type in content
        if not content:
            assert response.content == b""
        return response

    def missing(self):
        written = {(method.upper(), path, status) for path, item in SPEC["paths"].items()
                   for method, op in item.items() for status in op["responses"] if status != "default"}
        return sorted(written - self.seen)


@pytest.fixture(scope="module", name="book")
def fixture_book():
    return Book()


@pytest.fixture(scope="module", name="server")
def fixture_server(parts):
    with Server(args=["--upload-max", "100K"]) as server:
        yield server


@pytest.fixture(scope="module", name="people")
def fixture_people(server):
    return server.new_user("alice"), server.new_user("bob"), server.new_user("eve")


PASSWORD = "correct horse"
BAD_JSON = {"data": b"{", "headers": {"Content-Type": "application/json"}}


def test_accounts(book, server, people):
    alice, bob, _ = people
    nobody = Api(server)
    book.check("POST", "/users", 201, nobody.call("POST", "/users", {"user_id": "dora", "password": PASSWORD}))
    book.check("POST", "/users", 409, nobody.call("POST", "/users", {"user_id": "dora", "password": PASSWORD}))
    book.check("POST", "/users", 400, nobody.call("POST", "/users", **BAD_JSON))
    book.check("POST", "/users", 422, nobody.call("POST", "/users", {"user_id": "A B", "password": PASSWORD}))
    alice.conversation(["bob"])
    book.check("GET", "/users/{user_id}", 200, alice.call("GET", "/users/bob"))
    book.check("GET", "/users/{user_id}", 404, alice.call("GET", "/users/dora"))
    book.check("GET", "/users/{user_id}", 401, nobody.call("GET", "/users/bob"))
    session = book.check("POST", "/sessions", 201,
                         nobody.call("POST", "/sessions", {"user_id": "dora", "password": PASSWORD}))
    wrong = {"user_id": "dora", "password": "wrong horse"}
    book.check("POST", "/sessions", 401, nobody.call("POST", "/sessions", wrong))
    book.check("POST", "/sessions", 400, nobody.call("POST", "/sessions", **BAD_JSON))
    book.check("POST", "/sessions", 422, nobody.call("POST", "/sessions", {"user_id": "dora"}))
    dora = Api(server, session["token"])
    book.check("DELETE", "/sessions/current", 204, dora.call("DELETE", "/sessions/current"))
    book.check("DELETE", "/sessions/current", 401, dora.call("DELETE", "/sessions/current"))

    def limited():
        answer = nobody.call("POST", "/sessions", wrong)
        return [answer] if answer.status_code == 429 else None
    limit, = eventually(limited, 60, "the limit of attempts")
    book.check("POST", "/sessions", 429, limit)
    assert int(limit.headers["Retry-After"]) > 0


def test_registration_can_be_closed(book):
    with Server(args=["--registration", "closed"]) as server:
        refused = Api(server).call("POST", "/users", {"user_id": "eve", "password": PASSWORD})
        book.check("POST", "/users", 403, refused)


def test_conversations(book, server, people):
    alice, _, eve = people
    new = {"members": ["bob"], "title": "Tea", "conversation_id": "tea"}
    book.check("POST", "/conversation", 201, alice.call("POST", "/conversation", new))
    book.check("POST", "/conversation", 200, alice.call("POST", "/conversation", new))
    book.check("POST", "/conversation", 409, alice.call("POST", "/conversation", {**new, "title": "Coffee"}))
    book.check("POST", "/conversation", 422, alice.call("POST", "/conversation", {"members": ["nobody-at-all"]}))
    book.check("POST", "/conversation", 400, alice.call("POST", "/conversation", **BAD_JSON))
    book.check("POST", "/conversation", 401, Api(server).call("POST", "/conversation", new))
    book.check("GET", "/conversation", 200, alice.call("GET", "/conversation"))
    book.check("GET", "/conversation", 401, Api(server).call("GET", "/conversation"))
    one = "/conversation/{conversation_id}"
    book.check("GET", one, 200, alice.call("GET", "/conversation/tea"))
    book.check("GET", one, 404, eve.call("GET", "/conversation/tea"))
    book.check("GET", one, 401, Api(server).call("GET", "/conversation/tea"))


def test_messages(book, server, people):
    alice, bob, eve = people
    path = "/conversation/" + alice.conversation(["bob"])["conversation_id"]
    send = ("POST", "/conversation/{conversation_id}")
    message = alice.message("salam")
    book.check(*send, 202, alice.call("POST", path, message))
    book.check(*send, 200, alice.call("POST", path, message))
    book.check(*send, 409, alice.call("POST", path, {**message, "message_text": "other"}))
    book.check(*send, 422, alice.call("POST", path, alice.message("")))
    book.check(*send, 404, eve.call("POST", path, eve.message("x")))
    book.check(*send, 401, Api(server).call("POST", path, message))
    book.check(*send, 400, alice.call("POST", path, **BAD_JSON))
    book.check(*send, 413, alice.call("POST", path, alice.message("x" * 500_000)))
    at = "/message/" + message["message_id"]
    eventually(lambda: bob.mailbox()["entries"])
    for tail in ("", "/journey"):
        pattern = "/message/{message_id}" + tail
        book.check("GET", pattern, 200, bob.call("GET", at + tail))
        book.check("GET", pattern, 404, eve.call("GET", at + tail))
        book.check("GET", pattern, 401, Api(server).call("GET", at + tail))
    for tail in ("/received", "/read"):
        pattern = "/message/{message_id}" + tail
        book.check("POST", pattern, 200, bob.call("POST", at + tail))
        book.check("POST", pattern, 404, eve.call("POST", at + tail))
        book.check("POST", pattern, 401, Api(server).call("POST", at + tail))
    eventually(lambda: bob.call("GET", at).status_code == 410)
    book.check("GET", "/message/{message_id}", 410, bob.call("GET", at))


def test_media(book, server, people):
    alice, bob, eve = people
    conversation = alice.conversation(["bob"])["conversation_id"]
    ticket = book.check("POST", "/media", 201,
                        alice.call("POST", "/media", data=b"a picture", headers={"Content-Type": "image/png"}))
    book.check("POST", "/media", 413, alice.call("POST", "/media", data=b"x" * 200_000))
    book.check("POST", "/media", 422, alice.call("POST", "/media", data=b"x", headers={"Content-Type": "no type"}))
    book.check("POST", "/media", 401, Api(server).call("POST", "/media", data=b"x"))
    text = alice.send(conversation, "a text")["message_id"]
    picture = alice.send(conversation, ticket=ticket["ticket"])["message_id"]
    eventually(lambda: any(e["message_id"] == picture for e in bob.mailbox()["entries"]))
    book.check("GET", "/message/{message_id}", 200, bob.call("GET", "/message/" + picture))
    pattern = "/message/{message_id}/media"
    whole = book.check("GET", pattern, 200, bob.media(picture))
    assert whole.content == b"a picture"
    book.check("GET", pattern, 206, bob.media(picture, {"Range": "bytes=2-"}))
    book.check("GET", pattern, 304, bob.media(picture, {"If-None-Match": whole.headers["ETag"]}))
    book.check("GET", pattern, 416, bob.media(picture, {"Range": "bytes=9-"}))
    book.check("GET", pattern, 404, bob.media(text))
    book.check("GET", pattern, 404, eve.media(picture))
    book.check("GET", pattern, 401, Api(server).media(picture))
    bob.received(picture)
    eventually(lambda: bob.media(picture).status_code == 410)
    book.check("GET", pattern, 410, bob.media(picture))


def test_mailbox(book, server, people):
    alice, bob, _ = people
    conversation = alice.conversation(["bob"])["conversation_id"]
    for receipt in ("received", "read"):  # so that every type of entry is met
        message = alice.send(conversation, "x")["message_id"]
        getattr(bob, receipt)(message)
    eventually(lambda: {e["type"] for e in alice.mailbox(limit=1000)["entries"]} >= {"delivered", "read"})
    for device in (alice, bob):
        page = book.check("GET", "/mailbox", 200, device.call("GET", "/mailbox"))
    book.check("GET", "/mailbox", 422, bob.call("GET", "/mailbox?after=x"))
    book.check("GET", "/mailbox", 401, Api(server).call("GET", "/mailbox"))
    last = page["entries"][-1]["cursor"]
    book.check("POST", "/mailbox/ack", 200, bob.call("POST", "/mailbox/ack", {"cursor": last}))
    book.check("POST", "/mailbox/ack", 422, bob.call("POST", "/mailbox/ack", {"cursor": last + 1000}))
    book.check("POST", "/mailbox/ack", 400, bob.call("POST", "/mailbox/ack", **BAD_JSON))
    book.check("POST", "/mailbox/ack", 401, Api(server).call("POST", "/mailbox/ack", {"cursor": 0}))


def test_events(book, server):
    WebSocket("127.0.0.1", server.port).close()
    book.check("GET", "/events", 101)
    for status, options in ((400, {"protocol": "other"}), (403, {"origin": "http://evil.example"})):
        with pytest.raises(Refused) as refused:
            WebSocket("127.0.0.1", server.port, **options)
        assert refused.value.status == status
        book.check("GET", "/events", status)
    book.check("GET", "/events", 426, Api(server).call("GET", "/events"))


def test_operations(book, server):
    api = Api(server)
    book.check("GET", "/healthz", 200, api.call("GET", "/healthz"))
    book.check("GET", "/readyz", 200, api.call("GET", "/readyz"))
    book.check("GET", "/metrics", 200, api.call("GET", "/metrics"))
    page = book.check("GET", "/", 200, api.call("GET", "/"))
    book.check("GET", "/", 304, api.call("GET", "/", headers={"If-None-Match": page.headers["ETag"]}))
    assert "script-src" not in page.headers["Content-Security-Policy"] and "default-src 'self'" in \
        page.headers["Content-Security-Policy"]


@pytest.mark.embedded
def test_a_full_disk_is_not_ready(book):
    with Server(args=["--low-water", "900000G"]) as server:
        book.check("GET", "/readyz", 503, Api(server).call("GET", "/readyz"))


def test_what_every_operation_may_answer(server, people):
    """The `default` answer: the same shape whatever went wrong."""
    schema = SPEC["components"]["schemas"]["Error"]
    alice = people[0]
    answers = [alice.call("PUT", "/conversation"), alice.call("GET", "/nowhere"), alice.call("POST", "/nowhere"),
               alice.call("POST", "/users", data=iter([b"chunked", b"body"]))]
    assert [a.status_code for a in answers] == [405, 404, 404, 411]
    assert answers[0].headers["Allow"] == "POST, GET, HEAD"
    for answer in answers:
        jsonschema.Draft202012Validator(schema).validate(answer.json())


def test_a_device_past_its_rate_is_told_when_to_come_again():
    with Server(args=["--rate", "5"]) as server:
        alice = server.new_user("alice")
        answers = [alice.call("GET", "/mailbox") for _ in range(30)]
        limited = [a for a in answers if a.status_code == 429]
        assert limited and all(int(a.headers["Retry-After"]) >= 1 for a in limited)
        jsonschema.Draft202012Validator(SPEC["components"]["schemas"]["Error"]).validate(limited[0].json())


def test_nothing_that_is_documented_was_left_out(book):
    """After the tests above: run the whole file."""
    assert book.missing() == []
