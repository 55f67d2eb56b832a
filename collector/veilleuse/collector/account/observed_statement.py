# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the emissions report of observed groups, without extrapolation (pure). docs/methodology.md.

Errors are common (linear) within one device class, for all energy based on its priors, and within one
measuring method. They are independent between these. The factor's uncertainty enters once, on the sum of the
row or total.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction

from veilleuse.collector.account.emissions import (
    applied_factor,
    emissions,
    factor_row,
    factor_u,
    interval,
    kwh,
    row_emissions,
    sum_emissions,
)
from veilleuse.collector.account.observed_days import ObservedGroups
from veilleuse.collector.account.statement import METHOD_VERSION
from veilleuse.collector.model.figures import (
    FULL_INTERVAL,
    OBSERVED,
    Activity,
    EmissionsRow,
    EmissionsStatement,
    EnergyByOrigin,
    IntervalEnds,
    RowOrigin,
    Uncertainty,
)
from veilleuse.collector.model.query import AUTRES, GroupKey
from veilleuse.collector.model.sums import Detail, EnergyClass, Group
from veilleuse.collector.ports import ChosenFactor
from veilleuse.wire.ladder import MEASURED, Method
from veilleuse.wire.units import MILLISECONDS_PER_DAY
from veilleuse.wire.vocabulary import DeviceClass

ChooseFactor = Callable[[str, int], ChosenFactor]
"""(zone, year) → factor; raises UnknownZone."""


def build_observed_statement(
    gathered: ObservedGroups, choose: ChooseFactor, *, data: str
) -> EmissionsStatement:
    """Build rows, one total per period (none without fleet rows), and virtual machines as memo.

    `data`: real or simulated. Raises UnknownZone.
    """
    bill = _RowBuilder(choose, data)
    fleet = [group for group in gathered.groups if not group.key.memo]
    memo = [group for group in gathered.groups if group.key.memo]
    periods: defaultdict[tuple[date, date], list[Group]] = defaultdict(list)
    for group in fleet:
        periods[group.key.period_from, group.key.period_to].append(group)
    return EmissionsStatement(
        rows=tuple(bill.row(group, AUTRES if group.key.autres else "row") for group in fleet),
        totals=tuple(bill.total(groups) for _, groups in sorted(periods.items())),
        memo=tuple(bill.row(group, "memo") for group in memo),
        factors=tuple(bill.factors()),
        withheld=tuple(withheld_row(key) for key in gathered.withheld),
    )


@dataclass(frozen=True, slots=True)
class _Share:
    """Energy with one factor within a row."""

    kwh: Fraction
    chosen: ChosenFactor


class _RowBuilder:
    """Builder of rows from groups; it records the factors that it applies."""

    def __init__(self, choose: ChooseFactor, data: str) -> None:
        self._choose = choose
        self._data = data
        self._applied: dict[tuple[str, int], ChosenFactor] = {}

    def row(self, group: Group, level: str) -> EmissionsRow:
        return self._row([group], group.key, level)

    def total(self, groups: Sequence[Group]) -> EmissionsRow:
        first, zones = groups[0].key, {group.key.zone for group in groups}
        key = GroupKey(first.period_from, first.period_to, zones.pop() if len(zones) == 1 else "")
        return self._row(groups, key, "total")

    def _row(self, groups: Sequence[Group], key: GroupKey, level: str) -> EmissionsRow:
        enrolled = _enrolled(groups)
        observed = sum(group.sums.observed_milliseconds for group in groups)
        derived = sum(group.sums.derived_milliseconds for group in groups)
        activity = Activity(
            _machines(groups, level),
            None if _are_of_screens(groups) else observed / MILLISECONDS_PER_DAY,
            coverage_states=_ratio(observed, enrolled),
            coverage_energy=None if _withheld(groups, Detail.DERIVED) else _ratio(derived, enrolled),
            basis=OBSERVED,
            apportioned=any(group.sums.apportioned for group in groups),
            incomplete=any(group.sums.incomplete for group in groups) or None,
        )
        row = EmissionsRow(key, level, activity, origin=RowOrigin(self._data, METHOD_VERSION))
        energies = _by_class_and_method(groups)
        return self._with_energy(row, groups, energies) if energies else row

    def _with_energy(
        self,
        row: EmissionsRow,
        groups: Sequence[Group],
        energies: Mapping[tuple[DeviceClass | EnergyClass, Method], tuple[int, int]],
    ) -> EmissionsRow:
        total = sum(energy for energy, _ in energies.values())
        u = u_model(groups)
        low, high = interval(float(kwh(total)), u)
        shares = self._shares(groups)
        billed = sum_emissions(emissions(share.kwh, share.chosen.factor) for share in shares)
        u_factor = _factor_u(shares)
        u_both = math.hypot(u, u_factor)
        kg_low, kg_high = interval(float(billed.total_kgco2e), u_both)
        energy = EnergyByOrigin() if _withheld(groups, Detail.METHODS) else _methods(energies, total)
        return replace(
            row,
            energy=replace(energy, energy_millijoules=total, kwh_total=float(kwh(total))),
            uncertainty=Uncertainty(
                FULL_INTERVAL,
                IntervalEnds(low, high),
                IntervalEnds(kg_low, kg_high),
                None,
                u,
                u_factor,
                math.exp(2 * u_both),
            ),
            factor=applied_factor([share.chosen for share in shares]),
            emissions=row_emissions(billed),
        )

    def _shares(self, groups: Iterable[Group]) -> list[_Share]:
        """Return the energy per factor: a total may include several zones."""
        energies: defaultdict[str, int] = defaultdict(int)
        factors: dict[str, ChosenFactor] = {}
        for group in groups:
            if group.sums.energies:
                chosen = self._factor(group.key.zone, group.key.period_from.year)
                factors[chosen.factor.factor_id] = chosen
                energies[chosen.factor.factor_id] += sum(
                    sums.energy_millijoules for sums in group.sums.energies.values()
                )
        return [_Share(kwh(energy), factors[factor_id]) for factor_id, energy in energies.items()]

    def _factor(self, zone: str, year: int) -> ChosenFactor:
        if (zone, year) not in self._applied:
            self._applied[zone, year] = self._choose(zone, year)
        return self._applied[zone, year]

    def factors(self) -> Iterable[Mapping[str, str | float | int | bool]]:
        """Yield the applied factors and their sources."""
        for (_, year), chosen in sorted(self._applied.items()):
            yield factor_row(year, chosen)


