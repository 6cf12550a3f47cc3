"""A small blocking WebSocket client (RFC 6455) for tests: it can do what a well-behaved library will not, such
as stop reading, send half a frame, or vanish without a word.

Frames are JSON objects. Whatever arrives while a test waits for something else is kept in order.
"""
import base64
import json
import os
import socket
import struct
import time

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Closed(Exception):
    """The server closed the socket; `code` as it said, None when it said nothing."""

    def __init__(self, code, reason=""):
        super().__init__(f"closed with {code} {reason}")
        self.code = code
        self.reason = reason


class Refused(Exception):
    """The upgrade was answered with something else than 101."""

    def __init__(self, status, head):
        super().__init__(f"upgrade refused with {status}")
        self.status = status
        self.head = head


class WebSocket:
    def __init__(self, host, port, path="/events", protocol="barid.v1", origin=None, timeout=10,
                 answer_pings=True, receive_buffer=None):
        self.timeout = timeout
        self.answer_pings = answer_pings
        self.kept = []  # frames read while waiting for others
        self.pings = 0
        self.buffer = b""
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(timeout)
        self.socket.connect((host, port))
        self._upgrade(host, port, path, protocol, origin)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def _upgrade(self, host, port, path, protocol, origin):
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", "Upgrade: websocket", "Connection: Upgrade",
                 "Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)).decode(), "Sec-WebSocket-Version: 13"]
        if protocol:
            lines.append("Sec-WebSocket-Protocol: " + protocol)
        if origin:
            lines.append("Origin: " + origin)
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        status = int(head.split()[1])
        if status != 101:
            raise Refused(status, head.decode())

    def _more(self):
        data = self.socket.recv(65536)
        if not data:
            raise Closed(None, "end of stream")
        self.buffer += data

    # ---- out ----

    def send_raw(self, data):
        """Bytes as they are, to break the rules with."""
        self.socket.sendall(data)

    @staticmethod
    def frame(opcode, payload, fin=True):
        mask = os.urandom(4)
        first = (0x80 if fin else 0) | opcode
        n = len(payload)
        if n < 126:
            head = struct.pack("!BB", first, 0x80 | n)
        elif n < 65536:
            head = struct.pack("!BBH", first, 0x80 | 126, n)
        else:
            head = struct.pack("!BBQ", first, 0x80 | 127, n)
        key = int.from_bytes(mask * (n // 4 + 1), "big") >> (8 * (4 - n % 4))
        masked = (int.from_bytes(payload, "big") ^ key).to_bytes(n, "big") if n else b""
        return head + mask + masked

    def send_text(self, text):
        self.send_raw(self.frame(TEXT, text.encode()))

    def send(self, frame):
        self.send_text(json.dumps(frame))

    def ack(self, cursor):
        self.send({"type": "ack", "cursor": cursor})

    def say(self, kind, **fields):
        """Sends a request frame with a fresh ref and returns its answer."""
        ref = base64.b16encode(os.urandom(6)).decode()
        self.send({"type": kind, "ref": ref, **fields})
        return self.expect("answer", where=lambda f: f.get("ref") == ref)

    # ---- in ----

    def _read_frame(self):
        while True:
            parsed = self._parse()
            if parsed:
                return parsed
            self._more()

    def _parse(self):
        b = self.buffer
        if len(b) < 2:
            return None
        assert b[1] & 0x80 == 0, "a server's frame must not be masked"
        n, at = b[1] & 0x7F, 2
        if n == 126:
            if len(b) < 4:
                return None
            n, at = struct.unpack("!H", b[2:4])[0], 4
        elif n == 127:
            if len(b) < 10:
                return None
            n, at = struct.unpack("!Q", b[2:10])[0], 10
        if len(b) < at + n:
            return None
        self.buffer = b[at + n:]
        return b[0] & 0x0F, b[at:at + n]

    def _next(self):
        """The next JSON frame off the wire; pings are answered on the way."""
        while True:
            opcode, payload = self._read_frame()
            if opcode == PING:
                self.pings += 1
                if self.answer_pings:
                    self.send_raw(self.frame(PONG, payload))
            elif opcode == CLOSE:
                code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else None
                raise Closed(code, payload[2:].decode())
            elif opcode == TEXT:
                return json.loads(payload)

    def receive(self, timeout=None):
        """The next frame, kept ones first."""
        if self.kept:
            return self.kept.pop(0)
        self.socket.settimeout(self.timeout if timeout is None else timeout)
        return self._next()

    def expect(self, kind, where=lambda frame: True, timeout=None):
        """The first frame of this type for which where(frame) holds; others are kept for later."""
        for i, frame in enumerate(self.kept):
            if frame.get("type") == kind and where(frame):
                return self.kept.pop(i)
        end = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(f"no {kind} within the time; kept: {self.kept[:10]}")
            self.socket.settimeout(left)
            try:
                frame = self._next()
            except socket.timeout:
                continue
            if frame.get("type") == kind and where(frame):
                return frame
            self.kept.append(frame)

    def quiet(self, seconds):
        """True when no frame comes for that long."""
        if self.kept:
            return False
        try:
            self.kept.append(self.receive(seconds))
            return False
        except socket.timeout:
            return True

    def expect_close(self, timeout=None):
        """Reads to the end and returns the close code (None: closed without one)."""
        end = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                self.kept.append(self._next())
            except Closed as closed:
                return closed.code
            except (ConnectionResetError, BrokenPipeError):
                return None

    def close(self):
        """A clean close, not waiting for the answer."""
        try:
            self.send_raw(self.frame(CLOSE, struct.pack("!H", 1000)))
        except OSError:
            pass
        self.socket.close()

    def vanish(self):
        """Gone without a close frame."""
        self.socket.close()
