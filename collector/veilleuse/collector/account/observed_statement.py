# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Groups × factors → the rows of the emissions report (pure): sums of what was observed, not the fleet's figure. docs/methodology.md.

Uncertainty: errors are taken as common (linear) within one device class, for all that rests on its priors, and within
one measuring method; as independent between them. The factor's enters once, on the row's or the total's own sum.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction

from veilleuse.collector.account.emissions import (
    emissions,
    factor_u,
    interval,
    kwh,
    sum_emissions,
)
from veilleuse.collector.account.observed_days import ObservedGroups
from veilleuse.collector.account.statement import METHOD_VERSION, told_factor, with_factor, with_split
from veilleuse.collector.model.figures import (
    AUTRES,
    FULL_INTERVAL,
    OBSERVED,
    Detail,
    EmissionsRow,
    EmissionsStatement,
    EnergyClass,
    Group,
    GroupKey,
)
from veilleuse.collector.ports import ChosenFactor
from veilleuse.wire.ladder import MEASURED, Method
from veilleuse.wire.units import MILLISECONDS_PER_DAY
from veilleuse.wire.vocabulary import DeviceClass

ChooseFactor = Callable[[str, int], ChosenFactor]
"""(zone, year) → factor; raises UnknownZone."""


def statement(gathered: ObservedGroups, choose: ChooseFactor, *, data: str) -> EmissionsStatement:
    """Rows, one total per period (none without fleet rows), virtual machines as memo; `data`: real or simulated.

    Raises UnknownZone.
    """
    bill = _Bill(choose, data)
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
        withheld=tuple(withheld(key) for key in gathered.withheld),
    )


@dataclass(frozen=True, slots=True)
class _Share:
    """The energy under one factor within a row."""

    kwh: Fraction
    chosen: ChosenFactor


class _Bill:
    """Rows out of groups, remembering the factors it applied."""

    def __init__(self, choose: ChooseFactor, data: str) -> None:
        self._choose = choose
        self._data = data
        self._applied: dict[tuple[str, int], ChosenFactor] = {}

    def row(self, group: Group, level: str) -> EmissionsRow:
        key = group.key
        return replace(
            self._row([group], level),
            entity=key.entity,
            site=key.site,
            population=key.population.value,
            device_class=key.device_class,
        )

    def total(self, groups: Sequence[Group]) -> EmissionsRow:
        return self._row(groups, "total")

    def _row(self, groups: Sequence[Group], level: str) -> EmissionsRow:
        key = groups[0].key
        enrolled = _enrolled(groups)
        observed = sum(group.sums.observed_milliseconds for group in groups)
        derived = sum(group.sums.derived_milliseconds for group in groups)
        row = EmissionsRow(
            period_from=key.period_from.isoformat(),
            period_to=key.period_to.isoformat(),
            level=level,
            zone=key.zone if len({group.key.zone for group in groups}) == 1 else None,
            n=_machines(groups, level),
            machine_days_observed=None if _are_of_screens(groups) else observed / MILLISECONDS_PER_DAY,
            coverage_states=_ratio(observed, enrolled),
            coverage_energy=None if _withheld(groups, Detail.DERIVED) else _ratio(derived, enrolled),
            basis=OBSERVED,
            apportioned=any(group.sums.apportioned for group in groups),
            incomplete=any(group.sums.incomplete for group in groups) or None,
            data=self._data,
            method_version=METHOD_VERSION,
        )
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
        row = replace(
            row,
            energy_millijoules=total,
            kwh_total=float(kwh(total)),
            interval=FULL_INTERVAL,
            kwh_lo95=low,
            kwh_hi95=high,
            kgco2e_lo95=kg_low,
            kgco2e_hi95=kg_high,
            u_model=u,
            u_factor=u_factor,
            gsd2=math.exp(2 * u_both),
        )
        if not _withheld(groups, Detail.METHODS):
            row = _with_methods(row, energies, total)
        return with_factor(with_split(row, billed), [share.chosen for share in shares])

    def _shares(self, groups: Iterable[Group]) -> list[_Share]:
        """Energy per factor: a total may span several zones."""
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
        """What was applied, and where it comes from."""
        for (_, year), chosen in sorted(self._applied.items()):
            yield told_factor(year, chosen)


