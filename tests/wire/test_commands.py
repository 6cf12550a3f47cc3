"""Commands in the forms that client libraries do not use, or hide: no-wait, empty names, returns and confirms to the byte."""
import struct

import pytest

from support.amqp import (ACCESS_REQUEST, ACCESS_REQUEST_OK, ACK, CANCEL, CANCEL_OK, CONFIRM_SELECT, CONFIRM_SELECT_OK, CONSUME,
                          CONSUME_OK, DELIVER, EXCHANGE_BIND_OK, EXCHANGE_DECLARE_OK, EXCHANGE_DELETE, EXCHANGE_UNBIND,
                          EXCHANGE_UNBIND_OK, GET_EMPTY, GET_OK, NACK, NO_PROPERTIES, PERSISTENT, QOS_OK, QUEUE_BIND_OK,
                          QUEUE_DECLARE_OK, QUEUE_DELETE_OK, QUEUE_PURGE_OK, QUEUE_UNBIND, QUEUE_UNBIND_OK, RECOVER, RECOVER_ASYNC,
                          RECOVER_OK, RETURN, TX_COMMIT, TX_COMMIT_OK, TX_ROLLBACK, TX_ROLLBACK_OK, TX_SELECT, TX_SELECT_OK, Raw, ack,
                          bind, bind_exchange, bits, close, consume, content, declare, declare_exchange, delete, get, method, nack,
                          properties, publish, purge, qos, read_short, reject, short, table)

SYNC = method(1, ACCESS_REQUEST, short("") + b"\0")
SYNC_OK = method(1, ACCESS_REQUEST_OK, b"\0\x01")


def queue(ch, name="", **more):
    """An exclusive queue; gives its name."""
    return read_short(ch.call(declare(1, name, exclusive=True, **more), QUEUE_DECLARE_OK))[0]


# ---- no-wait

def test_no_wait_is_not_answered(ch):
    ch.send(declare_exchange(1, "nw-x", "topic", no_wait=True), declare_exchange(1, "nw-y", "fanout", no_wait=True),
            declare(1, "nw-q", exclusive=True, no_wait=True), bind(1, "nw-q", "nw-x", "a.*", no_wait=True),
            bind_exchange(1, "nw-x", "nw-y", "", no_wait=True), method(1, CONFIRM_SELECT, b"\x01"), SYNC)
    ch.expect_exactly(SYNC_OK)
    ch.send(publish(1, "nw-y", "a.b", b"through both", NO_PROPERTIES))
    assert ch.confirmed(1) == 0
    ch.send(consume(1, "nw-q", "c", no_wait=True))
    assert ch.delivered().body == b"through both"
    ch.send(method(1, CANCEL, short("c") + b"\x01"), ack(1, 1), publish(1, "nw-x", "a.c", b"purged", NO_PROPERTIES))
    assert ch.confirmed(2) == 0
    unbind = method(1, EXCHANGE_UNBIND, b"\0\0" + short("nw-x") + short("nw-y") + short("") + b"\x01" + table({}))
    ch.send(purge(1, "nw-q", no_wait=True), unbind, SYNC)
    ch.expect_exactly(SYNC_OK)
    assert ch.get("nw-q") is None
    ch.send(delete(1, "nw-q", no_wait=True), SYNC,
            *(method(1, EXCHANGE_DELETE, b"\0\0" + short(x) + b"\x02") for x in ("nw-x", "nw-y")))
    ch.expect_exactly(SYNC_OK)
    ch.send(declare_exchange(1, "nw-x", "topic", passive=True))
    ch.channel_refused(404)


def test_errors_of_no_wait_are_told(ch):
    ch.send(declare(1, "", no_wait=True, arguments={"x-max-length": -1}, exclusive=True))
    ch.channel_refused(406)
    ch.channel(1).send(bind(1, "nowhere", "amq.topic", no_wait=True))
    ch.channel_refused(404)


# ---- empty names

