# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The gRPC service of :8641: authorise, validate, hand to the writer, answer after the commit. PROMISES.md §2.

Requests arrive here as bytes: a caller is authorised, and its message measured, before anything is parsed.
"""

from __future__ import annotations

import hashlib
import logging
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError

from veilleuse.collector.errors import (
    EnrolmentRefused,
    MalformedRequest,
    NotAuthorised,
    QueueFull,
    StoreDamaged,
    StoreFailing,
    StoreFull,
)
from veilleuse.collector.health import Count, Health
from veilleuse.collector.model import (
    AppendOutcome,
    AppendResult,
    Caller,
    CertificateChain,
    HostId,
    StreamPosition,
)
from veilleuse.collector.ports import Authoriser, Committer, IngestStore, Registry, Renewer
from veilleuse.collector.validate import Machine, check_push, clean_facts, clean_health
from veilleuse.wire import metadata
from veilleuse.wire.bands import Calendar, OpenSpan
from veilleuse.wire.limits import (
    CHAIN_BYTES,
    EPOCH_BYTES,
    MAX_HELLO_BYTES,
    MAX_MESSAGE_BYTES,
    PROTOCOL_MINOR_MAXIMUM,
    PROTOCOL_MINOR_MINIMUM,
)
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import DeviceClass

log = logging.getLogger(__name__)

T = TypeVar("T")

SERVICE: Final = "veilleuse.wire.v1.TelemetryService"
DEADLINE_SECONDS: Final = 15.0
"""Longest a call may take, whatever its client allows: PROMISES.md §2.3."""
INSTANCE_ID_BYTES: Final = 16
MAXIMUM_FEATURES: Final = 32
MAXIMUM_RENEW_BYTES: Final = 8 * 1024

_BUSY_MILLISECONDS: Final = (5_000, 30_000)
_FULL_MILLISECONDS: Final = 5_000
_SPREAD_MILLISECONDS: Final = (30_000, 120_000)

_AUTHORISATION_CODES: Final = {
    # What a certificate can mend is UNAUTHENTICATED: the agent renews. The rest is an operator's decision.
    "no_certificate": grpc.StatusCode.UNAUTHENTICATED,
    "not_an_agent": grpc.StatusCode.UNAUTHENTICATED,
    "not_ours": grpc.StatusCode.UNAUTHENTICATED,
    "expired": grpc.StatusCode.UNAUTHENTICATED,
    "not_yet_valid": grpc.StatusCode.UNAVAILABLE,
}
_OUTCOMES: Final = {
    AppendResult.STORED: pb.PUSH_OUTCOME_STORED,
    AppendResult.EXPECTED_EARLIER: pb.PUSH_OUTCOME_EXPECTED_EARLIER,
    AppendResult.CONFLICT: pb.PUSH_OUTCOME_CONFLICT,
}


@dataclass(frozen=True, slots=True)
class _Refusal:
    """How a call that gets no answer ends."""

    code: grpc.StatusCode
    reason: str
    message: str
    retry_after_milliseconds: int = 0


@dataclass(frozen=True, slots=True)
class _Greeting:
    """What the writer found while it noted a Hello."""

    position: StreamPosition
    stale_instance: bool
    calendar_json: str
    device_class: DeviceClass


class TelemetryServicer:
    """Hello, Push and Renew. `add_to(server)`, before the server starts."""

    def __init__(
        self,
        *,
        committer: Committer,
        authoriser: Authoriser,
        renewer: Renewer,
        registry: Registry,
        ingest: IngestStore,
        health: Health,
        queue_pushes: int,
        allow_fake: bool,
        now_unix_milliseconds: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """`registry` and `ingest` are used inside the writer's jobs only. `allow_fake`: simulated data, or a test."""
        self._committer = committer
        self._authoriser = authoriser
        self._renewer = renewer
        self._registry = registry
        self._ingest = ingest
        self._health = health
        self._queue_pushes = queue_pushes
        self._allow_fake = allow_fake
        self._now = now_unix_milliseconds
        self._admission = threading.BoundedSemaphore(queue_pushes)
        self._device_classes: dict[HostId, DeviceClass] = {}

    def add_to(self, server: grpc.Server) -> None:
        """Serve the three calls on `server`, requests as bytes."""
        handlers: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(behaviour, response_serializer=answer.SerializeToString)
            for name, behaviour, answer in (
                ("Hello", self.Hello, pb.HelloResponse),
                ("Push", self.Push, pb.PushResponse),
                ("Renew", self.Renew, pb.RenewResponse),
            )
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])

    # --- the three calls

    def Hello(self, request: bytes, context: grpc.ServicerContext) -> pb.HelloResponse:
        """Opens an exchange."""
        return self._answer(context, lambda caller, until: self._hello(request, caller, until))

    def Push(self, request: bytes, context: grpc.ServicerContext) -> pb.PushResponse:
        """A contiguous run of records, acknowledged after the commit."""
        return self._answer(context, lambda caller, until: self._push(request, caller, until))

    def Renew(self, request: bytes, context: grpc.ServicerContext) -> pb.RenewResponse:
        """A new certificate, from the enrolment."""
        return self._answer(context, lambda caller, until: self._renew(request, caller))

    # --- what they do

    def _hello(self, wire: bytes, caller: Caller, until: float) -> pb.HelloResponse:
        request = _parsed(pb.HelloRequest, wire, MAX_HELLO_BYTES)
        protocol = _check_hello(request)
        nonce = secrets.token_bytes(INSTANCE_ID_BYTES)
        facts = clean_facts(request.facts) if request.HasField("facts") else None
        health = clean_health(request.health) if request.HasField("health") else None
        greeting = self._waited(
            self._committer.submit(lambda: self._note_hello(request, caller, nonce, facts, health)), until
        )
        self._device_classes[caller.host_id] = greeting.device_class
        self._health.count(Count.HELLOS, "stale_instance" if greeting.stale_instance else "ok")
        sha256, calendar = _calendar(greeting.calendar_json)
        return pb.HelloResponse(
            mark=greeting.position.mark,
            chain=greeting.position.chain,
            protocol=protocol,
            next_instance_id=nonce,
            calendar=None if request.calendar.sha256 == sha256 else calendar,
            next_send_after_milliseconds=self._next_send(),
        )

    def _note_hello(
        self, request: Any, caller: Caller, nonce: bytes, facts: bytes | None, health: bytes | None
    ) -> _Greeting:
        """In the writer's thread, one transaction."""
        known = self._registry.instance_id(caller.host_id)
        self._registry.record_hello(
            caller.host_id,
            facts_wire=facts,
            health_wire=health,
            now_unix_milliseconds=self._now(),
        )
        self._registry.set_instance_id(caller.host_id, nonce)
        host = self._registry.host(caller.host_id)
        if host is None:
            raise NotAuthorised("unknown_agent", "this machine is not known here: enrol it again")
        return _Greeting(
            self._ingest.position(caller.host_id, request.epoch),
            stale_instance=bool(known) and request.instance_id != known,
            calendar_json=self._registry.site(host.site).calendar_json,
            device_class=host.facts.device_class,
        )

    def _push(self, wire: bytes, caller: Caller, until: float) -> pb.PushResponse:
        if not self._admission.acquire(blocking=False):
            raise QueueFull("too many pushes at once: come back later")
        try:
            request = _parsed(pb.PushRequest, wire, MAX_MESSAGE_BYTES)
            machine = Machine(caller.population, self._device_class(caller.host_id, until), self._allow_fake)
            checked = check_push(request, caller.host_id, machine, self._now())
            if isinstance(checked, tuple):
                self._health.count(Count.PUSHES, AppendResult.REFUSED.value)
                where = self._committer.submit(lambda: self._ingest.position(caller.host_id, request.epoch))
                return self._refused(
                    self._waited(where, until), tuple((seq, reason.value) for seq, reason in checked)
                )
            outcome = self._waited(self._committer.append(checked, until), until)
        finally:
            self._admission.release()
        return self._pushed(outcome)

    def _pushed(self, outcome: AppendOutcome) -> pb.PushResponse:
        if outcome.result is AppendResult.FAILED:
            raise StoreFailing("the database refused this push")
        if outcome.result is AppendResult.CONFLICT:
            log.warning("push conflicts with the stored chain")
        if outcome.result is AppendResult.REFUSED:
            return self._refused(StreamPosition(outcome.mark, outcome.chain), outcome.refusals)
        return pb.PushResponse(
            outcome=_OUTCOMES[outcome.result],
            mark=outcome.mark,
            chain=outcome.chain,
            next_send_after_milliseconds=self._next_send(),
        )

    def _refused(self, position: StreamPosition, refusals: tuple[tuple[int, str], ...]) -> pb.PushResponse:
        """Nothing of the push is stored: the agent puts a gap in the place of each refused record."""
        reasons = Counter(reason for _, reason in refusals)
        for reason, number in reasons.items():
            self._health.count(Count.RECORDS_REFUSED, reason, number)
        log.warning("records refused", extra={"reasons": dict(reasons)})
        return pb.PushResponse(
            outcome=pb.PUSH_OUTCOME_REFUSED,
            mark=position.mark,
            chain=position.chain,
            refusals=[pb.Refusal(seq=seq, reason=reason) for seq, reason in refusals],
            next_send_after_milliseconds=self._next_send(),
        )

    def _renew(self, wire: bytes, caller: Caller) -> pb.RenewResponse:
        request = _parsed(pb.RenewRequest, wire, MAXIMUM_RENEW_BYTES)
        chain: CertificateChain = self._renewer.renew(caller, request.certificate_request_der)
        return pb.RenewResponse(
            certificate=pb.IssuedCertificate(
                certificate_der=chain.certificate_der,
                intermediates_der=chain.intermediates_der,
                roots_der=chain.roots_der,
            )
        )

    def _device_class(self, host_id: HostId, until: float) -> DeviceClass:
        """As the last Hello told; after a restart, a Push on a connection that stayed asks the registry once."""
        known = self._device_classes.get(host_id)
        if known is None:
            host = self._waited(self._committer.submit(lambda: self._registry.host(host_id)), until)
            known = self._device_classes[host_id] = host.facts.device_class if host else DeviceClass.UNKNOWN
        return known

    def _next_send(self) -> int:
        """0 = as configured; later when the writer is behind."""
        behind = self._health.queue_pushes > self._queue_pushes // 2
        return random.randint(*_SPREAD_MILLISECONDS) if behind else 0

    def _waited(self, future: Any, until: float) -> Any:
        return future.result(timeout=max(0.0, until - time.monotonic()) + 1.0)

    # --- the boundary

    def _answer(self, context: grpc.ServicerContext, call: Callable[[Caller, float], T]) -> T:
        """Authorise, run, answer; whatever goes wrong becomes a status code with one clear line."""
        until = time.monotonic() + _seconds_left(context)
        try:
            return call(self._authoriser.authorise(_certificate(context)), until)
        except Exception as error:
            refusal = _refusal(error)
        self._health.count(Count.CALLS_REFUSED, refusal.reason)
        context.set_trailing_metadata(
            (
                (metadata.REASON, refusal.reason),
                (metadata.RETRY_AFTER, str(refusal.retry_after_milliseconds)),
            )
        )
        return context.abort(refusal.code, refusal.message)  # raises


