"""`barid send`, `listen` and `inbox` are killed at each of their safe points. Run again, they go on where their store
says: one message, delivered once, with its receipts."""
import pytest

from support.server import Server, eventually
from support.terminal import Terminal
from support.world import PIXEL

KILLED = -9


@pytest.fixture
def scene():
    with Server() as server, Terminal(server, "alice") as alice, Terminal(server, "bob") as bob:
        yield server, alice, bob


def check_one(server, alice, bob, content=None, path=None):
    """Everything goes on to its end, and there is one message."""
    alice.ok("outbox", "flush")
    own = alice.outbox()
    assert len(own) == 1, own
    m = own[0]["message_id"]
    bob.ok("listen", "--once", "--read")
    got = bob.inbox()
    assert [(g["message_id"], g["seq"]) for g in got] == [(m, 1)]
    if content is not None:
        assert got[0]["message_text"] == content
    else:
        with open(got[0]["media_path"], "rb") as ours, open(path, "rb") as theirs:
            assert ours.read() == theirs.read()
    alice.ok("listen", "--once")
    assert alice.outbox()[0]["state"] == "read"
    eventually(lambda: {"created", "accepted", "published", "queued", "received", "deleted", "read"} <= set(alice.points(m)),
               what="the whole journey")
    assert server.passed("accepted") == 1


@pytest.mark.parametrize("point", ["client.created", "client.sent", "client.answered"])
@pytest.mark.parametrize("what", ["text", "media"])
def test_sender_killed_at(scene, tmp_path, point, what):
    server, alice, bob = scene
    path = tmp_path / "caravan.png"
    path.write_bytes(PIXEL)
    words = ["bob", "salam"] if what == "text" else ["bob", "--media", str(path)]
    done = alice.run("send", *words, crash=f"{point}:1")
    assert done.returncode == KILLED, (done.stdout, done.stderr)
    if what == "text":
        check_one(server, alice, bob, content="salam")
    else:
        check_one(server, alice, bob, path=path)


@pytest.mark.parametrize("point", ["client.fetched", "client.stored", "client.received"])
@pytest.mark.parametrize("command", [("listen", "--once"), ("inbox",)], ids=["listen", "inbox"])
def test_receiver_killed_at(scene, point, command):
    server, alice, bob = scene
    alice.ok("send", "bob", "salam")
    eventually(lambda: server.passed("queued") == 1, what="the mailbox entry")
    done = bob.run(*command, crash=f"{point}:1")
    assert done.returncode == KILLED, (done.stdout, done.stderr)
    check_one(server, alice, bob, content="salam")


def test_listener_killed_while_it_sends(scene):
    """What another process put into the outbox is sent by a running `listen`; that is killed."""
    server, alice, bob = scene
    alice.ok("send", "--no-wait", "bob", "salam")
    done = alice.run("listen", "--once", crash="client.answered:1")
    assert done.returncode == KILLED, (done.stdout, done.stderr)
    check_one(server, alice, bob, content="salam")


def test_server_away_while_the_client_sends(scene):
    server, alice, bob = scene
    server.kill9()
    done = alice.run("send", "--timeout", "1", "bob", "salam")
    assert done.returncode == 75, (done.stdout, done.stderr)
    assert [m["state"] for m in alice.outbox()] in (["sending"], ["waiting"])
    server.start()
    check_one(server, alice, bob, content="salam")
