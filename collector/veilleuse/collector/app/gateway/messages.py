# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Messages between gateway and collector: one question per connection, a JSON line and bytes each way.

Questions, by their "op":

- `open`: asks for the setup; answered by a GatewaySetup.
- `listening` (`address`), `unavailable`: reports whether the address is bound; answered by an empty head.
- `certificate` (`sha256` of the present chain): answered by a GatewayCertificate, or an empty head if
  unchanged.
- `call` (`method`, `peer`, and the bytes of the request): answered by a Reply and the bytes of the answer.
- `refused` (`reasons`): number of calls rejected by the gateway, by reason; the collector counts them with
  the others.
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
from veilleuse.collector.ipc import GATEWAY_FILE, connect

MAX_HEAD_BYTES: Final = 64 * 1024
"""A chain of certificates and its key are some 4 KiB."""
MAX_BODY_BYTES: Final = 64 * 1024
"""A certificate request has at most 4 KiB, with facts some 10; an answer has a chain and two roots."""

SECONDS: Final = 5.0
"""Longest wait of the gateway for answers from the collector's memory."""


class GatewayError(CollectorError):
    """The other side is gone, is too slow, or sends an invalid message."""


@dataclass(frozen=True, slots=True)
class GatewayCertificate:
    """Certificate that the gateway shows."""

    key_pem: str = field(repr=False)
    chain_pem: str

    @property
    def sha256(self) -> str:
        """SHA-256 of the chain, 64 hexadecimal digits."""
        return hashlib.sha256(self.chain_pem.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class GatewaySetup:
    """Data that the gateway needs to start."""

    address: str
    """host:port; the port may be 0."""
    methods: tuple[str, ...]
    """Names of the calls, as `/package.Service/Method`."""
    certificate: GatewayCertificate
    folder: str
    """Folder that changes whenever another certificate may have to be shown.

    The gateway reads nothing in it.
    """


@dataclass(frozen=True, slots=True)
class Reply:
    """End of a call."""

    code: str
    """Name of a gRPC status."""
    details: str = ""
    trailing: tuple[tuple[str, str], ...] = ()
    """Trailing metadata."""


def encode(head: Mapping[str, object], body: bytes = b"") -> bytes:
    """Encode a message."""
    return json.dumps({**head, "body_bytes": len(body)}).encode() + b"\n" + body


def decode(reading: BufferedIOBase) -> tuple[dict[str, Any], bytes]:
    """Read the next message: head and body. Raises GatewayError when it is absent or invalid."""
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
    """Ask the collector, which may be silent for at most `seconds`. Raises GatewayError."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(seconds)
            connect(connection, data_dir, GATEWAY_FILE)
            connection.sendall(encode(head, body))
            with connection.makefile("rb") as reading:
                return decode(reading)
    except OSError as error:
        raise GatewayError(f"cannot ask the collector on {data_dir}: {error.strerror or error}") from error


def reasons_from(head: Mapping[str, Any]) -> dict[str, int]:
    """Parse the reasons of rejections. Raises GatewayError."""
    try:
        return {str(reason): int(count) for reason, count in head["reasons"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise GatewayError("the message of the gateway is not valid") from error


def setup_from(head: Mapping[str, Any]) -> GatewaySetup:
    """Parse a setup. Raises GatewayError."""
    try:
        certificate = certificate_from(head["certificate"])
        methods = tuple(map(str, head["methods"]))
        return GatewaySetup(str(head["address"]), methods, certificate, str(head["folder"]))
    except (KeyError, TypeError) as error:
        raise GatewayError("the collector's answer makes no sense") from error


def certificate_from(head: Mapping[str, Any]) -> GatewayCertificate:
    """Parse a certificate. Raises GatewayError."""
    try:
        return GatewayCertificate(str(head["key_pem"]), str(head["chain_pem"]))
    except (KeyError, TypeError) as error:
        raise GatewayError("the collector's answer makes no sense") from error


def reply_from(head: Mapping[str, Any]) -> Reply:
    """Parse a reply. Raises GatewayError."""
    try:
        trailing = tuple((str(key), str(value)) for key, value in head["trailing"])
        return Reply(str(head["code"]), str(head["details"]), trailing)
    except (KeyError, TypeError, ValueError) as error:
        raise GatewayError("the collector's answer makes no sense") from error


def as_head(said: GatewayCertificate | GatewaySetup | Reply) -> dict[str, object]:
    """Return the fields of a message head."""
    return asdict(said)


log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 2.0
"""Longest delay before a change that the folder did not show is noticed."""
PATIENCE_SECONDS: Final = 1.0
"""Longest wait of a handshake for the answer; it then continues with the present certificate."""


class CertificateSource:
    """Certificate of the gateway; gRPC asks for it at each handshake, from any thread."""

    def __init__(self, setup: GatewaySetup, data_dir: Path) -> None:
        """Start with the certificate of the setup."""
        self._certificate = setup.certificate
        self._folder = Path(setup.folder)
        self._changed = self._last_change()
        self._data_dir = data_dir
        self._asked_at = time.monotonic()
        self._lock = threading.Lock()

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """Return the certificate in gRPC's form; callers need no certificate."""
        pair = (self._certificate.key_pem.encode(), self._certificate.chain_pem.encode())
        return grpc.ssl_server_certificate_configuration([pair])

    def renew_certificate(self) -> Any:
        """Return a new certificate, or None to keep the present one. One handshake waits for the answer."""
        changed = self._last_change()
        recent = changed == self._changed and time.monotonic() - self._asked_at < CHECK_SECONDS
        if recent or not self._lock.acquire(blocking=False):
            return None
        try:
            return self._ask_collector()
        finally:
            self._changed, self._asked_at = changed, time.monotonic()
            self._lock.release()

    def _last_change(self) -> int:
        """Return the time of the last change of the authority's folder; 0 when unknown."""
        try:
            return self._folder.stat().st_mtime_ns
        except OSError:
            return 0

    def _ask_collector(self) -> grpc.ServerCertificateConfiguration | None:
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
