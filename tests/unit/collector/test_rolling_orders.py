# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What is kept of a year does not depend on when its records came, or on what was done meanwhile: derived, kept, expired, derived again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.filled import RAPL, Filled, cell, civil, clock, week
from tests.rolled import HOUR, ZONE, retention, roll, workstation
from tests.unit.collector.test_rolling_months import months, total
from veilleuse.collector.account.perimeter import day_start_unix_milliseconds
from veilleuse.collector.model import HostId
from veilleuse.collector.vectors import IMPUTED_COLUMNS
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State, Supply

FIRST = date(2024, 12, 23)
"""A Monday: the week after it lies in two years, and the hours change in no time of this."""
DAYS = 21
BOTH = (date(2024, 12, 1), date(2025, 2, 1))
LAST = date(2025, 5, 1)
"""Everything is old then."""

Record = tuple[Any, Sequence[Any]]
Step = tuple[str, int]
_STATES = (State.ON_ACTIVE, State.ON_IDLE, State.OFF, State.ASLEEP, State.UNKNOWN)


@st.composite
def cells(draw: st.DrawFn, band: Band, longest: int) -> list[Any]:
    """Some of a period's time, measured or not."""
    found = {}
    for state in draw(st.lists(st.sampled_from(_STATES), min_size=1, max_size=2, unique=True)):
        milliseconds = draw(st.integers(1, longest // 2))
        on = state in (State.ON_ACTIVE, State.ON_IDLE)
        energy = draw(st.none() | st.integers(0, 40 * milliseconds)) if on else None
        supply = draw(st.sampled_from((Supply.AC, Supply.UNKNOWN)))
        found[state] = cell(state, milliseconds, band, supply, energy_millijoules=energy)
    return list(found.values())


@st.composite
def of_a_pc(draw: st.DrawFn) -> list[Record]:
    """Days and weeks, some of them missing."""
    days = draw(st.sets(st.integers(0, DAYS - 1), min_size=1))
    records: list[Record] = [
        (civil(FIRST + timedelta(days=day)), draw(cells(Band.NIGHT, 8 * HOUR))) for day in sorted(days)
    ]
    for monday in range(0, DAYS, 7):
        records.append((week(FIRST + timedelta(days=monday)), draw(cells(Band.OPEN, 50 * HOUR))))
    return records


@st.composite
def of_hours(draw: st.DrawFn) -> list[Record]:
    """Hours; of one day several."""
    start = day_start_unix_milliseconds(date(2024, 12, 30), ZONE)
    hours = draw(st.sets(st.integers(0, 4 * 24 - 1), min_size=1, max_size=12))
    return [
        (clock(start + hour * HOUR, HOUR), draw(cells(draw(st.sampled_from(Band)), HOUR)))
        for hour in sorted(hours)
    ]


STEPS = st.lists(
    st.tuples(st.sampled_from(("push", "derive", "all", "keep", "expire")), st.integers(0, 40)), max_size=12
)


def play(filled: Filled, host_id: HostId, records: Sequence[Record], steps: Sequence[Step]) -> None:
    """Some records at each push, in their order; the days go on by as many as a step says; at last all of it is told and done."""
    waiting, today = list(records), date(2025, 1, 1)
    for what, number in [*steps, ("push", len(records)), ("derive", 0)]:
        if what == "push":
            if now := waiting[:number]:
                filled.push(host_id, now, RAPL)
            del waiting[:number]
        elif what == "all":
            filled.store.derive.mark_all_dirty()
        elif what == "derive":
            filled.derive()
        else:
            today += timedelta(days=number)
            if what == "keep":
                roll(filled, today)
            else:
                retention(filled).run(today)


def kept(
    place: Path, machine: Callable[[Filled], HostId], records: Sequence[Record], steps: Sequence[Step]
) -> list[Counter[str]]:
    """All columns but what stands in for time nobody told of, and nights, which are of the hours that were there together: as reports
    read them, and once every day has gone."""
    with Filled(place) as filled:
        play(filled, machine(filled), records, steps)
        found = [total(months(filled, *BOTH))]
        roll(filled, LAST)
        found.append(total(months(filled, *BOTH)))
        assert not retention(filled).run(LAST).blocked
        found.append(total(months(filled, *BOTH)))
        for table in ("records", "derived", "sums"):
            old = f"SELECT count(*) FROM {table} WHERE grain > 0"
            if filled.store.registry.hosts()[0].population is not Population.SERVER:
                assert filled.store.data.connection.execute(old).fetchone() == (0,)
    for one in found:
        for name in (*IMPUTED_COLUMNS, "nights_on"):
            del one[name]
    return found


def check(machine: Callable[[Filled], HostId], records: list[Record], shuffled: list[Record], steps: list[Step]) -> None:
    with TemporaryDirectory() as name:
        plain, *same = kept(Path(name) / "plain", machine, records, [])
        assert same == [plain, plain]
        assert kept(Path(name) / "other", machine, shuffled, steps) == [plain] * 3


@settings(max_examples=25)
@given(st.data())
def test_days_and_weeks_in_any_order(data: st.DataObject):
    """A PC's, with a week in two years: Σ of what is kept = Σ of the days, to the millijoule and the millisecond."""
    records = data.draw(of_a_pc())
    check(workstation, records, data.draw(st.permutations(records)), data.draw(STEPS))


@pytest.mark.parametrize("population", [Population.SERVER, Population.CLASSROOM])
@settings(max_examples=15)
@given(st.data())
def test_hours_in_any_order(population: Population, data: st.DataObject):
    """A server's and a classroom PC's."""

    def machine(filled: Filled) -> HostId:
        return filled.add_host(population, DeviceClass.TOWER)

    records = data.draw(of_hours())
    check(machine, records, data.draw(st.permutations(records)), data.draw(STEPS))
