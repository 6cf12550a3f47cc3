"""The server accepts a message and its answer is lost on the way: the client cannot tell and sends again, under the
same id. There must be one message."""
import pytest
import requests

from support.proxy import Proxy
from support.server import Api, Server


class Through:
    """A server seen through a proxy."""

    def __init__(self, proxy):
        self.url = proxy.url


@pytest.mark.parametrize("times", [1, 5])
def test_answer_lost_after_acceptance(times):
    with Server() as server, Proxy(server.port) as proxy:
        alice, bob = server.new_user("alice"), server.new_user("bob")
        c = alice.conversation(["bob"])["conversation_id"]
        body = alice.message("once only")
        for _ in range(times):
            proxy.lose_answer_to(body["message_id"].encode())
            with pytest.raises(requests.RequestException):
                Api(Through(proxy), alice.token).call("POST", "/conversation/" + c, body)
            assert proxy.swallowed.wait(10), "the server had answered"
        again = Api(Through(proxy), alice.token).call("POST", "/conversation/" + c, body)
        assert again.status_code == 200
        assert again.json()["duplicate"] is True and again.json()["seq"] == 1

        socket = bob.connect()
        assert socket.expect("message")["message_id"] == body["message_id"]
        socket.expect("drained")
        alice.send(c, "the next")
        assert socket.expect("message")["seq"] == 2


def test_answer_to_an_upload_and_its_message_lost():
    with Server() as server, Proxy(server.port) as proxy:
        alice, bob = server.new_user("alice"), server.new_user("bob")
        c = alice.conversation(["bob"])["conversation_id"]
        through = Api(Through(proxy), alice.token)
        through.user_id = "alice"
        proxy.lose_answer_to(b"POST /media")
        with pytest.raises(requests.RequestException):
            through.upload(b"the same bytes", "text/plain", "a.txt")
        proxy.swallow = None
        body = alice.message(ticket=through.upload(b"the same bytes", "text/plain", "a.txt")["ticket"])
        proxy.lose_answer_to(body["message_id"].encode())
        with pytest.raises(requests.RequestException):
            through.call("POST", "/conversation/" + c, body)
        again = through.call("POST", "/conversation/" + c, body)
        assert again.status_code == 200 and again.json()["duplicate"] is True
        entries = bob.mailbox(wait=5)["entries"]
        assert [e["message_id"] for e in entries] == [body["message_id"]]
        assert bob.media(body["message_id"]).content == b"the same bytes"


def test_answers_to_received_and_read_lost():
    with Server() as server, Proxy(server.port) as proxy:
        alice, bob = server.new_user("alice"), server.new_user("bob")
        c = alice.conversation(["bob"])["conversation_id"]
        m = alice.send(c, "tick me")["message_id"]
        bob.mailbox(wait=5)
        bob.get(m)
        through = Api(Through(proxy), bob.token)
        for what in ("received", "read"):
            proxy.lose_answer_to(f"POST /message/{m}/{what}".encode())
            with pytest.raises(requests.RequestException):
                through.ok("POST", f"/message/{m}/{what}")
            through.ok("POST", f"/message/{m}/{what}")
        entries = alice.mailbox(wait=5)["entries"]
        assert [(e["type"], e["message_id"]) for e in entries] == [("delivered", m), ("read", m)]
