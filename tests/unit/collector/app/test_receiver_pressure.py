# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The service of :8641 under more calls than it can take: which are refused, and when they may return."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

import grpc
import pytest

from tests.support import clock
from tests.support.pushes import HOUR, MONDAY_10H, Stream, realistic
from tests.support.receiving import hello, hold, let_a_minute_pass, refusal, stream_request
from tests.support.service import Service, serving
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.collector.app.grpc_server import OPTIONS
from veilleuse.collector.errors import StoreFull
from veilleuse.collector.ingest import call_queue, receiver
from veilleuse.collector.ingest.receiver import SERVICE
from veilleuse.collector.settings import Grpc


def test_backlog_is_shed_before_live_data_and_hello_is_never(tmp_path, authority, monkeypatch):
    """The disk does not answer, and half of the places hold backlog. Another backlog is refused with a delay.
    Live data take the rest, and a second push of one agent is refused. Hello is served nevertheless.
    """
    monkeypatch.setattr(receiver, "DEADLINE_SECONDS", PATIENCE_SECONDS)
    with serving(tmp_path, authority, Grpc(workers=8, queue_pushes=4)) as service:
        agents = [service.agent() for _ in range(6)]
        for stub, stream in agents:
            stub.Hello(hello(stream))
            stream.add(*(realistic(MONDAY_10H + i * 300_000) for i in range(200)))
            assert stream.request().ByteSize() > 32 * 1024
        release = hold(service.writer)
        waiting = [
            stub.Push.future(stream.request(), timeout=PATIENCE_SECONDS) for stub, stream in agents[:2]
        ]
        until(lambda: service.writer.waiting == 2)
        code, reason, delay = refusal(agents[2][0].Push, agents[2][1].request())
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "backlog_full")
        assert 5_000 <= delay <= 30_000
        assert refusal(agents[0][0].Push, agents[0][1].request(1, 1))[1] == "one_at_a_time"
        waiting += [
            stub.Push.future(stream.request(1, 1), timeout=PATIENCE_SECONDS) for stub, stream in agents[3:5]
        ]
        until(lambda: service.writer.waiting == 4)
        assert refusal(agents[5][0].Push, agents[5][1].request(1, 1))[1] == "queue_full"
        greeting = agents[5][0].Hello.future(hello(agents[5][1]), timeout=PATIENCE_SECONDS)
        release.set()
        assert [push.result().mark for push in waiting] == [200, 200, 1, 1]
        assert greeting.result().next_send_after_milliseconds >= 0
        assert service.health.snapshot()["calls_refused"] == {
            "backlog_full": 1,
            "one_at_a_time": 1,
            "queue_full": 1,
        }


def test_one_that_begins_messages_and_does_not_end_them_holds_one_worker(service, monkeypatch):
    """A stolen key makes twenty Hello and twenty Push calls that send no message.
    Another agent is served while two of them wait; those two end at the deadline.
    """
    monkeypatch.setattr(receiver, "DEADLINE_SECONDS", PATIENCE_SECONDS)
    (_, stolen), (stub, stream) = service.agent(), service.agent()
    channel, silent = service.channels[-2], threading.Event()

    def nothing() -> Iterator[bytes]:
        silent.wait(PATIENCE_SECONDS)
        yield from ()

    methods = [channel.stream_unary(f"/{SERVICE}/{name}") for name in ("Push", "Hello") for _ in range(20)]
    waiting = [method.future(nothing()) for method in methods]
    until(lambda: service.health.snapshot()["calls_refused"].get("one_at_a_time") == 38)
    stub.Hello(hello(stream), timeout=PATIENCE_SECONDS)
    assert stub.Push(stream_request(stream), timeout=PATIENCE_SECONDS).mark == 1
    assert sum(not call.done() for call in waiting) >= 2, "the others were served after them"
    let_a_minute_pass(monkeypatch, call_queue)
    codes = Counter(call.code() for call in waiting)
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED: 38, grpc.StatusCode.CANCELLED: 2}
    silent.set()
    assert stolen.wires == []


