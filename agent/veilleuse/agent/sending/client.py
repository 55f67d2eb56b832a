# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Channels to the collector, its six calls, and the meaning of a failed call. Only this module uses grpc."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import grpc

from veilleuse.agent.errors import (
    AddressAway,
    AgentError,
    CertificateNotValid,
    CollectorAway,
    ConnectionClosed,
    IdentityConflict,
    IdentityError,
    RequestRefused,
)
from veilleuse.agent.identity.store import Identity
from veilleuse.agent.sending.routes import Route, explain_proxy_answer
from veilleuse.wire import metadata
from veilleuse.wire.limits import MAX_MESSAGE_BYTES
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.v1 import telemetry_pb2_grpc as rpc

Channel: TypeAlias = grpc.Channel

RETRY_AFTER_KEYS: Final = (metadata.RETRY_AFTER, "grpc-retry-pushback-ms")
"""Trailing metadata in which a collector says when to call again."""
LONGEST_WAIT_MILLISECONDS: Final = 24 * 3_600_000
"""Upper limit of the wait that a collector can ask for."""
CONFLICTS: Final = frozenset({"identity_conflict", "superseded"})
"""Reasons that mean: another machine holds a newer certificate of this identity. docs/wire.md."""
_OTHER_CA: Final = (
    "shows a certificate of another CA than the join file's: is it the right collector, or is TLS inspected on "
    "the way? `veilleuse-agent doctor` names the issuer"
)
_NO_ANSWER: Final = "cannot be reached: no answer in time, does a firewall stop it?"
_OTHER_TIME: Final = "by this machine's clock: set the clock here or on the collector"
_CONNECTIONS: Final[tuple[tuple[str, type[AgentError], str], ...]] = (
    ("CERTIFICATE_EXPIRED", CertificateNotValid, "finds the agent's certificate expired"),
    ("certificate has expired", AddressAway, f"shows a certificate that has expired {_OTHER_TIME}"),
    ("certificate is not yet valid", AddressAway, f"shows a certificate of the future {_OTHER_TIME}"),
    ("CERTIFICATE_VERIFY_FAILED", AddressAway, _OTHER_CA),
    ("BAD_SIGNATURE", AddressAway, _OTHER_CA),
    (
        "Hostname Verification Check failed",
        AddressAway,
        (
            "shows a certificate for other names: add this one to pki.server_names there, or correct the "
            "address "
            "here"
        ),
    ),
    ("errors resolving", AddressAway, "cannot be reached: DNS has no address of its name, or of the proxy's"),
    ("handshaker shutdown", AddressAway, _NO_ANSWER),
    ("connect() timed out", AddressAway, _NO_ANSWER),
    ("WRONG_VERSION_NUMBER", AddressAway, "does not speak TLS: is the port right?"),
    (
        "Failed to create security handshaker",
        IdentityError,
        (
            "was not called: TLS cannot use the key, certificate or CA of this machine; enrol again with a "
            "new "
            "join file"
        ),
    ),
)
"""(text from BoringSSL or gRPC, error class, meaning) of failed connections; the first match counts."""
_PROXY_ANSWER: Final = re.compile(r"HTTP proxy returned response code (\d+)")
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),  # by configuration only: neither HTTPS_PROXY nor NO_PROXY counts
    ("grpc.enable_retries", 0),  # retries are our own, with full jitter
    ("grpc.use_local_subchannel_pool", 1),  # a new certificate needs a new connection
    ("grpc.dns_enable_srv_queries", 0),
)


def open_channel(route: Route, identity: Identity | None, roots_pem: bytes | None = None) -> grpc.Channel:
    """Open a channel to the address of `route`. The server's certificate must be for its host.

    Mutual TLS with an identity, else server-authenticated with `roots_pem`.
    """
    if identity is not None:
        credentials = grpc.ssl_channel_credentials(
            identity.roots_pem, identity.key_pem, identity.certificate_pem
        )
    else:
        credentials = grpc.ssl_channel_credentials(roots_pem)
    milliseconds = round(route.connect_seconds * MILLISECONDS_PER_SECOND)
    options: list[tuple[str, int | str]] = [
        *_OPTIONS,
        ("grpc.min_reconnect_backoff_ms", milliseconds),  # in spite of its name: limit of one connection
        ("grpc.dns_ares_query_timeout", milliseconds),
    ]
    if route.proxy:
        # what gRPC itself sets for HTTPS_PROXY, which it would combine with NO_PROXY
        options += [("grpc.http_connect_server", route.address), ("grpc.default_authority", route.address)]
        if route.authorization:
            options.append(("grpc.http_connect_headers", f"Proxy-Authorization:{route.authorization}"))
    return grpc.secure_channel(route.proxy or route.address, credentials, options=options)


