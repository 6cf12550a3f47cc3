"""AMQP 0-9-1 frame by frame: for what no client would do."""
import socket
import struct

HEADER = b"AMQP\0\0\x09\x01"
TUNE, OPEN_OK, CLOSE, CLOSE_OK, SECRET_OK = (10, 30), (10, 41), (10, 50), (10, 51), (10, 71)


def frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def method(channel, class_id, method_id, arguments=b""):
    return frame(1, channel, struct.pack(">HH", class_id, method_id) + arguments)


def short(text):
    return bytes([len(text)]) + text


def long(text):
    return struct.pack(">I", len(text)) + text


class Raw:
    """A client that says exactly what it is told to, and hears frames."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.unread = b""

    def send(self, data):
        self.socket.sendall(data)

    def frame(self):
        """The next (kind, channel, payload); None at the end of the stream."""
        while True:
            if len(self.unread) >= 7:
                kind, channel, size = struct.unpack(">BHI", self.unread[:7])
                if len(self.unread) >= size + 8:
                    payload, self.unread = self.unread[7:7 + size], self.unread[8 + size:]
                    return kind, channel, payload
            data = self.socket.recv(1 << 20)
            if not data:
                return None
            self.unread += data

    def expect(self, wanted):
        """Reads up to this method, and returns its arguments."""
        while True:
            heard = self.frame()
            assert heard is not None, "the stream ended"
            if heard[0] == 1 and struct.unpack(">HH", heard[2][:4]) == wanted:
                return heard[2][4:]

    def open(self, mechanism=b"PLAIN", response=b"\0guest\0guest", heartbeat=0):
        self.send(HEADER + method(0, 10, 11, long(b"") + short(mechanism) + long(response) + short(b"en_US")))
        self.expect(TUNE)
        self.send(method(0, 10, 31, struct.pack(">HIH", 0, 0, heartbeat)) +
                  method(0, 10, 40, short(b"/") + short(b"") + b"\0"))
        self.expect(OPEN_OK)
        return self

    def ended(self):
        """Waits for the end of the stream."""
        while self.frame() is not None:
            pass

    def close(self):
        self.socket.close()
