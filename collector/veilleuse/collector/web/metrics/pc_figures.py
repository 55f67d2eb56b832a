# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Limits I3 and I4 of PCs to what may be disclosed beside their released month (pure). docs/privacy.md.

These figures are sums over machines, as the month's rows are. Combined with the rows, they must still leave
at least k machines. So I4 loses its causes where they would divide a row, and I3 its counts where few plans
are unknown.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from veilleuse.collector.disclosure.rule import is_safe
from veilleuse.collector.indicators.avoidable_energy import (
    OUTSIDE,
    AvoidableEnergy,
    causes_of,
    lower_microwatts,
    not_avoidable_millijoules,
)
from veilleuse.collector.indicators.power_plan import PowerPlanCompliance
from veilleuse.collector.model.indicators import Detail, Figure, IndicatorMachine, Targets
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import Group, GroupSums
from veilleuse.collector.quantiles import Z95
from veilleuse.collector.release.tables import Month
from veilleuse.collector.reports.indicators import GroupFigure
from veilleuse.collector.web.metrics.released_month import energy_of
from veilleuse.wire.units import MICROWATT_MILLISECONDS_PER_MILLIJOULE, MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import State

CLOSED_BANDS: Final = "closed_bands"
CAUSES_OF_PCS: Final = (CLOSED_BANDS, "open_idle", "screens")
_SHARE_DIGITS: Final = 2
"""Decimal places of a share without its counts."""
_SAME: Final = 0.01
"""Relative difference up to which closed_bands of rows and of machines are one figure.

A few update windows, or time in whole days, cause differences this small.
"""
_U_STEP: Final = 0.05
"""Step to which uncertainties are rounded up: exact ones would reveal the measured part of the energy."""


@dataclass(frozen=True, slots=True)
class DisclosureContext:
    """Released month and rule that limit the figures."""

    month: Month
    places: Mapping[HostId, GroupKey]
    """Key of each machine in the release, where its family has a row. The inventory may have changed since.
    """
    k: int
    targets: Targets


def disclose_figures(
    figures: Iterable[GroupFigure], machines: Iterable[IndicatorMachine], context: DisclosureContext
) -> tuple[GroupFigure, ...]:
    """Return I3 and I4 of these machines, limited to what may be disclosed."""
    chosen = tuple(machines)
    return tuple(
        one._replace(figure=RULES[one.meta.indicator](one, chosen, context))
        for one in figures
        if one.meta.indicator in RULES
    )


def _disclose_plans(
    one: GroupFigure, _machines: Sequence[IndicatorMachine], context: DisclosureContext
) -> Figure:
    return limit_compliance(one.figure, context.k)


def _disclose_energy(
    one: GroupFigure, machines: Sequence[IndicatorMachine], context: DisclosureContext
) -> Figure:
    kind = (one.key.population, one.key.memo)
    mine = [machine for machine in machines if (machine.population, machine.is_virtual) == kind]
    return limit_avoidable(one.figure, mine, _of_kind(one.key, context.month.cells), context)


def _of_kind(key: GroupKey, groups: Iterable[Group]) -> list[GroupSums]:
    kind = (key.population, key.memo)
    return [group.sums for group in groups if (group.key.population, group.key.memo) == kind]


RULES: Final[Mapping[str, Callable[[GroupFigure, Sequence[IndicatorMachine], DisclosureContext], Figure]]] = {
    PowerPlanCompliance.meta.indicator: _disclose_plans,
    AvoidableEnergy.meta.indicator: _disclose_energy,
}
"""Indicator → its disclosure rule. Indicators without a rule are not shown for PCs."""


def limit_compliance(figure: Figure, k: int) -> Figure:
    """Limit I3: with 1 to k - 1 unknown plans, round the share and drop its counts."""
    unknown = int(figure.details.get("not_known", 0))
    if figure.value is None or unknown == 0 or unknown >= k:
        return figure
    share = round(figure.value, _SHARE_DIGITS)
    return replace(figure, value=share, numerator=None, denominator=None, details={})


