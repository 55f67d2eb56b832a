# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the rows of the yearly export from a period's rows and factors (pure). docs/methodology.md §6, §8
and §10.

The factor enters once, on the sum of the row or total, and so does its uncertainty.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from fractions import Fraction
from typing import Any, Final, TypeAlias

from veilleuse.collector.account.change import Change, NoComparison, change, comparison_obstacle, covered_days
from veilleuse.collector.account.decomposition import factor_effect_kgco2e
from veilleuse.collector.account.emissions import (
    Emissions,
    applied_factor,
    emissions,
    factor_row,
    factors_u,
    format_pedigree,
    kwh,
    row_emissions,
    sum_emissions,
    uncertainty,
)
from veilleuse.collector.account.ghg_items import DEFAULT_MAPPING, BilanLine, bilan_lines
from veilleuse.collector.account.market_based import Consumption, market, may_cover
from veilleuse.collector.account.row import FigureRow, PeriodFigures, RoomParts
from veilleuse.collector.account.telework import PeriodHomeShare
from veilleuse.collector.errors import UnknownZone
from veilleuse.collector.fleet.estimate import ESTIMATED_ABOVE, Estimate, EstimateBasis
from veilleuse.collector.model.calibration import MILLION
from veilleuse.collector.model.factors import BilanMapping, ChosenFactor, ContextMapping, Contract
from veilleuse.collector.model.figures import (
    Activity,
    EmissionsRow,
    EmissionsStatement,
    EnergyByOrigin,
    Items,
    RoomEnergy,
    RowChange,
    RowOrigin,
)
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.sums import Detail, EnergyClass
from veilleuse.wire.units import MILLISECONDS_PER_DAY

METHOD_VERSION: Final = "0.7"
"""Version of derivation and accounting together; raised when a figure of the same data would change."""

EFFECTS: Final = ("fleet", "mix", "hours", "watts")
_COMPLETE: Final = (0.3, 0.6, 0.9)
"""Coverage of energy from which completeness scores 3, 4 and 5."""

ChooseFactor = Callable[[str, int], ChosenFactor]
"""(zone, year) → factor; raises UnknownZone."""
_Name: TypeAlias = tuple[GroupKey, bool]
"""(key, True for rooms): unique among the rows of a period."""


@dataclass(frozen=True, slots=True)
class StatementTerms:
    """Factors, mapping, contracts and comparisons of a statement."""

    choose: ChooseFactor
    data: str
    """real or simulated."""
    mapping: BilanMapping = DEFAULT_MAPPING
    contracts: Sequence[Contract] = ()
    before: Mapping[int, PeriodFigures] = field(default_factory=dict)
    """Index of a period → the period it is compared with, under the same method and grouping."""
    not_compared: Mapping[int, str] = field(default_factory=dict)
    """Index of a period → reason without a comparison, one of change.NoComparison."""


def build_statement(periods: Sequence[PeriodFigures], terms: StatementTerms) -> EmissionsStatement:
    """Build the rows, one total per period, and virtual machines as memo.

    Raises UnknownZone, also for a row whose site has no zone.
    """
    rows: list[EmissionsRow] = []
    totals: list[EmissionsRow] = []
    items: list[Mapping[str, str | float | bool]] = []
    contracts: list[Mapping[str, str | float | bool]] = []
    memo: list[EmissionsRow] = []
    applied: dict[tuple[str, int], ChosenFactor] = {}
    for number, period in enumerate(periods):
        bill = _PeriodRows(period, terms, applied, number)
        rows += map(bill.row, period.rows)
        if period.total is not None:
            totals.append(bill.total(period.total))
        items += bill.items()
        contracts += bill.contracts()
        memo += map(bill.row, period.memo)
    return EmissionsStatement(
        rows=tuple(rows),
        totals=tuple(totals),
        memo=tuple(memo),
        factors=tuple(factor_row(year, chosen) for (_, year), chosen in sorted(applied.items())),
        withheld=tuple(withheld_row(key) for period in periods for key in period.withheld),
        items=tuple(items),
        contracts=tuple(contracts),
        homes=tuple(home_row(period.first, period.end, one) for period in periods for one in period.homes),
    )


