# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Splits laptops' energy into on site and at home, by declared telework days (pure). docs/methodology.md §8.

A share is a declared number, the same for a whole stratum. It has no error of its own, and each part has the
error of the whole. Every integer of a stratum (energy by method, imputed, extrapolated, time) is split
separately, so that both parts sum exactly to it. All groupings of a period have one figure at home.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from operator import mul
from typing import Final, NamedTuple

from veilleuse.collector.account.ghg_items import declarations, home_share, split_home
from veilleuse.collector.fleet.estimate import Estimate
from veilleuse.collector.fleet.estimator import Fleet, class_microwatts
from veilleuse.collector.fleet.observations import Place
from veilleuse.collector.fleet.samples import DAY_TYPES, InService, Stratum
from veilleuse.collector.model.calibration import MILLION
from veilleuse.collector.model.inventory import Headcount, PowerContext
from veilleuse.collector.model.query import AUTRES
from veilleuse.wire.ladder import MEASURED, Method
from veilleuse.wire.vocabulary import DeviceClass, Population

_NOTHING: Final = (0,) * len(DAY_TYPES)
_NEVER: Final = (PowerContext.HOME, PowerContext.HOSTED)
"""Contexts without a split: at home already, or never carried home."""


class HomeShare(NamedTuple):
    """Home share of a stratum's energy and time."""

    share: Fraction
    """Above 0, at most 1."""
    declared_by: str
    """Entity whose telework days it uses; `autres` where several were merged."""


class PeriodHomeShare(NamedTuple):
    """A share that divided a period's rows."""

    entity: str
    device_class: str
    share: Fraction
    declared_by: str


class Telework:
    """Declared telework over [first, end)."""

    def __init__(self, headcounts: Collection[Headcount], first: date, end: date) -> None:
        self._headcounts = [one for one in headcounts if one.telework_days_per_week is not None]
        self._first, self._end = first, end
        self._of_entities: dict[str, HomeShare | None] = {}

    def share(self, stratum: Stratum) -> HomeShare | None:
        """Return the share of a stratum of workstations' laptops with a declaration for the whole period;
        else None.
        """
        if not self._headcounts:
            return None
        place = Place.of(stratum)
        if not _is_carried(stratum, place):
            return None
        if place.entity not in self._of_entities:
            self._of_entities[place.entity] = self._of_entity(place.entity)
        return self._of_entities[place.entity]

    def _of_entity(self, entity: str) -> HomeShare | None:
        share = home_share(self._headcounts, entity, self._first, self._end)
        return HomeShare(share, declarations(self._headcounts, entity)[0].entity) if share else None


def _is_carried(stratum: Stratum, place: Place) -> bool:
    return (
        stratum.device_class == DeviceClass.LAPTOP.value
        and place.population is Population.WORKSTATION
        and place.power_context not in _NEVER
    )


def merge_shares(
    strata: Iterable[tuple[InService, Stratum, HomeShare | None]],
) -> dict[Stratum, HomeShare]:
    """Return the share of each published stratum, from (stratum, its published stratum, its share).

    Where a published stratum merges several, the share is their mean by fleet time at the class default, to a
    millionth. No machine's energy enters it, so it reveals none.
    """
    groups: defaultdict[Stratum, list[tuple[InService, HomeShare | None]]] = defaultdict(list)
    for one, into, share in strata:
        groups[into].append((one, share))
    found: dict[Stratum, HomeShare] = {}
    for into, members in groups.items():
        different = {share for _, share in members}
        if len(different) == 1:
            mean, whose = different.pop() or (Fraction(0), "")
        else:
            mean, whose = _mean(members), _whose(share for _, share in members)
        if mean and Place.of(into).power_context is not PowerContext.HOME:
            found[into] = HomeShare(mean, whose)
    return found


def _mean(members: Iterable[tuple[InService, HomeShare | None]]) -> Fraction:
    defaults = class_microwatts()
    weights = [
        (sum(map(mul, one.milliseconds, defaults.get(one.stratum.device_class, _NOTHING))), share)
        for one, share in members
    ]
    whole = sum(weight for weight, _ in weights)
    at_home = sum((weight * share.share for weight, share in weights if share), Fraction(0))
    return Fraction(round(at_home / whole * MILLION), MILLION) if whole else Fraction(0)


