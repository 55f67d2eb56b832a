# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A kept year does not depend on the order of its records, or of deriving, keeping and expiring meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.filled import RAPL, Filled, cell, civil, clock, week
from tests.support.rolled import (
    HOUR,
    ZONE,
    days_of,
    retention,
    roll,
    roll_under_way,
    site_calendars,
    workstation,
)
from tests.unit.collector.calendars.test_rolling_months import months, total
from veilleuse.collector.calendars.periods import civil_day, day_start_unix_milliseconds
from veilleuse.collector.model.months import IMPUTED_COLUMNS, HostPeriod, without_imputed
from veilleuse.collector.model.records import HostId
from veilleuse.collector.months.imputation import month_rows
from veilleuse.collector.months.worker import ended_by
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, Population, State, Supply

FIRST = date(2024, 12, 23)
"""A Monday before a week that lies in two years; the clocks do not change in this period."""
DAYS = 21
BOTH = (date(2024, 12, 1), date(2025, 2, 1))
HALF = HOUR // 2
LAST = date(2025, 5, 1)
"""A day on which everything is old."""

Record = tuple[Any, Sequence[Any]]
Round = tuple[int, frozenset[str], int]
_STATES = (State.ON_ACTIVE, State.ON_IDLE, State.OFF, State.ASLEEP, State.UNKNOWN)


