"""What a server says of itself: overview, nodes, health, metrics, `barid status`; and the door's own manners."""
import fcntl
import http.client
import json
import os
import pty
import re
import socket
import struct
import subprocess
import termios

import pytest
import requests

from support.server import Server, binary, eventually


def publish(api, key, payload="x", vhost="/"):
    return api.post("exchanges", vhost, "amq.default", "publish", routing_key=key, payload=payload, payload_encoding="string",
                    properties={})


# --- overview, nodes ---

def test_the_overview_counts(api, server, amqp, name):
    api.put("queues", "/", name)
    publish(api, name)
    amqp().channel()
    seen = api.get("overview")
    assert re.fullmatch(r"3\.\d+\.\d+", seen["rabbitmq_version"]) and seen["product_name"] == "barid"
    assert seen["object_totals"]["connections"] >= 1 and seen["object_totals"]["channels"] >= 1
    assert seen["object_totals"]["queues"] == len(api.get("queues"))
    assert seen["object_totals"]["exchanges"] == len(api.get("exchanges"))
    assert seen["queue_totals"]["messages_ready"] == sum(q["messages_ready"] for q in api.get("queues"))
    assert {(x["protocol"], x["port"]) for x in seen["listeners"]} == {("amqp", server.amqp_port), ("http", server.management_port)}
    assert "x-delayed-message" in [x["name"] for x in seen["exchange_types"]]
    assert set(api.get("overview", query="?columns=node,queue_totals.messages")) == {"node", "queue_totals"}


def test_the_node_is_running(api):
    [node] = api.get("nodes")
    assert node["running"] is True and node["type"] == "disc" and node["mem_used"] > 1_000_000 and node["disk_free"] > 0
    assert node["fd_used"] > 3 and node["proc_used"] == 1 and not node["mem_alarm"]
    assert api.get("nodes", node["name"])["name"] == node["name"]
    api.get("nodes", "other", status=404)
    assert api.get("cluster-name") == {"name": node["name"]}


def test_a_message_goes_through(api):
    assert api.get("aliveness-test", "/") == {"status": "ok"}
    assert api.get("aliveness-test", "/") == {"status": "ok"}
    api.get("aliveness-test", "nowhere", status=404)


def test_what_is_not_here_is_empty(api):
    for path in (["policies"], ["policies", "/"], ["parameters"], ["topic-permissions"], ["vhost-limits"], ["feature-flags"]):
        assert api.get(*path) == []
    assert "not supported" in api.put("policies", "/", "p", pattern=".*", definition={}, status=400).json()["reason"]


# --- health ---

def test_health(api, server):
    for check in ("alarms", "local-alarms", "virtual-hosts", "node-is-quorum-critical", "ready-to-serve-clients", "is-in-service"):
        assert api.get("health", "checks", check)["status"] == "ok"
    assert api.get("healthchecks", "node") == {"status": "ok"}
    assert api.get("healthchecks", "node", api.get("cluster-name")["name"]) == {"status": "ok"}
    api.get("healthchecks", "node", "other", status=404)
    for port in (server.amqp_port, server.management_port):
        assert api.get("health", "checks", "port-listener", str(port)) == {"status": "ok", "port": port}
    missing = api.get("health", "checks", "port-listener", "1", status=503)
    assert missing["status"] == "failed" and missing["missing"] == 1 and server.amqp_port in missing["ports"]
    api.get("health", "checks", "port-listener", "x", status=400)
    for protocol in ("amqp", "amqp091", "http", "AMQP0-9-1"):
        assert api.get("health", "checks", "protocol-listener", protocol)["status"] == "ok"
    assert api.get("health", "checks", "protocol-listener", "mqtt", status=503)["protocols"] == ["amqp", "http"]


def test_metrics_stay_readable_whatever_a_name_is(api, server):
    made = requests.put(f"http://127.0.0.1:{server.management_port}/api/queues/%2F/odd%ff%22", json={}, auth=("guest", "guest"), timeout=20)
    assert made.status_code == 201
    page = requests.get(f"http://127.0.0.1:{server.management_port}/metrics", timeout=20).content
    assert 'queue="odd\\\\xFF\\""' in page.decode("utf-8")
    requests.delete(made.url, auth=("guest", "guest"), timeout=20)


# --- the door ---

def test_unknown_paths_and_methods(api, server):
    assert api.get("nothing", status=404) == {"error": "Object Not Found", "reason": "Not Found"}
    assert api.call("PATCH", "queues").status_code == 405
    base = f"http://127.0.0.1:{server.management_port}"
    for damaged in ("%2", "%zz", "%00"):
        link = http.client.HTTPConnection("127.0.0.1", server.management_port, timeout=20)
        link.request("GET", "/api/queues/" + damaged, headers={"Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="})
        assert link.getresponse().status == 400
        link.close()
    head = requests.head(f"{base}/api/overview", auth=("guest", "guest"), timeout=20)
    assert head.status_code == 200 and not head.content and int(head.headers["Content-Length"]) > 100


def test_a_slash_too_many_is_forgiven(api):
    for path in ("users", "permissions", "bindings", "queues/%2F"):
        assert api.http.get(f"{api.base}/{path}/", timeout=20).json() == api.http.get(f"{api.base}/{path}", timeout=20).json()


