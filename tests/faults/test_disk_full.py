"""A full disk: what would need room is refused and told to come back, what is there is still served, and when there
is room again everything goes on. Nothing that was acknowledged is lost on the way."""
import os

import pytest

from support.disk import fill, small_disk
from support.server import Server, eventually

def check_refuses_and_recovers(server, make_full, make_room):
    alice, bob = server.new_user("alice"), server.new_user("bob")
    c = alice.conversation(["bob"])["conversation_id"]
    before = [alice.send(c, f"{i}")["message_id"] for i in range(5)]
    ws = bob.connect()
    for m in before:
        assert ws.expect("message")["message_id"] == m

    make_full()
    body = alice.message("no room for this")
    refused, = eventually(lambda: not_accepted(alice, c, body, before), 20, "a full disk being noticed")
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.json()["error"]["code"]
    assert alice.call("POST", "/media", data=b"x" * 1000, headers={"Content-Type": "image/png"}).status_code == 503

    # What is there is served: contents, journeys, the mailbox, whether the server lives.
    for m in before[:5]:
        assert bob.get(m)["message_text"]
        assert "accepted" in alice.points(m)
    assert len(bob.mailbox()["entries"]) >= 5
    assert alice.call("GET", "/healthz").status_code == 200
    assert server.process.poll() is None

    make_room()
    answer = eventually(lambda: accepted(alice, c, body), 20, "room being noticed")
    assert answer.json()["message_id"] == body["message_id"]
    assert not answer.json().get("duplicate"), "what was refused had not been accepted"
    for m in before[5:] + [body["message_id"]]:
        assert ws.expect("message")["message_id"] == m
    for m in before + [body["message_id"]]:
        bob.received(m)
        bob.read(m)
    for m in before + [body["message_id"]]:
        eventually(lambda i=m: {"deleted", "read"} <= set(alice.points(i)), what="the whole journey")
    server.restart()
    assert [m for m in before if alice.call("GET", "/message/" + m).status_code != 410] == []


def not_accepted(alice, c, body, accepted_so_far):
    """The refusal, in a tuple; until it comes (the free room is looked at now and then) other messages are sent."""
    probe = alice.message("still room")
    answer = alice.call("POST", "/conversation/" + c, probe)
    if answer.status_code == 202:
        accepted_so_far.append(probe["message_id"])
        return None
    return (alice.call("POST", "/conversation/" + c, body),)


def accepted(alice, c, body):
    answer = alice.call("POST", "/conversation/" + c, body)
    assert answer.status_code in (200, 202, 503)
    return answer if answer.status_code != 503 else None


@pytest.mark.parametrize("left", [16 << 20, 0], ids=["16M_left", "nothing_left"])
def test_disk_full_refuses_serves_reads_and_recovers(left):
    with small_disk() as disk:
        if not disk:
            pytest.skip("mounting a small file system needs root; the low-water test below stands in")
        data = os.path.join(disk, "data")
        os.mkdir(data)
        with Server(data=data, args=["--low-water", "32M"]) as server:
            filler = []
            check_refuses_and_recovers(server, lambda: filler.append(fill(disk, leave=left)), lambda: os.unlink(filler[0]))


def test_below_the_low_water_mark(tmp_path):
    """The same, with the mark raised above what this disk has: no room is made by restarting with a lower one."""
    with Server() as server:
        alice, bob = server.new_user("alice"), server.new_user("bob")
        c = alice.conversation(["bob"])["conversation_id"]
        m = alice.send(c, "before")["message_id"]
        server.kill9()
        server.start(args=["--low-water", "1000000G"])
        refused = alice.call("POST", "/conversation/" + c, alice.message("no"))
        assert refused.status_code == 503 and int(refused.headers["Retry-After"]) > 0
        eventually(lambda: bob.mailbox()["entries"])
        assert bob.get(m)["message_text"] == "before"
        bob.received(m)
        bob.read(m)
        eventually(lambda: {"deleted", "read"} <= set(alice.points(m)), what="the whole journey")
        server.restart()
        assert alice.send(c, "after")["seq"] == 2