def _are_of_screens(groups: Iterable[Group]) -> bool:
    """Return whether all groups are screens, which have no state:
    the time of a screen is that of its machine.
    """
    return all(group.key.device_class == EnergyClass.MONITOR.value for group in groups)


def _machines(groups: Sequence[Group], level: str) -> int:
    """Count the machines of a row; a total does not count a machine again for its screens."""
    monitors = EnergyClass.MONITOR.value
    return sum(group.sums.hosts for group in groups if level != "total" or group.key.device_class != monitors)


def _by_class_and_method(
    groups: Iterable[Group],
) -> dict[tuple[DeviceClass | EnergyClass, Method], tuple[int, int]]:
    """Return (class, method) → (mJ, standard uncertainty in mJ, linear)."""
    found: defaultdict[tuple[DeviceClass | EnergyClass, Method], tuple[int, int]] = defaultdict(
        lambda: (0, 0)
    )
    for group in groups:
        for (device_class, method, _, _), sums in group.sums.energies.items():
            energy, u = found[device_class, method]
            found[device_class, method] = (energy + sums.energy_millijoules, u + sums.uncertainty_millijoules)
    return dict(found)


def u_model(groups: Iterable[Group]) -> float:
    """Return the relative standard uncertainty of the energy of groups.

    Errors add linearly within a class for energy based on its priors, and within a measuring method;
    otherwise in quadrature. For groups with withheld methods they add linearly over all. `autres` has no
    classes, and a sum must not look more certain because one of its classes is separate.
    """
    total = 0
    errors: defaultdict[tuple[DeviceClass | EnergyClass, Method | None] | None, int] = defaultdict(int)
    for group in groups:
        for (device_class, method, _, _), sums in group.sums.energies.items():
            total += sums.energy_millijoules
            error_key = (device_class, method if method in MEASURED else None)
            errors[None if Detail.METHODS in group.sums.withheld else error_key] += (
                sums.uncertainty_millijoules
            )
    return math.sqrt(sum(u**2 for u in errors.values())) / total if total else 0.0


def _methods(
    energies: Mapping[tuple[DeviceClass | EnergyClass, Method], tuple[int, int]],
    total: int,
) -> EnergyByOrigin:
    """Return the measured and modelled energy, and the share of each method, best first;
    no shares without energy.
    """
    sums: defaultdict[Method, int] = defaultdict(int)
    for (_, method), (energy, _) in energies.items():
        sums[method] += energy
    measured = sum(energy for method, energy in sums.items() if method in MEASURED)
    return EnergyByOrigin(
        kwh_measured=float(kwh(measured)),
        kwh_modelled=float(kwh(total - measured)),
        method_mix={one.value: sums[one] / total for one in Method if one in sums} if total else None,
    )


def _factor_u(shares: Sequence[_Share]) -> float:
    """Return the factor's u on a sum over zones, independent between zones;
    for one zone, the factor's own.
    """
    if len(shares) == 1:
        return factor_u(shares[0].chosen)
    weights = [float(share.kwh * Fraction(share.chosen.factor.total_kgco2e_per_kwh)) for share in shares]
    whole = sum(weights)
    if not whole:
        return 0.0
    squares = ((weight * factor_u(share.chosen)) ** 2 for weight, share in zip(weights, shares, strict=True))
    return math.sqrt(sum(squares)) / whole


def withheld_row(key: GroupKey) -> dict[str, str]:
    """Return the row of a population, or its screens, too small to publish."""
    words = {name: word for name, word in key.columns.items() if word is not None}
    return {**words, "level": key.level}


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _enrolled(groups: Iterable[Group]) -> int:
    """Return the enrolled milliseconds; 0 where one group withholds coverage."""
    return 0 if _withheld(groups, Detail.COVERAGE) else sum(one.sums.enrolled_milliseconds for one in groups)


def _withheld(groups: Iterable[Group], detail: Detail) -> bool:
    """Return whether any group withholds the detail: a sum then withholds it too."""
    return any(detail in group.sums.withheld for group in groups)
