"""Servers that share PostgreSQL and Kafka are one service: it does not matter which of them one asks."""
import concurrent.futures
import contextlib
import subprocess
import threading

import pytest
import requests

from support.balancer import Balancer
from support.parts import Distributed, servers_on
from support.server import Api, ApiError, Server, at, binary, eventually


def test_a_message_goes_from_one_server_to_the_other_and_the_receipts_come_back(two):
    alice, bob = two[0].new_user("alice"), two[1].new_user("bob")
    conversation = alice.conversation(["bob"])["conversation_id"]
    with alice.connect() as for_alice, bob.connect() as for_bob:
        for_alice.expect("drained")
        for_bob.expect("drained")
        for i in range(20):
            sent = alice.send(conversation, f"salam {i}")["message_id"]
            entry = for_bob.expect("message", timeout=10)
            assert entry["message_id"] == sent and entry["cursor"] == i + 1
            assert bob.get(sent)["message_text"] == f"salam {i}"
            bob.read(sent)
            assert for_alice.expect("delivered", timeout=10)["message_id"] == sent
            assert for_alice.expect("read", timeout=10)["message_id"] == sent
            for_bob.ack(entry["cursor"])
    points = eventually(lambda: (lambda p: p if "notified" in p else None)(alice.points(sent)))
    assert set(points) >= {"accepted", "published", "queued", "notified", "received", "deleted", "read"}
    assert alice.call("GET", "/message/" + sent).status_code == 410


def test_a_notice_reaches_the_server_of_the_device_and_no_other(three):
    """Counted: what other servers told of; the third has nothing to do with alice and bob."""
    alice, bob = three[0].new_user("alice"), three[1].new_user("bob")
    conversations = [alice.conversation(["bob"], title=str(i))["conversation_id"] for i in range(8)]
    count = 40
    with alice.connect() as for_alice, bob.connect() as for_bob:
        for_alice.expect("drained")
        for_bob.expect("drained")
        for i in range(count):
            alice.send(conversations[i % 8], str(i))
        for _ in range(count):
            bob.received(for_bob.expect("message", timeout=10)["message_id"])
        for _ in range(count):
            for_alice.expect("delivered", timeout=10)
        heard = [s.metrics()["barid_notices_total"] for s in three]
        queued = [s.passed("queued") for s in three]
    assert sum(queued) == count
    assert heard[2] == 0, "nobody of its devices was concerned"
    assert heard[1] == queued[0] + queued[2], "what bob's own server queued it did not have to be told"
    assert heard[0] == count, "bob's receipts were taken by his server"


def test_a_newer_connection_elsewhere_replaces_the_older(two):
    bob = two[0].new_user("bob")
    with bob.connect() as older:
        older.expect("drained")
        with at(two[1], bob).connect() as newer:
            newer.expect("drained")
            assert older.expect_close() == 4409
            with bob.connect() as newest:
                newest.expect("drained")
                assert newer.expect_close() == 4409
                assert newest.quiet(0.5)


def test_a_long_poll_is_woken_at_whichever_server_it_waits(two):
    import threading
    alice, bob = two[0].new_user("alice"), two[0].new_user("bob")
    conversation = alice.conversation(["bob"])["conversation_id"]
    after = 0
    for i in range(6):
        there = at(two[i % 2], bob)
        answers = []
        poll = threading.Thread(target=lambda: answers.append(there.mailbox(after=after, wait=20)))
        poll.start()
        eventually(lambda: two[i % 2].metrics()["barid_http_requests_open"] > 1)
        sent = alice.send(conversation, str(i))["message_id"]
        poll.join(10)
        assert [e["message_id"] for e in answers[0]["entries"]] == [sent]
        after = answers[0]["entries"][-1]["cursor"]


