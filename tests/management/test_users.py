"""Who may use the management API and for what; users, permissions, virtual hosts and definitions through it."""
import base64
import hashlib
import json

import pytest
import requests

from support.management import Management
from support.server import Server


@pytest.fixture
def people(api, server):
    """Makes users with a tag, each with all permissions for "/"."""
    def make(user, tags, vhost="/"):
        api.call("PUT", "users", user, password="secret", tags=tags)
        if vhost:
            api.call("PUT", "permissions", vhost, user, configure=".*", write=".*", read=".*")
        return Management(server, user, "secret")
    return make


# --- getting in ---

def test_nobody_is_let_in_without_the_right_password(server):
    for user, password in ((None, None), ("guest", "wrong"), ("nobody", "guest"), ("guest", "")):
        answer = Management(server, user, password).call("GET", "whoami")
        assert answer.status_code == 401 and answer.headers["WWW-Authenticate"].startswith("Basic realm=")
        assert answer.json()["error"] == "not_authorized"
    for header in ("Bearer x", "Basic", "Basic %%%", "Basic " + base64.b64encode(b"guest").decode()):
        answer = requests.get(f"http://127.0.0.1:{server.management_port}/api/whoami", headers={"Authorization": header}, timeout=20)
        assert answer.status_code == 401


def test_a_right_password_is_told_who_it_is(api):
    assert api.get("whoami") == {"name": "guest", "tags": ["administrator"], "is_internal_user": True}


def test_a_changed_password_counts_at_once(api, people, server):
    ann = people("ann", "management")
    assert ann.get("whoami")["name"] == "ann"
    api.put("users", "ann", password="other", tags="management", status=204)
    ann.get("whoami", status=401)
    Management(server, "ann", "other").get("whoami")
    api.delete("users", "ann")
    Management(server, "ann", "other").get("whoami", status=401)


def test_tags_decide(people, server):
    calls = {"whoami": "mpoa", "queues": "mpoa", "overview": "mpoa", "nodes": "oa", "users": "a", "permissions": "a",
             "definitions": "a"}
    users = {"m": people("m1", "management"), "p": people("p1", ["policymaker"]), "o": people("o1", "monitoring"),
             "a": people("a1", "administrator"), "": people("none1", "")}
    for path, allowed in calls.items():
        for tag, user in users.items():
            answer = user.call("GET", path)
            assert answer.status_code == (200 if tag and tag in allowed else 401), (path, tag)
            if answer.status_code == 401:
                assert answer.json()["error"] == "not_authorised"


def test_a_user_sees_and_changes_the_own_virtual_host_only(api, people):
    api.put("vhosts", "theirs")
    api.put("queues", "theirs", "q")
    ben, watcher = people("ben", "management", "theirs"), people("watcher", "monitoring", None)
    assert [v["name"] for v in ben.get("vhosts")] == ["theirs"]
    assert {q["vhost"] for q in ben.get("queues")} == {"theirs"} and {x["vhost"] for x in ben.get("exchanges")} == {"theirs"}
    ben.get("queues", "/", status=401)
    ben.put("queues", "/", "mine", status=401)
    ben.put("queues", "theirs", "mine")
    assert "theirs" in {q["vhost"] for q in watcher.get("queues")}
    watcher.put("queues", "theirs", "no", status=401)


def test_permissions_are_those_of_amqp(api, people):
    cat = people("cat", "management", None)
    api.put("permissions", "/", "cat", configure="^c-", write="^(c-|amq\\.default$)", read="^c-r")
    cat.put("queues", "/", "c-r1")
    cat.put("queues", "/", "d", status=401)
    cat.put("queues", "/", "c-w1")
    cat.put("queues", "/", "c-r2", arguments={"x-dead-letter-exchange": "other"}, status=401)
    publish = {"routing_key": "c-r1", "payload": "x", "payload_encoding": "string", "properties": {}}
    cat.post("exchanges", "/", "amq.default", "publish", **publish)
    cat.post("exchanges", "/", "amq.topic", "publish", **publish, status=401)
    get = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
    assert len(cat.post("queues", "/", "c-r1", "get", **get)) == 1
    cat.post("queues", "/", "c-w1", "get", **get, status=401)
    cat.delete("queues", "/", "c-w1", "contents", status=401)
    cat.post("bindings", "/", "e", "amq.topic", "q", "c-r1", routing_key="k", status=401)
    cat.delete("queues", "/", "c-w1")


