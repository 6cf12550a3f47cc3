"""Callers that must not get their way: web pages of others in a local browser, floods, users that are gone."""
import socket
import urllib.parse

import pika
import pytest


# --- a browser on this machine that shows somebody else's page ---

@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://evil.example:15672"])
def test_a_page_from_elsewhere_changes_nothing(api, name, origin):
    """A form of any page can be sent here with the log-in that the browser has remembered."""
    answer = api.call("POST", "definitions", headers={"Origin": origin, "Content-Type": "text/plain"},
                      queues=[{"name": name, "vhost": "/"}])
    assert answer.status_code == 403, answer.text
    api.get("queues", "/", name, status=404)


def test_a_page_from_here_may(api, server, name):
    answer = api.call("PUT", "queues", "/", name, headers={"Origin": f"http://127.0.0.1:{server.management_port}"},
                      durable=True)
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("host, status", [("evil.example:15672", 401), ("127.0.0.1.evil.example", 401),
                                          ("localhost:15672", 200), ("[::1]:15672", 200), ("broker", 200)])
def test_guest_does_not_come_under_a_name_from_elsewhere(api, host, status):
    """Whoever owns a name in DNS can let it be 127.0.0.1: to a browser its pages and this server are then the same."""
    answer = api.call("GET", "whoami", headers={"Host": host})
    assert answer.status_code == status, answer.text


# --- floods ---

def test_metrics_take_no_body_from_strangers(server):
    """Nobody logs in for them, so nobody may fill the memory with what comes with the question."""
    def resident():
        with open(f"/proc/{server.process.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
    before = resident()
    with socket.create_connection(("127.0.0.1", server.management_port), timeout=20) as stranger:
        stranger.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 19000000\r\n\r\n")
        stranger.sendall(b"x" * 18_999_999)
        assert resident() - before < 6_000  # KiB
        stranger.sendall(b"x")
        assert stranger.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("pattern, status", [(r"(a*)*(a*)*(a*)*(a*)*\1\2\3b", 200), ("(a|aa)+[xy]", 400),
                                             ("((a{1,200}){1,200}){1,200}", 400)])
def test_an_expression_that_takes_forever_is_given_up(api, pattern, status):
    """All the broker waits while a list is made."""
    api.call("PUT", "queues", "/", "a" * 200, durable=True)
    api.get("queues", query="?page=1&use_regex=true&name=" + urllib.parse.quote(pattern, safe=""), status=status)
    assert api.get("queues", query="?page=1&use_regex=true&name=%5EA%7B200%7D%24")["filtered_count"] == 1


# --- what was not told is not taken ---

def test_messages_that_the_answer_has_no_room_for_stay(api, amqp, name):
    """Every byte of these bodies takes six in JSON, so that what was got is past what an answer may be."""
    channel = amqp().channel()
    channel.queue_declare(name, durable=True)
    for _ in range(250):
        channel.basic_publish("", name, b"\x01" * 60_000)
    channel.queue_declare(name, durable=True, passive=True)  # answered after what was published before
    answer = api.call("POST", "queues", "/", name, "get", count=250, ackmode="ack_requeue_false", encoding="auto")
    assert answer.status_code == 400, answer.status_code
    assert api.get("queues", "/", name)["messages_ready"] == 250


# --- users that are gone ---

def test_users_deleted_together_lose_their_connections(api, amqp):
    for user in ("one", "two"):
        api.put("users", user, password="secret", tags="")
        api.put("permissions", "/", user, configure=".*", write=".*", read=".*")
    gone = [amqp(credentials=pika.PlainCredentials(user, "secret")) for user in ("one", "two")]
    stays = amqp()
    api.post("users", "bulk-delete", users=["one", "two"], status=204)
    for connection in gone:
        with pytest.raises(pika.exceptions.AMQPConnectionError):
            connection.process_data_events(time_limit=5)
            connection.channel()
    assert stays.channel().is_open