def cells(chance: Random, band: Band, longest: int) -> list[Any]:
    """Return cells over some of a period's time, measured or not."""
    found = []
    for state in chance.sample(_STATES, chance.randint(1, 2)):
        milliseconds = chance.randint(1, longest // 2)
        on = state in (State.ON_ACTIVE, State.ON_IDLE)
        energy = chance.randint(0, 40 * milliseconds) if on and chance.random() < 0.7 else None
        supply = chance.choice((Supply.AC, Supply.UNKNOWN))
        found.append(cell(state, milliseconds, band, supply, energy_millijoules=energy))
    return found


def of_a_pc(chance: Random) -> list[Record]:
    """Return a PC's days and weeks; some days are missing."""
    records: list[Record] = [
        (civil(FIRST + timedelta(days=day)), cells(chance, Band.NIGHT, 8 * HOUR))
        for day in range(DAYS)
        if chance.random() < 0.8
    ]
    for monday in range(0, DAYS, 7):
        records.append((week(FIRST + timedelta(days=monday)), cells(chance, Band.OPEN, 50 * HOUR)))
    return records


def of_a_server(chance: Random) -> list[Record]:
    """Return some half hours of three days; an hour may have both."""
    start = day_start_unix_milliseconds(date(2024, 12, 30), ZONE)
    return [
        (clock(start + half * HALF, HALF), cells(chance, chance.choice(list(Band)), HALF))
        for half in range(3 * 48)
        if chance.random() < 0.2
    ]


WHOLE = frozenset({"derive", "keep", "expire"})
WORK = (WHOLE, WHOLE | {"all"}, WHOLE - {"derive"}, WHOLE - {"keep"}, frozenset({"derive"}))


def rounds_of(chance: Random) -> list[Round]:
    """Return rounds: a number of records to push, the work after them, the days that pass."""
    return [
        (chance.randint(0, 6), chance.choice(WORK), chance.randint(0, 12))
        for _ in range(chance.randint(1, 8))
    ]


def play(filled: Filled, host_id: HostId, records: Sequence[Record], rounds: Sequence[Round]) -> None:
    """Play each round; then push and derive the rest."""
    waiting, today = list(records), date(2025, 2, 24)
    for number, work, days in [*rounds, (len(records), frozenset({"derive"}), 0)]:
        if now := waiting[:number]:
            filled.push(host_id, now, RAPL)
        del waiting[:number]
        if "all" in work:
            filled.store.derive.mark_all_dirty()
        if "derive" in work:
            filled.derive()
        if "keep" in work:
            roll(filled, today)
        if "expire" in work:
            retention(filled).run(today)
        today += timedelta(days=days)


def kept(
    place: Path, machine: Callable[[Filled], HostId], records: Sequence[Record], rounds: Sequence[Round]
) -> list[Counter[str]]:
    """Return all columns as reports read them, before and after every day is deleted.
    Imputed columns and nights are left out: nights depend on the hours that were stored together.
    """
    with Filled(place) as filled:
        play(filled, machine(filled), records, rounds)
        found = [total(months(filled, *BOTH))]
        if not rounds:  # every record is there
            (energy,) = filled.store.data.connection.execute(
                "SELECT sum(max(derived_energy_millijoules, 0)) FROM records"
            ).fetchone()
            assert energy == sum(found[0][f"{method}_energy_millijoules"] for method in Method)
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


def check(
    machine: Callable[[Filled], HostId], made: Callable[[Random], list[Record]], chance: Random
) -> None:
    """Compare records in order, derived and kept once, with any order and other work in between."""
    records = made(chance)
    with TemporaryDirectory() as name:
        plain, *same = kept(Path(name) / "plain", machine, records, [])
        assert plain["counter_modelled_energy_millijoules"] > 0
        assert same == [plain, plain]
        chance.shuffle(records)
        assert kept(Path(name) / "other", machine, records, rounds_of(chance)) == [plain] * 3


SEEDS = st.integers(0, 2**32)
"""Seeds of a generator, because Hypothesis' own lists are mostly short and in order."""


@settings(max_examples=12)
@given(SEEDS)
def test_days_and_weeks_in_any_order(seed: int):
    """For a PC with a week in two years, the kept months equal Σ of its days, to the millijoule and the
    millisecond."""
    check(workstation, of_a_pc, Random(seed))


@settings(max_examples=12)
@given(SEEDS)
def test_hours_in_any_order(seed: int):
    """A server's rows are all kept; an hour comes in parts, and each part changes its day."""
    check(lambda filled: filled.add_host(), of_a_server, Random(seed))


def measured(rows: list[HostPeriod]) -> list[HostPeriod]:
    """Return the rows without imputed values: those of an ended month depend on when it was stored."""
    return [row._replace(values=without_imputed(row.values)) for row in rows]


def live(filled: Filled, first: date, end: date) -> list[HostPeriod]:
    """Return the rows of each month as computed from days alone, stored or not."""
    calendars = site_calendars(filled.store)
    site = filled.store.registry.site("lyon")
    with closing(filled.reader()) as reader:
        return [
            row
            for month in sorted({day.replace(day=1) for day in days_of(first, end)})
            for host in reader.hosts()
            for row in month_rows(
                reader.month_source(host, site, month), calendars.days(site, host.population), site.time_zone
            )
        ]


@settings(max_examples=12)
@given(SEEDS)
def test_a_month_under_way_is_stored_as_a_report_computes_it(seed: int):
    """Every column of a month under way is that of its days, imputed or not, however often it was stored.

    A late day comes with a new one, as from a machine that was offline. An ended month has the same sums too.
    """
    chance = Random(seed)
    with TemporaryDirectory() as name, Filled(Path(name) / "data") as filled:
        machines = [(workstation(filled), of_a_pc(chance)), (filled.add_host(), of_a_server(chance))]
        for day in range(DAYS + 3):
            today = FIRST + timedelta(days=day + 1)
            for host_id, records in machines:
                ready = [one for one in records if ended(one) <= today]
                if ready and (chance.random() < 0.5 or today.day == 4):
                    filled.push(host_id, ready, RAPL)
                    records[:] = [one for one in records if one not in ready]
            if chance.random() < 0.8:
                filled.derive()
            if chance.random() < 0.8:
                roll(filled, today)
                roll_under_way(filled, today)
            first = ended_by(today)
            assert months(filled, first, BOTH[1]) == live(filled, first, BOTH[1])
        filled.derive()
        roll(filled, LAST)
        assert measured(months(filled, *BOTH)) == measured(live(filled, *BOTH))


def ended(record: Record) -> date:
    """Return the first day after a record."""
    period = record[0]
    if period.HasField("clock"):
        return date.fromordinal(civil_day(ZoneInfo(ZONE), period.clock.start_unix_milliseconds) + 1)
    if period.HasField("week"):
        return date.fromisocalendar(period.week.year, period.week.week, 7) + timedelta(days=1)
    return date(period.date.year, period.date.month, period.date.day) + timedelta(days=1)
