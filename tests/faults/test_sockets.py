"""Sockets that die, sleep or dawdle: what they miss waits in the store and comes later, in order."""
import socket
import time

from support.server import Server, eventually


def pair(server, *more):
    alice, bob = server.new_user("alice"), server.new_user("bob")
    others = [server.new_user(name) for name in more]
    c = alice.conversation(["bob", *more])["conversation_id"]
    return (alice, bob, c, *others)


def drain(api, after=0, ack=True):
    """Connects and reads everything up to `drained`; returns the entries and the socket."""
    ws = api.connect(after=after)
    entries = []
    while True:
        frame = ws.receive()
        if frame["type"] == "drained":
            return entries, ws
        entries.append(frame)
        if ack:
            ws.ack(frame["cursor"])


def check_cursors(entries, first=1):
    assert [e["cursor"] for e in entries] == list(range(first, first + len(entries)))


def test_half_dead_socket_is_closed_and_drains_later():
    with Server(args=["--ping-interval-ms", "300"]) as server:
        alice, bob, c = pair(server)
        ws = bob.connect(receive_buffer=4096)
        ws.expect("drained")
        assert alice.user("bob")["online"] is True
        # From here on bob reads nothing and answers no ping; no FIN either.
        sent = [alice.send(c, "x" * 100)["message_id"] for _ in range(50)]
        eventually(lambda: alice.user("bob")["online"] is False, 10, "the server giving bob's socket up")
        entries, _ = drain(bob)
        assert [e["message_id"] for e in entries] == sent
        check_cursors(entries)
        ws.vanish()


def test_peer_that_answers_pings_stays():
    with Server(args=["--ping-interval-ms", "200"]) as server:
        alice, bob, c = pair(server)
        ws = bob.connect()
        ws.expect("drained")
        end = time.monotonic() + 5
        while ws.pings < 5:
            assert time.monotonic() < end, "no pings"
            ws.quiet(0.1)
        assert alice.user("bob")["online"] is True
        m = alice.send(c, "still there?")["message_id"]
        assert ws.expect("message")["message_id"] == m


def test_slow_reader_is_not_flooded_and_misses_nothing():
    with Server() as server:
        alice, bob, c = pair(server)
        ws = bob.connect()
        ws.expect("drained")
        sent = [alice.send(c, f"{i}")["message_id"] for i in range(400)]
        entries = [ws.receive() for _ in range(256)]
        assert ws.quiet(0.5), "no more than 256 unacknowledged entries"
        ws.ack(entries[-1]["cursor"])
        entries += [ws.receive() for _ in range(144)]
        assert [e["message_id"] for e in entries] == sent
        check_cursors(entries)


def test_reader_that_never_reads_does_not_hold_up_others():
    with Server() as server:
        alice, bob, c, carol = pair(server, "carol")
        ws = bob.connect(receive_buffer=4096)
        ws.expect("drained")
        carols = carol.connect()
        carols.expect("drained")
        sent = []
        for i in range(300):
            sent.append(alice.send(c, f"{i}")["message_id"])
            frame = carols.receive()
            assert frame["message_id"] == sent[-1]
            carols.ack(frame["cursor"])
        assert server.rss_bytes() < 200 * 1024 * 1024
        entries, _ = drain(bob)  # the newer link replaces the one that does not read
        assert [e["message_id"] for e in entries] == sent


def test_reconnect_with_an_old_cursor():
    with Server() as server:
        alice, bob, c = pair(server)
        sent = [alice.send(c, f"{i}")["message_id"] for i in range(20)]
        eventually(lambda: len(bob.mailbox()["entries"]) == 20)
        ws = bob.connect()
        entries = [ws.receive() for _ in range(20)]  # stored, as far as the device is concerned up to 12
        ws.vanish()
        server.restart()
        again, ws = drain(bob, after=entries[11]["cursor"], ack=False)
        assert [e["message_id"] for e in again] == sent[12:]
        check_cursors(again, 13)
        ws.ack(20)
        ws.close()
        eventually(lambda: bob.mailbox()["entries"] == [], what="the acknowledged entries going")
        # A cursor older than what was let go of: nothing is invented, nothing comes twice.
        again, _ = drain(bob, after=3)
        assert again == []


