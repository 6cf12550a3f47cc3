"""The evidence must be worth something: each kind of damage to the clients' stores is noticed by the ledger."""
import types

import pytest

from support.faithful import Faithful, check_ledger

CONVERSATION = {"conversation_id": "c", "members": ["alice", "bob"]}


@pytest.fixture
def pair(tmp_path):
    def client(name):
        return Faithful(types.SimpleNamespace(user_id=name, device_id="d"), str(tmp_path))

    alice, bob = client("alice"), client("bob")
    for seq, text in ((1, "one"), (2, "two")):
        alice.sql("INSERT INTO outbox (message_id, conversation_id, text, seq, status) VALUES (?,'c',?,?,202)", f"m{seq}", text, seq)
        bob._store({"type": "message", "cursor": seq, "message_id": f"m{seq}", "conversation_id": "c", "seq": seq,
                    "by_user_id": "alice", "kind": "text"})
        bob.sql("UPDATE inbox SET content=?, owes=NULL WHERE message_id=?", text, f"m{seq}")
    yield alice, bob
    alice.stop()
    bob.stop()


def test_a_sound_ledger_is_accepted(pair):
    check_ledger(pair, [CONVERSATION])


@pytest.mark.parametrize("damage", [
    ("bob", "DELETE FROM inbox WHERE message_id='m2'"),
    ("bob", "UPDATE inbox SET content='other' WHERE message_id='m1'"),
    ("bob", "UPDATE inbox SET seq=7 WHERE message_id='m1'"),
    ("bob", "INSERT INTO inbox (message_id, cursor, conversation_id, seq) VALUES ('m9', 9, 'c', 9)"),
    ("alice", "UPDATE outbox SET seq=1 WHERE message_id='m2'"),
    ("alice", "UPDATE outbox SET seq=3 WHERE message_id='m1'"),
    ("alice", "INSERT INTO receipts VALUES (1, 'read', 'nobody sent this', 'bob', '')"),
])
def test_damage_is_noticed(pair, damage):
    who, statement = damage
    {"alice": pair[0], "bob": pair[1]}[who].sql(statement)
    with pytest.raises(AssertionError):
        check_ledger(pair, [CONVERSATION])


@pytest.mark.parametrize("entries", [
    [{"cursor": 4, "message_id": "m4"}],  # a gap
    [{"cursor": 3, "message_id": "m1"}],  # a second arrival
    [{"cursor": 2, "message_id": "m8"}],  # another entry under a cursor seen before
])
def test_broken_cursors_are_noticed(pair, entries):
    for e in entries:
        pair[1]._store({"type": "message", "conversation_id": "c", "seq": 3, "by_user_id": "alice", "kind": "text", **e})
    with pytest.raises(AssertionError):
        check_ledger(pair, [CONVERSATION])
