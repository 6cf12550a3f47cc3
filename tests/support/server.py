"""Start, stop and kill a real `barid serve`, and talk to it: for the journey and fault tests.

    with Server() as server:
        alice = server.new_user("alice")          # Api with a session
        bob = server.new_user("bob")
        c = alice.conversation(["bob"])["conversation_id"]
        ws = bob.connect()                          # WebSocket, hello sent
        m = alice.send(c, "salam")
        entry = ws.expect("message")

    with Server(amqp=True) as server:
        pika.BlockingConnection(pika.ConnectionParameters(port=server.amqp_port))

The server listens on ports of its own choosing, keeps everything below a temporary directory, and keeps both
across stop, kill9 and start, so a restarted server is the same one to its clients.
"""
import json
import shutil
import tempfile
import time
import uuid

import requests

from support.process import ROOT, Process, binary, eventually  # noqa: F401 (others take them from here)
from support.websocket import WebSocket

PARTS = None  # what gives servers without parts of their own theirs (support/parts.py); None: their own directory


def new_id():
    """A message id as a client makes it: UUIDv7."""
    ms = time.time_ns() // 1_000_000
    value = (ms << 80) | (7 << 76) | (uuid.uuid4().int & ((1 << 76) - 1))
    value = (value & ~(3 << 62)) | (2 << 62)
    return str(uuid.UUID(int=value))


def where(listens, port):
    """An address to listen on: a port of its own choosing, which it then keeps, unless it was given one."""
    return f"127.0.0.1:{port or 0}" if listens is True else listens or "off"


