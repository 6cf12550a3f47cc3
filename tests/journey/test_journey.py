"""The journey of a message as its users meet it, over HTTP and over the WebSocket."""
import hashlib
import json
import threading
import time

import pytest
import requests

from support.server import ApiError, Server, eventually, new_id


@pytest.fixture(scope="module", name="server")
def fixture_server(parts):
    with Server() as server:
        yield server


COUNT = [0]


@pytest.fixture(name="people")
def fixture_people(server):
    """alice and bob, new ones for each test, and their conversation."""
    COUNT[0] += 1
    alice, bob = (server.new_user(f"{name}{COUNT[0]}") for name in ("alice", "bob"))
    conversation = alice.conversation([bob.user_id])["conversation_id"]
    return alice, bob, conversation


def test_a_text_travels_and_its_receipts_come_back(people):
    alice, bob, conversation = people
    alice_link, bob_link = alice.connect(), bob.connect()
    assert alice_link.expect("drained") and bob_link.expect("drained")
    accepted = alice.send(conversation, "salam")
    assert accepted["state"] == "accepted" and accepted["seq"] == 1 and "duplicate" not in accepted
    entry = bob_link.expect("message")
    assert entry["message_id"] == accepted["message_id"]
    assert entry["by_user_id"] == alice.user_id and entry["kind"] == "text" and entry["bytes"] == 5
    assert bob.get(entry["message_id"])["message_text"] == "salam"
    assert bob.received(entry["message_id"])["state"] == "received"
    assert alice_link.expect("delivered")["message_id"] == accepted["message_id"]
    assert bob.read(entry["message_id"])["state"] == "read"
    assert alice_link.expect("read")["by_user_id"] == bob.user_id
    points = alice.points(accepted["message_id"])
    for point in ("accepted", "published", "queued", "notified", "received", "read"):
        assert point in points
    assert points.index("accepted") < points.index("received") < points.index("read")


def test_after_delivery_the_content_is_gone_and_a_late_retry_is_a_duplicate(people):
    alice, bob, conversation = people
    message_id = new_id()
    alice.send(conversation, "once", message_id)
    eventually(lambda: bob.mailbox()["entries"])
    bob.received(message_id)

    def gone():
        return bob.call("GET", f"/message/{message_id}").status_code == 410
    eventually(gone)
    again = alice.call("POST", "/conversation/" + conversation, alice.message("once", message_id))
    assert again.status_code == 200 and again.json()["duplicate"] is True
    other = alice.call("POST", "/conversation/" + conversation, alice.message("twice", message_id))
    assert other.status_code == 409


def test_everything_can_be_done_over_the_socket(people):
    alice, bob, conversation = people
    alice_link, bob_link = alice.connect(), bob.connect()
    message = alice.message("over the wire")
    answer = alice_link.say("send", conversation_id=conversation, **message)
    assert answer["to"] == "send" and answer["status"] == 202 and answer["seq"] == 1
    assert alice_link.say("send", conversation_id=conversation, **message)["duplicate"] is True
    entry = bob_link.expect("message")
    content = bob_link.say("get", message_id=entry["message_id"])
    assert content["status"] == 200 and content["message_text"] == "over the wire"
    assert bob_link.say("received", message_id=entry["message_id"])["state"] == "received"
    assert bob_link.say("read", message_id=entry["message_id"])["state"] == "read"
    assert alice_link.expect("delivered") and alice_link.expect("read")
    bob_link.ack(entry["cursor"])
    refused = alice_link.say("send", conversation_id=conversation, message_id=new_id(), by_user_id="someone-else",
                             message_text="x")
    assert refused["status"] == 422 and refused["error"]["field"] == "by_user_id"


def test_a_hello_and_what_follows_it_may_come_in_one_piece(people):
    alice, _, conversation = people
    link = alice.connect(hello=False)
    frames = [{"type": "hello", "token": alice.token, "after": 0}]
    frames += [{"type": "send", "ref": i, "conversation_id": conversation, **alice.message(f"m{i}")} for i in range(5)]
    link.send_raw(b"".join(link.frame(1, __import__("json").dumps(f).encode()) for f in frames))
    assert sorted(link.expect("answer")["ref"] for _ in range(5)) == [0, 1, 2, 3, 4]


def test_the_mailbox_keeps_what_was_missed(people):
    alice, bob, conversation = people
    sent = [alice.send(conversation, f"text {i}")["message_id"] for i in range(5)]
    eventually(lambda: len(bob.mailbox()["entries"]) == 5)
    entries = bob.mailbox()["entries"]
    assert [e["message_id"] for e in entries] == sent
    assert [e["cursor"] for e in entries] == [1, 2, 3, 4, 5]
    page = bob.mailbox(after=1, limit=2)
    assert [e["cursor"] for e in page["entries"]] == [2, 3] and page["drained"] is False
    bob.mailbox_ack(3)
    link = bob.connect(after=3)
    assert [link.expect("message")["cursor"] for _ in range(2)] == [4, 5]
    assert link.expect("drained")