def test_an_empty_queue_name_is_the_last_declared(ch):
    name = queue(ch)
    assert name.startswith("amq.gen-")
    ch.send(bind(1, "", "amq.topic", ""), bind(1, "", "amq.topic", "other"))
    ch.expect(QUEUE_BIND_OK)
    ch.expect(QUEUE_BIND_OK)
    ch.send(publish(1, "amq.topic", name, b"1", NO_PROPERTIES), publish(1, "amq.topic", "other", b"2", NO_PROPERTIES),
            publish(1, "", name, b"3", NO_PROPERTIES), publish(1, "", "", b"nowhere", NO_PROPERTIES))
    assert [ch.get("").body for _ in range(3)] == [b"1", b"2", b"3"]
    assert ch.get("") is None
    ch.send(consume(1, ""))
    tag = read_short(ch.expect(CONSUME_OK))[0]
    assert tag.startswith("amq.ctag-")
    ch.send(purge(1, ""), method(1, QUEUE_UNBIND, b"\0\0" + short("") + short("amq.topic") + short("other") + table({})),
            delete(1, ""))
    assert ch.expect(QUEUE_PURGE_OK) == b"\0\0\0\0"
    ch.expect(QUEUE_UNBIND_OK)
    assert ch.expect(QUEUE_DELETE_OK) == b"\0\0\0\0"


@pytest.mark.parametrize("what", [bind(1, "", "amq.topic", "k"), consume(1, ""), get(1, ""), purge(1, ""), delete(1, "")],
                         ids=["bind", "consume", "get", "purge", "delete"])
def test_an_empty_queue_name_where_none_was_declared(ch, what):
    ch.send(what)
    ch.channel_refused(404, "NOT_FOUND - no previously declared queue")


def test_names_up_to_255_bytes(ch):
    name = "ü" * 127 + "x"
    assert queue(ch, name) == name
    ch.send(publish(1, "", name, b"there", NO_PROPERTIES))
    got = ch.get(name)
    assert (got.body, got.key) == (b"there", name)


def test_line_ends_are_not_part_of_a_name(ch):
    """As in RabbitMQ, where names come from shell scripts."""
    assert queue(ch, "with\r\nends\n") == "withends"


# ---- returns and confirms

def test_a_return_comes_before_its_confirm(ch):
    ch.call(method(1, CONFIRM_SELECT, b"\0"), CONFIRM_SELECT_OK)
    body, props = b"nobody wants it" * 10000, properties(headers={"a": [1, "b"]}, message_id="m")
    ch.send(publish(1, "amq.direct", "nobody", body, props, mandatory=True))
    ch.expect_exactly(method(1, RETURN, struct.pack(">H", 312) + short("NO_ROUTE") + short("amq.direct") + short("nobody")) +
                      content(1, body, props), method(1, ACK, struct.pack(">Q", 1) + b"\0"))


def test_returns_keep_their_order_among_confirms(ch):
    """Before the confirm that takes in a message comes its return, whatever is confirmed together."""
    name = queue(ch, "kept-order")
    ch.call(method(1, CONFIRM_SELECT, b"\0"), CONFIRM_SELECT_OK)
    ch.send(*(publish(1, "", name if i % 3 else "nobody", b"%d" % i, mandatory=True) for i in range(1, 301)))
    returned, confirmed = [], 0
    while confirmed < 300:
        _, heard, arguments = ch.method()
        if heard == ACK:
            confirmed = struct.unpack_from(">Q", arguments)[0]
            assert [i for i in range(3, confirmed + 1, 3) if i not in returned] == []
        else:
            assert heard == RETURN
            ch.frame()
            returned.append(int(ch.frame()[2]))
    assert returned == list(range(3, 301, 3))


def test_confirms_are_gathered(ch):
    queue(ch, "gathered")
    ch.call(method(1, CONFIRM_SELECT, b"\0"), CONFIRM_SELECT_OK)
    ch.send(b"".join(publish(1, "", "gathered", b"x") for _ in range(2000)))
    last, methods = 0, 0
    while last < 2000:
        tag, multiple = struct.unpack(">Q?", ch.expect(ACK))
        assert multiple == (tag > last + 1)
        last, methods = tag, methods + 1
    assert methods < 500


