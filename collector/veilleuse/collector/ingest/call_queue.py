# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Queues of calls in front of the workers: one each for Push, Hello and Renew, so that none delays another.

gRPC gives each call to an executor as soon as its headers arrive, and ThreadPoolExecutor accepts any number.
A queue keeps a limited number of calls for a limited time. A worker then authorises the caller, and reads the
message for a limited time too. docs/wire.md §3.
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
"""Largest number of calls in one queue. Each takes some 20 kB.

GRPC's state, and the message in the kernel.
"""
LONGEST_SECONDS: Final = 2.5
"""Longest wait in a queue. Earlier calls add about a second once served.

Together less than the 5 s of R17.
"""

AWAY_SECONDS: Final = 12.0
"""Delay of a rejection in a full collector, in seconds.

A caller that ignores the requested wait can do no more meanwhile. It is less than the 15 s that an agent
waits for the answer (docs/wire.md §3).
"""
MOST_AWAY: Final = 4_096
_LOOK_SECONDS: Final = 0.1

Reader = Callable[[float], bytes]
"""`CallQueue.message` of one call: deadline → its message."""


@dataclass(frozen=True, slots=True)
class _Call:
    came: float
    """time.monotonic() seconds."""
    run: Callable[[], Any]
    future: Future[Any]


class CallQueue(ThreadPoolExecutor):
    """Workers with a queue. One more thread rejects late calls, even if all workers are busy."""

    def __init__(
        self, workers: int, name: str, longest_seconds: float = LONGEST_SECONDS, most: int = MOST_WAITING
    ) -> None:
        """`workers` ≥ 1; `longest_seconds` > 0 in the queue; `most` ≥ 1 waiting calls."""
        super().__init__(workers, thread_name_prefix=name)
        self._workers = workers
        self._longest_seconds = longest_seconds
        self._most = most
        self._calls: deque[_Call] = deque()
        self._read: dict[Any, float] = {}
        """Deadline of each call whose message is being read; time.monotonic() seconds."""
        self._lock = threading.Lock()
        self._waits = threading.Event()
        self._served = threading.local()
        self._ended = False
        threading.Thread(target=self._reject_late, name=f"{name} late", daemon=True).start()

    @property
    def full(self) -> bool:
        """True while a new call would find no place."""
        return len(self._calls) >= self._most

    @property
    def is_overloaded(self) -> bool:
        """True while more calls wait than are served."""
        return len(self._calls) > self._workers

    @property
    def too_late(self) -> bool:
        """Return True when the call that this thread serves has waited too long."""
        return bool(getattr(self._served, "late", False))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue a call; gRPC calls this in its one serving thread."""
        call = _Call(time.monotonic(), partial(fn, *args, **kwargs), Future())
        with self._lock:
            self._calls.append(call)
        super().submit(self._next)
        self._watch()
        return call.future

    def message(self, requests: Iterator[bytes], context: Any, until: float) -> bytes:
        """Read the message of a call; cancel a call that is not complete by `until` (time.monotonic() s).

        Raises TimeoutError when the call is cancelled here or by its caller. Raises MalformedRequest when the
        call ends without a message.
        """
        self._read[context] = until
        self._watch()
        try:
            return next(requests)
        except StopIteration:
            # a cancelled call ends the iteration, or raises RpcError
            if time.monotonic() >= until:
                raise TimeoutError from None
            raise MalformedRequest("not_a_message", "a call without a message") from None
        except grpc.RpcError as error:
            # gRPC keeps the error with the call, and its frames keep the call: the stream would stay open
            error.__traceback__ = None
            raise TimeoutError from None
        finally:
            del self._read[context]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See ThreadPoolExecutor."""
        self._ended = True
        self._waits.set()
        super().shutdown(wait, cancel_futures=cancel_futures)

    def _next(self) -> None:
        """Serve the first call of the queue, if it was not rejected meanwhile."""
        with self._lock:
            call = self._calls.popleft() if self._calls else None
        if call is not None:
            self._serve(call)

    def _serve(self, call: _Call) -> None:
        self._served.late = time.monotonic() - call.came > self._longest_seconds
        call.run()  # a function of gRPC: it raises nothing
        call.future.set_result(None)

    def _watch(self) -> None:
        if not self._waits.is_set():
            self._waits.set()

    def _reject_late(self) -> None:
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
    """Rejects calls `seconds` after they came, to slow down callers that ignore the requested wait.

    It is for calls that never wait otherwise. Calls above `most` are rejected at once.
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
        """Queue a call; gRPC calls this in its one serving thread."""
        call = _Call(time.monotonic(), partial(fn, *args, **kwargs), Future())
        if len(self._calls) < self._most:
            self._calls.append(call)
            self._came.release()
        else:
            _reject(call)
        return call.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See ThreadPoolExecutor."""
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
            _reject(self._calls.popleft())


def _reject(call: _Call) -> None:
    call.run()
    call.future.set_result(None)


class QueuedMethods(grpc.GenericRpcHandler):
    """Handler that gRPC asks for each call, in its serving thread.

    It queues the call, or rejects it when full.
    """

    def __init__(
        self,
        service: str,
        send_away: Callable[[Any], NoReturn],
        *,
        most_waiting: int = MOST_WAITING,
        away_seconds: float = AWAY_SECONDS,
    ) -> None:
        """`send_away(context)` ends a call by context.abort, without any wait."""
        self._service = service
        self._end_call = send_away
        self._methods: dict[str, tuple[CallQueue, Any]] = {}
        self._most_waiting = most_waiting
        self._rejection = DelayedRejection(away_seconds)
        # With a stream handler, gRPC does not wait for the message.
        self._away: Any = grpc.stream_unary_rpc_method_handler(
            _in_pool(self._rejection, lambda requests, context: send_away(context))
        )

    def add(self, name: str, workers: int, behaviour: Callable[[Reader, Any], Any], answer: Any) -> None:
        """Run `behaviour(read, context)` in one of `workers` workers; `answer` is the class of its result."""
        queue = CallQueue(workers, name, most=self._most_waiting)

        def run(requests: Iterator[bytes], context: Any) -> Any:
            return (
                self._end_call(context)
                if queue.too_late
                else behaviour(partial(queue.message, requests, context), context)
            )

        # A stream handler is the same on the wire: a worker starts before the message is there, and reads it
        # itself.
        handler: Any = grpc.stream_unary_rpc_method_handler(
            _in_pool(queue, run), response_serializer=answer.SerializeToString
        )
        self._methods[f"/{self._service}/{name}"] = (queue, handler)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a call; None when there is no such method."""
        found = self._methods.get(handler_call_details.method)
        if found is None:
            return None
        queue, handler = found
        return self._away if queue.full else handler

    @property
    def is_overloaded(self) -> bool:
        """True while more calls wait in a queue than are served."""
        return any(queue.is_overloaded for queue, _ in self._methods.values())

    def close(self) -> None:
        """End the threads, once the server has stopped."""
        for queue, _ in self._methods.values():
            queue.shutdown(wait=False)
        self._rejection.shutdown(wait=False)


def _in_pool(pool: ThreadPoolExecutor, run: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Make gRPC run a behaviour in `pool` (exceptions: tests/unit/collector/ingest/test_lines.py)."""
    run.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return run
