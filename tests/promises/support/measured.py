# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Random records that a machine could have made, all of one machine's different. For the load generator."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from tests.promises.support.contract import Record

FIRST_DAY: Final = date(2024, 1, 1)
DAY_MILLISECONDS: Final = 86_400_000
FIRST_MILLISECONDS: Final = 1_704_067_200_000
"""2024-01-01T00:00:00Z."""
GRAIN_MILLISECONDS: Final = {"server": 300_000, "classroom": 3_600_000, "workstation": 14_400_000}
"""A workstation's day has six parts here, as if the machine were switched off six times."""
CALENDAR: Final = bytes(range(32))
OPEN, NIGHT, CLOSED = 1, 2, 3
ACTIVE, IDLE, ASLEEP, UNKNOWN = 1, 2, 3, 5
RAPL, COMPONENT = 1, 3
SPOOL_CAP, REFUSED, SENSOR_LOST = 2, 1, 4
TOO_MUCH_MILLIJOULES: Final = 10**15
"""Energy that no machine uses in an hour: the collector refuses it for good."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A record with its facts for the history."""

    wire: bytes
    day: int
    """Days since 0001-01-01 (UTC for clock periods)."""
    milliseconds: int
    cells: tuple[tuple[int, int, int, int, int], ...]
    """(band, state, supply, ms, mJ)."""
    of: str | None = None
    """SHA-256 of the record that a gap replaces."""
    number: int = 0
    """Number of its machine's period: 0, 1, 2 …"""


def measured(population: str, number: int, chance: random.Random, *, impossible: bool = False) -> Measured:
    """Return the record of a machine's period `number`; `impossible`: one that a collector must refuse."""
    record = Record()
    body = record.measurement
    period, day = _period(population, number)
    body.period.CopyFrom(period)
    body.calendar_sha256 = CALENDAR
    body.idle_rule_version = 1
    for domain in ("package-0", "dram"):
        body.points.add(kind=RAPL, domain=domain, boundary=COMPONENT, subject="machine")
    grain = GRAIN_MILLISECONDS[population]
    band = CLOSED if population == "workstation" else chance.choice((OPEN, NIGHT, CLOSED))
    left = (
        grain - number % 6 * 1_000 - chance.randrange(1_000)
    )  # parts of a day differ in length, as do their gaps
    parts = sorted(chance.sample(range(1, left), 2))
    lengths = zip((ACTIVE, IDLE, chance.choice((ASLEEP, UNKNOWN))), (0, *parts), (*parts, left), strict=True)
    for state, begin, end in lengths:
        _cell(body.cells.add(), band, state, end - begin, population, chance)
    if chance.random() < 0.05:
        body.gaps.add(reason=SENSOR_LOST, milliseconds=chance.randrange(1, grain), source="linux_rapl")
    if impossible:
        body.cells[0].energies[0].energy_millijoules = TOO_MUCH_MILLIJOULES
    cells = tuple(
        (c.band, c.state, c.supply, c.milliseconds, sum(e.energy_millijoules for e in c.energies))
        for c in body.cells
    )
    return Measured(record.SerializeToString(deterministic=True), day, left, cells, number=number)


def gap_for(population: str, lost: Measured, sha: str, reason: int) -> Measured:
    """Return the gap that replaces a dropped or refused record."""
    record = Record()
    record.gap.reason = reason
    record.gap.records = 1
    period, day = _period(population, lost.number)
    record.gap.spans.add(period=period, milliseconds=lost.milliseconds)
    return Measured(
        record.SerializeToString(deterministic=True), day, lost.milliseconds, (), sha, lost.number
    )


def _period(population: str, number: int) -> tuple[Any, int]:
    period = type(Record().measurement.period)()
    if population == "workstation":
        day = FIRST_DAY + timedelta(days=number // 6)
        period.date.year, period.date.month, period.date.day = day.year, day.month, day.day
        return period, day.toordinal()
    grain = GRAIN_MILLISECONDS[population]
    period.clock.start_unix_milliseconds = FIRST_MILLISECONDS + number * grain
    period.clock.duration_milliseconds = grain
    return period, FIRST_DAY.toordinal() + number * grain // DAY_MILLISECONDS


def _cell(
    cell: Any, band: int, state: int, milliseconds: int, population: str, chance: random.Random
) -> None:
    cell.band, cell.state, cell.supply, cell.milliseconds = (
        band,
        state,
        chance.choice((1, 2, 3)),
        milliseconds,
    )
    if state in (ASLEEP, UNKNOWN):
        return
    for index in range(chance.randrange(1, 3)):
        energy = milliseconds * chance.randrange(1_000, 90_000) // 1_000
        cell.energies.add(point_index=index, energy_millijoules=energy, covered_milliseconds=milliseconds)
    if chance.random() < 0.1:  # the load could not be read: absent, not zero
        return
    cell.cpu_covered_milliseconds = milliseconds
    cell.cpu_busy_milliseconds = chance.randrange(milliseconds + 1)
    low = chance.randrange(milliseconds + 1)
    cell.cpu_bucket_milliseconds.extend([low, *[0] * 11, milliseconds - low])
    cell.memory_bucket_milliseconds.extend([0, milliseconds - low, low, 0, 0])
    cell.any_core_busy_milliseconds = chance.randrange(milliseconds + 1)
    cell.idle_beyond_15_minutes_milliseconds = 0
    if population == "server":
        cell.network_rate_milliseconds.extend([low, 0, milliseconds - low, 0])
