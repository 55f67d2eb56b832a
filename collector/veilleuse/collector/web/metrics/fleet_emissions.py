# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the fleet's released months and years for /metrics and `veilleuse top`.

The figures are those of `veilleuse report emissions`, digit for digit. They are too much work for a look: a
thread reads them, and computes them anew only where their inputs changed.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from fractions import Fraction
from typing import Final, NamedTuple

from veilleuse.collector.calendars.periods import slices
from veilleuse.collector.documents.document import Row
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.prometheus import Exposition
from veilleuse.collector.model.figures import FULL_INTERVAL, SAMPLE_INTERVAL, AppliedFactor, EmissionsRow
from veilleuse.collector.model.query import SEVERAL, Query
from veilleuse.collector.release.figures import find_stretches
from veilleuse.collector.release.rows import FLEET
from veilleuse.collector.reports.emissions import released_report
from veilleuse.collector.reports.inputs import Sources
from veilleuse.collector.reports.reen_values import perimeter_rows
from veilleuse.wire.units import GRAMS_PER_KILOGRAM, JOULES_PER_KWH, joules_from_millijoules

log = logging.getLogger(__name__)

TO_DATE: Final = "to_date"
"""State of a year: the sum of its released months so far."""
CLOSED: Final = "closed"
"""State of a closed year: its released months as frozen."""
_GROUPING: Final = ("perimeter", "population", "device_class")


class FleetGroup(NamedTuple):
    """Labels of a group; a label that does not apply is empty."""

    perimeter: str
    population: str
    device_class: str
    zone: str


class FleetAmounts(NamedTuple):
    """Energy and emissions."""

    energy_millijoules: int
    grams: Fraction


Groups = Mapping[FleetGroup, FleetAmounts]


class PerimeterAmounts(NamedTuple):
    """Energy and emissions of a perimeter, or of the whole fleet, with the ends of their intervals."""

    perimeter: str
    amounts: FleetAmounts
    joules_ends: tuple[Fraction, Fraction] | None
    grams_ends: tuple[Fraction, Fraction] | None
    interval: str
    """FULL_INTERVAL or SAMPLE_INTERVAL."""


@dataclass(frozen=True, slots=True)
class FleetYear:
    """The released months of a year."""

    year: int
    state: str
    """TO_DATE or CLOSED."""
    until: date
    """Exclusive end of its last month."""
    groups: Groups
    perimeters: tuple[PerimeterAmounts, ...]
    """The last one is the whole fleet."""
    factors: Mapping[str, AppliedFactor]
    """Grid zone → factor."""

    @property
    def series(self) -> int:
        """Number of its series."""
        return 2 * len(self.groups) + 4 * len(self.perimeters) + len(self.factors)


@dataclass(frozen=True, slots=True)
class FleetEmissions:
    """This year and the last one, newest first, and the released months of the newest one that has any."""

    years: tuple[FleetYear, ...] = ()
    months: Mapping[date, Groups] = field(default_factory=dict)


class FleetEmissionsReader:
    """Reads the fleet's emissions and caches them. Not thread-safe."""

    def __init__(self) -> None:
        """Read nothing yet."""
        self._inputs: object = None
        self._found = FleetEmissions()

    def read(self, sources: Sources, today: date) -> FleetEmissions:
        """Return the figures; computed anew only where publications, factors, perimeters or closings changed.

        Raises UnknownZone, StoreDamaged, StoreTooNew.
        """
        years = (today.year, today.year - 1)
        inputs = (years, *inputs_of_released(sources, years))
        if inputs != self._inputs:
            self._found = _compute(sources, years, today)
            self._inputs = inputs
        return self._found


def inputs_of_released(sources: Sources, years: Iterable[int]) -> Iterator[object]:
    """Yield all that released figures of years depend on and that can change while the program runs."""
    yield sources.reader.factor_versions()
    yield sources.perimeters
    for year in years:
        yield sources.closings.revisions(year)
        for part in slices(*_period(year), by_month=True):
            yield sources.published.summary(FLEET.kind, part.first, part.end)


def _compute(sources: Sources, years: Iterable[int], today: date) -> FleetEmissions:
    """Compute the figures; the oldest ones are left out where they would be more than FLEET_SERIES series."""
    found = [_read_year(sources, year, today) for year in years]
    months = next(filter(None, (read_months(sources, year, today) for year in years)), {})
    room = c.FLEET_SERIES
    shown_years: list[FleetYear] = []
    shown_months: dict[date, Groups] = {}
    for one in filter(None, found):
        if (room := room - one.series) >= 0:
            shown_years.append(one)
    for month, groups in sorted(months.items(), reverse=True):
        if (room := room - 2 * len(groups)) >= 0:
            shown_months[month] = groups
    if room < 0:
        log.warning("the fleet's oldest figures are not on /metrics", extra={"series": c.FLEET_SERIES - room})
    return FleetEmissions(tuple(shown_years), shown_months)


def _read_year(sources: Sources, year: int, today: date) -> FleetYear | None:
    """Return a year's figures; None without a released month: years closed by older versions have none."""
    until, rows, _ = _released(sources, year, today, *_GROUPING)
    _, parts, total = _released(sources, year, today, "perimeter")
    perimeters = tuple(map(_perimeter, perimeter_rows(parts, total)))
    if not perimeters:
        return None
    return FleetYear(
        year,
        TO_DATE if sources.released.closed(year) is None else CLOSED,
        until,
        _sum_rows(rows),
        perimeters,
        {row.key.zone: row.factor for row in rows if row.factor.factor_id},
    )


