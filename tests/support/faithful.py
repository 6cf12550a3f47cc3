"""A messaging client that keeps the rules of the journey, with a durable store of its own.

It writes a message down before sending it, stores an entry before acknowledging it and its content before
saying `received`, and repeats whatever got no answer, under the same id. With servers dying around it, what its
store holds at the end is the evidence: `check_ledger` compares the stores of all clients with each other.

    alice = Faithful(api, directory).run()
    alice.write(conversation_id, "salam")
    settle([alice, bob])
    check_ledger([alice, bob])

`over` says how it listens: "socket" (WebSocket, also for get, received and read) or "http" (long poll and
HTTP twins). Sending is HTTP, one message of a conversation at a time, conversations in parallel.
"""
import json
import os
import random
import socket
import sqlite3
import threading
import time

import requests

from support.server import Api, ApiError, eventually, new_id
from support.websocket import Closed, Refused

SCHEMA = """
CREATE TABLE outbox (n INTEGER PRIMARY KEY, message_id TEXT UNIQUE, conversation_id TEXT, created_at TEXT,
    text TEXT, media BLOB, seq INTEGER, duplicate INTEGER, status INTEGER);
CREATE TABLE inbox (message_id TEXT PRIMARY KEY, cursor INTEGER, conversation_id TEXT, seq INTEGER, by_user_id TEXT,
    kind TEXT, content BLOB, owes TEXT);
CREATE TABLE receipts (cursor INTEGER PRIMARY KEY, type TEXT, message_id TEXT, by_user_id TEXT, at TEXT);
CREATE INDEX receipts_message ON receipts (message_id);
CREATE INDEX outbox_conversation ON outbox (conversation_id);
CREATE TABLE meta (cursor INTEGER);
INSERT INTO meta VALUES (0);
"""
RETRIED = {408, 425, 429, 500, 502, 503, 504}
TROUBLE = (requests.RequestException, OSError, Closed, Refused, AssertionError)


class Stopped(Exception):
    pass


def now_text():
    t = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(t)) + f".{int(t * 1000) % 1000:03d}Z"