def test_logging_out_on_one_ends_the_session_on_all(two):
    bob = two[0].new_user("bob")
    there = at(two[1], bob)
    there.mailbox()
    with there.connect() as socket:
        socket.expect("drained")
        bob.logout()
        socket.expect_close()
        eventually(lambda: there.call("GET", "/mailbox").status_code == 401, 5)


def test_a_new_token_ends_the_former_one_everywhere(two):
    bob = two[0].new_user("bob")
    there = at(two[1], bob)
    there.mailbox()
    Api(two[0]).login("bob", device_id=bob.device_id)
    eventually(lambda: there.call("GET", "/mailbox").status_code == 401, 5)


def test_online_counts_the_devices_of_all_servers_that_live(two):
    alice, bob = two[0].new_user("alice"), two[1].new_user("bob")
    alice.conversation(["bob"])
    assert not alice.user("bob")["online"]
    with bob.connect() as socket:
        socket.expect("drained")
        assert alice.user("bob")["online"] and at(two[1], alice).user("bob")["online"]
    eventually(lambda: not alice.user("bob")["online"])
    socket = bob.connect()
    socket.expect("drained")
    assert alice.user("bob")["online"]
    two[1].kill9()
    eventually(lambda: not alice.user("bob")["online"], 25, "the lease of the dead server")


def test_a_server_whose_clock_is_wrong_keeps_the_time_of_the_others(postgres, kafka):
    """Forty days ahead of the database, it would end every session and message there is; as far behind, none ever."""
    shift, sweep = 40 * 86400, ["--sweep-every-ms", "50"]
    parts = Distributed(postgres, kafka)
    with contextlib.closing(parts), Server(parts=parts) as right:
        alice, bob = right.new_user("alice"), right.new_user("bob")
        conversation = alice.conversation(["bob"])["conversation_id"]
        first = alice.send(conversation, "salam")
        for off in (shift, -shift):
            with Server(parts=parts, args=sweep, env={"BARID_CLOCK_SHIFT": str(off)}) as wrong:
                sent = at(wrong, alice).send(conversation, str(off))
                assert sent["accepted_at"][:7] == first["accepted_at"][:7], "the same month"
                eventually(lambda: len(at(wrong, bob).mailbox()["entries"]) >= 2, 30)
                media = alice.upload(b"picture")["ticket"]
                assert at(wrong, alice).send(conversation, ticket=media)["message_id"]
                assert at(wrong, bob).get(first["message_id"])["message_text"] == "salam"
                login = Api(wrong)
                login.login("bob")
                assert right.api().call("GET", "/mailbox", headers={"Authorization": "Bearer " + login.token}).status_code == 200
        eventually(lambda: len(bob.mailbox()["entries"]) == 5, 30)


def test_media_is_uploaded_at_one_and_fetched_from_the_other(two):
    alice, bob = two[0].new_user("alice"), two[1].new_user("bob")
    conversation = alice.conversation(["bob"])["conversation_id"]
    data = bytes(range(256)) * 4000
    ticket = alice.upload(data, "image/png", "a.png")["ticket"]
    sent = at(two[1], alice).send(conversation, ticket=ticket)["message_id"]
    eventually(lambda: bob.mailbox()["entries"])
    assert bob.media(sent).content == data
    bob.received(sent)
    assert bob.media(sent).status_code == 410
    parts = two[0].parts
    assert parts.value("select count(*) from barid.media where refs <> 0") == 0
    assert parts.value("select coalesce(sum(held_bytes), 0)::bigint from barid.quota") == 0
    eventually(lambda: parts.value("select count(*) from barid.datastore_content") == 0, 10)


def test_a_server_that_is_killed_keeps_what_it_accepted_for_seconds_only(postgres, kafka):
    """What it was to publish is lent to it by a lease, which has to end."""
    with servers_on(Distributed(postgres, kafka), 1) as (server,):
        alice = server.new_user("alice")
        server.new_user("bob")
        conversation = alice.conversation(["bob"])["conversation_id"]
        server.stop()
        server.start(env={"BARID_CRASH_AT": "accept.committed"})
        with pytest.raises(requests.ConnectionError):
            alice.send(conversation, "salam")
        server.wait_exit()
        server.start()
        assert server.parts.value("select count(*) from barid.outbox") == 1
        eventually(lambda: server.parts.value("select count(*) from barid.outbox") == 0, 8)


