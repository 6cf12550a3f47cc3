"""How a connection begins and ends, byte by byte."""
import struct
import time

import pytest

from support.amqp import (CAPABILITIES, CLOSE, CLOSE_OK, HEADER, HEARTBEAT, OPEN_OK, START, TUNE, TUNE_OK, UPDATE_SECRET,
                          UPDATE_SECRET_OK, Raw, close, field, frame, long, method, open_vhost, short, start_ok, table, tune_ok)


@pytest.mark.parametrize("header", [b"AMQP\0\x01\0\0", b"AMQP\x03\x01\0\0", b"AMQP\x01\x01\x09\x01", b"AMQP\0\0\x09\x02", b"HTTP/1.1",
                                    b"\0" * 8, b"\x16\x03\x01\x02\0\x01\0\x01", b"B"], ids=repr)
def test_another_protocol_is_told_ours(stranger, header):
    stranger.send(header)
    stranger.expect_exactly(HEADER)
    stranger.ended()


def test_start_says_who_we_are(stranger):
    stranger.send(HEADER)
    start = stranger.expect(START)
    assert start[:2] == b"\0\x09"
    size = struct.unpack(">I", start[2:6])[0]
    said, rest = start[6:6 + size], start[6 + size:]
    assert short("product") + field("RabbitMQ") in said
    for name in ("publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify", "connection.blocked",
                 "consumer_priorities", "authentication_failure_close", "per_consumer_qos", "direct_reply_to"):
        assert short(name) + b"t\x01" in said
    assert rest == long("PLAIN AMQPLAIN") + long("en_US")
    stranger.send(start_ok())
    assert stranger.expect(TUNE) == struct.pack(">HIH", 2047, 131072, 60)


def logs_in(raw, mechanism, response, **more):
    raw.send(HEADER)
    raw.expect(START)
    raw.send(start_ok(mechanism, response, **more))


AMQPLAIN = table({"LOGIN": "guest", "PASSWORD": "guest"})[4:]  # without its length


@pytest.mark.parametrize("mechanism,response", [
    ("PLAIN", b"\0guest\0guest"), ("PLAIN", b"ignored\0guest\0guest"), ("AMQPLAIN", AMQPLAIN),
    ("AMQPLAIN", table({"more": 7, "PASSWORD": "guest", "LOGIN": "guest"})[4:])])
def test_mechanisms(stranger, mechanism, response):
    logs_in(stranger, mechanism, response)
    stranger.expect(TUNE)


@pytest.mark.parametrize("mechanism,response", [
    ("PLAIN", b"\0guest\0wrong"), ("PLAIN", b"\0guest"), ("PLAIN", b""), ("PLAIN", b"\0\0"), ("PLAIN", b"\0guest\0guest\0"),
    ("PLAIN", b"\0" + b"u" * 5000 + b"\0guest"), ("AMQPLAIN", AMQPLAIN[:-1]), ("AMQPLAIN", b""), ("AMQPLAIN", b"\xff" * 50),
    ("AMQPLAIN", table({"LOGIN": 7, "PASSWORD": "guest"})[4:]), ("EXTERNAL", b"guest"), ("CRAM-MD5", b""), ("", b"")])
def test_login_refused(stranger, mechanism, response):
    logs_in(stranger, mechanism, response)
    stranger.refused(403, f"ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism}.")


def test_a_client_that_does_not_know_of_refusals_hears_none(stranger):
    logs_in(stranger, "PLAIN", b"\0guest\0wrong", client={})
    assert stranger.ended() == []


def test_nonsense_before_login_is_answered_with_silence(server):
    nonsense = [tune_ok(), open_vhost(), method(0, CLOSE_OK), method(1, (20, 10), b"\0"), frame(1, 0, b"\xff\xff\xff\xff"),
                frame(1, 0, b""), frame(9, 0, b""), b"\x01\0\0\xff\xff\xff\xff", start_ok()[:-1] + b"\0"]
    raws = [Raw(server.amqp_port) for _ in nonsense]
    for raw, what in zip(raws, nonsense):
        raw.send(HEADER)
        raw.expect(START)
        raw.send(what)
    for raw in raws:
        assert raw.ended() == []
        raw.close()


def tuned(raw, **values):
    logs_in(raw, "PLAIN", b"\0guest\0guest")
    raw.expect(TUNE)
    raw.send(tune_ok(**values), open_vhost())


@pytest.mark.parametrize("values,text", [
    ({"frame_max": 4095}, "negotiated frame_max = 4095 is lower than the minimum allowed value (4096)"),
    ({"frame_max": 1}, "negotiated frame_max = 1 is lower than the minimum allowed value (4096)"),
    ({"frame_max": 131073}, "negotiated frame_max = 131073 is higher than the maximum allowed value (131072)"),
    ({"frame_max": 0xFFFFFFFF}, "negotiated frame_max = 4294967295 is higher than"),
    ({"channels": 2048}, "negotiated channel_max = 2048 is higher than the maximum allowed value (2047)"),
    ({"channels": 65535}, "negotiated channel_max = 65535 is higher than")])
