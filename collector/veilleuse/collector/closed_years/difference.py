# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Decomposes the difference between two revisions by cause:
method, perimeter, late data, factor (pure, exact). docs/methodology.md §11.

The causes are applied in that order, each on the result of the previous ones. Method: the old machines in the
old fleet under the new method and assumptions. Perimeter: the old machines in the new fleet. Late data: the
new machines. Factor: the new factor. The effects sum exactly to the difference, in mJ and kgCO2e. Where
strata of the old machines no longer exist, the new fleet takes the old mean power of its class.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final, TypeAlias

from veilleuse.collector.account.emissions import kwh
from veilleuse.collector.account.row import PeriodFigures
from veilleuse.collector.account.server_rooms import OTHER_ROOM, with_rooms
from veilleuse.collector.closed_years.document import FrozenTerms
from veilleuse.collector.closed_years.frozen import EXACT, ClosedRevision, decimal
from veilleuse.collector.closed_years.restate import estimator
from veilleuse.collector.closed_years.year_statistics import YearStatistics
from veilleuse.collector.fleet.estimator import Assumptions
from veilleuse.collector.fleet.observations import Place
from veilleuse.collector.fleet.rooms import RoomFigure

CAUSES: Final = ("method", "perimeter", "late_data", "factor")
_Key: TypeAlias = tuple[str, str]
"""(zone, device class with population and power context)."""


@dataclass(slots=True)
class _Part:
    """One class in one zone, population and power context."""

    fleet_milliseconds: int = 0
    energy_millijoules: Fraction = Fraction(0)


def difference(before: ClosedRevision, kept: YearStatistics, terms: FrozenTerms) -> dict[str, Any]:
    """Return the difference from the previous revision, ready for closed.canonical."""
    published = _published(before)
    again, now = _parts(before.kept, terms.assumptions), _parts(kept, terms.assumptions)
    moved = _in_new_fleet(before.kept, kept, terms.assumptions) or _at_mean_power(again, now)
    millijoules: dict[str, Fraction] = dict.fromkeys(CAUSES, Fraction(0))
    kilograms: dict[str, Fraction] = dict.fromkeys(CAUSES, Fraction(0))

    def add(cause: str, zone: str, energy: Fraction | int) -> None:
        millijoules[cause] += energy
        kilograms[cause] += kwh(1) * energy * _factor(zone, before.terms, terms)

    for zone in sorted({*published, *(zone for zone, _ in again)}):
        add("method", zone, _of_zone(again, zone) - published.get(zone, 0))
    for key in {**again, **now}:
        old, between, new = (parts.get(key, _Part()).energy_millijoules for parts in (again, moved, now))
        add("perimeter", key[0], between - old)
        add("late_data", key[0], new - between)
    for zone in {zone for zone, _ in now}:
        change = _factor(zone, terms, terms) - _factor(zone, before.terms, terms)
        kilograms["factor"] += change * kwh(1) * _of_zone(now, zone)
    # Published kilograms beyond published energy × factor come from the method of their computation.
    kilograms["method"] += sum(
        (kwh(energy) * _factor(zone, before.terms, terms) for zone, energy in published.items()),
        Fraction(0),
    ) - _published_kilograms(before)
    return {
        "from_revision": before.closed_year.revision,
        "order": list(CAUSES),
        "kwh": {cause: _effect(kwh(1) * effect) for cause, effect in millijoules.items()},
        "kgco2e": {cause: _effect(effect) for cause, effect in kilograms.items()},
    }


def _in_new_fleet(
    old: YearStatistics, new: YearStatistics, assumptions: Assumptions
) -> dict[_Key, _Part] | None:
    """Return the old machines and rooms with the new fleet; None where the new fleet lacks their strata."""
    if not {cell.stratum for cell in old.cells if not cell.memo} <= {one.stratum for one in new.fleet}:
        return None
    return _parts(replace(old, fleet=new.fleet), assumptions)


def _at_mean_power(old: Mapping[_Key, _Part], new: Mapping[_Key, _Part]) -> dict[_Key, _Part]:
    """Return the new machine time at the old mean power; a class of only one revision keeps its energy."""
    found: dict[_Key, _Part] = {}
    for key in {**old, **new}:
        before, after = old.get(key, _Part()), new.get(key, _Part())
        energy = Fraction(after.energy_millijoules if key in new else 0)
        if before.fleet_milliseconds and after.fleet_milliseconds:
            energy = after.fleet_milliseconds * Fraction(before.energy_millijoules, before.fleet_milliseconds)
        elif before.fleet_milliseconds == after.fleet_milliseconds:
            energy = Fraction(before.energy_millijoules)
        found[key] = _Part(after.fleet_milliseconds, energy)
    return found


def _parts(kept: YearStatistics, assumptions: Assumptions) -> dict[_Key, _Part]:
    found: defaultdict[_Key, _Part] = defaultdict(_Part)
    fleet = estimator(kept, assumptions)
    for stratum in fleet.strata:
        place, estimate = Place.of(stratum), fleet.of((stratum,))
        whose = f"{stratum.device_class} {place.population or ''} {place.power_context}"
        part = found[place.zone, whose]
        part.fleet_milliseconds += estimate.fleet_milliseconds
        part.energy_millijoules += estimate.energy_millijoules
    for row in _rooms(kept, fleet.rooms):
        found[row[0], OTHER_ROOM].energy_millijoules += row[1]
    return dict(found)


def _rooms(kept: YearStatistics, rooms: Sequence[RoomFigure]) -> list[tuple[str, int]]:
    nothing = PeriodFigures(kept.first, kept.end, (), (), None, ())
    made = with_rooms(nothing, rooms, ("site",))
    return [(row.key.zone, row.estimate.energy_millijoules) for row in made.rows]


def _published(before: ClosedRevision) -> dict[str, int]:
    """Return zone → millijoules, as frozen."""
    found: defaultdict[str, int] = defaultdict(int)
    for row in before.report["figures"]["rows"]:
        found[row.get("zone", "")] += row.get("energy_millijoules", 0)
    return dict(found)


def _published_kilograms(before: ClosedRevision) -> Fraction:
    return sum((Fraction(row.get(EXACT, "0")) for row in before.report["figures"]["rows"]), Fraction(0))


def _of_zone(parts: Mapping[_Key, _Part], zone: str) -> Fraction:
    return sum((part.energy_millijoules for (where, _), part in parts.items() if where == zone), Fraction(0))


def _factor(zone: str, terms: FrozenTerms, otherwise: FrozenTerms) -> Fraction:
    """Return kgCO2e/kWh; a new zone has no earlier factor and uses its own."""
    chosen = terms.factors.get(zone) or otherwise.factors.get(zone)
    return Fraction(chosen.factor.total_kgco2e_per_kwh) if chosen else Fraction(0)


def _effect(value: Fraction) -> dict[str, str]:
    return {"exact": f"{value.numerator}/{value.denominator}", "about": decimal(float(value))}