def test_a_refusal_is_a_nack_between_acks(ch):
    queue(ch, "bounded", arguments={"x-max-length": 3, "x-overflow": "reject-publish"})
    ch.call(method(1, CONFIRM_SELECT, b"\0"), CONFIRM_SELECT_OK)
    ch.send(b"".join(publish(1, "", "bounded", b"x") for _ in range(5)), publish(1, "", "nobody"))
    heard = {}
    last = 0
    while last < 6:
        _, name, arguments = ch.method()
        tag = struct.unpack_from(">Q", arguments)[0]
        for i in range(last + 1, tag + 1):
            heard[i] = name
        last = tag
    assert heard == {1: ACK, 2: ACK, 3: ACK, 4: NACK, 5: NACK, 6: ACK}


def test_confirm_and_transactions_exclude_each_other(ch):
    ch.call(method(1, CONFIRM_SELECT, b"\0"), CONFIRM_SELECT_OK)
    ch.call(method(1, CONFIRM_SELECT, b"\0"), CONFIRM_SELECT_OK)
    ch.send(method(1, TX_SELECT))
    ch.channel_refused(406, "cannot switch from confirm to tx mode", TX_SELECT)
    ch.channel(1)
    ch.call(method(1, TX_SELECT), TX_SELECT_OK)
    ch.send(method(1, CONFIRM_SELECT, b"\0"))
    ch.channel_refused(406, "cannot switch from tx to confirm mode", CONFIRM_SELECT)


def test_transactions(ch):
    name = queue(ch, "tx")
    ch.call(method(1, TX_SELECT), TX_SELECT_OK)
    ch.send(publish(1, "", name, b"away"), method(1, TX_ROLLBACK), publish(1, "", name, b"kept"),
            publish(1, "", "nobody", b"r", mandatory=True), get(1, name), method(1, TX_COMMIT))
    ch.expect(TX_ROLLBACK_OK)
    ch.expect(GET_EMPTY)
    assert ch.delivered(RETURN).body == b"r"
    ch.expect(TX_COMMIT_OK)
    ch.send(get(1, name))
    assert ch.delivered(GET_OK).body == b"kept"
    ch.send(ack(1, 1), method(1, TX_ROLLBACK))
    ch.expect(TX_ROLLBACK_OK)
    ch.send(ack(1, 1), method(1, TX_COMMIT))
    ch.expect(TX_COMMIT_OK)
    ch.send(ack(1, 1), method(1, TX_COMMIT))
    ch.channel_refused(406, "unknown delivery tag 1")


@pytest.mark.parametrize("name", [TX_COMMIT, TX_ROLLBACK], ids=["commit", "rollback"])
def test_no_transaction(ch, name):
    ch.send(method(1, name))
    ch.channel_refused(406, "channel is not transactional", name)


# ---- consumers

def test_a_consumer_is_told_that_its_queue_is_gone(ch):
    queue(ch, "going")
    ch.call(consume(1, "going", "watcher"), CONSUME_OK)
    ch.send(delete(1, "going"))
    ch.expect_exactly(method(1, QUEUE_DELETE_OK, b"\0\0\0\0"), method(1, CANCEL, short("watcher") + b"\x01"))
    ch.send(method(1, CANCEL_OK, short("watcher")), SYNC)
    ch.expect_exactly(SYNC_OK)


def test_a_client_that_cannot_be_told_is_not(server):
    with Raw(server.amqp_port) as raw:
        raw.open(client={}).channel(1)
        queue(raw, "going")
        raw.call(consume(1, "going", "watcher"), CONSUME_OK)
        raw.send(delete(1, "going"), SYNC)
        raw.expect_exactly(method(1, QUEUE_DELETE_OK, b"\0\0\0\0"), SYNC_OK)


