# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What door and collector say to each other: one question a connection, one JSON line and then some bytes each way.

Questions, by their "op":
- `open`: where shall I listen? An Opening.
- `listening` (`address`), `unavailable`: whether the door got the address. Nothing comes back but an empty head.
- `certificate` (`sha256` of the chain that is shown now): a Certificate, or an empty head when it is still the one.
- `call` (`method`, `peer`; the request's bytes): a Reply, and the answer's bytes.
- `refused` (`reasons`): how many calls the door itself refused, by reason; they are counted with all others.
"""

from __future__ import annotations

import hashlib
import json
import logging
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Final

import grpc

from veilleuse.collector.errors import CollectorError
from veilleuse.collector.ipc.unix_socket import DOOR_FILE, connect

MAX_HEAD_BYTES: Final = 64 * 1024
"""A chain of certificates and its key are some 4 KiB."""
MAX_BODY_BYTES: Final = 64 * 1024
"""A request for a certificate is 4 KiB at the most, with its facts some 10; an answer carries a chain and two roots."""

SECONDS: Final = 5.0
"""How long the door waits for what the collector answers from memory."""


class GatewayError(CollectorError):
    """The other side has gone, is too slow, or says what makes no sense."""


@dataclass(frozen=True, slots=True)
class GatewayCertificate:
    """What the door shows."""

    key_pem: str = field(repr=False)
    chain_pem: str

    @property
    def sha256(self) -> str:
        """Of the chain, 64 hexadecimal digits."""
        return hashlib.sha256(self.chain_pem.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class GatewaySetup:
    """What the door needs to begin."""

    address: str
    """host:port; the port may be 0."""
    methods: tuple[str, ...]
    """The calls there are, as `/package.Service/Method`."""
    certificate: GatewayCertificate
    folder: str
    """Something in it changes whenever another certificate may have to be shown; the door reads nothing there."""


@dataclass(frozen=True, slots=True)
class Reply:
    """How a call ends."""

    code: str
    """Name of a gRPC status."""
    details: str = ""
    trailing: tuple[tuple[str, str], ...] = ()
    """Trailing metadata."""


def encode(head: Mapping[str, object], body: bytes = b"") -> bytes:
    """A message."""
    return json.dumps({**head, "body_bytes": len(body)}).encode() + b"\n" + body


def decode(reading: BufferedIOBase) -> tuple[dict[str, Any], bytes]:
    """The next message: head and body. Raises Unanswered when there is none, or none that makes sense."""
    try:
        line = reading.readline(MAX_HEAD_BYTES + 1)
        head = json.loads(line)
        length = int(head.pop("body_bytes"))
        if not 0 <= length <= MAX_BODY_BYTES:
            raise ValueError("too long")
        body = reading.read(length)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise GatewayError("no message") from error
    if len(body) != length:
        raise GatewayError("a message that was cut")
    return head, body


def ask(
    data_dir: Path, head: Mapping[str, object], body: bytes = b"", *, seconds: float
) -> tuple[dict[str, Any], bytes]:
    """What the collector answers within so many seconds of silence. Raises Unanswered."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(seconds)
            connect(connection, data_dir, DOOR_FILE)
            connection.sendall(encode(head, body))
            with connection.makefile("rb") as reading:
                return decode(reading)
    except OSError as error:
        raise GatewayError(f"cannot ask the collector on {data_dir}: {error.strerror or error}") from error


def reasons_from(head: Mapping[str, Any]) -> dict[str, int]:
    """Raises Unanswered."""
    try:
        return {str(reason): int(count) for reason, count in head["reasons"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise GatewayError("the door makes no sense") from error


def opening_from(head: Mapping[str, Any]) -> GatewaySetup:
    """Raises Unanswered."""
    try:
        certificate = certificate_from(head["certificate"])
        methods = tuple(map(str, head["methods"]))
        return GatewaySetup(str(head["address"]), methods, certificate, str(head["folder"]))
    except (KeyError, TypeError) as error:
        raise GatewayError("the collector's answer makes no sense") from error


def certificate_from(head: Mapping[str, Any]) -> GatewayCertificate:
    """Raises Unanswered."""
    try:
        return GatewayCertificate(str(head["key_pem"]), str(head["chain_pem"]))
    except (KeyError, TypeError) as error:
        raise GatewayError("the collector's answer makes no sense") from error


def reply_from(head: Mapping[str, Any]) -> Reply:
    """Raises Unanswered."""
    try:
        trailing = tuple((str(key), str(value)) for key, value in head["trailing"])
        return Reply(str(head["code"]), str(head["details"]), trailing)
    except (KeyError, TypeError, ValueError) as error:
        raise GatewayError("the collector's answer makes no sense") from error


def as_head(said: GatewayCertificate | GatewaySetup | Reply) -> dict[str, object]:
    """The other way round."""
    return asdict(said)


log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2.0
"""What was missed in between is seen so long afterwards."""
PATIENCE_SECONDS: Final = 1.0
"""A handshake in so many seconds waits for the answer; it goes on with what there is."""


class CertificateSource:
    """Asked by gRPC at each handshake, from any thread."""

    def __init__(self, opening: GatewaySetup, data_dir: Path) -> None:
        """Shows the opening's certificate at first."""
        self._certificate = opening.certificate
        self._folder = Path(opening.folder)
        self._changed = self._last_change()
        self._data_dir = data_dir
        self._looked = time.monotonic()
        self._lock = threading.Lock()

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """The certificate as gRPC wants it; nothing is asked of those who call."""
        pair = (self._certificate.key_pem.encode(), self._certificate.chain_pem.encode())
        return grpc.ssl_server_certificate_configuration([pair])

    def renewed(self) -> Any:
        """A new one, or None to keep the present one. Only one handshake waits for the answer, the others go on."""
        changed = self._last_change()
        recent = changed == self._changed and time.monotonic() - self._looked < LOOK_SECONDS
        if recent or not self._lock.acquire(blocking=False):
            return None
        try:
            return self._look()
        finally:
            self._changed, self._looked = changed, time.monotonic()
            self._lock.release()

    def _last_change(self) -> int:
        """Of the authority's folder; 0 when it cannot be told."""
        try:
            return self._folder.stat().st_mtime_ns
        except OSError:
            return 0

    def _look(self) -> grpc.ServerCertificateConfiguration | None:
        question = {"op": "certificate", "sha256": self._certificate.sha256}
        try:
            head, _ = ask(self._data_dir, question, seconds=PATIENCE_SECONDS)
            if not head:
                return None
            self._certificate = certificate_from(head)
        except GatewayError as error:
            log.warning("certificate not asked for", extra={"error": str(error)})
            return None
        return self.configuration()
