# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Hours that machines of read_together.py spend in their states, and their records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final

from tests.support.filled import clock
from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.wire.bands import DEFAULT_CALENDAR
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import State

MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
ZONE: Final = DEFAULT_CALENDAR.time_zone


@dataclass(frozen=True)
class Hours:
    """Hours of a machine in a month: in one night, and in one week's opening hours."""

    night: Mapping[State, float] = field(default_factory=dict)
    opening: Mapping[State, float] = field(default_factory=dict)
    beyond: float = 0
    """Of its idle opening hours, those in idle runs beyond 30 minutes."""
    window: float = 0
    """Of its idle night, the hours inside update windows."""


METERED_WATTS: Final = (23, 40)
"""Watts of a metered machine that is on; more than 2 % from any model's."""
OFF: Final = Hours({State.OFF: 12}, {State.OFF: 40})
OFFICE: Final = Hours({State.OFF: 12}, {State.ON_ACTIVE: 20, State.ON_IDLE: 8, State.ASLEEP: 5})
NIGHT: Final = Hours({State.ON_IDLE: 9}, {State.ON_ACTIVE: 20, State.ON_IDLE: 8})


def days_from(first: date, number: int) -> list[date]:
    """Return so many days."""
    return [first + timedelta(days=later) for later in range(number)]


def hourly(cells: Iterable[Any], days: Iterable[date], from_hour: int) -> Iterator[tuple[Any, list[Any]]]:
    """Split cells into records of an hour, from that local hour of each day on: up to nine on each of several
    days, or those of one night."""
    begins = [day_start_unix_milliseconds(day, ZONE) + from_hour * HOUR for day in days]
    hours = iter([begin + HOUR * n for begin in begins for n in range(9 if len(begins) > 1 else 14)])
    for one in cells:
        for done in range(0, one.milliseconds, HOUR):
            part = pb.Cell()
            part.CopyFrom(one)
            part.milliseconds = min(HOUR, one.milliseconds - done)
            if one.cpu_covered_milliseconds:
                part.cpu_covered_milliseconds = part.milliseconds
                part.cpu_busy_milliseconds = part.milliseconds // 5
            for energy in part.energies:
                before, after = (
                    energy.energy_millijoules * ms // one.milliseconds
                    for ms in (done, done + part.milliseconds)
                )
                energy.energy_millijoules, energy.covered_milliseconds = after - before, part.milliseconds
            yield clock(next(hours), HOUR), [part]
