# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks the period of a record: kind, range and alignment, by population. docs/privacy.md §1."""

from __future__ import annotations

from datetime import date
from typing import Any, Final

from veilleuse.collector.errors import RecordRefused
from veilleuse.collector.validate.reasons import Reason
from veilleuse.wire.units import MILLISECONDS_PER_DAY, MILLISECONDS_PER_HOUR, UNIX_EPOCH_DAY
from veilleuse.wire.vocabulary import Population

MINIMUM_PERIOD_MILLISECONDS: Final = 10_000
EARLIEST: Final = date(2020, 1, 1)
"""Before the first line of this program: such a clock was never set."""
EARLIEST_UNIX_MILLISECONDS: Final = 1_577_836_800_000
FUTURE_DAYS: Final = 2
"""How far ahead an agent's clock may be; the agent files what it thinks implausible as a gap."""
LONGEST_DAY_MILLISECONDS: Final = MILLISECONDS_PER_DAY + MILLISECONDS_PER_HOUR
LONGEST_WEEK_MILLISECONDS: Final = 7 * MILLISECONDS_PER_DAY + MILLISECONDS_PER_HOUR
LONGEST_GAP_MILLISECONDS: Final = 400 * MILLISECONDS_PER_DAY


def check_period(
    period: Any, population: Population, now_unix_milliseconds: int, *, gap: bool = False
) -> int:
    """Return the longest duration of a record of this period, in ms.

    With `gap`, a clock span may be longer than an hour and unaligned. Raises RecordRefused.
    """
    kind = period.WhichOneof("kind")
    if kind is None:
        raise RecordRefused(Reason.PERIOD_MISSING)
    if (kind == "clock") is (population is Population.WORKSTATION):
        raise RecordRefused(Reason.PERIOD_KIND_NOT_ALLOWED)
    if kind == "clock":
        return _check_clock(period.clock, population, now_unix_milliseconds, gap=gap)
    first = _first_day(period, kind)
    last = first + (6 if kind == "week" else 0)
    if last < EARLIEST.toordinal():
        raise RecordRefused(Reason.PERIOD_TOO_OLD)
    if first - UNIX_EPOCH_DAY > now_unix_milliseconds // MILLISECONDS_PER_DAY + FUTURE_DAYS:
        raise RecordRefused(Reason.PERIOD_IN_FUTURE)
    return LONGEST_DAY_MILLISECONDS if kind == "date" else LONGEST_WEEK_MILLISECONDS


def _first_day(period: Any, kind: str) -> int:
    try:
        if kind == "date":
            return date(period.date.year, period.date.month, period.date.day).toordinal()
        return date.fromisocalendar(period.week.year, period.week.week, 1).toordinal()
    except (ValueError, OverflowError) as error:
        raise RecordRefused(Reason.PERIOD_OUT_OF_RANGE) from error


def _check_clock(clock: Any, population: Population, now_unix_milliseconds: int, *, gap: bool) -> int:
    start: int = clock.start_unix_milliseconds
    duration: int = clock.duration_milliseconds
    longest = LONGEST_GAP_MILLISECONDS if gap else MILLISECONDS_PER_HOUR
    shortest = 1 if gap else MINIMUM_PERIOD_MILLISECONDS
    if not shortest <= duration <= longest:
        raise RecordRefused(Reason.DURATION_OUT_OF_RANGE)
    if start < EARLIEST_UNIX_MILLISECONDS:
        raise RecordRefused(Reason.PERIOD_TOO_OLD)
    if start + duration > now_unix_milliseconds + FUTURE_DAYS * MILLISECONDS_PER_DAY:
        raise RecordRefused(Reason.PERIOD_IN_FUTURE)
    # Whole seconds inside one UTC hour: an agent joins periods of its grain while it sleeps, 12 s of them or
    # 300.
    whole = start % 1_000 == 0 and duration % 1_000 == 0
    if not gap and not (whole and start % MILLISECONDS_PER_HOUR + duration <= MILLISECONDS_PER_HOUR):
        raise RecordRefused(Reason.PERIOD_NOT_ALIGNED)
    if not gap and population is Population.CLASSROOM and duration != MILLISECONDS_PER_HOUR:
        raise RecordRefused(Reason.GRAIN_TOO_FINE)
    return duration
