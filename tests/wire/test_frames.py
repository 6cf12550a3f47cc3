"""Frames and methods that should not be, and the code each is answered with."""
import os
import struct

import pytest

from support.amqp import (ACCESS_REQUEST, ACCESS_REQUEST_OK, ACK, BODY, CHANNEL_CLOSE, CHANNEL_CLOSE_OK, CHANNEL_FLOW,
                          CHANNEL_FLOW_OK, CHANNEL_OPEN, CHANNEL_OPEN_OK, CONTENT_HEADER, DELIVER, GET, GET_OK, NO_PROPERTIES,
                          PUBLISH, QUEUE_DECLARE, QUEUE_DECLARE_OK, Raw, bits, close, content, declare, frame, get, method,
                          properties, publish, short)

OPEN_1 = method(1, CHANNEL_OPEN, b"\0")
HEADER_9 = frame(CONTENT_HEADER, 1, struct.pack(">HHQ", 60, 0, 9) + NO_PROPERTIES)  # nine bytes
PUBLISH_1 = method(1, PUBLISH, b"\0\0" + short("") + short("q") + b"\0")  # its content is to follow


# ---- 501: frames

@pytest.mark.parametrize("bad,text", [
    (frame(1, 1, b"\0\x14\0\x0a\0")[:-1] + b"\xcd", "invalid frame end marker"),
    (frame(1, 0, b"")[:-1] + b"\0", "invalid frame end marker"),
    (frame(0, 0, b""), "unknown frame type 0"), (frame(4, 1, b"x"), "unknown frame type 4"), (frame(255, 9, b""), "unknown frame"),
    (struct.pack(">BHI", 1, 1, 131072 + 1), "frame_too_large"), (struct.pack(">BHI", 3, 1, 0xFFFFFFFF), "frame_too_large")],
    ids=range(7))
def test_frame_errors(raw, bad, text):
    raw.send(bad)
    raw.refused(501, text)


def test_a_frame_may_be_as_large_as_agreed_and_no_larger(server):
    with Raw(server.amqp_port) as raw:
        raw.open(frame_max=4096).channel(1)
        raw.send(declare(1, "large", exclusive=True))
        raw.expect(QUEUE_DECLARE_OK)
        body = os.urandom(20000)
        raw.send(publish(1, "", "large", body, NO_PROPERTIES, frame_size=4096 - 8))
        raw.send(get(1, "large", True))
        kinds = []
        raw.expect(GET_OK)
        heard = b""
        while len(heard) < len(body):
            kind, _, payload = raw.frame()
            kinds.append(kind)
            assert len(payload) <= 4096 - 8
            heard += payload if kind == BODY else b""
        assert heard == body and kinds[0] == CONTENT_HEADER
        raw.send(publish(1, "", "large", body, NO_PROPERTIES, frame_size=4096))  # some clients forget the overhead
        assert raw.get("large").body == body
        raw.send(publish(1, "", "large", body, NO_PROPERTIES, frame_size=4096 + 1))
        raw.refused(501, "frame_too_large,4097,4088")


# ---- 502: methods that cannot be read

@pytest.mark.parametrize("payload", [
    b"", b"\0", b"\0\x14\0", b"\0\x32\0\x0a", b"\0\x32\0\x0a\0\0", b"\0\x32\0\x0a\0\0\x05abc",
    struct.pack(">HHH", 50, 10, 0) + short("q") + b"\0" + b"\0\0\0\x05abc",  # a table cut short
    struct.pack(">HHH", 50, 10, 0) + short("q") + b"\0" + b"\0\0\0\x04\x01aZ!",  # an unknown type
    struct.pack(">HHH", 50, 10, 0) + short("q") + b"\0" + b"\xff\xff\xff\xff",
    struct.pack(">HHH", 50, 10, 0) + short(b"\xff\xfe") + b"\0" + b"\0\0\0\0",  # not UTF-8
    struct.pack(">HHQ", 60, 80, 1)], ids=range(11))