def test_cancelling_what_is_not_there(ch):
    ch.send(method(1, CANCEL, short("nobody") + b"\0"))
    ch.expect_exactly(method(1, CANCEL_OK, short("nobody")))


def test_a_consumer_tag_is_there_once(ch):
    queue(ch, "tags")
    ch.call(consume(1, "tags", "t"), CONSUME_OK)
    ch.send(consume(1, "tags", "t"))
    ch.refused(530, "NOT_ALLOWED", CONSUME)


def test_delivery_to_the_byte(ch):
    queue(ch, "bytes")
    ch.call(consume(1, "bytes", "c"), CONSUME_OK)
    ch.send(publish(1, "", "bytes", b"x" * 200000, PERSISTENT))
    ch.expect_exactly(method(1, DELIVER, short("c") + struct.pack(">Q", 1) + b"\0" + short("") + short("bytes")) +
                      content(1, b"x" * 200000, PERSISTENT))
    ch.send(reject(1, 1, requeue=True))
    ch.expect_exactly(method(1, DELIVER, short("c") + struct.pack(">Q", 2) + b"\x01" + short("") + short("bytes")) +
                      content(1, b"x" * 200000, PERSISTENT))


@pytest.mark.parametrize("mandatory", [False, True], ids=["delivered", "returned"])
def test_a_body_that_is_kept_beside(ch, mandatory):
    """Large ones (--claim-bytes) are streamed: in frames as they come, and nothing of the channel in between."""
    queue(ch, "large")
    ch.call(method(1, CONFIRM_SELECT, b"\0"), CONFIRM_SELECT_OK)
    body = b"0123456789" * 100_000
    if not mandatory:
        ch.call(consume(1, "large", "c"), CONSUME_OK)
    ch.send(publish(1, "", "nobody" if mandatory else "large", body, mandatory=mandatory), SYNC)
    heard = []
    while len(heard) < 3:
        _, name, arguments = ch.method()
        heard.append(name)
        if name in (DELIVER, RETURN):
            size = struct.unpack(">Q", ch.frame()[2][4:12])[0]
            got = b""
            while len(got) < size:
                kind, _, payload = ch.frame()
                assert kind == 3 and 0 < len(payload) <= 131072 - 8
                got += payload
            assert got == body
    assert sorted(heard) == sorted([RETURN if mandatory else DELIVER, ACK, ACCESS_REQUEST_OK])
    assert not mandatory or heard.index(RETURN) < heard.index(ACK)


def test_a_body_of_nothing(ch):
    queue(ch, "nothing")
    ch.send(publish(1, "", "nothing", b""), get(1, "nothing", True))
    ch.expect_exactly(method(1, GET_OK, struct.pack(">Q", 1) + b"\0" + short("") + short("nothing") + b"\0\0\0\0") +
                      content(1, b"", PERSISTENT))


@pytest.mark.parametrize("how,answered", [(RECOVER, True), (RECOVER_ASYNC, False)])
def test_recover(ch, how, answered):
    queue(ch, "rec")
    ch.send(b"".join(publish(1, "", "rec", b"%d" % i) for i in range(3)), get(1, "rec"), get(1, "rec"))
    assert [ch.delivered(GET_OK).body for _ in range(2)] == [b"0", b"1"]
    ch.send(method(1, how, b"\x01"))
    if answered:
        ch.expect(RECOVER_OK)
    again = [ch.get("rec") for _ in range(3)]
    assert [(d.body, d.redelivered) for d in again] == [(b"0", True), (b"1", True), (b"2", False)]
    ch.send(method(1, how, b"\0"))
    ch.refused(540, "NOT_IMPLEMENTED - requeue=false")