def test_a_server_that_stops_leaves_nothing_lent_to_it(postgres, kafka):
    with servers_on(Distributed(postgres, kafka), 1) as (server,):
        alice = server.new_user("alice")
        server.new_user("bob")
        there = [alice.conversation(["bob"], title=str(i))["conversation_id"] for i in range(16)]
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            sent = [pool.submit(alice.send, c, "salam") for c in there * 10]
            eventually(lambda: server.parts.value("select count(*) from barid.message") > 20)
            server.stop()
            accepted = sum(s.exception() is None for s in sent)
        assert server.parts.value("select count(*) from barid.message") >= accepted
        assert server.parts.value("select count(*) from barid.buckets where owner is not null") == 0
        assert server.parts.value("select count(*) from barid.members") == 0


def test_the_same_id_at_two_servers_is_one_message(two):
    alice, bob = two[0].new_user("alice"), two[1].new_user("bob")
    conversation = alice.conversation(["bob"])["conversation_id"]
    somewhere = at(Balancer(two), alice)
    first = alice.send(conversation, "once")
    again = [somewhere.send(conversation, "once", first["message_id"]) for _ in range(6)]
    assert {a["seq"] for a in again} == {first["seq"]} and all(a["duplicate"] for a in again)
    with pytest.raises(ApiError) as refused:
        somewhere.send(conversation, "otherwise", first["message_id"])
    assert refused.value.status == 409
    eventually(lambda: bob.mailbox()["entries"])
    assert len(bob.mailbox()["entries"]) == 1


def test_behind_a_pooler_devices_learn_of_new_entries_within_seconds(postgres, kafka, bouncer):
    """PgBouncer in transaction mode swallows notices: the servers look for themselves."""
    with servers_on(Distributed(postgres, kafka, url=bouncer.url), 2) as two:
        alice, bob = two[0].new_user("alice"), two[1].new_user("bob")
        conversation = alice.conversation(["bob"])["conversation_id"]
        with alice.connect() as for_alice, bob.connect() as for_bob:
            for_alice.expect("drained")
            for_bob.expect("drained")
            for i in range(3):
                sent = alice.send(conversation, str(i))["message_id"]
                assert for_bob.expect("message", timeout=10)["message_id"] == sent
                bob.received(sent)
                assert for_alice.expect("delivered", timeout=10)["message_id"] == sent
            there = at(two[1], alice)
            there.mailbox()
            alice.logout()
            eventually(lambda: there.call("GET", "/mailbox").status_code == 401, 5)


def test_postgresql_and_the_embedded_bus_are_one_server_with_its_broker(postgres, tmp_path):
    url = postgres.create_database()
    arguments = ["--database", url, "--data-store", "postgresql"]
    with Server(args=arguments, amqp=True) as server:
        alice, bob = server.new_user("alice"), server.new_user("bob")
        conversation = alice.conversation(["bob"])["conversation_id"]
        sent = alice.send(conversation, "salam")["message_id"]
        eventually(lambda: bob.mailbox()["entries"])
        server.restart()  # kill -9: its place is free for itself
        assert bob.get(sent)["message_text"] == "salam"
        second = subprocess.run([binary(), "serve", "--data", str(tmp_path / "other"), "--http", "127.0.0.1:0", "--amqp", "off",
                                 "--management", "off"] + arguments, capture_output=True, timeout=20, check=False)
        assert second.returncode == 1 and b"the database belongs to the server" in second.stderr
    postgres.drop_database(url)


