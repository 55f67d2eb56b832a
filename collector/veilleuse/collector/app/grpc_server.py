# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The gRPC server of :8641, with client certificates. veilleuse.collector.app.gateway serves :8642."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import grpc

from veilleuse.collector.enrolment.ca import Authority, ServerIdentity
from veilleuse.collector.errors import AddressUnavailable, CollectorError
from veilleuse.wire.limits import MAX_MESSAGE_BYTES, MAX_METADATA_BYTES, MAX_PUSH_BYTES

CHECK_SECONDS: Final = 3600.0


class ServerCertificate:
    """Certificate shown on :8641, and by the gateway on :8642; renewed near its end. Thread-safe."""

    def __init__(self, authority: Authority) -> None:
        """Load the certificate. Raises DataDirectoryError."""
        self._authority = authority
        self._keys = authority.keys
        self._identity = authority.server_identity()
        self._checked = time.monotonic()
        self._lock = threading.Lock()

    def present(self) -> ServerIdentity:
        """Return the present certificate.

        A rotation is noticed at once, the end of the certificate within the hour.
        """
        with self._lock:
            rotated = self._authority.keys is not self._keys
            if rotated or time.monotonic() - self._checked >= CHECK_SECONDS:
                self._checked = time.monotonic()
                self._keys = self._authority.keys
                try:
                    self._identity = self._authority.server_identity()
                except CollectorError as error:  # the present one is still valid for weeks
                    log.warning("server certificate not renewed", extra={"error": str(error)})
            return self._identity


OPTIONS: Final[Sequence[tuple[str, int]]] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.max_concurrent_streams", 4),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.max_connection_idle_ms", 5 * 60_000),
    ("grpc.max_connection_age_ms", 60 * 60_000),
    ("grpc.max_connection_age_grace_ms", 5 * 60_000),
    ("grpc.http2.max_ping_strikes", 2),
    ("grpc.so_reuseport", 0),  # a port in use is an error; calls are not shared
)
GRACE_SECONDS: Final = 1.5
"""Time for calls in progress to end at a stop; the whole stop takes less than 5 s."""


TELEMETRY_MESSAGE_BYTES: Final = MAX_PUSH_BYTES + 16 * 1024
"""Largest possible push with its framing.

It is half of MAX_MESSAGE_BYTES, so that 100 callers at once make us hold half as much (S8).
"""
MOST_PENDING: Final = 3_000
"""Largest number of calls that Python has not taken yet; further calls are cancelled, as each takes memory.

gRPC's default is 1,000. A fleet calling at one moment was then partly cancelled, without a wait to respect.
"""


@dataclass(frozen=True, slots=True)
class Listener:
    """A server that listens, not yet started."""

    server: grpc.Server
    address: str
    """host:port, with the assigned port."""


def listen(address: str, setting_name: str, certificate: ServerCertificate) -> Listener:
    """Bind :8641 for callers with a certificate of ours. Raises AddressUnavailable that names the setting."""
    require_free(address, setting_name)  # gRPC would print its own line as well
    server = grpc.server(
        ThreadPoolExecutor(1),  # unused: each method has its own (veilleuse.collector.ingest.call_queue)
        options=(
            *OPTIONS,
            ("grpc.max_receive_message_length", TELEMETRY_MESSAGE_BYTES),
            ("grpc.server.max_pending_requests", MOST_PENDING),
            ("grpc.server.max_pending_requests_hard_limit", MOST_PENDING),
        ),
    )
    shown = _CertificateSource(certificate)
    credentials = grpc.dynamic_ssl_server_credentials(
        shown.configuration(), shown.renew_certificate, require_client_authentication=True
    )
    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise unavailable(address, setting_name) from error
    if port == 0:
        raise unavailable(address, setting_name)
    host = address.rpartition(":")[0]
    return Listener(server, f"{host}:{port}")


def require_free(address: str, setting_name: str) -> None:
    """Raise AddressUnavailable when this host:port cannot be listened on."""
    host, _, port = address.rpartition(":")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except (OSError, ValueError, OverflowError) as error:
        raise unavailable(address, setting_name) from error


def unavailable(address: str, setting_name: str) -> AddressUnavailable:
    """Return the error for an address that cannot be listened on."""
    return AddressUnavailable(
        f"cannot listen on {address} (in use, or not an address of this machine): stop what uses it, or set "
        f"{setting_name}"
    )


class _CertificateSource:
    """Certificate that gRPC asks for again at each handshake."""

    def __init__(self, certificate: ServerCertificate) -> None:
        self._certificate = certificate
        self._identity = certificate.present()

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """Return the certificate in gRPC's form; client certificates must chain to its roots."""
        pair = (self._identity.key_pem, self._identity.chain_pem)
        return grpc.ssl_server_certificate_configuration([pair], self._identity.roots_pem)

    def renew_certificate(self) -> Any:
        """Return a new certificate, or None to keep the present one. Called from any thread."""
        present = self._certificate.present()
        if present == self._identity:
            return None
        self._identity = present
        return self.configuration()


log = logging.getLogger(__name__)
