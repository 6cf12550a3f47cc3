"""A TCP proxy that breaks connections where a test wants it: it can swallow the answer to a request whose bytes
contain a given text, so that the client never learns what the server did."""
import socket
import threading


class Proxy:
    def __init__(self, port):
        self.upstream = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.swallow = None  # bytes of a request whose answer is to be lost
        self.swallowed = threading.Event()
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

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        server = socket.create_connection(("127.0.0.1", self.upstream))
        lost = threading.Event()
        threading.Thread(target=self._requests, args=(client, server, lost), daemon=True).start()
        try:
            while True:
                data = server.recv(65536)
                if data and lost.is_set():  # the server has answered: the road breaks here
                    self.swallow = None
                    self.swallowed.set()
                    return
                if not data:
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

    def _requests(self, client, server, lost):
        seen = b""
        try:
            while True:
                data = client.recv(65536)
                if not data:
                    server.shutdown(socket.SHUT_WR)
                    return
                seen = (seen + data)[-200_000:]
                if self.swallow and self.swallow in seen:
                    lost.set()
                server.sendall(data)
        except OSError:
            pass
