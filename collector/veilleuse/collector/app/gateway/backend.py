# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The collector's side of the gateway: starts its process, gives it a certificate, and answers its calls."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from io import BufferedIOBase
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from veilleuse.collector.app.child import Child, leashed_command
from veilleuse.collector.app.gateway.messages import (
    GatewayCertificate,
    GatewayError,
    GatewaySetup,
    Reply,
    as_head,
    decode,
    encode,
    reasons_from,
)
from veilleuse.collector.app.grpc_server import ServerCertificate, unavailable
from veilleuse.collector.enrolment.root_key import FOLDER
from veilleuse.collector.enrolment.service import EnrolmentServicer
from veilleuse.collector.errors import CollectorError
from veilleuse.collector.ipc import GATEWAY_FILE, PrivateServer
from veilleuse.collector.settings import CollectorSettings, child_environment
from veilleuse.wire import metadata
from veilleuse.wire.v1 import telemetry_pb2 as pb

log = logging.getLogger(__name__)

PLACES: Final = 16
"""Connections: 4 calls in progress, the certificate question, and the rest of a gateway that died."""
READY_SECONDS: Final = 30.0
"""Longest start. An interpreter starts in a quarter of a second; a loaded machine may need longer."""
SETTING: Final = "grpc.enrolment_address"


@contextmanager
def run_gateway(
    settings: CollectorSettings,
    servicer: EnrolmentServicer,
    certificate: ServerCertificate,
    count_refusal: Callable[[str, int], None],
) -> Iterator[str]:
    """Serve enrolments while the block runs; yield host:port with the assigned port.

    Raises AddressUnavailable, DataDirectoryError, or CollectorError when the gateway does not start.
    """
    backend = _GatewayBackend(settings, _Methods(servicer), certificate, count_refusal)
    with closing(PrivateServer(settings.data_dir, GATEWAY_FILE, backend.answer, places=PLACES)):
        child = Child(
            "gateway", leashed_command("veilleuse.collector.app.gateway"), child_environment(settings)
        )
        child.start()
        try:
            yield backend.wait_until_open()
        finally:
            child.stop()


class _GatewayBackend:
    """Answers the questions of the gateway, one per connection."""

    def __init__(
        self,
        settings: CollectorSettings,
        methods: _Methods,
        certificate: ServerCertificate,
        count_refusal: Callable[[str, int], None],
    ) -> None:
        self._address = settings.grpc.enrolment_address
        self._folder = str(settings.data_dir.absolute() / FOLDER)
        self._methods = methods
        self._certificate = certificate
        self._count_refusal = count_refusal
        self._reported = threading.Event()
        self._is_open = False

    def wait_until_open(self) -> str:
        """Wait for the gateway and return host:port. Raises AddressUnavailable, CollectorError."""
        if not self._reported.wait(READY_SECONDS):
            raise CollectorError(
                f"the gateway of {SETTING} did not start within {READY_SECONDS:g} s: see its lines in the log"
            )
        if not self._is_open:
            raise unavailable(self._address, SETTING)
        return self._address

    def answer(self, reading: BufferedIOBase, writing: BufferedIOBase) -> None:
        """Answer one question; an invalid one gets no answer."""
        try:
            head, body = self._answer(*decode(reading))
        except GatewayError as error:
            log.debug("message of the gateway not understood", extra={"error": str(error)})
            return
        writing.write(encode(head, body))

    def _answer(self, head: dict[str, Any], body: bytes) -> tuple[Mapping[str, object], bytes]:
        match head:
            case {"op": "open"}:
                setup = GatewaySetup(
                    self._address, self._methods.names, self._certificate_message(), self._folder
                )
                return as_head(setup), b""
            case {"op": "listening", "address": str(address)}:
                # a restarted gateway gets the same port
                self._address, self._is_open = (
                    address,
                    True,
                )
                self._reported.set()
            case {"op": "unavailable"}:
                log.error("the gateway has no address", extra={"address": self._address, "setting": SETTING})
                self._reported.set()
            case {"op": "certificate", "sha256": str(sha256)}:
                shown = self._certificate_message()
                return ({} if shown.sha256 == sha256 else as_head(shown)), b""
            case {"op": "call", "method": str(method), "peer": str(peer)}:
                reply, response = self._methods.call(method, peer, body)
                return as_head(reply), response
            case {"op": "refused"}:
                for reason, count in reasons_from(head).items():
                    self._count_refusal(reason, count)
            case _:
                raise GatewayError("not a question")
        return {}, b""

    def _certificate_message(self) -> GatewayCertificate:
        identity = self._certificate.present()
        return GatewayCertificate(identity.key_pem.decode("ascii"), identity.chain_pem.decode("ascii"))


class _Methods:
    """Calls of the contract's EnrolmentService, by their gRPC name."""

    def __init__(self, servicer: EnrolmentServicer) -> None:
        service = pb.DESCRIPTOR.services_by_name["EnrolmentService"]
        self._methods: dict[str, tuple[type[Message], Callable[[Any, _Call], Message]]] = {
            f"/{service.full_name}/{method.name}": (
                GetMessageClass(method.input_type),
                getattr(servicer, method.name),
            )
            for method in service.methods
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all calls."""
        return tuple(self._methods)

    def call(self, name: str, peer: str, request: bytes) -> tuple[Reply, bytes]:
        """Run a call and return its end and the encoded response. Raises GatewayError for an unknown call."""
        if name not in self._methods:
            raise GatewayError("no such call")
        kind, method = self._methods[name]
        call = _Call(peer)
        try:
            response = method(kind.FromString(request), call)
        except DecodeError:
            return _not_a_message(), b""
        except _AbortedError as aborted:
            return aborted.reply, b""
        return Reply(grpc.StatusCode.OK.name), response.SerializeToString()


def _not_a_message() -> Reply:
    said = ((metadata.REASON, "bad_request"), (metadata.RETRY_AFTER, "0"))
    return Reply(grpc.StatusCode.INVALID_ARGUMENT.name, "the request is not a message of the contract", said)


class _AbortedError(Exception):
    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.code)
        self.reply = reply


class _Call:
    """Implements veilleuse.collector.enrolment.service.Call, which the servicer needs."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._trailing: tuple[tuple[str, str], ...] = ()

    def peer(self) -> str:
        """Return the caller's address in gRPC's form, not the gateway's."""
        return self._peer

    def set_trailing_metadata(self, trailing_metadata: tuple[tuple[str, str], ...]) -> None:
        """Set the metadata that is sent when the call is aborted."""
        self._trailing = trailing_metadata

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """End the call."""
        raise _AbortedError(Reply(code.name, details, self._trailing))
