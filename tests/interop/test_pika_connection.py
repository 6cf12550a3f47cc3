"""pika's blocking connections and channels: opening, closing, timing, threads, errors."""
import contextlib
import socket
import struct
import threading
import time

import pika
import pika.exceptions as ex
import pytest


def test_opens_and_closes(connect):
    connection = connect()
    assert connection.is_open and not connection.is_closed
    connection.close()
    assert connection.is_closed and not connection.is_open


def test_closing_twice_is_an_error_of_the_client(connect):
    connection = connect()
    connection.close()
    with pytest.raises(ex.ConnectionWrongStateError):
        connection.close()


def test_context_manager_closes(parameters):
    with pika.BlockingConnection(parameters()) as connection:
        channel = connection.channel()
        assert channel.is_open
    assert connection.is_closed and channel.is_closed


def test_context_manager_passes_the_error_on(parameters):
    with pytest.raises(ZeroDivisionError):
        with pika.BlockingConnection(parameters()) as connection:
            connection.channel()
            raise ZeroDivisionError
    assert connection.is_closed


def test_url_parameters(port):
    for url in (f"amqp://guest:guest@127.0.0.1:{port}/%2f", f"amqp://127.0.0.1:{port}",
                f"amqp://guest:guest@localhost:{port}/%2F?heartbeat=10&channel_max=3&frame_max=10000"):
        pika.BlockingConnection(pika.URLParameters(url)).close()


def test_the_first_of_several_addresses_that_answers_is_taken(parameters):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = parameters(port=closed.getsockname()[1])
        connection = pika.BlockingConnection([nowhere, parameters()])
    assert connection.is_open
    connection.close()


def test_wrong_password_is_told(parameters):
    with pytest.raises(ex.ProbableAuthenticationError) as caught:
        pika.BlockingConnection(parameters(credentials=pika.PlainCredentials("guest", "wrong")))
    assert "403" in str(caught.value) and "ACCESS_REFUSED" in str(caught.value)


def test_unknown_virtual_host_is_told(parameters):
    with pytest.raises((ex.ConnectionClosedByBroker, ex.ProbableAccessDeniedError)) as caught:
        pika.BlockingConnection(parameters(virtual_host="nowhere"))
    assert "530" in str(caught.value) and "NOT_ALLOWED - vhost nowhere not found" in str(caught.value)


@pytest.mark.parametrize("asked, got", [(10, 10), (1, 1), (0, 0)])
def test_heartbeat_is_what_the_client_asks_for(connect, asked, got):
    assert connect(heartbeat=asked)._impl.params.heartbeat == got


def test_heartbeat_is_the_brokers_when_the_client_does_not_care(connect):
    assert connect()._impl.params.heartbeat == 60


def test_the_client_may_choose_the_heartbeat_that_the_broker_offers(connect):
    offered = []

    def choose(connection, broker):
        offered.append(broker)
        return 7

    assert connect(heartbeat=choose)._impl.params.heartbeat == 7
    assert offered == [60]


def test_tuning(connect):
    plain = connect()._impl.params
    assert (plain.channel_max, plain.frame_max) == (2047, 131072)
    small = connect(channel_max=5, frame_max=4096)._impl.params
    assert (small.channel_max, small.frame_max) == (5, 4096)


def test_more_channels_than_agreed_on(connect):
    connection = connect(channel_max=5)
    assert [connection.channel().channel_number for _ in range(5)] == [1, 2, 3, 4, 5]
    with pytest.raises(ex.NoFreeChannels):
        connection.channel()


def test_channel_numbers_are_used_again(connect):
    connection = connect()
    connection.channel()
    second = connection.channel()
    second.close()
    assert connection.channel().channel_number == 2


def test_a_chosen_channel_number(connect):
    assert connect().channel(channel_number=2047).channel_number == 2047


def test_server_properties(connect):
    said = connect()._impl.server_properties
    assert said["product"] == "RabbitMQ"
    able = said["capabilities"]
    for capability in ("publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
                       "connection.blocked", "consumer_priorities", "authentication_failure_close", "per_consumer_qos",
                       "direct_reply_to"):
        assert able[capability] is True, capability


def test_capabilities_as_the_client_sees_them(connect):
    connection = connect()
    assert connection.basic_nack_supported and connection.consumer_cancel_notify_supported
    assert connection.exchange_exchange_bindings_supported and connection.publisher_confirms_supported


