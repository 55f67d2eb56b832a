# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes every indicator of the REEN sheet over one year, for the machines of some populations together.

Each has a value, an interval and a coverage.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from typing import Any, Final, NamedTuple

from veilleuse.collector.account.rounding import format_number
from veilleuse.collector.disclosure.figures import disclose_figure
from veilleuse.collector.documents.document import SHOWN, Row, Value
from veilleuse.collector.fleet.estimate import Representativeness
from veilleuse.collector.indicators import (
    COVERAGE,
    SERVER_KWH,
    SERVERS,
    TABLE,
    USE_PHASE,
    IndicatorInput,
    load_indicator,
    made_of,
)
from veilleuse.collector.model.actions import Cells
from veilleuse.collector.model.figures import SAMPLE_INTERVAL, EmissionsRow, Ends
from veilleuse.collector.model.indicators import Figure, IndicatorGroup, Targets
from veilleuse.collector.model.inventory import DeviceGroup
from veilleuse.collector.model.query import SEVERAL, TOTAL, GroupKey, Query
from veilleuse.collector.model.sums import GroupSums
from veilleuse.collector.ports.stages import MachineRatio
from veilleuse.collector.release.answer import NO_DATA, TOO_FEW, add_sums
from veilleuse.collector.release.rows import family_of
from veilleuse.collector.reports.indicators import (
    GroupFigure,
    IndicatorSums,
    figures_of,
    sum_for_indicators,
    telling_sums,
)
from veilleuse.collector.reports.inventory_groups import fleet_groups, user_groups
from veilleuse.collector.reports.machines import stretch_of
from veilleuse.collector.reports.readers import SobrietySources
from veilleuse.wire.units import KILOGRAMS_PER_TONNE
from veilleuse.wire.vocabulary import Population

_OF_SUMS: Final = made_of(IndicatorInput.SUMS)
_DEMONSTRATED: Final = (Representativeness.CENSUS.value, Representativeness.DEMONSTRATED.value)
_OF_GROUPS: Final = (*made_of(IndicatorInput.FLEET), *made_of(IndicatorInput.USERS))


class SheetValue(NamedTuple):
    """Figure of the sheet."""

    name: str
    unit: str
    direction: str
    value: float | None
    interval: Ends | None = None
    coverage_states: float | None = None
    threshold: float | None = None
    withheld: bool = False
    category: str | None = None
    is_sample_only: bool = False
    """True when the interval covers the sample only; otherwise it is a 95 % interval."""
    sensitivity: Ends | None = None
    is_whole: bool = True
    """False where it is of a part of the period only."""
    suspects: int = 0
    """Servers that their owner is to confirm, of I6."""
    reason: str | None = None
    """Why there is no value: a reason of the API's `withheld` rows, or NO_DATA."""


SOME_MONTHS: Final = "some_months"
"""There is a value, but not of all released months: some have too few machines, or none."""
FEW_IN_A_PART: Final = "few_in_a_part"