def test_nobody_sees_or_closes_the_connections_of_others(api, people, amqp):
    dan = people("dan", "management")
    amqp()
    [guests] = [c for c in api.get("connections") if c["user"] == "guest"][:1]
    assert dan.get("connections") == [] and dan.get("channels") == []
    dan.get("connections", guests["name"], status=401)
    dan.delete("connections", guests["name"], status=401)
    people("eve", "monitoring").get("connections", guests["name"])


# --- users and permissions ---

def test_a_user_comes_with_a_hash_of_rabbitmqs(api, server):
    salt = b"\x01\x02\x03\x04"
    hashed = base64.b64encode(salt + hashlib.sha256(salt + b"from rabbit").digest()).decode()
    api.put("users", "rab", password_hash=hashed, hashing_algorithm="rabbit_password_hashing_sha256", tags=["management", "x"])
    seen = api.get("users", "rab")
    assert (seen["password_hash"], seen["hashing_algorithm"]) == (hashed, "rabbit_password_hashing_sha256")
    assert Management(server, "rab", "from rabbit").get("whoami")["tags"] == ["management", "x"]
    Management(server, "rab", "from hare").get("whoami", status=401)


def test_a_user_without_tags_is_refused_and_one_without_password_cannot_log_in(api, server):
    api.put("users", "un", password="x", status=400)
    api.put("users", "un", password_hash="", tags="management")
    Management(server, "un", "").get("whoami", status=401)
    assert "un" in [u["name"] for u in api.get("users", "without-permissions")]
    api.post("users", "bulk-delete", users=["un", "who"], status=204)
    assert api.get("users", "un", status=404)["reason"] == "user_not_found"


def test_permissions_are_listed_changed_and_taken_away(api, people):
    people("fay", "")
    wanted = {"user": "fay", "vhost": "/", "configure": "a", "write": "", "read": ".*"}
    api.put("permissions", "/", "fay", configure="a", write="", read=".*", status=204)
    assert api.get("permissions", "/", "fay") == wanted
    assert api.get("users", "fay", "permissions") == [wanted]
    assert wanted in api.get("permissions") and wanted in api.get("vhosts", "/", "permissions")
    api.put("permissions", "/", "fay", configure="(", write="", read="", status=400)
    api.put("permissions", "/", "fay", configure="a", status=400)
    api.put("permissions", "/", "nobody", configure="", write="", read="", status=404)
    api.put("permissions", "nowhere", "fay", configure="", write="", read="", status=404)
    api.delete("permissions", "/", "fay")
    api.delete("permissions", "/", "fay", status=404)


def test_a_virtual_host_goes_with_all_it_has(api):
    api.put("vhosts", "v 1", description="for a while", tags=["x", "y"])
    api.put("vhosts", "v 1", description="for a while", status=204)
    seen = api.get("vhosts", "v 1")
    assert (seen["description"], seen["tags"], seen["messages"]) == ("for a while", ["x", "y"], 0)
    assert api.get("permissions", "v 1", "guest")["configure"] == ".*"  # who makes it may use it
    api.put("queues", "v 1", "q")
    api.delete("vhosts", "v 1")
    assert api.get("queues", "v 1", "q", status=404)["reason"] == "vhost_not_found"
    api.put("vhosts", "v 1")
    api.get("queues", "v 1", "q", status=404)
    api.delete("vhosts", "/", status=400)


# --- definitions ---