def read_months(sources: Sources, year: int, today: date) -> dict[date, Groups]:
    """Return the released months of a year: first day → groups. Raises UnknownZone, StoreDamaged."""
    by_month: defaultdict[date, list[EmissionsRow]] = defaultdict(list)
    for row in _released(sources, year, today, *_GROUPING, "month")[1]:
        by_month[row.key.period_from].append(row)
    return {month: _sum_rows(rows) for month, rows in by_month.items()}


def _released(
    sources: Sources, year: int, today: date, *dimensions: str
) -> tuple[date, tuple[EmissionsRow, ...], EmissionsRow | None]:
    """Return (exclusive end, rows, first total) of the report of a year's released months."""
    query = Query(*_period(year), dimensions, sources.reporting.k_anonymity, today)
    stretches = find_stretches(sources.released, query, cut=True)
    if not stretches:
        return query.first, (), None
    random = sources.reporting.random_roll_out
    report = released_report(sources, query, stretches, random_roll_out=random, undeclared=False)
    rows, totals = report.statement.rows, report.statement.totals
    return stretches[-1].part.end, rows, next(iter(totals), None)


def _period(year: int) -> tuple[date, date]:
    return date(year, 1, 1), date(year + 1, 1, 1)


def _sum_rows(rows: Iterable[EmissionsRow]) -> Groups:
    """Sum a period's rows by group: a report divides them by power context too."""
    found: dict[FleetGroup, FleetAmounts] = {}
    for row in rows:
        key, energy, kilograms = row.key, row.energy.energy_millijoules, row.emissions.kgco2e_total
        if energy is None or kilograms is None:
            continue
        group = FleetGroup(key.perimeter or SEVERAL, key.population or "", key.device_class or "", key.zone)
        before = found.get(group, FleetAmounts(0, Fraction(0)))
        found[group] = FleetAmounts(before.energy_millijoules + energy, before.grams + _grams(kilograms))
    return found


def _perimeter(row: Row) -> PerimeterAmounts:
    """Convert a row of the REEN sheet."""
    numbers = {name: value for name, value in row.items() if isinstance(value, int | float)}
    is_sample = "kwh_lo_sample" in numbers
    kind = "_sample" if is_sample else "95"
    joules, grams = (
        (convert(numbers[f"{unit}_lo{kind}"]), convert(numbers[f"{unit}_hi{kind}"]))
        if f"{unit}_lo{kind}" in numbers
        else None
        for unit, convert in (("kwh", _joules), ("kgco2e", _grams))
    )
    return PerimeterAmounts(
        str(row["perimeter"]),
        FleetAmounts(int(numbers["energy_millijoules"]), _grams(numbers.get("kgco2e_total", 0))),
        joules,
        grams,
        SAMPLE_INTERVAL if is_sample else FULL_INTERVAL,
    )


# The decimal digits of the report, in another unit.


def _grams(kilograms: float) -> Fraction:
    return Fraction(repr(kilograms)) * GRAMS_PER_KILOGRAM


def _joules(kwh: float) -> Fraction:
    return Fraction(repr(kwh)) * JOULES_PER_KWH


def add_fleet_emissions(out: Exposition, found: FleetEmissions) -> None:
    """Add the samples."""
    for month, groups in sorted(found.months.items()):
        for group, amounts in groups.items():
            labels = (*group, f"{month:%Y-%m}")
            out.add(c.FLEET_MONTH_ENERGY, labels, joules_from_millijoules(amounts.energy_millijoules))
            out.add(c.FLEET_MONTH_EMISSIONS, labels, float(amounts.grams))
    for one in found.years:
        _add_year(out, one)


def _add_year(out: Exposition, one: FleetYear) -> None:
    of_year = (str(one.year), one.state)
    for group, amounts in one.groups.items():
        out.add(c.FLEET_YEAR_ENERGY, (*group, *of_year), joules_from_millijoules(amounts.energy_millijoules))
        out.add(c.FLEET_YEAR_EMISSIONS, (*group, *of_year), float(amounts.grams))
    for part in one.perimeters:
        labels = (part.perimeter, *of_year, part.interval)
        for metrics, ends in (
            ((c.FLEET_YEAR_ENERGY_LOW, c.FLEET_YEAR_ENERGY_HIGH), part.joules_ends),
            ((c.FLEET_YEAR_EMISSIONS_LOW, c.FLEET_YEAR_EMISSIONS_HIGH), part.grams_ends),
        ):
            for metric, end in zip(metrics, ends or (), strict=False):
                out.add(metric, labels, float(end))
    last_month = f"{one.until - timedelta(days=1):%Y-%m}"
    for zone, factor in sorted(one.factors.items()):
        of_factor = (
            *of_year,
            last_month,
            zone,
            factor.factor_id or "",
            factor.factor_source or "",
            str(factor.factor_kgco2e_per_kwh),
            "true" if factor.provisional else "false",
        )
        out.add(c.FLEET_EMISSIONS_INFO, of_factor, 1)
