# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A fleet in virtual time around an outage of the collector: the real Contacts, the real waits, one event
queue.

Only what is not ours is made up: the sender's process (patched where the operating system starts one) and its
network.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from veilleuse.agent.model import Instant
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.resident.sender_child import IDENTITY_FILE, Contacts
from veilleuse.agent.sending.session import next_contact_unix_milliseconds, retry_delay_milliseconds
from veilleuse.agent.settings import CONTACT_SECONDS
from veilleuse.wire.vocabulary import Population

Uniform = Callable[[float, float], float]
Retry = Callable[[int, int, int, Uniform], int]

START: Final = 1_790_000_000_000
"""Unix ms of the beginning of the outage; a multiple of nothing."""
TICK: Final = 10_000
STARTING: Final = (150, 500)
"""Milliseconds that a sender's Python takes until it calls: measured on two cores."""
HELD_POLL: Final = 2_500
HELD_PERIOD: Final = 10_000
"""A held sender has something to push this often."""


class Control:
    """The control table, in memory: all that Contacts asks of a spool."""

    def __init__(self) -> None:
        self.values: dict[str, str | None] = {}

    def control(self, key: str) -> str | None:
        """A value."""
        return self.values.get(key)


@dataclass
class Fleet:
    """`counts`: (population, held) → how many machines. `retry`: the wait after a failure, to be spoilt by a
    mutant."""

    counts: Mapping[tuple[Population, bool], int]
    outage: int
    """Milliseconds; the collector is away from START to START + outage."""
    horizon: int
    """Milliseconds after START at which to stop."""
    state: Path
    seed: int = 1
    retry: Retry = retry_delay_milliseconds
    calls: Counter[int] = field(default_factory=Counter)
    """Connections by second since the collector is back; refused ones before are negative."""
    looking: _Machine = field(init=False)
    """Whose tick it is: the operating system would know by the process."""

    def run(self, patch: pytest.MonkeyPatch) -> Counter[int]:
        """The connections."""
        identity = self.state / IDENTITY_FILE
        identity.parent.mkdir(parents=True, exist_ok=True)
        identity.touch()
        patch.setattr(
            "veilleuse.agent.resident.child.subprocess.Popen", lambda *_, **__: self.looking.popen()
        )
        self.chance = random.Random(self.seed)
        self.queue: list[tuple[int, int, Callable[[int], None]]] = []
        self._order = 0
        for (population, held), number in self.counts.items():
            for _ in range(number):
                (_Held if held else _Machine)(self, population)
        while self.queue and self.queue[0][0] < START + self.horizon:
            when, _, act = heapq.heappop(self.queue)
            act(when)
        return self.calls

    def at(self, when: int, act: Callable[[int], None]) -> None:
        """Later, at that Unix ms."""
        self._order += 1
        heapq.heappush(self.queue, (when, self._order, act))

    def connect(self, when: int) -> bool:
        """Whether the collector answers."""
        away = START <= when < START + self.outage
        self.calls[(when - START - self.outage) // 1_000] += when >= START
        return not away


class _Machine:
    """Its resident looks on every tick, as the real one does; ticks on which nothing can happen
    are left out."""

    stdin = None

    def __init__(self, fleet: Fleet, population: Population) -> None:
        self.fleet = fleet
        self.population = population
        self.interval = CONTACT_SECONDS[population] * 1_000
        self.agent_id = fleet.chance.randbytes(16)
        self.control = Control()
        self.boot = START - fleet.chance.randrange(86_400_000)
        self.contacts = Contacts(
            fleet.state, None, 0, below=lambda bound: fleet.chance.randrange(bound) if bound > 0 else 0
        )
        self.pid = self.failures = self.ends = self.code = self.now = self.due = 0
        self.begin()

    def begin(self) -> None:
        """The next contact, as the last one before the outage left it."""
        due = next_contact_unix_milliseconds(
            START, self.interval, 0, self.agent_id, self.fleet.chance.uniform
        )
        self.control.values[ControlKey.NEXT_SEND] = str(due)
        self.fleet.at(self.tick_from(due), self.look)

    def tick_from(self, when: int) -> int:
        """The first tick at or after then."""
        return when + (self.boot - when) % TICK

    def popen(self) -> _Machine:
        """The sender starts: it calls a moment later, and has ended before the next tick."""
        when = self.now + round(self.fleet.chance.uniform(*STARTING))
        self.code = 0 if self.contact(when) else 1
        self.ends = when
        return self

    def contact(self, when: int) -> bool:
        """What sending.Sending does with the outcome."""
        uniform = self.fleet.chance.uniform
        if self.fleet.connect(when):
            self.failures = 0
            self.due = next_contact_unix_milliseconds(when, self.interval, 0, self.agent_id, uniform)
        else:
            self.failures += 1
            self.due = when + self.fleet.retry(self.failures, self.interval, 0, uniform)
        self.control.values[ControlKey.NEXT_SEND] = str(self.due)
        return self.failures == 0

    def poll(self) -> int | None:
        """As subprocess.Popen: the exit code, once the sender has ended."""
        return self.code if self.now >= self.ends else None

    def look(self, now: int) -> None:
        """One tick."""
        self.now = now
        self.fleet.looking = self
        instant = Instant(now, now - self.boot, now - self.boot)
        self.contacts.step(instant, now, self.control, self.population, 300_000)  # type: ignore[arg-type]  # control alone is asked
        later = now + TICK
        if not self.contacts.running:
            due = int(self.control.values[ControlKey.NEXT_SEND] or 0)
            later = max(later, self.tick_from(due))
        self.fleet.at(later, self.look)


class _Held(_Machine):
    """A sender that stays: it finds the collector gone when it next pushes, then waits as told."""

    def begin(self) -> None:
        self.fleet.at(START + self.fleet.chance.randrange(HELD_PERIOD), self.poll_spool)

    def poll_spool(self, when: int) -> None:
        """One look at the spool, at or after the time agreed."""
        if self.contact(when):
            return  # and stays connected
        later = -(-(self.due - when) // HELD_POLL) * HELD_POLL
        self.fleet.at(when + max(HELD_POLL, later), self.poll_spool)
