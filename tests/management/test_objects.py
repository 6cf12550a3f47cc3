"""Queues, exchanges, bindings, messages over the management API: made, seen, changed and deleted as RabbitMQ's tools do."""
import base64

import pytest
import requests

from support.server import eventually


def queue(api, name, vhost="/", **more):
    api.put("queues", vhost, name, **more)


# --- queues ---

def test_a_queue_is_declared_seen_and_deleted(api, name):
    arguments = {"x-max-length": 10, "x-message-ttl": 60000, "x-dead-letter-exchange": "amq.fanout"}
    queue(api, name, durable=True, arguments=arguments)
    seen = api.get("queues", "/", name)
    assert (seen["name"], seen["vhost"], seen["type"], seen["state"]) == (name, "/", "classic", "running")
    assert seen["durable"] is True and seen["auto_delete"] is False and seen["exclusive"] is False
    assert seen["arguments"] == arguments
    assert (seen["messages"], seen["messages_ready"], seen["messages_unacknowledged"], seen["consumers"]) == (0, 0, 0, 0)
    assert seen["message_stats"]["publish_details"] == {"rate": 0.0}
    api.delete("queues", "/", name)
    assert api.get("queues", "/", name, status=404)["error"] == "not_found"


def test_declaring_again_is_no_content_and_otherwise_is_a_bad_request(api, name):
    queue(api, name, durable="true", arguments={"x-max-priority": 3})
    api.put("queues", "/", name, durable=True, arguments={"x-max-priority": 3}, status=204)
    refused = api.put("queues", "/", name, durable=True, arguments={"x-max-priority": 4}, status=400).json()
    assert refused["error"] == "bad_request" and "x-max-priority" in refused["reason"]
    assert api.put("queues", "/", name + "x", arguments={"x-max-priority": "high"}, status=400).json()["error"] == "bad_request"


def test_what_is_not_json_is_a_bad_request(api, server, name):
    for body in (b"{", b"[]", b'"x"'):
        answer = requests.put(f"{api.base}/queues/%2F/q", data=body, auth=("guest", "guest"), timeout=20)
        assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
    assert api.call("PUT", "queues", "/", name).status_code == 201  # no body at all: standard properties


def test_a_queue_in_use_is_not_deleted_when_told_so(api, name):
    queue(api, name)
    api.post("exchanges", "/", "amq.default", "publish", routing_key=name, payload="x", payload_encoding="string", properties={})
    assert api.delete("queues", "/", name, query="?if-empty=true", status=400).json()["error"] == "bad_request"
    api.delete("queues", "/", name, "contents")
    api.delete("queues", "/", name, query="?if-empty=true")


def test_an_exclusive_queue_is_its_connections_alone(api, amqp, name):
    channel = amqp().channel()
    channel.queue_declare(name, exclusive=True)
    assert api.get("queues", "/", name)["exclusive"] is True
    assert "RESOURCE_LOCKED" in api.delete("queues", "/", name, status=400).json()["reason"]
    assert "RESOURCE_LOCKED" in api.delete("queues", "/", name, "contents", status=400).json()["reason"]
    assert api.post("queues", "/", name, "get", count=1, ackmode="ack_requeue_true", encoding="auto", status=400)


# --- lists ---