def test_tune_out_of_range(stranger, values, text):
    tuned(stranger, **values)
    stranger.refused(530, "NOT_ALLOWED - " + text, TUNE_OK)


@pytest.mark.parametrize("values", [{}, {"frame_max": 4096}, {"frame_max": 131072, "channels": 2047, "heartbeat": 65535},
                                    {"channels": 1}])
def test_tune_in_range(stranger, values):
    tuned(stranger, **values)
    assert stranger.expect(OPEN_OK) == b"\0"


@pytest.mark.parametrize("vhost", ["nowhere", "", "//", "/ ", "x" * 255, "مجازی"])
def test_wrong_vhost(stranger, vhost):
    logs_in(stranger, "PLAIN", b"\0guest\0guest")
    stranger.send(tune_ok(), open_vhost(vhost))
    stranger.expect(TUNE)
    stranger.refused(530, f"NOT_ALLOWED - vhost {vhost} not found"[:250], (10, 40))


def test_all_at_once(stranger):
    """A client need not wait for what it knows already."""
    stranger.send(HEADER, start_ok(), tune_ok(), open_vhost(), close())
    for name in (START, TUNE, OPEN_OK, CLOSE_OK):
        stranger.expect(name, 0)
    assert stranger.ended() == []


def test_close(raw):
    raw.send(close(), frame(1, 1, b"whatever comes now"), b"\xff" * 20)
    raw.expect_exactly(method(0, CLOSE_OK))
    assert raw.ended() == []


@pytest.mark.parametrize("step", range(4))
def test_close_at_every_step(stranger, step):
    """Even before it is open, a client may say goodbye."""
    said = [HEADER, start_ok(), tune_ok(), open_vhost()][:step + 1]
    stranger.send(*said, close())
    for name in (START, TUNE)[:step + 1]:
        stranger.expect(name)
    if step == 3:
        stranger.expect(OPEN_OK)
    stranger.expect(CLOSE_OK)
    stranger.ended()


def test_close_and_close_cross(raw):
    """Both sides close at the same moment; each answers the other."""
    raw.send(frame(1, 1, b"\0\x3c\0\x50"), close(), method(0, CLOSE_OK))
    raw.expect(CLOSE, 0)
    assert all(f == (1, 0, b"\0\x0a\0\x33") for f in raw.ended())


def test_no_close_ok(raw):
    """Who does not answer our close is not waited for for ever, and heard no more."""
    raw.send(frame(7, 0, b""))
    raw.expect(CLOSE, 0)
    raw.send(method(1, (20, 10), b"\0") * 10)
    raw.socket.shutdown(1)
    assert raw.ended() == []


@pytest.mark.parametrize("what", [start_ok(), tune_ok(), open_vhost()], ids=["start-ok", "tune-ok", "open"])
def test_the_handshake_comes_once(raw, what):
    raw.send(what)
    raw.refused(504, "CHANNEL_ERROR")


def test_update_secret(raw):
    raw.send(method(0, UPDATE_SECRET, long("new") + short("it was time")))
    raw.expect_exactly(method(0, UPDATE_SECRET_OK))
    raw.channel(1)


# ---- heartbeats

def test_heartbeats_come_in_time_and_are_exact(stranger):
    stranger.open(heartbeat=1)
    for _ in range(3):
        began = time.monotonic()
        stranger.expect_exactly(frame(HEARTBEAT, 0, b""))
        assert time.monotonic() - began < 1.2
        stranger.send(frame(HEARTBEAT, 0, b""))


def test_any_byte_is_a_sign_of_life(stranger):
    stranger.open(heartbeat=1)
    message = method(1, (20, 10), b"\0") + frame(HEARTBEAT, 0, b"")
    began = time.monotonic()
    for i in range(8):  # a byte every half second, in the middle of a frame
        stranger.send(message[i:i + 1])
        time.sleep(0.5)
    stranger.send(message[8:])
    stranger.expect((20, 11))
    assert time.monotonic() - began > 3.9


def test_silence_is_the_end(stranger):
    stranger.open(heartbeat=1)
    began = time.monotonic()
    assert all(kind == HEARTBEAT for kind, _, _ in stranger.ended())
    assert 1.9 < time.monotonic() - began < 5


def test_without_heartbeats_none_come(stranger):
    stranger.open(heartbeat=0)
    stranger.socket.settimeout(2.5)
    with pytest.raises(TimeoutError):
        stranger.frame()


@pytest.mark.parametrize("beat, code, name", [(frame(HEARTBEAT, 1, b""), 505, "UNEXPECTED_FRAME"),
                                              (frame(HEARTBEAT, 0, b"x"), 501, "FRAME_ERROR")])
def test_wrong_heartbeats(raw, beat, code, name):
    raw.send(beat)
    raw.refused(code, name)


def test_the_capabilities_of_a_client_are_read_wherever_they_are(server):
    for client in ({"a": {"b": {"c": None}}, **CAPABILITIES}, {"capabilities": 7}, {"capabilities": {}}):
        with Raw(server.amqp_port) as raw:
            raw.open(client=client).channel(1)
