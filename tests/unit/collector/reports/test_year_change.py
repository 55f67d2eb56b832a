# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A change from the year before is told over the months that both years observed, or not at all."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

import pytest

from veilleuse.collector.account.change import ChangeObstacle
from veilleuse.collector.calendars.periods import add_months
from veilleuse.collector.documents.document import Document, Row
from veilleuse.collector.model.query import Query
from veilleuse.collector.reports.summaries.change import (
    BEFORE,
    MONTHS,
    YearChange,
    change_questions,
    compare_years,
)

YEAR = range(1, 13)


def released(
    year: int,
    kwh: float,
    coverage: float,
    *,
    observed: Collection[int] = YEAR,
    rooms: Collection[int] = (),
    factor: float = 0.05,
    months: Collection[int] = YEAR,
    basis: str = "released",
) -> Document:
    """Return months of a year by class, each of so many kWh, ± 5 %."""
    rows: list[Row] = []
    totals: list[Row] = []
    for month in months:
        first = date(year, month, 1)
        period = {"period_from": first.isoformat(), "period_to": add_months(first, 1).isoformat()}
        share = coverage if month in observed else 0.0
        rows.append({**period, "device_class": "sff", "coverage_states": share, "machine_days_fleet": 30.0})
        rows += [{**period, "device_class": "other_room"}] if month in rooms else []
        energies = {f"kwh_{name}": kwh * part for name, part in PARTS.items()}
        emitted = {f"kgco2e_{name}": kwh * factor * part for name, part in PARTS.items()}
        totals.append({**period, **energies, **emitted, "factor_kgco2e_per_kwh": factor})
    return Document({"basis": basis}, (), {"rows": rows, "totals": totals}, ())


PARTS = {"total": 1.0, "lo95": 0.95, "hi95": 1.05}


def test_coverage_that_grew_seven_times_is_no_change():
    """Totals differ by 30 % beyond their intervals, while coverage went from 3.3 to 22.7 %."""
    found = compare_years(released(2026, 130, 0.227), released(2025, 100, 0.033))
    assert found is ChangeObstacle.COVERAGE


def test_overlapping_intervals_are_no_change():
    """Five per cent more, with intervals of ± 5 %."""
    assert compare_years(released(2026, 105, 0.5), released(2025, 100, 0.5)) is ChangeObstacle.INTERVALS


def test_a_roll_out_on_1_november_is_compared_from_november_on():
    """Months at class default are not observed: the year to October has no change, the next has that of
    November and December.
    """
    before = released(2025, 100, 0.5, observed=(11, 12))
    until_october = released(2026, 80, 0.5, months=range(1, 11))
    assert compare_years(until_october, before) is ChangeObstacle.MONTHS
    found = compare_years(released(2026, 80, 0.5), before)
    assert isinstance(found, YearChange)
    assert (found.first, found.end) == (date(2026, 11, 1), date(2027, 1, 1))
    assert (found.before_kgco2e, found.now_kgco2e) == pytest.approx((10, 8))


def test_a_real_change_has_its_number():
    """A fifth less energy of like coverage, at a factor that fell: each part of the change is told."""
    before, now = released(2025, 100, 0.4, factor=0.06), released(2026, 80, 0.5, months=range(1, 7))
    found = compare_years(now, before)
    assert isinstance(found, YearChange)
    assert (found.first, found.end) == (date(2026, 1, 1), date(2026, 7, 1))
    told = (found.before_kgco2e, found.change_kgco2e, found.activity_kgco2e, found.factor_kgco2e)
    assert told == pytest.approx((36, -12, -7.2, -4.8))


def test_rooms_that_were_read_for_a_quarter_are_no_change():
    """Room meters from October on: later years have more rooms, and no more energy."""
    before = released(2025, 100, 0.5, rooms=(10, 11, 12))
    assert compare_years(released(2026, 130, 0.5, rooms=YEAR), before) is ChangeObstacle.COVERAGE


def test_what_cannot_be_compared():
    """An unreleased year, one without an answer, and one of two factors."""
    now = released(2026, 80, 0.5)
    for before in (None, released(2025, 100, 0.5, basis="unreleased")):
        assert compare_years(now, before) is ChangeObstacle.MONTHS
    parts = [
        released(2025, 100, 0.5, months=months, factor=factor)
        for months, factor in ((range(1, 7), 0.05), (range(7, 13), 0.06))
    ]
    tables = {name: [*parts[0].tables[name], *parts[1].tables[name]] for name in ("rows", "totals")}
    assert compare_years(now, Document({"basis": "released"}, (), tables, ())) is ChangeObstacle.FACTORS


def test_the_questions_are_of_the_released_months():
    """Both questions end with the released months; parts of months, and two years, have none."""
    query = Query(date(2026, 1, 1), date(2027, 1, 1), ("entity",))
    asked = change_questions(query, {"released_until": "2026-07-01"})
    assert {name: (one.first, one.end) for name, one in asked.items()} == {
        MONTHS: (date(2026, 1, 1), date(2026, 7, 1)),
        BEFORE: (date(2025, 1, 1), date(2025, 7, 1)),
    }
    for first, end in ((date(2026, 1, 2), date(2026, 7, 1)), (date(2024, 1, 1), date(2026, 1, 1))):
        assert change_questions(Query(first, end, ()), {}) == {}
