# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Where calls wait before a worker takes them: one line each for Push, Hello and Renew, so that none stands behind another's.

gRPC hands each call to an executor as soon as its headers are here; ThreadPoolExecutor keeps as many as come. A line keeps a bounded
number for a bounded time. A worker then looks at who calls, and reads the message for a bounded time too. docs/wire.md §3.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn

import grpc

from veilleuse.collector.errors import MalformedRequest

MOST_WAITING: Final = 512
"""Of one line. Each holds some 20 kB: what gRPC knows of the call, and what the kernel has of its message."""
LONGEST_SECONDS: Final = 2.5
"""In line. With the second or so that those before it take once they are served, less than the 5 s of R17."""

AWAY_SECONDS: Final = 12.0
"""To send a call away, in a collector that is full: a caller that does not heed when to come back can do no more meanwhile.
Less than the 15 s that an agent waits: it is told (docs/wire.md §3)."""
MOST_AWAY: Final = 4_096
_LOOK_SECONDS: Final = 0.1

Reader = Callable[[float], bytes]
"""Line.message of one call: until when → its message."""


@dataclass(frozen=True, slots=True)
class _Call:
    came: float
    """time.monotonic() seconds."""
    run: Callable[[], Any]
    future: Future[Any]


class CallQueue(ThreadPoolExecutor):
    """Workers with a line before them. One thread more sends away whoever has waited too long, should all workers be held."""

    def __init__(
        self, workers: int, name: str, longest_seconds: float = LONGEST_SECONDS, most: int = MOST_WAITING
    ) -> None:
        """`workers` ≥ 1; `longest_seconds` > 0 in line, `most` ≥ 1 waiting."""
        super().__init__(workers, thread_name_prefix=name)
        self._workers = workers
        self._longest_seconds = longest_seconds
        self._most = most
        self._calls: deque[_Call] = deque()
        self._read: dict[Any, float] = {}
        """Until when, of each call whose message is being read; time.monotonic() seconds."""
        self._lock = threading.Lock()
        self._waits = threading.Event()
        self._served = threading.local()
        self._ended = False
        threading.Thread(target=self._send_away, name=f"{name} late", daemon=True).start()

    @property
    def full(self) -> bool:
        """True while a call that came now would not find a place."""
        return len(self._calls) >= self._most

    @property
    def pressed(self) -> bool:
        """True while more calls wait than are served."""
        return len(self._calls) > self._workers

    @property
    def too_late(self) -> bool:
        """Whether the call that this thread serves has waited too long."""
        return bool(getattr(self._served, "late", False))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Stand in line; called by gRPC, in its one serving thread."""
        call = _Call(time.monotonic(), partial(fn, *args, **kwargs), Future())
        with self._lock:
            self._calls.append(call)
        super().submit(self._next)
        self._watch()
        return call.future

    def message(self, requests: Iterator[bytes], context: Any, until: float) -> bytes:
        """The message of a call; one that does not send it until then (time.monotonic() seconds) is cancelled.

        Raises TimeoutError when it is, or was by its caller; MalformedRequest when the call ends without any.
        """
        self._read[context] = until
        self._watch()
        try:
            return next(requests)
        except StopIteration:
            if time.monotonic() >= until:  # a call that is cancelled is seen to end, or to be cancelled
                raise TimeoutError from None
            raise MalformedRequest("not_a_message", "a call without a message") from None
        except grpc.RpcError as error:
            error.__traceback__ = (
                None  # gRPC keeps it with the call, and its frames keep the call: the stream stayed open
            )
            raise TimeoutError from None
        finally:
            del self._read[context]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As of any executor."""
        self._ended = True
        self._waits.set()
        super().shutdown(wait, cancel_futures=cancel_futures)

    def _next(self) -> None:
        """The first in line; nobody when it was sent away meanwhile."""
        with self._lock:
            call = self._calls.popleft() if self._calls else None
        if call is not None:
            self._serve(call)

    def _serve(self, call: _Call) -> None:
        self._served.late = time.monotonic() - call.came > self._longest_seconds
        call.run()  # gRPC's: it raises nothing
        call.future.set_result(None)

    def _watch(self) -> None:
        if not self._waits.is_set():
            self._waits.set()

    def _send_away(self) -> None:
        while self._waits.wait() and not self._ended:
            time.sleep(_LOOK_SECONDS)
            while (call := self._first_late()) is not None:
                self._serve(call)
            now = time.monotonic()
            for context, until in list(self._read.items()):
                if now > until:
                    context.cancel()
            self._waits.clear()
            if self._calls or self._read:
                self._waits.set()

    def _first_late(self) -> _Call | None:
        with self._lock:
            if self._calls and time.monotonic() - self._calls[0].came > self._longest_seconds:
                return self._calls.popleft()
        return None


