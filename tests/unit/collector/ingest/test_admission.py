# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Who is served and who is shed: backlog before live data, one push at a time of an agent, no agent without
end."""

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
    """A machine."""
    return Caller(HostId(number), AgentId(number.to_bytes(16, "big")), Population.SERVER, "", 1)


def refused(admission: Admission, number: int, size: int = LIVE) -> str:
    """The reason."""
    with pytest.raises(QueueFull) as caught, admission.push(caller(number), size):
        pass
    return caught.value.reason


def calls(admission: Admission, number: int, times: int) -> None:
    """One after the other."""
    for _ in range(times):
        with admission.call(caller(number), "Push"):
            pass


def behind(admission: Admission) -> bool:
    """A property changes without its object being assigned to, which mypy does not think of."""
    return admission.is_behind


def test_backlog_gets_half_of_the_places_and_live_data_the_rest():
    """Eight places: the fifth backlog is told to come back while live data are taken; the ninth of all is
    not."""
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
    """There is no place that only backlog may have."""
    admission = Admission(3)
    with ExitStack() as under_way:
        for number in range(3):
            under_way.enter_context(admission.push(caller(number), LIVE))
        assert refused(admission, 3) == "queue_full"


def test_one_push_of_an_agent_at_a_time():
    """docs/wire.md §2: a second one is told to come back, another agent is not; after the first
    it is taken."""
    admission = Admission(8)
    with admission.push(caller(1), LIVE):
        assert refused(admission, 1) == "one_at_a_time"
        with admission.push(caller(2), LIVE):
            pass
    with admission.push(caller(1), LIVE):
        pass


def test_a_place_is_given_back_whatever_happens():
    """Also when the push ends with an error."""
    admission = Admission(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="trouble"), admission.push(caller(1), BACKLOG):
            raise ValueError("trouble")


def test_a_drain_of_30_days_is_never_too_many_calls_and_an_endless_loop_is():
    """R8: 43,200 records of 256 a push and as many Hellos pass at once; a machine that calls without end is
    left its rate."""
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
    """Each holds a worker: one that begins messages without end holds one for each method, whatever becomes
    of them."""
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
    """32 threads of 32 machines over 5 places: at no moment more than 5 inside, and every place
    comes back."""
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
