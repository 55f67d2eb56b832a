# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A fleet in virtual time around an outage of the collector: real Contacts, real waits, one event queue.

Only the sender's process (patched where the operating system starts one) and its network are simulated.
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
"""Start of the outage, Unix ms."""
TICK: Final = 10_000
STARTING: Final = (150, 500)
"""Milliseconds from a sender's start to its first call, at least and at most: measured on two cores."""
HELD_POLL: Final = 2_500
HELD_PERIOD: Final = 10_000
"""Interval at which a held sender has something to push."""


class Control:
    """The control table in memory: Contacts uses nothing else of a spool."""

    def __init__(self) -> None:
        self.values: dict[str, str | None] = {}

    def control(self, key: str) -> str | None:
        return self.values.get(key)


@dataclass
class Fleet:
    """`counts`: (population, held) → machines. `retry`: the wait after a failure, which a mutant replaces."""

    counts: Mapping[tuple[Population, bool], int]
    outage: int
    """Milliseconds from START in which the collector is away."""
    horizon: int
    """Milliseconds after START at which to stop."""
    state: Path
    seed: int = 1
    retry: Retry = retry_delay_milliseconds
    calls: Counter[int] = field(default_factory=Counter)
    """Connections by second since the collector's return; refused ones before it are negative."""
    looking: _Machine = field(init=False)
    """Machine of the present tick: the operating system would know it by the process."""

    def run(self, patch: pytest.MonkeyPatch) -> Counter[int]:
        """Run the fleet, and return the connections by second."""
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
        """Call `act` at that Unix ms."""
        self._order += 1
        heapq.heappush(self.queue, (when, self._order, act))

    def connect(self, when: int) -> bool:
        """Count a connection; return whether the collector answers."""
        away = START <= when < START + self.outage
        self.calls[(when - START - self.outage) // 1_000] += when >= START
        return not away


class _Machine:
    """A machine whose resident looks on every tick, as the real one does; idle ticks are skipped."""

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
        """Schedule the next contact, as the last contact before the outage set it."""
        due = next_contact_unix_milliseconds(
            START, self.interval, 0, self.agent_id, self.fleet.chance.uniform
        )
        self.control.values[ControlKey.NEXT_SEND] = str(due)
        self.fleet.at(self.tick_from(due), self.look)

    def tick_from(self, when: int) -> int:
        """Return the first tick at or after that time."""
        return when + (self.boot - when) % TICK

    def popen(self) -> _Machine:
        """Start the sender: it calls a moment later, and ends before the next tick."""
        when = self.now + round(self.fleet.chance.uniform(*STARTING))
        self.code = 0 if self.contact(when) else 1
        self.ends = when
        return self

    def contact(self, when: int) -> bool:
        """Make a contact and set the next one, as sending.Sending does; return True when it succeeded."""
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
        """Return the exit code once the sender has ended, as subprocess.Popen does."""
        return self.code if self.now >= self.ends else None

    def look(self, now: int) -> None:
        """Run one tick."""
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
    """A sender that stays connected: its next push finds the collector away, then it waits for the delay."""

    def begin(self) -> None:
        self.fleet.at(START + self.fleet.chance.randrange(HELD_PERIOD), self.poll_spool)

    def poll_spool(self, when: int) -> None:
        """Look at the spool, at or after the agreed time."""
        if self.contact(when):
            return  # the sender stays connected
        later = -(-(self.due - when) // HELD_POLL) * HELD_POLL
        self.fleet.at(when + max(HELD_POLL, later), self.poll_spool)
