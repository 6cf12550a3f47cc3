"""A small stand-in for the service that can misbehave on demand: for testing the client alone.

    with FakeServer() as fake:
        fake.user("alice"); fake.user("bob")
        fake.misbehave("POST /conversation/", status=503, retry_after=1, times=2)
        …run the client against fake.url…
        assert fake.count("POST /conversation/") == 3

It keeps everything in memory and knows just enough of docs/http-api.md for the client. Misbehaviour: `status` (with
`error` and `retry_after`) answers without doing anything; `drop` does the work and closes the connection without an
answer; `hang` never answers; `cut` breaks the body off in its middle: "announced", its length was told before,
"unannounced", it was not. It counts for HTTP requests by "METHOD /path" prefix and for socket frames by "ws type".
"""
import asyncio
import datetime
import hashlib
import json
import threading
import uuid
from urllib.parse import unquote

from aiohttp import WSMsgType, web


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Fault:
    def __init__(self, prefix, status, retry_after, error, drop, hang, cut, times):
        self.prefix, self.status, self.retry_after, self.error = prefix, status, retry_after, error
        self.drop, self.hang, self.cut, self.left = drop, hang, cut, times


class Device:
    def __init__(self, user_id):
        self.user_id, self.device_id, self.token = user_id, str(uuid.uuid4()), uuid.uuid4().hex * 2
        self.entries, self.cursor, self.socket = [], 0, None


