"""`barid parked`: looking at events that gave up, sending them on again, dropping them."""
import json
import os
import sqlite3
import subprocess

import pytest

from support.server import Server, binary, eventually, new_id


def parked(data, *args):
    """(exit code, standard output, standard error)"""
    env = {k: v for k, v in os.environ.items() if k != "BARID_DATA"}
    done = subprocess.run([binary(), "parked", *args, "--data", data], capture_output=True, text=True, timeout=60,
                          env=env, check=False)
    return done.returncode, done.stdout, done.stderr


def parked_json(data, *args):
    code, out, err = parked(data, *args, "--json")
    assert (code, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def park_all(data):
    """As when the bus had refused every event that waits, three times."""
    db = sqlite3.connect(os.path.join(data, "barid.db"))
    with db:
        db.execute("update outbox set state = 1, attempts = 3, error = 'the bus said no', parked_at = stored_at")
    db.close()


@pytest.fixture
def two():
    """A server that was killed between the acceptance of two messages and their publication; the events are parked.
    (server, bob, conversation, ids of the messages)"""
    with Server() as server:
        alice, bob = server.new_user("alice"), server.new_user("bob")
        conversation = alice.conversation(["bob"])["conversation_id"]
        ids = [new_id(), new_id()]
        for i, message_id in enumerate(ids):
            server.restart(env={"BARID_CRASH_AT": "accept.committed:1"})
            try:
                alice.send(conversation, f"number {i}", message_id=message_id)
            except OSError:
                pass
            server.wait_exit()
            park_all(server.data)
        yield server, bob, conversation, ids


def test_list_and_show(two):
    server, _, conversation, ids = two
    listed = parked_json(server.data, "list")
    assert [e["event_id"] for e in listed] == ids
    first = listed[0]
    assert first["topic"] == "message_send" and first["key"] == conversation
    assert first["attempts"] == 3 and first["error"] == "the bus said no"
    assert first["stored_at"].endswith("Z") and first["parked_at"].endswith("Z") and "payload" not in first
    (shown,) = parked_json(server.data, "show", str(first["number"]))
    payload = json.loads(shown.pop("payload"))
    assert shown == first and payload["message_id"] == ids[0] and payload["by_user_id"] == "alice"
    code, out, _ = parked(server.data, "list")
    assert code == 0 and out.count("the bus said no") == 2


def test_retried_is_delivered_and_dropped_is_not(two):
    server, bob, _, ids = two
    numbers = [str(e["number"]) for e in parked_json(server.data, "list")]
    assert parked_json(server.data, "retry", numbers[1]) == [{"number": int(numbers[1]), "result": "retried"}]
    assert parked_json(server.data, "drop", numbers[0]) == [{"number": int(numbers[0]), "result": "dropped"}]
    assert parked_json(server.data, "list") == []
    assert parked(server.data, "list")[1] == "Nothing is parked.\n"
    server.start()
    entries = eventually(lambda: bob.mailbox(limit=10)["entries"], what="the message that was sent on")
    assert [e["message_id"] for e in entries] == [ids[1]]


def test_what_is_not_parked_is_said(two):
    server = two[0]
    for words in (["show", "999"], ["retry", "999"], ["drop", "999"]):
        code, out, err = parked(server.data, *words)
        assert code == 1 and out == "" and "999" in err
    number = str(parked_json(server.data, "list")[0]["number"])
    assert parked(server.data, "drop", number, "999")[0] == 1
    assert len(parked_json(server.data, "list")) == 2, "all of them or none"
    for words in ([], ["show"], ["list", "1"], ["retry", "x"], ["retry", "-1"]):
        assert parked(server.data, *words)[0] == 2


def test_a_directory_without_an_outbox(tmp_path):
    code, _, err = parked(str(tmp_path), "list")
    assert code == 1 and "there is no database" in err
    sqlite3.connect(tmp_path / "barid.db").execute("create table other (id integer)")
    for words in (["list"], ["retry", "1"], ["drop", "1"]):
        code, out, err = parked(str(tmp_path), *words)
        assert code == 1 and out == "" and err == "barid parked: the database has no outbox\n"
    (tmp_path / "barid.db").write_bytes(b"this is not a database\n" * 1000)
    code, _, err = parked(str(tmp_path), "list")
    assert code == 1 and "damaged" in err
