# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""gRPC service of :8641: authorise, validate, pass to the writer, answer after the commit. docs/wire.md.

A caller is authorised before its message is read. The message arrives as bytes, and its size is checked
before parsing.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn, TypeVar

import grpc

from veilleuse.collector import clock
from veilleuse.collector.errors import (
    EnrolmentRefused,
    MalformedRequest,
    NotAuthorised,
    OlderInstance,
    QueueFull,
    StoreDamaged,
    StoreFailing,
    StoreFull,
)
from veilleuse.collector.ingest.admission import Admission
from veilleuse.collector.ingest.call_queue import QueuedMethods, Reader
from veilleuse.collector.ingest.counters import Count, Health
from veilleuse.collector.ingest.hello import HelloHandler, PopulationConfigs, wait_for_result
from veilleuse.collector.model.clones import NonceVerdict
from veilleuse.collector.model.hosts import Caller, CertificateChain
from veilleuse.collector.model.records import AppendOutcome, AppendResult, HostId, StreamPosition
from veilleuse.collector.ports.registry import Registry
from veilleuse.collector.ports.stages import Authoriser, Committer, IngestStore, Renewer
from veilleuse.collector.validate import MachineLimits, check_push
from veilleuse.collector.validate.messages import parse_message, parse_push
from veilleuse.wire import metadata
from veilleuse.wire.units import MILLISECONDS_PER_DAY, MILLISECONDS_PER_HOUR
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import DeviceClass, Population

log = logging.getLogger(__name__)

T = TypeVar("T", pb.HelloResponse, pb.PushResponse, pb.RenewResponse)

SERVICE: Final = "veilleuse.wire.v1.TelemetryService"
DEADLINE_SECONDS: Final = 15.0
"""Longest duration of a call, whatever its client allows: docs/wire.md §3."""
RENEWAL_WORKERS: Final = 2
"""Number of workers. One signature takes some milliseconds: 200 renewals a second."""
MAXIMUM_RENEW_BYTES: Final = 8 * 1024

_FULL_QUEUE: Final = "too many calls at once: come back later"
_BUSY_MILLISECONDS: Final = (5_000, 30_000)
_ONE_AT_A_TIME_MILLISECONDS: Final = (1_000, 5_000)
_FULL_MILLISECONDS: Final = (3_000, 7_000)
_MORNING_MILLISECONDS: Final = MILLISECONDS_PER_HOUR
"""Callers told to come back tomorrow are spread over this time after midnight UTC."""
_SPREAD_MILLISECONDS: Final = (30_000, 120_000)