def limit_avoidable(
    figure: Figure,
    machines: Sequence[IndicatorMachine],
    cells: Iterable[GroupSums],
    context: DisclosureContext,
) -> Figure:
    """Limit I4 to the energy, its causes and a coarse interval.

    Its share is a share of the month's energy. The value is withheld where its parts would reveal the energy
    of fewer than k machines.
    """
    bare = replace(figure, numerator=None, denominator=None, details={}, interval=None)
    if figure.value is None:
        return bare
    value = figure.value
    names = [name for cause in CAUSES_OF_PCS if (name := f"{cause}_kwh") in figure.details]
    details: dict[str, Detail] = {name: figure.details[name] for name in names}
    if not is_safe({machine.host_id: not_avoidable_millijoules(machine) for machine in machines}, context.k):
        closed, others = _by_machine(machines, context.targets)
        of_rows = closed_bands_of_rows(machines, context) if names else None
        if of_rows is not None and abs(of_rows - closed) <= _SAME * of_rows:
            value += (of_rows - closed) / MILLIJOULES_PER_KWH
            details[f"{CLOSED_BANDS}_kwh"] = of_rows / MILLIJOULES_PER_KWH
        elif is_safe(others, context.k):
            details = {}
        else:
            return replace(bare, value=None, withheld=True)
    total = sum(energy_of(sums) or 0 for sums in cells)
    if total:
        details["avoidable_share"] = value * MILLIJOULES_PER_KWH / total
    return replace(bare, value=value, details=details, interval=_coarse_interval(figure, value))


def _by_machine(machines: Iterable[IndicatorMachine], targets: Targets) -> tuple[int, dict[HostId, int]]:
    """Return millijoules of closed_bands, and of the other causes by machine."""
    closed, others = 0, dict[HostId, int]()
    for machine in machines:
        by_cause = {cause.name: cause.millijoules for cause in causes_of(machine, targets)}
        closed += by_cause.pop(CLOSED_BANDS, 0)
        others[machine.host_id] = sum(by_cause.values())
    return closed, others


def _coarse_interval(figure: Figure, value: float) -> tuple[float, float] | None:
    """Return the interval around the value, with its uncertainty rounded up."""
    if figure.interval is None or not figure.value:
        return None
    u = math.log(figure.interval[1] / figure.value) / Z95
    u = math.ceil(u / _U_STEP - 1e-9) * _U_STEP
    return value * math.exp(-Z95 * u), value * math.exp(Z95 * u)


def closed_bands_of_rows(machines: Iterable[IndicatorMachine], context: DisclosureContext) -> int | None:
    """Return closed_bands in mJ as anyone can compute it from the released month.

    Per row: idle energy outside opening hours, minus the machines' lower power × that time. None where a row
    does not disclose both, or its machines have several powers.

    For each machine closed_bands is such a difference. A sum over machines would be one more equation. With a
    model's watts, or the rest of a row's energy, that equation could be solved for a few machines.
    """
    rows = {group.key: group.sums for group in context.month.uses}
    powers: defaultdict[GroupKey, set[int | None]] = defaultdict(set)
    for machine in machines:
        if machine.use(*OUTSIDE).on_idle_milliseconds:
            place = context.places[machine.host_id]
            row = next((key for key in (place, *place.merged_above) if key in rows), place)
            powers[row].add(lower_microwatts(machine))
    millijoules = 0
    for row, of_row in powers.items():
        if row not in rows or len(of_row) > 1:
            return None
        (power,) = of_row
        time, energy = (
            tell(frozenset(OUTSIDE), frozenset({State.ON_IDLE}))
            for tell in (rows[row].milliseconds, rows[row].millijoules)
        )
        if power is None or time is None or energy is None:
            return None
        millijoules += energy - power * time // MICROWATT_MILLISECONDS_PER_MILLIJOULE
    return millijoules
