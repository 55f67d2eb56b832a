# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Merges strata and cells below k machines (pure). docs/methodology.md §11.

A stratum below k merges with its siblings: first the sites of an entity, then the entities of a class. Next
come the classes of a population, then the populations of a perimeter, then the perimeters of a zone. Each
step applies the rule of veilleuse.collector.disclosure. Nothing is dropped, except a zone with fewer than k
machines in all. Servers are exempt.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeVar

from veilleuse.collector.disclosure.rule import EXEMPT, is_nobodys_or_safe, publish
from veilleuse.collector.disclosure.rule import DisclosureCell as Figure
from veilleuse.collector.fleet.observations import MONITOR, Place
from veilleuse.collector.fleet.samples import SampleCell, Stratum
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.model.query import AUTRES
from veilleuse.collector.model.records import HostId
from veilleuse.wire.vocabulary import Population

_K = TypeVar("_K")
_T = TypeVar("_T")
ANY: Final = "*"
"""Hardware or age of a cell merged from several, as in fleet_composition."""


@dataclass(slots=True)
class Contributions:
    """Contribution of each machine to a stratum or cell; ≥ 0."""

    observed: Counter[HostId] = field(default_factory=Counter)
    """Milliseconds of known state."""
    energies: Counter[HostId] = field(default_factory=Counter)
    on: Counter[HostId] = field(default_factory=Counter)
    """Energy while on. Energy while off or asleep comes from a model by class, and would hide the one machine
    in use.
    """
    measured: Counter[HostId] = field(default_factory=Counter)

    def add(self, host_id: HostId, observed: int, energy: int, on: int, measured: int) -> None:
        """Add one machine's values, or its screens'."""
        self.observed[host_id] += observed
        self.energies[host_id] += energy
        self.on[host_id] += on
        self.measured[host_id] += measured

    def merge(self, other: Contributions) -> None:
        """Add another's contributions."""
        for mine, theirs in zip(self.parts, other.parts, strict=True):
            mine.update(theirs)

    @property
    def parts(self) -> tuple[Counter[HostId], ...]:
        """All four contributions."""
        return self.observed, self.energies, self.on, self.measured

    @property
    def modelled(self) -> dict[HostId, int]:
        """Energy without measurement, or no energy."""
        return {host_id: energy - self.measured[host_id] for host_id, energy in self.energies.items()}

    def shows_methods(self, k: int) -> bool:
        """Return whether both the measured and the modelled part have k machines, or none."""
        return all(is_nobodys_or_safe(part, k) for part in (self.measured, self.modelled))

    def is_safe(self, k: int) -> bool:
        """Return whether time, energy and energy while on have enough machines."""
        return self.figure(None).is_safe(k)

    def figure(self, key: _K, *more: Mapping[HostId, int]) -> Figure[_K]:
        """Return the figure for the disclosure rule, with `more` constant contributions."""
        return Figure(key, self.observed, (self.energies, self.on, *more))


_Unit: TypeAlias = tuple[Stratum, ...]
"""Strata that stay together."""


def merge_strata(shares: Mapping[Stratum, Contributions], k: int) -> dict[Stratum, Stratum | None]:
    """Return each observed stratum → its merged stratum; None: a zone with fewer than k machines."""
    found: dict[Stratum, Stratum | None] = {stratum: stratum for stratum in shares}
    if k == 1:
        return found
    zones: defaultdict[tuple[str, bool], list[Stratum]] = defaultdict(list)
    for stratum in sorted(shares):
        if not is_exempt(stratum):
            zones[Place.of(stratum).zone, stratum.device_class == MONITOR].append(stratum)
    for (zone, of_screens), strata in zones.items():
        # Screens are summed separately from machines: neither hides the other.
        _Zone(shares, k, found, MONITOR if of_screens else AUTRES).merge(zone, strata)
    return found


