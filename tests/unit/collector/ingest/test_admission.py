# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of admission: live data before backlog, one push of an agent at a time, a bounded rate of calls."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from veilleuse.collector.errors import QueueFull
from veilleuse.collector.ingest.admission import BACKLOG_BYTES, CALLS_A_SECOND, CALLS_AT_ONCE, Admission
from veilleuse.collector.model.hosts import Caller
from veilleuse.collector.model.records import AgentId, HostId
from veilleuse.wire.vocabulary import Population

LIVE, BACKLOG = BACKLOG_BYTES, BACKLOG_BYTES + 1


def caller(number: int) -> Caller:
    """Return a machine's caller."""
    return Caller(HostId(number), AgentId(number.to_bytes(16, "big")), Population.SERVER, "", 1)


def refused(admission: Admission, number: int, size: int = LIVE) -> str:
    """Return the reason of the refusal."""
    with pytest.raises(QueueFull) as caught, admission.push(caller(number), size):
        pass
    return caught.value.reason


def calls(admission: Admission, number: int, times: int) -> None:
    """Make calls one after the other."""
    for _ in range(times):
        with admission.call(caller(number), "Push"):
            pass


def behind(admission: Admission) -> bool:
    """Return whether the admission is behind; as a function, mypy does not narrow it."""
    return admission.is_behind


def test_backlog_gets_half_of_the_places_and_live_data_the_rest():
    """The fifth backlog of eight places is refused, live data fill the others, a ninth push is refused."""
    admission = Admission(8)
    with ExitStack() as under_way:
        for number in range(4):
            under_way.enter_context(admission.push(caller(number), BACKLOG))
        assert refused(admission, 4, BACKLOG) == "backlog_full"
        for number in range(4, 8):
            under_way.enter_context(admission.push(caller(number), LIVE))
        assert behind(admission)
        assert refused(admission, 8) == "queue_full"
        assert refused(admission, 8, BACKLOG) == "queue_full"
    assert not behind(admission)
    with admission.push(caller(8), BACKLOG):
        pass


def test_live_data_may_take_all_places():
    """No place is reserved for backlog."""
    admission = Admission(3)
    with ExitStack() as under_way:
        for number in range(3):
            under_way.enter_context(admission.push(caller(number), LIVE))
        assert refused(admission, 3) == "queue_full"


def test_one_push_of_an_agent_at_a_time():
    """A second push of an agent is refused until the first ends; another agent's is not (docs/wire.md §2)."""
    admission = Admission(8)
    with admission.push(caller(1), LIVE):
        assert refused(admission, 1) == "one_at_a_time"
        with admission.push(caller(2), LIVE):
            pass
    with admission.push(caller(1), LIVE):
        pass


def test_a_place_is_given_back_whatever_happens():
    """A push that ends with an error frees its place."""
    admission = Admission(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="trouble"), admission.push(caller(1), BACKLOG):
            raise ValueError("trouble")


def test_a_drain_of_30_days_is_never_too_many_calls_and_an_endless_loop_is():
    """R8: 43,200 records in pushes of 256, with as many Hellos, pass at once; endless calls do not."""
    now = [0.0]
    admission = Admission(8, lambda: now[0])
    calls(admission, 1, 2 * 43_200 // 256)
    calls(admission, 3, CALLS_AT_ONCE)
    with pytest.raises(QueueFull) as caught:
        calls(admission, 3, 1)
    assert caught.value.reason == "too_many_calls"
    now[0] = 1.0
    calls(admission, 3, CALLS_A_SECOND)
    with pytest.raises(QueueFull):
        calls(admission, 3, 1)
    calls(admission, 4, 1)


def test_one_message_of_an_agent_and_method_is_read_at_a_time():
    """Each call holds a worker, so that an agent may have one call per method, and an error frees it."""
    admission = Admission(8)
    with (
        admission.call(caller(1), "Push"),
        admission.call(caller(1), "Hello"),
        admission.call(caller(2), "Push"),
    ):
        with pytest.raises(QueueFull) as caught, admission.call(caller(1), "Push"):
            pass
        assert caught.value.reason == "one_at_a_time"
    for _ in range(2):
        with pytest.raises(TimeoutError), admission.call(caller(1), "Push"):
            raise TimeoutError


def test_many_threads_never_pass_the_bound():
    """With 32 threads over 5 places, no more than 5 are inside at any moment, and all places are freed."""
    admission = Admission(5)
    inside, most, lock = [0], [0], threading.Lock()

    def live(number: int) -> None:
        for _ in range(200):
            try:
                with admission.push(caller(number), LIVE):
                    with lock:
                        inside[0] += 1
                        most[0] = max(most[0], inside[0])
                    with lock:
                        inside[0] -= 1
            except QueueFull:
                continue

    threads = [threading.Thread(target=live, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most[0] <= 5
    with ExitStack() as under_way:
        for number in range(5):
            under_way.enter_context(admission.push(caller(number), LIVE))