def test_lists_have_columns_order_and_pages(api):
    api.put("vhosts", "lists")
    for i in range(7):
        queue(api, f"q{i}", vhost="lists", arguments={"x-max-length": 10 - i})
    api.post("exchanges", "lists", "amq.default", "publish", routing_key="q3", payload="x", payload_encoding="string", properties={})
    assert api.get("queues", "lists", query="?columns=name,arguments.x-max-length")[0] == {
        "name": "q0", "arguments": {"x-max-length": 10}}
    by_length = api.get("queues", "lists", query="?columns=name&sort=messages&sort_reverse=true")
    assert by_length[0] == {"name": "q3"} and len(by_length) == 7
    page = api.get("queues", "lists", query="?page=2&page_size=3&columns=name")
    assert [q["name"] for q in page["items"]] == ["q3", "q4", "q5"]
    assert {k: v for k, v in page.items() if k != "items"} == {
        "filtered_count": 7, "item_count": 3, "page": 2, "page_count": 3, "page_size": 3, "total_count": 7}
    page = api.get("queues", "lists", query="?page=1&name=%5Eq%5B12%5D&use_regex=true&columns=name")
    assert [q["name"] for q in page["items"]] == ["q1", "q2"] and page["total_count"] == 7
    assert api.get("queues", "lists", query="?page=1&name=Q5")["item_count"] == 1
    for wrong in ("?page=0", "?page=x", "?page=1&page_size=501", "?page=1&name=%5B&use_regex=true"):
        assert "reason" in api.get("queues", "lists", query=wrong, status=400)
    assert api.get("queues", "lists", query="?page=9", status=400)["error"] == "page_out_of_range"
    assert api.get("queues", "nowhere", status=404)["error"] == "not_found"


# --- exchanges and bindings ---

def test_an_exchange_is_declared_bound_and_deleted(api, name):
    api.put("exchanges", "/", name, type="topic", durable=True, internal=False, arguments={"alternate-exchange": "amq.fanout"})
    seen = api.get("exchanges", "/", name)
    assert (seen["type"], seen["durable"], seen["arguments"]) == ("topic", True, {"alternate-exchange": "amq.fanout"})
    queue(api, name)
    made = api.post("bindings", "/", "e", name, "q", name, routing_key="a b.#~", arguments={}, status=201)
    [bound] = api.get("bindings", "/", "e", name, "q", name)
    assert bound == {"source": name, "vhost": "/", "destination": name, "destination_type": "queue",
                     "routing_key": "a b.#~", "arguments": {}, "properties_key": "a+b.%23%7E"}
    assert requests.get(requests.compat.urljoin(made.url, made.headers["Location"]), auth=("guest", "guest"),
                        timeout=20).json() == bound
    assert api.get("bindings", "/", "e", name, "q", name, bound["properties_key"]) == bound
    assert [b["source"] for b in api.get("queues", "/", name, "bindings")] == ["", name]
    assert api.get("exchanges", "/", name, "bindings", "source") == [bound]
    assert api.get("exchanges", "/", name, "bindings", "destination") == []
    assert bound in api.get("bindings", "/") and bound in api.get("bindings")
    api.delete("exchanges", "/", name, query="?if-unused=true", status=400)
    api.delete("bindings", "/", "e", name, "q", name, bound["properties_key"])
    assert api.get("bindings", "/", "e", name, "q", name) == []
    api.delete("bindings", "/", "e", name, "q", name, bound["properties_key"], status=404)
    api.delete("exchanges", "/", name, query="?if-unused=true")
    assert api.get("exchanges", "/", name, status=404)["reason"] == "exchange_not_found"


def test_bindings_that_differ_in_arguments_have_keys_of_their_own(api, name):
    api.put("exchanges", "/", name, type="topic")
    queue(api, name)
    for i in (1, 2):
        api.post("bindings", "/", "e", name, "q", name, routing_key="k", arguments={"i": i}, status=201)
    bindings = api.get("bindings", "/", "e", name, "q", name)
    assert len({b["properties_key"] for b in bindings}) == 2
    api.delete("bindings", "/", "e", name, "q", name, bindings[0]["properties_key"])
    assert api.get("bindings", "/", "e", name, "q", name) == bindings[1:]


def test_a_headers_exchange_routes_by_the_arguments_of_its_bindings(api, name):
    queue(api, name)
    wanted = {"x-match": "all", "colour": "red", "size": 3}
    api.post("bindings", "/", "e", "amq.headers", "q", name, arguments=wanted, status=201)
    assert api.get("bindings", "/", "e", "amq.headers", "q", name)[0]["arguments"] == wanted
    for headers, routed in (({"colour": "red", "size": 3}, True), ({"colour": "red"}, False)):
        assert publish(api, "", "x", exchange="amq.headers", properties={"headers": headers}) == {"routed": routed}


