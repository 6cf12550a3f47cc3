"""What barid user, vhost, permission and definitions ask of a management API, and what they make of its answers."""
import base64
import http.server
import json
import os
import subprocess
import threading

import pytest

from support.server import binary


class FakeApi(http.server.ThreadingHTTPServer):
    """Answers what it was told to; everything it was asked is in `asked`."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        self.answers = {}  # "GET /api/users": (200, [...])
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        user = base64.b64decode(self.headers["Authorization"].split()[1]).decode()
        self.server.asked.append((f"{self.command} {self.path}", user, json.loads(body) if body else None))
        status, answer = self.server.answers.get(f"{self.command} {self.path}", (404, {"error": "Object Not Found"}))
        data = answer if isinstance(answer, bytes) else b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_DELETE = answer

    def log_message(self, *args):
        pass


@pytest.fixture
def api():
    with FakeApi() as server:
        yield server
        server.shutdown()


def run(api, *words, **env):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BARID_") or k == "BARID"}
    return subprocess.run([binary(), *words], env={**clean, "BARID_BROKER": api.url, **env}, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60)


def test_guest_asks_when_nobody_is_named(api):
    api.answers["GET /api/users"] = (200, [{"name": "a\x1b[2J", "tags": ["x", "y"]}, {"name": "old", "tags": "x,y"}])
    done = run(api, "user", "list")
    assert done.returncode == 0
    assert [line.split() for line in done.stdout.splitlines()[1:]] == [["a?[2J", "x,y"], ["old", "x,y"]]
    assert api.asked == [("GET /api/users", "guest:guest", None)]


def test_a_server_here_is_not_asked_through_a_proxy(api):
    api.answers["GET /api/users"] = (200, [])
    assert run(api, "user", "list", http_proxy="http://127.0.0.1:1").returncode == 0
    assert api.asked


@pytest.mark.parametrize("how", ["file", "environment"])
def test_somebody_else_asks_with_a_password(api, tmp_path, how):
    api.answers["GET /api/vhosts"] = (200, [])
    words, env = ["--user", "ann"], {"BARID_BROKER_PASSWORD": "s3:cret"}
    if how == "file":
        (tmp_path / "password").write_text("s3:cret\n")
        words, env = ["--user", "ann", "--password-file", str(tmp_path / "password")], {}
    assert run(api, "vhost", "list", *words, **env).returncode == 0
    assert api.asked[0][1] == "ann:s3:cret"


def test_names_are_encoded_in_the_path(api):
    api.answers["GET /api/users/a%2Fb%20%C3%A9"] = (200, {"name": "a/b é", "tags": []})
    api.answers["GET /api/vhosts/%2F"] = (200, {"name": "/"})
    api.answers["PUT /api/permissions/%2F/a%2Fb%20%C3%A9"] = (201, None)
    done = run(api, "permission", "set", "a/b é", "c", "", ".*")
    assert done.returncode == 0, done.stderr
    assert api.asked[-1] == ("PUT /api/permissions/%2F/a%2Fb%20%C3%A9", "guest:guest",
                             {"configure": "c", "write": "", "read": ".*"})


def test_a_user_is_added_only_when_there_is_none(api):
    api.answers["PUT /api/users/ann"] = (201, None)
    assert run(api, "user", "add", "ann", "--tags", "monitoring", BARID_NEW_PASSWORD="s").returncode == 0
    assert api.asked[-1][2] == {"password": "s", "tags": "monitoring"}
    api.answers["GET /api/users/ann"] = (200, {"name": "ann", "tags": []})
    done = run(api, "user", "add", "ann", BARID_NEW_PASSWORD="s")
    assert done.returncode == 1 and "there is a user ann" in done.stderr
    assert api.asked[-1][0] == "GET /api/users/ann"


def test_changing_one_thing_of_a_user_keeps_the_other(api):
    api.answers["GET /api/users/ann"] = (200, {"name": "ann", "password_hash": "h", "hashing_algorithm": "x",
                                               "tags": ["a", "b"]})
    api.answers["PUT /api/users/ann"] = (204, None)
    assert run(api, "user", "tags", "ann", "c", "d").returncode == 0
    assert api.asked[-1][2] == {"password_hash": "h", "hashing_algorithm": "x", "tags": "c,d"}
    assert run(api, "user", "password", "ann", BARID_NEW_PASSWORD="new").returncode == 0
    assert api.asked[-1][2] == {"password": "new", "tags": "a,b"}


def test_definitions_go_there_and_come_back_unchanged(api, tmp_path):
    definitions = {"rabbit_version": "3.13.7", "users": [], "queues": [{"name": "é", "vhost": "/", "arguments": {"x": 1.5}}]}
    api.answers["GET /api/definitions"] = (200, definitions)
    api.answers["POST /api/definitions"] = (204, None)
    file = str(tmp_path / "d.json")
    assert run(api, "definitions", "export", file).returncode == 0
    assert "1 queues" in run(api, "definitions", "import", file).stdout
    assert api.asked[-1][2] == definitions


@pytest.mark.parametrize("status, answer, said", [
    (401, {"error": "not_authorised", "reason": "Login failed"}, ["guest", "password is wrong", "--password-file"]),
    (403, {"error": "forbidden", "reason": "Not administrator user"}, ["guest may not do this", "Not administrator"]),
    (404, {"error": "Object Not Found", "reason": "Not Found"}, ["there is no user ann"]),
    (400, {"error": "bad_request", "reason": "a sentence"}, ["a sentence"]),
    (503, {"error": "x", "reason": "full"}, ["cannot do it now", "full"]),
    (500, b"<html>", ["answered 500"]),
    (302, None, ["answered 302"]),
])
def test_a_refusal_is_told_in_words(api, status, answer, said):
    api.answers["DELETE /api/users/ann"] = (status, answer)
    done = run(api, "user", "delete", "ann")
    assert done.returncode == 1 and done.stdout == ""
    for words in said:
        assert words in done.stderr
    error = json.loads(run(api, "user", "delete", "ann", "--json").stdout)["error"]
    assert said[0] in error["reason"] and error["code"]


@pytest.mark.parametrize("answer", [b"hello", b"{}", b"", b'"text"'])
def test_what_is_no_management_api_is_told(api, answer):
    api.answers["GET /api/users"] = (200, answer)
    done = run(api, "user", "list")
    assert done.returncode == 1 and "management API" in done.stderr


def test_nobody_there_is_told_with_a_hint():
    done = subprocess.run([binary(), "user", "list", "--server", "http://127.0.0.1:1"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "nothing answers at http://127.0.0.1:1" in done.stderr and "--data" in done.stderr
    done = subprocess.run([binary(), "user", "list", "--server", "file:///etc/passwd"], capture_output=True, text=True)
    assert done.returncode == 1 and "no URL of a server" in done.stderr