def test_silence_ends_with_the_clients_own_timeout(connect):
    """A heartbeat of one second, and a client that does not read: the broker must close, not wait for ever."""
    connection = connect(heartbeat=1)
    connection.channel()
    raw = connection._impl._transport._sock
    raw.settimeout(10)
    began = time.monotonic()
    with contextlib.suppress(ConnectionResetError):
        while raw.recv(65536):
            pass
    assert time.monotonic() - began < 8
    with pytest.raises(ex.AMQPConnectionError):
        connection.process_data_events()


def test_heartbeats_keep_an_idle_connection(connect):
    connection = connect(heartbeat=1)
    channel = connection.channel()
    end = time.monotonic() + 4
    while time.monotonic() < end:
        connection.process_data_events(time_limit=0.5)
    assert channel.is_open
    channel.queue_declare("", exclusive=True)


def test_a_lost_socket_is_noticed(connect):
    connection = connect()
    channel = connection.channel()
    connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ex.AMQPConnectionError):
        channel.queue_declare("", exclusive=True)
    assert connection.is_closed


def test_many_connections_one_after_the_other(parameters):
    for _ in range(50):
        pika.BlockingConnection(parameters()).close()


def test_a_connection_cut_in_the_handshake_hurts_nobody(port, connect):
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.sendall(b"AMQP\x00\x00\x09\x01")
        assert s.recv(4096)[:1] == b"\x01"
    assert connect().is_open


def test_another_protocol_gets_the_brokers_header(port):
    for hello in (b"AMQP\x03\x01\x00\x00", b"GET / HT"):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
            s.sendall(hello)
            assert s.recv(64) == b"AMQP\x00\x00\x09\x01", hello


def test_calls_from_another_thread(connect, name):
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(name, exclusive=True)
    calls = []

    def other():
        for i in range(10):
            connection.add_callback_threadsafe(
                lambda i=i: (channel.basic_publish("", name, b"%d" % i), calls.append(i)))

    thread = threading.Thread(target=other)
    thread.start()
    while len(calls) < 10:
        connection.process_data_events(time_limit=1)
    thread.join()
    assert [channel.basic_get(name, auto_ack=True)[2] for _ in range(10)] == [b"%d" % i for i in range(10)]


def test_timers_come_in_order(connect):
    connection, fired = connect(), []
    connection.call_later(0.05, lambda: fired.append(2))
    connection.call_later(0.01, lambda: fired.append(1))
    gone = connection.call_later(0.02, lambda: fired.append(0))
    connection.remove_timeout(gone)
    while len(fired) < 2:
        connection.process_data_events(time_limit=1)
    assert fired == [1, 2]


def test_a_closed_channel_stays_closed(channel):
    channel.close()
    with pytest.raises(ex.ChannelWrongStateError):
        channel.basic_publish("", "x", b"")


def test_a_channel_that_failed_leaves_the_others(connect):
    connection = connect()
    bad, good = connection.channel(), connection.channel()
    with pytest.raises(ex.ChannelClosedByBroker) as caught:
        bad.queue_declare("not there", passive=True)
    assert caught.value.reply_code == 404
    assert caught.value.reply_text == "NOT_FOUND - no queue 'not there' in vhost '/'"
    assert good.is_open and connection.is_open
    good.queue_declare("", exclusive=True)


def test_channel_context_manager(connect):
    with connect().channel() as channel:
        channel.queue_declare("", exclusive=True)
    assert channel.is_closed


def test_flow_is_answered(channel):
    assert channel.flow(True) is True


def test_an_unknown_method_ends_the_connection(connect):
    connection = connect()
    channel = connection.channel()
    payload = struct.pack(">HH", 60, 200)
    frame = struct.pack(">BHI", 1, channel.channel_number, len(payload)) + payload + b"\xce"
    connection._impl._transport.write(frame)
    with pytest.raises(ex.ConnectionClosedByBroker) as caught:
        channel.queue_declare("", exclusive=True)
    assert caught.value.reply_code in (501, 540)


def test_a_bad_frame_end_is_a_frame_error(connect):
    connection = connect()
    channel = connection.channel()
    connection._impl._transport.write(struct.pack(">BHI", 8, 0, 0) + b"\x00")
    with pytest.raises(ex.ConnectionClosedByBroker) as caught:
        channel.queue_declare("", exclusive=True)
    assert caught.value.reply_code == 501