class _PeriodRows:
    """Builder of the rows of one period."""

    def __init__(
        self,
        period: PeriodFigures,
        terms: StatementTerms,
        applied: dict[tuple[str, int], ChosenFactor],
        number: int,
    ) -> None:
        self._period = period
        self._terms = terms
        self._applied = applied
        self._days = (period.end - period.first).days
        self._number = number
        self._before = terms.before.get(number)
        self._covered: defaultdict[int, Fraction] = defaultdict(Fraction)
        self._site_unknown: defaultdict[int, Fraction] = defaultdict(Fraction)
        self._market = self._by_contract()
        self._lines: list[BilanLine] = []

    def row(self, row: FigureRow) -> EmissionsRow:
        key = row.key
        context = key.power_context or PowerContext.OWN_SITE
        shares = Counter({key.zone: row.estimate.energy_millijoules})
        previous = None if self._before is None else _same(self._before.rows, row)
        made, bill = self._with_emissions(
            self._row(row, key, key.level), row, shares, previous, self._market.get(_name(row))
        )
        if bill is not None and not key.memo:
            self._lines += bilan_lines(context, bill, self._terms.mapping)
        is_split = bill is not None and bill.combustion_kgco2e is not None
        return replace(made, items=_items(self._terms.mapping.of(context), key, is_split=is_split))

    def items(self) -> Iterator[dict[str, str | float | bool]]:
        """Yield kgCO2e of the rows so far, by item."""
        sums: defaultdict[tuple[str, str, bool, bool], Fraction] = defaultdict(Fraction)
        for one in self._lines:
            item = one.item
            sums[item.beges_item, item.ghg_category, one.in_beges_energie, one.in_bilan_numerique] += (
                one.kgco2e
            )
        for (beges_item, ghg_category, in_energie, in_numerique), kgco2e in sorted(sums.items()):
            item_of: dict[str, str | float | bool] = (
                {"beges_item": beges_item, "ghg_category": ghg_category} if beges_item else {}
            )
            yield {
                "period_from": self._period.first.isoformat(),
                "period_to": self._period.end.isoformat(),
                **item_of,
                "kgco2e_total": float(kgco2e),
                "in_beges_energie": in_energie,
                "in_bilan_numerique": in_numerique,
            }

    def total(self, row: FigureRow) -> EmissionsRow:
        shares: Counter[str] = Counter()
        for one in filter(_has_energy, self._period.rows):
            shares[one.key.zone] += one.estimate.energy_millijoules
        key = GroupKey(self._period.first, self._period.end, row.key.zone)
        made = self._row(row, key, "total", incomplete=self._period.incomplete)
        by_contract = sum(self._market.values(), Fraction(0)) if self._market else None
        previous = None if self._before is None else self._before.total
        return self._with_emissions(made, row, shares, previous, by_contract)[0]

    def _row(
        self, row: FigureRow, key: GroupKey, level: str, *, incomplete: bool | None = None
    ) -> EmissionsRow:
        estimate = row.estimate
        observed_days = estimate.observed_milliseconds / MILLISECONDS_PER_DAY
        activity = Activity(
            row.machines,
            observed_days,
            apportioned=row.apportioned,
            incomplete=True if row.is_incomplete else None,
        )
        if estimate.basis is EstimateBasis.OBSERVED or not key.memo:
            activity = replace(
                activity,
                coverage_states=estimate.coverage_states,
                coverage_energy=None if Detail.DERIVED in row.withheld else estimate.coverage_energy,
                basis=str(estimate.basis),
            )
        if estimate.basis is not EstimateBasis.OBSERVED:
            hides = row.is_released and Detail.METHODS in row.withheld
            activity = replace(
                activity,
                days_observed=covered_days(row, self._days),
                data_type=None if hides else str(estimate.data_type),
                pedigree=None if hides else _pedigree(row),
                incomplete=incomplete,
            )
            if not key.memo:
                activity = replace(
                    activity,
                    n_fleet=estimate.machines_fleet,
                    machine_days_fleet=estimate.fleet_milliseconds / MILLISECONDS_PER_DAY,
                    representativeness=str(estimate.representativeness),
                )
        is_of_few = row.is_released and Detail.COVERAGE in row.withheld
        if is_of_few:
            activity = replace(activity, n=None, coverage_states=None, coverage_energy=None)
        if is_of_few or (row.is_released and key.device_class == EnergyClass.MONITOR):
            # Screens have their machines' time.
            activity = replace(activity, machine_days_observed=None, machine_days_fleet=None)
        return EmissionsRow(
            key,
            level,
            activity,
            _known_parts(row) if Detail.METHODS in row.withheld else _parts(estimate),
            origin=RowOrigin(self._terms.data, METHOD_VERSION),
        )

    def _with_emissions(
        self,
        made: EmissionsRow,
        row: FigureRow,
        shares: Counter[str],
        before: FigureRow | None,
        by_contract: Fraction | None,
    ) -> tuple[EmissionsRow, Emissions | None]:
        estimate = row.estimate
        if not _has_energy(row):
            return made, None
        chosen = self._chosen(shares)
        bill = sum_emissions(emissions(energy, one.factor) for energy, one in chosen)
        u_factor = factors_u(chosen)
        energy = replace(
            made.energy,
            energy_millijoules=estimate.energy_millijoules,
            kwh_total=float(kwh(estimate.energy_millijoules)),
        )
        factors = [one for _, one in chosen]
        made = replace(
            made,
            energy=energy,
            uncertainty=uncertainty(estimate, float(bill.total_kgco2e), u_factor),
            room=_room(row.room),
            factor=applied_factor(factors),
            emissions=row_emissions(bill, by_contract),
            change=self._change(made.level, row, before, factors),
        )
        return made, bill

    def _chosen(self, shares: Mapping[str, int]) -> list[tuple[Fraction, ChosenFactor]]:
        """Return the energy of each factor, kWh: one factor may be that of two names of a zone."""
        factors = {zone: self._factor(zone) for zone in shares}
        energies: defaultdict[str, int] = defaultdict(int)
        for zone, energy in shares.items():
            energies[factors[zone].factor.factor_id] += energy
        by_id = {one.factor.factor_id: one for one in factors.values()}
        known = [name for name, energy in energies.items() if energy] or list(energies)
        return [(kwh(energies[name]), by_id[name]) for name in known]

    def _factor(self, zone: str) -> ChosenFactor:
        year = self._period.first.year
        if (zone, year) not in self._applied:
            self._applied[zone, year] = self._terms.choose(zone, year)
        return self._applied[zone, year]

    def _change(
        self, level: str, row: FigureRow, before: FigureRow | None, chosen: Sequence[ChosenFactor]
    ) -> RowChange:
        if row.key.memo:
            return RowChange()
        if self._before is None:
            return RowChange(self._terms.not_compared.get(self._number))
        if before is None:
            return RowChange(NoComparison.NO_ROW.value)
        days_before = covered_days(before, self._days)
        reason = comparison_obstacle(before, row, self._days)
        if level == "total" and (self._period.incomplete or self._before.incomplete):
            reason = NoComparison.MACHINES
        found = None if reason else change(before, row)
        if found is None:
            return RowChange((reason or NoComparison.NO_DATA).value, days_before)
        made = RowChange(None, days_before, **_effects(found))
        if len(chosen) != 1:
            return made
        try:
            old = self._terms.choose(chosen[0].factor.zone, self._before.first.year).factor
        except UnknownZone:  # the zone's first factor is of a later year: no comparison
            return made
        effect = factor_effect_kgco2e(
            old.total_kgco2e_per_kwh,
            chosen[0].factor.total_kgco2e_per_kwh,
            kwh(row.estimate.energy_millijoules),
        )
        return replace(made, factor_effect_kgco2e=float(effect))

    def _by_contract(self) -> dict[_Name, Fraction]:
        """Return the market-based kgCO2e of each row with places;
        empty without a contract that meets the period.
        """
        found: dict[_Name, Fraction] = {}
        if not self._terms.contracts:
            return found
        consumptions: list[Consumption] = []
        names: list[_Name] = []
        for row in filter(_has_energy, self._period.rows):
            for place, energy in row.places:
                consumptions.append(
                    Consumption(
                        place.entity,
                        place.site,
                        self._period.first,
                        self._period.end,
                        kwh(energy),
                        self._factor(place.zone).factor,
                        bought=self._terms.mapping.of(place.power_context).in_beges_energie,
                    )
                )
                names.append(_name(row))
        lines = market(consumptions, self._terms.contracts) if consumptions else None
        for name, line in zip(names, lines or (), strict=False):
            found[name] = found.get(name, Fraction(0)) + line.kgco2e_market
            for number, energy_kwh in line.by_contract:
                self._covered[number] += energy_kwh
        rests = [line.kwh_rest for line in lines] if lines else [one.kwh for one in consumptions]
        for contract in self._terms.contracts:
            for one, rest in zip(consumptions, rests, strict=True):
                if may_cover(contract, one):
                    self._site_unknown[contract.contract_id] += rest
        return found

    def contracts(self) -> Iterator[dict[str, str | float | bool]]:
        """Yield the energy of each contract that covers some, or may cover energy of no known site."""
        for one in self._terms.contracts:
            unknown = self._site_unknown[one.contract_id]
            if unknown or one.contract_id in self._covered:
                yield {
                    "period_from": self._period.first.isoformat(),
                    "period_to": self._period.end.isoformat(),
                    "contract_id": one.contract_id,
                    "supplier": one.supplier,
                    "kwh_covered": float(self._covered[one.contract_id]),
                    **({"site": one.site} if one.site else {}),
                    **({"kwh_site_unknown": float(unknown)} if unknown else {}),
                    "factor_kgco2e_per_kwh": float(one.factor_kgco2e_per_kwh),
                    "guarantees_of_origin": one.guarantees_of_origin,
                    "source": one.source,
                }