_AUTHORISATION_CODES: Final = {
    # UNAUTHENTICATED where a new certificate helps: the agent renews. The rest is an operator's decision.
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
    """End of a call that gets no answer."""

    code: grpc.StatusCode
    reason: str
    message: str
    retry_after_milliseconds: int = 0


class TelemetryServicer:
    """Hello, Push and Renew. Call `add_to(server)` before the server starts."""

    def __init__(
        self,
        *,
        committer: Committer,
        authoriser: Authoriser,
        renewer: Renewer,
        registry: Registry,
        ingest: IngestStore,
        configuring: PopulationConfigs,
        health: Health,
        queue_pushes: int,
        allow_fake: bool,
        now_unix_milliseconds: Callable[[], int] = clock.unix_milliseconds,
    ) -> None:
        """`registry` and `ingest` are used only in the writer's jobs.

        `allow_fake` permits simulated data, or a test. `queue_pushes` ≥ 1 pushes are served at once, and half
        as many Hellos.
        """
        self._committer = committer
        self._authoriser = authoriser
        self._renewer = renewer
        self._registry = registry
        self._ingest = ingest
        self._health = health
        self._allow_fake = allow_fake
        self._now = now_unix_milliseconds
        self._admission = Admission(queue_pushes)
        self._hello_handler = HelloHandler(
            committer=committer,
            registry=registry,
            ingest=ingest,
            configuring=configuring,
            health=health,
            now_unix_milliseconds=now_unix_milliseconds,
        )
        self._device_classes: dict[HostId, DeviceClass] = {}
        self._hello_connections: dict[HostId, str] = {}
        """Connection of the last Hello of machines that once presented another nonce.

        Other connections may not push.
        """
        self._methods = QueuedMethods(SERVICE, lambda context: self._refuse(context, QueueFull(_FULL_QUEUE)))
        self._methods.add("Hello", max(1, queue_pushes // 2), self.Hello, pb.HelloResponse)
        self._methods.add("Push", queue_pushes, self.Push, pb.PushResponse)
        self._methods.add("Renew", RENEWAL_WORKERS, self.Renew, pb.RenewResponse)

    def add_to(self, server: grpc.Server) -> None:
        """Serve the three calls on `server`, each with its own queue."""
        server.add_generic_rpc_handlers([self._methods])

    @property
    def is_overloaded(self) -> bool:
        """True while more calls wait than are served: deferrable work should then wait."""
        return self._methods.is_overloaded

    def close(self) -> None:
        """End the threads, once the server has stopped."""
        self._methods.close()

    # --- the three calls

    def Hello(self, read: Reader, context: grpc.ServicerContext) -> pb.HelloResponse:
        """Open an exchange."""
        return self._answer("Hello", read, context, partial(self._hello, context.peer()))

    def Push(self, read: Reader, context: grpc.ServicerContext) -> pb.PushResponse:
        """Store a contiguous run of records, and acknowledge it after the commit."""
        return self._answer("Push", read, context, partial(self._push, context.peer()))

    def Renew(self, read: Reader, context: grpc.ServicerContext) -> pb.RenewResponse:
        """Issue a new certificate."""
        return self._answer("Renew", read, context, self._renew)

    # --- their implementation

    def _hello(self, peer: str, wire: bytes, caller: Caller, until: float) -> pb.HelloResponse:
        answer, device_class, meeting = self._hello_handler.handle(wire, caller, until)
        if meeting is not NonceVerdict.CURRENT or caller.host_id in self._hello_connections:
            self._hello_connections[caller.host_id] = peer
        self._device_classes[caller.host_id] = device_class
        answer.next_send_after_milliseconds = self._next_send()
        return answer

    def _push(self, peer: str, wire: bytes, caller: Caller, until: float) -> pb.PushResponse:
        if self._hello_connections.get(caller.host_id, peer) != peer:
            raise QueueFull(
                "this machine said Hello on another connection since: say it again", "hello_again"
            )
        with self._admission.push(caller, len(wire)):
            request = parse_push(wire)
            machine = MachineLimits(
                caller.population, self._device_class(caller.host_id, until), self._allow_fake
            )
            checked = check_push(request, caller.host_id, machine, self._now())
            if isinstance(checked, tuple):
                self._health.count(Count.PUSHES, AppendResult.REFUSED.value)
                position = wait_for_result(
                    self._committer.submit(lambda: self._ingest.position(caller.host_id, request.epoch)),
                    until,
                )
                return self._refusal_response(position, tuple((seq, reason.value) for seq, reason in checked))
            outcome = wait_for_result(self._committer.append(checked, until), until)
        return self._push_response(outcome)

    def _push_response(self, outcome: AppendOutcome) -> pb.PushResponse:
        if outcome.result is AppendResult.FAILED:
            raise StoreFailing("the database refused this push")
        if outcome.result is AppendResult.TOO_MANY_EPOCHS:
            raise QueueFull(
                "this machine began too many streams today: come back tomorrow", outcome.result.value
            )
        if outcome.result is AppendResult.CONFLICT:
            log.warning("push conflicts with the stored chain")
        if outcome.result is AppendResult.REFUSED:
            return self._refusal_response(StreamPosition(outcome.mark, outcome.chain), outcome.refusals)
        return pb.PushResponse(
            outcome=_OUTCOMES[outcome.result],
            mark=outcome.mark,
            chain=outcome.chain,
            next_send_after_milliseconds=self._next_send(),
        )

    def _refusal_response(
        self, position: StreamPosition, refusals: tuple[tuple[int, str], ...]
    ) -> pb.PushResponse:
        """Answer that nothing of the push is stored: the agent replaces each refused record by a gap."""
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

    def _renew(self, wire: bytes, caller: Caller, until: float) -> pb.RenewResponse:
        request = parse_message(pb.RenewRequest, wire, MAXIMUM_RENEW_BYTES)
        chain: CertificateChain = self._renewer.renew(caller, request.certificate_request_der)
        return pb.RenewResponse(
            certificate=pb.IssuedCertificate(
                certificate_der=chain.certificate_der,
                intermediates_der=chain.intermediates_der,
                roots_der=chain.roots_der,
            )
        )

    def _device_class(self, host_id: HostId, until: float) -> DeviceClass:
        """Return the device class of the last Hello.

        After a restart, a Push on a connection that stayed open reads it once from the registry.
        """
        known = self._device_classes.get(host_id)
        if known is None:
            host = wait_for_result(self._committer.submit(lambda: self._registry.host(host_id)), until)
            known = self._device_classes[host_id] = host.facts.device_class if host else DeviceClass.UNKNOWN
        return known

    def _next_send(self) -> int:
        """Return the wait before the next contact: 0 = as configured; longer when the writer is behind."""
        return random.randint(*_SPREAD_MILLISECONDS) if self._admission.is_behind else 0

    # --- errors

    def _answer(
        self,
        name: str,
        read: Reader,
        context: grpc.ServicerContext,
        call: Callable[[bytes, Caller, float], T],
    ) -> T:
        """Authorise, read, run and answer; each error becomes a status code with one clear line."""
        left = _seconds_left(context)
        until = time.monotonic() + left
        try:
            if left <= 0:
                # it waited too long for a worker: the caller no longer waits for the answer
                raise TimeoutError
            caller = self._authoriser.authorise(_certificate(context))
            with self._admission.call(caller, name):
                wire = read(until)
            answer = call(wire, caller, until)
            if caller.population is Population.SERVER:  # of PCs they are not counted: docs/privacy.md §4
                self._health.count(Count.RECEIVED_BYTES, caller.population, len(wire))
                self._health.count(Count.SENT_BYTES, caller.population, answer.ByteSize())
            return answer
        except Exception as error:
            self._refuse(context, error)

    def _refuse(self, context: grpc.ServicerContext, error: Exception) -> NoReturn:
        """Count the rejection, and end the call with its status."""
        refusal = _refusal(error)
        self._health.count(Count.CALLS_REFUSED, refusal.reason)
        context.set_trailing_metadata(
            (
                (metadata.REASON, refusal.reason),
                (metadata.RETRY_AFTER, str(refusal.retry_after_milliseconds)),
            )
        )
        context.abort(refusal.code, refusal.message)  # raises


def _certificate(context: Any) -> bytes | None:
    """Return the peer's certificate, PEM; None when it showed none."""
    certificates: list[bytes] = context.auth_context().get("x509_pem_cert", [])
    return certificates[0] if certificates else None


def _seconds_left(context: Any) -> float:
    remaining: float | None = context.time_remaining()  # None: the client set no deadline
    return DEADLINE_SECONDS if remaining is None else min(DEADLINE_SECONDS, remaining)


def _retry_milliseconds(reason: str) -> int:
    """Return a random wait for a rejected caller, so that callers do not come back together."""
    if reason == AppendResult.TOO_MANY_EPOCHS:
        tomorrow = MILLISECONDS_PER_DAY - clock.unix_milliseconds() % MILLISECONDS_PER_DAY
        return tomorrow + random.randrange(_MORNING_MILLISECONDS)
    return random.randint(*_ONE_AT_A_TIME_MILLISECONDS if reason == "one_at_a_time" else _BUSY_MILLISECONDS)


def _refusal(error: Exception) -> _Refusal:
    """Map each error to its status; an unforeseen one is logged in full and reported as INTERNAL."""
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
        case OlderInstance():
            return _Refusal(code.RESOURCE_EXHAUSTED, error.reason, str(error), error.retry_after_milliseconds)
        case QueueFull():
            return _Refusal(
                code.RESOURCE_EXHAUSTED, error.reason, str(error), _retry_milliseconds(error.reason)
            )
        case StoreFull():
            return _wait(code.UNAVAILABLE, "store_full", "the collector's disk is full: come back later")
        case StoreFailing() | StoreDamaged():
            return _wait(code.UNAVAILABLE, "store_failing", "the collector cannot write now: come back later")
        case CancelledError() | TimeoutError():
            return _wait(code.DEADLINE_EXCEEDED, "deadline", "the collector was too slow: come back later")
    log.error("call failed", exc_info=error)
    return _wait(code.INTERNAL, "internal", "the collector failed: its log says why")


def _wait(code: grpc.StatusCode, reason: str, message: str) -> _Refusal:
    return _Refusal(code, reason, message, random.randint(*_FULL_MILLISECONDS))
