"""barid user, vhost, permission and definitions on the data of a server that is not running."""
import json
import os
import stat
import subprocess

import pytest

from support.server import Server, binary


class Place:
    """A data directory, and the commands on it."""

    def __init__(self, path):
        self.path = path
        os.makedirs(path / "data")
        self.data = str(path / "data")

    def run(self, *words, password=None, data=None):
        env = {k: v for k, v in os.environ.items() if not k.startswith("BARID_")}
        if password is not None:
            env["BARID_NEW_PASSWORD"] = password
        return subprocess.run([binary(), *words, "--data", data or self.data], env=env, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60)

    def ok(self, *words, **more):
        done = self.run(*words, **more)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def objects(self, *words, **more):
        return [json.loads(line) for line in self.ok(*words, "--json", **more).splitlines()]

    def refused(self, *words, code=1, **more):
        done = self.run(*words, **more)
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return done.stderr

    def export(self, **more):
        return json.loads(self.ok("definitions", "export", **more))


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_a_new_broker_has_guest_and_the_virtual_host_slash(place):
    assert place.objects("user", "list") == [{"name": "guest", "tags": "administrator"}]
    assert [v["name"] for v in place.objects("vhost", "list")] == ["/"]
    assert place.objects("permission", "list") == [
        {"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}]


def test_users_are_added_changed_and_deleted(place):
    place.ok("user", "add", "ann", "--tags", "monitoring, mine", password="secret")
    assert {"name": "ann", "tags": "monitoring,mine"} in place.objects("user", "list")
    before = {u["name"]: u["password_hash"] for u in place.export()["users"]}
    place.ok("user", "tags", "ann", "management")
    assert {u["name"]: u["password_hash"] for u in place.export()["users"]} == before
    place.ok("user", "password", "ann", password="another")
    after = {u["name"]: u for u in place.export()["users"]}
    assert after["ann"]["password_hash"] != before["ann"]
    assert after["ann"]["tags"] == ["management"]
    place.ok("user", "tags", "ann")
    assert {"name": "ann", "tags": ""} in place.objects("user", "list")
    place.ok("user", "delete", "ann")
    assert [u["name"] for u in place.objects("user", "list")] == ["guest"]


def test_what_is_there_is_not_added_and_what_is_not_there_not_changed(place):
    assert "there is a user guest" in place.refused("user", "add", "guest", password="x")
    assert "there is no user zoe" in place.refused("user", "password", "zoe", password="x")
    assert "there is no user zoe" in place.refused("user", "tags", "zoe", "x")
    assert "there is no user zoe" in place.refused("user", "delete", "zoe")
    assert "there is no user zoe" in place.refused("permission", "set", "zoe", "", "", "")
    assert "there is no vhost blue" in place.refused("permission", "set", "guest", "--vhost", "blue", "", "", "")
    assert "no permissions in blue" in place.refused("permission", "clear", "guest", "--vhost", "blue")


def test_permissions_are_set_and_cleared(place):
    place.ok("vhost", "add", "blue", "--description", "The blue one")
    place.ok("permission", "set", "guest", "--vhost", "blue", "^a", "", ".*")
    assert place.objects("permission", "list", "guest", "--vhost", "blue") == [
        {"user": "guest", "vhost": "blue", "configure": "^a", "write": "", "read": ".*"}]
    assert "blue" in place.ok("permission", "list")
    place.ok("permission", "clear", "guest")
    assert [p["vhost"] for p in place.objects("permission", "list")] == ["blue"]


def test_a_pattern_that_is_none_is_refused_with_its_place(place):
    error = place.refused("permission", "set", "guest", ".*", "a(", ".*")
    assert "write: is not a regular expression" in error and "at byte 2" in error


def test_passwords_are_not_taken_from_the_command_line(place):
    for words in (["--password", "secret"], ["--password=secret"]):
        assert "can be read by everybody" in place.refused("user", "add", "ann", *words, code=2)
    assert "BARID_NEW_PASSWORD" in place.refused("user", "add", "ann")


def test_the_password_may_come_from_a_file(place):
    file = place.path / "password"
    file.write_text("from the file\n")
    place.ok("user", "add", "ann", "--new-password-file", str(file))
    assert "ann" in place.ok("user", "list")
    assert "no password can be read" in place.refused("user", "add", "ben", "--new-password-file", str(file) + "x")


@pytest.mark.parametrize("words", [["user"], ["user", "frobnicate"], ["user", "add"], ["user", "add", "a", "b"],
                                   ["vhost", "list", "x"], ["permission", "set", "guest"], ["definitions", "import"],
                                   ["user", "list", "--vhost", "x"], ["vhost", "add", "x", "--frob"]])
def test_a_command_line_that_makes_no_sense_is_told(place, words):
    assert "--help" in place.refused(*words, code=2)


def test_definitions_carry_everything_to_another_place(place, tmp_path):
    place.ok("user", "add", "ann", "--tags", "monitoring", password="secret")
    place.ok("vhost", "add", "blue", "--description", "The blue one", "--tags", "a,b")
    place.ok("permission", "set", "ann", "--vhost", "blue", "1", "2", "3")
    file = tmp_path / "definitions.json"
    place.ok("definitions", "export", str(file))
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    other = Place(tmp_path / "other")
    for _ in range(2):
        assert "2 users, 2 vhosts, 2 permissions" in other.ok("definitions", "import", str(file))
        assert other.export() == place.export()


def test_rabbitmqs_file_is_taken_and_what_is_left_out_is_told(place, tmp_path):
    file = tmp_path / "rabbit.json"
    hash_of_test12 = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
    file.write_text(json.dumps({
        "rabbit_version": "3.8.9", "rabbitmq_version": "3.8.9",
        "users": [{"name": "old", "password_hash": hash_of_test12, "tags": "administrator,x",
                   "hashing_algorithm": "rabbit_password_hashing_sha256", "limits": {}},
                  {"name": "unnamed", "password_hash": hash_of_test12, "tags": []}],
        "vhosts": [{"name": "shop", "metadata": {"description": "Orders", "tags": ["a", "b"]}}],
        "permissions": [{"user": "old", "vhost": "shop", "configure": ".*", "write": ".*", "read": ".*"}],
        "policies": [{"vhost": "/", "name": "ha", "pattern": ".*", "definition": {}}],
        "queues": [{"name": "q", "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}}],
        "parameters": []}))
    done = place.run("definitions", "import", str(file))
    assert done.returncode == 0
    assert "left out: 1 queues" in done.stderr and "left out: 1 policies" in done.stderr
    users = {u["name"]: u for u in place.export()["users"]}
    assert users["old"]["password_hash"] == users["unnamed"]["password_hash"] == hash_of_test12
    assert users["unnamed"]["hashing_algorithm"] == "rabbit_password_hashing_sha256"
    assert {"name": "shop", "description": "Orders", "tags": "a,b"} in place.objects("vhost", "list")
    assert users["old"]["tags"] == ["administrator", "x"]


@pytest.mark.parametrize("text, complaint", [
    ("{", "line 1, is not JSON"), ("[]", "wants an object"), ('{"users": 3}', "users: must be a list"),
    ('{"users": [3]}', "list of objects"), ('{"users": [{"tags": ""}]}', "must not be empty"),
    ('{"users": [{"name": "ann", "password_hash": "?", "tags": ""}]}', "of user ann"),
    ('{"permissions": [{"user": "guest", "vhost": "nowhere", "configure": "", "write": "", "read": ""}]}',
     "no virtual host nowhere")])
def test_a_damaged_file_is_refused_with_the_reason(place, text, complaint):
    file = place.path / "bad.json"
    file.write_text(text)
    assert complaint in place.refused("definitions", "import", str(file))


def test_a_running_servers_data_is_left_alone():
    with Server() as server:
        done = subprocess.run([binary(), "user", "list", "--data", server.data], capture_output=True, text=True)
        assert done.returncode == 1 and "a server is running" in done.stderr
        server.stop()
        done = subprocess.run([binary(), "user", "list", "--data", server.data], capture_output=True, text=True)
        assert done.returncode == 0 and "guest" in done.stdout
        server.start()


def test_a_directory_that_is_not_there_is_not_made(place, tmp_path):
    assert "there is no directory" in place.refused("user", "list", data=str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_what_is_in_a_virtual_host_only_the_server_deletes(place):
    place.ok("vhost", "add", "blue")
    assert "start it" in place.refused("vhost", "delete", "blue")
    assert "blue" in place.ok("vhost", "list")
