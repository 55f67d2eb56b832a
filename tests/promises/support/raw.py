# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Makes gRPC calls by hand over HTTP/2, as no client library sends them."""

from __future__ import annotations

import socket
import ssl
import tempfile
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.machines import Machine

PUSH = "/veilleuse.wire.v1.TelemetryService/Push"


class Connection:
    """One TLS connection of a machine, with several calls at once."""

    def __init__(self, machine: Machine, address: str) -> None:
        self._authority = address
        self._socket = tls(machine, address)
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        )
        self._h2.initiate_connection()
        self._settled = False
        self._waiting: dict[int, bytes] = {}
        self._answers: dict[int, dict[str, str]] = {}
        self._flush()
        while not self._settled:  # gRPC enforces its bounds on a caller once they are acknowledged
            self._receive()

    def call(self, method: str, message: bytes, *, gzip: bool = False) -> int:
        """Begin a unary call with a message, compressed already when `gzip`; return its stream."""
        stream = self._h2.get_next_available_stream_id()
        fields = {
            ":method": "POST",
            ":scheme": "https",
            ":path": method,
            ":authority": self._authority,
            "te": "trailers",
            "content-type": "application/grpc",
            **({"grpc-encoding": "gzip"} if gzip else {}),
        }
        self._h2.send_headers(stream, list(fields.items()))
        self._waiting[stream] = bytes([gzip]) + len(message).to_bytes(4, "big") + message
        self._send()
        return stream

    def answers(self) -> dict[int, dict[str, str]]:
        """Return stream → headers and trailers of its answer, once all have one; `reset`, `ended` and
        `closed` are answers too."""
        expected = set(self._waiting) | set(self._answers)
        while expected - set(self._answers):
            if not self._receive():
                return {stream: self._answers.get(stream, {"closed": "1"}) for stream in expected}
        return self._answers

    def close(self) -> None:
        self._socket.close()

    def _receive(self) -> bool:
        """Receive once; return False at the end of the connection."""
        data = self._socket.recv(65536)
        for event in self._h2.receive_data(data) if data else ():
            self._take(event)
        self._send()
        return bool(data)

    def _take(self, event: Any) -> None:
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self._settled = True
        elif isinstance(event, h2.events.ResponseReceived):
            if event.stream_ended is not None:
                self._answers[event.stream_id] = _texts(event.headers)
        elif isinstance(event, h2.events.TrailersReceived):
            self._answers[event.stream_id] = _texts(event.headers)
        elif isinstance(event, h2.events.StreamReset):
            self._answers.setdefault(event.stream_id, {"reset": str(event.error_code)})
        elif isinstance(event, h2.events.StreamEnded):
            self._answers.setdefault(event.stream_id, {"ended": "1"})

    def _send(self) -> None:
        """Send as much as flow control allows."""
        for stream, rest in list(self._waiting.items()):
            while rest and stream not in self._answers:
                size = min(
                    len(rest), self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size
                )
                if size <= 0:
                    break
                self._h2.send_data(stream, rest[:size], end_stream=size == len(rest))
                rest = rest[size:]
            self._waiting[stream] = b"" if stream in self._answers else rest
        self._flush()

    def _flush(self) -> None:
        if data := self._h2.data_to_send():
            self._socket.sendall(data)


def tls(machine: Machine, address: str) -> ssl.SSLSocket:
    """Open a TLS connection with the machine's certificate, ready for HTTP/2."""
    host, _, port = address.rpartition(":")
    plain = socket.create_connection((host, int(port)), timeout=30)
    return _context(machine).wrap_socket(plain, server_hostname=host)


def _texts(headers: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in headers or ()}


def _context(machine: Machine) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=machine.roots.decode())
    context.set_alpn_protocols(["h2"])
    context.check_hostname = False
    key = machine.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with tempfile.TemporaryDirectory() as folder:
        pair = Path(folder) / "pair.pem"
        pair.touch(mode=0o600)
        pair.write_bytes(key + machine.chain)
        context.load_cert_chain(pair)
    return context
