"""AMQP 0-9-1 by hand: bytes of methods, frames, tables and contents, and a client that says exactly what it is told to.

    with Raw(server.amqp_port).open() as raw:
        raw.channel(1)
        raw.send(declare(1, "orders", durable=True))
        raw.expect(QUEUE_DECLARE_OK)
        raw.send(publish(1, "", "orders", b"salam"))

Names of methods stand for (class, method). Tables are dicts whose values say their type: {"x-max-priority": ("B", 9)};
plain values of Python are S, l, t, F and A.
"""
import socket
import struct

HEADER = b"AMQP\0\0\x09\x01"
METHOD, CONTENT_HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END = b"\xce"

START, START_OK, SECURE_OK, TUNE, TUNE_OK = (10, 10), (10, 11), (10, 21), (10, 30), (10, 31)
OPEN, OPEN_OK, CLOSE, CLOSE_OK = (10, 40), (10, 41), (10, 50), (10, 51)
BLOCKED, UNBLOCKED, UPDATE_SECRET, UPDATE_SECRET_OK = (10, 60), (10, 61), (10, 70), (10, 71)
CHANNEL_OPEN, CHANNEL_OPEN_OK, CHANNEL_FLOW, CHANNEL_FLOW_OK = (20, 10), (20, 11), (20, 20), (20, 21)
CHANNEL_CLOSE, CHANNEL_CLOSE_OK = (20, 40), (20, 41)
ACCESS_REQUEST, ACCESS_REQUEST_OK = (30, 10), (30, 11)
EXCHANGE_DECLARE, EXCHANGE_DECLARE_OK, EXCHANGE_DELETE, EXCHANGE_DELETE_OK = (40, 10), (40, 11), (40, 20), (40, 21)
EXCHANGE_BIND, EXCHANGE_BIND_OK, EXCHANGE_UNBIND, EXCHANGE_UNBIND_OK = (40, 30), (40, 31), (40, 40), (40, 51)
QUEUE_DECLARE, QUEUE_DECLARE_OK, QUEUE_BIND, QUEUE_BIND_OK = (50, 10), (50, 11), (50, 20), (50, 21)
QUEUE_PURGE, QUEUE_PURGE_OK, QUEUE_DELETE, QUEUE_DELETE_OK = (50, 30), (50, 31), (50, 40), (50, 41)
QUEUE_UNBIND, QUEUE_UNBIND_OK = (50, 50), (50, 51)
QOS, QOS_OK, CONSUME, CONSUME_OK, CANCEL, CANCEL_OK = (60, 10), (60, 11), (60, 20), (60, 21), (60, 30), (60, 31)
PUBLISH, RETURN, DELIVER, GET, GET_OK, GET_EMPTY = (60, 40), (60, 50), (60, 60), (60, 70), (60, 71), (60, 72)
ACK, REJECT, RECOVER_ASYNC, RECOVER, RECOVER_OK, NACK = (60, 80), (60, 90), (60, 100), (60, 110), (60, 111), (60, 120)
CONFIRM_SELECT, CONFIRM_SELECT_OK = (85, 10), (85, 11)
TX_SELECT, TX_SELECT_OK, TX_COMMIT, TX_COMMIT_OK, TX_ROLLBACK, TX_ROLLBACK_OK = ((90, n) for n in (10, 11, 20, 21, 30, 31))


# ---- bytes

def octets(text):
    return text.encode() if isinstance(text, str) else text


def short(text):
    text = octets(text)
    return bytes([len(text)]) + text


def long(text):
    text = octets(text)
    return struct.pack(">I", len(text)) + text


FIXED = {"t": ">?", "b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q", "f": ">f", "d": ">d",
         "T": ">Q"}