@dataclass(frozen=True, slots=True)
class YearValues:
    """Inputs of the sheet's figures of one period."""

    query: Query
    targets: Targets
    devices: tuple[DeviceGroup, ...]
    groups: tuple[IndicatorGroup, ...]
    """Purchases and retirements."""
    users: tuple[IndicatorGroup, ...]
    sums: IndicatorSums
    """Of released months only; its rows are of whole populations."""
    populations: frozenset[Population]
    """Populations of the machines."""
    emissions: tuple[EmissionsRow, ...] = ()
    """Rows of the estimator, by population."""
    total: EmissionsRow | None = None
    incomplete: frozenset[Population] = frozenset()
    """Populations of which `emissions` hold a part of the period only."""
    cache: dict[tuple[str, str], tuple[SheetValue, ...]] = field(default_factory=dict)

    def of(self, indicator: str, population: Population | None = None) -> tuple[SheetValue, ...]:
        """Return the figures of an indicator: none without data, one per category of purchases."""
        key = (indicator, population.value if population else "")
        if key not in self.cache:
            self.cache[key] = tuple(self._of(indicator, population))
        return self.cache[key]

    def _of(self, indicator: str, population: Population | None) -> Iterable[SheetValue]:
        if indicator == SERVER_KWH:
            return self._energy_of_servers()
        if indicator == USE_PHASE:
            return _emissions_value(self.total, is_whole=not self.incomplete)
        if indicator in _OF_GROUPS:
            groups = self.users if TABLE[indicator].made_of is IndicatorInput.USERS else self.groups
            found = [one for group in groups for one in figures_of((indicator,), group, self.targets)]
            return [_inventory_value(one, self.query.k_anonymity) for one in found]
        wanted = _populations_of(indicator, population)
        if TABLE[indicator].made_of is IndicatorInput.DEVICES:
            return self._of_devices(indicator, population)
        return self._of_months(indicator, wanted)

    def _of_devices(self, indicator: str, population: Population | None) -> Iterable[SheetValue]:
        devices = tuple(one for one in self.devices if population in (None, one.population))
        group = IndicatorGroup(self.query.key, devices=devices)
        for one in figures_of((indicator,), group, self.targets):
            yield _inventory_value(one, self.query.k_anonymity)

    def _of_months(self, indicator: str, wanted: Collection[Population]) -> Iterable[SheetValue]:
        """Yield the figure of released months, of the wanted populations together."""
        made, covered = load_indicator(indicator), self.coverage(wanted)
        is_cut = TABLE[indicator].is_of_months and self._is_cut(wanted)
        figures = [] if is_cut else list(self._figures(indicator, wanted))
        if not figures:
            if not self.populations.isdisjoint(wanted):
                yield _no_value(indicator)._replace(**self._why_not(wanted))
            return
        found = [(key, figure) for key, _, figure in figures]
        if indicator in _OF_SUMS:
            sums = reduce(partial(add_sums, same_time=True), (one for _, one, _ in figures if one))
            figure = next(iter(made.figures(IndicatorGroup(self.query.key, sums=sums), self.targets)))
        else:
            figure = made.add([one for _, one in found], same_time=True)
        if any(one.withheld for _, one in found):  # the rest would be shown as if it were of all
            figure = replace(figure, value=None, interval=None, withheld=True)
        interval = figure.interval
        is_share = isinstance(made, MachineRatio)
        if is_share and figure.value is not None:
            interval = self._ratio_interval(indicator, found, figure.value, covered)
        last = max(key.period_to for key, _ in found)
        is_to_date = not TABLE[indicator].is_of_months or all(
            (key.period_from, key.period_to) == (self.query.first, last)
            and not (figure.incomplete and indicator in _OF_SUMS)
            for key, figure in found
        )
        yield SheetValue(
            made.meta.name,
            made.meta.unit,
            made.meta.direction,
            figure.value,
            interval,
            figure.value if indicator == COVERAGE else covered,
            figure.threshold,
            figure.withheld,
            is_sample_only=is_share and not self._is_demonstrated(wanted),
            is_whole=is_to_date and last == self.query.end,
            suspects=int(figure.details.get("suspects", 0)),
            reason=_reason(figure) or (None if is_to_date else SOME_MONTHS),
        )

    def _figures(
        self, indicator: str, wanted: Collection[Population]
    ) -> Iterator[tuple[GroupKey, GroupSums | None, Figure]]:
        """Yield the figure of each population and zone, with the sums that it is made of."""
        if indicator not in _OF_SUMS:
            for of, key, figure in self.sums.rows:
                if of == indicator and key.population in wanted and not key.memo:
                    yield key, None, figure
            return
        for group in self.sums.groups:
            if group.key.population in wanted and not group.key.memo:
                sums, is_partial = telling_sums(indicator, group, self.targets)
                inputs = IndicatorGroup(group.key, sums=sums)
                for figure in load_indicator(indicator).figures(inputs, self.targets):
                    yield group.key, sums, replace(figure, incomplete=is_partial)

    def _is_cut(self, wanted: Collection[Population]) -> bool:
        """Return true when first months of the period are gone, or some are of an older rule.

        A figure of the others would be compared as if it were the period's.
        """
        mine = [row for row in self.sums.withheld if row.get("population") in wanted]
        first = self.query.first.isoformat()
        return any((row.get("reason"), row.get("period_from")) == ("period", first) for row in mine) or any(
            row.get("reason") == "older_rule" for row in mine
        )

    def _why_not(self, wanted: Collection[Population]) -> dict[str, Any]:
        """Return the fields of a value that is missing."""
        reasons = [
            str(row.get("reason", TOO_FEW)) for row in self.sums.withheld if row.get("population") in wanted
        ]
        reason = (
            TOO_FEW if TOO_FEW in reasons else next(iter(reasons), NO_DATA if self.sums.months else "period")
        )
        return {"withheld": reason == TOO_FEW, "reason": reason}

    def _ratio_interval(
        self, indicator: str, found: Sequence[tuple[GroupKey, Figure]], value: float, sampled: float | None
    ) -> Ends | None:
        """Return the 95 % interval of a ratio over machines drawn from the fleet, by published half-widths.

        `sampled`: observed share of the fleet. Months have the same machines: their half-widths are averaged.
        Families are independent. None also when all observed machines are alike: ten idle machines of a
        thousand do not prove that the others are idle.
        """
        if sampled is None:
            return None
        months = self.sums.months if TABLE[indicator].is_of_months else self.sums.months[-1:]
        squares, whole = 0.0, sum(one.denominator or 0.0 for _, one in found)
        for key, figure in found:
            widths = [
                one.percent / 100
                for month in months
                for one in month.half_widths
                if one.indicator == indicator and one.family == family_of(key)
            ]
            if not widths or not whole:
                return None
            squares += (math.fsum(widths) / len(widths) * (figure.denominator or 0.0) / whole) ** 2
        if not squares and sampled < 1:
            return None
        half_width = math.sqrt(max(0.0, 1 - sampled) * squares)
        return max(0.0, value - half_width), min(1.0, value + half_width)

    def _energy_of_servers(self) -> Iterable[SheetValue]:
        """Yield the energy of all servers together, over the rows of each place and year.

        Bounds are added, since the unknown errors of priors are common to all rows.
        """
        rows = [one for one in self.emissions if one.key.population is Population.SERVER]
        if not rows:
            return
        values = [one.energy.kwh_total for one in rows if one.energy.kwh_total is not None]
        known = len(values) == len(rows)
        yield SheetValue(
            "energy of servers",
            "kWh",
            "lower",
            sum(values) if known else None,
            _add_ends([one.uncertainty.kwh.ends for one in rows]) if known else None,
            self.coverage(SERVERS),
            is_sample_only=any(one.uncertainty.interval == SAMPLE_INTERVAL for one in rows),
            sensitivity=_add_ends(
                [one.uncertainty.kwh.sensitivity or one.uncertainty.kwh.ends for one in rows]
            )
            if known
            else None,
            is_whole=self.incomplete.isdisjoint(SERVERS),
        )

    def _is_demonstrated(self, wanted: Collection[Population]) -> bool:
        """Return true when measured machines of these populations are shown to represent the others.

        A share of machines applies to a fleet only then, as energy does.
        """
        rows = [one for one in self.emissions if one.key.population in wanted]
        return bool(rows) and all(one.activity.representativeness in _DEMONSTRATED for one in rows)

    def coverage(self, wanted: Collection[Population]) -> float | None:
        """Return observed ÷ fleet machine-days of these populations; None without an estimate."""
        rows = [
            one for one in self.emissions if one.key.population in wanted and one.activity.machine_days_fleet
        ]
        fleet = sum(one.activity.machine_days_fleet or 0.0 for one in rows)
        return (
            min(1.0, sum(one.activity.machine_days_observed or 0.0 for one in rows) / fleet)
            if fleet
            else None
        )