def _certificate(context: Any) -> bytes | None:
    """The peer's certificate, PEM; None when it showed none."""
    certificates: list[bytes] = context.auth_context().get("x509_pem_cert", [])
    return certificates[0] if certificates else None


def _seconds_left(context: Any) -> float:
    remaining: float | None = context.time_remaining()  # None: the client set no deadline
    return DEADLINE_SECONDS if remaining is None else min(DEADLINE_SECONDS, remaining)


def _refusal(error: Exception) -> _Refusal:
    """The status of each error; what we did not foresee is logged whole and told as INTERNAL."""
    code = grpc.StatusCode
    match error:
        case NotAuthorised():
            return _Refusal(
                _AUTHORISATION_CODES.get(error.reason, code.PERMISSION_DENIED), error.reason, str(error)
            )
        case EnrolmentRefused():
            return _Refusal(
                code.INVALID_ARGUMENT
                if error.reason in ("bad_request", "key_reused")
                else code.PERMISSION_DENIED,
                error.reason,
                str(error),
            )
        case MalformedRequest(reason="protocol_unsupported"):
            return _Refusal(code.FAILED_PRECONDITION, error.reason, str(error))
        case MalformedRequest():
            return _Refusal(code.INVALID_ARGUMENT, error.reason, str(error))
        case QueueFull():
            return _Refusal(
                code.RESOURCE_EXHAUSTED, "queue_full", str(error), random.randint(*_BUSY_MILLISECONDS)
            )
        case StoreFull():
            return _Refusal(
                code.UNAVAILABLE,
                "store_full",
                "the collector's disk is full: come back later",
                _FULL_MILLISECONDS,
            )
        case StoreFailing() | StoreDamaged():
            return _Refusal(
                code.UNAVAILABLE,
                "store_failing",
                "the collector cannot write now: come back later",
                _FULL_MILLISECONDS,
            )
        case CancelledError() | TimeoutError():
            return _Refusal(
                code.DEADLINE_EXCEEDED,
                "deadline",
                "the collector was too slow: come back later",
                _FULL_MILLISECONDS,
            )
    log.error("call failed", exc_info=error)
    return _Refusal(code.INTERNAL, "internal", "the collector failed: its log says why", _FULL_MILLISECONDS)


