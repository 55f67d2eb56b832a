# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The door's server: how many calls may be inside, how long they may take; what they mean is for the collector to say."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc

from veilleuse.collector.app.door.certificate import Showing
from veilleuse.collector.app.door.messages import (
    MAX_BODY_BYTES,
    Opening,
    Reply,
    Unanswered,
    ask,
    opening_from,
    reply_from,
)
from veilleuse.collector.app.options import GRACE_SECONDS, OPTIONS
from veilleuse.collector.errors import AddressUnavailable
from veilleuse.wire import metadata

log = logging.getLogger(__name__)

CALLS_INSIDE: Final = 256
"""Calls read, waiting or at work; anybody may call. gRPC's own bound, maximum_concurrent_rpcs, has let calls through."""
CALLS_AT_WORK: Final = 4
"""Asked of the collector at once: each is a thread there as here."""
REQUEST_SECONDS: Final = 5.0
"""A call whose request has not come by then is ended: it would hold its place for as long as its connection."""
ANSWER_SECONDS: Final = 60.0
"""The collector answers long before, or has gone."""
BEGIN_SECONDS: Final = 5.0
RETRY_MILLISECONDS: Final = 60_000
"""When a refused call may come again."""
_NOTES_SECONDS: Final = 1.0
"""How long refusals are added up before the collector is told of them."""


def run(data_dir: Path) -> int:
    """Serve until SIGTERM; 0. Raises Unanswered without a collector, AddressUnavailable without the address."""
    return asyncio.run(_serve(data_dir))


async def _serve(data_dir: Path) -> int:
    opening = opening_from(ask(data_dir, {"op": "open"}, seconds=BEGIN_SECONDS)[0])
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with ThreadPoolExecutor(CALLS_AT_WORK, thread_name_prefix="calls") as pool:
        server, address = _listen(data_dir, opening, Gate(partial(ask, data_dir), pool))
        await server.start()
        ask(data_dir, {"op": "listening", "address": address}, seconds=BEGIN_SECONDS)
        await stop.wait()
        await server.stop(GRACE_SECONDS)
    return 0


def _listen(data_dir: Path, opening: Opening, gate: Gate) -> tuple[grpc.aio.Server, str]:
    """A bound server, not yet started, and its host:port. Raises AddressUnavailable, after the collector was told."""
    handler = grpc.stream_unary_rpc_method_handler(gate.serve)  # a stream: the reading is ours to end
    methods = dict.fromkeys(opening.methods, handler)
    options = (*OPTIONS, ("grpc.max_receive_message_length", MAX_BODY_BYTES))
    server = grpc.aio.server(handlers=[_Methods(methods)], options=options)
    showing = Showing(opening.certificate, data_dir)
    credentials = grpc.dynamic_ssl_server_credentials(showing.configuration(), showing.renewed)
    try:
        port = server.add_secure_port(opening.address, credentials)
    except RuntimeError as error:
        ask(data_dir, {"op": "unavailable"}, seconds=BEGIN_SECONDS)
        raise AddressUnavailable(f"cannot listen on {opening.address}") from error
    return server, f"{opening.address.rpartition(':')[0]}:{port}"


class _Methods(grpc.GenericRpcHandler):
    def __init__(self, handlers: dict[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """None = UNIMPLEMENTED, which costs nobody a place."""
        return self._handlers.get(handler_call_details.method)


class Gate:
    """Lets calls through to the collector, within bounds. Lives on the event loop."""

    def __init__(self, ask: Callable[..., tuple[dict[str, Any], bytes]], pool: ThreadPoolExecutor) -> None:
        """`ask`: as messages.ask without its directory. `pool`: as many threads as calls may be at work."""
        self._ask = ask
        self._pool = pool
        self._inside = 0
        self._refused: Counter[str] = Counter()
        self._telling = False

    async def serve(self, requests: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        """One call, from its beginning to its end."""
        if self._inside >= CALLS_INSIDE:
            await self._refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "too_many_calls", _BUSY)
        self._inside += 1
        try:
            reply, response = await self._through(context)
        finally:
            self._inside -= 1
        if reply.code != grpc.StatusCode.OK.name:
            await context.abort(grpc.StatusCode[reply.code], reply.details, reply.trailing)
        return response

    async def _through(self, context: grpc.aio.ServicerContext[bytes, bytes]) -> tuple[Reply, bytes]:
        try:
            request = await asyncio.wait_for(context.read(), REQUEST_SECONDS)
        except TimeoutError:
            return self._late(), b""
        if not isinstance(request, bytes):  # EOF: a call without a message
            return _reply(grpc.StatusCode.INVALID_ARGUMENT, "bad_request", "the call has no message"), b""
        head = {"op": "call", "method": context_method(context), "peer": context.peer()}
        job = self._pool.submit(self._ask, head, request, seconds=ANSWER_SECONDS)
        try:
            answer, response = await asyncio.wrap_future(job)
            return reply_from(answer), response
        except asyncio.CancelledError:  # its deadline passed, or the caller went away
            if job.cancelled():  # it never began
                self._note("deadline")
            raise
        except Unanswered as error:
            log.warning("call not answered by the collector", extra={"error": str(error)})
            return _reply(grpc.StatusCode.UNAVAILABLE, "put_off", _BUSY, RETRY_MILLISECONDS), b""