DEFINITIONS = {
    "rabbit_version": "3.12.1",
    "users": [{"name": "shop", "password_hash": base64.b64encode(bytes(36)).decode(), "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": "management"}],
    "vhosts": [{"name": "shop"}],
    "permissions": [{"user": "shop", "vhost": "shop", "configure": ".*", "write": ".*", "read": ".*"}],
    "parameters": [{"component": "federation", "name": "x", "vhost": "/", "value": {}}],
    "policies": [{"vhost": "/", "name": "ha", "pattern": ".*", "definition": {}, "priority": 0, "apply-to": "all"}],
    "queues": [{"name": "orders", "vhost": "shop", "durable": True, "auto_delete": False,
                "arguments": {"x-max-priority": 5, "x-dead-letter-exchange": "late"}}],
    "exchanges": [{"name": "late", "vhost": "shop", "type": "topic", "durable": True, "auto_delete": False, "internal": False,
                   "arguments": {}}],
    "bindings": [{"source": "late", "vhost": "shop", "destination": "orders", "destination_type": "queue", "routing_key": "a.*",
                  "arguments": {}}],
}


def without(definitions, *keys):
    return {k: v for k, v in definitions.items() if k not in keys}


def test_definitions_go_from_one_server_to_another(server):
    with Server(amqp=True, management=True) as first, Server(amqp=True, management=True) as second:
        one, other = Management(first), Management(second)
        one.post("definitions", json=DEFINITIONS, status=204)
        one.post("definitions", json=DEFINITIONS, status=204)
        assert one.get("queues", "shop", "orders")["arguments"] == DEFINITIONS["queues"][0]["arguments"]
        assert one.get("permissions", "shop", "shop")["read"] == ".*"
        exported = one.get("definitions")
        assert exported["bindings"][0].keys() == DEFINITIONS["bindings"][0].keys()
        assert DEFINITIONS["bindings"][0] in exported["bindings"] and DEFINITIONS["exchanges"][0] in exported["exchanges"]
        other.post("definitions", json=exported, status=204)

        def in_order(definitions):
            return {k: sorted(v, key=json.dumps) if isinstance(v, list) else v for k, v in definitions.items()}

        assert in_order(other.get("definitions")) == in_order(exported)
        assert "federation" not in json.dumps(exported)
        assert "ignored" in first.log()
        second.restart()
        assert in_order(Management(second).get("definitions")) == in_order(exported)


def test_definitions_of_one_virtual_host_do_not_name_it(api):
    api.put("vhosts", "part")
    api.post("definitions", "part", json=without(DEFINITIONS, "users", "vhosts", "permissions"), status=204)
    exported = api.get("definitions", "part")
    assert "users" not in exported and "vhosts" not in exported
    assert exported["queues"] == [{k: v for k, v in DEFINITIONS["queues"][0].items() if k != "vhost"}]
    api.put("vhosts", "part2")
    api.post("definitions", "part2", json=exported, status=204)
    assert api.get("definitions", "part2") == exported


def test_definitions_that_make_no_sense_say_where(api):
    bad = {"queues": [{"name": "qq", "vhost": "/", "arguments": {"x-max-length": "long"}}]}
    answer = api.post("definitions", json=bad, status=400)
    assert answer["error"] == "bad_request" and "qq" in answer["reason"] and "x-max-length" in answer["reason"]
    lost = {"bindings": [{"source": "nowhere", "vhost": "/", "destination": "gone", "destination_type": "queue", "routing_key": ""}]}
    assert api.post("definitions", json=lost, status=400)["error"] == "bad_request"
    answer = requests.post(f"{api.base}/definitions", data=b"not json", auth=("guest", "guest"), timeout=20)
    assert answer.status_code == 400


def test_definitions_come_as_a_form_too(api):
    body = json.dumps({"queues": [{"name": "by form", "vhost": "/"}]})
    answer = requests.post(f"{api.base}/definitions", files={"file": ("defs.json", body)}, auth=("guest", "guest"), timeout=20)
    assert answer.status_code == 204
    api.get("queues", "/", "by form")
