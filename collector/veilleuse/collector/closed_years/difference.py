# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Why a revision differs from the one before, by cause: method, perimeter, late data, factor (pure, exact). docs/methodology.md §11.

In that order, each step derived again at what the steps before it made: the old machines in the old fleet under the new method and
assumptions; the old machines in the new fleet; the new machines; the new factor. The effects sum to the difference, exactly, in mJ and
kgCO2e. Where the old machines were kept in strata that are no more, the new fleet takes the old mean power of its class.
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
from veilleuse.collector.closed_years.year_statistics import Kept
from veilleuse.collector.fleet.estimator import Assumptions
from veilleuse.collector.fleet.observations import Place
from veilleuse.collector.fleet.rooms import RoomFigure

CAUSES: Final = ("method", "perimeter", "late_data", "factor")
_Key: TypeAlias = tuple[str, str]
"""(zone, device class and whose it is)."""


@dataclass(slots=True)
class _Part:
    """Of one class in one place of the bilan."""

    fleet_milliseconds: int = 0
    energy_millijoules: Fraction = Fraction(0)


def difference(before: ClosedRevision, kept: Kept, terms: FrozenTerms) -> dict[str, Any]:
    """Ready for closed.canonical."""
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
    # What the published kilograms were beyond published energy × factor is how they were computed.
    kilograms["method"] += sum(
        (kwh(energy) * _factor(zone, before.terms, terms) for zone, energy in published.items()),
        Fraction(0),
    ) - _published_kilograms(before)
    return {
        "from_revision": before.told.revision,
        "order": list(CAUSES),
        "kwh": {cause: _told(kwh(1) * effect) for cause, effect in millijoules.items()},
        "kgco2e": {cause: _told(effect) for cause, effect in kilograms.items()},
    }


def _in_new_fleet(old: Kept, new: Kept, assumptions: Assumptions) -> dict[_Key, _Part] | None:
    """The old machines and rooms with the new fleet; None where it has no such strata."""
    if not {cell.stratum for cell in old.cells if not cell.memo} <= {one.stratum for one in new.fleet}:
        return None
    return _parts(replace(old, fleet=new.fleet), assumptions)


def _at_mean_power(old: Mapping[_Key, _Part], new: Mapping[_Key, _Part]) -> dict[_Key, _Part]:
    """The new machine time at the old mean power; a class that is new, or no more, as it is."""
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


def _parts(kept: Kept, assumptions: Assumptions) -> dict[_Key, _Part]:
    found: defaultdict[_Key, _Part] = defaultdict(_Part)
    fleet = estimator(kept, assumptions)
    for stratum in fleet.strata:
        place, told = Place.of(stratum), fleet.of((stratum,))
        whose = f"{stratum.device_class} {place.population or ''} {place.power_context}"
        part = found[place.zone, whose]
        part.fleet_milliseconds += told.fleet_milliseconds
        part.energy_millijoules += told.energy_millijoules
    for row in _rooms(kept, fleet.rooms):
        found[row[0], OTHER_ROOM].energy_millijoules += row[1]
    return dict(found)


def _rooms(kept: Kept, rooms: Sequence[RoomFigure]) -> list[tuple[str, int]]:
    nothing = PeriodFigures(kept.first, kept.end, (), (), None, ())
    made = with_rooms(nothing, rooms, ("site",))
    return [(row.key.zone, row.estimate.energy_millijoules) for row in made.rows]


def _published(before: ClosedRevision) -> dict[str, int]:
    """Zone → millijoules, as frozen."""
    found: defaultdict[str, int] = defaultdict(int)
    for row in before.report["figures"]["rows"]:
        found[row.get("zone", "")] += row.get("energy_millijoules", 0)
    return dict(found)


def _published_kilograms(before: ClosedRevision) -> Fraction:
    return sum((Fraction(row.get(EXACT, "0")) for row in before.report["figures"]["rows"]), Fraction(0))


def _of_zone(parts: Mapping[_Key, _Part], zone: str) -> Fraction:
    return sum((part.energy_millijoules for (where, _), part in parts.items() if where == zone), Fraction(0))


def _factor(zone: str, terms: FrozenTerms, otherwise: FrozenTerms) -> Fraction:
    """kgCO2e/kWh; a zone that is new has had no other factor."""
    chosen = terms.factors.get(zone) or otherwise.factors.get(zone)
    return Fraction(chosen.factor.total_kgco2e_per_kwh) if chosen else Fraction(0)


def _told(value: Fraction) -> dict[str, str]:
    return {"exact": f"{value.numerator}/{value.denominator}", "about": decimal(float(value))}
