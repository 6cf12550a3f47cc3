"""One id is one message, whoever repeats it, however often and however late; and content does not outlive its
delivery."""
import threading

import pytest

from support.server import Api, Server, eventually, new_id
from support.world import PIXEL, files_holding


def test_the_same_message_id_a_hundred_times_at_once():
    with Server() as server:
        alice, bob = server.new_user("alice"), server.new_user("bob")
        bob2 = bob.another_device()
        c = alice.conversation(["bob"])["conversation_id"]
        body = alice.message("a hundred times")
        start = threading.Barrier(100)
        answers = []

        def post():
            api = Api(server, alice.token)
            start.wait(30)
            answers.append(api.call("POST", "/conversation/" + c, body, timeout=60))

        threads = [threading.Thread(target=post) for _ in range(100)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(90)
        answered = [a for a in answers if a.status_code in (200, 202)]
        assert len(answers) == 100 and len(answered) + sum(a.status_code in (429, 503) for a in answers) == 100
        assert sum(a.status_code == 202 for a in answered) == 1
        assert all(a.json().get("duplicate") for a in answered if a.status_code == 200)
        assert {(a.json()["seq"], a.json()["accepted_at"]) for a in answered} == {(1, answered[0].json()["accepted_at"])}

        assert alice.send(c, "after them")["seq"] == 2
        for device in (bob, bob2):
            entries = eventually(lambda d=device: len(d.mailbox(wait=5)["entries"]) >= 2 and d.mailbox()["entries"])
            assert [(e["message_id"], e["seq"]) for e in entries if e["message_id"] == body["message_id"]] == [(body["message_id"], 1)]
            assert len(entries) == 2


def test_another_content_or_sender_under_the_same_id_is_a_conflict():
    with Server() as server:
        alice, bob = server.new_user("alice"), server.new_user("bob")
        c = alice.conversation(["bob"])["conversation_id"]
        body = alice.message("the first")
        assert alice.call("POST", "/conversation/" + c, body).status_code == 202
        assert alice.call("POST", "/conversation/" + c, {**body, "message_text": "another"}).status_code == 409
        assert bob.call("POST", "/conversation/" + c, {**body, "by_user_id": "bob"}).status_code == 409
        assert alice.call("POST", "/conversation/" + c, body).status_code == 200


@pytest.mark.embedded
def test_after_delivery_the_content_is_gone_and_a_late_retry_is_a_duplicate():
    text = "the camel " + new_id() + " knows the way"
    picture = PIXEL + new_id().encode()
    with Server() as server:
        alice, bob = server.new_user("alice"), server.new_user("bob")
        bob2 = bob.another_device()
        c = alice.conversation(["bob"])["conversation_id"]
        bodies = [alice.message(text), alice.message(ticket=alice.upload(picture, "image/png", "p.png")["ticket"])]
        for body in bodies:
            assert alice.call("POST", "/conversation/" + c, body).status_code == 202
        assert files_holding(server.data, text.encode()) and files_holding(server.data, picture)

        for device in (bob, bob2):
            eventually(lambda d=device: len(d.mailbox(wait=5)["entries"]) == 2)
            for body in bodies:
                assert device.get(body["message_id"])
                device.received(body["message_id"])
        for body in bodies:
            eventually(lambda b=body: alice.call("GET", "/message/" + b["message_id"]).status_code == 410, what="410")
            assert bob.call("GET", f"/message/{body['message_id']}").status_code == 410
            assert bob.call("GET", f"/message/{body['message_id']}/media").status_code == 410
            eventually(lambda b=body: "deleted" in alice.points(b["message_id"]), what="the point `deleted`")
        eventually(lambda: not files_holding(server.data, picture), what="the picture's deletion")

        def late(when):
            for body in bodies:
                answer = alice.call("POST", "/conversation/" + c, body)
                assert (answer.status_code, answer.json()["duplicate"]) == (200, True), when
            assert len(bob.mailbox()["entries"]) == 2, when
            assert alice.call("GET", "/message/" + bodies[0]["message_id"]).status_code == 410

        late("at once")
        assert server.stop() == 0
        assert files_holding(server.data, text.encode()) == [], "the text is in no file"
        assert files_holding(server.data, picture) == []
        server.start()
        late("after a restart")
