# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R16: a fleet comes back after an outage without a thundering herd. docs/wire.md §3."""

from __future__ import annotations

import heapq
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.promises.support.returning import Fleet, Retry
from tests.support.machines import Machine, hello_request
from tests.support.stack import Stack
from tests.support.waiting import comes, until
from veilleuse.agent.sending.session import retry_delay_milliseconds
from veilleuse.wire.vocabulary import Population

OUTAGE = 600_000
FIRST = 120
"""Seconds after the return; their mean is the reference."""
TICK = 10
"""Seconds."""
PEAK, SECOND_PEAK = 3.0, 2.0
WORKSTATIONS, CLASSROOMS = (Population.WORKSTATION, False), (Population.CLASSROOM, False)
SERVERS, HELD = (Population.SERVER, False), (Population.SERVER, True)
FLEETS: dict[str, tuple[Mapping[tuple[Population, bool], int], int]] = {
    "servers": ({SERVERS: 10_000}, 900),
    "servers that hold their channel": ({HELD: 10_000}, 900),
    "mixed": ({WORKSTATIONS: 4_000, CLASSROOMS: 2_000, SERVERS: 3_000, HELD: 1_000}, 3_600),
    "mostly workstations": ({WORKSTATIONS: 7_000, CLASSROOMS: 2_000, SERVERS: 1_000}, 3_600),
}
"""Name → (machines, seconds of the interval: the longest below a day)."""
QUICK = "servers that hold their channel"
"""The fleet that calls most often; `make test` runs it alone."""


@dataclass(frozen=True)
class Return:
    """The connections of a fleet that comes back."""

    mean: float
    """Connections/s over the first 120 s."""
    peak: int
    """The most connections in one of these seconds."""
    later: float
    """Highest rate of ten seconds in the three intervals after, per second: shorter peaks are chance."""

    @classmethod
    def of(cls, calls: Counter[int], interval: int) -> Return:
        """Return the figures of connections by second since the return."""
        first = [calls[second] for second in range(FIRST)]
        later = [
            sum(calls[second + within] for within in range(TICK))
            for second in range(FIRST, FIRST + 3 * interval)
        ]
        return cls(sum(first) / FIRST, max(first), max(later) / TICK)

    @property
    def kept(self) -> bool:
        """True when the promise is kept."""
        return self.peak <= PEAK * self.mean and self.later <= SECOND_PEAK * self.mean and self.mean > 0

    def __str__(self) -> str:
        mean = self.mean or float("nan")
        return f"peak {self.peak / mean:.2f} × the mean of {self.mean:.1f} connections/s, later {self.later / mean:.2f} ×"


def returned(
    name: str, folder: Path, patch: pytest.MonkeyPatch, retry: Retry, outage: int = OUTAGE
) -> Return:
    """Return the figures of the fleet of that name after the outage."""
    counts, interval = FLEETS[name]
    horizon = outage + (FIRST + 3 * interval) * 1_000
    fleet = Fleet(counts, outage, horizon, folder, retry=retry)
    return Return.of(fleet.run(patch), interval)


@pytest.mark.promise("R16")
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == QUICK else pytest.mark.long) for name in FLEETS],
)
def test_a_fleet_of_ten_thousand_comes_back_evenly(name, tmp_path, monkeypatch, figure):
    """After 10 min away, no second of the first 120 has over three times their mean, and no ten seconds of
    three later intervals over twice it."""
    back = returned(name, tmp_path, monkeypatch, retry_delay_milliseconds)
    figure(f"10,000 agents, {name}: {back}")
    assert back.kept


@pytest.mark.promise("R16")
def test_without_jitter_the_promise_is_broken(tmp_path, monkeypatch, figure):
    """The check fails when each wait is at its ceiling."""

    def certain(failures, interval, asked, uniform):
        return retry_delay_milliseconds(failures, interval, asked, lambda low, high: high)

    back = returned(QUICK, tmp_path, monkeypatch, certain)
    assert not back.kept, back
    figure("mutant without jitter detected")


