"""What time ends, ends once, whichever server it was used at and whichever notices; and what every server counts for
itself."""
import json
import time

import pytest
import requests

from support.parts import Distributed, servers_on
from support.server import at, eventually

TTL = 2  # seconds
SWEEP = ["--sweep-every-ms", "50"]


@pytest.fixture(name="parts")
def fixture_parts(postgres, kafka):
    return Distributed(postgres, kafka)


def is_live(parts, api):
    return parts.value("select token_hash is not null from barid.device where device_id = decode(%s, 'hex')",
                       api.device_id.replace("-", ""))


def status(api):
    return api.call("GET", "/mailbox").status_code


def test_a_session_lives_by_its_use_at_any_server_and_ends_at_all(parts):
    with servers_on(parts, 2, ["--session-ttl", f"{TTL}s", *SWEEP]) as two:
        walks, sits, idle = two[0].new_user("walks"), two[0].new_user("sits"), two[0].new_user("idle")
        assert status(at(two[1], idle)) == 200  # both servers know the token
        with at(two[1], sits).connect() as socket:
            socket.expect("drained")
            end, used = time.monotonic() + 2.5 * TTL, 0
            while time.monotonic() < end:
                assert status(at(two[used % 2], walks)) == 200, "it is in use, now here, now there"
                used += 1
                time.sleep(0.05)  # the pace of the use
            assert socket.quiet(0.1), "a device that is connected is in use"
            eventually(lambda: not is_live(parts, idle), 10, "the end of the session nobody used")
            assert [status(at(s, idle)) for s in two] == [401, 401]
            assert status(at(two[0], sits)) == 200
        eventually(lambda: not is_live(parts, walks) and not is_live(parts, sits), 10, "the end of the others")
        assert {status(at(s, who)) for s in two for who in (walks, sits)} == {401}


def test_a_session_of_a_server_that_died_is_ended_by_the_other(parts):
    with servers_on(parts, 2, ["--session-ttl", f"{TTL}s", *SWEEP]) as (dies, stays):
        bob = dies.new_user("bob")
        dies.kill9()
        eventually(lambda: not is_live(parts, bob), 15, "the end of the session")
        assert status(at(stays, bob)) == 401


def test_a_message_expires_once_and_its_sender_is_told_once(parts):
    """Both servers look for what is overdue, all the time."""
    count = 30
    with servers_on(parts, 2, ["--message-ttl", f"{TTL}s", "--sweep-every-ms", "10"]) as two:
        alice, bob = two[0].new_user("alice"), two[1].new_user("bob")
        conversations = [alice.conversation(["bob"], title=str(i))["conversation_id"] for i in range(5)]
        with alice.connect() as for_alice:
            for_alice.expect("drained")
            sent = [at(two[i % 2], alice).send(conversations[i % 5], str(i))["message_id"] for i in range(count)]
            told = [for_alice.expect("expired", timeout=20) for _ in range(count)]
            assert sorted(t["message_id"] for t in told) == sorted(sent)
            assert {t["by_user_id"] for t in told} == {"bob"}
            assert [t["cursor"] for t in told] == list(range(1, count + 1))
            assert for_alice.quiet(1)
        assert sum(s.passed("expired") for s in two) == count
        for server in two:
            assert [e["type"] for e in at(server, alice).mailbox()["entries"]] == ["expired"] * count
            assert at(server, bob).mailbox()["entries"] == [], "what expired is passed over"
            assert {at(server, bob).call("GET", "/message/" + m).status_code for m in sent} == {410}
        assert all(alice.points(m).count("expired") == 1 for m in sent)
        assert parts.value("select count(*) from barid.content") == 0
        topic = parts.prefix + "message_expired"
        eventually(lambda: parts.value("select count(*) from barid.outbox") == 0, 20, "the events being published")
        events = [json.loads(r.value())["message_id"] for r in parts.kafka.records(topic, count + 1, seconds=3)]
        assert sorted(events) == sorted(sent)


def test_a_message_that_is_received_in_its_last_moment_expires_or_not_but_never_both(parts):
    with servers_on(parts, 2, ["--message-ttl", f"{TTL}s", "--sweep-every-ms", "10"]) as two:
        alice, bob = two[0].new_user("alice"), two[1].new_user("bob")
        conversation = alice.conversation(["bob"])["conversation_id"]
        sent = [alice.send(conversation, str(i))["message_id"] for i in range(40)]
        eventually(lambda: len(bob.mailbox()["entries"]) == 40, 20, "all in bob's mailbox")
        eventually(lambda: sum(s.passed("expired") for s in two) > 0, 20, "the first that expires")
        for m in reversed(sent):
            at(two[int(m[-1], 16) % 2], bob).call("POST", f"/message/{m}/received")
        eventually(lambda: len(alice.mailbox()["entries"]) == 40, 20, "one word for each")
        told = {e["message_id"]: e["type"] for e in alice.mailbox()["entries"]}
        assert set(told) == set(sent) and set(told.values()) <= {"expired", "delivered"}
        for m, kind in told.items():
            points = alice.points(m)
            assert ("expired" in points) == (kind == "expired") and ("received" in points) == (kind == "delivered"), points


def test_every_server_counts_wrong_passwords_for_itself(parts):
    """docs/cli.md says so: of one address ten of a user in five minutes, at each server."""
    with servers_on(parts, 2) as two:
        two[0].new_user("bob")

        def wrong(server):
            return requests.post(server.url + "/sessions", json={"user_id": "bob", "password": "wrong"}, timeout=20)

        assert [wrong(two[0]).status_code for _ in range(11)] == [401] * 10 + [429]
        assert [wrong(two[1]).status_code for _ in range(11)] == [401] * 10 + [429]
        assert 0 < int(wrong(two[0]).headers["Retry-After"]) <= 300