class Faithful:
    def __init__(self, api, directory, over="socket", read=True):
        self.api = api
        self.over = over
        self.read = read
        self.name = f"{api.user_id}-{api.device_id}"
        self.stopping = threading.Event()
        self.threads = []
        self.senders = {}
        self.faults = []  # broken promises, as text
        self.socket = None
        self.lock = threading.RLock()
        # No sync: this process is not the one that is killed, and the page cache outlives it anyway.
        self.db = sqlite3.connect(os.path.join(directory, self.name + ".db"), check_same_thread=False,
                                  isolation_level=None)
        self.db.execute("PRAGMA synchronous=OFF")
        self.db.executescript(SCHEMA)

    # ---- the store ----

    def sql(self, statement, *values):
        with self.lock:
            return self.db.execute(statement, values).fetchall()

    @property
    def cursor(self):
        return self.sql("SELECT cursor FROM meta")[0][0]

    def unsent(self):
        return self.sql("SELECT count(*) FROM outbox WHERE status IS NULL")[0][0]

    def owing(self):
        return self.sql("SELECT count(*) FROM inbox WHERE owes IS NOT NULL")[0][0]

    def sent(self):
        """message_id -> (conversation_id, seq, content), of what the server has accepted, in order of writing."""
        rows = self.sql("SELECT message_id, conversation_id, seq, coalesce(text, media) FROM outbox "
                        "WHERE status IN (200, 202) ORDER BY n")
        return {r[0]: r[1:] for r in rows}

    def inbox(self):
        """message_id -> (conversation_id, seq, content)"""
        return {r[0]: r[1:] for r in self.sql("SELECT message_id, conversation_id, seq, content FROM inbox")}

    def receipts(self, kind):
        """message_id -> set of those who"""
        found = {}
        for message_id, by in self.sql("SELECT message_id, by_user_id FROM receipts WHERE type=?", kind):
            found.setdefault(message_id, set()).add(by)
        return found

    # ---- life ----

    def run(self, listen=True):
        if listen:
            self._thread(self._listen_socket if self.over == "socket" else self._listen_http)
        return self

    def _thread(self, work):
        def guarded():
            try:
                work()
            except Stopped:
                pass

        t = threading.Thread(target=guarded, name=self.name, daemon=True)
        self.threads.append(t)
        t.start()

    def stop(self):
        self.stopping.set()
        if self.socket:
            try:
                self.socket.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for t in self.threads:
            t.join(30)
        self.db.close()

    def _pause(self, attempt):
        """Full jitter, quicker than a real client's, so that tests are."""
        if self.stopping.wait(random.uniform(0, min(0.5, 0.02 * 2 ** min(attempt, 6)))):
            raise Stopped

    # ---- sending ----

    def write(self, conversation_id, text=None, media=None, message_id=None):
        message_id = message_id or new_id()
        self.sql("INSERT INTO outbox (message_id, conversation_id, created_at, text, media) VALUES (?,?,?,?,?)",
                 message_id, conversation_id, now_text(), text, media)
        with self.lock:
            if conversation_id not in self.senders:
                self.senders[conversation_id] = threading.Event()
                self._thread(lambda: self._send_all(conversation_id))
            self.senders[conversation_id].set()
        return message_id

    def _send_all(self, conversation_id):
        wake = self.senders[conversation_id]
        api = Api(self.api.server, self.api.token)  # a connection of its own
        while not self.stopping.is_set():
            wake.clear()
            for row in self.sql("SELECT n, message_id, created_at, text, media FROM outbox "
                                "WHERE conversation_id=? AND status IS NULL ORDER BY n", conversation_id):
                self._send_one(api, conversation_id, *row)
            wake.wait(0.5)

    def _send_one(self, api, conversation_id, n, message_id, created_at, text, media):
        ticket = None
        for attempt in range(10_000):
            try:
                body = {"message_id": message_id, "by_user_id": self.api.user_id, "created_at": created_at}
                if media is not None:
                    ticket = ticket or api.upload(media, "image/png", "picture.png")["ticket"]
                    body["media"] = ticket
                else:
                    body["message_text"] = text
                answer = api.call("POST", "/conversation/" + conversation_id, body)
            except (requests.RequestException, OSError):
                self._pause(attempt)
                continue
            except ApiError as e:
                if e.status not in RETRIED:
                    raise
                self._pause(attempt)
                continue
            if answer.status_code in RETRIED:
                self._pause(attempt)
                continue
            body = answer.json() if answer.status_code in (200, 202) else {}
            if not body:
                self.faults.append(f"{self.name}: {message_id} was refused: {answer.status_code} {answer.text[:200]}")
            self.sql("UPDATE outbox SET status=?, seq=?, duplicate=? WHERE n=?", answer.status_code,
                     body.get("seq"), int(bool(body.get("duplicate"))), n)
            return

    # ---- receiving ----

    def _store(self, entry):
        """One entry of the mailbox, and the cursor with it. Says whether a message is new."""
        with self.lock:
            cursor = self.cursor
            if entry["cursor"] <= cursor:
                self._replayed(entry)
                return False
            if entry["cursor"] != cursor + 1:
                self.faults.append(f"{self.name}: cursor {entry['cursor']} follows {cursor}")
            self.db.execute("BEGIN")
            new = False
            if entry["type"] == "message":
                new = not self.sql("SELECT 1 FROM inbox WHERE message_id=?", entry["message_id"])
                if new:
                    self.sql("INSERT INTO inbox (message_id, cursor, conversation_id, seq, by_user_id, kind, owes) "
                             "VALUES (?,?,?,?,?,?,'get')", entry["message_id"], entry["cursor"],
                             entry["conversation_id"], entry["seq"], entry["by_user_id"], entry["kind"])
                else:
                    self.faults.append(f"{self.name}: {entry['message_id']} came twice, at another cursor")
            else:
                if self.sql("SELECT 1 FROM receipts WHERE type=? AND message_id=? AND by_user_id IS ?", entry["type"],
                            entry["message_id"], entry.get("by_user_id")):
                    self.faults.append(f"{self.name}: {entry['type']} of {entry['message_id']} came twice, at another cursor")
                self.sql("INSERT INTO receipts VALUES (?,?,?,?,?)", entry["cursor"], entry["type"],
                         entry["message_id"], entry.get("by_user_id"), entry.get("at"))
            self.sql("UPDATE meta SET cursor=?", entry["cursor"])
            self.db.execute("COMMIT")
            return new

    def _replayed(self, entry):
        table = "inbox" if entry["type"] == "message" else "receipts"
        known = self.sql(f"SELECT message_id FROM {table} WHERE cursor=?", entry["cursor"])
        if not known or known[0][0] != entry["message_id"]:
            self.faults.append(f"{self.name}: cursor {entry['cursor']} was replayed with another entry")

    def _content(self, message_id, body):
        if body.get("kind", "text") == "media" or "message_text" not in body:
            answer = self.api.media(message_id)
            if answer.status_code != 200:
                raise OSError(f"media: {answer.status_code}")
            content = answer.content
            if len(content) != int(answer.headers["Content-Length"]):  # which this HTTP library does not look at
                raise OSError("media: broken off")
        else:
            content = body["message_text"]
        self.sql("UPDATE inbox SET content=?, owes='received' WHERE message_id=?", content, message_id)

    def _after(self, owed):
        return {"received": "read" if self.read else None, "read": None}[owed]

    def _told(self, message_id, owed):
        self.sql("UPDATE inbox SET owes=? WHERE message_id=? AND owes=?", self._after(owed), message_id, owed)

    def _debts(self):
        return self.sql("SELECT message_id, owes FROM inbox WHERE owes IS NOT NULL ORDER BY cursor")

    # ---- over the socket ----

    def _listen_socket(self):
        attempt = 0
        while not self.stopping.is_set():
            try:
                self.socket = self.api.connect(after=self.cursor)
                for message_id, owed in self._debts():
                    self._ask(message_id, owed)
                while not self.stopping.is_set():
                    self._frame(self.socket.receive(timeout=60))
                    attempt = 0
            except TROUBLE:
                attempt += 1
                self._pause(attempt)

    def _ask(self, message_id, what):
        self.socket.send({"type": what, "ref": f"{what} {message_id}", "message_id": message_id})

    def _frame(self, frame):
        if frame["type"] == "answer":
            self._answered(frame)
        elif "cursor" in frame:
            new = self._store(frame)
            self.socket.ack(frame["cursor"])
            if new:
                self._ask(frame["message_id"], "get")

    def _answered(self, frame):
        what, message_id = frame["ref"].split(" ")
        if frame["status"] in RETRIED:
            self._pause(3)
            return self._ask(message_id, what)
        if frame["status"] != 200:
            self.faults.append(f"{self.name}: {what} {message_id}: {json.dumps(frame)[:300]}")
            self.sql("UPDATE inbox SET owes=NULL WHERE message_id=?", message_id)
            return None
        if what == "get":
            self._content(message_id, frame)
        else:
            self._told(message_id, what)
        for _, owed in self.sql("SELECT message_id, owes FROM inbox WHERE message_id=? AND owes IS NOT NULL", message_id):
            self._ask(message_id, owed)

    # ---- over HTTP ----

    def _listen_http(self):
        attempt = 0
        while not self.stopping.is_set():
            try:
                self._settle_http()
                answer = self.api.mailbox(after=self.cursor, wait=1)
                for entry in answer["entries"]:
                    self._store(entry)
                if answer["entries"]:
                    self.api.mailbox_ack(self.cursor)
                attempt = 0
            except (ApiError,) + TROUBLE as e:
                if isinstance(e, ApiError) and e.status not in RETRIED:
                    self.faults.append(f"{self.name}: {e}")
                attempt += 1
                self._pause(attempt)

    def _settle_http(self):
        while self._debts():
            for message_id, owed in self._debts():
                if owed == "get":
                    self._content(message_id, self.api.get(message_id))
                else:
                    self.api.ok("POST", f"/message/{message_id}/{owed}")
                    self._told(message_id, owed)