def _known_parts(row: FigureRow) -> EnergyByOrigin:
    """Return what may be shown of a row that hides its methods."""
    if not row.is_released or row.estimate.basis is EstimateBasis.OBSERVED:
        return EnergyByOrigin()
    extrapolated = row.estimate.extrapolated_millijoules + row.estimate.imputed_millijoules
    return EnergyByOrigin(extrapolated_millijoules=extrapolated, kwh_extrapolated=float(kwh(extrapolated)))


def _parts(estimate: Estimate) -> EnergyByOrigin:
    """Return the parts of the energy by origin; no shares without energy."""
    total = estimate.energy_millijoules
    by_origin = {
        **{str(method): energy for method, energy in estimate.methods.items()},
        "imputed": estimate.imputed_millijoules,
        "extrapolated": estimate.extrapolated_millijoules,
    }
    mix = {name: energy / total for name, energy in by_origin.items() if energy} if total else {}
    parts = EnergyByOrigin(
        kwh_measured=float(kwh(estimate.measured_millijoules)),
        kwh_modelled=float(kwh(estimate.modelled_millijoules)),
        method_mix=mix or None,
    )
    if estimate.basis is EstimateBasis.OBSERVED:
        return parts
    return replace(
        parts,
        measured_millijoules=estimate.measured_millijoules,
        modelled_millijoules=estimate.modelled_millijoules,
        imputed_millijoules=estimate.imputed_millijoules,
        extrapolated_millijoules=estimate.extrapolated_millijoules,
        kwh_imputed=float(kwh(estimate.imputed_millijoules)),
        kwh_extrapolated=float(kwh(estimate.extrapolated_millijoules)),
        imputed_share=estimate.imputed_millijoules / total if total else None,
        estimated=estimate.imputed_millijoules > ESTIMATED_ABOVE * total if total else None,
    )


