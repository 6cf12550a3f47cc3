"""A TCP proxy that breaks connections where a test wants it: it can swallow the answer to a request whose bytes
contain a given text, so that the client never learns what the server did; or break every such answer off after some
bytes, until it is told to mend itself."""
import socket
import threading


class Cut:
    def __init__(self, needle, after, hide_length):
        self.needle, self.after, self.hide_length, self.count = needle, after, hide_length, 0


class Proxy:
    def __init__(self, port):
        self.upstream = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.swallow = None  # bytes of a request whose answer is to be lost
        self.swallowed = threading.Event()
        self.cut = None
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.listener.close()

    def lose_answer_to(self, needle):
        self.swallow = needle
        self.swallowed.clear()

    def break_off(self, needle, after, hide_length=False):
        """Answers to requests with `needle` end after so many bytes. `hide_length`: the client is not told how many
        there should have been."""
        self.cut = Cut(needle, after, hide_length)
        return self.cut

    def mend(self):
        self.cut = None

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        server = socket.create_connection(("127.0.0.1", self.upstream))
        state = {"lost": False, "cut": None}
        threading.Thread(target=self._requests, args=(client, server, state), daemon=True).start()
        try:
            while True:
                data = server.recv(65536)
                if data and state["lost"]:  # the server has answered: the road breaks here
                    self.swallow = None
                    self.swallowed.set()
                    return
                if not data:
                    return
                if state["cut"]:
                    self._break_off(client, server, data, state["cut"])
                    return
                client.sendall(data)
        except OSError:
            pass
        finally:
            for s in (client, server):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                s.close()

    @staticmethod
    def _break_off(client, server, data, cut):
        while data and len(data) < cut.after:
            more = server.recv(65536)
            data += more
            if not more:
                break
        data = data[:cut.after]
        if cut.hide_length:
            data = data.replace(b"Content-Length:", b"Content-Secret:", 1)
        cut.count += 1
        client.sendall(data)

    def _requests(self, client, server, state):
        seen = b""
        try:
            while True:
                data = client.recv(65536)
                if not data:
                    server.shutdown(socket.SHUT_WR)
                    return
                seen = (seen + data)[-200_000:]
                if self.swallow and self.swallow in seen:
                    state["lost"] = True
                cut = self.cut
                if cut and cut.needle in seen:
                    state["cut"] = cut
                server.sendall(data)
        except OSError:
            pass