def year_values(
    sources: SobrietySources,
    query: Query,
    targets: Targets,
    emissions: Sequence[EmissionsRow],
    total: EmissionsRow | None,
    incomplete: frozenset[Population],
) -> YearValues:
    """Read the inputs of a period; `emissions` are its rows by population."""
    base, stretch = sources.base, stretch_of(query)
    devices = base.inventory.devices(stretch.last_day, stretch.last_day)
    return YearValues(
        query,
        targets,
        devices,
        tuple(fleet_groups(base.inventory, sources.follows, query)),
        tuple(user_groups(base.inventory, devices, (), query, stretch.last_day)),
        sum_for_indicators(base, replace(query, dimensions=("population",)), only_released=True),
        frozenset(population for population, _ in base.reader.places()),
        tuple(emissions),
        total,
        incomplete,
    )


def _populations_of(indicator: str, population: Population | None) -> frozenset[Population]:
    """Return the populations whose machines an indicator covers."""
    if indicator == SERVER_KWH:
        wanted = also_of = SERVERS
    elif indicator == USE_PHASE:
        wanted = also_of = frozenset(Population)
    else:
        wanted, also_of = TABLE[indicator].populations, TABLE[indicator].also_of
    return wanted if population is None else frozenset({population}) & (wanted | also_of)


