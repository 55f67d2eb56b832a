# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The two gRPC servers: :8641 with client certificates, :8642 without. Their bounds: PROMISES.md §2.3."""

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

from veilleuse.collector.enrolment.authority import Authority, ServerIdentity
from veilleuse.collector.errors import AddressUnavailable, CollectorError
from veilleuse.wire.limits import MAX_MESSAGE_BYTES, MAX_METADATA_BYTES, MAX_PUSH_BYTES

log = logging.getLogger(__name__)

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
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a share of the calls
)
TELEMETRY_MESSAGE_BYTES: Final = MAX_PUSH_BYTES + 16 * 1024
"""The largest push there can be, its framing included: half of what PROMISES.md §2.3 allows, so that 100 callers at once make us
hold half as much (S8)."""
ENROLMENT_WORKERS: Final = 4
ENROLMENT_CALLS: Final = 256
"""At work or waiting for a worker; anybody may call that port. gRPC itself refuses the next one, with RESOURCE_EXHAUSTED."""
ENROLMENT_MESSAGE_BYTES: Final = 64 * 1024
"""A request for a certificate is 4 KiB at the most, with its facts some 10."""
CERTIFICATE_CHECK_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Listener:
    """A server that listens, not yet started."""

    server: grpc.Server
    address: str
    """host:port, with the port that was got."""


def listen(
    address: str,
    setting_name: str,
    authority: Authority,
    *,
    workers: int,
    client_certificates: bool,
    message_bytes: int = TELEMETRY_MESSAGE_BYTES,
    calls_at_once: int | None = None,
    interceptors: Sequence[grpc.ServerInterceptor] = (),
) -> Listener:
    """Bind a server. `message_bytes`: of a request, decompressed. Raises AddressUnavailable with the setting to change."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix=setting_name)
    server = grpc.server(
        pool,
        interceptors=list(interceptors),
        options=(*OPTIONS, ("grpc.max_receive_message_length", message_bytes)),
        maximum_concurrent_rpcs=calls_at_once,
    )
    try:
        port = server.add_secure_port(
            address, _credentials(authority, client_certificates=client_certificates)
        )
    except RuntimeError as error:
        raise _unavailable(address, setting_name) from error
    if port == 0:
        raise _unavailable(address, setting_name)
    host = address.rpartition(":")[0]
    return Listener(server, f"{host}:{port}")


def require_free(address: str, setting_name: str) -> None:
    """Raises AddressUnavailable when a child of ours could not listen on this host:port."""
    host, _, port = address.rpartition(":")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except (OSError, ValueError, OverflowError) as error:
        raise _unavailable(address, setting_name) from error


def _unavailable(address: str, setting_name: str) -> AddressUnavailable:
    return AddressUnavailable(
        f"cannot listen on {address} (in use, or not an address of this machine): stop what uses it, or set {setting_name}"
    )


def _credentials(authority: Authority, *, client_certificates: bool) -> grpc.ServerCredentials:
    """Asks the authority for its certificate again now and then, so that a long-lived process never shows an old one."""
    source = _ServerCertificate(authority)
    return grpc.dynamic_ssl_server_credentials(
        source.configuration(), source.renewed, require_client_authentication=client_certificates
    )


class _ServerCertificate:
    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._holdings = authority.holdings
        self._identity = authority.server_identity()
        self._checked = time.monotonic()
        self._lock = threading.Lock()

    def configuration(self) -> Any:
        """As gRPC wants it; the roots are what client certificates must hang on."""
        identity: ServerIdentity = self._identity
        pair = (identity.key_pem, identity.chain_pem)
        return grpc.ssl_server_certificate_configuration([pair], identity.roots_pem)

    def renewed(self) -> Any:
        """A new configuration, or None to keep the present one. Called by gRPC at each handshake, from any thread.

        A step of a rotation is noticed at the next handshake; the end of the certificate is looked at once an hour.
        """
        with self._lock:
            rotated = self._authority.holdings is not self._holdings
            if not rotated and time.monotonic() - self._checked < CERTIFICATE_CHECK_SECONDS:
                return None
            self._checked = time.monotonic()
            self._holdings = self._authority.holdings
            try:
                identity = self._authority.server_identity()
            except (
                CollectorError
            ) as error:  # the present one is good for weeks yet; raising would break the handshake
                log.warning("server certificate not renewed", extra={"error": str(error)})
                return None
            if identity == self._identity:
                return None
            self._identity = identity
            return self.configuration()