def test_exchanges_are_bound_to_each_other(api, name):
    for end in ("1", "2"):
        api.put("exchanges", "/", name + end, type="fanout")
    api.post("bindings", "/", "e", name + "1", "e", name + "2", status=201)
    [bound] = api.get("exchanges", "/", name + "2", "bindings", "destination")
    assert (bound["destination_type"], bound["properties_key"]) == ("exchange", "~")
    api.delete("bindings", "/", "e", name + "1", "e", name + "2", "~")


def test_the_exchanges_that_are_always_there_stay(api):
    names = {x["name"]: x["type"] for x in api.get("exchanges", "/")}
    assert names[""] == "direct" and names["amq.topic"] == "topic" and names["amq.match"] == "headers"
    api.delete("exchanges", "/", "amq.topic", status=400)
    api.put("exchanges", "/", "amq.mine", type="topic", status=400)
    api.put("exchanges", "/", "odd", type="no-such-type", status=400)


# --- messages ---

def publish(api, key, payload, exchange="amq.default", **more):
    body = {"routing_key": key, "payload": payload, "payload_encoding": "string", "properties": {}, **more}
    return api.post("exchanges", "/", exchange, "publish", **body)


def take(api, name, mode="ack_requeue_false", count=10, **more):
    return api.post("queues", "/", name, "get", count=count, ackmode=mode, encoding=more.pop("encoding", "auto"), **more)


def test_a_published_message_is_got_with_all_it_has(api, name):
    queue(api, name)
    properties = {"delivery_mode": 2, "priority": 4, "content_type": "text/plain", "message_id": "m1", "timestamp": 1700000000,
                  "headers": {"n": 1, "deep": {"list": [True, None, 2.5, "x"]}}}
    assert publish(api, name, "salâm", properties=properties) == {"routed": True}
    [got] = take(api, name, "ack_requeue_true")
    assert got["properties"] == properties
    assert (got["payload"], got["payload_encoding"], got["payload_bytes"]) == ("salâm", "string", 6)
    assert (got["exchange"], got["routing_key"], got["redelivered"], got["message_count"]) == ("", name, False, 0)
    [again] = take(api, name, "ack_requeue_false")
    assert again["redelivered"] is True
    assert take(api, name) == []


def test_got_messages_keep_their_order_when_put_back(api, name):
    queue(api, name)
    for i in range(5):
        publish(api, name, str(i))
    for _ in range(2):
        assert [m["payload"] for m in take(api, name, "ack_requeue_true", count=3)] == ["0", "1", "2"]
    assert [m["payload"] for m in take(api, name, "reject_requeue_false", count="2")] == ["0", "1"]
    assert [m["payload"] for m in take(api, name, truncate=0)] == ["", "", ""]


def test_bytes_travel_as_base64(api, name):
    queue(api, name)
    body = bytes(range(256))
    publish(api, name, base64.b64encode(body).decode(), payload_encoding="base64")
    [got] = take(api, name, "ack_requeue_true")
    assert (got["payload_encoding"], base64.b64decode(got["payload"])) == ("base64", body)
    publish(api, name, "text")
    assert take(api, name, encoding="base64")[1]["payload"] == base64.b64encode(b"text").decode()