def _no_value(indicator: str) -> SheetValue:
    meta = load_indicator(indicator).meta
    return SheetValue(meta.name, meta.unit, meta.direction, None)


def _inventory_value(one: GroupFigure, k: int) -> SheetValue:
    figure = disclose_figure(one.figure, one.key, k)
    return SheetValue(
        one.meta.name,
        one.meta.unit,
        one.meta.direction,
        figure.value,
        threshold=figure.threshold,
        withheld=figure.withheld,
        category=_text(figure.details.get("category")),
        reason=_reason(figure),
    )


def _reason(figure: Figure) -> str | None:
    """Return why a figure has no value; None for one that has."""
    return None if figure.value is not None else FEW_IN_A_PART if figure.withheld else NO_DATA


def _emissions_value(total: EmissionsRow | None, *, is_whole: bool) -> Iterable[SheetValue]:
    if total is not None and total.emissions.kgco2e_total is not None:
        yield SheetValue(
            "emissions of the use phase",
            "kgCO2e",
            "lower",
            total.emissions.kgco2e_total,
            total.uncertainty.kgco2e.ends,
            total.activity.coverage_states,
            is_sample_only=total.uncertainty.interval == SAMPLE_INTERVAL,
            sensitivity=total.uncertainty.kgco2e.sensitivity,
            is_whole=is_whole,
        )


