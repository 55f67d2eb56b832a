# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Generates the daily states of simulated machines: in use, left on, asleep, off (pure). Each has its own
habits, drawn once.

The habits are invented, within published ranges (one machine in ten never sleeps, docs/methodology.md §14;
four weeks of summer).
"""

from __future__ import annotations

import math
import random
from datetime import date
from typing import Final, NamedTuple, Protocol

from veilleuse.collector.model.months import DayType
from veilleuse.collector.simulate.fleet import SimulatedDevice
from veilleuse.collector.simulate.places import VIRTUAL, Model
from veilleuse.wire.units import MILLISECONDS_PER_HOUR, MILLISECONDS_PER_MINUTE
from veilleuse.wire.vocabulary import DeviceClass, Population, State, Supply

_SECOND: Final = 1_000
_WEDNESDAY: Final = 3
IDLE_LOAD: Final = 0.012
"""Processor load of an unused machine."""


class Span(NamedTuple):
    """A stretch of time in one state; Unix milliseconds."""

    start: int
    end: int
    state: State
    """ON_ACTIVE: in use, `active` of the time active and the rest idle."""
    supply: Supply
    load: float = IDLE_LOAD
    """Processor load while active, 0 to 1."""
    active: float = 0.0
    screens: int = 0
    """External screens that are on."""
    idle_since: int = 0
    """For an idle span: the end of its last use."""


class Routine(Protocol):
    """Generator of one machine's days, in order."""

    def spans(self, day: date, kind: DayType, start: int, end: int) -> list[Span]:
        """Return the spans of the civil day [start, end): they touch and cover it."""


def routine_of(device: SimulatedDevice, seed: int) -> Routine:
    """Return the habits of a machine, with daily variation; the same for the same seed."""
    draw = random.Random(f"{seed}/{device.number}/days")
    if device.place.is_room:
        return _Server(draw, device.model)
    return _Pupils(device, draw) if device.place.population is Population.CLASSROOM else _Office(device, draw)


class _Rest:
    """State of a machine while nobody uses it."""

    def __init__(self, device: SimulatedDevice, supply: Supply) -> None:
        self._always_on = device.always_on
        self._shut_down_from = device.shut_down_from or date.max
        self.supply = supply
        self.state = State.ON_IDLE if device.always_on else State.OFF
        self.since = 0

    def shut_down(self, day: date) -> None:
        """Switch it off, where an action does so from this day on."""
        if day == self._shut_down_from:
            self.state = State.OFF

    def begin(self, day: date, at: int, *, left_on: bool, otherwise: State) -> None:
        """Begin the unused state at `at`."""
        stays_on = (self._always_on or left_on) and day < self._shut_down_from
        self.state = State.ON_IDLE if stays_on else otherwise
        self.since = at

    def span(self, start: int, end: int) -> Span:
        supply = Supply.AC if self.state is State.ON_IDLE else self.supply
        return Span(start, end, self.state, supply, idle_since=self.since or start)


class _Pupils:
    """A classroom PC: lessons from morning to afternoon, sometimes left on in the evening."""

    def __init__(self, device: SimulatedDevice, draw: random.Random) -> None:
        self._draw = draw
        self._screens = device.screens
        self._forgotten = draw.uniform(*(device.place.left_on or (0.02, 0.25)))
        self._active = draw.uniform(0.3, 0.6)
        self._load = draw.uniform(0.06, 0.25)
        self._rest = _Rest(device, Supply.AC)

    def spans(self, day: date, kind: DayType, start: int, end: int) -> list[Span]:
        draw, rest = self._draw, self._rest
        rest.shut_down(day)
        used = draw.random() < {DayType.OPEN: 0.93, DayType.SCHOOL_HOLIDAY: 0.05, DayType.CLOSED: 0.0}[kind]
        begun = start + round(draw.uniform(7.9, 8.7) * 3600) * _SECOND
        last = 12.4 if day.isoweekday() == _WEDNESDAY else 17.1
        ended = start + round((last + draw.uniform(-0.7, 0.7)) * 3600) * _SECOND
        left_on, load = draw.random() < self._forgotten, self._load * draw.uniform(0.8, 1.2)
        if not used:
            return [rest.span(start, end)]
        spans = [rest.span(start, begun)]
        noon = start + 12 * MILLISECONDS_PER_HOUR + 15 * MILLISECONDS_PER_MINUTE
        busy = Span(begun, ended, State.ON_ACTIVE, Supply.AC, load, self._active, self._screens)
        if ended > noon + 2 * MILLISECONDS_PER_HOUR:  # lunch break
            after = noon + MILLISECONDS_PER_HOUR
            spans += [
                busy._replace(end=noon),
                Span(noon, after, State.ON_IDLE, Supply.AC, idle_since=noon),
                busy._replace(start=after),
            ]
        else:
            spans.append(busy)
        rest.begin(day, ended, left_on=left_on, otherwise=State.OFF)
        return [*spans, rest.span(ended, end)]


