# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the whole fleet's months and years on /metrics: the digits of the reports, within the bound."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.support.closed_years import YEAR, report, told
from tests.support.filled import METER, Filled, cell, clock, month_of_workstations
from tests.support.publishing import publish_months
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.prometheus import Exposition
from veilleuse.collector.model.query import PerimeterRule, Perimeters, Query
from veilleuse.collector.reports.emissions import emissions_report_of
from veilleuse.collector.reports.readers import sources_of
from veilleuse.collector.settings import ReportingSettings
from veilleuse.collector.store import open_reader
from veilleuse.collector.web.metrics.fleet_emissions import (
    FleetEmissions,
    FleetEmissionsReader,
    add_fleet_emissions,
)
from veilleuse.wire.vocabulary import Population, State

MONTHS = [date(2026, number, 1) for number in range(1, 11)]
TODAY = date(2026, 11, 25)
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()
HOUR = 3_600_000
GROUPING = ("perimeter", "population", "device_class")
Sums = dict[tuple[str, ...], tuple[float, float]]
"""Labels → joules, grams."""


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Filled]:
    """Return 24 workstations and a server, with the fleet of ten months published."""
    with Filled(tmp_path / "data", clock=lambda: NOW) as store:
        month_of_workstations(store, MONTHS[-1], [(600, 1200)] * 24, 12)
        start = round(datetime(2026, 10, 5, tzinfo=UTC).timestamp() * 1000)
        work = [cell(State.ON_ACTIVE, HOUR, energy_millijoules=180 * HOUR, busy_ratio=0.4)]
        store.push(store.add_host(), [(clock(start + i * HOUR, HOUR), work) for i in range(24)], METER)
        store.derive()
        publish_months(store, TODAY)
        yield store


def read(directory: Path, reader: FleetEmissionsReader, today: date = TODAY) -> FleetEmissions:
    """Return what the reader finds."""
    with open_reader(directory) as store:
        return reader.read(sources_of(store, ReportingSettings()), today)


def told_of(found: FleetEmissions, energy: c.Metric, emissions: c.Metric, *dropped: str) -> Sums:
    """Return the samples of two metrics, by their labels without the dropped ones."""
    out = Exposition()
    add_fleet_emissions(out, found)
    values: dict[str, dict[tuple[str, ...], float]] = {
        family.name: {
            tuple(value for name, value in one.labels.items() if name not in dropped): one.value
            for one in family.samples
        }
        for family in out.collect()
    }
    assert values[energy.name].keys() == values[emissions.name].keys()
    return {
        labels: (joules, values[emissions.name][labels]) for labels, joules in values[energy.name].items()
    }


def sums_of(rows: Iterable[Mapping[str, Any]], *names: str) -> Sums:
    """Return the sums of a report's rows, by columns."""
    joules: Counter[tuple[str, ...]] = Counter()
    grams: defaultdict[tuple[str, ...], Fraction] = defaultdict(Fraction)
    for row in rows:
        labels = tuple(str(row.get(name) or "")[: 7 if name == "period_from" else None] for name in names)
        joules[labels] += row["energy_millijoules"]
        grams[labels] += Fraction(repr(row["kgco2e_total"])) * 1000
    return {labels: (energy / 1000, float(grams[labels])) for labels, energy in joules.items()}


def report_of(data: Filled, *dimensions: str) -> list[Mapping[str, Any]]:
    """Return the rows of `veilleuse report emissions` of the year under way."""
    query = Query(date(2026, 1, 1), date(2027, 1, 1), dimensions, today=TODAY)
    with open_reader(data.directory) as store:
        rows = emissions_report_of(sources_of(store, ReportingSettings()), query).statement.rows
    return [row.columns for row in rows]


def test_gauges_have_the_digits_of_the_report(data):
    """A second way to sum, or to round, would give two figures for one month."""
    found = read(data.directory, FleetEmissionsReader())
    labels = (*GROUPING, "zone")
    months = sums_of(report_of(data, *GROUPING, "month"), *labels, "period_from")
    assert told_of(found, c.FLEET_MONTH_ENERGY, c.FLEET_MONTH_EMISSIONS) == months
    assert {key[:3] for key in months} == {
        ("agents_posts", "workstation", "tower"),
        ("data_centre", "server", "server"),
    }
    year = told_of(found, c.FLEET_YEAR_ENERGY, c.FLEET_YEAR_EMISSIONS, "year", "state")
    assert year == sums_of(report_of(data, *GROUPING), *labels)
    assert [(one.year, one.state, one.until) for one in found.years] == [(2026, "to_date", date(2026, 11, 1))]
    *parts, total = found.years[0].perimeters
    assert sum(one.amounts.energy_millijoules for one in parts) == total.amounts.energy_millijoules


def test_figures_are_computed_anew_only_where_they_changed(data):
    """A computation may take a second at 10,000 machines; a stale one is a wrong figure."""
    reader = FleetEmissionsReader()
    first = read(data.directory, reader)
    assert read(data.directory, reader) is first
    with data.store.transaction():
        rules = (PerimeterRule("posts", population=Population.WORKSTATION),)
        data.store.factors.declare(Perimeters(rules, 2026, 1, "Ada", "test"))
    found = read(data.directory, reader)
    assert {one.perimeter for one in found.years[0].perimeters} == {"posts", "other", "total"}
    with data.store.transaction():
        data.store.publications.take_back(MONTHS[-1], date(2026, 11, 1))
    assert MONTHS[-1] not in read(data.directory, reader).months


def test_months_of_the_last_year_stay_until_this_year_has_one(data):
    """In January a dashboard of months would be empty."""
    found = read(data.directory, FleetEmissionsReader(), date(2027, 1, 20))
    assert list(found.months)[-1] == MONTHS[0]
    assert [(one.year, one.state) for one in found.years] == [(2026, "to_date")]


def test_series_stay_within_their_bound(data, monkeypatch):
    """Perimeters that a user declares could be unlimited; the newest figures stay."""
    monkeypatch.setattr(c, "FLEET_SERIES", 40)
    found = read(data.directory, FleetEmissionsReader())
    out = Exposition()
    add_fleet_emissions(out, found)
    assert 36 < out.series() <= 40
    assert list(found.months) == sorted(MONTHS, reverse=True)[: len(found.months)]


def test_a_closed_year_is_as_frozen(place, veilleuse):
    """A year closed on the basis of its months would differ from its report where factors changed since."""
    with Filled(place.data_dir) as store:
        publish_months(store, date(YEAR + 1, 1, 20))
    told(veilleuse, "close", str(YEAR))
    found = read(place.data_dir, FleetEmissionsReader(), date(YEAR + 1, 1, 20))
    shown = report(veilleuse, "--group-by", ",".join(GROUPING))
    assert shown["report"]["state"] == "closed_provisional"
    year = told_of(found, c.FLEET_YEAR_ENERGY, c.FLEET_YEAR_EMISSIONS, "year")
    sums = sums_of(shown["rows"], *GROUPING, "zone")
    assert year == {(*labels, "closed"): both for labels, both in sums.items()}
    assert len(found.months) == 12