def _pedigree(row: FigureRow) -> str:
    """Return the pedigree scores of the activity data, after ABC; the choice of scores is ours [P].

    Year and place are always the figure's own.
    """
    estimate = row.estimate
    measured = estimate.measured_millijoules >= estimate.energy_millijoules / 2
    is_declared = estimate.basis is EstimateBasis.DECLARED
    coverage = estimate.coverage_energy if estimate.fleet_milliseconds else 1.0
    return format_pedigree(
        {
            "reliability": 5 if measured else 1 if is_declared else 3,
            "technicalRepresentativeness": 5 if measured else 1 if is_declared else 4,
            "geographicRepresentativeness": 5,
            "temporalRepresentativeness": 5,
            "completeness": 2 + sum((coverage or 0.0) >= edge for edge in _COMPLETE),
        }
    )


def _items(line: ContextMapping, key: GroupKey, *, is_split: bool) -> Items:
    """Return the items of a row; `is_split`: its emissions have components."""
    rest = line.rest if is_split else None
    return Items(
        line.combustion.beges_item or None,
        line.combustion.ghg_category or None,
        (rest.beges_item or None) if rest else None,
        (rest.ghg_category or None) if rest else None,
        line.in_beges_energie and not key.memo,
        line.in_bilan_numerique and not key.memo,
    )


