# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What is told of I3 to I5 of workstations and classroom PCs beside their released month (pure). docs/privacy.md.

They are sums over machines, as the month's rows are: put together with those, they must not leave fewer than k machines either. So I5 is
made of the month's rows, I4 loses its causes where these would divide a row, and I3 its counts where few plans are not known.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from veilleuse.collector.disclosure import is_safe
from veilleuse.collector.indicators.avoidable_energy import (
    OUTSIDE,
    causes_of,
    lower_microwatts,
    not_avoidable_millijoules,
)
from veilleuse.collector.model.figures import KNOWN_STATES, GroupSums
from veilleuse.collector.model.figures import Detail as Part
from veilleuse.collector.model.indicators import Detail, Figure, IndicatorMachine, Targets
from veilleuse.collector.model.records import HostId
from veilleuse.collector.quantiles import Z95
from veilleuse.collector.reports.indicators import GroupFigure
from veilleuse.collector.web.api.release_format import Month
from veilleuse.collector.web.metrics.released_month import MonthFamily, energy_of, family_of
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import Band, State

CLOSED_BANDS: Final = "closed_bands"
CAUSES_OF_PCS: Final = (CLOSED_BANDS, "open_idle", "screens")
_SHARE_DIGITS: Final = 2
"""Of a share whose counts are not told."""
_U_STEP: Final = 0.05
"""Uncertainties are rounded up to it: exact ones would tell which part of the energy was measured."""


@dataclass(frozen=True, slots=True)
class ReleasePlace:
    """Where the release has a machine. What the inventory says of it may be newer."""

    family: MonthFamily
    entity: str
    device_class: str


@dataclass(frozen=True, slots=True)
class Beside:
    """What figures are told beside."""

    month: Month
    places: Mapping[HostId, ReleasePlace]
    """Of the machines of families that have a row."""
    k: int
    targets: Targets


def told_beside(
    found: Iterable[GroupFigure], machines: Iterable[IndicatorMachine], beside: Beside
) -> tuple[GroupFigure, ...]:
    """I3 to I5 of these machines, as far as they may be told."""
    chosen = tuple(machines)
    return tuple(one._replace(figure=_told(one, chosen, beside)) for one in found)


def _told(one: GroupFigure, machines: Sequence[IndicatorMachine], beside: Beside) -> Figure:
    kind = (one.scope.population, one.scope.memo)
    mine = [machine for machine in machines if (machine.population, machine.is_virtual) == kind]
    match one.meta.indicator:
        case "I3":
            return compliance(one.figure, beside.k)
        case "I4":
            cells = [g.sums for g in beside.month.cells if (g.key.population, g.key.memo) == kind]
            return avoidable(one.figure, mine, cells, beside)
        case _:
            uses, whole = (
                [g.sums for g in table if (g.key.population, g.key.memo) == kind]
                for table in (beside.month.uses, beside.month.whole)
            )
            return night_ratio(one.figure, uses, whole)


def compliance(figure: Figure, k: int) -> Figure:
    """I3. How few machines have a plan that is not known is no count to be told: the share is rounded then, and stands alone."""
    unknown = int(figure.details.get("not_known", 0))
    if figure.value is None or unknown == 0 or unknown >= k:
        return figure
    share = round(figure.value, _SHARE_DIGITS)
    return replace(figure, value=share, numerator=None, denominator=None, details={})


def avoidable(
    figure: Figure, machines: Sequence[IndicatorMachine], cells: Iterable[GroupSums], beside: Beside
) -> Figure:
    """I4: the energy, its causes and a coarse interval; its share is one of the month's energy."""
    bare = replace(figure, numerator=None, denominator=None, details={}, interval=None)
    if figure.value is None:
        return bare
    names = [name for cause in CAUSES_OF_PCS if (name := f"{cause}_kwh") in figure.details]
    details: dict[str, Detail] = {name: figure.details[name] for name in names}
    if not _closed_bands_divide_no_row(machines, beside):
        details = {}
        others = {
            machine.host_id: sum(
                cause.millijoules
                for cause in causes_of(machine, beside.targets)
                if cause.name != CLOSED_BANDS
            )
            for machine in machines
        }
        if not is_safe(others, beside.k):
            return replace(bare, value=None, withheld=True)
    total = sum(energy_of(sums) or 0 for sums in cells)
    if total:
        details["avoidable_share"] = figure.value * MILLIJOULES_PER_KWH / total
    return replace(bare, details=details, interval=_coarse(figure))