def test_a_connection_is_kept_and_bodies_may_come_in_chunks(api, name):
    def chunks():
        yield b'{"durable"'
        yield b": true}"
    made = api.http.put(f"{api.base}/queues/%2F/{requests.utils.quote(name, safe='')}", data=chunks(), timeout=20)
    assert made.status_code == 201
    assert api.get("queues", "/", name)["durable"] is True


def test_a_body_too_large_is_refused_before_it_comes(api, server):
    with socket.create_connection(("127.0.0.1", server.management_port), timeout=20) as s:
        s.sendall(b"POST /api/definitions HTTP/1.1\r\nHost: x\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\nContent-Length: 99999999\r\n\r\n")
        assert b" 413 " in s.recv(4096)


def test_nothing_is_read_from_strangers(server):
    with socket.create_connection(("127.0.0.1", server.management_port), timeout=20) as s:
        s.sendall(b"POST /api/definitions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert b" 401 " in s.recv(4096)


def test_a_client_that_goes_away_harms_nobody(api, server):
    for _ in range(20):
        s = socket.create_connection(("127.0.0.1", server.management_port), timeout=20)
        s.sendall(b"GET /api/overview HTTP/1.1\r\nHost: x\r\nAuthorization: Basic Z3Vlc3Q6d3Jvbmc=\r\n\r\n")
        s.close()
    assert api.get("whoami")["name"] == "guest"


def test_other_addresses_need_tls_or_force():
    with pytest.raises(AssertionError, match="reachable from other machines"):
        Server(amqp=True, management=False, args=["--management", "0.0.0.0:0"]).start()


def test_it_ends_in_time_with_connections_open(name):
    with Server(amqp=True, management=True) as server:
        with socket.create_connection(("127.0.0.1", server.management_port), timeout=20) as idle:
            idle.sendall(b"GET /api/whoami HTTP/1.1\r\nHost: x\r\n")
            assert server.stop() == 0


# --- metrics ---

def test_metrics_have_rabbitmqs_names_on_both_ports(api, server, name):
    api.put("queues", "/", name)
    for _ in range(3):
        publish(api, name)
    label = '{vhost="/",queue="' + name + '"}'
    own = requests.get(f"http://127.0.0.1:{server.management_port}/metrics", timeout=20)
    other = requests.get(server.url + "/metrics", timeout=20)
    for page in (own, other):
        lines = page.text.splitlines()
        assert page.headers["Content-Type"].startswith("text/plain")
        assert f"rabbitmq_queue_messages_ready{label} 3" in lines and f"rabbitmq_queue_messages{label} 3" in lines
        assert f"rabbitmq_queue_messages_unacked{label} 0" in lines and f"rabbitmq_queue_consumers{label} 0" in lines
        for metric in ("rabbitmq_connections", "rabbitmq_channels", "rabbitmq_disk_space_available_bytes",
                       "rabbitmq_process_resident_memory_bytes", "rabbitmq_global_messages_received_total", "barid_engine_no_room",
                       'barid_messages_total{point="accepted"}', "process_cpu_seconds_total"):
            assert any(line.startswith(metric) for line in lines), metric
        families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
        assert len(families) == len(set(families))


# --- barid status ---

def status(server, *args):
    done = subprocess.run([binary(), "status", "--server", server.url, *args], capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


def test_status_shows_the_queues_sorted(api, server):
    for i, n in enumerate((2, 3, 1)):
        api.put("queues", "/", f"status-{i}")
        for _ in range(n):
            publish(api, f"status-{i}", "12345")
    code, text = status(server, "--sort", "ready")
    assert code == 0
    shown = [line.split() for line in text.splitlines() if "status-" in line]
    assert [(row[-9], row[-8]) for row in shown] == [("status-1", "3"), ("status-0", "2"), ("status-2", "1")]
    assert shown[0][-1] == "15B" and "accepted" in text
    code, text = status(server, "--json")
    rows = {row["queue"]: row for row in json.loads(text)["queues"]}
    assert rows["status-1"]["ready"] == 3 and rows["status-1"]["disk"] == 15 and rows["status-1"]["vhost"] == "/"
    assert status(server, "--sort", "colour")[0] == 2


def test_names_of_queues_cannot_move_the_cursor(api, server):
    api.put("queues", "/", "bad\x1b[2J\u009b")
    code, text = status(server)
    assert code == 0 and "\x1b" not in text and "\u009b" not in text and "bad?[2J?" in text


def test_status_is_live_on_a_terminal_however_narrow(api, server, name):
    api.put("queues", "/", "live")
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 40, 0, 0))
    running = subprocess.Popen([binary(), "status", "--server", server.url], stdout=slave, stderr=slave, stdin=slave)
    os.close(slave)
    seen = b""
    try:
        while seen.count(b"\x1b[H") < 3:
            seen += os.read(master, 4096)
    finally:
        running.terminate()
        running.wait()
        os.close(master)
    screens = seen.decode(errors="replace").split("\x1b[H\x1b[J")[1:-1]
    for screen in screens:
        lines = screen.split("\r\n")
        assert len(lines) <= 20 and max(map(len, lines)) <= 40 and any(line.startswith("live") or "live" in line for line in lines)
