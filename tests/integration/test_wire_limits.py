# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the limits of docs/wire.md §3 on the wire. S9 tests handshakes, S8 decompression and metadata."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from hyperframe.frame import Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame

from tests.promises.support.raw import PUSH, Connection, tls
from tests.support.machines import Machine, Served, served, settings_in
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.collector.app import grpc_server
from veilleuse.collector.app.grpc_server import OPTIONS
from veilleuse.wire.limits import MAX_PUSH_BYTES

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
TOO_MANY_PINGS = b"too_many_pings"


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Served]:
    """Give a running collector."""
    with served(settings_in(tmp_path)) as made:
        yield made


@pytest.fixture
def machine(collector: Served) -> Machine:
    """Return an enrolled machine."""
    made = Machine(collector.token())
    made.enrol()
    return made


def frames(connection: socket.socket) -> Iterator[Frame]:
    """Yield the server's frames until it closes the connection."""
    data = b""
    while more := connection.recv(65536):
        data += more
        while len(data) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(data[:9]))
            if len(data) < 9 + length:
                break
            frame.parse_body(memoryview(data[9 : 9 + length]))
            data = data[9 + length :]
            yield frame


def test_a_fifth_stream_is_turned_away(machine):
    """The server's settings allow four streams; of six opened streams, the last two are reset."""
    with tls(machine, machine.join["address"]) as connection:
        connection.sendall(PREFACE + SettingsFrame().serialize() + SettingsFrame(flags=["ACK"]).serialize())
        for stream in (1, 3, 5, 7, 9, 11):
            # HPACK static table: :method POST, :scheme https, :path /; enough for a stream to exist
            connection.sendall(HeadersFrame(stream, data=b"\x83\x87\x84", flags=["END_HEADERS"]).serialize())
        told, reset = set(), set()
        for frame in frames(connection):
            if isinstance(frame, SettingsFrame):
                told.add(frame.settings.get(SettingsFrame.MAX_CONCURRENT_STREAMS))
            if isinstance(frame, RstStreamFrame):
                reset.add(frame.stream_id)
            if reset >= {9, 11}:
                break
    assert 4 in told
    assert reset == {9, 11}


def test_pings_without_end_end_the_connection(machine):
    """After two strikes the connection ends, with GOAWAY too_many_pings if it can still be read."""
    with tls(machine, machine.join["address"]) as connection:
        connection.settimeout(PATIENCE_SECONDS)
        connection.sendall(PREFACE + SettingsFrame().serialize())
        said, ended = [], False

        def breaks() -> bool:
            try:
                connection.sendall(PingFrame(opaque_data=bytes(8)).serialize())
            except OSError:
                return True
            return False

        until(breaks, "a connection that pings on was let be")
        with suppress(OSError):
            said += [frame.additional_data for frame in frames(connection) if isinstance(frame, GoAwayFrame)]
            ended = True
    assert TOO_MANY_PINGS in said or not ended


def test_messages_are_bounded_before_they_are_read(collector, machine):
    """gRPC accepts a push of 512 KiB with its framing and refuses a larger message; the enrolment port
    accepts 64 KiB."""
    for message, status in (
        (b"\x22\x80\x80\x20" + bytes(MAX_PUSH_BYTES), "3"),
        (bytes(grpc_server.TELEMETRY_MESSAGE_BYTES + 1), "8"),
    ):
        connection = Connection(machine, machine.join["address"])
        call = connection.call(PUSH, message)
        assert connection.answers()[call]["grpc-status"] == status
        connection.close()
    with pytest.raises(grpc.RpcError) as caught:
        Machine(collector.token() | {"token": "x" * 65 * 1024}).enrol()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_there_is_no_reflection(machine):
    """Reflection is refused, so the server lists no method."""
    connection = Connection(machine, machine.join["address"])
    for service in ("v1", "v1alpha"):
        connection.call(f"/grpc.reflection.{service}.ServerReflection/ServerReflectionInfo", b"")
    assert {answer["grpc-status"] for answer in connection.answers().values()} == {"12"}
    connection.close()


@pytest.mark.parametrize(
    ("option", "real", "scaled", "why"),
    [
        ("grpc.max_connection_idle_ms", 300_000, 300, b"connection idle"),
        ("grpc.max_connection_age_ms", 3_600_000, 400, b"max_age"),
    ],
)
def test_connections_end(tmp_path, monkeypatch, option, real, scaled, why):
    """A connection ends after 5 min idle, or after an hour and 5 min of grace; tested with 0.3 and 0.4 s."""
    options = dict(OPTIONS)
    assert options[option] == real
    assert options["grpc.max_connection_age_grace_ms"] == 300_000
    options |= {option: scaled}
    monkeypatch.setattr(grpc_server, "OPTIONS", tuple(options.items()))
    with served(settings_in(tmp_path)) as made:
        machine = Machine(made.token())
        machine.enrol()
        with tls(machine, machine.join["address"]) as connection:
            connection.settimeout(PATIENCE_SECONDS)
            connection.sendall(
                PREFACE + SettingsFrame().serialize() + SettingsFrame(flags=["ACK"]).serialize()
            )
            goodbyes = set()
            for frame in frames(connection):
                if isinstance(frame, PingFrame) and "ACK" not in frame.flags:
                    connection.sendall(PingFrame(opaque_data=frame.opaque_data, flags=["ACK"]).serialize())
                if isinstance(frame, GoAwayFrame):
                    goodbyes.add(frame.additional_data)
            assert goodbyes == {why}


def test_the_handshake_and_the_strikes_are_as_promised():
    """The options have 5 s and 2 strikes; S9 and the test of pings show that gRPC applies them."""
    options = dict(OPTIONS)
    assert options["grpc.server_handshake_timeout_ms"] == 5_000
    assert options["grpc.http2.max_ping_strikes"] == 2
    assert options["grpc.max_concurrent_streams"] == 4
    assert options["grpc.absolute_max_metadata_size"] == 16 * 1024