class FakeServer:
    def __init__(self):
        self.users, self.devices, self.conversations, self.messages, self.tickets = {}, {}, {}, {}, {}
        self.faults, self.log, self.lock = [], [], threading.Lock()
        self.loop, self.port, self.runner = asyncio.new_event_loop(), 0, None

    # ---- for the test ----

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self._call(self._start())
        return self

    def __exit__(self, *error):
        self._call(self._stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def user(self, user_id, password="correct horse"):
        self.users[user_id] = password

    def misbehave(self, prefix, status=None, retry_after=None, error=None, drop=False, hang=False, cut=None, times=1):
        self.faults.append(Fault(prefix, status, retry_after, error, drop, hang, cut, times))

    def behave(self):
        self.faults.clear()

    def count(self, prefix):
        with self.lock:
            return sum(1 for name, _ in self.log if name.startswith(prefix))

    def bodies(self, prefix):
        with self.lock:
            return [body for name, body in self.log if name.startswith(prefix)]

    def cut_sockets(self):
        """Every socket breaks without a word."""
        async def cut():
            for device in self.devices.values():
                if device.socket is not None and device.socket._req.transport is not None:
                    device.socket._req.transport.abort()
        self._call(cut())

    def stop_listening(self):
        self._call(self._stop())

    def listen_again(self):
        self._call(self._start())

    def deliver(self, sender, recipient, text, message_id=None):
        """A message from somebody who needs no client."""
        async def run():
            c = self._conversation(sorted({sender, recipient}), "c-" + "-".join(sorted({sender, recipient})))
            return self._accept(sender, c, {"message_id": message_id or str(uuid.uuid4()), "by_user_id": sender,
                                            "message_text": text})[1]
        return self._call(run())

    def cursor(self, user_id):
        return max(d.cursor for d in self.devices.values() if d.user_id == user_id)

    # ---- the server ----

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    async def _start(self):
        app = web.Application(middlewares=[self._door], client_max_size=1 << 28)
        for method, path, handler in [
                ("POST", "/users", self._add_user), ("POST", "/sessions", self._login),
                ("DELETE", "/sessions/current", self._logout), ("POST", "/conversation", self._add_conversation),
                ("GET", "/conversation", self._list), ("GET", "/conversation/{id}", self._show),
                ("POST", "/conversation/{id}", self._send), ("POST", "/media", self._upload),
                ("GET", "/message/{id}", self._get), ("GET", "/message/{id}/media", self._media),
                ("POST", "/message/{id}/received", self._received), ("POST", "/message/{id}/read", self._read),
                ("GET", "/message/{id}/journey", self._journey), ("GET", "/mailbox", self._mailbox),
                ("POST", "/mailbox/ack", self._ack), ("GET", "/events", self._events)]:
            app.router.add_route(method, path, handler)
        self.runner = web.AppRunner(app, access_log=None)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", self.port, shutdown_timeout=0.1)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]

    async def _stop(self):
        for device in self.devices.values():
            if device.socket is not None:
                await device.socket.close()
        await self.runner.cleanup()

    def _fault(self, name):
        for fault in self.faults:
            if fault.left > 0 and name.startswith(fault.prefix):
                fault.left -= 1
                return fault
        return None

    def _note(self, name, body):
        with self.lock:
            self.log.append((name, body))

    @staticmethod
    def _error(status, code, reason, field=None):
        return status, {"error": {"code": code, "reason": reason, **({"field": field} if field else {})}}

    @web.middleware
    async def _door(self, request, handler):
        name = f"{request.method} {request.path}"
        is_json = request.content_type == "application/json" and request.can_read_body
        body = await request.json() if is_json else {}
        self._note(name, body)
        fault = self._fault(name)
        if fault and fault.hang:
            await asyncio.sleep(3600)
        if fault and fault.status:
            headers = {"Retry-After": str(fault.retry_after)} if fault.retry_after else {}
            return web.json_response({"error": fault.error or {"code": "busy", "reason": "try later"}},
                                     status=fault.status, headers=headers)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        request["device"] = self.devices.get(token)
        request["json"] = body
        if request["device"] is None and request.path not in ("/users", "/sessions", "/events"):
            status, answer = self._error(401, "unauthorized", "credentials are missing or wrong")
            return web.json_response(answer, status=status)
        answer = await handler(request)
        if fault and fault.drop:
            request.transport.abort()
        if fault and fault.cut:
            return await self._cut(request, answer.body, fault.cut == "announced")
        return answer if isinstance(answer, web.StreamResponse) else web.json_response(answer[1], status=answer[0])

    @staticmethod
    async def _cut(request, body, announced):
        """A proxy of HTTP/1.0 says no length: its closing is the end."""
        head = "HTTP/1.0 200 OK\r\nConnection: close\r\n" + (f"Content-Length: {len(body)}\r\n" if announced else "")
        request.transport.write(head.encode() + b"\r\n" + body[:len(body) // 2])
        request.transport.close()
        return web.Response()

    async def _add_user(self, request):
        body = request["json"]
        if body["user_id"] in self.users:
            return self._error(409, "conflict", "taken")
        self.users[body["user_id"]] = body["password"]
        return 201, {"user_id": body["user_id"]}

    async def _login(self, request):
        body = request["json"]
        if self.users.get(body["user_id"]) != body["password"]:
            return self._error(401, "unauthorized", "user or password is wrong")
        device = Device(body["user_id"])
        if body.get("device_id"):
            device.device_id = body["device_id"]
        self.devices[device.token] = device
        return 201, {"token": device.token, "user_id": device.user_id, "device_id": device.device_id,
                     "expires_at": "2099-01-01T00:00:00.000Z"}

    async def _logout(self, request):
        del self.devices[request["device"].token]
        return web.Response(status=204)

    def _conversation(self, members, conversation_id):
        return self.conversations.setdefault(conversation_id, {"conversation_id": conversation_id,
                                                               "members": members, "last_seq": 0})

    async def _add_conversation(self, request):
        body = request["json"]
        members = sorted(set(body["members"]) | {request["device"].user_id})
        unknown = [m for m in members if m not in self.users]
        if unknown:
            return self._error(422, "invalid", f"there is no user {unknown[0]}", "members")
        existed = body.get("conversation_id") in self.conversations
        c = self._conversation(members, body.get("conversation_id") or str(uuid.uuid4()))
        if c["members"] != members:
            return self._error(409, "conflict", "it exists with other members")
        return (200 if existed else 201), c

    async def _list(self, request):
        mine = [c for c in self.conversations.values() if request["device"].user_id in c["members"]]
        return 200, {"conversations": mine}

    async def _show(self, request):
        c = self.conversations.get(request.match_info["id"])
        if c is None or request["device"].user_id not in c["members"]:
            return self._error(404, "not_found", "not found")
        return 200, c

    def _accept(self, user_id, c, body):
        if c is None or user_id not in c["members"]:
            return self._error(404, "not_found", "not found")
        if body.get("message_text") == "" and "media" not in body:
            return self._error(422, "invalid", "must not be empty", "message_text")
        known = self.messages.get(body["message_id"])
        if known:
            return 200, {**known["answer"], "duplicate": True}
        c["last_seq"] += 1
        answer = {"message_id": body["message_id"], "conversation_id": c["conversation_id"], "seq": c["last_seq"],
                  "state": "accepted", "accepted_at": now()}
        m = {"answer": answer, "by_user_id": user_id, "text": body.get("message_text"), "media": body.get("media"),
             "recipients": [u for u in c["members"] if u != user_id], "received": set(), "read": set(),
             "points": [{"point": "accepted", "at": now()}]}
        self.messages[body["message_id"]] = m
        media = self.tickets.get(m["media"])
        entry = {"type": "message", "message_id": body["message_id"], "conversation_id": c["conversation_id"],
                 "seq": c["last_seq"], "by_user_id": user_id, "kind": "media" if media else "text",
                 "bytes": len(media["data"] if media else m["text"].encode()), "accepted_at": answer["accepted_at"]}
        self._post(m["recipients"], entry)
        m["points"].append({"point": "queued", "at": now()})
        return 202, answer

    def _post(self, users, entry):
        for device in self.devices.values():
            if device.user_id in users:
                device.entries.append({**entry, "cursor": len(device.entries) + 1})
                if device.socket is not None:
                    asyncio.ensure_future(device.socket.send_json(device.entries[-1]))

    async def _send(self, request):
        c = self.conversations.get(request.match_info["id"])
        return self._accept(request["device"].user_id, c, request["json"])

    async def _upload(self, request):
        data = await request.read()
        ticket = uuid.uuid4().hex * 2
        self.tickets[ticket] = {"data": data, "media_type": request.content_type,
                                "filename": unquote(request.headers["X-Filename"]) if "X-Filename" in request.headers else None,
                                "sha256": hashlib.sha256(data).hexdigest()}
        return 201, {"ticket": ticket, "bytes": len(data), "sha256": self.tickets[ticket]["sha256"]}

    def _content(self, message_id):
        m = self.messages.get(message_id)
        if m is None:
            return self._error(404, "not_found", "not found")
        if len(m["received"]) == len(m["recipients"]):
            return self._error(410, "gone", "it was here and has been deleted")
        body = {**m["answer"], "by_user_id": m["by_user_id"], "kind": "media" if m["media"] else "text"}
        if m["media"]:
            t = self.tickets[m["media"]]
            body.update(media_type=t["media_type"], filename=t["filename"], sha256=t["sha256"], bytes=len(t["data"]))
        else:
            body["message_text"] = m["text"]
        return 200, body

    async def _get(self, request):
        return self._content(request.match_info["id"])

    async def _media(self, request):
        return web.Response(body=self.tickets[self.messages[request.match_info["id"]]["media"]]["data"])

    def _receipt(self, user_id, message_id, kind):
        m = self.messages.get(message_id)
        if m is None or user_id not in m["recipients"]:
            return self._error(404, "not_found", "not found")
        states = ["received"] if kind == "received" else ["received", "read"]
        for state in states:
            if user_id in m[state]:
                continue
            m[state].add(user_id)
            m["points"].append({"point": state, "at": now(), "user_id": user_id})
            if state == "read" or len(m["received"]) == len(m["recipients"]):
                self._post([m["by_user_id"]], {"type": "delivered" if state == "received" else "read",
                                               "message_id": message_id, "by_user_id": user_id,
                                               "conversation_id": m["answer"]["conversation_id"], "at": now()})
        return 200, {"message_id": message_id, "state": kind}

    async def _received(self, request):
        return self._receipt(request["device"].user_id, request.match_info["id"], "received")

    async def _read(self, request):
        return self._receipt(request["device"].user_id, request.match_info["id"], "read")

    async def _journey(self, request):
        m = self.messages.get(request.match_info["id"])
        if m is None:
            return self._error(404, "not_found", "not found")
        return 200, {"message_id": request.match_info["id"], "points": m["points"]}

    async def _mailbox(self, request):
        after, limit = int(request.query.get("after", 0)), int(request.query.get("limit", 100))
        entries = request["device"].entries[after:after + limit]
        return 200, {"entries": entries, "drained": after + limit >= len(request["device"].entries)}

    async def _ack(self, request):
        request["device"].cursor = max(request["device"].cursor, request["json"]["cursor"])
        return 200, {"cursor": request["device"].cursor}

    # ---- the socket ----

    async def _events(self, request):
        socket = web.WebSocketResponse(protocols=["barid.v1"])
        await socket.prepare(request)
        device = None
        async for message in socket:
            if message.type != WSMsgType.TEXT:
                break
            frame = json.loads(message.data)
            self._note("ws " + frame["type"], frame)
            if frame["type"] == "hello":
                device = self.devices.get(frame["token"])
                if device is None:
                    await socket.close(code=4401, message=b"unauthorized")
                    break
                await self._replay(device, socket, frame["after"])
            elif frame["type"] == "ack":
                device.cursor = max(device.cursor, frame["cursor"])
            elif not await self._frame(device, socket, frame):
                break
        if device is not None and device.socket is socket:
            device.socket = None
        return socket

    async def _replay(self, device, socket, after):
        device.socket = socket
        for entry in device.entries[after:]:
            await socket.send_json(entry)
        await socket.send_json({"type": "drained"})

    async def _frame(self, device, socket, frame):
        fault = self._fault("ws " + frame["type"])
        if fault and fault.hang:
            return True
        extra = {}
        if fault and fault.status:
            status, body = fault.status, {"error": fault.error or {"code": "busy", "reason": "try later"}}
            extra = {"retry_after": fault.retry_after} if fault.retry_after else {}
        elif frame["type"] == "send":
            status, body = self._accept(device.user_id, self.conversations.get(frame["conversation_id"]), frame)
        elif frame["type"] == "get":
            status, body = self._content(frame["message_id"])
        else:
            status, body = self._receipt(device.user_id, frame["message_id"], frame["type"])
        if fault and fault.drop:
            socket._req.transport.abort()
            return False
        await socket.send_json({**body, "type": "answer", "to": frame["type"], "ref": frame.get("ref"),
                                "status": status, **extra})
        return True