def _room(room: RoomParts | None) -> RoomEnergy:
    if room is None:
        return RoomEnergy()
    return RoomEnergy(
        float(kwh(room.it_millijoules)),
        _kwh(room.ups_loss_millijoules),
        _kwh(room.overhead_millijoules),
        room.overhead,
        None if room.pue_ppm is None else room.pue_ppm / MILLION,
        float(kwh(room.top_down_millijoules)),
    )


def _kwh(millijoules: int | None) -> float | None:
    return None if millijoules is None else float(kwh(millijoules))


def _effects(found: Change) -> dict[str, Any]:
    """Return the change's columns."""
    effects = {f"{name}_effect": getattr(found.effects, f"{name}_kwh") for name in EFFECTS}
    effects["change"] = found.effects.total_kwh
    columns = {f"{name}_kwh": float(value) for name, value in effects.items()}
    return columns | {
        f"{name}_margin_kwh": margin for name, margin in zip(effects, found.margins, strict=True)
    }


def _has_energy(row: FigureRow) -> bool:
    """Return whether any energy is known, 0 included: unknown energy needs no factor."""
    estimate = row.estimate
    is_told = estimate.basis is EstimateBasis.OBSERVED and bool(estimate.methods)
    return bool(
        estimate.energy_millijoules or estimate.derived_milliseconds or row.room is not None or is_told
    )


def _name(row: FigureRow) -> _Name:
    """Return the name of a row: where device classes are merged,
    a room's row has the key of the servers' row.
    """
    return row.key.over(), row.room is not None


def _same(rows: Iterable[FigureRow], row: FigureRow) -> FigureRow | None:
    return next((one for one in rows if _name(one) == _name(row)), None)


def withheld_row(key: GroupKey) -> dict[str, str]:
    """Return the row of a population, or its screens, too small to publish."""
    words = {**key.columns, "population": str(key.population or "")}
    known = {name: word for name, word in words.items() if word is not None}
    return {**known, "level": "memo" if key.memo else "row"}


def home_row(first: date, end: date, one: PeriodHomeShare) -> dict[str, str | float | bool]:
    """Return the row of a share at home that [first, end) was divided by."""
    return {
        "period_from": first.isoformat(),
        "period_to": end.isoformat(),
        "entity": one.entity,
        "device_class": one.device_class,
        "home_share": float(one.share),
        "declared_by": one.declared_by,
    }


def _float(value: Fraction | None) -> float | None:
    return None if value is None else float(value)