def field(value):
    """A value with its type in front: (type, value), or a plain one."""
    if not isinstance(value, tuple):
        kind = {bool: "t", int: "l", str: "S", bytes: "S", dict: "F", list: "A", type(None): "V", float: "d"}[type(value)]
        value = (kind, value)
    kind, v = value
    if kind in FIXED:
        inside = struct.pack(FIXED[kind], v)
    elif kind in "Sx":
        inside = long(v)
    elif kind == "D":
        inside = struct.pack(">Bi", *v)
    elif kind == "F":
        inside = table(v)
    elif kind == "A":
        inside = long(b"".join(field(x) for x in v))
    else:
        inside = b""
    return kind.encode() + inside


def table(entries):
    return long(b"".join(short(name) + field(value) for name, value in (entries or {}).items()))


def bits(*values):
    return bytes([sum(1 << i for i, v in enumerate(values) if v)])


def frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + END


def method(channel, name, arguments=b""):
    return frame(METHOD, channel, struct.pack(">HH", *name) + arguments)


# Properties in the order of their flags, from the highest bit down, and how each is written.
PROPERTIES = (("content_type", short), ("content_encoding", short), ("headers", table), ("delivery_mode", lambda v: bytes([v])),
              ("priority", lambda v: bytes([v])), ("correlation_id", short), ("reply_to", short), ("expiration", short),
              ("message_id", short), ("timestamp", lambda v: struct.pack(">Q", v)), ("type", short), ("user_id", short),
              ("app_id", short), ("cluster_id", short))


def properties(**given):
    flags, inside = 0, b""
    for i, (name, write) in enumerate(PROPERTIES):
        if given.get(name) is not None:
            flags |= 0x8000 >> i
            inside += write(given[name])
    return struct.pack(">H", flags) + inside


PERSISTENT = properties(delivery_mode=2)
NO_PROPERTIES = properties()


def content(channel, body, props=PERSISTENT, frame_size=131072 - 8):
    """The header frame and the body in frames of so many bytes."""
    return frame(CONTENT_HEADER, channel, struct.pack(">HHQ", 60, 0, len(body)) + props) + \
        b"".join(frame(BODY, channel, body[i:i + frame_size]) for i in range(0, len(body), frame_size))


# ---- methods that are said often

def declare(channel, queue, arguments=None, passive=False, durable=False, exclusive=False, auto_delete=False, no_wait=False):
    return method(channel, QUEUE_DECLARE, b"\0\0" + short(queue) + bits(passive, durable, exclusive, auto_delete, no_wait) +
                  table(arguments))


def declare_exchange(channel, exchange, kind, arguments=None, passive=False, durable=False, auto_delete=False, internal=False,
                     no_wait=False):
    return method(channel, EXCHANGE_DECLARE, b"\0\0" + short(exchange) + short(kind) +
                  bits(passive, durable, auto_delete, internal, no_wait) + table(arguments))


def bind(channel, queue, exchange, key="", arguments=None, no_wait=False):
    return method(channel, QUEUE_BIND, b"\0\0" + short(queue) + short(exchange) + short(key) + bits(no_wait) + table(arguments))


def bind_exchange(channel, destination, source, key="", arguments=None, no_wait=False):
    return method(channel, EXCHANGE_BIND, b"\0\0" + short(destination) + short(source) + short(key) + bits(no_wait) +
                  table(arguments))


def purge(channel, queue, no_wait=False):
    return method(channel, QUEUE_PURGE, b"\0\0" + short(queue) + bits(no_wait))


def delete(channel, queue, if_unused=False, if_empty=False, no_wait=False):
    return method(channel, QUEUE_DELETE, b"\0\0" + short(queue) + bits(if_unused, if_empty, no_wait))


def publish(channel, exchange, key, body=b"", props=PERSISTENT, mandatory=False, frame_size=131072 - 8):
    return method(channel, PUBLISH, b"\0\0" + short(exchange) + short(key) + bits(mandatory, False)) + \
        content(channel, body, props, frame_size)


def consume(channel, queue, tag="", no_ack=False, exclusive=False, no_wait=False, arguments=None):
    return method(channel, CONSUME, b"\0\0" + short(queue) + short(tag) + bits(False, no_ack, exclusive, no_wait) +
                  table(arguments))


