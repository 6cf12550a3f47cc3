"""The terminal client against a service that misbehaves on demand."""
import json
import os
import pty
import re
import signal
import stat
import subprocess
import threading
import time

import pytest

from support.fake_server import FakeServer
from support.server import binary, eventually, new_id
from support.terminal import PASSWORD, Terminal


@pytest.fixture
def fake():
    with FakeServer() as server:
        yield server


@pytest.fixture
def alice(fake):
    with Terminal(fake, "alice") as terminal:
        yield terminal


@pytest.fixture
def bob(fake):
    with Terminal(fake, "bob") as terminal:
        yield terminal


def test_a_server_here_is_not_asked_through_a_proxy(alice, bob, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    alice.ok("send", "bob", "salam")


class Listener:
    """A running `barid listen --json`; its events, as they come."""

    def __init__(self, terminal, *words, stdin=subprocess.DEVNULL):
        env = {**os.environ, "BARID_HOME": terminal.home, "BARID_SERVER": terminal.server.url}
        self.process = subprocess.Popen([binary(), "listen", "--json", *words], env=env, stdin=stdin,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
        self.events, self.changed = [], threading.Condition()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def __enter__(self):
        self.wait(lambda e: e.get("event") == "drained")
        return self

    def __exit__(self, *error):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(10) in (0, 1), self.process.stderr.read()
        self.thread.join()
        for stream in (self.process.stdout, self.process.stderr, self.process.stdin):
            if stream is not None:
                stream.close()

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.events.append(json.loads(line))
                self.changed.notify_all()

    def wait(self, where, seconds=10):
        with self.changed:
            assert self.changed.wait_for(lambda: any(where(e) for e in self.events), seconds), self.events
            return next(e for e in self.events if where(e))

    def state(self, message_id, state):
        return self.wait(lambda e: e.get("message_id") == message_id and e.get("state") == state)

    def texts(self):
        return [e["message_text"] for e in self.events if e.get("event") == "message"]


def ids(bodies):
    return [body["message_id"] for body in bodies]


# ---- sending ------------------------------------------------------------------------------------------------

def test_a_lost_answer_is_asked_for_again_with_the_same_id(fake, alice, bob):
    fake.misbehave("POST /conversation/", drop=True, times=3)  # the first one libcurl itself sends again
    states = [line["state"] for line in alice.ok("send", "bob", "salam")]
    assert states[0] == "sending" and "waiting" in states[1:-1] and states[-1] == "accepted"
    sent = fake.bodies("POST /conversation/")
    assert len(sent) == 4 and all(body == sent[0] for body in sent)
    assert len(fake.messages) == 1


def test_retry_after_is_a_floor(fake, alice, bob):
    fake.misbehave("POST /conversation/", status=503, retry_after=1)
    began = time.monotonic()
    alice.ok("send", "bob", "salam")
    assert time.monotonic() - began >= 1
    assert fake.count("POST /conversation/") == 2


def test_retry_after_binds_the_next_process_too(fake, alice, bob):
    fake.misbehave("POST /conversation/", status=503, retry_after=2)
    began = time.monotonic()
    assert alice.run("send", "bob", "salam", "--timeout", "0.1").returncode == 75
    alice.ok("outbox", "flush")
    assert time.monotonic() - began >= 1.9


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(fake, alice, bob, status):
    fake.misbehave("POST /conversation/", status=status)
    alice.ok("send", "bob", "salam")
    assert fake.count("POST /conversation/") == 2


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 422])
def test_what_is_refused_is_shown_and_never_tried_again(fake, alice, bob, status):
    fake.misbehave("POST /conversation/", status=status,
                   error={"code": "invalid", "field": "message_text", "reason": "too rude"})
    done = alice.run("send", "bob", "salam", "--json")
    last = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 1 and last["state"] == "rejected" and last["error"] == "message_text: too rude"
    alice.ok("outbox", "flush")
    assert fake.count("POST /conversation/") == 1


