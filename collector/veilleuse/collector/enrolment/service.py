# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The enrolment service of :8642: protobuf in and out, rejections as status codes. docs/wire.md §6."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, NoReturn, Protocol, TypeVar

import grpc

from veilleuse.collector.enrolment.clones import CloneEnrolment, CopyProof
from veilleuse.collector.enrolment.enrol import Application, Enroller, EnrolResult
from veilleuse.collector.enrolment.issuing import Challenges, Renewal
from veilleuse.collector.enrolment.tokens import peer_address
from veilleuse.collector.errors import CollectorError, EnrolmentRefused, NotAuthorised
from veilleuse.collector.model.hosts import CertificateChain
from veilleuse.collector.model.records import AgentId
from veilleuse.wire import metadata
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.v1 import telemetry_pb2_grpc as pb_grpc
from veilleuse.wire.vocabulary import Population

log = logging.getLogger(__name__)

T = TypeVar("T")

Code = grpc.StatusCode
_CODES: Final = {
    "bad_request": Code.INVALID_ARGUMENT,
    "key_reused": Code.INVALID_ARGUMENT,
    "bad_nonce": Code.FAILED_PRECONDITION,
    "rate_limited": Code.RESOURCE_EXHAUSTED,
    "too_many_copies": Code.RESOURCE_EXHAUSTED,
}
RETRY_MILLISECONDS: Final = 60_000
"""Wait before a rejected call may be repeated; also the window of failed tries."""
CleanFacts = Callable[[pb.Facts], bytes]
"""Facts as an agent sent them → encoded Facts within the alphabet and ranges of telemetry.proto."""


class Call(Protocol):
    """Part of grpc.ServicerContext that the servicer uses."""

    def peer(self) -> str:
        """Return the address of the caller, in gRPC's form."""

    def set_trailing_metadata(self, trailing_metadata: tuple[tuple[str, str], ...]) -> None:
        """Set the metadata that ends the call."""

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """End the call. Raises an exception that only gRPC catches."""


class EnrolmentServicer(pb_grpc.EnrolmentServiceServicer):
    """Serves agents without a valid certificate."""

    def __init__(
        self,
        joining: Enroller,
        copying: CloneEnrolment,
        renewal: Renewal,
        challenges: Challenges,
        clean_facts: CleanFacts,
        on_failure: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """`on_failure` counts rejections of RenewExpired, by reason."""
        self._joining = joining
        self._copying = copying
        self._renewal = renewal
        self._challenges = challenges
        self._clean_facts = clean_facts
        self._on_failure = on_failure

    def Enrol(self, request: pb.EnrolRequest, context: Call) -> pb.EnrolResponse:
        """Give a first identity for a token; or, to a clone, for its original's key."""
        return _answer(context, lambda: self._enrol(request, context.peer()))

    def _enrol(self, request: pb.EnrolRequest, peer: str) -> pb.EnrolResponse:
        application = Application(
            token=request.token,
            certificate_request_der=request.certificate_request_der,
            address=peer_address(peer),
            chassis_pseudonym=request.chassis_pseudonym,
            smbios_pseudonym=request.smbios_pseudonym,
            facts_wire=self._clean_facts(request.facts) if request.HasField("facts") else None,
            host_name=request.host_name if request.HasField("host_name") else None,
        )
        if request.HasField("copy_of"):
            joined = self._copying.join(_proof(request.copy_of), application)
        else:
            joined = self._joining.join(application)
        _log_joined(joined)
        return _enrol_response(joined)

    def Challenge(self, request: pb.ChallengeRequest, context: Call) -> pb.ChallengeResponse:
        """Return a nonce to sign, whether or not the agent exists."""
        return _answer(context, lambda: pb.ChallengeResponse(nonce=self._challenges.issue(request.agent_id)))

    def RenewExpired(self, request: pb.RenewExpiredRequest, context: Call) -> pb.RenewExpiredResponse:
        """Return a new certificate for the signed nonce."""
        return _answer(context, lambda: self._renew_expired(request), self._on_failure)

    def _renew_expired(self, request: pb.RenewExpiredRequest) -> pb.RenewExpiredResponse:
        chain = self._renewal.renew_expired(
            agent_id=AgentId(request.agent_id),
            nonce=request.nonce,
            certificate_der=request.certificate_der,
            signature_der=request.signature_der,
            certificate_request_der=request.certificate_request_der,
        )
        return pb.RenewExpiredResponse(certificate=issued_certificate(chain))


def issued_certificate(chain: CertificateChain) -> pb.IssuedCertificate:
    """Return a chain in its wire form."""
    return pb.IssuedCertificate(
        certificate_der=chain.certificate_der,
        intermediates_der=chain.intermediates_der,
        roots_der=chain.roots_der,
    )


def _proof(copy_of: pb.CopyOf) -> CopyProof:
    return CopyProof(AgentId(copy_of.agent_id), copy_of.nonce, copy_of.certificate_der, copy_of.signature_der)


def _enrol_response(joined: EnrolResult) -> pb.EnrolResponse:
    host = joined.host
    return pb.EnrolResponse(
        agent_id=host.agent_id,
        certificate=issued_certificate(joined.chain) if joined.chain is not None else None,
        placement=pb.Placement(
            org_entity=host.org_entity,
            site=host.site,
            population=f"POPULATION_{host.population.name}",
        ),
        retry_after_milliseconds=joined.retry_after_milliseconds,
    )


def _log_joined(joined: EnrolResult) -> None:
    host = joined.host
    facts: dict[str, Any] = {
        "org_entity": host.org_entity,
        "site": host.site,
        "population": host.population.value,
    }
    # elsewhere, the time of a log line would reveal when one machine was used
    if host.population is Population.SERVER:
        facts["agent_id"] = host.agent_id.hex()
    log.info("agent enrolled" if joined.fresh else "agent enrolled again", extra=facts)


def _answer(
    context: Call,
    call: Callable[[], T],
    on_failure: Callable[[str], None] = lambda reason: None,
) -> T:
    """Turn rejections into status codes with one clear line, and store errors into UNAVAILABLE.

    The call is aborted after the error was released: a held error keeps the stream open until the garbage
    collector runs, and a connection has four.
    """
    try:
        return call()
    except (EnrolmentRefused, NotAuthorised) as error:
        code, reason, message = _CODES.get(error.reason, Code.PERMISSION_DENIED), error.reason, str(error)
        on_failure(reason)
        log.info("enrolment call refused", extra={"reason": reason})
    except CollectorError as error:
        code, reason = Code.UNAVAILABLE, "put_off"
        message = "the collector cannot do this now: try again later"
        log.warning("enrolment call put off", extra={"error": str(error)})
    except Exception:
        # the outermost call of the servicer: a stranger learns nothing of internal errors
        code, reason, message = Code.INTERNAL, "internal", "the collector failed: its log says why"
        on_failure(reason)
        log.exception("enrolment call failed")
    waits = code in (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.INTERNAL)
    wait_milliseconds = RETRY_MILLISECONDS if waits else 0
    context.set_trailing_metadata(((metadata.REASON, reason), (metadata.RETRY_AFTER, str(wait_milliseconds))))
    return context.abort(code, message)  # raises