def qos(channel, prefetch, everywhere=False):
    return method(channel, QOS, struct.pack(">IH", 0, prefetch) + bits(everywhere))


def get(channel, queue, no_ack=False):
    return method(channel, GET, b"\0\0" + short(queue) + bits(no_ack))


def ack(channel, tag, multiple=False):
    return method(channel, ACK, struct.pack(">Q", tag) + bits(multiple))


def nack(channel, tag, multiple=False, requeue=True):
    return method(channel, NACK, struct.pack(">Q", tag) + bits(multiple, requeue))


def reject(channel, tag, requeue=False):
    return method(channel, REJECT, struct.pack(">Q", tag) + bits(requeue))


def close(channel=0, code=200, text=""):
    return method(channel, CHANNEL_CLOSE if channel else CLOSE, struct.pack(">H", code) + short(text) + b"\0\0\0\0")


CAPABILITIES = {"capabilities": {"connection.blocked": True, "consumer_cancel_notify": True, "basic.nack": True,
                                 "publisher_confirms": True, "authentication_failure_close": True}}


def start_ok(mechanism="PLAIN", response=b"\0guest\0guest", client=None):
    return method(0, START_OK, table(CAPABILITIES if client is None else client) + short(mechanism) + long(response) +
                  short("en_US"))


def tune_ok(channels=0, frame_max=0, heartbeat=0):
    return method(0, TUNE_OK, struct.pack(">HIH", channels, frame_max, heartbeat))


def open_vhost(vhost="/"):
    return method(0, OPEN, short(vhost) + short("") + b"\0")


# ---- what is heard

def read_short(data, at=0):
    """The text of a short string, and where it ends."""
    end = at + 1 + data[at]
    return data[at + 1:end].decode(), end


def read_close(arguments):
    """(code, text, (class, method)) of connection.close and channel.close."""
    text, at = read_short(arguments, 2)
    return struct.unpack(">H", arguments[:2])[0], text, struct.unpack(">HH", arguments[at:at + 4])


class Delivered:
    """basic.deliver, get-ok or return, with its content."""

    def __init__(self, arguments, name):
        self.tag = self.redelivered = self.consumer = None
        at = 0
        if name == DELIVER:
            self.consumer, at = read_short(arguments)
        if name == RETURN:
            self.code = struct.unpack_from(">H", arguments)[0]
            self.text, at = read_short(arguments, 2)
        else:
            self.tag, self.redelivered = struct.unpack_from(">Q?", arguments, at)
            at += 9
        self.exchange, at = read_short(arguments, at)
        self.key, at = read_short(arguments, at)
        self.properties = self.body = None


class Ended(AssertionError):
    """The server ended the stream where something was expected."""