def test_a_rejected_message_lets_its_followers_pass(fake, alice, bob):
    alice.ok("send", "--no-wait", "bob", "")
    alice.ok("send", "bob", "after it")
    assert [m["state"] for m in alice.outbox()] == ["rejected", "accepted"]


def test_one_that_may_yet_succeed_holds_its_followers(fake, alice, bob):
    for text in ("one", "two", "three"):
        alice.ok("send", "--no-wait", "bob", text)
    fake.misbehave("POST /conversation/", status=503, times=2)
    alice.ok("outbox", "flush")
    assert [b["message_text"] for b in fake.bodies("POST /conversation/")] == ["one", "one", "one", "two", "three"]
    assert [m["seq"] for m in alice.outbox()] == [1, 2, 3]


def test_a_session_that_ran_out_rejects_nothing(fake, alice, bob):
    device = next(d for d in fake.devices.values() if d.user_id == "alice")
    del fake.devices[device.token]
    done = alice.run("send", "bob", "salam")
    assert done.returncode == 1 and "barid login alice" in done.stderr
    alice.ok("login", "alice")
    alice.ok("outbox", "flush")
    assert [m["state"] for m in alice.outbox()] == ["accepted"]


def test_no_server_is_no_loss(fake, alice, bob):
    fake.stop_listening()
    done = alice.run("send", "bob", "salam", "--timeout", "0.5")
    assert done.returncode == 75 and "stays in the outbox" in done.stderr
    fake.listen_again()
    alice.ok("send", "bob", "second")
    assert [b["message_text"] for b in fake.bodies("POST /conversation/")] == ["salam", "second"]


def test_a_silent_server_is_given_up_after_ten_seconds(fake, alice, bob):
    alice.ok("send", "bob", "first")
    fake.misbehave("POST /conversation/", hang=True)
    began = time.monotonic()
    alice.ok("send", "bob", "salam")
    assert 10 <= time.monotonic() - began < 14
    assert fake.count("POST /conversation/") == 3


def test_several_recipients_share_one_conversation(fake, alice, bob):
    fake.user("carol")
    first = alice.ok("send", "carol", "bob", "salam")[-1]
    second = alice.ok("send", "bob", "carol", "again")[-1]
    assert first["conversation_id"] == second["conversation_id"]
    assert fake.conversations[first["conversation_id"]]["members"] == ["alice", "bob", "carol"]
    assert fake.count("POST /conversation") - fake.count("POST /conversation/") == 1


def test_an_unknown_recipient_is_told(fake, alice):
    done = alice.run("send", "nobody", "salam")
    assert done.returncode == 1 and "there is no user nobody" in done.stdout