def _whose(shares: Iterable[HomeShare | None]) -> str:
    names = {share.declared_by for share in shares if share}
    return names.pop() if len(names) == 1 else AUTRES


class HomeSplit:
    """Estimates of a fleet, split into on site and at home."""

    def __init__(self, fleet: Fleet, shares: Mapping[Stratum, HomeShare] | None = None) -> None:
        """Take the shares; None divides nothing."""
        self._fleet = fleet
        self._shares = shares or {}
        self._parts: dict[Stratum, tuple[_Part, _Part]] = {}

    def of(self, strata: Collection[Stratum], *, at_home: bool) -> Estimate:
        """Return the estimate of one part of these strata; the whole of strata without a share.

        Raises KeyError for an unknown stratum.
        """
        whole = self._fleet.of(strata)
        elsewhere = [self._part(one, at_home=not at_home) for one in set(strata) if one in self._shares]
        return _less(whole, elsewhere) if elsewhere else whole

    def energy_millijoules(self, stratum: Stratum, *, at_home: bool) -> int:
        """Return the energy of that part of one stratum, mJ, without its interval."""
        if stratum in self._shares:
            return self._part(stratum, at_home=at_home).energy_millijoules
        return self._fleet.energy_millijoules(stratum)

    def place(self, stratum: Stratum, *, at_home: bool) -> Place:
        """Return the place where that part is used."""
        place = Place.of(stratum)
        return place._replace(power_context=PowerContext.HOME) if at_home else place

    def _part(self, stratum: Stratum, *, at_home: bool) -> _Part:
        if stratum not in self._parts:
            self._parts[stratum] = _parts(self._fleet.of((stratum,)), self._shares[stratum].share)
        return self._parts[stratum][at_home]


@dataclass(frozen=True, slots=True)
class _Part:
    """Integers of a part: energies mJ, times ms."""

    measured: int
    modelled: int
    imputed: int
    extrapolated: int
    default: int
    methods: Mapping[Method, int]
    fleet: int
    observed: int
    derived: int

    @property
    def energy_millijoules(self) -> int:
        return self.measured + self.modelled + self.imputed + self.extrapolated


def _parts(estimate: Estimate, share: Fraction) -> tuple[_Part, _Part]:
    """Return (on site, at home)."""
    methods = {method: split_home(energy, share) for method, energy in estimate.methods.items()}

    def part(at: int) -> _Part:
        def take(value: int) -> int:
            return split_home(value, share)[at]

        return _Part(
            sum(pair[at] for method, pair in methods.items() if method in MEASURED),
            sum(pair[at] for method, pair in methods.items() if method not in MEASURED),
            take(estimate.imputed_millijoules),
            take(estimate.extrapolated_millijoules),
            take(estimate.default_millijoules),
            {method: pair[at] for method, pair in methods.items()},
            take(estimate.fleet_milliseconds),
            take(estimate.observed_milliseconds),
            take(estimate.derived_milliseconds),
        )

    return part(0), part(1)


def _less(whole: Estimate, elsewhere: Iterable[_Part]) -> Estimate:
    """Subtract the parts used elsewhere; errors are relative, so they stay."""
    parts = list(elsewhere)
    energy = whole.energy_millijoules - sum(one.energy_millijoules for one in parts)
    ratio = energy / whole.energy_millijoules if whole.energy_millijoules else 0.0
    return replace(
        whole,
        energy_millijoules=energy,
        measured_millijoules=whole.measured_millijoules - sum(one.measured for one in parts),
        modelled_millijoules=whole.modelled_millijoules - sum(one.modelled for one in parts),
        imputed_millijoules=whole.imputed_millijoules - sum(one.imputed for one in parts),
        extrapolated_millijoules=whole.extrapolated_millijoules - sum(one.extrapolated for one in parts),
        default_millijoules=max(0, whole.default_millijoules - sum(one.default for one in parts)),
        methods={
            method: value - sum(one.methods.get(method, 0) for one in parts)
            for method, value in whole.methods.items()
        },
        fleet_milliseconds=whole.fleet_milliseconds - sum(one.fleet for one in parts),
        observed_milliseconds=whole.observed_milliseconds - sum(one.observed for one in parts),
        derived_milliseconds=whole.derived_milliseconds - sum(one.derived for one in parts),
        sampling_variance=whole.sampling_variance * ratio**2,
    )