class Raw:
    """A client that says exactly what it is told to, and hears frames."""

    def __init__(self, port, timeout=20, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.unread = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def reset(self):
        """Closes without goodbye."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, *data):
        self.socket.sendall(b"".join(data))

    def _more(self):
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        self.unread += data
        return bool(data)

    def frame(self):
        """The next (kind, channel, payload); None at the end of the stream."""
        while True:
            if len(self.unread) >= 7:
                kind, channel, size = struct.unpack(">BHI", self.unread[:7])
                if len(self.unread) >= size + 8:
                    payload, end = self.unread[7:7 + size], self.unread[7 + size:8 + size]
                    assert end == END
                    self.unread = self.unread[8 + size:]
                    return kind, channel, payload
            if not self._more():
                assert not self.unread, f"the stream ended inside a frame: {self.unread[:50]}"
                return None

    def method(self):
        """The next (channel, name, arguments), over heartbeats; a content that is in front fails."""
        while True:
            heard = self.frame()
            if heard is None:
                raise Ended("the stream ended")
            kind, channel, payload = heard
            if kind == HEARTBEAT:
                continue
            assert kind == METHOD, heard
            return channel, struct.unpack(">HH", payload[:4]), payload[4:]

    def expect(self, name, channel=None):
        """The next method is this one; gives its arguments."""
        on, heard, arguments = self.method()
        assert heard == name, f"{name} was expected, heard {heard} {arguments[:200]}"
        assert channel is None or channel == on
        return arguments

    def expect_exactly(self, *frames):
        """The next bytes are these."""
        wanted = b"".join(frames)
        while len(self.unread) < len(wanted) and self._more():
            pass
        heard, self.unread = self.unread[:len(wanted)], self.unread[len(wanted):]
        assert heard == wanted

    def _content(self, delivered):
        kind, channel, payload = self.frame()
        assert kind == CONTENT_HEADER and payload[:4] == b"\0\x3c\0\0"
        size = struct.unpack(">Q", payload[4:12])[0]
        delivered.channel, delivered.properties, delivered.body = channel, payload[12:], b""
        body = []
        while size > 0:
            kind, on, payload = self.frame()
            assert (kind, on) == (BODY, channel) and 0 < len(payload) <= size
            body.append(payload)
            size -= len(payload)
        delivered.body = b"".join(body)
        return delivered

    def delivered(self, name=DELIVER):
        """The next method is this one, with its content."""
        return self._content(Delivered(self.expect(name), name))

    def get(self, queue, channel=1, no_ack=True):
        """A message of the queue, or None."""
        self.send(get(channel, queue, no_ack))
        _, heard, arguments = self.method()
        if heard == GET_EMPTY:
            return None
        assert heard == GET_OK, (heard, arguments)
        return self._content(Delivered(arguments, GET_OK))

    def call(self, data, answer):
        self.send(data)
        return self.expect(answer)

    def count(self, queue, channel=1):
        """How many messages are ready."""
        arguments = self.call(declare(channel, queue, passive=True), QUEUE_DECLARE_OK)
        return struct.unpack_from(">I", arguments, read_short(arguments)[1])[0]

    def open(self, mechanism="PLAIN", response=b"\0guest\0guest", vhost="/", channels=0, frame_max=0, heartbeat=0, client=None):
        self.send(HEADER)
        self.expect(START)
        self.send(start_ok(mechanism, response, client))
        self.tune = struct.unpack(">HIH", self.expect(TUNE))
        self.send(tune_ok(channels, frame_max, heartbeat), open_vhost(vhost))
        self.expect(OPEN_OK)
        return self

    def channel(self, number=1, confirms=False):
        self.call(method(number, CHANNEL_OPEN, b"\0"), CHANNEL_OPEN_OK)
        if confirms:
            self.call(method(number, CONFIRM_SELECT, b"\0"), CONFIRM_SELECT_OK)
        return self

    def confirmed(self, last):
        """Hears confirms up to that number; gives how many of them said no."""
        done = refused = 0
        while done < last:
            _, heard, arguments = self.method()
            assert heard in (ACK, NACK), heard
            tag = struct.unpack_from(">Q", arguments)[0]
            refused += tag - done if heard == NACK else 0
            done = tag
        return refused

    def refused(self, code, text=None, method_name=None):
        """The server closes the connection, with this code; answered as it should be. Gives the text."""
        heard = read_close(self.expect(CLOSE, 0))
        self._check(heard, code, text, method_name)
        self.send(method(0, CLOSE_OK))
        self.ended()
        return heard[1]

    def channel_refused(self, code, text=None, method_name=None, channel=1):
        heard = read_close(self.expect(CHANNEL_CLOSE, channel))
        self._check(heard, code, text, method_name)
        self.send(method(channel, CHANNEL_CLOSE_OK))
        return heard[1]

    @staticmethod
    def _check(heard, code, text, method_name):
        assert heard[0] == code, heard
        assert text is None or text in heard[1], heard
        assert method_name is None or heard[2] == method_name, heard

    def ended(self):
        """Waits for the end of the stream, and gives what came before it."""
        frames = []
        while (heard := self.frame()) is not None:
            frames.append(heard)
        return frames