class DelayedRejection(ThreadPoolExecutor):
    """Sends calls away, `seconds` after they came: a caller that does not heed when to come back is slowed down by it.

    For what never waits by itself. More than `most` at once go away at once.
    """

    def __init__(self, seconds: float = AWAY_SECONDS, most: int = MOST_AWAY) -> None:
        """`seconds` ≥ 0."""
        super().__init__(1)
        self._seconds = seconds
        self._most = most
        self._calls: deque[_Call] = deque()
        self._came = threading.Semaphore(0)
        self._ended = False
        threading.Thread(target=self._run, name="way out", daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Called by gRPC, in its one serving thread."""
        call = _Call(time.monotonic(), partial(fn, *args, **kwargs), Future())
        if len(self._calls) < self._most:
            self._calls.append(call)
            self._came.release()
        else:
            _away(call)
        return call.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As of any executor."""
        self._ended = True
        self._came.release()
        super().shutdown(wait, cancel_futures=cancel_futures)

    def _run(self) -> None:
        while True:
            self._came.acquire()
            if self._ended:
                return
            call = self._calls[0]
            time.sleep(max(0.0, call.came + self._seconds - time.monotonic()))
            _away(self._calls.popleft())


def _away(call: _Call) -> None:
    call.run()
    call.future.set_result(None)


class Methods(grpc.GenericRpcHandler):
    """gRPC asks it for each call, in its serving thread: into the method's line, or on the way out when that is full."""

    def __init__(
        self,
        service: str,
        send_away: Callable[[Any], NoReturn],
        *,
        most_waiting: int = MOST_WAITING,
        away_seconds: float = AWAY_SECONDS,
    ) -> None:
        """`send_away(context)` ends a call by context.abort, without waiting for anything."""
        self._service = service
        self._send_away = send_away
        self._methods: dict[str, tuple[CallQueue, Any]] = {}
        self._most_waiting = most_waiting
        self._way_out = DelayedRejection(away_seconds)
        # As a stream nothing of the message is waited for.
        self._away: Any = grpc.stream_unary_rpc_method_handler(
            _in_pool(self._way_out, lambda requests, context: send_away(context))
        )

    def add(self, name: str, workers: int, behaviour: Callable[[Reader, Any], Any], answer: Any) -> None:
        """`behaviour(read, context)` runs in one of so many workers; `answer`: the class of what it gives."""
        line = CallQueue(workers, name, most=self._most_waiting)

        def run(requests: Iterator[bytes], context: Any) -> Any:
            return (
                self._send_away(context)
                if line.too_late
                else behaviour(partial(line.message, requests, context), context)
            )

        # As a stream, which on the wire is the same: a worker begins before the message is there, and reads it itself.
        handler: Any = grpc.stream_unary_rpc_method_handler(
            _in_pool(line, run), response_serializer=answer.SerializeToString
        )
        self._methods[f"/{self._service}/{name}"] = (line, handler)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """What to do with a call; None when there is no such method."""
        found = self._methods.get(handler_call_details.method)
        if found is None:
            return None
        line, handler = found
        return self._away if line.full else handler

    @property
    def pressed(self) -> bool:
        """True while more calls wait in a line than are served."""
        return any(line.pressed for line, _ in self._methods.values())

    def close(self) -> None:
        """Once the server has stopped."""
        for line, _ in self._methods.values():
            line.shutdown(wait=False)
        self._way_out.shutdown(wait=False)


def _in_pool(pool: ThreadPoolExecutor, run: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A behaviour that gRPC runs in `pool` (tests/unit/collector/ingest/test_lines.py says when it does not)."""
    run.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return run
