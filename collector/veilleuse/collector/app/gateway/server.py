# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The server of the gateway, and its limits of number and duration of calls.

The collector decides what the calls mean.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import grpc

from veilleuse.collector.app.gateway.messages import (
    MAX_BODY_BYTES,
    SECONDS,
    CertificateSource,
    GatewayError,
    GatewaySetup,
    Reply,
    ask,
    reply_from,
    setup_from,
)
from veilleuse.collector.app.gateway.relay import Relay, bind
from veilleuse.collector.app.grpc_server import GRACE_SECONDS, OPTIONS
from veilleuse.collector.errors import AddressUnavailable
from veilleuse.collector.ipc import GATEWAY_INNER_FILE, socket_path
from veilleuse.wire import metadata

log = logging.getLogger(__name__)

CALLS_INSIDE: Final = 256
"""Calls being read, waiting or in progress. gRPC's own limit (maximum_concurrent_rpcs) was buggy:

docs/guarantees.md §2.
"""
CALLS_AT_WORK: Final = 4
"""Calls sent to the collector at once: each is a thread on both sides."""
REQUEST_SECONDS: Final = 5.0
"""Longest wait for the request of a call; else it would hold its place as long as its connection, an hour."""
ANSWER_SECONDS: Final = 60.0
"""Longest wait for an answer: the collector answers long before, or is gone."""
RETRY_MILLISECONDS: Final = 60_000
"""Wait before a delayed call may be repeated."""
NOTE_SECONDS: Final = 1.0
"""Time over which rejections are summed before the collector is told."""

Code = grpc.StatusCode
_BUSY: Final = "the collector is busy: try again later"
_LATE: Final = "the collector was too slow, or the request: try again later"


class BackendCalls(Protocol):
    """Signature of messages.ask without the directory."""

    def __call__(
        self, head: Mapping[str, object], body: bytes = b"", *, seconds: float
    ) -> tuple[dict[str, Any], bytes]:
        """Send a question. Raises GatewayError."""


class CallLimits:
    """Passes calls to the collector, within limits. Runs on the event loop."""

    def __init__(self, ask: BackendCalls, pool: ThreadPoolExecutor, address_of: Callable[[str], str]) -> None:
        """`pool` has one thread per call in progress; a call keeps its thread after its caller has gone.

        `address_of` maps gRPC's caller to the caller's own address, in gRPC's form.
        """
        self._ask = ask
        self._address_of = address_of
        self._pool = pool
        self._inside = 0
        self._refused: Counter[str] = Counter()

    async def serve(
        self, method: str, requests: object, context: grpc.aio.ServicerContext[object, bytes]
    ) -> bytes:
        """Serve one call, from its start to its end."""
        if self._inside >= CALLS_INSIDE:
            reply, response = self._refusal(Code.RESOURCE_EXHAUSTED, "too_many_calls", _BUSY), b""
        else:
            self._inside += 1
            try:
                reply, response = await self._forward(method, context)
            finally:
                self._inside -= 1
        if reply.code != Code.OK.name:
            await context.abort(grpc.StatusCode[reply.code], reply.details, reply.trailing)  # raises
        return response

    async def _forward(
        self, method: str, context: grpc.aio.ServicerContext[object, bytes]
    ) -> tuple[Reply, bytes]:
        try:
            request = await asyncio.wait_for(context.read(), REQUEST_SECONDS)
        except TimeoutError:
            return self._refusal(Code.DEADLINE_EXCEEDED, "deadline", _LATE), b""
        if not isinstance(request, bytes):  # grpc.aio.EOF
            return self._refusal(Code.INVALID_ARGUMENT, "bad_request", "the call has no request"), b""
        head = {"op": "call", "method": method, "peer": self._address_of(context.peer())}
        job = self._pool.submit(self._ask, head, request, seconds=ANSWER_SECONDS)
        try:
            answer, response = await asyncio.wrap_future(job)
            return reply_from(answer), response
        except asyncio.CancelledError:  # its deadline passed, or the caller has gone
            if job.cancelled():  # it was still waiting for its turn
                self._count("deadline")
            raise
        except GatewayError as error:
            log.warning("call not answered by the collector", extra={"error": str(error)})
            return self._refusal(Code.UNAVAILABLE, "put_off", _BUSY), b""

    def _refusal(self, code: grpc.StatusCode, reason: str, details: str) -> Reply:
        """Count a rejection and return its reply."""
        self._count(reason)
        wait_milliseconds = 0 if code is Code.INVALID_ARGUMENT else RETRY_MILLISECONDS
        return Reply(
            code.name, details, ((metadata.REASON, reason), (metadata.RETRY_AFTER, str(wait_milliseconds)))
        )

    def _count(self, reason: str) -> None:
        """Sum rejections for the collector, which is told at most once a second."""
        if not self._refused:
            asyncio.get_running_loop().call_later(NOTE_SECONDS, self._flush_counts)
        self._refused[reason] += 1

    def _flush_counts(self) -> None:
        reasons, self._refused = self._refused, Counter()
        self._pool.submit(self._send_counts, reasons)

    def _send_counts(self, reasons: Counter[str]) -> None:
        try:
            self._ask({"op": "refused", "reasons": reasons}, seconds=SECONDS)
        except GatewayError as error:
            log.warning("refused calls not counted", extra={"reasons": dict(reasons), "error": str(error)})