class _Zone:
    """Strata of one zone, without servers."""

    def __init__(
        self,
        shares: Mapping[Stratum, Contributions],
        k: int,
        found: dict[Stratum, Stratum | None],
        any_class: str,
    ) -> None:
        """Take the contributions; `any_class`: name of several classes together."""
        self._shares, self._k, self._found = shares, k, found
        self._any_class = any_class

    def merge(self, zone: str, strata: Sequence[Stratum]) -> None:
        perimeters = _group(strata, lambda stratum: Place.of(stratum).perimeter)
        units, unsafe = self._each(perimeters, self._perimeter)
        place = Place(AUTRES, AUTRES, zone, None, self._largest_context(strata))
        _, left = self._settle(units, unsafe, lambda _: place.stratum(self._any_class))
        for stratum in left:
            self._found[stratum] = None

    def _perimeter(self, strata: Sequence[Stratum]) -> tuple[list[_Unit], _Unit]:
        """Merge the populations of one perimeter."""
        families = _group(strata, lambda stratum: Place.of(stratum)[2:])
        first, context = Place.of(strata[0]), self._largest_context(strata)
        place = Place(AUTRES, AUTRES, first.zone, None, context, first.perimeter)
        return self._settle(*self._each(families, self._family), lambda _: place.stratum(self._any_class))

    def _family(self, strata: Sequence[Stratum]) -> tuple[list[_Unit], _Unit]:
        """Merge the classes of one population and power context."""
        classes = _group(strata, lambda stratum: stratum.device_class)
        return self._settle(
            *self._each(classes, self._class), lambda one: _elsewhere(one).stratum(self._any_class)
        )

    def _class(self, strata: Sequence[Stratum]) -> tuple[list[_Unit], _Unit]:
        entities = _group(strata, lambda stratum: Place.of(stratum).entity)
        return self._settle(
            *self._each(entities, self._entity), lambda one: _elsewhere(one).stratum(one.device_class)
        )

    def _entity(self, strata: Sequence[Stratum]) -> tuple[list[_Unit], _Unit]:
        units = [(stratum,) for stratum in strata]
        return self._settle(
            units, (), lambda one: Place.of(one)._replace(site=AUTRES).stratum(one.device_class)
        )

    def _each(
        self,
        groups: Iterable[Sequence[Stratum]],
        step: Callable[[Sequence[Stratum]], tuple[list[_Unit], _Unit]],
    ) -> tuple[list[_Unit], _Unit]:
        units: list[_Unit] = []
        unsafe: list[Stratum] = []
        for group in groups:
            safe, left = step(group)
            units += safe
            if left:
                unsafe += left
        return units, tuple(unsafe)

    def _settle(
        self, units: Sequence[_Unit], unsafe: _Unit, into: Callable[[Stratum], Stratum]
    ) -> tuple[list[_Unit], _Unit]:
        """Merge the unsafe units with the smallest others until the result is safe;
        return (safe units, unsafe rest).
        """
        every = [*units, *([unsafe] if unsafe else [])]
        figures = {unit: self._figure(unit) for unit in every}
        level = publish(list(figures.values()), self._k)
        if level.withheld_keys:
            return [], tuple(stratum for unit in every for stratum in unit)
        hidden = {*level.merged_keys, *([unsafe] if unsafe else [])}  # safe alone, or with others
        merged = tuple(sorted(stratum for unit in hidden for stratum in unit))
        for stratum in merged:
            self._found[stratum] = into(stratum)
        kept = [unit for unit in every if unit not in hidden]
        return [*kept, *([merged] if merged else [])], ()

    def _figure(self, unit: _Unit) -> Figure[_Unit]:
        whole = Contributions()
        for stratum in unit:
            whole.merge(self._shares[stratum])
        return whole.figure(unit)

    def _largest_context(self, strata: Sequence[Stratum]) -> PowerContext:
        energies: Counter[PowerContext] = Counter()
        for stratum in strata:
            energies[Place.of(stratum).power_context] += self._shares[stratum].energies.total()
        return max(sorted(energies), key=lambda context: energies[context])


def merge_cells(shares: Mapping[SampleCell, Contributions], k: int) -> dict[SampleCell, SampleCell]:
    """Return each cell of one safe stratum → its merged cell:
    first the ages of a hardware model, then models.

    The parts by method count too, where those of the stratum are safe.
    """
    whole = Contributions()
    for share in shares.values():
        whole.merge(share)
    by_method = whole.shows_methods(k)
    found: dict[SampleCell, SampleCell] = {cell: cell for cell in shares}
    rest: list[tuple[SampleCell, ...]] = []
    for group in _group(sorted(shares), lambda cell: cell.hardware):
        level = publish([_cell_figure((cell,), shares, by_method) for cell in group], k)
        if level.withheld_keys:
            rest.append(tuple(group))
            continue
        merged = tuple(cell for unit in level.merged_keys for cell in unit)
        rest += [(cell,) for cell in group if cell not in merged]
        if merged:
            rest.append(merged)
        for cell in merged:
            found[cell] = SampleCell(cell.hardware, ANY)
    level = publish([_cell_figure(unit, shares, by_method) for unit in rest], k)
    for unit in (*level.merged_keys, *level.withheld_keys):
        for cell in unit:
            found[cell] = SampleCell(ANY, ANY)
    return found


def _cell_figure(
    unit: tuple[SampleCell, ...], shares: Mapping[SampleCell, Contributions], by_method: bool
) -> Figure[tuple[SampleCell, ...]]:
    whole = Contributions()
    for cell in unit:
        whole.merge(shares[cell])
    return whole.figure(unit, *((whole.measured, whole.modelled) if by_method else ()))


def _elsewhere(stratum: Stratum) -> Place:
    return Place.of(stratum)._replace(entity=AUTRES, site=AUTRES)


def _group(items: Iterable[_T], key: Callable[[_T], object]) -> list[list[_T]]:
    found: defaultdict[object, list[_T]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return list(found.values())


def is_exempt(stratum: Stratum) -> bool:
    """Return whether the population is exempt: machines without a personal user."""
    population: Population | None = Place.of(stratum).population
    return population in EXEMPT
