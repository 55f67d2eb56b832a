# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of call queues: bounded in number and time; refused calls are answered slowly."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, NoReturn

import grpc
import pytest

from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.collector.errors import MalformedRequest
from veilleuse.collector.ingest import call_queue
from veilleuse.collector.ingest.call_queue import CallQueue, DelayedRejection, QueuedMethods, Reader
from veilleuse.wire.v1 import telemetry_pb2 as pb

SERVICE = "test.Service"


class Clock:
    """Stands in for the module time: its moment is moved by the test, and who sleeps waits for that."""

    def __init__(self) -> None:
        self.moment = 0.0
        self.naps: list[float] = []
        self._moved = threading.Condition()

    def monotonic(self) -> float:
        return self.moment

    def sleep(self, seconds: float) -> None:
        with self._moved:
            end = self.moment + seconds
            self.naps.append(seconds)
            self._moved.wait_for(lambda: self.moment >= end)

    def move(self, seconds: float) -> None:
        with self._moved:
            self.moment += seconds
            self._moved.notify_all()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """Give the queues a clock of the test."""
    made = Clock()
    monkeypatch.setattr(call_queue, "time", made)
    yield made
    made.move(1e9)  # nobody sleeps any more


def test_a_line_is_full_when_as_many_wait_as_it_holds():
    """With one worker busy and two calls waiting the queue is full; both are then served in order."""
    line, release, served = CallQueue(1, "test", most=2), threading.Event(), list[int]()
    futures = [line.submit(release.wait, PATIENCE_SECONDS)]
    until(lambda: not line._calls)
    full = [line.full]
    for number in range(2):
        futures.append(line.submit(served.append, number))
        full.append(line.full)
    assert full == [False, False, True]
    release.set()
    assert not wait(futures, PATIENCE_SECONDS).not_done
    assert served == [0, 1]
    assert [line.full] == [False]
    line.shutdown()


def test_a_line_is_pressed_while_more_wait_than_are_served():
    """With two workers busy, two more calls are no overload, a third is."""
    line, release = CallQueue(2, "test"), threading.Event()
    futures = [line.submit(release.wait, PATIENCE_SECONDS) for _ in range(2)]
    until(lambda: not line._calls)
    pressed = [line.is_overloaded]
    for _ in range(3):
        futures.append(line.submit(release.wait, PATIENCE_SECONDS))
        pressed.append(line.is_overloaded)
    assert pressed == [False, False, False, True]
    release.set()
    assert not wait(futures, PATIENCE_SECONDS).not_done
    assert not line.is_overloaded
    line.shutdown()


def test_who_has_waited_too_long_is_served_as_too_late_though_all_workers_are_held(clock):
    """A disk that does not answer holds every worker: late calls are still answered as too late."""
    line, release, late = CallQueue(1, "test", longest_seconds=0.5), threading.Event(), list[bool]()
    held = line.submit(release.wait, PATIENCE_SECONDS)
    until(lambda: not line._calls)
    waits = line.submit(lambda: late.append(line.too_late))
    until(lambda: len(clock.naps) == 1)
    clock.move(0.5)
    until(lambda: len(clock.naps) == 2)  # it has looked
    assert late == []
    clock.move(0.25)
    waits.result(PATIENCE_SECONDS)
    assert late == [True]
    assert not held.done()
    release.set()
    line.submit(lambda: late.append(line.too_late)).result(PATIENCE_SECONDS)
    assert late == [True, False]
    line.shutdown()


def test_the_way_out_is_slow_but_for_those_that_are_too_many(clock):
    """Two rejected calls leave after the delay; a third, beyond the bound, leaves at once in its thread."""
    way, left = DelayedRejection(seconds=0.5, most=2), list[tuple[int, float]]()
    futures = [way.submit(lambda number=number: left.append((number, clock.moment))) for number in range(3)]
    assert left == [(2, 0.0)]
    until(lambda: clock.naps == [0.5])
    clock.move(0.5)
    assert not wait(futures, PATIENCE_SECONDS).not_done
    assert left == [(2, 0.0), (0, 0.5), (1, 0.5)]
    way.shutdown()