def test_damaged_methods(ch, payload):
    ch.send(frame(1, 1, payload))
    ch.refused(502, "SYNTAX_ERROR")


def test_a_table_may_be_deep_but_not_endless(ch):
    inside = b""
    for _ in range(2000):
        inside = b"\x01aF" + struct.pack(">I", len(inside)) + inside
    ch.send(frame(1, 1, struct.pack(">HHH", 50, 10, 0) + short("q") + bits(False, False, True) + struct.pack(">I", len(inside)) +
                  inside))
    ch.refused(502)


def test_a_name_with_a_zero_byte(ch):
    ch.send(declare(1, "a\0b", exclusive=True))
    ch.refused(502, method_name=QUEUE_DECLARE)


# ---- 540, 503: methods that are not there, or not the client's to say

@pytest.mark.parametrize("name", [(50, 99), (0, 0), (65535, 65535), (60, 0), (70, 10), (80, 10), (110, 10)], ids=str)
@pytest.mark.parametrize("channel", [0, 1])
def test_unknown_methods(ch, channel, name):
    ch.send(method(channel, name))
    ch.refused(540, "NOT_IMPLEMENTED")


@pytest.mark.parametrize("what", [
    method(1, QUEUE_DECLARE_OK, short("q") + b"\0" * 8), method(1, ACCESS_REQUEST_OK, b"\0\0"), method(1, (85, 11)),
    method(1, (90, 11)), method(1, (40, 11)), method(1, (60, 72), b"\0"), method(1, (20, 11), b"\0\0\0\0"), method(1, (10, 51)),
    close(0).replace(b"\x01\0\0", b"\x01\0\x01", 1)], ids=range(9))
def test_what_only_a_server_says(ch, what):
    ch.send(what)
    ch.refused(503, "COMMAND_INVALID")


def test_a_server_s_content(ch):
    ch.send(method(1, DELIVER, short("c") + struct.pack(">Q", 1) + b"\0" + short("") + short("q")), content(1, b"x"))
    ch.refused(503, "COMMAND_INVALID")


@pytest.mark.parametrize("what", [method(0, CHANNEL_OPEN, b"\0"), get(0, "q"), declare(0, "q"), method(0, (90, 10))], ids=range(4))
def test_channel_0_is_the_connection_s(raw, what):
    raw.send(what)
    raw.refused(504, "CHANNEL_ERROR")


# ---- 504: channels

@pytest.mark.parametrize("what", [declare(7, "q"), method(7, CHANNEL_CLOSE, b"\0\0\0\0\0\0\0"), content(7, b""), frame(BODY, 7, b"x"),
                                  publish(7, "", "q")], ids=range(5))
def test_a_channel_that_is_not_open(raw, what):
    raw.send(what)
    raw.refused(504, "CHANNEL_ERROR - expected 'channel.open'")


def test_a_channel_is_opened_once(ch):
    ch.send(OPEN_1)
    ch.refused(504, "CHANNEL_ERROR - second 'channel.open' seen", CHANNEL_OPEN)


def test_as_many_channels_as_agreed(server):
    with Raw(server.amqp_port) as raw:
        raw.open(channels=3)
        for number in (1, 2, 3):
            raw.channel(number)
        raw.send(close(2))
        raw.expect(CHANNEL_CLOSE_OK, 2)
        raw.channel(2)
        raw.send(method(4, CHANNEL_OPEN, b"\0"))
        raw.refused(530, "NOT_ALLOWED")


def test_the_highest_channel(raw):
    raw.channel(2047)
    raw.send(method(2048, CHANNEL_OPEN, b"\0"))
    raw.refused(530, "NOT_ALLOWED")