class Server(Process):
    """One `barid serve` and its data directory."""

    def __init__(self, args=(), env=None, data=None, port=0, amqp=False, management=False, wrapper=(), parts=None):
        """`amqp`: True listens for AMQP too, or an ADDR:PORT; `management` likewise. `wrapper`: a command that runs
        the server's. `parts`: PostgreSQL and Kafka (support/parts.py), instead of what lies in its directory."""
        self.owns_data = data is None
        self.data = data or tempfile.mkdtemp(prefix="barid-test-")
        super().__init__("serve", env, self.data + ".log")  # beside it: it outlives the directory
        self.owns_log = self.owns_data
        self.owns_parts = parts is None and PARTS is not None
        self.parts = PARTS() if self.owns_parts else parts
        self.args = list(args)
        self.wrapper = list(wrapper)
        self.amqp = amqp
        self.amqp_port = None
        self.management = management
        self.management_port = None
        self.port = port  # 0 until the first start, then always the same

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def command_line(self):
        return [*self.wrapper, *super().command_line(), "--data", self.data, "--http", f"127.0.0.1:{self.port}",
                "--amqp", where(self.amqp, self.amqp_port), "--management", where(self.management, self.management_port),
                *(self.parts.arguments() if self.parts else []), *self.args]

    def on_line(self, line):
        if line.startswith("open"):
            self.port = int(line.split("http")[1].split("/")[2].rsplit(":", 1)[1])
        if line.startswith("manage "):
            self.management_port = int(line.rsplit(":", 1)[1])
        if line.startswith("amqp "):
            self.amqp_port = int(line.rsplit(":", 1)[1])

    def restart(self, env=None):
        """kill -9 and start again, on the same data and the same port."""
        if self.running():
            self.kill9()
        return self.start(env)

    def close(self):
        super().close()
        if self.owns_parts:
            self.parts.close()
        if self.owns_data:
            shutil.rmtree(self.data, ignore_errors=True)

    def rss_bytes(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as f:
            for line in f:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def api(self):
        return Api(self)

    def new_user(self, user_id, password="correct horse"):
        """Registers the user and logs in."""
        api = Api(self)
        api.add_user(user_id, password)
        api.login(user_id, password)
        return api

    def metrics(self):
        """{'barid_messages_total{point="accepted"}': 3.0, …}"""
        values = {}
        for line in requests.get(self.url + "/metrics", timeout=10).text.splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values

    def passed(self, point):
        """How many messages passed this safe point since the start."""
        return self.metrics().get(f'barid_messages_total{{point="{point}"}}', 0)


class ApiError(Exception):
    """An answer that was not 2xx, where the caller asked for one."""

    def __init__(self, response):
        super().__init__(f"{response.request.method} {response.url}: {response.status_code} {response.text[:500]}")
        self.status = response.status_code
        self.response = response


class Api:
    """A thin client: one device. Every call returns the decoded answer, or raises ApiError; `call` gives the
    bare response whatever it is."""

    def __init__(self, server, token=None):
        self.server = server
        self.http = requests.Session()
        self.http.trust_env = False
        self.token = token
        self.user_id = None
        self.device_id = None

    def call(self, method, path, body=None, timeout=20, headers=None, **more):
        headers = dict(headers or {})
        if self.token and "Authorization" not in headers:
            headers["Authorization"] = "Bearer " + self.token
        if body is not None:
            more["data"] = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        return self.http.request(method, self.server.url + path, timeout=timeout, headers=headers, **more)

    def ok(self, method, path, body=None, **more):
        response = self.call(method, path, body, **more)
        if response.status_code >= 300:
            raise ApiError(response)
        return response.json() if response.content else None

    def add_user(self, user_id, password="correct horse", display_name=None):
        body = {"user_id": user_id, "password": password}
        if display_name:
            body["display_name"] = display_name
        return self.ok("POST", "/users", body)

    def login(self, user_id, password="correct horse", device_name="test", device_id=None):
        body = {"user_id": user_id, "password": password, "device_name": device_name}
        if device_id:
            body["device_id"] = device_id
        session = self.ok("POST", "/sessions", body)
        self.token, self.user_id, self.device_id = session["token"], user_id, session["device_id"]
        return session

    def logout(self):
        return self.ok("DELETE", "/sessions/current")

    def another_device(self, password="correct horse"):
        api = Api(self.server)
        api.login(self.user_id, password)
        return api

    def user(self, user_id):
        return self.ok("GET", "/users/" + user_id)

    def conversation(self, members, conversation_id=None, title=None):
        body = {"members": list(members)}
        if conversation_id:
            body["conversation_id"] = conversation_id
        if title:
            body["title"] = title
        return self.ok("POST", "/conversation", body)

    def send(self, conversation_id, text=None, message_id=None, ticket=None):
        """202 (or 200 with duplicate) as the decoded body."""
        return self.ok("POST", "/conversation/" + conversation_id, self.message(text, message_id, ticket))

    def message(self, text=None, message_id=None, ticket=None):
        """The body of a send."""
        body = {"message_id": message_id or new_id(), "by_user_id": self.user_id}
        if ticket:
            body["media"] = ticket
        else:
            body["message_text"] = text
        return body

    def upload(self, data, media_type="application/octet-stream", filename=None):
        headers = {"Content-Type": media_type}
        if filename:
            headers["X-Filename"] = filename
        return self.ok("POST", "/media", headers=headers, data=data)

    def get(self, message_id):
        return self.ok("GET", "/message/" + message_id)

    def media(self, message_id, headers=None):
        return self.call("GET", f"/message/{message_id}/media", headers=headers)

    def received(self, message_id):
        return self.ok("POST", f"/message/{message_id}/received")

    def read(self, message_id):
        return self.ok("POST", f"/message/{message_id}/read")

    def journey(self, message_id):
        return self.ok("GET", f"/message/{message_id}/journey")

    def points(self, message_id):
        return [p["point"] for p in self.journey(message_id)["points"]]

    def mailbox(self, after=0, limit=100, wait=0):
        return self.ok("GET", f"/mailbox?after={after}&limit={limit}&wait={wait}", timeout=wait + 20)

    def mailbox_ack(self, cursor):
        return self.ok("POST", "/mailbox/ack", {"cursor": cursor})

    def connect(self, after=0, hello=True, **more):
        """A WebSocket to /events; says hello unless told not to."""
        socket = WebSocket("127.0.0.1", self.server.port, "/events", protocol="barid.v1", **more)
        if hello:
            socket.send({"type": "hello", "token": self.token, "after": after})
        return socket


def at(server, api):
    """The same device, at another server."""
    other = Api(server, api.token)
    other.user_id, other.device_id = api.user_id, api.device_id
    return other