@pytest.mark.parametrize("service", [OPTIONS], indirect=True)
@pytest.mark.parametrize("where", ["append", "position", "commit"])
def test_a_call_that_failed_and_was_given_up_keeps_no_place(service, monkeypatch, where):
    """The disk is slow and full, and an agent gives up before each answer. Once the disk is back, the agent
    is served on its connection of few streams, without any garbage collection.
    """
    stub, stream = service.agent()
    stub.Hello(hello(stream))
    request = stream_request(stream)
    call, message = (stub.Hello, hello(stream)) if where == "position" else (stub.Push, request)
    reached, given_up, contexts = threading.Semaphore(0), threading.Semaphore(0), list[Any]()

    def no_room(*_: object) -> NoReturn:
        reached.release()
        given_up.acquire(timeout=PATIENCE_SECONDS)
        raise StoreFull("no space left")

    @contextmanager
    def no_commit(_: object) -> Iterator[None]:
        yield
        no_room()

    def noted(context: Any, known: Any = receiver._certificate) -> Any:
        contexts.append(context)
        return known(context)

    gc.collect()
    gc.disable()
    with monkeypatch.context() as full:
        full.setattr(receiver, "_certificate", noted)
        if where == "commit":
            full.setattr(type(service.store), "transaction", no_commit)
        else:
            full.setattr(service.store.ingest, where, no_room)
        for number in range(8):
            waiting = call.future(message, timeout=PATIENCE_SECONDS)
            assert reached.acquire(timeout=PATIENCE_SECONDS)
            waiting.cancel()
            until(lambda: not contexts[0].is_active())
            contexts.clear()
            given_up.release()
            until(partial(_refused, service, number))
    assert stub.Push(request, timeout=PATIENCE_SECONDS).mark == 1


@pytest.mark.parametrize("service", [OPTIONS], indirect=True)
def test_a_call_given_up_before_its_message_came_keeps_no_place(service):
    """An agent whose network stalls before its message is served once it sends one."""
    stub, stream = service.agent()
    stub.Hello(hello(stream))
    push, silent = service.channels[-1].stream_unary(f"/{SERVICE}/Push"), threading.Event()

    def nothing() -> Iterator[bytes]:
        silent.wait(PATIENCE_SECONDS)
        yield from ()

    gc.collect()
    gc.disable()
    queue, _ = service.servicer._methods._methods[f"/{SERVICE}/Push"]
    for number in range(8):
        waiting = push.future(nothing(), timeout=PATIENCE_SECONDS)
        until(lambda: queue._read)
        waiting.cancel()
        until(partial(_refused, service, number))
    silent.set()
    assert stub.Push(stream_request(stream), timeout=PATIENCE_SECONDS).mark == 1


def _refused(service: Service, before: int) -> bool:
    return bool(sum(service.health.snapshot()["calls_refused"].values()) > before)


def left_today() -> int:
    """Return the milliseconds until midnight UTC."""
    return 24 * HOUR - clock.unix_milliseconds() % (24 * HOUR)


def test_a_machine_that_begins_too_many_streams_comes_back_tomorrow(service, monkeypatch):
    """RESOURCE_EXHAUSTED comes with a delay beyond the next midnight UTC; the running stream continues."""
    stub, stream = service.agent()
    stub.Push(stream_request(stream))
    monkeypatch.setattr("veilleuse.collector.store.sqlite.bounds.MOST_EPOCHS_A_DAY", 1)
    other = Stream(stream.host_id)
    other.add(realistic(MONDAY_10H))
    left = left_today()
    code, reason, delay = refusal(stub.Push, other.request())
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "too_many_epochs")
    assert left_today() <= delay <= left + HOUR
    assert stub.Push(stream_request(stream)).mark == 2
    assert service.health.snapshot()["pushes"] == {"stored": 2, "too_many_epochs": 1}