def test_channels_are_numbered_anew_after_close(ch):
    ch.send(declare(1, "again", exclusive=True), publish(1, "", "again", b"one"), get(1, "again"))
    ch.expect(QUEUE_DECLARE_OK)
    first = ch.delivered(GET_OK)
    assert (first.tag, first.redelivered) == (1, False)
    ch.send(close(1), OPEN_1, get(1, "again"))
    ch.expect_exactly(method(1, CHANNEL_CLOSE_OK), method(1, CHANNEL_OPEN_OK, b"\0\0\0\0"))
    second = ch.delivered(GET_OK)
    assert (second.tag, second.redelivered) == (1, True)


def fails(ch):
    """Makes an error of channel 1."""
    ch.send(get(1, "nowhere-to-be-found"))


def test_after_an_error_all_is_dropped_until_close_ok(ch):
    fails(ch)
    ch.send(declare(1, "dropped", durable=True), publish(1, "", "dropped", b"x" * 1000), frame(BODY, 1, b"?"), get(1, ""))
    ch.channel_refused(404, "NOT_FOUND - no queue 'nowhere-to-be-found' in vhost '/'", GET)
    ch.channel(1)
    ch.send(declare(1, "dropped", passive=True))
    ch.channel_refused(404)


def test_close_and_close_cross_on_a_channel(ch):
    fails(ch)
    ch.send(close(1))
    ch.expect(CHANNEL_CLOSE, 1)
    ch.expect_exactly(method(1, CHANNEL_CLOSE_OK))
    ch.send(method(1, CHANNEL_CLOSE_OK), OPEN_1)
    ch.expect(CHANNEL_OPEN_OK, 1)


def test_close_cross_without_close_ok(ch):
    """Some clients take the server's close-ok for the end of it and open the channel again."""
    fails(ch)
    ch.send(close(1), OPEN_1)
    ch.expect(CHANNEL_CLOSE, 1)
    ch.expect_exactly(method(1, CHANNEL_CLOSE_OK), method(1, CHANNEL_OPEN_OK, b"\0\0\0\0"))


def test_a_late_close_ok_is_harmless(ch):
    ch.send(close(1), method(1, CHANNEL_CLOSE_OK), method(1, CHANNEL_CLOSE_OK), OPEN_1)
    ch.expect(CHANNEL_CLOSE_OK, 1)
    ch.expect(CHANNEL_OPEN_OK, 1)


def test_other_channels_go_on_after_an_error(ch):
    ch.channel(2)
    fails(ch)
    ch.send(method(2, ACCESS_REQUEST, short("/data") + b"\x1f"))
    ch.channel_refused(404)
    assert ch.expect(ACCESS_REQUEST_OK, 2) == b"\0\x01"


# ---- 505: frames in the wrong order

@pytest.mark.parametrize("frames", [
    frame(CONTENT_HEADER, 1, struct.pack(">HHQ", 60, 0, 0) + NO_PROPERTIES),
    frame(BODY, 1, b"x"),
    PUBLISH_1 + frame(BODY, 1, b"x"),
    PUBLISH_1 * 2,
    PUBLISH_1 + get(1, "q"),
    PUBLISH_1 + HEADER_9 * 2,
    PUBLISH_1 + HEADER_9 +
    frame(BODY, 1, b"12345") + get(1, "q"),
    PUBLISH_1 + frame(CONTENT_HEADER, 1, struct.pack(">HHQ", 50, 0, 0) + b"\0\0")],
    ids=["header first", "body first", "no header", "two methods", "a method for the header", "two headers", "a method in the body",
         "another class"])
def test_frames_in_the_wrong_order(ch, frames):
    ch.send(frames)
    ch.refused(505, "UNEXPECTED_FRAME")


@pytest.mark.parametrize("kind", [CONTENT_HEADER, BODY])
def test_content_on_channel_0(raw, kind):
    raw.send(frame(kind, 0, b"\0" * 14))
    raw.refused(505)


def test_a_body_longer_than_announced(ch):
    ch.send(PUBLISH_1, frame(CONTENT_HEADER, 1, struct.pack(">HHQ", 60, 0, 3) + b"\0\0"),
            frame(BODY, 1, b"four"))
    ch.refused(501)