def test_a_long_poll_is_answered_when_something_comes(server, people):
    alice, bob, conversation = people
    import threading
    result = {}

    def poll():
        result["page"] = bob.mailbox(wait=20)
    thread = threading.Thread(target=poll)
    thread.start()
    eventually(lambda: server.metrics()["barid_http_requests_open"] >= 2)
    alice.send(conversation, "wake up")
    thread.join(10)
    assert [e["type"] for e in result["page"]["entries"]] == ["message"]


def test_a_page_of_another_origin_registers_nobody(server):
    def post(path, origin):
        body = {"user_id": f"visitor{COUNT[0]}", "password": "correct horse"}
        return requests.post(server.url + path, data=json.dumps(body), timeout=10,
                             headers={"Content-Type": "text/plain", **({"Origin": origin} if origin else {})})
    for origin in ("http://evil.example", "null", server.url.replace("http", "ftp") + "0"):
        assert post("/users", origin).status_code == post("/sessions", origin).status_code == 403, origin
    assert post("/users", server.url).status_code == 201
    assert post("/sessions", None).status_code == 201


def test_a_long_poll_does_not_hold_up_the_end():
    with Server() as server:
        alice = server.new_user("alice")
        answers = []
        poll = threading.Thread(target=lambda: answers.append(alice.call("GET", "/mailbox?wait=60")))
        poll.start()
        eventually(lambda: server.metrics()["barid_http_requests_open"] > 1)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 3
        poll.join()
        assert answers[0].json() == {"entries": [], "drained": True}


def test_media_travels_whole_and_in_parts(people):
    alice, bob, conversation = people
    data = bytes(i * 7 % 251 for i in range(3_000_000))
    ticket = alice.upload(data, "image/png", "café.png".encode("utf-8").decode("latin-1"))
    assert ticket["bytes"] == len(data) and ticket["sha256"] == hashlib.sha256(data).hexdigest()
    message_id = alice.send(conversation, ticket=ticket["ticket"])["message_id"]
    eventually(lambda: bob.mailbox()["entries"])
    content = bob.get(message_id)
    assert content["kind"] == "media" and content["media_type"] == "image/png" and content["bytes"] == len(data)
    whole = bob.media(message_id)
    assert whole.status_code == 200 and whole.content == data
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    assert whole.headers["Content-Disposition"].startswith("inline; filename=")
    assert "sandbox" in whole.headers["Content-Security-Policy"]
    part = bob.media(message_id, {"Range": "bytes=1000000-1999999"})
    assert part.status_code == 206 and part.content == data[1000000:2000000]
    assert part.headers["Content-Range"] == f"bytes 1000000-1999999/{len(data)}"
    assert bob.media(message_id, {"Range": f"bytes={len(data)}-"}).status_code == 416
    assert bob.media(message_id, {"If-None-Match": whole.headers["ETag"]}).status_code == 304
    head = bob.call("HEAD", f"/message/{message_id}/media")
    assert head.status_code == 200 and head.headers["Content-Length"] == str(len(data)) and head.content == b""


def test_two_devices_of_one_user_both_get_it(people):
    alice, bob, conversation = people
    phone = bob.another_device()
    message_id = alice.send(conversation, "to both")["message_id"]
    for device in (bob, phone):
        eventually(lambda d=device: d.mailbox()["entries"])
    bob.received(message_id)
    assert bob.call("GET", f"/message/{message_id}").status_code == 200  # the phone has not got it yet
    phone.received(message_id)
    eventually(lambda: bob.call("GET", f"/message/{message_id}").status_code == 410)


def test_a_newer_socket_of_a_device_replaces_the_older(people):
    alice, _, _ = people
    first = alice.connect()
    first.expect("drained")
    second = alice.connect()
    second.expect("drained")
    assert first.expect_close() == 4409


def test_logging_out_ends_the_session_and_its_socket(people):
    alice, _, _ = people
    link = alice.connect()
    link.expect("drained")
    alice.logout()
    assert link.expect_close() == 4401
    with pytest.raises(ApiError) as refused:
        alice.mailbox()
    assert refused.value.status == 401
    assert refused.value.response.headers["WWW-Authenticate"].startswith("Bearer")


def test_an_id_that_follows_from_members_is_theirs_alone(server, people):
    alice, bob, _ = people
    a, b = alice.user_id, bob.user_id
    mallory = server.new_user(f"mallory{COUNT[0]}")
    theirs = "dm-" + hashlib.blake2b(f"{a}\0{b}\0".encode(), digest_size=16).hexdigest()
    for id, members in [(theirs, [a]), (theirs, [a, b]), ("dm-" + "0" * 32, [a]), ("dm-x", [])]:
        squat = mallory.call("POST", "/conversation", {"conversation_id": id, "members": members})
        assert (squat.status_code, squat.json()["error"]["field"]) == (422, "conversation_id"), id
    # Under a title it would be another conversation than the one bob's devices ask for.
    titled = alice.call("POST", "/conversation", {"conversation_id": theirs, "members": [b], "title": "Tea"})
    assert (titled.status_code, titled.json()["error"]["field"]) == (422, "title")
    assert alice.call("POST", "/conversation", {"conversation_id": theirs, "members": [b]}).status_code == 201
    again = bob.call("POST", "/conversation", {"conversation_id": theirs, "members": [b, a, b]})
    assert again.status_code == 200
