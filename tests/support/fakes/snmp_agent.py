# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Fake an SNMP v2c agent that does what snmpsim cannot: lie, send garbled answers, answer for other OIDs."""

from __future__ import annotations

import contextlib
import importlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

Value = int | str | tuple[str, int] | None
"""An Integer32, an OctetString, (another type of SMIv2, its value), or None: noSuchInstance."""


class FakeAgent:
    """Answers GET on a free port of 127.0.0.1, for any community."""

    def __init__(self, values: dict[str, Value]) -> None:
        api: Any = importlib.import_module("pysnmp.proto.api")
        self._version: Any = api.PROTOCOL_MODULES[api.SNMP_VERSION_2C]
        self._decoder: Any = importlib.import_module("pyasn1.codec.ber.decoder")
        self._encoder: Any = importlib.import_module("pyasn1.codec.ber.encoder")
        self.values = values
        self.asked: list[list[str]] = []
        self.garble: Callable[[bytes], bytes | None] = lambda response: response
        """Changes a response before it is sent; None: it is lost."""
        self.rename: Callable[[str], str] = lambda oid: oid
        self.status = 0
        self.port = 0
        self._socket: socket.socket | None = None
        self.listen()

    @property
    def address(self) -> str:
        """The agent's address as host:port."""
        return f"127.0.0.1:{self.port}"

    def listen(self) -> None:
        """Answer correctly from now on, at the same address."""
        self.garble, self.rename, self.status = (lambda response: response), (lambda oid: oid), 0
        if self._socket is None:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind(("127.0.0.1", self.port))
            self._socket.settimeout(0.02)
            self.port = self._socket.getsockname()[1]
            threading.Thread(target=self._serve, args=(self._socket,), daemon=True).start()

    def refuse(self) -> None:
        """Close the socket: nothing listens at the address any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def hang(self) -> None:
        """Receive every request and answer none from now on."""
        self.garble = lambda _: None

    def _serve(self, mine: socket.socket) -> None:
        while self._socket is mine:
            with contextlib.suppress(OSError):
                question, who = mine.recvfrom(65_535)
                answer = self.garble(self._response(question))
                if answer is not None:
                    mine.sendto(answer, who)

    def _response(self, question: bytes) -> bytes:
        version = self._version
        message, _ = self._decoder.decode(question, asn1Spec=version.Message())
        response = version.apiMessage.get_response(message)
        request = version.apiMessage.get_pdu(message)
        pdu = version.apiMessage.get_pdu(response)
        oids = [str(oid) for oid, _ in version.apiPDU.get_varbinds(request)]
        self.asked.append(oids)
        told = [(self.rename(oid), self._value(oid)) for oid in oids]
        version.apiPDU.set_varbinds(
            pdu, [(version.ObjectIdentifier(oid), value) for oid, value in told if oid]
        )
        version.apiPDU.set_error_status(pdu, self.status)
        encoded: bytes = self._encoder.encode(response)
        return encoded

    def _value(self, oid: str) -> Any:
        match self.values.get(oid):
            case None:
                return self._version.NoSuchInstance("")
            case (str() as kind, int() as number):
                return getattr(self._version, kind)(number)
            case str() as text:
                return self._version.OctetString(text)
            case number:
                return self._version.Integer32(number)


@contextlib.contextmanager
def fake_agent(values: dict[str, Value]) -> Iterator[FakeAgent]:
    """Run an agent while the block runs."""
    agent = FakeAgent(values)
    try:
        yield agent
    finally:
        agent.refuse()