def test_a_message_nobody_wants_is_not_routed_and_one_refused_is_an_error(api, name):
    assert publish(api, "no such queue", "x") == {"routed": False}
    queue(api, name, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    publish(api, name, "1")
    answer = api.call("POST", "exchanges", "/", "amq.default", "publish", routing_key=name, payload="2",
                      payload_encoding="string", properties={})
    assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")


@pytest.mark.parametrize("wrong", [
    {"payload": 5}, {"payload_encoding": "hex"}, {"payload": "?", "payload_encoding": "base64"}, {"routing_key": None},
    {"properties": {"priority": 900}}, {"properties": {"expiration": "soon"}}, {"properties": {"user_id": "somebody"}},
])
def test_what_cannot_be_published_says_why(api, wrong):
    body = {"routing_key": "k", "payload": "x", "payload_encoding": "string", "properties": {}, **wrong}
    answer = api.call("POST", "exchanges", "/", "amq.fanout", "publish", **body)
    assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")


def test_cc_and_bcc_route_and_bcc_is_not_seen(api, name):
    for end in "abc":
        queue(api, name + end)
    publish(api, name + "a", "x", properties={"headers": {"CC": [name + "b"], "BCC": [name + "c"]}})
    for end in "abc":
        assert take(api, name + end)[0]["properties"]["headers"] == {"CC": [name + "b"]}


def test_what_was_answered_is_there_after_a_crash(api, server, name):
    queue(api, name, durable=True)
    api.put("exchanges", "/", name, type="topic", durable=True)
    api.post("bindings", "/", "e", name, "q", name, routing_key="k", status=201)
    publish(api, "k", "kept", exchange=name, properties={"delivery_mode": 2})
    publish(api, "k", "taken", exchange=name, properties={"delivery_mode": 2})
    assert take(api, name, count=1)[0]["payload"] == "kept"
    server.restart()
    assert [m["payload"] for m in take(api, name)] == ["taken"]
    assert len(api.get("bindings", "/", "e", name, "q", name)) == 1


# --- connections ---

def test_connections_channels_and_consumers_are_seen(api, amqp, name):
    queue(api, name)
    connection = amqp(client_properties={"connection_name": name})
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_qos(prefetch_count=7)
    publish(api, name, "x")
    tag = channel.basic_consume(name, lambda *_: None, arguments={"x-priority": 5})
    connection.process_data_events(0.1)
    [seen] = [c for c in api.get("connections") if c.get("user_provided_name") == name]
    assert (seen["user"], seen["vhost"], seen["state"], seen["channels"]) == ("guest", "/", "running", 1)
    assert seen["client_properties"]["product"].startswith("Pika") and seen["recv_oct"] > 0 and seen["peer_port"] > 0
    assert api.get("connections", seen["name"])["name"] == seen["name"]
    [its] = api.get("connections", seen["name"], "channels")
    assert (its["confirm"], its["number"], its["consumer_count"], its["connection_details"]["name"]) == (
        True, channel.channel_number, 1, seen["name"])
    assert api.get("channels", its["name"])["consumer_details"][0]["consumer_tag"] == tag
    assert its["name"] in [c["name"] for c in api.get("channels")]
    [consumer] = [c for c in api.get("consumers", "/") if c["queue"]["name"] == name]
    assert (consumer["consumer_tag"], consumer["prefetch_count"], consumer["ack_required"], consumer["active"]) == (tag, 7, True, True)
    assert consumer["arguments"] == {"x-priority": 5} and consumer["channel_details"]["connection_name"] == seen["name"]
    its_queue = api.get("queues", "/", name)
    assert (its_queue["consumers"], its_queue["messages_unacknowledged"]) == (1, 1)
    assert its_queue["consumer_details"][0]["consumer_tag"] == tag


def test_a_connection_is_closed_with_the_reason(api, amqp):
    connection = amqp(client_properties={"connection_name": "to be closed"})
    [seen] = [c for c in api.get("connections") if c.get("user_provided_name") == "to be closed"]
    api.delete("connections", seen["name"], headers={"X-Reason": "time for tea"})
    with pytest.raises(Exception, match="time for tea"):
        connection.process_data_events(5)
        connection.channel()
    assert eventually(lambda: api.call("GET", "connections", seen["name"]).status_code == 404)
    api.delete("connections", "nobody", status=404)


def test_rates_move_while_somebody_looks(api, name):
    queue(api, name)
    api.get("overview")

    def rate():
        publish(api, name, "x")
        return api.get("queues", "/", name)["message_stats"]["publish_details"]["rate"] > 0

    assert eventually(rate, seconds=20, what="a rate")