def test_twenty_sends_at_once_go_out_in_order(fake, alice, bob):
    running = [threading.Thread(target=alice.ok, args=("send", "bob", f"text {i}")) for i in range(20)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    own = alice.outbox()
    assert [m["seq"] for m in own] == list(range(1, 21))
    assert fake.count("POST /conversation/") == 20


# ---- media --------------------------------------------------------------------------------------------------

def test_media_arrives_whole(fake, alice, bob, tmp_path):
    path = tmp_path / "caravan.png"
    path.write_bytes(os.urandom(3_000_000))
    alice.ok("send", "bob", "--media", str(path))
    got = bob.ok("inbox")[0]
    assert got["media_type"] == "image/png" and got["filename"] == "caravan.png"
    with open(got["media_path"], "rb") as f:
        assert f.read() == path.read_bytes()
    assert os.path.dirname(got["media_path"]).startswith(bob.home)


def test_an_upload_is_not_repeated_when_only_the_message_failed(fake, alice, bob, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("text")
    fake.misbehave("POST /conversation/", drop=True, times=3)
    alice.ok("send", "bob", "--media", str(path))
    assert fake.count("POST /media") == 1 and len(fake.messages) == 1
    fake.misbehave("POST /media", drop=True)
    alice.ok("send", "bob", "--media", str(path))
    assert fake.count("POST /media") == 3 and len(fake.messages) == 2


def test_a_ticket_that_ran_out_is_replaced(fake, alice, bob, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("text")
    fake.misbehave("POST /conversation/", status=503)
    fake.misbehave("POST /conversation/", status=422, error={"code": "invalid", "field": "media", "reason": "no such ticket"})
    alice.ok("send", "bob", "--media", str(path))
    assert fake.count("POST /media") == 2


def test_a_refused_medium_is_not_uploaded_for_ever(fake, alice, bob, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("text")
    fake.misbehave("POST /conversation/", status=503)
    refusal = {"code": "invalid", "field": "media", "reason": "not like this"}
    fake.misbehave("POST /conversation/", status=422, error=refusal, times=20)
    assert alice.run("send", "bob", "--media", str(path)).returncode == 1
    assert fake.count("POST /media") == 2
    assert alice.outbox()[0]["state"] == "rejected"


def copies(terminal):
    """The files a profile keeps until they are sent."""
    found = [os.path.join(d, f) for d, _, files in os.walk(terminal.home) for f in files if d.endswith("/outgoing")]
    return found


def test_a_percent_sign_in_a_file_name_is_one(fake, alice, bob, tmp_path):
    path = tmp_path / "50%25 off.png"
    path.write_bytes(b"a picture")
    alice.ok("send", "bob", "--media", str(path))
    assert bob.ok("inbox")[0]["filename"] == "50%25 off.png"


@pytest.mark.parametrize("what", ["changed", "deleted"])
def test_what_happens_to_the_original_does_not_matter(fake, alice, bob, tmp_path, what):
    path, data = tmp_path / "a.bin", os.urandom(1_000_000)
    path.write_bytes(data)
    assert alice.run("send", "--no-wait", "bob", "--media", str(path), crash="client.created").returncode == -9
    assert len(copies(alice)) == 1
    assert stat.S_IMODE(os.stat(copies(alice)[0]).st_mode) == 0o600
    if what == "deleted":
        path.unlink()
    else:
        path.write_bytes(b"something else")
    alice.ok("outbox", "flush")
    got = bob.ok("inbox")[0]
    assert got["filename"] == "a.bin"
    with open(got["media_path"], "rb") as f:
        assert f.read() == data
    assert not copies(alice)


def test_the_copy_of_a_file_goes_when_its_message_is_settled(fake, alice, bob, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("text")
    alice.ok("send", "bob", "--media", str(path))
    assert not copies(alice)
    fake.misbehave("POST /conversation/", status=403)
    assert alice.run("send", "bob", "--media", str(path)).returncode == 1
    assert not copies(alice)
    with Listener(alice) as listener:
        alice.ok("send", "--no-wait", "bob", "--media", str(path))
        listener.wait(lambda e: e.get("state") == "accepted")
        eventually(lambda: not copies(alice))


def test_copies_left_by_a_killed_process_are_swept(fake, alice, bob, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("text")
    assert alice.run("send", "bob", "--media", str(path), crash="client.answered").returncode == -9
    outgoing = os.path.dirname(copies(alice)[0])
    old, fresh = "018f0000-0000-7000-8000-000000000001", new_id()
    for name in (old, fresh):
        with open(os.path.join(outgoing, name), "w", encoding="ascii") as f:
            f.write("half of it")
    alice.ok("outbox", "flush")
    assert sorted(os.listdir(outgoing)) == [fresh], "an old one without a message goes, a new one may be in the making"


def test_a_copy_that_is_gone_is_told(fake, alice, bob, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("text")
    alice.ok("send", "--no-wait", "bob", "--media", str(path))
    os.unlink(copies(alice)[0])
    done = alice.run("outbox", "flush")
    assert done.returncode == 1 and "is gone" in done.stdout
    assert alice.run("send", "bob", "--media", str(tmp_path / "never")).returncode == 1


def test_without_room_for_the_copy_nothing_is_sent(fake, alice, bob, tmp_path):
    path = tmp_path / "sparse.bin"
    with open(path, "wb") as f:
        f.truncate(1 << 43)  # 8 TiB of nothing
    done = alice.run("send", "bob", "--media", str(path))
    assert done.returncode == 1 and "no room for a copy" in done.stderr
    assert not copies(alice) and not alice.outbox()


def test_damaged_media_are_not_kept(fake, alice, bob, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("text")
    alice.ok("send", "bob", "--media", str(path))
    next(iter(fake.tickets.values()))["data"] = b"tExt"
    done = bob.run("inbox", "--timeout", "1")
    assert done.returncode == 1 and "SHA-256" in done.stderr
    assert fake.count("POST /message/") == 0 and fake.cursor("bob") == 0


@pytest.mark.parametrize("cut", ["announced", "unannounced"])
def test_media_that_are_broken_off_are_not_kept_and_come_whole_later(fake, alice, bob, tmp_path, cut):
    path = tmp_path / "caravan.png"
    path.write_bytes(os.urandom(1_000_000))
    message = alice.ok("send", "bob", "--media", str(path))[-1]["message_id"]
    fake.misbehave(f"GET /message/{message}/media", cut=cut, times=100)
    done = bob.run("inbox", "--timeout", "1")
    assert done.returncode not in (0, 2) and "broken off after 500000 of 1000000 bytes" in done.stderr, done.stderr
    assert fake.count("POST /message/") == 0 and fake.cursor("bob") == 0 and bob.inbox() == []
    assert [f for _, _, files in os.walk(bob.home) for f in files if "caravan" in f] == []

    fake.behave()
    fake.misbehave(f"GET /message/{message}/media", cut=cut)  # asked for again without being told
    got = bob.ok("inbox")
    with open(got[0]["media_path"], "rb") as f:
        assert f.read() == path.read_bytes()


@pytest.mark.parametrize("cut", ["announced", "unannounced"])
def test_listen_fetches_again_what_was_broken_off(fake, alice, bob, tmp_path, cut):
    path = tmp_path / "caravan.png"
    path.write_bytes(os.urandom(1_000_000))
    with Listener(bob) as listener:
        fake.misbehave("GET /message/", cut=cut)
        alice.ok("send", "bob", "--media", str(path))
        assert "broken off after 500000 of 1000000 bytes" in listener.wait(lambda e: e.get("event") == "trouble")["reason"]
        got = listener.wait(lambda e: e.get("media_path"))
        with open(got["media_path"], "rb") as f:
            assert f.read() == path.read_bytes()


def test_a_terminal_sees_the_progress(fake, alice, bob, tmp_path):
    path = tmp_path / "big.mp4"
    path.write_bytes(bytes(20_000_000))
    leader, follower = pty.openpty()
    env = {**os.environ, "BARID_HOME": alice.home, "BARID_SERVER": fake.url, "TERM": "xterm"}
    process = subprocess.Popen([binary(), "send", "bob", "--media", str(path)], env=env, stdin=follower, stdout=follower,
                               stderr=follower)
    os.close(follower)
    seen = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part
    os.close(leader)
    assert process.wait(30) == 0
    text = seen.decode()
    assert re.search(r"big\.mp4  [█░]{24} +\d+ %", text) and "sending" in text and "✓ sent" in text


# ---- receiving ----------------------------------------------------------------------------------------------

def test_store_then_received_then_ack(fake, alice, bob):
    m = fake.deliver("alice", "bob", "salam")["message_id"]
    with Listener(bob) as listener:
        got = listener.wait(lambda e: e.get("event") == "message")
        assert (got["message_id"], got["message_text"]) == (m, "salam")
        eventually(lambda: fake.cursor("bob") == 1, what="the ack")
    order = [name for name, body in fake.log if name in ("ws get", "ws received", "ws ack")]
    assert order == ["ws get", "ws received", "ws ack"]
    assert [g["message_text"] for g in bob.inbox()] == ["salam"]


def test_an_entry_that_comes_again_is_shown_once(fake, alice, bob):
    fake.deliver("alice", "bob", "one")
    fake.misbehave("ws received", drop=True)
    with Listener(bob) as listener:
        eventually(lambda: fake.cursor("bob") == 1, what="the ack")
        fake.deliver("alice", "bob", "two")
        listener.wait(lambda e: e.get("message_text") == "two")
        assert listener.texts() == ["one", "two"]
    assert fake.count("ws get") == 2 and fake.count("ws hello") == 2


def test_listen_comes_back_after_a_break(fake, alice, bob):
    with Listener(bob) as listener:
        fake.cut_sockets()
        listener.wait(lambda e: e.get("event") == "disconnected")
        fake.deliver("alice", "bob", "while away")
        listener.wait(lambda e: e.get("message_text") == "while away", seconds=15)
    assert [b["after"] for b in fake.bodies("ws hello")] == [0, 0]


def test_a_failing_fetch_is_tried_again_and_others_go_on(fake, alice, bob):
    fake.misbehave("ws get", status=503, times=2)
    for i in range(5):
        fake.deliver("alice", "bob", f"text {i}")
    with Listener(bob) as listener:
        eventually(lambda: fake.cursor("bob") == 5, what="all acks")
        assert sorted(listener.texts()) == [f"text {i}" for i in range(5)]
    assert [g["message_text"] for g in bob.inbox()] == [f"text {i}" for i in range(5)]


def test_what_is_gone_does_not_block_the_mailbox(fake, alice, bob):
    fake.deliver("alice", "bob", "one")
    fake.deliver("alice", "bob", "two")
    fake.misbehave("ws get", status=410, error={"code": "gone", "reason": "deleted"})
    with Listener(bob) as listener:
        eventually(lambda: fake.cursor("bob") == 2, what="both acks")
        assert listener.wait(lambda e: e.get("gone"))["seq"] == 1


def test_ticks_come_back_to_the_sender(fake, alice, bob):
    with Listener(alice, "--to", "bob", stdin=subprocess.PIPE) as mine:
        mine.process.stdin.write("salam\n")
        m = mine.wait(lambda e: e.get("state") == "accepted")["message_id"]
        bob.ok("listen", "--once", "--read")
        mine.state(m, "delivered")
        assert mine.state(m, "read")["by_user_id"] == "bob"
        states = [e["state"] for e in mine.events if e.get("message_id") == m]
    assert states == ["sending", "accepted", "delivered", "read"]


def test_listen_sends_what_another_process_stored(fake, alice, bob):
    with Listener(alice) as mine:
        m = alice.ok("send", "--no-wait", "bob", "salam")[0]["message_id"]
        mine.state(m, "accepted")
        again = alice.ok("send", "bob", "by itself")[-1]["message_id"]
        mine.state(again, "accepted")
    assert len(fake.messages) == 2


def test_lines_are_sent_in_order_over_the_socket(fake, alice, bob):
    done = subprocess.run([binary(), "listen", "--to", "bob", "--once", "--json"], text=True, capture_output=True, timeout=30,
                          input="".join(f"line {i}\n" for i in range(50)) + "no newline",
                          env={**os.environ, "BARID_HOME": alice.home, "BARID_SERVER": fake.url})
    assert done.returncode == 0, done.stderr
    sent = [b["message_text"] for b in fake.bodies("ws send")]
    assert sent == [f"line {i}" for i in range(50)] + ["no newline"]


def test_the_socket_retries_a_lost_answer(fake, alice, bob):
    alice.ok("send", "--no-wait", "bob", "salam")
    fake.misbehave("ws send", drop=True)
    alice.ok("listen", "--once")
    sent = fake.bodies("ws send")
    assert ids(sent) == [sent[0]["message_id"]] * 2 and len(fake.messages) == 1
    assert [m["state"] for m in alice.outbox()] == ["accepted"]


def test_only_one_listens(fake, alice):
    with Listener(alice):
        done = alice.run("listen", "--once")
        assert done.returncode == 1 and "another `barid listen`" in done.stderr


def test_a_session_that_ended_ends_listen(fake, alice):
    fake.devices.clear()
    done = alice.run("listen")
    assert done.returncode == 1 and "not logged in" in done.stderr


def test_reading_is_told_when_the_server_is_back(fake, alice, bob):
    m = fake.deliver("alice", "bob", "salam")["message_id"]
    bob.ok("inbox")
    fake.stop_listening()
    assert bob.run("read", m[-8:], "--timeout", "0.3").returncode == 75
    fake.listen_again()
    assert fake.messages[m]["read"] == set()
    bob.ok("inbox")
    assert fake.messages[m]["read"] == {"bob"}
    bob.ok("inbox")
    assert fake.count(f"POST /message/{m}/read") == 1


def test_a_text_cannot_play_with_the_terminal(fake, alice, bob):
    fake.deliver("alice", "bob", "\033[2J\033]0;title\a gone")
    done = bob.run("inbox")
    assert "\033" not in done.stdout and "\a" not in done.stdout and "?[2J" in done.stdout


# ---- the rest -----------------------------------------------------------------------------------------------

def test_tracking_with_and_without_the_service(fake, alice, bob):
    m = alice.ok("send", "bob", "salam")[-1]["message_id"]
    bob.ok("inbox")
    journey = alice.ok("track", m[-8:])[0]
    assert [p["point"] for p in journey["points"]] == ["created", "accepted", "queued", "received"]
    fake.stop_listening()
    done = alice.run("track", m, "--json")
    assert [p["point"] for p in json.loads(done.stdout)["points"]] == ["created", "accepted"]
    assert json.loads(done.stdout)["from_service"] is False
    fake.listen_again()


def test_following_ends_when_it_is_read(fake, alice, bob):
    m = alice.ok("send", "bob", "salam")[-1]["message_id"]
    env = {**os.environ, "BARID_HOME": alice.home, "BARID_SERVER": fake.url}
    with subprocess.Popen([binary(), "track", "--follow", "--json", m], env=env, stdout=subprocess.PIPE, text=True) as track:
        assert json.loads(track.stdout.readline())["point"] == "created"
        bob.ok("inbox")
        bob.ok("read", "--all")
        points = [json.loads(line)["point"] for line in track.stdout]
    assert points[-1] == "read" and track.returncode == 0


def test_the_store_is_for_its_owner_only(fake, alice):
    alice.ok("send", "--no-wait", "alice", "note")
    for folder, _, names in os.walk(alice.home):
        assert folder == alice.home or stat.S_IMODE(os.stat(folder).st_mode) == 0o700, folder
        for name in names:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600, name


def test_two_users_of_one_home_are_told_apart(fake, alice):
    fake.user("bob", PASSWORD)
    alice.ok("login", "bob")
    done = alice.run("whoami")
    assert done.returncode == 1 and "--as" in done.stderr
    assert alice.ok("whoami", "--as", "bob")[0]["user_id"] == "bob"


def test_a_wrong_password_leaves_nothing_behind(fake, alice):
    fake.user("carol", "another one")
    assert alice.run("login", "carol").returncode == 1
    assert alice.ok("whoami")[0]["user_id"] == "alice"


def test_logging_in_again_keeps_the_device(fake, alice):
    before = alice.ok("whoami")[0]["device_id"]
    assert alice.ok("login", "alice")[0]["device_id"] == before
    alice.ok("logout")
    assert alice.run("whoami").returncode == 1
    assert alice.run("send", "bob", "salam").returncode == 1


@pytest.mark.parametrize("words", [["send"], ["send", "bob"], ["track"], ["read"], ["outbox"], ["conversation"], ["user", "x"],
                                   ["listen", "x"], ["send", "--timeout", "soon", "bob", "x"], ["inbox", "--nonsense"]])
def test_wrong_usage_is_2(fake, alice, words):
    done = alice.run(*words)
    assert done.returncode == 2 and "--help" in done.stderr


@pytest.mark.parametrize("command", ["user", "login", "logout", "whoami", "conversation", "send", "outbox", "listen", "inbox",
                                     "read", "track"])
def test_every_command_has_its_help(command):
    done = subprocess.run([binary(), command, "--help"], capture_output=True, text=True, timeout=10)
    assert done.returncode == 0 and "--json" in done.stdout and f"barid {command}" in done.stdout


def test_conversations(fake, alice, bob):
    made = alice.ok("conversation", "new", "bob", "--id", "tea-house", "--title", "Tea")[0]
    assert made["conversation_id"] == "tea-house" and made["members"] == ["alice", "bob"]
    alice.ok("send", "--conversation", "tea-house", "salam")
    assert [c["conversation_id"] for c in bob.ok("conversation", "list")] == ["tea-house"]
    assert bob.ok("conversation", "show", "tea-house")[0]["last_seq"] == 1
    assert alice.run("conversation", "show", "nowhere").returncode == 1


def test_standard_input_is_a_text(fake, alice, bob):
    env = {**os.environ, "BARID_HOME": alice.home, "BARID_SERVER": fake.url}
    for given, code in ((b"two\nlines\n", 0), (b"x" * 65537, 1), (b"\xff", 1)):
        done = subprocess.run([binary(), "send", "bob", "-"], env=env, input=given, capture_output=True, timeout=30)
        assert done.returncode == code, done.stderr
    assert [b["message_text"] for b in fake.bodies("POST /conversation/")] == ["two\nlines\n"]


def test_a_line_that_is_too_long_is_not_sent_in_part(fake, alice, bob, tmp_path):
    lines = ["first", "x" * 65536, "y" * 65537, "z" * 200_000, "last"]
    with Listener(alice, "--to", "bob", stdin=subprocess.PIPE) as listener:
        listener.process.stdin.write("\n".join(lines))
        listener.process.stdin.close()
        listener.process.stdin = None
        eventually(lambda: len(fake.messages) >= 3)
        listener.wait(lambda e: e.get("event") == "trouble")
    assert [m["text"] for m in fake.messages.values()] == ["first", "x" * 65536, "last"]


def test_media_that_went_between_two_questions_do_not_block_the_mailbox(fake, alice, bob, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("text")
    message = alice.ok("send", "bob", "--media", str(path))[-1]["message_id"]
    alice.ok("send", "bob", "after it")
    fake.misbehave(f"GET /message/{message}/media", status=410, error={"code": "gone", "reason": "deleted"})
    got = bob.ok("inbox")
    assert [m.get("gone") for m in got] == [True, None] and got[1]["message_text"] == "after it"


def test_a_file_does_not_take_the_place_of_another(fake, alice, bob, tmp_path):
    """Ids are chosen by who sends: two that end alike must not end in one file."""
    for n, head in enumerate(["018f0000-0000-7000-8000-0000", "018f0001-0000-7000-8000-0000"]):
        path = tmp_path / "a.txt"
        path.write_text(f"text {n}")
        alice.ok("send", "bob", "--media", str(path))
        (message,) = [m for m in fake.messages.values() if m["answer"]["seq"] == n + 1]
        entry = next(e for d in fake.devices.values() for e in d.entries if e.get("seq") == n + 1 and d.user_id == "bob")
        del fake.messages[message["answer"]["message_id"]]
        entry["message_id"] = message["answer"]["message_id"] = head + "1234abcd"
        fake.messages[head + "1234abcd"] = message
    paths = [m["media_path"] for m in bob.ok("inbox")]
    assert [open(p, encoding="ascii").read() for p in paths] == ["text 0", "text 1"]


def test_what_the_service_says_cannot_play_with_the_terminal(fake, alice, bob):
    fake.misbehave("POST /sessions", status=403, error={"code": "forbidden", "reason": "\x1b]0;pwned\x07"})
    done = alice.run("login", "alice")
    assert done.returncode == 1 and "\x1b" not in done.stderr and "?]0;pwned?" in done.stderr