def test_cursor_beyond_the_mailbox_does_no_harm():
    with Server() as server:
        alice, bob, c = pair(server)
        assert bob.call("POST", "/mailbox/ack", {"cursor": 999}).status_code == 422
        m = alice.send(c, "here")["message_id"]
        eventually(lambda: [e["message_id"] for e in bob.mailbox()["entries"]] == [m])


def test_catch_up_is_in_order_and_live_follows_it():
    with Server() as server:
        alice, bob, c, carol = pair(server, "carol")
        other = carol.conversation(["bob"])["conversation_id"]
        sent = []
        for i in range(100):
            sent.append(alice.send(c, f"a{i}")["message_id"])
            sent.append(carol.send(other, f"c{i}")["message_id"])
        ws = bob.connect()
        entries, drained, live = [], False, []
        while len(live) < 10:
            frame = ws.receive()
            if frame["type"] == "drained":
                drained = True
                live = [alice.send(c, f"live{i}")["message_id"] for i in range(10)]
                break
            entries.append(frame)
            ws.ack(frame["cursor"])
        while len(entries) < 210:
            entries.append(ws.receive())
            ws.ack(entries[-1]["cursor"])
        assert drained
        check_cursors(entries)
        assert sorted(e["message_id"] for e in entries[:200]) == sorted(sent)
        assert [e["message_id"] for e in entries[200:]] == live
        for conversation in (c, other):
            seqs = [e["seq"] for e in entries if e["conversation_id"] == conversation]
            assert seqs == sorted(seqs)


def test_messages_sent_while_catching_up_come_once_and_in_order():
    with Server() as server:
        alice, bob, c = pair(server)
        sent = [alice.send(c, f"{i}")["message_id"] for i in range(150)]
        ws = bob.connect()
        entries = []
        while len(entries) < 250:
            frame = ws.receive()
            if frame["type"] != "message":
                continue
            entries.append(frame)
            ws.ack(frame["cursor"])
            if len(sent) < 250:
                sent.append(alice.send(c, f"{len(sent)}")["message_id"])
        assert [e["message_id"] for e in entries] == sent
        check_cursors(entries)


def test_receipts_wait_for_an_offline_sender():
    with Server() as server:
        alice, bob, c = pair(server)
        messages = [alice.send(c, f"{i}")["message_id"] for i in range(5)]  # alice is never connected so far
        ws = bob.connect()
        for m in messages:
            frame = ws.expect("message")
            assert frame["message_id"] == m
            assert ws.say("get", message_id=m)["status"] == 200
            assert ws.say("received", message_id=m)["status"] == 200
        for m in messages:
            assert ws.say("read", message_id=m)["status"] == 200
        server.restart()
        entries, _ = drain(alice)
        check_cursors(entries)
        assert [(e["type"], e["message_id"]) for e in entries] == \
            [("delivered", m) for m in messages] + [("read", m) for m in messages]
        assert {e["by_user_id"] for e in entries} == {"bob"}


def test_link_of_a_newer_socket_replaces_the_older():
    with Server() as server:
        alice, bob, c = pair(server)
        old = bob.connect()
        old.expect("drained")
        new = bob.connect()
        new.expect("drained")
        old.expect_close()
        m = alice.send(c, "to the new one")["message_id"]
        assert new.expect("message")["message_id"] == m


def test_reset_in_the_middle_of_a_frame():
    with Server() as server:
        alice, bob, c = pair(server)
        for _ in range(20):
            ws = bob.connect()
            ws.expect("drained")
            ws.send_raw(ws.frame(1, b'{"type":"ack","cursor":0}')[:9])
            ws.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            ws.vanish()
        m = alice.send(c, "all well")["message_id"]
        assert bob.connect().expect("message")["message_id"] == m


def test_link_that_stays_slow_is_closed_and_drains_later():
    with Server(args=["--slow-link-ms", "300"]) as server:
        alice, bob, c = pair(server)
        ws = bob.connect()
        ws.expect("drained")
        sent = [alice.send(c, f"{i}")["message_id"] for i in range(300)]
        ws.expect_close()  # it reads, answers pings, and acknowledges nothing
        assert [f["message_id"] for f in ws.kept] == sent[:256]
        entries, _ = drain(bob)
        assert [e["message_id"] for e in entries] == sent