def run(data_dir: Path) -> int:
    """Serve until SIGTERM; return 0.

    Raises GatewayError without a collector, AddressUnavailable without the address.
    """
    return asyncio.run(_serve(data_dir))


async def _serve(data_dir: Path) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    setup = setup_from(ask(data_dir, {"op": "open"}, seconds=SECONDS)[0])
    listeners = _bound(data_dir, setup.address)
    address = f"{setup.address.rpartition(':')[0]}:{listeners[0].getsockname()[1]}"
    inner = data_dir / GATEWAY_INNER_FILE
    inner.unlink(missing_ok=True)  # left by a gateway that was killed
    with (
        socket_path(data_dir, GATEWAY_INNER_FILE) as path,
        ThreadPoolExecutor(CALLS_AT_WORK, thread_name_prefix="calls") as pool,
    ):
        relay = Relay(listeners, path)
        server = _server(
            data_dir, setup, CallLimits(partial(ask, data_dir), pool, relay.peer), f"unix:{path}"
        )
        await server.start()
        relay.start()
        ask(data_dir, {"op": "listening", "address": address}, seconds=SECONDS)
        await stop.wait()
        await server.stop(GRACE_SECONDS)
        await relay.close()
    inner.unlink(missing_ok=True)
    return 0


def _bound(data_dir: Path, address: str) -> list[socket.socket]:
    """Bind the port. Raises AddressUnavailable, after telling the collector."""
    try:
        return bind(address)
    except OSError as error:
        ask(data_dir, {"op": "unavailable"}, seconds=SECONDS)
        raise AddressUnavailable(f"cannot listen on {address}: {error.strerror or error}") from error


def _server(data_dir: Path, setup: GatewaySetup, limits: CallLimits, where: str) -> grpc.aio.Server:
    """Create the gRPC server behind the relay, not yet started."""
    options = (*OPTIONS, ("grpc.max_receive_message_length", MAX_BODY_BYTES))
    server = grpc.aio.server(handlers=[_Methods(setup.methods, limits)], options=options)
    showing = CertificateSource(setup, data_dir)
    server.add_secure_port(
        where, grpc.dynamic_ssl_server_credentials(showing.configuration(), showing.renew_certificate)
    )
    return server


class _Methods(grpc.GenericRpcHandler):
    """Handlers of raw bytes. As streams of one message, they let us limit the time for a request."""

    def __init__(self, methods: tuple[str, ...], limits: CallLimits) -> None:
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            method: grpc.stream_unary_rpc_method_handler(partial(limits.serve, method)) for method in methods
        }

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return a handler; None = UNIMPLEMENTED, which takes no place."""
        return self._handlers.get(handler_call_details.method)