@pytest.fixture
def served(clock: Clock) -> Any:
    """Run a server whose methods have queues of one call, and return the methods and a caller."""

    def away(context: Any) -> NoReturn:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "come back later")
        raise AssertionError

    server = grpc.server(ThreadPoolExecutor(1))
    methods = QueuedMethods(SERVICE, away, most_waiting=1, away_seconds=0.25)
    server.add_generic_rpc_handlers([methods])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:

        def call(name: str, kind: str = "unary_unary") -> Any:
            make: Any = getattr(channel, kind)
            return make(f"/{SERVICE}/{name}", response_deserializer=pb.Refusal.FromString)

        yield methods, call
    server.stop(0).wait()
    methods.close()


def test_no_method_waits_behind_another_and_a_full_line_sends_away(served, clock):
    """One call is served and one waits; a third is refused, while another method answers at once. The test
    also shows that grpcio's experimental pool per behaviour works."""
    methods, call = served
    release = threading.Event()

    def held(read: Reader, context: Any) -> pb.Refusal:
        release.wait(PATIENCE_SECONDS)
        return pb.Refusal(seq=len(read(PATIENCE_SECONDS)))

    methods.add("Held", 1, held, pb.Refusal)
    methods.add("Other", 1, lambda read, context: pb.Refusal(seq=7), pb.Refusal)
    line = methods._methods[f"/{SERVICE}/Held"][0]
    first = call("Held").future(b"12", timeout=PATIENCE_SECONDS)
    assert (
        call("Other")(b"", timeout=PATIENCE_SECONDS).seq == 7
    )  # the first has reached its worker, or waits for it
    until(lambda: not line._calls)
    second = call("Held").future(b"123", timeout=PATIENCE_SECONDS)
    until(lambda: line.full)
    third = call("Held").future(b"", timeout=PATIENCE_SECONDS)
    until(lambda: 0.25 in clock.naps)
    assert not third.done()
    clock.move(0.25)
    assert third.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not first.done()
    assert call("Other")(b"", timeout=PATIENCE_SECONDS).seq == 7
    release.set()
    assert (first.result().seq, second.result().seq) == (2, 3)
    with pytest.raises(grpc.RpcError) as caught:
        call("Nothing")(b"", timeout=PATIENCE_SECONDS)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_that_does_not_come_holds_its_worker_for_as_long_as_it_may(served, clock):
    """The only worker stops waiting for a message in time, the call is cancelled and the next one served. A
    call that ends without a message is refused."""
    methods, call = served
    seen, longest = list[Exception](), iter((0.5, PATIENCE_SECONDS, PATIENCE_SECONDS))

    def hear(read: Reader, context: Any) -> pb.Refusal:
        try:
            return pb.Refusal(seq=len(read(next(longest))))
        except (TimeoutError, MalformedRequest) as error:
            seen.append(error)
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "nothing came")
            raise AssertionError from None

    methods.add("Heard", 1, hear, pb.Refusal)
    line, silent = methods._methods[f"/{SERVICE}/Heard"][0], threading.Event()

    def nothing() -> Iterator[bytes]:
        silent.wait(PATIENCE_SECONDS)
        yield from ()

    waiting = call("Heard", "stream_unary").future(nothing(), timeout=PATIENCE_SECONDS)
    until(lambda: bool(line._read))
    following = call("Heard").future(b"12", timeout=PATIENCE_SECONDS)
    until(lambda: line._calls)
    until(lambda: len(clock.naps) == 1)
    clock.move(0.5)
    until(lambda: len(clock.naps) == 2)  # it has looked
    assert not waiting.done()
    clock.move(0.25)
    assert following.result().seq == 2
    assert waiting.code() is grpc.StatusCode.CANCELLED
    silent.set()
    with pytest.raises(grpc.RpcError) as caught:
        call("Heard", "stream_unary")(iter(()), timeout=PATIENCE_SECONDS)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [type(error) for error in seen] == [TimeoutError, MalformedRequest]