def test_ack_multiple_and_all(ch):
    queue(ch, "many")
    ch.send(b"".join(publish(1, "", "many", b"%d" % i) for i in range(9)), qos(1, 0), consume(1, "many", "c"))
    ch.expect(QOS_OK)
    ch.expect(CONSUME_OK)
    for i in range(9):
        assert ch.delivered().tag == i + 1
    ch.send(ack(1, 3), ack(1, 5, multiple=True), nack(1, 6, requeue=True), ack(1, 0, multiple=True))
    again = ch.delivered()
    assert (again.tag, again.body, again.redelivered) == (10, b"5", True)
    ch.send(ack(1, 0, multiple=True), ack(1, 0, multiple=True), ack(1, 3))
    ch.channel_refused(406, "unknown delivery tag 3")


def test_a_tag_of_zero_is_none(ch):
    ch.send(ack(1, 0))
    ch.channel_refused(406, "unknown delivery tag 0")


def test_prefetch_to_the_message(ch):
    queue(ch, "window")
    ch.send(b"".join(publish(1, "", "window", b"%d" % i) for i in range(9)), qos(1, 2), consume(1, "window", "c"))
    ch.expect(QOS_OK)
    ch.expect(CONSUME_OK)
    assert [ch.delivered().tag for _ in range(2)] == [1, 2]
    assert ch.count("window") == 7
    ch.send(ack(1, 1))
    assert ch.delivered().tag == 3
    assert ch.count("window") == 6


@pytest.mark.parametrize("size", [1, 1 << 31])
def test_prefetch_in_bytes_is_not_there(ch, size):
    ch.send(method(1, (60, 10), struct.pack(">IH", size, 1) + b"\0"))
    ch.refused(540, "NOT_IMPLEMENTED - prefetch_size!=0")


def test_immediate_is_not_there(ch):
    ch.send(method(1, (60, 40), b"\0\0" + short("") + short("q") + bits(False, True)), content(1, b""))
    ch.refused(540, "NOT_IMPLEMENTED - immediate=true")


# ---- exchanges

def test_unbinding_exchanges_is_answered_with_51(ch):
    ch.call(declare_exchange(1, "ub-a", "fanout", auto_delete=True), EXCHANGE_DECLARE_OK)
    ch.call(declare_exchange(1, "ub-b", "fanout"), EXCHANGE_DECLARE_OK)
    ch.call(bind_exchange(1, "ub-b", "ub-a", "k", {"x": 1}), EXCHANGE_BIND_OK)
    ch.send(method(1, EXCHANGE_UNBIND, b"\0\0" + short("ub-b") + short("ub-a") + short("k") + b"\0" + table({"x": 1})))
    assert ch.expect(EXCHANGE_UNBIND_OK) == b""
    ch.send(declare_exchange(1, "ub-a", "fanout", passive=True))
    ch.channel_refused(404, "no exchange 'ub-a' in vhost '/'")
    ch.channel(1)
    ch.call(method(1, EXCHANGE_DELETE, b"\0\0" + short("ub-b") + b"\0"), (40, 21))


def test_a_declaration_that_differs(ch):
    queue(ch, "differs", arguments={"x-max-priority": ("B", 3)})
    ch.send(declare(1, "differs", exclusive=True, arguments={"x-max-priority": ("s", 3)}))
    ch.expect(QUEUE_DECLARE_OK)
    ch.send(declare(1, "differs", exclusive=True, arguments={"x-max-priority": ("B", 4)}))
    ch.channel_refused(406, "PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue 'differs' in vhost '/': received")


def test_an_exclusive_queue_is_locked_to_others(server, ch):
    queue(ch, "mine")
    with Raw(server.amqp_port) as other:
        other.open()
        for what in (declare(1, "mine", passive=True), declare(1, "mine", exclusive=True), consume(1, "mine"), get(1, "mine"),
                     purge(1, "mine"), delete(1, "mine"), bind(1, "mine", "amq.topic")):
            other.channel(1).send(what)
            other.channel_refused(405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' in vhost '/'")


def test_close_gives_exclusive_queues_up_before_it_is_answered(server, ch):
    queue(ch, "gone-with-me")
    ch.send(close())
    ch.expect((10, 51))
    with Raw(server.amqp_port) as other:
        other.open().channel(1).send(declare(1, "gone-with-me", passive=True))
        other.channel_refused(404)