class _Office:
    """A person's machine: laptops go to meetings and, on some days, home; desktops are sometimes left on."""

    def __init__(self, device: SimulatedDevice, draw: random.Random) -> None:
        self._draw = draw
        self._screens = device.screens
        self._mobile = device.model.device_class is DeviceClass.LAPTOP
        self._arrival = min(9.0, draw.gauss(8.5, 0.4))
        self._departure = max(16.5, draw.gauss(17.5, 0.5))
        self._left_on = 0.02 if self._mobile else draw.uniform(*(device.place.left_on or (0.03, 0.3)))
        self._home = (
            frozenset(draw.sample(range(1, 6), 2)) if self._mobile and draw.random() < 0.6 else frozenset()
        )
        self._meetings = draw.uniform(0.1, 0.6) if self._mobile else 0.0
        self._active = draw.uniform(0.4, 0.75)
        self._load = draw.uniform(0.04, 0.2)
        self._night = State.ASLEEP if self._mobile and draw.random() < 0.5 else State.OFF
        self._rest = _Rest(device, Supply.UNKNOWN if self._mobile else Supply.AC)

    def spans(self, day: date, kind: DayType, start: int, end: int) -> list[Span]:
        draw, rest = self._draw, self._rest
        rest.shut_down(day)
        usual = 0.1 if kind is DayType.SCHOOL_HOLIDAY else 0.5 if day.month == 8 else 0.88
        there = kind is not DayType.CLOSED and draw.random() < usual
        begun = start + round((self._arrival + draw.uniform(-0.6, 0.6)) * 3600) * _SECOND
        ended = start + round((self._departure + draw.uniform(-1, 1)) * 3600) * _SECOND
        meeting, left_on = draw.random() < self._meetings, draw.random() < self._left_on
        load = self._load * draw.uniform(0.7, 1.3)
        if not there:
            return [rest.span(start, end)]
        at_home = day.isoweekday() in self._home
        screens = 0 if at_home else self._screens
        busy = Span(begun, ended, State.ON_ACTIVE, Supply.AC, load, self._active, screens)
        spans = [rest.span(start, begun)]
        at = begun
        if meeting and not at_home:
            first, last = (begun + minutes * MILLISECONDS_PER_MINUTE for minutes in (60, 130))
            in_it = busy._replace(start=first, end=last, supply=Supply.BATTERY, screens=0)
            spans += [busy._replace(end=first), in_it]
            at = last
        noon = start + 12 * MILLISECONDS_PER_HOUR + 30 * MILLISECONDS_PER_MINUTE
        after = noon + 50 * MILLISECONDS_PER_MINUTE
        lunch = State.ASLEEP if self._mobile else State.ON_IDLE
        spans += [
            busy._replace(start=at, end=noon),
            Span(noon, after, lunch, Supply.AC, idle_since=noon),
            busy._replace(start=after),
        ]
        rest.begin(day, ended, left_on=left_on, otherwise=self._night)
        return [*spans, rest.span(ended, end)]


class _Server:
    """Always on, with another load each hour; some are almost unused."""

    def __init__(self, draw: random.Random, model: Model) -> None:
        self._draw = draw
        is_unused = draw.random() < 0.25 and model != VIRTUAL
        self._base = 0.01 if is_unused else draw.uniform(0.05, model.most_load)

    def spans(self, day: date, kind: DayType, start: int, end: int) -> list[Span]:
        busy = 0.5 if kind is DayType.CLOSED else 1.0
        spans = []
        at = start
        while at < end:
            hour = (at - start) / MILLISECONDS_PER_HOUR
            wave = 1 + 0.6 * busy * math.sin((hour - 8) / 24 * 2 * math.pi)
            load = min(0.95, max(0.003, self._base * wave * self._draw.uniform(0.8, 1.2)))
            active = min(1.0, load * 8)
            stop = at + MILLISECONDS_PER_HOUR
            spans.append(Span(at, stop, State.ON_ACTIVE, Supply.AC, load, active))
            at = stop
        return spans
