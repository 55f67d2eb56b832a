# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Makes gRPC calls over HTTP/2 and mutual TLS at a tenth of grpcio's cost, to overload a collector.
One call at a time on a connection. Header tables are off on both sides: equal headers are equal bytes,
encoded and decoded once.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from hpack import Decoder, Encoder, NeverIndexedHeaderTuple

from tests.promises.support.load import SERVICE, Identity

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
CANCEL: Final = 8
FRAME_BYTES: Final = 16_384
WINDOW_BYTES: Final = 65_535
"""Window of each stream and of the connection, until the peer changes it. Source: RFC 9113 §6.9.2."""
TIMEOUT: Final = "15S"


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a call."""

    status: int
    """A gRPC status code; -1 when the connection was closed or the stream reset."""
    reason: str
    wait_seconds: float
    """Delay in the answer; 0 when there was none."""
    message: bytes


LOST: Final = Answer(-1, "connection lost", 0.0, b"")


class Contexts:
    """TLS of one collector, for any number of identities."""

    def __init__(self, roots_pem: str) -> None:
        self._roots = roots_pem

    def __call__(self, identity: Identity) -> ssl.SSLContext:
        """Return a context with the identity's certificate."""
        context = ssl.create_default_context(cadata=self._roots)
        context.set_alpn_protocols(["h2"])
        context.check_hostname = False
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as pair:  # mode 0600
            pair.write(identity.key_pem + identity.chain_pem)
            pair.flush()
            context.load_cert_chain(Path(pair.name))
        return context


class Line:
    """A connection. After `call`, use `receive` whenever it is readable until it returns the answer."""

    _blocks: ClassVar[dict[tuple[str, str], bytes]] = {}
    _heard: ClassVar[dict[bytes, dict[str, str]]] = {}

    def __init__(self, context: ssl.SSLContext, address: str) -> None:
        """Connect. Raises OSError."""
        host, _, port = address.rpartition(":")
        plain = socket.create_connection((host, int(port)), timeout=30)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain, server_hostname=host)
        self._address = address
        self._decoder = Decoder()
        self._in, self._out = bytearray(), bytearray()
        self._stream = -1
        self._rest = b""
        self._windows = [WINDOW_BYTES, WINDOW_BYTES]
        """Windows of the connection and of the stream."""
        self._stream_window = WINDOW_BYTES
        self._fields: dict[str, str] = {}
        self._body = bytearray()
        settings = struct.pack(">HIHI", 1, 0, 2, 0)  # no header table, no server push
        self._out += b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(SETTINGS, 0, 0, settings)
        self._out += _frame(WINDOW, 0, 0, struct.pack(">I", 2**30))
        self.socket.setblocking(False)
        self._flush()

    def call(self, method: str, message: bytes) -> None:
        """Begin a call."""
        self._stream += 2
        self._fields, self._body = {}, bytearray()
        self._windows[1] = self._stream_window
        self._out += _frame(HEADERS, END_HEADERS, self._stream, self._block(method))
        self._rest = b"\0" + len(message).to_bytes(4, "big") + message
        self._send()

    def ask(self, method: str, message: bytes, seconds: float) -> Answer:
        """Make a call and wait for the answer; return LOST when there is none in so many seconds."""
        until = time.monotonic() + seconds
        self.call(method, message)
        while (left := until - time.monotonic()) > 0:
            if not self.socket.pending():
                select.select([self.socket], [self.socket] if self._out else [], [], left)
            if (answer := self.receive()) is not None:
                return answer
        return LOST

    def cancel(self) -> None:
        """Cancel the call."""
        self._rest = b""
        self._out += _frame(RESET, 0, self._stream, struct.pack(">I", CANCEL))
        self._flush()

    def receive(self) -> Answer | None:
        """Return the answer once it is complete; None while the call goes on."""
        try:
            while data := self.socket.recv(65_536):
                self._in += data
            lost = True
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            lost = False
        except OSError:
            lost = True
        answer = None
        while len(self._in) >= 9:
            length = int.from_bytes(self._in[:3], "big")
            if len(self._in) < 9 + length:
                break
            kind, flags = self._in[3], self._in[4]
            stream = int.from_bytes(self._in[5:9], "big")
            payload = bytes(self._in[9 : 9 + length])
            del self._in[: 9 + length]
            answer = self._take(kind, flags, stream, payload) or answer
        self._send()
        return answer or (LOST if lost else None)

    def close(self) -> None:
        self.socket.close()

    # --- frames

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> Answer | None:
        if kind == HEADERS:
            fields = self._decoded(payload)  # of any stream: the decoder must see all headers
            if stream == self._stream:
                self._fields.update(fields)
        elif kind == DATA and stream == self._stream:
            self._body += payload
        elif kind == WINDOW and stream in (0, self._stream):
            self._windows[stream != 0] += int.from_bytes(payload, "big")
        elif kind == SETTINGS and not flags & ACK:
            self._settings(payload)
        elif kind == PING and not flags & ACK:
            self._out += _frame(PING, ACK, 0, payload)
        elif kind == GOAWAY or (
            kind == RESET and stream == self._stream and "grpc-status" not in self._fields
        ):
            return LOST
        if kind in (HEADERS, DATA) and flags & END_STREAM and stream == self._stream:
            return self._answer()
        return None

    def _answer(self) -> Answer:
        told = self._fields
        self._rest = b""
        wait = int(told.get("retry-after-milliseconds", 0)) / 1000
        return Answer(
            int(told.get("grpc-status", -1)), told.get("veilleuse-reason", ""), wait, bytes(self._body[5:])
        )

    def _settings(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            name, value = struct.unpack_from(">HI", payload, at)
            if name == 4:
                self._windows[1] += value - self._stream_window
                self._stream_window = value
        self._out += _frame(SETTINGS, ACK, 0, b"")

    def _send(self) -> None:
        """Send as much of the message as flow control allows."""
        while self._rest:
            size = min(len(self._rest), FRAME_BYTES, *self._windows)
            if size <= 0:
                break
            piece, self._rest = self._rest[:size], self._rest[size:]
            self._windows = [window - size for window in self._windows]
            self._out += _frame(DATA, 0 if self._rest else END_STREAM, self._stream, piece)
        self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                del self._out[: self.socket.send(self._out)]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            # The rest is sent after the next event: requests are small beside the socket's buffer.
            pass
        except OSError:
            pass  # `receive` returns LOST

    def _block(self, method: str) -> bytes:
        known = self._blocks.get((method, self._address))
        if known is None:
            fields = {
                ":method": "POST",
                ":scheme": "https",
                ":path": SERVICE + method,
                ":authority": self._address,
                "te": "trailers",
                "content-type": "application/grpc",
                "grpc-timeout": TIMEOUT,
            }
            known = Encoder().encode([NeverIndexedHeaderTuple(*field) for field in fields.items()])
            self._blocks[method, self._address] = known
        return known

    def _decoded(self, block: bytes) -> dict[str, str]:
        known = self._heard.get(block)
        if known is None:
            known = {str(name): str(value) for name, value in self._decoder.decode(block)}
            if not self._decoder.header_table.dynamic_entries and len(self._heard) < 10_000:
                self._heard[block] = known
        return known


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