# ---- the evidence ----


def recipients(clients, sender, conversation):
    """The devices among the clients that must get what the sender writes there."""
    return [c for c in clients if c.api.user_id != sender.api.user_id and c.api.user_id in conversation["members"]]


def settle(clients, conversations, seconds=60):
    """Waits until all is sent, stored, received and read, and the senders know. Every sender's first device listed
    must be listening."""
    by_id = {c["conversation_id"]: c for c in conversations}

    def missing():
        got = {c.name: c.inbox().keys() for c in clients}
        for c in clients:
            if c.faults:
                return None
            if c.unsent() or c.owing():
                return f"{c.name}: unsent {c.unsent()}, owing {c.owing()}"
            delivered, read = c.receipts("delivered"), c.receipts("read")
            for message_id, (conversation_id, _, _) in c.sent().items():
                devices = recipients(clients, c, by_id[conversation_id]) if conversation_id in by_id else []
                who = {r.api.user_id for r in devices}
                absent = [r.name for r in devices if message_id not in got[r.name]]
                if who and (absent or message_id not in delivered or not read.get(message_id, set()) >= who):
                    return f"{c.name}: {message_id} absent at {absent}, delivered {message_id in delivered}, read by {read.get(message_id)}"
        return None

    last = [None]

    def check():
        last[0] = missing()
        return last[0] is None

    try:
        eventually(check, seconds, "the journey of every message")
    except AssertionError:
        raise AssertionError(f"not settled within {seconds} s: {last[0]}") from None