def _add_ends(every: Sequence[Ends | None]) -> Ends | None:
    """Add the ends of intervals; None when one is unknown."""
    known = [ends for ends in every if ends is not None]
    return (
        (sum(low for low, _ in known), sum(high for _, high in known)) if len(known) == len(every) else None
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


WHOLE: Final = "whole"
_ENDS: Final = tuple(
    f"kgco2e_{end}{kind}" for kind in ("95", "_sample", "_sensitivity") for end in ("lo", "hi")
)


def bilan_rows(lines: Sequence[Cells], year: int | None, total: EmissionsRow | None) -> Iterator[Row]:
    """Yield the lines by year, and the use phase in `year`; shares need the year's whole in the file."""
    years = {int(cells["year"]) for cells in lines} | ({year} if year is not None else set())
    for each in sorted(years):
        mine = [cells for cells in lines if int(cells["year"]) == each]
        whole = next((_kilograms(cells) for cells in mine if cells["part"] == WHOLE), None)
        for cells in mine:
            yield _item(cells, whole)
        if each == year and total is not None and total.emissions.kgco2e_total is not None:
            yield _use_phase(total, each, whole)


def _item(cells: Cells, whole: float | None) -> Row:
    value, percent = _kilograms(cells), number_of(cells, "uncertainty_percent")
    spread = None if percent is None else 1 + percent / 100
    return without_missing(
        {
            "year": int(cells["year"]),
            "item": cells["item"],
            "part_of_bilan": cells["part"],
            "origin": "entered",
            "kgco2e_total": value,
            "kgco2e_lo95": value / spread if spread else None,
            "kgco2e_hi95": value * spread if spread else None,
            "share_of_whole": value / whole if whole else None,
            "in_whole": {"yes": True, "no": False}.get(cells.get("in_whole", "")),
            "source": cells.get("source"),
            "comment": cells.get("comment"),
        }
    )


def _use_phase(total: EmissionsRow, year: int, whole: float | None) -> Row:
    value, columns = total.emissions.kgco2e_total or 0.0, total.columns
    return without_missing(
        {
            "year": year,
            "item": "use phase",
            "part_of_bilan": "use",
            "origin": "computed",
            "kgco2e_total": value,
            "interval": total.uncertainty.interval,
            **{name: columns[name] for name in _ENDS},
            "share_of_whole": value / whole if whole else None,
            "coverage_states": total.activity.coverage_states,
            "provisional": total.factor.provisional,
        }
    )


def perimeter_rows(rows: Sequence[EmissionsRow], total: EmissionsRow | None) -> Iterator[Row]:
    """Yield the use phase of each perimeter, then the total; nothing over several years.

    Ends of intervals are added, since errors of models are common to the rows. Numbers for people are whole
    and sum to the total's.
    """
    by_perimeter: defaultdict[str, list[EmissionsRow]] = defaultdict(list)
    for row in rows:
        if row.energy.energy_millijoules:
            by_perimeter[row.key.perimeter or SEVERAL].append(row)
    if total is None or not by_perimeter:
        return
    names = sorted(by_perimeter, key=lambda name: (name == SEVERAL, name))
    parts, whole = [_sum_use_phase(by_perimeter[name]) for name in names], _sum_use_phase([total])
    shown = {
        column: _divide_whole(column, parts, whole[column])
        for column in ("kwh_total", "kgco2e_total")
        if column in whole
    }
    for at, (name, part) in enumerate(zip([*names, TOTAL], [*parts, whole], strict=True)):
        texts: dict[str, Mapping[str, str]] = {
            column: format_number(numbers[at], 0) for column, numbers in shown.items() if column in part
        }
        yield {"perimeter": name, "origin": "computed", **part, SHOWN: texts}


def _sum_use_phase(rows: Sequence[EmissionsRow]) -> dict[str, float]:
    """Sum the energy and emissions of rows, with the ends of their intervals where all have them."""
    kind = "_sample" if any(row.uncertainty.interval == SAMPLE_INTERVAL for row in rows) else "95"
    found: dict[str, float] = {"energy_millijoules": sum(row.energy.energy_millijoules or 0 for row in rows)}
    for unit, values, intervals in (
        ("kwh", [row.energy.kwh_total for row in rows], [row.uncertainty.kwh for row in rows]),
        ("kgco2e", [row.emissions.kgco2e_total for row in rows], [row.uncertainty.kgco2e for row in rows]),
    ):
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            continue
        found[f"{unit}_total"] = math.fsum(known)
        wider = [one.sensitivity or one.ends for one in intervals] if kind == "_sample" else []
        for name, ends in ((kind, [one.ends for one in intervals]), ("_sensitivity", wider)):
            if ends and (summed := _add_ends(ends)):
                found[f"{unit}_lo{name}"], found[f"{unit}_hi{name}"] = summed
    return found


def _divide_whole(column: str, parts: Sequence[Mapping[str, float]], total: float) -> list[int]:
    """Return the whole numbers of the parts, and their sum: the rounded total."""
    values = [part.get(column, 0.0) for part in parts]
    whole, numbers = round(total), [math.floor(value) for value in values]
    order = sorted(range(len(values)), key=lambda at: numbers[at] - values[at])
    for at in order[: max(0, whole - sum(numbers))]:  # the largest remainders are rounded up
        numbers[at] += 1
    return [*numbers, whole]


def _kilograms(cells: Cells) -> float:
    return float(cells["tco2e"]) * KILOGRAMS_PER_TONNE


def number_of(cells: Cells, name: str) -> float | None:
    """Return a cell as a number; None when it is blank."""
    return float(cells[name]) if name in cells else None


def without_missing(values: Mapping[str, Value | None]) -> Row:
    """Remove missing values."""
    return {name: value for name, value in values.items() if value is not None}
