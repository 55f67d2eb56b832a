# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Turns a fleet's estimate and what a row adds up into the row (pure): of an open year and of a closed one alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from veilleuse.collector.account.row import ClassFigure, DaysCovered, FigureRow, RowKey
from veilleuse.collector.account.telework import Divided, HomeShare, HomeTold
from veilleuse.collector.fleet.estimate import Estimate
from veilleuse.collector.fleet.fleet_inputs import Stratum
from veilleuse.collector.fleet.observed import Place
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.wire.vocabulary import State


@dataclass(frozen=True, slots=True)
class RowSums:
    """Of one row, beside its estimate."""

    strata: Collection[Stratum]
    machines: int
    """That were observed."""
    states: Mapping[str, Mapping[State, tuple[int, int]]]
    """Device class → state → (ms, mJ)."""
    apportioned: bool
    hides_methods: bool
    covered: Mapping[str, DaysCovered]
    """Device class → what its machines cover."""


ClassFigures: TypeAlias = Callable[[Collection[Stratum], Estimate, DaysCovered], ClassFigure]
"""(strata of one class, their estimate, what is covered of it) → what it can be compared by."""


def row_key(place: Place, device_class: str, dimensions: Collection[str]) -> RowKey:
    """The row that a stratum is of."""
    return RowKey(
        place.zone,
        place.population,
        place.power_context,
        entity=place.entity if "entity" in dimensions else None,
        site=place.site if "site" in dimensions else None,
        device_class=device_class if "device_class" in dimensions else None,
    )


def home_key(key: RowKey) -> RowKey:
    """Key of the row that holds another's part at home."""
    return replace(key, power_context=PowerContext.HOME)


def total_key(strata: Iterable[Stratum]) -> RowKey:
    """Of a total: its zone where there is but one."""
    places = [Place.of(stratum) for stratum in strata]
    zones, contexts = {place.zone for place in places}, {place.power_context for place in places}
    return RowKey(min(zones) if len(zones) == 1 else "", None, min(contexts))


def figure_row(key: RowKey, sums: RowSums, fleet: Divided, class_figure: ClassFigures) -> FigureRow:
    """A row at home has that part of the strata that have a share. Raises KeyError for a stratum that the fleet has not."""
    at_home = key.power_context is PowerContext.HOME
    by_class: defaultdict[str, list[Stratum]] = defaultdict(list)
    for stratum in sums.strata:
        by_class[stratum.device_class].append(stratum)
    of_classes = {
        name: fleet.of(strata, at_home=at_home)
        for name, strata in sorted(by_class.items())
        if len(by_class) > 1
    }
    whole = fleet.of(sums.strata, at_home=at_home)
    of_classes = of_classes or dict.fromkeys(by_class, whole)
    return FigureRow(
        key,
        whole,
        sums.machines,
        sums.apportioned,
        sums.hides_methods,
        sums.states,
        {
            name: (estimate.fleet_milliseconds, estimate.energy_millijoules)
            for name, estimate in of_classes.items()
        },
        tuple(
            (fleet.place(stratum, at_home=at_home), fleet.energy_millijoules(stratum, at_home=at_home))
            for stratum in sorted(sums.strata)
        ),
        classes={
            name: class_figure(by_class[name], estimate, sums.covered.get(name, DaysCovered()))
            for name, estimate in of_classes.items()
        },
    )


def row_order(row: FigureRow) -> tuple[str, str, str, str, str, str, bool]:
    """By what a row is of."""
    key = row.key
    words = (key.entity or "", key.site or "", str(key.population or ""), key.device_class or "")
    return (*words, key.zone, key.power_context, key.autres)


def homes_told(shares: Mapping[Stratum, HomeShare]) -> tuple[HomeTold, ...]:
    """What was declared, entity by entity."""
    return tuple(
        sorted(
            {
                HomeTold(Place.of(stratum).entity, stratum.device_class, one.share, one.declared_by)
                for stratum, one in shares.items()
            }
        )
    )
