"""Presence: which device is connected from which address, as the server's log tells whoever runs it."""
from support.server import Server, eventually
from support.websocket import WebSocket


def test_connections_of_devices_are_logged_with_their_address():
    with Server() as server:
        alice = server.new_user("alice")
        who = f"user_id=alice device_id={alice.device_id} address=127.0.0.1"
        with WebSocket("127.0.0.1", server.port) as socket:
            socket.send({"type": "hello", "token": alice.token, "after": 0})
            socket.expect("drained")
            assert f"event=connected {who}" in server.log()
            assert "event=disconnected" not in server.log()
        eventually(lambda: f"event=disconnected {who}" in server.log(), what="the end of the connection in the log")