@pytest.mark.parametrize("header", [
    b"", b"\0\x3c", b"\0\x3c\0\0\0\0\0\0\0\0\0", struct.pack(">HHQ", 60, 0, 1), struct.pack(">HHQ", 60, 0, 1) + b"\xff\xff",
    struct.pack(">HHQ", 60, 0, 1) + b"\x20\0\0\0\0\x09\x01aS", struct.pack(">HHQ", 60, 0, 1) + b"\x80\0\x05ab",
    struct.pack(">HHQ", 60, 0, 1) + NO_PROPERTIES + b"more"], ids=range(8))
def test_damaged_content_headers(ch, header):
    ch.send(PUBLISH_1, frame(CONTENT_HEADER, 1, header))
    code = ch.expect((10, 50))[:2]
    assert struct.unpack(">H", code)[0] in (502, 505)


@pytest.mark.parametrize("size", [(128 << 20) + 1, 1 << 40, (1 << 64) - 1])
def test_a_body_beyond_all_bounds(ch, size):
    ch.send(PUBLISH_1,
            frame(CONTENT_HEADER, 1, struct.pack(">HHQ", 60, 0, size) + b"\0\0"), frame(BODY, 1, b"x" * 1000) * 5)
    ch.channel_refused(406, f"PRECONDITION_FAILED - message size {size} is larger than configured max size 134217728", PUBLISH)
    ch.channel(1)


def test_a_body_that_was_announced_is_not_room_that_is_taken(server):
    """A hundred channels announce 128 MiB each and send a byte."""
    before = server.rss_bytes()
    with Raw(server.amqp_port) as raw:
        raw.open()
        for number in range(1, 101):
            raw.channel(number)
            raw.send(PUBLISH_1[:1] + struct.pack(">H", number) + PUBLISH_1[3:],
                     frame(CONTENT_HEADER, number, struct.pack(">HHQ", 60, 0, 128 << 20) + b"\0\0"), frame(BODY, number, b"x"))
        raw.channel(101)
        assert server.rss_bytes() < before + (64 << 20)


# ---- the rest

def test_access_request(ch):
    ch.send(method(1, ACCESS_REQUEST, short("/data") + b"\x1f"))
    ch.expect_exactly(method(1, ACCESS_REQUEST_OK, b"\0\x01"))


def test_flow(ch):
    ch.send(method(1, CHANNEL_FLOW, b"\x01"))
    ch.expect_exactly(method(1, CHANNEL_FLOW_OK, b"\x01"))
    ch.send(method(1, CHANNEL_FLOW, b"\0"))
    ch.refused(540, "NOT_IMPLEMENTED - active=false", CHANNEL_FLOW)


def test_settling_what_is_not_there(ch):
    ch.send(method(1, ACK, struct.pack(">Q", 1) + b"\0"))
    ch.channel_refused(406, "PRECONDITION_FAILED - unknown delivery tag 1", ACK)


def test_properties_are_counted_by_their_flags(ch):
    """Flags beyond what there is go on in a second word; it is read over by nobody, so it is refused."""
    ch.send(PUBLISH_1,
            frame(CONTENT_HEADER, 1, struct.pack(">HHQ", 60, 0, 0) + b"\0\x01\x80\0"))
    ch.refused(502)


def test_every_property_comes_back(ch):
    props = properties(content_type="text/plain", content_encoding="utf-8", headers={"a": 1}, delivery_mode=1, priority=7,
                       correlation_id="c", reply_to="r", expiration="60000", message_id="m", timestamp=1 << 40, type="t",
                       user_id="guest", app_id="a", cluster_id="x")
    ch.send(declare(1, "props", exclusive=True))
    ch.expect(QUEUE_DECLARE_OK)
    ch.send(publish(1, "", "props", b"body", props))
    assert ch.get("props").properties == props