class TelemetryCalls:
    """Implements `session.TelemetryApi` on a channel."""

    def __init__(self, channel: grpc.Channel, route: Route, deadline_seconds: float) -> None:
        self._stub: Any = rpc.TelemetryServiceStub(channel)
        self._call = _Caller(route, deadline_seconds)

    def hello(self, request: pb.HelloRequest) -> pb.HelloResponse:
        """See TelemetryApi."""
        answer: pb.HelloResponse = self._call(self._stub.Hello, request)
        return answer

    def push(self, request: pb.PushRequest) -> pb.PushResponse:
        """See TelemetryApi."""
        answer: pb.PushResponse = self._call(self._stub.Push, request)
        return answer

    def renew(self, request: pb.RenewRequest) -> pb.RenewResponse:
        """See TelemetryApi."""
        answer: pb.RenewResponse = self._call(self._stub.Renew, request)
        return answer


class EnrolmentCalls:
    """Implements `certificates.EnrolmentApi` on a channel."""

    def __init__(self, channel: grpc.Channel, route: Route, deadline_seconds: float) -> None:
        self._stub: Any = rpc.EnrolmentServiceStub(channel)
        self._call = _Caller(route, deadline_seconds)

    def enrol(self, request: pb.EnrolRequest) -> pb.EnrolResponse:
        """See EnrolmentApi."""
        answer: pb.EnrolResponse = self._call(self._stub.Enrol, request)
        return answer

    def challenge(self, request: pb.ChallengeRequest) -> pb.ChallengeResponse:
        """See EnrolmentApi."""
        answer: pb.ChallengeResponse = self._call(self._stub.Challenge, request)
        return answer

    def renew_expired(self, request: pb.RenewExpiredRequest) -> pb.RenewExpiredResponse:
        """See EnrolmentApi."""
        answer: pb.RenewExpiredResponse = self._call(self._stub.RenewExpired, request)
        return answer


class _Caller:
    """Makes one call and translates its errors."""

    def __init__(self, route: Route, deadline_seconds: float) -> None:
        self._route = route
        self._deadline_seconds = deadline_seconds

    def __call__(self, method: Any, request: object) -> Any:
        try:
            return method(request, timeout=self._deadline_seconds)
        except grpc.RpcError as error:
            raise translate(error, self._route) from error


def translate(error: Any, route: Route) -> AgentError:
    """Turn a failed call on `route` into an agent error. `error` is a grpc.RpcError and a grpc.Call."""
    code = error.code()
    details = _shorten(error.details() or "no reason given")
    who = f"the collector at {route}"
    for words, kind, meaning in _CONNECTIONS:
        if words in details:
            return kind(f"{who} {meaning}")
    wait = _requested_wait(error)
    match code:
        case grpc.StatusCode.UNAUTHENTICATED:
            return CertificateNotValid(f"{who} does not accept the agent's certificate: {details}")
        case grpc.StatusCode.PERMISSION_DENIED:
            reason = str(_trailing_metadata(error).get(metadata.REASON, ""))
            kind = IdentityConflict if reason in CONFLICTS else IdentityError
            return kind(f"refused by {who}: {details}", reason)
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.UNIMPLEMENTED:
            return RequestRefused(f"{who} cannot accept the request: {details}")
        case grpc.StatusCode.UNAVAILABLE if wait is None and "Socket closed" in details:
            return ConnectionClosed(
                f"{who} closed the connection: it stops, or does not accept the agent's certificate"
            )
        case grpc.StatusCode.UNAVAILABLE if wait is None:
            if answer := _PROXY_ANSWER.search(details):
                details = explain_proxy_answer(route, int(answer[1]))
            return AddressAway(f"{who} cannot be reached: {details}")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return CollectorAway(f"{who} did not answer in time: is the address right?", wait or 0)
        case _:
            return CollectorAway(f"{who} asks to wait: {details}", wait or 0)


def _requested_wait(error: Any) -> int | None:
    """Return the wait that the collector asked for, in milliseconds; None when it asked for none."""
    said = _trailing_metadata(error)
    for key in RETRY_AFTER_KEYS:
        text = said.get(key)
        if isinstance(text, str) and text.isdigit() and len(text) < 16:
            return min(int(text), LONGEST_WAIT_MILLISECONDS)
    return None


def _trailing_metadata(error: Any) -> Mapping[str, str | bytes]:
    """Return the trailing metadata."""
    return dict(error.trailing_metadata() or ())


def _shorten(details: str) -> str:
    """Shorten grpc's text of a failed connection to one line without the repeated addresses."""
    text = " ".join(details.split())
    return text.rpartition("last error: ")[2].removeprefix("UNKNOWN: ")