def _are_of_screens(groups: Iterable[Group]) -> bool:
    """Whether they have no state to be known: the time of a screen is that of its machine."""
    return all(group.key.device_class == EnergyClass.MONITOR.value for group in groups)


def _machines(groups: Sequence[Group], level: str) -> int:
    """Machines behind a row; a total counts none twice for its screens."""
    monitors = EnergyClass.MONITOR.value
    return sum(group.sums.hosts for group in groups if level != "total" or group.key.device_class != monitors)


def _by_class_and_method(
    groups: Iterable[Group],
) -> dict[tuple[DeviceClass | EnergyClass, Method], tuple[int, int]]:
    """(class, method) → (mJ, standard uncertainty in mJ, linear)."""
    found: defaultdict[tuple[DeviceClass | EnergyClass, Method], tuple[int, int]] = defaultdict(
        lambda: (0, 0)
    )
    for group in groups:
        for (device_class, method, _, _), sums in group.sums.energies.items():
            energy, u = found[device_class, method]
            found[device_class, method] = (energy + sums.energy_millijoules, u + sums.uncertainty_millijoules)
    return dict(found)


def u_model(groups: Iterable[Group]) -> float:
    """Relative standard uncertainty of the energy of groups: linear within a class for everything that rests on its priors, and within a
    measuring method; else quadratic. Of groups that do not tell their methods it is linear over all: `autres` has no classes, and a sum must
    not seem better known because one of its classes is there."""
    total = 0
    errors: defaultdict[tuple[DeviceClass | EnergyClass, Method | None] | None, int] = defaultdict(int)
    for group in groups:
        for (device_class, method, _, _), sums in group.sums.energies.items():
            total += sums.energy_millijoules
            told = (device_class, method if method in MEASURED else None)
            errors[None if Detail.METHODS in group.sums.withheld else told] += sums.uncertainty_millijoules
    return math.sqrt(sum(u**2 for u in errors.values())) / total if total else 0.0


def _with_methods(
    row: EmissionsRow,
    energies: Mapping[tuple[DeviceClass | EnergyClass, Method], tuple[int, int]],
    total: int,
) -> EmissionsRow:
    """How the energy is known: measured, modelled, and method → share, best first; no shares of nothing."""
    sums: defaultdict[Method, int] = defaultdict(int)
    for (_, method), (energy, _) in energies.items():
        sums[method] += energy
    measured = sum(energy for method, energy in sums.items() if method in MEASURED)
    return replace(
        row,
        kwh_measured=float(kwh(measured)),
        kwh_modelled=float(kwh(total - measured)),
        method_mix={one.value: sums[one] / total for one in Method if one in sums} if total else None,
    )


def _factor_u(shares: Sequence[_Share]) -> float:
    """u of the factor on a sum over zones, independent between zones; of one zone it is the factor's own."""
    if len(shares) == 1:
        return factor_u(shares[0].chosen)
    weights = [float(share.kwh * Fraction(share.chosen.factor.total_kgco2e_per_kwh)) for share in shares]
    whole = sum(weights)
    if not whole:
        return 0.0
    squares = ((weight * factor_u(share.chosen)) ** 2 for weight, share in zip(weights, shares, strict=True))
    return math.sqrt(sum(squares)) / whole


def withheld(key: GroupKey) -> dict[str, str]:
    """A population, or its screens, too small to be shown, as a row."""
    return {
        "period_from": key.period_from.isoformat(),
        "period_to": key.period_to.isoformat(),
        "zone": key.zone,
        "population": key.population.value,
        "level": "memo" if key.memo else "row",
        **({} if key.device_class is None else {"device_class": key.device_class}),
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _enrolled(groups: Iterable[Group]) -> int:
    """0 where one of them may not tell."""
    return 0 if _withheld(groups, Detail.COVERAGE) else sum(one.sums.enrolled_milliseconds for one in groups)


def _withheld(groups: Iterable[Group], detail: Detail) -> bool:
    """A sum tells what all of its groups tell."""
    return any(detail in group.sums.withheld for group in groups)