def check_ledger(clients, conversations):
    """Every accepted message is once on every device of its recipients, as it was written, with the seq that its
    sender was told; and nothing else is anywhere."""
    by_id = {c["conversation_id"]: c for c in conversations}
    faults = [f for c in clients for f in c.faults]
    expected = {c.name: {} for c in clients}
    taken = {}
    for c in clients:
        last = {}
        for message_id, (conversation_id, seq, content) in c.sent().items():
            if (conversation_id, seq) in taken:
                faults.append(f"seq {seq} of {conversation_id} was given to {message_id} and {taken[conversation_id, seq]}")
            taken[conversation_id, seq] = message_id
            if seq <= last.get(conversation_id, 0):
                faults.append(f"{c.name}: {message_id} has seq {seq}, after {last[conversation_id]}")
            last[conversation_id] = seq
            for r in recipients(clients, c, by_id[conversation_id]):
                expected[r.name][message_id] = (conversation_id, seq, content)
    for c in clients:
        got = c.inbox()
        for message_id in expected[c.name].keys() - got.keys():
            faults.append(f"{c.name}: {message_id} was accepted and never came")
        for message_id in got.keys() - expected[c.name].keys():
            if got[message_id][0] in by_id:
                faults.append(f"{c.name}: {message_id} came and nobody sent it")
        for message_id in expected[c.name].keys() & got.keys():
            if got[message_id] != expected[c.name][message_id]:
                faults.append(f"{c.name}: {message_id} differs: {got[message_id]} {expected[c.name][message_id]}"[:400])
        for kind in ("delivered", "read"):
            for message_id in c.receipts(kind).keys() - c.sent().keys():
                if c.sent() and c.unsent() == 0 and not _sent_elsewhere(clients, c, message_id):
                    faults.append(f"{c.name}: a receipt for {message_id}, which was not sent")
    assert not faults, "\n".join(faults[:20])


def _sent_elsewhere(clients, one, message_id):
    return any(message_id in c.sent() for c in clients if c is not one and c.api.user_id == one.api.user_id)
