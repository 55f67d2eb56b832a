# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""How many calls may be inside the door, and how long they may take; what they mean is for the collector to say."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

import grpc

from veilleuse.collector.app.gateway.messages import SECONDS, GatewayError, Reply, reply_from
from veilleuse.wire import metadata

log = logging.getLogger(__name__)

CALLS_INSIDE: Final = 256
"""Calls read, waiting or at work. gRPC's own bound (maximum_concurrent_rpcs) was buggy: docs/guarantees.md §2."""
CALLS_AT_WORK: Final = 4
"""Asked of the collector at once: each is a thread there as here."""
REQUEST_SECONDS: Final = 5.0
"""A call whose request has not come by then is ended: it would keep its place as long as its connection, an hour."""
ANSWER_SECONDS: Final = 60.0
"""The collector answers long before, or has gone."""
RETRY_MILLISECONDS: Final = 60_000
"""When a call that was put off may come again."""
NOTE_SECONDS: Final = 1.0
"""How long refusals are added up before the collector is told of them."""

Code = grpc.StatusCode
_BUSY: Final = "the collector is busy: try again later"
_LATE: Final = "the collector was too slow, or the request: try again later"


class BackendCalls(Protocol):
    """messages.ask without its directory."""

    def __call__(
        self, head: Mapping[str, object], body: bytes = b"", *, seconds: float
    ) -> tuple[dict[str, Any], bytes]:
        """Raises Unanswered."""


class CallLimits:
    """Lets calls through to the collector, within bounds. Lives on the event loop."""

    def __init__(self, ask: BackendCalls, pool: ThreadPoolExecutor, whose: Callable[[str], str]) -> None:
        """`pool`: as many threads as calls may be at work; a call keeps its own when its caller has gone.

        `whose`: gRPC's caller → the caller's own address, as gRPC writes it.
        """
        self._ask = ask
        self._whose = whose
        self._pool = pool
        self._inside = 0
        self._refused: Counter[str] = Counter()

    async def serve(
        self, method: str, requests: object, context: grpc.aio.ServicerContext[object, bytes]
    ) -> bytes:
        """One call, from its beginning to its end."""
        if self._inside >= CALLS_INSIDE:
            reply, response = self._refusal(Code.RESOURCE_EXHAUSTED, "too_many_calls", _BUSY), b""
        else:
            self._inside += 1
            try:
                reply, response = await self._through(method, context)
            finally:
                self._inside -= 1
        if reply.code != Code.OK.name:
            await context.abort(grpc.StatusCode[reply.code], reply.details, reply.trailing)  # raises
        return response

    async def _through(
        self, method: str, context: grpc.aio.ServicerContext[object, bytes]
    ) -> tuple[Reply, bytes]:
        try:
            request = await asyncio.wait_for(context.read(), REQUEST_SECONDS)
        except TimeoutError:
            return self._refusal(Code.DEADLINE_EXCEEDED, "deadline", _LATE), b""
        if not isinstance(request, bytes):  # grpc.aio.EOF
            return self._refusal(Code.INVALID_ARGUMENT, "bad_request", "the call has no request"), b""
        head = {"op": "call", "method": method, "peer": self._whose(context.peer())}
        job = self._pool.submit(self._ask, head, request, seconds=ANSWER_SECONDS)
        try:
            answer, response = await asyncio.wrap_future(job)
            return reply_from(answer), response
        except asyncio.CancelledError:  # its deadline passed, or the caller went away
            if job.cancelled():  # before its turn came
                self._note("deadline")
            raise
        except GatewayError as error:
            log.warning("call not answered by the collector", extra={"error": str(error)})
            return self._refusal(Code.UNAVAILABLE, "put_off", _BUSY), b""

    def _refusal(self, code: grpc.StatusCode, reason: str, details: str) -> Reply:
        """Counted."""
        self._note(reason)
        wait_milliseconds = 0 if code is Code.INVALID_ARGUMENT else RETRY_MILLISECONDS
        return Reply(
            code.name, details, ((metadata.REASON, reason), (metadata.RETRY_AFTER, str(wait_milliseconds)))
        )

    def _note(self, reason: str) -> None:
        """The collector counts them all: it is told once a second, when there is something to tell."""
        if not self._refused:
            asyncio.get_running_loop().call_later(NOTE_SECONDS, self._tell)
        self._refused[reason] += 1

    def _tell(self) -> None:
        reasons, self._refused = self._refused, Counter()
        self._pool.submit(self._told, reasons)

    def _told(self, reasons: Counter[str]) -> None:
        try:
            self._ask({"op": "refused", "reasons": reasons}, seconds=SECONDS)
        except GatewayError as error:
            log.warning("refused calls not counted", extra={"reasons": dict(reasons), "error": str(error)})
