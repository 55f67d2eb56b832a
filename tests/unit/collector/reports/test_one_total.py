# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests that a year has one total: open, closed, in any grouping, and beside its months."""

from __future__ import annotations

import random
from datetime import date
from itertools import combinations

import pytest

from tests.support.memory_store import host
from tests.support.stored_year import StoredYear
from tests.unit.collector.reports.test_yearly_oracle import HOLIDAYS, SITES, _told
from veilleuse.collector.closed_years.restate import restate_year
from veilleuse.collector.model.figures import SINCE_PUBLICATION
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.inventory import Asset, Placement
from veilleuse.collector.model.query import Query
from veilleuse.collector.reports.emissions import emissions_report_of
from veilleuse.collector.reports.fleet_year import read_assumptions, year_figures
from veilleuse.collector.reports.kept_years import keep_year
from veilleuse.wire.vocabulary import DeviceClass, Population

FIRST, END, TODAY = date(2024, 1, 1), date(2025, 1, 1), date(2025, 6, 1)
CLASSES = (DeviceClass.TOWER, DeviceClass.LAPTOP, DeviceClass.SFF)


def stored(seed: int, machines: int, entities: int = 3, spare: int = 2) -> StoredYear:
    """Return a fleet whose agents start in different months; some entities and classes have few of them."""
    chance = random.Random(seed)
    hosts: list[Host] = []
    assets: list[Asset] = []
    months = []
    for number in range(1, machines + 1):
        place = Placement(date(2023, 1, 1), f"E{chance.randrange(entities)}", "hq")
        name = chance.choice(CLASSES)
        one = host(number, name, Population.WORKSTATION, entity=place.entity, enrolled=date(2023, 10, 1))
        hosts.append(one)
        assets.append(Asset(number, name.value, (place,), Population.WORKSTATION, host_id=one.host_id))
        first = chance.randint(3, 9)
        months += _told(one, (first, 15), chance.randint(2, 4), chance.randint(10, 90), metered=False)
        assets += [
            Asset(1_000 * number + more, name.value, (place,), Population.WORKSTATION)
            for more in range(spare)
        ]
    return StoredYear(tuple(SITES.values()), tuple(hosts), tuple(assets), tuple(months), HOLIDAYS)


@pytest.mark.parametrize(("seed", "machines"), [(1, 7), (2, 14), (3, 40), (4, 90)])
def test_open_and_closed_are_one_figure(seed, machines):
    """A year closed on the same day has the open report's total, rows and intervals to the last bit, in every
    grouping. Reports of few machines once used another estimator."""
    sources = stored(seed, machines).sources()
    known = read_assumptions(sources, random_roll_out=False)
    kept = keep_year(sources, 2024, k=10, today=TODAY)
    totals = set()
    for size in range(4):
        for dimensions in combinations(("entity", "site", "device_class"), size):
            (opened,) = year_figures(sources, Query(FIRST, END, dimensions, 10, TODAY), known)
            closed = restate_year(kept, dimensions, known)
            assert (opened.rows, opened.total, opened.withheld) == (
                closed.rows,
                closed.total,
                closed.withheld,
            )
            assert opened.total is not None
            assert sum(row.estimate.energy_millijoules for row in opened.rows) == (
                opened.total.estimate.energy_millijoules
            )
            totals.add((opened.total.estimate.energy_millijoules, opened.total.estimate.bounds_millijoules))
    assert len(totals) == 1


def test_a_year_beside_its_months():
    """By month, the year's total follows, and one line has its difference from the sum of the months."""
    sources = stored(5, 150).sources()
    year = emissions_report_of(sources, Query(FIRST, END, (), 10, TODAY))
    months = emissions_report_of(sources, Query(FIRST, END, ("month",), 10, TODAY))
    total, since = months.statement.year
    assert total == year.statement.totals[0]
    assert since.level == SINCE_PUBLICATION
    of_months = sum(row.energy.energy_millijoules or 0 for row in months.statement.totals)
    assert len(months.statement.totals) == 12
    assert (total.energy.energy_millijoules or 0) - of_months == since.energy.energy_millijoules
    assert since.emissions.kgco2e_total == pytest.approx(
        (total.emissions.kgco2e_total or 0)
        - sum(row.emissions.kgco2e_total or 0 for row in months.statement.totals)
    )
    assert [row["level"] for row in months.document.tables["year"]] == ["total", SINCE_PUBLICATION]
    assert year.statement.year == ()


def test_the_difference_of_few_is_not_told():
    """Months with too few machines lack their energy, and the difference would disclose it."""
    sources = stored(6, 12).sources()
    months = emissions_report_of(sources, Query(FIRST, END, ("month",), 10, TODAY)).statement
    assert any(row.activity.incomplete for row in months.totals)
    assert [row.level for row in months.year] == ["total"]


def test_part_of_a_year_has_no_year_beside_it():
    """Eleven months have no year."""
    sources = stored(5, 20).sources()
    question = Query(FIRST, date(2024, 12, 1), ("month",), 10, TODAY)
    assert emissions_report_of(sources, question).statement.year == ()