def test_who_keeps_something_of_his_own_must_be_alone(two):
    parts = two[0].parts
    command = [binary(), "serve", "--data", two[0].data + ".other", "--http", "127.0.0.1:0", "--amqp", "off", "--management", "off",
               "--database", parts.url]
    refused = subprocess.run(command, capture_output=True, timeout=20, check=False)
    assert refused.returncode == 1 and b"must be the only one" in refused.stderr
    door = subprocess.run([binary(), "serve", "--amqp", "127.0.0.1:0"] + parts.arguments(), capture_output=True, timeout=20, check=False)
    assert door.returncode == 2 and b"--amqp" in door.stderr


def test_who_stops_under_load_leaves_no_key_waiting_for_its_lease(postgres, kafka):
    parts = Distributed(postgres, kafka)
    with servers_on(parts, 2) as (first, second):
        alice, _ = first.new_user("alice"), second.new_user("bob")
        conversation = alice.conversation(["bob"])["conversation_id"]
        ended = threading.Event()

        def send():
            try:
                while not ended.is_set():
                    alice.send(conversation, "salam")
            except Exception:  # it goes down
                pass

        senders = [threading.Thread(target=send) for _ in range(4)]
        for thread in senders:
            thread.start()
        eventually(lambda: parts.value("select count(*) from barid.message") > 100, 20, "some load")
        assert first.stop() == 0
        ended.set()
        for thread in senders:
            thread.join()
        orphans = "select count(*) from barid.buckets b where queue = 'outbox' and owner is not null " \
                  "and not exists (select from barid.members m where m.queue = b.queue and m.member = b.owner)"
        assert parts.value("select count(*) from barid.members where queue = 'outbox'") == 1
        assert parts.value(orphans) == 0


def test_a_server_where_nobody_waits_any_more_is_told_once(two):
    """The device has asked there, and goes on elsewhere, or nowhere: its home is forgotten with the first notice in vain."""
    alice, bob = two[0].new_user("alice"), two[0].new_user("bob")
    conversations = [alice.conversation(["bob"], title=str(i))["conversation_id"] for i in range(8)]
    parts, sent = two[0].parts, []

    def home():
        return parts.value("select poll_home from barid.device where device_id = decode(%s, 'hex')", bob.device_id.replace("-", ""))

    def send():
        """Through both servers."""
        sent.extend(alice.send(c, "salam")["message_id"] for c in conversations)
        eventually(lambda: parts.value("select last_cursor from barid.device where device_id = decode(%s, 'hex')",
                                       bob.device_id.replace("-", "")) == len(sent), 20, "all in the mailbox")

    def nobody_is_told():
        before = two[1].metrics()["barid_notices_total"]
        send()
        return two[1].metrics()["barid_notices_total"] == before

    send()
    for _ in range(3):
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(at(two[1], bob).mailbox(after=len(sent), wait=30)))
        waiting.start()
        eventually(home, 10, "the poll being known")
        send()
        waiting.join(10)
        assert answers[0]["entries"], "it was woken"
        eventually(lambda: home() is None or send(), 20, "its home being forgotten")
        eventually(nobody_is_told, 20, "messages of which it is not told")


def test_homes_at_servers_that_are_gone_are_forgotten(two):
    parts = two[0].parts
    stays, goes = two[0].new_user("stays"), two[1].new_user("goes")

    def home(api):
        return parts.value("select home from barid.device where device_id = decode(%s, 'hex')", api.device_id.replace("-", ""))

    with stays.connect() as one, goes.connect() as other:
        one.expect("drained")
        other.expect("drained")
        known = home(stays)
        assert known and home(goes) and home(goes) != known
        two[1].kill9()
        parts.execute("update barid.server set lease_until = lease_until - interval '2 days' where server_id <> %s", known)
        two[1].start(args=["--sweep-every-ms", "50"])
        eventually(lambda: home(goes) is None, 10, "its home being forgotten")
        assert home(stays) == known and one.quiet(0.1)