@pytest.mark.long
@pytest.mark.promise("R16")
def test_shorter_outages_are_no_worse(tmp_path, monkeypatch, figure):
    """Outages of 30 s to 5 min keep the promise under the fleet that calls most often.

    With the waits of 0.1, which fell to 5 s after the second failure, two of them break it.
    """
    name, outages = QUICK, (30_000, 60_000, 120_000, 300_000)
    backs = {
        outage: returned(name, tmp_path, monkeypatch, retry_delay_milliseconds, outage) for outage in outages
    }
    figure(
        "peak after shorter outages: "
        + ", ".join(
            f"{back.peak / back.mean:.2f} × the mean ({out // 1000} s)" for out, back in backs.items()
        )
    )

    def released(failures, interval, asked, uniform):
        return round(uniform(0, 120_000 if failures == 1 else min(900_000, 5_000 << min(failures - 2, 20))))

    assert all(back.kept for back in backs.values())
    for outage in (60_000, 120_000):
        assert not returned(name, tmp_path, monkeypatch, released, outage).kept


# ------------------------------------------------------------------------------- real channels

AGENTS = 1_000
AWAY_SECONDS = 30
INTERVAL = 900_000


class Caller:
    """A machine with a real channel of its own; it calls, waits by the real rule and calls again."""

    def __init__(self, machine: Machine, chance: random.Random) -> None:
        self.machine = machine
        self.uniform = chance.uniform
        self.failures = 0
        self.back: float | None = None
        """Time of the first answer after the outage, monotonic seconds."""
        self.took = 0.0

    def call(self) -> float | None:
        """Make a contact on a new connection; return the seconds to the next one, None when answered."""
        began = time.monotonic()
        try:
            with self.machine.telemetry() as stub:
                stub.Hello(hello_request(), timeout=15)
        except grpc.RpcError:
            self.failures += 1
            return retry_delay_milliseconds(self.failures, INTERVAL, 0, self.uniform) / 1_000
        self.back = time.monotonic()
        self.took = self.back - began
        return None


@pytest.mark.long
@pytest.mark.promise("R16")
def test_a_thousand_real_channels_come_back(tmp_path, figure):
    """All of 1,000 machines come back after a real collector was away for 30 s.

    No second has more than three times the mean of two minutes, and 99 % of the calls take less than 5 s.
    """
    with Stack(tmp_path) as stack:
        collector = stack.start_collector()
        machines = enrolled(stack, AGENTS)
        assert stack.stop(collector) == 0
        callers = [Caller(machine, random.Random(number)) for number, machine in enumerate(machines)]
        chance = random.Random(0)
        gone = time.monotonic()
        queue = [(gone + chance.uniform(0, AWAY_SECONDS), number) for number in range(AGENTS)]
        heapq.heapify(queue)
        running = threading.Thread(target=drive, args=(callers, queue, 420))
        running.start()
        until(lambda: all(caller.failures for caller in callers), "a machine never called")
        stack.start_collector()
        running.join()
    answered = [caller.back for caller in callers if caller.back is not None]
    times = [each - min(answered) for each in answered]
    calls = Counter(int(second) for second in times)
    mean, peak = sum(calls[second] for second in range(FIRST)) / FIRST, max(calls.values())
    slowest = sorted(caller.took for caller in callers)[int(AGENTS * 0.99) - 1]
    figure(
        f"{len(times):,} real connections restored in {max(times):.0f} s: peak {peak / mean:.2f} × the mean of "
        f"{mean:.1f} connections/s, p99 of a call with its handshake {slowest * 1000:.0f} ms"
    )
    assert len(times) == AGENTS
    assert peak <= PEAK * mean
    assert slowest < 5


def enrolled(stack: Stack, number: int) -> list[Machine]:
    """Return machines with certificates of the collector's own authority, enrolled by one group token."""
    import json

    where = ("--entity", "test", "--site", "test", "--population", "server", "--uses", str(number))
    stack.must("veilleuse", "token", "create", *where, "--output", str(stack.folder / "group"))
    join = json.loads((stack.folder / "group").read_text())
    machines = [Machine(join) for _ in range(number)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(Machine.enrol, machines))
    return machines


def drive(callers: list[Caller], queue: list[tuple[float, int]], seconds: float) -> None:
    """Make each call when it is due, up to 64 at once, until all are answered or the time is over."""
    lock = threading.Lock()

    def call(number: int) -> None:
        wait = callers[number].call()
        if wait is not None:
            with lock:
                heapq.heappush(queue, (time.monotonic() + wait, number))

    def all_back() -> bool:
        with lock:
            while queue and queue[0][0] <= time.monotonic():
                pool.submit(call, heapq.heappop(queue)[1])
        return all(caller.back is not None for caller in callers)

    with ThreadPoolExecutor(64) as pool:
        comes(all_back, seconds)