def _coarse(figure: Figure) -> tuple[float, float] | None:
    """Its interval, of an uncertainty rounded up."""
    if figure.interval is None or not figure.value:
        return None
    u = math.log(figure.interval[1] / figure.value) / Z95
    u = math.ceil(u / _U_STEP - 1e-9) * _U_STEP
    return figure.value * math.exp(-Z95 * u), figure.value * math.exp(Z95 * u)


def _closed_bands_divide_no_row(machines: Iterable[IndicatorMachine], beside: Beside) -> bool:
    """Whether closed_bands leaves k machines, whatever it is put together with. Of each machine it is idle energy less a known power ×
    idle time, and a month's row tells both sums: what one power times the row's time leaves is of the machines with another power,
    of those with update windows and, where the row does not tell idle from active, of those active outside opening hours. Nobody, or k of
    them, must stand behind each."""
    rows: defaultdict[ReleasePlace, list[IndicatorMachine]] = defaultdict(list)
    own = {
        ReleasePlace(family_of(g.key), g.key.entity or "", g.key.device_class or "")
        for g in beside.month.uses
    }
    left: dict[HostId, int] = {}
    for machine in machines:
        place = beside.places[machine.host_id]
        rows[place if place in own else ReleasePlace(place.family, "", "")].append(machine)
        left[machine.host_id] = not_avoidable_millijoules(machine)
    if not _nobody_or_enough(left, beside.k):
        return False
    return all(_powers_are_shared(row, beside.k) for row in rows.values())


def _powers_are_shared(row: Iterable[IndicatorMachine], k: int) -> bool:
    idle: defaultdict[int | None, dict[HostId, int]] = defaultdict(dict)
    other: defaultdict[int | None, dict[HostId, int]] = defaultdict(dict)
    active: dict[HostId, int] = {}
    for machine in row:
        power, outside = lower_microwatts(machine), machine.use(*OUTSIDE)
        idle[power][machine.host_id] = outside.on_idle_milliseconds
        other[power][machine.host_id] = machine.use().known_milliseconds - outside.on_idle_milliseconds
        active[machine.host_id] = outside.on_active_milliseconds
    parts = [active, *([*idle.values(), *other.values()] if len(idle) > 1 else [])]
    return all(_nobody_or_enough(part, k) for part in parts)


def _nobody_or_enough(contributions: Mapping[HostId, int], k: int) -> bool:
    return not any(contributions.values()) or is_safe(contributions, k)


def night_ratio(figure: Figure, uses: Sequence[GroupSums], whole: Sequence[GroupSums]) -> Figure:
    """I5, of the rows of the month's uses; none where one of them does not tell opening hours apart, or where some time has no energy:
    their energy is then not of their time."""
    withheld = Figure(None, figure.n, withheld=figure.value is not None or figure.withheld)
    if any(
        Part.DERIVED in one.withheld or one.derived_milliseconds != one.observed_milliseconds for one in whole
    ):
        return withheld
    watts = []
    for bands in (frozenset(OUTSIDE), frozenset({Band.OPEN})):
        time = [one.milliseconds(bands, KNOWN_STATES) for one in uses]
        energy = [one.millijoules(bands, frozenset(State)) for one in uses]
        untold = None in time or any(a and b is None for a, b in zip(time, energy, strict=True))
        known = None if untold else sum(one or 0 for one in time)
        # 1 mJ in 1 ms is 1 W.
        watts.append(sum(one or 0 for one in energy) / known if known else None)
    night, day = watts
    if night is None or not day:
        return withheld
    return Figure(night / day, figure.n, night, day, "W")