def _parsed(kind: Any, wire: bytes, maximum_bytes: int) -> Any:
    if len(wire) > maximum_bytes:
        raise MalformedRequest(
            "message_too_large", f"a {kind.__name__} has at most {maximum_bytes} bytes, not {len(wire)}"
        )
    try:
        return kind.FromString(wire)
    except DecodeError as error:
        raise MalformedRequest("not_a_message", f"this is no {kind.__name__}") from error


def _check_hello(request: Any) -> int:
    """The protocol version to speak. Raises MalformedRequest."""
    if len(request.epoch) != EPOCH_BYTES:
        raise MalformedRequest("epoch_length", f"the epoch has {EPOCH_BYTES} bytes, not {len(request.epoch)}")
    if len(request.instance_id) not in (0, INSTANCE_ID_BYTES):
        raise MalformedRequest("instance_id_length", f"instance_id has {INSTANCE_ID_BYTES} bytes, or none")
    for document in (request.configuration, request.calendar):
        if len(document.sha256) not in (0, CHAIN_BYTES):
            raise MalformedRequest(
                "document_hash_length", f"a document's sha256 has {CHAIN_BYTES} bytes, or none"
            )
    if len(request.features) > MAXIMUM_FEATURES:
        raise MalformedRequest("too_many_features", f"at most {MAXIMUM_FEATURES} features")
    chosen = min(request.protocol.maximum, PROTOCOL_MINOR_MAXIMUM)
    if chosen < max(request.protocol.minimum, PROTOCOL_MINOR_MINIMUM):
        raise MalformedRequest(
            "protocol_unsupported",
            f"this collector speaks versions {PROTOCOL_MINOR_MINIMUM} to {PROTOCOL_MINOR_MAXIMUM}, the agent "
            f"{request.protocol.minimum} to {request.protocol.maximum}: upgrade one of the two",
        )
    return int(chosen)


@lru_cache(maxsize=256)
def _calendar(calendar_json: str) -> tuple[bytes, Any]:
    """(SHA-256 that names it, the message)."""
    calendar = Calendar.from_json(calendar_json)
    message = pb.Calendar(
        time_zone=calendar.time_zone,
        open_spans=[_span(span) for span in calendar.open_spans],
        closures=[pb.LocalDate(year=day.year, month=day.month, day=day.day) for day in calendar.closures],
        update_windows=[_span(span) for span in calendar.update_windows],
    )
    return hashlib.sha256(calendar.to_json().encode()).digest(), message


def _span(span: OpenSpan) -> pb.OpenSpan:
    return pb.OpenSpan(
        iso_weekday=span.iso_weekday, start_minute=span.start_minute, end_minute=span.end_minute
    )
